//! Laws of the pure parts, over cases that nobody thought of.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{ClusterName, Desired, Digest, NetworkId, ServiceId, labels};
use proptest::prelude::*;
use swarm::{Mode, RunningCount, Service, UpdateState, UpdateStatus};
use tokio::time::Instant;

use crate::addresses::Proxies;
use crate::facts::{Facts, TaskRead, Unread, secret_names, task_mode};
use crate::fixtures::{GOOD, ingress, overlay, pool, secret, service, task};
use crate::index::{Candidate, Folded, Index, Labels, Listing, TaskReads};
use crate::lookups::Lookups;
use crate::request;
use crate::significance::Significance;

/// Complete answers about what the services of a listing refer to.
fn lookups(listing: &Listing, secrets: &[swarm::Secret]) -> Lookups {
    let mut lookups = Lookups::default();
    let app = swarm::Network { pools: vec![pool("10.0.1.0/28", None, Some("10.0.1.1"))], ..overlay("app") };
    for network in [app, overlay("other"), ingress()] {
        lookups.networks.learn(network.id.as_str().to_owned(), Some(network));
    }
    let wanted = listing.candidates.values().flat_map(secret_names);
    lookups.secrets.learn(&wanted.collect(), secrets.to_vec());
    lookups
}

/// Two proxies on the routing mesh: to join a network takes five addresses, of 13 that `app` has.
fn proxies() -> BTreeMap<ClusterName, Proxies> {
    let proxies =
        Proxies { service: "proxy".into(), service_cluster: String::new(), replicas: Some(2), surge: 1, vip: true };
    BTreeMap::from([(ClusterName::parse("main").unwrap(), proxies)])
}

/// A complete reading of a cluster: each service in task mode has as many tasks as it counts.
fn fold(index: &mut Index, cluster: &BTreeMap<ServiceId, Service>) -> Folded {
    fold_with(index, cluster, &[])
}

fn fold_with(index: &mut Index, cluster: &BTreeMap<ServiceId, Service>, secrets: &[swarm::Secret]) -> Folded {
    let listing = Listing::whole(cluster.values().cloned().collect(), index);
    let (tasks, lookups) = (tasks(&listing), lookups(&listing, secrets));
    index.fold(listing, &tasks, &lookups, Instant::now())
}

/// As many tasks of each service in task mode as it counts.
fn tasks(listing: &Listing) -> TaskReads {
    let of = |(id, read): (&ServiceId, &Service)| {
        let running = read.running.map_or(0, |count| count.running);
        (id.clone(), Some((1..=running).map(|slot| task(read, slot)).collect()))
    };
    listing.in_task_mode().map(of).collect()
}

fn cluster(services: impl IntoIterator<Item = Service>) -> BTreeMap<ServiceId, Service> {
    services.into_iter().map(|service| (service.id.clone(), service)).collect()
}

/// A change of a service that must not reach routing in VIP mode.
#[derive(Clone, Debug)]
enum Irrelevant {
    Scale(u64),
    Running(u64),
    Template(u8),
    Label(String, String),
    RemoveLabel(String),
    ContainerLabel(String),
    Update(bool),
    PublishedPort(u8),
    Nothing,
}

fn irrelevant() -> impl Strategy<Value = Irrelevant> {
    let name = "(team|com\\.example\\.lb\\.hosts|hosts|com\\.docker\\.l|[a-z]{1,3})";
    prop_oneof![
        (1..9u64).prop_map(Irrelevant::Scale),
        (0..9u64).prop_map(Irrelevant::Running),
        any::<u8>().prop_map(Irrelevant::Template),
        (name, ".*").prop_map(|(name, value)| Irrelevant::Label(name, value)),
        name.prop_map(Irrelevant::RemoveLabel),
        "(com\\.docker\\.lb\\.)?(hosts|port)".prop_map(Irrelevant::ContainerLabel),
        any::<bool>().prop_map(Irrelevant::Update),
        any::<u8>().prop_map(Irrelevant::PublishedPort),
        Just(Irrelevant::Nothing),
    ]
}

fn apply(service: &mut Service, change: Irrelevant) {
    service.version += 1;
    match change {
        Irrelevant::Scale(replicas) => {
            service.mode = Mode::Replicated(replicas);
            service.running = service.running.map(|count| RunningCount { desired: replicas, ..count });
        }
        Irrelevant::Running(running) => {
            service.running = service.running.map(|count| RunningCount { running, ..count });
        }
        Irrelevant::Template(image) => service.task_template = Digest::of(&[image]),
        Irrelevant::Label(name, value) => {
            service.labels.insert(name, value);
        }
        Irrelevant::RemoveLabel(name) => {
            service.labels.remove(&name);
        }
        Irrelevant::ContainerLabel(name) => {
            service.container_labels.insert(name, "$".into());
        }
        Irrelevant::Update(done) => {
            let state = if done { UpdateState::Completed } else { UpdateState::Updating };
            service.update = Some(UpdateStatus { state, message: String::new() });
        }
        Irrelevant::PublishedPort(n) => {
            let vip = format!("10.255.0.{n}").parse().unwrap();
            service.endpoint.vips.insert("ingress-id".into(), vip);
        }
        Irrelevant::Nothing => service.version -= 1,
    }
}

