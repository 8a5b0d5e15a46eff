//! A schedule of faults under load: what goes wrong on the Swarm one after the other, and what it costs.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use embedded::Fault as Calls;
use fastrand::Rng;
use model::labels;
use swarm::Class;
use tokio::time::{Instant, sleep};

use super::checks::{holds_within, say};
use super::http::status;
use super::load::{Counts, Load};
use super::stage::Stage;
use super::{PROXY, Running};
use crate::config::Config;
use crate::orders;

/// How long one fault may take until everything is at rest again: what is held is read every 30 s.
pub const REST: Duration = Duration::from_secs(60);

/// How long calls and events are in trouble.
const TROUBLE: Duration = Duration::from_secs(2);

/// A service in VIP mode, one in task mode, and their hosts.
const VIP: &str = "vip";
const TASKS: &str = "tasks";
const HOSTS: [&str; 2] = ["vip.local", "tasks.local"];

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    TaskIsKilled(&'static str),
    ProxyIsKilled,
    ProxiesAreRolledBack,
    ProxiesAreEdited,
    FilesAreRefused,
    LabelsAreImpossible,
    OperatorIsKilled,
    OperatorIsKilledAtWork,
    OperatorsOverlap,
    EngineIsDown,
    CallsFail(Class),
    CallsAreSlow,
    AnswersAreLate,
    AnswersAreLost,
    RacesAreLost,
    EventsAreLost,
    EventsStall,
    EventsBreak,
}

/// Each kind, once.
const KINDS: [Fault; 21] = [
    Fault::TaskIsKilled(VIP),
    Fault::TaskIsKilled(TASKS),
    Fault::ProxyIsKilled,
    Fault::ProxiesAreRolledBack,
    Fault::ProxiesAreEdited,
    Fault::FilesAreRefused,
    Fault::LabelsAreImpossible,
    Fault::OperatorIsKilled,
    Fault::OperatorIsKilledAtWork,
    Fault::OperatorsOverlap,
    Fault::EngineIsDown,
    Fault::CallsFail(Class::Unavailable),
    Fault::CallsFail(Class::Malformed),
    Fault::CallsFail(Class::Refused),
    Fault::CallsAreSlow,
    Fault::AnswersAreLate,
    Fault::AnswersAreLost,
    Fault::RacesAreLost,
    Fault::EventsAreLost,
    Fault::EventsStall,
    Fault::EventsBreak,
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Fault::TaskIsKilled(service) => return write!(f, "a task of {service} is killed"),
            Fault::CallsFail(class) => return write!(f, "calls fail ({})", class.as_str()),
            Fault::ProxyIsKilled => "a proxy is killed",
            Fault::ProxiesAreRolledBack => "somebody rolls the proxies back",
            Fault::ProxiesAreEdited => "somebody edits the proxy service",
            Fault::FilesAreRefused => "nginx refuses the files",
            Fault::LabelsAreImpossible => "a service has impossible labels",
            Fault::OperatorIsKilled => "the operator is killed",
            Fault::OperatorIsKilledAtWork => "the operator is killed in the middle of a change",
            Fault::OperatorsOverlap => "two operators run for a while",
            Fault::EngineIsDown => "the Engine is down",
            Fault::CallsAreSlow => "calls take a second to arrive",
            Fault::AnswersAreLate => "answers are old when they arrive",
            Fault::AnswersAreLost => "answers to writes are lost",
            Fault::RacesAreLost => "writes lose races",
            Fault::EventsAreLost => "events are lost",
            Fault::EventsStall => "events stall",
            Fault::EventsBreak => "event streams break",
        };
        f.write_str(words)
    }
}

impl Fault {
    /// Of a hundred requests so many may fail meanwhile: a request that is with a task or a proxy when that is killed has
    /// no other answer.
    fn percent(self) -> u64 {
        u64::from(matches!(self, Fault::TaskIsKilled(_) | Fault::ProxyIsKilled))
    }
}

/// So many faults in an order that follows from the seed; none comes a second time before each has come once.
fn schedule(count: usize, rng: &mut Rng) -> Vec<Fault> {
    let mut schedule = Vec::with_capacity(count);
    while schedule.len() < count {
        let mut kinds = KINDS;
        rng.shuffle(&mut kinds);
        schedule.extend(kinds.into_iter().take(count - schedule.len()));
    }
    schedule
}

/// A steady load, and what goes wrong meanwhile.
struct Ordeal<'a> {
    stage: &'a mut Stage,
    /// The configuration with a line that nginx does not know.
    refused: &'a Config,
    rng: Rng,
    /// How many tasks of [`TASKS`] there should be.
    replicas: u64,
}

