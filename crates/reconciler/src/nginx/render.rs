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

use std::collections::{BTreeMap, BTreeSet};

use model::values::CookieName;
use model::{BackendTls, Contribution, File, Files, Group, Host, Options, ProxySpec, Route, Shards, Sticky};

pub(crate) use routes::is_redirected;

use super::settings::Settings;
use crate::difference::Difference;
use crate::tally::Tally;

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

/// The bytes that one service may need in all groups that it is in: each of them holds its text.
pub(crate) const SERVICE_LIMIT: usize = 4 * 1024 * 1024;

/// At least the bytes that a service adds to each group that it is in, its hosts and a share of the fixed text
/// included: several times what they are. It is quickly found out, and where it is too much, [`size`] says what is true. The
/// law "a group's text is not larger than the weights of its services" has a test below.
pub(crate) fn weight(contribution: &Contribution) -> usize {
    let hosts: usize = contribution.hosts.iter().map(|host| "    server_name ;\n".len() + host.as_str().len()).sum();
    // They stand in both servers, if there are two.
    weight_without_hosts(contribution) + if contribution.options.is_default() { hosts } else { 2 * hosts }
}

/// The same where its hosts are not counted.
pub(crate) fn weight_without_hosts(contribution: &Contribution) -> usize {
    // The fixed text of a group with its longest possible name, which appears five times; a comment has at most
    // 300 characters, of up to four bytes each.
    const FIXED: usize = 1024 + 5 * 264;
    const COMMENT: usize = 4 + 4 * 303;
    const ENDPOINT: usize = "    server [ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535 weight=1000000 max_fails=1000000 fail_timeout=31536000000ms;\n".len();
    // A second server for TLS, and a path's two locations in both.
    const OPTIONS: usize = 8 * 1024;
    const NETWORK: usize = "            allow ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128;\n".len();
    let options = if contribution.options.is_default() {
        // Another service of the host may bring TLS, and with it a second location.
        256
    } else {
        let Options { route, .. } = &contribution.options;
        let networks = route.allow.iter().chain(&route.deny).map(|networks| networks.len()).sum::<usize>();
        OPTIONS + 4 * networks * NETWORK
    };
    FIXED + COMMENT + options + contribution.endpoints.len() * ENDPOINT
}

/// The bytes that a group needs in one file: in the one where it needs most, and as if TLS were passed through for somebody,
/// which takes more and may come at any time.
pub(crate) fn size(group: &Group, spec: &ProxySpec, settings: &Settings) -> usize {
    let layout = Layout { settings, passthrough: true };
    let routes = match group.hosts.is_empty() {
        true => routes::default_text(spec, &layout),
        false => routes::group_text(group, spec, &layout),
    };
    let streams = [streams::upstream_text(group, spec, settings), streams::names_text(group)];
    streams.into_iter().flatten().chain([routes]).map(|text| text.len()).max().unwrap_or_default()
}

/// The text of every file, by its path.
pub fn render(spec: &ProxySpec, settings: &Settings) -> BTreeMap<String, String> {
    let mut rendered = Rendered::new(settings.clone());
    let nothing = ProxySpec::empty(spec.cluster.clone());
    let files = rendered.follow(&nothing, spec, &Difference::between(&nothing, spec));
    let text = |file: &File| String::from_utf8_lossy(&file.content).into_owned();
    files.iter().map(|(path, file)| (path.to_string(), text(file))).collect()
}

/// The files of one cluster's proxies, with all that is needed to write only what changes.
#[derive(Debug)]
pub(crate) struct Rendered {
    settings: Settings,
    overview: Overview,
    /// Whether the texts are those of a cluster where TLS is passed through.
    passthrough: bool,
    /// The texts of groups, by their first hosts.
    routes: Shards<String>,
    upstreams: Shards<String>,
    names: Shards<String>,
    /// The tables of sticky cookies, by the cookies' names.
    cookies: Shards<String>,
    files: Files,
}

