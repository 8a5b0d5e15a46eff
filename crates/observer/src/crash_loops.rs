//! Tasks in whose place others kept ending. One that comes and goes costs every proxy an update each time, and answers
//! hardly anybody in between: it is held off until it has run for longer than those before it.
//!
//! The Engine's answers alone decide, so that whoever looks comes to the same end. Deliberately missing: updates, whose
//! failures are Swarm's own to see to, and clusters that remember fewer than three ended tasks of a place
//! (`docker swarm update --task-history-limit`; 5 if nobody says otherwise).

use std::collections::BTreeMap;
use std::time::Duration;

use model::{TaskId, Timestamp};
use swarm::{Service, Task, TaskState};

use crate::facts::{serves, updating};

/// So many tasks must have ended by themselves in one place ...
const ENDS: usize = 3;
/// ... since this long before the one that runs there.
const WITHIN: Duration = Duration::from_secs(300);

/// What Swarm does about a change of a service it does at once: a task that is made later takes the place of one that ended.
/// A new service gets its address about when it gets its first tasks, which is a change of it, too: Swarm has been seen to make
/// it some milliseconds after them.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What is known of the past of tasks that began to run a short while ago.
#[derive(Clone, Debug, Default)]
pub(crate) struct CrashLoops {
    wait_at_most: Duration,
    now: Timestamp,
    known: BTreeMap<TaskId, Known>,
}

/// What is known of one.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// When it began to run.
    since: Timestamp,
    /// For how long it must have run before it counts.
    wait: Duration,
}

impl CrashLoops {
    /// Nothing is known yet. No task is held off for longer than `wait_at_most`; zero: none ever is.
    pub(crate) fn new(wait_at_most: Duration) -> Self {
        Self { wait_at_most, ..Self::default() }
    }

    /// Takes in what time it is, and forgets what lies too far back to matter.
    pub(crate) fn proceed(&mut self, now: Timestamp) {
        self.now = now;
        let wait_at_most = self.wait_at_most;
        self.known.retain(|_, known| now.since(known.since) < wait_at_most);
    }

    /// Whether the history of a service must be read to judge its tasks.
    pub(crate) fn must_be_read(&self, service: &Service, tasks: &[Task]) -> bool {
        self.suspects(service, tasks).any(|task| self.known.get(&task.id).is_none_or(|known| known.since != task.since))
    }

    /// Takes in the history of a service: its tasks, those included that have ended.
    pub(crate) fn learn(&mut self, service: &Service, tasks: &[Task], history: &[Task]) {
        let judged: Vec<_> = self
            .suspects(service, tasks)
            .map(|task| (task.id.clone(), Known { since: task.since, wait: wait(service, task, history) }))
            .collect();
        self.known.extend(judged);
    }

    /// Whether a task is to get no requests yet.
    pub(crate) fn hold_off(&self, task: &TaskId) -> bool {
        let ran = |known: &Known| self.now.since(known.since);
        self.known.get(task).is_some_and(|known| ran(known) < known.wait.min(self.wait_at_most))
    }

    /// The tasks that began to run a short while ago, without a change of their service that they could have come of.
    fn suspects<'a>(&self, service: &Service, tasks: &'a [Task]) -> impl Iterator<Item = &'a Task> {
        let (now, wait_at_most, changed) = (self.now, self.wait_at_most, service.updated_at);
        // From clocks that are further apart nothing can be concluded.
        let young = move |task: &Task| now.since(task.since) < wait_at_most && task.since.since(now) < wait_at_most;
        let by_itself = move |task: &Task| task.created_at.since(changed) > AT_ONCE;
        let asked = !updating(service);
        tasks.iter().filter(move |task| asked && serves(task) && young(task) && by_itself(task))
    }
}

