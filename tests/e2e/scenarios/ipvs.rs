//! VIP mode with its traffic, and the routing mesh: both need a kernel with IPVS, so these run in the machine of
//! `make test-vip`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::task_mode::shares;
use super::vip_mode::{nothing_was_written, publish};
use crate::support::engine::root;
use crate::support::load;
use crate::support::wait::{self, SECOND};
use crate::support::websocket::WebSocket;
use crate::support::world::World;

/// The document's VIP example: the upstream is always the VIP, and all four tasks answer.
pub async fn four_tasks(world: &mut World) -> Result<()> {
    publish(world).await?;
    world.routed("demo.local", 60 * SECOND).await?;
    let upstream = format!("{}:8080", world.docker.vip("demo", "demo").await?);
    let mut one_by_one = BTreeSet::new();
    for _ in 0..40 {
        let answer = world.get("demo.local", "/ping").await?;
        ensure!(answer.status == 200, "a request is answered {}", answer.status);
        ensure!(answer.header("x-upstream-addr") == upstream, "the upstream is {upstream}: {:?}", answer.headers);
        one_by_one.insert(answer.json()["instance"].to_string());
    }
    // The proxies keep connections, and IPVS spreads connections, not requests.
    world.figure(format!("40 requests one after the other: always {upstream}, {} of 4 instances", one_by_one.len()));
    wait::until("16 requests at a time reach all four tasks", 60 * SECOND, || async {
        let at_once = (0..16).map(|_| world.get("demo.local", "/slow/300"));
        let answers = futures::future::try_join_all(at_once).await?;
        ensure!(answers.iter().all(|answer| answer.header("x-upstream-addr") == upstream), "all through {upstream}");
        let instances: BTreeSet<String> = answers.iter().map(|answer| answer.json()["instance"].to_string()).collect();
        if instances.len() == 4 { Ok(()) } else { bail!("{instances:?}") }
    })
    .await
}

/// Two services on one host, with four tasks and with one: in VIP mode each service counts, and with weights what
/// they say. (In task mode each task does, which `task-canary` shows.) What differs is labels: the tasks stay.
pub async fn canary(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    world.network("demo").await?;
    for (version, replicas) in [("v1", 4), ("v2", 1)] {
        let more = format!("--replicas={replicas} --env METADATA={version} --label com.docker.lb.backend_mode=vip");
        world.serve(version, "demo.local", &more).await?;
    }
    for (weights, expected) in [(None, 0.5), (Some([80, 20]), 0.2)] {
        for (version, weight) in ["v1", "v2"].into_iter().zip(weights.into_iter().flatten()) {
            let label = format!("com.docker.lb.weight={weight}");
            world.docker.line(&format!("service update --detach --label-add {label} {version}")).await?;
        }
        let weighed = weights.map_or(String::new(), |[one, other]| format!(", weights {one} and {other}"));
        wait::until(&format!("two upstreams{weighed}"), 60 * SECOND, || async {
            let routes = world.live_routes().await?;
            let servers = routes.lines().filter(|line| line.trim_start().starts_with("server 10."));
            let (heavy, others): (Vec<_>, Vec<_>) = servers.partition(|server| server.contains("weight=4"));
            // 80 to 20 is 4 to 1, and 1 is not written.
            let expected = if weights.is_some() { (1, 1) } else { (0, 2) };
            if (heavy.len(), others.len()) == expected { Ok(()) } else { bail!("{heavy:?} and {others:?}") }
        })
        .await?;
        world.settled(60 * SECOND).await?;
        let requests = 400_u16;
        let shares = shares(world, requests.into()).await?;
        let share = shares.get("v2").copied().unwrap_or(0) as f64 / f64::from(requests);
        let percent = share * 100.0;
        world.figure(format!("canary 4 + 1 in VIP mode{weighed}: {percent:.1} % of {requests} requests reached v2"));
        // Five standard deviations of throwing dice; nginx's round robin is far closer.
        let error = 5.0 * (expected * (1.0 - expected) / f64::from(requests)).sqrt();
        ensure!((share - expected).abs() < error, "v2 has {share} of the requests, not {expected}");
    }
    Ok(())
}

