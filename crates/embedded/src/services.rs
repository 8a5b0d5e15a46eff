//! Services: what may be written, and how many tasks follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{NetworkId, NodeId, ServiceId, TaskId, Timestamp};
use serde_json::Value;
use swarm::{
    Class, Endpoint, Error, EventKind, Mode, RawService, Result, RunningCount, TaskState, UpdateState, UpdateStatus,
};
use tokio::time::Instant;

use crate::rollout::Rollout;
use crate::schedule::Due;
use crate::spec::Spec;
use crate::store::Store;
use crate::tasks::{Desired, NewTask, Task};

/// A service of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub id: ServiceId,
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// As it was written.
    pub raw: Arc<Value>,
    /// What the rules read of it.
    pub spec: Arc<Spec>,
    /// Of the spec before, if Swarm still has it.
    pub previous: Option<Arc<Value>>,
    pub update: Option<UpdateStatus>,
    pub rollout: Option<Rollout>,
    pub vips: BTreeMap<NetworkId, IpAddr>,
    /// The virtual addresses do not fit the spec yet; until they do, new tasks stay new.
    pub endpoint_pending: bool,
    /// How many tasks ran, since when; the last entry is the present.
    pub counts: Vec<(Instant, u64)>,
}

/// Where at most one task of a service should run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Replica(u64),
    Node(NodeId),
}

impl Store {
    pub(crate) fn create_service(&mut self, raw: &Value) -> Result<ServiceId> {
        let name = raw["Name"].as_str().unwrap_or_default().to_owned();
        let operation = format!("create service {name}");
        let (raw, spec) = self.accept(&operation, raw, None)?;
        if self.service_names.contains_key(&name) {
            let message =
                format!("rpc error: code = AlreadyExists desc = name conflicts with an existing object: {name}");
            return Err(Error::new(Class::Conflict, operation, message));
        }
        let (id, created_at, version) = (ServiceId::new(self.fresh_id()), self.fresh_time(), self.touch());
        let service = Service {
            id: id.clone(),
            version,
            created_at,
            updated_at: created_at,
            raw,
            spec,
            previous: None,
            update: None,
            rollout: None,
            vips: BTreeMap::new(),
            endpoint_pending: false,
            counts: Vec::new(),
        };
        self.services.insert(id.clone(), service);
        self.service_names.insert(name, id.clone());
        self.written(&id);
        Ok(id)
    }

    /// Replaces the spec of a service that has this version.
    pub(crate) fn update_service(&mut self, id: &ServiceId, version: u64, raw: &Value) -> Result<()> {
        let Some(service) = self.services.get(id) else {
            let operation = format!("update service {id}");
            return Err(Error::new(Class::NotFound, operation, format!("service {id} not found")));
        };
        let operation = format!("update service {}", service.spec.name);
        let (raw, spec) = self.accept(&operation, raw, Some(id))?;
        let service = &self.services[id];
        let refused = |message: &str| Err(Error::new(Class::Refused, operation.clone(), message));
        if spec.mode_name != service.spec.mode_name {
            return refused("service mode change is not allowed");
        }
        if spec.name != service.spec.name {
            return refused("renaming services is not supported");
        }
        if version != service.version {
            let message = "rpc error: code = Unknown desc = update out of sequence";
            return Err(Error::new(Class::Conflict, operation, message));
        }
        self.rewrite(id, |service| {
            service.previous = Some(std::mem::replace(&mut service.raw, raw));
            service.spec = spec;
            service.update = None;
        });
        Ok(())
    }

