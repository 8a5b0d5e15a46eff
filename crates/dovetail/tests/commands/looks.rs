//! `plan`, `routes`, `status`, `render` and `check-config` at the moments that matter.

use dovetail::commands::{self, Form};
use insta::assert_snapshot;
use model::labels;

use crate::stage::{self, Stage, files_below, steady};

/// The plan as JSON; the service's spec is left out, it is tested where it is made.
async fn plan_json(stage: &Stage) -> String {
    let text = commands::plan(&stage.config, &stage.swarm, true).await.expect("the cluster can be read");
    let mut plan: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    for step in plan["clusters"][0]["steps"].as_array_mut().expect("steps are a list") {
        if let Some(spec) = step.get_mut("spec") {
            assert!(spec["TaskTemplate"].is_object());
            *spec = "...".into();
        }
    }
    steady(&serde_json::to_string_pretty(&plan).expect("it is JSON"))
}

async fn plan(stage: &Stage) -> String {
    steady(&commands::plan(&stage.config, &stage.swarm, false).await.expect("the cluster can be read"))
}

async fn routes(stage: &Stage, as_json: bool) -> String {
    steady(&commands::list_routes(&stage.config, &stage.swarm, as_json).await.expect("the cluster can be read"))
}

async fn status(stage: &Stage, as_json: bool) -> String {
    steady(
        &commands::status(&stage.config, &stage.swarm, &stage::outside(), as_json)
            .await
            .expect("the cluster can be read"),
    )
}

#[tokio::test(start_paused = true)]
async fn before_anything_exists() {
    let stage = Stage::new();
    assert_snapshot!("empty_plan", plan(&stage).await);
    assert_snapshot!("empty_plan_json", plan_json(&stage).await);
    assert_snapshot!("empty_status", status(&stage, false).await);
    assert_eq!(routes(&stage, false).await, "no service asks to be routed: none has the label com.docker.lb.hosts\n");
    assert_eq!(routes(&stage, true).await, "[]\n");
}

#[tokio::test(start_paused = true)]
async fn the_founding_documents_services_before_and_after() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    assert_snapshot!("founding_plan", plan(&stage).await);
    assert_snapshot!("founding_plan_json", plan_json(&stage).await);
    assert_snapshot!("founding_routes_pending", routes(&stage, false).await);

    stage.operate().await;
    assert_snapshot!("founding_plan_in_step", plan(&stage).await);
    assert_snapshot!("founding_plan_in_step_json", plan_json(&stage).await);
    assert_snapshot!("founding_routes", routes(&stage, false).await);
    assert_snapshot!("founding_routes_json", routes(&stage, true).await);
    assert_snapshot!("founding_status", status(&stage, false).await);
    assert_snapshot!("founding_status_json", status(&stage, true).await);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_routing_is_planned_route_by_route() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.service("tasks").replicas(2).label(labels::HOSTS, "tasks.local").label(labels::PORT, "80").create().unwrap();
    stage.service("gone").label(labels::HOSTS, "gone.local").label(labels::PORT, "80").create().unwrap();
    stage.swarm.eventually("they run", |swarm| stage::running(swarm, &["tasks", "gone"]) == 3).await;
    stage.operate().await;

    let swarm = &stage.swarm;
    swarm.scale("demo", 0).unwrap();
    swarm.scale("tasks", 8).unwrap();
    swarm.kill_task(&swarm.running_tasks("tasks")[0].id);
    swarm.remove_service("gone").unwrap();
    swarm.create_network("shop").unwrap();
    swarm
        .service("shop")
        .network("shop")
        .label(labels::HOSTS, "shop.local,*.shop.local")
        .label(labels::PORT, "80")
        .create()
        .unwrap();
    stage.service("mistaken").label(labels::HOSTS, "a;b{}").label(labels::PORT, "http").create().unwrap();
    stage
        .service("sleeping")
        .replicas(0)
        .label(labels::HOSTS, "sleep.local")
        .label(labels::PORT, "80")
        .create()
        .unwrap();
    stage
        .service("others")
        .label(labels::HOSTS, "others.local")
        .label(labels::PORT, "80")
        .label(labels::SERVICE_CLUSTER, "east")
        .create()
        .unwrap();
    swarm.eventually("they run", |swarm| stage::running(swarm, &["tasks", "shop"]) == 9).await;

    assert_snapshot!("change_plan", plan(&stage).await);
    assert_snapshot!("change_plan_json", plan_json(&stage).await);
    assert_snapshot!("change_routes", routes(&stage, false).await);
    assert_snapshot!("change_routes_json", routes(&stage, true).await);
    assert_snapshot!("change_status", status(&stage, false).await);

    stage.operate().await;
    assert_snapshot!("change_plan_in_step", plan(&stage).await);
    assert_snapshot!("change_routes_in_step", routes(&stage, false).await);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_under_way_is_told_from_one_that_has_ended() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.service("late").label(labels::HOSTS, "late.local").label(labels::PORT, "80").create().unwrap();
    let before = stage.proxy_version();
    let rollout = stage.swarm.eventually("a rollout has begun", |swarm| {
        swarm.raw("dovetail-proxy").is_some_and(|proxy| proxy.version > before)
    });
    stage.while_operating(rollout).await;
    assert_snapshot!("rolling_plan", plan(&stage).await);
    assert_snapshot!("rolling_routes", routes(&stage, false).await);
    assert_snapshot!("rolling_status", status(&stage, false).await);
}

