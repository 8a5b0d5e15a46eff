//! What the Engine tells, reduced to what Dovetail asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use model::{ConfigId, Digest, NetworkId, NodeId, SecretId, ServiceId, TaskId, Timestamp};
use serde_json::Value;

/// Who answers at the Engine's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The Engine's version, such as `20.10.24`; UCP prefixes it with `ucp/`.
    pub version: String,
    /// The API's version as major and minor, such as (1, 41).
    pub api: (u32, u32),
    /// Whether the answering node is a manager of an active swarm.
    pub manager: bool,
}

/// A service of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// The index that moves with each change of the service object.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed, the progress of an update included.
    pub updated_at: Timestamp,
    /// Its name.
    pub name: String,
    /// The labels of the service (`deploy.labels` in a stack).
    pub labels: BTreeMap<String, String>,
    /// The labels of its containers (`labels` in a stack).
    pub container_labels: BTreeMap<String, String>,
    /// How many tasks it wants.
    pub mode: Mode,
    /// The networks in its spec, by id (some old specs hold names).
    pub networks: Vec<String>,
    /// The digest of the spec's `TaskTemplate` as the Engine wrote it: image, environment, configs, secrets,
    /// mounts, placement. It tells that something in there moved, not what.
    pub task_template: Digest,
    /// Its endpoint as Swarm set it up.
    pub endpoint: Endpoint,
    /// How many tasks run; absent when the Engine did not say.
    pub running: Option<RunningCount>,
    /// The last update, if there was one.
    pub update: Option<UpdateStatus>,
}

/// How many tasks a service wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// So many.
    Replicated(u64),
    /// One on each node that fits.
    Global,
    /// Tasks that end by themselves.
    Job,
}

/// Counts that lag by seconds, and count tasks on dead nodes too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningCount {
    /// Tasks in state running.
    pub running: u64,
    /// Tasks that should run: replicas, or nodes that fit.
    pub desired: u64,
}

/// How a service is found inside its networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The mode in the spec.
    pub mode: EndpointMode,
    /// The virtual addresses that Swarm gave it. The ingress network's may be among them, and an entry
    /// without an address is left out.
    pub vips: BTreeMap<NetworkId, IpAddr>,
    /// The container's TCP ports that its spec publishes on the node of each task (`mode=host`).
    pub host_ports: BTreeSet<u16>,
}

/// VIP or DNS round robin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointMode {
    /// One virtual address per network.
    #[default]
    Vip,
    /// The name resolves to the tasks.
    Dnsrr,
}

/// Which tasks to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TasksOf {
    /// Those of these, in one call for all tasks of the cluster: a filter that names a service which is gone would fail
    /// the whole call. Who is not named is left out while the answer is read.
    Services(Arc<BTreeSet<ServiceId>>),
    /// Those of one.
    Service(ServiceId),
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Its replica number; 0 in global services.
    pub slot: u64,
    /// Its node; empty before it is scheduled.
    pub node: NodeId,
    /// When it was created.
    pub created_at: Timestamp,
    /// What it does.
    pub state: TaskState,
    /// Since when, by the clock of its node.
    pub since: Timestamp,
    /// What it should do.
    pub desired: DesiredState,
    /// Swarm's words for what is wrong with it, if anything. Never empty.
    pub error: Option<String>,
    /// Its addresses.
    pub attachments: Vec<Attachment>,
    /// Where its node publishes its TCP ports (`mode=host`), by the container's; the lowest, where there are several.
    /// Empty before it runs.
    pub host_ports: BTreeMap<u16, u16>,
    /// The spec that it was made from, as the Engine wrote it (`Task.Spec`). Only a task history has it: in
    /// [`crate::Read::tasks`] it is `null`, since 100,000 specs are most of 125 MiB.
    pub spec: Arc<Value>,
}

/// Where one task of a service should run: a slot, or a node of a global service.
pub type Place = (u64, NodeId);

impl Task {
    /// Its place, which its successors have, too.
    pub fn place(&self) -> Place {
        (self.slot, if self.slot == 0 { self.node.clone() } else { "".into() })
    }
}

/// A task's place on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The network.
    pub network: NetworkId,
    /// The address, without the prefix length. The first, where there are several.
    pub address: IpAddr,
}

/// The states of a task, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum TaskState {
    New,
    Allocated,
    Pending,
    Assigned,
    Accepted,
    Preparing,
    Ready,
    Starting,
    Running,
    Complete,
    Shutdown,
    Failed,
    Rejected,
    Remove,
    Orphaned,
}

