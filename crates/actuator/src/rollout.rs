//! Judges a rollout by the live spec and the tasks. What Swarm says of it ([`swarm::UpdateStatus`]) is a hint: it is
//! absent after an update that touched no task, and `updating` can last for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{NodeId, TaskId};
use serde_json::Value;
use swarm::{DesiredState, RawService, Task, TaskState, UpdateState};

use crate::live::Attempt;
use crate::moment::Moment;
use crate::settings::Settings;
use crate::step::{Kind, ServiceWrite};

/// A global service that has no task yet may just have been created.
const TASKS_APPEAR_WITHIN: Duration = Duration::from_secs(2);

/// A rollout that was seen to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// What it tries.
    pub attempt: Attempt,
    /// The task template that it tries, operators' own changes included.
    pub template: Value,
    /// Since when, as far as this process knows.
    pub since: Moment,
    /// The most that was reached, and when.
    pub reached: Progress,
    /// When that was.
    pub moved: Moment,
    /// Whether this process wrote it, or only found it.
    pub ours: bool,
    /// Whether its end was told already: it failed, and its spec is still the live one.
    pub over: bool,
    /// Why, for people.
    pub reason: String,
    /// Why, for counting.
    pub kind: Kind,
    /// The spec that was written; none if another process wrote it.
    pub written: Option<Value>,
    /// The last spec that was seen before Swarm began to roll back, if it is not the one that was written:
    /// somebody edited it on the way.
    pub edited: Option<Value>,
}

/// How far a rollout got; only ever grows, so that a task that fails and starts again is no progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// Tasks that run the new spec.
    pub done: u64,
    /// The furthest that a task of the new spec got on its way to running.
    pub furthest: Option<TaskState>,
}

impl Rollout {
    /// A rollout that another process started, seen for the first time.
    pub fn found(attempt: Attempt, spec: &Value, kind: Kind, now: Moment) -> Self {
        Self {
            attempt,
            template: spec["TaskTemplate"].clone(),
            since: now,
            reached: Progress::default(),
            moved: now,
            ours: false,
            over: false,
            reason: "found under way".into(),
            kind,
            written: None,
            edited: None,
        }
    }

    /// A rollout that this process has just written.
    pub fn written(write: ServiceWrite, now: Moment) -> Self {
        let ServiceWrite { spec, attempt, reason, kind, .. } = write;
        let found = Self::found(attempt, &spec, kind, now);
        Self { ours: true, reason, written: Some(spec), ..found }
    }

    /// Notes how far it got. Another template is another race, of the same attempt.
    pub fn note(&mut self, service: &RawService, tally: &Tally, now: Moment) {
        let spec = &service.spec;
        let rolls_back = service.update.as_ref().is_some_and(|update| match update.state {
            UpdateState::RollbackStarted | UpdateState::RollbackPaused | UpdateState::RollbackCompleted => true,
            UpdateState::Updating | UpdateState::Paused | UpdateState::Completed => false,
        });
        if !rolls_back {
            self.edited = self.written.as_ref().filter(|written| *written != spec).map(|_| spec.clone());
        }
        let restarted = self.template != spec["TaskTemplate"];
        if restarted {
            self.template = spec["TaskTemplate"].clone();
        }
        if restarted || tally.progress > self.reached {
            self.reached = tally.progress;
            self.moved = now;
        }
    }
}

/// The tasks of a service, counted against its live spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How far the live spec got.
    pub progress: Progress,
    /// How many tasks there should be.
    pub total: u64,
    /// Whether every task that should run does, on the live spec, and none of another spec is left.
    pub complete: bool,
    /// Tasks of the live spec that should run and do not, by their state.
    pub waiting: BTreeMap<TaskState, usize>,
    /// The places where a task of the live spec fits no node, or was given up for want of one.
    pub stuck: BTreeSet<(u64, NodeId)>,
    /// Whether tasks of the live spec failed.
    pub failed: bool,
    /// Whether tasks of another spec are still being stopped.
    pub stopping: bool,
    /// Whether tasks of another spec should still run.
    pub others: bool,
    /// What Swarm says is wrong with the tasks of the live spec, the newest first.
    pub errors: Vec<String>,
}

