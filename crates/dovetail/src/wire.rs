//! The running operator: the loops, what connects them, and how they end.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use driver::{Pacing, Reporter, Retry};
use model::ClusterName;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::view::View;
use crate::{admin, metrics};

/// How long the loops and open admin requests may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// What the Engine did for us so far.
pub type TrafficCounter = Box<dyn Fn() -> engine::Traffic + Send + Sync>;

/// Runs the operator until `stop` resolves, and drains. The proxies go on serving.
///
/// # Errors
/// When it cannot start (the admin address is taken, the Engine is too old or no manager), or when a loop ends
/// by itself, which is a bug.
pub async fn run<S>(config: &Config, swarm: S, traffic: TrafficCounter, stop: impl Future<Output = ()>) -> Result<()>
where
    S: swarm::Read + swarm::Write + swarm::Watch,
{
    let address = config.admin.listen.0;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("the admin server cannot listen on {address} (admin.listen in the configuration)"))?;
    // With port 0 the system chose one.
    let address = listener.local_addr().unwrap_or(address);
    let mut operator = Operator::new(config, swarm, traffic);
    operator.serve(listener);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), admin = %address, "dovetail runs");
    let outcome = tokio::select! {
        () = stop => Ok(()),
        // Dropped, it leaves the loops running until they are drained.
        error = operator.run() => Err(error),
    };
    tracing::info!("stopping; the proxies go on serving");
    operator.drain().await;
    outcome
}

/// The loops, connected to each other. They begin with [`Operator::run`].
pub struct Operator<S> {
    /// What can be seen of them.
    pub view: Arc<View>,
    /// The metrics page.
    pub registry: Arc<Registry>,
    /// What the VIP short-circuit decided so far.
    pub short_circuits: Arc<observer::ShortCircuits>,
    swarm: S,
    tasks: JoinSet<Ended>,
    /// Why the loops do not run yet.
    waits_for: watch::Sender<Option<String>>,
    /// Cancelled once the loops may begin.
    start: CancellationToken,
    /// Cancelled when everything is to end.
    end: CancellationToken,
}

/// How a task of ours ended.
enum Ended {
    Told,
    Broken(anyhow::Error),
}

