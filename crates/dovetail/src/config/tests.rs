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
