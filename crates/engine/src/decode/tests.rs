//! `tests/recorded/*.json` are answers of Engine 20.10.24, the swarm's secrets taken out. The rest is written
//! by hand after its source.

mod objects;
mod services;
mod tasks;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use swarm::{Node, Service, Task};

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

fn whole<T>(bytes: &[u8], read: impl FnMut(&[u8]) -> Decoded<Option<T>>) -> Decoded<Vec<T>> {
    let mut list = List::new(read);
    list.push(bytes)?;
    list.end()
}

fn services(bytes: &[u8]) -> Decoded<Vec<Service>> {
    whole(bytes, service)
}

fn tasks(bytes: &[u8]) -> Decoded<Vec<Task>> {
    whole(bytes, super::tasks(None))
}

fn history(bytes: &[u8]) -> Decoded<Vec<Task>> {
    whole(bytes, tasks_with_specs())
}

fn nodes(bytes: &[u8]) -> Decoded<Vec<Node>> {
    whole(bytes, node)
}

fn at(text: &str) -> Timestamp {
    timestamp(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

// === What the Engine says of itself ===

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
            history(&bytes).map(drop),
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
