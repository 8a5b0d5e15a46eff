//! Who answers which host and which path, and with what options.
//!
//! # The rule for services that share a host
//! Options of a host come from the oldest service on it that says something about them, options of a path from the
//! oldest on that path; ties are broken by the service's id. A younger service that says something else is routed all
//! the same, and told. TLS is the exception: bytes that one service wants to be passed through and another wants to be
//! decrypted cannot be both, so the younger one is refused ([`split_over_tls`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::values::{Hsts, Path, RedirectTo};
use model::{Code, Contribution, Group, Host, Problem, Route, RouteOptions, ServiceId, Tls, labels};

/// What every service contributes.
pub(crate) type Contributions = BTreeMap<ServiceId, Arc<Contribution>>;

/// All groups of a cluster.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Grouped {
    pub groups: Vec<Group>,
    pub default_backend: Option<Group>,
    /// What services say in vain, because an older one says something else.
    pub conflicts: Vec<(ServiceId, Problem)>,
}

/// Groups what every service contributes. Nobody in it is [split over TLS](split_over_tls).
pub(crate) fn group(mut by_claim: ByClaim<'_>) -> Grouped {
    let default = by_claim.remove(&None);
    let mut conflicts = Conflicts::default();
    let mut by_answer: BTreeMap<(Answer, Option<&Host>), BTreeSet<Host>> = BTreeMap::new();
    for (host, members) in by_claim.into_iter().filter_map(|(host, members)| Some((host?, members))) {
        let answer = Answer::of(Some(host), &members, &mut conflicts);
        // A host that is redirected to itself, in another scheme, is alone: nobody is redirected to where they are.
        let itself = answer.redirect.as_ref().filter(|to| to.host == *host).map(|_| host);
        by_answer.entry((answer, itself)).or_default().insert(host.clone());
    }
    let mut groups: Vec<Group> = by_answer.into_iter().map(|((answer, _), hosts)| answer.for_hosts(hosts)).collect();
    groups.sort_by(|one, other| one.first_host().cmp(other.first_host()));
    let default_backend = default.map(|members| Answer::of(None, &members, &mut conflicts).for_hosts(BTreeSet::new()));
    Grouped { groups, default_backend, conflicts: conflicts.told() }
}

/// Services that ask for the other way of TLS than an older service on one of their hosts.
pub(crate) fn split_over_tls(contributions: &Contributions) -> Vec<(ServiceId, Problem)> {
    let mut first: BTreeMap<Option<&Host>, (bool, &str)> = BTreeMap::new();
    let mut split = Vec::new();
    if contributions.values().all(|from| from.options.host.tls.is_none()) {
        return split;
    }
    for (id, from) in oldest_first(contributions) {
        let Some(tls) = &from.options.host.tls else { continue };
        let passed = *tls == Tls::Passthrough;
        let other = claims(from).find_map(|host| match first.get(&host) {
            Some((theirs, name)) if *theirs != passed => Some((host, *name)),
            _ => None,
        });
        match other {
            None => {
                for host in claims(from) {
                    first.entry(host).or_insert((passed, &from.name));
                }
            }
            Some((host, name)) => {
                let (label, theirs) = match passed {
                    true => (labels::SSL_PASSTHROUGH, "has its TLS ended by the proxy"),
                    false => (labels::SSL_CERT, "has its TLS passed through"),
                };
                let message = format!("{label} does not go with the older service {name}, which {theirs} {}", on(host));
                split.push((id.clone(), Problem::new(Code::Conflict, message)));
            }
        }
    }
    split
}

/// Those who answer something, the oldest first.
pub(crate) type Members<'a> = Vec<(&'a ServiceId, &'a Contribution)>;

/// The hosts that it answers, and `None` for the default backend.
pub(crate) fn claims(from: &Contribution) -> impl Iterator<Item = Option<&Host>> {
    from.hosts.iter().map(Some).chain(from.default_backend.then_some(None))
}

/// Who answers each host, and under `None` the default backend; the oldest first.
pub(crate) type ByClaim<'a> = BTreeMap<Option<&'a Host>, Members<'a>>;

/// Sorts everybody by what they answer.
pub(crate) fn by_claim(contributions: &Contributions) -> ByClaim<'_> {
    let mut by_claim = ByClaim::new();
    for (id, from) in oldest_first(contributions) {
        for host in claims(from) {
            by_claim.entry(host).or_default().push((id, from));
        }
    }
    by_claim
}

/// Everybody by age.
fn oldest_first(contributions: &Contributions) -> Members<'_> {
    let mut members: Members<'_> = contributions.iter().map(|(id, from)| (id, &**from)).collect();
    members.sort_by_key(|(id, from)| (from.created_at, *id));
    members
}

/// A group without its hosts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    tls: Option<Tls>,
    passthrough: Vec<ServiceId>,
    ssl_only: bool,
    hsts: Option<Hsts>,
    redirect: Option<RedirectTo>,
    routes: Vec<Route>,
}

