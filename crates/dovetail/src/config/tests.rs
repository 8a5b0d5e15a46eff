//! `config/dovetail.yaml` and its schema are what the code says.

use super::{Config, parse, schema};

const COMPLETE: &str = include_str!("../../../../config/dovetail.yaml");

#[test]
fn the_complete_file_is_the_default() {
    assert_eq!(parse("config/dovetail.yaml", COMPLETE), Ok(Config::default()));
}

#[test]
fn the_complete_file_names_every_key() {
    let written: serde_json::Value = serde_yaml::from_str(COMPLETE).expect("the file reads");
    let known = serde_json::to_value(Config::default()).expect("the default serializes");
    assert_eq!(keys("", &written), keys("", &known));
}

/// Every path of keys in a value.
fn keys(path: &str, value: &serde_json::Value) -> Vec<String> {
    let mut found: Vec<String> = match value {
        serde_json::Value::Object(map) => {
            map.iter().flat_map(|(key, below)| keys(&format!("{path}.{key}"), below)).collect()
        }
        _ => vec![path.to_owned()],
    };
    found.sort();
    found
}

/// `UPDATE_SCHEMA=1 cargo test -p dovetail schema` writes the file anew.
#[test]
fn the_schema_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/dovetail.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, schema()).expect("the schema can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == schema(),
        "config/dovetail.schema.json is out of date: run UPDATE_SCHEMA=1 cargo test -p dovetail schema"
    );
}

/// Both sets of defaults are written out, one for people and one for the crate that uses it.
#[test]
fn the_defaults_of_nginx_are_those_of_the_renderer() {
    let parts = Config::default().clusters().remove(0);
    let version = parts.reconciler.nginx.version;
    assert_eq!(parts.reconciler.nginx, reconciler::nginx::Settings { version, ..Default::default() });
}

#[test]
fn connections_to_applications_need_not_be_kept() {
    let yaml = "clusters: {main: {nginx: {upstream_keepalive: 0}}}";
    let parts = parse("test.yaml", yaml).expect("it is fine").clusters().remove(0);
    assert_eq!(parts.reconciler.nginx.upstream_keepalive, 0);
}

#[test]
fn the_observer_knows_how_many_addresses_the_proxies_take() {
    for (proxy, expected) in [
        ("{}", (Some(2), 1, true)),
        ("{replicas: 12}", (Some(12), 3, true)),
        ("{replicas: 5, update: {parallelism: 4}}", (Some(5), 4, true)),
        ("{replicas: 5, update: {parallelism: 8}}", (Some(5), 5, true)),
        ("{replicas: 5, update: {order: stop-first}}", (Some(5), 0, true)),
        ("{publish_mode: host, ports: {http: 80}}", (None, 0, false)),
    ] {
        let yaml = format!("clusters: {{main: {{service_cluster: east, proxy: {proxy}}}}}");
        let proxies = parse("test.yaml", &yaml).expect("it is fine").observer().proxies;
        let (_, of_main) = proxies.into_iter().next().expect("one cluster");
        let observer::Proxies { service, service_cluster, replicas, surge, vip } = of_main;
        assert_eq!((service.as_str(), service_cluster.as_str()), ("dovetail-proxy", "east"), "{proxy}");
        assert_eq!((replicas, surge, vip), expected, "{proxy}");
    }
}
