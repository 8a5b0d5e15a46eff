//! Three managers, as operators run them: nodes that die, an Engine that misbehaves, many networks.
//! Each node has a proxy on its own port, and clients go to the next address where one does not answer, as a
//! balancer in front would.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use super::deployment::{make, operator_service};
use crate::support::calls::Call;
use crate::support::docker::Docker;
use crate::support::load::{self, Load};
use crate::support::operator::program;
use crate::support::recorder::Mood;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// The number of a node by its host name, which ends in it.
fn number(hostname: &str) -> Result<usize> {
    hostname.rsplit('-').next().unwrap_or_default().parse().with_context(|| format!("a number ends {hostname:?}"))
}

/// The node that leads, as this one sees it.
async fn leader(docker: &Docker) -> Result<String> {
    let nodes = docker.run(&["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"]).await?;
    let leader = nodes.lines().find_map(|line| line.strip_suffix(" Leader"));
    leader.map(str::to_owned).with_context(|| format!("one leads: {nodes}"))
}

/// Waits until all nodes are ready again, each with a running proxy.
pub(super) async fn whole_again(docker: &Docker) -> Result<()> {
    wait::until("three nodes are ready, each with a proxy", 120 * SECOND, || async {
        let nodes = docker.run(&["node", "ls", "--format", "{{.Status}} {{.ManagerStatus}}"]).await?;
        let ready = nodes.lines().filter(|line| matches!(*line, "Ready Leader" | "Ready Reachable")).count();
        let proxies = docker.running_tasks("dovetail-proxy").await?.len();
        if (ready, proxies) == (3, 3) { Ok(()) } else { bail!("{ready} nodes, {proxies} proxies: {nodes}") }
    })
    .await
}

