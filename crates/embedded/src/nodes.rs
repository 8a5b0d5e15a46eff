//! Nodes, and which of them a task fits on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use model::{NodeId, ServiceId, TaskId};
use swarm::{Class, Error, EventKind, Mode, Result};

use crate::schedule::Due;
use crate::spec::Spec;
use crate::store::Store;
use crate::tasks::Desired;

/// A machine of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub id: NodeId,
    pub name: String,
    pub address: IpAddr,
    pub labels: BTreeMap<String, String>,
    pub manager: bool,
    /// Not drained.
    pub active: bool,
    /// What the managers believe.
    pub ready: bool,
    /// What is true.
    pub alive: bool,
    /// The tasks it holds, until they have stopped.
    pub tasks: BTreeSet<TaskId>,
}

/// The address of the first node; the others' follow.
const FIRST_ADDRESS: u32 = Ipv4Addr::new(172, 20, 0, 1).to_bits();

/// The only reason that comes without a number of nodes.
const MAX_REPLICAS: &str = "max replicas per node limit exceed";

impl Node {
    fn satisfies(&self, spec: &Spec) -> bool {
        spec.constraints.iter().all(|constraint| {
            let value = match constraint.key.as_str() {
                "node.id" => Some(self.id.as_str()),
                "node.hostname" => Some(self.name.as_str()),
                "node.role" => Some(if self.manager { "manager" } else { "worker" }),
                key => key.strip_prefix("node.labels.").map(|label| self.labels.get(label).map_or("", String::as_str)),
            };
            // A key that is not known here fits no node, so that a test notices.
            value.is_some_and(|value| (value == constraint.value) == constraint.equal)
        })
    }

    /// Whether a global service wants a task here.
    pub fn eligible(&self, spec: &Spec) -> bool {
        self.ready && self.active && self.satisfies(spec)
    }
}

impl Store {
    pub(crate) fn add_node(&mut self, name: &str, manager: bool, labels: BTreeMap<String, String>) -> Result<NodeId> {
        if self.nodes.values().any(|node| node.name == name) {
            return Err(Error::new(Class::Conflict, format!("add node {name}"), "there is one of this name"));
        }
        let id = NodeId::new(self.fresh_id());
        let node = Node {
            id: id.clone(),
            name: name.to_owned(),
            address: IpAddr::V4(Ipv4Addr::from_bits(FIRST_ADDRESS + self.nodes.len() as u32)),
            labels,
            manager,
            active: true,
            ready: true,
            alive: true,
            tasks: BTreeSet::new(),
        };
        self.nodes.insert(id.clone(), node);
        self.node_changed();
        Ok(id)
    }

    pub(crate) fn node_named(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes
            .values_mut()
            .find(|node| node.name == name)
            .ok_or_else(|| Error::new(Class::NotFound, format!("change node {name}"), format!("node {name} not found")))
    }

    pub(crate) fn set_active(&mut self, name: &str, active: bool) -> Result<()> {
        let node = self.node_named(name)?;
        node.active = active;
        let id = node.id.clone();
        if !active {
            self.move_tasks_away(&id);
        }
        self.node_changed();
        Ok(())
    }

    pub(crate) fn set_node_label(&mut self, name: &str, label: &str, value: Option<&str>) -> Result<()> {
        let node = self.node_named(name)?;
        match value {
            Some(value) => node.labels.insert(label.to_owned(), value.to_owned()),
            None => node.labels.remove(label),
        };
        self.node_changed();
        Ok(())
    }

    /// The machine is gone at once; the cluster learns it later.
    pub(crate) fn kill_node(&mut self, name: &str) -> Result<()> {
        let node = self.node_named(name)?;
        node.alive = false;
        let id = node.id.clone();
        self.later(self.timing.node_down, Due::NodeDown(id));
        Ok(())
    }

