//! What differs between two values of which one was made from the other. Maps share what did not change, and what is
//! shared is not looked at: finding a difference costs as much as it is large.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use model::{Group, Host, ProxySpec, ServiceId};

use crate::groups::claims;

/// The keys whose values differ, in their order, each with its value before and now.
pub(crate) fn changes<'a, K: Ord, V: PartialEq>(
    before: &'a OrdMap<K, V>,
    now: &'a OrdMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    before.diff(now).map(|change| match change {
        DiffItem::Add(key, now) => (key, None, Some(now)),
        DiffItem::Update { old: (key, before), new: (_, now) } => (key, Some(before), Some(now)),
        DiffItem::Remove(key, before) => (key, Some(before), None),
    })
}

/// The same map as `now`, made from another one by what differs: it shares with that what does not.
pub(crate) fn sharing<K: Ord + Clone, V: Clone + PartialEq>(with: &OrdMap<K, V>, now: &OrdMap<K, V>) -> OrdMap<K, V> {
    let mut shared = with.clone();
    for (key, _, now) in changes(with, now) {
        match now {
            Some(now) => drop(shared.insert(key.clone(), now.clone())),
            None => drop(shared.remove(key)),
        }
    }
    shared
}

/// What differs between two specs of one cluster.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// The services that contribute something else or are reached elsewhere, and those of groups that differ.
    pub services: BTreeSet<ServiceId>,
    /// What is claimed by services that contribute something else, and what groups that differ answer: hosts, and `None`
    /// for the default backend.
    pub claims: BTreeSet<Option<Host>>,
}

impl Difference {
    pub fn between(before: &ProxySpec, now: &ProxySpec) -> Self {
        let mut difference = Self::default();
        for (id, before, now) in changes(&before.contributions, &now.contributions) {
            difference.services.insert(id.clone());
            let claims = before.into_iter().chain(now).flat_map(|from| claims(from));
            difference.claims.extend(claims.map(|claim| claim.cloned()));
        }
        difference.services.extend(changes(&before.endpoints, &now.endpoints).map(|(id, ..)| id.clone()));
        let hosts = || changes(&before.hosts, &now.hosts);
        difference.claims.extend(hosts().map(|(host, ..)| Some(host.clone())));
        for groups in [hosts().filter_map(|change| change.1).collect(), hosts().filter_map(|change| change.2).collect()]
        {
            // A group stands at each of its hosts.
            let (groups, mut seen): (Vec<_>, _) = (groups, BTreeSet::new());
            for group in groups.into_iter().filter(|group| seen.insert(group.hosts.first())) {
                difference.services.extend(group.services().into_iter().cloned());
                difference.claims.extend(group.hosts.iter().cloned().map(Some));
            }
        }
        if before.default_backend != now.default_backend {
            let groups = before.default_backend.iter().chain(&now.default_backend);
            difference.services.extend(groups.flat_map(|group| group.services()).cloned());
            difference.claims.insert(None);
        }
        difference
    }

    /// The groups that answer all that, by their first hosts: each before and now.
    pub fn groups<'a>(&self, before: &'a ProxySpec, now: &'a ProxySpec) -> Groups<'a> {
        let mut groups = Groups::new();
        for claim in &self.claims {
            if let Some(group) = before.group_of(claim.as_ref()) {
                groups.entry(group.hosts.first()).or_default().0 = Some(group);
            }
            if let Some(group) = now.group_of(claim.as_ref()) {
                groups.entry(group.hosts.first()).or_default().1 = Some(group);
            }
        }
        groups
    }
}

/// Groups by their first hosts, under `None` the default backend: each before and now.
pub(crate) type Groups<'a> = BTreeMap<Option<&'a Host>, (Option<&'a Group>, Option<&'a Group>)>;
