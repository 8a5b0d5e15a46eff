//! Routes: what is served and what should be, side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use model::values::Path;
use model::{BackendMode, ClusterName, Contribution, Manifest, Options, Published, Report, ServiceId, Tls, Verdict};
use serde::Serialize;

use crate::table::Table;

/// One service's share of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The host; `*` for every host that nobody asked for.
    pub host: String,
    /// The path, with everything below it.
    pub path: Path,
    /// How TLS is spoken for this service.
    pub tls: TlsKind,
    /// The cluster of proxies.
    pub cluster: ClusterName,
    /// The service's name.
    pub service: String,
    /// How its endpoints are found.
    pub mode: BackendMode,
    /// How far it is.
    pub state: State,
    /// Where the proxies' live files send requests; nowhere yet if it is pending.
    pub endpoints: BTreeSet<SocketAddr>,
    /// Where they should; nowhere if it is leaving.
    pub wanted: BTreeSet<SocketAddr>,
}

/// How TLS is spoken for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsKind {
    /// Not by its own labels.
    None,
    /// By the proxies, with its certificate.
    Terminated,
    /// By itself.
    Passthrough,
}

impl TlsKind {
    fn of(options: &Options) -> Self {
        match options.host.tls {
            None => TlsKind::None,
            Some(Tls::Terminate { .. }) => TlsKind::Terminated,
            Some(Tls::Passthrough) => TlsKind::Passthrough,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            TlsKind::None => "-",
            TlsKind::Terminated => "terminated",
            TlsKind::Passthrough => "passthrough",
        }
    }
}

/// How far a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every proxy serves it as it should be.
    Live,
    /// The proxies' live files hold it as it should be, and the rollout of these files has not ended.
    Rolling,
    /// They hold it with other endpoints or options than it should have.
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
            State::Rolling => "rolling",
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
        let live = live(published, cluster, id);
        let served = live.map(hosts_of).unwrap_or_default();
        let wanted = match &service.verdict {
            Verdict::Routed { .. } => names(&service.hosts, service.default_backend),
            // Its endpoints are those of its last good state, which had the hosts that are served.
            Verdict::Quarantined { last_good_served: true, .. } => served.clone(),
            Verdict::Quarantined { .. } | Verdict::Waiting { .. } | Verdict::Refused | Verdict::Elsewhere { .. } => {
                BTreeSet::new()
            }
        };
        for host in served.union(&wanted) {
            let leaving = !wanted.contains(host);
            let options = live.filter(|_| leaving).map_or(&service.options, |live| &live.options);
            let endpoints = live.filter(|_| served.contains(host)).map(|live| live.endpoints.clone());
            let wanted = if wanted.contains(host) { service.endpoints.clone() } else { BTreeSet::new() };
            let state = match &endpoints {
                None => State::Pending,
                Some(_) if wanted.is_empty() => State::Leaving,
                Some(endpoints) if *endpoints != wanted => State::Changing,
                Some(_) if live.is_some_and(|live| live.options != service.options) => State::Changing,
                Some(_) if published.get(cluster).is_some_and(|published| rolled_out(published, id)) => State::Live,
                Some(_) => State::Rolling,
            };
            routes.push(Route {
                host: host.clone(),
                path: options.context_root.clone(),
                tls: TlsKind::of(options),
                cluster: cluster.clone(),
                service: service.name.clone(),
                mode,
                state,
                endpoints: endpoints.unwrap_or_default(),
                wanted,
            });
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
                path: gone.options.context_root.clone(),
                tls: TlsKind::of(&gone.options),
                cluster: cluster.clone(),
                service: gone.name.clone(),
                mode: gone.mode,
                state: State::Leaving,
                endpoints: gone.endpoints.clone(),
                wanted: BTreeSet::new(),
            }));
        }
    }
    routes.sort_by(|a, b| (&a.host, &a.path, &a.cluster, &a.service).cmp(&(&b.host, &b.path, &b.cluster, &b.service)));
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

/// Whether every proxy has what the live files hold of a service: it is the same in the last good generation, which
/// is the live one unless a rollout is under way.
pub(crate) fn rolled_out(published: &Published, service: &ServiceId) -> bool {
    match published {
        Published::Live { manifest, last_good, .. } => {
            let fragment = |manifest: &Manifest| manifest.services.get(service).map(|service| service.fragment);
            fragment(manifest) == fragment(last_good)
        }
        Published::Nothing | Published::Unknown { .. } => false,
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
    let mut table = Table::new(["HOST", "SERVICE", "MODE", "TLS", "STATE", "SERVERS", "CLUSTER"]);
    for route in routes {
        let state = match route.state {
            State::Changing if route.endpoints == route.wanted => "changing (options)".to_owned(),
            State::Changing => format!("changing ({})", difference(route)),
            State::Live | State::Rolling | State::Pending | State::Leaving => route.state.as_str().to_owned(),
        };
        let servers = if route.endpoints.is_empty() { &route.wanted } else { &route.endpoints };
        table.row([
            address(route),
            route.service.clone(),
            route.mode.as_str().to_owned(),
            route.tls.as_str().to_owned(),
            state,
            few(servers),
            route.cluster.to_string(),
        ]);
    }
    table
}

/// The routes of one cluster that are not as they should be yet, for people.
pub fn changes(routes: &[Route], cluster: &ClusterName) -> Table {
    let mut table = Table::default();
    for route in routes.iter().filter(|route| route.cluster == *cluster) {
        let change = match route.state {
            State::Live | State::Rolling => continue,
            State::Pending => format!("comes: {}", few(&route.wanted)),
            State::Changing if route.endpoints == route.wanted => "changes: its options".to_owned(),
            State::Changing => format!("changes: {} to {}", difference(route), few(&route.wanted)),
            State::Leaving => "goes".to_owned(),
        };
        table.row([address(route), route.service.clone(), route.mode.as_str().to_owned(), change]);
    }
    table
}

/// The host, and the path unless it is all of it.
fn address(route: &Route) -> String {
    if route.path.is_root() { route.host.clone() } else { format!("{}{}", route.host, route.path) }
}

/// How many servers come and go.
fn difference(route: &Route) -> String {
    let come = route.wanted.difference(&route.endpoints).count();
    let go = route.endpoints.difference(&route.wanted).count();
    match (come, go) {
        (come, 0) => format!("+{come}"),
        (0, go) => format!("-{go}"),
        (come, go) => format!("+{come} -{go}"),
    }
}

/// The first few; a service can have hundreds.
fn few(servers: &BTreeSet<SocketAddr>) -> String {
    const FEW: usize = 4;
    let shown = servers.iter().take(FEW).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match servers.len().saturating_sub(FEW) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
