//! The three-way merge of settings: what we applied last, what is live, what is wanted.
//!
//! # Guarantees
//! - A setting that is wanted as it was applied leaves the live value alone, whatever it is by now: an
//!   operator's own change stands for ever.
//! - A setting that is wanted differently than it was applied is written.
//! - Whatever neither side names survives, fields that we have never heard of included.
//!
//! Lists whose elements Docker's command line adds and removes singly are merged element by element; any other
//! list is one value.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// The live value with every difference between `applied` and `wanted` carried over.
pub fn merge(applied: &Value, live: &Value, wanted: &Value) -> Value {
    node(&mut Vec::new(), present(Some(applied)), Some(live), present(Some(wanted))).unwrap_or(Value::Null)
}

/// The paths at which `applied` and `wanted` differ, for people.
pub fn differences(applied: &Value, wanted: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differ(&mut Vec::new(), present(Some(applied)), present(Some(wanted)), &mut found);
    found
}

/// How the elements of a list are told apart.
#[derive(Clone, Copy)]
enum Elements {
    /// By everything.
    Whole,
    /// `NAME=value`, by the name.
    Assignments,
    /// By protocol and published port.
    Ports,
}

fn elements_at(path: &[String]) -> Option<Elements> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["TaskTemplate", "Placement", "Constraints" | "Preferences"]
        | ["TaskTemplate", "ContainerSpec", "CapabilityAdd" | "CapabilityDrop"] => Some(Elements::Whole),
        ["TaskTemplate", "ContainerSpec", "Env"] => Some(Elements::Assignments),
        ["EndpointSpec", "Ports"] => Some(Elements::Ports),
        _ => None,
    }
}

impl Elements {
    fn key(self, element: &Value) -> Value {
        match self {
            Elements::Whole => element.clone(),
            Elements::Assignments => match element.as_str() {
                Some(text) => Value::from(text.split_once('=').map_or(text, |(name, _)| name)),
                None => element.clone(),
            },
            Elements::Ports => Value::from(vec![element["Protocol"].clone(), element["PublishedPort"].clone()]),
        }
    }
}

/// The engine writes `null` for what is not there.
fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

fn node(
    path: &mut Vec<String>,
    applied: Option<&Value>,
    live: Option<&Value>,
    wanted: Option<&Value>,
) -> Option<Value> {
    if applied == wanted {
        return live.cloned();
    }
    let lists = [applied, wanted].into_iter().flatten().all(Value::is_array);
    if let Some(elements) = elements_at(path).filter(|_| lists) {
        return list(elements, applied, live, wanted);
    }
    let is_wanted = wanted.is_some();
    let Some((applied, wanted)) = as_maps(applied, wanted) else {
        return wanted.cloned();
    };
    let mut merged = match present(live) {
        Some(Value::Object(live)) => live.clone(),
        None => Map::new(),
        // Somebody put another kind of value here; ours is the one that is wanted.
        Some(_) => return is_wanted.then(|| Value::Object(wanted.clone())),
    };
    for key in applied.keys().chain(wanted.keys().filter(|key| !applied.contains_key(*key))) {
        path.push(key.clone());
        let child = node(path, present(applied.get(key)), merged.get(key), present(wanted.get(key)));
        path.pop();
        match child {
            Some(child) => drop(merged.insert(key.clone(), child)),
            None => drop(merged.remove(key)),
        }
    }
    // What was taken out to the last field is not there, unless something is wanted there.
    (!merged.is_empty() || is_wanted || live.is_some_and(is_empty_map)).then_some(Value::Object(merged))
}

fn is_empty_map(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

type Fields = Map<String, Value>;

/// Both sides as maps, an absent one being empty; `None` if either is something else.
fn as_maps<'a>(applied: Option<&'a Value>, wanted: Option<&'a Value>) -> Option<(&'a Fields, &'a Fields)> {
    static EMPTY: LazyLock<Fields> = LazyLock::new(Map::new);
    match (applied, wanted) {
        (Some(Value::Object(applied)), Some(Value::Object(wanted))) => Some((applied, wanted)),
        (Some(Value::Object(applied)), None) => Some((applied, &EMPTY)),
        (None, Some(Value::Object(wanted))) => Some((&EMPTY, wanted)),
        _ => None,
    }
}

