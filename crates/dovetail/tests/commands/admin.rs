//! The admin server's pages, over its router, with the loops behind it running.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use dovetail::admin::router;
use insta::assert_snapshot;
use serde_json::Value;
use tower_service::Service;

use crate::stage::{Stage, in_step};

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).expect("it is a request");
    let response = router.clone().call(request).await.expect("the router answers everything");
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("the body is in memory");
    (status, String::from_utf8(body.to_vec()).expect("it is UTF-8"))
}

async fn json(router: &Router, path: &str) -> (StatusCode, Value) {
    let (status, body) = get(router, path).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}")))
}

/// Lets an operator run from before its beginning, and asks its pages meanwhile.
async fn asked<T>(stage: &Stage, ask: impl AsyncFnOnce(Router, &dovetail::view::View) -> T) -> T {
    let mut operator = stage.operator();
    let view = std::sync::Arc::clone(&operator.view);
    let router = router(std::sync::Arc::clone(&view), std::sync::Arc::clone(&operator.registry));
    let answer = tokio::select! {
        error = operator.run() => panic!("the operator ended: {error:#}"),
        answer = ask(router, &view) => answer,
    };
    operator.drain().await;
    answer
}

#[tokio::test(start_paused = true)]
async fn ready_is_not_before_the_first_listing_and_no_more_when_the_engine_is_gone() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    stage.swarm.engine_down();
    asked(&stage, async |router, view| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(get(&router, "/healthz").await, (StatusCode::OK, "ok\n".into()));
        let (status, body) = json(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_snapshot!("not_ready", serde_json::to_string_pretty(&body).unwrap());
        for path in ["/api/v1/routes", "/api/v1/services/demo"] {
            let (status, body) = json(&router, path).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert!(body["error"].as_str().is_some_and(|error| error.contains("not yet read")), "{body}");
        }

        stage.swarm.engine_up();
        in_step(view).await;
        let (status, body) = json(&router, "/readyz").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["ready"], true);
        assert_eq!(body["reasons"], serde_json::json!([]));
        assert!(body["age_ms"].as_u64().is_some_and(|age| age <= 3000), "{body}");
        assert!(body.get("stale_since").is_none(), "{body}");

        stage.swarm.engine_down();
        // Its last reading may be a poll old already.
        tokio::time::sleep(view.stale_after() - Duration::from_secs(4)).await;
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::OK, "a short outage is none");
        tokio::time::sleep(Duration::from_secs(8)).await;
        let (status, body) = json(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let since: jiff::Timestamp = body["stale_since"].as_str().expect("it is told").parse().expect("it is a time");
        let wall = jiff::Timestamp::now().duration_since(since);
        let age = Duration::from_millis(body["age_ms"].as_u64().expect("it is told"));
        let apart = wall.as_secs_f64() - age.as_secs_f64();
        assert!((-2.0..60.0).contains(&apart), "stale since {since}, and {age:?} old");
        let reasons = body["reasons"].to_string();
        assert!(reasons.contains("s old: failed to") && reasons.contains("the Engine is down"), "{reasons}");
        // What it knows is still told.
        assert!(get(&router, "/api/v1/routes").await.1.contains("demo.local"));
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);

        stage.swarm.engine_up();
        in_step(view).await;
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::OK);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_answers_slowly_is_polled_seldom_and_that_is_not_stale() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    let mut operator = stage.operator();
    let view = std::sync::Arc::clone(&operator.view);
    let story = async {
        in_step(&view).await;
        let fault = stage.swarm.inject(embedded::Fault::on(embedded::Verb::Services).slow(Duration::from_secs(4)));
        let mut oldest = Duration::ZERO;
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let readiness = view.readiness();
            oldest = oldest.max(Duration::from_millis(readiness.age_ms.expect("it was read")));
            assert!(readiness.ready, "{readiness:?}");
        }
        assert!(oldest > Duration::from_secs(30), "{oldest:?}: it is polled less often");
        assert!(view.stale_after() > oldest);
        // Polls that fail are not seldom, so what is known gets old as fast as on any cluster.
        stage.swarm.engine_down();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!view.readiness().ready, "{:?}", view.readiness());
        stage.swarm.engine_up();
        in_step(&view).await;
        // What does not answer at all is told nevertheless.
        let gone = stage.swarm.inject(embedded::Fault::every_call().hang());
        tokio::time::sleep(Duration::from_secs(65)).await;
        assert!(!view.readiness().ready);
        fault.lift();
        gone.lift();
    };
    tokio::select! {
        error = operator.run() => panic!("the operator ended: {error:#}"),
        () = story => {}
    }
    operator.drain().await;
}

