//! What happens by itself, and when. Nothing runs in the background: whoever looks at the store first lets
//! everything happen that was due by then, in its order, each at its own moment.

use std::time::Duration;

use model::{NodeId, ServiceId, TaskId};
use swarm::TaskState;
use tokio::time::Instant;

use crate::store::Store;

/// Something that is due. Each is checked against the state when it comes due, and dropped if that has
/// moved on; nothing is ever cancelled.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    /// The orchestrator looks at a service.
    Orchestrate(ServiceId),
    /// A service gets its virtual addresses.
    Endpoint(ServiceId),
    /// A task leaves this state.
    Advance(TaskId, TaskState),
    /// A running container ends.
    Fail(TaskId, String),
    /// A container ends by itself: well, or with these words.
    End(TaskId, Option<String>),
    /// A container that was told to stop has stopped.
    Stopped(TaskId),
    /// A restart delay is over.
    DelayOver(TaskId),
    /// A task has waited long enough for its predecessor to stop.
    StopWaiting(TaskId),
    /// A task has waited long enough for its node's place on a network.
    NoBalancer(TaskId),
    /// A rollout's worker may take its next slot.
    WorkerFree(ServiceId, u64, usize),
    /// A rollout has been watched long enough.
    Monitored(ServiceId, u64),
    /// The managers give a node up that has not been heard of.
    NodeDown(NodeId),
}

impl Store {
    /// Lets `due` happen after a while.
    pub(crate) fn later(&mut self, delay: Duration, due: Due) {
        self.sequence += 1;
        self.due.insert((self.now + delay, self.sequence), due);
    }

    /// When something happens next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// When something happens next that may matter. A time limit that was kept does not.
    pub(crate) fn next_live_due(&self) -> Option<Instant> {
        let matters = |due: &Due| match due {
            Due::StopWaiting(task) => self.tasks.get(task).is_some_and(|task| task.wait.predecessor.is_some()),
            Due::NoBalancer(task) => self.waits_for_balancer(task),
            _ => true,
        };
        self.due.iter().find(|(_, due)| matters(due)).map(|((at, _), _)| *at)
    }

    /// Lets everything happen that is due by `now`.
    pub(crate) fn catch_up(&mut self, now: Instant) {
        self.settle();
        while let Some(entry) = self.due.first_entry() {
            let at = entry.key().0;
            if at > now {
                break;
            }
            let due = entry.remove();
            self.now = self.now.max(at);
            self.happen(due);
            self.settle();
        }
        self.now = self.now.max(now);
    }

    /// Follows up on what changed, until nothing is left to follow up.
    pub(crate) fn settle(&mut self) {
        loop {
            if let Some(task) = self.changed.pop_front() {
                self.follow_up(&task);
            } else if std::mem::take(&mut self.freed) {
                self.retry_waiting();
            } else {
                return;
            }
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Orchestrate(service) => self.orchestrate(&service),
            Due::Endpoint(service) => self.set_endpoint(&service),
            Due::Advance(task, from) => self.advance(&task, from),
            Due::Fail(task, reason) => self.fail(&task, &reason),
            Due::End(task, words) => self.exit(&task, words),
            Due::Stopped(task) => self.stopped(&task),
            Due::DelayOver(task) => self.end_delay(&task),
            Due::StopWaiting(task) => self.stop_waiting(&task),
            Due::NoBalancer(task) => self.no_balancer(&task),
            Due::WorkerFree(service, rollout, worker) => self.worker_free(&service, rollout, worker),
            Due::Monitored(service, rollout) => self.monitored(&service, rollout),
            Due::NodeDown(node) => self.node_down(&node),
        }
    }

    /// Those who wait for an address, a port or a node try again.
    fn retry_waiting(&mut self) {
        for service in self.waiting_services.clone() {
            self.set_endpoint(&service);
        }
        for (_, task) in std::mem::take(&mut self.waiting_tasks) {
            let state = self.tasks.get(&task).map(|task| task.state);
            if let Some(state) = state {
                self.advance(&task, state);
            }
        }
    }
}
