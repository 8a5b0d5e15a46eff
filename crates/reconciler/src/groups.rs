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
use model::{
    Code, Contribution, Contributions, Desired, Group, Host, Problem, Route, RouteOptions, ServiceId, Timestamp, Tls,
    labels,
};

use crate::claims::{self, Claims};
use crate::difference::changes;
use crate::nginx;

/// All groups of a cluster, and what they are made of. What services contribute is folded in change by change: only what
/// those services claim is answered anew.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Who answers each host, and under `None` the default backend.
    claims: BTreeMap<Option<Host>, Claim>,
    /// The hosts of each answer.
    by_answer: BTreeMap<Arc<Answer>, BTreeSet<Host>>,
    /// Every host, with its group.
    pub hosts: imbl::OrdMap<Host, Arc<Group>>,
    pub default_backend: Option<Arc<Group>>,
    /// What services are told: who shares their hosts unasked, and what they say in vain.
    warnings: BTreeMap<ServiceId, Vec<Problem>>,
}

/// Who answers one host, and with what.
#[derive(Debug, Default)]
struct Claim {
    members: BTreeMap<(Timestamp, ServiceId), Arc<Contribution>>,
    answer: Option<Arc<Answer>>,
    conflicts: Conflicts,
    /// Members that share it with another stack, which may not know of it.
    shared: BTreeMap<ServiceId, String>,
}

