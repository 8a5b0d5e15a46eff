//! What a service answers: hosts, the part of their paths, and whereto some of them are redirected.

use std::collections::{BTreeMap, BTreeSet};

use model::values::{Path, RedirectTo, number};
use model::{Code, Host, Problem, labels};

use super::written::{BOOLEAN, List, Written, boolean, parts, trimmed};

/// Unlike elsewhere an empty value is a problem: whether the service asks to be routed must not be a guess.
pub(super) fn default_backend(written: &mut Written<'_>) -> Option<bool> {
    let Some(value) = written.raw(labels::DEFAULT_BACKEND) else {
        return Some(false);
    };
    let read = boolean(value);
    if read.is_none() {
        written.refuse(Code::BadDefaultBackend, labels::DEFAULT_BACKEND, "is neither true nor false", BOOLEAN);
    }
    read
}

pub(super) fn hosts(written: &mut Written<'_>, default_backend: Option<bool>) -> BTreeSet<Host> {
    let list = List {
        label: labels::HOSTS,
        separator: ',',
        code: Code::BadHost,
        bad_items: "names are no host names",
        allowed: Host::ALLOWED,
    };
    // `hosts=${HOSTS:-}` beside `default_backend=true` asks for the default backend alone.
    let empty = written.raw(list.label).is_some() && written.get(list.label).is_none();
    if empty && default_backend == Some(false) {
        written.refuse(list.code, list.label, "names no host", list.allowed);
    }
    let hosts = written.items(list, |item| Host::parse(item).map_err(|error| error.to_string()));
    hosts.into_iter().collect()
}

pub(super) fn context_root(written: &mut Written<'_>) -> Path {
    written.value(labels::CONTEXT_ROOT, "is no path").unwrap_or_default()
}

pub(super) fn context_root_rewrite(written: &mut Written<'_>) -> Option<bool> {
    written.boolean(labels::CONTEXT_ROOT_REWRITE, Code::BadOption)
}

/// WebSockets work on every path, so that the label changes nothing, whatever it says; that it means nothing is told.
pub(super) fn websocket_endpoints(written: &mut Written<'_>) {
    let label = labels::WEBSOCKET_ENDPOINTS;
    let Some(value) = written.get(label) else { return };
    if parts(value, ',').any(|item| trimmed(item).parse::<Path>().is_err()) {
        written.left_out(Code::NoEffect, label, "is no list of paths; WebSockets work on every path", Path::ALLOWED);
    }
}

/// Pairs of a source, of which only the host counts, and a target. A source that is none of the service's hosts is left
/// out, as Interlock did: one service cannot redirect the requests of another one's host.
pub(super) fn redirects(written: &mut Written<'_>, hosts: &BTreeSet<Host>) -> BTreeMap<Host, RedirectTo> {
    let list = List {
        label: labels::REDIRECTS,
        separator: ';',
        code: Code::BadOption,
        bad_items: "items are no redirects",
        allowed: "pairs of source and target such as http://old.example.org,https://new.example.org, separated by \
                  semicolons",
    };
    let mut redirects = BTreeMap::new();
    let mut odd = Vec::new();
    // A bad host may be the one that is missing here, and is told already.
    let hosts_read = !written.has(Code::BadHost);
    written.items(list, |item| {
        let (source, target) = item.split_once(',').ok_or("is no pair of a source and a target")?;
        let (source, path) = source_host(trimmed(source))?;
        let target: RedirectTo = trimmed(target)
            .parse()
            .map_err(|_| format!("the target is not possible; possible is {}", RedirectTo::ALLOWED))?;
        if hosts_read && !hosts.contains(&source) {
            let why = format!("has no effect: its source {source} is not among the service's hosts");
            odd.push((item.to_owned(), why));
            return Ok(());
        }
        if !path.is_empty() {
            let why = format!("the path of its source has no effect: all requests for {source} are redirected");
            odd.push((item.to_owned(), why));
        }
        match redirects.get(&source) {
            Some(other) if *other != target => Err(format!("its source {source} has another target already: {other}")),
            _ => {
                redirects.insert(source, target);
                Ok(())
            }
        }
    });
    let allowed = "a source that is one of the service's hosts, without a path";
    let no_effect = |why: &str, item: &str| Problem::new(Code::NoEffect, why).at(list.label, item).allowed(allowed);
    written.warn_of(
        &odd,
        |(item, why)| no_effect(why, item),
        |more| no_effect(&format!("{more} more of its items have no effect, wholly or in part"), ""),
    );
    redirects
}

/// The host of `http://old.example.org`, and the path behind it. Scheme, port and path are read and not looked at:
/// Interlock matched hosts only.
fn source_host(text: &str) -> Result<(Host, &str), String> {
    let refused = || "the source is no URL of a host".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(refused)?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) || rest.contains(char::is_control) {
        return Err(refused());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let name = match authority.split_once(':') {
        Some((name, port)) if number::<u16>(port).is_some_and(|port| port > 0) => name,
        Some(_) => return Err(refused()),
        None => authority,
    };
    if trimmed(name) != name {
        return Err(refused());
    }
    let host = Host::parse(name).map_err(|error| format!("the host of the source is not possible: {error}"))?;
    Ok((host, path))
}
