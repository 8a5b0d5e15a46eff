//! How requests are shared among services, and when a task is set aside.

use std::collections::BTreeMap;
use std::time::Duration;

use dovetail_reconciler::nginx;
use model::{BackendMode, Service};

use crate::support::{Backend, FIRST, GONE, Proxy, SECOND, files, service, with};

fn weighed(service: Service, weight: u16) -> Service {
    with(service, |options| options.server.weight = Some(weight))
}

#[tokio::test]
async fn services_share_a_host_by_their_weights_exactly() {
    let (stable, canary) = (Backend::start().await, Backend::start().await);
    let vip = |name: &str, host: &str, backend: &Backend| service(name, host, BackendMode::Vip, &[FIRST], backend.port);
    let tasks = |name: &str, host: &str, backend: &Backend| {
        service(name, host, BackendMode::Task, &[FIRST, SECOND], backend.port)
    };
    let services = [
        weighed(vip("vip-stable", "vip.local", &stable), 80),
        weighed(vip("vip-canary", "vip.local", &canary), 20),
        weighed(tasks("stable", "tasks.local", &stable), 95),
        weighed(vip("canary", "tasks.local", &canary), 5),
        tasks("half-stable", "half.local", &stable),
        weighed(vip("half-canary", "half.local", &canary), 3),
        tasks("plain-stable", "plain.local", &stable),
        tasks("plain-canary", "plain.local", &canary),
    ];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    let at = |address, backend: &Backend, count: usize| (format!("{address}:{}", backend.port), count);
    for (host, expected) in [
        ("vip.local", vec![at(FIRST, &stable, 80), at(FIRST, &canary, 20)]),
        // 95 over two tasks: 19, 19 and 2 of 40.
        ("tasks.local", vec![at(FIRST, &stable, 48), at(SECOND, &stable, 47), at(FIRST, &canary, 5)]),
        // Who says nothing counts its tasks: 2 of 5.
        ("half.local", vec![at(FIRST, &stable, 20), at(SECOND, &stable, 20), at(FIRST, &canary, 60)]),
        (
            "plain.local",
            vec![at(FIRST, &stable, 25), at(SECOND, &stable, 25), at(FIRST, &canary, 25), at(SECOND, &canary, 25)],
        ),
    ] {
        let mut seen = BTreeMap::<String, usize>::new();
        for _ in 0..100 {
            *seen.entry(proxy.get(host, "/ping").await.backend().to_owned()).or_default() += 1;
        }
        assert_eq!(seen, expected.into_iter().collect(), "{host}");
    }
}

#[tokio::test]
async fn a_task_is_set_aside_as_its_service_says() {
    let backend = Backend::start().await;
    let tasks = |name: &str| service(name, &format!("{name}.local"), BackendMode::Task, &[FIRST, GONE], backend.port);
    let services = [
        tasks("usual"),
        with(tasks("never"), |options| options.server.max_fails = Some(0)),
        with(tasks("patient"), |options| {
            options.server.max_fails = Some(3);
            options.server.fail_timeout = Some(Duration::from_secs(3600));
        }),
    ];
    let text = &files(&services, &nginx::Settings::default())["/etc/nginx/dovetail/routes.conf"];
    for line in [
        format!("server {FIRST}:{};", backend.port),
        format!("server {FIRST}:{} max_fails=0;", backend.port),
        format!("server {FIRST}:{} max_fails=3 fail_timeout=3600s;", backend.port),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }

    // Of ten requests, so many are tried at the task that is gone first, and passed on.
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    for (host, tries) in [("usual.local", 1), ("never.local", 5), ("patient.local", 3)] {
        let mut tried = 0;
        for _ in 0..10 {
            let response = proxy.get(host, "/ping").await;
            assert_eq!(response.status, 200);
            tried += usize::from(response.header("x-upstream-addr").unwrap().contains(&GONE.to_string()));
        }
        assert_eq!(tried, tries, "{host}");
    }
}
