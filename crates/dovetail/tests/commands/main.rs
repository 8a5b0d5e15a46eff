//! playground
mod stage;
use dovetail::commands;
use model::labels;
use stage::{Stage, steady};

#[tokio::test(start_paused = true)]
async fn play() {
    let stage = Stage::new();
    macro_rules! show { ($what:expr, $e:expr) => { println!("=== {}\n{}", $what, match $e { Ok(t) => steady(&t), Err(e) => format!("ERROR {e:#}") }) } }
    let (c, s) = (&stage.config, &stage.swarm);
    show!("plan before", commands::plan(c, s, false).await);
    show!("status before", commands::status(c, s, false).await);
    show!("routes before", commands::list_routes(c, s, false).await);
    stage.publish_the_founding_documents_services().await;
    show!("plan 2", commands::plan(c, s, false).await);
    show!("plan 2 json", commands::plan(c, s, true).await);
    stage.operate().await;
    show!("plan in step", commands::plan(c, s, false).await);
    show!("status", commands::status(c, s, false).await);
    show!("status", commands::status(c, s, true).await);
    show!("routes", commands::list_routes(c, s, false).await);
    show!("explain demo", commands::explain_service(c, s, "demo", false).await);
    show!("explain demo-default", commands::explain_service(c, s, "demo-default", false).await);
    show!("explain demo-default", commands::explain_service(c, s, "demo-default", true).await);
    stage.swarm.create_network("other").unwrap();
    stage.service("shop").network("other").label(labels::HOSTS, "shop.local").label(labels::PORT, "80").create().unwrap();
    stage.service("bad").network("other").label(labels::HOSTS, "shop;local,b.local\n,ok.local").label(labels::PORT, "http").label(labels::BACKEND_MODE, "vips").create().unwrap();
    stage.service("waits").replicas(0).label(labels::HOSTS, "w.local").label(labels::PORT, "80").create().unwrap();
    stage.service("cont").container_label(labels::HOSTS, "w.local").container_label(labels::PORT, "80").create().unwrap();
    stage.service("nothing").create().unwrap();
    stage.service("team_web").label(labels::HOSTS, "web.local").label(labels::PORT, "80").replicas(2).create().unwrap();
    stage.service("else").label(labels::HOSTS, "web.local").label(labels::PORT, "80").label(labels::SERVICE_CLUSTER, "x").replicas(2).create().unwrap();
    stage.swarm.scale("demo", 0).unwrap();
    stage.swarm.eventually("run", |s| stage::running(s, &["team_web"]) == 2).await;
    for name in ["shop", "bad", "waits", "cont", "nothing", "team_web", "demo", "else", "xxx"] {
        show!(name, commands::explain_service(c, s, name, false).await);
    }
    show!("plan", commands::plan(c, s, false).await);
    show!("status", commands::status(c, s, false).await);
    show!("routes", commands::list_routes(c, s, false).await);
    show!("render", commands::render(c, s, Some("x"), None).await);
    println!("{}", commands::describe(c, "x.yaml".as_ref()));
}
