//! Troubles of the proxies on three nodes under load: images that fail late, edits and pauses in the middle of bad
//! rollouts, nodes that are drained. In all of them the old routes answer, `status` says what is wrong, and a
//! healthy service that is created meanwhile is routed.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::support::calls::Call;
use crate::support::load::{Load, get_within};
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// A service `good` that is routed from the first generation on, with requests to it every 50 ms.
async fn under_load(world: &mut World, settings: &str) -> Result<Load> {
    world.network("demo").await?;
    world.serve("good", "good.local", "--detach=false --quiet --replicas 3").await?;
    world.start_operator_with(settings).await?;
    world.routed("good.local", 60 * SECOND).await?;
    world.settled(60 * SECOND).await?;
    Ok(world.load("good.local", Duration::from_millis(50)))
}

/// The operator comes back with another proxy image.
async fn with_image(world: &mut World, image: &str, settings: &str) -> Result<Instant> {
    world.operator.take().context("an operator")?.kill().await?;
    world.exports.insert("PROXY_IMAGE".into(), image.to_owned());
    world.start_operator_with(settings).await?;
    Ok(Instant::now())
}

/// Waits until something is held, and the proxies run on the last good image again.
async fn taken_back(world: &mut World, what: &str, good: &str, started: Instant) -> Result<()> {
    wait::until(&format!("{what} is held"), 180 * SECOND, || async {
        let status = world.status().await?;
        let holds = status["holds"].as_array().map_or(0, Vec::len);
        if holds > 0 { Ok(()) } else { bail!("{status}") }
    })
    .await?;
    let held = started.elapsed().as_secs_f64();
    wait::until("all proxies run on the last good again", 120 * SECOND, || async {
        let tasks = world.docker.running_tasks("dovetail-proxy").await?;
        let image = |task: &serde_json::Value| task["Spec"]["ContainerSpec"]["Image"].as_str().unwrap_or("").to_owned();
        let images: Vec<String> = tasks.iter().map(image).collect();
        if images.len() == 3 && images.iter().all(|image| image.starts_with(good)) {
            Ok(())
        } else {
            bail!("{images:?}")
        }
    })
    .await?;
    let recovered = started.elapsed().as_secs_f64();
    world.figure(format!("{what}: held after {held:.1} s, all proxies on the last good after {recovered:.1} s"));
    let (_, text, _) = world.operator().command(&["status"]).await?;
    let line = text.lines().find(|line| line.contains("held") || line.contains("settings")).unwrap_or(&text);
    world.figure(format!("status: {}", line.trim()));
    Ok(())
}

/// An image whose nginx ends after Swarm's own watch is over: taken back and held, and nobody notices.
pub async fn late_exit(world: &mut World) -> Result<()> {
    let good = world.export("PROXY_IMAGE").to_owned();
    let bad =
        world.proxy_image_with("late-exit", "/usr/sbin/nginx \"$@\" &\nsleep 10\nkill -QUIT $!\nwait\nexit 3").await?;
    let load = under_load(world, "").await?;
    let started = with_image(world, &bad, "").await?;
    taken_back(world, "an image whose nginx exits after 10 s", &good, started).await?;
    world.healthy_meanwhile("late").await?;
    world.nothing_failed(load).await
}

/// `docker service update --limit-memory` in the middle of a bad rollout: it is kept, and the bad image is not.
pub async fn edited_on_the_way(world: &mut World) -> Result<()> {
    let good = world.export("PROXY_IMAGE").to_owned();
    let hangs = "trap 'exit 0' QUIT\nwhile :; do sleep 1; done";
    let bad = world.proxy_image_with("hangs", hangs).await?;
    let settings = "      update:\n        deadline: 20s\n";
    let load = under_load(world, settings).await?;
    let started = with_image(world, &bad, settings).await?;
    wait::until("the rollout of the bad image runs", 30 * SECOND, || async {
        let service = world.docker.service("dovetail-proxy").await?;
        let image = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or("").to_owned();
        let state = service["UpdateStatus"]["State"].as_str().unwrap_or("").to_owned();
        if image.contains("hangs") && state == "updating" { Ok(()) } else { bail!("{image} {state}") }
    })
    .await?;
    world.docker.line("service update --detach --limit-memory 200M dovetail-proxy").await?;
    taken_back(world, "an image that hangs, edited on the way", &good, started).await?;
    let spec = world.docker.service("dovetail-proxy").await?["Spec"].clone();
    let limit = &spec["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"];
    ensure!(*limit == 200 << 20, "the memory limit is kept, it is {limit}");
    world.healthy_meanwhile("late").await?;
    let spec = world.docker.service("dovetail-proxy").await?["Spec"].clone();
    let limit = &spec["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"];
    ensure!(*limit == 200 << 20, "the memory limit is kept by the next rollout too, it is {limit}");
    // The edit is for all proxies, so Swarm replaces the healthy ones too, in any order and while others fail.
    let counts = load.stop().await;
    world.figure(format!("the old route throughout: {counts}"));
    ensure!(counts.longest_gap < 30 * SECOND, "the old routes come back: {counts}");
    Ok(())
}