impl Tally {
    /// Counts.
    pub fn of(spec: &Value, tasks: &[Task]) -> Self {
        let mut tally = Self::default();
        let mut running = BTreeSet::new();
        let mut wanted = BTreeSet::new();
        let (mut current_places, mut given_up) = (BTreeSet::new(), BTreeSet::new());
        let mut tasks: Vec<&Task> = tasks.iter().collect();
        tasks.sort_by_key(|task| std::cmp::Reverse((task.created_at, task.id.clone())));
        for task in tasks {
            let place = place(task);
            let current = runs(&spec["TaskTemplate"], &task.spec);
            let alive = task.desired != DesiredState::Gone;
            if alive {
                wanted.insert(place.clone());
            }
            if !current {
                tally.others |= alive;
                // What was superseded before it had a node stays pending for ever.
                tally.stopping |= !alive && (TaskState::Assigned..=TaskState::Running).contains(&task.state);
                continue;
            }
            if alive {
                current_places.insert(place.clone());
            }
            tally.progress.furthest = tally.progress.furthest.max(Some(task.state.min(TaskState::Running)));
            if task.desired == DesiredState::Running && task.state == TaskState::Running {
                running.insert(place);
            } else if !alive && task.state == TaskState::Pending {
                given_up.insert(place);
            } else if alive && task.state < TaskState::Running {
                *tally.waiting.entry(task.state).or_default() += 1;
                if task.state == TaskState::Pending {
                    tally.stuck.insert(place);
                }
            }
            tally.failed |= has_failed(task);
            if let Some(error) = task.error.as_ref().filter(|error| !error.is_empty())
                && !tally.errors.contains(error)
            {
                tally.errors.push(error.clone());
            }
        }
        given_up.retain(|place| !current_places.contains(place));
        tally.stuck.extend(given_up);
        tally.progress.done = running.len() as u64;
        tally.total = match spec.pointer("/Mode/Replicated/Replicas") {
            Some(replicas) => replicas.as_u64().unwrap_or_default(),
            None => wanted.len() as u64,
        };
        tally.complete = !tally.others && tally.waiting.is_empty() && tally.progress.done >= tally.total;
        tally
    }

    /// How many are missing, where and why, for people; none if none is.
    pub fn missing(&self) -> Option<String> {
        let done = self.progress.done;
        (done < self.total).then(|| format!("{done} of {} proxies run: {}{}", self.total, self.waits_for(), self.at()))
    }

    /// The nodes that do not fit, as an addition to the reason; the places of a replicated service have none yet.
    pub fn at(&self) -> String {
        let nodes: Vec<&str> =
            self.stuck.iter().map(|(_, node)| node.as_str()).filter(|node| !node.is_empty()).collect();
        match nodes.as_slice() {
            [] => String::new(),
            [node] => format!("; node {node}"),
            [node, others @ ..] => format!("; node {node} and {} more", others.len()),
        }
    }

    /// Whether Swarm gave up all tasks of the live spec that it does not run, before they had a node: it does so for a
    /// node that has died, and then waits for them for ever.
    fn given_up(&self) -> bool {
        !self.failed && self.waiting.is_empty() && !self.stuck.is_empty()
    }

    /// What it waits for, for people.
    fn waits_for(&self) -> String {
        if let Some(error) = self.errors.first() {
            return error.clone();
        }
        match self.waiting.keys().next() {
            Some(TaskState::New | TaskState::Allocated) => {
                "a task is not allocated: a network has no address left, or Swarm has no leader".into()
            }
            Some(TaskState::Pending) => "a task fits no node".into(),
            Some(TaskState::Preparing) => "a task is fetching its image".into(),
            Some(TaskState::Starting) => "a task starts and its health check does not pass".into(),
            Some(_) => "a task is on its way".into(),
            None if self.progress.furthest.is_none() => "no task has the new spec yet".into(),
            None => "its tasks end instead of running".into(),
        }
    }
}

