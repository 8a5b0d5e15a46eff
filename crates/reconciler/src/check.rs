//! The laws that every spec keeps. A violation is a bug of ours: that cluster's target stays what it was.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::values::SecretName;
use model::{Contribution, Group, Host, NetworkId, ProxySpec, ServiceId, Timestamp, Tls};

use crate::difference::Difference;
use crate::groups;
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
    /// Only a group can have hosts.
    #[error("the default backend has the hosts {0:?}")]
    DefaultWithHosts(BTreeSet<Host>),
    /// nginx would serve the first of two groups and ignore the other, or nobody would answer.
    #[error("the host {0} is answered by a group that is not its own")]
    NotItsGroup(Host),
    /// What is the same would be rendered twice.
    #[error("the groups of {0} and {1} differ in their hosts only")]
    GroupTwice(Host, Host),
    /// Bytes that are passed through and nobody gets, or the other way round.
    #[error("the group of {0:?} does not know whether its TLS is passed through")]
    HalfPassedThrough(BTreeSet<Host>),
    /// What needs TLS, without TLS.
    #[error("the group of {0:?} has options of TLS and no TLS")]
    OptionsWithoutTls(BTreeSet<Host>),
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

/// Checks every law, for proxies that are set up by default.
///
/// # Errors
/// With every violation.
pub fn check(spec: &ProxySpec) -> Result<(), Vec<Violation>> {
    let nothing = ProxySpec::empty(spec.cluster.clone());
    check_difference(&nothing, spec, &Difference::between(&nothing, spec), &nginx::Settings::default())
}

