//! The documents' own examples of Interlock, with their label sets unchanged: the T numbers are those of the acceptance
//! list. Where Dovetail differs on purpose, the difference is what is asserted, and the migration guide says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::support::load;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// T1, T3 to T6, T11, T12, T14, T15, T17, T18, T32, T34, T35: everything that plain HTTP shows, side by side.
pub async fn over_http(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    world.network("demo").await?;
    world.network("other").await?;
    let label = |name: &str, value: &str| format!("--label com.docker.lb.{name}={value}");
    let labels =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| label(name, value)).collect::<Vec<_>>().join(" ");
    for (name, hosts, more) in [
        ("sticky", "sticky.local", format!("--replicas=5 {}", label("sticky_session_cookie", "session"))),
        ("hashed", "hashed.local", format!("--replicas=5 {}", label("ip_hash", "true"))),
        (
            "moved",
            "old.local,new.local",
            format!("{} --env METADATA=demo-new", label("redirects", "http://old.local,http://new.local")),
        ),
        (
            "moved-twice",
            "a.local,b.local,c.local",
            label("redirects", "http://a.local,http://c.local;http://b.local,http://c.local;"),
        ),
        (
            "rewritten",
            "root.local",
            format!(
                "{} --env METADATA=demo-context-root",
                labels(&[("context_root", "/app"), ("context_root_rewrite", "true")])
            ),
        ),
        ("kept", "kept.local", label("context_root", "/status")),
        (
            "longer",
            "kept.local",
            format!(
                "{} --env METADATA=longer",
                labels(&[("context_root", "/status/204"), ("context_root_rewrite", "true")])
            ),
        ),
        ("checked", "checked.local", labels(&[("max_fails", "3"), ("fail_timeout", "30s")])),
        ("elsewhere", "elsewhere.local", label("network", "no-such-network")),
        ("none", "none.local", "--replicas=0".to_owned()),
        ("hundred", "weight.local", format!("{} --env METADATA=heavy", label("weight", "80"))),
        ("twenty", "weight.local", format!("--replicas=2 {} --env METADATA=light", label("weight", "20"))),
    ] {
        world.serve(name, hosts, &more).await?;
    }
    let image = world.demo_image();
    let default = labels(&[("default_backend", "true"), ("port", "8080")]);
    world
        .docker
        .line(&format!(
            "service create --name demo-default --network demo --detach {default} --env METADATA=default {image}"
        ))
        .await?;
    for host in ["sticky.local", "hashed.local", "new.local", "c.local", "checked.local", "weight.local"] {
        world.routed(host, 90 * SECOND).await?;
    }
    wait::until("every task is an upstream", 60 * SECOND, || async {
        let routes = world.live_routes().await?;
        let address = |line: &'_ str| line.trim_start().strip_prefix("server 10.").map(|rest| rest.to_owned());
        let servers: BTreeSet<String> = routes.lines().filter_map(address).collect();
        if servers.len() == 20 { Ok(()) } else { bail!("{} servers", servers.len()) }
    })
    .await?;
    world.settled(60 * SECOND).await?;
    sticky(world).await?;
    redirects(world).await?;
    paths(world).await?;
    refused_and_default(world).await?;
    weights(world).await
}

/// T25: applications that their nodes publish are reached there, without a network in common and with one.
pub async fn host_mode(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    let image = world.demo_image();
    let on_nodes = "--publish mode=host,target=8080 --label com.docker.lb.port=8080";
    world
        .docker
        .line(&format!(
            "service create --name demo --replicas 2 --detach {on_nodes} --label com.docker.lb.hosts=app.example.org {image}"
        ))
        .await?;
    world.routed("app.example.org", 90 * SECOND).await?;
    upstreams_are_at_nodes(world, "demo", "app.example.org", 2).await?;
    let spec = world.docker.service("dovetail-proxy").await?;
    let networks = &spec["Spec"]["TaskTemplate"]["Networks"];
    ensure!(networks.as_array().is_none_or(Vec::is_empty), "T25: the proxies are on no network: {networks}");
    let (_, explained, _) = world.operator().command(&["explain", "demo"]).await?;
    ensure!(explained.contains("its nodes publish its port (mode=host)"), "explain says how: {explained}");

    // With a network in common nothing is joined for it either; who wants that names it.
    world.network("demo").await?;
    let both = "--replicas 3 --publish mode=host,target=8080 --label team=a";
    world.serve("both", "both.local", both).await?;
    world.routed("both.local", 60 * SECOND).await?;
    upstreams_are_at_nodes(world, "both", "both.local", 3).await?;
    world.docker.line("service update --detach --label-add com.docker.lb.network=demo both").await?;
    let addresses = world.docker.addresses("both", "demo").await?;
    wait::until("both is reached over the network that it names", 60 * SECOND, || async {
        let upstream = world.get("both.local", "/ping").await?.header("x-upstream-addr").to_owned();
        let known = addresses.iter().any(|address| format!("{address}:8080") == upstream);
        if known { Ok(()) } else { bail!("{upstream} is none of {addresses:?}") }
    })
    .await?;

    // Tasks come and go, on nodes of their own.
    let load = world.load("app.example.org", Duration::from_millis(200));
    world.docker.line("service scale --detach demo=3").await?;
    upstreams_are_at_nodes(world, "demo", "app.example.org", 3).await?;
    world.nothing_failed(load).await?;
    world.docker.line("service scale --detach demo=1").await?;
    upstreams_are_at_nodes(world, "demo", "app.example.org", 1).await
}

