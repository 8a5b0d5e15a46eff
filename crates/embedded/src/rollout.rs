//! A rolling update, as Swarm's updater runs it: slot by slot, watched for failures, and the only writer of
//! a service's update status.
//!
//! Two of its habits are kept because a client must survive them. An update that changes nothing while a
//! rollout runs leaves that rollout running and takes its status away for good. And a rollback that fails is
//! first paused and then, when the watch is over, called completed (read in swarmkit's `updater.go`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::{ServiceId, TaskId};
use serde_json::Value;
use swarm::{TaskState, UpdateState, UpdateStatus};
use tokio::time::Instant;

use crate::schedule::Due;
use crate::services::Slot;
use crate::spec::{FailureAction, Spec, UpdateConfig};
use crate::store::Store;
use crate::tasks::{Desired, NewTask, Task};

/// A rolling update under way.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    id: u64,
    /// The spec that it works towards.
    goal: Arc<Value>,
    config: UpdateConfig,
    rolls_back: bool,
    /// Slots that no worker has taken yet.
    queue: VecDeque<Slot>,
    /// How many slots there were.
    slots: usize,
    workers: BTreeMap<usize, Worker>,
    /// The tasks that it made, and since when each runs.
    made: BTreeMap<TaskId, Option<Instant>>,
    failed: BTreeSet<TaskId>,
    monitoring: bool,
    /// It was paused: it takes no further slot and is over when its workers are done.
    stopped: bool,
    /// The spec became another meanwhile, even if it is the same again by now.
    superseded: bool,
}

impl Rollout {
    /// Tells it that the spec was written.
    pub(crate) fn written(&mut self, spec: &Value) {
        self.superseded |= *self.goal != *spec;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Worker {
    /// Until its task runs or has failed.
    Waits { slot: Slot, task: TaskId },
    /// Until the delay between two slots is over.
    Pauses,
}

impl Store {
    /// Starts a rollout if any of these slots differs from the spec, unless one with the same goal runs.
    pub(crate) fn roll_out(&mut self, id: &ServiceId, slots: Vec<Slot>) {
        let Some(service) = self.services.get_mut(id) else { return };
        if service.rollout.as_ref().is_some_and(|rollout| !rollout.superseded && rollout.goal == service.raw) {
            return;
        }
        service.rollout = None;
        let state = service.update.as_ref().map(|update| update.state);
        if matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused)) {
            return;
        }
        let service = self.services[id].clone();
        let tasks = self.slots(id);
        let dirty: VecDeque<Slot> = slots
            .into_iter()
            .filter(|slot| match tasks.get(slot).map_or(&[][..], Vec::as_slice) {
                [only] => self.is_dirty(&self.tasks[only], &service.spec),
                tasks => tasks.len() > 1,
            })
            .collect();
        if dirty.is_empty() {
            if state.is_some_and(UpdateState::is_under_way) {
                self.complete(id);
            }
            return;
        }
        if state.is_none() {
            self.set_status(id, UpdateState::Updating, "update in progress".into());
        }
        let rolls_back = service.rolls_back();
        self.sequence += 1;
        let rollout = Rollout {
            id: self.sequence,
            goal: Arc::clone(&service.raw),
            config: if rolls_back { service.spec.rollback.clone() } else { service.spec.update.clone() },
            rolls_back,
            slots: dirty.len(),
            queue: dirty,
            workers: BTreeMap::new(),
            made: BTreeMap::new(),
            failed: BTreeSet::new(),
            monitoring: false,
            stopped: false,
            superseded: false,
        };
        if let Some(service) = self.services.get_mut(id) {
            service.rollout = Some(rollout);
        }
        self.feed(id);
    }

    /// Whether a task must be replaced for this spec.
    fn is_dirty(&self, task: &Task, spec: &Spec) -> bool {
        if Arc::ptr_eq(&task.made_from, &self.services[&task.service].spec) {
            return false;
        }
        if task.with_endpoint && task.made_from.endpoint != spec.endpoint {
            return true;
        }
        if task.made_from.template == spec.template {
            return false;
        }
        let node = task.node.as_ref().and_then(|node| self.nodes.get(node));
        let only_constraints = task.made_from.template_anywhere == spec.template_anywhere;
        !(only_constraints && node.is_some_and(|node| node.eligible(spec)))
    }

    // === impl workers ===

