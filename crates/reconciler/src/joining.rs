//! After a join has failed, networks join one at a time. A network may have no address left, and a proxy that cannot
//! get one does not start: where two join at once nobody knows which is to blame. As long as none has failed they
//! join together, since fifty stacks that come at once must not cost fifty rollouts.

use std::collections::{BTreeMap, BTreeSet};

use model::{Contributions, Manifest, NetworkId, ServiceId};

/// The services that have to wait, each with the network that joins first. None of them waits for the first
/// generation, which has nothing to lose, nor where the proxies are on a fixed list of networks (do not ask then).
pub(crate) fn waiting(
    contributions: &Contributions,
    live: &Manifest,
    last_good: &Manifest,
) -> BTreeMap<ServiceId, NetworkId> {
    let networks = |manifest: &Manifest| -> BTreeSet<NetworkId> {
        manifest.services.values().filter_map(|publication| publication.contribution.network.clone()).collect()
    };
    let (known, tried) = (networks(last_good), networks(live));
    let is_new = |network: &&NetworkId| !known.contains(*network) && !tried.contains(*network);
    let on = contributions.iter().filter_map(|(id, from)| Some((id, from, from.network.as_ref()?)));
    let new = on.filter(|(_, _, network)| is_new(network));
    // One that joins already is waited for; else the oldest service's network is next.
    let next = match tried.difference(&known).next() {
        Some(joining) => joining,
        None => match new.clone().min_by_key(|(id, from, _)| (from.created_at, *id)) {
            Some((_, _, network)) => network,
            None => return BTreeMap::new(),
        },
    };
    new.filter(|(_, _, network)| *network != next).map(|(id, ..)| (id.clone(), next.clone())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{BackendMode, Contribution, Timestamp};

    use super::*;
    use crate::sample::{contribution, manifest};

    fn on(name: &str, network: &str, created_at: i64) -> Contribution {
        let from = contribution(name, &format!("{name}.local"), BackendMode::Vip, network, "10.0.0.1:80");
        Contribution { created_at: Timestamp(created_at), ..from }
    }

    #[test]
    fn one_new_network_at_a_time_the_oldest_services_first() {
        type Services = &'static [(&'static str, &'static str, i64)];
        /// What is wanted, live and good, and who waits for which network.
        type Case = (&'static str, Services, Services, Services, &'static [(&'static str, &'static str)]);
        let cases: [Case; 7] = [
            ("nothing is new", &[("a", "n1", 0)], &[("a", "n1", 0)], &[("a", "n1", 0)], &[]),
            ("one is new", &[("a", "n1", 0), ("b", "n2", 1)], &[("a", "n1", 0)], &[("a", "n1", 0)], &[]),
            (
                "two are new",
                &[("a", "n1", 0), ("b", "n3", 1), ("c", "n2", 2), ("d", "n3", 3)],
                &[("a", "n1", 0)],
                &[("a", "n1", 0)],
                &[("c", "n3")],
            ),
            (
                "one joins, and another comes",
                &[("a", "n1", 0), ("b", "n2", 2), ("c", "n3", 1)],
                &[("a", "n1", 0), ("b", "n2", 2)],
                &[("a", "n1", 0)],
                &[("c", "n2")],
            ),
            (
                "it has joined",
                &[("a", "n1", 0), ("b", "n2", 2), ("c", "n3", 1)],
                &[("a", "n1", 0), ("b", "n2", 2)],
                &[("a", "n1", 0), ("b", "n2", 2)],
                &[],
            ),
            (
                "it failed and is not asked for",
                &[("a", "n1", 0), ("c", "n3", 1)],
                &[("a", "n1", 0)],
                &[("a", "n1", 0)],
                &[],
            ),
            (
                "the first generation rolls",
                &[("a", "n1", 0), ("b", "n2", 1)],
                &[("a", "n1", 0), ("b", "n2", 1)],
                &[],
                &[],
            ),
        ];
        for (what, wanted, live, last_good, expected) in cases {
            let of = |services: Services| -> Vec<(&str, Contribution)> {
                services.iter().map(|(name, network, at)| (*name, on(name, network, *at))).collect()
            };
            let wanted = of(wanted).into_iter().map(|(id, from)| (ServiceId::new(id), Arc::new(from))).collect();
            let found = waiting(&wanted, &manifest(&of(live)), &manifest(&of(last_good)));
            let expected = expected.iter().map(|(id, network)| ((*id).into(), (*network).into())).collect();
            assert_eq!(found, expected, "{what}");
        }
    }
}
