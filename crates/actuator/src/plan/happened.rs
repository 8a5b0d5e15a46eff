//! What happened since the last look: what was rolled back, how the rollout goes, what to take for good.

use std::sync::Arc;

use model::{ConfigId, Digest};
use swarm::{RawService, Task, TaskState};

use super::write::kind_of;
use super::{Failure, Look};
use crate::hold::Blame;
use crate::live::{Attempt, Live};
use crate::memory::{Good, Memory, Refused, Soak};
use crate::rollout::{Circumstances, Judgement, Rollout, judge, went_back};
use crate::spec::{Mounts, is_manifest_path};
use crate::status::{Ended, Outcome};
use crate::step::Kind;
use crate::tally::{Tally, keeps_failing};

impl Look<'_> {
    /// What the Engine refused to write twice, until that is written down: from then on the hold says when it is due again.
    /// The last good is not held for it.
    pub(super) fn refused(&self, live: &Live, memory: &mut Memory) -> Option<Failure> {
        let Memory { refused, good, .. } = memory;
        let has_worked = |attempt| attempt == live.attempt || good.as_ref().is_some_and(|good| good.is(attempt));
        refused.take_if(|refused| has_worked(refused.attempt) || self.holds_attempt(refused.attempt));
        let Refused { attempt, reason, .. } = refused.as_ref().filter(|refused| refused.again)?;
        Some(Failure::new(*attempt, format!("the Engine refuses it: {reason}")))
    }

    /// What was rolled back since the last look, by Swarm or by somebody.
    pub(super) fn withdrawn(&self, service: &RawService, live: &Live, memory: &Memory) -> Option<Failure> {
        let update = service.update.as_ref().filter(|_| went_back(service))?;
        let by_swarm = |attempt| self.rolled_back(attempt, &update.message);
        let by_hand = |attempt| Failure { by_hand: true, ..Failure::new(attempt, "rolled back by hand".into()) };
        // Swarm's own rollback leaves no previous spec; `docker service rollback` leaves the one that it took back.
        let objects = &self.inventory.objects;
        let previous = service.previous_spec.as_ref().and_then(|spec| Live::read(spec, objects).ok());
        let previous = previous.map(|previous| previous.attempt).filter(|previous| *previous != live.attempt);
        if let Some(rollout) = &memory.rollout {
            let undone = previous == Some(rollout.attempt);
            let failure = if undone { by_hand(rollout.attempt) } else { by_swarm(rollout.attempt) };
            return (rollout.attempt != live.attempt).then_some(failure);
        }
        if let Some(recipe) = memory.good.as_ref().and_then(|good| good.recipe.as_ref()) {
            let was_at_rest = memory.settled.is_some();
            return (was_at_rest && recipe.attempt != live.attempt).then(|| by_hand(recipe.attempt));
        }
        // A fresh memory.
        if let Some(previous) = previous {
            return (!self.was_held(previous)).then(|| by_hand(previous));
        }
        let target = Attempt { generation: self.bundle?.generation(), settings: self.owned.digest };
        let tried = target.generation != live.attempt.generation && self.has_tasks_of(target.generation);
        (tried && !self.was_held(target)).then(|| by_swarm(target))
    }

    /// What Swarm rolled back. It names the task that ended, and not why.
    fn rolled_back(&self, attempt: Attempt, message: &str) -> Failure {
        let ended = self.tasks_of(attempt.generation).filter(|task| task.state.ended_by_itself());
        let task = ended.max_by_key(|task| (message.contains(task.id.as_str()), task.created_at));
        let mut reason = match message.strip_prefix("update rolled back ") {
            Some(why) => format!("Swarm rolled the update back {why}"),
            None if message.is_empty() => "Swarm rolled the update back".into(),
            None => format!("Swarm rolled the update back: {message}"),
        };
        if let Some(task) = task {
            let error = task.error.as_deref().unwrap_or("it ended by itself");
            reason = format!("{reason}: {error}; node {}", task.node);
        }
        let rejected = task.is_some_and(|task| task.state == TaskState::Rejected);
        Failure { rejected, ..Failure::new(attempt, reason) }
    }

    /// Whether any task, dead or alive, was made from this generation.
    pub(super) fn has_tasks_of(&self, generation: Digest) -> bool {
        self.tasks_of(generation).next().is_some()
    }

    fn tasks_of(&self, generation: Digest) -> impl Iterator<Item = &Task> {
        self.inventory.tasks.iter().flatten().filter(move |task| {
            let mounts = Mounts::read(&serde_json::json!({"TaskTemplate": *task.spec}));
            let manifest = mounts.files.iter().filter(|(path, _)| is_manifest_path(path));
            let ids: Vec<ConfigId> = manifest.filter_map(|(_, reference)| reference.id.clone()).collect();
            self.inventory.objects.generation_of(&ids) == Some(generation)
        })
    }

    pub(super) fn judge(&self, service: &RawService, live: &Live, memory: &mut Memory) -> (Judgement, Tally) {
        if let Some(reason) = self.soured(service, memory) {
            let soak = memory.soak.take();
            let good = soak.map(|soak| soak.before);
            let kind = self.found_kind(live, good.as_ref());
            let mut rollout = Rollout::found(live.attempt, &service.spec, kind, self.now);
            if let Some(last) = memory.last.as_ref().filter(|last| last.generation == live.attempt.generation) {
                rollout.reason.clone_from(&last.reason);
            }
            memory.rollout = Some(rollout);
            memory.good = good;
            memory.settled = None;
            return (Judgement::Failed { reason }, Tally::default());
        }
        if memory.settled == Some(service.version) {
            return (Judgement::Converged, Tally::default());
        }
        let Some(tasks) = &self.inventory.tasks else {
            return (Judgement::Rolling { waits_for: "a look at the tasks".into() }, Tally::default());
        };
        let tally = Tally::of(&service.spec, tasks);
        let kind = self.found_kind(live, memory.good.as_ref());
        let found = || Rollout::found(live.attempt, &service.spec, kind, self.now);
        let rollout = memory.rollout.get_or_insert_with(found);
        rollout.note(service, &tally, self.settings, self.now);
        let circumstances = Circumstances {
            proven: memory.good.as_ref().is_some_and(|good| good.is(live.attempt)),
            held: self.holds_attempt(live.attempt),
        };
        let judgement = judge(service, &tally, rollout, circumstances, self.settings, self.now);
        (judgement, tally)
    }

    /// A rollout of ours that Swarm called complete is watched for a while: a proxy that exits after Swarm's own
    /// watch is a failure too. The first generation is not: there is nothing to go back to.
    pub(super) fn begin_soak(&self, live: &Live, rollout: &Rollout, before: Option<&Good>) -> Option<Soak> {
        let before = before.filter(|good| good.recipe.is_some() && !good.is(live.attempt))?;
        let tasks = self.inventory.tasks.as_ref().filter(|_| rollout.ours && !self.settings.soak.is_zero())?;
        let ended = tasks.iter().filter(|task| task.state.ended_by_itself()).map(|task| task.id.clone()).collect();
        Some(Soak { attempt: live.attempt, before: before.clone(), since: self.now, ended, failures: 0 })
    }

    /// Why what Swarm called complete failed after all, if it did.
    fn soured(&self, service: &RawService, memory: &mut Memory) -> Option<String> {
        let (soak, tasks) = (memory.soak.as_mut()?, self.inventory.tasks.as_ref()?);
        let failures =
            tasks.iter().filter(|task| task.state.ended_by_itself() && !soak.ended.contains(&task.id)).count();
        if failures > soak.failures {
            // It is watched for as long again: a proxy that ends every 20 s is found in 30 s too.
            (soak.failures, soak.since) = (failures, self.now);
        }
        let error = keeps_failing(&service.spec, tasks, &soak.ended)?;
        Some(format!("its proxies end after the rollout was complete: {error}"))
    }

    fn found_kind(&self, live: &Live, good: Option<&Good>) -> Kind {
        let recipe = good.and_then(|good| Some((good.recipe.as_ref()?, &good.manifest)));
        let from = recipe.map(|(recipe, manifest)| (recipe.attempt, &recipe.mounts, &**manifest));
        kind_of(from, (live.attempt, &live.mounts, &*live.manifest))
    }

    /// What to take for the last good while a rollout runs that a fresh process found: what was gone back to and serves,
    /// else what was before. What this process has begun it knows better.
    pub(super) fn guess_good(&self, service: &RawService, live: &Live, memory: &Memory) -> Option<Good> {
        let serves = |tasks: &Vec<Task>| Tally::of(&service.spec, tasks).done > 0;
        let found = memory.rollout.is_none() && self.inventory.tasks.as_ref().is_some_and(serves);
        if found && went_back(service) && !self.holds_attempt(live.attempt) {
            return Some(Good::of(live));
        }
        let objects = &self.inventory.objects;
        let previous = service.previous_spec.as_ref().and_then(|spec| Live::read(spec, objects).ok());
        if let Some(previous) = previous
            && previous.attempt != live.attempt
            && !self.holds_attempt(previous.attempt)
        {
            return Some(Good::of(&previous));
        }
        let others = objects.generations().iter().filter(|(generation, stored)| {
            **generation != live.attempt.generation
                && !stored.held.as_ref().is_some_and(|held| held.blame == Blame::Bundle)
        });
        let newest = others.filter_map(|(_, stored)| Some((stored.created_at, stored.manifest.as_ref()?)));
        let manifest = newest.max_by_key(|(created_at, manifest)| (*created_at, manifest.generation))?.1;
        Some(Good { manifest: Arc::clone(manifest), recipe: None })
    }

    pub(super) fn end(&self, rollout: &Rollout, outcome: Outcome) -> Option<Ended> {
        Ended::of(rollout, outcome, self.now)
    }
}
