//! Labels that cannot be served: that service is refused with a reason, and nobody else notices.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hyper::{Method, StatusCode};
use serde_json::json;

use crate::support::api;
use crate::support::wait;
use crate::support::world::World;

/// Each bad service with the code of its problem. The job finds no node: Engine 20.10 leaves the containers of a
/// removed job behind, and its networks with them.
const BAD: &[(&str, &str, &[&str])] = &[
    (
        "dnsrr-vip",
        "vip_with_dnsrr",
        &[
            "--network",
            "demo",
            "--endpoint-mode",
            "dnsrr",
            "--label",
            "com.docker.lb.backend_mode=vip",
            "--label",
            "com.docker.lb.hosts=bad1.local",
            "--label",
            "com.docker.lb.port=8080",
        ],
    ),
    (
        "mode",
        "bad_backend_mode",
        &[
            "--network",
            "demo",
            "--label",
            "com.docker.lb.backend_mode=anycast",
            "--label",
            "com.docker.lb.hosts=bad2.local",
            "--label",
            "com.docker.lb.port=8080",
        ],
    ),
    ("no-port", "missing_port", &["--network", "demo", "--label", "com.docker.lb.hosts=bad3.local"]),
    (
        "two-networks",
        "ambiguous_network",
        &[
            "--network",
            "demo",
            "--network",
            "other",
            "--label",
            "com.docker.lb.hosts=bad4.local",
            "--label",
            "com.docker.lb.port=8080",
        ],
    ),
    (
        "job",
        "job_service",
        &[
            "--network",
            "demo",
            "--mode",
            "replicated-job",
            "--constraint",
            "node.labels.none==1",
            "--label",
            "com.docker.lb.hosts=bad5.local",
            "--label",
            "com.docker.lb.port=8080",
        ],
    ),
    (
        "container-labels",
        "labels_on_container",
        &[
            "--network",
            "demo",
            "--container-label",
            "com.docker.lb.hosts=bad6.local",
            "--container-label",
            "com.docker.lb.port=8080",
        ],
    ),
    (
        "characters",
        "bad_host",
        &["--network", "demo", "--label", "com.docker.lb.hosts=a;b{}", "--label", "com.docker.lb.port=8080"],
    ),
    (
        "line-break",
        "bad_host",
        &["--network", "demo", "--label", "com.docker.lb.hosts=a.local\nb", "--label", "com.docker.lb.port=8080"],
    ),
    (
        "variable",
        "bad_host",
        &["--network", "demo", "--label", "com.docker.lb.hosts=$x", "--label", "com.docker.lb.port=8080"],
    ),
];

/// All of them at once, beside a healthy one under load.
pub async fn stay_with_their_service(world: &mut World) -> Result<()> {
    let image = world.demo_image();
    world.start_operator().await?;
    world.network("demo").await?;
    world.network("other").await?;
    world.serve("good", "good.local", "").await?;
    world.routed("good.local", Duration::from_secs(40)).await?;
    world.settled(Duration::from_secs(60)).await?;
    world.recorder().clear();
    let load = world.load("good.local", Duration::from_millis(50));

    for (name, _, arguments) in BAD {
        let mut line = vec!["service", "create", "--detach", "--name", name];
        line.extend_from_slice(arguments);
        line.push(&image);
        world.docker.run(&line).await?;
    }
    for (name, code, _) in BAD {
        wait::until(&format!("explain tells why {name} is refused"), Duration::from_secs(20), || async {
            let explanations = world.operator().json(&["explain", name]).await?;
            let problems = explanations[0]["problems"].as_array().cloned().unwrap_or_default();
            if problems.iter().any(|problem| problem["code"] == *code) { Ok(()) } else { bail!("{explanations}") }
        })
        .await?;
        wait::until(&format!("the metric counts {code}"), Duration::from_secs(20), || async {
            let label = format!("code=\"{code}\"");
            let count = world.operator().metric("dovetail_service_problems", &[&label]).await?;
            if count >= 1.0 { Ok(()) } else { bail!("{count}") }
        })
        .await?;
        let log = world.operator().log()?;
        let logged = log.iter().filter(|line| line["service"] == *name && line["code"] == *code).count();
        ensure!(
            logged == 1 || *code == "bad_host" && logged >= 1,
            "{code} of {name} is logged once, not {logged} times"
        );
    }
    let (code, text, _) = world.operator().command(&["explain", "characters"]).await?;
    ensure!(
        code == 0 && text.contains("com.docker.lb.hosts=a;b{}") && text.contains("refused"),
        "in words too: {text}"
    );
    let writes = world.recorder().writes();
    ensure!(writes.is_empty(), "nine bad services cause no write: {writes:?}");

    world.docker.line("service update --detach --label-add com.docker.lb.port=8080 no-port").await?;
    world.routed("bad3.local", Duration::from_secs(40)).await.context("a problem that is solved")?;
    let counts = load.stop().await;
    world.figure(format!("beside nine bad services, and one rollout when one of them was mended: {counts}"));
    Ok(())
}

/// The filter that every scenario's operator works behind lets nothing else through, and whoever asks for more is named.
pub async fn permissions(world: &mut World) -> Result<()> {
    world.start_recorder()?;
    let socket = world.recorder().socket().to_owned();
    let service = |extra: serde_json::Value| {
        let mut container = json!({ "Image": world.demo_image() });
        container.as_object_mut().expect("an object").extend(extra.as_object().cloned().unwrap_or_default());
        let labels = json!({ "dovetail.instance": "main" });
        json!({ "Name": "evil", "Labels": labels, "TaskTemplate": { "ContainerSpec": container } })
    };
    let mount = json!({ "Mounts": [{ "Type": "bind", "Source": "/", "Target": "/host" }] });
    let config = json!({ "Name": "stolen", "Labels": { "dovetail.instance": "main" }, "Data": "" });
    let stranger = json!({ "Name": "dovetail.x", "Labels": {}, "Data": "" });
    let refused = [
        (Method::GET, "/containers/json", None),
        (Method::GET, "/secrets/x", None),
        (Method::GET, "/swarm", None),
        (Method::POST, "/containers/create", Some(json!({ "Image": "x" }))),
        (Method::POST, "/secrets/create", Some(json!({ "Name": "x", "Data": "" }))),
        (Method::DELETE, "/networks/x", None),
        (Method::POST, "/services/create", Some(service(mount))),
        (Method::POST, "/services/create", Some(service(json!({ "CapabilityAdd": ["SYS_ADMIN"] })))),
        (Method::POST, "/services/x/update", Some(json!({ "Name": "x" }))),
        (Method::POST, "/configs/create", Some(config)),
        (Method::POST, "/configs/create", Some(stranger)),
    ];
    for (method, path, body) in &refused {
        let (status, answer) = api::call(&socket, method.clone(), path, body.as_ref()).await?;
        ensure!(status == StatusCode::FORBIDDEN, "{method} {path} is answered {status} {answer}");
    }
    let offences = world.recorder().take_offences();
    ensure!(offences.len() == refused.len(), "each is told: {offences:?}");
    for path in ["/services", "/nodes", "/secrets", "/version"] {
        let (status, answer) = api::call(&socket, Method::GET, path, None).await?;
        ensure!(status.is_success(), "GET {path} is answered {status} {answer}");
    }
    world.figure(format!("{} calls that no operator makes are refused", refused.len()));
    Ok(())
}
