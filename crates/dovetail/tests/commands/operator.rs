//! How the operator begins and how it ends.

use std::sync::Arc;
use std::time::Duration;

use dovetail::wire;
use model::labels;
use swarm::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::stage::{Stage, in_step, running};

async fn run(stage: &Stage, stop: impl Future<Output = ()>) -> Result<(), String> {
    let traffic = Box::new(engine::Traffic::default);
    wire::run(&stage.config, stage.swarm.clone(), traffic, stop).await.map_err(|error| format!("{error:#}"))
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_is_stopped_writes_nothing_more_and_the_next_one_goes_on() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    let until_published = stage.swarm.eventually("the proxies run", |swarm| running(swarm, &["dovetail-proxy"]) == 2);
    assert_eq!(run(&stage, until_published).await, Ok(()));
    stage.operate().await;

    // A change of routing, and the stop before anything can come of it.
    let (version, configs) = (stage.proxy_version(), stage.swarm.all_configs().len());
    let tasks = stage.swarm.running_tasks("dovetail-proxy");
    stage.service("late").label(labels::HOSTS, "late.local").label(labels::PORT, "80").create().unwrap();
    stage.swarm.clear_calls();
    let told = Instant::now();
    assert_eq!(run(&stage, std::future::ready(())).await, Ok(()));
    assert!(told.elapsed() <= Duration::from_secs(5), "it took {:?}", told.elapsed());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.swarm.writes(), []);
    assert_eq!((stage.proxy_version(), stage.swarm.all_configs().len()), (version, configs));
    assert_eq!(stage.swarm.running_tasks("dovetail-proxy"), tasks, "the proxies go on serving");
    assert_eq!(stage.swarm.open_event_streams(), 0);

    stage.operate().await;
    assert!(stage.proxy_version() > version, "the next operator publishes it");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_a_slow_engine_and_a_slow_client_for_five_seconds_at_most() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    let mut operator = stage.operator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    operator.serve(listener);
    let view = Arc::clone(&operator.view);
    let client = tokio::select! {
        error = operator.run() => panic!("the operator ended: {error:#}"),
        client = async {
            in_step(&view).await;
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET /healthz HTTP/1.1\r\nHost: admin\r\n\r\n").await.unwrap();
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: ad").await.unwrap();
            // From now on every call hangs, the next poll's first.
            stage.swarm.inject(embedded::Fault::every_call().hang());
            sleep(Duration::from_secs(4)).await;
            client
        } => client,
    };
    let version = stage.swarm.raw("dovetail-proxy").unwrap().version;
    let told = Instant::now();
    operator.drain().await;
    assert!(told.elapsed() <= Duration::from_secs(5), "it took {:?}", told.elapsed());
    assert_eq!(stage.swarm.raw("dovetail-proxy").unwrap().version, version);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_too_old_or_no_manager_is_refused() {
    for (identity, expected) in [
        (
            Identity { version: "19.03.15".into(), api: (1, 40), manager: true },
            "Engine 19.03.15 has API 1.40; Dovetail needs API 1.41 (Engine 20.10 or later) for the count of running tasks",
        ),
        (
            Identity { version: "20.10.24".into(), api: (1, 41), manager: false },
            "Engine 20.10.24 is not a manager of an active swarm; Dovetail reads services and tasks, which only managers know",
        ),
    ] {
        let stage = Stage::new();
        stage.publish_the_founding_documents_services().await;
        stage.swarm.set_identity(identity);
        assert_eq!(run(&stage, std::future::pending()).await, Err(expected.to_owned()));
        assert_eq!(stage.swarm.writes(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn an_admin_address_that_is_taken_is_a_clear_error_and_nothing_begins() {
    let mut stage = Stage::new();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    stage.config.admin.listen = dovetail::config::Listen(address);
    let refusal = run(&stage, std::future::pending()).await.expect_err("the address is taken");
    let expected = format!("the admin server cannot listen on {address} (admin.listen in the configuration): ");
    assert!(refusal.starts_with(&expected), "{refusal}");
    assert_eq!(stage.swarm.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_at_the_start_is_waited_for() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.swarm.engine_down();
    let swarm = stage.swarm.clone();
    let back = async {
        sleep(Duration::from_secs(120)).await;
        assert_eq!(swarm.writes(), []);
        swarm.engine_up();
        swarm
            .within(Duration::from_secs(30), "the proxies run", |swarm| running(swarm, &["dovetail-proxy"]) == 2)
            .await;
    };
    assert_eq!(run(&stage, back).await, Ok(()));
}
