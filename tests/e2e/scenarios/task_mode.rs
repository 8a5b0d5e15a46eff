//! Task mode: one upstream server for each running task.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::support::wait::{self, SECOND};
use crate::support::websocket::WebSocket;
use crate::support::world::World;

/// 1 -> 4 -> 2 under steady requests: within a stated time they reach exactly the running tasks.
pub async fn scale(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    world.network("demo").await?;
    world.serve("demo", "demo.local", "").await?;
    world.routed("demo.local", Duration::from_secs(40)).await?;
    world.settled(Duration::from_secs(60)).await?;
    let load = world.load("demo.local", Duration::from_millis(50));
    for replicas in [4, 2] {
        let started = Instant::now();
        world.docker.line(&format!("service scale --detach demo={replicas}")).await?;
        wait::until(&format!("requests reach exactly {replicas} tasks"), Duration::from_secs(60), || async {
            let running: BTreeSet<String> =
                world.docker.addresses("demo", "demo").await?.iter().map(|address| format!("{address}:8080")).collect();
            let mut reached = BTreeSet::new();
            for _ in 0..4 * replicas {
                let answer = world.get("demo.local", "/ping").await?;
                reached.insert(answer.header("x-upstream-addr").to_owned());
            }
            if running.len() == replicas && reached == running { Ok(()) } else { bail!("{reached:?} of {running:?}") }
        })
        .await?;
        world.figure(format!(
            "scale to {replicas} -> requests reach exactly those tasks: {:.1} s",
            started.elapsed().as_secs_f64()
        ));
        world.settled(Duration::from_secs(60)).await?;
    }
    let counts = load.stop().await;
    world.figure(format!("1 -> 4 -> 2 with one proxy on a host port (stop-first): {counts}"));
    ensure!(counts.sent > 100, "there was a load");
    ensure!(counts.longest_gap < Duration::from_secs(30), "no gap is longer than a proxy's restart: {counts}");
    Ok(())
}

/// 4 + 1 tasks on one host share it 80 : 20; without the first, the second has it all.
pub async fn canary(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    world.network("demo").await?;
    for (name, replicas) in [("v1", 4), ("v2", 1)] {
        world
            .serve(&format!("demo-{name}"), "demo.local", &format!("--replicas={replicas} --env METADATA={name}"))
            .await?;
    }
    wait::until("all five tasks are upstreams", Duration::from_secs(60), || async {
        let routes = world.live_routes().await?;
        let servers = routes.lines().filter(|line| line.trim_start().starts_with("server 10.")).count();
        if servers == 5 { Ok(()) } else { bail!("{servers} servers") }
    })
    .await?;
    world.settled(Duration::from_secs(60)).await?;
    let shares = shares(world, 1000).await?;
    let share = shares.get("v2").copied().unwrap_or(0) as f64 / 1000.0;
    world.figure(format!("canary 4 + 1 tasks: {:.1} % of 1000 requests reached v2", share * 100.0));
    // Five standard deviations of a fair coin of 20 % thrown 1000 times; nginx's round robin is far closer.
    ensure!((share - 0.2).abs() < 5.0 * (0.2_f64 * 0.8 / 1000.0).sqrt(), "v2 has {share} of the requests, not 0.2");

    world.docker.line("service scale --detach demo-v1=0").await?;
    wait::until("v2 has it all", Duration::from_secs(60), || async {
        let shares = self::shares(world, 20).await?;
        if shares.get("v2") == Some(&20) { Ok(()) } else { bail!("{shares:?}") }
    })
    .await
}

pub(super) async fn shares(world: &World, requests: usize) -> Result<BTreeMap<String, usize>> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = world.get("demo.local", "/ping").await?;
        ensure!(answer.status == 200, "a request is answered {}", answer.status);
        *shares.entry(answer.json()["metadata"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(shares)
}

/// A task that ends again and again moves the proxies a few times, and then no more; it is served when it keeps running.
pub async fn crash_loop(world: &mut World) -> Result<()> {
    world.begin_serving("good", "", 60 * SECOND).await?;
    world.serve("loop", "loop.local", "--restart-delay 1s").await?;
    world.routed("loop.local", 60 * SECOND).await?;
    for _ in 0..3 {
        world.settled(60 * SECOND).await?;
        world.kill_one_task("loop").await?;
        wait::until("its next task is known", 30 * SECOND, || async { known(world, "loop").await.map(|_| ()) }).await?;
    }
    world.status_says(&["kept ending"], 30 * SECOND).await?;
    world.settled(60 * SECOND).await?;
    let (version, load) =
        (world.docker.version("dovetail-proxy").await?, world.load("good.local", Duration::from_millis(50)));
    for _ in 0..3 {
        world.kill_one_task("loop").await?;
        wait::until("its next task is held off", 30 * SECOND, || async {
            let reason = known(world, "loop").await?;
            if reason.contains("kept ending") { Ok(()) } else { bail!("{reason}") }
        })
        .await?;
    }
    ensure!(world.docker.version("dovetail-proxy").await? == version, "a crash loop moves no proxy");
    world.nothing_failed(load).await?;
    let started = Instant::now();
    world.routed("loop.local", 130 * SECOND).await?;
    world.figure(format!("it stopped ending -> it is served: {:.1} s", started.elapsed().as_secs_f64()));
    let (_, text, _) = world.operator().command(&["explain", "loop"]).await?;
    ensure!(text.contains("routed: 1 task runs") && !text.contains("kept ending"), "{text}");
    Ok(())
}

/// What `explain` says of the one task of a service that runs.
async fn known(world: &World, service: &str) -> Result<String> {
    let running = world.docker.task_ids(service).await?;
    let explained = world.operator().json(&["explain", service]).await?;
    let tasks = explained[0]["tasks"].as_array().context("tasks")?;
    let about = tasks.iter().find(|task| running.iter().any(|id| task["id"] == id.as_str()));
    let about = about.with_context(|| format!("{running:?} are not in {tasks:?}"))?;
    Ok(about["reason"].as_str().unwrap_or_default().to_owned())
}

/// WebSockets need no label, and the application sees what it should of the client.
pub async fn websocket_and_headers(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    world.network("demo").await?;
    world.serve("demo", "Demo.Local,*.demo.local", "").await?;
    world.routed("demo.local", Duration::from_secs(40)).await?;
    world.routed("any.demo.local", Duration::from_secs(5)).await?;

    let answer = world.get("demo.local", "/headers").await?;
    let headers = answer.json();
    let sent = |name: &str| headers[name][0].as_str().unwrap_or_default().to_owned();
    ensure!(sent("host") == "demo.local", "the application sees the client's Host: {headers}");
    ensure!(sent("x-forwarded-proto") == "http", "and the protocol: {headers}");
    ensure!(!sent("x-real-ip").is_empty() && !sent("x-forwarded-for").is_empty(), "and the client: {headers}");
    ensure!(sent("x-request-id") == answer.header("x-request-id"), "and the request's id: {headers}");

    WebSocket::open(&world.http[0], "demo.local").await?.echo().await
}
