//! `pause`, `resume` and `retry`, while the operator runs.

use std::time::Duration;

use dovetail::admin::router;
use dovetail::{commands, orders};
use embedded::{Fault, Verb};
use model::labels;
use swarm::Class;
use tokio::time::sleep;

use crate::stage::{self, Stage, config, in_step};

async fn plan(stage: &Stage) -> String {
    commands::plan(&stage.config, &stage.swarm, false).await.unwrap()
}

async fn page(router: &axum::Router, path: &str) -> String {
    use tower_service::Service;
    let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let response = router.clone().call(request).await.unwrap();
    assert_eq!(response.status(), axum::http::StatusCode::OK, "{path}");
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_paused_cluster_waits_and_says_so_everywhere() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    let mut operator = stage.operator();
    let view = std::sync::Arc::clone(&operator.view);
    let router = router(std::sync::Arc::clone(&view), std::sync::Arc::clone(&operator.registry));
    let story = async {
        in_step(&view).await;
        let said = orders::pause(&stage.config, &stage.swarm, &[], Some("incident 42")).await.unwrap().to_string();
        assert!(said.starts_with("cluster main: paused: 20") && said.ends_with(": incident 42\n"), "{said}");
        let (version, tasks) = (stage.proxy_version(), stage.swarm.running_tasks("dovetail-proxy"));

        stage.service("late").label(labels::HOSTS, "late.local").label(labels::PORT, "80").create().unwrap();
        sleep(Duration::from_secs(60)).await;
        assert_eq!(stage.proxy_version(), version);
        assert_eq!(stage.swarm.running_tasks("dovetail-proxy"), tasks);
        let ready = page(&router, "/readyz").await;
        assert!(ready.contains("\"ready\":true") && ready.contains("\"paused\":{\"main\":\"20"), "{ready}");
        assert!(page(&router, "/metrics").await.contains("dovetail_paused{cluster=\"main\"} 1"));
        let text = plan(&stage).await;
        assert!(text.contains("incident 42); 3 writes wait for dovetail resume"), "{text}");
        assert!(text.contains("  waiting, while it is paused\n    1. create config"), "{text}");
        let status = commands::status(&stage.config, &stage.swarm, &stage::outside(), false).await.unwrap();
        assert!(status.contains("\ncluster main: paused (20"), "{status}");
        let json = commands::plan(&stage.config, &stage.swarm, true).await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["clusters"][0]["steps"], serde_json::json!([]));
        assert_eq!(json["clusters"][0]["waiting"].as_array().map(Vec::len), Some(3));

        let said = orders::resume(&stage.config, &stage.swarm, &["main".into()]).await.unwrap().to_string();
        assert_eq!(said, "cluster main: resumed; what waited is written now\n");
        sleep(Duration::from_secs(5)).await;
        in_step(&view).await;
        assert!(page(&router, "/api/v1/routes").await.contains("late.local"));
        assert!(!page(&router, "/readyz").await.contains("paused"));
        let done = orders::resume(&stage.config, &stage.swarm, &[]).await.unwrap();
        assert_eq!(done.to_string(), "cluster main: is not paused\n");
        let json = serde_json::json!([{ "cluster": "main", "changed": false, "outcome": "is not paused" }]);
        assert_eq!(serde_json::to_value(&done).unwrap(), json);
    };
    tokio::select! {
        error = operator.run() => panic!("the operator ended: {error:#}"),
        () = story => {}
    }
    operator.drain().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_ordered_says_why_and_the_other_clusters_are_served() {
    let mut stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.config =
        config("clusters: {main: {}, edge: {service_cluster: edge, proxy: {name: edge-proxy, ports: {http: 81}}}}");
    let refused = orders::pause(&stage.config, &stage.swarm, &[], None).await.unwrap_err().to_string();
    assert!(refused.starts_with("cluster edge: the cluster edge has no proxy service edge-proxy yet"), "{refused}");
    assert!(refused.contains("\ncluster main: paused: 20"), "{refused}");
    let unknown = orders::retry(&stage.config, &stage.swarm, "west").await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no cluster \"west\" in the configuration; there is edge, main");
    let said = orders::resume(&stage.config, &stage.swarm, &[]).await.unwrap().to_string();
    assert_eq!(said, "cluster edge: is not paused\ncluster main: resumed; what waited is written now\n");
}

#[tokio::test(start_paused = true)]
async fn an_order_looks_again_after_a_conflict_and_not_for_ever() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    let lost = stage.swarm.inject(Fault::on(Verb::UpdateService).times(2).fail(Class::Conflict));
    let said = orders::pause(&stage.config, &stage.swarm, &[], None).await.unwrap().to_string();
    assert!(said.starts_with("cluster main: paused: "), "{said}");
    assert_eq!(lost.hits(), 2);
    stage.swarm.inject(Fault::on(Verb::UpdateService).fail(Class::Conflict));
    let busy = orders::resume(&stage.config, &stage.swarm, &[]).await.unwrap_err();
    assert_eq!(busy.to_string(), "cluster main: something else writes all the time: try again");
}

#[tokio::test(start_paused = true)]
async fn a_retry_says_what_is_tried_again() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    let nothing = orders::retry(&stage.config, &stage.swarm, "main").await.unwrap().to_string();
    assert_eq!(nothing, "cluster main: nothing is held\n");

    stage.swarm.break_when(|task, configs| {
        let broken = configs.mounted(task).iter().any(|(_, data)| String::from_utf8_lossy(data).contains("bad.local"));
        broken.then(|| "nginx: [emerg] bad".to_owned())
    });
    stage.service("bad").label(labels::HOSTS, "bad.local").label(labels::PORT, "80").create().unwrap();
    let held = async {
        let held =
            |swarm: &embedded::Swarm| swarm.all_configs().iter().any(|config| config.labels.contains_key(labels::HELD));
        stage.swarm.eventually("it is held", held).await;
        sleep(Duration::from_secs(60)).await;
    };
    stage.while_operating(held).await;
    stage.swarm.break_nothing();
    let said = orders::retry(&stage.config, &stage.swarm, "main").await.unwrap().to_string();
    let expected = [
        "cluster main: tried again by a running operator within 30 s:\n  generation ",
        ", service bad published; it failed: ",
    ];
    assert!(expected.iter().all(|part| said.contains(part)), "{said}");
    stage.operate().await;
    let routes = commands::list_routes(&stage.config, &stage.swarm, false).await.unwrap();
    assert!(routes.contains("bad.local"), "{routes}");
}
