//! Getting a rollout past places where its tasks cannot run.
//!
//! Swarm's updater works on a few places at once and waits at each for ever. A node whose port somebody else took, or
//! one that died while its new task was on the way, would keep every other node from its new routes. Told again with an
//! unchanged task template, the updater finds nothing to do in places that have a task of it, whether it runs or not,
//! and goes on to the others.

use std::collections::BTreeSet;

use model::{Digest, labels};
use serde_json::{Value, json};
use swarm::{RawService, UpdateState};

use super::Look;
use super::write::service_write;
use crate::live::Live;
use crate::rollout::Judgement;
use crate::step::{Kind, Step};
use crate::tally::Tally;

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
        let tally = Tally::of(&service.spec, tasks);
        // Started first, a task that waits does so beside the old one, which would then be stopped for nothing.
        let spares_old_ones = policy["Order"] != "start-first" || tally.waiting.is_empty();
        let stuck: BTreeSet<_> = tally.stuck.union(&tally.given_up).collect();
        if stuck.is_empty() || !tally.others || !spares_old_ones {
            return None;
        }
        let generation = live.attempt.generation.short();
        let places: String = stuck.iter().map(|(slot, node)| format!("{slot} {node}\n")).collect();
        let label = format!("{generation} {}", Digest::of(places.as_bytes()).short());
        if service.spec["Labels"][labels::PASSED_BY] == label.as_str() {
            return None;
        }
        let mut spec: Value = service.spec.clone();
        spec["Labels"][labels::PASSED_BY] = json!(label);
        let places = match stuck.len() {
            1 => "a place".to_owned(),
            several => format!("{several} places"),
        };
        let reason = format!("past {places} where no proxy gets to run");
        let write = service_write(spec, live.attempt, (reason, Kind::Repair), &live.mounts, &live.mounts);
        Some(Step::UpdateService { id: service.id.clone(), version: service.version, write })
    }
}
