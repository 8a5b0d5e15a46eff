//! Who is suspected of having made a rollout fail. A held generation must not freeze everyone's routing, and a
//! healthy service that only happened to change at the same time must not pay for another.
//!
//! What can break a rollout is a secret whose content nobody could look at, and a network that the proxies join: it may
//! have no address left, or not exist on a node. Hosts, ports and addresses pass the typed writer and cannot. So if the
//! words of the hold name secrets, what is done with these is suspect (a key may be fine, and used with another's
//! certificate), and nobody else; if not, and the held generation joined networks, the services on those are the suspects,
//! whatever their addresses are by now; and only if it joined none, every service that it changed is.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Contribution, Digest, Hold, Manifest, NetworkId, ServiceId};

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
    /// A use of secrets, with all services that use the same in the same way.
    Secrets(Digest),
}

/// What the suspects of a hold have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    /// Secrets that they use are named.
    Named,
    /// They are on a network that was joined.
    Joined,
    /// They changed.
    Changed,
}

/// A hold, and who may be to blame for it.
#[derive(Debug)]
struct Case<'a> {
    hold: &'a Hold,
    suspicion: Suspicion,
    suspects: BTreeSet<Unit>,
}

/// The holds on one cluster, and who is kept out for them.
#[derive(Debug)]
pub(crate) struct Holds<'a> {
    last_good: &'a Manifest,
    cases: Vec<Case<'a>>,
    known: BTreeSet<&'a NetworkId>,
    /// Who is not tried next; see [`kept_out`].
    out: BTreeSet<Unit>,
}

