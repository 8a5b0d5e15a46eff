//! Who is suspected of having made a rollout fail. A held generation must not freeze everyone's routing, and a
//! healthy service that only happened to change at the same time must not pay for another.
//!
//! What can break a rollout is a secret whose content nobody could look at, and a network that the proxies join: it may
//! have no address left, or not exist on a node. Hosts, ports and addresses pass the typed writer and cannot. So if the
//! words of the hold name secrets, the services that brought these are to blame, and nobody else; if not, and the held
//! generation joined networks, the services on those are the suspects, whatever their addresses are by now; and only if
//! it joined none, every service that it changed is.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Contribution, Digest, Fragment, Hold, Manifest, NetworkId, ServiceId};

use crate::bisect::kept_out;

/// What the holds say about one contribution.
#[derive(Debug, PartialEq)]
pub(crate) enum Standing {
    /// It is served as it is.
    Clear,
    /// It came with a generation that failed.
    Suspect {
        /// What happened to that generation.
        reason: String,
        /// What to serve meanwhile; none if the service was not in the last good generation.
        last_good: Option<Arc<Contribution>>,
    },
}

/// What can be to blame.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// A network that was joined, with all services on it.
    Network(NetworkId),
    /// A service as it was.
    Service(ServiceId, Digest),
    /// A service by what it asks for, whatever its addresses are.
    Request(ServiceId, Digest),
}

/// Whether a generation that joined networks has failed, and is held for it.
pub(crate) fn a_join_failed(last_good: &Manifest, holds: &[Hold]) -> bool {
    let weighed = Holds::weigh(std::iter::empty(), last_good, holds);
    holds.iter().any(|hold| !hold.by_hand && weighed.suspicion(hold) == Suspicion::Joined)
}

/// What the suspects of a hold have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    /// A secret of theirs is named.
    Named,
    /// They are on a network that was joined.
    Joined,
    /// They changed.
    Changed,
}

/// The holds on one cluster, and who is kept out for them.
#[derive(Debug)]
pub(crate) struct Holds<'a> {
    last_good: &'a Manifest,
    holds: &'a [Hold],
    known: BTreeSet<&'a NetworkId>,
    /// Who is not tried next; see [`kept_out`].
    out: BTreeSet<Unit>,
}

