//! Runs scenarios in a few lanes side by side, each with an engine of its own, with a line each while it works and a
//! table at the end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;

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
    /// `make test-scale`: with the release program, and longest.
    Scale,
}

impl Suite {
    const ALL: [Self; 4] = [Self::Core, Self::Vip, Self::Cluster, Self::Scale];

    fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Vip => "vip",
            Self::Cluster => "cluster",
            Self::Scale => "scale",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Core => "make test",
            Self::Vip => "make test-vip",
            Self::Cluster => "make test-cluster",
            Self::Scale => "make test-scale",
        }
    }

    /// The longest time for one scenario; all have deadlines of their own, this one is for bugs.
    fn limit(self) -> Duration {
        let minutes = match self {
            Self::Core | Self::Vip => 15,
            Self::Cluster | Self::Scale => 30,
        };
        wait::stretched(Duration::from_secs(60 * minutes))
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
    /// What of Interlock's documented behaviour it shows, by the numbers of the acceptance list.
    pub shows: &'static [u8],
    /// Fails with the reason.
    pub run: for<'a> fn(&'a mut World) -> BoxFuture<'a, Result<()>>,
}

/// A scenario that is at work for so long says so, and again each time.
const STILL_AT_WORK: Duration = Duration::from_secs(60);

/// How many scenarios run side by side, unless E2E_LANES says otherwise. They wait most of the time.
const LANES: usize = 2;

/// The acceptance list of Interlock's documented behaviour goes from T1 to this.
const LAST_OF_INTERLOCK: u8 = 35;

/// With E2E_SECOND_CHANCE=1, so many scenarios may fail once.
const SECOND_CHANCES: usize = 2;

struct Outcome {
    took: Duration,
    failure: Option<String>,
    /// Why it failed before, if this is its second chance.
    unsteady: Option<String>,
    figures: Vec<String>,
}

impl Outcome {
    /// It failed before it could begin.
    fn failed(took: Duration, failure: String) -> Self {
        Self { took, failure: Some(failure), unsteady: None, figures: Vec::new() }
    }
}

