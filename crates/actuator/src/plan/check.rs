//! Whether something is checked before it is written, and what comes of it.

use std::collections::BTreeMap;

use model::{SECRETS_DIRECTORY, ServiceId};
use serde_json::Value;

use super::{Decision, Failure, Look};
use crate::check::{Draft, Standing, Watched, service_name};
use crate::hold::Blame;
use crate::live::Live;
use crate::memory::{Memory, Recipe};
use crate::settings::{CheckPolicy, Checks};
use crate::spec::{Mounts, Owned, is_manifest_path};
use crate::status::{Checked, Phase, Verdict};
use crate::step::{ServiceWrite, Step};

/// What a check means for a write.
enum Gate {
    /// Nothing keeps it.
    Open,
    /// The check has to be started.
    Begin(Draft),
    /// The check goes on.
    Wait(String),
    /// The check says no; or a node, to running it.
    Shut { reason: String, rejected: bool },
}

impl Look<'_> {
    /// What leads to a write: its check, where one is due and has not passed, or these steps and then the write. If the
    /// check says no, what leads away from it.
    pub(super) fn checked(
        &self,
        live: Option<&Live>,
        mut steps: Vec<Step>,
        write: ServiceWrite,
        into_step: impl FnOnce(ServiceWrite) -> Step,
        memory: &mut Memory,
    ) -> Decision {
        let mut decision = Decision::default();
        let gate = self.gate(&write, memory, &mut decision.checked);
        match gate {
            Gate::Open => {
                decision.phase = Some(Phase::Pending { reason: write.reason.clone() });
                steps.push(into_step(write));
                // Only then, so that a write that loses a race needs no second check.
                steps.extend(self.remove_check(memory));
                decision.steps = steps;
            }
            Gate::Begin(draft) => {
                decision.phase = Some(Phase::Pending { reason: write.reason.clone() });
                decision.steps = self.remove_check(memory).into_iter().chain(steps).collect();
                decision.steps.push(Step::CreateCheck { draft, write });
            }
            Gate::Wait(waits_for) => {
                decision.phase = Some(Phase::Checking {
                    generation: write.attempt.generation,
                    seconds: memory.check.as_ref().map_or(0, |watched| self.now.since(watched.since).as_secs()),
                    reason: write.reason,
                    waits_for,
                });
                decision.next = Some(self.settings.rollout_poll);
            }
            // The check was of other routes with the same secrets: what is held needs a manifest to carry the hold.
            Gate::Shut { .. } if !steps.is_empty() => {
                decision.phase = Some(Phase::Pending { reason: write.reason.clone() });
                decision.steps = steps;
            }
            Gate::Shut { reason, rejected } => {
                let blame = self.blames_a_secret(&reason, memory).then_some(Blame::Bundle);
                let failure = Failure { blame, rejected, ..Failure::new(write.attempt, reason) };
                self.refuse(failure, live, memory, &mut decision);
            }
        }
        decision.minds_check = true;
        decision
    }

    /// Writes down what the check refused; the proxies do not notice.
    fn refuse(&self, failure: Failure, live: Option<&Live>, memory: &Memory, decision: &mut Decision) {
        let holds = self.new_holds(&failure, live, memory.good.as_ref());
        decision.phase = Some(match holds.first() {
            Some((held, _)) => self.held_phase(held),
            None => Phase::Impossible {
                reason: failure.reason,
                advice: "put right what the reason names; it cannot be noted that this was refused, since the manifest is gone"
                    .into(),
            },
        });
        decision.steps = holds.into_iter().map(|(_, step)| step).collect();
        if !decision.steps.is_empty() {
            decision.steps.extend(self.remove_check(memory));
        }
    }

    fn gate(&self, write: &ServiceWrite, memory: &mut Memory, told: &mut Option<Checked>) -> Gate {
        let policy = self.settings.checks.policy;
        let overtaken = memory.check.as_ref().filter(|_| policy == CheckPolicy::Always);
        let overtaken = overtaken.and_then(|watched| watched.overtaken_for(self.settings, self.now));
        let draft = |policy| Draft::of(self.settings, policy, &write.spec, write.attempt, &self.lines_with_secrets());
        // Routes leave no time to check everything. What nobody can vouch for is checked all the same.
        let due = if overtaken.is_some() { CheckPolicy::Auto } else { policy };
        if !self.is_due_by(due, write, memory) {
            memory.check = None;
            if let Some(waiting) = overtaken {
                let (seconds, generation) = (waiting.as_secs_f64(), write.attempt.generation);
                let reason = format!("for {seconds:.0} s each check was overtaken by a change");
                memory.unchecked = Some((draft(policy).digest, reason.clone()));
                *told = Some(Checked { generation, verdict: Verdict::Skipped, seconds, reason });
            }
            return Gate::Open;
        }
        let draft = draft(due);
        if memory.unchecked.as_ref().is_some_and(|(digest, _)| *digest == draft.digest) {
            return Gate::Open;
        }
        let is_over = |watched: &Watched| watched.told && self.inventory.check.is_none();
        let mut watched = match memory.check.take() {
            Some(watched) if watched.digest == draft.digest && !is_over(&watched) => watched,
            before => Watched::new(draft.digest, self.now).after(before),
        };
        let standing = self.standing(&draft, memory.stuck_check.as_ref());
        let state = match &standing {
            Ok(Some(Standing::Runs { state, .. })) => *state,
            _ => None,
        };
        let idle = watched.note(state, self.settings, self.now).map(|idle| idle.as_secs());
        let (gate, ended) = match (standing, idle) {
            (Ok(Some(Standing::Passed)), _) => (Gate::Open, Some((Verdict::Passed, String::new()))),
            (Ok(Some(Standing::Failed { reason, rejected })), _) => {
                (Gate::Shut { reason: reason.clone(), rejected }, Some((Verdict::Failed, reason)))
            }
            (Ok(Some(Standing::Undecided { reason })), _) => (Gate::Open, Some((Verdict::Skipped, reason))),
            (Ok(Some(Standing::Runs { waits_for, .. })), Some(idle)) => {
                (Gate::Open, Some((Verdict::Skipped, format!("no progress for {idle} s: {waits_for}"))))
            }
            (Ok(None), Some(idle)) => {
                (Gate::Open, Some((Verdict::Skipped, format!("it was not started for {idle} s"))))
            }
            (Err(reason), _) => (Gate::Open, Some((Verdict::Skipped, reason))),
            (Ok(Some(Standing::Runs { waits_for, .. })), None) => (Gate::Wait(waits_for), None),
            (Ok(None), None) => (Gate::Begin(draft.clone()), None),
        };
        if let Some((verdict, reason)) = ended {
            memory.unchecked = (verdict == Verdict::Skipped).then(|| (draft.digest, reason.clone()));
            if verdict != Verdict::Failed {
                // Nothing waits any more.
                watched.keeps_waiting = watched.since;
            }
            if !std::mem::replace(&mut watched.told, true) {
                let seconds = (self.now.since(watched.since).as_millis() as f64) / 1000.0;
                *told = Some(Checked { generation: write.attempt.generation, verdict, seconds, reason });
            }
        }
        memory.check = Some(watched);
        gate
    }

    /// How the check stands, if it is there.
    ///
    /// # Errors
    /// When something is in its place that cannot be removed.
    fn standing(&self, draft: &Draft, stuck: Option<&ServiceId>) -> Result<Option<Standing>, String> {
        let Some(check) = &self.inventory.check else { return Ok(None) };
        if stuck == Some(&check.id) {
            return Err("the check before cannot be removed".into());
        }
        match check.digest {
            None => Err(format!("the service {} exists and is no check of ours", service_name(self.settings))),
            Some(digest) if digest == draft.digest => Ok(Some(check.standing(&self.settings.checks))),
            Some(_) => Ok(None),
        }
    }

    /// Removes the check, if there is one of ours and it can be.
    pub(super) fn remove_check(&self, memory: &Memory) -> Option<Step> {
        let check = self.inventory.check.as_ref().filter(|check| check.digest.is_some())?;
        (memory.stuck_check.as_ref() != Some(&check.id))
            .then(|| Step::RemoveCheck { id: check.id.clone(), name: service_name(self.settings) })
    }

    /// Whether it is to be checked first, as the settings say.
    pub(super) fn is_due(&self, write: &ServiceWrite, memory: &Memory) -> bool {
        self.is_due_by(self.settings.checks.policy, write, memory)
    }

    fn is_due_by(&self, policy: CheckPolicy, write: &ServiceWrite, memory: &Memory) -> bool {
        let checks = &self.settings.checks;
        let has_worked = memory.good.as_ref().is_some_and(|good| good.is(write.attempt));
        if has_worked || checks.command.is_empty() {
            return false;
        }
        let wanted = match policy {
            CheckPolicy::Never => return false,
            CheckPolicy::Always => return true,
            CheckPolicy::Auto => Mounts::read(&write.spec),
        };
        match self.last_good(memory) {
            None => !wanted.secrets.is_empty(),
            Some(recipe) => {
                let applied = Owned::of_service(&write.spec).value;
                program(&applied) != program(&recipe.applied.value)
                    || unvouched(&wanted, checks) != unvouched(&recipe.mounts, checks)
                    || (!wanted.secrets.is_empty()
                        && (wanted.secrets != recipe.mounts.secrets || self.uses_secrets_otherwise(recipe)))
            }
        }
    }

    /// What serves now, as far as it is known to work.
    fn last_good<'a>(&self, memory: &'a Memory) -> Option<&'a Recipe> {
        self.inventory.service.as_ref().and(memory.good.as_ref()).and_then(|good| good.recipe.as_ref())
    }

    /// Whether the lines that name secrets are other ones than in the last good, or in another order: a key can fail to
    /// match its certificate although both are mounted for long.
    fn uses_secrets_otherwise(&self, recipe: &Recipe) -> bool {
        let mut serves = Vec::new();
        for (_, reference) in recipe.mounts.files.iter().filter(|(path, _)| !is_manifest_path(path)) {
            match reference.id.as_ref().and_then(|id| self.inventory.objects.get(id)) {
                Some(config) => serves.extend(lines_with_secrets(&config.data)),
                None => return true,
            }
        }
        self.lines_with_secrets() != serves
    }

    /// The lines of what is wanted that name secrets.
    fn lines_with_secrets(&self) -> Vec<&[u8]> {
        let files = self.bundle.into_iter().flat_map(|bundle| bundle.files.values());
        files.flat_map(|file| lines_with_secrets(&file.content)).collect()
    }

    /// Whether a refusal names a secret that the last good does not mount, so that no setting is to blame.
    fn blames_a_secret(&self, reason: &str, memory: &Memory) -> bool {
        let known = self.last_good(memory).map(|recipe| &recipe.mounts.secrets);
        let secrets = self.bundle.into_iter().flat_map(|bundle| &bundle.secrets);
        let mut new = secrets.filter(|secret| known.is_none_or(|known| !known.contains(*secret)));
        new.any(|secret| secret.is_named_in(reason))
    }
}

/// What settings say about the program and what it starts with. How it is stopped, watched and found is not among it.
fn program(applied: &Value) -> BTreeMap<&str, &Value> {
    let fields = applied.pointer("/TaskTemplate/ContainerSpec").and_then(Value::as_object);
    let fields = fields.into_iter().flatten().map(|(name, value)| (name.as_str(), value));
    fields.filter(|(name, _)| !matches!(*name, "StopSignal" | "StopGracePeriod" | "Healthcheck" | "Labels")).collect()
}

/// The files that are not made of typed values alone, by path: their names tell their content.
fn unvouched<'a>(mounts: &'a Mounts, checks: &Checks) -> BTreeMap<&'a str, &'a str> {
    let files = mounts.files.iter().filter(|(path, _)| !checks.vouch_for(path));
    files.map(|(path, reference)| (path.as_str(), reference.name.as_str())).collect()
}

fn lines_with_secrets(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let directory = SECRETS_DIRECTORY.as_bytes();
    text.split(|byte| *byte == b'\n').filter(move |line| line.windows(directory.len()).any(|part| part == directory))
}
