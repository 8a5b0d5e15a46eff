//! A spec in nginx's language.
//!
//! # Guarantees
//! - Same spec and settings, same bytes.
//! - What a service's labels hold reaches a file only through [`Writer`](super::writer::Writer).
//! - What can be said once is said once, in `nginx.conf`; a group's text holds only what is its own. A group
//!   whose services change leaves the texts of all others as they are, unless it is the first of the cluster to have
//!   TLS passed through, or the last: then the listeners move.
//! - IPv4 only is listened on: an overlay network has no other addresses for the proxy, and a container without
//!   IPv6 would not start.

mod main;
mod routes;
mod streams;
mod upstreams;

use std::collections::BTreeMap;

use model::{Contribution, Options, ProxySpec};

use super::settings::Settings;

/// How the proxy's container starts nginx. It goes with [`MAIN_FILE`], which holds `daemon off;`: no second one
/// may come from an image's entrypoint. `-e` keeps nginx from opening a log file before it has read anything.
pub const COMMAND: [&str; 5] = ["nginx", "-e", "/dev/stderr", "-c", MAIN_FILE];

/// The path of the file that includes all others.
pub const MAIN_FILE: &str = "/etc/nginx/nginx.conf";

/// Where the routes are.
pub const ROUTES_DIRECTORY: &str = "/etc/nginx/dovetail";

/// Where the health path is also answered, on loopback, when the HTTP port expects the PROXY protocol.
pub const HEALTH_PORT: u16 = 8718;

/// The bytes of routes in one file, and so the most that one group may need: well under what a config object
/// holds on older engines, 500 KiB.
pub(crate) const PIECE_LIMIT: usize = 400 * 1024;

/// At least the bytes that a service adds to each group that it is in, its hosts and a share of the fixed text
/// included. The law "a group's text is not larger than the weights of its services" has a test below.
pub(crate) fn weight(contribution: &Contribution) -> usize {
    // The fixed text of a group with its longest possible name, which appears five times; a comment has at most
    // 300 characters, of up to four bytes each.
    const FIXED: usize = 1024 + 5 * 264;
    const COMMENT: usize = 4 + 4 * 303;
    const ENDPOINT: usize = "    server [ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535 weight=1000000 max_fails=1000000 fail_timeout=31536000000ms;\n".len();
    // A second server for TLS, and a path's two locations in both.
    const OPTIONS: usize = 8 * 1024;
    const NETWORK: usize = "            allow ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128;\n".len();
    let hosts: usize = contribution.hosts.iter().map(|host| "    server_name ;\n".len() + host.as_str().len()).sum();
    let options = if contribution.options.is_default() {
        // Another service of the host may bring TLS, and with it a second location.
        256
    } else {
        let Options { route, .. } = &contribution.options;
        let networks = route.allow.iter().chain(&route.deny).map(|networks| networks.len()).sum::<usize>();
        OPTIONS + hosts + 4 * networks * NETWORK
    };
    FIXED + COMMENT + hosts + options + contribution.endpoints.len() * ENDPOINT
}

/// The text of every file, by its path.
pub fn render(spec: &ProxySpec, settings: &Settings) -> BTreeMap<String, String> {
    let passed = spec.groups.iter().chain(&spec.default_backend).any(|group| !group.passthrough.is_empty());
    let layout = Layout { settings, passthrough: passed };
    let mut routes: BTreeMap<String, String> = spec
        .groups
        .iter()
        .map(|group| (group.first_host().as_str().to_owned(), routes::group_text(group, spec, &layout)))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    // No host holds a parenthesis.
    routes.insert("(default)".to_owned(), routes::default_text(spec, &layout));
    let mut files = sharded("routes", "conf", routes);
    if layout.passthrough {
        let (upstreams, names) = streams::texts(spec, settings);
        files.extend(sharded("streams", "conf", upstreams));
        files.extend(sharded("passthrough", "map", names));
    }
    files.insert(MAIN_FILE.to_owned(), main::text(spec, &layout));
    files
}

/// What all texts depend on.
struct Layout<'a> {
    settings: &'a Settings,
    /// Whether anybody has TLS passed through. Then the TLS port belongs to nginx's `stream`, which reads the name that
    /// a client asks for and hands the connection on, to an application or to the servers of `http` on a socket.
    passthrough: bool,
}

/// Pieces of text as files: `NAME.EXTENSION`, or several that differ in a suffix.
fn sharded(name: &str, extension: &str, pieces: BTreeMap<String, String>) -> BTreeMap<String, String> {
    model::split(pieces, PIECE_LIMIT, |text| text.len())
        .into_iter()
        .map(|shard| {
            let suffix = if shard.prefix.is_empty() { String::new() } else { format!("-{}", shard.prefix) };
            let text = shard.pieces.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n");
            (format!("{ROUTES_DIRECTORY}/{name}{suffix}.{extension}"), text)
        })
        .collect()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree;
