use std::fmt::Write as _;
use std::num::NonZeroU16;

use model::{
    AtNode, BackendMode, Backends, Code, Contribution, Digest, Fragment, Hold, Manifest, Network, Problem, Route,
    Scale, ServiceReport, Shortage, Timestamp, Verdict,
};

use super::*;
use crate::ClusterSettings;
use crate::check::check;
use crate::sample::{
    contribution, desired, main_cluster, manifest, nothing_published, request, settings, tasks_service, vip_service,
};

fn with(mut service: Service, edit: impl FnOnce(&mut Service)) -> Service {
    edit(&mut service);
    service
}

fn live(services: &[(&str, Contribution)], holds: Vec<Hold>) -> BTreeMap<ClusterName, Published> {
    let manifest = Arc::new(manifest(services));
    let published = Published::Live { manifest: Arc::clone(&manifest), last_good: manifest, holds };
    BTreeMap::from([(main_cluster(), published)])
}

/// A compile outcome in short lines: the groups of every cluster, then the verdicts.
fn shown(compiled: &Compiled) -> String {
    let mut text = String::new();
    for (cluster, spec) in &compiled.specs {
        let _ = writeln!(text, "{cluster} on {:?}", spec.networks);
        let servers = |services: &[ServiceId]| {
            services.iter().map(|id| format!("{id} {:?}", spec.endpoints[id])).collect::<Vec<_>>().join(", ")
        };
        for group in spec.groups() {
            for Route { path, services, .. } in &group.routes {
                let below = if path.is_root() { String::new() } else { format!(" {path}") };
                let _ = writeln!(text, "  {:?}{below} -> {}", group.hosts, servers(services));
            }
            if !group.passthrough.is_empty() {
                let _ = writeln!(text, "  {:?} passed through -> {}", group.hosts, servers(&group.passthrough));
            }
        }
        if let Some(group) = &spec.default_backend {
            let _ = writeln!(text, "  default -> {}", servers(&group.routes[0].services));
        }
    }
    for (id, about) in &compiled.report.services {
        let verdict = match &about.verdict {
            Verdict::Routed { reason } | Verdict::Waiting { reason } => format!(" ({reason})"),
            Verdict::Refused => String::new(),
            Verdict::Quarantined { reason, last_good_served } => format!(" ({reason}), last good: {last_good_served}"),
            Verdict::Elsewhere { service_cluster } => format!(" ({service_cluster})"),
        };
        let _ = writeln!(text, "{id}: {}{verdict}", about.verdict.as_str());
        for problem in &about.problems {
            let _ = writeln!(text, "  problem {}", problem.code);
        }
        for warning in &about.warnings {
            let _ = writeln!(text, "  warning {}", warning.code);
        }
    }
    text
}

fn check_main(services: Vec<Service>, published: &BTreeMap<ClusterName, Published>) -> String {
    let compiled = compile(&desired(services), published, &settings());
    for spec in compiled.specs.values() {
        assert_eq!(check(spec), Ok(()));
    }
    shown(&compiled)
}

