//! What the cluster asks for: the observer's output.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::values::SecretName;
use crate::{ClusterName, Host, NetworkId, NodeId, Options, Problem, SecretId, ServiceId, TaskId, Timestamp};

/// Every candidate service of the cluster, with what routing needs to know of it and nothing that routing
/// does not depend on: no replica counts, no images, no versions. Two values that are equal route alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The candidates: services that ask to be routed, rightly or not.
    pub services: imbl::OrdMap<ServiceId, Arc<Service>>,
    /// The networks that candidates are attached to and a proxy can join.
    pub networks: imbl::OrdMap<NetworkId, Arc<Network>>,
    /// Those of the cluster's secrets whose name a candidate's labels say, with or without its stack's.
    pub secrets: imbl::OrdMap<SecretName, SecretId>,
}

/// A service that asks to be routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Swarm's id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// Who came first decides ties.
    pub created_at: Timestamp,
    /// The stack it belongs to, if any.
    pub stack: Option<String>,
    /// Its label `com.docker.ucp.access.label`, by which rules may say who claims a host. Without such rules it routes
    /// nothing, but whether there are any is not known where changes are judged: another one counts as routing.
    pub access_label: Option<String>,
    /// Its routing labels as written, for explanations.
    pub labels: BTreeMap<String, String>,
    /// What the labels ask for, or everything that is wrong with them.
    pub asked: Result<Request, Vec<Problem>>,
    /// What is odd but does not keep it from being routed.
    pub warnings: Vec<Problem>,
    /// Whether any task is wanted.
    pub scale: Scale,
    /// Whether it is reached at its nodes and over no network: in task mode, if they publish the port that it asks for
    /// (`mode=host`) and its labels name no network.
    pub at_nodes: bool,
    /// The networks of [`Desired::networks`] that it is attached to; empty if it is reached at its nodes.
    pub networks: BTreeSet<NetworkId>,
    /// Where its requests could go.
    pub backends: Backends,
}

/// What a service's labels ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The hosts to answer; may be empty for a default backend.
    pub hosts: BTreeSet<Host>,
    /// The port of the container.
    pub port: NonZeroU16,
    /// The network to be reached over, as written: a name, an id, or a stack's bare name.
    pub network: Option<String>,
    /// Tasks or VIP.
    pub backend_mode: BackendMode,
    /// Whether it answers every host that nobody asked for.
    pub default_backend: bool,
    /// The service cluster that should serve it; empty for the one without a name.
    pub service_cluster: String,
    /// Everything else that can be asked for; secrets by the names that the labels say.
    pub options: Options,
}

/// Where the proxy sends requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendMode {
    /// To each running task's address.
    #[default]
    Task,
    /// To the service's virtual address, which Swarm balances.
    Vip,
}

impl BackendMode {
    /// The word in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendMode::Task => "task",
            BackendMode::Vip => "vip",
        }
    }
}

/// Whether a service wants any task; how many is deliberately not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// 0 replicas, or a global service that fits no node.
    Zero,
    /// 1 replica or more.
    AtLeastOne,
}

/// Where a service's requests could go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backends {
    /// VIP mode.
    Vip {
        /// The service's virtual address on each network that has one.
        addresses: BTreeMap<NetworkId, IpAddr>,
        /// Whether a task has run since the service last had 0 replicas (as far as this process saw). Once
        /// true it stays true: a task that fails later changes nothing.
        has_run: bool,
    },
    /// Task mode.
    Tasks {
        /// The tasks that run and should, sorted by id.
        tasks: Vec<Task>,
        /// The last list of them failed; these are from the one before.
        stale: bool,
    },
    /// Something without which nothing could be said was never read: what is live of the service stays as it is.
    Unread {
        /// What, for people.
        reason: String,
    },
}

/// A task that runs and should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Swarm's id.
    pub id: TaskId,
    /// Its replica number; 0 for tasks of global services.
    pub slot: u64,
    /// Where it runs.
    pub node: NodeId,
    /// Its address on each network; empty if its service is reached at its nodes.
    pub addresses: TaskAddresses,
    /// Where its node publishes the port that its labels ask for; only if its service is reached at its nodes.
    pub at_node: Option<AtNode>,
    /// It gets no requests yet: those before it in its place kept ending.
    pub held_off: bool,
}

/// The address of a task on each of its few networks, in their order. There are as many of these as tasks, and a map of one
/// entry takes nine times as much memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskAddresses(Box<[(NetworkId, IpAddr)]>);

impl TaskAddresses {
    /// The address on this network.
    pub fn get(&self, network: &NetworkId) -> Option<IpAddr> {
        self.0.iter().find(|(id, _)| id == network).map(|(_, address)| *address)
    }

    /// The networks.
    pub fn networks(&self) -> impl Iterator<Item = &NetworkId> {
        self.0.iter().map(|(network, _)| network)
    }
}

impl FromIterator<(NetworkId, IpAddr)> for TaskAddresses {
    /// Of several on one network the first counts.
    fn from_iter<I: IntoIterator<Item = (NetworkId, IpAddr)>>(addresses: I) -> Self {
        let mut sorted: Vec<_> = addresses.into_iter().collect();
        sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
        sorted.dedup_by(|(later, _), (first, _)| later == first);
        Self(sorted.into())
    }
}

/// Where a node publishes a port of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtNode {
    /// The node's address; none if it is not known.
    pub address: Option<IpAddr>,
    /// The port there; none if there is none yet.
    pub port: Option<NonZeroU16>,
}

/// A network that a proxy can join: an overlay of the whole swarm, and not the ingress network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Swarm's id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// The clusters whose proxies are not on it, are asked to be, and would not find enough addresses.
    pub no_room_for: BTreeMap<ClusterName, Shortage>,
}

impl Network {
    /// A network with room for everybody.
    pub fn new(id: NetworkId, name: impl Into<String>) -> Self {
        Self { id, name: name.into(), no_room_for: BTreeMap::new() }
    }
}

/// Why proxies cannot join a network. How many addresses are taken is not in it: that changes all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The network's subnets, such as `10.0.1.0/24`.
    pub subnets: Vec<String>,
    /// How many addresses these have for services, tasks and nodes.
    pub addresses: u64,
    /// How many of them the proxies need.
    pub needed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_addresses_on_a_network_the_first_counts() {
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let addresses = [("b", 3), ("a", 1), ("b", 2)].map(|(network, last)| (network.into(), address(last)));
        let addresses = TaskAddresses::from_iter(addresses);
        assert_eq!(addresses.get(&"a".into()), Some(address(1)));
        assert_eq!(addresses.get(&"b".into()), Some(address(3)));
        assert_eq!(addresses.get(&"c".into()), None);
        assert_eq!(addresses.networks().map(NetworkId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }
}