impl Stage {
    /// Lets so many faults happen, and notes for each whether everything came to rest, and what became of the requests.
    /// Dropped anywhere, it is ended by [`Stage::end`].
    pub async fn endure(&mut self, count: usize, seed: u64, refused: &Config) {
        let mut rng = Rng::with_seed(seed);
        let schedule = schedule(count, &mut rng);
        let mut ordeal = Ordeal { stage: self, refused, rng, replicas: 3 };
        say(&format!("two services, two proxies, requests all the time; {count} faults in the order of seed {seed}"));
        if let Err(error) = ordeal.begin().await {
            self.checks.note(false, &format!("two services are served: {error:#}"));
            return;
        }
        let (mut sent, mut failed, mut longest_gap) = (0, 0, Duration::ZERO);
        for (number, fault) in schedule.into_iter().enumerate() {
            let started = Instant::now();
            let outcome = ordeal.survive(fault).await;
            let seconds = started.elapsed().as_secs_f64();
            let (passed, words) = match &outcome {
                Ok(counts) => {
                    (sent, failed) = (sent + counts.sent(), failed + counts.failed);
                    longest_gap = longest_gap.max(counts.longest_gap);
                    let passed = counts.answered > 0 && counts.failed * 100 <= counts.sent() * fault.percent();
                    (passed, format!("at rest after {seconds:.1} s; {counts}"))
                }
                Err(error) => (false, format!("{error:#}")),
            };
            ordeal.stage.checks.note(passed, &format!("{}/{count} {fault}: {words}", number + 1));
            if outcome.is_err() {
                // Whatever comes next would say the same.
                break;
            }
        }
        let gap = longest_gap.as_secs_f64();
        say(&format!("{sent} requests, {failed} failed, longest gap {gap:.2} s"));
    }
}

