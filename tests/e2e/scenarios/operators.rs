//! More than one operator, and more than one version of it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::support::api;
use crate::support::calls::Call;
use crate::support::operator::{self, Operator};
use crate::support::recorder::Recorder;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

fn updates(recorder: &Recorder) -> usize {
    let update = |call: &&Call| call.path.starts_with("/services/") && call.path.ends_with("/update");
    recorder.writes().iter().filter(update).count()
}

/// How often this operator said in its log that it writes nothing because of another.
fn said_that_it_is_fenced(operator: &Operator) -> Result<usize> {
    let lines = operator.log()?;
    let said = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.starts_with("fenced"));
    Ok(lines.iter().filter(|line| said(line)).count())
}

async fn update_completed(world: &World) -> Result<()> {
    wait::until("Swarm has completed the update", 60 * SECOND, || async {
        let service = world.docker.service("dovetail-proxy").await?;
        let state = service["UpdateStatus"]["State"].as_str().unwrap_or("none").to_owned();
        if state == "completed" { Ok(()) } else { bail!("{state}") }
    })
    .await
}

/// Two operators with different settings: the one that was started later writes, the other says once that it
/// idles, and every change is one rollout.
pub async fn two(world: &mut World) -> Result<()> {
    world.begin_serving("first", "", 60 * SECOND).await?;
    world.recorder().clear();

    // A label of the service: it restarts no proxy, and the two operators disagree about it.
    let (newer, its_calls) = world.another_operator("      labels:\n        team: edge\n")?;
    newer.ready().await?;
    let started = Instant::now();
    let reason = wait::until("the older one says that it is fenced", 30 * SECOND, || async {
        let (_, body) = world.operator().admin("/readyz").await?;
        let body: serde_json::Value = serde_json::from_str(&body)?;
        body["fenced"]["main"].as_str().map(str::to_owned).with_context(|| body.to_string())
    })
    .await?;
    world.figure(format!("the older operator idles after {:.1} s: {reason}", started.elapsed().as_secs_f64()));
    ensure!(updates(&its_calls) == 1, "the newer one wrote {} times", updates(&its_calls));

    its_calls.clear();
    let load = world.load("first.local", Duration::from_millis(50));
    world.healthy_meanwhile("late").await?;
    update_completed(world).await?;
    wait::throughout("nobody writes more than that", 8 * SECOND, || async {
        let (older, newer) = (updates(world.recorder()), updates(&its_calls));
        ensure!(older == 0 && newer == 1, "one update for one route: the older wrote {older}, the newer {newer}");
        Ok(())
    })
    .await?;
    let counts = load.stop().await;
    world.figure(format!("the old route on the only proxy, which one rollout restarts: {counts}"));
    ensure!(counts.longest_gap < 15 * SECOND, "one rollout, and not one after the other: {counts}");
    let writes = world.recorder().writes();
    ensure!(writes.is_empty(), "the older operator writes nothing at all: {writes:?}");
    let said = said_that_it_is_fenced(world.operator())?;
    ensure!(said == 1, "it says so once, not {said} times");

    // With the newer one gone, the older takes over when it is started again, as its advice says.
    newer.kill().await?;
    world.operator.take().context("an operator")?.kill().await?;
    world.start_operator().await?;
    world.healthy_meanwhile("later").await?;
    let labels = world.docker.service("dovetail-proxy").await?["Spec"]["Labels"].clone();
    ensure!(labels["team"].is_null(), "its own settings stand again: {labels}");
    Ok(())
}

/// An earlier version, this one, and the earlier one again: at rest none of them writes anything to the proxy service, and
/// each goes on with what the other published. Without an earlier program at hand it is this one each time.
pub async fn upgraded_and_back(world: &mut World) -> Result<()> {
    let (this, earlier) = (world.program.clone(), operator::earlier_program());
    world.program = earlier.clone().unwrap_or_else(|| this.clone());
    world.begin_serving("first", "--replicas 2", 60 * SECOND).await?;
    world.serve("shared", "first.local", "--label com.docker.lb.context_root=/status").await?;
    world.serve("vip", "vip.local", "--label com.docker.lb.backend_mode=vip").await?;
    world.serve("refused", "refused.local", "--label com.docker.lb.port=none").await?;
    wait::until("all of them are published", 60 * SECOND, || async {
        let routes = world.live_routes().await?;
        if routes.contains("vip.local") && routes.contains("/status") { Ok(()) } else { bail!("{routes}") }
    })
    .await?;
    world.settled(60 * SECOND).await?;
    let load = world.load("first.local", Duration::from_millis(50));
    let before = (world.docker.version("dovetail-proxy").await?, world.docker.task_ids("dovetail-proxy").await?);
    for (program, which) in [(&this, "this version"), (&world.program.clone(), "the earlier one")] {
        world.operator.take().context("an operator")?.kill().await?;
        world.recorder().clear();
        world.program.clone_from(program);
        world.start_operator().await?;
        world.settled(60 * SECOND).await?;
        let now = (world.docker.version("dovetail-proxy").await?, world.docker.task_ids("dovetail-proxy").await?);
        ensure!(now == before, "{which} at rest touched the proxies: {before:?}, now {now:?}");
        let writes: Vec<Call> = world.recorder().writes();
        ensure!(!writes.iter().any(|call| call.path.starts_with("/services")), "{which} wrote {writes:?}");
    }
    world.nothing_failed(load).await?;
    let version = async |program: &std::path::Path| -> Result<String> {
        let output = tokio::process::Command::new(program).arg("version").output().await?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    };
    let (from, to) = (version(&world.program).await?, version(&this).await?);
    let which = if earlier.is_some() { "an earlier program" } else { "the same program" };
    world.figure(format!("{which}, upgraded and back: {from} -> {to} -> {from}, no write to the proxy service"));
    // What the one has published the other changes, and the first one changes it again.
    world.healthy_meanwhile("late").await?;
    world.settled(60 * SECOND).await?;
    world.operator.take().context("an operator")?.kill().await?;
    world.program = this;
    world.start_operator().await?;
    world.healthy_meanwhile("later").await?;
    world.routed("late.local", 10 * SECOND).await.map(|_| ())
}