/// Exactly what the nodes publish is answered by, so many tasks of them.
async fn upstreams_are_at_nodes(world: &mut World, service: &str, host: &str, tasks: usize) -> Result<()> {
    let started = Instant::now();
    wait::until(&format!("{service} is reached at {tasks} nodes"), 90 * SECOND, || async {
        let expected = world.docker.at_nodes(service, 8080).await?;
        ensure!(expected.len() == tasks, "{expected:?} are published");
        let mut seen = BTreeSet::new();
        for _ in 0..4 * tasks {
            seen.insert(world.get(host, "/ping").await?.header("x-upstream-addr").to_owned());
        }
        let seen: Vec<String> = seen.into_iter().collect();
        if seen == expected { Ok(()) } else { bail!("{seen:?}, and the nodes publish {expected:?}") }
    })
    .await?;
    let at = world.docker.at_nodes(service, 8080).await?.join(", ");
    world.figure(format!("{service} at {at} after {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// T26, T27, T33. Interlock's extension fetched every change from the core; here a proxy has to reach nobody: Swarm
/// brings its files. With hitless updates Interlock's proxies stayed; here they stay while an application in VIP mode
/// is scaled and deployed. They are replaced when it comes or goes, and for every change of tasks in task mode: then
/// a balancer in front of two proxies loses nothing.
pub async fn hitless(world: &mut World) -> Result<()> {
    world.nginx_settings = "      hide_info_headers: true\n".to_owned();
    world.start_operator().await?;
    world.network("demo").await?;
    world.serve("steady", "steady.local", "--replicas 3").await?;
    world.serve("demo", "demo.local", "--replicas 2 --label com.docker.lb.backend_mode=vip").await?;
    world.routed("steady.local", 60 * SECOND).await?;
    wait::until("demo is published", 60 * SECOND, || async {
        ensure!(world.live_routes().await?.contains("demo.local"), "it is not in the live files");
        Ok(())
    })
    .await?;
    world.settled(120 * SECOND).await?;
    let answer = world.get("steady.local", "/ping").await?;
    let ours = ["x-proxy-id", "x-request-id", "x-server-info", "x-upstream-addr", "x-upstream-response-time"];
    let told: Vec<&str> = ours.into_iter().filter(|name| !answer.header(name).is_empty()).collect();
    ensure!(told.is_empty(), "T33: no header tells of the proxy: {told:?}");

    let load = world.load("steady.local", Duration::from_millis(50));
    let (proxies, version) =
        (world.docker.task_ids("dovetail-proxy").await?, world.docker.version("dovetail-proxy").await?);
    let newer = world.demo_image().replace(":0.1", ":0.2");
    for step in ["service scale demo=5", "service scale demo=1", &format!("service update --image {newer} demo")] {
        world.docker.line(step).await?;
        let now = (world.docker.task_ids("dovetail-proxy").await?, world.docker.version("dovetail-proxy").await?);
        ensure!(now == (proxies.clone(), version), "T27: {step} leaves the proxies alone: {now:?}");
    }
    world.docker.line("service rm demo").await?;
    world.serve("beside", "beside.local", "--replicas 2").await?;
    world.routed("beside.local", 60 * SECOND).await?;
    world.docker.line("service scale --detach beside=4").await?;
    world.every_task_is_an_upstream("beside", 4).await?;
    wait::until("demo is gone", 60 * SECOND, || async {
        ensure!(!world.live_routes().await?.contains("demo.local"), "demo.local is still there");
        Ok(())
    })
    .await?;
    world.settled(120 * SECOND).await?;

    // A proxy that starts without an operator anywhere.
    world.operator.take().context("an operator")?.kill().await?;
    let started = Instant::now();
    world.kill_one_task("dovetail-proxy").await?;
    wait::until("T26: the proxy in its place serves", 60 * SECOND, || async {
        let here = load::get(&world.http[0], "beside.local", "/ping").await?;
        if here.status == 200 { Ok(()) } else { bail!("it answers {}", here.status) }
    })
    .await?;
    let seconds = started.elapsed().as_secs_f64();
    world.figure(format!("T26: without an operator a killed proxy is replaced, and serves, after {seconds:.1} s"));
    world.nothing_failed(load).await
}

/// T11, T12: a client stays with its task; without a cookie clients are spread.
async fn sticky(world: &World) -> Result<()> {
    let (mut with, mut without) = (BTreeSet::new(), BTreeSet::new());
    let first = world.get("sticky.local", "/ping").await?;
    ensure!(first.header("set-cookie").starts_with("session="), "T11: the application's cookie goes through");
    for _ in 0..20 {
        with.insert(
            world
                .get_with("sticky.local", "/ping", &[("cookie", "a=1; session=42")])
                .await?
                .header("x-upstream-addr")
                .to_owned(),
        );
        without.insert(world.get("sticky.local", "/ping").await?.header("x-upstream-addr").to_owned());
    }
    ensure!(with.len() == 1, "T11: with its cookie a client stays at one task, not {with:?}");
    ensure!(without.len() > 1, "T11: clients without the cookie are spread");
    let mut hashed = BTreeSet::new();
    for _ in 0..10 {
        hashed.insert(world.get("hashed.local", "/ping").await?.header("x-upstream-addr").to_owned());
    }
    ensure!(hashed.len() == 1, "T12: an address stays at one task, not {hashed:?}");
    Ok(())
}

/// T14, T15.
async fn redirects(world: &World) -> Result<()> {
    for (host, path, to) in [
        ("old.local", "/", "http://new.local/"),
        ("old.local", "/a/b?c=d&e", "http://new.local/a/b?c=d&e"),
        ("a.local", "/x", "http://c.local/x"),
        ("b.local", "/", "http://c.local/"),
    ] {
        let answer = world.get(host, path).await?;
        ensure!(
            answer.status == 302 && answer.header("location") == to,
            "T14: {host}{path} is redirected to {to}: {answer:?}"
        );
        ensure!(answer.header("x-upstream-addr").is_empty(), "T14: nothing was proxied: {answer:?}");
    }
    let answer = world.get("new.local", "/ping").await?;
    ensure!(answer.json()["metadata"] == "demo-new", "T14: the new host is served: {answer:?}");
    Ok(())
}

/// T17, T18, and what Interlock could not: several services below one host.
async fn paths(world: &World) -> Result<()> {
    let answer = world.get("root.local", "/app/ping").await?;
    ensure!(
        answer.json()["metadata"] == "demo-context-root",
        "T17: the application sees /ping, without a redirect: {answer:?}"
    );
    let answer = world.get("root.local", "/app?x=1").await?;
    ensure!(answer.status == 301 && answer.header("location") == "/app/?x=1", "T17: /app becomes /app/: {answer:?}");
    for path in ["/other", "/application", "/"] {
        let answer = world.get("root.local", path).await?;
        ensure!(answer.status == 404, "T17: {path} is nobody's: {answer:?}");
    }
    let answer = world.get("kept.local", "/status/418").await?;
    ensure!(answer.status == 418, "T18: the application sees the whole path: {answer:?}");
    let answer = world.get("kept.local", "/status/204/ping").await?;
    ensure!(answer.json()["metadata"] == "longer", "the longest path wins: {answer:?}");
    Ok(())
}

/// T5, T6, T32, T34, T35.
async fn refused_and_default(world: &World) -> Result<()> {
    for host in ["unheard-of.local", "elsewhere.local", "none.local"] {
        let answer = world.get(host, "/ping").await?;
        ensure!(answer.json()["metadata"] == "default", "T6: {host} goes to the default backend: {answer:?}");
    }
    let routes = world.live_routes().await?;
    ensure!(routes.contains(":8080 max_fails=3 fail_timeout=30s;"), "T32: passive checks are set");
    let (_, text, _) = world.operator().command(&["explain", "elsewhere"]).await?;
    ensure!(text.contains("no-such-network"), "T34: explain names the wrong network: {text}");
    world.docker.line("service rm demo-default").await?;
    wait::until("T5: an unknown host is answered 503, without headers", 60 * SECOND, || async {
        let answer = world.get("unheard-of.local", "/").await?;
        if answer.status != 503 {
            bail!("{}", answer.status)
        }
        ensure!(answer.header("x-proxy-id").is_empty(), "none of the headers: {answer:?}");
        Ok(())
    })
    .await?;
    let answer = world.get("none.local", "/").await?;
    ensure!(answer.status == 503, "T35: 0 replicas are an unknown host: {answer:?}");
    Ok(())
}

/// A canary of 20 % whatever the numbers of tasks.
async fn weights(world: &mut World) -> Result<()> {
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..200 {
        let answer = world.get("weight.local", "/ping").await?;
        *shares.entry(answer.json()["metadata"].as_str().context("metadata")?.to_owned()).or_default() += 1;
    }
    let light = shares.get("light").copied().unwrap_or_default() as f64 / 200.0;
    world.figure(format!("weights 80 : 20 over 1 : 2 tasks: {:.1} % of 200 requests", light * 100.0));
    // Each worker counts for itself, and there are as many as processors.
    ensure!((light - 0.2).abs() < 0.05, "a weight of 20 beside 80 is 20 %: {shares:?}");
    Ok(())
}
