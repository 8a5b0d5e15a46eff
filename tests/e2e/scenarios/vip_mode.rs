//! VIP mode, as far as the control plane goes; traffic through a VIP needs a kernel with IPVS.

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// The document's VIP example.
pub(super) async fn publish(world: &mut World) -> Result<()> {
    let image = world.demo_image();
    world.start_operator().await?;
    world.network("demo").await?;
    world
        .docker
        .line(&format!(
            "service create --name demo --network demo --detach=false --replicas=4 \
             --label com.docker.lb.hosts=demo.local --label com.docker.lb.port=8080 \
             --label com.docker.lb.backend_mode=vip --env METADATA=demo-vip-1 {image}"
        ))
        .await?;
    wait::until("the only upstream is the VIP", 60 * SECOND, || upstream_is_vip(world, "demo")).await?;
    world.settled(60 * SECOND).await
}

async fn upstream_is_vip(world: &World, network: &str) -> Result<()> {
    let vip = world.docker.vip("demo", network).await?;
    let servers = servers(world).await?;
    if servers == [format!("{vip}:8080")] { Ok(()) } else { bail!("{servers:?}, the VIP is {vip}") }
}

/// The addresses of all upstream servers in the live files.
async fn servers(world: &World) -> Result<Vec<String>> {
    let routes = world.live_routes().await?;
    Ok(routes
        .lines()
        .filter_map(|line| line.trim().strip_prefix("server ")?.strip_suffix(';'))
        .filter(|server| server.starts_with(|c: char| c.is_ascii_digit()))
        .map(|server| server.split(' ').next().unwrap_or_default().to_owned())
        .collect())
}

/// How often the operator has updated the proxy service since the recorder was cleared.
fn rollouts(world: &World) -> usize {
    world.recorder().writes().iter().filter(|call| call.path.starts_with("/services/")).count()
}

pub(super) fn nothing_was_written(world: &World) -> Result<()> {
    let writes = world.recorder().writes();
    ensure!(writes.is_empty(), "the operator wrote {writes:?}");
    Ok(())
}

/// Waits for exactly one rollout, and checks that it stays the only one until everything is at rest.
async fn exactly_one_rollout(world: &World, what: &str) -> Result<()> {
    wait::until(&format!("{what} rolls out"), 60 * SECOND, || async {
        if rollouts(world) == 0 { bail!("nothing yet") } else { Ok(()) }
    })
    .await?;
    world.settled(60 * SECOND).await?;
    ensure!(rollouts(world) == 1, "{what} rolled out {} times: {:?}", rollouts(world), world.recorder().writes());
    world.recorder().clear();
    Ok(())
}

