//! Checks of the files before a rollout, on three nodes with a proxy each.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::support::docker::Docker;
use crate::support::tls::Certificate;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// An image with this nginx and these users in the registry, and its name.
async fn image(world: &World, tag: &str, passwd: Option<&str>) -> Result<String> {
    let base = world.export("PROXY_IMAGE");
    let name = format!("{}:{tag}", base.rsplit_once(':').context("the image has a tag")?.0);
    let container = world.docker.run(&["create", base]).await?;
    if let Some(passwd) = passwd {
        let file = world.directory().join("passwd");
        std::fs::write(&file, passwd)?;
        world.docker.run(&["cp", &file.display().to_string(), &format!("{container}:/etc/passwd")]).await?;
    }
    world.docker.run(&["commit", "--change", &format!("LABEL tag={tag}"), &container, &name]).await?;
    world.docker.run(&["rm", &container]).await?;
    world.docker.run(&["push", &name]).await?;
    Ok(name)
}

/// Another operator with this proxy image.
async fn restart_with(world: &mut World, image: &str, extra: &str) -> Result<()> {
    world.operator.take().context("an operator")?.kill().await?;
    world.exports.insert("PROXY_IMAGE".into(), image.into());
    world.start_operator_with(extra).await
}

/// Waits until the settings are held, and answers why.
async fn held(world: &World, what: &str) -> Result<String> {
    wait::until(&format!("{what} is held"), 120 * SECOND, || async {
        let status = world.operator().json(&["status"]).await?;
        let holds = status["clusters"][0]["holds"].as_array().cloned().unwrap_or_default();
        let newest = holds.iter().find(|hold| hold["attempts"] == 1 && hold["retry_in_seconds"].as_u64() > Some(500));
        let reason = newest.and_then(|hold| hold["reason"].as_str());
        reason.map(str::to_owned).with_context(|| status["clusters"][0].to_string())
    })
    .await
}

/// Everything on the nodes that a check is made of.
async fn left_over(world: &World) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let services =
        world.docker.run(&["service", "ls", "--format", "{{.Name}}", "-f", "label=dovetail.kind=check"]).await?;
    found.extend(services.lines().map(|name| format!("service {name}")));
    for node in 1..=3 {
        let socket = PathBuf::from(world.export("ENGINE_STATE")).join(format!("n{node}/docker.sock"));
        let names =
            Docker::new(socket).run(&["ps", "-a", "--format", "{{.Names}}", "-f", "name=dovetail-check"]).await?;
        found.extend(names.lines().map(|name| format!("container {name} on node {node}")));
    }
    Ok(found)
}

async fn nothing_is_left_over(world: &World) -> Result<()> {
    wait::until("nothing is left of the check", 10 * SECOND, || async {
        let found = left_over(world).await?;
        if found.is_empty() { Ok(()) } else { bail!("{found:?}") }
    })
    .await
}