/// Whether a task ended although it should run.
pub fn has_failed(task: &Task) -> bool {
    matches!(task.state, TaskState::Failed | TaskState::Rejected | TaskState::Complete)
}

fn place(task: &Task) -> (u64, NodeId) {
    (task.slot, if task.slot == 0 { task.node.clone() } else { "".into() })
}

/// The error of tasks that keep failing on this spec, `known` ones aside: twice in one place, or in every place. One
/// proxy that ends once has been unlucky.
pub fn keeps_failing(spec: &Value, tasks: &[Task], known: &BTreeSet<TaskId>) -> Option<String> {
    let ours: Vec<&Task> = tasks.iter().filter(|task| runs(&spec["TaskTemplate"], &task.spec)).collect();
    let mut failures: BTreeMap<(u64, NodeId), usize> = BTreeMap::new();
    let failed = |task: &&&Task| has_failed(task) && !known.contains(&task.id);
    for task in ours.iter().filter(failed) {
        *failures.entry(place(task)).or_default() += 1;
    }
    let places: BTreeSet<(u64, NodeId)> = ours.iter().map(|task| place(task)).collect();
    let everywhere = failures.len() >= 2 && failures.len() == places.len();
    if !everywhere && failures.values().all(|count| *count < 2) {
        return None;
    }
    let newest = ours.iter().filter(failed).max_by_key(|task| (task.created_at, &task.id))?;
    Some(newest.error.clone().filter(|error| !error.is_empty()).unwrap_or_else(|| "no reason is given".into()))
}

/// Whether a task was made from this template. Placement is left out: Swarm leaves a task alone whose node
/// still fits. Empty and absent are one.
fn runs(template: &Value, task: &Value) -> bool {
    ["ContainerSpec", "Networks", "Resources"].iter().all(|field| alike(&template[*field], &task[*field]))
}

fn alike(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => a
            .keys()
            .chain(b.keys())
            .all(|key| alike(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null))),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        _ => left == right || (is_empty(left) && is_empty(right)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// How a rollout goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The live spec is what runs.
    Converged,
    /// It goes on.
    Rolling {
        /// What it waits for.
        waits_for: String,
    },
    /// It makes no progress, and what is tried is not to blame: no node fits, or Swarm does not start it.
    Blocked {
        /// What it waits for.
        waits_for: String,
    },
    /// Swarm gave up on the way, and what it was to roll out has worked before: it must be told again.
    Halted {
        /// What happened.
        reason: String,
    },
    /// It failed, or makes no progress and what is tried may be to blame.
    Failed {
        /// What happened.
        reason: String,
    },
}

/// What is known beside the tasks.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// What is tried has worked before.
    pub proven: bool,
    /// What is tried is held: it failed before, and this is not its retry.
    pub held: bool,
}