impl<S> Operator<S>
where
    S: swarm::Read + swarm::Write + swarm::Watch,
{
    /// Begins to answer admin requests.
    pub fn serve(&mut self, listener: TcpListener) {
        let served = admin::serve(listener, Arc::clone(&self.view), Arc::clone(&self.registry), self.end.clone());
        self.tasks.spawn(async move {
            match served.await {
                Ok(()) => Ended::Told,
                Err(error) => Ended::Broken(anyhow!(error).context("the admin server broke")),
            }
        });
    }

    /// Waits for an Engine that can be worked with, then lets the loops run. It ends only with what went wrong.
    pub async fn run(&mut self) -> anyhow::Error {
        let (swarm, waits_for, start) = (&self.swarm, &self.waits_for, &self.start);
        let begin = async {
            let refusal = accept(swarm, waits_for).await.err();
            if refusal.is_none() {
                start.cancel();
            }
            refusal
        };
        tokio::select! {
            Some(refusal) = begin => refusal,
            Some(ended) = self.tasks.join_next() => match ended {
                Ok(Ended::Broken(error)) => error,
                Ok(Ended::Told) => anyhow!("a loop ended by itself"),
                Err(panic) => anyhow!(panic).context("a loop panicked"),
            },
        }
    }

    /// Ends the loops and open admin requests; what takes too long is dropped. Nothing is written any more but the
    /// call that is under way.
    pub async fn drain(mut self) {
        self.end.cancel();
        let drained = tokio::time::timeout(DRAIN, async { while self.tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!("not everything ended within {} s", DRAIN.as_secs());
        }
    }

    /// Makes the loops and connects them.
    pub fn new(config: &Config, swarm: S, traffic: TrafficCounter) -> Self {
        let end = CancellationToken::new();
        let (waits_for, waits_for_receiver) = watch::channel(None);
        let mut loops = JoinSet::new();
        let start = CancellationToken::new();
        let mut statuses = BTreeMap::new();
        // An Engine that is back must be noticed within about a poll; writes that fail may wait longer.
        let reading = Pacing { retry_at_most: config.engine.poll_interval.0, ..Pacing::default() };
        let writing = Pacing { retry_at_most: Duration::from_secs(10).max(reading.retry_at_most), ..Pacing::default() };
        let mut spawn = |name: String, level: Box<dyn FnOnce(Reporter) -> LoopFuture + Send>| {
            let (reporter, status) = Reporter::new(name.clone());
            let (start, end) = (start.clone(), end.clone());
            let running = level(reporter);
            loops.spawn(async move {
                tokio::select! {
                    () = end.cancelled() => return Ended::Told,
                    () = start.cancelled() => {}
                }
                running.await;
                Ended::Told
            });
            statuses.insert(name, status.clone());
            status
        };

        let (observer, desired) = observer::Observer::new(swarm.clone(), config.observer());
        let (short_circuits, addresses) = (observer.short_circuits(), observer.addresses());
        let (poll_every, completeness) = (observer.poll_every(), observer.completeness());
        let running_proxies = observer.running_proxies();
        let observer_status = spawn("observer".into(), looped(observer, reading, &end));

        let mut settings = config.reconciler();
        let mut published = BTreeMap::new();
        let mut rollouts = BTreeMap::new();
        let mut targets = BTreeMap::new();
        let mut actuator_counters: BTreeMap<ClusterName, _> = BTreeMap::new();
        let this_operator = actuator::Fence::now();
        for mut parts in config.clusters() {
            parts.actuator.operator = Some(this_operator);
            let (target, target_receiver) = watch::channel(None);
            let (actuator, outputs) = actuator::Actuator::new(swarm.clone(), parts.actuator, target_receiver);
            published.insert(parts.name.clone(), outputs.published);
            rollouts.insert(parts.name.clone(), outputs.status);
            actuator_counters.insert(parts.name.clone(), outputs.counters);
            spawn(format!("actuator-{}", parts.name), looped(actuator, writing, &end));
            targets.insert(parts.name.clone(), target);
            settings.clusters.insert(parts.name, parts.reconciler);
        }

        let (report, report_receiver) = watch::channel(None);
        let reconciler_counters = Arc::new(reconciler::Counters::default());
        let reconciler = reconciler::Reconciler::new(
            settings,
            desired,
            published.clone(),
            targets,
            report,
            Arc::clone(&reconciler_counters),
        );
        spawn("reconciler".into(), looped(reconciler, Pacing::default(), &end));

        let view = Arc::new(View {
            instance: config.instance.0.clone(),
            report: report_receiver,
            addresses,
            running_proxies,
            published,
            rollouts,
            waits_for: waits_for_receiver,
            observer: observer_status,
            completeness,
            loops: statuses,
            poll_every,
            // Two more polls, and never so short that one slow answer counts as an outage.
            stale_grace: (2 * config.engine.poll_interval.0).max(Duration::from_secs(12)),
        });
        let registry = metrics::registry(metrics::Sources {
            view: Arc::clone(&view),
            short_circuits: Arc::clone(&short_circuits),
            reconciler: reconciler_counters,
            actuators: actuator_counters,
            traffic,
        });
        let registry = Arc::new(registry);
        Self { view, registry, short_circuits, swarm, tasks: loops, waits_for, start, end }
    }
}

type LoopFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The loop of a level, ready to be spawned once it has a reporter.
fn looped(
    level: impl driver::Level + 'static,
    pacing: Pacing,
    end: &CancellationToken,
) -> Box<dyn FnOnce(Reporter) -> LoopFuture + Send> {
    let end = end.clone();
    Box::new(move |reporter| Box::pin(driver::run(level, pacing, reporter, end)))
}

/// Waits for the Engine's first answer and judges it. No answer is no reason to give up.
async fn accept(swarm: &impl swarm::Read, waits_for: &watch::Sender<Option<String>>) -> Result<()> {
    let mut retry = Retry::new(Duration::from_secs(5));
    loop {
        match swarm.identity().await {
            Ok(identity) => {
                if let Err(refusal) = engine::supported(&identity) {
                    bail!(refusal);
                }
                tracing::info!(engine = %identity.version, "the engine answers");
                waits_for.send_replace(None);
                return Ok(());
            }
            Err(error) => {
                let text = error.to_string();
                if waits_for.borrow().as_ref() != Some(&text) {
                    tracing::warn!(error = %text, "no answer from the engine yet; trying again for ever");
                    waits_for.send_replace(Some(text));
                }
                tokio::time::sleep(retry.next_delay()).await;
            }
        }
    }
}
