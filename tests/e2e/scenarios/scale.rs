//! A hundred, a thousand and ten thousand services, of which the operator makes real config objects and real proxies.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::crowd::{Crowd, host};
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

const TASKS: u32 = 10;

/// The config objects of ten thousand services of ten tasks are accepted, nginx starts with them, and one changed task
/// replaces one file. What rest and that change cost is told for each size.
pub async fn ten_thousand(world: &mut World) -> Result<()> {
    let big = ["network", "create", "-d", "overlay", "--subnet", "10.160.0.0/12", "big"];
    let network = world.docker.run(&big).await?;
    // Nobody answers at the crowd's addresses.
    world.nginx_settings = "      connect_timeout: 1s\n".to_owned();
    world.start_recorder()?;
    for services in [100, 1000, 10_000] {
        let crowd = Crowd::new(services, TASKS, &network, Ipv4Addr::new(10, 161, 0, 0));
        if let Some(operator) = world.operator.take() {
            operator.kill().await?;
        }
        world.recorder().set_crowd(crowd.clone());
        let before = world.docker.version("dovetail-proxy").await.unwrap_or(0);
        let started = Instant::now();
        world.launch_operator("")?;
        written_after(world, before).await?;
        let decided = seconds(started);
        published(world, &host(services - 1)).await?;
        let served = seconds(started);
        world.settled(600 * SECOND).await?;
        let objects = objects(world).await?;
        let (live, largest) = (total(&objects), objects.values().max().copied().unwrap_or_default());
        ensure!(largest <= 500 * 1024, "an object of {largest} bytes is too large for older engines");
        world.figure(format!(
            "{services} services: written {decided} after the operator's start, served after {served}; {} config objects \
             of {} KiB, the largest {} KiB; nginx reads its files in {}",
            objects.len(),
            live / 1024,
            largest / 1024,
            nginx_reads(world).await?
        ));
        at_rest(world, services).await?;
        one_more_task(world, services, &crowd, &objects).await?;
    }
    Ok(())
}

/// What a minute of rest costs, by half a minute, beside a poller that lists everything: all services, all networks and, of each service in
/// task mode, its tasks, every 15 s (Traefik's way; it asks for the node of each task as well).
async fn at_rest(world: &mut World, services: u32) -> Result<()> {
    let (calls, bytes) = ("dovetail_engine_calls_total", "dovetail_engine_bytes_total");
    let before = (world.operator().metric(calls, &[]).await?, world.operator().metric(bytes, &[]).await?);
    // A scenario may last ten minutes.
    sleep(30 * SECOND).await;
    let calls = 2.0 * (world.operator().metric(calls, &[]).await? - before.0);
    let bytes = 2.0 * (world.operator().metric(bytes, &[]).await? - before.1);
    let in_task_mode = services / 2;
    let poller = 4 * (3 + in_task_mode + in_task_mode * TASKS);
    world.figure(format!(
        "{services} services at rest: {calls} calls (a poller of everything: {poller}) and {:.1} MiB a minute, {} MiB resident",
        bytes / f64::from(1 << 20),
        world.operator().resident_bytes()? >> 20
    ));
    Ok(())
}

async fn one_more_task(
    world: &mut World,
    services: u32,
    crowd: &Crowd,
    before: &BTreeMap<String, usize>,
) -> Result<()> {
    let version = world.docker.version("dovetail-proxy").await?;
    let started = Instant::now();
    world.recorder().set_crowd(crowd.scaled(services - 1, TASKS + 1));
    written_after(world, version).await?;
    let decided = seconds(started);
    world.settled(600 * SECOND).await?;
    let rolled_out = seconds(started);
    published(world, &host(services - 1)).await?;
    let after = objects(world).await?;
    let new: Vec<usize> =
        after.iter().filter(|(name, _)| !before.contains_key(*name)).map(|(_, length)| *length).collect();
    let replaced: usize = new.iter().sum();
    ensure!(services < 1000 || replaced * 2 < total(&after), "one task replaces a small part: {replaced} bytes");
    world.figure(format!(
        "{services} services, one task more: written after {decided}, at rest after {rolled_out}; {} objects of {} KiB are new",
        new.len(),
        replaced / 1024,
    ));
    Ok(())
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

fn total(objects: &BTreeMap<String, usize>) -> usize {
    objects.values().sum()
}

/// Waits for a write to the proxy service.
async fn written_after(world: &World, version: u64) -> Result<()> {
    wait::until("the proxy service is written", 600 * SECOND, || async {
        if world.docker.version("dovetail-proxy").await? > version { Ok(()) } else { bail!("version {version}") }
    })
    .await
}

/// A host of the crowd is known to the proxies; nobody is behind it, so that an error is the right answer.
async fn published(world: &World, host: &str) -> Result<()> {
    wait::until(&format!("{host} is published"), 600 * SECOND, || async {
        let status = world.get(host, "/").await?.status;
        if matches!(status, 502 | 504) { Ok(()) } else { bail!("{status}") }
    })
    .await
}

/// The config objects in use and kept, with the length of their content.
async fn objects(world: &World) -> Result<BTreeMap<String, usize>> {
    let ids = world.docker.run(&["config", "ls", "-q"]).await?;
    let mut objects = BTreeMap::new();
    for id in ids.lines() {
        let inspected: Value = serde_json::from_str(&world.docker.run(&["config", "inspect", id]).await?)?;
        let (spec, data) = (&inspected[0]["Spec"], inspected[0]["Spec"]["Data"].as_str().unwrap_or_default());
        let padding = data.bytes().rev().take_while(|byte| *byte == b'=').count();
        let name = spec["Name"].as_str().context("a config has a name")?.to_owned();
        objects.insert(name, data.len() / 4 * 3 - padding);
    }
    Ok(objects)
}

/// How long nginx takes to read all of it.
async fn nginx_reads(world: &World) -> Result<String> {
    let container = world.container("dovetail-proxy").await?;
    let started = Instant::now();
    world.docker.run(&["exec", &container, "nginx", "-t", "-q", "-c", "/etc/nginx/nginx.conf"]).await?;
    Ok(seconds(started))
}
