//! Ten thousand services, of which the operator makes real config objects and real proxies.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::crowd::{Crowd, host};
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

const SERVICES: u32 = 10_000;
const TASKS: u32 = 10;

/// Ten thousand services of ten tasks: the config objects are accepted, nginx starts with them, and one changed task
/// replaces one file.
pub async fn ten_thousand(world: &mut World) -> Result<()> {
    let big = ["network", "create", "-d", "overlay", "--subnet", "10.160.0.0/12", "big"];
    let network = world.docker.run(&big).await?;
    // Nobody answers at the crowd's addresses.
    world.nginx_settings = "      connect_timeout: 1s\n".to_owned();
    world.start_recorder()?;
    let crowd = Crowd::new(SERVICES, TASKS, &network, Ipv4Addr::new(10, 161, 0, 0));
    world.recorder().set_crowd(crowd.clone());
    let started = Instant::now();
    world.launch_operator("")?;
    let last = host(SERVICES - 1);
    published(world, &last).await?;
    world.figure(format!("from the operator's start to the last of {SERVICES} routes: {}", seconds(started)));
    world.settled(600 * SECOND).await?;
    let before = objects(world).await?;
    let (bytes, largest) = (total(&before), before.values().max().copied().unwrap_or_default());
    world.figure(format!(
        "{} config objects of {} KiB in all, the largest {} KiB",
        before.len(),
        bytes / 1024,
        largest / 1024
    ));
    ensure!(largest <= 500 * 1024, "an object of {largest} bytes is too large for older engines");
    nginx_reads(world).await?;

    // At rest: what a minute costs.
    let calls = |world: &World| world.recorder().calls().len();
    let (traffic, counted) = (world.operator().metric("dovetail_engine_bytes_total", &[]).await?, calls(world));
    sleep(60 * SECOND).await;
    let traffic = world.operator().metric("dovetail_engine_bytes_total", &[]).await? - traffic;
    world.figure(format!(
        "at rest: {} calls and {:.0} MiB a minute, {} MiB resident",
        calls(world) - counted,
        traffic / f64::from(1 << 20),
        world.operator().resident_bytes()? >> 20
    ));

    let version = world.docker.version("dovetail-proxy").await?;
    let started = Instant::now();
    world.recorder().set_crowd(crowd.scaled(SERVICES - 1, TASKS + 1));
    wait::until("another generation is rolled out", 600 * SECOND, || async {
        if world.docker.version("dovetail-proxy").await? > version { Ok(()) } else { bail!("version {version}") }
    })
    .await?;
    world.figure(format!("one more task: the proxy service is updated after {}", seconds(started)));
    world.settled(600 * SECOND).await?;
    published(world, &last).await?;
    let after = objects(world).await?;
    let new: BTreeMap<&String, &usize> = after.iter().filter(|(name, _)| !before.contains_key(*name)).collect();
    let replaced: usize = new.values().copied().sum();
    world.figure(format!(
        "it replaced {} objects of {} KiB ({:.1} % of all), and is rolled out after {}",
        new.len(),
        replaced / 1024,
        replaced as f64 * 100.0 / total(&after) as f64,
        seconds(started)
    ));
    ensure!(replaced * 4 < total(&after), "one task replaces a small part: {new:?}");
    world.figure(format!("{} MiB resident afterwards", world.operator().resident_bytes()? >> 20));
    Ok(())
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

fn total(objects: &BTreeMap<String, usize>) -> usize {
    objects.values().sum()
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
    let names = world.docker.run(&["config", "ls", "-q"]).await?;
    let mut objects = BTreeMap::new();
    for name in names.lines() {
        let inspected: Value = serde_json::from_str(&world.docker.run(&["config", "inspect", name]).await?)?;
        let (spec, data) = (&inspected[0]["Spec"], inspected[0]["Spec"]["Data"].as_str().unwrap_or_default());
        let padding = data.bytes().rev().take_while(|byte| *byte == b'=').count();
        let name = spec["Name"].as_str().context("a config has a name")?.to_owned();
        objects.insert(name, data.len() / 4 * 3 - padding);
    }
    Ok(objects)
}

/// How long nginx takes to read all of it.
async fn nginx_reads(world: &mut World) -> Result<()> {
    let container = world.docker.line("ps -q -f label=com.docker.swarm.service.name=dovetail-proxy").await?;
    let container = container.lines().next().context("a proxy runs")?.to_owned();
    let started = Instant::now();
    world.docker.run(&["exec", &container, "nginx", "-t", "-q", "-c", "/etc/nginx/nginx.conf"]).await?;
    world.figure(format!("nginx reads its files in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}