impl TaskState {
    const WORDS: [(Self, &'static str); 15] = [
        (Self::New, "new"),
        (Self::Allocated, "allocated"),
        (Self::Pending, "pending"),
        (Self::Assigned, "assigned"),
        (Self::Accepted, "accepted"),
        (Self::Preparing, "preparing"),
        (Self::Ready, "ready"),
        (Self::Starting, "starting"),
        (Self::Running, "running"),
        (Self::Complete, "complete"),
        (Self::Shutdown, "shutdown"),
        (Self::Failed, "failed"),
        (Self::Rejected, "rejected"),
        (Self::Remove, "remove"),
        (Self::Orphaned, "orphaned"),
    ];

    /// The state that Swarm has this word for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, known)| *known == word).map(|(state, _)| *state)
    }

    /// Swarm's word for it.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }

    /// Whether a task in it is over without having been told to stop.
    pub fn ended_by_itself(self) -> bool {
        matches!(self, Self::Failed | Self::Rejected | Self::Complete)
    }
}

/// What Swarm wants of a task, as far as it matters: to run, to wait for its turn, or to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DesiredState {
    /// It waits until its predecessor is gone (stop-first updates, restart delays).
    Ready,
    /// It should run.
    Running,
    /// It should be gone, in one way or another.
    Gone,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Where other nodes find it; none if the Engine does not say, or says what only the node itself could use.
    pub address: Option<IpAddr>,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// `overlay`, `host`, `bridge`, ...
    pub driver: String,
    /// `swarm`, `local`, ...
    pub scope: String,
    /// Whether it is the routing mesh.
    pub ingress: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where its addresses come from; empty if the Engine did not say, which is so for a moment after a network was
    /// created.
    pub pools: Vec<Pool>,
}

/// A subnet of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The subnet.
    pub subnet: Subnet,
    /// The part of it that addresses are taken from, if not from all of it.
    pub range: Option<Subnet>,
    /// The address in it that is taken for the gateway.
    pub gateway: Option<IpAddr>,
}

/// An address and a prefix length, such as `10.0.1.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// The subnet that `address` is in; none if there is no such prefix length.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// Reads `10.0.1.0/24`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Self::new(address.parse().ok()?, prefix.parse().ok()?)
    }

    /// The first and the last address, if they are of 32 bits.
    pub fn bounds(&self) -> Option<(u32, u32)> {
        let IpAddr::V4(address) = self.address else { return None };
        let hosts = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        let first = u32::from(address) & !hosts;
        Some((first, first | hosts))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A config object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its id.
    pub id: ConfigId,
    /// The index that moves with each change.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its content.
    pub data: Arc<[u8]>,
}

/// A config object to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewConfig {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its content.
    pub data: Arc<[u8]>,
}

/// A secret, of which nobody but the tasks that it is mounted into sees the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its id: content never changes under an id, and a secret that is removed and created again is another one.
    pub id: SecretId,
    /// Its name, unique in the cluster.
    pub name: String,
}

/// A service as the Engine wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct RawService {
    /// Its id.
    pub id: ServiceId,
    /// The index that an update must name.
    pub version: u64,
    /// The spec, with every field.
    pub spec: Value,
    /// The spec before the last update, if Swarm still has it.
    pub previous_spec: Option<Value>,
    /// The last update, if there was one. A hint, never the truth.
    pub update: Option<UpdateStatus>,
}

/// How Swarm says the last update goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateStatus {
    /// Its state.
    pub state: UpdateState,
    /// Swarm's words.
    pub message: String,
}

/// The states of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum UpdateState {
    Updating,
    Paused,
    Completed,
    RollbackStarted,
    RollbackPaused,
    RollbackCompleted,
}

impl UpdateState {
    /// Whether Swarm is at work on it, forwards or back.
    pub fn is_under_way(self) -> bool {
        matches!(self, UpdateState::Updating | UpdateState::RollbackStarted)
    }
}

/// The value of the `X-Registry-Auth` header: credentials of a registry. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAuth(String);

impl RegistryAuth {
    /// Takes the header's value, ready-made.
    pub fn new(header: String) -> Self {
        Self(header)
    }

    /// The header's value, for the adapter alone.
    pub fn header(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryAuth(..)")
    }
}

/// Something happened. What exactly is to be read from the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The subscription stands; nothing from now on is missed.
    Established,
    /// An object changed.
    Changed(EventKind),
}

/// What kind of object changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A service was created, updated or removed. Changes of its tasks raise no event.
    Service(ServiceId),
    /// A node came, went, or changed.
    Node,
    /// A network was created or removed.
    Network,
    /// A config or secret was created, changed or removed.
    Object,
}
