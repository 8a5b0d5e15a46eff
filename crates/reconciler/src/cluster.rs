//! What the services of one cluster come to together: who is held back or refused for the others' sake, the groups, and
//! the spec.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::values::SecretName;
use model::{
    ClusterName, Code, Contribution, Contributions, Desired, Manifest, NetworkId, Problem, ProxySpec, Publications,
    Published, SecretId, ServiceId, ServiceReports, Verdict,
};

use crate::compile::replace;
use crate::decide::{self, tell_served};
use crate::difference::changes;
use crate::excess;
use crate::groups::{self, Groups};
use crate::holds::{Holds, Standing};
use crate::joining;
use crate::loads::Loads;
use crate::nginx;
use crate::settings::{ClusterSettings, Settings};
use crate::setup;
use crate::tally::Tally;

/// One cluster, step by step from what services contribute by themselves to the spec. Each step takes in what the one
/// before it changed. Only two look at everybody, and only where they have to: while a generation is held, and while a
/// host is asked to do TLS in both ways. While something may be too large, all around that are looked at.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// What services contribute by themselves.
    wanted: Contributions,
    /// The same without what is held back, and what that comes to on each host.
    let_through: Contributions,
    loads: Loads,
    groups: Groups,
    needs: Needs,
    spec: ProxySpec,
}

impl Cluster {
    /// A cluster without services.
    pub fn new(name: ClusterName) -> Self {
        Self {
            wanted: Contributions::new(),
            let_through: Contributions::new(),
            loads: Loads::default(),
            groups: Groups::default(),
            needs: Needs::default(),
            spec: ProxySpec::empty(name),
        }
    }

    /// Takes what a service contributes by itself, if anything.
    pub fn want(&mut self, id: &ServiceId, contribution: Option<Arc<Contribution>>) {
        replace(&mut self.wanted, id, contribution);
    }

    /// What the proxies should be, as of the last time that it was settled.
    pub fn spec(&self) -> &ProxySpec {
        &self.spec
    }

    /// What a service is warned of because of what others contribute.
    pub fn warnings(&self, id: &ServiceId) -> &[Problem] {
        self.groups.warnings(id)
    }

    /// Settles what is served, and tells in the reports who pays for it. Returns whose warnings may have changed.
    pub fn settle(
        &mut self,
        published: Option<&Published>,
        settings: &Settings,
        setup: &nginx::Settings,
        desired: &Desired,
        restacked: &BTreeSet<ServiceId>,
        reports: &mut ServiceReports,
    ) -> BTreeSet<ServiceId> {
        let own = &settings.clusters[&self.spec.cluster];
        let let_through = let_through(&self.wanted, published, own, desired, reports);
        self.loads.fold(&self.let_through, &let_through);
        self.let_through = let_through;
        let mut contributions = self.let_through.clone();
        if self.loads.any_split() {
            refuse_split_over_tls(&mut contributions, reports);
        }
        if !self.loads.suspects().is_empty() {
            self.refuse_excess(&mut contributions, published, setup, reports);
        }
        let before = std::mem::replace(&mut self.spec.contributions, contributions);
        let told = self.groups.fold(&before, &self.spec.contributions, restacked, desired, &settings.claims);
        self.spec.hosts.clone_from(&self.groups.hosts);
        self.spec.default_backend.clone_from(&self.groups.default_backend);
        let now = self.spec.contributions.clone();
        for (id, before, now) in changes(&before, &now) {
            replace(&mut self.spec.endpoints, id, now.map(|from| Arc::new(from.endpoints.clone())));
            self.needs.change(id, before, now, &mut self.spec);
        }
        told
    }

    /// Refuses services until everything fits into the proxies' files.
    fn refuse_excess(
        &self,
        contributions: &mut Contributions,
        published: Option<&Published>,
        setup: &nginx::Settings,
        reports: &mut ServiceReports,
    ) {
        let live = match published {
            Some(Published::Live { manifest, .. }) => manifest.services.clone(),
            Some(Published::Nothing | Published::Unknown { .. }) | None => Publications::new(),
        };
        let around = self.loads.around_suspects(contributions);
        for (id, problem) in excess::refused(around, self.loads.suspects(), &live, &self.spec.cluster, setup) {
            contributions.remove(&id);
            refuse(&id, problem, reports);
        }
    }
}

/// What those who are served need, by who needs it.
///
/// The networks are those that are needed, also where the proxies are on a fixed list: the actuator reads that list
/// from the cluster, where it finds networks that no candidate is on. Here a generation would depend on who is.
#[derive(Debug, Default)]
struct Needs {
    networks: Tally<NetworkId>,
    /// A secret that was made anew has two ids as long as some are served as before; the last service's is mounted.
    secrets: BTreeMap<SecretName, BTreeMap<ServiceId, SecretId>>,
}

