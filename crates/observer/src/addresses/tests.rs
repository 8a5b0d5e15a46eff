use std::sync::Arc;

use model::Desired;

use super::*;
use crate::fixtures::{Builder, overlay, pool, service, task};
use crate::index::{Index, Listing};
use crate::lookups::Lookups;

fn main_cluster() -> ClusterName {
    ClusterName::parse("main").unwrap()
}

/// The default: two proxies on the routing mesh, start-first.
fn mesh() -> Proxies {
    Proxies { service: "proxy".into(), service_cluster: String::new(), replicas: Some(2), surge: 1, vip: true }
}

/// One on each node, stop-first, dnsrr.
fn host() -> Proxies {
    Proxies { replicas: None, surge: 0, vip: false, ..mesh() }
}

fn of_main(proxies: Proxies) -> BTreeMap<ClusterName, Proxies> {
    BTreeMap::from([(main_cluster(), proxies)])
}

/// `app`, with such a subnet.
fn app(subnet: &str) -> swarm::Network {
    swarm::Network { pools: vec![pool(subnet, None, Some("10.0.1.1"))], ..overlay("app") }
}

#[test]
fn a_subnet_has_as_many_addresses_as_the_engine_gave_out() {
    let gateway = Some("10.0.0.1");
    for (pools, expected) in [
        // Each as measured: so many virtual addresses, tasks and nodes fitted.
        (vec![pool("10.0.0.0/29", None, gateway)], Some(5)),
        (vec![pool("10.0.0.0/30", None, gateway)], Some(1)),
        (vec![pool("10.0.0.0/29", None, gateway), pool("10.0.1.0/29", None, Some("10.0.1.6"))], Some(10)),
        (vec![pool("10.0.0.0/24", Some("10.0.0.8/29"), Some("10.0.0.8"))], Some(7)),
        (vec![pool("10.0.0.0/24", None, gateway)], Some(253)),
        // The range is at the edge of the subnet, and the gateway is outside of it.
        (vec![pool("10.0.0.0/24", Some("10.0.0.0/29"), Some("10.0.0.9"))], Some(7)),
        (vec![pool("10.0.0.0/24", Some("10.0.0.0/24"), gateway)], Some(253)),
        (vec![pool("10.0.0.0/29", None, None)], Some(6)),
        (vec![pool("10.0.0.0/8", None, gateway)], Some((1 << 24) - 3)),
        // None that it can set up, and none that breaks the arithmetic.
        (vec![pool("10.0.0.0/31", None, gateway)], Some(0)),
        (vec![pool("10.0.0.1/32", None, gateway)], Some(0)),
        (vec![pool("0.0.0.0/0", None, None)], Some((1 << 32) - 2)),
        // Not known.
        (vec![], None),
        (vec![pool("fd00::/64", None, Some("fd00::1"))], None),
        (vec![pool("10.0.0.0/29", None, gateway), pool("fd00::/64", None, Some("fd00::1"))], None),
    ] {
        assert_eq!(capacity(&pools), expected, "{pools:?}");
    }
}

/// What becomes of services on `app`, with such a subnet, beside these proxies.
fn fold(subnet: &str, proxies: Proxies, services: Vec<Builder>) -> Index {
    let mut lookups = Lookups::default();
    lookups.networks.learn("app-id".into(), Some(app(subnet)));
    lookups.networks.learn("other-id".into(), Some(overlay("other")));
    let mut index = Index::new(of_main(proxies));
    let listing = Listing::whole(services.into_iter().map(Builder::build).collect(), &index);
    let tasks = listing
        .in_task_mode()
        .map(|(id, read)| {
            let count = read.running.map_or(0, |count| count.running);
            // Two on each node.
            let on_a_node =
                |slot| swarm::Task { node: format!("node-{}", slot / 2).as_str().into(), ..task(read, slot) };
            (id.clone(), Some((0..count).map(on_a_node).collect()))
        })
        .collect();
    index.fold(listing, &tasks, &lookups, Instant::now());
    index
}

/// `taken of total`, nearly full or not, and what the proxies lack if they do.
fn told(index: &Index) -> String {
    let Some(addresses) = index.addresses().get(&NetworkId::new("app-id")) else { return "not known".into() };
    let nearly_full = if addresses.nearly_full { ", nearly full" } else { "" };
    let shortage = match index.desired().networks[&NetworkId::new("app-id")].no_room_for.get(&main_cluster()) {
        Some(shortage) => format!(", no room for {} on {}", shortage.needed, shortage.subnets.join(" ")),
        None => String::new(),
    };
    format!("{} of {}{nearly_full}{shortage}", addresses.taken, addresses.total)
}

fn dnsrr(service: &mut swarm::Service) {
    service.endpoint.mode = swarm::EndpointMode::Dnsrr;
    service.endpoint.vips.clear();
}

fn proxy() -> Builder {
    service("proxy").scale(2, 2)
}