/// An operator has told Swarm to pause updates that fail, and one fails: Dovetail writes the last good forward.
pub async fn paused_by_swarm(world: &mut World) -> Result<()> {
    let good = world.export("PROXY_IMAGE").to_owned();
    let bad = world.proxy_image_with("ends-at-once", "exit 4").await?;
    let load = under_load(world, "").await?;
    world.docker.line("service update --detach --update-failure-action pause dovetail-proxy").await?;
    let started = with_image(world, &bad, "").await?;
    // Swarm's own word for it stands in the proxy service only until the operator writes, which can be a moment.
    world.status_says(&["update paused due to failure"], 60 * SECOND).await?;
    taken_back(world, "an update that Swarm paused", &good, started).await?;
    let action = world.docker.service("dovetail-proxy").await?["Spec"]["UpdateConfig"]["FailureAction"].clone();
    ensure!(action == "pause", "the operator's own choice is kept: {action}");
    world.healthy_meanwhile("late").await?;
    world.nothing_failed(load).await
}

/// A node with a proxy is drained under load, and made active again.
pub async fn node_drained(world: &mut World) -> Result<()> {
    let load = under_load(world, "").await?;
    // The first: it is the one that the requests go to.
    let nodes = world.docker.run(&["node", "ls", "--format", "{{.Self}} {{.Hostname}}"]).await?;
    let node = nodes.lines().find_map(|line| line.strip_prefix("true ")).context("a node of our own")?.to_owned();
    world.docker.line(&format!("node update --availability drain {node}")).await?;
    wait::until("two proxies are left", 60 * SECOND, || async {
        let running = world.docker.running_tasks("dovetail-proxy").await?.len();
        if running == 2 { Ok(()) } else { bail!("{running} run") }
    })
    .await?;
    world.healthy_meanwhile("late").await?;
    world.settled(60 * SECOND).await?;
    let text = world.status_says(&["in step"], 30 * SECOND).await?;
    world.figure(format!(
        "status while it is drained: {}",
        text.lines().find(|line| line.starts_with("cluster")).unwrap_or(&text)
    ));
    world.docker.line(&format!("node update --availability active {node}")).await?;
    let started = Instant::now();
    let first = vec![world.http[0].clone()];
    wait::until("the proxy on the node serves the new route", 60 * SECOND, || async {
        let answer = crate::support::load::get_any(&first, "late.local", "/ping").await?;
        if answer.status == 200 { Ok(()) } else { bail!("{}", answer.status) }
    })
    .await?;
    world.figure(format!("active again, its proxy serves after {:.1} s", started.elapsed().as_secs_f64()));
    world.nothing_failed(load).await
}