/// The names of all configs: what the operator writes besides the proxy service.
async fn configs(docker: &Docker) -> Result<BTreeSet<String>> {
    let names = docker.run(&["config", "ls", "--format", "{{.Name}}"]).await?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// The leader crashes, then the node with the operator is lost for good: routing goes on, changes are still seen,
/// and the operator, started elsewhere, does nothing that state does not ask for.
pub async fn leader_and_operator_lost(world: &mut World) -> Result<()> {
    // The operator shall not be on the leader, so that losing each is a thing of its own.
    let leading = leader(&world.docker).await?;
    world.docker.run(&["node", "update", "--availability", "drain", &leading]).await?;
    let binary = program()?.display().to_string();
    make(world, "deploy", &[("DOVETAIL_BINARY", binary.as_str())]).await?;
    world.docker.run(&["node", "update", "--availability", "active", &leading]).await?;
    let service = operator_service(world).await?;
    let operating = operator_node(&world.docker, &service).await?;
    ensure!(operating != leading, "the operator is on {operating}, which leads");
    let (leading_number, operating_number) = (number(&leading)?, number(&operating)?);
    let spare = 6 - leading_number - operating_number;
    world.docker = world.docker_of(spare);
    let addresses = world.http.clone();
    let on = |nodes: &[usize]| nodes.iter().map(|node| addresses[node - 1].clone()).collect::<Vec<_>>();
    world.http = on(&[spare, operating_number, leading_number]);

    whole_again(&world.docker).await?;
    world.network("demo").await?;
    // On the node that stays: what the loss of tasks does to routes is another scenario's.
    let constraints = format!("--constraint node.hostname!={leading} --constraint node.hostname!={operating}");
    world.serve("demo", "demo.local", &format!("--replicas=2 {constraints}")).await?;
    world.routed("demo.local", 60 * SECOND).await?;
    // A rollout that loses its leader half-way is Swarm's to repeat, with another node's proxy at the same time.
    upstreams(world, 2, 60 * SECOND).await?;
    at_rest(&world.docker).await?;

    let load = Load::start(&on(&[spare, operating_number]), "demo.local", "/ping", Duration::from_millis(50));
    let started = Instant::now();
    world.crash(leading_number).await?;
    let next = wait::until("another node leads", 60 * SECOND, || async {
        let leader = leader(&world.docker).await?;
        if leader == leading { bail!("still {leader}") } else { Ok(leader) }
    })
    .await?;
    world.figure(format!("leader crashed -> another leads: {:.1} s", started.elapsed().as_secs_f64()));
    world.http = on(&[spare, operating_number]);
    let late = Instant::now();
    world.serve("late1", "late1.local", &constraints).await?;
    world.routed("late1.local", 120 * SECOND).await.context("a service created without the old leader")?;
    world.figure(format!("a service created right then is routed after {:.1} s", late.elapsed().as_secs_f64()));
    let counts = load.stop().await;
    world.figure(format!("the old route meanwhile: {counts}"));
    ensure!(counts.failed == 0, "routing goes on while the leader is lost ({next} leads now): {counts}");
    // A node that comes back in the middle of a rollout rejects its proxy for a moment, and Swarm takes all of it back. (With
    // a dead node it ends only because it is told to go past that.)
    at_rest(&world.docker).await?;
    world.mend(leading_number).await?;
    whole_again(&world.docker).await?;
    at_rest(&world.docker).await?;
    // The operator's next look, half a second after the rollout's end. Else it is left to the operator elsewhere.
    garbage_gone(&world.docker).await?;
    ensure!(operator_node(&world.docker, &service).await? == operating, "the operator stayed where it was");

    let load = Load::start(&on(&[spare, leading_number]), "demo.local", "/ping", Duration::from_millis(50));
    let version = world.docker.version("dovetail-proxy").await?;
    let before = configs(&world.docker).await?;
    let started = Instant::now();
    world.crash(operating_number).await?;
    world.cut(operating_number).await?;
    let elsewhere = wait::until("the operator runs elsewhere", 120 * SECOND, || async {
        let node = operator_node(&world.docker, &service).await?;
        if node == operating { bail!("still on {node}") } else { Ok(node) }
    })
    .await?;
    world.figure(format!("the operator's node lost -> it runs elsewhere: {:.1} s", started.elapsed().as_secs_f64()));
    wait::throughout(&format!("the operator, now on {elsewhere}, writes nothing"), 15 * SECOND, || async {
        let now = (world.docker.version("dovetail-proxy").await?, configs(&world.docker).await?);
        ensure!(now == (version, before.clone()), "version {version} and {before:?} became {now:?}");
        Ok(())
    })
    .await?;
    world.http = on(&[spare, leading_number]);
    let late = Instant::now();
    world.serve("late2", "late2.local", &constraints).await?;
    world.routed("late2.local", 120 * SECOND).await.context("a service created after the move")?;
    world.figure(format!("a service created then is routed after {:.1} s", late.elapsed().as_secs_f64()));
    let counts = load.stop().await;
    world.figure(format!("the old route meanwhile: {counts}"));
    ensure!(counts.failed == 0, "routing goes on while the operator's node is lost: {counts}");

    world.mend(operating_number).await?;
    whole_again(&world.docker).await?;
    wait::until("the node that came back serves all routes", 60 * SECOND, || async {
        for host in ["demo.local", "late1.local", "late2.local"] {
            let status = load::get(&addresses[operating_number - 1], host, "/ping").await?.status;
            ensure!(status == 200, "{host} answers {status}");
        }
        Ok(())
    })
    .await
}

/// Where the operator runs.
async fn operator_node(docker: &Docker, service: &str) -> Result<String> {
    wait::until("the operator runs", 60 * SECOND, || async {
        let format = "{{.Node}} {{.CurrentState}}";
        let tasks = docker.run(&["service", "ps", "-f", "desired-state=running", "--format", format, service]).await?;
        let running = tasks.lines().find_map(|line| line.split_once(" Running"));
        running.map(|(node, _)| node.to_owned()).with_context(|| format!("it does not: {tasks}"))
    })
    .await
}

/// Waits until no update of the proxy service has been under way for 3 s: one that was just written has no state yet.
async fn at_rest(docker: &Docker) -> Result<()> {
    let quiet_since = Mutex::new(None);
    wait::until("no update of the proxies is under way", 120 * SECOND, || async {
        let service = docker.service("dovetail-proxy").await?;
        let state = service["UpdateStatus"]["State"].as_str().unwrap_or("none");
        let mut since = quiet_since.lock().expect("nobody panics with it");
        if matches!(state, "updating" | "rollback_started") {
            *since = None;
            bail!("{state}");
        }
        let quiet = since.get_or_insert_with(Instant::now).elapsed();
        ensure!(quiet >= 3 * SECOND, "only for {quiet:?}");
        Ok(())
    })
    .await
}

/// Waits until the proxies' config objects are those of the live spec and of the one before.
async fn garbage_gone(docker: &Docker) -> Result<()> {
    wait::until("no other config objects are left", 45 * SECOND, || async {
        let service = docker.service("dovetail-proxy").await?;
        let mut left = configs(docker).await?;
        left.retain(|name| name.starts_with("dovetail.main."));
        for spec in [&service["Spec"], &service["PreviousSpec"]] {
            for file in spec["TaskTemplate"]["ContainerSpec"]["Configs"].as_array().into_iter().flatten() {
                left.remove(file["ConfigName"].as_str().unwrap_or_default());
            }
        }
        if left.is_empty() { Ok(()) } else { bail!("{left:?}") }
    })
    .await
}

/// A node is cut off: its task leaves the upstreams when Swarm gives it up, and is there again when it returns.
pub async fn node_cut_off(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    world.network("demo").await?;
    world.serve("demo", "demo.local", "--mode global").await?;
    world.routed("demo.local", 60 * SECOND).await?;
    upstreams(world, 3, 60 * SECOND).await?;
    world.settled(120 * SECOND).await?;
    // The operator talks to node 1, and so do we.
    let lost = if leader(&world.docker).await?.ends_with("-3") { 2 } else { 3 };
    let addresses = world.http.clone();
    world.http.remove(lost - 1);
    let load = world.load("demo.local", Duration::from_millis(50));
    let started = Instant::now();
    world.cut(lost).await?;
    wait::until("Swarm gives the node up", 60 * SECOND, || async {
        let nodes = world.docker.run(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]).await?;
        if nodes.contains(&format!("-{lost} Down")) { Ok(()) } else { bail!("{nodes}") }
    })
    .await?;
    let given_up = started.elapsed();
    upstreams(world, 2, 120 * SECOND).await?;
    world.figure(format!(
        "cable out -> node down: {:.1} s, -> its task is in no proxy's upstreams: {:.1} s",
        given_up.as_secs_f64(),
        started.elapsed().as_secs_f64()
    ));
    world.settled(120 * SECOND).await?;
    let counts = load.stop().await;
    world.figure(format!("the route meanwhile: {counts}"));
    ensure!(counts.failed * 100 <= counts.sent, "at most one request in a hundred fails: {counts}");

    let started = Instant::now();
    world.mend(lost).await?;
    upstreams(world, 3, 120 * SECOND).await?;
    world.figure(format!("cable in -> its task is an upstream again: {:.1} s", started.elapsed().as_secs_f64()));
    whole_again(&world.docker).await?;
    wait::until("the proxy on the node that came back answers", 60 * SECOND, || async {
        let status = load::get(&addresses[lost - 1], "demo.local", "/ping").await?.status;
        if status == 200 { Ok(()) } else { bail!("{status}") }
    })
    .await
}

