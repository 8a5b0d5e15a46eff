//! One service as last read: what routing needs of it, and what was read beside that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use model::values::SecretName;
use model::{
    AtNode, BackendMode, Backends, NetworkId, NodeId, Problem, Request, Scale, SecretId, Service, Task, labels,
};
use swarm::{Class, DesiredState, Mode, Network, TaskState};
use tokio::time::Instant;

use crate::index::{Candidate, Labels};
use crate::lookups::Lookups;
use crate::networks::Known;
use crate::request::Reading;
use crate::secrets::whole_names;

/// For so long a global service must want no task before it counts as scaled to zero.
///
/// Its wanted count is the number of tasks that should run at this moment (swarmkit,
/// `ListServiceStatuses`). That is 0 on a single node while the old task of an update stops and the next one
/// waits for it, and during the delay before a failed task is started again; neither may withdraw a VIP.
pub(crate) const GLOBAL_ZERO: Duration = Duration::from_secs(30);

/// A candidate as last read.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// What the Engine said. Whatever of it routing does not need is only compared.
    pub(crate) read: swarm::Service,
    /// What routing needs. The same allocation for as long as it says the same.
    pub(crate) service: Arc<Service>,
    /// The networks of [`Service::networks`], as the Engine told of them.
    pub(crate) networks: BTreeMap<NetworkId, Arc<Network>>,
    /// Those of the cluster's secrets that its labels may mean.
    pub(crate) secrets: BTreeMap<SecretName, SecretId>,
    /// Since when a global service wants no task.
    empty_since: Option<Instant>,
}

/// What a pass learnt about the tasks of one service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TaskRead<'a> {
    /// All that should run.
    Listed(&'a [swarm::Task]),
    /// The list failed.
    Failed,
    /// It was not needed.
    NotAsked,
}

/// Something that a candidate's facts need and that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// One of its networks, by id or name, for this reason.
    Network(String, Option<Class>),
    /// Its tasks, which nobody has listed before either, or not for what is asked for now.
    Tasks,
    /// The addresses of the nodes that it is reached at.
    Nodes,
    /// Whether the secrets that it names exist.
    Secrets,
}

impl fmt::Display for Unread {
    /// Without the Engine's own words, which may differ from pass to pass.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Network(network, Some(class)) => {
                write!(f, "its network {network} could not be read ({})", class.as_str())
            }
            Unread::Network(network, None) => write!(f, "its network {network} was not read"),
            Unread::Tasks => f.write_str("its tasks could not be listed"),
            Unread::Nodes => f.write_str("the addresses of its nodes could not be listed"),
            Unread::Secrets => f.write_str("the secrets that it names could not be listed"),
        }
    }
}

/// What a service's labels ask for, or all that is wrong with them.
pub(crate) type Asked = Result<Request, Vec<Problem>>;

/// What the labels of a service in task mode ask for; `None` in VIP mode and when it is refused.
pub(crate) fn task_mode(asked: &Asked) -> Option<&Request> {
    asked.as_ref().ok().filter(|request| request.backend_mode == BackendMode::Task)
}

/// The port that a service is reached at on its nodes, if it is: those who publish it there rarely mean anything else,
/// and Interlock took it for that. Whoever does names a network.
fn port_at_nodes(read: &swarm::Service, asked: &Asked) -> Option<NonZeroU16> {
    let request = task_mode(asked)?;
    let published = request.network.is_none() && read.endpoint.host_ports.contains(&request.port.get());
    published.then_some(request.port)
}

