//! Tasks: from new to running to their end, and their replacements.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::{NetworkId, NodeId, ServiceId, TaskId, Timestamp};
use swarm::{Attachment, DesiredState, TaskState};

use crate::schedule::Due;
use crate::services::Slot;
use crate::spec::{Port, RestartCondition, Spec};
use crate::store::{Configs, Store};

/// How many tasks that ended are remembered in each slot.
const HISTORY: usize = 5;

/// How long a task waits for its predecessor to stop.
const OLD_TASK_TIMEOUT: Duration = Duration::from_secs(60);

/// Docker's range for published ports that nobody chose.
const FIRST_PORT: u16 = 32768;
const LAST_PORT: u16 = 60999;

/// A delay of zero would let a crash loop run for ever inside one instant.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// A task of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub id: TaskId,
    pub service: ServiceId,
    pub slot: Slot,
    pub node: Option<NodeId>,
    pub created_at: Timestamp,
    pub state: TaskState,
    /// Since when it is in this state.
    pub since: Timestamp,
    pub desired: Desired,
    pub error: Option<String>,
    /// What its container said.
    pub log: String,
    pub addresses: Vec<(NetworkId, IpAddr)>,
    /// Where its node publishes its ports, by the container's, as long as it runs.
    pub host_ports: BTreeMap<u16, u16>,
    /// The service's spec when it was created.
    pub made_from: Arc<Spec>,
    /// The `TaskTemplate` of that spec.
    pub template: Arc<serde_json::Value>,
    /// Whether its service had an endpoint then, so that a change of the endpoint replaces the task.
    pub with_endpoint: bool,
    /// What it waits for before it may run.
    pub wait: Wait,
    /// It ended by itself, and the restart policy says that this is all.
    pub given_up: bool,
    /// How many tasks before it were restarted.
    restarts: u64,
}

/// What Swarm wants of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Desired {
    Ready,
    Running,
    Shutdown,
    /// Shut down, and then forgotten.
    Remove,
}

/// What keeps a task from being told to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wait {
    /// A restart delay.
    pub delay: bool,
    /// A predecessor that has not stopped.
    pub predecessor: Option<TaskId>,
}

/// A task to be.
#[derive(Clone, Debug)]
pub(crate) struct NewTask {
    pub slot: Slot,
    pub desired: Desired,
    pub restarts: u64,
}

impl Task {
    /// Whether it counts as in use: it should run, and has not ended.
    pub fn lives(&self) -> bool {
        self.desired <= Desired::Running && self.state <= TaskState::Running
    }

    /// As the port shows it.
    pub fn view(&self) -> swarm::Task {
        swarm::Task {
            id: self.id.clone(),
            service: self.service.clone(),
            slot: match self.slot {
                Slot::Replica(number) => number,
                Slot::Node(_) => 0,
            },
            node: self.node.clone().unwrap_or_else(|| NodeId::new("")),
            created_at: self.created_at,
            state: self.state,
            since: self.since,
            desired: match self.desired {
                Desired::Ready => DesiredState::Ready,
                Desired::Running => DesiredState::Running,
                Desired::Shutdown | Desired::Remove => DesiredState::Gone,
            },
            error: self.error.clone(),
            host_ports: if self.state == TaskState::Running { self.host_ports.clone() } else { BTreeMap::new() },
            attachments: self
                .addresses
                .iter()
                .map(|(network, address)| Attachment { network: network.clone(), address: *address })
                .collect(),
            spec: Arc::clone(&self.template),
        }
    }
}

impl Store {
    pub(crate) fn create_task(&mut self, service_id: &ServiceId, new: NewTask) -> TaskId {
        let (id, created_at) = (TaskId::new(self.fresh_id()), self.fresh_time());
        self.touch();
        let service = &self.services[service_id];
        let made_from = Arc::clone(&service.spec);
        let node = match &new.slot {
            Slot::Node(node) => Some(node.clone()),
            Slot::Replica(_) => None,
        };
        let task = Task {
            id: id.clone(),
            service: service_id.clone(),
            slot: new.slot,
            node,
            created_at,
            state: TaskState::New,
            since: created_at,
            desired: new.desired,
            error: None,
            log: String::new(),
            addresses: Vec::new(),
            host_ports: BTreeMap::new(),
            template: Arc::new(service.raw["TaskTemplate"].clone()),
            with_endpoint: !made_from.networks.is_empty() || !made_from.ports.is_empty(),
            made_from,
            wait: Wait::default(),
            given_up: false,
            restarts: new.restarts,
        };
        self.tasks.insert(id.clone(), task);
        self.tasks_of.entry(service_id.clone()).or_default().insert(id.clone());
        self.later(self.timing.allocate, Due::Advance(id.clone(), TaskState::New));
        id
    }

