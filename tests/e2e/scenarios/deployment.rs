//! `make deploy` and `make undeploy`, as an operator of a cluster runs them.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::Instant;

use crate::support::admission::{self, Admission};
use crate::support::docker::Docker;
use crate::support::engine::root;
use crate::support::operator::program;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// Runs a make target with what `scripts/engine` exports, and some more.
pub(super) async fn make(world: &World, target: &str, more: &[(&str, &str)]) -> Result<String> {
    let output = Command::new("make")
        .arg("-s")
        .arg(target)
        .current_dir(root())
        .envs(&world.exports)
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .context("start make")?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(text) } else { bail!("make {target} ended with {}: {text}", output.status) }
}

/// Everything that `make deploy` could make, by kind.
async fn objects(world: &World) -> Result<Vec<String>> {
    let mut objects = Vec::new();
    for kind in ["service ls", "config ls", "secret ls", "network ls -f driver=overlay"] {
        let names = world.docker.line(&format!("{kind} --format {{{{.Name}}}}")).await?;
        objects.extend(
            names
                .lines()
                .filter(|name| *name != "ingress")
                .map(|name| format!("{} {name}", kind.split(' ').next().unwrap_or_default())),
        );
    }
    objects.sort();
    Ok(objects)
}

/// Deployed, it routes; deployed again, nothing changes; undeployed, nothing is left.
pub async fn deploy_and_undeploy(world: &mut World) -> Result<()> {
    let binary = program()?.display().to_string();
    let credentials = world.directory().join("registry.json");
    let registry = world.export("REGISTRY");
    let known = serde_json::json!({ "auths": { registry: { "username": "me", "password": "secret" } } });
    std::fs::write(&credentials, known.to_string())?;
    let credentials = credentials.display().to_string();
    let settings = |binary| {
        [("DOVETAIL_BINARY", binary), ("REGISTRY_AUTH_FILE", credentials.as_str()), ("ADMIN_LISTEN", "0.0.0.0:8717")]
    };
    let debug = settings(binary.as_str());
    make(world, "deploy", &debug).await?;
    asked_where_it_runs(world).await?;
    world.network("demo").await?;
    world.serve("demo", "demo.local", "").await?;
    world.serve("demo-vip", "vip.local", "--label com.docker.lb.backend_mode=vip").await?;
    world.routed("demo.local", 60 * SECOND).await?;
    wait::until("the VIP service is published", 60 * SECOND, || async {
        if world.live_routes().await?.contains("vip.local") { Ok(()) } else { bail!("not yet") }
    })
    .await?;
    let operator = operator_service(world).await?;
    let version = at_rest(world).await?;
    let tasks = (world.docker.task_ids(&operator).await?, world.docker.task_ids("dovetail-proxy").await?);
    let before = objects(world).await?;

    let printed = make(world, "deploy", &[&debug[..], &[("PRINT_CONFIG", "1")]].concat()).await?;
    let deployed = world.docker.line("config ls --filter name=dovetail-config- --format {{.Name}}").await?;
    let deployed = world.docker.run(&["config", "inspect", "-f", "{{printf \"%s\" .Spec.Data}}", &deployed]).await?;
    ensure!(printed.trim() == deployed.trim(), "PRINT_CONFIG prints what is deployed, not {printed}");

    make(world, "deploy", &debug).await.context("a second make deploy")?;
    wait::throughout("a second make deploy changes nothing", 10 * SECOND, || async {
        let now = (world.docker.task_ids(&operator).await?, world.docker.task_ids("dovetail-proxy").await?);
        ensure!(now == tasks, "tasks of {operator} and the proxy changed: {tasks:?}, {now:?}");
        // Files of generations that nobody needs any more may still go.
        let now = objects(world).await?;
        let file = |object: &&String| object.starts_with("config dovetail.main.");
        let gone: Vec<&String> = before.iter().filter(|object| !now.contains(object) && !file(object)).collect();
        let new: Vec<&String> = now.iter().filter(|object| !before.contains(object)).collect();
        ensure!(gone.is_empty() && new.is_empty(), "{gone:?} went, {new:?} came");
        Ok(())
    })
    .await?;

    // An upgrade: another binary, so another image. (Bytes behind the end of a program change nothing in it.)
    let newer = world.directory().join("dovetail");
    let mut program = std::fs::read(&binary)?;
    program.extend_from_slice(b"newer");
    std::fs::write(&newer, program)?;
    std::fs::set_permissions(&newer, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let newer = newer.display().to_string();
    make(world, "deploy", &settings(newer.as_str())).await.context("make deploy of another version")?;
    ensure!(world.docker.task_ids(&operator).await? != tasks.0, "the operator was replaced");
    wait::throughout("an upgrade of the operator touches no proxy", 10 * SECOND, || async {
        let now = (world.docker.version("dovetail-proxy").await?, world.docker.task_ids("dovetail-proxy").await?);
        ensure!(now == (version, tasks.1.clone()), "version and tasks were {version}, {:?}, and are {now:?}", tasks.1);
        Ok(())
    })
    .await?;

    let size =
        world.docker.run(&["image", "inspect", "-f", "{{.Size}}", &operator_image(world, &operator).await?]).await?;
    world.figure(format!("operator image: {:.1} MiB", size.parse::<f64>()? / f64::from(1 << 20)));

    // What an operator that is stopped in the middle of a check leaves behind.
    world
        .docker
        .line(&format!(
            "service create --detach --name dovetail-check-main-main --restart-condition none --label dovetail.instance=main \
             --label dovetail.cluster=main --label dovetail.kind=check {}",
            world.demo_image()
        ))
        .await?;
    world.docker.line("service rm demo demo-vip").await?;
    undeploy_takes_nothing_else(world).await?;
    make(world, "undeploy", &[]).await?;
    let left: Vec<String> = objects(world).await?.into_iter().filter(|object| object != "network demo").collect();
    ensure!(left.is_empty(), "make undeploy leaves nothing: {left:?}");
    Ok(())
}

/// Within its container the operator is asked by its own program, and on the stack's network by who collects metrics.
async fn asked_where_it_runs(world: &World) -> Result<()> {
    wait::until("status asks the operator", 30 * SECOND, || async {
        let container = world.container("dovetail_operator").await?;
        let status = world.docker.run(&["exec", &container, "/dovetail", "status"]).await?;
        if status.starts_with("operator: ready\n") { Ok(()) } else { bail!("{status}") }
    })
    .await?;
    let image = world.export("PROXY_IMAGE").to_owned();
    let collector = format!("service create --detach --quiet --name collector --network dovetail_control {image}");
    world.docker.line(&collector).await?;
    wait::until("metrics are collected", 30 * SECOND, || async {
        let container = world.container("collector").await?;
        let collect = ["exec", &container, "wget", "-q", "-O", "-", "http://tasks.operator:8717/metrics"];
        let metrics = world.docker.run(&collect).await?;
        if metrics.contains("\ndovetail_ready 1") { Ok(()) } else { bail!("{metrics}") }
    })
    .await?;
    world.docker.line("service rm collector").await.map(|_| ())
}

/// A wrong name removes nothing: neither an application whose stack it is, nor somebody's proxies.
async fn undeploy_takes_nothing_else(world: &World) -> Result<()> {
    let image = world.demo_image();
    let shop = format!("service create --detach --name shop_web --label com.docker.stack.namespace=shop {image}");
    world.docker.line(&shop).await?;
    for (settings, says) in [
        (
            &[("STACK", "shop")][..],
            "there is no installation of Dovetail in stack 'shop', but there are proxies of: main",
        ),
        (&[("STACK", "typo")], "there is no installation of Dovetail in stack 'typo', but there are proxies of: main"),
        (&[("INSTANCE", "second")], "stack dovetail is the installation 'main', not 'second'"),
    ] {
        let refused = make(world, "undeploy", settings).await.err().context("a wrong name is refused")?.to_string();
        ensure!(refused.contains(says) && refused.contains("Nothing was removed"), "{settings:?}: {refused}");
    }
    // An installation that is not there has nothing to be removed, and the application is not of it.
    make(world, "undeploy", &[("STACK", "shop"), ("INSTANCE", "other")]).await?;
    // The operator works meanwhile: config objects come and go.
    let there = objects(world).await?;
    for kept in ["service shop_web", "service dovetail-proxy", "service dovetail_operator", "network dovetail_control"]
    {
        ensure!(there.iter().any(|object| object == kept), "a wrong name removes nothing: {kept} is not in {there:?}");
    }
    world.docker.line("service rm shop_web").await.map(|_| ())
}

/// T30: an update of the operator with a configuration that it cannot read is taken back, and routing goes on.
pub async fn bad_config(world: &mut World) -> Result<()> {
    let binary = program()?.display().to_string();
    let settings = [("DOVETAIL_BINARY", binary.as_str())];
    make(world, "deploy", &settings).await?;
    world.network("demo").await?;
    world.serve("demo", "demo.local", "").await?;
    world.routed("demo.local", 60 * SECOND).await?;
    let version = at_rest(world).await?;
    let load = world.load("demo.local", Duration::from_millis(100));

    let bad = world.directory().join("bad.yaml");
    std::fs::write(&bad, "instance: main\nclusters:\n  main:\n    nginx: {workers: many}\n")?;
    let bad = bad.display().to_string();
    let refused = make(world, "deploy", &[settings[0], ("CONFIG_FILE", bad.as_str())]).await;
    let told = refused.err().context("make deploy says that the operator failed")?.to_string();
    for words in ["the one before is back", "dovetail.yaml:4", "workers"] {
        ensure!(told.contains(words), "T30: make deploy tells {words:?}: {told}");
    }
    ensure!(world.docker.version("dovetail-proxy").await? == version, "T30: the proxies stay as they are");
    world.serve("later", "later.local", "").await?;
    let started = Instant::now();
    world.routed("later.local", 60 * SECOND).await?;
    world.figure(format!(
        "T30: with the old operator back, a new service is routed after {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    at_rest(world).await?;
    let counts = load.stop().await;
    world.figure(format!("requests meanwhile, to one proxy on a host port that is replaced once: {counts}"));
    world.docker.line("service rm demo later").await?;
    make(world, "undeploy", &[]).await.map(|_| ())
}

/// The version of the proxy service once nothing moves it any more.
async fn at_rest(world: &World) -> Result<u64> {
    wait::until("the proxy service is at rest", 60 * SECOND, || async {
        let service = world.docker.service("dovetail-proxy").await?;
        let state = service["UpdateStatus"]["State"].as_str().unwrap_or("none");
        if state == "completed" { world.docker.version("dovetail-proxy").await } else { bail!("{state}") }
    })
    .await
}

/// The operator's own container reaches the engine over TLS with client certificates, through the UCP overlay.
pub async fn deploy_over_tls(world: &mut World) -> Result<()> {
    let endpoint = world.export("ENGINE_TLS_HOST").to_owned();
    let bundle = world.export("ENGINE_TLS_DIR").to_owned();
    let client =
        [("DOCKER_HOST", endpoint.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", bundle.as_str())];
    let binary = program()?.display().to_string();
    let overlay = [
        ("DOVETAIL_BINARY", binary.as_str()),
        ("UCP_ENDPOINT", endpoint.as_str()),
        ("BUNDLE_DIR", bundle.as_str()),
        ("PLACEMENT", "node.role == manager"),
        ("UCP_ACCESS_LABEL", "/Shared"),
    ];
    let settings: Vec<(&str, &str)> = client.iter().chain(&overlay).copied().collect();
    make(world, "deploy", &settings).await?;
    let operator = operator_service(world).await?;
    let mounts = world
        .docker
        .run(&["service", "inspect", "-f", "{{json .Spec.TaskTemplate.ContainerSpec.Mounts}}", &operator])
        .await?;
    ensure!(!mounts.contains("docker.sock"), "the operator has no socket: {mounts}");
    world.network("demo").await?;
    world.serve("demo", "demo.local", "").await?;
    world.routed("demo.local", 60 * SECOND).await?;
    let label = "{{index .Spec.Labels \"com.docker.ucp.access.label\"}}";
    for kind in ["service", "config"] {
        let names = world.docker.run(&[kind, "ls", "-q", "-f", "label=dovetail.instance=main"]).await?;
        for name in names.lines() {
            let value = world.docker.run(&[kind, "inspect", "-f", label, name]).await?;
            ensure!(value == "/Shared", "the {kind} {name} carries UCP's access label, not {value:?}");
        }
        ensure!(!names.is_empty(), "the operator made a {kind}");
    }
    world.docker.line("service rm demo").await?;
    make(world, "undeploy", &settings).await?;
    let left: Vec<String> = objects(world).await?.into_iter().filter(|object| object != "network demo").collect();
    ensure!(left.is_empty(), "make undeploy leaves nothing: {left:?}");
    Ok(())
}

/// The name of the operator's service: the one of the stack.
pub(super) async fn operator_service(world: &World) -> Result<String> {
    let names =
        world.docker.run(&["service", "ls", "--format", "{{.Name}}", "-f", "label=com.docker.stack.namespace"]).await?;
    names.lines().next().map(str::to_owned).context("make deploy made a stack")
}

async fn operator_image(world: &World, operator: &str) -> Result<String> {
    world.docker.run(&["service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", operator]).await
}

/// Through a proxy that behaves like UCP's (certificates demanded, labels and constraints added, host binds refused,
/// objects of nobody hidden): `make deploy` with the overlay works, routes flow, and the operator is quiet.
pub async fn deploy_through_ucp(world: &mut World) -> Result<()> {
    let bundle = world.export("ENGINE_TLS_DIR").to_owned();
    // The host's end of the hub, which the containers reach through their node.
    let host = world.export("REGISTRY").split(':').next().context("a host")?.to_owned();
    let ucp = Admission::start(&format!("{host}:0"), Path::new(&bundle), world.engine_socket().to_owned()).await?;
    let endpoint = ucp.endpoint();
    let node = world.docker.run(&["node", "ls", "--format", "{{.Hostname}}"]).await?;
    world.docker.line(&format!("node update --label-add {}=true {node}", admission::NODE_LABEL)).await?;
    let user = Docker::over_tls(&endpoint, &bundle);
    let refused = user.line("service create --detach --mount type=bind,source=/run,target=/run --name x nobody").await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("access denied")), "host binds are refused");

    let binary = program()?.display().to_string();
    let settings = [
        ("DOCKER_HOST", endpoint.as_str()),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", bundle.as_str()),
        ("DOVETAIL_BINARY", binary.as_str()),
        ("UCP_ENDPOINT", endpoint.as_str()),
        ("BUNDLE_DIR", bundle.as_str()),
        // The only node of this engine is a manager.
        ("PLACEMENT", "node.role == manager"),
        ("UCP_ACCESS_LABEL", "/Shared/ops"),
    ];
    make(world, "deploy", &settings).await?;
    user.line("network create -d overlay demo").await?;
    let image = world.demo_image();
    let serve = |name: &str| {
        format!(
            "service create --detach --name {name} --network demo --label com.docker.lb.hosts={name}.local \
             --label com.docker.lb.port=8080 {image}"
        )
    };
    user.line(&serve("demo")).await?;
    world.routed("demo.local", 60 * SECOND).await?;
    let version = at_rest(world).await?;

    // Made behind UCP's back, in no collection: not seen, so not routed.
    world.docker.line(&serve("hidden")).await?;
    ucp.clear();
    wait::throughout("the operator is quiet", 10 * SECOND, || async {
        let writes = ucp.writes();
        let of_services = writes.iter().filter(|call| call.path.starts_with("/services")).count();
        let now = world.docker.version("dovetail-proxy").await?;
        ensure!(of_services == 0 && now == version, "version {version}, now {now}; {writes:?}");
        Ok(())
    })
    .await?;
    ensure!(world.get("hidden.local", "/ping").await?.status == 503, "what nobody may see is not routed");

    user.line(&serve("late")).await?;
    world.routed("late.local", 60 * SECOND).await?;
    at_rest(world).await?;
    let updates: Vec<_> = ucp.writes().into_iter().filter(|call| call.path.ends_with("/update")).collect();
    ensure!(updates.len() == 1, "one route, one update: {updates:?}");
    let spec = world.docker.service("dovetail-proxy").await?["Spec"].clone();
    let constraints = spec["TaskTemplate"]["Placement"]["Constraints"].to_string();
    ensure!(constraints.contains(admission::NODE_LABEL), "UCP's constraint is kept: {constraints}");
    ensure!(spec["Labels"]["com.docker.ucp.collection"] == "shared", "and so is its label: {}", spec["Labels"]);
    ensure!(spec["Labels"][admission::ACCESS_LABEL] == "/Shared/ops", "beside ours: {}", spec["Labels"]);

    // A second time: nothing changes.
    let before = objects(world).await?;
    make(world, "deploy", &settings).await.context("a second make deploy")?;
    ensure!(world.docker.task_ids("dovetail-proxy").await?.len() == 1, "the proxy is there");
    let new: Vec<String> = objects(world).await?.into_iter().filter(|object| !before.contains(object)).collect();
    ensure!(new.is_empty(), "a second make deploy makes nothing: {new:?}");
    world.docker.line("service rm demo late hidden").await?;
    world.docker.line(&format!("node update --label-rm {} {node}", admission::NODE_LABEL)).await?;
    make(world, "undeploy", &settings).await?;
    let left: Vec<String> = objects(world).await?.into_iter().filter(|object| object != "network demo").collect();
    ensure!(left.is_empty(), "make undeploy leaves nothing: {left:?}");
    Ok(())
}
