//! What people do to the proxy service with their own hands, and what becomes of it.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::api;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// A service in task mode on the network `demo`, routed and at rest.
async fn publish(world: &World, name: &str) -> Result<()> {
    if world.docker.line("network inspect demo").await.is_err() {
        world.network("demo").await?;
    }
    world.serve(name, &format!("{name}.local"), "").await?;
    world.routed(&format!("{name}.local"), 60 * SECOND).await?;
    world.settled(60 * SECOND).await
}

/// T31: what the documents tell operators to set on the proxies that they find by Interlock's label stays, through
/// later route changes.
pub async fn pinned(world: &mut World) -> Result<()> {
    world.publish_mode = "ingress";
    world.network("demo").await?;
    world.serve("first", "first.local", "--detach=false --quiet").await?;
    world.start_operator_with("      replicas: 1\n").await?;
    rolled_out(world, "first.local", 1).await?;
    let node = world.first_node().await?;
    world.docker.line(&format!("node update --label-add nodetype=loadbalancer {node}")).await?;
    let proxy = world.docker.line("service ls -f label=type=com.docker.interlock.core.proxy -q").await?;
    let edit =
        "--replicas=2 --constraint-add node.labels.nodetype==loadbalancer --stop-signal SIGQUIT --stop-grace-period=5s";
    world.docker.line(&format!("service update --detach {edit} {proxy}")).await?;
    rolled_out(world, "first.local", 2).await?;
    world.serve("second", "second.local", "").await?;
    rolled_out(world, "second.local", 2).await?;
    let spec = world.docker.service("dovetail-proxy").await?["Spec"].clone();
    let container = &spec["TaskTemplate"]["ContainerSpec"];
    ensure!(spec["Mode"]["Replicated"]["Replicas"] == 2, "T31: the replicas are kept: {}", spec["Mode"]);
    let constraints = &spec["TaskTemplate"]["Placement"]["Constraints"];
    ensure!(
        constraints.to_string().contains("node.labels.nodetype==loadbalancer"),
        "T31: the constraint is kept: {constraints}"
    );
    ensure!(container["StopSignal"] == "SIGQUIT", "T31: the stop signal is kept: {}", container["StopSignal"]);
    let grace = &container["StopGracePeriod"];
    ensure!(*grace == 5_000_000_000_i64, "T31: the grace period is kept: {grace}");
    world.docker.line(&format!("node update --label-rm nodetype {node}")).await.map(|_| ())
}

