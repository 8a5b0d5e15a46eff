//! What is asked of each host: enough to know that nobody has to be refused for what others ask, and, where somebody
//! may have to be, whom to look at.

use std::collections::{BTreeMap, BTreeSet};

use model::{Contribution, Contributions, Host, ServiceId, Tls};

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

/// The loads of all claims, with those that are too much or may be.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    by_claim: BTreeMap<Option<Host>, Load>,
    /// Who claims what.
    members: BTreeSet<(Option<Host>, ServiceId)>,
    split: BTreeSet<Option<Host>>,
    suspects: Suspects,
}

/// What may be too much: found out by what is quickly known, which for texts is several times what is true.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// Claims of which the services may not fit into a file together.
    pub claims: BTreeSet<Option<Host>>,
    /// Services of which the text may stand in too many groups.
    pub services: BTreeSet<ServiceId>,
    /// The hosts, with those whose names nginx cannot hold beside each other.
    pub names: nginx::Tables,
}

impl Loads {
    /// Takes in what changed between two sets of contributions, the first of which was taken in before.
    pub fn fold(&mut self, before: &Contributions, now: &Contributions) {
        for (id, before, now) in changes(before, now) {
            // First what comes, so that a host that stays is never gone.
            if let Some(from) = now {
                self.change(from, |load, more| Load {
                    weight: load.weight + more.weight,
                    passed: load.passed + more.passed,
                    ended: load.ended + more.ended,
                });
            }
            if let Some(from) = before {
                self.change(from, |load, less| Load {
                    weight: load.weight - less.weight,
                    passed: load.passed - less.passed,
                    ended: load.ended - less.ended,
                });
                for claim in claims(from) {
                    self.members.remove(&(claim.cloned(), id.clone()));
                }
                self.suspects.services.remove(id);
            }
            if let Some(from) = now {
                self.members.extend(claims(from).map(|claim| (claim.cloned(), id.clone())));
                if claims(from).count() * nginx::weight_without_hosts(from) > nginx::SERVICE_LIMIT {
                    self.suspects.services.insert(id.clone());
                }
            }
        }
    }

    fn change(&mut self, from: &Contribution, change: impl Fn(Load, Load) -> Load) {
        let own = Load::of(from);
        for claim in claims(from).map(|claim| claim.cloned()) {
            let before = self.by_claim.get(&claim).copied().unwrap_or_default();
            let load = change(before, own);
            let is = |yes: bool, those: &mut BTreeSet<Option<Host>>| match yes {
                true => drop(those.insert(claim.clone())),
                false => drop(those.remove(&claim)),
            };
            is(load.passed > 0 && load.ended > 0, &mut self.split);
            is(load.weight > nginx::PIECE_LIMIT, &mut self.suspects.claims);
            match (&claim, before == Load::default(), load == Load::default()) {
                (Some(host), true, false) => self.suspects.names.insert(host),
                (Some(host), false, true) => self.suspects.names.remove(host),
                _ => {}
            }
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

    /// What may be too much.
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// The contributions that are suspected, and all that share a claim with one of those: how the suspects' claims are
    /// answered depends on nobody else.
    pub fn around_suspects(&self, contributions: &Contributions) -> Contributions {
        let Suspects { claims: full, services, names } = &self.suspects;
        let named = self.by_claim.keys().filter(|claim| claim.as_ref().is_some_and(|host| names.is_overfull_at(host)));
        let named = (!names.overfull().is_empty()).then_some(named).into_iter().flatten();
        let suspects: BTreeSet<&ServiceId> =
            full.iter().chain(named).flat_map(|claim| self.members(claim)).chain(services).collect();
        let claimed: BTreeSet<Option<Host>> = suspects
            .into_iter()
            .filter_map(|id| contributions.get(id))
            .flat_map(|from| claims(from).map(|claim| claim.cloned()))
            .collect();
        let around: BTreeSet<&ServiceId> = claimed.iter().flat_map(|claim| self.members(claim)).collect();
        around
            .into_iter()
            .filter_map(|id| contributions.get_key_value(id))
            .map(|(id, from)| (id.clone(), from.clone()))
            .collect()
    }

    fn members<'a>(&'a self, claim: &'a Option<Host>) -> impl Iterator<Item = &'a ServiceId> {
        let from_here = self.members.range((claim.clone(), ServiceId::new(""))..);
        from_here.take_while(move |(claimed, _)| claimed == claim).map(|(_, id)| id)
    }
}

impl Suspects {
    /// Whether nothing is too much.
    pub fn is_empty(&self) -> bool {
        let Self { claims, services, names } = self;
        claims.is_empty() && services.is_empty() && names.overfull().is_empty()
    }
}
