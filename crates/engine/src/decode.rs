//! From the Engine's JSON to the port's types. Plain functions; what they refuse, they refuse with words.
//!
//! Services and tasks are read into structs of our own and not into bollard's models: those refuse a whole
//! list for one word that they do not know, and read 100,000 task specs to throw them away.
//!
//! What is missing or does not parse is an error of the whole answer, since half an answer is none. Only
//! words from sets that newer engines may extend degrade, always to the side that changes nothing:
//!
//! * an unknown state of a task is [`TaskState::New`]: it does not run, and it has not failed;
//! * an unknown desired state is [`DesiredState::Ready`]: not to be served, and not gone;
//! * an unknown state of an update is as if there were no update status, which is a hint anyway;
//! * an unknown kind of service is [`Mode::Job`]: nothing that can be routed to;
//! * an unknown endpoint mode is VIP: whether there is a VIP is seen from the VIPs;
//! * a subnet that does not read leaves a network's addresses unknown: they only serve to warn, and to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use model::{ConfigId, CreatedAt, Digest, NetworkId, NodeId, SecretId, ServiceId, TaskId};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use swarm::{
    Attachment, Config, DesiredState, Endpoint, EndpointMode, EventKind, Mode, Network, Node, Pool, RawService,
    RunningCount, Secret, Service, Subnet, Task, TaskState, UpdateState, UpdateStatus, limits,
};

type Decoded<T> = Result<T, String>;

// === Version and info ===

/// What `GET /version` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub engine: String,
    pub api: (u32, u32),
    /// The oldest API it still speaks; (0, 0) when it does not say.
    pub oldest_api: (u32, u32),
}

pub(crate) fn version(bytes: &[u8]) -> Decoded<Version> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        version: String,
        api_version: String,
        #[serde(rename = "MinAPIVersion")]
        min_api_version: Option<String>,
    }
    let wire: Wire = json(bytes)?;
    Ok(Version {
        engine: wire.version,
        api: api_version(&wire.api_version)?,
        oldest_api: match wire.min_api_version.as_deref() {
            None | Some("") => (0, 0),
            Some(text) => api_version(text)?,
        },
    })
}

fn api_version(text: &str) -> Decoded<(u32, u32)> {
    let parse = || {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    parse().ok_or_else(|| format!("{text:?} is no API version"))
}

/// Whether `GET /info` is the answer of a manager of an active swarm.
pub(crate) fn is_manager(bytes: &[u8]) -> Decoded<bool> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        swarm: Option<Swarm>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    #[derive(Default)]
    struct Swarm {
        control_available: bool,
        local_node_state: String,
    }
    let swarm = json::<Wire>(bytes)?.swarm.unwrap_or_default();
    Ok(swarm.control_available && swarm.local_node_state == "active")
}

/// The digest in the answer of `GET /distribution/{image}/json`.
pub(crate) fn image_digest(bytes: &[u8]) -> Decoded<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        descriptor: Descriptor,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        digest: String,
    }
    let digest = json::<Wire>(bytes)?.descriptor.digest;
    let hexadecimal = |digits: &str| digits.len() >= 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    match digest.split_once(':') {
        Some((_, digits)) if hexadecimal(digits) => Ok(digest),
        _ => Err(format!("{digest:?} is no digest")),
    }
}

/// The text of an error answer: `{"message":"..."}`, or whatever it says.
pub(crate) fn error_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Wire {
        message: String,
    }
    match serde_json::from_slice::<Wire>(body) {
        Ok(wire) => wire.message.trim().to_owned(),
        // A balancer's HTML page, say. The beginning is enough for a log line.
        Err(_) => String::from_utf8_lossy(body).trim().chars().take(300).collect(),
    }
}

