//! Beside a live Interlock: a proxy service of its shape serves on port 8080 while Dovetail looks on, then serves on
//! another port, then takes 8080 over, and gives it back. Nothing of Interlock's is ever touched.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::Instant;

use crate::support::load::{self, Answer, Load};
use crate::support::operator;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// How Docker's documents find the proxies.
const PROXIES: [&str; 6] =
    ["service", "ls", "--format", "{{.Name}}", "-f", "label=type=com.docker.interlock.core.proxy"];

/// A proxy of Interlock's shape: every host goes to the tasks of `demo`, and the header tells who answered.
const NGINX_CONF: &str = "worker_processes 1;
error_log /dev/stderr;
pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  resolver 127.0.0.11 valid=1s;
  server {
    listen 80;
    location / {
      set $demo tasks.demo;
      add_header x-server-info interlock/stand-in always;
      proxy_pass http://$demo:8080;
    }
  }
}
";

/// The objects of Interlock's, as they are: names, ids, versions, specs and tasks.
#[derive(Debug, PartialEq)]
struct Interlock {
    service: (String, u64, Value, Vec<String>),
    objects: Vec<String>,
}

/// Its objects, made the way its core makes them.
async fn install(world: &World) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = world.directory().join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let proxy = write("interlock.nginx.conf", NGINX_CONF)?;
    let core = write("interlock.toml", include_str!("../../../crates/dovetail/tests/commands/interlock/ucp-3.0.toml"))?;
    world.docker.line("network create -d overlay ucp-interlock").await?;
    world.docker.line(&format!("config create com.docker.ucp.interlock.conf-1 {core}")).await?;
    world.docker.line(&format!("config create com.docker.interlock.proxy.1a2b3c {proxy}")).await?;
    // One that it does not use any more.
    world.docker.line(&format!("config create com.docker.interlock.proxy.0a0b0c {proxy}")).await?;
    create_proxy(world).await
}

async fn create_proxy(world: &World) -> Result<()> {
    let image = world.export("PROXY_IMAGE");
    let command = format!(
        "service create --detach --name ucp-interlock-proxy --network demo --label type=com.docker.interlock.core.proxy \
         --label com.docker.ucp.InstanceID=stand-in --publish mode=host,published=8080,target=80 \
         --config source=com.docker.interlock.proxy.1a2b3c,target=/etc/nginx/nginx.conf --stop-signal SIGQUIT {image}"
    );
    let daemon_off = ["nginx", "-g", "daemon off;"];
    let mut line: Vec<&str> = command.split_whitespace().collect();
    line.extend(daemon_off);
    world.docker.run(&line).await.map(|_| ())
}

impl Interlock {
    async fn look(world: &World) -> Result<Self> {
        let service = world.docker.service("ucp-interlock-proxy").await?;
        let tasks = world.docker.task_ids("ucp-interlock-proxy").await?;
        let id = service["ID"].as_str().unwrap_or_default().to_owned();
        let version = service["Version"]["Index"].as_u64().context("a version")?;
        Ok(Self { service: (id, version, service["Spec"].clone(), tasks), objects: Self::objects(world).await? })
    }

    /// Its configs and its network, with ids and, where they have one, the time of the last change.
    async fn objects(world: &World) -> Result<Vec<String>> {
        let configs = world.docker.run(&["config", "ls", "-q"]).await?;
        let mut objects = Vec::new();
        for id in configs.lines() {
            let form = "{{.Spec.Name}} {{.ID}} {{.Version.Index}} {{.UpdatedAt}}";
            objects.push(world.docker.run(&["config", "inspect", "-f", form, id]).await?);
        }
        objects.retain(|object| !object.starts_with("dovetail."));
        objects.push(world.docker.run(&["network", "inspect", "-f", "{{.Name}} {{.ID}}", "ucp-interlock"]).await?);
        objects.sort();
        ensure!(objects.len() == 4, "three configs and a network: {objects:?}");
        Ok(objects)
    }
}

/// The proxies' addresses with another port.
fn at_port(world: &World, port: u16) -> Vec<String> {
    let host = |address: &String| address.rsplit_once(':').map(|(host, _)| format!("{host}:{port}"));
    world.http.iter().filter_map(host).collect()
}

/// Waits until `demo.local` is answered at a port by somebody whose `x-server-info` begins with this word.
async fn answered_by(world: &World, port: u16, who: &str) -> Result<Answer> {
    let addresses = at_port(world, port);
    wait::until(&format!("port {port} is answered by {who}"), 60 * SECOND, || async {
        let answer = load::get_any(&addresses, "demo.local", "/ping").await?;
        let by = answer.header("x-server-info");
        if answer.status == 200 && by.starts_with(who) { Ok(answer) } else { bail!("{} by {by:?}", answer.status) }
    })
    .await
}

