//! What people do to the proxy service with their own hands.

use std::sync::atomic::{AtomicUsize, Ordering};

use embedded::{Fault, Verb};
use serde_json::json;
use swarm::{Class, UpdateState};

use super::duty::kinds;
use super::*;
use crate::Kind;
use crate::status::Outcome;

fn memory_limit(spec: &Value) -> &Value {
    &spec["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"]
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_removed_by_hand_comes_back() {
    let mut bench = Bench::in_step_with(&target("first", &[])).await;
    bench.swarm.remove_service(PROXY).unwrap();
    bench.swarm.clear_calls();
    // The reconciler finds nothing published and gives another reason for the same generation.
    bench.aim(&target("all anew", &[]));
    bench.until_in_step().await;
    assert_eq!(bench.writes(), [Verb::CreateService], "its objects are still there");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_service_outlives_its_removal_by_hand() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    bench.break_on("broken");
    bench.swarm.inject(Fault::on(Verb::LabelConfig).fail(Class::Refused));
    bench.aim(&target("bad", &[("broken", &app), ("demo", &app)]));
    bench.until("it is held, in memory alone", |bench| bench.live().2 == 1).await;
    bench.aim(&demo);
    bench.until_in_step().await;
    let last = bench.status().last_rollout;
    assert!(last.is_some());

    bench.swarm.remove_service(PROXY).unwrap();
    bench.swarm.inject(Fault::on(Verb::CreateService).once().unanswered());
    bench.until("it is there again", |bench| bench.swarm.raw(PROXY).is_some()).await;
    bench.pass().await;
    assert!(matches!(bench.status().phase, Phase::Rolling { .. }), "{:?}", bench.status());
    assert_eq!(bench.status().last_rollout, last);
    let generation = demo.bundle.generation();
    assert_eq!(bench.live(), (generation, generation, 1), "before it runs: what is good and what is held");
    bench.until_in_step().await;
    assert_eq!(bench.live(), (generation, generation, 1));
    let completed = kinds(&bench, Outcome::Completed);
    assert!(completed.contains(&(Kind::First, 2)), "made anew, although the answer got lost: {completed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_changed_by_hand_stays_for_ever() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench
        .swarm
        .service_update_raw(PROXY, |spec| {
            spec["TaskTemplate"]["Resources"] = json!({"Limits": {"MemoryBytes": 1 << 28, "Pids": 7}});
            spec["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.role==manager"]});
            spec["TaskTemplate"]["ContainerSpec"]["StopSignal"] = json!("SIGTERM");
            spec["Mode"]["Replicated"]["Replicas"] = json!(1);
            spec["Labels"]["com.example.owner"] = json!("edge team");
            spec["Unheard"] = json!({"of": [1, 2.5, null]});
        })
        .unwrap();
    bench.until_in_step().await;
    assert_eq!(bench.service_writes(), 0, "it is not put back");
    bench.settings.proxy.env.insert("A".into(), "1".into());
    bench.restart();
    bench.aim(&target("second", &[("shop", &app)]));
    bench.until_in_step().await;
    assert_eq!(bench.service_writes(), 1);
    let spec = bench.spec().await;
    assert_eq!(*memory_limit(&spec), json!(1 << 28));
    assert_eq!(spec["TaskTemplate"]["Resources"]["Limits"]["Pids"], 7);
    assert_eq!(spec["TaskTemplate"]["Placement"]["Constraints"], json!(["node.role==manager"]));
    assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["StopSignal"], "SIGTERM");
    assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Env"], json!(["A=1"]));
    assert_eq!(spec["Mode"]["Replicated"]["Replicas"], 1);
    assert_eq!(spec["Labels"]["com.example.owner"], "edge team");
    assert_eq!(spec["Unheard"], json!({"of": [1, 2.5, null]}));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_by_hand_is_not_fought() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    for (in_the_middle, restart) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut bench = Bench::with(Swarm::new(), settings());
        bench.swarm.create_network("app").unwrap();
        let (first, second) = (target("first", &[]), target("second", &[("demo", &app)]));
        bench.aim(&first);
        bench.until_in_step().await;
        bench.aim(&second);
        if in_the_middle {
            bench.pass().await;
        } else {
            bench.until_in_step().await;
        }
        bench.swarm.rollback_service(PROXY).unwrap();
        if restart {
            bench.restart();
        }
        bench.pass().await;
        assert_eq!(bench.live(), (first.bundle.generation(), first.bundle.generation(), 0), "it is good at once");
        bench.passes_for(secs(4000)).await;
        assert_eq!(bench.service_writes(), 2, "in the middle: {in_the_middle}, restart: {restart}");
        assert_eq!(bench.live(), (first.bundle.generation(), first.bundle.generation(), 1));
        let Phase::Held { reason, retry_in_seconds: None, .. } = bench.status().phase else {
            panic!("{:?}", bench.status())
        };
        assert_eq!(reason, "rolled back by hand");

        // Another target is another matter.
        bench.aim(&target("third", &[("shop", &app)]));
        bench.until_in_step().await;
        assert_eq!(bench.service_writes(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_by_hand_over_routes_and_settings_brings_back_neither() {
    let mut bench = Bench::in_step_with(&target("first", &[])).await;
    let app = bench.swarm.create_network("app").unwrap();
    bench.settings.proxy.image = "nginx:1.30".into();
    bench.restart();
    bench.aim(&target("second", &[("demo", &app)]));
    bench.until_in_step().await;
    bench.swarm.rollback_service(PROXY).unwrap();
    bench.passes_for(secs(4000)).await;
    assert_eq!(bench.service_writes(), 2);
    assert_eq!(bench.status().holds.len(), 2);

    // New routes are served, by the image that was gone back to.
    let third = target("third", &[("demo", &app), ("shop", &app)]);
    bench.aim(&third);
    bench.until("they are live", |bench| bench.live().1 == third.bundle.generation()).await;
    assert_eq!(bench.spec().await["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.28");
}

#[tokio::test(start_paused = true)]
async fn files_that_were_edited_by_hand_are_put_right() {
    let (mut bench, ..) = Bench::serving_demo().await;
    let spec = bench.spec().await;
    type Edit = fn(&mut Vec<Value>);
    let edits: [Edit; 2] = [
        // One file, and everything with the manifest.
        |configs| configs.retain(|config| config["File"]["Name"] != "/etc/nginx/routes.conf"),
        Vec::clear,
    ];
    for (updates, edit) in edits.into_iter().enumerate() {
        bench
            .swarm
            .service_update_raw(PROXY, |spec| {
                edit(spec["TaskTemplate"]["ContainerSpec"]["Configs"].as_array_mut().unwrap());
            })
            .unwrap();
        bench.until_in_step().await;
        assert_eq!(bench.spec().await, spec);
        assert_eq!(bench.service_writes(), 1 + updates);
    }
    bench.swarm.clear_calls();
    bench.passes_for(secs(10)).await;
    let calls: BTreeSet<Verb> = bench.swarm.calls().iter().map(Call::verb).collect();
    assert_eq!(calls, BTreeSet::from([Verb::RawService]), "what has worked is not watched again");
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_the_middle_of_a_bad_rollout_does_not_lose_the_last_good() {
    let (mut bench, app, good) = Bench::serving_demo().await;
    bench.break_on("broken");
    bench.aim(&target("second", &[("broken", &app)]));
    bench.pass().await;
    // The previous spec is now the bad one too.
    bench
        .swarm
        .service_update_raw(PROXY, |spec| {
            spec["TaskTemplate"]["Resources"] = json!({"Limits": {"MemoryBytes": 1 << 28}})
        })
        .unwrap();
    bench
        .until("the last good is back", |bench| bench.live() == (good.bundle.generation(), good.bundle.generation(), 1))
        .await;
    bench.until("all run", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);
    // Swarm itself took the edit back with the update that it was in; it is written again with the last good.
    assert_eq!(*memory_limit(&bench.spec().await), json!(1 << 28));
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_the_middle_of_a_bad_first_rollout_does_not_make_it_good() {
    // Whether none of its proxies runs, or some do.
    for (restart, running) in [(false, 0), (false, 1), (true, 0)] {
        let swarm = Swarm::new();
        let app = swarm.create_network("app").unwrap();
        let mut bench = Bench::with(swarm, settings());
        let started = AtomicUsize::new(0);
        let broken = move || started.fetch_add(1, Ordering::SeqCst) >= running;
        bench.swarm.break_when(move |_, _| broken().then(|| "nginx: [emerg] bad".to_owned()));
        let bad = target("first", &[("bad", &app)]);
        bench.aim(&bad);
        bench.passes_for(secs(12)).await;
        bench
            .swarm
            .service_update_raw(PROXY, |spec| {
                spec["TaskTemplate"]["Resources"] = json!({"Limits": {"MemoryBytes": 1 << 28}});
            })
            .unwrap();
        // The spec before the edit is as bad.
        let state = |swarm: &Swarm| swarm.raw(PROXY).and_then(|service| Some(service.update?.state));
        let gave_up = |swarm: &Swarm| state(swarm) == Some(UpdateState::RollbackPaused);
        bench.swarm.eventually("Swarm goes back and gives up", gave_up).await;
        if restart {
            bench.restart();
        }
        bench.until("it is held", |bench| bench.live().2 == 1).await;
        assert_ne!(bench.live().1, bad.bundle.generation());
    }
}

#[tokio::test(start_paused = true)]
async fn every_edit_in_the_middle_of_a_bad_rollout_is_kept() {
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 4] = [
        ("/TaskTemplate/Resources/Limits/MemoryBytes", |spec| {
            spec["TaskTemplate"]["Resources"] = json!({"Limits": {"MemoryBytes": 1 << 28}});
        }),
        ("/TaskTemplate/ContainerSpec/StopSignal", |spec| {
            spec["TaskTemplate"]["ContainerSpec"]["StopSignal"] = json!("SIGTERM");
        }),
        ("/TaskTemplate/Unheard", |spec| spec["TaskTemplate"]["Unheard"] = json!({"of": [1]})),
        ("/Labels/com.example.owner", |spec| spec["Labels"]["com.example.owner"] = json!("edge")),
    ];
    for (place, edit) in edits {
        for after in [1, 3, 6] {
            let (mut bench, app, demo) = Bench::serving_demo().await;
            bench.break_on("broken");
            bench.aim(&target("bad", &[("broken", &app), ("demo", &app)]));
            for _ in 0..after {
                bench.pass().await;
            }
            bench.swarm.service_update_raw(PROXY, edit).unwrap();
            let edited = bench.spec().await.pointer(place).cloned();
            bench
                .until("it is held and over", |bench| {
                    matches!(bench.status().phase, Phase::Held { .. }) && bench.live().0 == demo.bundle.generation()
                })
                .await;
            bench.passes_for(secs(60)).await;
            assert_eq!(bench.spec().await.pointer(place).cloned(), edited, "{place} after {after} passes");
            assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_the_middle_of_a_bad_image_is_kept_although_the_way_back_meets_a_conflict() {
    let (mut bench, ..) = Bench::serving_demo().await;
    bench.break_on("broken");
    bench.settings.proxy.image = "nginx:broken".into();
    bench.restart();
    let before = bench.service_writes();
    bench.until("the bad image is written", |bench| bench.service_writes() > before).await;
    bench.pass().await;
    let edit = |spec: &mut Value| spec["TaskTemplate"]["Resources"] = json!({"Limits": {"MemoryBytes": 1 << 28}});
    bench.swarm.service_update_raw(PROXY, edit).unwrap();
    let conflict = bench.swarm.inject(Fault::on(Verb::UpdateService).once().fail(Class::Conflict));
    let back = |bench: &Bench| bench.status().image.as_deref() == Some("nginx:1.28");
    bench.until("the last good is back", back).await;
    assert_eq!(conflict.hits(), 1, "its first write met the conflict");
    bench.passes_for(secs(60)).await;
    let spec = bench.spec().await;
    assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.28");
    assert_eq!(spec["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"], 1 << 28);
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_breaks_a_good_rollout_is_not_forced_back() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    let good = target("second", &[("demo", &app), ("shop", &app)]);
    bench.aim(&good);
    bench.pass().await;
    bench.break_on("tiny");
    bench
        .swarm
        .service_update_raw(PROXY, |spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("nginx:tiny"))
        .unwrap();
    bench.passes_for(secs(300)).await;
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);
    assert_eq!(bench.live().0, good.bundle.generation());
    assert_eq!(bench.spec().await["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.28");
}