fn off_app(service: &mut swarm::Service) {
    service.networks.clear();
    service.endpoint.vips.clear();
}

#[test]
fn what_is_taken_is_counted_and_what_the_proxies_need_is_compared_with_the_rest() {
    let web = || service("web").vip();
    // Two proxies that join need two addresses, one more during an update, a virtual one, and one for a node.
    for (what, subnet, services, expected) in [
        ("roomy", "10.0.1.0/24", vec![web().scale(4, 4)], "6 of 253"),
        (
            "measured: full with three tasks",
            "10.0.1.0/29",
            vec![web().scale(3, 3)],
            "5 of 5, nearly full, no room for 5 on 10.0.1.0/29",
        ),
        (
            "measured: with four where there is no VIP",
            "10.0.1.0/29",
            vec![service("web").task().scale(4, 4).with(dnsrr)],
            "5 of 5, nearly full, no room for 5 on 10.0.1.0/29",
        ),
        (
            "too small for the proxies alone",
            "10.0.1.0/30",
            vec![web().scale(1, 0)],
            "1 of 1, nearly full, no room for 5 on 10.0.1.0/30",
        ),
        ("the last that fits", "10.0.1.0/28", vec![web().scale(7, 7)], "9 of 13"),
        ("one too many", "10.0.1.0/28", vec![web().scale(8, 8)], "10 of 13, no room for 5 on 10.0.1.0/28"),
        (
            "tasks that should run count",
            "10.0.1.0/28",
            vec![web().scale(8, 1)],
            "10 of 13, no room for 5 on 10.0.1.0/28",
        ),
        (
            "and so do those that should not, and still run",
            "10.0.1.0/28",
            vec![web().scale(1, 8)],
            "10 of 13, no room for 5 on 10.0.1.0/28",
        ),
        (
            "without a count the wish counts",
            "10.0.1.0/28",
            vec![web().scale(8, 8).with(|s| s.running = None)],
            "9 of 13, no room for 5 on 10.0.1.0/28",
        ),
        (
            "more is wanted than there is",
            "10.0.1.0/28",
            vec![web().scale(50, 11)],
            "13 of 13, nearly full, no room for 5 on 10.0.1.0/28",
        ),
        (
            "those who do not ask count, too",
            "10.0.1.0/28",
            vec![web().scale(1, 1), service("db").global(6, 6)],
            "10 of 13, no room for 5 on 10.0.1.0/28",
        ),
        (
            "unless they are elsewhere",
            "10.0.1.0/28",
            vec![web().scale(1, 1), service("db").global(6, 6).with(off_app)],
            "3 of 13",
        ),
        (
            "a VIP on a network that was left is about to go",
            "10.0.1.0/28",
            vec![web().scale(7, 7), service("db").with(|s| s.networks.clear())],
            "9 of 13",
        ),
        (
            "an old spec has the name",
            "10.0.1.0/28",
            vec![web().scale(1, 1), service("db").scale(7, 7).with(|s| s.networks = vec!["app".into()])],
            "10 of 13, no room for 5 on 10.0.1.0/28",
        ),
        (
            "nodes of listed tasks",
            "10.0.1.0/28",
            vec![service("web").task().scale(6, 6)],
            "10 of 13, no room for 5 on 10.0.1.0/28",
        ),
        (
            "nobody asks for these proxies",
            "10.0.1.0/28",
            vec![web().scale(8, 8).labels(&[("service_cluster", "east")])],
            "10 of 13",
        ),
        (
            "nobody asks for this network",
            "10.0.1.0/28",
            vec![web().scale(8, 8).labels(&[("network", "other")]).with(|s| s.networks.push("other-id".into()))],
            "10 of 13",
        ),
        (
            "somebody may",
            "10.0.1.0/28",
            vec![web().scale(8, 8).labels(&[("network", "app")]).with(|s| s.networks.push("other-id".into()))],
            "10 of 13, no room for 5 on 10.0.1.0/28",
        ),
        (
            "it cannot be chosen",
            "10.0.1.0/28",
            vec![web().scale(8, 8).with(|s| s.networks.push("other-id".into()))],
            "10 of 13",
        ),
        (
            "they are on it: it stays, however full",
            "10.0.1.0/28",
            vec![web().scale(50, 8), proxy()],
            "13 of 13, nearly full",
        ),
        ("on it: nine of ten", "10.0.1.0/28", vec![web().scale(7, 7), proxy()], "12 of 13, nearly full"),
        ("on it: not quite", "10.0.1.0/28", vec![web().scale(6, 6), proxy()], "11 of 13"),
        (
            "they exist and are not on it; more of them than configured",
            "10.0.1.0/28",
            vec![web().scale(7, 7), proxy().scale(3, 3).with(off_app)],
            "9 of 13, no room for 6 on 10.0.1.0/28",
        ),
    ] {
        assert_eq!(told(&fold(subnet, mesh(), services)), expected, "{what}");
    }
}

