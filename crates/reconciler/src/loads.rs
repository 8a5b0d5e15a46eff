//! What is asked of each host: enough to know that nobody has to be refused for what others ask.

use std::collections::{BTreeMap, BTreeSet};

use model::{Contribution, Contributions, Host, Tls};

use crate::difference::changes;
use crate::groups::claims;
use crate::nginx;

/// What the services on one host, or under `None` of the default backend, come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    /// The bytes that they need in the proxy's files, at most.
    weight: usize,
    /// How many want their TLS passed through, and how many want it ended.
    passed: usize,
    ended: usize,
}

impl Load {
    fn of(from: &Contribution) -> Self {
        let tls = from.options.host.tls.as_ref();
        Self {
            weight: nginx::weight(from),
            passed: usize::from(tls == Some(&Tls::Passthrough)),
            ended: usize::from(matches!(tls, Some(Tls::Terminate { .. }))),
        }
    }
}

/// The loads of all claims, with those that are too much.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    by_claim: BTreeMap<Option<Host>, Load>,
    split: BTreeSet<Option<Host>>,
    too_large: BTreeSet<Option<Host>>,
}

impl Loads {
    /// Takes in what changed between two sets of contributions, the first of which was taken in before.
    pub fn fold(&mut self, before: &Contributions, now: &Contributions) {
        for (_, before, now) in changes(before, now) {
            if let Some(from) = before {
                self.change(from, |load, less| Load {
                    weight: load.weight - less.weight,
                    passed: load.passed - less.passed,
                    ended: load.ended - less.ended,
                });
            }
            if let Some(from) = now {
                self.change(from, |load, more| Load {
                    weight: load.weight + more.weight,
                    passed: load.passed + more.passed,
                    ended: load.ended + more.ended,
                });
            }
        }
    }

    fn change(&mut self, from: &Contribution, change: impl Fn(Load, Load) -> Load) {
        let own = Load::of(from);
        for claim in claims(from).map(|claim| claim.cloned()) {
            let load = change(self.by_claim.get(&claim).copied().unwrap_or_default(), own);
            let is = |yes: bool, those: &mut BTreeSet<Option<Host>>| match yes {
                true => drop(those.insert(claim.clone())),
                false => drop(those.remove(&claim)),
            };
            is(load.passed > 0 && load.ended > 0, &mut self.split);
            is(load.weight > nginx::PIECE_LIMIT, &mut self.too_large);
            match load == Load::default() {
                true => drop(self.by_claim.remove(&claim)),
                false => drop(self.by_claim.insert(claim, load)),
            }
        }
    }

    /// Whether TLS is to be both passed through and ended somewhere.
    pub fn any_split(&self) -> bool {
        !self.split.is_empty()
    }

    /// Whether the services of some claim may not fit into a file.
    pub fn any_too_large(&self) -> bool {
        !self.too_large.is_empty()
    }
}