#[tokio::test(start_paused = true)]
async fn a_check_of_the_files_is_told_before_while_it_goes_on_and_when_it_says_no() {
    let mut stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.swarm.break_when(|task, _| {
        let image = task["ContainerSpec"]["Image"].as_str().unwrap_or_default();
        image.starts_with("nginx:old").then(|| "nginx: [emerg] unknown directive \"http2\"".to_owned())
    });
    stage.config = stage::config("{clusters: {main: {proxy: {image: \"nginx:old\"}}}}");
    assert_snapshot!("check_plan", plan(&stage).await);

    let version = stage.proxy_version();
    let name = "dovetail-check-main-main";
    let there = stage.swarm.eventually("the check is there", |swarm| swarm.raw(name).is_some());
    stage.while_operating(there).await;
    assert_snapshot!("checking_plan", plan(&stage).await);
    assert_snapshot!("checking_status", status(&stage, false).await);

    let held = stage.swarm.eventually("it is over", |swarm| swarm.raw(name).is_none());
    stage.while_operating(held).await;
    assert_snapshot!("checked_plan", stage::without_seconds(&plan(&stage).await));
    assert_snapshot!("checked_status", stage::without_seconds(&status(&stage, false).await));
    assert_eq!(stage.proxy_version(), version, "no proxy has noticed");
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_failed_is_told_with_its_reason() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.swarm.break_when(|task, configs| {
        let mounted = configs.mounted(task);
        let poison = mounted.values().any(|data| String::from_utf8_lossy(data).contains("poison.local"));
        poison.then(|| "task: non-zero exit (1)".to_owned())
    });
    stage.service("poison").label(labels::HOSTS, "poison.local").label(labels::PORT, "80").create().unwrap();
    stage.operate().await;
    assert_snapshot!("held_plan", stage::without_seconds(&plan(&stage).await));
    assert_snapshot!("held_routes", routes(&stage, false).await);
    assert_snapshot!("held_status", stage::without_seconds(&status(&stage, false).await));
}