/// The nodes whose addresses the facts of a service depend on.
pub(crate) fn node_ids(candidate: &Candidate, tasks: TaskRead<'_>) -> BTreeSet<NodeId> {
    match (port_at_nodes(&candidate.read, candidate.asked()), tasks) {
        (Some(_), TaskRead::Listed(tasks)) => {
            tasks.iter().filter(|task| serves(task)).map(|task| task.node.clone()).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// The ids and names of the networks that the facts of a service depend on.
pub(crate) fn network_keys<'a>(candidate: &'a Candidate, tasks: TaskRead<'a>) -> BTreeSet<&'a str> {
    let (read, asked) = (&candidate.read, candidate.asked());
    if asked.is_err() {
        // It is refused whatever its networks are.
        return BTreeSet::new();
    }
    if port_at_nodes(read, asked).is_some() {
        return BTreeSet::new();
    }
    let mut keys: BTreeSet<&str> = read.networks.iter().map(String::as_str).collect();
    keys.extend(read.endpoint.vips.keys().map(NetworkId::as_str));
    if let TaskRead::Listed(tasks) = tasks {
        let attachments = tasks.iter().filter(|task| serves(task)).flat_map(|task| &task.attachments);
        keys.extend(attachments.map(|attachment| attachment.network.as_str()));
    }
    keys
}

/// The whole names of the secrets that the facts of a service depend on.
pub(crate) fn secret_names(candidate: &Candidate) -> BTreeSet<SecretName> {
    let stack = candidate.read.labels.get(labels::STACK).map(String::as_str);
    // A refused service is refused whatever secrets there are.
    candidate.asked().as_ref().map_or_else(|_| BTreeSet::new(), |request| whole_names(stack, request))
}

impl Facts {
    /// Puts together what was read. `previous` is what is known of the same service.
    ///
    /// # Errors
    /// When an answer is missing without which the facts could be wrong, and something is known of the service that
    /// stays as it is. A network left out would make a choice among the others look clear; tasks left out would look
    /// like a service without any, and secrets left out like labels that name none. If nothing is known, the service is
    /// there as [`Backends::Unread`].
    pub(crate) fn new(
        candidate: Candidate,
        tasks: TaskRead<'_>,
        lookups: &Lookups,
        previous: Option<&Facts>,
        now: Instant,
    ) -> Result<Self, Unread> {
        let (scale, empty_since) = scale(&candidate.read, previous, now);
        let Found { networks, secrets, backends } = match find(&candidate, scale, tasks, lookups, previous) {
            Ok(found) => found,
            Err(unread) if previous.is_some_and(Facts::is_read) => return Err(unread),
            Err(unread) => Found {
                networks: BTreeMap::new(),
                secrets: BTreeMap::new(),
                backends: Backends::Unread { reason: unread.to_string() },
            },
        };
        let at_nodes = port_at_nodes(&candidate.read, candidate.asked()).is_some();
        let Candidate { read, labels } = candidate;
        let Reading { labels, asked, warnings } = match labels {
            Labels::Read(reading) => *reading,
            Labels::AsBefore(service) => Reading {
                labels: service.labels.clone(),
                asked: service.asked.clone(),
                warnings: service.warnings.clone(),
            },
        };
        let service = Service {
            id: read.id.clone(),
            name: read.name.clone(),
            created_at: read.created_at,
            stack: read.labels.get(labels::STACK).cloned(),
            access_label: read.labels.get(labels::UCP_ACCESS).cloned(),
            labels,
            asked,
            warnings,
            scale,
            at_nodes,
            networks: networks.keys().cloned().collect(),
            backends,
        };
        let service = match previous {
            Some(previous) if *previous.service == service => Arc::clone(&previous.service),
            _ => Arc::new(service),
        };
        Ok(Self { read, service, networks, secrets, empty_since })
    }

    /// Whether enough of it was read, now or before.
    pub(crate) fn is_read(&self) -> bool {
        !matches!(self.service.backends, Backends::Unread { .. })
    }

    /// How many tasks the service wants, as far as the Engine said.
    pub(crate) fn wanted(&self) -> Option<u64> {
        match self.read.mode {
            Mode::Replicated(replicas) => Some(replicas),
            Mode::Global | Mode::Job => self.read.running.map(|count| count.desired),
        }
    }
}

/// What a candidate refers to, and where its requests could go.
struct Found {
    networks: BTreeMap<NetworkId, Arc<Network>>,
    secrets: BTreeMap<SecretName, SecretId>,
    backends: Backends,
}

fn find(
    candidate: &Candidate,
    scale: Scale,
    tasks: TaskRead<'_>,
    lookups: &Lookups,
    previous: Option<&Facts>,
) -> Result<Found, Unread> {
    let (read, asked) = (&candidate.read, candidate.asked());
    let secrets = lookups.secrets.among(&secret_names(candidate)).ok_or(Unread::Secrets)?;
    let mut joinable = BTreeMap::new();
    for key in network_keys(candidate, tasks) {
        match lookups.networks.get(key) {
            Known::Joinable(network) => {
                joinable.insert(network.id.clone(), network);
            }
            Known::No => {}
            Known::Unread(class) => return Err(Unread::Network(key.to_owned(), class)),
        }
    }
    let backends = match asked {
        Err(_) => Backends::Tasks { tasks: Vec::new(), stale: false },
        Ok(Request { backend_mode: BackendMode::Vip, .. }) => {
            vip(read, scale, &joinable, previous.map(|facts| &facts.service.backends))
        }
        Ok(Request { backend_mode: BackendMode::Task, .. }) => {
            task_backends(tasks, port_at_nodes(read, asked), lookups, &mut joinable, previous)?
        }
    };
    Ok(Found { networks: joinable, secrets, backends })
}

fn scale(read: &swarm::Service, previous: Option<&Facts>, now: Instant) -> (Scale, Option<Instant>) {
    match (read.mode, read.running) {
        (Mode::Replicated(0), _) => (Scale::Zero, None),
        (Mode::Replicated(_) | Mode::Job, _) => (Scale::AtLeastOne, None),
        (Mode::Global, Some(count)) if count.desired == 0 => {
            let since = previous.and_then(|facts| facts.empty_since).unwrap_or(now);
            let zero = now.duration_since(since) >= GLOBAL_ZERO;
            (if zero { Scale::Zero } else { Scale::AtLeastOne }, Some(since))
        }
        (Mode::Global, Some(_)) => (Scale::AtLeastOne, None),
        // The Engine did not count: what was known holds.
        (Mode::Global, None) => {
            previous.map_or((Scale::AtLeastOne, None), |facts| (facts.service.scale, facts.empty_since))
        }
    }
}

/// The counts lag by seconds, so they only ever gate the first publication.
fn vip(
    read: &swarm::Service,
    scale: Scale,
    joinable: &BTreeMap<NetworkId, Arc<Network>>,
    previous: Option<&Backends>,
) -> Backends {
    let addresses = read
        .endpoint
        .vips
        .iter()
        .filter(|(network, _)| joinable.contains_key(*network))
        .map(|(network, address)| (network.clone(), *address))
        .collect();
    let had_run = matches!(previous, Some(Backends::Vip { has_run: true, .. }));
    let runs = read.running.is_some_and(|count| count.running > 0);
    Backends::Vip { addresses, has_run: scale == Scale::AtLeastOne && (had_run || runs) }
}

fn task_backends(
    read: TaskRead<'_>,
    at_nodes: Option<NonZeroU16>,
    lookups: &Lookups,
    joinable: &mut BTreeMap<NetworkId, Arc<Network>>,
    previous: Option<&Facts>,
) -> Result<Backends, Unread> {
    let (failed, known) = match read {
        TaskRead::Listed(listed) => {
            let tasks = listed.iter().filter(|task| serves(task));
            let mut tasks: Vec<Task> =
                tasks.map(|task| task_of(task, at_nodes, lookups, joinable)).collect::<Result<_, _>>()?;
            tasks.sort_by(|one, other| one.id.cmp(&other.id));
            return Ok(Backends::Tasks { tasks, stale: false });
        }
        TaskRead::Failed => (true, previous),
        TaskRead::NotAsked => (false, previous),
    };
    let Some(previous) = known else {
        // Nobody has seen its tasks, and it is new: nothing of it is served that could be withdrawn.
        return Ok(Backends::Tasks { tasks: Vec::new(), stale: true });
    };
    match (task_mode(&previous.service.asked), &previous.service.backends) {
        (Some(before), Backends::Tasks { tasks, stale })
            if at_nodes == previous.service.at_nodes.then_some(before.port) =>
        {
            for id in tasks.iter().flat_map(|task| task.addresses.networks()) {
                if let Some(network) = previous.networks.get(id) {
                    joinable.insert(id.clone(), Arc::clone(network));
                }
            }
            Ok(Backends::Tasks { tasks: tasks.clone(), stale: *stale || failed })
        }
        // It was in VIP mode, refused, or reached in another way until now.
        (_, Backends::Tasks { .. } | Backends::Vip { .. } | Backends::Unread { .. }) => Err(Unread::Tasks),
    }
}

/// Whether Swarm is at work on an update of a service, or takes one back.
pub(crate) fn updating(read: &swarm::Service) -> bool {
    read.update.as_ref().is_some_and(|update| update.state.is_under_way())
}

/// Whether requests may go to it.
pub(crate) fn serves(task: &swarm::Task) -> bool {
    task.state == TaskState::Running && task.desired == DesiredState::Running
}

fn task_of(
    task: &swarm::Task,
    at_nodes: Option<NonZeroU16>,
    lookups: &Lookups,
    joinable: &BTreeMap<NetworkId, Arc<Network>>,
) -> Result<Task, Unread> {
    let at_node = match at_nodes {
        Some(port) => Some(AtNode {
            address: lookups.nodes.address(&task.node).ok_or(Unread::Nodes)?,
            port: task.host_ports.get(&port.get()).copied().and_then(NonZeroU16::new),
        }),
        None => None,
    };
    let attachments = task.attachments.iter().filter(|attachment| joinable.contains_key(&attachment.network));
    let addresses = attachments.map(|attachment| (attachment.network.clone(), attachment.address)).collect();
    let held_off = lookups.crash_loops.hold_off(&task.id);
    Ok(Task { id: task.id.clone(), slot: task.slot, node: task.node.clone(), addresses, at_node, held_off })
}

#[cfg(test)]
mod tests;
