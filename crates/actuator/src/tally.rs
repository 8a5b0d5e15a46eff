//! Counts the tasks of a service against its live spec.

use std::collections::{BTreeMap, BTreeSet};

use model::TaskId;
use serde_json::Value;
use swarm::{DesiredState, Place, Task, TaskState};

/// The tasks of a service, counted against its live spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many places have a task that runs the live spec.
    pub done: u64,
    /// Whether there ever was a task of the live spec.
    pub begun: bool,
    /// How far a task of the live spec is in each place on its way to running. Those that ended, perhaps in a rollout of
    /// the same long ago, are not asked.
    pub reached: BTreeMap<Place, TaskState>,
    /// How many tasks there should be.
    pub total: u64,
    /// Whether every task that should run does, on the live spec, and none of another spec is left.
    pub complete: bool,
    /// Tasks of the live spec that should run and do not, by their state.
    pub waiting: BTreeMap<TaskState, usize>,
    /// The places where a task of the live spec fits no node, or was given up and has no successor.
    pub stuck: BTreeSet<Place>,
    /// The places where a task of the live spec was given up on its way, with its node. Swarm's updater may wait for
    /// that very task, for ever, whatever runs there since.
    pub given_up: BTreeSet<Place>,
    /// Whether tasks of the live spec failed.
    pub failed: bool,
    /// Whether the last of them that did was refused by its node.
    pub rejected: bool,
    /// The places where a task of another spec is still being stopped to make way for one of the live spec.
    pub stopping: BTreeSet<Place>,
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
        let mut tasks: Vec<&Task> = tasks.iter().collect();
        tasks.sort_by_key(|task| std::cmp::Reverse((task.created_at, task.id.clone())));
        for task in tasks {
            let place = task.place();
            let current = runs(&spec["TaskTemplate"], &task.spec);
            let alive = task.desired != DesiredState::Gone;
            if alive {
                wanted.insert(place.clone());
            }
            if !current {
                tally.others |= alive;
                // What was superseded before it had a node stays pending for ever.
                if !alive && (TaskState::Assigned..=TaskState::Running).contains(&task.state) {
                    tally.stopping.insert(place);
                }
                continue;
            }
            tally.begun = true;
            if alive {
                let reached = tally.reached.entry(place.clone()).or_insert(TaskState::New);
                *reached = task.state.min(TaskState::Running).max(*reached);
            } else if (TaskState::Pending..TaskState::Running).contains(&task.state) {
                tally.given_up.insert(place.clone());
            }
            if task.desired == DesiredState::Running && task.state == TaskState::Running {
                running.insert(place);
            } else if alive && task.state < TaskState::Running {
                *tally.waiting.entry(task.state).or_default() += 1;
                if task.state == TaskState::Pending {
                    tally.stuck.insert(place);
                }
            }
            if task.state.ended_by_itself() && !tally.failed {
                (tally.failed, tally.rejected) = (true, task.state == TaskState::Rejected);
            }
            if let Some(error) = &task.error
                && !tally.errors.contains(error)
            {
                tally.errors.push(error.clone());
            }
        }
        // What ran on a node that died is never seen to stop, and makes way for nobody.
        tally.stopping.retain(|place| tally.reached.contains_key(place));
        tally.stuck.extend(tally.given_up.iter().filter(|place| !tally.reached.contains_key(place)).cloned());
        tally.done = running.len() as u64;
        tally.total = match spec.pointer("/Mode/Replicated/Replicas") {
            Some(replicas) => replicas.as_u64().unwrap_or_default(),
            None => wanted.len() as u64,
        };
        tally.complete = !tally.others && tally.waiting.is_empty() && tally.done >= tally.total;
        tally
    }

    /// How many are missing, where and why, for people; none if none is.
    pub fn missing(&self) -> Option<String> {
        let done = self.done;
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

    /// Whether Swarm gave up all tasks of the live spec that it does not run: it does so for a node that has died, and
    /// then waits for them for ever.
    pub fn waits_for_what_was_given_up(&self) -> bool {
        !self.failed && self.waiting.is_empty() && !self.given_up.is_empty()
    }

    /// What it waits for, for people.
    pub fn waits_for(&self) -> String {
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
            None if !self.given_up.is_empty() => "a task was given up with its node, and Swarm waits for it".into(),
            None if !self.begun => "no task has the new spec yet".into(),
            None => "its tasks end instead of running".into(),
        }
    }
}

/// The error of tasks that keep failing on this spec, `known` ones aside: twice in one place, or in every place. One
/// proxy that ends once has been unlucky, and one that its node refused says nothing of a spec that has run there.
pub fn keeps_failing(spec: &Value, tasks: &[Task], known: &BTreeSet<TaskId>) -> Option<String> {
    let ours: Vec<&Task> = tasks.iter().filter(|task| runs(&spec["TaskTemplate"], &task.spec)).collect();
    let mut failures: BTreeMap<Place, usize> = BTreeMap::new();
    let failed =
        |task: &&&Task| task.state.ended_by_itself() && task.state != TaskState::Rejected && !known.contains(&task.id);
    for task in ours.iter().filter(failed) {
        *failures.entry(task.place()).or_default() += 1;
    }
    let places: BTreeSet<Place> = ours.iter().map(|task| task.place()).collect();
    let everywhere = failures.len() >= 2 && failures.len() == places.len();
    if !everywhere && failures.values().all(|count| *count < 2) {
        return None;
    }
    let newest = ours.iter().filter(failed).max_by_key(|task| (task.created_at, &task.id))?;
    Some(newest.error.clone().unwrap_or_else(|| "no reason is given".into()))
}

/// Whether a task was made from this template. Placement is left out: Swarm leaves a task alone whose node
/// still fits. Empty and absent are one.
fn runs(template: &Value, task: &Value) -> bool {
    ["ContainerSpec", "ForceUpdate", "LogDriver", "Networks", "Resources", "RestartPolicy"]
        .iter()
        .all(|field| alike(&template[*field], &task[*field]))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_wanted_is_done_at_once() {
        let spec = json!({"TaskTemplate": {}, "Mode": {"Replicated": {"Replicas": 0}}});
        assert!(Tally::of(&spec, &[]).complete);
    }

    #[test]
    fn a_task_runs_a_template_if_swarm_would_leave_it_alone() {
        let live = json!({"ContainerSpec": {"Image": "i"}});
        for (field, value, same) in [
            ("ForceUpdate", json!(1), false),
            ("LogDriver", json!({"Name": "none"}), false),
            ("RestartPolicy", json!({"Condition": "none"}), false),
            ("Resources", json!({"Limits": {"Pids": 7}}), false),
            ("Networks", json!([{"Target": "n"}]), false),
            ("Placement", json!({"Constraints": ["node.role==manager"]}), true),
            // Swarm tells it of services alone.
            ("Runtime", json!("container"), true),
        ] {
            let mut task = live.clone();
            task[field] = value;
            assert_eq!(runs(&live, &task), same, "{field}");
        }
    }

    #[test]
    fn empty_and_absent_fields_are_alike() {
        assert!(alike(&json!({"A": null, "B": {"C": []}}), &json!({})));
        assert!(!alike(&json!({"A": 0}), &json!({})));
    }
}