impl<'a> Holds<'a> {
    /// Weighs the holds against everything that is asked for.
    pub(crate) fn weigh<'b>(
        wanted: impl Iterator<Item = (&'b ServiceId, &'b Contribution)>,
        last_good: &'a Manifest,
        holds: &'a [Hold],
    ) -> Self {
        let known = last_good.services.values().map(|publication| &publication.contribution.network).collect();
        let mut weighed = Self { last_good, holds, known, out: BTreeSet::new() };
        if holds.is_empty() {
            return weighed;
        }
        let mut present = BTreeSet::new();
        let named = holds.iter().any(|hold| weighed.suspicion(hold) == Suspicion::Named);
        for (id, contribution) in wanted {
            if named {
                present.insert(Unit::Request(id.clone(), contribution.request_digest()));
            }
            present.insert(Unit::Network(contribution.network.clone()));
            present.insert(Unit::Service(id.clone(), contribution.digest()));
        }
        // What somebody decided is no evidence of a failure.
        let failed = holds.iter().filter(|hold| !hold.by_hand).flat_map(|hold| weighed.suspects(hold));
        let failed: Vec<BTreeSet<Unit>> = failed.filter(|set| !set.is_empty()).collect();
        weighed.out = kept_out(&failed, &present);
        weighed
    }

    fn suspicion(&self, hold: &Hold) -> Suspicion {
        if self.named(hold).next().is_some() {
            Suspicion::Named
        } else if hold.fragments.values().any(|fragment| !self.known.contains(&fragment.network)) {
            Suspicion::Joined
        } else {
            Suspicion::Changed
        }
    }

    /// Those of whom a secret is named, and who ask for something else than in the last good.
    fn named<'b>(&self, hold: &'b Hold) -> impl Iterator<Item = Unit> + use<'b, '_> {
        hold.fragments.iter().filter_map(|(id, fragment)| {
            let request = fragment.named?;
            let good = self.last_good.services.get(id).map(|good| good.contribution.request_digest());
            (good != Some(request)).then(|| Unit::Request(id.clone(), request))
        })
    }

    fn is_good(&self, id: &ServiceId, digest: Digest) -> bool {
        self.last_good.services.get(id).is_some_and(|good| good.fragment == digest)
    }

    /// Who may be to blame for this hold. Each set has somebody in it who is.
    fn suspects(&self, hold: &Hold) -> Vec<BTreeSet<Unit>> {
        let fragments = hold.fragments.iter();
        let service = |(id, fragment): (&ServiceId, &Fragment)| Unit::Service(id.clone(), fragment.digest);
        match self.suspicion(hold) {
            Suspicion::Named => self.named(hold).map(|named| BTreeSet::from([named])).collect(),
            Suspicion::Joined => {
                let joined = fragments.filter(|(_, fragment)| !self.known.contains(&fragment.network));
                vec![joined.map(|(_, fragment)| Unit::Network(fragment.network.clone())).collect()]
            }
            Suspicion::Changed => {
                vec![fragments.filter(|(id, fragment)| !self.is_good(id, fragment.digest)).map(service).collect()]
            }
        }
    }

    /// Judges one contribution. Not contributing is never suspect: withdrawing a service cannot be held back, or a
    /// service that is gone would be served for ever.
    pub(crate) fn judge(&self, id: &ServiceId, contribution: &Contribution) -> Standing {
        if self.holds.is_empty() {
            return Standing::Clear;
        }
        let digest = contribution.digest();
        if self.is_good(id, digest) {
            return Standing::Clear;
        }
        let suspected = |hold: &&Hold| {
            let network = &contribution.network;
            hold.fragments.get(id).is_some_and(|fragment| {
                let (suspect, unit) = match self.suspicion(hold) {
                    // Another set of tasks is no new evidence about a secret.
                    Suspicion::Named => {
                        let request = contribution.request_digest();
                        (fragment.named == Some(request), Unit::Request(id.clone(), request))
                    }
                    // Another set of tasks on a network that is full is no new evidence.
                    Suspicion::Joined => {
                        let suspect = !self.known.contains(network) && fragment.network == *network;
                        (suspect, Unit::Network(network.clone()))
                    }
                    // A service that changed since is heard anew.
                    Suspicion::Changed => (fragment.digest == digest, Unit::Service(id.clone(), digest)),
                };
                suspect && (hold.by_hand || self.out.contains(&unit))
            })
        };
        match self.holds.iter().find(suspected) {
            None => Standing::Clear,
            Some(hold) => Standing::Suspect {
                reason: hold.reason.clone(),
                last_good: self.last_good.services.get(id).map(|good| Arc::new(good.contribution.clone())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::BackendMode;

    use super::*;
    use crate::sample::{contribution, manifest};

    /// Judges a service that asks alone.
    fn judge(id: &ServiceId, contribution: &Contribution, last_good: &Manifest, holds: &[Hold]) -> Standing {
        Holds::weigh([(id, contribution)].into_iter(), last_good, holds).judge(id, contribution)
    }

    #[test]
    fn a_contribution_is_suspect_if_a_hold_brought_it_in() {
        let version = |n: u8| contribution("a", "a.local", BackendMode::Task, "n1", &format!("10.0.0.{n}:80"));
        let id = ServiceId::new("a");
        let hold = |n: Option<u8>| Hold {
            generation: Digest::of(b"held"),
            fragments: n
                .map(|n| (id.clone(), Fragment { digest: version(n).digest(), network: "n1".into(), named: None }))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            reason: format!("{n:?} failed"),
            by_hand: false,
        };
        let empty = manifest(&[]);
        let good = manifest(&[("a", version(1))]);
        let suspect = |reason: &str, served: Option<u8>| Standing::Suspect {
            reason: reason.to_owned(),
            last_good: served.map(|n| Arc::new(version(n))),
        };
        for (what, now, last_good, holds, expect) in [
            ("no holds", 1, &empty, vec![], Standing::Clear),
            ("it was good and did not change", 1, &good, vec![hold(Some(1))], Standing::Clear),
            ("its change failed", 2, &good, vec![hold(Some(2))], suspect("Some(2) failed", Some(1))),
            ("its first publication failed", 2, &empty, vec![hold(Some(2))], suspect("Some(2) failed", None)),
            ("it changed since", 3, &good, vec![hold(Some(2))], Standing::Clear),
            ("it went back to what was good", 1, &good, vec![hold(Some(2))], Standing::Clear),
            ("any of several holds", 2, &good, vec![hold(Some(3)), hold(Some(2))], suspect("Some(2) failed", Some(1))),
            ("the hold withdrew it, and it is back", 2, &good, vec![hold(None)], Standing::Clear),
        ] {
            assert_eq!(judge(&id, &version(now), last_good, &holds), expect, "{what}");
        }
    }

    #[test]
    fn if_networks_were_joined_only_services_on_those_are_suspect_whatever_their_addresses() {
        let on = |name: &str, network: &str, n: u8| {
            contribution(name, &format!("{name}.local"), BackendMode::Task, network, &format!("10.0.0.{n}:80"))
        };
        let last_good = manifest(&[("steady", on("steady", "n1", 1))]);
        let held: Vec<(&str, Contribution)> = vec![
            ("steady", on("steady", "n1", 2)),
            ("back", on("back", "n1", 3)),
            ("crowded", on("crowded", "full", 4)),
        ];
        let hold = Hold {
            generation: Digest::of(b"held"),
            fragments: held
                .iter()
                .map(|(id, held)| {
                    ((*id).into(), Fragment { digest: held.digest(), network: held.network.clone(), named: None })
                })
                .collect(),
            reason: "no address".into(),
            by_hand: false,
        };
        let standing = |id: &str, now: Contribution| {
            matches!(judge(&id.into(), &now, &last_good, std::slice::from_ref(&hold)), Standing::Suspect { .. })
        };
        assert!(!standing("steady", on("steady", "n1", 2)), "its network was in use already");
        assert!(!standing("back", on("back", "n1", 3)), "and so was that of a service that was away");
        assert!(standing("crowded", on("crowded", "full", 4)));
        assert!(standing("crowded", on("crowded", "full", 5)), "other tasks on the same network change nothing");
        assert!(!standing("crowded", on("crowded", "n1", 5)), "it moved to a network that is in use");
        assert!(!standing("crowded", on("crowded", "roomy", 5)), "or to one that was not tried");
        assert!(!standing("other", on("other", "full", 6)), "a service that was not there is heard");
    }

    #[test]
    fn whose_secret_is_named_is_to_blame_and_nobody_else() {
        let on = |name: &str, network: &str, n: u8| {
            contribution(name, &format!("{name}.local"), BackendMode::Task, network, &format!("10.0.0.{n}:80"))
        };
        let last_good = manifest(&[("steady", on("steady", "n1", 1))]);
        let hold = |named: &[&str]| Hold {
            generation: Digest::of(b"held"),
            fragments: [on("steady", "n1", 2), on("bad", "new", 3), on("worse", "n1", 4), on("fine", "new", 5)]
                .iter()
                .map(|held| {
                    let named = named.contains(&held.name.as_str()).then(|| held.request_digest());
                    let fragment = Fragment { digest: held.digest(), network: held.network.clone(), named };
                    (held.name.as_str().into(), fragment)
                })
                .collect(),
            reason: "refused".into(),
            by_hand: false,
        };
        let wanted = [on("steady", "n1", 9), on("bad", "new", 9), on("worse", "n1", 9), on("fine", "new", 9)];
        for (named, expected, joined) in [
            (&["bad"][..], "bad", false),
            // All at once: each is known to be to blame.
            (&["bad", "worse"], "bad,worse", false),
            // The same secret works for somebody who has more tasks by now.
            (&["bad", "steady"], "bad", false),
            // Then it is something else: the network, as far as is known.
            (&["steady"], "bad,fine", true),
        ] {
            let hold = hold(named);
            assert_eq!(a_join_failed(&last_good, std::slice::from_ref(&hold)), joined, "{named:?}");
            let ids: Vec<ServiceId> = wanted.iter().map(|wanted| wanted.name.as_str().into()).collect();
            let weighed = Holds::weigh(ids.iter().zip(&wanted), &last_good, std::slice::from_ref(&hold));
            let out = ids.iter().zip(&wanted).filter(|(id, wanted)| weighed.judge(id, wanted) != Standing::Clear);
            let out: Vec<&str> = out.map(|(id, _)| id.as_str()).collect();
            assert_eq!(out.join(","), expected, "{named:?}");
        }
        // Who asks for something else by now is heard anew.
        let other = Contribution { hosts: BTreeSet::new(), ..on("bad", "new", 3) };
        assert_eq!(judge(&"bad".into(), &other, &last_good, &[hold(&["bad"])]), Standing::Clear);
    }

    #[test]
    fn several_suspects_are_tried_by_halves_and_never_against_a_persons_decision() {
        let version = |name: &str| contribution(name, &format!("{name}.local"), BackendMode::Vip, "n1", "10.0.0.1:80");
        let last_good =
            manifest(&[("steady", contribution("steady", "s.local", BackendMode::Vip, "n1", "10.0.0.2:80"))]);
        let names = ["a", "b", "c", "d"];
        let wanted: Vec<(ServiceId, Contribution)> = names.map(|name| (name.into(), version(name))).into();
        let hold = |names: &[&str], by_hand| Hold {
            generation: Digest::of(names.concat().as_bytes()),
            fragments: names
                .iter()
                .map(|name| {
                    ((*name).into(), Fragment { digest: version(name).digest(), network: "n1".into(), named: None })
                })
                .collect(),
            reason: "failed".into(),
            by_hand,
        };
        for (holds, expected) in [
            (vec![hold(&names, false)], "cd"),
            (vec![hold(&names, false), hold(&["a", "b"], false)], "bcd"),
            (vec![hold(&names, false), hold(&["a", "b"], false), hold(&["a"], false)], "a"),
            (vec![hold(&names, true)], "abcd"),
            (vec![hold(&["a"], false), hold(&["b", "c"], true)], "abc"),
        ] {
            let asked = wanted.iter().map(|(id, contribution)| (id, contribution));
            let weighed = Holds::weigh(asked, &last_good, &holds);
            let out: String = wanted
                .iter()
                .filter(|(id, contribution)| weighed.judge(id, contribution) != Standing::Clear)
                .map(|(id, _)| id.as_str())
                .collect();
            assert_eq!(out, expected, "{holds:?}");
        }
    }
}
