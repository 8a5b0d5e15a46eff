//! Whether proxies may join a network. One without enough addresses for all of them stops the first that tries: it has
//! left its old networks by then, and does not start. How many there are and are needed is the observer's to count.

use model::{ClusterName, Code, Network, NetworkId, Problem, Shortage};

/// Why the proxies of a cluster are not to join a network. One that they are on, or are joining, they never leave because
/// it is full.
pub(crate) fn lacking(
    cluster: &ClusterName,
    network: &Network,
    is_on: impl FnOnce(&NetworkId) -> bool,
) -> Option<Problem> {
    let Network { id, name, no_room_for } = network;
    let Shortage { subnets, addresses, needed } = no_room_for.get(cluster)?;
    if is_on(id) {
        return None;
    }
    let (has, subnets) = (if subnets.len() == 1 { "has" } else { "have" }, subnets.join(" and "));
    let larger = "a network with a larger subnet";
    let (message, allowed) = match addresses.checked_sub(*needed) {
        // How many are taken changes all the time, and nobody is woken for that. This many are for as long as it stands.
        Some(most) => (
            format!(
                "its network {name} has no room for the proxies: of the {addresses} addresses of {subnets} at least {} \
                 are taken by others, and the proxies and their nodes need {needed} to join it",
                most + 1
            ),
            format!("at most {most} taken by others, or {larger}"),
        ),
        None => (
            format!(
                "its network {name} is too small for the proxies: they and their nodes need {needed} addresses to join it, and \
                 {subnets} {has} {addresses}"
            ),
            larger.to_owned(),
        ),
    };
    Some(Problem::new(Code::NetworkFull, message).allowed(allowed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample::main_cluster;

    #[test]
    fn a_network_without_room_is_told_with_its_numbers() {
        let network = |subnets: &[&str], addresses, needed| {
            let subnets = subnets.iter().map(|subnet| (*subnet).to_owned()).collect();
            let no_room_for = BTreeMap::from([(main_cluster(), Shortage { subnets, addresses, needed })]);
            Network { no_room_for, ..Network::new("n1".into(), "tiny") }
        };
        for (network, expected) in [
            (
                network(&["10.0.0.0/28"], 13, 6),
                "its network tiny has no room for the proxies: of the 13 addresses of 10.0.0.0/28 at least 8 are taken by others, and the proxies and their nodes need 6 to join it (allowed: at most 7 taken by others, or a network with a larger subnet)",
            ),
            (
                network(&["10.0.0.0/29", "10.0.1.0/29"], 10, 10),
                "its network tiny has no room for the proxies: of the 10 addresses of 10.0.0.0/29 and 10.0.1.0/29 at least 1 are taken by others, and the proxies and their nodes need 10 to join it (allowed: at most 0 taken by others, or a network with a larger subnet)",
            ),
            (
                network(&["10.0.0.0/29"], 5, 6),
                "its network tiny is too small for the proxies: they and their nodes need 6 addresses to join it, and 10.0.0.0/29 has 5 (allowed: a network with a larger subnet)",
            ),
        ] {
            let problem = lacking(&main_cluster(), &network, |_| false).unwrap();
            assert_eq!(problem.code, Code::NetworkFull);
            assert_eq!(problem.to_string(), expected);
            assert_eq!(lacking(&main_cluster(), &network, |id| *id == "n1".into()), None, "they are on it");
            assert_eq!(lacking(&ClusterName::parse("east").unwrap(), &network, |_| false), None);
        }
        assert_eq!(lacking(&main_cluster(), &Network::new("n1".into(), "roomy"), |_| false), None);
    }
}
