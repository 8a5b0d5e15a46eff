//! Which networks a proxy could join, as far as the Engine was asked.
//!
//! A network is asked for once: its id, name and kind cannot change while it exists, and an id never comes
//! back. What may change its meaning is asked for again after network events: an answer "there is none", and
//! an answer that was found by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::Network;

/// The answers so far, by the id or name that was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks {
    answers: BTreeMap<String, Answer>,
}

#[derive(Clone, Debug)]
struct Answer {
    network: Option<Arc<Network>>,
    /// Whether a network event can change it.
    lasting: bool,
}

/// What is known about an id or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// A proxy could join this network.
    Joinable(Arc<Network>),
    /// There is none, or no proxy can join it.
    No,
    /// Nobody has asked, or nobody answered.
    Unread,
}

impl Networks {
    pub(crate) fn get(&self, id_or_name: &str) -> Known {
        match self.answers.get(id_or_name) {
            Some(Answer { network: Some(network), .. }) => Known::Joinable(Arc::clone(network)),
            Some(Answer { network: None, .. }) => Known::No,
            None => Known::Unread,
        }
    }

    /// Those of `wanted` that must be asked for.
    pub(crate) fn unread(&self, wanted: &BTreeSet<String>) -> BTreeSet<String> {
        wanted.iter().filter(|key| !self.answers.contains_key(*key)).cloned().collect()
    }

    /// Takes in the Engine's answer to `id_or_name`.
    pub(crate) fn learn(&mut self, id_or_name: String, answer: Option<swarm::Network>) {
        let lasting = answer.as_ref().is_some_and(|network| network.id.as_str() == id_or_name);
        let network = answer.filter(joinable).map(|network| Arc::new(Network { id: network.id, name: network.name }));
        self.answers.insert(id_or_name, Answer { network, lasting });
    }

    /// Forgets what a network event may have changed; says whether there was any.
    pub(crate) fn forget_doubtful(&mut self) -> bool {
        let before = self.answers.len();
        self.answers.retain(|_, answer| answer.lasting);
        self.answers.len() < before
    }

    /// Forgets everything but `wanted`, so that the answers are as many as the networks in use.
    pub(crate) fn keep(&mut self, wanted: &BTreeSet<String>) {
        self.answers.retain(|key, _| wanted.contains(key));
    }
}

/// An overlay of the whole swarm that is not the routing mesh.
fn joinable(network: &swarm::Network) -> bool {
    network.driver == "overlay" && network.scope == "swarm" && !network.ingress
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{host_network, ingress, overlay};

    #[test]
    fn only_overlays_of_the_swarm_can_be_joined() {
        let mut networks = Networks::default();
        let mut local = overlay("local");
        local.scope = "local".into();
        for network in [overlay("app"), ingress(), host_network(), local] {
            networks.learn(network.id.as_str().to_owned(), Some(network));
        }
        networks.learn("gone".into(), None);
        assert!(matches!(networks.get("app-id"), Known::Joinable(network) if network.name == "app"));
        for key in ["ingress-id", "host-id", "local-id", "gone"] {
            assert_eq!(networks.get(key), Known::No, "{key}");
        }
        assert_eq!(networks.get("other"), Known::Unread);
    }

    #[test]
    fn names_and_absences_are_asked_again_after_network_events() {
        let mut networks = Networks::default();
        networks.learn("app-id".into(), Some(overlay("app")));
        assert!(!networks.forget_doubtful());
        networks.learn("app".into(), Some(overlay("app")));
        networks.learn("gone".into(), None);
        assert!(networks.forget_doubtful());
        let wanted = BTreeSet::from(["app-id".to_owned(), "app".to_owned(), "gone".to_owned()]);
        assert_eq!(networks.unread(&wanted), BTreeSet::from(["app".to_owned(), "gone".to_owned()]));
    }
}