    /// Gives slots to workers that have none; with none left, the watch begins.
    fn feed(&mut self, id: &ServiceId) {
        loop {
            let Some(rollout) = self.services.get_mut(id).and_then(|service| service.rollout.as_mut()) else { return };
            let parallelism = match usize::try_from(rollout.config.parallelism) {
                Ok(0) | Err(_) => rollout.slots,
                Ok(parallelism) => parallelism,
            };
            let free = (0..parallelism).find(|worker| !rollout.workers.contains_key(worker));
            match (free, rollout.queue.is_empty()) {
                (Some(worker), false) => {
                    let Some(slot) = rollout.queue.pop_front() else { return };
                    let start_first = rollout.config.start_first;
                    let work = self.take_slot(id, &slot, start_first);
                    self.put_to_work(id, worker, work);
                }
                (_, true) if rollout.workers.is_empty() && rollout.stopped => {
                    self.end_rollout(id);
                    return;
                }
                (_, true) if rollout.workers.is_empty() && !rollout.monitoring => {
                    rollout.monitoring = true;
                    let (delay, due) = (rollout.config.monitor, Due::Monitored(id.clone(), rollout.id));
                    self.later(delay, due);
                    return;
                }
                _ => return,
            }
        }
    }

    /// Begins with a slot; `None` if there is nothing to wait for.
    fn take_slot(&mut self, id: &ServiceId, slot: &Slot, start_first: bool) -> Option<Worker> {
        // Gone meanwhile: nothing to do.
        let tasks = self.slots(id).remove(slot)?;
        let spec = Arc::clone(&self.services[id].spec);
        let clean = |desired: Desired| {
            tasks.iter().find(|id| {
                let task = &self.tasks[*id];
                task.desired == desired && !self.is_dirty(task, &spec)
            })
        };
        if let Some(existing) = clean(Desired::Running).or_else(|| clean(Desired::Ready)).cloned() {
            let old = self.shut_down_all_but(&existing, &tasks);
            if self.tasks[&existing].desired == Desired::Ready {
                self.delay(&existing, None, old);
            }
            return None;
        }
        let new = NewTask { slot: slot.clone(), desired: Desired::Ready, restarts: 0 };
        let task = self.create_task(id, new);
        if let Some(rollout) = self.services.get_mut(id).and_then(|service| service.rollout.as_mut()) {
            rollout.made.insert(task.clone(), None);
        }
        let old = if start_first { None } else { self.shut_down_all_but(&task, &tasks) };
        self.delay(&task, None, old);
        Some(Worker::Waits { slot: slot.clone(), task })
    }

    /// Shuts tasks down; answers one that has not stopped yet.
    fn shut_down_all_but(&mut self, kept: &TaskId, tasks: &[TaskId]) -> Option<TaskId> {
        let mut stopping = None;
        for task in tasks.iter().filter(|task| *task != kept) {
            self.shut_down(task, Desired::Shutdown);
            let node_is_up =
                |task: &Task| task.node.as_ref().and_then(|node| self.nodes.get(node)).is_none_or(|node| node.ready);
            if self.tasks.get(task).is_some_and(|task| task.state <= TaskState::Running && node_is_up(task)) {
                stopping = Some(task.clone());
            }
        }
        stopping
    }

    fn put_to_work(&mut self, id: &ServiceId, worker: usize, work: Option<Worker>) {
        let Some(rollout) = self.services.get_mut(id).and_then(|service| service.rollout.as_mut()) else { return };
        match work {
            Some(work) => {
                rollout.workers.insert(worker, work);
            }
            None if rollout.config.delay.is_zero() => {
                rollout.workers.remove(&worker);
            }
            None => {
                rollout.workers.insert(worker, Worker::Pauses);
                let (delay, due) = (rollout.config.delay, Due::WorkerFree(id.clone(), rollout.id, worker));
                self.later(delay, due);
            }
        }
    }

    pub(crate) fn worker_free(&mut self, id: &ServiceId, rollout_id: u64, worker: usize) {
        let Some(rollout) = self.rollout(id, rollout_id) else { return };
        rollout.workers.remove(&worker);
        self.feed(id);
    }

    fn rollout(&mut self, id: &ServiceId, rollout_id: u64) -> Option<&mut Rollout> {
        self.services.get_mut(id)?.rollout.as_mut().filter(|rollout| rollout.id == rollout_id)
    }

    // === impl watching ===