#[test]
fn services_on_one_host_form_one_group_oldest_first() {
    let services = vec![
        with(tasks_service("v1", "demo.local,www.demo.local", "n1", &["10.0.0.3", "10.0.0.4"]), |s| {
            s.created_at = Timestamp(2)
        }),
        with(tasks_service("v2", "demo.local", "n1", &["10.0.0.5"]), |s| s.created_at = Timestamp(1)),
        with(vip_service("v3", "demo.local,*.demo.local", "n2", "10.1.0.9"), |s| s.created_at = Timestamp(1)),
        tasks_service("fallback", "", "n1", &["10.0.0.8"]),
        with(vip_service("both", "both.local", "n1", "10.0.0.7"), |s| request(s).default_backend = true),
    ];
    insta::assert_snapshot!(check_main(services, &nothing_published()), @r"
    main on {n1, n2}
      {*.demo.local} -> v3 {10.1.0.9:8080}
      {both.local} -> both {10.0.0.7:8080}
      {demo.local} -> v2 {10.0.0.5:8080}, v3 {10.1.0.9:8080}, v1 {10.0.0.3:8080, 10.0.0.4:8080}
      {www.demo.local} -> v1 {10.0.0.3:8080, 10.0.0.4:8080}
      default -> both {10.0.0.7:8080}, fallback {10.0.0.8:8080}
    both: routed (a task has run)
    fallback: routed (1 task runs)
    v1: routed (2 tasks run)
    v2: routed (1 task runs)
    v3: routed (a task has run)
    ");
}

#[test]
fn hosts_that_the_same_services_answer_are_one_group() {
    let services = vec![vip_service("a", "a.local,b.local,c.local", "n1", "10.0.0.9")];
    insta::assert_snapshot!(check_main(services, &nothing_published()), @r"
    main on {n1}
      {a.local, b.local, c.local} -> a {10.0.0.9:8080}
    a: routed (a task has run)
    ");
}

#[test]
fn a_service_that_cannot_be_routed_is_out_alone_and_says_why() {
    let refused = Problem::new(Code::BadHost, "no");
    let services = vec![
        vip_service("good", "good.local", "n1", "10.0.0.9"),
        with(vip_service("labels", "x.local", "n1", "10.0.0.9"), |s| s.asked = Err(vec![refused.clone(), refused])),
        with(vip_service("elsewhere", "x.local", "n1", "10.0.0.9"), |s| request(s).service_cluster = "east".into()),
        with(vip_service("zero", "good.local", "n1", "10.0.0.9"), |s| s.scale = Scale::Zero),
        with(vip_service("no-network", "x.local", "n1", "10.0.0.9"), |s| s.networks.clear()),
        with(vip_service("two-networks", "x.local", "n1", "10.0.0.9"), |s| {
            s.networks.insert("n2".into()).then_some(()).unwrap()
        }),
        with(vip_service("wrong-network", "x.local", "n1", "10.0.0.9"), |s| request(s).network = Some("n9".into())),
        with(vip_service("no-vip", "x.local", "n2", "10.0.0.9"), |s| s.networks = BTreeSet::from(["n1".into()])),
        tasks_service("no-tasks", "x.local", "n1", &[]),
        with(tasks_service("stale", "good.local", "n1", &["10.0.0.3"]), |s| {
            let Backends::Tasks { stale, .. } = &mut s.backends else { unreachable!() };
            *stale = true;
        }),
    ];
    insta::assert_snapshot!(check_main(services, &nothing_published()), @r"
    main on {n1}
      {good.local} -> good {10.0.0.9:8080}, stale {10.0.0.3:8080}
    elsewhere: elsewhere (east)
    good: routed (a task has run)
    labels: refused
      problem bad_host
      problem bad_host
    no-network: refused
      problem no_network
    no-tasks: waiting (no task runs)
    no-vip: refused
      problem no_vip
    stale: routed (1 task runs)
      warning stale_tasks
    two-networks: refused
      problem ambiguous_network
    wrong-network: refused
      problem unknown_network
    zero: waiting (0 replicas are wanted)
    ");
}

#[test]
fn what_is_live_keeps_a_vip_published_and_a_network_in_use() {
    let not_run = |service| {
        with(service, |s| {
            let Backends::Vip { has_run, .. } = &mut s.backends else { unreachable!() };
            *has_run = false;
        })
    };
    let services = vec![
        not_run(vip_service("known", "known.local", "n1", "10.0.0.9")),
        not_run(vip_service("new", "new.local", "n1", "10.0.0.8")),
        with(tasks_service("kept", "kept.local", "n2", &["10.1.0.3"]), |s| {
            s.networks.insert("n1".into()).then_some(()).unwrap()
        }),
    ];
    let published = live(
        &[
            ("known", contribution("known", "known.local", BackendMode::Vip, "n1", "10.0.0.9:8080")),
            ("kept", contribution("kept", "kept.local", BackendMode::Task, "n2", "10.1.0.3:8080")),
        ],
        vec![],
    );
    insta::assert_snapshot!(check_main(services, &published), @r"
    main on {n1, n2}
      {kept.local} -> kept {10.1.0.3:8080}
      {known.local} -> known {10.0.0.9:8080}
    kept: routed (1 task runs)
      warning network_kept
    known: routed (it is published already)
    new: waiting (its first task has not run yet)
    ");
}

#[test]
fn a_held_change_is_not_served_and_everyone_else_is() {
    let version = |name: &str, n: u8| {
        let address = format!("10.0.0.{n}:8080");
        contribution(name, &format!("{name}.local"), BackendMode::Task, "n1", &address)
    };
    // One each: several that failed together are tried again by halves.
    let hold = |held: &[(&str, u8)]| Hold {
        generation: Digest::of(format!("{held:?}").as_bytes()),
        fragments: held
            .iter()
            .map(|(name, n)| {
                let fragment = Fragment { digest: version(name, *n).digest(), network: Some("n1".into()), named: None };
                (ServiceId::new(*name), fragment)
            })
            .collect(),
        setup: Default::default(),
        reason: "2 tasks failed".into(),
        by_hand: false,
    };
    let holds = vec![hold(&[("changed", 2), ("innocent", 1)]), hold(&[("new", 2)]), hold(&[("moved-on", 2)])];
    let last_good = ["changed", "innocent", "moved-on", "withdrawn"].map(|name| (name, version(name, 1)));
    let service = |name: &str, n: u8| tasks_service(name, &format!("{name}.local"), "n1", &[&format!("10.0.0.{n}")]);
    let services = vec![
        service("changed", 2),
        service("new", 2),
        service("innocent", 1),
        service("moved-on", 3),
        service("later", 1),
    ];
    insta::assert_snapshot!(check_main(services, &live(&last_good, holds)), @r"
    main on {n1}
      {changed.local} -> changed {10.0.0.1:8080}
      {innocent.local} -> innocent {10.0.0.1:8080}
      {later.local} -> later {10.0.0.1:8080}
      {moved-on.local} -> moved-on {10.0.0.3:8080}
    changed: quarantined (2 tasks failed), last good: true
      problem quarantined
    innocent: routed (1 task runs)
    later: routed (1 task runs)
    moved-on: routed (1 task runs)
    new: quarantined (2 tasks failed), last good: false
      problem quarantined
    ");
}

#[test]
fn a_setup_that_failed_is_left_out_and_the_services_that_came_with_it_are_heard() {
    let good = nginx::Settings::default();
    let bad = nginx::Settings { ip_hash: true, ..nginx::Settings::default() };
    let service = || tasks_service("new", "new.local", "n1", &["10.0.0.2"]);
    let contribution = contribution("new", "new.local", BackendMode::Task, "n1", "10.0.0.2:8080");
    let hold = |setup: &nginx::Settings, by_hand| Hold {
        generation: Digest::of(b"held"),
        fragments: [(
            "new".into(),
            Fragment { digest: contribution.digest(), network: Some("n1".into()), named: None },
        )]
        .into(),
        setup: crate::setup::write(setup),
        reason: "refused".into(),
        by_hand,
    };
    let check_with = |holds: Vec<Hold>| {
        let last_good = Manifest { setup: crate::setup::write(&good), ..manifest(&[]) };
        let last_good = Arc::new(last_good);
        let live = Published::Live { manifest: Arc::clone(&last_good), last_good, holds };
        let mut settings = settings();
        settings.clusters.values_mut().for_each(|cluster| cluster.nginx = bad.clone());
        let published = BTreeMap::from([(main_cluster(), live)]);
        let compiled = compile(&desired(vec![service()]), &published, &settings);
        let setup = compiled.setups[&main_cluster()].clone();
        assert_eq!(compiled.report.kept_setups.contains_key(&main_cluster()), setup == good);
        (setup == good, compiled.report.services[&ServiceId::new("new")].verdict.as_str())
    };
    assert_eq!(check_with(vec![]), (false, "routed"));
    assert_eq!(check_with(vec![hold(&bad, false)]), (true, "routed"));
    // It was the service as well: it fails under what is known to work.
    assert_eq!(check_with(vec![hold(&bad, false), hold(&good, false)]), (true, "quarantined"));
    assert_eq!(check_with(vec![hold(&good, false)]), (false, "quarantined"));
    assert_eq!(check_with(vec![hold(&bad, true)]), (true, "quarantined"), "what somebody took back stays out");
}

#[test]
fn a_service_that_moves_to_another_network_is_reached_over_the_one_before_until_a_task_is_on_the_new_one() {
    let served = |mode| contribution("app", "app.local", mode, "n1", "10.0.0.2:8080");
    let told = |service: Service, mode| {
        let moving = with(service, |service| {
            request(service).network = Some("net-n2".into());
            service.networks = ["n1".into(), "n2".into()].into();
        });
        shown(&compile(&desired([moving]), &live(&[("app", served(mode))], vec![]), &settings()))
    };
    let tasks = |network: &str, addresses: &[&str]| {
        told(tasks_service("app", "app.local", network, addresses), BackendMode::Task)
    };
    insta::assert_snapshot!(tasks("n1", &["10.0.0.2", "10.0.0.3"]), @r"
    main on {n1}
      {app.local} -> app {10.0.0.2:8080, 10.0.0.3:8080}
    app: routed (2 tasks run)
      warning network_kept
    ");
    insta::assert_snapshot!(tasks("n2", &["10.0.2.2"]), @r"
    main on {n2}
      {app.local} -> app {10.0.2.2:8080}
    app: routed (1 task runs)
    ");
    // Nothing runs at all.
    insta::assert_snapshot!(tasks("n1", &[]), @r"
    main on {}
    app: waiting (no task runs)
    ");
    // In VIP mode the address on the new network comes a little after the label.
    let vip = |network: &str, address: &str| told(vip_service("app", "app.local", network, address), BackendMode::Vip);
    insta::assert_snapshot!(vip("n1", "10.0.0.9"), @r"
    main on {n1}
      {app.local} -> app {10.0.0.9:8080}
    app: routed (a task has run)
      warning network_kept
    ");
    insta::assert_snapshot!(vip("n2", "10.0.2.9"), @r"
    main on {n2}
      {app.local} -> app {10.0.2.9:8080}
    app: routed (a task has run)
    ");
}

#[test]
fn a_cluster_that_is_not_read_has_no_spec_and_others_do() {
    let cluster = |name| ClusterName::parse(name).unwrap();
    let of = |service_cluster: &str, networks: Option<&str>| ClusterSettings {
        service_cluster: service_cluster.into(),
        networks: networks.map(|networks| networks.split(' ').map(str::to_owned).collect()),
        ..ClusterSettings::default()
    };
    let settings = Settings {
        clusters: BTreeMap::from([
            (cluster("main"), of("", None)),
            (cluster("east"), of("east", Some("net-n1 net-n3"))),
            (cluster("west"), of("west", None)),
        ]),
        ..Settings::default()
    };
    let published = BTreeMap::from([
        (cluster("east"), Published::Nothing),
        (cluster("west"), Published::Unknown { reason: "the manifest is damaged".into() }),
    ]);
    let in_cluster = |name: &str, network: &str, service_cluster: &str| {
        with(vip_service(name, "x.local", network, "10.0.0.9"), |s| request(s).service_cluster = service_cluster.into())
    };
    let services = [
        in_cluster("in-main", "n1", ""),
        in_cluster("in-east", "n1", "east"),
        in_cluster("in-east-off", "n2", "east"),
        in_cluster("in-west", "n3", "west"),
    ];
    insta::assert_snapshot!(shown(&compile(&desired(services), &published, &settings)), @r"
    east on {n1}
      {x.local} -> in-east {10.0.0.9:8080}
    in-east: routed (a task has run)
    in-east-off: refused
      problem no_network
    in-main: waiting (what the proxies of main serve is not known: it was not read yet)
    in-west: waiting (what the proxies of west serve is not known: the manifest is damaged)
    ");
}

#[test]
fn a_service_too_large_for_a_file_is_refused_and_its_neighbours_are_not() {
    let addresses: Vec<String> = (0..20_000).map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let services = vec![
        tasks_service("large", "shared.local,large.local", "n1", &addresses),
        tasks_service("small", "shared.local", "n1", &["10.0.0.3"]),
    ];
    insta::assert_snapshot!(check_main(services, &nothing_published()), @r"
    main on {n1}
      {shared.local} -> small {10.0.0.3:8080}
    large: refused
      problem too_large
    small: routed (1 task runs)
    ");
}

/// The services, on networks of which these have no room for the proxies.
fn crowded(services: Vec<Service>, networks: &[&str]) -> Desired {
    let mut desired = desired(services);
    for name in networks {
        let shortage = Shortage { subnets: vec!["10.0.0.0/28".into()], addresses: 13, needed: 6 };
        let no_room_for = BTreeMap::from([(main_cluster(), shortage)]);
        let network = Network { no_room_for, ..Network::new((*name).into(), format!("net-{name}")) };
        desired.networks.insert((*name).into(), Arc::new(network));
    }
    desired
}

#[test]
fn a_full_network_is_not_joined_and_not_left() {
    let services = || {
        vec![
            vip_service("new", "new.local", "full", "10.0.0.9"),
            tasks_service("also-new", "new.local", "full", &["10.0.0.8"]),
            vip_service("moves", "moves.local", "full", "10.0.0.7"),
            vip_service("fine", "fine.local", "n1", "10.0.0.6"),
            tasks_service("waits", "waits.local", "full", &[]),
        ]
    };
    let moves = || ("moves", contribution("moves", "moves.local", BackendMode::Vip, "n1", "10.0.0.1:8080"));
    let check_main = |published: &BTreeMap<ClusterName, Published>| {
        let compiled = compile(&crowded(services(), &["full"]), published, &settings());
        assert_eq!(check(&compiled.specs[&main_cluster()]), Ok(()));
        shown(&compiled)
    };
    insta::assert_snapshot!(check_main(&live(&[moves()], vec![])), @r"
    main on {n1}
      {fine.local} -> fine {10.0.0.6:8080}
      {moves.local} -> moves {10.0.0.1:8080}
    also-new: refused
      problem network_full
    fine: routed (a task has run)
    moves: routed (as before: its network net-full has no room for the proxies: of the 13 addresses of 10.0.0.0/28 at least 8 are taken by others, and the proxies and their nodes need 6 to join it)
      warning network_full
    new: refused
      problem network_full
    waits: waiting (no task runs)
    ");
    // Not even by the first generation, whose proxies could not start at all.
    assert!(check_main(&nothing_published()).starts_with("main on {n1}\n"));
    // Once somebody on it is live, whoever else is on it comes without a join.
    let pioneer = contribution("pioneer", "p.local", BackendMode::Vip, "full", "10.0.0.2:8080");
    insta::assert_snapshot!(check_main(&live(&[moves(), ("pioneer", pioneer.clone())], vec![])), @r"
    main on {full, n1}
      {fine.local} -> fine {10.0.0.6:8080}
      {moves.local} -> moves {10.0.0.7:8080}
      {new.local} -> also-new {10.0.0.8:8080}, new {10.0.0.9:8080}
    also-new: routed (1 task runs)
    fine: routed (a task has run)
    moves: routed (a task has run)
    new: routed (a task has run)
    waits: waiting (no task runs)
    ");
    // Also while a rollout without it is under way: the proxies are still on it.
    let without = Published::Live {
        manifest: Arc::new(manifest(&[moves()])),
        last_good: Arc::new(manifest(&[moves(), ("pioneer", pioneer)])),
        holds: vec![],
    };
    assert!(check_main(&BTreeMap::from([(main_cluster(), without)])).starts_with("main on {full, n1}\n"));
}

#[test]
fn a_service_at_its_nodes_needs_no_network_and_nothing_of_networks_concerns_it() {
    let at_nodes = |name: &str, address: &str| {
        with(tasks_service(name, &format!("{name}.local"), "full", &["10.0.0.8"]), |service| {
            service.at_nodes = true;
            service.networks.clear();
            let Backends::Tasks { tasks, .. } = &mut service.backends else { unreachable!() };
            tasks[0].at_node = Some(AtNode { address: address.parse().ok(), port: NonZeroU16::new(32768) });
        })
    };
    let services = vec![
        at_nodes("direct", "172.20.0.4"),
        at_nodes("lost", ""),
        vip_service("full", "f.local", "full", "10.0.0.9"),
    ];
    let mut fixed = settings();
    fixed.clusters.values_mut().for_each(|cluster| cluster.networks = Some(["other".to_owned()].into()));
    let moved = contribution("direct", "direct.local", BackendMode::Task, "n1", "10.0.0.1:8080");
    for (settings, published) in [(settings(), nothing_published()), (fixed, live(&[("direct", moved)], vec![]))] {
        let compiled = compile(&crowded(services.clone(), &["full"]), &published, &settings);
        let spec = &compiled.specs[&main_cluster()];
        assert_eq!((check(spec), spec.networks.len()), (Ok(()), 0));
        let about = &compiled.report.services[&ServiceId::new("direct")];
        assert!(about.at_nodes && about.network.is_none() && about.problems.is_empty(), "{about:?}");
        assert_eq!(*spec.endpoints[&ServiceId::new("direct")], ["172.20.0.4:32768".parse().unwrap()].into());
        let Verdict::Waiting { reason } = &compiled.report.services[&ServiceId::new("lost")].verdict else { panic!() };
        assert_eq!(reason, "no task is reached at its node: the address of its node is not known");
    }
}

#[test]
fn what_was_never_read_of_a_service_leaves_it_as_it_is_live() {
    let unread = |name: &str| {
        with(vip_service(name, &format!("{name}.local"), "n1", "10.0.0.9"), |service| {
            service.networks.clear();
            service.backends = Backends::Unread { reason: "its network n1 could not be read (malformed)".into() };
        })
    };
    let services = vec![
        unread("live"),
        with(unread("live-elsewhere"), |service| request(service).service_cluster = "east".into()),
        unread("new"),
        vip_service("neighbour", "neighbour.local", "n1", "10.0.0.8"),
    ];
    let known = |name: &'static str| (name, contribution(name, "old.local", BackendMode::Task, "n2", "10.1.0.1:8080"));
    let published = live(&[known("live"), known("live-elsewhere")], vec![]);
    insta::assert_snapshot!(check_main(services, &published), @r"
    main on {n1, n2}
      {neighbour.local} -> neighbour {10.0.0.8:8080}
      {old.local} -> live {10.1.0.1:8080}
    live: routed (as before: its network n1 could not be read (malformed))
      warning unread
    live-elsewhere: elsewhere (east)
    neighbour: routed (a task has run)
    new: waiting (its network n1 could not be read (malformed))
      warning unread
    ");
}

#[test]
fn after_a_failed_join_networks_join_one_at_a_time_and_services_that_move_are_served_as_before() {
    let service = |name: &str, network: &str| vip_service(name, &format!("{name}.local"), network, "10.0.0.9");
    let known = contribution("moves", "moves.local", BackendMode::Vip, "n1", "10.0.0.1:8080");
    let created = |name: &str, network: &str, at| with(service(name, network), |s| s.created_at = Timestamp(at));
    let services = || vec![created("first", "n2", 1), created("moves", "n3", 2), created("second", "n4", 3)];
    let gone = contribution("gone", "gone.local", BackendMode::Vip, "full", "10.0.0.1:8080");
    let failed = Hold {
        generation: Digest::of(b"held"),
        fragments: [("gone".into(), Fragment { digest: gone.digest(), network: Some("full".into()), named: None })]
            .into(),
        setup: Default::default(),
        reason: "no address".into(),
        by_hand: false,
    };
    insta::assert_snapshot!(check_main(services(), &live(&[("moves", known.clone())], vec![failed])), @r"
    main on {n1, n2}
      {first.local} -> first {10.0.0.9:8080}
      {moves.local} -> moves {10.0.0.1:8080}
    first: routed (a task has run)
    moves: routed (as before: its network joins after net-n2: one at a time, so that it is known which one fails)
    second: waiting (its network joins after net-n2: one at a time, so that it is known which one fails)
    ");

    // Where no join has failed, where the proxies are on a fixed list of networks anyway, and where nothing is
    // published yet, nobody waits.
    let settings_with = |networks: Option<BTreeSet<String>>| {
        let mut settings = settings();
        settings.clusters.values_mut().for_each(|cluster| cluster.networks.clone_from(&networks));
        settings
    };
    let fixed = settings_with(Some(["n1", "n2", "n3", "n4"].map(String::from).into()));
    let calm = live(&[("moves", known)], vec![]);
    for (published, settings) in
        [(calm.clone(), settings_with(None)), (calm, fixed), (nothing_published(), settings_with(None))]
    {
        let compiled = compile(&desired(services()), &published, &settings);
        assert_eq!(compiled.specs[&main_cluster()].networks.len(), 3);
    }
}

mod laws;
mod memory;
mod options;
mod sizes;