impl<'a> Holds<'a> {
    /// Weighs the holds against everything that is asked for.
    pub(crate) fn weigh<'b>(
        wanted: impl Iterator<Item = (&'b ServiceId, &'b Contribution)>,
        last_good: &'a Manifest,
        holds: impl IntoIterator<Item = &'a Hold>,
    ) -> Self {
        let known =
            last_good.services.values().filter_map(|publication| publication.contribution.network.as_ref()).collect();
        let mut weighed = Self { last_good, cases: Vec::new(), known, out: BTreeSet::new() };
        weighed.cases = holds.into_iter().map(|hold| weighed.case(hold)).collect();
        if weighed.cases.is_empty() {
            return weighed;
        }
        let named = weighed.cases.iter().any(|case| case.suspicion == Suspicion::Named);
        let mut present = BTreeSet::new();
        for (id, contribution) in wanted {
            if named {
                present.insert(Unit::Secrets(contribution.secrets_digest()));
            }
            present.extend(contribution.network.clone().map(Unit::Network));
            present.insert(Unit::Service(id.clone(), contribution.digest()));
        }
        // What somebody decided is no evidence of a failure.
        let failed = weighed.cases.iter().filter(|case| !case.hold.by_hand && !case.suspects.is_empty());
        let failed: Vec<BTreeSet<Unit>> = failed.map(|case| case.suspects.clone()).collect();
        weighed.out = kept_out(&failed, &present);
        weighed
    }

    /// Whether a generation that joined networks has failed, and is held for it.
    pub(crate) fn a_join_failed(&self) -> bool {
        self.cases.iter().any(|case| !case.hold.by_hand && case.suspicion == Suspicion::Joined)
    }

    fn case(&self, hold: &'a Hold) -> Case<'a> {
        let named = self.named(hold);
        if !named.is_empty() {
            return Case { hold, suspicion: Suspicion::Named, suspects: named };
        }
        let fragments = hold.fragments.iter();
        let networks = fragments.clone().filter_map(|(_, fragment)| fragment.network.as_ref());
        let joined = networks.filter(|network| !self.known.contains(network));
        let joined: BTreeSet<Unit> = joined.cloned().map(Unit::Network).collect();
        if !joined.is_empty() {
            return Case { hold, suspicion: Suspicion::Joined, suspects: joined };
        }
        let changed = fragments.filter(|(id, fragment)| !self.is_good(id, fragment.digest));
        let suspects = changed.map(|(id, fragment)| Unit::Service(id.clone(), fragment.digest)).collect();
        Case { hold, suspicion: Suspicion::Changed, suspects }
    }

    /// The uses of secrets that are named and not known to work.
    fn named(&self, hold: &Hold) -> BTreeSet<Unit> {
        let mut named: BTreeSet<Digest> = hold.fragments.values().filter_map(|fragment| fragment.named).collect();
        if !named.is_empty() {
            for good in self.last_good.services.values() {
                named.remove(&good.contribution.secrets_digest());
            }
        }
        named.into_iter().map(Unit::Secrets).collect()
    }

    fn is_good(&self, id: &ServiceId, digest: Digest) -> bool {
        self.last_good.services.get(id).is_some_and(|good| good.fragment == digest)
    }

    /// Judges one contribution. Not contributing is never suspect: withdrawing a service cannot be held back, or a
    /// service that is gone would be served for ever.
    pub(crate) fn judge(&self, id: &ServiceId, contribution: &Contribution) -> Standing {
        if self.cases.is_empty() {
            return Standing::Clear;
        }
        let digest = contribution.digest();
        if self.is_good(id, digest) {
            return Standing::Clear;
        }
        let suspected = |case: &&Case<'_>| {
            let fragment = case.hold.fragments.get(id);
            let unit = match case.suspicion {
                // Whoever uses the same in the same way, whether it was there or not.
                Suspicion::Named => Some(Unit::Secrets(contribution.secrets_digest())),
                // Another set of tasks on a network that is full is no new evidence.
                Suspicion::Joined => {
                    let same = fragment.filter(|fragment| fragment.network == contribution.network);
                    same.and_then(|fragment| fragment.network.clone()).map(Unit::Network)
                }
                // A service that changed since is heard anew.
                Suspicion::Changed => {
                    let same = fragment.filter(|fragment| fragment.digest == digest);
                    same.map(|fragment| Unit::Service(id.clone(), fragment.digest))
                }
            };
            let suspect = unit.filter(|unit| case.suspects.contains(unit));
            suspect.is_some_and(|unit| case.hold.by_hand || self.out.contains(&unit))
        };
        match self.cases.iter().find(suspected) {
            None => Standing::Clear,
            Some(case) => Standing::Suspect {
                reason: case.hold.reason.clone(),
                last_good: self.last_good.services.get(id).map(|good| Arc::clone(&good.contribution)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::values::SecretName;
    use model::{BackendMode, Fragment, SecretId, Tls};

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
                .map(|n| {
                    (id.clone(), Fragment { digest: version(n).digest(), network: Some("n1".into()), named: None })
                })
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            setup: Default::default(),
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
            setup: Default::default(),
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
    fn a_use_of_secrets_that_are_named_is_to_blame_and_nobody_else() {
        let tls = |name: &str, network: &str, n: u8, certificate: &str, key: &str| {
            let name_of = |secret: &str| secret.parse::<SecretName>().unwrap();
            let (certificate, key) = (name_of(certificate), name_of(key));
            let id = |name: &SecretName| SecretId::new(format!("id of {name}"));
            let mut tls =
                contribution(name, &format!("{name}.local"), BackendMode::Task, network, &format!("10.0.0.{n}:80"));
            tls.secrets = [(certificate.clone(), id(&certificate)), (key.clone(), id(&key))].into();
            tls.options.host.tls = Some(Tls::Terminate { certificate, key, client_ca: None });
            tls
        };
        let last_good = manifest(&[("steady", tls("steady", "n1", 1, "s.cert", "s.key"))]);
        let held = [
            tls("steady", "n1", 2, "s.cert", "s.key"),
            tls("bad", "new", 3, "a.cert", "bad.key"),
            tls("too", "n1", 4, "a.cert", "bad.key"),
            tls("thief", "new", 5, "b.cert", "s.key"),
            tls("fine", "new", 6, "a.cert", "a.key"),
        ];
        let hold = |without: &[&str], secret: &str| Hold {
            generation: Digest::of(without.concat().as_bytes()),
            fragments: held
                .iter()
                .filter(|held| !without.contains(&held.name.as_str()))
                .map(|held| {
                    let named = held.secrets.keys().any(|name| name.as_str() == secret).then(|| held.secrets_digest());
                    let fragment = Fragment { digest: held.digest(), network: held.network.clone(), named };
                    (held.name.as_str().into(), fragment)
                })
                .collect(),
            setup: Default::default(),
            reason: "refused".into(),
            by_hand: false,
        };
        // By now each has other tasks, and there is one more with the bad key.
        let later =
            |held: &Contribution| Contribution { endpoints: ["10.0.0.99:80".parse().unwrap()].into(), ..held.clone() };
        let mut wanted: Vec<Contribution> = held.iter().map(later).collect();
        wanted.push(tls("late", "n1", 7, "a.cert", "bad.key"));
        let out = |holds: &[Hold]| {
            let ids: Vec<ServiceId> = wanted.iter().map(|wanted| wanted.name.as_str().into()).collect();
            let weighed = Holds::weigh(ids.iter().zip(&wanted), &last_good, holds);
            let out = ids.iter().zip(&wanted).filter(|(id, wanted)| weighed.judge(id, wanted) != Standing::Clear);
            out.map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(",")
        };
        for (holds, expected, joined) in [
            (vec![hold(&[], "bad.key")], "bad,too,late", false),
            // The key works for the certificate that it belongs to.
            (vec![hold(&[], "bad.key"), hold(&["bad", "too"], "s.key")], "bad,too,thief,late", false),
            // What is named works: it is something else, the network as far as is known.
            (vec![hold(&["thief"], "s.key")], "bad,fine", true),
        ] {
            let weighed = Holds::weigh(std::iter::empty(), &last_good, &holds);
            assert_eq!(weighed.a_join_failed(), joined, "{expected}");
            assert_eq!(out(&holds), expected);
        }
        // Two uses of one secret: one half is tried, and if it fails the other one is let through.
        let one_half = out(&[hold(&[], "a.cert")]);
        assert!(["bad,too,late", "fine"].contains(&one_half.as_str()), "{one_half}");
        assert_eq!(out(&[hold(&[], "a.cert"), hold(&["bad", "too"], "a.cert")]), "fine");
        // Who does something else with secrets by now is heard anew.
        let other = tls("bad", "new", 3, "a.cert", "other.key");
        assert_eq!(judge(&"bad".into(), &other, &last_good, &[hold(&[], "bad.key")]), Standing::Clear);
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
                    (
                        (*name).into(),
                        Fragment { digest: version(name).digest(), network: Some("n1".into()), named: None },
                    )
                })
                .collect(),
            setup: Default::default(),
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
