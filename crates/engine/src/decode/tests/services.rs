//! Services, and what follows from their creation and update.

use std::collections::{BTreeMap, BTreeSet};

use model::{NetworkId, ServiceId};
use swarm::{DesiredState, Endpoint, EndpointMode, Mode, RunningCount, TaskState, UpdateState, UpdateStatus};

use super::tasks::wire_task;
use super::*;
use crate::decode::tasks::{desired, task_state};

#[test]
fn the_recorded_services_are_read() {
    let services: BTreeMap<String, Service> =
        services(SERVICES).unwrap().into_iter().map(|service| (service.name.clone(), service)).collect();
    assert_eq!(services.len(), 8);

    let web = &services["web"];
    assert_eq!(web.id, ServiceId::from("fz46gjastz5n7r03gbcxmy0ma"));
    assert_eq!(web.created_at, at("2026-11-24T22:20:04.69742757Z"));
    assert!(web.updated_at > web.created_at, "{:?}", web.updated_at);
    assert_eq!(web.labels, BTreeMap::from([("com.docker.lb.hosts".to_owned(), "x".to_owned())]));
    assert_eq!(web.mode, Mode::Replicated(2));
    assert_eq!(web.networks, ["gvag7rsajo11v4m3fva6jf5ya"]);
    assert_eq!(web.endpoint.vips, BTreeMap::from([(NetworkId::from("gvag7rsajo11v4m3fva6jf5ya"), ip("10.0.1.2"))]));
    assert_eq!(web.running, Some(RunningCount { running: 2, desired: 2 }));
    assert_eq!(web.update, Some(UpdateStatus { state: UpdateState::Completed, message: "update completed".into() }));

    let every = &services["every"];
    assert_eq!(every.mode, Mode::Global);
    assert_eq!(every.endpoint, Endpoint { mode: EndpointMode::Dnsrr, vips: BTreeMap::new(), ..Endpoint::default() });
    assert_eq!(every.running, Some(RunningCount { running: 3, desired: 3 }));
    assert_eq!(every.update, None);

    // On the network `host`: a VIP entry without an address.
    assert_eq!(services["hosted"].endpoint, Endpoint::default());
    assert_eq!(services["hosted"].networks.len(), 1);
    // Published in the routing mesh: the ingress network's VIP comes along.
    assert_eq!(services["pub"].endpoint.vips.len(), 2);
    assert_eq!(services["job"].mode, Mode::Job);
    assert_eq!(services["gjob"].mode, Mode::Job);
    assert_eq!(services["labelled"].container_labels["com.docker.lb.hosts"], "inside");
    assert_eq!(services["labelled"].running, Some(RunningCount { running: 0, desired: 0 }));
    assert_eq!(services["user"].update.as_ref().unwrap().state, UpdateState::RollbackCompleted);
    assert_eq!(services["user"].networks, Vec::<String>::new());
}

/// A service with everything that must be there, changed by `change`.
fn wire_service(change: impl FnOnce(&mut Value)) -> Value {
    let mut service = json!({
        "ID": "s1",
        "Version": {"Index": 18446744073709551615u64},
        "CreatedAt": "2021-01-02T03:04:05.123456789Z",
        "Spec": {
            "Name": "web",
            "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}},
            "Mode": {"Replicated": {"Replicas": 1}},
        },
    });
    change(&mut service);
    service
}

fn read_service(change: impl FnOnce(&mut Value)) -> Service {
    services(&bytes(&json!([wire_service(change)]))).unwrap().remove(0)
}

#[test]
fn what_a_service_need_not_have_may_be_missing_or_null() {
    let lean = read_service(|_| {});
    assert_eq!(lean.version, u64::MAX);
    assert_eq!(lean.created_at, Timestamp(1_609_556_645_123_456_789));
    assert_eq!(lean.running, None);
    let nulls = read_service(|service| {
        service["Spec"]["Labels"] = Value::Null;
        service["Spec"]["Networks"] = Value::Null;
        service["Spec"]["EndpointSpec"] = Value::Null;
        service["Endpoint"] = json!({"VirtualIPs": null});
        service["ServiceStatus"] = Value::Null;
        service["UpdateStatus"] = json!({});
        service["Spec"]["NotYetInvented"] = json!({"a": [1]});
    });
    assert_eq!(nulls, lean);
}