/// Waits until the live files hold so many upstream servers, which are the running tasks, and no update is left.
async fn upstreams(world: &World, wanted: usize, within: Duration) -> Result<()> {
    wait::until(&format!("{wanted} upstreams"), within, || async {
        let routes = world.live_routes().await?;
        let servers = routes.lines().filter(|line| line.trim_start().starts_with("server 10.")).count();
        if servers == wanted { Ok(()) } else { bail!("{servers}") }
    })
    .await
}

/// The updates of the proxy service that the Engine accepted.
fn updates(calls: Vec<Call>) -> usize {
    calls
        .iter()
        .filter(|call| call.is_write() && call.path.starts_with("/services/"))
        .filter(|call| call.status.is_some_and(|status| status.is_success()))
        .count()
}

/// Fifty applications with a network each come and go at once: few rollouts, all routed, and their networks can
/// be removed soon after them.
pub async fn fifty_networks(world: &mut World) -> Result<()> {
    const HOW_MANY: usize = 50;
    world.start_operator().await?;
    let names: Vec<String> = (0..HOW_MANY).map(|index| format!("app{index}")).collect();
    for name in &names {
        world.network(name).await?;
    }
    world.recorder().clear();
    let started = Instant::now();
    for name in &names {
        world.serve(name, &format!("{name}.local"), &format!("--network {name}")).await?;
    }
    let created = started.elapsed();
    for name in &names {
        world.routed(&format!("{name}.local"), 300 * SECOND).await?;
    }
    let routed = started.elapsed();
    world.settled(300 * SECOND).await?;
    let rollouts = updates(world.recorder().calls());
    world.figure(format!(
        "{HOW_MANY} services on {HOW_MANY} networks, created within {:.1} s: all routed after {:.1} s, at rest after \
         {:.1} s, {rollouts} rollouts",
        created.as_secs_f64(),
        routed.as_secs_f64(),
        started.elapsed().as_secs_f64()
    ));
    ensure!(
        rollouts <= 8,
        "{HOW_MANY} services that come within {:.1} s cost {rollouts} rollouts",
        created.as_secs_f64()
    );

    world.recorder().clear();
    let load = world.load("app0.local", Duration::from_millis(100));
    let started = Instant::now();
    let leaving: Vec<&str> = ["service", "rm"].into_iter().chain(names[1..].iter().map(String::as_str)).collect();
    world.docker.run(&leaving).await?;
    wait::until("all networks but the first can be removed", 400 * SECOND, || async {
        let left = world.docker.run(&["network", "ls", "-q", "-f", "name=app"]).await?.lines().count();
        if left == 1 {
            return Ok(());
        }
        let mut arguments = vec!["network", "rm"];
        arguments.extend(names[1..].iter().map(String::as_str));
        // Those that are gone already are errors too.
        let _ = world.docker.run(&arguments).await;
        bail!("{left} networks are left")
    })
    .await?;
    let gone = started.elapsed();
    world.settled(180 * SECOND).await?;
    let rollouts = updates(world.recorder().calls());
    let counts = load.stop().await;
    world.figure(format!(
        "{} services removed -> their networks removed after {:.1} s, {rollouts} rollouts; the last one's route: {counts}",
        HOW_MANY - 1,
        gone.as_secs_f64(),
    ));
    ensure!(rollouts <= 4, "services that leave at once cost {rollouts} rollouts");
    ensure!(counts.failed == 0, "the route that stays is served: {counts}");
    Ok(())
}