#[test]
fn proxies_with_one_on_each_node_need_two_addresses_a_node() {
    let web = || service("web").vip();
    let three = || service("proxy").global(3, 3).with(off_app);
    for (what, services, expected) in [
        ("before there are any, one is counted", vec![web().scale(9, 9)], "11 of 13"),
        ("and it does not fit", vec![web().scale(11, 11)], "13 of 13, nearly full, no room for 2 on 10.0.1.0/28"),
        ("three", vec![web().scale(6, 6), three()], "8 of 13"),
        ("one too many", vec![web().scale(7, 7), three()], "9 of 13, no room for 6 on 10.0.1.0/28"),
        // Whether these nodes are among those of the proxies or not, they have or need their address once.
        ("nodes that both are on", vec![service("web").task().scale(6, 6), three()], "10 of 13"),
        (
            "more nodes than theirs",
            vec![service("web").task().scale(8, 8).with(dnsrr), three()],
            "12 of 13, nearly full, no room for 6 on 10.0.1.0/28",
        ),
    ] {
        assert_eq!(told(&fold("10.0.1.0/28", host(), services)), expected, "{what}");
    }
}

#[test]
fn addresses_that_are_not_known_are_never_full() {
    for pools in [vec![], vec![pool("10.0.1.0/29", None, None), pool("fd00::/64", None, None)]] {
        let mut lookups = Lookups::default();
        lookups.networks.learn("app-id".into(), Some(swarm::Network { pools, ..overlay("app") }));
        let mut index = Index::new(of_main(mesh()));
        let services = vec![service("web").vip().scale(500, 500).build()];
        let listing = Listing::whole(services, &index);
        index.fold(listing, &BTreeMap::new(), &lookups, Instant::now());
        assert_eq!(told(&index), "not known");
        assert!(index.desired().networks[&NetworkId::new("app-id")].no_room_for.is_empty());
    }
}

#[test]
fn a_large_cluster_starts_as_many_at_once_as_it_does() {
    let proxies = Proxies { replicas: Some(100), surge: 25, ..mesh() };
    let crowd = || vec![service("web").vip().scale(100, 100), service("proxy").scale(100, 100)];
    assert_eq!(told(&fold("10.0.1.0/24", proxies.clone(), crowd())), "203 of 253");
    let crowd = || vec![service("web").vip().scale(127, 127), service("proxy").scale(100, 100)];
    // 23 are free, and an update takes 25.
    assert_eq!(told(&fold("10.0.1.0/24", proxies, crowd())), "230 of 253, nearly full");
}

#[test]
fn a_proxy_that_is_missing_for_a_while_still_counts() {
    let start = Instant::now();
    let mut count = None;
    for (seconds, seen, expected) in [
        (0, 3, 3),
        (10, 2, 3),
        (309, 2, 3),
        (310, 2, 2),
        (311, 3, 3),
        // Between two of them all are there.
        (320, 2, 3),
        (330, 3, 3),
        (340, 2, 3),
        (629, 2, 3),
        (640, 1, 1),
        (641, 4, 4),
    ] {
        let now = recount(count, seen, start + Duration::from_secs(seconds));
        assert_eq!(now.nodes, expected, "after {seconds} s");
        count = Some(now);
    }
}

#[test]
fn the_verdict_belongs_to_the_network_and_to_the_clusters_that_are_asked() {
    let east = ClusterName::parse("east").unwrap();
    let proxies = BTreeMap::from([
        (main_cluster(), mesh()),
        (east.clone(), Proxies { service: "east-proxy".into(), service_cluster: "east".into(), ..host() }),
    ]);
    let mut lookups = Lookups::default();
    lookups.networks.learn("app-id".into(), Some(app("10.0.1.0/28")));
    let mut index = Index::new(proxies);
    let web = |name: &str, cluster| service(name).vip().scale(4, 4).labels(&[("service_cluster", cluster)]).build();
    let mut no_room_for = |services: Vec<swarm::Service>| -> Desired {
        let listing = Listing::whole(services, &index);
        index.fold(listing, &BTreeMap::new(), &lookups, Instant::now());
        index.desired().clone()
    };
    let both = no_room_for(vec![web("one", ""), web("two", "east")]);
    let network = Arc::clone(&both.networks[&NetworkId::new("app-id")]);
    // Ten are left of 13 for one that needs five, and one that needs two.
    assert_eq!(network.no_room_for.keys().collect::<Vec<_>>(), [&main_cluster()]);
    let again = no_room_for(vec![web("one", ""), web("two", "east")]);
    assert!(Arc::ptr_eq(&network, &again.networks[&NetworkId::new("app-id")]));
    let alone = no_room_for(vec![web("two", "east")]);
    assert!(alone.networks[&NetworkId::new("app-id")].no_room_for.is_empty());
}
