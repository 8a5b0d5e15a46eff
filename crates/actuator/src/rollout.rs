//! Judges a rollout by the live spec and the tasks. What Swarm says of it ([`swarm::UpdateStatus`]) is a hint: it is
//! absent after an update that touched no task, and `updating` can last for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use swarm::{Place, RawService, TaskState, UpdateState};

use crate::live::Attempt;
use crate::moment::Moment;
use crate::settings::Settings;
use crate::step::{Kind, ServiceWrite};
use crate::tally::Tally;

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
    /// The furthest that a task of it got in each place. It only ever grows, so that a task that fails and starts again
    /// is no progress; a place whose node died begins anew, once.
    pub reached: BTreeMap<Place, TaskState>,
    /// The places whose node died on the way.
    pub given_up: BTreeSet<Place>,
    /// The places where a task of another spec was being stopped when it was last looked at.
    pub stopping: BTreeSet<Place>,
    /// When it last got any further.
    pub moved: Moment,
    /// When it was last looked at.
    pub seen: Moment,
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

impl Rollout {
    /// A rollout that another process started, seen for the first time.
    pub fn found(attempt: Attempt, spec: &Value, kind: Kind, now: Moment) -> Self {
        Self {
            attempt,
            template: spec["TaskTemplate"].clone(),
            since: now,
            reached: BTreeMap::new(),
            given_up: BTreeSet::new(),
            stopping: BTreeSet::new(),
            moved: now,
            seen: now,
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

    /// Notes how far it got. Another template is another race, of the same attempt. Time in which nobody could look,
    /// the Engine being away or the managers without a leader, is no time without progress.
    pub fn note(&mut self, service: &RawService, tally: &Tally, settings: &Settings, now: Moment) {
        let spec = &service.spec;
        let unseen = now.since(self.seen);
        if unseen > settings.poll_interval + settings.rollout_deadline / 4 {
            self.moved.0 += unseen;
        }
        self.seen = now;
        if !went_back(service) {
            self.edited = self.written.as_ref().filter(|written| *written != spec).map(|_| spec.clone());
        }
        if self.template != spec["TaskTemplate"] {
            self.template = spec["TaskTemplate"].clone();
            self.reached.clear();
            self.moved = now;
        }
        for place in tally.given_up.difference(&self.given_up) {
            self.reached.remove(place);
        }
        self.given_up.extend(tally.given_up.iter().cloned());
        // Until then the new task had to wait, and only now its time begins.
        if self.stopping.difference(&tally.stopping).next().is_some() {
            self.moved = now;
        }
        self.stopping.clone_from(&tally.stopping);
        for (place, state) in &tally.reached {
            if self.reached.get(place).is_none_or(|before| before < state) {
                self.reached.insert(place.clone(), *state);
                self.moved = now;
            }
        }
    }
}

/// Whether the live spec is one that Swarm, or somebody, went back to.
pub fn went_back(service: &RawService) -> bool {
    service.update.as_ref().is_some_and(|update| match update.state {
        UpdateState::RollbackStarted | UpdateState::RollbackPaused | UpdateState::RollbackCompleted => true,
        UpdateState::Updating | UpdateState::Paused | UpdateState::Completed => false,
    })
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
        /// Whether it has worked for as long as a soak wherever it could be rolled out, and nothing else is to run any more: it
        /// waits for its last places only.
        elsewhere: bool,
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

impl Judgement {
    /// Whether the live spec is known to work.
    pub fn works(&self) -> bool {
        matches!(self, Self::Converged | Self::Blocked { elsewhere: true, .. })
    }
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
        let watched = state.is_some_and(UpdateState::is_under_way);
        let appeared = tally.total > 0 || is_replicated(service) || now.since(rollout.since) >= TASKS_APPEAR_WITHIN;
        let watch =
            if tally.waits_for_what_was_given_up() { patience(tally, settings) } else { settings.rollout_deadline };
        let over = if watched { idle > watch } else { appeared };
        return if over { Judgement::Converged } else { Judgement::Rolling { waits_for } };
    }
    match state {
        // A rollback that fails is called completed too.
        Some(UpdateState::RollbackPaused | UpdateState::RollbackCompleted) if tally.others && circumstances.proven => {
            return if overdue {
                Judgement::Halted { reason: gave_up(service, tally) }
            } else {
                Judgement::Rolling { waits_for }
            };
        }
        // Tasks that went missing since are not this rollout's.
        Some(UpdateState::Completed | UpdateState::RollbackCompleted)
            if circumstances.proven || !rollout.ours || tally.done > 0 =>
        {
            return Judgement::Converged;
        }
        Some(UpdateState::Paused | UpdateState::RollbackPaused) if circumstances.proven => {
            return Judgement::Blocked { waits_for: gave_up(service, tally), elsewhere: false };
        }
        Some(UpdateState::Paused | UpdateState::RollbackPaused) => {
            return Judgement::Failed { reason: gave_up(service, tally) };
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
    let runs = tally.done > 0 && !tally.others && !tally.failed && tally.stopping.is_empty();
    let elsewhere = runs && idle >= settings.soak;
    Judgement::Blocked { waits_for, elsewhere }
}

fn gave_up(service: &RawService, tally: &Tally) -> String {
    let message = service.update.as_ref().map_or("", |update| update.message.as_str());
    match tally.errors.first() {
        _ if message.is_empty() => format!("Swarm gave up: {}", tally.waits_for()),
        None => format!("Swarm gave up: {message}"),
        // It names the task that ended, and not why.
        Some(error) => format!("Swarm gave up: {message}: {error}"),
    }
}

fn is_replicated(service: &RawService) -> bool {
    service.spec.pointer("/Mode/Replicated").is_some()
}

/// How long nothing may happen. Allocation and scheduling take milliseconds or do not happen; fetching an
/// image can take minutes, and a proxy that stops may take all of its grace period.
fn patience(tally: &Tally, settings: &Settings) -> Duration {
    let deadline = settings.rollout_deadline;
    let all = |state: &[TaskState]| !tally.waiting.is_empty() && tally.waiting.keys().all(|key| state.contains(key));
    if tally.waits_for_what_was_given_up() {
        // A task on a dead node never says that it runs, or has stopped.
        deadline / 4 + settings.proxy.update.delay + settings.proxy.update.monitor
    } else if tally.waiting.contains_key(&TaskState::Preparing) {
        deadline * 5
    } else {
        let unplaced = !tally.failed && all(&[TaskState::New, TaskState::Allocated, TaskState::Pending]);
        let stop = if tally.stopping.is_empty() { Duration::ZERO } else { settings.proxy.stop_grace_period };
        stop + if unplaced { deadline / 4 } else { deadline }
    }
}

/// A stuck rollout that nobody knows to be good is to blame, with four exceptions: no node fits or Swarm holds its
/// tasks back, Swarm gave tasks up and no other waits or failed, Swarm has not begun it, or it was found by a fresh
/// process and some of it runs, so that it may have worked for weeks.
fn is_to_blame(state: Option<UpdateState>, tally: &Tally, rollout: &Rollout, circumstances: Circumstances) -> bool {
    // After a task that never had a node Swarm waits a minute for its end, and lets the next one stand ready.
    let held_back = [TaskState::Pending, TaskState::Assigned, TaskState::Accepted, TaskState::Ready];
    let not_started = !tally.waiting.is_empty() && tally.waiting.keys().all(|state| held_back.contains(state));
    let only_waits = !tally.failed && not_started;
    let perhaps_old = !rollout.ours && state.is_none() && tally.done > 0;
    !(circumstances.proven || only_waits || tally.waits_for_what_was_given_up() || !tally.begun || perhaps_old)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{ClusterName, Digest, InstanceName, Timestamp};
    use serde_json::json;
    use swarm::{DesiredState, Task, UpdateStatus};

    use super::*;
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
            created_at: Timestamp(0),
            state,
            since: Timestamp(0),
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
        rollout.note(&service, &tally, &settings(), Moment::default());
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
        let beside_a_stop = |state, place| [&stuck(state)[..], &[task(place, "old", Running, Gone)]].concat();
        // The first place has the new spec, the second waits, and the third's node died with what it was to stop.
        let dead = [
            task(1, "new", Running, Wanted),
            task(2, "old", Running, Wanted),
            task(3, "old", Running, Gone),
            task(3, "new", Pending, Gone),
        ];
        let dead_and_failing = [&dead[..], &[task(2, "new", Failed, Gone)]].concat();
        // Its new task was on its way when the node died; another one runs there since.
        let died = [&half[..], &[task(3, "old", Shutdown, Gone), task(3, "new", TaskState::Starting, Gone)]].concat();
        let replaced = |state| [&half[..], &[task(3, "new", state, Gone), task(3, "new", Running, Wanted)]].concat();
        let last_died = [&both[..], &[task(2, "new", TaskState::Starting, Gone)]].concat();
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
            ("no address while a proxy stops", Some(Updating), &beside_a_stop(New, 1)[..], 44, "rolling"),
            ("no address although it has stopped", Some(Updating), &beside_a_stop(New, 1)[..], 46, "failed"),
            ("no address beside a dead node", Some(Updating), &beside_a_stop(New, 3)[..], 16, "failed"),
            ("a slow image", Some(Updating), &stuck(Preparing)[..], 200, "rolling"),
            ("no image", Some(Updating), &stuck(Preparing)[..], 301, "failed"),
            ("fits no node", Some(Updating), &stuck(Pending)[..], 16, "blocked"),
            ("given up for want of a node, shortly", Some(Updating), &given_up(Pending)[..], 18, "rolling"),
            ("given up for want of a node", Some(Updating), &given_up(Pending)[..], 19, "blocked"),
            ("given up on a node that died", Some(Updating), &dead[..], 19, "blocked"),
            ("died with its node, shortly", Some(Updating), &died[..], 18, "rolling"),
            ("died with its node", Some(Updating), &died[..], 19, "blocked"),
            ("died with its node, for long", Some(Updating), &died[..], 91, "blocked"),
            ("died with its node, and replaced", Some(Updating), &replaced(TaskState::Starting)[..], 91, "blocked"),
            ("given up, and replaced", Some(Updating), &replaced(Pending)[..], 91, "blocked"),
            ("the last died with its node, shortly", Some(Updating), &last_died[..], 18, "rolling"),
            ("the last died with its node", Some(Updating), &last_died[..], 19, "converged"),
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
    fn a_crash_loop_is_no_progress() {
        let service = service(None, 1);
        let attempt = Attempt { generation: Digest::of(b"g"), settings: Digest::of(b"s") };
        let mut rollout = Rollout::found(attempt, &service.spec, Kind::Service, Moment::default());
        for second in 0..20 {
            let state = if second % 2 == 0 { TaskState::Starting } else { TaskState::Failed };
            let task = task(1, "new", state, DesiredState::Running);
            let (tally, now) = (Tally::of(&service.spec, &[task]), Moment(Duration::from_secs(second)));
            rollout.note(&service, &tally, &settings(), now);
        }
        assert_eq!(rollout.moved, Moment(Duration::from_secs(1)));
    }

    /// Swarm holds the new task of a place back until the old one, whose port it may need, has stopped.
    #[test]
    fn a_task_has_its_time_from_when_the_old_one_has_stopped() {
        use DesiredState::{Gone, Running as Wanted};
        let service = service(Some(UpdateState::Updating), 2);
        let attempt = Attempt { generation: Digest::of(b"g"), settings: Digest::of(b"s") };
        let mut rollout = Rollout::found(attempt, &service.spec, Kind::Service, Moment::default());
        let looked = |rollout: &mut Rollout, old, second| {
            let tasks = [
                task(1, "old", old, Gone),
                task(1, "new", TaskState::Pending, Wanted),
                task(2, "old", TaskState::Running, Wanted),
            ];
            let (tally, now) = (Tally::of(&service.spec, &tasks), Moment(Duration::from_secs(second)));
            rollout.note(&service, &tally, &settings(), now);
            judge(&service, &tally, rollout, Circumstances { proven: true, held: false }, &settings(), now)
        };
        for (old, second, blocked) in [
            (TaskState::Running, 0, false),
            (TaskState::Running, 29, false),
            (TaskState::Shutdown, 30, false),
            (TaskState::Shutdown, 44, false),
            (TaskState::Shutdown, 46, true),
        ] {
            let judgement = looked(&mut rollout, old, second);
            assert_eq!(matches!(judgement, Judgement::Blocked { .. }), blocked, "{second} s: {judgement:?}");
        }
    }
}
