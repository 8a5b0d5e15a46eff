//! Decides what to write next, and says how things stand. No client, no clock, no chance: the same inventory,
//! target and memory lead to the same plan, and the executor has nothing left to choose.
//!
//! The order within a plan is make before break: config objects first, then one update of the service that
//! points to them; objects are removed by a later plan, once the rollout has ended well. Every prefix of a plan
//! leaves the cluster serving what it served, or what it should serve.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{Bundle, ConfigId, Digest, Hold, Manifest, NetworkId, Published, Target};
use serde::Serialize;
use serde_json::Value;
use swarm::{NewConfig, RawService, UpdateState, limits};

use crate::hold::{Blame, Held};
use crate::inventory::Inventory;
use crate::live::{Attempt, Live, foreign};
use crate::memory::{Good, Memory, Recipe};
use crate::merge;
use crate::moment::Moment;
use crate::objects::{new_file, new_manifest_part};
use crate::rollout::{Circumstances, Judgement, Rollout, Tally, judge};
use crate::settings::Settings;
use crate::spec::{ConfigReference, Draft, Mounts, Owned, is_manifest_path, manifest_path};
use crate::status::{Ended, HoldStatus, Outcome, Phase, Status};
use crate::step::{ServiceWrite, Step};

/// What to do, and how things stand before it is done.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The writes, in their order. Empty: there is nothing to do now.
    pub steps: Vec<Step>,
    /// What is live.
    #[serde(skip)]
    pub published: Published,
    /// How things stand.
    pub status: Status,
    /// When to look again if nothing was written and nothing else calls.
    #[serde(skip)]
    pub next: Duration,
    /// What to remember until then.
    #[serde(skip)]
    pub memory: Memory,
    /// The rollout that was seen to end.
    #[serde(skip)]
    pub ended: Option<Ended>,
}

/// Plans the next writes.
pub fn plan(target: Option<&Target>, inventory: &Inventory, settings: &Settings, memory: &Memory, now: Moment) -> Plan {
    let bundle = target.map(|target| target.bundle.as_ref());
    let look = Look { bundle, inventory, settings, owned: Owned::of(settings), now };
    let Some(service) = &inventory.service else { return look.absent(memory) };
    if let Some(reason) = foreign(&service.spec, settings) {
        return look.foreign(service, reason);
    }
    match Live::read(&service.spec, &inventory.objects) {
        Ok(live) => look.present(service, &live, memory.clone()),
        Err(reason) => look.unreadable(service, reason, memory.clone()),
    }
}

/// Everything that one plan is made from, beside the memory.
struct Look<'a> {
    bundle: Option<&'a Bundle>,
    inventory: &'a Inventory,
    settings: &'a Settings,
    owned: Owned,
    now: Moment,
}

/// What failed.
#[derive(Clone, Debug)]
struct Failure {
    attempt: Attempt,
    reason: String,
    /// Somebody rolled it back although it worked.
    by_hand: bool,
}

/// What was decided for a live service.
#[derive(Default)]
struct Decision {
    steps: Vec<Step>,
    phase: Option<Phase>,
    next: Option<Duration>,
}

/// What cannot be brought about: why, and what to do.
struct Impossible {
    reason: String,
    advice: String,
}

impl From<Impossible> for Phase {
    fn from(Impossible { reason, advice }: Impossible) -> Self {
        Phase::Impossible { reason, advice }
    }
}

impl<'a> Look<'a> {
    // === Four kinds of cluster ===

    /// There is no proxy service: never was, or somebody removed it.
    fn absent(&self, memory: &Memory) -> Plan {
        let (steps, phase) = match self.bundle {
            None => (Vec::new(), Phase::Waiting { waits_for: "the first target".into() }),
            Some(bundle) => match self.write(bundle, None, &self.owned) {
                Ok((steps, write)) => {
                    let phase = Phase::Pending { reason: write.reason.clone() };
                    (steps.into_iter().chain([Step::CreateService(write)]).collect(), phase)
                }
                Err(impossible) => (Vec::new(), impossible.into()),
            },
        };
        Plan {
            steps,
            published: Published::Nothing,
            status: self.status(phase, None, memory, &self.owned),
            next: self.settings.poll_interval,
            memory: Memory { last: memory.last.clone(), ..Memory::default() },
            ended: None,
        }
    }

