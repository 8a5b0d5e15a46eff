//! Nodes, networks, configs, secrets, events; and times.

use std::collections::BTreeMap;

use swarm::{EventKind, Network, Pool, Secret, Subnet};

use super::*;

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
    assert_eq!(at("1970-01-01T00:00:01.000000002Z"), Timestamp(1_000_000_002));
    assert_eq!(at("2026-11-24T22:20:04.97389781Z"), at("2026-11-24T23:20:04.973897810+01:00"));
    assert!(at("0001-01-01T00:00:00Z") < at("1970-01-01T00:00:00Z"));
    assert_eq!(at("9999-12-30T00:00:00Z"), Timestamp(i64::MAX));
}