impl Needs {
    fn change(
        &mut self,
        id: &ServiceId,
        before: Option<&Arc<Contribution>>,
        now: Option<&Arc<Contribution>>,
        spec: &mut ProxySpec,
    ) {
        if let Some(network) = now.and_then(|from| from.network.as_ref()) {
            self.networks.add(network.clone());
            spec.networks.insert(network.clone());
        }
        if let Some(network) = before.and_then(|from| from.network.as_ref())
            && self.networks.remove(network)
        {
            spec.networks.remove(network);
        }
        let mut touched = BTreeSet::new();
        for name in before.into_iter().flat_map(|from| from.secrets.keys()) {
            self.secrets.entry(name.clone()).and_modify(|users| drop(users.remove(id)));
            touched.insert(name);
        }
        for (name, secret) in now.into_iter().flat_map(|from| &from.secrets) {
            self.secrets.entry(name.clone()).or_default().insert(id.clone(), secret.clone());
            touched.insert(name);
        }
        for name in touched {
            match self.secrets.get(name).and_then(|users| users.last_key_value()) {
                Some((_, secret)) => drop(spec.secrets.insert(name.clone(), secret.clone())),
                None => {
                    self.secrets.remove(name);
                    spec.secrets.remove(name);
                }
            }
        }
    }
}

// === Who pays for others ===

/// Puts what was good before in the place of what is held back.
fn let_through(
    wanted: &Contributions,
    published: Option<&Published>,
    settings: &ClusterSettings,
    desired: &Desired,
    reports: &mut ServiceReports,
) -> Contributions {
    let mut contributions = wanted.clone();
    let Some(Published::Live { manifest: live, last_good, holds }) = published else { return contributions };
    if holds.is_empty() {
        return contributions;
    }
    let holds = holds.iter().filter(|hold| {
        // What somebody rolled back is not tried again, whatever was meant.
        hold.by_hand || !setup::is_to_blame(hold, &last_good.setup, &settings.nginx)
    });
    let weighed = Holds::weigh(wanted.iter().map(|(id, from)| (id, &**from)), last_good, holds);
    hold_back(&mut contributions, &weighed, reports);
    if settings.networks.is_none() && weighed.a_join_failed() {
        join_one_by_one(&mut contributions, live, last_good, desired, reports);
    }
    contributions
}

/// Puts a service's last good contribution, if there is one, in the place of the new one.
fn put_back(contributions: &mut Contributions, id: ServiceId, last_good: Option<Arc<Contribution>>) {
    match last_good {
        Some(last_good) => drop(contributions.insert(id, last_good)),
        None => drop(contributions.remove(&id)),
    }
}

/// Puts the last good contribution, if there is one, in the place of those that are suspected of having broken a
/// rollout.
fn hold_back(contributions: &mut Contributions, weighed: &Holds<'_>, reports: &mut ServiceReports) {
    let suspects = contributions.iter().filter_map(|(id, from)| match weighed.judge(id, from) {
        Standing::Clear => None,
        Standing::Suspect { reason, last_good } => Some((id.clone(), reason, last_good)),
    });
    for (id, reason, last_good) in suspects.collect::<Vec<_>>() {
        if let Some(about) = reports.get_mut(&id).map(Arc::make_mut) {
            let instead = if last_good.is_some() { "what it was before is served" } else { "it is not served" };
            let message =
                format!("a rollout with its last change failed ({reason}); until it is tried again {instead}");
            about.problems.push(Problem::new(Code::Quarantined, message));
            tell_served(last_good.as_ref(), about);
            about.verdict = Verdict::Quarantined { reason, last_good_served: last_good.is_some() };
        }
        put_back(contributions, id, last_good);
    }
}

/// Lets one new network in, now that a join has failed, and puts the last good contribution in the place of those that
/// need another one.
fn join_one_by_one(
    contributions: &mut Contributions,
    live: &Manifest,
    last_good: &Manifest,
    desired: &Desired,
    reports: &mut ServiceReports,
) {
    for (id, joining) in joining::waiting(contributions, live, last_good) {
        let last_good = last_good.services.get(&id).map(|good| Arc::clone(&good.contribution));
        if let Some(about) = reports.get_mut(&id).map(Arc::make_mut) {
            let name = desired.networks.get(&joining).map_or(joining.as_str(), |network| network.name.as_str());
            let reason = format!("its network joins after {name}: one at a time, so that it is known which one fails");
            tell_served(last_good.as_ref(), about);
            about.verdict = match last_good {
                Some(_) => Verdict::Routed { reason: format!("as before: {reason}") },
                None => Verdict::Waiting { reason },
            };
        }
        put_back(contributions, id, last_good);
    }
}

/// Refuses services that ask for the other way of TLS than an older one on their host.
fn refuse_split_over_tls(contributions: &mut Contributions, reports: &mut ServiceReports) {
    for (id, problem) in groups::split_over_tls(contributions) {
        contributions.remove(&id);
        refuse(&id, problem, reports);
    }
}

fn refuse(id: &ServiceId, problem: Problem, reports: &mut ServiceReports) {
    if let Some(about) = reports.get_mut(id) {
        decide::refuse(problem, Arc::make_mut(about));
    }
}