    fn foreign(&self, service: &RawService, reason: String) -> Plan {
        let name = &self.settings.proxy.service_name;
        let advice =
            format!("remove it (docker service rm {name}), or give the proxies of this cluster another service name");
        let memory = Memory::default();
        Plan {
            steps: Vec::new(),
            published: Published::Unknown { reason: reason.clone() },
            status: self.status(Phase::Foreign { reason, advice }, Some((service, None)), &memory, &self.owned),
            next: self.settings.poll_interval,
            memory,
            ended: None,
        }
    }

    fn unreadable(&self, service: &RawService, reason: String, memory: Memory) -> Plan {
        let name = &self.settings.proxy.service_name;
        let advice = format!(
            "run the version of Dovetail that wrote it, or undo the edit (docker service rollback {name}); \
             as a last resort remove the service (docker service rm {name}), and it is made anew"
        );
        Plan {
            steps: Vec::new(),
            published: Published::Unknown { reason: reason.clone() },
            status: self.status(Phase::Unreadable { reason, advice }, Some((service, None)), &memory, &self.owned),
            next: self.settings.poll_interval,
            memory,
            ended: None,
        }
    }

    fn present(&self, service: &RawService, live: &Live, mut memory: Memory) -> Plan {
        let mut ended = None;
        let withdrawn = self.withdrawn(service, live, &memory);
        if withdrawn.is_some() {
            ended = memory.rollout.take().and_then(|rollout| self.end(&rollout, Outcome::Failed));
            memory.settled = None;
            if !self.holds_attempt(live.attempt) {
                memory.good = Some(Good::of(live));
            }
        } else if let Some(rollout) = memory.rollout.take_if(|rollout| rollout.attempt != live.attempt) {
            ended = self.end(&rollout, Outcome::Superseded);
        }
        if memory.good.is_none() {
            memory.good = self.guess_good(service, live);
        }

        let (judgement, tally) = self.judge(service, live, &mut memory);
        let failure = withdrawn.or_else(|| match &judgement {
            Judgement::Failed { reason } => {
                Some(Failure { attempt: live.attempt, reason: reason.clone(), by_hand: false })
            }
            Judgement::Converged | Judgement::Rolling { .. } | Judgement::Blocked { .. } | Judgement::Halted { .. } => {
                None
            }
        });
        let holds = failure.map(|failure| self.new_holds(&failure, live, memory.good.as_ref())).unwrap_or_default();
        if !holds.is_empty()
            && matches!(judgement, Judgement::Failed { .. })
            && let Some(rollout) = &mut memory.rollout
        {
            ended = self.end(rollout, Outcome::Failed);
            rollout.over = true;
        }
        if judgement == Judgement::Converged {
            if let Some(rollout) = memory.rollout.take().filter(|rollout| rollout.ours || rollout.since < self.now) {
                ended = self.end(&rollout, Outcome::Completed);
            }
            if memory.settled.replace(service.version) != Some(service.version) {
                memory.in_use.clear();
            }
            memory.good = Some(Good::of(live));
        }

        let effective = self.effective(live, memory.good.as_ref());
        let mut decision = if holds.is_empty() {
            self.decide(service, live, &judgement, &effective, &mut memory)
        } else {
            self.hold(service, live, &judgement, holds, memory.good.as_ref())
        };
        let phase = decision.phase.take().unwrap_or_else(|| self.phase_of(live, &judgement, &tally, &memory));
        if ended.is_some() {
            memory.last.clone_from(&ended);
        }
        let next = decision.next.unwrap_or(match judgement {
            Judgement::Rolling { .. } => self.settings.rollout_poll,
            Judgement::Converged | Judgement::Blocked { .. } | Judgement::Halted { .. } | Judgement::Failed { .. } => {
                self.settings.poll_interval
            }
        });
        Plan {
            steps: decision.steps,
            published: self.published(live, &memory, &effective),
            status: self.status(phase, Some((service, Some(live))), &memory, &effective),
            next,
            memory,
            ended,
        }
    }

