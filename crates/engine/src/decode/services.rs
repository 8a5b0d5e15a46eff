//! Services, listed and single, and the answers to their creation and update.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{Digest, NetworkId, ServiceId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use swarm::{Endpoint, EndpointMode, Mode, RawService, RunningCount, Service, UpdateState, UpdateStatus};

use super::list::item;
use super::{Decoded, WirePort, address, json, timestamp};

pub(crate) fn service(bytes: &[u8]) -> Decoded<Option<Service>> {
    let wire: WireService = item(bytes, "service")?;
    let WireService { id, version, created_at, updated_at, spec, endpoint, service_status, update_status } = wire;
    let of = |problem: String| format!("service {id}: {problem}");
    let WireServiceSpec { name, labels, task_template, mode, networks, endpoint_spec } = spec;
    let template = WireTaskTemplate::deserialize(&task_template).map_err(|error| of(error.to_string()))?;
    let networks = template.networks.filter(|networks| !networks.is_empty()).or(networks);
    let (endpoint_mode, ports) = match endpoint_spec {
        Some(spec) => (endpoint_mode(spec.mode.as_deref()), spec.ports.unwrap_or_default()),
        None => (EndpointMode::Vip, Vec::new()),
    };
    let created_at = timestamp(&created_at).map_err(of)?;
    Ok(Some(Service {
        version: version.index,
        created_at,
        updated_at: updated_at.map_or(Ok(created_at), |text| timestamp(&text)).map_err(of)?,
        name,
        labels: labels.unwrap_or_default(),
        container_labels: template.container_spec.and_then(|spec| spec.labels).unwrap_or_default(),
        mode: service_mode(&mode),
        networks: networks.unwrap_or_default().into_iter().map(|network| network.target).collect(),
        task_template: Digest::of(task_template.to_string().as_bytes()),
        endpoint: Endpoint {
            mode: endpoint_mode,
            vips: vips(endpoint.and_then(|endpoint| endpoint.virtual_ips).unwrap_or_default()).map_err(of)?,
            host_ports: ports.iter().filter_map(WirePort::on_node).collect(),
        },
        running: service_status
            .map(|status| RunningCount { running: status.running_tasks, desired: status.desired_tasks }),
        update: update_status.and_then(update),
        id: ServiceId::new(id),
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireService {
    #[serde(rename = "ID")]
    id: String,
    version: WireVersion,
    created_at: String,
    updated_at: Option<String>,
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

/// One of a list of services.
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
