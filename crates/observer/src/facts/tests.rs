use super::*;
use crate::fixtures::{host_network, ingress, overlay, service, task};
use crate::request;
use std::net::IpAddr;

fn lookups() -> Lookups {
    let mut lookups = Lookups::default();
    for network in [overlay("app"), overlay("other"), ingress(), host_network()] {
        lookups.networks.learn(network.id.as_str().to_owned(), Some(network));
    }
    lookups
}

fn facts_at(
    read: swarm::Service,
    tasks: TaskRead<'_>,
    previous: Option<&Facts>,
    now: Instant,
) -> Result<Facts, Unread> {
    let reading = request::read(&read).expect("a candidate");
    Facts::new(Candidate::new(read, reading), tasks, &lookups(), previous, now)
}

fn facts(read: swarm::Service, tasks: TaskRead<'_>, previous: Option<&Facts>) -> Result<Facts, Unread> {
    facts_at(read, tasks, previous, Instant::now())
}

fn has_run(facts: &Facts) -> bool {
    matches!(facts.service.backends, Backends::Vip { has_run: true, .. })
}

#[test]
fn a_vip_service_has_its_addresses_on_networks_that_a_proxy_can_join() {
    let read = service("web")
        .vip()
        .with(|service| {
            service.endpoint.vips.insert("ingress-id".into(), "10.255.0.2".parse().unwrap());
            service.networks.push("host-id".into());
            service.networks.push("other-id".into());
        })
        .build();
    let facts = facts(read, TaskRead::NotAsked, None).unwrap();
    assert_eq!(facts.service.networks, BTreeSet::from(["app-id".into(), "other-id".into()]));
    let addresses = BTreeMap::from([("app-id".into(), "10.0.1.2".parse().unwrap())]);
    assert_eq!(facts.service.backends, Backends::Vip { addresses, has_run: true });
}

#[test]
fn having_run_lasts_until_the_service_is_scaled_to_zero() {
    let step = |(replicas, running), previous: Option<&Facts>| {
        facts(service("web").vip().scale(replicas, running).build(), TaskRead::NotAsked, previous).unwrap()
    };
    let new = step((1, 0), None);
    assert!(!has_run(&new));
    let running = step((1, 1), Some(&new));
    assert!(has_run(&running));
    let failed = step((3, 0), Some(&running));
    assert!(has_run(&failed) && Arc::ptr_eq(&failed.service, &running.service));
    // The count lags: a task still runs.
    let zero = step((0, 1), Some(&failed));
    assert!(!has_run(&zero) && zero.service.scale == Scale::Zero);
    let back = step((1, 0), Some(&zero));
    assert!(!has_run(&back) && back.service.scale == Scale::AtLeastOne);
}

#[test]
fn a_global_service_is_at_zero_once_it_has_wanted_nothing_for_a_while() {
    let start = Instant::now();
    let step = |(desired, running), seconds, previous: Option<&Facts>| {
        let read = service("web").vip().global(desired, running).build();
        facts_at(read, TaskRead::NotAsked, previous, start + Duration::from_secs(seconds)).unwrap()
    };
    let running = step((1, 1), 0, None);
    let between_two_tasks = step((0, 0), 10, Some(&running));
    assert!(Arc::ptr_eq(&between_two_tasks.service, &running.service));
    let again = step((1, 1), 20, Some(&between_two_tasks));
    let empty = step((0, 0), 30, Some(&again));
    let still = step((0, 0), 59, Some(&empty));
    assert_eq!(still.service.scale, Scale::AtLeastOne);
    let zero = step((0, 0), 60, Some(&still));
    assert_eq!(zero.service.scale, Scale::Zero);
    assert!(!has_run(&zero));
    // Right after a start nobody knows for how long it has been so.
    assert_eq!(step((0, 0), 0, None).service.scale, Scale::AtLeastOne);
}

#[test]
fn a_missing_count_changes_nothing() {
    let running = facts(service("web").vip().global(1, 1).build(), TaskRead::NotAsked, None).unwrap();
    let uncounted = service("web").vip().global(1, 1).with(|service| service.running = None);
    let after = facts(uncounted.build(), TaskRead::NotAsked, Some(&running)).unwrap();
    assert!(Arc::ptr_eq(&after.service, &running.service));
}

