//! What every proxy should be, and why: one decision per service, then one spec per service cluster.
//!
//! # Guarantees
//! - A service is decided about from its own labels and state, its cluster's settings, and what of *it* is live:
//!   no service can change another's contribution. (It can join the other's group by naming the same host.) Only
//!   after a failure, or where networks join one by one, others decide when a change of it is let through.
//! - Every candidate is in the report, with the reason for its verdict.
//! - The proxies join no network that is known to have too few addresses left for them, and leave none because of it.
//! - A cluster of which it is not known what its proxies serve has no spec: nothing is planned from not knowing.
//! - What comes out depends on what goes in alone. What a [`Compiler`] remembers only spares it work: from one change
//!   comes the work of one change, and everything is the change from nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use model::{ClusterName, Desired, ProxySpec, Published, Report, Service, ServiceId, ServiceReports};

use crate::cluster::Cluster;
use crate::decide::{blank, decide};
use crate::dependents::{Dependents, Looked};
use crate::difference::changes;
use crate::live::{Live, Moved};
use crate::nginx;
use crate::settings::Settings;
use crate::setup;

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// What the proxies should be, for the clusters of which it is known what they serve.
    pub specs: BTreeMap<ClusterName, ProxySpec>,
    /// How they are to be set up: as configured, unless that is held.
    pub setups: BTreeMap<ClusterName, nginx::Settings>,
    /// What was decided about every candidate.
    pub report: Report,
}

/// Decides about every service and assembles a spec per cluster.
pub fn compile(desired: &Desired, published: &BTreeMap<ClusterName, Published>, settings: &Settings) -> Compiled {
    Compiler::new(settings.clone()).compile(desired, published)
}

/// Compiles again and again, and each time only what changed.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    /// What was asked for last, and who looks up what in it.
    desired: Desired,
    dependents: Dependents,
    /// What is live of each cluster.
    live: BTreeMap<ClusterName, Live>,
    clusters: BTreeMap<ClusterName, Cluster>,
    /// What was decided about each service by itself; then what became of that among the others, without what
    /// [`Cluster::warnings`] says; then with it.
    decided: ServiceReports,
    settled: ServiceReports,
    reports: ServiceReports,
}

impl Compiler {
    /// A compiler that remembers nothing yet.
    pub fn new(settings: Settings) -> Self {
        let clusters = settings.clusters.keys().map(|name| (name.clone(), Cluster::new(name.clone()))).collect();
        Self {
            live: settings.clusters.keys().map(|name| (name.clone(), Live::default())).collect(),
            settings,
            desired: Desired::default(),
            dependents: Dependents::default(),
            clusters,
            decided: ServiceReports::new(),
            settled: ServiceReports::new(),
            reports: ServiceReports::new(),
        }
    }

    /// Decides about every service of which anything may have changed, and assembles a spec per cluster.
    pub fn compile(&mut self, desired: &Desired, published: &BTreeMap<ClusterName, Published>) -> Compiled {
        let Stale { services, restacked } = self.stale(desired, published);
        self.desired = desired.clone();
        for id in services {
            self.decide(&id);
        }
        let mut kept_setups = BTreeMap::new();
        let mut setups = BTreeMap::new();
        for (name, settings) in &self.settings.clusters {
            let (setup, kept) = setup::in_effect(&settings.nginx, published.get(name));
            kept_setups.extend(kept.map(|reason| (name.clone(), reason)));
            setups.insert(name.clone(), setup);
        }
        let mut settled = self.decided.clone();
        let mut told = BTreeSet::new();
        for (name, cluster) in &mut self.clusters {
            let (published, setup) = (published.get(name), &setups[name]);
            told.extend(cluster.settle(published, &self.settings, setup, desired, &restacked, &mut settled));
        }
        told.extend(changes(&self.settled, &settled).map(|(id, ..)| id.clone()));
        self.settled = settled;
        for id in told {
            self.report(&id);
        }
        let known = self.clusters.iter().filter(|(name, _)| self.live[*name].unknown().is_none());
        Compiled {
            specs: known.map(|(name, cluster)| (name.clone(), cluster.spec().clone())).collect(),
            setups,
            report: Report { services: self.reports.clone(), kept_setups },
        }
    }

    fn decide(&mut self, id: &ServiceId) {
        let cluster_before = self.decided.get(id).and_then(|about| about.cluster.clone());
        let mut contribution = None;
        let about = self.desired.services.get(id).map(|service| {
            let mut about = blank(service);
            contribution = decide(service, &self.desired, &self.live, &self.settings, &mut about);
            Arc::new(about)
        });
        let cluster = about.as_ref().and_then(|about| about.cluster.clone());
        if let Some(before) = cluster_before.filter(|before| Some(before) != cluster.as_ref()) {
            self.clusters.entry(before).and_modify(|cluster| cluster.want(id, None));
        }
        if let Some(cluster) = cluster.and_then(|cluster| self.clusters.get_mut(&cluster)) {
            cluster.want(id, contribution);
        }
        replace(&mut self.decided, id, about);
    }

    /// Says in the report what became of a service, with what its cluster warns it of.
    fn report(&mut self, id: &ServiceId) {
        let mut about = self.settled.get(id).cloned();
        if let Some(about) = &mut about
            && let Some(cluster) = about.cluster.as_ref().and_then(|name| self.clusters.get(name))
        {
            let warnings = cluster.warnings(id);
            if !warnings.is_empty() {
                Arc::make_mut(about).warnings.extend_from_slice(warnings);
            }
        }
        replace(&mut self.reports, id, about);
    }

    /// Finds out whom to decide about anew: whoever changed, and whoever's decision looks up what changed.
    fn stale(&mut self, desired: &Desired, published: &BTreeMap<ClusterName, Published>) -> Stale {
        let mut stale = Stale::default();
        for (id, before, now) in changes(&self.desired.services, &desired.services) {
            if let Some(service) = before {
                self.dependents.remove(service);
            }
            if let Some(service) = now {
                self.dependents.add(service);
            }
            let stack = |service: Option<&Arc<Service>>| service.and_then(|service| service.stack.clone());
            if stack(before) != stack(now) {
                stale.restacked.insert(id.clone());
            }
            stale.services.insert(id.clone());
        }
        let networks = changes(&self.desired.networks, &desired.networks).map(|(id, ..)| Looked::At(id.clone()));
        let secrets = changes(&self.desired.secrets, &desired.secrets).map(|(name, ..)| Looked::For(name.clone()));
        let mut looked: BTreeSet<Looked> = networks.chain(secrets).collect();
        for (name, live) in &mut self.live {
            let Moved { known, services, networks } = live.follow(published.get(name));
            if known {
                stale.services.extend(desired.services.keys().cloned());
            }
            stale.services.extend(services);
            looked.extend(networks.into_iter().map(Looked::At));
        }
        stale.services.extend(looked.iter().flat_map(|looked| self.dependents.of(looked)).cloned());
        stale
    }
}

/// Whom to look at in a pass.
#[derive(Debug, Default)]
struct Stale {
    /// To decide about.
    services: BTreeSet<ServiceId>,
    /// That came into another stack.
    restacked: BTreeSet<ServiceId>,
}

/// Puts a value in its place, unless it is the same as before: what is the same is shared.
pub(crate) fn replace<T: Clone + PartialEq>(map: &mut OrdMap<ServiceId, T>, id: &ServiceId, value: Option<T>) {
    if map.get(id) == value.as_ref() {
        return;
    }
    match value {
        Some(value) => drop(map.insert(id.clone(), value)),
        None => drop(map.remove(id)),
    }
}

#[cfg(test)]
mod tests;