    // === impl progress ===

    /// Takes a task out of the state `from`, if it is still in it, should go on, and can.
    pub(crate) fn advance(&mut self, id: &TaskId, from: TaskState) {
        let Some(task) = self.tasks.get(id) else { return };
        if task.state != from || task.desired > Desired::Running || !self.has_living_node(task) {
            return;
        }
        match from {
            TaskState::New => self.give_addresses(id),
            TaskState::Pending => self.give_node(id),
            TaskState::Assigned => {
                self.set_state(id, TaskState::Preparing);
                self.later(self.timing.prepare, Due::Advance(id.clone(), TaskState::Preparing));
            }
            TaskState::Preparing => self.finish_preparing(id),
            TaskState::Ready if task.desired == Desired::Running => {
                let health = task.made_from.health_interval.unwrap_or_default();
                self.set_state(id, TaskState::Starting);
                self.later(self.timing.start + health, Due::Advance(id.clone(), TaskState::Starting));
            }
            TaskState::Starting => self.finish_starting(id),
            _ => {}
        }
    }

    fn give_addresses(&mut self, id: &TaskId) {
        let task = &self.tasks[id];
        // Swarm gives a task no address before its service has its own, and says nothing about it.
        let allocated = match self.services.get(&task.service) {
            Some(service) if service.endpoint_pending => None,
            Some(_) => {
                let networks = self.networks_to_join(&Arc::clone(&task.made_from));
                self.allocate(&networks)
            }
            None => return,
        };
        match allocated {
            Some(addresses) => {
                self.change_task(id, |task| task.addresses = addresses);
                self.set_state(id, TaskState::Pending);
                self.later(self.timing.schedule, Due::Advance(id.clone(), TaskState::Pending));
            }
            None => self.wait_for_resources(id, None),
        }
    }

    fn give_node(&mut self, id: &TaskId) {
        let task = &self.tasks[id];
        let (service, spec, only) = (task.service.clone(), Arc::clone(&task.made_from), task.node.clone());
        match self.find_node(&service, &spec, only.as_ref()) {
            Ok(node_id) => {
                if let Some(node) = self.nodes.get_mut(&node_id) {
                    node.tasks.insert(id.clone());
                }
                let addresses = self.tasks[id].addresses.clone();
                self.join_balancers(&node_id, &addresses);
                self.change_task(id, |task| {
                    task.node = Some(node_id);
                    task.error = None;
                });
                self.set_state(id, TaskState::Assigned);
                self.later(Duration::ZERO, Due::Advance(id.clone(), TaskState::Assigned));
            }
            Err(reason) => self.wait_for_resources(id, Some(reason)),
        }
    }

    fn wait_for_resources(&mut self, id: &TaskId, error: Option<String>) {
        self.change_task(id, |task| task.error = error);
        let created_at = self.tasks[id].created_at;
        self.waiting_tasks.insert((created_at, id.clone()));
    }

    /// A node that cannot get a config refuses the task that needs it. One without an address of its own on a network
    /// of the task waits for it, and so does the task.
    fn finish_preparing(&mut self, id: &TaskId) {
        if !self.finds_balancers(id) {
            return;
        }
        let configs = Configs(&self.configs);
        let task = &self.tasks[id];
        let missing = task.made_from.configs.iter().find(|config| configs.get(&config.id).is_none());
        let missing = missing.map(|config| format!("config {} not found", config.name));
        match missing.or_else(|| self.refusal.as_ref()?(&task.template, &configs)) {
            Some(error) => self.end(id, TaskState::Rejected, Some(error)),
            None => {
                self.set_state(id, TaskState::Ready);
                self.advance(id, TaskState::Ready);
            }
        }
    }

    fn finish_starting(&mut self, id: &TaskId) {
        self.publish_host_ports(id);
        let task = &self.tasks[id];
        let broken = self.breakage.clone().and_then(|breakage| breakage(&task.template, &Configs(&self.configs)));
        let fail = self.timing.fail;
        match broken {
            words if task.made_from.ends => {
                self.set_state(id, TaskState::Running);
                self.later(self.timing.end, Due::End(id.clone(), words));
            }
            Some(reason) if fail.is_zero() || task.made_from.health_interval.is_some() => {
                self.end(id, TaskState::Failed, Some(reason));
            }
            broken => {
                self.set_state(id, TaskState::Running);
                if let Some(reason) = broken {
                    self.later(fail, Due::Fail(id.clone(), reason));
                }
            }
        }
    }