#[test]
fn tasks_that_run_and_should_are_endpoints() {
    let read = service("web").task().scale(5, 2).build();
    let mut listed: Vec<swarm::Task> = (1..=5).rev().map(|slot| task(&read, slot)).collect();
    listed[0].state = TaskState::Starting;
    listed[1].desired = DesiredState::Gone;
    listed[2].desired = DesiredState::Ready;
    let facts = facts(read, TaskRead::Listed(&listed), None).unwrap();
    let Backends::Tasks { tasks, stale: false } = &facts.service.backends else { panic!("{facts:?}") };
    let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["web-1", "web-2"]);
    assert_eq!(tasks[0].addresses.get(&NetworkId::new("app-id")).unwrap().to_string(), "10.0.1.11");
}

#[test]
fn a_failed_list_keeps_the_last_tasks_and_a_good_empty_one_does_not() {
    let read = service("web").task().build();
    let listed = [task(&read, 1)];
    let good = facts(read.clone(), TaskRead::Listed(&listed), None).unwrap();
    let failed = facts(read.clone(), TaskRead::Failed, Some(&good)).unwrap();
    let Backends::Tasks { tasks, stale: true } = &failed.service.backends else { panic!("{failed:?}") };
    assert_eq!(tasks.len(), 1);
    assert_eq!(failed.service.networks, good.service.networks);
    // Not asking does not make them fresh.
    let unasked = facts(read.clone(), TaskRead::NotAsked, Some(&failed)).unwrap();
    assert!(Arc::ptr_eq(&unasked.service, &failed.service));
    let empty = facts(read, TaskRead::Listed(&[]), Some(&failed)).unwrap();
    assert_eq!(empty.service.backends, Backends::Tasks { tasks: Vec::new(), stale: false });
}

#[test]
fn a_service_that_turns_to_task_mode_waits_for_its_tasks() {
    let vip = facts(service("web").vip().build(), TaskRead::NotAsked, None).unwrap();
    let turned = facts(service("web").task().build(), TaskRead::Failed, Some(&vip));
    assert_eq!(turned.unwrap_err(), Unread::Tasks);
    let new = facts(service("web").task().build(), TaskRead::Failed, None).unwrap();
    assert_eq!(new.service.backends, Backends::Tasks { tasks: Vec::new(), stale: true });
}

#[test]
fn a_service_is_reached_at_its_nodes_if_they_publish_its_port_and_no_network_is_named() {
    let at_nodes = |read: swarm::Service| {
        let reading = request::read(&read).unwrap();
        port_at_nodes(&read, &reading.asked).map(NonZeroU16::get)
    };
    let other = |service: &mut swarm::Service| service.endpoint.host_ports = [81].into();
    for (what, service, expected) in [
        ("in task mode", service("web").task().at_nodes(), Some(80)),
        ("with a network named", service("web").task().at_nodes().labels(&[("network", "app")]), None),
        ("in VIP mode", service("web").vip().at_nodes(), None),
        ("another port", service("web").task().with(other), None),
        ("no port", service("web").task(), None),
        ("refused", service("web").task().at_nodes().labels(&[("port", "x")]), None),
    ] {
        assert_eq!(at_nodes(service.build()), expected, "{what}");
    }
}