    /// Tells a service's rollout that a task changed its state.
    pub(crate) fn rollout_sees(&mut self, id: &ServiceId, task_id: &TaskId) {
        let Some(task) = self.tasks.get(task_id) else { return };
        let (state, slot) = (task.state, task.slot.clone());
        let now = self.now;
        let Some(rollout) = self.services.get_mut(id).and_then(|service| service.rollout.as_mut()) else { return };
        if state < TaskState::Running {
            return;
        }
        let waits = Worker::Waits { slot: slot.clone(), task: task_id.clone() };
        let worker = rollout.workers.iter().find(|(_, work)| **work == waits).map(|(worker, _)| *worker);
        let failed =
            matches!(state, TaskState::Failed | TaskState::Rejected | TaskState::Complete | TaskState::Orphaned);
        if failed
            && let Some(since) = rollout.made.get(task_id)
            && since.is_none_or(|since| now.duration_since(since) <= rollout.config.monitor)
            && rollout.failed.insert(task_id.clone())
            && self.act_on_failure(id, task_id)
        {
            return;
        }
        let Some(worker) = worker else { return };
        let Some(rollout) = self.services.get_mut(id).and_then(|service| service.rollout.as_mut()) else { return };
        rollout.made.insert(task_id.clone(), Some(now));
        if rollout.config.start_first && state == TaskState::Running {
            let tasks = self.slots(id).remove(&slot).unwrap_or_default();
            self.shut_down_all_but(task_id, &tasks);
        }
        self.put_to_work(id, worker, None);
        self.feed(id);
    }

    /// Whether the rollout ends here.
    fn act_on_failure(&mut self, id: &ServiceId, task: &TaskId) -> bool {
        let Some(rollout) = self.services.get_mut(id).and_then(|service| service.rollout.as_mut()) else { return true };
        #[expect(clippy::cast_precision_loss, reason = "counts of slots")]
        let ratio = rollout.failed.len() as f64 / rollout.slots as f64;
        if rollout.stopped || ratio <= rollout.config.max_failure_ratio {
            return false;
        }
        let because = format!("due to failure or early termination of task {task}");
        match (rollout.config.on_failure, rollout.rolls_back) {
            (FailureAction::Continue, _) => false,
            (FailureAction::Pause, _) => {
                rollout.queue.clear();
                rollout.stopped = true;
                // Else its workers end it.
                let over = rollout.monitoring;
                self.pause(id, &because);
                if over {
                    self.end_rollout(id);
                }
                over
            }
            // Never roll back a rollback. It takes no further slot, and is called completed in the end: after
            // the watch if slots were left, else as soon as its workers are done.
            (FailureAction::Rollback, true) => {
                if rollout.queue.is_empty() {
                    rollout.config.monitor = Duration::ZERO;
                }
                rollout.queue.clear();
                let over = rollout.monitoring;
                self.pause(id, &because);
                if over {
                    self.end_rollout(id);
                    self.complete(id);
                }
                over
            }
            (FailureAction::Rollback, false) => {
                self.roll_back(id, format!("update rolled back {because}"));
                self.end_rollout(id);
                true
            }
        }
    }

    pub(crate) fn monitored(&mut self, id: &ServiceId, rollout_id: u64) {
        if self.rollout(id, rollout_id).is_some() {
            self.end_rollout(id);
            self.complete(id);
        }
    }

    fn end_rollout(&mut self, id: &ServiceId) {
        if let Some(service) = self.services.get_mut(id) {
            service.rollout = None;
        }
    }

    // === impl status ===

    fn set_status(&mut self, id: &ServiceId, state: UpdateState, message: String) {
        self.touch_service(id, |service| service.update = Some(UpdateStatus { state, message }));
    }

    fn complete(&mut self, id: &ServiceId) {
        match self.services.get(id).and_then(|service| service.update.as_ref()).map(|update| update.state) {
            None => {}
            Some(UpdateState::RollbackStarted) => {
                self.set_status(id, UpdateState::RollbackCompleted, "rollback completed".into());
            }
            Some(_) => self.set_status(id, UpdateState::Completed, "update completed".into()),
        }
    }

    fn pause(&mut self, id: &ServiceId, because: &str) {
        match self.services.get(id).and_then(|service| service.update.as_ref()).map(|update| update.state) {
            None => {}
            Some(UpdateState::RollbackStarted) => {
                self.set_status(id, UpdateState::RollbackPaused, format!("rollback paused {because}"));
            }
            Some(_) => self.set_status(id, UpdateState::Paused, format!("update paused {because}")),
        }
    }

    /// Goes back to the spec before, which is then forgotten. Without one, or with another update since,
    /// nothing happens, and an update that was under way stays under way for ever.
    fn roll_back(&mut self, id: &ServiceId, message: String) {
        let Some(service) = self.services.get(id) else { return };
        let (Some(previous), Some(_)) = (service.previous.clone(), service.update.as_ref()) else { return };
        let Ok(spec) = Spec::parse(&previous) else { return };
        self.rewrite(id, |service| {
            service.raw = previous;
            service.spec = Arc::new(spec);
            service.previous = None;
            service.update = Some(UpdateStatus { state: UpdateState::RollbackStarted, message });
        });
    }
}