/// What an operator sets with `docker service update` stays, through later route changes and restarts.
pub async fn edits_are_kept(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    publish(world, "first").await?;
    world
        .docker
        .line(
            "service update --limit-memory 200M --label-add team=edge --constraint-add node.role==manager \
             --stop-grace-period 20s --stop-signal SIGTERM --env-add COLOUR=blue --limit-pids 300 \
             --ulimit-add core=0:0 --cap-drop MKNOD --host-add box:10.1.2.3 dovetail-proxy",
        )
        .await?;
    // Fields that the docker client has no option for. The second came with API 1.44: an older Engine forgets it at once.
    api::edit_service(world.engine_socket(), "dovetail-proxy", |spec| {
        spec["TaskTemplate"]["ContainerSpec"]["OpenStdin"] = true.into();
        spec["TaskTemplate"]["ContainerSpec"]["Privileges"] = json!({ "NoNewPrivileges": true });
    })
    .await?;
    let api = world.docker.line("version -f {{.Server.APIVersion}}").await?;
    let since_1_44 = api.strip_prefix("1.").and_then(|minor| minor.parse().ok()).is_some_and(|minor: u32| minor >= 44);
    world.settled(60 * SECOND).await?;
    publish(world, "second").await?;
    world.operator.take().context("an operator")?.kill().await?;
    world.start_operator().await?;
    publish(world, "third").await?;
    let spec = world.docker.service("dovetail-proxy").await?["Spec"].clone();
    let container = &spec["TaskTemplate"]["ContainerSpec"];
    let no_new_privileges = Value::from(container["Privileges"]["NoNewPrivileges"] == true);
    for (what, found, expected) in [
        ("the memory limit", &spec["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"], Value::from(200 << 20)),
        ("the label", &spec["Labels"]["team"], Value::from("edge")),
        ("the constraint", &spec["TaskTemplate"]["Placement"]["Constraints"][0], Value::from("node.role==manager")),
        ("the grace period", &container["StopGracePeriod"], Value::from(20_000_000_000_i64)),
        ("the variable", &container["Env"][0], Value::from("COLOUR=blue")),
        ("the stop signal", &container["StopSignal"], Value::from("SIGTERM")),
        ("the limit of processes", &spec["TaskTemplate"]["Resources"]["Limits"]["Pids"], Value::from(300)),
        ("the limit of core files", &container["Ulimits"][0]["Name"], Value::from("core")),
        ("the capability", &container["CapabilityDrop"][0], Value::from("CAP_MKNOD")),
        ("the entry in its hosts file", &container["Hosts"][0], Value::from("10.1.2.3 box")),
        ("the open standard input", &container["OpenStdin"], Value::from(true)),
        ("the refusal of new privileges", &no_new_privileges, Value::from(since_1_44)),
    ] {
        ensure!(*found == expected, "{what} is kept: {found}, not {expected}");
    }
    Ok(())
}

/// The proxy service is removed by hand: it comes back with all routes.
pub async fn removed_service(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    publish(world, "first").await?;
    publish(world, "second").await?;
    let before = world.live_files().await?;
    let tasks = world.docker.task_ids("dovetail-proxy").await?;
    world.docker.line("service rm dovetail-proxy").await?;
    let started = Instant::now();
    wait::until("another proxy runs", 60 * SECOND, || async {
        let running = world.docker.running_tasks("dovetail-proxy").await?;
        let id = running.first().and_then(|task| task["ID"].as_str()).context("none runs")?;
        if tasks.iter().any(|task| task == id) { bail!("the old one still runs") } else { Ok(()) }
    })
    .await?;
    world.routed("first.local", 10 * SECOND).await?;
    world.routed("second.local", 10 * SECOND).await?;
    world.figure(format!("removed by hand, back with all routes after {:.1} s", started.elapsed().as_secs_f64()));
    world.settled(60 * SECOND).await?;
    ensure!(world.live_files().await? == before, "with the same files");
    Ok(())
}

/// `docker service rollback` by hand is held to, and said; a later change of routes goes on from there.
pub async fn rollback_is_held_to(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    publish(world, "first").await?;
    publish(world, "second").await?;
    world.docker.line("service rollback --detach dovetail-proxy").await?;
    wait::until("the rollback is over, and second.local with it", 60 * SECOND, || async {
        let status = world.get("second.local", "/ping").await?.status;
        if status == 503 { Ok(()) } else { bail!("{status}") }
    })
    .await?;
    wait::until("status says that it is held", 30 * SECOND, || async {
        let (_, text, _) = world.operator().command(&["status"]).await?;
        if text.contains("rolled back by hand") { Ok(()) } else { bail!("{text}") }
    })
    .await?;
    world.recorder().clear();
    wait::throughout("it is not fought", 15 * SECOND, || async {
        let status = world.get("second.local", "/ping").await?.status;
        ensure!(status == 503, "second.local answers {status}");
        let updates = world.recorder().writes().iter().filter(|call| call.path.starts_with("/services/")).count();
        ensure!(updates == 0, "the proxy service was written {updates} times");
        Ok(())
    })
    .await?;
    publish(world, "third").await.context("a healthy service created meanwhile")
}