/// Judges. `rollout` is what was seen of it so far, this look included.
pub fn judge(
    service: &RawService,
    tally: &Tally,
    rollout: &Rollout,
    circumstances: Circumstances,
    settings: &Settings,
    now: Moment,
) -> Judgement {
    let state = service.update.as_ref().map(|update| update.state);
    let idle = now.since(rollout.moved);
    let overdue = idle > patience(tally, settings);
    let waits_for = tally.waits_for();
    if tally.complete {
        // Swarm watches the last tasks for a while; and it has been seen to stay `updating` for ever.
        let watched = matches!(state, Some(UpdateState::Updating | UpdateState::RollbackStarted));
        let appeared = tally.total > 0 || is_replicated(service) || now.since(rollout.since) >= TASKS_APPEAR_WITHIN;
        let over = if watched { idle > settings.rollout_deadline } else { appeared };
        return if over { Judgement::Converged } else { Judgement::Rolling { waits_for } };
    }
    match state {
        // A rollback that fails is called completed too.
        Some(UpdateState::RollbackPaused | UpdateState::RollbackCompleted) if tally.others && circumstances.proven => {
            return if overdue {
                Judgement::Halted { reason: gave_up(service, &waits_for) }
            } else {
                Judgement::Rolling { waits_for }
            };
        }
        // Tasks that went missing since are not this rollout's.
        Some(UpdateState::Completed | UpdateState::RollbackCompleted)
            if circumstances.proven || !rollout.ours || tally.progress.done > 0 =>
        {
            return Judgement::Converged;
        }
        Some(UpdateState::Paused | UpdateState::RollbackPaused) if circumstances.proven => {
            return Judgement::Blocked { waits_for: gave_up(service, &waits_for) };
        }
        Some(UpdateState::Paused | UpdateState::RollbackPaused) => {
            return Judgement::Failed { reason: gave_up(service, &waits_for) };
        }
        None
        | Some(
            UpdateState::Updating
            | UpdateState::RollbackStarted
            | UpdateState::Completed
            | UpdateState::RollbackCompleted,
        ) => {}
    }
    if circumstances.held && !circumstances.proven {
        return Judgement::Failed { reason: waits_for };
    }
    if !overdue {
        return Judgement::Rolling { waits_for };
    }
    if is_to_blame(state, tally, rollout, circumstances) {
        let reason = format!("no progress for {} s: {waits_for}", idle.as_secs());
        return Judgement::Failed { reason };
    }
    Judgement::Blocked { waits_for }
}

fn gave_up(service: &RawService, waits_for: &str) -> String {
    let message = service.update.as_ref().map_or("", |update| update.message.as_str());
    format!("Swarm gave up: {}", if message.is_empty() { waits_for } else { message })
}

fn is_replicated(service: &RawService) -> bool {
    service.spec.pointer("/Mode/Replicated").is_some()
}

/// How long nothing may happen. Allocation and scheduling take milliseconds or do not happen; fetching an
/// image can take minutes, and a proxy that stops may take all of its grace period.
fn patience(tally: &Tally, settings: &Settings) -> Duration {
    let deadline = settings.rollout_deadline;
    let all = |state: &[TaskState]| !tally.waiting.is_empty() && tally.waiting.keys().all(|key| state.contains(key));
    if tally.given_up() {
        // A task that was to stop on a dead node never says that it has.
        deadline / 4
    } else if tally.waiting.contains_key(&TaskState::Preparing) {
        deadline * 5
    } else if tally.stopping {
        deadline + settings.proxy.stop_grace_period
    } else if !tally.failed && all(&[TaskState::New, TaskState::Allocated, TaskState::Pending]) {
        deadline / 4
    } else {
        deadline
    }
}

