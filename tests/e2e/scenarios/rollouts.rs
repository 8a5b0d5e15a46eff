//! Rollouts that fail, on three nodes with a proxy each: clients try the next address when one does not answer, as
//! a balancer in front would.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// A healthy rollout of two proxies on the routing mesh, start-first: how long it takes.
pub async fn of_two_proxies(world: &mut World) -> Result<()> {
    let image = world.demo_image();
    world.publish_mode = "ingress";
    world.start_operator().await?;
    world.network("demo").await?;
    world.docker.line(&format!(
        "service create --name demo --network demo --detach=false --label com.docker.lb.hosts=demo.local --label com.docker.lb.port=8080 {image}"
    )).await?;
    wait::until("it is published", 60 * SECOND, || async {
        if world.live_routes().await?.contains("demo.local") { Ok(()) } else { bail!("not yet") }
    })
    .await?;
    world.settled(60 * SECOND).await?;
    let proxies = world.docker.running_tasks("dovetail-proxy").await?.len();
    ensure!(proxies == 2, "two proxies run, not {proxies}");
    wait::until("the operator has seen the second rollout end", 10 * SECOND, || async {
        let completed = world.operator().metric("dovetail_rollouts_total", &["completed"]).await?;
        if completed >= 2.0 { Ok(()) } else { bail!("{completed} have") }
    })
    .await?;
    let seconds = world.operator().metric("dovetail_last_rollout_seconds", &[]).await?;
    ensure!(seconds > 0.0 && seconds < 30.0, "a rollout was measured: {seconds} s");
    world.figure(format!("one healthy rollout of two proxies, start-first, a network joined: {seconds:.1} s"));
    Ok(())
}

/// A service on a network that has no address left for the proxies, which nothing tells beforehand, makes a rollout
/// fail. It is held, the old routes answer throughout, and a healthy service created afterwards is published.
pub async fn held(world: &mut World) -> Result<()> {
    world.start_operator_with("      update:\n        deadline: 40s\n").await?;
    world.network("demo").await?;
    world.serve("good", "good.local", "--replicas 3").await?;
    world.routed("good.local", 60 * SECOND).await?;
    world.settled(120 * SECOND).await?;
    let load = world.load("good.local", Duration::from_millis(50));

    // Of 13 addresses ten containers and their node's own endpoint take eleven, the VIP and the task the others. No list
    // shows the containers.
    world.docker.line("network create -d overlay --attachable --subnet 10.77.0.0/28 tiny").await?;
    world.strangers("tiny", 10).await?;
    let node = world.first_node().await?;
    let more = format!("--network tiny --constraint node.hostname=={node}");
    world.serve("crowded", "crowded.local", &more).await?;
    wait::until("the generation with the crowded network is held", 120 * SECOND, || async {
        let held = world.operator().metric("dovetail_held_generations", &[]).await?;
        if held >= 1.0 { Ok(()) } else { bail!("{}", world.operator().command(&["status"]).await?.1) }
    })
    .await?;
    // While the last good is being written forward, a fresh look cannot yet tell what that was. That takes a minute:
    // for so long Swarm waits for the task that got no address, and so never ran, to stop.
    wait::until("explain says that it is quarantined", 120 * SECOND, || async {
        let (_, text, _) = world.operator().command(&["explain", "crowded"]).await?;
        if text.contains("quarantined") { Ok(()) } else { bail!("{text}") }
    })
    .await?;

    world.healthy_meanwhile("late").await?;
    world.nothing_failed(load).await
}

/// Proxy images that cannot work and are not checked, on three nodes under load: the old routes answer throughout, `status` says what
/// is held, and a healthy service created meanwhile is routed.
pub async fn bad_images(world: &mut World) -> Result<()> {
    let good = world.export("PROXY_IMAGE").to_owned();
    let demo = world.demo_image();
    let unchecked = "      update:\n        check: never\n";
    world.start_operator_with(unchecked).await?;
    world.network("demo").await?;
    world.serve("good", "good.local", "").await?;
    world.routed("good.local", 60 * SECOND).await?;
    world.settled(120 * SECOND).await?;
    let load = world.load("good.local", Duration::from_millis(50));
    let missing = good.replace("/nginx:", "/no-such-image:");
    // The demo application has no nginx: its container cannot even start.
    for (what, image, late) in [("cannot be pulled", missing, "late1"), ("has no nginx", demo.clone(), "late2")] {
        world.operator.take().context("an operator")?.kill().await?;
        world.exports.insert("PROXY_IMAGE".into(), image);
        world.start_operator_with(unchecked).await?;
        let started = Instant::now();
        wait::until(&format!("an image that {what} is held"), 240 * SECOND, || async {
            let status = world.operator().json(&["status"]).await?;
            let holds = status["clusters"][0]["holds"].as_array().map_or(0, Vec::len);
            if holds > 0 { Ok(()) } else { bail!("{}", status["clusters"][0]) }
        })
        .await?;
        world.figure(format!("an image that {what} is held after {:.1} s", started.elapsed().as_secs_f64()));
        world.healthy_meanwhile(late).await?;
    }
    world.nothing_failed(load).await
}
