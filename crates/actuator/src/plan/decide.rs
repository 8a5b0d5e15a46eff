//! What to do about a proxy service that is there.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use model::{Bundle, NetworkId};
use serde_json::Value;
use swarm::RawService;

use super::write::service_write;
use super::{Decision, Look, waits_for_the_first_target};
use crate::hold::Held;
use crate::live::Live;
use crate::memory::{Good, Memory, Recipe};
use crate::merge::merge;
use crate::rollout::{Judgement, Rollout};
use crate::spec::{Draft, Mounts, Owned};
use crate::status::Phase;
use crate::step::{Kind, ServiceWrite, Step};

impl Look<'_> {
    /// Writes holds and, if what failed is still the live spec, the last good forward: Swarm's own rollback
    /// cannot be relied on, since any update overwrites the spec that it would go back to.
    pub(super) fn hold(
        &self,
        service: &RawService,
        live: &Live,
        judgement: &Judgement,
        holds: Vec<(Held, Step)>,
        memory: &Memory,
    ) -> Decision {
        let phase = holds.first().map(|(held, _)| self.held_phase(held));
        let mut steps: Vec<Step> = holds.into_iter().map(|(_, step)| step).collect();
        if matches!(judgement, Judgement::Failed { .. }) {
            steps.extend(self.restore(service, live, memory));
        }
        Decision { steps, phase, ..Decision::default() }
    }

    /// Makes the proxy service, after a check where one is due. What the check refused is held as later generations
    /// are; another hold is no reason to serve nothing at all.
    pub(super) fn create(&self, bundle: &Bundle, memory: &mut Memory) -> Decision {
        let (steps, write) = match self.write(bundle, None, &self.owned) {
            Ok(written) => written,
            Err(impossible) => return Decision { phase: Some(impossible.into()), ..Decision::default() },
        };
        let held = self.bundle_hold(bundle.generation(), self.owned.digest).filter(|held| held.attempts > 0);
        if let Some(held) = held.filter(|_| self.is_due(&write, memory)) {
            return Decision { phase: Some(self.held_phase(held)), ..Decision::default() };
        }
        self.checked(None, steps, write, Step::CreateService, memory)
    }

    /// With the removal of a check that nobody minds, before anything else: what it mounts may be removed too.
    pub(super) fn swept(&self, mut decision: Decision, memory: &mut Memory) -> Decision {
        if !decision.minds_check {
            memory.check = None;
            decision.steps.splice(0..0, self.remove_check(memory));
        }
        decision
    }

    pub(super) fn restore(&self, service: &RawService, live: &Live, memory: &Memory) -> Option<Step> {
        let recipe = memory.good.as_ref()?.recipe.as_ref().filter(|recipe| recipe.attempt != live.attempt)?;
        let Recipe { attempt, mounts, applied } = recipe;
        let spec = lost_edit(service, live, memory);
        let draft = Draft {
            settings: self.settings,
            live: Some(spec.as_ref().unwrap_or(&service.spec)),
            applied: &live.applied.value,
            owned: if applied.value.is_null() { &live.applied } else { applied },
            mounts,
            generation: attempt.generation,
        };
        let reason = format!("back to the last good, as {} failed", live.attempt.generation.short());
        let write = service_write(draft.compose(), *attempt, (reason, Kind::TakeBack), &live.mounts, mounts);
        Some(Step::UpdateService { id: service.id.clone(), version: service.version, write })
    }

    pub(super) fn decide(
        &self,
        service: &RawService,
        live: &Live,
        judgement: &Judgement,
        effective: &Owned,
        memory: &mut Memory,
    ) -> Decision {
        if matches!(judgement, Judgement::Rolling { .. }) && !self.may_supersede(live, memory) {
            return Decision::default();
        }
        let Some(bundle) = self.bundle else { return waits_for_the_first_target() };
        let failed = matches!(judgement, Judgement::Failed { .. });
        let serves_it = *judgement == Judgement::Converged && bundle.generation() == live.attempt.generation;
        if let Some(held) = self.bundle_hold(bundle.generation(), effective.digest).filter(|_| !serves_it) {
            let restore =
                if failed { self.restore(service, live, memory) } else { self.told_again(service, live, judgement) };
            let steps = restore.map_or_else(
                || self.garbage(service, live, bundle, (judgement, effective), None, memory),
                |step| vec![step],
            );
            return Decision { steps, phase: Some(self.held_phase(held)), ..Decision::default() };
        }
        // Routes under the settings before those that are held take the place of what failed, as the last good does.
        let edited = lost_edit(service, live, memory).filter(|_| failed);
        let base = edited.map_or(Cow::Borrowed(service), |spec| Cow::Owned(RawService { spec, ..service.clone() }));
        let (steps, write) = match self.write(bundle, Some((&base, live)), effective) {
            Ok(written) => written,
            Err(impossible) => return Decision { phase: Some(impossible.into()), ..Decision::default() },
        };
        if write.spec == service.spec {
            memory.leaving = None;
            let garbage = || self.garbage(service, live, bundle, (judgement, effective), None, memory);
            let steps = self.told_again(service, live, judgement).map_or_else(garbage, |step| vec![step]);
            return Decision { steps, phase: self.settings_left_out(live, effective), ..Decision::default() };
        }
        let wanted = Mounts::read(&write.spec);
        if let Some(wait) = self.may_wait(live, &write, &wanted, memory) {
            let phase = Phase::Waiting { waits_for: "quiet, to leave a network that no route needs".into() };
            return Decision { phase: Some(phase), next: Some(wait), ..Decision::default() };
        }
        if let Some(wait) = self.proves_settings(live, &write, memory) {
            let waits_for = "the new settings to work for a while, lest routes are blamed for them".into();
            return Decision { phase: Some(Phase::Waiting { waits_for }), next: Some(wait), ..Decision::default() };
        }
        let update = |write| Step::UpdateService { id: service.id.clone(), version: service.version, write };
        let mut decision = self.checked(Some(live), steps, write, update, memory);
        if !decision.steps.is_empty() {
            // Else nothing would ever be removed while routes change more often than rollouts end.
            decision.steps.extend(self.garbage(service, live, bundle, (judgement, effective), Some(&wanted), memory));
        }
        decision
    }

    /// The live spec, written once more where Swarm does not go on by itself.
    fn told_again(&self, service: &RawService, live: &Live, judgement: &Judgement) -> Option<Step> {
        again(service, live, judgement).or_else(|| self.past(service, live, judgement))
    }

    /// Whether what is wanted by now may take the place of a rollout that runs: it has not moved for a whole
    /// deadline (it may be given more time than that before it is blamed), or for a quarter of it if it has worked
    /// before: then nothing is to be learnt from waiting. Swarm has been seen to leave a task of a rollback
    /// pending for a host port that nobody holds. New settings are waited for until they work or are blamed: under them newer
    /// routes would wait for the same, and each would begin the wait anew.
    fn may_supersede(&self, live: &Live, memory: &Memory) -> bool {
        let good = memory.good.as_ref();
        let proven = good.is_some_and(|good| good.is(live.attempt));
        let enough = if proven { self.settings.rollout_deadline / 4 } else { self.settings.rollout_deadline };
        let recipe = good.and_then(|good| good.recipe.as_ref());
        let new_settings = recipe.is_some_and(|recipe| recipe.attempt.settings != live.attempt.settings);
        let another = self.bundle.is_some_and(|bundle| bundle.generation() != live.attempt.generation);
        let still = |rollout: &Rollout| self.now.since(rollout.moved) > enough;
        another && !new_settings && memory.rollout.as_ref().is_some_and(still)
    }

    /// When to look again because the settings that the write is under have yet to prove themselves: if its proxies ended
    /// late, what is in it would be blamed.
    fn proves_settings(&self, live: &Live, write: &ServiceWrite, memory: &Memory) -> Option<Duration> {
        let soak = memory.soak.as_ref().filter(|_| write.attempt.settings == live.attempt.settings)?;
        let before = soak.before.recipe.as_ref()?;
        let left = self.settings.soak.saturating_sub(self.now.since(soak.since));
        // Meanwhile it is looked whether they do.
        (before.attempt.settings != live.attempt.settings).then(|| left.min(self.settings.poll_interval))
    }

    /// The settings to roll out: those that are wanted, unless they are held or cannot be applied.
    pub(super) fn effective(&self, live: &Live, good: Option<&Good>) -> Owned {
        if self.settings_hold(self.owned.digest).is_some() {
            let before = good.and_then(|good| good.recipe.as_ref()).map(|recipe| &recipe.applied);
            return match before {
                Some(before) if live.applied.digest == self.owned.digest => before.clone(),
                Some(_) | None => live.applied.clone(),
            };
        }
        if self.mode_changed() { live.applied.clone() } else { self.owned.clone() }
    }

    /// Swarm cannot make a replicated service global, nor the other way round.
    pub(super) fn mode_changed(&self) -> bool {
        let kind = |spec: &Value| spec["Mode"].as_object().and_then(|mode| mode.keys().next().cloned());
        self.inventory.service.as_ref().is_some_and(|service| kind(&service.spec) != kind(&self.owned.value))
    }

    /// The phase when routes are in step and the wanted settings are not applied.
    pub(super) fn settings_left_out(&self, live: &Live, effective: &Owned) -> Option<Phase> {
        if let Some(held) = self.settings_hold(self.owned.digest)
            && effective.digest != self.owned.digest
        {
            return Some(self.held_phase(held));
        }
        let name = &self.settings.proxy.service_name;
        (self.mode_changed() && live.applied.digest != self.owned.digest).then(|| Phase::Impossible {
            reason: "Swarm cannot change a service between replicated and global; the other settings wait with it"
                .into(),
            advice: format!("remove the service (docker service rm {name}), and it is made anew at once"),
        })
    }

    /// How long the write may wait because all it does is to leave networks; any other difference takes the
    /// leaving along at once.
    fn may_wait(&self, live: &Live, write: &ServiceWrite, wanted: &Mounts, memory: &mut Memory) -> Option<Duration> {
        let only_leaves = wanted.same_content(&live.mounts)
            && wanted.secrets == live.mounts.secrets
            && write.joins.is_empty()
            && !write.leaves.is_empty()
            && write.attempt.settings == live.attempt.settings;
        if !only_leaves {
            memory.leaving = None;
            return None;
        }
        let leaves: BTreeSet<NetworkId> = write.leaves.iter().cloned().collect();
        let since = match &memory.leaving {
            Some((same, since)) if *same == leaves => *since,
            Some(_) | None => {
                memory.leaving = Some((leaves, self.now));
                self.now
            }
        };
        let waited = self.now.since(since);
        let wait = self.settings.leave_quiet.checked_sub(waited).filter(|wait| !wait.is_zero());
        if wait.is_none() {
            memory.leaving = None;
        }
        wait
    }
}

/// The live spec with the edit that Swarm lost: somebody edited the service while our rollout was failing, and
/// Swarm then went back to the spec before the edit, which is the one that fails.
fn lost_edit(service: &RawService, live: &Live, memory: &Memory) -> Option<Value> {
    let rollout = memory.rollout.as_ref().filter(|rollout| rollout.attempt == live.attempt)?;
    let (written, edited) = (rollout.written.as_ref()?, rollout.edited.as_ref()?);
    Some(merge(written, &service.spec, edited))
}

/// The live spec, written once more: Swarm takes up again what it gave up on.
fn again(service: &RawService, live: &Live, judgement: &Judgement) -> Option<Step> {
    let Judgement::Halted { reason } = judgement else { return None };
    let reason = format!("told again: {reason}");
    let write = service_write(service.spec.clone(), live.attempt, (reason, Kind::Repair), &live.mounts, &live.mounts);
    Some(Step::UpdateService { id: service.id.clone(), version: service.version, write })
}
