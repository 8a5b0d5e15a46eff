//! The laws that every spec keeps. A violation is a bug of ours: that cluster's target stays what it was.

use std::collections::{BTreeMap, BTreeSet};

use model::values::SecretName;
use model::{CreatedAt, Group, Host, NetworkId, ProxySpec, ServiceId, Tls};

use crate::nginx;

/// A law that a spec does not keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// nginx refuses an upstream without servers.
    #[error("the service {0} is named and has no endpoint")]
    NoEndpoint(ServiceId),
    /// The manifest would not tell what is served.
    #[error("the endpoints of the service {0} are not those of its contribution")]
    OtherEndpoints(ServiceId),
    /// A group without services.
    #[error("nobody answers the hosts of the group {0:?}")]
    NobodyAnswers(BTreeSet<Host>),
    /// A group without hosts.
    #[error("a group has no host")]
    NoHost,
    /// Only a group can have hosts.
    #[error("the default backend has the hosts {0:?}")]
    DefaultWithHosts(BTreeSet<Host>),
    /// nginx would serve the first and ignore the others.
    #[error("the host {0} is in two groups")]
    HostTwice(Host),
    /// What is the same would be rendered twice.
    #[error("the groups of {0} and {1} differ in their hosts only")]
    GroupTwice(Host, Host),
    /// Bytes that are passed through and nobody gets, or the other way round.
    #[error("the group of {0:?} does not know whether its TLS is passed through")]
    HalfPassedThrough(BTreeSet<Host>),
    /// What needs TLS, without TLS.
    #[error("the group of {0:?} has options of TLS and no TLS")]
    OptionsWithoutTls(BTreeSet<Host>),
    /// Bytes would depend on chance.
    #[error("the groups are not in the order of their first hosts")]
    GroupsUnsorted,
    /// Bytes would depend on chance, and a path could be there twice.
    #[error("the paths of the group {0:?} are not in order")]
    RoutesUnsorted(BTreeSet<Host>),
    /// Bytes would depend on chance.
    #[error("the services {0:?} are not in the order of their creation")]
    ServicesUnsorted(Vec<ServiceId>),
    /// A contribution that reaches the proxy under no host or another path, or the other way round.
    #[error("what the service {0} contributes is not what the groups say")]
    NotAsContributed(ServiceId),
    /// The proxies could not reach it.
    #[error("the service {0} is reached over the network {1}, which the proxies do not join")]
    NetworkMissing(ServiceId, NetworkId),
    /// nginx would not start.
    #[error("the secret {0} is named and not among those that the proxies get")]
    SecretMissing(SecretName),
    /// It fits into no config object.
    #[error("the group of {0:?} is larger than a file may be")]
    TooLarge(BTreeSet<Host>),
}

/// Checks every law.
///
/// # Errors
/// With every violation.
pub fn check(spec: &ProxySpec) -> Result<(), Vec<Violation>> {
    let mut violations = Vec::new();
    check_groups(spec, &mut violations);
    check_services(spec, &mut violations);
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

fn check_groups(spec: &ProxySpec, violations: &mut Vec<Violation>) {
    let mut hosts = BTreeSet::new();
    let mut seen = BTreeMap::new();
    for group in &spec.groups {
        check_group(group, spec, violations);
        let Some(first) = group.hosts.first() else {
            violations.push(Violation::NoHost);
            continue;
        };
        for host in &group.hosts {
            if !hosts.insert(host) {
                violations.push(Violation::HostTwice(host.clone()));
            }
        }
        let Group { hosts: _, tls, passthrough, ssl_only, hsts, redirect, routes } = group;
        let to_itself = redirect.as_ref().is_some_and(|to| group.hosts.contains(&to.host));
        if let Some(other) = seen.insert((tls, passthrough, ssl_only, hsts, redirect, to_itself, routes), first) {
            violations.push(Violation::GroupTwice(other.clone(), first.clone()));
        }
    }
    if !spec.groups.iter().map(|group| group.hosts.first()).is_sorted() {
        violations.push(Violation::GroupsUnsorted);
    }
    if let Some(group) = &spec.default_backend {
        check_group(group, spec, violations);
        if !group.hosts.is_empty() {
            violations.push(Violation::DefaultWithHosts(group.hosts.clone()));
        }
    }
}

fn check_group(group: &Group, spec: &ProxySpec, violations: &mut Vec<Violation>) {
    let hosts = || group.hosts.clone();
    if group.services().is_empty() || group.routes.iter().any(|route| route.services.is_empty()) {
        violations.push(Violation::NobodyAnswers(hosts()));
    }
    if (group.tls == Some(Tls::Passthrough)) == group.passthrough.is_empty() {
        violations.push(Violation::HalfPassedThrough(hosts()));
    }
    let terminated = matches!(group.tls, Some(Tls::Terminate { .. }));
    if group.ssl_only && group.tls.is_none() || group.hsts.is_some() && !terminated {
        violations.push(Violation::OptionsWithoutTls(hosts()));
    }
    if !group.routes.is_sorted_by(|one, other| one.path < other.path) {
        violations.push(Violation::RoutesUnsorted(hosts()));
    }
    let age = |id: &ServiceId| (spec.contributions.get(id).map_or(CreatedAt(0), |from| from.created_at), id.clone());
    for services in group.routes.iter().map(|route| &route.services).chain([&group.passthrough]) {
        if !services.is_sorted_by(|one, other| age(one) < age(other)) {
            violations.push(Violation::ServicesUnsorted(services.clone()));
        }
    }
    let services = group.services();
    let weight = services.iter().filter_map(|id| spec.contributions.get(*id)).map(|from| nginx::weight(from));
    if weight.sum::<usize>() > nginx::PIECE_LIMIT {
        violations.push(Violation::TooLarge(hosts()));
    }
    for name in group.secrets() {
        if !spec.secrets.contains_key(name) {
            violations.push(Violation::SecretMissing(name.clone()));
        }
    }
}

fn check_services(spec: &ProxySpec, violations: &mut Vec<Violation>) {
    let mut answered: BTreeMap<&ServiceId, BTreeSet<&Host>> = BTreeMap::new();
    let mut elsewhere = BTreeSet::new();
    for group in spec.groups.iter().chain(&spec.default_backend) {
        for id in group.services() {
            answered.entry(id).or_default().extend(&group.hosts);
        }
        for route in &group.routes {
            let other = |id: &&ServiceId| {
                spec.contributions.get(*id).is_some_and(|from| from.options.context_root != route.path)
            };
            elsewhere.extend(route.services.iter().filter(other));
        }
    }
    let default: BTreeSet<&ServiceId> = spec.default_backend.iter().flat_map(Group::services).collect();
    for (id, hosts) in &answered {
        match spec.contributions.get(*id) {
            Some(from)
                if from.hosts.iter().eq(hosts.iter().copied())
                    && from.default_backend == default.contains(*id)
                    && !elsewhere.contains(*id) => {}
            _ => violations.push(Violation::NotAsContributed((*id).clone())),
        }
        if spec.endpoints.get(*id).is_none_or(BTreeSet::is_empty) {
            violations.push(Violation::NoEndpoint((*id).clone()));
        }
    }
    for (id, from) in &spec.contributions {
        if !answered.contains_key(id) {
            violations.push(Violation::NotAsContributed(id.clone()));
        }
        if spec.endpoints.get(id) != Some(&from.endpoints) {
            violations.push(Violation::OtherEndpoints(id.clone()));
        }
        if let Some(network) = from.network.as_ref().filter(|network| !spec.networks.contains(*network)) {
            violations.push(Violation::NetworkMissing(id.clone(), network.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