    /// What `docker service rollback` does: the two specs change places.
    pub(crate) fn rollback_service(&mut self, id: &ServiceId) -> Result<()> {
        let operation = format!("roll back service {id}");
        let Some(service) = self.services.get(id) else {
            return Err(Error::new(Class::NotFound, operation, format!("service {id} not found")));
        };
        let Some(previous) = service.previous.clone() else {
            let message = format!("service {id} does not have a previous spec");
            return Err(Error::new(Class::Refused, operation, message));
        };
        // Nobody checks whether what it refers to is still there.
        let spec = Spec::parse(&previous).map_err(|message| Error::new(Class::Refused, operation, message))?;
        self.rewrite(id, |service| {
            service.previous = Some(std::mem::replace(&mut service.raw, previous));
            service.spec = Arc::new(spec);
            service.update = Some(UpdateStatus {
                state: UpdateState::RollbackStarted,
                message: "manually requested rollback".into(),
            });
        });
        Ok(())
    }

    pub(crate) fn remove_service(&mut self, id: &ServiceId) -> Result<()> {
        let Some(service) = self.services.remove(id) else {
            let operation = format!("remove service {id}");
            return Err(Error::new(Class::NotFound, operation, format!("service {id} not found")));
        };
        self.service_names.remove(&service.spec.name);
        self.waiting_services.remove(id);
        self.touch();
        let vips: Vec<_> = service.vips.into_iter().collect();
        self.release(&vips);
        for task in self.tasks_of.get(id).cloned().unwrap_or_default() {
            self.shut_down(&task, Desired::Remove);
        }
        self.emit(EventKind::Service(id.clone()));
        Ok(())
    }

    /// Changes a service object: its version moves, an event is raised.
    pub(crate) fn touch_service(&mut self, id: &ServiceId, change: impl FnOnce(&mut Service)) {
        if !self.services.contains_key(id) {
            return;
        }
        let (version, time) = (self.touch(), self.time());
        if let Some(service) = self.services.get_mut(id) {
            change(service);
            (service.version, service.updated_at) = (version, time);
        }
        self.emit(EventKind::Service(id.clone()));
    }

    /// Changes a service's spec, with all that follows from it.
    pub(crate) fn rewrite(&mut self, id: &ServiceId, change: impl FnOnce(&mut Service)) {
        self.touch_service(id, |service| {
            change(service);
            if let Some(rollout) = &mut service.rollout {
                rollout.written(&service.raw);
            }
        });
        self.plan_endpoint(id);
        self.later(self.timing.reaction, Due::Orchestrate(id.clone()));
    }

    fn written(&mut self, id: &ServiceId) {
        self.emit(EventKind::Service(id.clone()));
        self.plan_endpoint(id);
        self.later(self.timing.reaction, Due::Orchestrate(id.clone()));
    }

    /// Checks a spec as the Engine does: alone, and against the other objects.
    fn accept(&self, operation: &str, raw: &Value, own: Option<&ServiceId>) -> Result<(Arc<Value>, Arc<Spec>)> {
        let refused = |message: String| Error::new(Class::Refused, operation, message);
        let mut raw = raw.clone();
        self.resolve_networks(&mut raw).map_err(|(class, message)| Error::new(class, operation, message))?;
        let spec = Spec::parse(&raw).map_err(refused)?;
        let missing = |known: bool, name: &str| if known { None } else { Some(name.to_owned()) };
        let configs: Vec<String> = spec
            .configs
            .iter()
            .filter_map(|reference| {
                let config = self.configs.get(&model::ConfigId::new(reference.id.as_str()));
                missing(config.is_some_and(|config| config.name == reference.name), &reference.name)
            })
            .collect();
        if !configs.is_empty() {
            let plural = if configs.len() == 1 { "" } else { "s" };
            return Err(refused(format!("config{plural} not found: {}", configs.join(", "))));
        }
        let secrets: Vec<String> = spec
            .secrets
            .iter()
            .filter_map(|(id, name)| {
                let secret = self.secrets.get(&model::SecretId::new(id.as_str()));
                missing(secret.is_some_and(|known| known == name), name)
            })
            .collect();
        if !secrets.is_empty() {
            let plural = if secrets.len() == 1 { "" } else { "s" };
            return Err(refused(format!("secret{plural} not found: {}", secrets.join(", "))));
        }
        self.check_ports(&spec, own).map_err(refused)?;
        Ok((Arc::new(raw), Arc::new(spec)))
    }