/// The port of the proxies is taken on one node: the others are updated all the same, `status` says why one is not,
/// and it comes when the port is free.
pub async fn port_taken(world: &mut World) -> Result<()> {
    // The last: the requests go to the others.
    let last = world.http.last().context("a node")?.trim_end_matches(":80").to_owned();
    let node = node_at(world, &last).await?;
    let image = world.demo_image();
    world
        .docker
        .line(&format!(
            "service create --detach=false --quiet --name squatter --publish mode=host,published=80,target=8080 \
             --constraint node.hostname=={node} {image}"
        ))
        .await?;
    let healthy: Vec<String> = world.http.iter().filter(|address| !address.starts_with(&last)).cloned().collect();
    world.network("demo").await?;
    world.serve("good", "good.local", "--detach=false --quiet --replicas 3").await?;
    world.start_operator_with("      update:\n        deadline: 20s\n").await?;
    served_by_all(&healthy, "good.local").await?;
    let load = Load::start(&healthy, "good.local", "/ping", Duration::from_millis(50));
    for name in ["late1", "late2"] {
        world.serve(name, &format!("{name}.local"), "").await?;
        let started = Instant::now();
        served_by_all(&healthy, &format!("{name}.local")).await?;
        world.figure(format!(
            "a healthy service meanwhile is routed on the other nodes after {:.1} s",
            started.elapsed().as_secs_f64()
        ));
    }
    let text = world.status_says(&["host-mode port already in use on 1 node; node "], 60 * SECOND).await?;
    let line = text.lines().find(|line| line.contains("host-mode")).unwrap_or_default();
    world.figure(format!("status: {}", line.trim()));
    world.docker.line("service rm squatter").await?;
    let started = Instant::now();
    for name in ["late1", "late2"] {
        served_by_all(&world.http, &format!("{name}.local")).await?;
    }
    world.status_says(&["in step"], 60 * SECOND).await?;
    world.figure(format!("the port is free -> all is well: {:.1} s", started.elapsed().as_secs_f64()));
    world.nothing_failed(load).await
}

/// Another published port reaches every proxy in one rollout and is not taken back, however long the old ones take to stop:
/// each has an open request for as long as its workers may go on (25 s), one node after the other, and a rollout may stand
/// still for 20 s.
pub async fn another_port(world: &mut World) -> Result<()> {
    let settings = "      update:\n        deadline: 20s\n";
    under_load(world, settings).await?.stop().await;
    let open = world.http.clone().into_iter().map(|address| {
        tokio::spawn(async move { get_within(&address, "good.local", "/slow/50000", &[], 60 * SECOND).await })
    });
    let open: Vec<_> = open.collect();
    world.operator.take().context("an operator")?.kill().await?;
    world.recorder().clear();
    world.http_port = 8080;
    for address in &mut world.http {
        *address = address.replace(":80", ":8080");
    }
    let started = Instant::now();
    world.start_operator_with(settings).await?;
    wait::until("all proxies answer on the other port", 180 * SECOND, || async {
        for address in &world.http {
            ensure!(get_within(address, "good.local", "/ping", &[], SECOND).await?.status == 200, "{address}");
        }
        Ok(())
    })
    .await?;
    let took = started.elapsed();
    for request in open {
        request.abort();
    }
    world.settled(120 * SECOND).await?;
    let holds = world.status().await?["holds"].clone();
    ensure!(holds.as_array().is_some_and(Vec::is_empty), "nothing is held: {holds}");
    let is_update = |call: &&Call| call.path.starts_with("/services/") && call.path.ends_with("/update");
    let writes = world.recorder().writes();
    let updates = writes.iter().filter(is_update).count();
    ensure!(updates == 1, "one rollout: {writes:?}");
    ensure!(took > 40 * SECOND, "the old proxies were slow to stop: {took:?}");
    world.figure(format!("another port on three nodes after {:.1} s, in one rollout", took.as_secs_f64()));
    Ok(())
}

/// The name of the node with this address.
async fn node_at(world: &World, address: &str) -> Result<String> {
    let names = world.docker.run(&["node", "ls", "--format", "{{.Hostname}}"]).await?;
    for name in names.lines() {
        let found = world.docker.run(&["node", "inspect", "-f", "{{.Status.Addr}}", name]).await?;
        if found == address {
            return Ok(name.to_owned());
        }
    }
    bail!("no node has the address {address}")
}

/// Waits until every one of these proxies answers for a host.
async fn served_by_all(addresses: &[String], host: &str) -> Result<()> {
    wait::until(&format!("{host} answers at {addresses:?}"), 60 * SECOND, || async {
        for address in addresses {
            let answer = crate::support::load::get(address, host, "/ping").await?;
            ensure!(answer.status == 200 && !answer.header("x-proxy-id").is_empty(), "{address}: {}", answer.status);
        }
        Ok(())
    })
    .await
}