    // === What happened ===

    /// What was rolled back since the last look, by Swarm or by somebody.
    fn withdrawn(&self, service: &RawService, live: &Live, memory: &Memory) -> Option<Failure> {
        let update = service.update.as_ref()?;
        match update.state {
            UpdateState::RollbackStarted | UpdateState::RollbackCompleted | UpdateState::RollbackPaused => {}
            UpdateState::Updating | UpdateState::Paused | UpdateState::Completed => return None,
        }
        let by_swarm = |attempt| Failure { attempt, reason: rolled_back(&update.message), by_hand: false };
        let by_hand = |attempt| Failure { attempt, reason: "rolled back by hand".into(), by_hand: true };
        if let Some(rollout) = &memory.rollout {
            return (rollout.attempt != live.attempt).then(|| by_swarm(rollout.attempt));
        }
        if let Some(recipe) = memory.good.as_ref().and_then(|good| good.recipe.as_ref()) {
            let was_at_rest = memory.settled.is_some();
            return (was_at_rest && recipe.attempt != live.attempt).then(|| by_hand(recipe.attempt));
        }
        // A fresh memory. Swarm's own rollback leaves no previous spec; `docker service rollback` leaves the one
        // that it took back.
        let previous = service.previous_spec.as_ref().and_then(|spec| Live::read(spec, &self.inventory.objects).ok());
        if let Some(previous) = previous.filter(|previous| previous.attempt != live.attempt) {
            return (!self.was_held(previous.attempt)).then(|| by_hand(previous.attempt));
        }
        let target = Attempt { generation: self.bundle?.generation(), settings: self.owned.digest };
        let tried = target.generation != live.attempt.generation && self.has_tasks_of(target.generation);
        (tried && !self.was_held(target)).then(|| by_swarm(target))
    }

    /// Whether any task, dead or alive, was made from this generation.
    fn has_tasks_of(&self, generation: Digest) -> bool {
        self.inventory.tasks.iter().flatten().any(|task| {
            let mounts = Mounts::read(&serde_json::json!({"TaskTemplate": *task.spec}));
            let manifest = mounts.files.iter().filter(|(path, _)| is_manifest_path(path));
            let ids: Vec<ConfigId> = manifest.filter_map(|(_, reference)| reference.id.clone()).collect();
            self.inventory.objects.generation_of(&ids) == Some(generation)
        })
    }

    fn judge(&self, service: &RawService, live: &Live, memory: &mut Memory) -> (Judgement, Tally) {
        if memory.settled == Some(service.version) {
            return (Judgement::Converged, Tally::default());
        }
        let Some(tasks) = &self.inventory.tasks else {
            return (Judgement::Rolling { waits_for: "a look at the tasks".into() }, Tally::default());
        };
        let tally = Tally::of(&service.spec, tasks);
        let found = || Rollout::new(live.attempt, &service.spec, "found under way".into(), false, self.now);
        let rollout = memory.rollout.get_or_insert_with(found);
        rollout.note(&service.spec, &tally, self.now);
        let circumstances = Circumstances {
            proven: memory.good.as_ref().is_some_and(|good| good.is(live.attempt)),
            held: self.holds_attempt(live.attempt),
        };
        let judgement = judge(service, &tally, rollout, circumstances, self.settings, self.now);
        (judgement, tally)
    }

