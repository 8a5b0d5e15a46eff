//! The least that an operator must be permitted to do at the Engine, as a filter: SECURITY.md lists the same calls for
//! administrators. Every scenario's operator works behind it, and one that asks for more has failed.
//!
//! Deliberately missing: whose service or config it is that is updated or removed. A path names an id, and the filter
//! keeps no list of these.

use hyper::Method;
use serde_json::Value;

/// What may be called; `*` is one name or id, `**` is several.
const CALLS: [(Method, &str); 19] = [
    (Method::GET, "/version"),
    (Method::GET, "/info"),
    (Method::GET, "/_ping"),
    (Method::GET, "/events"),
    (Method::GET, "/services"),
    (Method::GET, "/services/*"),
    (Method::GET, "/tasks"),
    (Method::GET, "/tasks/*/logs"),
    (Method::GET, "/networks/*"),
    (Method::GET, "/nodes"),
    (Method::GET, "/secrets"),
    (Method::GET, "/configs"),
    (Method::GET, "/distribution/**/json"),
    (Method::POST, "/configs/create"),
    (Method::POST, "/configs/*/update"),
    (Method::DELETE, "/configs/*"),
    (Method::POST, "/services/create"),
    (Method::POST, "/services/*/update"),
    (Method::DELETE, "/services/*"),
];

/// Whether a call may be made, as far as its path (without the API's version) tells.
pub fn may_call(method: &Method, path: &str) -> bool {
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    CALLS.iter().any(|(permitted, pattern)| {
        let pattern: Vec<&str> = pattern.trim_matches('/').split('/').collect();
        permitted == method && fits(&words, &pattern)
    })
}

fn fits(words: &[&str], pattern: &[&str]) -> bool {
    match (words, pattern) {
        ([], []) => true,
        ([_, words @ ..], ["**", rest @ ..]) => fits(words, pattern) || fits(words, rest),
        ([word, words @ ..], [expected, rest @ ..]) => (*expected == "*" || word == expected) && fits(words, rest),
        _ => false,
    }
}

/// Of Docker's default capabilities, what nginx needs where all the others are taken.
const OF_NGINX: [&str; 3] = ["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID"];

/// Whether the body of a write has to be looked at.
pub fn has_body(method: &Method, path: &str) -> bool {
    *method == Method::POST && (path.ends_with("/create") || path.ends_with("/update"))
}

/// What is wrong with what is created or updated: whatever is not marked as an installation's own, and a service that
/// reaches its node.
pub fn refusal(path: &str, body: &Value) -> Option<&'static str> {
    if body["Labels"]["dovetail.instance"].as_str().is_none_or(str::is_empty) {
        return Some("it does not bear the label dovetail.instance");
    }
    if path.starts_with("/configs") {
        let named = body["Name"].as_str().is_some_and(|name| name.starts_with("dovetail."));
        return (!named).then_some("a config's name begins with dovetail.");
    }
    let container = &body["TaskTemplate"]["ContainerSpec"];
    let mounts = container["Mounts"].as_array().is_some_and(|mounts| !mounts.is_empty());
    let mut added = container["CapabilityAdd"].as_array().into_iter().flatten();
    let more = added.any(|capability| capability.as_str().is_none_or(|name| !OF_NGINX.contains(&name)));
    (mounts || more).then_some("it mounts something, or has more capabilities than it needs")
}