/// A service in any state that a reading may find it in.
fn any_service() -> impl Strategy<Value = Service> {
    let label = prop_oneof![
        Just(("hosts", "a.local")),
        Just(("hosts", "b.local,$")),
        Just(("port", "80")),
        Just(("port", "x")),
        Just(("backend_mode", "vip")),
        Just(("backend_mode", "task")),
        Just(("default_backend", "true")),
        Just(("default_backend", "false")),
        Just(("ssl_cert", "a")),
        Just(("basic_auth", "a")),
        Just(("basic_auth", "b")),
        Just(("max_fails", "3")),
    ];
    let labels = proptest::collection::vec(label, 0..5);
    (0..4u8, labels, 0..4u64, 0..4u64, any::<bool>()).prop_map(|(number, labels, replicas, running, second_network)| {
        service(&format!("service{number}"))
            .labels(&labels)
            .scale(replicas, running)
            .with(|service| {
                if second_network {
                    service.networks.push("other-id".into());
                }
            })
            .build()
    })
}

/// Routing labels with values good and bad, and labels of others.
fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof![
        8 => proptest::sample::select(labels::ROUTING.to_vec()).prop_map(str::to_owned),
        1 => "com\\.docker\\.lb\\.[a-z_]{0,20}",
        1 => ".*",
    ];
    let value = prop_oneof![
        8 => proptest::sample::select(vec![
            "", " ", "true", "false", "0", "1", "30", "10s", "1m30s", "500ms", "32m", "vip", "task", "none", "required",
            "app.cert", "session", "/", "/app", "/ws,/foo", "10.0.0.0/8, fd00::/8", "10r/s,burst=5", "60; preload",
            "a.local", "a.local,b.local", "http://a.local,https://b.local;",
        ]).prop_map(str::to_owned),
        1 => ".*",
        1 => "[a-z0-9/;,.\"'{}$#\\\\\n ]{0,20}",
    ];
    let any = proptest::collection::btree_map(name, value, 0..4);
    let good = proptest::sample::subsequence(GOOD.to_vec(), 0..=6).prop_map(|good| {
        let label = |name: &str| format!("{}{name}", labels::PREFIX);
        let labels = good.into_iter().map(|(name, value, with)| (name, value, with.to_vec()));
        let labels = labels.flat_map(|(name, value, with)| with.into_iter().chain([(name, value)]));
        labels.map(|(name, value)| (label(name), value.to_owned())).collect()
    });
    prop_oneof![
        any.clone(),
        good.clone(),
        (good, any).prop_map(|(mut good, any): (BTreeMap<String, String>, _)| {
            good.extend(any);
            good
        }),
    ]
}

