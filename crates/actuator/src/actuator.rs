//! The loop of one cluster: read, plan, say, execute.

use std::sync::Arc;
use std::time::Duration;

use driver::{Level, Next};
use model::{NetworkId, Published, Target};
use swarm::Class;
use tokio::sync::watch;

use crate::counters::Counters;
use crate::execute::execute;
use crate::inventory::Reader;
use crate::memory::{Memory, Refused};
use crate::moment::Clock;
use crate::plan::{Plan, plan};
use crate::rollout::Rollout;
use crate::settings::Settings;
use crate::status::{Checked, Ended, Outcome, Phase, Status, Verdict};
use crate::step::{ServiceWrite, Step};

/// How soon to look at what was just written.
const AFTER_A_WRITE: Duration = Duration::from_millis(100);

/// Brings one cluster's proxies to their target, step by step.
pub struct Actuator<S> {
    swarm: S,
    settings: Settings,
    target: watch::Receiver<Option<Arc<Target>>>,
    published: watch::Sender<Option<Published>>,
    status: watch::Sender<Option<Arc<Status>>>,
    counters: Arc<Counters>,
    reader: Reader,
    memory: Memory,
    clock: Clock,
}

/// What others see of an actuator.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// What is live; none before the first complete read.
    pub published: watch::Receiver<Option<Published>>,
    /// How things stand; none before the first complete read.
    pub status: watch::Receiver<Option<Arc<Status>>>,
    /// What was counted.
    pub counters: Arc<Counters>,
}

impl<S: swarm::Write> Actuator<S> {
    /// An actuator with an empty memory, and what others see of it. The settings must have passed
    /// [`Settings::check`].
    pub fn new(swarm: S, settings: Settings, target: watch::Receiver<Option<Arc<Target>>>) -> (Self, Outputs) {
        let (published, published_receiver) = watch::channel(None);
        let (status, status_receiver) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let outputs =
            Outputs { published: published_receiver, status: status_receiver, counters: Arc::clone(&counters) };
        let actuator = Self {
            swarm,
            settings,
            target,
            published,
            status,
            counters,
            reader: Reader::default(),
            memory: Memory::default(),
            clock: Clock::start(),
        };
        (actuator, outputs)
    }