/// The whole way over, and back.
pub async fn interlock(world: &mut World) -> Result<()> {
    world.network("demo").await?;
    world.serve("demo", "demo.local", "").await?;
    install(world).await?;
    answered_by(world, 8080, "interlock/").await?;
    let before = Interlock::look(world).await?;
    let load = Load::start(&at_port(world, 8080), "demo.local", "/ping", Duration::from_millis(100));

    // Shadow mode: nothing runs but `plan`, `routes` and `explain`.
    world.start_recorder()?;
    let config = world.write_config("")?;
    let (code, plan, error) = operator::run(&config, &["plan"]).await?;
    ensure!(code == 0 && plan.contains("demo.local"), "plan shows the route: exit {code}: {plan}{error}");
    let (_, routes, _) = operator::run(&config, &["routes"]).await?;
    ensure!(routes.contains("demo.local") && routes.contains("pending"), "routes shows what would be: {routes}");
    let (_, explanation, _) = operator::run(&config, &["explain", "demo"]).await?;
    ensure!(explanation.contains("routed"), "explain tells the verdict: {explanation}");
    ensure!(world.recorder().writes().is_empty(), "nothing is written: {:?}", world.recorder().writes());

    // Beside it, on another port.
    world.start_operator().await?;
    answered_by(world, 80, "dovetail").await?;
    world.serve("late", "late.local", "").await?;
    world.routed("late.local", 60 * SECOND).await.context("a route that is added later")?;
    world.operator.take().context("an operator")?.kill().await?;
    world.start_operator().await?;
    world.settled(60 * SECOND).await?;
    let found = world.docker.run(&PROXIES).await?;
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    ensure!(found == ["dovetail-proxy", "ucp-interlock-proxy"], "scripts find both by the label: {found:?}");
    answered_by(world, 8080, "interlock/").await?;
    ensure!(Interlock::look(world).await? == before, "Interlock's objects are as they were: {before:?}");
    let counts = load.stop().await;
    ensure!(counts.sent > 0 && counts.failed == 0, "its clients noticed nothing: {counts}");

    // The cut-over: its proxies go, and their port is published by ours.
    let cut = Instant::now();
    world.docker.line("service rm ucp-interlock-proxy").await?;
    world.http_port = 8080;
    restart_operator(world).await?;
    answered_by(world, 8080, "dovetail").await?;
    world.figure(format!(
        "cut-over on one node with host ports: 8080 answered again after {:.1} s",
        cut.elapsed().as_secs_f64()
    ));
    world.settled(60 * SECOND).await?;
    ensure!(Interlock::objects(world).await? == before.objects, "its configs and its network are left alone");

    // And the way back.
    let back = Instant::now();
    world.http_port = 80;
    restart_operator(world).await?;
    answered_by(world, 80, "dovetail").await?;
    create_proxy(world).await?;
    answered_by(world, 8080, "interlock/").await?;
    world.figure(format!("and back: 8080 answered by the old proxies after {:.1} s", back.elapsed().as_secs_f64()));
    world.settled(60 * SECOND).await?;
    let again = Interlock::look(world).await?;
    ensure!(again.objects == before.objects, "its configs and its network are as they were");

    // Judged by every call that the operator ever made: it wrote to its own objects alone.
    let own = world.docker.service("dovetail-proxy").await?["ID"].as_str().unwrap_or_default().to_owned();
    let foreign = |path: &str| match path.strip_prefix("/services/") {
        Some("create") => false,
        Some(rest) => !rest.starts_with(&own) && !rest.starts_with("dovetail-proxy"),
        None => before.objects.iter().any(|object| object.split(' ').nth(1).is_some_and(|id| path.contains(id))),
    };
    let writes = world.recorder().writes();
    let foreign: Vec<_> = writes.iter().filter(|call| foreign(&call.path)).collect();
    ensure!(foreign.is_empty() && !writes.is_empty(), "the operator wrote to {foreign:?}");
    Ok(())
}

/// A changed configuration is read at the start.
async fn restart_operator(world: &mut World) -> Result<()> {
    let status = world.operator.take().context("an operator")?.terminate().await?;
    ensure!(status.success(), "the operator ends with {status}");
    world.launch_operator("")?;
    world.operator().ready().await
}