impl Answer {
    fn of(host: Option<&Host>, members: &Members<'_>, conflicts: &mut Conflicts) -> Self {
        let mut said = Said { host, path: None, members, conflicts };
        let tls = said.first(labels::SSL_CERT, |from| from.options.host.tls.clone());
        let ssl_only = said.first(labels::SSL_ONLY, |from| from.options.host.ssl_only);
        let hsts = said.first(labels::HSTS, |from| from.options.host.hsts);
        let redirect =
            said.first(labels::REDIRECTS, |from| host.and_then(|host| from.options.host.redirects.get(host)).cloned());
        let (passed, plain): (Members<'_>, Members<'_>) =
            members.iter().partition(|(_, from)| from.options.host.tls == Some(Tls::Passthrough));
        let mut by_path: BTreeMap<&Path, Members<'_>> = BTreeMap::new();
        for (id, from) in plain {
            by_path.entry(&from.options.context_root).or_default().push((id, from));
        }
        let routes = by_path.into_iter().map(|(path, members)| route(host, path, &members, conflicts)).collect();
        Self {
            ssl_only: ssl_only == Some(true) && tls.is_some(),
            hsts: hsts.filter(|_| matches!(tls, Some(Tls::Terminate { .. }))),
            tls,
            passthrough: passed.into_iter().map(|(id, _)| id.clone()).collect(),
            redirect,
            routes,
        }
    }

    fn for_hosts(self, hosts: BTreeSet<Host>) -> Group {
        let Self { tls, passthrough, ssl_only, hsts, redirect, routes } = self;
        Group { hosts, tls, passthrough, ssl_only, hsts, redirect, routes }
    }
}

fn route(host: Option<&Host>, path: &Path, members: &Members<'_>, conflicts: &mut Conflicts) -> Route {
    let mut said = Said { host, path: Some(path), members, conflicts };
    let options = RouteOptions {
        context_root_rewrite: said.first(labels::CONTEXT_ROOT_REWRITE, |from| from.options.route.context_root_rewrite),
        sticky: said.first(labels::STICKY_SESSION_COOKIE, |from| from.options.route.sticky.clone()),
        backend_tls: said.first(labels::SSL_BACKEND, |from| from.options.route.backend_tls.clone()),
        timeout: said.first(labels::TIMEOUT, |from| from.options.route.timeout),
        max_body_size: said.first(labels::MAX_BODY_SIZE, |from| from.options.route.max_body_size),
        allow: said.first(labels::ALLOW, |from| from.options.route.allow.clone()),
        deny: said.first(labels::DENY, |from| from.options.route.deny.clone()),
        basic_auth: said.first(labels::BASIC_AUTH, |from| from.options.route.basic_auth.clone()),
        rate_limit: said.first(labels::RATE_LIMIT, |from| from.options.route.rate_limit),
    };
    Route { path: path.clone(), options, services: members.iter().map(|(id, _)| (*id).clone()).collect() }
}

/// What members say about one host or path.
struct Said<'a, 'b> {
    host: Option<&'b Host>,
    path: Option<&'b Path>,
    members: &'b Members<'a>,
    conflicts: &'b mut Conflicts,
}

impl Said<'_, '_> {
    /// What the oldest says that says something; whoever says something else is told.
    fn first<T: PartialEq>(&mut self, label: &'static str, get: impl Fn(&Contribution) -> Option<T>) -> Option<T> {
        let mut saying = self.members.iter().filter_map(|(id, from)| get(from).map(|said| (*id, *from, said)));
        let (_, oldest, said) = saying.next()?;
        for (id, _, other) in saying {
            if other != said {
                self.conflicts.note(id, label, oldest, self.host, self.path);
            }
        }
        Some(said)
    }
}

/// Conflicts, each told once a service and label: a service may have a thousand hosts.
#[derive(Default)]
struct Conflicts(BTreeMap<(ServiceId, &'static str), (String, usize)>);

impl Conflicts {
    fn note(
        &mut self,
        id: &ServiceId,
        label: &'static str,
        oldest: &Contribution,
        host: Option<&Host>,
        path: Option<&Path>,
    ) {
        let entry = self.0.entry((id.clone(), label)).or_insert_with(|| {
            let path = path.filter(|path| !path.is_root()).map(|path| format!(" at {path}")).unwrap_or_default();
            (format!("has no effect {}{path}: the older service {} says something else", on(host), oldest.name), 0)
        });
        entry.1 += 1;
    }

    fn told(self) -> Vec<(ServiceId, Problem)> {
        let told = |((id, label), (message, count)): ((ServiceId, &str), (String, usize))| {
            let more = if count > 1 { format!(" (and on {} more)", count - 1) } else { String::new() };
            (id, Problem::new(Code::Conflict, format!("{label} {message}{more}")))
        };
        self.0.into_iter().map(told).collect()
    }
}

fn on(host: Option<&Host>) -> String {
    host.map_or_else(|| "for the default backend".to_owned(), |host| format!("on {host}"))
}

#[cfg(test)]
mod tests;