/// A stuck rollout that nobody knows to be good is to blame, with four exceptions: no node fits or Swarm holds its
/// tasks back, Swarm gave a task up that had no node, Swarm has not begun it, or it was found by a fresh process and some
/// of it runs, so that it may have worked for weeks.
fn is_to_blame(state: Option<UpdateState>, tally: &Tally, rollout: &Rollout, circumstances: Circumstances) -> bool {
    // After a task that never had a node Swarm waits a minute for its end, and lets the next one stand ready.
    let held_back = [TaskState::Pending, TaskState::Assigned, TaskState::Accepted, TaskState::Ready];
    let not_started = !tally.waiting.is_empty() && tally.waiting.keys().all(|state| held_back.contains(state));
    let only_waits = !tally.failed && not_started;
    let not_begun = tally.progress.furthest.is_none();
    let perhaps_old = !rollout.ours && state.is_none() && tally.progress.done > 0;
    !(circumstances.proven || only_waits || tally.given_up() || not_begun || perhaps_old)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{CreatedAt, Digest};
    use serde_json::json;
    use swarm::UpdateStatus;

    use super::*;
    use model::{ClusterName, InstanceName};

    use crate::settings::ProxySettings;

    fn settings() -> Settings {
        let name = "main";
        Settings::new(
            InstanceName::parse(name).unwrap(),
            ClusterName::parse(name).unwrap(),
            ProxySettings::new("p", "i"),
        )
    }

    fn template(config: &str) -> Value {
        json!({"ContainerSpec": {"Image": "i", "Configs": [{"ConfigName": config}]}})
    }

    fn service(state: Option<UpdateState>, replicas: u64) -> RawService {
        RawService {
            id: "s".into(),
            version: 1,
            spec: json!({"TaskTemplate": template("new"), "Mode": {"Replicated": {"Replicas": replicas}}}),
            previous_spec: None,
            update: state.map(|state| UpdateStatus { state, message: String::new() }),
        }
    }

    fn task(slot: u64, config: &str, state: TaskState, desired: DesiredState) -> Task {
        Task {
            id: format!("{slot}-{config}-{state:?}").as_str().into(),
            service: "s".into(),
            slot,
            node: "n".into(),
            created_at: CreatedAt(0),
            state,
            desired,
            error: None,
            host_ports: Default::default(),
            attachments: Vec::new(),
            spec: Arc::new(template(config)),
        }
    }

    /// Judges two replicas after so many seconds without progress.
    fn judged(state: Option<UpdateState>, tasks: &[Task], idle: u64, proven: bool) -> Judgement {
        let service = service(state, 2);
        let tally = Tally::of(&service.spec, tasks);
        let attempt = Attempt { generation: Digest::of(b"g"), settings: Digest::of(b"s") };
        let mut rollout =
            Rollout { ours: true, ..Rollout::found(attempt, &service.spec, Kind::Service, Moment::default()) };
        rollout.note(&service, &tally, Moment::default());
        let now = Moment(Duration::from_secs(idle));
        judge(&service, &tally, &rollout, Circumstances { proven, held: false }, &settings(), now)
    }

    #[test]
    fn tasks_are_judged_against_the_live_spec() {
        use DesiredState::{Gone, Running as Wanted};
        use TaskState::{Failed, New, Pending, Preparing, Ready, Running, Shutdown};
        use UpdateState::{Completed, Paused, RollbackPaused, Updating};
        let both = [task(1, "new", Running, Wanted), task(2, "new", Running, Wanted)];
        let half = [task(1, "new", Running, Wanted), task(2, "old", Running, Wanted)];
        let left = [task(1, "new", Running, Wanted), task(2, "new", Running, Wanted), task(2, "old", Running, Wanted)];
        let done = [task(1, "new", Running, Wanted), task(2, "new", Running, Wanted), task(2, "old", Shutdown, Gone)];
        let stuck =
            |state| [task(1, "old", Running, Wanted), task(2, "old", Running, Wanted), task(1, "new", state, Wanted)];
        let given_up =
            |state| [task(1, "old", Running, Wanted), task(2, "old", Running, Wanted), task(1, "new", state, Gone)];
        // The first place has the new spec, the second waits, and the third's node died with what it was to stop.
        let dead = [
            task(1, "new", Running, Wanted),
            task(2, "old", Running, Wanted),
            task(3, "old", Running, Gone),
            task(3, "new", Pending, Gone),
        ];
        let dead_and_failing = [&dead[..], &[task(2, "new", Failed, Gone)]].concat();
        let made_anew = [&dead[..], &[task(3, "new", TaskState::Starting, Wanted)]].concat();
        let failing = [task(1, "old", Running, Wanted), task(2, "old", Running, Wanted), task(1, "new", Failed, Gone)];
        for (name, state, tasks, idle, expected) in [
            ("all run", None, &both[..], 0, "converged"),
            ("old ones are gone", None, &done[..], 0, "converged"),
            ("an old one is left", None, &left[..], 0, "rolling"),
            ("half", Some(Updating), &half[..], 30, "rolling"),
            ("the monitor watches", Some(Updating), &both[..], 30, "rolling"),
            ("updating for ever", Some(Updating), &both[..], 61, "converged"),
            ("Swarm says so, and one went missing", Some(Completed), &half[..], 0, "converged"),
            ("Swarm says so, and none runs", Some(Completed), &failing[..], 1, "rolling"),
            ("Swarm says so, and none ever runs", Some(Completed), &failing[..], 61, "failed"),
            ("a rollback gave up", Some(RollbackPaused), &half[..], 0, "failed"),
            ("half, for long", Some(Updating), &half[..], 61, "failed"),
            ("paused", Some(Paused), &half[..], 0, "failed"),
            ("no address, shortly", Some(Updating), &stuck(New)[..], 10, "rolling"),
            ("no address", Some(Updating), &stuck(New)[..], 16, "failed"),
            ("a slow image", Some(Updating), &stuck(Preparing)[..], 200, "rolling"),
            ("no image", Some(Updating), &stuck(Preparing)[..], 301, "failed"),
            ("fits no node", Some(Updating), &stuck(Pending)[..], 16, "blocked"),
            ("given up for want of a node, shortly", Some(Updating), &given_up(Pending)[..], 14, "rolling"),
            ("given up for want of a node", Some(Updating), &given_up(Pending)[..], 16, "blocked"),
            ("given up on a node that died", Some(Updating), &dead[..], 16, "blocked"),
            ("given up there and failed elsewhere", Some(Updating), &dead_and_failing[..], 91, "failed"),
            ("given up once, and made anew", Some(Updating), &made_anew[..], 91, "failed"),
            ("given up for want of an address", Some(Updating), &given_up(New)[..], 61, "failed"),
            ("held back by Swarm", Some(Updating), &stuck(Ready)[..], 61, "blocked"),
            ("fits no node after failing", None, &[&stuck(Pending)[..], &failing[2..]].concat()[..], 61, "failed"),
            ("crashes", None, &failing[..], 61, "failed"),
            ("not begun", None, &failing[..2], 61, "blocked"),
            ("nothing at all", None, &[], 61, "blocked"),
        ] {
            let word = |judgement| match judgement {
                Judgement::Converged => "converged",
                Judgement::Rolling { .. } => "rolling",
                Judgement::Blocked { .. } => "blocked",
                Judgement::Halted { .. } => "halted",
                Judgement::Failed { .. } => "failed",
            };
            assert_eq!(word(judged(state, tasks, idle, false)), expected, "{name}");
            assert_ne!(word(judged(state, tasks, idle, true)), "failed", "{name}: what is proven is never to blame");
        }
    }

    #[test]
    fn nothing_wanted_is_done_at_once() {
        let service = service(None, 0);
        let tally = Tally::of(&service.spec, &[task(1, "old", TaskState::Shutdown, DesiredState::Gone)]);
        assert!(tally.complete);
    }

    #[test]
    fn a_crash_loop_is_no_progress() {
        let service = service(None, 1);
        let attempt = Attempt { generation: Digest::of(b"g"), settings: Digest::of(b"s") };
        let mut rollout = Rollout::found(attempt, &service.spec, Kind::Service, Moment::default());
        for second in 0..20 {
            let state = if second % 2 == 0 { TaskState::Starting } else { TaskState::Failed };
            let task = task(1, "new", state, DesiredState::Running);
            rollout.note(&service, &Tally::of(&service.spec, &[task]), Moment(Duration::from_secs(second)));
        }
        assert_eq!(rollout.moved, Moment(Duration::from_secs(1)));
    }

    #[test]
    fn empty_and_absent_fields_are_alike() {
        assert!(alike(&json!({"A": null, "B": {"C": []}}), &json!({})));
        assert!(!alike(&json!({"A": 0}), &json!({})));
    }
}