// === Services ===

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireService {
    #[serde(rename = "ID")]
    id: String,
    version: WireVersion,
    created_at: String,
    spec: WireServiceSpec,
    endpoint: Option<WireEndpoint>,
    service_status: Option<WireServiceStatus>,
    update_status: Option<WireUpdateStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireVersion {
    index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireServiceSpec {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    /// Whole, since its digest is wanted.
    task_template: Value,
    mode: WireMode,
    /// Where old specs have their networks.
    networks: Option<Vec<WireTarget>>,
    endpoint_spec: Option<WireEndpointSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTaskTemplate {
    container_spec: Option<WireContainerSpec>,
    networks: Option<Vec<WireTarget>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireContainerSpec {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTarget {
    target: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireMode {
    replicated: Option<WireReplicated>,
    global: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireReplicated {
    replicas: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireEndpointSpec {
    mode: Option<String>,
    ports: Option<Vec<WirePort>>,
}

/// A published port, in a service's spec and in the status of a task.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct WirePort {
    protocol: String,
    publish_mode: String,
    target_port: u16,
    published_port: u16,
}

impl WirePort {
    /// Whether a node publishes it, for TCP.
    fn on_node(&self) -> bool {
        self.publish_mode == "host" && matches!(self.protocol.as_str(), "tcp" | "") && self.target_port > 0
    }
}

#[derive(Deserialize)]
struct WireEndpoint {
    #[serde(rename = "VirtualIPs")]
    virtual_ips: Option<Vec<WireVirtualIp>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireVirtualIp {
    #[serde(rename = "NetworkID")]
    network_id: String,
    addr: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireServiceStatus {
    running_tasks: u64,
    desired_tasks: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireUpdateStatus {
    state: Option<String>,
    message: Option<String>,
}

pub(crate) fn services(bytes: &[u8]) -> Decoded<Vec<Service>> {
    list(bytes, "service", service)
}

fn service(wire: WireService) -> Decoded<Service> {
    let WireService { id, version, created_at, spec, endpoint, service_status, update_status } = wire;
    let of = |problem: String| format!("service {id}: {problem}");
    let WireServiceSpec { name, labels, task_template, mode, networks, endpoint_spec } = spec;
    let template = WireTaskTemplate::deserialize(&task_template).map_err(|error| of(error.to_string()))?;
    let networks = template.networks.filter(|networks| !networks.is_empty()).or(networks);
    let (endpoint_mode, ports) = match endpoint_spec {
        Some(spec) => (endpoint_mode(spec.mode.as_deref()), spec.ports.unwrap_or_default()),
        None => (EndpointMode::Vip, Vec::new()),
    };
    Ok(Service {
        version: version.index,
        created_at: timestamp(&created_at).map_err(of)?,
        name,
        labels: labels.unwrap_or_default(),
        container_labels: template.container_spec.and_then(|spec| spec.labels).unwrap_or_default(),
        mode: service_mode(&mode),
        networks: networks.unwrap_or_default().into_iter().map(|network| network.target).collect(),
        task_template: Digest::of(task_template.to_string().as_bytes()),
        endpoint: Endpoint {
            mode: endpoint_mode,
            vips: vips(endpoint.and_then(|endpoint| endpoint.virtual_ips).unwrap_or_default()).map_err(of)?,
            host_ports: ports.iter().filter(|port| port.on_node()).map(|port| port.target_port).collect(),
        },
        running: service_status
            .map(|status| RunningCount { running: status.running_tasks, desired: status.desired_tasks }),
        update: update_status.and_then(update),
        id: ServiceId::new(id),
    })
}

fn service_mode(mode: &WireMode) -> Mode {
    match mode {
        // Swarm fills in the one replica that is meant by none named.
        WireMode { replicated: Some(replicated), .. } => Mode::Replicated(replicated.replicas.unwrap_or(1)),
        WireMode { global: Some(_), .. } => Mode::Global,
        WireMode { replicated: None, global: None } => Mode::Job,
    }
}

fn endpoint_mode(mode: Option<&str>) -> EndpointMode {
    match mode {
        Some("dnsrr") => EndpointMode::Dnsrr,
        _ => EndpointMode::Vip,
    }
}

/// A service on the network `host` has an entry without an address.
fn vips(entries: Vec<WireVirtualIp>) -> Decoded<BTreeMap<NetworkId, IpAddr>> {
    let mut vips = BTreeMap::new();
    for WireVirtualIp { network_id, addr } in entries {
        if let Some(text) = addr.filter(|text| !text.is_empty()) {
            let address = address(&text)?;
            vips.entry(NetworkId::new(network_id)).or_insert(address);
        }
    }
    Ok(vips)
}

fn update(wire: WireUpdateStatus) -> Option<UpdateStatus> {
    let state = match wire.state.as_deref()? {
        "updating" => UpdateState::Updating,
        "paused" => UpdateState::Paused,
        "completed" => UpdateState::Completed,
        "rollback_started" => UpdateState::RollbackStarted,
        "rollback_paused" => UpdateState::RollbackPaused,
        "rollback_completed" => UpdateState::RollbackCompleted,
        _ => return None,
    };
    Some(UpdateStatus { state, message: wire.message.unwrap_or_default() })
}

/// A service as the Engine wrote it, with its name.
pub(crate) fn raw_service(bytes: &[u8]) -> Decoded<(String, RawService)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        #[serde(rename = "ID")]
        id: String,
        version: WireVersion,
        spec: Value,
        previous_spec: Option<Value>,
        update_status: Option<WireUpdateStatus>,
    }
    let Wire { id, version, spec, previous_spec, update_status } = json(bytes)?;
    let name = spec.get("Name").and_then(Value::as_str).ok_or_else(|| format!("service {id}: its spec has no name"))?;
    let name = name.to_owned();
    let update = update_status.and_then(update);
    Ok((name, RawService { id: ServiceId::new(id), version: version.index, spec, previous_spec, update }))
}

/// The id in the answer to a creation, and what the Engine wants to be known about it.
pub(crate) fn created(bytes: &[u8]) -> Decoded<(String, Vec<String>)> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(rename = "ID")]
        id: String,
    }
    Ok((json::<Wire>(bytes)?.id, warnings(bytes)))
}

/// `Warning` up to Engine 24, `Warnings` since. An answer that does not read warns of nothing: what it
/// answers was done.
pub(crate) fn warnings(bytes: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        warning: Option<String>,
        warnings: Option<Vec<String>>,
    }
    let Ok(wire) = serde_json::from_slice::<Wire>(bytes) else { return Vec::new() };
    wire.warnings.into_iter().flatten().chain(wire.warning).filter(|text| !text.is_empty()).collect()
}

// === Logs ===

/// The length of a frame's head: the stream, three zeros, the length of what follows.
pub(crate) const LOG_HEAD: usize = 8;

/// The text in the frames of a log. The last frame may be cut off, as the reader stops somewhere.
///
/// # Errors
/// What the Engine says in place of a log; or that these are no frames: the container has a terminal.
pub(crate) fn log(mut bytes: &[u8]) -> Decoded<String> {
    let mut text = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<LOG_HEAD>() {
        let [stream, 0, 0, 0, length @ ..] = head else { return Err("the log has no frames".into()) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (content, rest) = rest.split_at(length.min(rest.len()));
        match stream {
            0..=2 => text.extend_from_slice(content),
            3 => return Err(String::from_utf8_lossy(content).trim().to_owned()),
            _ => return Err("the log has no frames".into()),
        }
        bytes = rest;
    }
    text.truncate(limits::LOG_BYTES);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

// === Tasks ===

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTask<Spec> {
    #[serde(rename = "ID")]
    id: String,
    created_at: String,
    spec: Option<Spec>,
    /// Absent from tasks that attach a plain container to a network: they are no service's.
    #[serde(rename = "ServiceID")]
    service_id: Option<String>,
    slot: Option<u64>,
    #[serde(rename = "NodeID")]
    node_id: Option<String>,
    status: WireTaskStatus,
    desired_state: String,
    networks_attachments: Option<Vec<WireAttachment>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTaskStatus {
    state: String,
    err: Option<String>,
    port_status: Option<WirePortStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WirePortStatus {
    ports: Option<Vec<WirePort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireAttachment {
    network: WireNetwork,
    addresses: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct WireNetwork {
    #[serde(rename = "ID")]
    id: String,
}

/// Tasks without their specs, which are most of the answer.
pub(crate) fn tasks(bytes: &[u8]) -> Decoded<Vec<Task>> {
    let none = Arc::new(Value::Null);
    let tasks = list(bytes, "task", |wire: WireTask<IgnoredAny>| task(wire, |_| Arc::clone(&none)))?;
    Ok(tasks.into_iter().flatten().collect())
}

/// Tasks with their specs.
pub(crate) fn tasks_with_specs(bytes: &[u8]) -> Decoded<Vec<Task>> {
    let tasks = list(bytes, "task", |wire: WireTask<Value>| task(wire, |spec| Arc::new(spec.unwrap_or_default())))?;
    Ok(tasks.into_iter().flatten().collect())
}

fn task<Spec>(wire: WireTask<Spec>, keep: impl Fn(Option<Spec>) -> Arc<Value>) -> Decoded<Option<Task>> {
    let WireTask { id, created_at, spec, service_id, slot, node_id, status, desired_state, networks_attachments } =
        wire;
    let Some(service) = service_id.filter(|service| !service.is_empty()) else { return Ok(None) };
    let of = |problem: String| format!("task {id}: {problem}");
    Ok(Some(Task {
        service: ServiceId::new(service),
        slot: slot.unwrap_or(0),
        node: NodeId::new(node_id.unwrap_or_default()),
        created_at: timestamp(&created_at).map_err(of)?,
        state: task_state(&status.state),
        desired: desired(&desired_state),
        error: status.err.filter(|text| !text.is_empty()),
        host_ports: host_ports(status.port_status.and_then(|status| status.ports).unwrap_or_default()),
        attachments: attachments(networks_attachments.unwrap_or_default()).map_err(of)?,
        spec: keep(spec),
        id: TaskId::new(id),
    }))
}

fn task_state(word: &str) -> TaskState {
    match word {
        "new" => TaskState::New,
        "allocated" => TaskState::Allocated,
        "pending" => TaskState::Pending,
        "assigned" => TaskState::Assigned,
        "accepted" => TaskState::Accepted,
        "preparing" => TaskState::Preparing,
        "ready" => TaskState::Ready,
        "starting" => TaskState::Starting,
        "running" => TaskState::Running,
        "complete" => TaskState::Complete,
        "shutdown" => TaskState::Shutdown,
        "failed" => TaskState::Failed,
        "rejected" => TaskState::Rejected,
        "remove" => TaskState::Remove,
        "orphaned" => TaskState::Orphaned,
        _ => TaskState::New,
    }
}

fn desired(word: &str) -> DesiredState {
    match word {
        "running" => DesiredState::Running,
        // A job's task is meant to complete: in no sense that matters here is it meant to run.
        "complete" | "shutdown" | "failed" | "rejected" | "remove" | "orphaned" => DesiredState::Gone,
        _ => DesiredState::Ready,
    }
}

/// Where a node publishes the ports of a task.
fn host_ports(ports: Vec<WirePort>) -> BTreeMap<u16, u16> {
    let on_node: BTreeSet<(u16, u16)> = ports
        .iter()
        .filter(|port| port.on_node() && port.published_port > 0)
        .map(|port| (port.target_port, port.published_port))
        .collect();
    // The lowest of several comes last.
    on_node.into_iter().rev().collect()
}

/// A task without an address yet, and one on `host`, have attachments without addresses.
fn attachments(wire: Vec<WireAttachment>) -> Decoded<Vec<Attachment>> {
    let mut attachments = Vec::new();
    for WireAttachment { network, addresses } in wire {
        if let Some(first) = addresses.unwrap_or_default().first() {
            attachments.push(Attachment { network: NetworkId::new(network.id), address: address(first)? });
        }
    }
    Ok(attachments)
}

// === Nodes ===

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireNode {
    #[serde(rename = "ID")]
    id: String,
    status: Option<WireNodeStatus>,
    manager_status: Option<WireNodeStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireNodeStatus {
    addr: Option<String>,
}

pub(crate) fn nodes(bytes: &[u8]) -> Decoded<Vec<Node>> {
    list(bytes, "node", |WireNode { id, status, manager_status }: WireNode| {
        let said = |status: Option<WireNodeStatus>| status.and_then(|status| status.addr);
        // A manager can be known to itself by an address that says nothing, and has the other one with a port.
        let (own, manager) = (said(status), said(manager_status));
        let own = own.and_then(|text| text.parse().ok());
        let manager = manager.and_then(|text| Some(text.parse::<SocketAddr>().ok()?.ip()));
        let useful = |address: &IpAddr| !address.is_unspecified() && !address.is_loopback();
        Ok(Node { id: NodeId::new(id), address: own.filter(useful).or(manager.filter(useful)) })
    })
}

// === Networks, configs and secrets, in bollard's models ===

pub(crate) fn network(wire: bollard::models::NetworkInspect) -> Decoded<Network> {
    Ok(Network {
        id: NetworkId::new(wire.id.filter(|id| !id.is_empty()).ok_or("a network has no id")?),
        name: wire.name.ok_or("a network has no name")?,
        driver: wire.driver.unwrap_or_default(),
        scope: wire.scope.unwrap_or_default(),
        ingress: wire.ingress.unwrap_or(false),
        labels: wire.labels.unwrap_or_default().into_iter().collect(),
        pools: pools(wire.ipam.and_then(|ipam| ipam.config).unwrap_or_default()),
    })
}

/// All or none of them: half of a network's addresses would look like a network that is full.
fn pools(wire: Vec<bollard::models::IpamConfig>) -> Vec<Pool> {
    let pool = |wire: bollard::models::IpamConfig| {
        let told = |text: Option<String>| text.filter(|text| !text.is_empty());
        Some(Pool {
            subnet: Subnet::parse(&told(wire.subnet)?)?,
            range: match told(wire.ip_range) {
                Some(range) => Some(Subnet::parse(&range)?),
                None => None,
            },
            gateway: match told(wire.gateway) {
                Some(gateway) => Some(address(&gateway).ok()?),
                None => None,
            },
        })
    };
    wire.into_iter().map(pool).collect::<Option<Vec<_>>>().unwrap_or_default()
}

pub(crate) fn config(wire: bollard::models::Config) -> Decoded<Config> {
    let id = wire.id.filter(|id| !id.is_empty()).ok_or("a config has no id")?;
    let of = |problem: String| format!("config {id}: {problem}");
    let lacks = |what: &str| format!("config {id}: it has no {what}");
    let spec = wire.spec.ok_or_else(|| lacks("spec"))?;
    // Swarm takes no empty config, so an answer without data is half an answer.
    let data = spec.data.filter(|data| !data.is_empty()).ok_or_else(|| lacks("data"))?;
    Ok(Config {
        version: wire.version.and_then(|version| version.index).ok_or_else(|| lacks("version"))?,
        created_at: timestamp(&wire.created_at.ok_or_else(|| lacks("time of creation"))?).map_err(of)?,
        name: spec.name.ok_or_else(|| lacks("name"))?,
        labels: spec.labels.unwrap_or_default().into_iter().collect(),
        data: BASE64.decode(data).map_err(|error| of(format!("its data is no base64: {error}")))?.into(),
        id: ConfigId::new(id),
    })
}

pub(crate) fn config_spec(
    name: &str,
    labels: &BTreeMap<String, String>,
    data: Option<&[u8]>,
) -> bollard::models::ConfigSpec {
    bollard::models::ConfigSpec {
        name: Some(name.to_owned()),
        labels: Some(labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()),
        data: data.map(|data| BASE64.encode(data)),
        templating: None,
    }
}

pub(crate) fn secret(wire: bollard::models::Secret) -> Decoded<Secret> {
    let id = wire.id.filter(|id| !id.is_empty()).ok_or("a secret has no id")?;
    let name = wire.spec.and_then(|spec| spec.name).filter(|name| !name.is_empty());
    Ok(Secret { name: name.ok_or_else(|| format!("secret {id}: it has no name"))?, id: SecretId::new(id) })
}

// === Events ===

/// `None`: an event that is nothing to us.
pub(crate) fn event(line: &[u8]) -> Decoded<Option<EventKind>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        r#type: Option<String>,
        actor: Option<Actor>,
    }
    #[derive(Deserialize)]
    struct Actor {
        #[serde(rename = "ID")]
        id: Option<String>,
    }
    let Wire { r#type, actor } = json(line)?;
    Ok(match r#type.as_deref() {
        Some("service") => {
            let id = actor.and_then(|actor| actor.id).filter(|id| !id.is_empty());
            Some(EventKind::Service(ServiceId::new(id.ok_or("an event of a service without its id")?)))
        }
        Some("node") => Some(EventKind::Node),
        Some("network") => Some(EventKind::Network),
        Some("config" | "secret") => Some(EventKind::Object),
        _ => None,
    })
}

// === The parts ===

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Decoded<T> {
    serde_json::from_slice(bytes).map_err(|error| format!("the answer does not read: {error}"))
}

/// A list of which each object reads, or the id of one that does not.
fn list<Wire: DeserializeOwned, T>(bytes: &[u8], noun: &str, convert: impl Fn(Wire) -> Decoded<T>) -> Decoded<Vec<T>> {
    match serde_json::from_slice::<Vec<Wire>>(bytes) {
        Ok(wires) => wires.into_iter().map(convert).collect(),
        Err(error) => Err(culprit::<Wire>(bytes, noun).unwrap_or_else(|| format!("the answer does not read: {error}"))),
    }
}

/// Reads the list again, object by object: slow, and only for the message.
fn culprit<Wire: DeserializeOwned>(bytes: &[u8], noun: &str) -> Option<String> {
    let objects: Vec<Value> = serde_json::from_slice(bytes).ok()?;
    objects.into_iter().find_map(|object| {
        let id = object.get("ID").and_then(Value::as_str).unwrap_or("without id").to_owned();
        let error = serde_json::from_value::<Wire>(object).err()?;
        Some(format!("{noun} {id}: {error}"))
    })
}

/// `10.0.1.4/24` or `10.0.1.4`.
fn address(text: &str) -> Decoded<IpAddr> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    address.parse().map_err(|_| format!("{text:?} is no address"))
}

/// A time out of the range of nanoseconds in 64 bits (Go's zero time) is the nearest in it: only the order counts.
fn timestamp(text: &str) -> Decoded<CreatedAt> {
    let time: jiff::Timestamp = text.parse().map_err(|_| format!("{text:?} is no time"))?;
    let nanoseconds = time.as_nanosecond();
    let nearest = nanoseconds.clamp(i64::MIN.into(), i64::MAX.into());
    Ok(CreatedAt(i64::try_from(nearest).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