#[tokio::test(start_paused = true)]
async fn a_live_service_whose_last_change_failed_is_told_with_what_is_served_instead() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.swarm.break_when(|task, configs| {
        let mounted = configs.mounted(task);
        let poison = mounted.values().any(|data| String::from_utf8_lossy(data).contains("poison.local"));
        poison.then(|| "task: non-zero exit (1)".to_owned())
    });
    stage.swarm.set_label("demo", labels::HOSTS, "demo.local,poison.local").unwrap();
    stage.operate().await;
    assert_snapshot!("last_good_routes", routes(&stage, false).await);
    assert_snapshot!("last_good_plan", stage::without_seconds(&plan(&stage).await));
    let explained = commands::explain_service(&stage.config, &stage.swarm, "demo", false).await.unwrap();
    assert_snapshot!("last_good_explain", steady(&explained));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_service_of_somebody_else_is_named_and_left_alone() {
    let stage = Stage::new();
    stage.swarm.service("dovetail-proxy").create().unwrap();
    stage.publish_the_founding_documents_services().await;
    assert_snapshot!("foreign_plan", plan(&stage).await);
    assert_snapshot!("foreign_status", status(&stage, false).await);
    let refusal = commands::render(&stage.config, &stage.swarm, None, Form::Text).await.expect_err("it cannot be told");
    assert_snapshot!("foreign_render", refusal.to_string());
}

#[tokio::test(start_paused = true)]
async fn the_files_are_written_where_told() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    let directory = tempfile::tempdir().expect("there is room");
    let told = commands::render(&stage.config, &stage.swarm, None, Form::Below(directory.path())).await.unwrap();
    let written = files_below(directory.path());
    assert_eq!(written, ["main/etc/nginx/dovetail/routes.conf", "main/etc/nginx/nginx.conf"]);
    let expected: String = written.iter().map(|file| format!("{}\n", directory.path().join(file).display())).collect();
    assert_eq!(told, expected);
    let routes = std::fs::read_to_string(directory.path().join(&written[0])).unwrap();
    assert!(routes.contains("server_name demo.local;"), "{routes}");

    let printed = commands::render(&stage.config, &stage.swarm, Some("main"), Form::Text).await.unwrap();
    assert!(printed.starts_with("# main: /etc/nginx/dovetail/routes.conf\n"), "{printed}");
    assert!(printed.contains(&routes), "{printed}");
    let json = commands::render(&stage.config, &stage.swarm, Some("main"), Form::Json).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let main = json["main"]["/etc/nginx/nginx.conf"].as_str().expect("the main file is in it");
    assert!(printed.contains(main), "both forms tell the same");

    let unknown = commands::render(&stage.config, &stage.swarm, Some("east"), Form::Text).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no cluster \"east\" in the configuration; there is main");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_the_operator_would_refuse_is_refused_with_the_same_words() {
    let stage = Stage::new();
    stage.swarm.set_identity(swarm::Identity { version: "19.03.15".into(), api: (1, 40), manager: true });
    let refusal = commands::plan(&stage.config, &stage.swarm, false).await.expect_err("it is too old");
    assert_eq!(
        refusal.to_string(),
        "Engine 19.03.15 has API 1.40; Dovetail needs API 1.41 (Engine 20.10 or later) for the count of running tasks"
    );
}

#[tokio::test(start_paused = true)]
async fn proxies_that_no_cluster_has_any_more_are_named() {
    let mut stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    assert!(!status(&stage, false).await.contains("in no cluster"));
    stage.config = stage::config("{clusters: {main: {proxy: {name: other-proxy}}}}");
    let renamed = status(&stage, false).await;
    assert!(
        renamed.contains("service dovetail-proxy: proxies of this installation that are in no cluster"),
        "{renamed}"
    );
    stage.config = stage::config("{instance: other}");
    let others = status(&stage, false).await;
    assert!(!others.contains("in no cluster"), "{others}");
}

#[test]
fn a_configuration_is_told_in_a_few_lines() {
    let config = stage::config(
        "instance: blue\nengine:\n  endpoint: tcp://ucp.example.org:443\nclusters:\n  main: {}\n  east:\n    \
         service_cluster: east\n    proxy:\n      name: east-proxy\n      publish_mode: host\n      ports:\n        \
         http: 80\n        https: 8443\n    nginx:\n      proxy_protocol: true\n",
    );
    assert_snapshot!("check_config", commands::describe(&config, "dovetail.yaml".as_ref()));
}