#[test]
fn ports_on_nodes_are_told_from_those_of_the_routing_mesh() {
    let port = |protocol: &str, mode: &str, target: u32, published: u32| json!({"Protocol": protocol, "PublishMode": mode, "TargetPort": target, "PublishedPort": published});
    let ports = json!([
        port("tcp", "host", 8080, 32769),
        port("tcp", "host", 8080, 32768),
        port("udp", "host", 53, 53),
        port("tcp", "ingress", 443, 443),
        port("tcp", "host", 9090, 0),
        // Nobody checks this; and it is one service's mistake, not everybody's.
        port("tcp", "host", 80800, 8082),
        port("tcp", "host", 7070, u32::MAX),
        {"TargetPort": 1},
    ]);
    let read = read_service(|service| service["Spec"]["EndpointSpec"] = json!({ "Ports": ports }));
    assert_eq!(read.endpoint.host_ports, BTreeSet::from([7070, 8080, 9090]));
    assert_eq!(read.endpoint.mode, EndpointMode::Vip);
    let task = wire_task(|task| task["Status"]["PortStatus"] = json!({ "Ports": ports }));
    let read = tasks(&bytes(&json!([task]))).unwrap().remove(0);
    assert_eq!(read.host_ports, BTreeMap::from([(8080, 32768)]));
    let task = wire_task(|task| task["Status"]["PortStatus"] = json!({}));
    assert_eq!(tasks(&bytes(&json!([task]))).unwrap()[0].host_ports, BTreeMap::new());
}

#[test]
fn nodes_have_the_address_that_others_can_use() {
    let read = nodes(&bytes(&json!([
        {"ID": "worker", "Status": {"State": "ready", "Addr": "172.20.0.4"}},
        {"ID": "leader", "Status": {"Addr": "0.0.0.0"}, "ManagerStatus": {"Leader": true, "Addr": "172.20.0.5:2377"}},
        {"ID": "six", "Status": {"Addr": "127.0.0.1"}, "ManagerStatus": {"Addr": "[fd00::1]:2377"}},
        {"ID": "alone", "Status": {"Addr": "127.0.0.1"}, "ManagerStatus": {"Addr": "127.0.0.1:2377"}},
        {"ID": "named", "Status": {"Addr": "somewhere"}},
        {"ID": "new"},
    ])));
    let read: Vec<(String, Option<IpAddr>)> =
        read.unwrap().into_iter().map(|node| (node.id.as_str().to_owned(), node.address)).collect();
    let expected = [
        ("worker", Some("172.20.0.4")),
        ("leader", Some("172.20.0.5")),
        ("six", Some("fd00::1")),
        ("alone", None),
        ("named", None),
        ("new", None),
    ];
    assert_eq!(read, expected.map(|(id, address)| (id.to_owned(), address.map(ip))));
    assert!(nodes(b"[{}]").is_err());
}

#[test]
fn networks_of_old_specs_are_found() {
    let old = json!([{"Target": "old"}]);
    let new = json!([{"Target": "new", "Aliases": ["a"]}]);
    for (template, spec, networks) in [
        (json!(null), old.clone(), vec!["old"]),
        (json!([]), old.clone(), vec!["old"]),
        (new.clone(), old, vec!["new"]),
        (new, json!(null), vec!["new"]),
    ] {
        let service = read_service(|service| {
            service["Spec"]["TaskTemplate"]["Networks"] = template;
            service["Spec"]["Networks"] = spec;
        });
        assert_eq!(service.networks, networks);
    }
}

#[test]
fn vips_lose_their_prefix_length() {
    let service = read_service(|service| {
        service["Endpoint"]["VirtualIPs"] = json!([
            {"NetworkID": "a", "Addr": "10.0.1.2/24"},
            {"NetworkID": "b", "Addr": "fd00::2/64"},
            {"NetworkID": "c"},
            {"NetworkID": "d", "Addr": ""},
        ]);
    });
    let vips = BTreeMap::from([(NetworkId::from("a"), ip("10.0.1.2")), (NetworkId::from("b"), ip("fd00::2"))]);
    assert_eq!(service.endpoint.vips, vips);
}

#[test]
fn the_task_template_is_told_by_its_digest() {
    let image = |image: &str| {
        read_service(|service| service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = json!(image)).task_template
    };
    assert_eq!(image("web:1"), image("web:1"));
    assert_ne!(image("web:1"), image("web:2"));
    assert_eq!(read_service(|service| service["Spec"]["Labels"] = json!({"a": "b"})).task_template, image("web:1"));
}

