//! Runs scenarios one after the other, with a line each while it works and a table at the end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::engine::Engine;
use super::wait;
use super::world::World;

/// Which make target a scenario belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// `make test`: any kernel.
    Core,
    /// `make test-vip`: needs IPVS, without which no packet to a VIP is answered.
    Vip,
    /// `make test-cluster`: three managers; long.
    Cluster,
}

impl Suite {
    const ALL: [Self; 3] = [Self::Core, Self::Vip, Self::Cluster];

    fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Vip => "vip",
            Self::Cluster => "cluster",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Core => "make test",
            Self::Vip => "make test-vip",
            Self::Cluster => "make test-cluster",
        }
    }
}

/// One scenario: its name, and what it does in the world it is given.
pub struct Scenario {
    /// Words joined by hyphens.
    pub name: &'static str,
    /// Where it belongs.
    pub suite: Suite,
    /// How many managers its engine has.
    pub nodes: usize,
    /// Fails with the reason.
    pub run: for<'a> fn(&'a mut World) -> BoxFuture<'a, Result<()>>,
}

/// The longest time for one scenario; all have deadlines of their own, this one is for bugs.
const LIMIT: Duration = Duration::from_secs(600);

struct Outcome {
    name: &'static str,
    took: Duration,
    failure: Option<String>,
    figures: Vec<String>,
}

/// Runs those that the command line selects.
pub fn run(scenarios: &[Scenario]) -> ExitCode {
    match select(scenarios, std::env::args().skip(1)) {
        Ok(selected) if std::env::args().any(|word| word == "--list") => {
            for scenario in selected {
                println!("{}: test", scenario.name);
            }
            ExitCode::SUCCESS
        }
        Ok(selected) => tokio::runtime::Runtime::new().expect("a runtime").block_on(run_all(&selected)),
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `--suite NAME,NAME` selects suites (`core` alone if nothing else is said); words select, of all suites or of
/// those named, the scenarios that have one of them in their name.
fn select(scenarios: &[Scenario], arguments: impl Iterator<Item = String>) -> Result<Vec<&Scenario>> {
    let (mut words, mut suites) = (Vec::new(), Vec::new());
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--suite" => {
                let names = arguments.next().context("--suite needs a name")?;
                for name in names.split(',') {
                    let known = Suite::ALL.into_iter().find(|suite| suite.name() == name);
                    suites.push(known.with_context(|| format!("no suite {name:?}: there are core, vip and cluster"))?);
                }
            }
            flag if flag.starts_with("--") => {}
            _ => words.push(argument),
        }
    }
    if suites.is_empty() {
        suites = if words.is_empty() { vec![Suite::Core] } else { Suite::ALL.to_vec() };
    }
    let selected: Vec<&Scenario> = scenarios
        .iter()
        .filter(|scenario| suites.contains(&scenario.suite))
        .filter(|scenario| words.is_empty() || words.iter().any(|word| scenario.name.contains(word.as_str())))
        .collect();
    if selected.is_empty() {
        bail!("no scenario of {suites:?} has any of {words:?} in its name");
    }
    // The kernel shows it once the module is there, and dockerd has it loaded where it can be.
    if let Some(scenario) = selected.iter().find(|scenario| scenario.suite == Suite::Vip)
        && !std::path::Path::new("/proc/net/ip_vs").exists()
    {
        bail!("{} needs a kernel with IPVS: run it with `make test-vip WORDS={}`", scenario.name, scenario.name);
    }
    for suite in Suite::ALL.into_iter().filter(|suite| words.is_empty() && !suites.contains(suite)) {
        let names: Vec<&str> =
            scenarios.iter().filter(|scenario| scenario.suite == suite).map(|scenario| scenario.name).collect();
        eprintln!("e2e: {} scenarios belong to `{}`: {}", names.len(), suite.target(), names.join(" "));
    }
    Ok(selected)
}

async fn run_all(selected: &[&Scenario]) -> ExitCode {
    let mut outcomes = Vec::new();
    let mut running: Option<Engine> = None;
    let mut interrupted = std::pin::pin!(interrupted());
    for (index, scenario) in selected.iter().enumerate() {
        let outcome = tokio::select! {
            outcome = run_on_engine(scenario, &mut running, (index + 1, selected.len())) => outcome,
            () = &mut interrupted => {
                eprintln!("e2e: interrupted, taking the engine down");
                break;
            }
        };
        outcomes.push(outcome);
    }
    if let Some(mut engine) = running {
        engine.down().await;
    }
    let complete = outcomes.len() == selected.len();
    match report(&outcomes) {
        ExitCode::SUCCESS if complete => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs one scenario on the running engine, or on a new one if that has another number of nodes.
async fn run_on_engine(scenario: &Scenario, running: &mut Option<Engine>, (index, of): (usize, usize)) -> Outcome {
    if running.as_ref().is_some_and(|engine| engine.nodes() != scenario.nodes)
        && let Some(mut engine) = running.take()
    {
        engine.down().await;
    }
    if running.is_none() {
        match Engine::up("e2e", scenario.nodes).await {
            Ok(engine) => *running = Some(engine),
            Err(error) => {
                let failure = Some(format!("no engine to test on: {error:#}"));
                return Outcome { name: scenario.name, took: Duration::ZERO, failure, figures: Vec::new() };
            }
        }
    }
    let engine = running.as_ref().expect("it was just brought up");
    eprintln!("e2e: {index}/{of} {} ...", scenario.name);
    let outcome = run_one(scenario, engine).await;
    let took = outcome.took.as_secs_f64();
    match &outcome.failure {
        None => eprintln!("e2e: {} ok ({took:.1} s)", scenario.name),
        Some(failure) => eprintln!("e2e: {} FAILED ({took:.1} s): {failure}", scenario.name),
    }
    for figure in &outcome.figures {
        eprintln!("e2e:   {figure}");
    }
    outcome
}

async fn run_one(scenario: &Scenario, engine: &Engine) -> Outcome {
    let started = Instant::now();
    let mut world = World::new(scenario.name, engine);
    let result =
        std::panic::AssertUnwindSafe(timeout(wait::stretched(LIMIT), (scenario.run)(&mut world))).catch_unwind().await;
    let failure = match result {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(format!("{error:#}")),
        Ok(Err(_)) => Some(format!("not finished after {} s", wait::stretched(LIMIT).as_secs())),
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
                .unwrap_or_else(|| "panicked".into()),
        ),
    };
    if failure.is_some() {
        world.print_evidence().await;
    }
    let figures = world.figures().to_vec();
    let cleaned = world.clean_up().await;
    let failure = match (failure, cleaned) {
        (Some(failure), _) => Some(failure),
        (None, Err(error)) => Some(format!("{:#}", anyhow!("the scenario left something behind: {error:#}"))),
        (None, Ok(())) => None,
    };
    Outcome { name: scenario.name, took: started.elapsed(), failure, figures }
}

fn report(outcomes: &[Outcome]) -> ExitCode {
    let width = outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or(0);
    println!();
    for outcome in outcomes {
        let verdict = if outcome.failure.is_none() { "ok" } else { "FAILED" };
        println!("{:width$}  {:>6.1} s  {verdict}", outcome.name, outcome.took.as_secs_f64());
        for line in outcome.figures.iter().chain(&outcome.failure) {
            println!("{:width$}      {line}", "");
        }
    }
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let passed = outcomes.len() - failed;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn interrupted() {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signals can be heard");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
