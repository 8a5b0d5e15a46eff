//! `tests/recorded/*.json` are answers of Engine 20.10.24, the swarm's secrets taken out. The rest is written
//! by hand after its source.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

use super::*;

const SERVICES: &[u8] = include_bytes!("../../tests/recorded/services.json");
const SERVICE: &[u8] = include_bytes!("../../tests/recorded/service.json");
const TASKS: &[u8] = include_bytes!("../../tests/recorded/tasks.json");
const TASK_HISTORY: &[u8] = include_bytes!("../../tests/recorded/task-history.json");
const SECRETS: &[u8] = include_bytes!("../../tests/recorded/secrets.json");
const VERSION: &[u8] = include_bytes!("../../tests/recorded/version.json");
const INFO: &[u8] = include_bytes!("../../tests/recorded/info.json");

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn at(text: &str) -> CreatedAt {
    timestamp(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

// === Version, info, errors ===

#[test]
fn version_and_info_are_read() {
    assert_eq!(version(VERSION), Ok(Version { engine: "20.10.24+dfsg1".into(), api: (1, 41), oldest_api: (1, 12) }));
    let ucp = br#"{"Version":"ucp/3.4.15","ApiVersion":"1.41","MinAPIVersion":""}"#;
    assert_eq!(version(ucp), Ok(Version { engine: "ucp/3.4.15".into(), api: (1, 41), oldest_api: (0, 0) }));
    assert!(version(br#"{"Version":"1","ApiVersion":"one"}"#).is_err());
    assert!(version(br#"{"Version":"1"}"#).is_err());
}

#[test]
fn a_manager_is_one_that_has_control_of_an_active_swarm() {
    assert_eq!(is_manager(INFO), Ok(true));
    for (swarm, manager) in [
        (json!({"LocalNodeState": "active", "ControlAvailable": true}), true),
        (json!({"LocalNodeState": "active", "ControlAvailable": false}), false),
        (json!({"LocalNodeState": "locked", "ControlAvailable": true}), false),
        (json!({"LocalNodeState": "inactive"}), false),
        (Value::Null, false),
    ] {
        assert_eq!(is_manager(&bytes(&json!({ "Swarm": swarm }))), Ok(manager), "{swarm}");
    }
}

#[test]
fn error_answers_give_their_message() {
    for (body, message) in [
        (
            &br#"{"message":"service nope not found"}
"#[..],
            "service nope not found",
        ),
        (b"client version 1.11 is too old.\n", "client version 1.11 is too old."),
        (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
        (b"{\"error\":1}", "{\"error\":1}"),
        (b"", ""),
    ] {
        assert_eq!(error_message(body), message);
    }
}

// === Services ===

#[test]
fn the_recorded_services_are_read() {
    let services: BTreeMap<String, Service> =
        services(SERVICES).unwrap().into_iter().map(|service| (service.name.clone(), service)).collect();
    assert_eq!(services.len(), 8);

    let web = &services["web"];
    assert_eq!(web.id, ServiceId::from("fz46gjastz5n7r03gbcxmy0ma"));
    assert_eq!(web.created_at, at("2026-11-24T22:20:04.69742757Z"));
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
    assert_eq!(lean.created_at, CreatedAt(1_609_556_645_123_456_789));
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
    let port = |protocol: &str, mode: &str, target: u16, published: u16| json!({"Protocol": protocol, "PublishMode": mode, "TargetPort": target, "PublishedPort": published});
    let ports = json!([
        port("tcp", "host", 8080, 32769),
        port("tcp", "host", 8080, 32768),
        port("udp", "host", 53, 53),
        port("tcp", "ingress", 443, 443),
        port("tcp", "host", 9090, 0),
        {"TargetPort": 1},
    ]);
    let read = read_service(|service| service["Spec"]["EndpointSpec"] = json!({ "Ports": ports }));
    assert_eq!(read.endpoint.host_ports, BTreeSet::from([8080, 9090]));
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

// === Tasks ===

#[test]
fn the_recorded_tasks_are_read_without_their_specs() {
    let tasks = tasks(TASKS).unwrap();
    assert_eq!(tasks.len(), 8);
    assert!(tasks.iter().all(|task| task.desired == DesiredState::Running && task.state == TaskState::Running));
    assert!(tasks.iter().all(|task| *task.spec == Value::Null));
    let of = |service: &'static str| tasks.iter().filter(move |task| task.service.as_str() == service);
    let addresses: Vec<String> = of("bdtp2pb63qm39jxpqh4i0m8pn")
        .flat_map(|task| &task.attachments)
        .map(|attachment| format!("{}={}", attachment.network, attachment.address))
        .collect();
    assert_eq!(addresses, ["aexxibzivy2hjnt4ly05s8l8g=10.0.0.6", "gvag7rsajo11v4m3fva6jf5ya=10.0.1.6"]);
    // On the network `host`: an attachment without an address.
    assert_eq!(of("w0i7e2crbgohat91u6aeov3vu").next().unwrap().attachments, []);
    // A global service has no slots.
    assert_eq!(of("orxqqseuvya2lqycjbvr1hzi0").map(|task| task.slot).collect::<Vec<_>>(), [0, 0, 0]);
    assert!(tasks.iter().all(|task| !task.node.as_str().is_empty()));
}

#[test]
fn the_recorded_history_tells_how_a_rollout_failed() {
    let tasks = tasks_with_specs(TASK_HISTORY).unwrap();
    let states: Vec<(TaskState, DesiredState)> = tasks.iter().map(|task| (task.state, task.desired)).collect();
    assert_eq!(
        states,
        [
            (TaskState::Shutdown, DesiredState::Gone),
            (TaskState::Rejected, DesiredState::Gone),
            (TaskState::Shutdown, DesiredState::Gone),
            (TaskState::Running, DesiredState::Running),
            (TaskState::Complete, DesiredState::Gone),
        ]
    );
    assert_eq!(tasks[1].error.as_deref(), Some("No such image: 10.99.1.254:5000/nope:1"));
    assert_eq!(tasks[3].error, None);
    assert_eq!(tasks[1].spec["ContainerSpec"]["Image"], "10.99.1.254:5000/nope:1");
    assert_eq!(tasks[3].spec["ContainerSpec"]["Configs"][0]["ConfigName"], "c1");
}

fn wire_task(change: impl FnOnce(&mut Value)) -> Value {
    let mut task = json!({
        "ID": "t1",
        "CreatedAt": "2021-01-02T03:04:05.123456789Z",
        "ServiceID": "s1",
        "Status": {"State": "new"},
        "DesiredState": "running",
    });
    change(&mut task);
    task
}

#[test]
fn a_task_that_is_not_scheduled_yet_is_read() {
    let read = tasks(&bytes(&json!([wire_task(|task| {
        task["NetworksAttachments"] = json!([{"Network": {"ID": "n"}}, {"Network": {"ID": "m"}, "Addresses": []}]);
        task["Status"]["Err"] = json!("no suitable node (1 node not available for new tasks)");
    })])))
    .unwrap()
    .remove(0);
    assert_eq!((read.slot, read.node.as_str(), read.state), (0, "", TaskState::New));
    assert_eq!(read.attachments, []);
    assert_eq!(read.error.as_deref(), Some("no suitable node (1 node not available for new tasks)"));
}

#[test]
fn a_task_of_no_service_is_left_out() {
    let attached = wire_task(|task| drop(task.as_object_mut().unwrap().remove("ServiceID")));
    let empty = wire_task(|task| task["ServiceID"] = json!(""));
    assert_eq!(tasks(&bytes(&json!([attached, empty, wire_task(|_| {})]))).unwrap().len(), 1);
}

#[test]
fn one_bad_task_spoils_the_answer_and_is_named() {
    for (bad, complaint) in [
        (wire_task(|task| task["Status"] = json!({})), "task t1: missing field `State`"),
        (wire_task(|task| task["CreatedAt"] = json!("")), "task t1: \"\" is no time"),
        (
            wire_task(|task| task["NetworksAttachments"] = json!([{"Network": {"ID": "n"}, "Addresses": ["?"]}])),
            "task t1: \"?\" is no address",
        ),
    ] {
        let answer = bytes(&json!([wire_task(|task| task["ID"] = json!("good")), bad]));
        for error in [tasks(&answer).unwrap_err(), tasks_with_specs(&answer).unwrap_err()] {
            assert!(error.starts_with(complaint), "{error}");
        }
    }
}

// === The rest ===

#[test]
fn networks_are_read() {
    let read = |value: Value| network(serde_json::from_value(value).unwrap());
    let found = read(json!({
        "Name": "app-net", "Id": "gvag7rsajo11v4m3fva6jf5ya", "Created": "2026-11-24T22:20:05.228729062Z",
        "Scope": "swarm", "Driver": "overlay", "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}]},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Containers": null, "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"}, "Labels": {"a": "b"},
        "Peers": [{"Name": "cf6470d5a6a9", "IP": "10.99.1.1"}],
    }))
    .unwrap();
    assert_eq!(
        found,
        Network {
            id: "gvag7rsajo11v4m3fva6jf5ya".into(),
            name: "app-net".into(),
            driver: "overlay".into(),
            scope: "swarm".into(),
            ingress: false,
            labels: BTreeMap::from([("a".into(), "b".into())]),
            pools: vec![Pool {
                subnet: Subnet::parse("10.0.1.0/24").unwrap(),
                range: None,
                gateway: Some(ip("10.0.1.1")),
            }],
        }
    );
    // A node that does not run a task on it yet answers without labels.
    assert_eq!(read(json!({"Id": "n", "Name": "x", "Labels": null, "Ingress": true})).unwrap().labels, BTreeMap::new());
    assert!(read(json!({"Name": "x"})).is_err());
}

#[test]
fn subnets_are_read_all_or_none() {
    let read = |ipam: Value| {
        let wire = json!({"Name": "x", "Id": "n", "Scope": "swarm", "Driver": "overlay", "IPAM": ipam});
        let network = network(serde_json::from_value(wire).unwrap()).unwrap();
        let told = |pool: &Pool| {
            let range = pool.range.map_or(String::new(), |range| format!(" range {range}"));
            format!("{}{range} gateway {:?}", pool.subnet, pool.gateway)
        };
        network.pools.iter().map(told).collect::<Vec<_>>()
    };
    // As Engine 20.10.24 answered: with a range, two subnets, IPv6 beside IPv4, and a network that it cannot set up.
    for (ipam, expected) in [
        (
            json!({"Driver": "default", "Options": null, "Config": [
                {"Subnet": "10.78.0.0/24", "IPRange": "10.78.0.8/29", "Gateway": "10.78.0.8"}]}),
            &["10.78.0.0/24 range 10.78.0.8/29 gateway Some(10.78.0.8)"][..],
        ),
        (
            json!({"Driver": "default", "Options": null, "Config": [
                {"Subnet": "10.79.0.0/29", "Gateway": "10.79.0.1"}, {"Subnet": "10.79.1.0/29", "Gateway": "10.79.1.6"}]}),
            &["10.79.0.0/29 gateway Some(10.79.0.1)", "10.79.1.0/29 gateway Some(10.79.1.6)"],
        ),
        (
            json!({"Driver": "default", "Options": null, "Config": [
                {"Subnet": "fd00:2::/64", "Gateway": "fd00:2::1"}, {"Subnet": "10.81.0.0/29", "Gateway": "10.81.0.1"}]}),
            &["fd00:2::/64 gateway Some(fd00:2::1)", "10.81.0.0/29 gateway Some(10.81.0.1)"],
        ),
        (json!({"Driver": "", "Options": null, "Config": null}), &[]),
        // As no engine answered yet.
        (json!({"Config": [{"Subnet": "10.0.0.0/29", "IPRange": "", "Gateway": ""}]}), &["10.0.0.0/29 gateway None"]),
        (json!({"Config": [{"Subnet": "10.0.0.0/29"}, {"Subnet": "10.0.0.0"}]}), &[]),
        (json!({"Config": [{"Subnet": "10.0.0.0/33"}]}), &[]),
        (json!({"Config": [{"Subnet": "10.0.0.0/29", "IPRange": "all"}]}), &[]),
        (json!({"Config": [{"Gateway": "10.0.0.1"}]}), &[]),
        (Value::Null, &[]),
    ] {
        assert_eq!(read(ipam.clone()), expected, "{ipam}");
    }
}

#[test]
fn configs_are_read_with_their_content() {
    let wire = |change: &dyn Fn(&mut Value)| {
        let mut value = json!({
            "ID": "c1", "Version": {"Index": 74}, "CreatedAt": "2026-11-24T22:20:04.97389781Z",
            "UpdatedAt": "2026-11-24T22:20:08.804336926Z",
            "Spec": {"Name": "one", "Labels": {"a": "b"}, "Data": "aGkK"},
        });
        change(&mut value);
        config(serde_json::from_value(value).unwrap())
    };
    let read = wire(&|_| {}).unwrap();
    assert_eq!((read.id.as_str(), read.version, &*read.data), ("c1", 74, &b"hi\n"[..]));
    for (change, complaint) in [
        (
            &(|config: &mut Value| config["Spec"]["Data"] = json!("?")) as &dyn Fn(&mut Value),
            "config c1: its data is no base64",
        ),
        (&|config| config["Spec"]["Data"] = json!(null), "config c1: it has no data"),
        (&|config| config["Spec"] = json!(null), "config c1: it has no spec"),
        (&|config| config["Version"] = json!({}), "config c1: it has no version"),
        (&|config| config["ID"] = json!(""), "a config has no id"),
    ] {
        let error = wire(change).unwrap_err();
        assert!(error.starts_with(complaint), "{error}");
    }
}

#[test]
fn secrets_are_read_by_id_and_name() {
    let read = |bytes: &[u8]| -> Decoded<Vec<Secret>> {
        serde_json::from_slice::<Vec<bollard::models::Secret>>(bytes).unwrap().into_iter().map(secret).collect()
    };
    let recorded: Vec<(String, String)> =
        read(SECRETS).unwrap().into_iter().map(|secret| (secret.id.to_string(), secret.name)).collect();
    let expected = [("adqykipa2378uwhrmc3p5dun9", "demo_app.key"), ("o6woezpib8o3verrdg8p9v1u7", "app.cert")];
    assert_eq!(recorded, expected.map(|(id, name)| (id.to_owned(), name.to_owned())));
    for (bad, complaint) in [
        (json!([{"ID": "s1", "Spec": {"Labels": {}}}]), "secret s1: it has no name"),
        (json!([{"ID": "s1", "Spec": {"Name": ""}}]), "secret s1: it has no name"),
        (json!([{"ID": "s1"}]), "secret s1: it has no name"),
        (json!([{"Spec": {"Name": "a"}}]), "a secret has no id"),
    ] {
        assert_eq!(read(&bytes(&bad)).unwrap_err(), complaint);
    }
}

#[test]
fn events_say_what_kind_of_object_changed() {
    // Recorded: a secret is created, its labels change, it is removed.
    for action in ["create", "update", "remove"] {
        let line = format!(
            r#"{{"Type":"secret","Action":"{action}","Actor":{{"ID":"o6woezpib8o3verrdg8p9v1u7","Attributes":{{"name":"app.cert"}}}},"scope":"swarm","time":1795571973,"timeNano":1795571973233814466}}"#
        );
        assert_eq!(event(line.as_bytes()), Ok(Some(EventKind::Object)));
    }
    let event_of = |kind: &str| {
        event(&bytes(&json!({
            "Type": kind, "Action": "update", "Actor": {"ID": "x1", "Attributes": {"name": "web"}},
            "scope": "swarm", "time": 1795558804, "timeNano": 1795558804697427570u64,
        })))
    };
    for (kind, read) in [
        ("service", Some(EventKind::Service("x1".into()))),
        ("node", Some(EventKind::Node)),
        ("network", Some(EventKind::Network)),
        ("config", Some(EventKind::Object)),
        ("secret", Some(EventKind::Object)),
        ("container", None),
        ("volcano", None),
    ] {
        assert_eq!(event_of(kind), Ok(read), "{kind}");
    }
    assert_eq!(event(b"{}"), Ok(None));
    assert!(event(br#"{"Type":"service"}"#).is_err());
    assert!(event(br#"{"Type":"serv"#).is_err());
}

#[test]
fn times_have_nine_digits_and_their_order() {
    assert_eq!(at("1970-01-01T00:00:01.000000002Z"), CreatedAt(1_000_000_002));
    assert_eq!(at("2026-11-24T22:20:04.97389781Z"), at("2026-11-24T23:20:04.973897810+01:00"));
    assert!(at("0001-01-01T00:00:00Z") < at("1970-01-01T00:00:00Z"));
    assert_eq!(at("9999-12-30T00:00:00Z"), CreatedAt(i64::MAX));
}

// === Logs ===

fn frame(stream: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn a_log_is_the_text_of_its_frames() {
    // As Engine 20.10.24 sends them.
    let both = [frame(1, "out\n"), frame(2, "nginx: [emerg] \"x\"\n")].concat();
    assert_eq!(log(&both), Ok("out\nnginx: [emerg] \"x\"\n".into()));
    assert_eq!(log(b""), Ok(String::new()));
    // The reader stopped in the middle of a frame, or of a head.
    assert_eq!(log(&both[..20]), Ok("out\n".into()));
    assert_eq!(log(&both[..24]), Ok("out\nngin".into()));
    assert_eq!(log(&frame(2, "\u{e9}")[..9]), Ok("\u{fffd}".into()));
    assert_eq!(log(&frame(1, &"x".repeat(9000))).unwrap().len(), 8192);
    let refused = [frame(2, "first\n"), frame(3, "Error grabbing logs: rpc error: task t has not been scheduled\n")];
    assert_eq!(log(&refused.concat()), Err("Error grabbing logs: rpc error: task t has not been scheduled".into()));
    // A terminal has no frames.
    assert!(log(b"nginx: [emerg] x").is_err());
    assert!(log(&frame(9, "x")).is_err());
}

// === Whatever an Engine says ===

/// Values that an Engine, a balancer or somebody in between might put in the place of another.
fn other_value() -> impl Strategy<Value = Value> {
    select(vec![
        Value::Null,
        json!(""),
        json!("x"),
        json!("10.0.0.1/99"),
        json!("fe80::1%eth0"),
        json!("0000-13-99T99:99:99Z"),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(true),
        json!([]),
        json!([null]),
        json!({}),
        json!({"": null}),
    ])
}

/// How many places there are in a tree, itself included.
fn places(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(items) => items.iter().map(places).sum(),
        Value::Object(fields) => fields.values().map(places).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Puts a value in the place of this number, counted from the root; gives it back if the tree has fewer.
fn put(tree: &mut Value, place: usize, value: Value) {
    if place == 0 {
        *tree = value;
        return;
    }
    let below: Vec<&mut Value> = match tree {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let mut place = place - 1;
    for child in below {
        let size = places(child);
        if place < size {
            return put(child, place, value);
        }
        place -= size;
    }
}

proptest! {
    /// Nothing that is said panics, and what is refused is refused in words of bounded length.
    #[test]
    fn a_mutated_answer_is_read_or_refused(
        which in select(vec![SERVICES, SERVICE, TASKS, TASK_HISTORY, SECRETS, VERSION, INFO]),
        changes in prop::collection::vec((any::<Index>(), other_value()), 1..6),
    ) {
        let mut answer: Value = serde_json::from_slice(which).unwrap();
        for (place, value) in changes {
            let place = place.index(places(&answer));
            put(&mut answer, place, value);
        }
        let bytes = bytes(&answer);
        let errors = [
            services(&bytes).map(drop),
            tasks(&bytes).map(drop),
            tasks_with_specs(&bytes).map(drop),
            nodes(&bytes).map(drop),
            raw_service(&bytes).map(drop),
            version(&bytes).map(drop),
            is_manager(&bytes).map(drop),
            image_digest(&bytes).map(drop),
            created(&bytes).map(drop),
        ];
        for error in errors.into_iter().filter_map(Result::err) {
            prop_assert!(!error.is_empty() && error.len() < 2000, "{error}");
        }
        let _ = (warnings(&bytes), error_message(&bytes), log(&bytes));
    }

    /// Bytes that are no JSON at all, or half of it.
    #[test]
    fn a_broken_answer_is_refused(which in select(vec![SERVICES, TASKS, SECRETS]), cut in any::<Index>()) {
        let half = &which[..cut.index(which.len() - 2)];
        prop_assert!(services(half).is_err() && tasks(half).is_err() && nodes(half).is_err());
    }
}