/// Steady requests while the service changes in every way that leaves its routing alone: the proxy stays as it
/// is, and what fails is what Docker itself lets fail when it takes a task out of a VIP. It is counted.
pub async fn steady(world: &mut World) -> Result<()> {
    publish(world).await?;
    world.routed("demo.local", 60 * SECOND).await?;
    let newer = world.demo_image().replace(":0.1", ":0.2");
    let before = proxy(world).await?;
    world.recorder().clear();
    let task = format!("service update --image {newer} --env-add COLOUR=blue demo");
    let (mut sent, mut failed) = (0, 0);
    for (what, step) in [
        ("4 -> 2 tasks", "service scale demo=2"),
        ("2 -> 3 tasks", "service scale demo=3"),
        ("a new image and variable", &task),
        ("a new label", "service update --label-add team=shop demo"),
        ("a task killed", ""),
    ] {
        let load = world.load("demo.local", Duration::from_millis(100));
        let started = Instant::now();
        if step.is_empty() {
            world.kill_one_task("demo").await?;
        } else {
            world.docker.line(step).await.with_context(|| what.to_owned())?;
        }
        // Swarm calls it done when the last new task runs; the last old one may still be stopping.
        wait::until(&format!("{what}: the old containers are gone"), 60 * SECOND, || async {
            let wanted = world.docker.task_ids("demo").await?.len();
            let containers = world.docker.line("ps -q -f label=com.docker.swarm.service.name=demo").await?;
            let containers = containers.lines().count();
            if containers == wanted { Ok(()) } else { bail!("{containers} containers, {wanted} tasks") }
        })
        .await?;
        let took = started.elapsed().as_secs_f64();
        let counts = load.stop().await;
        world.figure(format!("{what} ({took:.1} s): {counts}"));
        ensure!(counts.sent > 5, "{what}: there was a load");
        (sent, failed) = (sent + counts.sent, failed + counts.failed);
        nothing_was_written(world).with_context(|| what.to_owned())?;
        for _ in 0..10 {
            let status = world.get("demo.local", "/ping").await?.status;
            ensure!(status == 200, "{what}: once it is over, requests are answered {status}");
        }
    }
    world.figure(format!("all together: {sent} requests, {failed} failed; the operator wrote nothing"));
    ensure!(failed * 20 < sent, "{failed} of {sent} requests failed");
    ensure!(proxy(world).await? == before, "the proxy's version, tasks and files are the same");
    world.docker.line("service update --detach --label-add com.docker.lb.hosts=demo.local,two.local demo").await?;
    world.routed("two.local", 60 * SECOND).await.context("a change of routing is still seen").map(|_| ())
}

/// What must not move: the proxy service's version, its tasks, its files.
async fn proxy(world: &World) -> Result<(u64, Vec<String>, BTreeSet<String>)> {
    let docker = &world.docker;
    let files = world.live_files().await?;
    let files = files.into_iter().map(|(path, text)| format!("{path}\n{text}")).collect();
    Ok((docker.version("dovetail-proxy").await?, docker.task_ids("dovetail-proxy").await?, files))
}

/// A request to the published port of any node reaches a proxy, and rollouts, start-first, drop none.
pub async fn routing_mesh(world: &mut World) -> Result<()> {
    world.publish_mode = "ingress";
    world.start_operator().await?;
    let answer = wait::until("the published port reaches a proxy", 60 * SECOND, || async {
        world.get("anything", "/.dovetail/health").await
    })
    .await?;
    ensure!(answer.status == 200, "a proxy answers its health path, not {}", answer.status);
    world.network("demo").await?;
    world.network("second").await?;
    world.serve("demo", "demo.local", "--replicas=2").await?;
    world.routed("demo.local", 60 * SECOND).await?;
    world.settled(60 * SECOND).await?;

    let load = world.load("demo.local", Duration::from_millis(100));
    for (what, more) in [("more", ""), ("joins", "--network second"), ("vip", "--label com.docker.lb.backend_mode=vip")]
    {
        world.serve(what, &format!("{what}.local"), more).await?;
        world.routed(&format!("{what}.local"), 60 * SECOND).await?;
        world.settled(60 * SECOND).await?;
    }
    world.docker.line("service rm joins").await?;
    wait::until("the network can be removed", 60 * SECOND, || async {
        world.docker.line("network rm second").await.map(|_| ())
    })
    .await?;
    world.settled(60 * SECOND).await?;
    let rollouts = world.recorder().writes().iter().filter(|call| call.path.starts_with("/services/")).count();
    let counts = load.stop().await;
    world.figure(format!("{rollouts} rollouts of two proxies on the routing mesh, start-first: {counts}"));
    ensure!(counts.sent > 50, "there was a load");
    ensure!(counts.failed == 0, "start-first rollouts drop nothing: {counts}");
    Ok(())
}

