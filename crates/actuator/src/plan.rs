//! Decides what to write next, and says how things stand. No client, no clock, no chance: the same inventory,
//! target and memory lead to the same plan, and the executor has nothing left to choose.
//!
//! The order within a plan is make before break: config objects first, then one update of the service that
//! points to them; last, objects are removed that nothing needed any more since the rollout before has ended well. Every
//! prefix of a plan leaves the cluster serving what it served, or what it should serve.

mod check;
mod decide;
mod garbage;
mod happened;
mod holds;
mod past;
mod say;
mod write;

use std::time::Duration;

use model::{Bundle, Published, Target};
use serde::Serialize;
use swarm::RawService;

use crate::fence::Fence;
use crate::hold::Blame;
use crate::image;
use crate::inventory::Inventory;
use crate::live::{Attempt, Live, foreign};
use crate::memory::{Good, Memory};
use crate::moment::Moment;
use crate::orders::paused;
use crate::rollout::Judgement;
use crate::settings::Settings;
use crate::spec::Owned;
use crate::status::{Checked, Ended, Outcome, Phase, Status};
use crate::step::Step;

/// What to do, and how things stand before it is done.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The writes, in their order. Empty: there is nothing to do now.
    pub steps: Vec<Step>,
    /// The writes that would be made if this cluster were not paused or another operator's. Nobody executes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Step>,
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
    /// The check that was seen to end.
    #[serde(skip)]
    pub checked: Option<Checked>,
}

/// Plans the next writes.
pub fn plan(target: Option<&Target>, inventory: &Inventory, settings: &Settings, memory: &Memory, now: Moment) -> Plan {
    let settings = settings.for_service(inventory.service.as_ref().map(|service| &service.spec));
    let settings = settings.as_ref();
    let bundle = target.map(|target| target.bundle.as_ref());
    let applied = inventory.service.as_ref().map(|service| Owned::of_service(&service.spec).value);
    let image = image::wanted(&settings.proxy, applied.as_ref().and_then(image::applied), inventory.image.as_deref());
    let look = Look { bundle, inventory, settings, owned: Owned::with_image(settings, image), now };
    let mut memory = memory.clone();
    let found = inventory.service.as_ref().and_then(|service| Fence::read(&service.spec));
    memory.fence = memory.fence.or_else(|| settings.operator.map(|operator| operator.after(found)));
    let fence = memory.fence;
    let mut plan = match &inventory.service {
        None => look.absent(memory),
        Some(service) => match foreign(&service.spec, settings) {
            Some(reason) => look.foreign(service, reason),
            None => match Live::read(&service.spec, &inventory.objects) {
                Ok(live) => look.present(service, &live, memory),
                Err(reason) => look.unreadable(service, reason, memory),
            },
        },
    };
    plan.memory.fence = fence;
    leave_fence(&mut plan.steps, fence);
    plan
}