    /// What to take for the last good while a rollout runs that a fresh process found.
    fn guess_good(&self, service: &RawService, live: &Live) -> Option<Good> {
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

    fn end(&self, rollout: &Rollout, outcome: Outcome) -> Option<Ended> {
        Ended::of(rollout, outcome, self.now)
    }

    // === Holds ===

    fn in_force(&self, held: &Held, settings: &str) -> bool {
        held.in_force(settings, self.settings.hold_retry, self.now)
    }

    /// The hold on a generation under these settings.
    fn bundle_hold(&self, generation: Digest, settings: Digest) -> Option<&'a Held> {
        let held = self.inventory.objects.generations().get(&generation)?.held.as_ref()?;
        (held.blame == Blame::Bundle && self.in_force(held, &settings.short())).then_some(held)
    }

    /// The hold on these settings.
    fn settings_hold(&self, settings: Digest) -> Option<&'a Held> {
        let held = self.inventory.objects.held();
        held.filter(|held| held.blame == Blame::Settings).find(|held| self.in_force(held, &settings.short()))
    }

    fn holds_attempt(&self, attempt: Attempt) -> bool {
        self.bundle_hold(attempt.generation, attempt.settings).is_some()
            || self.settings_hold(attempt.settings).is_some()
    }

    /// Whether it was ever written down that this attempt failed, in force or not.
    fn was_held(&self, attempt: Attempt) -> bool {
        self.inventory.objects.held().any(|held| {
            held.settings == attempt.settings_name()
                && (held.blame == Blame::Settings || held.generation == attempt.generation)
        })
    }

    /// The holds to write for a failure. If the settings changed too, they are blamed first: the same routes
    /// are tried again under the settings that worked, and are blamed if they fail then.
    fn new_holds(&self, failure: &Failure, live: &Live, good: Option<&Good>) -> Vec<(Held, Step)> {
        let recipe = good.and_then(|good| good.recipe.as_ref());
        let base = if failure.by_hand { Some(live.attempt) } else { recipe.map(|recipe| recipe.attempt) };
        let settings_changed = base.filter(|base| base.settings != failure.attempt.settings);
        let routes_changed = base.is_none_or(|base| base.generation != failure.attempt.generation);
        let mut holds = Vec::new();
        if let Some(base) = settings_changed {
            holds.push((Blame::Settings, Attempt { generation: base.generation, ..failure.attempt }));
        }
        if routes_changed && (settings_changed.is_none() || failure.by_hand) {
            // Under the settings that stand, lest the same routes come back under those.
            let settings = settings_changed.unwrap_or(failure.attempt).settings;
            holds.push((Blame::Bundle, Attempt { settings, ..failure.attempt }));
        }
        holds.into_iter().filter_map(|(blame, on)| self.new_hold(failure, blame, on)).collect()
    }

    fn new_hold(&self, failure: &Failure, blame: Blame, on: Attempt) -> Option<(Held, Step)> {
        let objects = &self.inventory.objects;
        let (generation, settings) = (on.generation, on.settings_name());
        let before = objects.held().find(|held| {
            held.blame == blame
                && held.settings == settings
                && (blame == Blame::Settings || held.generation == generation)
        });
        if before.is_some_and(|held| self.in_force(held, &settings)) {
            return None;
        }
        let id = match before {
            Some(held) => &held.config,
            None => objects.generations().get(&generation)?.parts.first()?,
        };
        let config = objects.get(id)?;
        let held = Held {
            generation: before.map_or(generation, |held| held.generation),
            config: id.clone(),
            blame,
            settings,
            reason: failure.reason.clone(),
            since: self.now.seconds(),
            attempts: if failure.by_hand { 0 } else { before.map_or(1, |held| held.attempts.saturating_add(1)) },
        };
        let labelled = swarm::Config { labels: held.write(config), ..config.clone() };
        let step = Step::HoldGeneration {
            config: labelled,
            generation: failure.attempt.generation,
            reason: held.reason.clone(),
        };
        Some((held, step))
    }

    // === What to do ===

    /// Writes holds and, if what failed is still the live spec, the last good forward: Swarm's own rollback
    /// cannot be relied on, since any update overwrites the spec that it would go back to.
    fn hold(
        &self,
        service: &RawService,
        live: &Live,
        judgement: &Judgement,
        holds: Vec<(Held, Step)>,
        good: Option<&Good>,
    ) -> Decision {
        let phase = holds.first().map(|(held, _)| self.held_phase(held));
        let mut steps: Vec<Step> = holds.into_iter().map(|(_, step)| step).collect();
        if matches!(judgement, Judgement::Failed { .. }) {
            steps.extend(self.restore(service, live, good));
        }
        Decision { steps, phase, next: None }
    }

    fn restore(&self, service: &RawService, live: &Live, good: Option<&Good>) -> Option<Step> {
        let recipe = good?.recipe.as_ref().filter(|recipe| recipe.attempt != live.attempt)?;
        let Recipe { attempt, mounts, applied } = recipe;
        let draft = Draft {
            settings: self.settings,
            live: Some(&service.spec),
            applied: &live.applied.value,
            owned: if applied.value.is_null() { &live.applied } else { applied },
            mounts,
            generation: attempt.generation,
        };
        let reason = format!("back to the last good, as {} failed", live.attempt.generation.short());
        let write = service_write(draft.compose(), *attempt, reason, &live.mounts, mounts);
        Some(Step::UpdateService { id: service.id.clone(), version: service.version, write })
    }

    fn decide(
        &self,
        service: &RawService,
        live: &Live,
        judgement: &Judgement,
        effective: &Owned,
        memory: &mut Memory,
    ) -> Decision {
        if matches!(judgement, Judgement::Rolling { .. }) {
            return Decision::default();
        }
        let Some(bundle) = self.bundle else {
            return Decision {
                phase: Some(Phase::Waiting { waits_for: "the first target".into() }),
                ..Decision::default()
            };
        };
        let serves_it = *judgement == Judgement::Converged && bundle.generation() == live.attempt.generation;
        if let Some(held) = self.bundle_hold(bundle.generation(), effective.digest).filter(|_| !serves_it) {
            let failed = matches!(judgement, Judgement::Failed { .. });
            let restore = if failed {
                self.restore(service, live, memory.good.as_ref())
            } else {
                again(service, live, judgement)
            };
            let steps =
                restore.map_or_else(|| self.garbage(service, live, bundle, judgement, memory), |step| vec![step]);
            return Decision { steps, phase: Some(self.held_phase(held)), next: None };
        }
        let (mut steps, write) = match self.write(bundle, Some((service, live)), effective) {
            Ok(written) => written,
            Err(impossible) => return Decision { phase: Some(impossible.into()), ..Decision::default() },
        };
        if write.spec == service.spec {
            memory.leaving = None;
            let garbage = || self.garbage(service, live, bundle, judgement, memory);
            let steps = again(service, live, judgement).map_or_else(garbage, |step| vec![step]);
            return Decision { steps, phase: self.settings_left_out(live, effective), next: None };
        }
        if let Some(wait) = self.may_wait(live, &write, memory) {
            let phase = Phase::Waiting { waits_for: "quiet, to leave a network that no route needs".into() };
            return Decision { steps: Vec::new(), phase: Some(phase), next: Some(wait) };
        }
        let phase = Phase::Pending { reason: write.reason.clone() };
        steps.push(Step::UpdateService { id: service.id.clone(), version: service.version, write });
        Decision { steps, phase: Some(phase), next: None }
    }

    /// The settings to roll out: those that are wanted, unless they are held or cannot be applied.
    fn effective(&self, live: &Live, good: Option<&Good>) -> Owned {
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
    fn mode_changed(&self) -> bool {
        let kind = |spec: &Value| spec["Mode"].as_object().and_then(|mode| mode.keys().next().cloned());
        self.inventory.service.as_ref().is_some_and(|service| kind(&service.spec) != kind(&self.owned.value))
    }

    /// The phase when routes are in step and the wanted settings are not applied.
    fn settings_left_out(&self, live: &Live, effective: &Owned) -> Option<Phase> {
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

    /// The objects to create and the spec to write for a bundle.
    fn write(
        &self,
        bundle: &Bundle,
        present: Option<(&RawService, &Live)>,
        owned: &Owned,
    ) -> Result<(Vec<Step>, ServiceWrite), Impossible> {
        let live = present.map(|(_, live)| live);
        let (mounts, steps) = self.mounts(bundle, live)?;
        let draft = Draft {
            settings: self.settings,
            live: present.map(|(service, _)| &service.spec),
            applied: live.map_or(&Value::Null, |live| &live.applied.value),
            owned,
            mounts: &mounts,
            generation: bundle.generation(),
        };
        let attempt = Attempt { generation: bundle.generation(), settings: owned.digest };
        let nothing = Mounts::default();
        let before = live.map_or(&nothing, |live| &live.mounts);
        Ok((steps, service_write(draft.compose(), attempt, why(bundle, live, owned), before, &mounts)))
    }

    fn mounts(&self, bundle: &Bundle, live: Option<&Live>) -> Result<(Mounts, Vec<Step>), Impossible> {
        let generation = bundle.generation();
        let mut mounts = Mounts {
            networks: match &self.inventory.networks {
                Ok(None) => bundle.networks.clone(),
                Ok(Some(fixed)) => fixed.clone(),
                Err(missing) => return Err(self.no_network(missing)),
            },
            secrets: bundle.secrets.clone(),
            ..Mounts::default()
        };
        let mut wanted: Vec<(String, NewConfig)> = Vec::new();
        for (path, file) in &bundle.files {
            wanted.push((path.clone(), new_file(self.settings, &file.content, file.digest)));
        }
        let mounted = live.filter(|live| live.attempt.generation == generation).map(|live| &live.mounts.files);
        let parts: Vec<_> = mounted.into_iter().flatten().filter(|(path, _)| is_manifest_path(path)).collect();
        if parts.is_empty() {
            // One manifest per generation: the reasons in it are those of the first time.
            let stored = self.inventory.objects.generations().get(&generation);
            let manifest = stored.and_then(|stored| stored.manifest.as_ref()).unwrap_or(&bundle.manifest);
            for (part, content) in manifest.write() {
                wanted.push((manifest_path(&part), new_manifest_part(self.settings, content, generation)));
            }
        } else {
            mounts.files.extend(parts.into_iter().map(|(path, reference)| (path.clone(), reference.clone())));
        }
        let mut steps = Vec::new();
        let mut created = BTreeSet::new();
        for (path, config) in wanted {
            check_size(&path, &config)?;
            let existing = self.inventory.objects.same_as(&config).map_err(|taken| Impossible {
                reason: taken.to_string(),
                advice: format!("find out who made it (docker config inspect {}), and remove it", config.name),
            })?;
            let reference = ConfigReference { name: config.name.clone(), id: existing.map(|config| config.id.clone()) };
            if existing.is_none() && created.insert(config.name.clone()) {
                steps.push(Step::CreateConfig(config));
            }
            mounts.files.insert(path, reference);
        }
        Ok((mounts, steps))
    }

    fn no_network(&self, missing: &str) -> Impossible {
        Impossible {
            reason: format!("the network {missing}, which the settings name, does not exist"),
            advice: format!("create it (docker network create -d overlay {missing}), or name another"),
        }
    }

    /// How long the write may wait because all it does is to leave networks; any other difference takes the
    /// leaving along at once.
    fn may_wait(&self, live: &Live, write: &ServiceWrite, memory: &mut Memory) -> Option<Duration> {
        let wanted = Mounts::read(&write.spec);
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

    /// What nothing needs any more. Kept: what the live spec, the spec before it or the target refers to, the
    /// last good, and the manifests of what is held. Nothing is removed before the rollout has ended well.
    fn garbage(
        &self,
        service: &RawService,
        live: &Live,
        bundle: &Bundle,
        judgement: &Judgement,
        memory: &Memory,
    ) -> Vec<Step> {
        if *judgement != Judgement::Converged {
            return Vec::new();
        }
        let objects = &self.inventory.objects;
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let previous = service.previous_spec.as_ref().map(Mounts::read).unwrap_or_default();
        let good = memory.good.as_ref();
        let recipe = good.and_then(|good| good.recipe.as_ref()).map(|recipe| &recipe.mounts);
        for mounts in [Some(&live.mounts), Some(&previous), recipe].into_iter().flatten() {
            names.extend(mounts.files.values().map(|reference| reference.name.as_str()));
        }
        let files: Vec<NewConfig> =
            bundle.files.values().map(|file| new_file(self.settings, &file.content, file.digest)).collect();
        names.extend(files.iter().map(|file| file.name.as_str()));
        let mut ids: BTreeSet<&ConfigId> = memory.in_use.iter().collect();
        for (generation, stored) in objects.generations() {
            let wanted =
                *generation == bundle.generation() || good.is_some_and(|good| good.generation() == *generation);
            let held = stored.held.as_ref().is_some_and(|held| self.in_force(held, &held.settings));
            if wanted || held {
                ids.extend(&stored.parts);
            }
        }
        let unneeded =
            objects.iter().filter(|config| !names.contains(config.name.as_str()) && !ids.contains(&config.id));
        unneeded.map(|config| Step::RemoveConfig { id: config.id.clone(), name: config.name.clone() }).collect()
    }

    // === What to say ===

    fn published(&self, live: &Live, memory: &Memory, effective: &Owned) -> Published {
        let last_good = match &memory.good {
            Some(good) => Arc::clone(&good.manifest),
            None => Arc::new(self.nothing()),
        };
        let generations = self.inventory.objects.generations();
        let holds = generations.iter().filter(|(generation, _)| **generation != last_good.generation);
        let holds = holds.filter_map(|(generation, stored)| {
            let held = self.bundle_hold(*generation, effective.digest)?;
            let services = stored.manifest.as_ref().map(|manifest| &manifest.services);
            let fragments = services.into_iter().flatten().map(|(id, publication)| (id.clone(), publication.fragment));
            Some(Hold { generation: *generation, fragments: fragments.collect(), reason: held.reason.clone() })
        });
        Published::Live { manifest: Arc::clone(&live.manifest), holds: holds.collect(), last_good }
    }

    /// The last good of a proxy service whose first rollout has not ended yet.
    fn nothing(&self) -> Manifest {
        Manifest {
            cluster: self.settings.cluster.clone(),
            generation: Bundle::digest(&Default::default(), &Default::default(), &Default::default()),
            reason: "nothing was published before".into(),
            services: Default::default(),
        }
    }

    fn phase_of(&self, live: &Live, judgement: &Judgement, tally: &Tally, memory: &Memory) -> Phase {
        let generation = live.attempt.generation;
        let (tasks_done, tasks_total) = (tally.progress.done, tally.total);
        match judgement {
            Judgement::Converged => Phase::InStep,
            Judgement::Rolling { waits_for } => {
                let rollout = memory.rollout.as_ref();
                Phase::Rolling {
                    generation,
                    seconds: rollout.map_or(0, |rollout| self.now.since(rollout.since).as_secs()),
                    tasks_done,
                    tasks_total,
                    reason: rollout.map(|rollout| rollout.reason.clone()).unwrap_or_default(),
                    waits_for: waits_for.clone(),
                }
            }
            Judgement::Blocked { waits_for }
            | Judgement::Halted { reason: waits_for }
            | Judgement::Failed { reason: waits_for } => {
                let name = &self.settings.proxy.service_name;
                let advice = format!("see docker service ps --no-trunc {name}");
                Phase::Blocked { generation, tasks_done, tasks_total, waits_for: waits_for.clone(), advice }
            }
        }
    }

    fn held_phase(&self, held: &Held) -> Phase {
        let cluster = &self.settings.cluster;
        Phase::Held {
            blame: held.blame,
            generation: held.generation,
            reason: held.reason.clone(),
            retry_in_seconds: held.wait(self.settings.hold_retry, self.now).map(|wait| wait.as_secs()),
            advice: match held.blame {
                Blame::Bundle => {
                    format!(
                        "put right what the reason names; a changed route or image is tried at once, the same again with: dovetail retry {cluster}"
                    )
                }
                Blame::Settings => {
                    format!(
                        "put the proxy's settings right, the image above all; the same are tried again with: dovetail retry {cluster}"
                    )
                }
            },
        }
    }

    fn status(
        &self,
        phase: Phase,
        present: Option<(&RawService, Option<&Live>)>,
        memory: &Memory,
        effective: &Owned,
    ) -> Status {
        let live = present.and_then(|(_, live)| live);
        let wanted = [effective.digest.short(), self.owned.digest.short()];
        let held = self.inventory.objects.held().filter(|held| wanted.iter().any(|name| self.in_force(held, name)));
        Status {
            cluster: self.settings.cluster.clone(),
            service: self.settings.proxy.service_name.clone(),
            phase,
            live: live.map(|live| live.attempt.generation),
            target: self.bundle.map(Bundle::generation),
            networks: live.map(|live| live.mounts.networks.clone()).unwrap_or_default(),
            image: present.and_then(|(service, _)| {
                service.spec.pointer("/TaskTemplate/ContainerSpec/Image")?.as_str().map(str::to_owned)
            }),
            holds: held
                .map(|held| HoldStatus {
                    generation: held.generation,
                    blame: held.blame,
                    reason: held.reason.clone(),
                    attempts: held.attempts,
                    retry_in_seconds: held.wait(self.settings.hold_retry, self.now).map(|wait| wait.as_secs()),
                })
                .collect(),
            last_rollout: memory.last.clone(),
            trouble: None,
        }
    }
}

/// The live spec, written once more: Swarm takes up again what it gave up on.
fn again(service: &RawService, live: &Live, judgement: &Judgement) -> Option<Step> {
    let Judgement::Halted { reason } = judgement else { return None };
    let reason = format!("told again: {reason}");
    let write = service_write(service.spec.clone(), live.attempt, reason, &live.mounts, &live.mounts);
    Some(Step::UpdateService { id: service.id.clone(), version: service.version, write })
}

fn rolled_back(message: &str) -> String {
    if message.is_empty() {
        "Swarm rolled the update back".into()
    } else {
        format!("Swarm rolled the update back: {message}")
    }
}

/// Why this is written, for people.
fn why(bundle: &Bundle, live: Option<&Live>, owned: &Owned) -> String {
    let Some(live) = live else { return bundle.manifest.reason.clone() };
    let mut reasons = Vec::new();
    if bundle.generation() != live.attempt.generation {
        reasons.push(bundle.manifest.reason.clone());
    }
    let changed = merge::differences(&live.applied.value, &owned.value);
    if live.applied.value.is_null() {
        reasons.push("settings written anew: what was applied before is not known".into());
    } else if !changed.is_empty() {
        reasons.push(format!("settings changed: {}", changed.join(", ")));
    }
    if reasons.is_empty() {
        reasons.push("the service was edited by hand".into());
    }
    reasons.join("; ")
}

fn service_write(spec: Value, attempt: Attempt, reason: String, before: &Mounts, after: &Mounts) -> ServiceWrite {
    ServiceWrite {
        spec,
        attempt,
        reason,
        joins: after.networks.difference(&before.networks).cloned().collect(),
        leaves: before.networks.difference(&after.networks).cloned().collect(),
    }
}

fn check_size(path: &str, config: &NewConfig) -> Result<(), Impossible> {
    if (1..=limits::CONFIG_BYTES).contains(&config.data.len()) {
        return Ok(());
    }
    Err(Impossible {
        reason: format!("the file {path} has {} bytes, 1 to {} are possible", config.data.len(), limits::CONFIG_BYTES),
        advice: "this is a fault of Dovetail: please report it".into(),
    })
}