/// Checks every law wherever a spec differs from one that keeps them. How the proxies are set up decides what fits into
/// a file.
///
/// # Errors
/// With every violation.
pub(crate) fn check_difference(
    lawful: &ProxySpec,
    spec: &ProxySpec,
    difference: &Difference,
    setup: &nginx::Settings,
) -> Result<(), Vec<Violation>> {
    let mut violations = Vec::new();
    check_groups(spec, difference, setup, &mut violations);
    check_services(spec, difference, &mut violations);
    check_needs(lawful, spec, difference, &mut violations);
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

fn check_groups(spec: &ProxySpec, difference: &Difference, setup: &nginx::Settings, violations: &mut Vec<Violation>) {
    for claim in &difference.claims {
        let Some(group) = spec.group_of(claim.as_ref()) else { continue };
        match claim {
            Some(host) if !group.hosts.contains(host) => violations.push(Violation::NotItsGroup(host.clone())),
            Some(host) if group.hosts.first() == Some(host) => {
                check_group(group, spec, setup, violations);
                check_twins(group, spec, violations);
                let elsewhere = group.hosts.iter().filter(|host| spec.hosts.get(*host) != Some(group));
                violations.extend(elsewhere.cloned().map(Violation::NotItsGroup));
            }
            Some(host) if spec.group_of(group.hosts.first()) != Some(group) => {
                violations.push(Violation::NotItsGroup(host.clone()));
            }
            Some(_) => {}
            None if group.hosts.is_empty() => check_group(group, spec, setup, violations),
            None => violations.push(Violation::DefaultWithHosts(group.hosts.clone())),
        }
    }
}

/// Who answers alike has the same services, so a group that differs from this one in its hosts only is among those that
/// answer what one of them claims.
fn check_twins(group: &Group, spec: &ProxySpec, violations: &mut Vec<Violation>) {
    let to_itself = |group: &Group| group.redirect.as_ref().is_some_and(|to| group.hosts.contains(&to.host));
    let Group { hosts, tls, passthrough, ssl_only, hsts, redirect, routes } = group;
    let is_alike = |other: &Group| {
        (tls, passthrough, ssl_only, hsts, redirect, routes)
            == (&other.tls, &other.passthrough, &other.ssl_only, &other.hsts, &other.redirect, &other.routes)
            && to_itself(group) == to_itself(other)
    };
    let member = routes.iter().flat_map(|route| &route.services).chain(passthrough).next();
    let claimed = member.and_then(|id| spec.contributions.get(id)).into_iter().flat_map(|from| &from.hosts);
    for host in claimed.filter(|host| !hosts.contains(*host)) {
        let twin = spec.hosts.get(host).filter(|other| is_alike(other));
        if let (Some(first), Some(other)) = (hosts.first(), twin.and_then(|twin| twin.hosts.first())) {
            violations.push(Violation::GroupTwice(first.clone(), other.clone()));
        }
    }
}

fn check_group(group: &Group, spec: &ProxySpec, setup: &nginx::Settings, violations: &mut Vec<Violation>) {
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
    let age = |id: &ServiceId| (spec.contributions.get(id).map_or(Timestamp(0), |from| from.created_at), id.clone());
    for services in group.routes.iter().map(|route| &route.services).chain([&group.passthrough]) {
        if !services.is_sorted_by(|one, other| age(one) < age(other)) {
            violations.push(Violation::ServicesUnsorted(services.clone()));
        }
    }
    let services = group.services();
    let weight = services.iter().filter_map(|id| spec.contributions.get(*id)).map(|from| nginx::weight(from));
    if weight.sum::<usize>() > nginx::PIECE_LIMIT && nginx::size(group, spec, setup) > nginx::PIECE_LIMIT {
        violations.push(Violation::TooLarge(hosts()));
    }
}

fn check_services(spec: &ProxySpec, difference: &Difference, violations: &mut Vec<Violation>) {
    let mut strange = BTreeSet::new();
    for id in &difference.services {
        let (from, endpoints) = (spec.contributions.get(id), spec.endpoints.get(id));
        if endpoints.map(|endpoints| &**endpoints) != from.map(|from| &from.endpoints) {
            violations.push(Violation::OtherEndpoints(id.clone()));
        }
        let Some(from) = from else { continue };
        if endpoints.is_none_or(|endpoints| endpoints.is_empty()) {
            violations.push(Violation::NoEndpoint(id.clone()));
        }
        if !groups::claims(from).all(|claim| spec.group_of(claim).is_some_and(|group| group.names(id))) {
            strange.insert(id);
        }
    }
    for claim in &difference.claims {
        let Some(group) = spec.group_of(claim.as_ref()) else { continue };
        let routed = group.routes.iter().flat_map(|route| route.services.iter().map(move |id| (id, Some(&route.path))));
        for (id, path) in routed.chain(group.passthrough.iter().map(|id| (id, None))) {
            let claims = |from: &Contribution| match claim {
                Some(host) => from.hosts.contains(host),
                None => from.default_backend,
            };
            let at = |from: &Contribution| path.is_none_or(|path| from.options.context_root == *path);
            if !spec.contributions.get(id).is_some_and(|from| claims(from) && at(from)) {
                strange.insert(id);
            }
        }
    }
    violations.extend(strange.into_iter().cloned().map(Violation::NotAsContributed));
}

/// What is not needed any more is gone for everybody: whether that is so, everybody is asked.
fn check_needs(lawful: &ProxySpec, spec: &ProxySpec, difference: &Difference, violations: &mut Vec<Violation>) {
    let network = |(id, from): (&ServiceId, &Arc<Contribution>)| {
        let missing = from.network.as_ref().filter(|network| !spec.networks.contains(*network))?;
        Some(Violation::NetworkMissing(id.clone(), missing.clone()))
    };
    let secret = |group: &Arc<Group>| {
        let missing = group.secrets().into_iter().find(|name| !spec.secrets.contains_key(*name))?;
        Some(Violation::SecretMissing(missing.clone()))
    };
    if lawful.networks.is_subset(&spec.networks) {
        let services = difference.services.iter().filter_map(|id| spec.contributions.get_key_value(id));
        violations.extend(services.filter_map(network));
    } else {
        violations.extend(spec.contributions.iter().filter_map(network));
    }
    if lawful.secrets.keys().all(|name| spec.secrets.contains_key(name)) {
        let groups = difference.claims.iter().filter_map(|claim| spec.group_of(claim.as_ref()));
        violations.extend(groups.filter_map(secret));
    } else {
        violations.extend(spec.hosts.values().chain(&spec.default_backend).filter_map(secret));
    }
}

#[cfg(test)]
mod tests;