    /// Two services may share a host port (the scheduler sorts that out), but not one of the routing mesh.
    fn check_ports(&self, spec: &Spec, own: Option<&ServiceId>) -> std::result::Result<(), String> {
        for port in spec.ports.iter().filter(|port| port.published != 0) {
            for other in self.services.values().filter(|other| own != Some(&other.id)) {
                let taken = other.spec.ports.iter().find(|taken| {
                    taken.published == port.published && taken.protocol == port.protocol && !(taken.host && port.host)
                });
                if let Some(taken) = taken {
                    let how = if taken.host { "a host-published port" } else { "an ingress port" };
                    let (number, name, id) = (port.published, &other.spec.name, &other.id);
                    return Err(format!("port '{number}' is already in use by service '{name}' ({id}) as {how}"));
                }
            }
        }
        Ok(())
    }

    // === impl orchestration ===

    /// Makes the number of slots right, and starts a rollout if tasks differ from the spec.
    pub(crate) fn orchestrate(&mut self, id: &ServiceId) {
        let Some(service) = self.services.get(id) else { return };
        match service.spec.mode {
            Mode::Replicated(replicas) => self.orchestrate_replicated(id, replicas),
            Mode::Global => self.orchestrate_global(id),
            // Deliberately missing: jobs have no tasks here.
            Mode::Job => {}
        }
    }

    fn orchestrate_replicated(&mut self, id: &ServiceId, replicas: u64) {
        let slots = self.slots(id);
        let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
        let surplus = self.surplus(&slots, slots.len().saturating_sub(wanted));
        self.roll_out(id, slots.keys().filter(|slot| !surplus.contains(slot)).cloned().collect());
        for task in surplus.iter().flat_map(|slot| &slots[slot]) {
            self.shut_down(task, Desired::Remove);
        }
        let mut number = 0;
        for _ in slots.len()..wanted {
            number += 1;
            while slots.contains_key(&Slot::Replica(number)) {
                number += 1;
            }
            self.create_task(id, NewTask { slot: Slot::Replica(number), desired: Desired::Running, restarts: 0 });
        }
    }

    fn orchestrate_global(&mut self, id: &ServiceId) {
        let Some(service) = self.services.get(id) else { return };
        let spec = Arc::clone(&service.spec);
        let eligible: Vec<Slot> =
            self.nodes.values().filter(|n| n.eligible(&spec)).map(|n| Slot::Node(n.id.clone())).collect();
        let slots = self.slots(id);
        for (_, tasks) in slots.iter().filter(|(slot, _)| !eligible.contains(slot)) {
            for task in tasks {
                self.shut_down(task, Desired::Shutdown);
            }
        }
        let (kept, missing): (Vec<Slot>, Vec<Slot>) = eligible.into_iter().partition(|slot| slots.contains_key(slot));
        self.roll_out(id, kept);
        for slot in missing {
            self.create_task(id, NewTask { slot, desired: Desired::Running, restarts: 0 });
        }
    }

    /// The slots in use, each with its tasks that should run, the oldest first; or with its last task, if
    /// that ended by itself under a policy that does not replace it.
    pub(crate) fn slots(&self, id: &ServiceId) -> BTreeMap<Slot, Vec<TaskId>> {
        let rolls_back = self.services.get(id).is_some_and(Service::rolls_back);
        let mut tasks: Vec<&Task> =
            self.tasks_of.get(id).into_iter().flatten().filter_map(|task| self.tasks.get(task)).collect();
        tasks.sort_by_key(|task| task.created_at);
        let mut slots: BTreeMap<Slot, Vec<TaskId>> = BTreeMap::new();
        let mut last: BTreeMap<&Slot, &Task> = BTreeMap::new();
        for task in tasks {
            last.insert(&task.slot, task);
            if task.desired <= Desired::Running {
                slots.entry(task.slot.clone()).or_default().push(task.id.clone());
            }
        }
        for (slot, task) in last {
            if task.given_up && task.desired == Desired::Shutdown && !rolls_back {
                slots.entry(slot.clone()).or_insert_with(|| vec![task.id.clone()]);
            }
        }
        slots
    }