fn list(elements: Elements, applied: Option<&Value>, live: Option<&Value>, wanted: Option<&Value>) -> Option<Value> {
    let array = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (applied, mut merged, wanted) = (array(applied), array(live), array(wanted));
    let same = |a: &Value, b: &Value| elements.key(a) == elements.key(b);
    merged.retain(|element| {
        let was_applied = applied.iter().any(|other| same(element, other));
        let is_wanted = wanted.iter().any(|other| same(element, other));
        !was_applied || is_wanted
    });
    for element in wanted.iter().filter(|element| !applied.contains(element)) {
        match merged.iter_mut().find(|other| same(element, other)) {
            Some(other) => *other = element.clone(),
            None => merged.push(element.clone()),
        }
    }
    (!merged.is_empty()).then_some(Value::Array(merged))
}

fn differ(path: &mut Vec<String>, applied: Option<&Value>, wanted: Option<&Value>, found: &mut Vec<String>) {
    if applied == wanted {
        return;
    }
    match as_maps(applied, wanted) {
        Some((applied, wanted)) => {
            for key in applied.keys().chain(wanted.keys().filter(|key| !applied.contains_key(*key))) {
                path.push(key.clone());
                differ(path, present(applied.get(key)), present(wanted.get(key)), found);
                path.pop();
            }
        }
        None => found.push(path.join(".")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(applied: Value, live: Value, wanted: Value, expected: Value) {
        assert_eq!(merge(&applied, &live, &wanted), expected);
    }

    #[test]
    fn a_changed_setting_is_written_and_an_unchanged_one_is_left_alone() {
        check(
            json!({"Mode": {"Replicated": {"Replicas": 2}}, "TaskTemplate": {"ContainerSpec": {"Image": "a"}}}),
            json!({"Mode": {"Replicated": {"Replicas": 5}}, "TaskTemplate": {"ContainerSpec": {"Image": "a"}}}),
            json!({"Mode": {"Replicated": {"Replicas": 2}}, "TaskTemplate": {"ContainerSpec": {"Image": "b"}}}),
            json!({"Mode": {"Replicated": {"Replicas": 5}}, "TaskTemplate": {"ContainerSpec": {"Image": "b"}}}),
        );
    }

    #[test]
    fn a_setting_that_is_gone_is_taken_out_and_its_neighbours_stay() {
        check(
            json!({"TaskTemplate": {"Resources": {"Limits": {"MemoryBytes": 1}}}}),
            json!({"TaskTemplate": {"Resources": {"Limits": {"MemoryBytes": 1, "Pids": 9}}}}),
            json!({}),
            json!({"TaskTemplate": {"Resources": {"Limits": {"Pids": 9}}}}),
        );
        check(
            json!({"TaskTemplate": {"Resources": {"Limits": {"MemoryBytes": 1}}}}),
            json!({"Name": "x", "TaskTemplate": {"Resources": {"Limits": {"MemoryBytes": 1}}}}),
            json!({}),
            json!({"Name": "x"}),
        );
    }

    #[test]
    fn constraints_are_a_set() {
        let constraints = |list: &[&str]| json!({"TaskTemplate": {"Placement": {"Constraints": list}}});
        check(
            constraints(&["a==1", "b==1"]),
            constraints(&["a==1", "b==1", "theirs==1"]),
            constraints(&["a==1", "c==1"]),
            constraints(&["a==1", "theirs==1", "c==1"]),
        );
        check(
            constraints(&["a==1"]),
            constraints(&["theirs==1"]),
            constraints(&["a==1", "c==1"]),
            constraints(&["theirs==1", "c==1"]),
        );
    }

    #[test]
    fn capabilities_are_sets() {
        for field in ["CapabilityDrop", "CapabilityAdd"] {
            let list = |list: &[&str]| json!({"TaskTemplate": {"ContainerSpec": {field: list}}});
            check(list(&["ALL"]), list(&["ALL", "CAP_THEIRS"]), list(&["CAP_OURS"]), list(&["CAP_THEIRS", "CAP_OURS"]));
        }
    }

    #[test]
    fn variables_are_told_apart_by_name_and_ports_by_number() {
        let env = |list: &[&str]| json!({"TaskTemplate": {"ContainerSpec": {"Env": list}}});
        check(env(&["A=1"]), env(&["A=9", "B=1"]), env(&["A=2"]), env(&["A=2", "B=1"]));
        let port =
            |published: u16, target: u16| json!({"Protocol": "tcp", "PublishedPort": published, "TargetPort": target});
        check(
            json!({"EndpointSpec": {"Ports": [port(80, 80)]}}),
            json!({"EndpointSpec": {"Ports": [port(80, 80), port(9000, 9000)]}}),
            json!({"EndpointSpec": {"Ports": [port(80, 8080), port(443, 443)]}}),
            json!({"EndpointSpec": {"Ports": [port(80, 8080), port(9000, 9000), port(443, 443)]}}),
        );
    }

    #[test]
    fn differences_are_paths() {
        let found = differences(
            &json!({"TaskTemplate": {"ContainerSpec": {"Image": "a", "StopSignal": "x"}}}),
            &json!({"TaskTemplate": {"ContainerSpec": {"Image": "b"}}, "Labels": {"x": "y"}}),
        );
        assert_eq!(found, ["TaskTemplate.ContainerSpec.Image", "TaskTemplate.ContainerSpec.StopSignal", "Labels.x"]);
    }

    /// Trees over the names that have rules and some that have none. Settings never hold a null or an
    /// empty list; specs do.
    fn tree(empty: Value, least: usize) -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(empty),
            any::<bool>().prop_map(Value::from),
            (0..4_i64).prop_map(Value::from),
            "[a-c]=?[0-2]".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 4, move |inner| {
            let key = prop_oneof![
                Just("TaskTemplate"),
                Just("Placement"),
                Just("Constraints"),
                Just("ContainerSpec"),
                Just("Env"),
                Just("EndpointSpec"),
                Just("Ports"),
                Just("Foreign"),
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), least..4).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..4)
                    .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ]
        })
    }

    fn settings() -> impl Strategy<Value = Value> {
        tree(json!(7), 1).prop_map(|tree| json!({"TaskTemplate": tree}))
    }

    fn spec() -> impl Strategy<Value = Value> {
        tree(Value::Null, 0).prop_map(|tree| json!({"TaskTemplate": tree}))
    }

    proptest! {
        #[test]
        fn unchanged_settings_write_nothing(applied in settings(), live in spec()) {
            prop_assert_eq!(merge(&applied, &live, &applied), live);
        }

        #[test]
        fn merging_twice_is_merging_once(applied in settings(), live in spec(), wanted in settings()) {
            let once = merge(&applied, &live, &wanted);
            prop_assert_eq!(merge(&applied, &once, &wanted), once.clone());
            prop_assert_eq!(merge(&wanted, &once, &wanted), once);
        }

        #[test]
        fn what_neither_side_names_survives(applied in settings(), live in spec(), wanted in settings(), foreign in tree(Value::Null, 0)) {
            let mut live = live;
            live["Elsewhere"] = foreign.clone();
            if let Some(template) = live["TaskTemplate"].as_object_mut() {
                template.insert("Unheard".into(), foreign.clone());
            }
            let kept = live["TaskTemplate"].is_object();
            let merged = merge(&applied, &live, &wanted);
            prop_assert_eq!(&merged["Elsewhere"], &foreign);
            let both_maps = (applied["TaskTemplate"].is_object() || applied["TaskTemplate"].is_null())
                && (wanted["TaskTemplate"].is_object() || wanted["TaskTemplate"].is_null());
            if kept && both_maps {
                prop_assert_eq!(&merged["TaskTemplate"]["Unheard"], &foreign);
            }
        }
    }
}
