//! Which of the cluster's secrets the labels of candidates name.
//!
//! Swarm has no lookup by name, so all are listed; and only while some candidate names one. A list is
//! remembered for the names that were wanted then, the absent ones included: they are listed again with each
//! poll, when secrets change, and when another name is wanted.

use std::collections::{BTreeMap, BTreeSet};

use model::values::SecretName;
use model::{Request, SecretId};

/// The answers so far, by whole name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    answers: BTreeMap<SecretName, Option<SecretId>>,
    /// Secrets have changed since.
    doubtful: bool,
}

/// The whole names that the secrets of a request may have: as its labels say, and with the prefix of its stack.
/// Which of two counts is not decided here.
pub(crate) fn whole_names(stack: Option<&str>, request: &Request) -> BTreeSet<SecretName> {
    let named = request.options.secrets();
    let prefixed = |name: &SecretName| stack.and_then(|stack| name.in_stack(stack));
    named.into_iter().flat_map(|name| [Some(name.clone()), prefixed(name)]).flatten().collect()
}

impl Secrets {
    /// Those of `wanted` that exist; `None` if about one of them nobody has asked, or nobody answered.
    pub(crate) fn among(&self, wanted: &BTreeSet<SecretName>) -> Option<BTreeMap<SecretName, SecretId>> {
        let mut found = BTreeMap::new();
        for name in wanted {
            if let Some(id) = self.answers.get(name)? {
                found.insert(name.clone(), id.clone());
            }
        }
        Some(found)
    }

    /// Whether the last list tells nothing about one of `wanted`, or something that may have changed.
    pub(crate) fn must_be_read(&self, wanted: &BTreeSet<SecretName>) -> bool {
        !wanted.is_empty() && (self.doubtful || wanted.iter().any(|name| !self.answers.contains_key(name)))
    }

    /// Takes in a complete list.
    pub(crate) fn learn(&mut self, wanted: &BTreeSet<SecretName>, list: Vec<swarm::Secret>) {
        let list: BTreeMap<String, SecretId> = list.into_iter().map(|secret| (secret.name, secret.id)).collect();
        self.answers = wanted.iter().map(|name| (name.clone(), list.get(name.as_str()).cloned())).collect();
        self.doubtful = false;
    }

    /// Takes in that we may not see secrets: those never seen are as good as absent. Says whether that is news.
    pub(crate) fn refused(&mut self, wanted: &BTreeSet<SecretName>) -> bool {
        let before = self.answers.len();
        for name in wanted {
            self.answers.entry(name.clone()).or_default();
        }
        self.answers.len() > before
    }

    /// Takes in that secrets changed; says whether anybody cares.
    pub(crate) fn doubt(&mut self) -> bool {
        self.doubtful = true;
        !self.answers.is_empty()
    }

    /// Forgets everything: nobody names a secret.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{secret, service};
    use crate::request;

    fn names(names: &[&str]) -> BTreeSet<SecretName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_may_have_its_stacks_prefix() {
        let read = service("web").task().labels(&[("ssl_cert", "app.cert"), ("basic_auth", "demo_users")]).build();
        let request = request::read(&read).unwrap().asked.unwrap();
        assert_eq!(whole_names(None, &request), names(&["app.cert", "demo_users"]));
        let with_stack = ["app.cert", "demo_app.cert", "demo_users", "demo_demo_users"];
        assert_eq!(whole_names(Some("demo"), &request), names(&with_stack));
        for impossible in ["x".repeat(60), "a b".to_owned(), "$".to_owned()] {
            assert_eq!(whole_names(Some(&impossible), &request), names(&["app.cert", "demo_users"]));
        }
    }

    #[test]
    fn what_was_not_asked_is_unknown_and_what_was_not_found_is_absent() {
        let mut secrets = Secrets::default();
        let (wanted, more) = (names(&["a", "b"]), names(&["a", "b", "c"]));
        assert!(secrets.must_be_read(&wanted) && !secrets.must_be_read(&names(&[])));
        assert_eq!(secrets.among(&wanted), None);
        secrets.learn(&wanted, vec![secret("a", 1), secret("c", 1)]);
        let found = BTreeMap::from([("a".parse().unwrap(), SecretId::from("a-1"))]);
        assert_eq!(secrets.among(&wanted), Some(found.clone()));
        assert!(!secrets.must_be_read(&wanted));
        // It was on the list, and the list is from then.
        assert!(secrets.must_be_read(&more));
        assert_eq!(secrets.among(&more), None);
        assert!(secrets.doubt() && secrets.must_be_read(&wanted));
        assert_eq!(secrets.among(&wanted), Some(found.clone()));
        assert!(secrets.refused(&more) && !secrets.refused(&more));
        assert_eq!(secrets.among(&more), Some(found));
        secrets.learn(&wanted, Vec::new());
        assert_eq!(secrets.among(&wanted), Some(BTreeMap::new()));
        secrets.forget();
        assert!(!secrets.doubt());
    }
}
