//! What is published, read back: whole, or not at all.

use serde_json::json;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_manifest_from_the_future_is_refused_and_not_overwritten() {
    let mut bench = Bench::in_step_with(&target("first", &[])).await;
    let future = swarm::NewConfig {
        name: "dovetail.main.web.future".into(),
        labels: BTreeMap::from([
            (model::labels::INSTANCE.into(), "main".into()),
            (model::labels::CLUSTER.into(), "web".into()),
        ]),
        data: Arc::from(*br#"{"format": 99}"#),
    };
    let id = bench.swarm.add_config(&future).unwrap();
    bench
        .swarm
        .service_update_raw(PROXY, |spec| {
            let configs = spec["TaskTemplate"]["ContainerSpec"]["Configs"].as_array_mut().unwrap();
            let manifest = configs.iter_mut().find(|config| config["File"]["Name"] == "/etc/dovetail/manifest.json");
            let manifest = manifest.unwrap();
            manifest["ConfigID"] = json!(id);
            manifest["ConfigName"] = json!("dovetail.main.web.future");
        })
        .unwrap();
    bench.swarm.clear_calls();
    bench.passes_for(secs(60)).await;
    assert!(matches!(bench.status().phase, Phase::Unreadable { .. }));
    let Some(Published::Unknown { reason }) = bench.outputs.published.borrow().clone() else { panic!() };
    assert!(reason.contains("format 99"), "{reason}");
    assert_eq!(bench.writes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_large_manifest_shares_what_did_not_change_with_the_one_before() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    let names: Vec<String> = (0..2000).map(|number| format!("service-{number}")).collect();
    let routes =
        |count: usize| target("many", &names[..count].iter().map(|name| (name.as_str(), &app)).collect::<Vec<_>>());
    let (before, after) = (routes(1999), routes(2000));
    let mut bench = Bench::with(swarm, settings());
    bench.aim(&before);
    bench.until_in_step().await;
    let stored = bench.swarm.all_configs().len();
    assert!(stored > 10, "{stored} objects: the manifest is in shards");
    bench.swarm.clear_calls();
    bench.aim(&after);
    bench.until_in_step().await;
    bench.passes_for(secs(60)).await;
    let created = bench.writes().iter().filter(|verb| **verb == embedded::Verb::CreateConfig).count();
    assert_eq!(created, 3, "the routes, the manifest's head and one shard");
    assert_eq!(bench.swarm.all_configs().len(), stored + 3, "what the spec before needs is there, for a rollback");
    // A fresh process reads it whole.
    bench.restart();
    bench.aim(&after);
    bench.until_in_step().await;
    let Some(Published::Live { manifest, .. }) = bench.outputs.published.borrow().clone() else { panic!() };
    assert_eq!(manifest.services, after.bundle.manifest.services);
    // Back again: what was shared is still there.
    bench.aim(&before);
    bench.until_in_step().await;
    let Some(Published::Live { manifest, .. }) = bench.outputs.published.borrow().clone() else { panic!() };
    assert_eq!(manifest.services, before.bundle.manifest.services);
}