/// What members say in vain, mostly because an older one says something else: labels without effect, and why.
type Conflicts = BTreeMap<ServiceId, Vec<(Code, &'static str, String)>>;

impl Groups {
    /// The groups of these services and nobody else.
    pub fn of(contributions: &Contributions) -> Self {
        let mut groups = Self::default();
        groups.fold(&Contributions::new(), contributions, &BTreeSet::new(), &Desired::default(), &Claims::default());
        groups
    }

    /// Groups what every service contributes now. Nobody in it is [split over TLS](split_over_tls). `restacked` are
    /// services that may have come into another stack. Returns who may be warned of something else than before.
    pub fn fold(
        &mut self,
        before: &Contributions,
        now: &Contributions,
        restacked: &BTreeSet<ServiceId>,
        desired: &Desired,
        rules: &Claims,
    ) -> BTreeSet<ServiceId> {
        let (mut touched, mut told) = (BTreeSet::new(), BTreeSet::new());
        for (id, before, now) in changes(before, now) {
            for (from, claim) in before.into_iter().flat_map(|from| claims(from).map(move |claim| (from, claim))) {
                let members = &mut self.claims.entry(claim.cloned()).or_default().members;
                members.remove(&(from.created_at, id.clone()));
                touched.insert(claim.cloned());
            }
            for (from, claim) in now.into_iter().flat_map(|from| claims(from).map(move |claim| (from, claim))) {
                let members = &mut self.claims.entry(claim.cloned()).or_default().members;
                members.insert((from.created_at, id.clone()), Arc::clone(from));
                touched.insert(claim.cloned());
            }
            told.insert(id.clone());
        }
        let restacked = restacked.iter().filter_map(|id| now.get(id));
        touched.extend(restacked.flat_map(|from| claims(from).map(|claim| claim.cloned())));
        let mut regrouped = BTreeSet::new();
        for claim in touched {
            self.answer(claim, desired, rules, &mut regrouped, &mut told);
        }
        for answer in regrouped {
            let Some(hosts) = self.by_answer.get(&answer) else { continue };
            let group = Arc::new(answer.for_hosts(hosts.clone()));
            self.hosts.extend(hosts.iter().map(|host| (host.clone(), Arc::clone(&group))));
        }
        for id in &told {
            let warnings = now.get(id).map(|from| self.told(id, from)).unwrap_or_default();
            match warnings.is_empty() {
                true => self.warnings.remove(id),
                false => self.warnings.insert(id.clone(), warnings),
            };
        }
        told
    }

    /// What a service is told.
    pub fn warnings(&self, id: &ServiceId) -> &[Problem] {
        self.warnings.get(id).map_or(&[], Vec::as_slice)
    }

    /// Finds out anew how a claim is answered. Answers whose groups have to be made anew go into `regrouped`, the claim's
    /// members into `told`.
    fn answer(
        &mut self,
        claim: Option<Host>,
        desired: &Desired,
        rules: &Claims,
        regrouped: &mut BTreeSet<Arc<Answer>>,
        told: &mut BTreeSet<ServiceId>,
    ) {
        let Some(found) = self.claims.get_mut(&claim) else { return };
        let members: Members<'_> = found.members.iter().map(|((_, id), from)| (id, &**from)).collect();
        told.extend(members.iter().map(|(id, _)| (*id).clone()));
        let mut conflicts = Conflicts::new();
        let answer = (!members.is_empty()).then(|| Arc::new(Answer::of(claim.as_ref(), &members, &mut conflicts)));
        if let (Some(host), Some(answer)) = (&claim, &answer) {
            answer.look_for_vain_redirects(host, &members, &mut conflicts);
        }
        let shared = rules.shared(claim.as_ref(), &members, desired);
        let before = std::mem::replace(&mut found.answer, answer.clone());
        (found.conflicts, found.shared) = (conflicts, shared);
        if members.is_empty() {
            self.claims.remove(&claim);
        }
        if before == answer {
            return;
        }
        let Some(host) = claim else {
            self.default_backend = answer.map(|answer| Arc::new(answer.for_hosts(BTreeSet::new())));
            return;
        };
        if let Some(before) = before
            && let Some(hosts) = self.by_answer.get_mut(&before)
        {
            hosts.remove(&host);
            if hosts.is_empty() {
                self.by_answer.remove(&before);
            }
            regrouped.insert(before);
        }
        match answer {
            Some(answer) => {
                self.by_answer.entry(Arc::clone(&answer)).or_default().insert(host);
                regrouped.insert(answer);
            }
            None => drop(self.hosts.remove(&host)),
        }
    }

    /// Each once a service, and a conflict once a label: a service may have a thousand hosts.
    fn told(&self, id: &ServiceId, from: &Contribution) -> Vec<Problem> {
        let at = |claim: Option<&Host>| self.claims.get(&claim.cloned());
        let default_first = from.default_backend.then_some(None).into_iter().chain(from.hosts.iter().map(Some));
        let mut shared = default_first.filter_map(|claim| at(claim)?.shared.get(id));
        let mut told: Vec<Problem> =
            shared.next().map(|first| claims::shared_host(first, shared.count())).into_iter().collect();
        let mut conflicts: BTreeMap<(&str, Code), (&str, usize)> = BTreeMap::new();
        for (code, label, message) in claims(from).filter_map(|claim| at(claim)?.conflicts.get(id)).flatten() {
            conflicts.entry((label, *code)).or_insert((message, 0)).1 += 1;
        }
        told.extend(conflicts.into_iter().map(|((label, code), (message, count))| {
            let more = if count > 1 { format!(" (and on {} more)", count - 1) } else { String::new() };
            Problem::new(code, format!("{label} {message}{more}"))
        }));
        told
    }
}

/// Services that ask for the other way of TLS than an older service on one of their hosts.
pub(crate) fn split_over_tls(contributions: &Contributions) -> Vec<(ServiceId, Problem)> {
    let mut first: BTreeMap<Option<&Host>, (bool, &str)> = BTreeMap::new();
    let mut split = Vec::new();
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

/// Everybody by age.
fn oldest_first(contributions: &Contributions) -> Members<'_> {
    let mut members: Members<'_> = contributions.iter().map(|(id, from)| (id, &**from)).collect();
    members.sort_by_key(|(id, from)| (from.created_at, *id));
    members
}

/// A group without its hosts.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    /// A host that is redirected to itself, in another scheme, is alone: nobody is redirected to where they are.
    itself: Option<Host>,
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
            itself: redirect.as_ref().filter(|to| host == Some(&to.host)).map(|to| to.host.clone()),
            ssl_only: ssl_only == Some(true) && tls.is_some(),
            hsts: hsts.filter(|_| matches!(tls, Some(Tls::Terminate { .. }))),
            tls,
            passthrough: passed.into_iter().map(|(id, _)| id.clone()).collect(),
            redirect,
            routes,
        }
    }

    /// Tells those who redirect a host to where its requests are already: behind a balancer the port says nothing of that.
    fn look_for_vain_redirects(&self, host: &Host, members: &Members<'_>, conflicts: &mut Conflicts) {
        if self.itself.is_none() || nginx::is_redirected(&self.for_hosts(BTreeSet::from([host.clone()]))) {
            return;
        }
        let redirecting = |from: &Contribution| from.options.host.redirects.get(host) == self.redirect.as_ref();
        for (id, _) in members.iter().filter(|(_, from)| redirecting(from)) {
            let why = format!("has no effect on {host}: it leads back to where the request is, whatever the port");
            conflicts.entry((*id).clone()).or_default().push((Code::NoEffect, labels::REDIRECTS, why));
        }
    }

    fn for_hosts(&self, hosts: BTreeSet<Host>) -> Group {
        let Self { itself: _, tls, passthrough, ssl_only, hsts, redirect, routes } = self;
        Group {
            hosts,
            tls: tls.clone(),
            passthrough: passthrough.clone(),
            ssl_only: *ssl_only,
            hsts: *hsts,
            redirect: redirect.clone(),
            routes: routes.clone(),
        }
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
                let path =
                    self.path.filter(|path| !path.is_root()).map(|path| format!(" at {path}")).unwrap_or_default();
                let (on, oldest) = (on(self.host), &oldest.name);
                let why = format!("has no effect {on}{path}: the older service {oldest} says something else");
                self.conflicts.entry((*id).clone()).or_default().push((Code::Conflict, label, why));
            }
        }
        Some(said)
    }
}

fn on(host: Option<&Host>) -> String {
    host.map_or_else(|| "for the default backend".to_owned(), |host| format!("on {host}"))
}

#[cfg(test)]
mod tests;