/// How long a task must run before it counts: twice as long as any of those before it, if they kept ending.
fn wait(service: &Service, task: &Task, history: &[Task]) -> Duration {
    let mut ended: Vec<&Task> = history
        .iter()
        .filter(|other| other.place() == task.place() && matches!(other.state, TaskState::Failed | TaskState::Complete))
        .filter(|other| service.updated_at.since(other.created_at) <= AT_ONCE)
        .filter(|other| task.created_at.since(other.created_at) <= WITHIN)
        .collect();
    ended.sort_by_key(|other| std::cmp::Reverse(other.created_at));
    ended.truncate(ENDS);
    let longest = ended.iter().map(|other| other.since.since(other.created_at)).max().unwrap_or_default();
    if ended.len() == ENDS { longest.saturating_mul(2) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use model::NodeId;

    use super::*;
    use crate::fixtures::{self, service};

    const SECOND: i64 = 1_000_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * SECOND)
    }

    /// A task of a service, made at one second and in its state since another.
    fn task(service: &Service, slot: u64, state: TaskState, (made, since): (i64, i64)) -> Task {
        let task = fixtures::task(service, slot);
        let id = TaskId::new(format!("{slot}-{made}"));
        Task { id, created_at: at(made), since: at(since), state, ..task }
    }

    /// Whether a task that was made at second 100 and runs since second 106 is held off at these seconds.
    fn held_off(service: &Service, history: &[Task], seconds: &[i64]) -> Vec<bool> {
        let running = [task(service, 1, TaskState::Running, (100, 106))];
        let judged = |second: &i64| {
            let mut loops = CrashLoops::new(Duration::from_secs(60));
            loops.proceed(at(*second));
            if loops.must_be_read(service, &running) {
                loops.learn(service, &running, history);
                assert!(!loops.must_be_read(service, &running), "once is enough");
            }
            loops.hold_off(&running[0].id)
        };
        seconds.iter().map(judged).collect()
    }

    #[test]
    fn a_task_waits_where_three_ended_before_it_until_it_has_run_twice_as_long() {
        use TaskState::{Complete, Failed, Rejected, Shutdown};
        let read = service("web").with(|service| service.updated_at = at(10)).build();
        let ended = |state, times: &[(i64, i64)]| -> Vec<Task> {
            times.iter().map(|times| task(&read, 1, state, *times)).collect()
        };
        let thrice = &[(70, 79), (79, 90), (90, 100)];
        // The longest took 11 s.
        let seconds = &[106, 127, 128, 165, 166];
        let (held, free) = (vec![true, true, false, false, false], vec![false; 5]);
        let held_long = vec![true, true, true, true, false];
        for (what, history, expected) in [
            ("three failed", ended(Failed, thrice), &held),
            ("three completed", ended(Complete, thrice), &held),
            ("twice", ended(Failed, &thrice[1..]), &free),
            ("Swarm stopped them", ended(Shutdown, thrice), &free),
            ("they never ran", ended(Rejected, thrice), &free),
            ("the first was made with its service", ended(Failed, &[(9, 79), (79, 90), (90, 100)]), &held_long),
            ("one of them before the last change", ended(Failed, &[(7, 79), (79, 90), (90, 100)]), &free),
        ] {
            assert_eq!(held_off(&read, &history, seconds), *expected, "{what}");
        }
        let elsewhere: Vec<Task> = thrice.iter().map(|times| task(&read, 2, Failed, *times)).collect();
        assert_eq!(held_off(&read, &elsewhere, seconds), free, "in another place");
        let long = ended(Failed, &[(10, 40), (40, 70), (70, 100)]);
        assert_eq!(held_off(&read, &long, seconds), held_long, "no longer than is allowed");
        let old = service("web").with(|service| service.updated_at = at(-900)).build();
        assert_eq!(held_off(&old, &ended(Failed, &[(-300, 79), (79, 90), (90, 100)]), seconds), free, "long ago");
    }

    #[test]
    fn a_history_is_read_only_where_a_task_came_by_itself_a_short_while_ago() {
        let read = |updated| service("web").with(move |service| service.updated_at = at(updated)).build();
        let must = |service: &Service, wait, now| {
            let mut loops = CrashLoops::new(Duration::from_secs(wait));
            loops.proceed(at(now));
            loops.must_be_read(service, &[task(service, 1, TaskState::Running, (100, 106))])
        };
        assert!(must(&read(10), 60, 120));
        assert!(!must(&read(10), 0, 120), "never, where nothing is ever held off");
        assert!(!must(&read(10), 60, 166), "it has run for long enough");
        assert!(!must(&read(98), 60, 120), "it came of a change of its service");
        assert!(!must(&read(10), 60, 40), "the clocks are too far apart");
        let updating = service("web").with(|service| {
            let state = swarm::UpdateState::Updating;
            service.update = Some(swarm::UpdateStatus { state, message: String::new() });
        });
        assert!(!must(&updating.build(), 60, 120), "an update is Swarm's own");
    }

    #[test]
    fn nodes_are_the_places_of_a_global_service() {
        let read = service("web").with(|service| service.updated_at = at(10)).build();
        let on = |node: &str, task: Task| Task { node: NodeId::new(node), ..task };
        let ended = [(70, 79), (79, 90), (90, 100)].map(|times| on("a", task(&read, 0, TaskState::Failed, times)));
        let running = |node| on(node, Task { id: TaskId::new(node), ..task(&read, 0, TaskState::Running, (100, 106)) });
        let running = [running("a"), running("b")];
        let mut loops = CrashLoops::new(Duration::from_secs(60));
        loops.proceed(at(107));
        loops.learn(&read, &running, &ended);
        assert!(loops.hold_off(&"a".into()));
        assert!(!loops.hold_off(&"b".into()));
    }
}