/// IPVS forgets a connection without packets after 900 s, and what comes later on it is answered with a reset.
/// Here it forgets after `FORGETS`, and the proxies' keep-alive probes, at a time of ours, must prevent that on
/// both ways: through the service's VIP and through the routing mesh.
pub async fn idle_connections(world: &mut World) -> Result<()> {
    const FORGETS: Duration = Duration::from_secs(20);
    const IDLE: Duration = Duration::from_secs(50);
    // The kernel looks again only after `intvl` once it has sent a probe, answered or not: both bound the silence.
    let probes = |seconds: u64| {
        let (time, interval) = ("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive_intvl");
        format!("      sysctls:\n        {time}: \"{seconds}\"\n        {interval}: \"{seconds}\"\n")
    };
    world.publish_mode = "ingress";
    world.start_operator_with(&probes(8)).await?;
    world.network("demo").await?;
    world.serve("demo", "demo.local", "--label com.docker.lb.backend_mode=vip").await?;
    world.routed("demo.local", 60 * SECOND).await?;
    world.settled(60 * SECOND).await?;

    let changed = forget_after(world, FORGETS).await?;
    ensure!(changed >= 2, "the mesh and the network have one balancer each, not {changed} in all");
    let address = world.http[0].clone();
    let mut socket = WebSocket::open(&address, "demo.local").await?;
    socket.echo().await?;
    let slow = format!("/slow/{}", IDLE.as_millis());
    // Nothing is waited for here: being idle is what is tested.
    let (answer, ()) =
        tokio::join!(load::get_within(&address, "demo.local", &slow, &[], 2 * IDLE), sleep(IDLE + 2 * SECOND));
    let answer = answer.context("an answer that lets wait for it")?;
    ensure!(answer.status == 200, "an answer that lets wait for it is {}", answer.status);
    socket.echo().await.context("a WebSocket after idleness, with keep-alive probes")?;
    world.figure(format!(
        "IPVS forgets after {} s, probes every 8 s: a WebSocket and an answer outlive {} s of idleness",
        FORGETS.as_secs(),
        IDLE.as_secs()
    ));

    // And that it is the probes that do it.
    world.operator.take().context("an operator")?.kill().await?;
    world.start_operator_with(&probes(600)).await?;
    world.settled(120 * SECOND).await?;
    forget_after(world, FORGETS).await?;
    let mut socket = WebSocket::open(&address, "demo.local").await?;
    socket.echo().await?;
    sleep(IDLE).await;
    ensure!(socket.echo().await.is_err(), "without probes in time a connection is forgotten");
    world.figure(format!("probes after 600 s: forgotten within {} s", IDLE.as_secs()));
    forget_after(world, 900 * SECOND).await.map(|_| ())
}

/// Sets after how long IPVS forgets an idle TCP connection, in every balancer of the first node: each overlay
/// network has one, in a network namespace of its own. Tells in how many.
async fn forget_after(world: &World, time: Duration) -> Result<usize> {
    let directory = format!("{}/n1/exec/netns", world.export("ENGINE_STATE"));
    let script = format!(
        "for balancer in {directory}/lb_* {directory}/ingress_sbox; do \
         nsenter --net=$balancer ipvsadm --set {} 0 0 && echo changed; done",
        time.as_secs()
    );
    let output = Command::new(root().join("scripts/engine"))
        .args(["exec", "1", "sh", "-c", &script])
        .env("ENGINE_NAME", world.export("ENGINE_NAME"))
        .output()
        .await?;
    ensure!(output.status.success(), "set the timeouts of IPVS: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|line| *line == "changed").count())
}