impl Rendered {
    /// Nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            overview: Overview::default(),
            passthrough: false,
            routes: Shards::new(PIECE_LIMIT),
            upstreams: Shards::new(PIECE_LIMIT),
            names: Shards::new(PIECE_LIMIT),
            cookies: Shards::new(PIECE_LIMIT),
            files: Files::new(),
        }
    }

    /// What the files are made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The files of a spec, made from those of the one before.
    pub fn follow(&mut self, before: &ProxySpec, spec: &ProxySpec, difference: &Difference) -> &Files {
        let mut groups = difference.groups(before, spec);
        for (before, now) in groups.values() {
            self.overview.change(*before, Turn::Goes);
            self.overview.change(*now, Turn::Comes);
        }
        let passthrough = self.overview.passed > 0;
        let moves = !self.files.is_empty() && self.passthrough != passthrough;
        let nothing = ProxySpec::empty(spec.cluster.clone());
        if moves {
            // The listeners move, and they stand in every text.
            for texts in [&mut self.routes, &mut self.upstreams, &mut self.names, &mut self.cookies] {
                *texts = Shards::new(PIECE_LIMIT);
            }
            self.files = Files::new();
            groups = Difference::between(&nothing, spec).groups(&nothing, spec);
        }
        self.passthrough = passthrough;
        let layout = Layout { settings: &self.settings, passthrough };
        for (first, (_, group)) in &groups {
            let Some(first) = first else { continue };
            let text = group.map(|group| routes::group_text(group, spec, &layout));
            put(&mut self.routes, first.as_str(), text.filter(|text| !text.is_empty()));
        }
        if self.files.is_empty() || groups.contains_key(&None) {
            put(&mut self.routes, DEFAULT, Some(routes::default_text(spec, &layout)));
        }
        if passthrough {
            for (first, (_, group)) in &groups {
                let key = first.map_or(DEFAULT, Host::as_str);
                put(
                    &mut self.upstreams,
                    key,
                    group.and_then(|group| streams::upstream_text(group, spec, &self.settings)),
                );
                put(&mut self.names, key, group.and_then(streams::names_text));
            }
        }
        for cookie in groups.values().flat_map(|(before, now)| [*before, *now]).flatten().flat_map(cookies) {
            let stays = self.overview.cookies.contains(cookie);
            put(&mut self.cookies, cookie.as_str(), stays.then(|| upstreams::cookie_text(cookie)));
        }
        let main = main::text(spec, &self.overview, &layout);
        save(&mut self.files, MAIN_FILE, Some(main));
        for (texts, name, extension) in [
            (&mut self.routes, "routes", "conf"),
            (&mut self.upstreams, "streams", "conf"),
            (&mut self.names, "passthrough", "map"),
            (&mut self.cookies, "cookies", "conf"),
        ] {
            for (prefix, texts) in texts.changes() {
                let suffix = if prefix.is_empty() { prefix } else { format!("-{prefix}") };
                let text = texts.map(|texts| texts.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n"));
                save(&mut self.files, &format!("{ROUTES_DIRECTORY}/{name}{suffix}.{extension}"), text);
            }
        }
        &self.files
    }
}

/// The name of the default backend's texts: no host holds a parenthesis.
const DEFAULT: &str = "(default)";

/// A text in its place, or none.
fn put(texts: &mut Shards<String>, key: &str, text: Option<String>) {
    match text {
        Some(text) => texts.insert(key, text.len(), text),
        None => texts.remove(key),
    }
}

/// A file in its place, or none. One that stays the same keeps its bytes and its digest.
fn save(files: &mut Files, path: &str, text: Option<String>) {
    match text {
        Some(text) if files.get(path).is_some_and(|file| *file.content == *text.as_bytes()) => {}
        Some(text) => drop(files.insert(path.into(), File::new(text.into_bytes()))),
        None => drop(files.remove(path)),
    }
}

/// What all texts depend on.
struct Layout<'a> {
    settings: &'a Settings,
    /// Whether anybody has TLS passed through. Then the TLS port belongs to nginx's `stream`, which reads the name that
    /// a client asks for and hands the connection on, to an application or to the servers of `http` on a socket.
    passthrough: bool,
}

/// What the main file depends on.
#[derive(Debug, Default)]
struct Overview {
    hosts: Names,
    /// Those with TLS.
    tls: Names,
    /// The cookies by which clients stay at one server.
    cookies: Tally<CookieName>,
    /// The groups that have TLS passed through.
    passed: usize,
    /// The routes whose applications have to show a certificate that is of somebody known.
    verified: usize,
}

/// How many hosts there are, and how long they are.
#[derive(Debug, Default)]
struct Names {
    count: usize,
    lengths: Tally<usize>,
}

#[derive(Clone, Copy)]
enum Turn {
    Comes,
    Goes,
}

impl Names {
    fn change(&mut self, hosts: &BTreeSet<Host>, turn: Turn) {
        for length in hosts.iter().map(|host| host.as_str().len()) {
            match turn {
                Turn::Comes => drop(self.lengths.add(length)),
                Turn::Goes => drop(self.lengths.remove(&length)),
            }
        }
        match turn {
            Turn::Comes => self.count += hosts.len(),
            Turn::Goes => self.count -= hosts.len(),
        }
    }
}

impl Overview {
    fn change(&mut self, group: Option<&Group>, turn: Turn) {
        let Some(group) = group else { return };
        self.hosts.change(&group.hosts, turn);
        if group.tls.is_some() {
            self.tls.change(&group.hosts, turn);
        }
        for cookie in cookies(group) {
            match turn {
                Turn::Comes => drop(self.cookies.add(cookie.clone())),
                Turn::Goes => drop(self.cookies.remove(cookie)),
            }
        }
        let passed = usize::from(!group.passthrough.is_empty());
        let is_verified = |route: &&Route| route.options.backend_tls == Some(BackendTls::Verified);
        let verified = group.routes.iter().filter(is_verified).count();
        let counts = [(&mut self.passed, passed), (&mut self.verified, verified)];
        for (count, change) in counts {
            match turn {
                Turn::Comes => *count += change,
                Turn::Goes => *count -= change,
            }
        }
    }
}

/// The cookies by which clients of a group stay at one server.
fn cookies(group: &Group) -> impl Iterator<Item = &CookieName> {
    group.routes.iter().filter_map(|route| match &route.options.sticky {
        Some(Sticky::Cookie(cookie)) => Some(cookie),
        Some(Sticky::ClientAddress) | None => None,
    })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree;