    /// Which slots to give up: those that do not run, then those on the fullest nodes, then the highest.
    fn surplus(&self, slots: &BTreeMap<Slot, Vec<TaskId>>, count: usize) -> BTreeSet<Slot> {
        if count == 0 {
            return BTreeSet::new();
        }
        let mut on_node: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut ranked: Vec<(bool, usize, &Slot)> = Vec::new();
        for (slot, tasks) in slots {
            let running = tasks.iter().filter_map(|t| self.tasks.get(t)).find(|task| task.state == TaskState::Running);
            let copies = match running.and_then(|task| task.node.clone()) {
                Some(node) => {
                    let copies = on_node.entry(node).or_default();
                    *copies += 1;
                    *copies
                }
                None => 0,
            };
            ranked.push((running.is_none(), copies, slot));
        }
        ranked.sort();
        ranked.into_iter().rev().take(count).map(|(_, _, slot)| slot.clone()).collect()
    }

    // === impl views ===

    pub(crate) fn view_service(&self, service: &Service) -> swarm::Service {
        swarm::Service {
            id: service.id.clone(),
            version: service.version,
            created_at: service.created_at,
            updated_at: service.updated_at,
            name: service.spec.name.clone(),
            labels: service.spec.labels.clone(),
            container_labels: service.spec.container_labels.clone(),
            mode: service.spec.mode,
            networks: service.spec.networks.clone(),
            task_template: service.spec.template_digest,
            endpoint: Endpoint {
                mode: service.spec.endpoint_mode,
                vips: service.vips.clone(),
                host_ports: service.spec.targets_on_node(),
            },
            running: Some(self.count(service)),
            update: service.update.clone(),
        }
    }

    pub(crate) fn view_raw(&self, name_or_id: &str) -> Option<RawService> {
        let id = self.service_names.get(name_or_id).cloned().unwrap_or_else(|| ServiceId::new(name_or_id));
        let service = self.services.get(&id)?;
        Some(RawService {
            id,
            version: service.version,
            spec: Value::clone(&service.raw),
            previous_spec: service.previous.as_deref().cloned(),
            update: service.update.clone(),
        })
    }

    fn count(&self, service: &Service) -> RunningCount {
        let running = match self.now.checked_sub(self.timing.count_lag) {
            Some(then) => service.counts.iter().rev().find(|(since, _)| *since <= then).map_or(0, |(_, count)| *count),
            None => 0,
        };
        let desired = match service.spec.mode {
            Mode::Replicated(replicas) => replicas,
            Mode::Global => {
                let tasks = self.tasks_of.get(&service.id).into_iter().flatten();
                tasks.filter(|t| self.tasks.get(t).is_some_and(|t| t.desired == Desired::Running)).count() as u64
            }
            Mode::Job => 0,
        };
        RunningCount { running, desired }
    }

    /// Notes how many tasks of a service run now; tasks on dead nodes are among them.
    pub(crate) fn recount(&mut self, id: &ServiceId) {
        let tasks = self.tasks_of.get(id).into_iter().flatten();
        let count = tasks.filter(|t| self.tasks.get(t).is_some_and(|t| t.state == TaskState::Running)).count() as u64;
        let (now, lag) = (self.now, self.timing.count_lag);
        let Some(service) = self.services.get_mut(id) else { return };
        if service.counts.last().map_or(0, |(_, count)| *count) != count {
            service.counts.push((now, count));
            // One entry older than the lag is enough to know what was then.
            let seen = service.counts.iter().filter(|(since, _)| now.duration_since(*since) >= lag).count();
            service.counts.drain(..seen.saturating_sub(1));
        }
    }
}

impl Service {
    pub(crate) fn rolls_back(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.state == UpdateState::RollbackStarted)
    }
}
