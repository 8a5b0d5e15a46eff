//! How full networks are: arithmetic on what a list of services tells. Swarm does not tell who has which address (newer
//! engines tell how many are left, 20.10 does not), so all of this is a lower bound.
//!
//! What takes an address on an overlay network [each measured on 20.10.24]:
//! - the gateway of each subnet;
//! - each service on it, unless its endpoint mode is dnsrr: its virtual address;
//! - each task, from before it is scheduled until it has ended, so also one that waits for a node. A task that finds no
//!   address, be it on another network of its service, takes it as soon as there is one: it counts;
//! - each node that has a task on it: its load balancer. Without that address no task of the node starts.
//!
//! Deliberately missing, since no list shows them: containers that were connected by hand (`docker run --network`), tasks
//! that neither run nor should and have not ended, and the nodes of tasks that are not listed, beyond the first. So a
//! network may be full that does not look it; then a rollout fails, and is held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Addresses, Backends, ClusterName, NetworkId, NodeId, Service, Shortage};
use swarm::{Mode, Pool, RunningCount};
use tokio::time::Instant;

/// The proxies of one cluster, as far as their addresses go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxies {
    /// The name of their Swarm service.
    pub service: String,
    /// The value of the label `com.docker.lb.service_cluster` that they serve.
    pub service_cluster: String,
    /// How many of them there will be, as long as the service does not exist; none: one on each node.
    pub replicas: Option<u64>,
    /// How many start during an update before as many others stop.
    pub surge: u64,
    /// Whether their service has a virtual address on each of its networks.
    pub vip: bool,
}

/// What a list of services tells of addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    /// By what the services call the networks: their ids, or names in old specs.
    users: BTreeMap<String, Users>,
    proxies: BTreeMap<ClusterName, Seen>,
}

/// Who is on one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Users {
    /// Virtual addresses.
    vips: u64,
    /// Tasks that run or should.
    tasks: u64,
    /// Whether any of them runs.
    any_runs: bool,
}

/// A proxy service, as listed.
#[derive(Clone, Debug)]
struct Seen {
    networks: BTreeSet<String>,
    count: u64,
    one_a_node: bool,
    running: RunningCount,
}

impl Census {
    /// Counts.
    pub(crate) fn take(services: &[swarm::Service], proxies: &BTreeMap<ClusterName, Proxies>) -> Self {
        let mut census = Self::default();
        for service in services {
            let count = tasks(service);
            for network in &service.networks {
                let users = match census.users.get_mut(network) {
                    Some(users) => users,
                    None => census.users.entry(network.clone()).or_default(),
                };
                users.tasks += count;
                users.any_runs |= service.running.is_some_and(|count| count.running > 0);
                // One on a network that the service has left is about to go.
                users.vips += u64::from(service.endpoint.vips.keys().any(|id| id.as_str() == network));
            }
            for (cluster, _) in proxies.iter().filter(|(_, proxies)| proxies.service == service.name) {
                let networks = service.networks.iter().cloned().collect();
                let one_a_node = service.mode == Mode::Global;
                let running = service.running.unwrap_or_default();
                census.proxies.insert(cluster.clone(), Seen { networks, count, one_a_node, running });
            }
        }
        census
    }

    /// How many proxies of a cluster run and should; none of either if their service does not exist.
    pub(crate) fn running(&self, cluster: &ClusterName) -> RunningCount {
        self.proxies.get(cluster).map(|seen| seen.running).unwrap_or_default()
    }

    /// Who is on a network.
    fn users(&self, network: &swarm::Network) -> Users {
        let named = [network.id.as_str(), network.name.as_str()];
        let found = named.iter().filter_map(|name| self.users.get(*name));
        found.fold(Users::default(), |sum, users| Users {
            vips: sum.vips + users.vips,
            tasks: sum.tasks + users.tasks,
            any_runs: sum.any_runs || users.any_runs,
        })
    }
}

