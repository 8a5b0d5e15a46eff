//! `explain`: one test a reason for asking.

use std::time::Duration;

use dovetail::commands;
use insta::assert_snapshot;
use model::labels;
use tokio::time::sleep;

use crate::stage::{Stage, running, steady};

async fn explain(stage: &Stage, service: &str) -> String {
    steady(&commands::explain_service(&stage.config, &stage.swarm, service, false).await.expect("it can be explained"))
}

async fn explain_json(stage: &Stage, service: &str) -> String {
    steady(&commands::explain_service(&stage.config, &stage.swarm, service, true).await.expect("it can be explained"))
}

async fn refusal(stage: &Stage, service: &str) -> String {
    commands::explain_service(&stage.config, &stage.swarm, service, false).await.expect_err("it cannot").to_string()
}

#[tokio::test(start_paused = true)]
async fn routed_by_vip_and_by_tasks() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    assert_snapshot!("explain_vip_pending", explain(&stage, "demo").await);
    stage.operate().await;
    assert_snapshot!("explain_vip", explain(&stage, "demo").await);
    assert_snapshot!("explain_vip_json", explain_json(&stage, "demo").await);
    assert_snapshot!("explain_tasks", explain(&stage, "demo-default").await);
    assert_snapshot!("explain_tasks_json", explain_json(&stage, "demo-default").await);

    let id = stage.swarm.service_named("demo").expect("it is there").id;
    let short = &id.as_str()[..12];
    for asked in [id.as_str(), short] {
        assert_eq!(explain(&stage, asked).await, explain(&stage, "demo").await, "asked for {asked}");
    }

    stage.swarm.scale("demo", 0).unwrap();
    stage.swarm.scale("demo-default", 2).unwrap();
    stage.swarm.eventually("two tasks run", |swarm| running(swarm, &["demo-default"]) == 2).await;
    assert_snapshot!("explain_vip_leaving", explain(&stage, "demo").await);
    assert_snapshot!("explain_tasks_changing", explain(&stage, "demo-default").await);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_first_task() {
    let stage = Stage::new();
    for (name, mode) in [("in-tasks", "task"), ("in-vip", "vip")] {
        stage
            .service(name)
            .constraint("node.labels.none==here")
            .label(labels::HOSTS, "waits.local")
            .label(labels::PORT, "80")
            .label(labels::BACKEND_MODE, mode)
            .create()
            .unwrap();
    }
    sleep(Duration::from_secs(130)).await;
    assert_snapshot!("explain_waiting_tasks", explain(&stage, "in-tasks").await);
    assert_snapshot!("explain_waiting_vip", explain(&stage, "in-vip").await);
    assert_snapshot!("explain_waiting_json", explain_json(&stage, "in-vip").await);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_an_image_that_nobody_has() {
    let stage = Stage::new();
    stage.swarm.refuse_when(|task, _| {
        let image = task["ContainerSpec"]["Image"].as_str().unwrap_or_default();
        image.contains("appp").then(|| format!("No such image: {image}"))
    });
    stage
        .service("mistyped")
        .image("registry.example/appp:1")
        .label(labels::HOSTS, "waits.local")
        .label(labels::PORT, "80")
        .create()
        .unwrap();
    let again = |swarm: &embedded::Swarm| swarm.tasks_named("mistyped").len() > 2;
    stage.swarm.eventually("it was tried again", again).await;
    assert_snapshot!("explain_no_image", explain(&stage, "mistyped").await);
}

#[tokio::test(start_paused = true)]
async fn refused_with_every_problem_at_its_label() {
    let stage = Stage::new();
    stage
        .service("mistaken")
        .label(labels::HOSTS, "good.local,a;b{},$x,c\n.local")
        .label(labels::PORT, "80/tcp")
        .label(labels::BACKEND_MODE, "vips")
        .label("com.docker.lb.weight", "3")
        .create()
        .unwrap();
    assert_snapshot!("explain_refused", explain(&stage, "mistaken").await);
    assert_snapshot!("explain_refused_json", explain_json(&stage, "mistaken").await);
}

#[tokio::test(start_paused = true)]
async fn refused_for_two_networks_and_for_none() {
    let stage = Stage::new();
    stage.swarm.create_network("other").unwrap();
    let labelled = |name: &str| stage.swarm.service(name).label(labels::HOSTS, "a.local").label(labels::PORT, "80");
    labelled("two").network("demo").network("other").create().unwrap();
    labelled("none").create().unwrap();
    labelled("elsewhere").network("demo").label(labels::NETWORK, "nowhere").create().unwrap();
    assert_snapshot!("explain_two_networks", explain(&stage, "two").await);
    assert_snapshot!("explain_no_network", explain(&stage, "none").await);
    assert_snapshot!("explain_unknown_network", explain(&stage, "elsewhere").await);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_live_keeps_its_network_with_a_warning() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.swarm.create_network("other").unwrap();
    stage.swarm.add_network("demo-default", "other").unwrap();
    stage
        .swarm
        .eventually("its task was replaced", |swarm| {
            swarm.running_tasks("demo-default").first().is_some_and(|task| task.attachments.len() == 2)
        })
        .await;
    assert_snapshot!("explain_network_kept", explain(&stage, "demo-default").await);
}

#[tokio::test(start_paused = true)]
async fn refused_for_what_kind_of_service_it_is() {
    let stage = Stage::new();
    stage
        .service("on-containers")
        .container_label(labels::HOSTS, "a.local")
        .container_label(labels::PORT, "80")
        .create()
        .unwrap();
    let labelled = |name: &str| stage.service(name).label(labels::HOSTS, "a.local").label(labels::PORT, "80");
    labelled("job").job().create().unwrap();
    labelled("round-robin").dnsrr().label(labels::BACKEND_MODE, "vip").create().unwrap();
    labelled("east").label(labels::SERVICE_CLUSTER, "east").create().unwrap();
    assert_snapshot!("explain_labels_on_container", explain(&stage, "on-containers").await);
    assert_snapshot!("explain_job", explain(&stage, "job").await);
    assert_snapshot!("explain_dnsrr", explain(&stage, "round-robin").await);
    assert_snapshot!("explain_elsewhere", explain(&stage, "east").await);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_ask_and_who_does_not_exist() {
    let stage = Stage::new();
    stage.service("quiet").create().unwrap();
    stage.service("team_web").create().unwrap();
    stage.service("other_web").create().unwrap();
    assert_snapshot!(refusal(&stage, "quiet").await, @"the service quiet does not ask to be routed: among its labels (deploy.labels in a stack file, --label in docker service create) is neither com.docker.lb.hosts nor com.docker.lb.default_backend=true");
    assert_snapshot!(refusal(&stage, "web").await, @r#"there is no service "web"; is other_web or team_web meant?"#);
    assert_snapshot!(refusal(&stage, "nobody").await, @r#"there is no service "nobody"; docker service ls lists those there are"#);
    assert_snapshot!(refusal(&stage, "").await, @r#"there is no service ""; docker service ls lists those there are"#);
}

/// Each time that a task comes or goes is an update of the proxies, until it is clear that this will go on.
#[tokio::test(start_paused = true)]
async fn a_service_whose_task_ends_again_and_again_stops_moving_the_proxies() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.service("loop").label(labels::HOSTS, "loop.local").label(labels::PORT, "80").create().unwrap();
    stage.operate().await;
    let explained = std::cell::RefCell::new(String::new());
    let mut versions = vec![stage.proxy_version()];
    stage
        .while_operating(async {
            for _ in 0..8 {
                sleep(Duration::from_secs(20)).await;
                stage.swarm.kill_task(&stage.swarm.running_tasks("loop")[0].id);
                stage.swarm.eventually("another runs", |swarm| running(swarm, &["loop"]) == 1).await;
                versions.push(stage.proxy_version());
            }
            sleep(Duration::from_secs(5)).await;
            explained.replace(explain(&stage, "loop").await);
            sleep(Duration::from_secs(90)).await;
        })
        .await;
    let moved: Vec<bool> = versions.windows(2).map(|pair| pair[0] != pair[1]).collect();
    // It goes, it comes and goes twice, and goes for good.
    assert_eq!(moved, [true, true, true, true, false, false, false, false]);
    assert_snapshot!("explain_crash_loop", explained.into_inner());
    assert_snapshot!("explain_crash_loop_over", explain(&stage, "loop").await);
}
