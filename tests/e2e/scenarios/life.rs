//! What happens around the operator: it is killed, the engine restarts, stacks come and go.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep};

use crate::support::engine::Engine;
use crate::support::recorder::Mood;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// A stack whose network the proxy holds can be removed within 30 s, and nothing stays behind.
pub async fn stack_rm(world: &mut World) -> Result<()> {
    let image = world.demo_image();
    world.start_operator().await?;
    let file = world.directory().join("stack.yml");
    std::fs::write(
        &file,
        format!(
            "version: \"3.8\"\nservices:\n  web:\n    image: {image}\n    networks: [front]\n    deploy:\n      labels:\n        \
             com.docker.lb.hosts: app.example.org\n        com.docker.lb.network: front\n        com.docker.lb.port: 8080\n\
             networks:\n  front:\n    driver: overlay\n"
        ),
    )?;
    let file = file.display().to_string();
    world.docker.run(&["stack", "deploy", "-c", &file, "shop"]).await?;
    world.routed("app.example.org", 40 * SECOND).await?;
    world.settled(60 * SECOND).await?;

    let started = Instant::now();
    let first = world.docker.line("stack rm shop").await;
    wait::until("a second docker stack rm succeeds", 30 * SECOND, || async {
        world.docker.line("stack rm shop").await?;
        let networks = world.docker.line("network ls -q -f label=com.docker.stack.namespace=shop").await?;
        if networks.is_empty() { Ok(()) } else { bail!("a network is left") }
    })
    .await?;
    world.figure(format!(
        "docker stack rm: the first call {}, everything was gone after {:.1} s",
        if first.is_ok() { "succeeded" } else { "was refused" },
        started.elapsed().as_secs_f64()
    ));
    world.settled(60 * SECOND).await?;
    let answer = world.get("app.example.org", "/ping").await?;
    ensure!(answer.status == 503, "its host is unknown again, not {}", answer.status);
    Ok(())
}

/// Killed at any moment and started again: the end is the same, and no rollout happens that state does not ask for.
pub async fn operator_killed(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    world.network("demo").await?;
    for (index, pause) in [0, 120, 260, 400, 700, 1300].into_iter().enumerate() {
        let name = format!("demo{index}");
        world.serve(&name, &format!("{name}.local"), "").await?;
        // Not for luck: the point is to be killed at different moments of the same work.
        sleep(Duration::from_millis(pause)).await;
        world.operator.take().context("an operator")?.kill().await?;
        world.start_operator().await?;
    }
    for index in 0..6 {
        world.routed(&format!("demo{index}.local"), 60 * SECOND).await?;
    }
    world.settled(60 * SECOND).await?;
    let rollouts = world.recorder().writes().into_iter().filter(|call| call.path.starts_with("/services")).count();
    ensure!(rollouts <= 7, "one creation and six changes need at most 7 writes to the proxy service, not {rollouts}");
    let tasks = world.docker.task_ids("dovetail-proxy").await?;
    world.recorder().clear();
    for _ in 0..3 {
        world.operator.take().context("an operator")?.kill().await?;
        world.start_operator().await?;
        world.settled(30 * SECOND).await?;
    }
    let writes: Vec<_> =
        world.recorder().writes().into_iter().filter(|call| call.path.starts_with("/services")).collect();
    ensure!(writes.is_empty(), "three restarts at rest write nothing to the proxy service: {writes:?}");
    ensure!(world.docker.task_ids("dovetail-proxy").await? == tasks, "the proxy's tasks are the same");
    world.docker.line("service rm demo0").await?;
    wait::until("a change is still seen", 60 * SECOND, || async {
        let status = world.get("demo0.local", "/ping").await?.status;
        if status == 503 { Ok(()) } else { bail!("{status}") }
    })
    .await
}

/// The Engine's API fails, then does not answer at all: nothing is withdrawn, `/readyz` tells since when its
/// knowledge is out of date, and a change made meanwhile is seen soon after.
pub async fn api_gone(world: &mut World) -> Result<()> {
    world.begin_serving("demo", "", 60 * SECOND).await?;
    world.recorder().clear();
    world.recorder().set_mood(Mood::Fail);
    world.serve("late", "late.local", "").await?;
    wait::until("/readyz tells since when it is stale", 40 * SECOND, || async {
        let (status, body) = world.operator().admin("/readyz").await?;
        if status == 503 && body.contains("stale_since") { Ok(()) } else { bail!("{status} {body}") }
    })
    .await?;
    world.recorder().set_mood(Mood::Refuse);
    wait::throughout("the route is served while the API refuses", 10 * SECOND, || async {
        let status = world.get("demo.local", "/ping").await?.status;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await?;
    let writes = world.recorder().writes();
    ensure!(writes.is_empty(), "nothing is written on half knowledge: {writes:?}");
    world.recorder().set_mood(Mood::Pass);
    let back = Instant::now();
    world.operator().ready().await?;
    world.figure(format!("the API answers again -> ready: {:.1} s", back.elapsed().as_secs_f64()));
    world.routed("late.local", 60 * SECOND).await.map(|_| ())
}

/// The engine restarts under the operator: nothing is withdrawn, and it recovers.
pub async fn engine_restarted(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    world.network("demo").await?;
    world.serve("demo", "demo.local", "--label com.docker.lb.backend_mode=vip").await?;
    wait::until("it is published", 60 * SECOND, || async {
        if world.live_routes().await?.contains("demo.local") { Ok(()) } else { bail!("not yet") }
    })
    .await?;
    world.settled(60 * SECOND).await?;
    world.recorder().clear();
    Engine::verb_of(world.export("ENGINE_NAME"), &["restart-dockerd", "1"]).await?;
    wait::until("the operator has read the cluster again", 60 * SECOND, || async {
        let (status, body) = world.operator().admin("/readyz").await?;
        let failures = world.operator().metric("dovetail_pass_failures_total", &[]).await?;
        if status == 200 && failures >= 1.0 { Ok(()) } else { bail!("{status} {body}, {failures} failures") }
    })
    .await?;
    let writes = world.recorder().writes();
    ensure!(writes.is_empty(), "nothing is written because the engine restarted: {writes:?}");
    world.docker.line("service rm demo").await?;
    wait::until("a change is still seen", 60 * SECOND, || async {
        if world.live_routes().await?.contains("demo.local") { bail!("still there") } else { Ok(()) }
    })
    .await
}