#[test]
fn tasks_are_known_at_their_nodes_and_their_networks_are_nobodys_business() {
    let read = service("web").task().at_nodes().scale(3, 3).with(|s| s.networks.push("unknown".into())).build();
    let mut tasks: Vec<swarm::Task> = (1..=3).map(|slot| task(&read, slot)).collect();
    tasks[0].host_ports = [(80, 32768), (81, 32769)].into();
    tasks[1].node = "elsewhere".into();
    tasks[1].host_ports = [(80, 80)].into();
    let candidate = || Candidate::new(read.clone(), request::read(&read).unwrap());
    assert_eq!(network_keys(&candidate(), TaskRead::Listed(&tasks)), BTreeSet::new());
    let nodes = BTreeSet::from(["elsewhere".into(), "node".into()]);
    assert_eq!(node_ids(&candidate(), TaskRead::Listed(&tasks)), nodes);
    assert_eq!(node_ids(&candidate(), TaskRead::NotAsked), BTreeSet::new());
    let facts = |lookups: &Lookups, tasks, previous| Facts::new(candidate(), tasks, lookups, previous, Instant::now());
    let mut lookups = lookups();
    let unread = facts(&lookups, TaskRead::Listed(&tasks), None).unwrap();
    let reason = "the addresses of its nodes could not be listed".to_owned();
    assert_eq!(unread.service.backends, Backends::Unread { reason });
    let address: IpAddr = "172.20.0.4".parse().unwrap();
    lookups.nodes.learn(&nodes, vec![swarm::Node { id: "node".into(), address: Some(address) }]);
    let known = facts(&lookups, TaskRead::Listed(&tasks), None).unwrap();
    assert!(known.service.at_nodes && known.service.networks.is_empty() && known.networks.is_empty());
    let Backends::Tasks { tasks: found, stale: false } = &known.service.backends else { panic!("{known:?}") };
    let at = |address, port| Some(AtNode { address, port: NonZeroU16::new(port) });
    let expected = [at(Some(address), 32768), at(None, 80), at(Some(address), 0)];
    assert_eq!(found.iter().map(|task| task.at_node).collect::<Vec<_>>(), expected);
    // A list that fails leaves them as they were.
    let stale = facts(&lookups, TaskRead::Failed, Some(&known)).unwrap();
    assert_eq!(stale.service.backends, Backends::Tasks { tasks: found.clone(), stale: true });
}

#[test]
fn tasks_that_are_reached_in_another_way_by_now_must_be_listed_again() {
    let start = service("web").task().build();
    let listed = [task(&start, 1)];
    let before = facts(start, TaskRead::Listed(&listed), None).unwrap();
    let now = service("web").task().at_nodes().build();
    assert_eq!(facts(now, TaskRead::Failed, Some(&before)).unwrap_err(), Unread::Tasks);
}

#[test]
fn unread_secrets_leave_the_service_unread_unless_it_is_refused() {
    let mut read = service("web").vip().labels(&[("basic_auth", "users")]).build();
    let unread = facts(read.clone(), TaskRead::NotAsked, None).unwrap();
    let reason = "the secrets that it names could not be listed".to_owned();
    assert_eq!(unread.service.backends, Backends::Unread { reason });
    let before = facts(service("web").vip().build(), TaskRead::NotAsked, None).unwrap();
    assert_eq!(facts(read.clone(), TaskRead::NotAsked, Some(&before)).unwrap_err(), Unread::Secrets);
    read.labels.insert(labels::PORT.into(), "x".into());
    assert!(facts(read, TaskRead::NotAsked, None).unwrap().service.asked.is_err());
}

#[test]
fn an_unread_network_leaves_the_service_as_it_was_or_unread_unless_it_is_refused() {
    let mut read = service("web").vip().build();
    let before = facts(read.clone(), TaskRead::NotAsked, None).unwrap();
    read.networks.push("unknown".into());
    let error = facts(read.clone(), TaskRead::NotAsked, Some(&before)).unwrap_err();
    assert_eq!(error, Unread::Network("unknown".into(), None));
    let new = facts(read.clone(), TaskRead::NotAsked, None).unwrap();
    let reason = "its network unknown was not read".to_owned();
    assert_eq!(new.service.backends, Backends::Unread { reason });
    assert!(new.service.networks.is_empty(), "the other one would look like the only one");
    let still = facts(read.clone(), TaskRead::NotAsked, Some(&new)).unwrap();
    assert!(Arc::ptr_eq(&still.service, &new.service));
    read.labels.insert(labels::PORT.into(), "x".into());
    let refused = facts(read, TaskRead::NotAsked, None).unwrap();
    assert!(refused.service.asked.is_err() && refused.service.networks.is_empty());
}