impl Ordeal<'_> {
    async fn begin(&mut self) -> Result<()> {
        let stage = &mut *self.stage;
        let proxy = stage.node.published.context("no nginx takes part")?;
        stage.swarm.create_network("demo")?;
        let vip = stage.application(VIP, VIP, 2).label(labels::HOSTS, HOSTS[0]).label(labels::BACKEND_MODE, "vip");
        vip.create()?;
        stage.application(TASKS, TASKS, self.replicas).label(labels::HOSTS, HOSTS[1]).create()?;
        self.rests().await?;
        self.stage.load = Some(Load::start(proxy, &HOSTS));
        Ok(())
    }

    /// Lets it happen, and waits until everything is as it should be.
    async fn survive(&mut self, fault: Fault) -> Result<Counts> {
        self.happens(fault).await?;
        self.rests().await?;
        let load = self.stage.load.as_ref().context("no requests flow")?;
        Ok(load.take())
    }

    async fn rests(&self) -> Result<()> {
        let rests = holds_within(REST, async || self.is_at_rest().await).await;
        ensure!(rests, "not at rest after {} s: {}", REST.as_secs(), self.found().await);
        Ok(())
    }

    /// The proxies are in step, every task is there and an upstream, and every host is answered.
    async fn is_at_rest(&self) -> bool {
        let stage = &*self.stage;
        let Some(proxy) = stage.node.published else { return false };
        let tasks = stage.task_addresses(TASKS);
        tasks.len() as u64 == self.replicas
            && stage.swarm.running_tasks(VIP).len() == 2
            && stage.live_servers(HOSTS[1]) == tasks
            && stage.is_settled().await
            && status(proxy, HOSTS[0]).await == 200
            && status(proxy, HOSTS[1]).await == 200
    }

    /// What is there instead, for people.
    async fn found(&self) -> String {
        let stage = &*self.stage;
        let statuses: Vec<_> = stage.operator.view.rollouts.values().map(|status| status.borrow().clone()).collect();
        let (wanted, tasks, live) = (self.replicas, stage.task_addresses(TASKS), stage.live_servers(HOSTS[1]));
        format!("wanted {wanted} tasks, there are {tasks:?}, upstreams are {live:?}; {statuses:?}")
    }

    /// Does it, and undoes it where it does not pass by itself.
    async fn happens(&mut self, fault: Fault) -> Result<()> {
        let swarm = self.stage.swarm.clone();
        match fault {
            Fault::TaskIsKilled(service) => self.kill_one(service),
            Fault::ProxyIsKilled => self.kill_one(PROXY),
            Fault::ProxiesAreRolledBack => self.roll_back().await?,
            Fault::ProxiesAreEdited => self.edit().await?,
            Fault::FilesAreRefused => self.refuse_files().await?,
            Fault::LabelsAreImpossible => self.label_impossibly().await?,
            Fault::OperatorIsKilled => self.replace_operator(),
            Fault::OperatorIsKilledAtWork => {
                self.change()?;
                sleep(Duration::from_millis(self.rng.u64(0..3000))).await;
                self.replace_operator();
            }
            Fault::OperatorsOverlap => {
                let mut second = Running::start(&self.stage.config, swarm);
                self.change()?;
                sleep(TROUBLE).await;
                std::mem::swap(&mut self.stage.operator, &mut second);
                second.kill();
            }
            Fault::EngineIsDown => {
                swarm.engine_down();
                let changed = self.change();
                sleep(TROUBLE).await;
                swarm.engine_up();
                changed?;
            }
            Fault::CallsFail(class) => self.trouble(Calls::every_call().fail(class)).await?,
            Fault::CallsAreSlow => self.trouble(Calls::every_call().slow(Duration::from_secs(1))).await?,
            Fault::AnswersAreLate => self.trouble(Calls::every_call().late(Duration::from_millis(700))).await?,
            Fault::AnswersAreLost => self.trouble(Calls::every_write().times(2).unanswered()).await?,
            Fault::RacesAreLost => self.trouble(Calls::every_write().times(3).fail(Class::Conflict)).await?,
            Fault::EventsAreLost => {
                swarm.lose_events(50);
                self.change()?;
            }
            Fault::EventsStall => {
                swarm.stall_event_streams();
                let changed = self.change();
                sleep(TROUBLE).await;
                swarm.resume_event_streams();
                changed?;
            }
            Fault::EventsBreak => {
                self.change()?;
                swarm.break_event_streams();
            }
        }
        Ok(())
    }

    /// The service in task mode is scaled: afterwards its new tasks must be upstreams.
    fn change(&mut self) -> Result<()> {
        let others: Vec<u64> = (2..=4).filter(|replicas| *replicas != self.replicas).collect();
        self.replicas = others[self.rng.usize(..others.len())];
        Ok(self.stage.swarm.scale(TASKS, self.replicas)?)
    }

    /// Calls go wrong for a while, in which something changes.
    async fn trouble(&mut self, calls: Calls) -> Result<()> {
        let injected = self.stage.swarm.inject(calls);
        let changed = self.change();
        sleep(TROUBLE).await;
        let met = holds_within(REST, async || injected.hits() > 0).await;
        injected.lift();
        ensure!(met, "no call met the fault");
        changed
    }

    fn kill_one(&mut self, service: &str) {
        let tasks = self.stage.swarm.running_tasks(service);
        if let Some(task) = self.rng.choice(&tasks) {
            self.stage.swarm.kill_task(&task.id);
        }
    }

    fn replace_operator(&mut self) {
        self.stage.operator.kill();
        self.stage.operator = Running::start(&self.stage.config, self.stage.swarm.clone());
    }

    /// It is held to until somebody says `retry`.
    async fn roll_back(&mut self) -> Result<()> {
        self.stage.swarm.rollback_service(PROXY)?;
        // Until it is written down there is nothing to release, but perhaps what another fault has left.
        let retried = async || {
            let said = orders::retry(&self.stage.config, &self.stage.swarm, "main").await;
            said.is_ok_and(|said| said.to_string().contains("rolled back by hand"))
        };
        ensure!(holds_within(REST, retried).await, "the rollback is not held to");
        Ok(())
    }

    /// Whether the operator says that it holds what nginx refuses; another fault may have left another hold.
    fn holds_the_refused(&self) -> bool {
        let mut statuses = self.stage.operator.view.rollouts.values();
        statuses.any(|status| {
            let status = status.borrow();
            status.iter().flat_map(|status| &status.holds).any(|hold| hold.reason.contains("serve_everything"))
        })
    }

    /// The edit stays, also through the next change.
    async fn edit(&mut self) -> Result<()> {
        let value = self.rng.u32(..).to_string();
        self.stage.swarm.set_env(PROXY, "EDITED", &value)?;
        self.change()?;
        self.rests().await?;
        let spec = self.stage.swarm.raw(PROXY).context("the proxy service is gone")?.spec;
        let environment = spec["TaskTemplate"]["ContainerSpec"]["Env"].to_string();
        ensure!(environment.contains(&format!("EDITED={value}")), "the edit is lost: {environment}");
        Ok(())
    }

    /// The operator is started with a raw line that nginx does not know: held, and other changes go on. Then it is mended.
    async fn refuse_files(&mut self) -> Result<()> {
        self.stage.operator.kill();
        self.stage.operator = Running::start(self.refused, self.stage.swarm.clone());
        ensure!(holds_within(REST, async || self.holds_the_refused()).await, "what nginx refuses is not held");
        self.change()?;
        let goes_on = async || self.stage.live_servers(HOSTS[1]) == self.stage.task_addresses(TASKS);
        ensure!(holds_within(REST, goes_on).await, "what nginx refuses keeps others from being served");
        self.replace_operator();
        Ok(())
    }

    /// Refused, and nobody else is affected.
    async fn label_impossibly(&mut self) -> Result<()> {
        let impossible = "impossible";
        let service = self.stage.application(impossible, impossible, 1).label(labels::HOSTS, HOSTS[1]);
        service.label(labels::WEIGHT, "-1").create()?;
        let refused = async || self.stage.is_refused(impossible);
        ensure!(holds_within(REST, refused).await, "nobody says what is wrong");
        Ok(self.stage.swarm.remove_service(impossible)?)
    }
}