/// It travels with writes that are needed anyway, and is never a reason for one.
fn leave_fence(steps: &mut [Step], fence: Option<Fence>) {
    let Some(fence) = fence else { return };
    for step in steps {
        if let Step::CreateService(write) | Step::UpdateService { write, .. } = step {
            fence.leave_on(&mut write.spec);
        }
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
    /// What is to blame, where that is known.
    blame: Option<Blame>,
    /// A node refused its task, which never ran.
    rejected: bool,
}

/// What was decided for a live service.
#[derive(Default)]
struct Decision {
    steps: Vec<Step>,
    phase: Option<Phase>,
    next: Option<Duration>,
    /// The check that was seen to end.
    checked: Option<Checked>,
    /// What becomes of the check that is there is decided too. Else it is a left-over.
    minds_check: bool,
}

impl Failure {
    /// What failed by itself.
    fn new(attempt: Attempt, reason: String) -> Self {
        Self { attempt, reason, by_hand: false, blame: None, rejected: false }
    }
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

/// Only the first target tells what a check that is there is worth.
fn waits_for_the_first_target() -> Decision {
    let phase = Some(Phase::Waiting { waits_for: "the first target".into() });
    Decision { phase, minds_check: true, ..Decision::default() }
}

/// The four kinds of cluster.
impl Look<'_> {
    /// There is no proxy service: never was, or somebody removed it.
    fn absent(&self, mut memory: Memory) -> Plan {
        let decision = match self.bundle {
            None => waits_for_the_first_target(),
            Some(bundle) => self.create(bundle, &mut memory),
        };
        let Decision { steps, phase, next, checked, .. } = self.swept(decision, &mut memory);
        let phase = phase.unwrap_or(Phase::Pending { reason: String::new() });
        Plan {
            steps,
            waiting: Vec::new(),
            published: self.published_without_service(&memory),
            status: self.status(phase, None, &memory, &self.owned),
            next: next.unwrap_or(self.settings.poll_interval),
            // Of the service that is gone only what it served is worth remembering.
            memory: Memory {
                last: memory.last,
                good: memory.good.map(|good| Good { recipe: None, ..good }),
                check: memory.check,
                unchecked: memory.unchecked,
                stuck_check: memory.stuck_check,
                unwritten: memory.unwritten,
                ..Memory::default()
            },
            ended: None,
            checked,
        }
    }

    fn foreign(&self, service: &RawService, reason: String) -> Plan {
        let name = &self.settings.proxy.service_name;
        let advice = format!(
            "give the proxies of this cluster another name (proxy.name); or, if nobody needs that service, remove it \
             (docker service rm {name})"
        );
        let memory = Memory::default();
        Plan {
            steps: Vec::new(),
            waiting: Vec::new(),
            published: Published::Unknown { reason: reason.clone() },
            status: self.status(Phase::Foreign { reason, advice }, Some((service, None)), &memory, &self.owned),
            next: self.settings.poll_interval,
            memory,
            ended: None,
            checked: None,
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
            waiting: Vec::new(),
            published: Published::Unknown { reason: reason.clone() },
            status: self.status(Phase::Unreadable { reason, advice }, Some((service, None)), &memory, &self.owned),
            next: self.settings.poll_interval,
            memory,
            ended: None,
            checked: None,
        }
    }

    fn present(&self, service: &RawService, live: &Live, mut memory: Memory) -> Plan {
        let mut ended = None;
        let before = memory.clone();
        // What a fresh process would take for good now could be what Swarm went back to while nobody watched, and so
        // could what it would blame; only the first target tells.
        let knows_nothing = self.bundle.is_none() && before.good.is_none() && before.rollout.is_none();
        memory.soak.take_if(|soak| soak.attempt != live.attempt || self.now.since(soak.since) >= self.settings.soak);
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
            memory.good = self.guess_good(service, live, &memory);
        }

        let (judgement, tally) = self.judge(service, live, &mut memory);
        let failure = withdrawn.or_else(|| match &judgement {
            Judgement::Failed { reason } => {
                Some(Failure { rejected: tally.rejected, ..Failure::new(live.attempt, reason.clone()) })
            }
            Judgement::Converged | Judgement::Rolling { .. } | Judgement::Blocked { .. } | Judgement::Halted { .. } => {
                None
            }
        });
        let mut holds = failure
            .filter(|_| !knows_nothing)
            .map(|failure| self.new_holds(&failure, Some(live), memory.good.as_ref()))
            .unwrap_or_default();
        if !holds.is_empty()
            && matches!(judgement, Judgement::Failed { .. })
            && let Some(rollout) = &mut memory.rollout
        {
            ended = self.end(rollout, Outcome::Failed);
            rollout.over = true;
        }
        if let Some(refused) = self.refused(live, &mut memory).filter(|_| holds.is_empty()) {
            // What is live was accepted, and goes on as it does.
            holds = self.new_holds(&refused, Some(live), Some(&Good::of(live)));
        }
        if judgement == Judgement::Converged {
            if let Some(rollout) = memory.rollout.take().filter(|rollout| rollout.ours || rollout.since < self.now) {
                ended = self.end(&rollout, Outcome::Completed);
                memory.soak = self.begin_soak(live, &rollout, memory.good.as_ref());
            }
            if memory.settled.replace(service.version) != Some(service.version) {
                memory.in_use.clear();
            }
        }
        if judgement.works() {
            memory.good = Some(Good::of(live));
        }

        let effective = self.effective(live, memory.good.as_ref());
        let has_holds = !holds.is_empty();
        let decision = if holds.is_empty() {
            self.decide(service, live, &judgement, &effective, &mut memory)
        } else {
            self.hold(service, live, &judgement, holds, &memory)
        };
        let mut decision = self.swept(decision, &mut memory);
        let phase = decision.phase.take().unwrap_or_else(|| self.phase_of(live, &judgement, &tally, &memory));
        let published = self.published(live, &memory, &effective);
        let next = decision.next.unwrap_or(match judgement {
            Judgement::Rolling { .. } => self.settings.rollout_poll,
            Judgement::Converged | Judgement::Blocked { .. } | Judgement::Halted { .. } | Judgement::Failed { .. } => {
                self.settings.poll_interval
            }
        });
        let checked = decision.checked;
        let (mut steps, mut waiting, mut phase) = (decision.steps, Vec::new(), phase);
        if let Some(stopped) = self.stopped(service, &memory, steps.len()) {
            (steps, waiting, phase) = (Vec::new(), steps, stopped);
            if self.inventory.check.is_none() {
                // One that may not be started does not lose its time.
                memory.check = None;
            }
            if has_holds {
                // A failure that cannot be written down now is found again at the next look.
                (memory, ended) = (before.clone(), None);
                if let Some(soak) = &mut memory.soak {
                    soak.since = self.now;
                }
                if let Some(rollout) = &mut memory.rollout {
                    rollout.seen = self.now;
                }
            }
        }
        let mut status = self.status(phase, Some((service, Some(live))), &memory, &effective);
        status.missing = (judgement == Judgement::Converged).then(|| tally.missing()).flatten();
        if knows_nothing {
            (memory, ended) = (before, None);
        }
        if ended.is_some() {
            memory.last.clone_from(&ended);
        }
        Plan { steps, waiting, published, status, next, memory, ended, checked }
    }

    /// Why nothing may be written, if so.
    fn stopped(&self, service: &RawService, memory: &Memory, waiting: usize) -> Option<Phase> {
        if let Some(reason) = paused(&service.spec) {
            return Some(Phase::Paused { reason: reason.to_owned(), waiting });
        }
        let later = Fence::read(&service.spec).filter(|found| memory.fence.is_some_and(|ours| *found > ours))?;
        let name = &self.settings.proxy.service_name;
        Some(Phase::Fenced {
            reason: format!("another operator, which was started later, writes to {name} (fence {later})"),
            advice: "stop one of the two; this one takes over when it is started again".into(),
        })
    }
}