/// Nothing that leaves the VIP alone causes a write; then a change of routing causes one.
pub async fn short_circuit(world: &mut World) -> Result<()> {
    publish(world).await?;
    let image = world.demo_image();
    let newer = image.replace(":0.1", ":0.2");
    ensure!(newer != image, "there are two versions of the demo application, {image} and another");
    let tasks = world.docker.task_ids("dovetail-proxy").await?;
    let version = world.docker.version("dovetail-proxy").await?;
    let spared = world.operator().metric("dovetail_short_circuits_total", &["spared"]).await?;
    world.recorder().clear();

    let secret = world.directory().join("secret");
    std::fs::write(&secret, "content")?;
    let file = secret.display().to_string();
    world.docker.run(&["config", "create", "app-config", &file]).await?;
    world.docker.run(&["secret", "create", "app-secret", &file]).await?;
    for step in [
        "service scale demo=2",
        "service scale demo=6",
        &format!("service update --image {newer} demo"),
        "service update --env-add COLOUR=blue demo",
        "service update --config-add app-config --secret-add app-secret demo",
        "service update --label-add team=shop demo",
        "service update --label-rm team demo",
    ] {
        world.docker.line(step).await.with_context(|| step.to_owned())?;
        nothing_was_written(world).with_context(|| step.to_owned())?;
    }
    world.kill_one_task("demo").await?;
    nothing_was_written(world).context("a task killed and rescheduled")?;
    let risen = world.operator().metric("dovetail_short_circuits_total", &["spared"]).await? - spared;
    ensure!(risen >= 7.0, "each change was seen and spared: the counter rose by {risen}");
    world.figure(format!("7 updates and a killed task: {risen} changes spared, 0 writes"));

    let operator = world.operator.take().context("an operator")?;
    let status = operator.terminate().await?;
    ensure!(status.success(), "SIGTERM ends the operator well, not with {status}");
    world.start_operator().await?;
    nothing_was_written(world).context("the operator restarted")?;

    world.recorder().clear();
    let received = world.operator().metric("dovetail_engine_bytes_total", &["received"]).await?;
    wait::throughout("a minute at rest", 60 * SECOND, || async { nothing_was_written(world) }).await?;
    let calls = world.recorder().calls().len();
    let bytes = world.operator().metric("dovetail_engine_bytes_total", &["received"]).await? - received;
    let resident = world.operator().resident_bytes()? as f64 / (1 << 20) as f64;
    world.figure(format!("at rest, one VIP service: {calls} Engine calls and {:.0} KiB a minute", bytes / 1024.0));
    world.figure(format!("resident memory of the (debug) operator: {resident:.1} MiB"));
    ensure!(world.docker.task_ids("dovetail-proxy").await? == tasks, "the proxy's tasks are the same");
    ensure!(world.docker.version("dovetail-proxy").await? == version, "the proxy service's version is the same");

    world.recorder().clear();
    world.docker.line("service update --detach --label-add com.docker.lb.hosts=demo.local,two.local demo").await?;
    exactly_one_rollout(world, "another host").await?;
    ensure!(world.live_routes().await?.contains("two.local"), "and it is live");
    Ok(())
}

/// Each change of routing rolls out exactly once.
pub async fn edges(world: &mut World) -> Result<()> {
    walk_edges(world, false).await
}

/// The same, and requests follow. They need a kernel with IPVS.
pub async fn edges_with_traffic(world: &mut World) -> Result<()> {
    walk_edges(world, true).await
}

async fn walk_edges(world: &mut World, traffic: bool) -> Result<()> {
    publish(world).await?;
    world.network("second").await?;
    world.recorder().clear();
    for (what, step, network) in [
        (
            "another network",
            "service update --detach --network-add second --label-add com.docker.lb.network=second demo",
            Some("second"),
        ),
        ("scaled to 0", "service scale --detach demo=0", None),
        ("scaled back", "service scale --detach demo=2", Some("second")),
        (
            "the first network again",
            "service update --detach --network-rm second --label-add com.docker.lb.network=demo demo",
            Some("demo"),
        ),
        ("removed", "service rm demo", None),
    ] {
        let started = Instant::now();
        world.docker.line(step).await?;
        exactly_one_rollout(world, what).await?;
        match network {
            Some(network) => upstream_is_vip(world, network).await.context(what)?,
            None => ensure!(servers(world).await?.is_empty(), "{what}: it is withdrawn"),
        }
        if traffic {
            let expected = if network.is_some() { 200 } else { 503 };
            wait::until(&format!("{what}: demo.local answers {expected}"), 30 * SECOND, || async {
                let status = world.get("demo.local", "/ping").await?.status;
                if status == expected { Ok(()) } else { bail!("{status}") }
            })
            .await?;
        }
        world.figure(format!("{what}: one rollout, at rest after {:.1} s", started.elapsed().as_secs_f64()));
    }
    wait::until("its networks can be removed", 30 * SECOND, || async {
        world.docker.line("network rm demo second").await.map(|_| ())
    })
    .await
}

/// A VIP service and a task service on one host form one upstream.
pub async fn mixed_host(world: &mut World) -> Result<()> {
    publish(world).await?;
    world.serve("demo-task", "demo.local", "").await?;
    wait::until("both are upstreams of the host", 60 * SECOND, || async {
        let vip = world.docker.vip("demo", "demo").await?;
        let task = world.docker.addresses("demo-task", "demo").await?;
        let servers = servers(world).await?;
        let expected: Vec<String> = [vip].iter().chain(&task).map(|address| format!("{address}:8080")).collect();
        if task.len() == 1 && servers == expected { Ok(()) } else { bail!("{servers:?}, not {expected:?}") }
    })
    .await
}
