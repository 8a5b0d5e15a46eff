//! Networks without room for the proxies, and networks that cannot be read, with every loop of the operator running.

use std::time::Duration;

use dovetail::commands;
use embedded::{Call, Fault};
use insta::assert_snapshot;
use model::labels;
use swarm::{Class, TaskState};
use tokio::time::sleep;

use crate::stage::{self, Stage, steady};

const PROXY: &str = "dovetail-proxy";
const MINUTE: Duration = Duration::from_secs(60);

/// A service on the network `small` with so many replicas, in VIP mode, by its name as its host.
fn crowd(stage: &Stage, name: &str, replicas: u64) {
    let service = stage.swarm.service(name).network("small").replicas(replicas).label(labels::PORT, "80");
    let service = service.label(labels::BACKEND_MODE, "vip").label(labels::HOSTS, &format!("{name}.local"));
    service.create().expect("it is possible");
}

/// In step with the founding document's services, and a /28 beside them: it has 13 addresses, and two proxies on the
/// routing mesh need five of them to join it (each one, one more during an update, a virtual one, and their node's).
async fn stage() -> Stage {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.swarm.create_network_sized("small", 28).expect("the name is free");
    stage
}

async fn runs(stage: &Stage, name: &str, count: usize) {
    let within = stage.swarm.within(MINUTE, "its tasks run", |swarm| swarm.running_tasks(name).len() == count);
    within.await;
}

async fn is_live(stage: &Stage, host: &str) -> bool {
    let routes = commands::list_routes(&stage.config, &stage.swarm, true).await.expect("they can be listed");
    let routes: serde_json::Value = serde_json::from_str(&routes).expect("it is JSON");
    routes.as_array().expect("a list").iter().any(|route| route["host"] == host && route["state"] == "live")
}

async fn becomes_live(stage: &Stage, host: &str) {
    let live = async {
        while !is_live(stage, host).await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(MINUTE, live).await.is_ok(), "{host} is live within a minute");
}

/// Whether a proxy has ended, or waits for anything.
fn proxies_are_well(stage: &Stage, tasks_before: &[swarm::Task]) -> bool {
    let tasks = stage.swarm.tasks_named(PROXY);
    tasks.len() == tasks_before.len() && stage.swarm.running_tasks(PROXY).len() == 2
}

