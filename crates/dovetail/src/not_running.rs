//! The tasks of a service that do not run, and what Swarm says of them: mostly, why a service waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::{NodeId, TaskId, Timestamp};
use serde::Serialize;
use swarm::{DesiredState, Place, Task, TaskState};

use crate::table::printable;

/// Of so many something is said to people.
const SHOWN: usize = 8;

/// A task that is still to run, is told to stop, or ended by itself with none in its place since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotRunning {
    /// Swarm's id.
    pub id: TaskId,
    /// Its node; none before it is scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Swarm's word for what it does; of one that runs and should not, `stopping`.
    pub state: &'static str,
    /// For so long it has been in that state, by the clock of its node; none for `stopping`, which nobody dates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Whether it is over.
    pub ended: bool,
    /// Swarm's words for what is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Those of a service, by its history: first the ones that are still to run, the newest first.
pub fn not_running(history: &[Task], now: Timestamp) -> Vec<NotRunning> {
    let should = |task: &Task| task.desired != DesiredState::Gone;
    let served: BTreeSet<Place> =
        history.iter().filter(|task| should(task) && task.state == TaskState::Running).map(Task::place).collect();
    let mut last_ended: BTreeMap<Place, &Task> = BTreeMap::new();
    let mut found: Vec<&Task> = Vec::new();
    for task in history {
        match task.state {
            TaskState::Running if should(task) => {}
            state if state > TaskState::Running => {
                let place = task.place();
                let newer = last_ended.get(&place).is_none_or(|other| other.created_at < task.created_at);
                if newer && !served.contains(&place) {
                    last_ended.insert(place, task);
                }
            }
            state if state < TaskState::Running && should(task) || state == TaskState::Running => found.push(task),
            _ => {}
        }
    }
    found.extend(last_ended.into_values().filter(|task| task.state.ended_by_itself()));
    found.sort_by_key(|task| (task.state > TaskState::Running, !should(task), Reverse(task.created_at)));
    let told = |task: &Task| NotRunning {
        id: task.id.clone(),
        node: Some(task.node.clone()).filter(|node| !node.as_str().is_empty()),
        state: if task.state == TaskState::Running { "stopping" } else { task.state.as_str() },
        seconds: (task.state != TaskState::Running).then(|| now.since(task.since).as_secs()),
        ended: task.state > TaskState::Running,
        error: task.error.clone(),
    };
    found.into_iter().map(told).collect()
}

impl fmt::Display for NotRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.id, self.state)?;
        match self.seconds.map(time) {
            Some(time) if self.ended => write!(f, " {time} ago")?,
            Some(time) => write!(f, " for {time}")?,
            None => {}
        }
        match &self.error {
            Some(error) => write!(f, ": {}", printable(error)),
            None => Ok(()),
        }
    }
}

/// A line each, below the tasks that run, and how many are left out.
pub(crate) fn lines(tasks: &[NotRunning]) -> Vec<String> {
    let mut lines: Vec<String> = tasks.iter().take(SHOWN).map(ToString::to_string).collect();
    if tasks.len() > SHOWN {
        lines.push(format!("and {} more that do not run", tasks.len() - SHOWN));
    }
    lines
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// A task of a place, made at one second and in its state since ten seconds later.
    fn task(slot: u64, second: i64, state: TaskState, desired: DesiredState, error: Option<&str>) -> Task {
        Task {
            id: TaskId::new(format!("{slot}-{second}")),
            service: "s".into(),
            slot,
            node: if state < TaskState::Assigned { "" } else { "n" }.into(),
            created_at: Timestamp(second * SECOND),
            state,
            since: Timestamp((second + 10) * SECOND),
            desired,
            error: error.map(str::to_owned),
            attachments: Vec::new(),
            host_ports: BTreeMap::new(),
            spec: Arc::default(),
        }
    }

    #[test]
    fn what_is_to_run_comes_first_and_what_ended_only_where_nothing_runs() {
        use DesiredState::{Gone, Ready, Running as Wanted};
        use TaskState::{Failed, Pending, Preparing, Rejected, Running, Shutdown};
        let history = [
            task(1, 100, Running, Wanted, None),
            task(1, 50, Failed, Gone, Some("its place has one that runs")),
            task(2, 200, Preparing, Wanted, None),
            task(2, 150, Rejected, Gone, Some("No such image: app\u{1b}[31m")),
            task(2, 120, Rejected, Gone, Some("an older one")),
            task(3, 210, Pending, Ready, Some("no suitable node (port)")),
            task(4, 90, Running, Gone, None),
            task(5, 80, Shutdown, Gone, None),
            task(5, 70, Failed, Gone, Some("before somebody drained its node")),
        ];
        let found = not_running(&history, Timestamp(400 * SECOND));
        assert_eq!(
            lines(&found),
            [
                "3-210  pending for 3 min: no suitable node (port)",
                "2-200  preparing for 3 min",
                "4-90  stopping",
                "2-150  rejected 4 min ago: No such image: app\\u{1b}[31m",
            ]
        );
        let nodes: Vec<Option<&str>> = found.iter().map(|task| task.node.as_ref().map(NodeId::as_str)).collect();
        assert_eq!(nodes, [None, Some("n"), Some("n"), Some("n")]);
    }

    #[test]
    fn of_many_a_few_are_shown() {
        let many: Vec<Task> =
            (1..=10).map(|slot| task(slot, 100, TaskState::Pending, DesiredState::Running, None)).collect();
        let lines = lines(&not_running(&many, Timestamp(7500 * SECOND)));
        assert_eq!((lines.len(), lines[0].as_str()), (9, "1-100  pending for 2 h"));
        assert_eq!(lines[8], "and 2 more that do not run");
    }
}