    /// Publishes its ports on its node; one that asks for none gets the next free one.
    fn publish_host_ports(&mut self, id: &TaskId) {
        let on_node = |port: &&Port| port.host && port.protocol == "tcp";
        let ports: Vec<Port> = self.tasks[id].made_from.ports.iter().filter(on_node).cloned().collect();
        let mut published = BTreeMap::new();
        for port in ports {
            let any = || {
                let after = (FIRST_PORT..LAST_PORT).contains(&self.last_port);
                self.last_port = if after { self.last_port + 1 } else { FIRST_PORT };
                self.last_port
            };
            let number = u16::try_from(port.published).ok().filter(|number| *number > 0).unwrap_or_else(any);
            published.entry(u16::try_from(port.target).unwrap_or_default()).or_insert(number);
        }
        // Told together with the state that follows.
        if let Some(task) = self.tasks.get_mut(id) {
            task.host_ports = published;
        }
    }

    // === impl the end ===

    /// Ends a task by itself, if it runs.
    pub(crate) fn fail(&mut self, id: &TaskId, reason: &str) {
        let Some(task) = self.tasks.get(id) else { return };
        if self.has_living_node(task) && matches!(task.state, TaskState::Starting | TaskState::Running) {
            self.end(id, TaskState::Failed, Some(reason.to_owned()));
        }
    }

    /// A container has done what it had to do, or says why it could not.
    pub(crate) fn exit(&mut self, id: &TaskId, words: Option<String>) {
        let Some(task) = self.tasks.get(id) else { return };
        if !self.has_living_node(task) || task.state != TaskState::Running {
            return;
        }
        let (state, error) = match &words {
            None => (TaskState::Complete, None),
            Some(_) => (TaskState::Failed, Some("task: non-zero exit (1)".to_owned())),
        };
        self.change_task(id, |task| task.log = words.map(|words| words + "\n").unwrap_or_default());
        self.end(id, state, error);
    }

    pub(crate) fn end(&mut self, id: &TaskId, state: TaskState, error: Option<String>) {
        self.change_task(id, |task| task.error = error);
        self.set_state(id, state);
    }

    /// Tells a task to end. It stops a while later; one on a dead node never does.
    pub(crate) fn shut_down(&mut self, id: &TaskId, desired: Desired) {
        let Some(task) = self.tasks.get(id) else { return };
        let repeated = task.desired >= Desired::Shutdown;
        let (state, alive) = (task.state, self.has_living_node(task));
        self.change_task(id, |task| task.desired = task.desired.max(desired));
        if state > TaskState::Running {
            // Nothing is left to stop; one that is to be removed goes at once.
            self.changed.push_back(id.clone());
        } else if state < TaskState::Assigned {
            self.set_state(id, TaskState::Shutdown);
        } else if alive && !repeated {
            let delay = if state < TaskState::Starting { self.timing.reaction } else { self.timing.stop };
            self.later(delay, Due::Stopped(id.clone()));
        }
    }

    pub(crate) fn stopped(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.get(id) else { return };
        if self.has_living_node(task) && task.state <= TaskState::Running {
            self.set_state(id, TaskState::Shutdown);
        }
    }

    // === impl replacement ===

    /// Replaces a task that ended, or whose node is down or drained, as the restart policy says.
    pub(crate) fn replace(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.get(id).cloned() else { return };
        self.shut_down(id, Desired::Shutdown);
        if !self.services.contains_key(&task.service) {
            return;
        }
        let ended = task.state > TaskState::Running;
        let restart = &task.made_from.restart;
        let allowed = match restart.condition {
            RestartCondition::Any => true,
            RestartCondition::OnFailure => task.state != TaskState::Complete,
            RestartCondition::Never => false,
        };
        if !allowed || (restart.max_attempts > 0 && task.restarts >= restart.max_attempts) {
            self.change_task(id, |task| task.given_up = ended);
            return;
        }
        let node = task.node.as_ref().and_then(|node| self.nodes.get(node));
        let (down, drained) = node.map_or((false, false), |node| (!node.ready, !node.active));
        if matches!(task.slot, Slot::Node(_)) && (down || drained) {
            return;
        }
        let delay = if drained { SHORTEST_DELAY } else { restart.delay.max(SHORTEST_DELAY) };
        let new = NewTask { slot: task.slot.clone(), desired: Desired::Ready, restarts: task.restarts + 1 };
        let replacement = self.create_task(&task.service, new);
        let predecessor = (!ended && !down).then(|| id.clone());
        self.delay(&replacement, Some(delay), predecessor);
    }