/// How many tasks of a service run or should. Those that should count as well: a task that is just being replaced, or
/// that fails again and again, will be there in a moment, and its place must not be taken.
fn tasks(service: &swarm::Service) -> u64 {
    let count = service.running.unwrap_or_default();
    let wanted = match service.mode {
        Mode::Replicated(replicas) => replicas,
        Mode::Global => count.desired,
        // Its tasks end, and what Swarm still wants of one that has ended is not worth a refusal.
        Mode::Job => 0,
    };
    wanted.max(count.running)
}

// === The proxies ===

/// What the proxies of one cluster need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crew {
    /// The networks that their service is on.
    networks: BTreeSet<String>,
    service_cluster: String,
    tasks: u64,
    surge: u64,
    vip: bool,
    /// On how many nodes they are, at least.
    nodes: u64,
}

impl Crew {
    /// So many addresses they take on a network that they join.
    fn needed(&self) -> u64 {
        self.tasks + self.surge + u64::from(self.vip) + self.nodes
    }

    fn is_on(&self, network: &swarm::Network) -> bool {
        self.networks.contains(network.id.as_str()) || self.networks.contains(&network.name)
    }

    /// Whether this service may ask them to join this network. It may say so of one network too many, never of one too
    /// few: which it will be is not decided here.
    fn may_be_asked(&self, service: &Service, network: &swarm::Network) -> bool {
        let Ok(request) = &service.asked else { return false };
        request.service_cluster == self.service_cluster
            && match &request.network {
                // The id, the name, or the name within a stack.
                Some(label) => *label == network.id.as_str() || network.name.ends_with(label.as_str()),
                None => service.networks.len() == 1,
            }
    }
}

/// How many proxies there are where there is one on each node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headcount {
    nodes: u64,
    lower_since: Option<Instant>,
}

/// For so long a lower count must stand before it is believed. One is missing at a time while they are updated
/// one after the other, and a network that has room for one less is not to be joined because of that.
const MISSING: Duration = Duration::from_secs(300);

/// Takes in a count.
fn recount(before: Option<Headcount>, seen: u64, now: Instant) -> Headcount {
    match before {
        Some(Headcount { nodes, lower_since }) if seen < nodes => {
            let since = lower_since.unwrap_or(now);
            if now.duration_since(since) < MISSING {
                return Headcount { nodes, lower_since: Some(since) };
            }
        }
        _ => {}
    }
    Headcount { nodes: seen, lower_since: None }
}

/// The crews of all clusters; what was counted goes into `counts`.
pub(crate) fn crews(
    proxies: &BTreeMap<ClusterName, Proxies>,
    census: &Census,
    counts: &mut BTreeMap<ClusterName, Headcount>,
    now: Instant,
) -> BTreeMap<ClusterName, Crew> {
    let crew = |(cluster, proxies): (&ClusterName, &Proxies)| {
        let Proxies { service: _, service_cluster, replicas, surge, vip } = proxies;
        let seen = census.proxies.get(cluster);
        let one_a_node = seen.map_or(replicas.is_none(), |seen| seen.one_a_node);
        let count = seen.map_or(replicas.unwrap_or(1), |seen| seen.count);
        let (tasks, nodes) = if one_a_node {
            let count = recount(counts.get(cluster).copied(), count.max(1), now);
            counts.insert(cluster.clone(), count);
            (count.nodes, count.nodes)
        } else {
            // All on one node, for all that is known.
            (count, 1)
        };
        let networks = seen.map(|seen| seen.networks.clone()).unwrap_or_default();
        let service_cluster = service_cluster.clone();
        (cluster.clone(), Crew { networks, service_cluster, tasks, surge: *surge, vip: *vip, nodes })
    };
    proxies.iter().map(crew).collect()
}

// === One network ===