/// Some of three secrets, each in one of two incarnations.
fn any_secrets() -> impl Strategy<Value = Vec<swarm::Secret>> {
    let one = |name: &'static str| proptest::option::of((0..2u64).prop_map(move |number| secret(name, number)));
    (one("a"), one("b"), one("c")).prop_map(|(a, b, c)| [a, b, c].into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The short-circuit law.
    #[test]
    fn a_published_vip_service_is_left_alone(changes in proptest::collection::vec(irrelevant(), 1..20)) {
        let options = [("ssl_cert", "a"), ("basic_auth", "b"), ("weight", "20"), ("timeout", "5s")];
        let mut vip = service("web").vip().labels(&options).scale(2, 1).build();
        let neighbour = service("neighbour").task().build();
        let secrets = [secret("a", 0), secret("c", 0)];
        // The proxies are on its network, which is small: it is full and has room again meanwhile.
        let proxy = service("proxy").scale(2, 2).build();
        let mut index = Index::new(proxies());
        fold_with(&mut index, &cluster([vip.clone(), neighbour.clone(), proxy.clone()]), &secrets);
        let before = index.desired().clone();
        for change in changes {
            let nothing = matches!(change, Irrelevant::Nothing);
            apply(&mut vip, change);
            // Secrets that nobody names come and go.
            let count = usize::from(!nothing) + 1;
            let now = cluster([vip.clone(), neighbour.clone(), proxy.clone()]);
            let folded = fold_with(&mut index, &now, &secrets[..count]);
            prop_assert!(!folded.reaches_routing());
            let spared = folded.changes.iter().filter(|c| matches!(c.significance, Significance::Spared(_))).count();
            prop_assert_eq!(spared, usize::from(!nothing));
            prop_assert!(index.desired().services.ptr_eq(&before.services));
            prop_assert!(index.desired().networks.ptr_eq(&before.networks));
            prop_assert!(index.desired().secrets.ptr_eq(&before.secrets));
        }
    }

    /// How full a network is reaches routing exactly when proxies that are not on it can join no more, or can again.
    #[test]
    fn only_the_edge_of_a_network_reaches_routing(scales in proptest::collection::vec((1..20u64, 1..20u64), 1..20)) {
        let id = NetworkId::new("app-id");
        let vip = |(replicas, running)| service("web").vip().scale(replicas, running).build();
        let mut index = Index::new(proxies());
        fold(&mut index, &cluster([vip((1, 1))]));
        let mut room = true;
        for (replicas, running) in scales {
            let folded = fold(&mut index, &cluster([vip((replicas, running))]));
            // The virtual address, the tasks, and what the proxies need: their node is counted there.
            let fits = 1 + replicas.max(running) + 5 <= 13;
            prop_assert_eq!(index.desired().networks[&id].no_room_for.is_empty(), fits);
            prop_assert_eq!(folded.reaches_routing(), fits != room);
            prop_assert_eq!(index.addresses()[&id].taken, (2 + replicas.max(running)).min(13));
            // And what was published before does not matter.
            let mut fresh = Index::new(proxies());
            fold(&mut fresh, &cluster([vip((replicas, running))]));
            prop_assert_eq!(fresh.desired(), index.desired());
            room = fits;
        }
    }

    #[test]
    fn the_order_in_which_services_change_is_irrelevant(
        changes in proptest::collection::vec(any_service(), 0..16),
        removed in proptest::collection::vec(0..4u8, 0..3),
    ) {
        let desired = |changes: Vec<Service>, removed: &[u8]| -> Desired {
            let mut index = Index::new(proxies());
            let mut cluster = BTreeMap::new();
            for service in changes {
                cluster.insert(service.id.clone(), service);
                fold(&mut index, &cluster);
            }
            for number in removed {
                cluster.remove(&ServiceId::new(format!("service{number}-id")));
                fold(&mut index, &cluster);
            }
            index.desired().clone()
        };
        // The order within one service is its history; among services it is chance.
        let mut one_by_one = changes.clone();
        one_by_one.sort_by(|one, other| one.id.cmp(&other.id));
        let mut back = removed.clone();
        back.reverse();
        prop_assert_eq!(desired(changes, &removed), desired(one_by_one, &back));
    }

    /// Every change of `Desired` is judged to reach routing, and nothing else is.
    #[test]
    fn desired_changes_exactly_if_a_change_reaches_routing(
        before in proptest::collection::vec(any_service(), 0..5),
        after in proptest::collection::vec(any_service(), 0..5),
        secrets_before in any_secrets(),
        secrets_after in any_secrets(),
    ) {
        let mut index = Index::new(proxies());
        fold_with(&mut index, &cluster(before), &secrets_before);
        let old = index.desired().clone();
        let folded = fold_with(&mut index, &cluster(after.clone()), &secrets_after);
        prop_assert_eq!(folded.reaches_routing(), old != *index.desired());
        let mut fresh = Index::new(proxies());
        fold_with(&mut fresh, &cluster(after), &secrets_after);
        prop_assert_eq!(&fresh.desired().secrets, &index.desired().secrets);
        let ids = |desired: &Desired| desired.services.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(ids(fresh.desired()), ids(index.desired()));
        prop_assert_eq!(&fresh.desired().networks, &index.desired().networks);
    }

    #[test]
    fn secrets_reach_exactly_the_services_that_name_them(
        services in proptest::collection::vec(any_service(), 0..5),
        before in any_secrets(),
        after in any_secrets(),
    ) {
        let cluster = cluster(services);
        let mut index = Index::default();
        fold_with(&mut index, &cluster, &before);
        let folded = fold_with(&mut index, &cluster, &after);
        let named = |service: &Service| {
            Some(secret_names(&Candidate::new(service.clone(), request::read(service)?)))
        };
        let of_a_name = |secrets: &[swarm::Secret], name: &str| secrets.iter().find(|one| one.name == name).cloned();
        let moved = |name: &model::values::SecretName| of_a_name(&before, name.as_str()) != of_a_name(&after, name.as_str());
        let concerned = cluster.values().filter(|service| named(service).is_some_and(|names| names.iter().any(moved)));
        let concerned: Vec<&ServiceId> = concerned.map(|service| &service.id).collect();
        prop_assert_eq!(folded.changes.iter().map(|change| &change.id).collect::<Vec<_>>(), concerned);
        let reason = Significance::Routing(crate::Routing::SecretChanged);
        prop_assert!(folded.changes.iter().all(|change| change.significance == reason));
    }

    /// Labels that are taken as read before say what they would say if they were read again.
    #[test]
    fn a_second_look_finds_what_a_first_one_would(
        services in proptest::collection::vec(any_service(), 0..5),
        secrets_before in any_secrets(),
        secrets_after in any_secrets(),
        read in 0..4u8,
        more in 0..2u64,
    ) {
        let cluster = cluster(services);
        let mut index = Index::default();
        let listing = |index: &Index| Listing::whole(cluster.values().cloned().collect(), index);
        let mut lookups = lookups(&listing(&index), &secrets_before);
        let first = listing(&index);
        let tasks = tasks(&first);
        index.fold(first, &tasks, &lookups, Instant::now());
        let listing = listing(&index);
        let named = listing.candidates.values().flat_map(secret_names).collect();
        lookups.secrets.learn(&named, secrets_after);
        for (id, candidate) in &listing.candidates {
            let running = candidate.read.running.map_or(0, |count| count.running);
            let tasks: Vec<_> = (1..=running + more).rev().map(|slot| task(&candidate.read, slot)).collect();
            let tasks = match (task_mode(candidate.asked()), read) {
                (None, _) | (_, 0) => TaskRead::NotAsked,
                (_, 1) => TaskRead::Failed,
                _ => TaskRead::Listed(&tasks),
            };
            let known = index.get(id).expect("it was folded");
            let now = Instant::now();
            let reading = request::read(&candidate.read).expect("a candidate");
            let anew = Candidate::new(candidate.read.clone(), reading);
            let [before, anew] = [candidate.clone(), anew].map(|candidate| {
                let facts = Facts::new(candidate, tasks, &lookups, Some(known), now)?;
                let same = Arc::ptr_eq(&facts.service, &known.service);
                Ok::<_, Unread>((facts.service, facts.networks, facts.secrets, same))
            });
            prop_assert!(matches!(candidate.labels, Labels::AsBefore(_)));
            prop_assert_eq!(before, anew);
        }
    }

    #[test]
    fn the_labels_of_one_service_never_change_another(written in any_labels()) {
        let good = service("good").task().build();
        let mut bad = service("bad").vip().build();
        let mut index = Index::default();
        fold(&mut index, &cluster([good.clone(), bad.clone()]));
        let before = Arc::clone(&index.desired().services[&good.id]);
        bad.labels.extend(written);
        let folded = fold(&mut index, &cluster([good.clone(), bad.clone()]));
        prop_assert!(Arc::ptr_eq(&before, &index.desired().services[&good.id]));
        prop_assert!(folded.changes.iter().all(|change| change.id == bad.id));
    }

    #[test]
    fn labels_without_the_prefix_do_not_matter(
        routing in any_labels(),
        other in proptest::collection::btree_map("[a-z.]{0,12}", ".*", 0..5),
    ) {
        let mut service = service("web").build();
        service.labels = routing;
        let before = request::read(&service);
        service.labels.extend(other.into_iter().filter(|(name, _)| !name.starts_with(labels::PREFIX)));
        prop_assert_eq!(&before, &request::read(&service));
    }

    /// What is accepted is in values that fit into a proxy file, so that a manifest gives back the same.
    #[test]
    fn what_is_accepted_is_read_back_from_a_manifest(written in any_labels(), vip in any::<bool>()) {
        let base = if vip { service("web").vip() } else { service("web").task() };
        let mut service = base.build();
        service.labels.extend(written);
        let reading = request::read(&service).expect("a candidate, as it says hosts");
        if let Ok(request) = &reading.asked {
            prop_assert!(request.hosts.iter().all(|host| model::Host::parse(host.as_str()).as_ref() == Ok(host)));
            let text = serde_json::to_string(&request.options).unwrap();
            prop_assert_eq!(&serde_json::from_str::<model::Options>(&text).unwrap(), &request.options);
            let server = &request.options.server;
            let of_tasks = request.options.route.sticky.is_some() || server.max_fails.or(server.fail_timeout.map(|_| 0)).is_some();
            prop_assert!(task_mode(&reading.asked).is_some() || !of_tasks);
            let sources = request.options.host.redirects.keys();
            prop_assert!(sources.into_iter().all(|source| request.hosts.contains(source)));
        } else {
            prop_assert!(reading.asked.as_ref().is_err_and(|problems| !problems.is_empty()));
        }
        // Each complaint about a label is about one that is there.
        let complaints = reading.asked.err().into_iter().flatten().chain(reading.warnings);
        for label in complaints.filter_map(|problem| problem.label) {
            prop_assert!(service.labels.contains_key(&label), "{}", label);
        }
    }
}