    pub(crate) fn revive_node(&mut self, name: &str) -> Result<()> {
        let node = self.node_named(name)?;
        if node.alive {
            return Ok(());
        }
        node.alive = true;
        let was_down = !std::mem::replace(&mut node.ready, true);
        for id in node.tasks.clone() {
            let Some(task) = self.tasks.get(&id) else { continue };
            // What it was told while it was away, it does now.
            if task.desired > Desired::Running {
                self.later(self.timing.reaction, Due::Stopped(id));
            } else {
                let state = task.state;
                self.later(self.timing.reaction, Due::Advance(id, state));
            }
        }
        if was_down {
            self.node_changed();
        }
        Ok(())
    }

    pub(crate) fn node_down(&mut self, id: &NodeId) {
        match self.nodes.get_mut(id) {
            // It may have come back in time, and may even have gone again.
            Some(node) if !node.alive && node.ready => node.ready = false,
            _ => return,
        }
        self.node_changed();
        self.move_tasks_away(id);
        self.nobody_to_wait_for_on(id);
    }

    /// Replaces the tasks of a node that is down or drained.
    fn move_tasks_away(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get(id) else { return };
        for task in node.tasks.clone() {
            if self.tasks.get(&task).is_some_and(|task| task.desired <= Desired::Running) {
                self.replace(&task);
            }
        }
    }

    fn node_changed(&mut self) {
        self.touch();
        self.emit(EventKind::Node);
        self.freed = true;
        let global: Vec<ServiceId> =
            self.services.values().filter(|s| s.spec.mode == Mode::Global).map(|s| s.id.clone()).collect();
        for service in global {
            self.later(self.timing.reaction, Due::Orchestrate(service));
        }
    }

    /// The node for a task: fewest tasks of its service, then fewest tasks, then by id; or why there is none.
    pub(crate) fn find_node(
        &self,
        service: &ServiceId,
        spec: &Spec,
        only: Option<&NodeId>,
    ) -> std::result::Result<NodeId, String> {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        let mut best: Option<(usize, usize, &NodeId)> = None;
        let mut copies: BTreeMap<&NodeId, usize> = BTreeMap::new();
        for task in self.tasks_of.get(service).into_iter().flatten().filter_map(|id| self.tasks.get(id)) {
            if let Some(node) = task.node.as_ref().filter(|_| task.lives()) {
                *copies.entry(node).or_default() += 1;
            }
        }
        for node in self.nodes.values().filter(|node| only.is_none_or(|only| *only == node.id)) {
            let reason = if !node.ready || !node.active {
                "not available for new tasks"
            } else if !node.satisfies(spec) {
                "scheduling constraints not satisfied"
            } else if !self.host_ports_free(node, spec) {
                "host-mode port already in use"
            } else if (1..=copies.get(&node.id).copied().unwrap_or(0)).contains(&spec.max_replicas) {
                MAX_REPLICAS
            } else {
                let key = (copies.get(&node.id).copied().unwrap_or(0), node.tasks.len(), &node.id);
                best = Some(best.map_or(key, |best| best.min(key)));
                continue;
            };
            *reasons.entry(reason).or_default() += 1;
        }
        match best {
            Some((_, _, id)) => Ok(id.clone()),
            None if reasons.is_empty() => Err("no suitable node".into()),
            None => {
                let reasons: Vec<String> = reasons
                    .into_iter()
                    .map(|(reason, nodes)| match (reason, nodes) {
                        (MAX_REPLICAS, _) => reason.to_owned(),
                        (_, 1) => format!("{reason} on 1 node"),
                        (_, nodes) => format!("{reason} on {nodes} nodes"),
                    })
                    .collect();
                let reasons = reasons.join("; ");
                // The task of a global service has its node from the beginning.
                Err(if only.is_some() { reasons } else { format!("no suitable node ({reasons})") })
            }
        }
    }

    fn host_ports_free(&self, node: &Node, spec: &Spec) -> bool {
        spec.host_ports().all(|wanted| {
            node.tasks
                .iter()
                .filter_map(|id| self.tasks.get(id))
                .all(|task| task.made_from.host_ports().all(|used| used != wanted))
        })
    }
}
