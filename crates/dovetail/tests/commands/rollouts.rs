//! Rollouts that go wrong, with every loop of the operator running.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dovetail::{commands, orders};
use model::labels;
use tokio::time::{Instant, sleep};

use crate::stage::{self, Stage};

const PROXY: &str = "dovetail-proxy";

/// The verdict on each service, as `dovetail status --json` gives it.
async fn verdicts(stage: &Stage) -> Vec<(String, String)> {
    let status = commands::status(&stage.config, &stage.swarm, &stage::outside(), true).await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let services = status["services"].as_object().unwrap().values();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    services.map(|service| (text(&service["name"]), text(&service["verdict"]["state"]))).collect()
}

async fn live_hosts(stage: &Stage) -> Vec<String> {
    let routes = commands::list_routes(&stage.config, &stage.swarm, true).await.unwrap();
    let routes: serde_json::Value = serde_json::from_str(&routes).unwrap();
    let live = routes.as_array().unwrap().iter().filter(|route| route["state"] == "live");
    live.map(|route| route["host"].as_str().unwrap_or("*").to_owned()).collect()
}

/// Waits until this service has this verdict; the host of one that is routed must be live.
async fn becomes(stage: &Stage, service: &str, verdict: &str) -> Duration {
    let started = Instant::now();
    loop {
        let found = verdicts(stage).await;
        let right = found.iter().any(|(name, found)| name == service && found == verdict);
        let live = verdict != "routed" || live_hosts(stage).await.contains(&format!("{service}.local"));
        if right && live {
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(600), "{service} never becomes {verdict}: {found:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

fn service(stage: &Stage, name: &str, network: &str) {
    let service = stage.swarm.service(name).network(network).label(labels::PORT, "80");
    service.label(labels::HOSTS, &format!("{name}.local")).create().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_network_without_addresses_keeps_only_its_own_services_out() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.swarm.create_network("roomy").unwrap();
    stage.swarm.create_network_sized("full", 28).unwrap();
    // Ten containers that no list shows, and the service below takes the last three of 13 addresses. As far as can be
    // seen the proxies have room.
    for _ in 0..10 {
        stage.swarm.run_container("full").unwrap();
    }
    let before = stage.proxy_version();
    stage
        .while_operating(async {
            // The one on the full network is the older one, and joins first.
            service(&stage, "crowded", "full");
            service(&stage, "lucky", "roomy");
            becomes(&stage, "crowded", "quarantined").await;
            let waited = becomes(&stage, "lucky", "routed").await;
            assert!(waited < Duration::from_secs(60), "{waited:?}");
            // And one that comes during the trouble.
            service(&stage, "late", "demo");
            let waited = becomes(&stage, "late", "routed").await;
            assert!(waited < Duration::from_secs(60), "{waited:?}");
            assert_eq!(stage.swarm.running_tasks(PROXY).len(), 2);
        })
        .await;
    assert!(stage.proxy_version() > before);
    let status = commands::status(&stage.config, &stage.swarm, &stage::outside(), false).await.unwrap();
    assert!(status.contains("a network has no address left"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn of_many_that_came_together_only_the_guilty_one_stays_out() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.swarm.break_when(|task, configs| {
        let bad = configs.mounted(task).iter().any(|(_, data)| String::from_utf8_lossy(data).contains("s5.local"));
        bad.then(|| "nginx: [emerg] s5".to_owned())
    });
    stage
        .while_operating(async {
            for number in 0..8 {
                service(&stage, &format!("s{number}"), "demo");
            }
            let started = Instant::now();
            for number in [0, 1, 2, 3, 4, 6, 7] {
                becomes(&stage, &format!("s{number}"), "routed").await;
            }
            becomes(&stage, "s5", "quarantined").await;
            assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
            sleep(Duration::from_secs(30)).await;
            let hosts = live_hosts(&stage).await;
            assert!(!hosts.contains(&"s5.local".to_owned()), "{hosts:?}");
            assert_eq!(stage.swarm.running_tasks(PROXY).len(), 2);

            // Put right and tried again on demand.
            stage.swarm.break_nothing();
            orders::retry(&stage.config, &stage.swarm, "main").await.unwrap();
            becomes(&stage, "s5", "routed").await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nginx_refuses_keeps_only_its_own_services_out_and_no_proxy_ever_sees_it() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.operate().await;
    stage.swarm.create_network("other").unwrap();
    for name in ["good.cert", "good.key", "bad.cert", "bad.key"] {
        stage.swarm.add_secret(name).unwrap();
    }
    let refused_by_proxies = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused_by_proxies);
    stage.swarm.break_when(move |task, _| {
        let container = &task["ContainerSpec"];
        let bad = container["Secrets"].to_string().contains("\"bad.key\"");
        let checks = container["Command"].to_string().contains("\"-t\"");
        counted.fetch_add(usize::from(bad && !checks), Ordering::SeqCst);
        bad.then(|| "nginx: [emerg] cannot load certificate key \"/run/secrets/bad.key\": no start line".to_owned())
    });
    let tls = |name: &str, secret: &str, network: &str| {
        let service = stage.swarm.service(name).network(network).label(labels::PORT, "80");
        let service = service.label(labels::SSL_CERT, &format!("{secret}.cert"));
        let service = service.label(labels::SSL_KEY, &format!("{secret}.key")).replicas(2);
        service.label(labels::HOSTS, &format!("{name}.local")).create().unwrap();
    };
    stage
        .while_operating(async {
            // All at once, and the guilty ones on a network that is new.
            tls("bad", "bad", "other");
            tls("worse", "bad", "other");
            tls("good", "good", "other");
            service(&stage, "plain", "other");
            for name in ["good", "plain"] {
                let waited = becomes(&stage, name, "routed").await;
                assert!(waited < Duration::from_secs(30), "{name}: {waited:?}");
            }
            for name in ["bad", "worse"] {
                becomes(&stage, name, "quarantined").await;
            }
            // At rest, other tasks are no new evidence.
            sleep(Duration::from_secs(60)).await;
            let writes = stage.swarm.writes().len();
            stage.swarm.scale("bad", 4).unwrap();
            sleep(Duration::from_secs(60)).await;
            assert_eq!(stage.swarm.writes().len(), writes);
            // Another secret is.
            let key = |spec: &mut serde_json::Value, key: &str| {
                spec["Labels"][labels::SSL_CERT] = "good.cert".into();
                spec["Labels"][labels::SSL_KEY] = key.into();
            };
            stage.swarm.service_update_raw("bad", |spec| key(spec, "good.key")).unwrap();
            becomes(&stage, "bad", "routed").await;
        })
        .await;
    assert_eq!(refused_by_proxies.load(Ordering::SeqCst), 0);
    let explained = commands::explain_service(&stage.config, &stage.swarm, "worse", false).await.unwrap();
    assert!(explained.contains("cannot load certificate key \"/run/secrets/bad.key\": no start line"), "{explained}");
    let names = stage.swarm.service_names();
    assert!(names.iter().all(|name| !name.starts_with("dovetail-check")), "{names:?}");
}