/// Paused, nothing is written and the plan shows what waits; resumed, it is done.
pub async fn pause_and_resume(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    publish(world, "first").await?;
    let (code, text, error) = world.operator().command(&["pause", "--reason", "maintenance"]).await?;
    ensure!(code == 0, "pause: exit {code}: {text}{error}");
    world.recorder().clear();
    world.serve("late", "late.local", "").await?;
    wait::until("the plan shows what waits", 30 * SECOND, || async {
        let (_, text, _) = world.operator().command(&["plan"]).await?;
        if text.contains("paused") && text.contains("late") { Ok(()) } else { bail!("{text}") }
    })
    .await?;
    // The operator reads the label with its next look at the proxy service.
    wait::until("/readyz is ready and names it", 10 * SECOND, || async {
        let (status, body) = world.operator().admin("/readyz").await?;
        if status == 200 && body.contains("maintenance") { Ok(()) } else { bail!("{status} {body}") }
    })
    .await?;
    wait::throughout("nothing is written while paused", 8 * SECOND, || async {
        let writes = world.recorder().writes();
        ensure!(writes.is_empty(), "{writes:?}");
        Ok(())
    })
    .await?;
    let (code, text, error) = world.operator().command(&["resume"]).await?;
    ensure!(code == 0, "resume: exit {code}: {text}{error}");
    world.routed("late.local", 60 * SECOND).await.map(|_| ())
}

/// What an operator decides about the number and the places of proxies on the routing mesh stays; and with as many
/// proxies on the nodes as may be there, so that no new one can start beside an old one, routes go on all the same.
pub async fn more_replicas_than_fit(world: &mut World) -> Result<()> {
    world.publish_mode = "ingress";
    world.network("demo").await?;
    world.serve("first", "first.local", "--detach=false --quiet").await?;
    world.start_operator_with("      update:\n        deadline: 20s\n").await?;
    rolled_out(world, "first.local", 2).await?;
    // One node, and three replicas of which it may have two. (Without a constraint the docker client of 20.10 crashes.)
    let edit = "--replicas 3 --replicas-max-per-node 2 --constraint-add node.role==manager";
    world.docker.line(&format!("service update --detach {edit} dovetail-proxy")).await?;
    let started = Instant::now();
    let text = world.status_says(&["max replicas per node"], 60 * SECOND).await?;
    world.figure(format!("told after {:.1} s: {}", started.elapsed().as_secs_f64(), text.trim()));
    world.serve("second", "second.local", "").await?;
    let started = Instant::now();
    rolled_out(world, "second.local", 2).await?;
    world.figure(format!("a healthy service meanwhile is rolled out after {:.1} s", started.elapsed().as_secs_f64()));
    let spec = world.docker.service("dovetail-proxy").await?["Spec"].clone();
    ensure!(spec["Mode"]["Replicated"]["Replicas"] == 3, "the replicas are kept: {}", spec["Mode"]);
    let placement = &spec["TaskTemplate"]["Placement"];
    ensure!(placement["MaxReplicas"] == 2, "the limit is kept: {placement}");
    world.docker.line("service update --detach --replicas 2 dovetail-proxy").await?;
    world.status_says(&["in step"], 60 * SECOND).await.map(|_| ())
}

/// Waits until so many proxies run, on files that hold a host.
async fn rolled_out(world: &World, host: &str, proxies: usize) -> Result<()> {
    wait::until(&format!("{host} is rolled out to {proxies} proxies"), 60 * SECOND, || async {
        ensure!(world.live_routes().await?.contains(host), "it is not in the spec");
        let files = |spec: &Value| spec["ContainerSpec"]["Configs"].clone();
        let live = files(&world.docker.service("dovetail-proxy").await?["Spec"]["TaskTemplate"]);
        let tasks = world.docker.running_tasks("dovetail-proxy").await?;
        let current = tasks.iter().filter(|task| files(&task["Spec"]) == live).count();
        if current == proxies { Ok(()) } else { bail!("{current} of {} that run", tasks.len()) }
    })
    .await
}
