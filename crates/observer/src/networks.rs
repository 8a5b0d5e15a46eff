//! Which networks a proxy could join, as far as the Engine was asked.
//!
//! A network is asked for once: its id, name, kind and subnets cannot change while it exists, and an id never comes
//! back. What may change its meaning is asked for again after network events: an answer "there is none", an answer
//! that was found by name, and a network that Swarm has not set up yet (for a moment it has neither driver nor
//! subnet; one whose subnet is impossible stays so).
//!
//! What failed is asked for again when everything is read, and the longer it took to fail the later: everyone else's
//! changes wait while a pass waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use swarm::{Class, Error, Network};
use tokio::time::Instant;

/// What failed is asked for again after ten times as long as the answers took, and at the latest after this: whoever is
/// on a network that can be read again waits no longer.
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// The answers so far, by the id or name that was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks {
    answers: BTreeMap<String, Answer>,
    /// What kept the others from being read.
    failures: BTreeMap<String, Failure>,
    /// What the Engine said when it refused to tell.
    refusals: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Answer {
    network: Option<Arc<Network>>,
    /// Whether no network event can change it.
    lasting: bool,
}

/// Nobody answered.
#[derive(Clone, Debug)]
struct Failure {
    error: Error,
    /// How long that took.
    took: Duration,
    /// Not asked for again before.
    again_at: Instant,
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
            None => Known::Unread(self.failures.get(id_or_name).map(|failure| failure.error.class)),
        }
    }

    /// Those of `wanted` that must be asked for: what failed only if everything is being read, and its time has come.
    pub(crate) fn to_ask(&self, wanted: &BTreeSet<String>, everything: bool, now: Instant) -> BTreeSet<String> {
        let again = |key: &String| self.failures.get(key).is_none_or(|failure| everything && now >= failure.again_at);
        wanted.iter().filter(|key| !self.answers.contains_key(*key) && again(key)).cloned().collect()
    }

    /// Why those of `wanted` are unread that were asked for, in this pass or before.
    pub(crate) fn errors(&self, wanted: &BTreeSet<String>) -> Vec<Error> {
        wanted.iter().filter_map(|key| self.failures.get(key)).map(|failure| failure.error.clone()).collect()
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

    /// Takes in that nobody answered, and that finding that out took so long.
    pub(crate) fn fail(&mut self, id_or_name: String, error: Error, took: Duration, now: Instant) {
        let again_at = now + (10 * took).min(AGAIN_AT_MOST);
        self.failures.insert(id_or_name, Failure { error, took, again_at });
    }

    /// How long it may take to ask again for what fails: as long as before.
    pub(crate) fn may_take(&self) -> Duration {
        self.failures.values().map(|failure| failure.took).max().unwrap_or_default()
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
        let error = Error::new(Class::Unavailable, "inspect network other", "no leader");
        networks.fail("other".into(), error, Duration::ZERO, Instant::now());
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
        let wanted = keys(&["app-id", "app", "gone", "new-id"]);
        assert_eq!(networks.to_ask(&wanted, false, Instant::now()), keys(&["app", "gone", "new-id"]));
    }

    #[test]
    fn what_failed_is_asked_again_with_everything_and_the_longer_it_took_the_later() {
        let wanted = BTreeSet::from(["x".to_owned()]);
        for (took, again_after) in [(0, 0), (2, 20), (20, 60)] {
            let mut networks = Networks::default();
            let (now, seconds) = (Instant::now(), Duration::from_secs);
            let error = Error::new(Class::Unreachable, "inspect network x", "no answer");
            networks.fail("x".into(), error.clone(), seconds(took), now);
            let asked = |everything, after| !networks.to_ask(&wanted, everything, now + after).is_empty();
            assert!(!asked(false, seconds(3600)), "{took} s");
            assert!(asked(true, seconds(again_after)), "{took} s");
            if again_after > 0 {
                assert!(!asked(true, seconds(again_after - 1)), "{took} s");
            }
            assert_eq!(networks.errors(&wanted), [error], "it fails for as long as it is unread");
            assert_eq!(networks.may_take(), seconds(took));
        }
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
