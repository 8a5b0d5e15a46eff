//! Routes: what is served and what should be, side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use model::{BackendMode, ClusterName, Contribution, Published, Report, ServiceId, Verdict};
use serde::Serialize;

use crate::table::Table;

/// One service's share of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The host; `*` for every host that nobody asked for.
    pub host: String,
    /// The cluster of proxies.
    pub cluster: ClusterName,
    /// The service's name.
    pub service: String,
    /// How its endpoints are found.
    pub mode: BackendMode,
    /// Where requests go: as served, or as wanted if nothing is served yet.
    pub endpoints: BTreeSet<SocketAddr>,
    /// How far it is.
    pub state: State,
}

/// How far a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The proxies' live files hold it as it should be.
    Live,
    /// They hold it with other endpoints than it should have.
    Changing,
    /// It should be, and they do not hold it yet.
    Pending,
    /// They hold it, and it should not be.
    Leaving,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Changing => "changing",
            State::Pending => "pending",
            State::Leaving => "leaving",
        }
    }
}

/// All routes, by host, then cluster, then service.
pub fn routes(report: &Report, published: &BTreeMap<ClusterName, Published>) -> Vec<Route> {
    let mut routes = Vec::new();
    for (id, service) in &report.services {
        let (Some(cluster), Some(mode)) = (&service.cluster, service.mode) else { continue };
        let wanted = matches!(service.verdict, Verdict::Routed { .. });
        let live = live(published, cluster, id);
        let mut hosts: BTreeSet<String> = live.map(hosts_of).unwrap_or_default();
        let wanted_hosts = if wanted { names(&service.hosts, service.default_backend) } else { BTreeSet::new() };
        hosts.extend(wanted_hosts.iter().cloned());
        for host in hosts {
            let served = live.filter(|live| hosts_of(live).contains(&host));
            let (state, endpoints) = match (served, wanted_hosts.contains(&host)) {
                (Some(live), true) if live.endpoints == service.endpoints => (State::Live, live.endpoints.clone()),
                (Some(live), true) => (State::Changing, live.endpoints.clone()),
                (Some(live), false) if matches!(service.verdict, Verdict::Quarantined { .. }) => {
                    (State::Live, live.endpoints.clone())
                }
                (Some(live), false) => (State::Leaving, live.endpoints.clone()),
                (None, _) => (State::Pending, service.endpoints.clone()),
            };
            routes.push(Route { host, cluster: cluster.clone(), service: service.name.clone(), mode, endpoints, state });
        }
    }
    for (cluster, published) in published {
        let Published::Live { manifest, .. } = published else { continue };
        for (id, publication) in &manifest.services {
            if report.services.contains_key(id) {
                continue;
            }
            let gone = &publication.contribution;
            routes.extend(hosts_of(gone).into_iter().map(|host| Route {
                host,
                cluster: cluster.clone(),
                service: gone.name.clone(),
                mode: gone.mode,
                endpoints: gone.endpoints.clone(),
                state: State::Leaving,
            }));
        }
    }
    routes.sort_by(|a, b| (&a.host, &a.cluster, &a.service).cmp(&(&b.host, &b.cluster, &b.service)));
    routes
}

/// What the live files hold of a service.
pub fn live<'a>(
    published: &'a BTreeMap<ClusterName, Published>,
    cluster: &ClusterName,
    service: &ServiceId,
) -> Option<&'a Contribution> {
    match published.get(cluster)? {
        Published::Live { manifest, .. } => Some(&manifest.services.get(service)?.contribution),
        Published::Nothing | Published::Unknown { .. } => None,
    }
}

fn hosts_of(contribution: &Contribution) -> BTreeSet<String> {
    names(&contribution.hosts, contribution.default_backend)
}

fn names(hosts: &BTreeSet<model::Host>, default_backend: bool) -> BTreeSet<String> {
    hosts.iter().map(ToString::to_string).chain(default_backend.then(|| "*".to_owned())).collect()
}

/// The routes for people.
pub fn table(routes: &[Route]) -> Table {
    let mut table = Table::new(["HOST", "SERVICE", "MODE", "STATE", "ENDPOINTS", "CLUSTER"]);
    for route in routes {
        let few: Vec<String> = route.endpoints.iter().take(4).map(ToString::to_string).collect();
        let more = route.endpoints.len().saturating_sub(few.len());
        let mut endpoints = few.join(",");
        if more > 0 {
            endpoints.push_str(&format!(" and {more} more"));
        }
        table.row([
            route.host.clone(),
            route.service.clone(),
            route.mode.as_str().to_owned(),
            route.state.as_str().to_owned(),
            endpoints,
            route.cluster.to_string(),
        ]);
    }
    table
}