#[tokio::test(start_paused = true)]
async fn lists_with_gaps_are_no_knowledge_and_one_network_is_no_gap() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    let other = stage.swarm.create_network("other").unwrap().as_str().to_owned();
    asked(&stage, async |router, view| {
        in_step(view).await;
        let unreadable = embedded::Fault::when(move |call| *call == embedded::Call::Network(other.clone()));
        let unreadable = unreadable.slow(Duration::from_secs(20)).fail(swarm::Class::Unreachable);
        let unreadable = stage.swarm.inject(unreadable);
        let held_back = stage.swarm.service("held-back").network("other");
        held_back.label(model::labels::HOSTS, "held-back.local").label(model::labels::PORT, "80").create().unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(view.readiness().ready, "{:?}", view.readiness());
        }
        assert!((3..=4).contains(&unreadable.hits()), "it was asked for {} times", unreadable.hits());
        unreadable.lift();
        in_step(view).await;

        let fault = stage.swarm.inject(embedded::Fault::on(embedded::Verb::Tasks).fail(swarm::Class::Unavailable));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let readiness = view.readiness();
        assert!(!readiness.ready && readiness.stale_since.is_some(), "{readiness:?}");
        assert!(readiness.age_ms.is_some_and(|age| age > 55_000), "{readiness:?}");
        assert!(readiness.reasons[0].contains("s old: failed to Tasks"), "{readiness:?}");
        let samples = parse(&get(&router, "/metrics").await.1);
        assert!(samples["dovetail_observation_age_seconds"] > 55.0);
        assert_eq!(samples["dovetail_ready"], 0.0);
        fault.lift();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(view.readiness().ready, "{:?}", view.readiness());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn routes_and_services_are_told_as_json() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    asked(&stage, async |router, view| {
        in_step(view).await;
        let (status, body) = json(&router, "/api/v1/routes").await;
        assert_eq!(status, StatusCode::OK);
        let listed = dovetail::commands::list_routes(&stage.config, &stage.swarm, true).await.unwrap();
        assert_eq!(body, serde_json::from_str::<Value>(&listed).unwrap(), "as dovetail routes --json");

        let (status, body) = json(&router, "/api/v1/services/demo").await;
        assert_eq!(status, StatusCode::OK);
        let explained = dovetail::commands::explain_service(&stage.config, &stage.swarm, "demo", true).await.unwrap();
        let mut explained = serde_json::from_str::<Value>(&explained).unwrap()[0].take();
        // The running operator asks for nothing that routing does not need.
        assert!(explained.as_object_mut().unwrap().remove("not_running").is_some());
        assert_eq!(body, explained, "as dovetail explain --json");

        let (status, body) = json(&router, "/api/v1/services/nobody").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let error = "no service \"nobody\" asks to be routed; dovetail explain says whether it exists at all";
        assert_eq!(body, serde_json::json!({ "error": error }));

        for path in ["/", "/api/v1", "/api/v1/services/", "/api/v1/services/a/b"] {
            assert_eq!(get(&router, path).await.0, StatusCode::NOT_FOUND, "{path}");
        }
        let post = Request::post("/api/v1/routes").body(Body::empty()).unwrap();
        assert_eq!(router.clone().call(post).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    })
    .await;
}

const MONITORING: &str = include_str!("../../../../docs/monitoring.md");

#[test]
fn the_guide_names_every_code_every_phase_and_every_reason() {
    let reasons = observer::ShortCircuits::default().snapshot();
    let reasons = reasons.iter().map(|count| count.reason);
    for word in model::Code::ALL.iter().map(|code| code.as_str()).chain(actuator::Phase::ALL).chain(reasons) {
        assert!(MONITORING.contains(&format!("`{word}`")), "docs/monitoring.md does not name {word}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_look_cannot_know_the_operator_tells() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    let refused = embedded::Fault::on(embedded::Verb::CreateService);
    let fault = stage.swarm.inject(refused.fail(swarm::Class::Refused));
    asked(&stage, async |_, view| {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let told = Ok(view.readiness());
        let status = dovetail::commands::status(&stage.config, &stage.swarm, &told, false).await.unwrap();
        assert!(status.starts_with("operator: ready\n"), "{status}");
        assert!(status.contains("  trouble     failed to CreateService: injected"), "{status}");
        fault.lift();
        in_step(view).await;
        let status =
            dovetail::commands::status(&stage.config, &stage.swarm, &Ok(view.readiness()), false).await.unwrap();
        assert!(!status.contains("trouble"), "{status}");
    })
    .await;
}

/// One sample a key: the name with its labels.
fn parse(page: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut typed = BTreeSet::new();
    let (body, end) = page.split_at(page.len() - "# EOF\n".len());
    assert_eq!(end, "# EOF\n");
    for line in body.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let name = kind.split(' ').next().unwrap();
            assert!(typed.insert(name.to_owned()), "{name} stands twice");
        } else if !line.starts_with("# HELP ") {
            let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let name = key.split('{').next().unwrap();
            let family = name.strip_suffix("_total").unwrap_or(name);
            assert!(typed.contains(family), "{family} has no type");
            assert!(samples.insert(key.to_owned(), value).is_none(), "{key} stands twice");
        }
    }
    samples
}

#[tokio::test(start_paused = true)]
async fn metrics_are_openmetrics_under_the_names_that_dashboards_know() {
    let stage = Stage::new();
    stage.publish_the_founding_documents_services().await;
    asked(&stage, async |router, view| {
        in_step(view).await;
        let before = parse(&get(&router, "/metrics").await.1);
        stage.swarm.scale("demo", 6).unwrap();
        stage.swarm.set_env("demo", "COLOUR", "blue").unwrap();
        stage.swarm.set_label("demo", "team", "shop").unwrap();
        in_step(view).await;
        let after = parse(&get(&router, "/metrics").await.1);

        // Without values: they depend on time. What must exist from the start exists in both.
        let names: Vec<String> = after.keys().map(|key| key.replace(env!("CARGO_PKG_VERSION"), "VERSION")).collect();
        assert_snapshot!("metric_names", names.join("\n"));
        for name in names.iter().filter_map(|name| name.split('{').next()) {
            assert!(MONITORING.contains(&format!("`{name}`")), "docs/monitoring.md does not name {name}");
        }
        let first: BTreeSet<&String> = before.keys().collect();
        assert!(first.is_subset(&after.keys().collect()));

        let spared = |samples: &BTreeMap<String, f64>| -> f64 {
            samples
                .iter()
                .filter(|(key, _)| key.starts_with("dovetail_short_circuits_total{outcome=\"spared\""))
                .map(|(_, value)| value)
                .sum()
        };
        assert!(spared(&after) > spared(&before), "a VIP service was scaled and updated: {after:?}");
        for unmoved in [
            "dovetail_proxy_writes_total{cluster=\"main\"}",
            "dovetail_config_writes_total{cluster=\"main\"}",
            "dovetail_rollouts_total{cluster=\"main\",outcome=\"completed\",kind=\"tasks\"}",
            "dovetail_renders_total",
        ] {
            assert_eq!(after[unmoved], before[unmoved], "{unmoved}");
        }
        assert_eq!(after["dovetail_ready"], 1.0);
        assert_eq!(after["dovetail_services{state=\"routed\"}"], 2.0);

        stage.swarm.scale("demo-default", 2).unwrap();
        stage.swarm.eventually("both run", |swarm| swarm.running_tasks("demo-default").len() == 2).await;
        in_step(view).await;
        let moved = parse(&get(&router, "/metrics").await.1);
        for counter in [
            "dovetail_short_circuits_total{outcome=\"routing\",reason=\"tasks_changed\"}",
            "dovetail_proxy_writes_total{cluster=\"main\"}",
            "dovetail_rollouts_total{cluster=\"main\",outcome=\"completed\",kind=\"tasks\"}",
        ] {
            assert!(moved[counter] > after[counter], "{counter}");
        }

        let proxies = |samples: &BTreeMap<String, f64>| {
            ["running", "wanted"]
                .map(|state| samples[&format!("dovetail_proxies{{cluster=\"main\",state=\"{state}\"}}")])
        };
        assert_eq!(proxies(&moved), [2.0, 2.0]);
        // One is gone, and its node takes no other.
        stage.swarm.refuse_when(|_, _| Some("no space left on device".into()));
        stage.swarm.kill_task(&stage.swarm.running_tasks("dovetail-proxy")[0].id);
        tokio::time::sleep(stage.config.engine.poll_interval.0 * 2).await;
        assert_eq!(proxies(&parse(&get(&router, "/metrics").await.1)), [1.0, 2.0]);
        stage.swarm.remove_service("dovetail-proxy").unwrap();
        tokio::time::sleep(stage.config.engine.poll_interval.0 * 2).await;
        assert_eq!(proxies(&parse(&get(&router, "/metrics").await.1))[0], 0.0);
    })
    .await;
}