#[test]
fn words_that_we_do_not_know_degrade() {
    for (word, state) in [
        ("updating", Some(UpdateState::Updating)),
        ("paused", Some(UpdateState::Paused)),
        ("completed", Some(UpdateState::Completed)),
        ("rollback_started", Some(UpdateState::RollbackStarted)),
        ("rollback_paused", Some(UpdateState::RollbackPaused)),
        ("rollback_completed", Some(UpdateState::RollbackCompleted)),
        ("meditating", None),
    ] {
        let service = read_service(|service| service["UpdateStatus"] = json!({"State": word}));
        assert_eq!(service.update.map(|update| update.state), state, "{word}");
    }
    for (mode, read) in [
        (json!({"Replicated": {}}), Mode::Replicated(1)),
        (json!({"Replicated": {"Replicas": 0}}), Mode::Replicated(0)),
        (json!({"Global": {}}), Mode::Global),
        (json!({"ReplicatedJob": {"MaxConcurrent": 1}}), Mode::Job),
        (json!({"GlobalJob": {}}), Mode::Job),
        (json!({"Elastic": {}}), Mode::Job),
    ] {
        assert_eq!(read_service(|service| service["Spec"]["Mode"] = mode.clone()).mode, read, "{mode}");
    }
    for (mode, read) in [("vip", EndpointMode::Vip), ("", EndpointMode::Vip), ("dnsrr", EndpointMode::Dnsrr)] {
        let service = read_service(|service| service["Spec"]["EndpointSpec"] = json!({"Mode": mode}));
        assert_eq!(service.endpoint.mode, read, "{mode}");
    }
    for (word, state, wanted) in [
        ("running", TaskState::Running, DesiredState::Running),
        ("ready", TaskState::Ready, DesiredState::Ready),
        ("accepted", TaskState::Accepted, DesiredState::Ready),
        ("shutdown", TaskState::Shutdown, DesiredState::Gone),
        ("remove", TaskState::Remove, DesiredState::Gone),
        ("orphaned", TaskState::Orphaned, DesiredState::Gone),
        ("complete", TaskState::Complete, DesiredState::Gone),
        ("teleporting", TaskState::New, DesiredState::Ready),
    ] {
        assert_eq!((task_state(word), desired(word)), (state, wanted), "{word}");
    }
}

#[test]
fn one_bad_service_spoils_the_answer_and_is_named() {
    let good = wire_service(|service| service["ID"] = json!("good"));
    for (bad, complaint) in [
        (wire_service(|service| service["Version"] = json!({})), "service s1: missing field `Index`"),
        (wire_service(|service| service["CreatedAt"] = json!("today")), "service s1: \"today\" is no time"),
        (wire_service(|service| service["UpdatedAt"] = json!("later")), "service s1: \"later\" is no time"),
        (wire_service(|service| service["Spec"]["Name"] = json!(7)), "service s1: invalid type: integer `7`"),
        (wire_service(|service| service["Spec"]["Labels"] = json!({"a": 1})), "service s1: invalid type: integer `1`"),
        (wire_service(|service| service["Spec"]["TaskTemplate"] = json!([])), "service s1: "),
        (
            wire_service(|service| {
                service["Endpoint"]["VirtualIPs"] = json!([{"NetworkID": "n", "Addr": "10.0.1/24"}])
            }),
            "service s1: \"10.0.1/24\" is no address",
        ),
        (json!({}), "service without id: missing field `ID`"),
        (json!(null), "service without id: invalid type: null"),
    ] {
        let error = services(&bytes(&json!([good, bad, good]))).unwrap_err();
        assert!(error.starts_with(complaint), "{error}");
    }
    for half in [&SERVICES[..SERVICES.len() / 2], b"", b"null", b"{}", b"[] []"] {
        let error = services(half).unwrap_err();
        assert!(error.starts_with("the answer does not read: "), "{error}");
    }
}

#[test]
fn a_raw_service_loses_nothing() {
    let (name, raw) = raw_service(SERVICE).unwrap();
    let written: Value = serde_json::from_slice(SERVICE).unwrap();
    assert_eq!(name, "web");
    assert_eq!(raw.spec, written["Spec"]);
    assert_eq!(raw.previous_spec.as_ref(), Some(&written["PreviousSpec"]));
    assert_eq!(raw.update.unwrap().state, UpdateState::Completed);
    let (_, first) = raw_service(&bytes(&wire_service(|service| service["Spec"]["New"] = json!([1.5])))).unwrap();
    assert_eq!((first.version, first.previous_spec, first.spec["New"][0].as_f64()), (u64::MAX, None, Some(1.5)));
    assert!(raw_service(&bytes(&wire_service(|service| service["Spec"] = json!({})))).is_err());
}

#[test]
fn warnings_are_read_in_both_spellings() {
    for (answer, warned) in [
        (json!({"ID": "s", "Warning": "no digest"}), vec!["no digest"]),
        (json!({"ID": "s", "Warnings": ["a", "", "b"]}), vec!["a", "b"]),
        (json!({"ID": "s", "Warnings": null}), vec![]),
        (json!({"ID": "s"}), vec![]),
    ] {
        assert_eq!(created(&bytes(&answer)).unwrap(), ("s".to_owned(), warned.into_iter().map(String::from).collect()));
    }
    assert_eq!(warnings(b""), Vec::<String>::new());
}