    /// Paused time moves the runtime's clock and not the wall clock that a fresh process starts from.
    #[cfg(test)]
    pub(crate) fn advance_clock(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    async fn look(&mut self) -> swarm::Result<Next> {
        let now = self.clock.now();
        let inventory = self.reader.read(&self.swarm, &self.settings, &self.memory, now).await?;
        let target = self.target.borrow_and_update().clone();
        let Plan { steps, waiting: _, published, status, next, memory, ended, checked } =
            plan(target.as_deref(), &inventory, &self.settings, &self.memory, now);
        self.memory = memory;
        if let Some(checked) = &checked {
            self.tell_check(checked);
        }
        if let Some(ended) = &ended {
            self.tell_end(ended);
        }
        self.tell_phase(&status.phase);
        self.published.send_if_modified(|before| replace_if_other(before, Some(published)));
        self.status.send_if_modified(|before| replace_if_other(before, Some(Arc::new(status))));
        if steps.is_empty() {
            return Ok(Next::After(next));
        }
        self.execute(&steps).await?;
        Ok(Next::After(AFTER_A_WRITE))
    }

    async fn execute(&mut self, steps: &[Step]) -> swarm::Result<()> {
        // A pass can be dropped at any await: what it may have touched by then is to be read anew.
        self.reader.forget();
        let executed = execute(&self.swarm, steps, self.settings.registry_auth.as_ref(), &self.counters).await;
        log_steps(&self.settings, &steps[..executed.steps]);
        self.memory.in_use.extend(executed.in_use);
        self.memory.stuck_check = executed.stuck_check.or(self.memory.stuck_check.take());
        self.memory.unwritten.retain(|id, _| !executed.labelled.contains(id));
        self.memory.unwritten.extend(executed.unwritten.into_iter().map(|config| (config.id, config.labels)));
        if let Some(unchecked) = executed.unchecked {
            self.counters.checked(Verdict::Skipped, 0.0);
            self.tell_unchecked(&unchecked.1);
            self.memory.unchecked = Some(unchecked);
        }
        if let (Some(error), Some(Step::UpdateService { write, .. })) = (&executed.error, steps.get(executed.steps)) {
            let again = self.memory.refused.as_ref().is_some_and(|before| before.attempt == write.attempt);
            self.memory.refused = (error.class == Class::Refused).then(|| Refused {
                attempt: write.attempt,
                reason: error.message.clone(),
                again,
            });
        }
        if let Some(write) = executed.written {
            self.memory.refused = None;
            let now = self.clock.now();
            let before = self.memory.rollout.take();
            if let Some(ended) = before.and_then(|rollout| Ended::of(&rollout, Outcome::Superseded, now)) {
                self.tell_end(&ended);
                self.memory.last = Some(ended);
            }
            self.memory.rollout = Some(Rollout::written(write, now));
        }
        executed.error.map_or(Ok(()), Err)
    }

    /// Says when a person's order or another operator stops this one from writing, and when that ends.
    fn tell_phase(&self, phase: &Phase) {
        let cluster = &self.settings.cluster;
        let before = self.status.borrow().as_ref().map_or("", |status| status.phase.as_str());
        let stopped = |phase: &str| matches!(phase, "paused" | "fenced");
        match phase {
            _ if before == phase.as_str() => {}
            Phase::Paused { reason, .. } => tracing::warn!(%cluster, %reason, "paused: nothing is written"),
            Phase::Fenced { reason, advice } => {
                tracing::warn!(%cluster, %reason, %advice, "fenced: nothing is written")
            }
            _ if stopped(before) => tracing::info!(%cluster, "writing again"),
            _ => {}
        }
    }

    fn tell_check(&self, checked: &Checked) {
        self.counters.checked(checked.verdict, checked.seconds);
        let Checked { generation, verdict, seconds, reason } = checked;
        let (cluster, generation) = (&self.settings.cluster, generation.short());
        match verdict {
            Verdict::Skipped => self.tell_unchecked(reason),
            Verdict::Passed | Verdict::Failed => {
                let outcome = verdict.as_str();
                tracing::info!(%cluster, %generation, %reason, outcome, kind = "check", seconds, "check ended");
            }
        }
    }

    /// Once for each reason: a cluster that never allows a check needs no warning before each rollout.
    fn tell_unchecked(&self, reason: &str) {
        let cluster = &self.settings.cluster;
        let known = self.status.borrow().as_ref().is_some_and(|status| status.unchecked.as_deref() == Some(reason));
        if known {
            tracing::debug!(%cluster, %reason, "rolled out without a check");
        } else {
            tracing::warn!(%cluster, %reason, "rolled out without a check");
        }
    }

    fn tell_end(&self, ended: &Ended) {
        self.counters.ended(ended);
        let Ended { generation, outcome, seconds, reason, kind } = ended;
        let (cluster, generation, outcome) = (&self.settings.cluster, generation.short(), outcome.as_str());
        tracing::info!(%cluster, %generation, %reason, %outcome, kind = kind.as_str(), seconds, "rollout ended");
    }
}

impl<S: swarm::Write> Level for Actuator<S> {
    type Error = swarm::Error;

    /// `changed` marks what it saw as seen, and each pass takes the newest value whether it was seen or not.
    async fn woken(&mut self) {
        if self.target.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn pass(&mut self) -> Result<Next, Self::Error> {
        let outcome = self.look().await;
        let trouble = outcome.as_ref().err().map(ToString::to_string);
        if trouble.is_some() {
            // Conflicts among them: somebody else was faster, so nothing that was read before is trusted.
            self.reader.forget();
        }
        self.status.send_if_modified(|status| match status {
            Some(status) if status.trouble != trouble => {
                Arc::make_mut(status).trouble.clone_from(&trouble);
                true
            }
            Some(_) | None => false,
        });
        outcome
    }
}

fn replace_if_other<T: PartialEq>(before: &mut T, value: T) -> bool {
    let other = *before != value;
    if other {
        *before = value;
    }
    other
}

fn log_steps(settings: &Settings, steps: &[Step]) {
    let cluster = &settings.cluster;
    for step in steps {
        match step {
            Step::CreateService(write) | Step::UpdateService { write, .. } => {
                let ServiceWrite { attempt, reason, kind, joins, leaves, .. } = write;
                let generation = attempt.generation.short();
                let ids = |networks: &[NetworkId]| networks.iter().map(NetworkId::as_str).collect::<Vec<_>>().join(" ");
                let (joins, leaves) = (ids(joins), ids(leaves));
                tracing::info!(%cluster, %generation, %reason, kind = kind.as_str(), joins, leaves, "rollout started");
            }
            Step::CreateCheck { write, .. } => {
                let generation = write.attempt.generation.short();
                tracing::info!(%cluster, %generation, reason = write.reason, kind = "check", "check started");
            }
            Step::HoldGeneration { generation, reason, .. } => {
                let generation = generation.short();
                tracing::warn!(%cluster, %generation, %reason, "held: the last good is served instead");
            }
            Step::CreateConfig(_)
            | Step::RemoveConfig { .. }
            | Step::RemoveCheck { .. }
            | Step::ReleaseGeneration { .. }
            | Step::LabelService { .. } => tracing::debug!(%cluster, "{step}"),
        }
    }
}
