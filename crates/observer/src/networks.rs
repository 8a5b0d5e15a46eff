//! Which networks a proxy could join, as far as the Engine was asked.
//!
//! A network is asked for once: its id, name, kind and subnets cannot change while it exists, and an id never comes
//! back. What may change its meaning is asked for again after network events: an answer "there is none", an answer
//! that was found by name, and a network that Swarm has not set up yet (for a moment it has neither driver nor
//! subnet; one whose subnet is impossible stays so).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use swarm::{Class, Error, Network};

/// The answers so far, by the id or name that was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks {
    answers: BTreeMap<String, Answer>,
    /// What kept the others from being read.
    failures: BTreeMap<String, Class>,
    /// What the Engine said when it refused to tell.
    refusals: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Answer {
    network: Option<Arc<Network>>,
    /// Whether no network event can change it.
    lasting: bool,
}

/// What is known about an id or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// A proxy could join this network.
    Joinable(Arc<Network>),
    /// There is none, or no proxy can join it.
    No,
    /// Nobody has asked, or nobody answered, for this reason.
    Unread(Option<Class>),
}

impl Networks {
    pub(crate) fn get(&self, id_or_name: &str) -> Known {
        match self.answers.get(id_or_name) {
            Some(Answer { network: Some(network), .. }) => Known::Joinable(Arc::clone(network)),
            Some(Answer { network: None, .. }) => Known::No,
            None => Known::Unread(self.failures.get(id_or_name).copied()),
        }
    }

    /// Those of `wanted` that must be asked for.
    pub(crate) fn unread(&self, wanted: &BTreeSet<String>) -> BTreeSet<String> {
        wanted.iter().filter(|key| !self.answers.contains_key(*key)).cloned().collect()
    }

    /// Takes in the Engine's answer to `id_or_name`.
    pub(crate) fn learn(&mut self, id_or_name: String, answer: Option<Network>) {
        self.refusals.remove(&id_or_name);
        self.settle(id_or_name, answer);
    }

    /// Takes in that the Engine will not tell: we may not see the network, or its name is not unique. A proxy of ours
    /// cannot join it either. Says whether that is news.
    pub(crate) fn refuse(&mut self, id_or_name: String, error: &Error) -> bool {
        let said = error.to_string();
        let before = self.refusals.insert(id_or_name.clone(), said.clone());
        self.settle(id_or_name, None);
        before != Some(said)
    }

    fn settle(&mut self, id_or_name: String, answer: Option<Network>) {
        let lasting =
            answer.as_ref().is_some_and(|network| network.id.as_str() == id_or_name && !network.driver.is_empty());
        self.failures.remove(&id_or_name);
        self.answers.insert(id_or_name, Answer { network: answer.filter(joinable).map(Arc::new), lasting });
    }

    /// Takes in that nobody answered.
    pub(crate) fn fail(&mut self, id_or_name: String, class: Class) {
        self.failures.insert(id_or_name, class);
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
        self.failures.retain(|key, _| wanted.contains(key));
        self.refusals.retain(|key, _| wanted.contains(key));
    }
}

/// An overlay of the whole swarm that is not the routing mesh.
fn joinable(network: &Network) -> bool {
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
        assert_eq!(networks.get("other"), Known::Unread(None));
        networks.fail("other".into(), Class::Unavailable);
        assert_eq!(networks.get("other"), Known::Unread(Some(Class::Unavailable)));
    }

    #[test]
    fn names_and_absences_are_asked_again_after_network_events() {
        let mut networks = Networks::default();
        networks.learn("app-id".into(), Some(overlay("app")));
        assert!(!networks.forget_doubtful());
        networks.learn("app".into(), Some(overlay("app")));
        networks.learn("gone".into(), None);
        networks.learn("new-id".into(), Some(swarm::Network { driver: String::new(), ..overlay("new") }));
        assert!(networks.forget_doubtful());
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<String>>();
        assert_eq!(networks.unread(&keys(&["app-id", "app", "gone", "new-id"])), keys(&["app", "gone", "new-id"]));
    }

    #[test]
    fn a_refusal_is_news_once_for_as_long_as_it_is_the_same() {
        let mut networks = Networks::default();
        let error = |message: &str| Error::new(Class::Refused, "inspect network x", message);
        let refuse = |networks: &mut Networks, message| networks.refuse("x".into(), &error(message));
        assert!(refuse(&mut networks, "ambiguous"));
        assert_eq!(networks.get("x"), Known::No);
        assert!(networks.forget_doubtful(), "it is asked for again");
        assert!(!refuse(&mut networks, "ambiguous"));
        assert!(refuse(&mut networks, "forbidden"));
        networks.learn("x".into(), Some(overlay("x")));
        assert!(refuse(&mut networks, "forbidden"));
    }
}