/// Images before and after a check, under load: one that works passes and is rolled out, one whose nginx refuses the
/// files never reaches a proxy, and without checks it does.
pub async fn images(world: &mut World) -> Result<()> {
    world.begin_serving("good", "", 120 * SECOND).await?;
    let checks = world.operator().metric("dovetail_checks_total", &[]).await?;
    ensure!(checks == 0.0, "routes alone are not checked: {checks} checks");
    let works = image(world, "works", None).await?;
    // The user in nginx.conf is none of these.
    let root = "root:x:0:0:root:/root:/bin/sh\n";
    let (refuses, refuses_too) =
        (image(world, "refuses", Some(root)).await?, image(world, "refuses-too", Some(root)).await?);
    let load = world.load("good.local", Duration::from_millis(50));

    restart_with(world, &works, "").await?;
    wait::until("three proxies run the other image", 120 * SECOND, || async {
        let tasks = world.docker.running_tasks("dovetail-proxy").await?;
        let run = |task: &&serde_json::Value| {
            task["Spec"]["ContainerSpec"]["Image"].as_str().is_some_and(|image| image.starts_with(&works))
        };
        let count = tasks.iter().filter(run).count();
        if count == 3 && tasks.len() == 3 { Ok(()) } else { bail!("{count} of {}", tasks.len()) }
    })
    .await?;
    world.settled(120 * SECOND).await?;
    let passed = world.operator().metric("dovetail_checks_total", &["passed"]).await?;
    ensure!(passed == 1.0, "the image was checked once, not {passed} times");
    let seconds = world.operator().metric("dovetail_last_check_seconds", &[]).await?;
    world.figure(format!("a check that passes delays an update by {seconds:.1} s"));
    nothing_is_left_over(world).await?;

    let before = (world.docker.version("dovetail-proxy").await?, world.docker.task_ids("dovetail-proxy").await?);
    let started = Instant::now();
    restart_with(world, &refuses, "").await?;
    let reason = held(world, "an image whose nginx refuses the files").await?;
    world.figure(format!(
        "an image whose nginx refuses the files is held after {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    ensure!(reason.starts_with("nginx refused the files: getpwnam(\"nginx\") failed"), "nginx's own words: {reason}");
    nothing_is_left_over(world).await?;
    world.recorder().clear();
    wait::throughout("no proxy has noticed, and none does", 10 * SECOND, || async {
        let now = (world.docker.version("dovetail-proxy").await?, world.docker.task_ids("dovetail-proxy").await?);
        ensure!(now == before, "version and tasks were {before:?}, and are {now:?}");
        Ok(())
    })
    .await?;
    world.healthy_meanwhile("late").await?;
    let created = world.recorder().writes().iter().filter(|call| call.path == "/services/create").count();
    ensure!(created == 0, "its route was not checked, {created} services were created");
    world.settled(120 * SECOND).await?;

    // Without checks it is the first proxy that finds out.
    world.recorder().clear();
    let tasks = world.docker.task_ids("dovetail-proxy").await?;
    let started = Instant::now();
    restart_with(world, &refuses_too, "      update:\n        check: never\n").await?;
    wait::until("a proxy is replaced", 60 * SECOND, || async {
        if world.docker.task_ids("dovetail-proxy").await? != tasks { Ok(()) } else { bail!("none") }
    })
    .await?;
    held(world, "the image that was not checked").await?;
    world.figure(format!("the same without a check after {:.1} s", started.elapsed().as_secs_f64()));
    let created = world.recorder().writes().iter().filter(|call| call.path == "/services/create").count();
    ensure!(created == 0, "nothing was checked, {created} services were created");
    world.nothing_failed(load).await
}

/// Raw lines of the administrator under load: some that nginx refuses never reach a proxy, what is routed stays so, and
/// what is created meanwhile is routed, too; mended, they are rolled out.
pub async fn raw_lines(world: &mut World) -> Result<()> {
    world.begin_serving("good", "", 120 * SECOND).await?;
    let load = world.load("good.local", Duration::from_millis(50));
    let image = world.export("PROXY_IMAGE").to_owned();
    let http = |line: &str| format!("      extra:\n        http:\n          - \"{line}\"\n");

    let tasks = world.docker.task_ids("dovetail-proxy").await?;
    let started = Instant::now();
    world.nginx_settings = http("serve_everything on;");
    restart_with(world, &image, "").await?;
    let reason = held(world, "a raw line that nginx does not know").await?;
    world.figure(format!("a raw line that nginx does not know is held after {:.1} s", started.elapsed().as_secs_f64()));
    ensure!(reason.contains("unknown directive \"serve_everything\""), "nginx's own words: {reason}");
    let text = world.status_says(&["held", "serve_everything"], 10 * SECOND).await?;
    world.figure(format!("status: {}", text.lines().find(|line| line.contains("held")).unwrap_or_default().trim()));
    nothing_is_left_over(world).await?;
    ensure!(world.docker.task_ids("dovetail-proxy").await? == tasks, "no proxy was replaced");
    let text = world.status_says(&["setup", "what worked before is"], 10 * SECOND).await?;
    world.figure(format!("status: {}", text.lines().find(|line| line.contains("setup")).unwrap_or_default().trim()));
    // These lines are in the file that all routes share: new ones are published with the lines that worked.
    world.healthy_meanwhile("late").await?;
    world.settled(120 * SECOND).await?;
    restart_with(world, &image, "").await?;
    world.status_says(&["setup", "what worked before is"], 10 * SECOND).await?;
    let tasks = world.docker.task_ids("dovetail-proxy").await?;
    world.settled(60 * SECOND).await?;
    ensure!(world.docker.task_ids("dovetail-proxy").await? == tasks, "a fresh operator knows all that, too");
    let failed = world.operator().metric("dovetail_rollouts_total", &["failed"]).await?;
    ensure!(failed == 0.0, "what nginx refuses never reached a proxy: {failed} rollouts failed");

    world.nginx_settings = http("add_header x-raw yes always;");
    restart_with(world, &image, "").await?;
    wait::until("the mended line is in effect", 120 * SECOND, || async {
        let answer = world.get("late.local", "/ping").await?;
        if answer.header("x-raw") == "yes" { Ok(()) } else { bail!("{}: {:?}", answer.status, answer.headers) }
    })
    .await?;
    world.settled(120 * SECOND).await?;
    world.nothing_failed(load).await
}

/// A key that is none, and one that belongs to another certificate, on a network that is new, beside a healthy service
/// under load: only their services stay out, with nginx's own words, and no rollout fails.
pub async fn secrets(world: &mut World) -> Result<()> {
    world.begin_serving("good", "", 120 * SECOND).await?;
    world.network("other").await?;
    let directory = world.directory().to_owned();
    let one = Certificate::make(&directory, "one", &["one.local"]).await?;
    let two = Certificate::make(&directory, "two", &["two.local"]).await?;
    let none = directory.join("none");
    std::fs::write(&none, "this is no key\n")?;
    for (name, file) in [
        ("one.cert", &one.certificate),
        ("one.key", &one.key),
        ("two.cert", &two.certificate),
        ("two.key", &two.key),
        ("none.key", &none),
    ] {
        world.docker.run(&["secret", "create", name, &file.display().to_string()]).await?;
    }
    let tls = |cert: &str, key: &str| {
        format!("--network other --label com.docker.lb.ssl_cert={cert} --label com.docker.lb.ssl_key={key}")
    };
    let load = world.load("good.local", Duration::from_millis(50));

    let started = Instant::now();
    world.serve("no-key", "no-key.local", &tls("two.cert", "none.key")).await?;
    world.serve("wrong-key", "wrong-key.local", &tls("two.cert", "one.key")).await?;
    world.serve("one", "one.local", &tls("one.cert", "one.key")).await?;
    world.routed("one.local", 120 * SECOND).await?;
    world.figure(format!("a healthy certificate beside two bad ones after {:.1} s", started.elapsed().as_secs_f64()));
    for (service, words) in
        [("no-key", "cannot load certificate key \"/run/secrets/none.key\""), ("wrong-key", "mismatch")]
    {
        wait::until(&format!("explain says what nginx has against {service}"), 60 * SECOND, || async {
            let (_, text, _) = world.operator().command(&["explain", service]).await?;
            if text.contains("quarantined") && text.contains(words) { Ok(()) } else { bail!("{text}") }
        })
        .await?;
    }
    nothing_is_left_over(world).await?;
    let failed = world.operator().metric("dovetail_rollouts_total", &["failed"]).await?;
    ensure!(failed == 0.0, "what nginx refuses never reached a proxy: {failed} rollouts failed");

    let label = "service update --detach --label-add com.docker.lb.ssl_key=two.key no-key";
    world.docker.line(label).await?;
    world.routed("no-key.local", 60 * SECOND).await.context("with the right key")?;
    nothing_is_left_over(world).await?;
    world.nothing_failed(load).await
}
