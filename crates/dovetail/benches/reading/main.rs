//! What reading a cluster costs: an engine's lists over a unix socket, through the adapter into the observer. Half of
//! the services are in VIP mode; each has ten tasks. Each row is measured in a process of its own, so that its peak is
//! its own, and the server is in another one.
//!
//! Times are this machine's, the best of several rounds where there are several; read the ratios. Live bytes that
//! grow from round to round fail the run.

mod cluster;
mod server;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use driver::Level;
use engine::{Endpoint, Engine};
use observer::{Observer, observe_once};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::cluster::Churn;
use crate::server::Server;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// The rounds that times are taken from.
const ROUNDS: usize = 5;
/// The live bytes are compared after so many rounds and after so many, the least of each with the rounds just before: the
/// HTTP client's buffers grow and shrink with how the answers happen to arrive.
const EARLY: usize = 50;
const LATE: usize = 500;
const JUST_BEFORE: usize = 20;
/// What they may differ by, of more than a MiB: less than a hundred bytes a round.
const SLACK: isize = 40 << 10;

/// Without arguments (or with those of `cargo bench`) it serves, and starts itself for each row; with `live` it looks only at
/// whether memory grows.
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["once", socket] => Runtime::new()?.block_on(once(socket)),
        ["rounds", socket] => Runtime::new()?.block_on(rounds(socket)),
        ["growth", socket] => Runtime::new()?.block_on(growth(socket)),
        ["live", ..] => Runtime::new()?.block_on(live_bytes()),
        _ => Runtime::new()?.block_on(all()),
    }
}

async fn all() -> Result<()> {
    println!(
        "{:>9}  {:>10}  {:>10}  {:>7}  {:>11}  {:>10}  {:>11}  {:>10}",
        "services", "answers", "first look", "peak", "allocations", "at rest", "a task more", "peak then"
    );
    for services in [100, 1000, 10_000] {
        let server = Server::start(services, Churn::None)?;
        let first = measured("once", server.socket()).await?;
        let rest = measured("rounds", server.socket()).await?;
        let more = measured("rounds", Server::start(services, Churn::OneTask)?.socket()).await?;
        let (rest, _) = rest.split_once(" ms").context("a time")?;
        println!("{services:>9}  {first}  {rest:>7} ms  {more:>23}");
    }
    live_bytes().await
}

async fn live_bytes() -> Result<()> {
    let server = Server::start(100, Churn::OneTask)?;
    println!("100 services, live bytes: {}", measured("growth", server.socket()).await?);
    Ok(())
}

/// What this program prints about one thing in a process of its own.
async fn measured(what: &str, socket: &Path) -> Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(what).arg(socket);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim_end_matches('\n').to_owned())
}

fn connect(socket: &str) -> Result<Engine> {
    Ok(Engine::connect(&Endpoint::parse(&format!("unix://{socket}"), None)?, engine::Settings::default())?)
}

/// One look at everything, from nothing.
async fn once(socket: &str) -> Result<()> {
    let engine = connect(socket)?;
    let region = Region::new(ALLOCATOR);
    let started = Instant::now();
    let seen = observe_once(&engine, &observer::Settings::default()).await?;
    let took = started.elapsed();
    ensure!(!seen.desired.services.is_empty());
    println!(
        "{:>6.1} MiB  {:>10}  {:>3} MiB  {:>11}",
        engine.traffic().bytes_received as f64 / f64::from(1 << 20),
        milliseconds(took),
        peak_resident()? >> 10,
        region.change().allocations,
    );
    Ok(())
}

/// Looks at everything again and again, each time because a node changed.
async fn rounds(socket: &str) -> Result<()> {
    let (mut observer, _desired) = Observer::new(connect(socket)?, observer::Settings::default());
    observer.pass().await?;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(round(&mut observer).await?);
    }
    println!("{}  {:>6} MiB", milliseconds(best), peak_resident()? >> 10);
    Ok(())
}

async fn round(observer: &mut Observer<Engine>) -> Result<Duration> {
    observer.woken().await;
    let started = Instant::now();
    observer.pass().await?;
    Ok(started.elapsed())
}

/// Whether memory is kept that nobody needs.
async fn growth(socket: &str) -> Result<()> {
    let (mut observer, _desired) = Observer::new(connect(socket)?, observer::Settings::default());
    observer.pass().await?;
    let (mut early, mut late) = (isize::MAX, isize::MAX);
    for number in 1..=LATE {
        round(&mut observer).await?;
        match number {
            _ if number + JUST_BEFORE > LATE => late = late.min(live()),
            _ if number + JUST_BEFORE > EARLY && number <= EARLY => early = early.min(live()),
            _ => {}
        }
    }
    ensure!((late - early).abs() <= SLACK, "{early} after {EARLY} rounds, {late} after {LATE}");
    println!("{early} after {EARLY} rounds, {late} after {LATE}, each with one task more or less");
    Ok(())
}

fn live() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// The most that was resident at any time, in KiB.
fn peak_resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