/// How full a network is, and whose proxies could not join it; nothing if its addresses are not known.
pub(crate) fn assess(
    network: &swarm::Network,
    users: Users,
    nodes: u64,
    crews: &BTreeMap<ClusterName, Crew>,
    asked: &BTreeSet<&ClusterName>,
) -> Option<(Addresses, BTreeMap<ClusterName, Shortage>)> {
    let total = capacity(&network.pools)?;
    let subnets: Vec<String> = network.pools.iter().map(|pool| pool.range.unwrap_or(pool.subnet).to_string()).collect();
    let nodes = nodes.max(u64::from(users.any_runs));
    let (on, off): (Vec<_>, Vec<_>) = crews.iter().partition(|(_, crew)| crew.is_on(network));
    let shortages = off
        .into_iter()
        .filter(|(cluster, _)| asked.contains(cluster))
        // Whatever node their proxies share with a task has its address already, or still needs it.
        .filter(|(_, crew)| users.vips + users.tasks + nodes.saturating_sub(crew.nodes) + crew.needed() > total)
        .map(|(cluster, crew)| {
            let shortage = Shortage { subnets: subnets.clone(), addresses: total, needed: crew.needed() };
            (cluster.clone(), shortage)
        })
        .collect();
    let nodes = on.iter().map(|(_, crew)| crew.nodes).fold(nodes, u64::max);
    let taken = (users.vips + users.tasks + nodes).min(total);
    let next_rollout = on.iter().map(|(_, crew)| crew.surge).max().unwrap_or(0);
    let nearly_full = taken * 10 >= total * 9 || total - taken < next_rollout;
    Some((Addresses { name: network.name.clone(), subnets, total, taken, nearly_full }, shortages))
}

/// How many addresses there are for services, tasks and nodes. Not known with IPv6 subnets: Swarm takes one address from
/// any of the subnets (seen).
fn capacity(pools: &[Pool]) -> Option<u64> {
    if pools.is_empty() {
        return None;
    }
    pools.iter().map(pool_capacity).sum()
}

fn pool_capacity(pool: &Pool) -> Option<u64> {
    let (network, broadcast) = pool.subnet.bounds()?;
    let (first, last) = pool.range.unwrap_or(pool.subnet).bounds()?;
    let gateway = match pool.gateway {
        Some(std::net::IpAddr::V4(address)) => Some(u32::from(address)),
        Some(std::net::IpAddr::V6(_)) | None => None,
    };
    let reserved: BTreeSet<u32> = [Some(network), Some(broadcast), gateway].into_iter().flatten().collect();
    let size = u64::from(last - first) + 1;
    let taken = reserved.into_iter().filter(|address| (first..=last).contains(address)).count() as u64;
    Some(size - taken)
}

// === All networks ===

/// Everything that is known of the networks that candidates are on.
#[derive(Debug, Default)]
pub(crate) struct Fullness {
    pub(crate) addresses: BTreeMap<NetworkId, Addresses>,
    pub(crate) shortages: BTreeMap<NetworkId, BTreeMap<ClusterName, Shortage>>,
}

impl Fullness {
    /// Looks at each network of the candidates.
    pub(crate) fn of<'a>(
        candidates: impl Iterator<Item = (&'a Service, &'a BTreeMap<NetworkId, std::sync::Arc<swarm::Network>>)>,
        census: &Census,
        crews: &'a BTreeMap<ClusterName, Crew>,
    ) -> Self {
        struct Visited<'a> {
            network: &'a swarm::Network,
            nodes: BTreeSet<&'a NodeId>,
            asked: BTreeSet<&'a ClusterName>,
        }
        let mut visited: BTreeMap<&NetworkId, Visited<'a>> = BTreeMap::new();
        for (service, networks) in candidates {
            for (id, network) in networks {
                let visit = || Visited { network: network.as_ref(), nodes: BTreeSet::new(), asked: BTreeSet::new() };
                let visited = visited.entry(id).or_insert_with(visit);
                if let Backends::Tasks { tasks, .. } = &service.backends {
                    let there = tasks.iter().filter(|task| task.addresses.get(id).is_some());
                    visited.nodes.extend(there.map(|task| &task.node));
                }
                let asked = crews.iter().filter(|(_, crew)| crew.may_be_asked(service, network));
                visited.asked.extend(asked.map(|(cluster, _)| cluster));
            }
        }
        let mut fullness = Self::default();
        for (id, Visited { network, nodes, asked }) in visited {
            let users = census.users(network);
            if let Some((addresses, shortages)) = assess(network, users, nodes.len() as u64, crews, &asked) {
                fullness.addresses.insert(id.clone(), addresses);
                fullness.shortages.insert(id.clone(), shortages);
            }
        }
        fullness
    }
}

#[cfg(test)]
mod tests;
