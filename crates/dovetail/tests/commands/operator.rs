//! How the operator begins and how it ends.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dovetail::wire;
use model::labels;
use swarm::{Class, Identity};
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
            "Engine 20.10.24 is not a manager of an active swarm; Dovetail reads services and tasks, which only managers know: \
             point engine.endpoint or --engine at one, or at UCP",
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

/// The log of one test, which runs on one thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn count(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count()
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_engine_for_ten_minutes_an_operator_asks_as_at_rest_says_little_and_then_goes_on() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_max_level(tracing::Level::INFO);
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    let mut operator = stage.operator();
    let view = Arc::clone(&operator.view);
    let story = async {
        in_step(&view).await;
        let before = stage.swarm.calls().len();
        sleep(Duration::from_secs(600)).await;
        let at_rest = stage.swarm.calls().len() - before;
        // Nobody listens, and every call is answered with an error.
        for answers in [false, true] {
            let version = stage.proxy_version();
            let (said, before) = (lines.count(), stage.swarm.calls().len());
            assert!(said > 0, "what is said is counted");
            let fault = answers.then(|| stage.swarm.inject(embedded::Fault::every_call().fail(Class::Unavailable)));
            if !answers {
                stage.swarm.engine_down();
            }
            let name = format!("late-{answers}");
            stage
                .service(&name)
                .label(labels::HOSTS, &format!("{name}.local"))
                .label(labels::PORT, "80")
                .create()
                .unwrap();
            sleep(Duration::from_secs(600)).await;
            let (said, asked) = (lines.count() - said, stage.swarm.calls().len() - before);
            assert!((1..=30).contains(&said), "{said} lines in ten minutes, answers: {answers}");
            assert!((1..=at_rest * 3 / 2).contains(&asked), "{asked} calls, {at_rest} at rest, answers: {answers}");
            assert!(!view.readiness().ready, "answers: {answers}");
            assert_eq!(stage.proxy_version(), version, "nothing is written");
            match fault {
                Some(fault) => fault.lift(),
                None => stage.swarm.engine_up(),
            }
            let published =
                |swarm: &embedded::Swarm| swarm.raw("dovetail-proxy").is_some_and(|now| now.version > version);
            stage.swarm.within(Duration::from_secs(15), "what came meanwhile is published", published).await;
            in_step(&view).await;
        }
    };
    tokio::select! {
        error = operator.run() => panic!("the operator ended: {error:#}"),
        () = story => {}
    }
    operator.drain().await;
}