#[tokio::test(start_paused = true)]
async fn a_network_without_room_is_not_joined_before_it_has_some() {
    let stage = stage().await;
    crowd(&stage, "crowded", 11);
    runs(&stage, "crowded", 11).await;
    assert_eq!(stage.swarm.free_addresses("small"), 0);
    let before = stage.swarm.tasks_named(PROXY);
    stage
        .while_operating(async {
            sleep(Duration::from_secs(5)).await;
            stage.swarm.clear_calls();
            // However it is scaled, as long as there is no room.
            for replicas in [12, 9, 8] {
                stage.swarm.scale("crowded", replicas).unwrap();
                sleep(MINUTE).await;
            }
            assert_eq!(stage.swarm.writes(), []);
            assert!(proxies_are_well(&stage, &before));
            let explained = commands::explain_service(&stage.config, &stage.swarm, "crowded", false).await.unwrap();
            assert_snapshot!("explain_network_full", steady(&explained));
            // Others come through meanwhile.
            let late = stage.service("late").label(labels::HOSTS, "late.local").label(labels::PORT, "80");
            late.create().unwrap();
            becomes_live(&stage, "late.local").await;
            let writes = stage.swarm.writes().len();

            stage.swarm.scale("crowded", 7).unwrap();
            becomes_live(&stage, "crowded.local").await;
            assert!(stage.swarm.writes().len() > writes);
            runs(&stage, PROXY, 2).await;
            let on_it = stage.swarm.network_id("small").unwrap();
            for task in stage.swarm.running_tasks(PROXY) {
                assert!(task.attachments.iter().any(|attachment| attachment.network == on_it));
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_gets_full_under_the_proxies_is_not_left() {
    let stage = stage().await;
    crowd(&stage, "crowded", 2);
    runs(&stage, "crowded", 2).await;
    stage.operate().await;
    assert!(is_live(&stage, "crowded.local").await);
    let before = stage.swarm.tasks_named(PROXY);
    stage
        .while_operating(async {
            sleep(Duration::from_secs(5)).await;
            stage.swarm.clear_calls();
            stage.swarm.scale("crowded", 50).unwrap();
            stage.swarm.within(MINUTE, "it is full", |swarm| swarm.free_addresses("small") == 0).await;
            sleep(2 * MINUTE).await;
            assert_eq!(stage.swarm.writes(), []);
            assert!(is_live(&stage, "crowded.local").await);
            assert!(proxies_are_well(&stage, &before));
            assert!(stage.swarm.tasks_named("crowded").iter().any(|task| task.state == TaskState::New), "it is full");
        })
        .await;
    let status = commands::status(&stage.config, &stage.swarm, &stage::outside(), false).await.unwrap();
    assert_snapshot!("network_nearly_full_status", steady(&status));
    let status = commands::status(&stage.config, &stage.swarm, &stage::outside(), true).await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let small = stage.swarm.network_id("small").unwrap();
    let expected = serde_json::json!({
        "name": "small", "subnets": ["10.0.2.0/28"], "total": 13, "taken": 13, "nearly_full": true
    });
    assert_eq!(status["networks"][small.as_str()], expected);
}

#[tokio::test(start_paused = true)]
async fn the_first_generation_leaves_a_network_without_room_out() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.swarm.create_network_sized("small", 29).unwrap();
    crowd(&stage, "crowded", 3);
    runs(&stage, "crowded", 3).await;
    stage.operate().await;
    assert!(is_live(&stage, "demo.local").await);
    assert!(!is_live(&stage, "crowded.local").await);
    assert_eq!(stage.swarm.tasks_named(PROXY).len(), 2, "no proxy had to be tried again");
}

#[tokio::test(start_paused = true)]
async fn a_network_whose_subnet_is_not_known_is_joined() {
    let stage = stage().await;
    stage.swarm.hide_subnets("small").unwrap();
    // It does not fit into what is known of the others, and it fits.
    for _ in 0..4 {
        stage.swarm.run_container("small").unwrap();
    }
    crowd(&stage, "web", 2);
    runs(&stage, "web", 2).await;
    stage.operate().await;
    assert!(is_live(&stage, "web.local").await);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_cannot_be_read_holds_back_its_services_alone_and_withdraws_none() {
    let stage = stage().await;
    crowd(&stage, "known", 1);
    runs(&stage, "known", 1).await;
    stage.operate().await;
    assert!(is_live(&stage, "known.local").await);
    crowd(&stage, "new", 1);
    let late = stage.service("late").label(labels::HOSTS, "late.local").label(labels::PORT, "80");
    late.create().unwrap();
    let key = stage.swarm.network_id("small").unwrap().as_str().to_owned();
    let unread = Fault::when(move |call| *call == Call::Network(key.clone())).fail(Class::Malformed);
    let unread = stage.swarm.inject(unread);
    // A fresh process: it has never read that network.
    stage
        .while_operating(async {
            becomes_live(&stage, "late.local").await;
            sleep(2 * MINUTE).await;
            assert!(is_live(&stage, "known.local").await, "what is live stays");
            assert!(!is_live(&stage, "new.local").await);
            let explain = async |name| {
                let text = commands::explain_service(&stage.config, &stage.swarm, name, false).await;
                steady(&text.expect("it can be explained"))
            };
            assert_snapshot!("explain_unread_live", explain("known").await);
            assert_snapshot!("explain_unread_new", explain("new").await);
            unread.lift();
            becomes_live(&stage, "new.local").await;
        })
        .await;
}