/// Runs those that the command line selects.
pub fn run(scenarios: &[Scenario]) -> ExitCode {
    let work = complete(scenarios).and_then(|()| Ok((select(scenarios, std::env::args().skip(1))?, lanes()?)));
    match work {
        Ok((selected, _)) if std::env::args().any(|word| word == "--list") => {
            for scenario in selected {
                println!("{}: test", scenario.name);
            }
            ExitCode::SUCCESS
        }
        Ok((selected, lanes)) => tokio::runtime::Runtime::new().expect("a runtime").block_on(run_all(&selected, lanes)),
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Every number of the acceptance list is shown by some scenario.
fn complete(scenarios: &[Scenario]) -> Result<()> {
    let shown = |number: &u8| scenarios.iter().any(|scenario| scenario.shows.contains(number));
    let missing: Vec<u8> = (1..=LAST_OF_INTERLOCK).filter(|number| !shown(number)).collect();
    ensure!(missing.is_empty(), "no scenario shows {}", numbers(&missing));
    Ok(())
}

fn numbers(shown: &[u8]) -> String {
    shown.iter().map(|number| format!("T{number}")).collect::<Vec<_>>().join(" ")
}

fn lanes() -> Result<usize> {
    let Ok(text) = std::env::var("E2E_LANES") else { return Ok(LANES) };
    match text.parse() {
        Ok(lanes @ 1..=8) => Ok(lanes),
        _ => bail!("E2E_LANES is a number from 1 to 8, not {text:?}"),
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
                    suites.push(
                        known.with_context(|| format!("no suite {name:?}: there are core, vip, cluster and scale"))?,
                    );
                }
            }
            "--list" => {}
            flag if flag.starts_with('-') => bail!("no flag {flag:?}: there are --suite NAME,NAME and --list"),
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

async fn run_all(selected: &[&Scenario], lanes: usize) -> ExitCode {
    let mut outcomes = run_each(selected, lanes).await;
    let complete = outcomes.len() == selected.len();
    if complete && std::env::var_os("E2E_SECOND_CHANCE").is_some_and(|value| value == "1") {
        run_again(selected, &mut outcomes).await;
    }
    let outcomes: Vec<(&Scenario, Outcome)> =
        outcomes.into_iter().map(|(place, outcome)| (selected[place], outcome)).collect();
    report(&outcomes, selected.len() - outcomes.len())
}

/// Runs these. Tells how each went, by its place among them; not all are there if it was interrupted.
async fn run_each(scenarios: &[&Scenario], lanes: usize) -> BTreeMap<usize, Outcome> {
    let stopped = CancellationToken::new();
    let queue = Queue::new(scenarios, lanes);
    let work = join_all((0..lanes).map(|lane| work_off(&queue, lane, &stopped)));
    let mut work = std::pin::pin!(work);
    let outcomes = tokio::select! {
        outcomes = &mut work => outcomes,
        () = interrupted() => {
            eprintln!("e2e: interrupted, taking the engines down");
            stopped.cancel();
            work.await
        }
    };
    outcomes.into_iter().flatten().collect()
}

/// Runs the few that failed once more, by themselves. That they failed stays in the report: it is a fault to be found, and
/// need not keep everything else from being merged.
async fn run_again(selected: &[&Scenario], outcomes: &mut BTreeMap<usize, Outcome>) {
    let failed: Vec<usize> =
        outcomes.iter().filter(|(_, outcome)| outcome.failure.is_some()).map(|(place, _)| *place).collect();
    if failed.is_empty() || failed.len() > SECOND_CHANCES {
        return;
    }
    eprintln!("e2e: {} failed, and get a second chance by themselves", failed.len());
    let again: Vec<&Scenario> = failed.iter().map(|place| selected[*place]).collect();
    for (number, outcome) in run_each(&again, 1).await {
        let first = outcomes.remove(&failed[number]).and_then(|first| first.failure);
        outcomes.insert(failed[number], Outcome { unsteady: first, ..outcome });
    }
}

/// What is left to do, shared by the lanes.
struct Queue<'a> {
    /// With their places in the table.
    waiting: RefCell<Vec<(usize, &'a Scenario)>>,
    of: usize,
    /// How many nodes each lane's engine has.
    engines: RefCell<Vec<Option<usize>>>,
}

impl<'a> Queue<'a> {
    fn new(selected: &[&'a Scenario], lanes: usize) -> Self {
        Self {
            waiting: RefCell::new(selected.iter().copied().enumerate().collect()),
            of: selected.len(),
            engines: RefCell::new(vec![None; lanes]),
        }
    }

    /// The next scenario for a lane, and how many have begun: one for the engine that it has, else one for an engine that
    /// no other lane has, else any.
    fn next(&self, lane: usize) -> Option<(usize, &'a Scenario, usize)> {
        let (mut waiting, mut engines) = (self.waiting.borrow_mut(), self.engines.borrow_mut());
        let first = |fits: &dyn Fn(usize) -> bool| waiting.iter().position(|(_, scenario)| fits(scenario.nodes));
        let chosen = first(&|nodes| engines[lane] == Some(nodes))
            .or_else(|| first(&|nodes| !engines.contains(&Some(nodes))))
            .or_else(|| first(&|_| true))?;
        let (place, scenario) = waiting.remove(chosen);
        engines[lane] = Some(scenario.nodes);
        Some((place, scenario, self.of - waiting.len()))
    }
}

/// Runs one scenario after the other until none is left or all is stopped; leaves no engine behind.
async fn work_off(queue: &Queue<'_>, lane: usize, stopped: &CancellationToken) -> Vec<(usize, Outcome)> {
    let mut outcomes = Vec::new();
    let mut running: Option<Engine> = None;
    while !stopped.is_cancelled()
        && let Some((place, scenario, index)) = queue.next(lane)
    {
        let name = format!("e2e{}", lane + 1);
        let outcome = run_on_engine(scenario, &name, &mut running, (index, queue.of), stopped).await;
        outcomes.extend(outcome.map(|outcome| (place, outcome)));
    }
    if let Some(mut engine) = running {
        engine.down().await;
    }
    outcomes
}

/// Runs one scenario on the running engine, or on a new one if that has another number of nodes. None if all was stopped on
/// the way.
async fn run_on_engine(
    scenario: &Scenario,
    name: &str,
    running: &mut Option<Engine>,
    (index, of): (usize, usize),
    stopped: &CancellationToken,
) -> Option<Outcome> {
    if running.as_ref().is_some_and(|engine| engine.nodes() != scenario.nodes)
        && let Some(mut engine) = running.take()
    {
        engine.down().await;
    }
    if running.is_none() {
        match Engine::up(name, scenario.nodes, stopped).await {
            Ok(engine) => *running = Some(engine),
            Err(_) if stopped.is_cancelled() => return None,
            Err(error) => return Some(Outcome::failed(Duration::ZERO, format!("no engine to test on: {error:#}"))),
        }
    }
    let engine = running.as_ref().expect("it was just brought up");
    eprintln!("e2e: {index}/{of} {} ...", scenario.name);
    let outcome = tokio::select! {
        outcome = run_one(scenario, engine) => outcome,
        never = tell_time(scenario.name) => never,
        () = stopped.cancelled() => return None,
    };
    let took = outcome.took.as_secs_f64();
    match &outcome.failure {
        None => eprintln!("e2e: {} ok ({took:.1} s)", scenario.name),
        Some(failure) => eprintln!("e2e: {} FAILED ({took:.1} s): {failure}", scenario.name),
    }
    for figure in &outcome.figures {
        eprintln!("e2e:   {figure}");
    }
    // What is left of it could be in the next one's way.
    if outcome.failure.is_some()
        && let Some(mut engine) = running.take()
    {
        engine.down().await;
    }
    Some(outcome)
}

/// Says now and then that a scenario is still at work.
async fn tell_time<T>(name: &str) -> T {
    let started = Instant::now();
    let mut minutes = interval_at(started + STILL_AT_WORK, STILL_AT_WORK);
    loop {
        minutes.tick().await;
        eprintln!("e2e: {name} is still at work, after {} s", started.elapsed().as_secs());
    }
}

async fn run_one(scenario: &Scenario, engine: &Engine) -> Outcome {
    let started = Instant::now();
    let mut world = match World::new(scenario.name, engine) {
        Ok(world) => world,
        Err(error) => return Outcome::failed(started.elapsed(), format!("{error:#}")),
    };
    let result =
        std::panic::AssertUnwindSafe(timeout(scenario.suite.limit(), (scenario.run)(&mut world))).catch_unwind().await;
    let failure = match result {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(format!("{error:#}")),
        Ok(Err(_)) => Some(format!("not finished after {} s", scenario.suite.limit().as_secs())),
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
    Outcome { took: started.elapsed(), failure, unsteady: None, figures }
}

fn report(outcomes: &[(&Scenario, Outcome)], not_run: usize) -> ExitCode {
    let width = outcomes.iter().map(|(scenario, _)| scenario.name.len()).max().unwrap_or(0);
    println!();
    for (scenario, outcome) in outcomes {
        let verdict = match outcome {
            Outcome { failure: Some(_), .. } => "FAILED",
            Outcome { unsteady: Some(_), .. } => "ok, but failed before",
            Outcome { .. } => "ok",
        };
        let took = outcome.took.as_secs_f64();
        println!(
            "{}",
            format!("{:width$}  {took:>6.1} s  {verdict:<6}  {}", scenario.name, numbers(scenario.shows)).trim_end()
        );
        for line in &outcome.figures {
            println!("{:width$}      {line}", "");
        }
    }
    // At the end: of a long output, that is what is still to be seen.
    let named = |of: fn(&Outcome) -> Option<&str>| -> Vec<(&str, &str)> {
        outcomes.iter().filter_map(|(scenario, outcome)| Some((scenario.name, of(outcome)?))).collect()
    };
    let failures = named(|outcome| outcome.failure.as_deref());
    for (title, list) in
        [("failed before", named(|outcome| outcome.unsteady.as_deref())), ("failures", failures.clone())]
    {
        if !list.is_empty() {
            println!("\n{title}:");
        }
        for (name, failure) in list {
            println!("    {name}: {failure}");
        }
    }
    let (passed, failed) = (outcomes.len() - failures.len(), failures.len());
    if not_run > 0 {
        println!("\ninterrupted: {not_run} did not run to their end");
    }
    let passed_all = failed == 0 && not_run == 0;
    let verdict = if passed_all { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if passed_all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn interrupted() {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signals can be heard");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
