//! One fault after the other on three nodes, under a steady load of requests through real nginx. After each, everything
//! comes to rest again with every route served, and the table says what the fault cost.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::cluster::whole_again;
use crate::support::load::{self, Counts};
use crate::support::recorder::Mood;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// The routes that must be served after every fault.
const HOSTS: [&str; 2] = ["demo.local", "other.local"];

/// Something that goes wrong.
struct Fault {
    name: &'static str,
    /// Does it, and undoes it where it does not pass by itself.
    happens: for<'a> fn(&'a mut World) -> BoxFuture<'a, Result<()>>,
    /// Of a hundred requests so many may fail while it lasts. Where the answer to a request is lost in a task or proxy
    /// that dies, a client that may not try again has no other answer.
    percent: u64,
}

/// Everything that the project promises to get over, in an order in which each meets what the last has left.
const SCHEDULE: [Fault; 11] = [
    Fault {
        name: "a task of the application is killed",
        happens: |world| world.kill_one_task("demo").boxed(),
        percent: 1,
    },
    Fault { name: "a proxy is killed", happens: |world| world.kill_one_task("dovetail-proxy").boxed(), percent: 1 },
    Fault { name: "the operator is killed", happens: |world| operator_killed(world).boxed(), percent: 0 },
    Fault { name: "calls are refused", happens: |world| calls(Mood::Refuse, world).boxed(), percent: 0 },
    Fault { name: "calls are answered 500", happens: |world| calls(Mood::Fail, world).boxed(), percent: 0 },
    Fault { name: "answers end in the middle", happens: |world| calls(Mood::Half, world).boxed(), percent: 0 },
    Fault { name: "each call takes 3 s longer", happens: |world| calls(Mood::Slow, world).boxed(), percent: 0 },
    Fault { name: "somebody rolls the proxies back", happens: |world| rolled_back(world).boxed(), percent: 0 },
    Fault { name: "nginx refuses the files", happens: |world| refused_files(world).boxed(), percent: 0 },
    Fault { name: "dockerd is restarted on a node", happens: |world| dockerd_restarted(world).boxed(), percent: 5 },
    Fault { name: "a service has impossible labels", happens: |world| impossible_labels(world).boxed(), percent: 0 },
];

/// Walks through the schedule.
pub async fn under_load(world: &mut World) -> Result<()> {
    world.begin_serving("demo", "--replicas 3", 120 * SECOND).await?;
    world.serve("other", "other.local", "--replicas 2").await?;
    at_rest(world).await?;
    let (mut sent, mut failed) = (0, 0);
    for Fault { name, happens, percent } in SCHEDULE {
        let load = world.load(HOSTS[0], Duration::from_millis(50));
        let started = Instant::now();
        let outcome = happens(world).await.context(name);
        let rested = match outcome {
            Ok(()) => at_rest(world).await.context(name),
            Err(error) => Err(error),
        };
        let counts = load.stop().await;
        rested?;
        world.figure(format!("{name}: at rest after {:.1} s; {counts}", started.elapsed().as_secs_f64()));
        ensure!(allowed(&counts, percent), "{name}: more than {percent} % of the requests fail: {counts}");
        sent += counts.sent;
        failed += counts.failed;
    }
    world.figure(format!("{} faults: {sent} requests, {failed} failed", SCHEDULE.len()));
    Ok(())
}

fn allowed(counts: &Counts, percent: u64) -> bool {
    counts.sent > 0 && counts.failed * 100 <= counts.sent * percent
}

/// The operator is ready, the proxies are in step and all there, and every route is served by each of them.
async fn at_rest(world: &World) -> Result<()> {
    world.operator().ready().await?;
    whole_again(&world.docker).await?;
    world.settled(180 * SECOND).await?;
    for address in &world.http {
        for host in HOSTS {
            wait::until(&format!("{host} is served at {address}"), 60 * SECOND, || async {
                let status = load::get(address, host, "/ping").await?.status;
                if status == 200 { Ok(()) } else { bail!("{status}") }
            })
            .await?;
        }
    }
    Ok(())
}

async fn operator_killed(world: &mut World) -> Result<()> {
    world.operator.take().context("an operator")?.kill().await?;
    world.start_operator().await
}

/// For ten seconds the Engine is not what it was; a service is scaled meanwhile, which has to be seen afterwards.
async fn calls(mood: Mood, world: &World) -> Result<()> {
    let more = world.docker.running_tasks("other").await?.len() + 1;
    world.recorder().set_mood(mood);
    world.docker.line(&format!("service scale --detach other={more}")).await?;
    wait::throughout("the route stays", 10 * SECOND, || async {
        let status = world.get(HOSTS[1], "/ping").await?.status;
        ensure!(status == 200, "it answers {status}");
        Ok(())
    })
    .await?;
    world.recorder().set_mood(Mood::Pass);
    world.every_task_is_an_upstream("other", more).await
}

/// The rollback is held to until somebody says `retry`.
async fn rolled_back(world: &World) -> Result<()> {
    world.docker.line("service rollback --detach dovetail-proxy").await?;
    world.status_says(&["rolled back by hand"], 120 * SECOND).await?;
    let (code, text, error) = world.operator().command(&["retry", "main"]).await?;
    ensure!(code == 0, "retry ends with {code}: {text}{error}");
    wait::until("nothing is held any more", 120 * SECOND, || async {
        let status = world.status().await?;
        if status["holds"].as_array().is_none_or(Vec::is_empty) { Ok(()) } else { bail!("{status}") }
    })
    .await
}

/// A raw line that nginx does not know is found out before a proxy sees it; then it is taken out again.
async fn refused_files(world: &mut World) -> Result<()> {
    world.operator.take().context("an operator")?.kill().await?;
    world.nginx_settings = "      extra:\n        http:\n          - \"serve_everything on;\"\n".to_owned();
    world.start_operator().await?;
    world.status_says(&["held", "serve_everything"], 120 * SECOND).await?;
    world.operator.take().context("an operator")?.kill().await?;
    world.nginx_settings = String::new();
    world.start_operator().await
}

/// With the daemon the containers of its node end, proxy and tasks; Swarm makes others.
async fn dockerd_restarted(world: &mut World) -> Result<()> {
    world.restart_dockerd(2).await?;
    whole_again(&world.docker).await?;
    world.every_task_is_an_upstream("demo", 3).await
}

async fn impossible_labels(world: &World) -> Result<()> {
    let labels = "--label com.docker.lb.context_root=no/slash --label com.docker.lb.weight=-1";
    world.serve("impossible", HOSTS[0], labels).await?;
    wait::until("explain says what is wrong", 60 * SECOND, || async {
        let (_, text, _) = world.operator().command(&["explain", "impossible"]).await?;
        if text.contains("context_root") && text.contains("weight") { Ok(()) } else { bail!("{text}") }
    })
    .await
}
