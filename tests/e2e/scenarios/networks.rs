//! Networks without an address left for the proxies, on three nodes with a proxy each: what is seen beforehand stops no
//! proxy.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// A full network's service asks to be routed: no proxy is touched, `explain` has the numbers, a healthy service is
/// routed meanwhile; and so is the crowded one once it is scaled down.
pub async fn full(world: &mut World) -> Result<()> {
    world.begin_serving("good", "--replicas 3", 120 * SECOND).await?;
    let load = world.load("good.local", Duration::from_millis(50));

    // Of the 14 addresses of a /28 the gateway, the VIP, eleven tasks and their node's own endpoint take all.
    world.docker.line("network create -d overlay --subnet 10.77.0.0/28 tiny").await?;
    let (node, image) = (world.first_node().await?, world.demo_image());
    world
        .docker
        .line(&format!(
            "service create --name crowded --network tiny --detach --replicas 11 --constraint node.hostname=={node} {image}"
        ))
        .await?;
    all_run(world, "crowded", 11).await.context("so many fit, and no more")?;
    let proxies = world.docker.task_ids("dovetail-proxy").await?;
    world.recorder().clear();
    let label = "--label-add com.docker.lb.hosts=crowded.local --label-add com.docker.lb.port=8080";
    world.docker.line(&format!("service update --detach {label} crowded")).await?;
    wait::until("explain says why it is refused", 20 * SECOND, || async {
        let (_, text, _) = world.operator().command(&["explain", "crowded"]).await?;
        let told = [
            "of the 13 addresses of 10.77.0.0/28 at least 8 are taken by others",
            "the proxies and their nodes need 6 to join it",
            "at least 13 of its 13 addresses are taken now",
        ];
        if told.iter().all(|part| text.contains(part)) { Ok(()) } else { bail!("{text}") }
    })
    .await?;
    wait::until("the operator has seen it, too", 20 * SECOND, || async {
        let count = world.operator().metric("dovetail_service_problems", &["network_full"]).await?;
        let full = world.operator().metric("dovetail_network_nearly_full", &["tiny"]).await?;
        if count >= 1.0 && full >= 1.0 { Ok(()) } else { bail!("{count} services, {full} networks") }
    })
    .await?;
    wait::throughout("no proxy is touched", 20 * SECOND, || async {
        let writes = world.recorder().writes();
        ensure!(writes.is_empty(), "writes: {writes:?}");
        let running: BTreeSet<String> = running(world).await?;
        ensure!(running == proxies.iter().cloned().collect(), "{running:?} run, not {proxies:?}");
        Ok(())
    })
    .await?;
    let (_, status, _) = world.operator().command(&["status"]).await?;
    ensure!(status.contains("network tiny: nearly full: at least 13 of the 13 addresses"), "{status}");

    world.serve("late", "late.local", "").await?;
    let started = Instant::now();
    world.routed("late.local", 60 * SECOND).await?;
    world.figure(format!("a healthy service meanwhile is routed after {:.1} s", started.elapsed().as_secs_f64()));
    world.settled(120 * SECOND).await?;

    // The VIP, six tasks, three proxies and three nodes take 13.
    world.docker.line("service scale --detach crowded=6").await?;
    let started = Instant::now();
    world.routed("crowded.local", 60 * SECOND).await?;
    world.figure(format!("scaled down, it is routed after {:.1} s", started.elapsed().as_secs_f64()));
    world.settled(120 * SECOND).await?;
    for address in world.http.clone() {
        let answer = crate::support::load::get(&address, "crowded.local", "/ping").await?;
        ensure!(answer.status == 200, "{address} answers {}", answer.status);
    }
    let ended = world.docker.line("service ps --no-trunc --format {{.CurrentState}}|{{.Error}} dovetail-proxy").await?;
    let bad: Vec<&str> =
        ended.lines().filter(|line| !line.starts_with("Running") && !line.starts_with("Shutdown")).collect();
    ensure!(bad.is_empty(), "no proxy failed or waited on account of it: {bad:?}");
    let holds = world.operator().metric("dovetail_held_generations", &[]).await?;
    ensure!(holds == 0.0, "nothing was held: {holds}");
    world.nothing_failed(load).await
}

/// The proxies that run.
async fn running(world: &World) -> Result<BTreeSet<String>> {
    let tasks = world.docker.running_tasks("dovetail-proxy").await?;
    Ok(tasks.iter().filter_map(|task| Some(task["ID"].as_str()?.to_owned())).collect())
}

async fn all_run(world: &World, service: &str, count: usize) -> Result<()> {
    wait::until(&format!("{count} tasks of {service} run"), 60 * SECOND, || async {
        let running = world.docker.running_tasks(service).await?.len();
        if running == count { Ok(()) } else { bail!("{running} run") }
    })
    .await
}