/// A manifest that a later version of Dovetail wrote: the operator is not ready, says why, writes nothing, and the
/// routes go on; once the spec refers to a manifest that it knows, it goes on too.
pub async fn manifest_from_the_future(world: &mut World) -> Result<()> {
    world.begin_serving("first", "", 60 * SECOND).await?;
    world.operator.take().context("an operator")?.kill().await?;
    point_to_a_later_manifest(world).await?;
    update_completed(world).await?;
    world.routed("first.local", 10 * SECOND).await?;

    let load = world.load("first.local", Duration::from_millis(50));
    world.recorder().clear();
    world.launch_operator("")?;
    wait::until("it is not ready, and says why", 30 * SECOND, || async {
        let (status, body) = world.operator().admin("/readyz").await?;
        if status == 503 && body.contains("format 99") { Ok(()) } else { bail!("{status} {body}") }
    })
    .await?;
    let text = world.status_says(&["format 99"], 10 * SECOND).await?;
    world.figure(format!("status: {}", text.lines().find(|line| line.contains("format 99")).unwrap_or(&text).trim()));
    world.serve("late", "late.local", "").await?;
    wait::throughout("nothing is written over it", 10 * SECOND, || async {
        let (status, body) = world.operator().admin("/readyz").await?;
        ensure!(status == 503, "/readyz: {status} {body}");
        let writes = world.recorder().writes();
        ensure!(writes.is_empty(), "{writes:?}");
        Ok(())
    })
    .await?;
    let counts = load.stop().await;
    world.figure(format!("the old route meanwhile: {counts}"));
    ensure!(counts.failed == 0, "{counts}");

    world.docker.line("service rollback --detach dovetail-proxy").await?;
    let started = Instant::now();
    world.operator().ready().await?;
    world.routed("late.local", 60 * SECOND).await?;
    world.figure(format!("undone, the operator publishes again after {:.1} s", started.elapsed().as_secs_f64()));
    world.routed("first.local", 10 * SECOND).await.map(|_| ())
}

/// Makes the live spec refer to a manifest of a format that nobody knows yet, in place of its own.
async fn point_to_a_later_manifest(world: &World) -> Result<()> {
    let service = world.docker.service("dovetail-proxy").await?;
    let references = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"].as_array().context("it has files")?;
    let is_manifest = |reference: &serde_json::Value| {
        reference["File"]["Name"].as_str().is_some_and(|path| path.starts_with("/etc/dovetail/manifest"))
    };
    let at = references.iter().position(is_manifest).context("one of them is the manifest")?;
    let name = references[at]["ConfigName"].as_str().context("it has a name")?;
    let inspected = world.docker.run(&["config", "inspect", "-f", "{{json .Spec.Labels}}", name]).await?;
    let labels: std::collections::BTreeMap<String, String> = serde_json::from_str(&inspected)?;
    let file = world.directory().join("manifest.json");
    std::fs::write(&file, r#"{"format": 99, "layout": "unheard of"}"#)?;
    let (later, file) = (format!("{name}-v99").replace("dovetail.", "dvt."), file.display().to_string());
    let mut arguments: Vec<String> = vec!["config".into(), "create".into()];
    for (label, value) in labels {
        arguments.extend(["--label".into(), format!("{label}={value}")]);
    }
    arguments.extend([later.clone(), file]);
    let id = world.docker.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    api::edit_service(world.engine_socket(), "dovetail-proxy", |spec| {
        let reference = &mut spec["TaskTemplate"]["ContainerSpec"]["Configs"][at];
        reference["ConfigID"] = id.into();
        reference["ConfigName"] = later.into();
    })
    .await
}