    /// Keeps a task ready until a delay is over and a predecessor has stopped.
    pub(crate) fn delay(&mut self, id: &TaskId, delay: Option<Duration>, predecessor: Option<TaskId>) {
        if let Some(delay) = delay {
            self.later(delay, Due::DelayOver(id.clone()));
        }
        if predecessor.is_some() {
            self.later(OLD_TASK_TIMEOUT, Due::StopWaiting(id.clone()));
        }
        self.change_task(id, |task| task.wait = Wait { delay: delay.is_some(), predecessor });
        self.run_unless_waiting(id);
    }

    pub(crate) fn end_delay(&mut self, id: &TaskId) {
        self.change_task(id, |task| task.wait.delay = false);
        self.run_unless_waiting(id);
    }

    pub(crate) fn stop_waiting(&mut self, id: &TaskId) {
        self.change_task(id, |task| task.wait.predecessor = None);
        self.run_unless_waiting(id);
    }

    fn run_unless_waiting(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.get(id) else { return };
        if task.desired == Desired::Ready && !task.wait.delay && task.wait.predecessor.is_none() {
            let state = task.state;
            self.change_task(id, |task| task.desired = Desired::Running);
            if state == TaskState::Ready {
                self.advance(id, state);
            }
        }
    }

    /// Tasks whose predecessor is on this node wait no longer: it is down.
    pub(crate) fn nobody_to_wait_for_on(&mut self, node: &NodeId) {
        let gone = |id: &TaskId| self.tasks.get(id).is_none_or(|old| old.node.as_ref() == Some(node));
        let waiting: Vec<TaskId> = self
            .tasks
            .values()
            .filter(|task| task.wait.predecessor.as_ref().is_some_and(gone))
            .map(|task| task.id.clone())
            .collect();
        for task in waiting {
            self.stop_waiting(&task);
        }
    }

    // === impl following up ===

    /// Does what others have to do about a task that changed its state.
    pub(crate) fn follow_up(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.get(id) else { return };
        let (service, slot, state, desired) = (task.service.clone(), task.slot.clone(), task.state, task.desired);
        self.recount(&service);
        if state > TaskState::Running {
            self.give_everything_back(id);
            if desired <= Desired::Running {
                self.replace(id);
            }
            let siblings = self.tasks_of.get(&service).into_iter().flatten().filter_map(|id| self.tasks.get(id));
            let successors: Vec<TaskId> = siblings
                .filter(|task| task.wait.predecessor.as_ref() == Some(id))
                .map(|task| task.id.clone())
                .collect();
            for successor in successors {
                self.stop_waiting(&successor);
            }
        }
        self.rollout_sees(&service, id);
        if state > TaskState::Running {
            if desired == Desired::Remove {
                self.forget(id);
            } else {
                self.trim_history(&service, &slot);
            }
        }
    }

    fn give_everything_back(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let (addresses, node) = (std::mem::take(&mut task.addresses), task.node.clone());
        self.release(&addresses);
        let Some(node) = node else { return };
        if self.nodes.get_mut(&node).is_some_and(|node| node.tasks.remove(id)) {
            self.leave_balancers(&node, &addresses);
            self.freed = true;
        }
    }

    fn trim_history(&mut self, service: &ServiceId, slot: &Slot) {
        let tasks = self.tasks_of.get(service).into_iter().flatten().filter_map(|id| self.tasks.get(id));
        let mut ended: Vec<_> = tasks
            .filter(|task| task.slot == *slot && task.state > TaskState::Running && !task.given_up)
            .map(|task| (task.created_at, task.id.clone()))
            .collect();
        ended.sort();
        let surplus = ended.len().saturating_sub(HISTORY);
        for (_, id) in ended.into_iter().take(surplus) {
            self.forget(&id);
        }
    }

    fn forget(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.remove(id) else { return };
        self.touch();
        let service_exists = self.services.contains_key(&task.service);
        if let Some(tasks) = self.tasks_of.get_mut(&task.service) {
            tasks.remove(id);
            if tasks.is_empty() && !service_exists {
                self.tasks_of.remove(&task.service);
            }
        }
    }

    pub(crate) fn has_living_node(&self, task: &Task) -> bool {
        // Before it is assigned, a task is in the hands of the managers.
        task.state < TaskState::Assigned
            || task.node.as_ref().and_then(|node| self.nodes.get(node)).is_some_and(|node| node.alive)
    }

    fn change_task(&mut self, id: &TaskId, change: impl FnOnce(&mut Task)) {
        if let Some(task) = self.tasks.get_mut(id) {
            change(task);
            self.touch();
        }
    }

    fn set_state(&mut self, id: &TaskId, state: TaskState) {
        let since = self.time();
        self.change_task(id, |task| (task.state, task.since) = (state, since));
        self.changed.push_back(id.clone());
    }
}
