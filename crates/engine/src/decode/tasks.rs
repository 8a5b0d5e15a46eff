//! Tasks.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use model::{NetworkId, NodeId, ServiceId, TaskId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use swarm::{Attachment, DesiredState, Task, TaskState};

use super::list::item;
use super::{Decoded, Text, WirePort, address, port, timestamp};

/// One after the other of a list of tasks, without their specs, which are most of the answer: those of these services, or
/// all where none are named.
pub(crate) fn tasks(of: Option<Arc<BTreeSet<ServiceId>>>) -> impl FnMut(&[u8]) -> Decoded<Option<Task>> {
    let none = Arc::new(Value::Null);
    let mut known = Known::default();
    move |bytes| {
        let wire: WireTask<'_, IgnoredAny> = item(bytes, "task")?;
        let task = task(wire, |_| Arc::clone(&none), &mut known)?;
        Ok(task.filter(|task| of.as_ref().is_none_or(|services| services.contains(&task.service))))
    }
}

/// One after the other of a list of tasks, with their specs.
pub(crate) fn tasks_with_specs() -> impl FnMut(&[u8]) -> Decoded<Option<Task>> {
    let mut known = Known::default();
    move |bytes| task(item(bytes, "task")?, |spec| Arc::new(spec.unwrap_or_default()), &mut known)
}

/// Ids that stand in many tasks of a list: each is held once.
#[derive(Default)]
struct Known(HashSet<Arc<str>>);

impl Known {
    fn id(&mut self, text: &str) -> Arc<str> {
        match self.0.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::from(text);
                self.0.insert(Arc::clone(&new));
                new
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTask<'a, Spec> {
    #[serde(rename = "ID", borrow)]
    id: Text<'a>,
    created_at: Text<'a>,
    spec: Option<Spec>,
    /// Absent from tasks that attach a plain container to a network: they are no service's.
    #[serde(rename = "ServiceID")]
    service_id: Option<Text<'a>>,
    slot: Option<u64>,
    #[serde(rename = "NodeID")]
    node_id: Option<Text<'a>>,
    status: WireTaskStatus<'a>,
    desired_state: Text<'a>,
    networks_attachments: Option<Vec<WireAttachment<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireTaskStatus<'a> {
    #[serde(borrow)]
    timestamp: Option<Text<'a>>,
    state: Text<'a>,
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
struct WireAttachment<'a> {
    #[serde(borrow)]
    network: WireNetwork<'a>,
    addresses: Option<Vec<Text<'a>>>,
}

#[derive(Deserialize)]
struct WireNetwork<'a> {
    #[serde(rename = "ID", borrow)]
    id: Text<'a>,
}

/// A task, if it is one of a service.
fn task<Spec>(
    wire: WireTask<'_, Spec>,
    keep: impl Fn(Option<Spec>) -> Arc<Value>,
    known: &mut Known,
) -> Decoded<Option<Task>> {
    let WireTask { id, created_at, spec, service_id, slot, node_id, status, desired_state, networks_attachments } =
        wire;
    let Some(service) = service_id.filter(|service| !service.is_empty()) else { return Ok(None) };
    let of = |problem: String| format!("task {id}: {problem}");
    let created_at = timestamp(&created_at).map_err(of)?;
    Ok(Some(Task {
        service: ServiceId::new(known.id(&service)),
        slot: slot.unwrap_or(0),
        node: NodeId::new(known.id(node_id.as_deref().unwrap_or_default())),
        created_at,
        state: task_state(&status.state),
        since: status.timestamp.map_or(Ok(created_at), |text| timestamp(&text)).map_err(of)?,
        desired: desired(&desired_state),
        error: status.err.filter(|text| !text.is_empty()),
        host_ports: host_ports(status.port_status.and_then(|status| status.ports).unwrap_or_default()),
        attachments: attachments(networks_attachments.unwrap_or_default(), known).map_err(of)?,
        spec: keep(spec),
        id: TaskId::new(&*id),
    }))
}

pub(super) fn task_state(word: &str) -> TaskState {
    TaskState::parse(word).unwrap_or(TaskState::New)
}

pub(super) fn desired(word: &str) -> DesiredState {
    match word {
        "running" => DesiredState::Running,
        // A job's task is meant to complete: in no sense that matters here is it meant to run.
        "complete" | "shutdown" | "failed" | "rejected" | "remove" | "orphaned" => DesiredState::Gone,
        _ => DesiredState::Ready,
    }
}

/// Where a node publishes the ports of a task.
fn host_ports(ports: Vec<WirePort>) -> BTreeMap<u16, u16> {
    let on_node: BTreeSet<(u16, u16)> =
        ports.iter().filter_map(|wire| Some((wire.on_node()?, port(wire.published_port)?))).collect();
    // The lowest of several comes last.
    on_node.into_iter().rev().collect()
}

/// A task without an address yet, and one on `host`, have attachments without addresses.
fn attachments(wire: Vec<WireAttachment<'_>>, known: &mut Known) -> Decoded<Vec<Attachment>> {
    let mut attachments = Vec::with_capacity(wire.len());
    for WireAttachment { network, addresses } in wire {
        if let Some(first) = addresses.unwrap_or_default().first() {
            attachments.push(Attachment { network: NetworkId::new(known.id(&network.id)), address: address(first)? });
        }
    }
    Ok(attachments)
}