/// The Engine's API is slow, fails, breaks off, or is silent for a minute: nothing is withdrawn, nothing is
/// written, `/readyz` tells since when knowledge is out of date, and a change made meanwhile is seen soon after.
pub async fn api_troubles(world: &mut World) -> Result<()> {
    world.begin_serving("demo", "", 120 * SECOND).await?;
    let load = world.load("demo.local", Duration::from_millis(100));

    // Slow is not gone: what is new is still seen.
    world.recorder().set_mood(Mood::Slow);
    let started = Instant::now();
    world.serve("slow", "slow.local", "").await?;
    world.routed("slow.local", 180 * SECOND).await.context("while each call takes 3 s longer")?;
    world.figure(format!(
        "each call 3 s slower: a new service is routed after {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    world.recorder().set_mood(Mood::Pass);
    world.settled(120 * SECOND).await?;

    for (what, name, mood, lasts) in [
        ("errors", "errors", Mood::Fail, 10 * SECOND),
        ("half answers", "half", Mood::Half, 10 * SECOND),
        ("a minute of silence", "silence", Mood::Silent, 60 * SECOND),
    ] {
        world.recorder().clear();
        let version = world.docker.version("dovetail-proxy").await?;
        world.recorder().set_mood(mood);
        let started = Instant::now();
        world.serve(name, &format!("{name}.local"), "").await?;
        wait::until(&format!("{what}: /readyz tells since when it is stale"), 60 * SECOND, || async {
            let (status, body) = world.operator().admin("/readyz").await?;
            if status == 503 && body.contains("stale_since") { Ok(()) } else { bail!("{status} {body}") }
        })
        .await?;
        let told = started.elapsed();
        wait::throughout(what, lasts.saturating_sub(told), || async {
            ensure!(world.recorder().writes().is_empty(), "the operator writes {:?}", world.recorder().writes());
            let now = world.docker.version("dovetail-proxy").await?;
            ensure!(now == version, "the proxy service's version was {version} and is {now}");
            Ok(())
        })
        .await?;
        world.recorder().set_mood(Mood::Pass);
        let back = Instant::now();
        world.operator().ready().await?;
        let ready = back.elapsed();
        world.routed(&format!("{name}.local"), 60 * SECOND).await?;
        world.figure(format!(
            "{what}: /readyz told after {:.1} s; over -> ready after {:.1} s, the change made meanwhile routed after {:.1} s",
            told.as_secs_f64(),
            ready.as_secs_f64(),
            back.elapsed().as_secs_f64()
        ));
        world.settled(120 * SECOND).await?;
    }
    let counts = load.stop().await;
    world.figure(format!("the old route throughout: {counts}"));
    ensure!(counts.failed == 0, "nothing is withdrawn: {counts}");
    Ok(())
}
