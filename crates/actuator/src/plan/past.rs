//! Getting a rollout past places where its tasks cannot run.
//!
//! Swarm's updater works on a few places at once and waits at each for ever. A node whose port somebody else took
//! would keep every other node from its new routes. Told again with an unchanged task template, the updater finds
//! nothing to do in places that have a task of it, whether it runs or not, and goes on to the others.

use model::{Digest, labels};
use serde_json::{Value, json};
use swarm::{RawService, UpdateState};

use super::Look;
use super::write::service_write;
use crate::live::Live;
use crate::rollout::{Judgement, Tally};
use crate::step::{Kind, Step};

impl Look<'_> {
    /// The live spec, written once more with a label that names the places where it is stuck, while others still run
    /// another spec. The same places are passed by once.
    pub(super) fn past(&self, service: &RawService, live: &Live, judgement: &Judgement) -> Option<Step> {
        let (Judgement::Blocked { .. }, Some(tasks)) = (judgement, &self.inventory.tasks) else { return None };
        let policy = match service.update.as_ref()?.state {
            UpdateState::Updating => &service.spec["UpdateConfig"],
            UpdateState::RollbackStarted => &service.spec["RollbackConfig"],
            UpdateState::Paused
            | UpdateState::Completed
            | UpdateState::RollbackPaused
            | UpdateState::RollbackCompleted => return None,
        };
        // Started first, a new task waits beside the old one, which would then be stopped for nothing.
        if policy["Order"] == "start-first" {
            return None;
        }
        let tally = Tally::of(&service.spec, tasks);
        if tally.stuck.is_empty() || !tally.others {
            return None;
        }
        let generation = live.attempt.generation.short();
        let places: String = tally.stuck.iter().map(|(slot, node)| format!("{slot} {node}\n")).collect();
        let label = format!("{generation} {}", Digest::of(places.as_bytes()).short());
        if service.spec["Labels"][labels::PASSED_BY] == label.as_str() {
            return None;
        }
        let mut spec: Value = service.spec.clone();
        spec["Labels"][labels::PASSED_BY] = json!(label);
        let places = match tally.stuck.len() {
            1 => "a place".to_owned(),
            several => format!("{several} places"),
        };
        let reason = format!("past {places} where a proxy fits no node");
        let write = service_write(spec, live.attempt, (reason, Kind::Repair), &live.mounts, &live.mounts);
        Some(Step::UpdateService { id: service.id.clone(), version: service.version, write })
    }
}
