//! The founding document's own examples, with only the image changed.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::support::load::Answer;
use crate::support::world::World;

/// "Publish a default host service".
pub async fn default_backend(world: &mut World) -> Result<()> {
    let image = world.demo_image();
    world.start_operator().await?;
    world.network("demo").await?;
    let started = Instant::now();
    world
        .docker
        .line(&format!(
            "service create --name demo-default --network demo --detach=false --replicas=1 \
             --label com.docker.lb.default_backend=true --label com.docker.lb.port=8080 {image}"
        ))
        .await?;
    world.figure(format!("docker service create --detach=false took {:.1} s", started.elapsed().as_secs_f64()));
    for host in ["anything.example.org", "another.local", "127.0.0.1"] {
        let answer = world.routed(host, Duration::from_secs(30)).await?;
        ensure!(answer.json()["metadata"].is_string(), "{host} is answered by the service: {}", answer.body);
    }
    Ok(())
}

/// "Publish a service", in task mode, where traffic flows on every kernel. The document's VIP example is in
/// `vip_mode`: here only that its upstream is the VIP.
pub async fn demo(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    let unknown = world.get("demo.local", "/ping").await?;
    ensure!(unknown.status == 503, "an unknown host is answered 503, not {}", unknown.status);
    ensure!(unknown.header("x-request-id").is_empty(), "the proxy's own 503 has no x- headers");
    let health = world.get("demo.local", "/.dovetail/health").await?;
    ensure!(health.status == 200, "the health path answers 200 on any host, not {}", health.status);

    world.network("demo").await?;
    world.serve("demo", "demo.local", "--replicas=1 --env METADATA=demo").await?;
    let started = Instant::now();
    let answer = world.routed("demo.local", Duration::from_secs(40)).await?;
    world.figure(format!(
        "docker service create returning -> first 200: {:.1} s (pull, start and proxy rollout included)",
        started.elapsed().as_secs_f64()
    ));
    let body = answer.json();
    ensure!(body["metadata"] == "demo", "the demo application answers: {}", answer.body);
    ensure!(answer.header("set-cookie").starts_with("session="), "its cookie comes through");
    // Until its health check has passed, Swarm does not list the proxy as running.
    world.settled(Duration::from_secs(60)).await?;
    headers_are_true(world, &answer).await?;
    ensure!(body["request_id"] == answer.header("x-request-id"), "the application got the same request id");

    let missing = world.get("demo.local", "/no-such-page").await?;
    ensure!(missing.status == 404, "the application's 404 comes through, not {}", missing.status);
    headers_are_true(world, &missing).await
}

/// The five headers, compared with what the engine says.
async fn headers_are_true(world: &World, answer: &Answer) -> Result<()> {
    let id = answer.header("x-request-id");
    ensure!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "x-request-id is 32 digits, not {id:?}");
    let proxies = world.docker.running_tasks("dovetail-proxy").await?;
    let containers: Vec<String> = proxies
        .iter()
        .filter_map(|task| Some(task["Status"]["ContainerStatus"]["ContainerID"].as_str()?.chars().take(12).collect()))
        .collect();
    let proxy = answer.header("x-proxy-id").to_owned();
    ensure!(containers.contains(&proxy), "x-proxy-id {proxy:?} is one of the proxies' containers {containers:?}");
    ensure!(answer.header("x-server-info").starts_with("dovetail"), "x-server-info names dovetail");
    let addresses = world.docker.addresses("demo", "demo").await?;
    let upstream = answer.header("x-upstream-addr");
    ensure!(
        addresses.iter().any(|address| upstream == format!("{address}:8080")),
        "x-upstream-addr {upstream:?} is one of {addresses:?}"
    );
    let seconds: f64 = answer.header("x-upstream-response-time").parse()?;
    ensure!((0.0..5.0).contains(&seconds), "x-upstream-response-time is in seconds, not {seconds}");
    Ok(())
}
