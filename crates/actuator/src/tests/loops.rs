//! What the loop does, on paused time.

use std::sync::atomic::Ordering;

use embedded::{Call, Fault, Verb};
use serde_json::json;
use swarm::{Class, UpdateState};

use super::duty::kinds;
use super::*;
use crate::Kind;
use crate::status::Outcome;

#[tokio::test(start_paused = true)]
async fn the_proxy_service_is_created_and_then_left_alone() {
    let first = target("first", &[]);
    let mut bench = Bench::in_step_with(&first).await;
    let generation = first.bundle.generation();
    assert_eq!(bench.live(), (generation, generation, 0));
    let creations = [Verb::CreateConfig, Verb::CreateConfig, Verb::CreateConfig, Verb::CreateService];
    assert_eq!(bench.writes(), creations);
    assert_eq!(bench.counters().completed.load(Ordering::Relaxed), 1);
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);

    bench.swarm.clear_calls();
    bench.passes_for(secs(120)).await;
    let calls: BTreeSet<Verb> = bench.swarm.calls().iter().map(Call::verb).collect();
    assert_eq!(calls, BTreeSet::from([Verb::RawService]), "at rest one call a look, and no payloads");
    assert_eq!(bench.swarm.calls().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn before_the_first_target_nothing_is_written() {
    let mut bench = Bench::new();
    bench.passes_for(secs(10)).await;
    assert_eq!(bench.writes(), []);
    assert_eq!(*bench.outputs.published.borrow(), Some(Published::Nothing));
    assert_eq!(bench.status().phase, Phase::Waiting { waits_for: "the first target".into() });
}

#[tokio::test(start_paused = true)]
async fn a_change_is_one_update_and_the_old_objects_go_when_nothing_needs_them() {
    let mut bench = Bench::in_step_with(&target("first", &[])).await;
    let app = bench.swarm.create_network("app").unwrap();
    for (updates, name) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.aim(&target("another", &[(name, &app)]));
        bench.until_in_step().await;
        assert_eq!(bench.service_writes(), 1 + updates);
    }
    let objects = bench.swarm.configs(&bench.settings.instance).await.unwrap();
    // The common file, and routes and manifest of this generation and of the one in the previous spec.
    assert_eq!(objects.len(), 5);
    assert_eq!(bench.counters().removals.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn changes_during_a_rollout_make_one_more() {
    let mut bench = Bench::in_step_with(&target("first", &[])).await;
    let app = bench.swarm.create_network("app").unwrap();
    bench.aim(&target("a", &[("a", &app)]));
    bench.pass().await;
    for name in ["b", "c", "d"] {
        bench.aim(&target(name, &[(name, &app)]));
        bench.pass().await;
    }
    bench.until_in_step().await;
    assert_eq!(bench.service_writes(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_fails_is_held_and_the_last_good_keeps_serving() {
    let (mut bench, app, good) = Bench::serving_demo().await;
    bench.break_on("broken");

    let bad = target("service broken published", &[("broken", &app), ("demo", &app)]);
    bench.aim(&bad);
    bench.until("it is written down", |bench| bench.writes().contains(&Verb::LabelConfig)).await;
    let Phase::Held { reason, .. } = bench.status().phase else {
        panic!("status says so at once: {:?}", bench.status())
    };
    assert!(reason.starts_with("Swarm rolled the update back due to failure or early termination of task"), "{reason}");
    assert!(reason.contains(": nginx: [emerg] broken; node "), "the task tells why: {reason}");
    bench.until("the bad one is held", |bench| bench.live().2 == 1).await;
    assert_eq!(bench.live(), (good.bundle.generation(), good.bundle.generation(), 1));
    assert!(matches!(bench.status().phase, Phase::Held { .. } | Phase::Rolling { .. }), "{:?}", bench.status());
    bench.passes_for(secs(120)).await;
    assert!(matches!(bench.status().phase, Phase::Held { .. }));
    assert_eq!(bench.service_writes(), 1, "it is not tried again");
    assert_eq!(bench.counters().failed.load(Ordering::Relaxed), 1);

    // Whoever is healthy gets through meanwhile.
    let shop = target("service shop published", &[("demo", &app), ("shop", &app)]);
    bench.aim(&shop);
    bench.until_in_step().await;
    assert_eq!(bench.live(), (shop.bundle.generation(), shop.bundle.generation(), 1));
    assert_eq!(bench.service_writes(), 2);

    // The hold outlives the process.
    bench.restart();
    bench.aim(&bad);
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.service_writes(), 2);
    assert!(matches!(bench.status().phase, Phase::Held { .. }));

    // And is due again after ten minutes, then after twenty.
    bench.until("it is tried again", |bench| bench.service_writes() == 3).await;
    bench.until("it is held again", |bench| bench.live().2 == 1).await;
    assert_eq!(bench.status().holds[0].attempts, 2);
    bench.passes_for(secs(900)).await;
    assert_eq!(bench.service_writes(), 3);
    bench.swarm.break_nothing();
    bench.until_in_step().await;
    assert_eq!(bench.live(), (bad.bundle.generation(), bad.bundle.generation(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_first_bundle_that_fails_is_held_and_gives_way_to_a_smaller_one() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    let mut bench = Bench::with(swarm, settings());
    bench.break_on("broken");
    bench.aim(&target("first", &[("broken", &app), ("demo", &app)]));
    bench.until("it is held", |bench| matches!(&*bench.outputs.published.borrow(), Some(Published::Live { holds, .. }) if holds.len() == 1)).await;
    let Some(Published::Live { last_good, .. }) = bench.outputs.published.borrow().clone() else { panic!() };
    assert!(last_good.services.is_empty(), "nothing was good before");
    let smaller = target("service broken held", &[("demo", &app)]);
    bench.aim(&smaller);
    bench.until_in_step().await;
    assert_eq!(bench.live(), (smaller.bundle.generation(), smaller.bundle.generation(), 1));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_fails_is_held_and_routes_go_on_under_the_old_one() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.break_on("broken");
    bench.settings.proxy.image = "nginx:broken".into();
    bench.restart();
    bench.until("the settings are held", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.live().2, 0, "no route is to blame");
    assert_eq!(bench.service_writes(), 1);

    let shop = target("service shop published", &[("demo", &app), ("shop", &app)]);
    bench.aim(&shop);
    bench.until("the route is there", |bench| bench.live().1 == shop.bundle.generation()).await;
    assert_eq!(bench.spec().await["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.28");
    assert!(matches!(bench.status().phase, Phase::Held { .. }), "and the image is still said to be held");

    // Image and routes change at once: the image is blamed, the routes come through.
    bench.settings.proxy.image = "nginx:broken-too".into();
    bench.restart();
    let more = target("service more published", &[("demo", &app), ("more", &app), ("shop", &app)]);
    bench.aim(&more);
    bench.until("the route is there", |bench| bench.live().1 == more.bundle.generation()).await;
    assert_eq!(bench.live().2, 0);

    bench.settings.proxy.image = "nginx:1.30".into();
    bench.restart();
    bench.until_in_step().await;
    assert_eq!(bench.spec().await["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.30");
    assert_eq!(bench.status().holds, [], "what failed under other settings does not matter any more");
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_is_held_beside_what_is_held_already() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    bench.break_on("broken");
    for (held, name) in [(1, "broken-a"), (2, "broken-b")] {
        bench.aim(&target(name, &[(name, &app), ("demo", &app)]));
        bench.until("it is held too", |bench| bench.live().2 == held).await;
    }
    bench.settings.proxy.image = "nginx:broken".into();
    bench.restart();
    bench.until("the image is held too", |bench| bench.status().holds.len() == 3).await;
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.live(), (demo.bundle.generation(), demo.bundle.generation(), 2));
    assert_eq!(bench.status().holds.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_process_takes_nothing_for_good_that_is_held() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    bench.break_on("broken");
    let bad = target("bad", &[("broken", &app), ("demo", &app)]);
    bench.aim(&bad);
    bench.until("it is written down", |bench| bench.writes().contains(&Verb::LabelConfig)).await;
    bench.restart();
    bench.pass().await;
    assert!(matches!(bench.status().phase, Phase::Rolling { .. }), "the way back: {:?}", bench.status());
    let (live, good, _) = bench.live();
    assert_eq!(live, demo.bundle.generation());
    assert_ne!(good, bad.bundle.generation());
}

#[tokio::test(start_paused = true)]
async fn a_fresh_process_on_a_live_proxy_writes_nothing() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    let mut bench = Bench::with(swarm, settings());
    bench.aim(&target("first", &[]));
    bench.until_in_step().await;
    bench.aim(&target("second", &[("demo", &app)]));
    bench.until_in_step().await;
    bench.swarm.clear_calls();
    for _ in 0..3 {
        bench.restart();
        bench.passes_for(secs(60)).await;
        assert!(bench.is_in_step());
    }
    assert_eq!(bench.writes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_means_look_again() {
    let mut bench = Bench::in_step_with(&target("first", &[])).await;
    let faster = |swarm: &Swarm| swarm.scale(PROXY, 3).unwrap();
    bench.swarm.inject(Fault::on(Verb::UpdateService).once().first(faster));
    let app = bench.swarm.create_network("app").unwrap();
    bench.aim(&target("second", &[("demo", &app)]));
    bench.until_in_step().await;
    assert_eq!(bench.spec().await["Mode"]["Replicated"]["Replicas"], 3);
    assert_eq!(bench.service_writes(), 3, "creation, the conflict, the update");
}

#[tokio::test(start_paused = true)]
async fn answers_that_get_lost_lead_to_the_same_end() {
    for verb in [Verb::CreateConfig, Verb::CreateService, Verb::UpdateService, Verb::RemoveConfig] {
        let mut bench = Bench::new();
        let lost = bench.swarm.inject(Fault::on(verb).once().unanswered());
        let app = bench.swarm.create_network("app").unwrap();
        for name in ["a", "b", "c"] {
            bench.aim(&target(name, &[(name, &app)]));
            bench.until_in_step().await;
        }
        assert_eq!(lost.hits(), 1, "{verb:?}");
        assert_eq!(bench.service_writes(), 3, "{verb:?}");
        assert_eq!(bench.swarm.configs(&bench.settings.instance).await.unwrap().len(), 5, "{verb:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_engine_is_gone_everything_stands() {
    let mut bench = Bench::in_step_with(&target("first", &[])).await;
    let before = bench.outputs.published.borrow().clone();
    bench.swarm.engine_down();
    bench.passes_for(secs(60)).await;
    assert_eq!(*bench.outputs.published.borrow(), before);
    assert!(bench.status().trouble.is_some());
    bench.swarm.engine_up();
    bench.swarm.clear_calls();
    bench.until_in_step().await;
    assert_eq!(bench.writes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_due_is_tried_again_by_a_fresh_process_too() {
    // Routes, or an image that came with routes.
    for image in ["nginx:1.28", "nginx:broken"] {
        let (mut bench, app, _) = Bench::serving_demo().await;
        bench.break_on("broken");
        bench.settings.proxy.image = image.into();
        bench.restart();
        bench.pass().await;
        bench.aim(&target("second", &[(if image == "nginx:broken" { "shop" } else { "broken" }, &app)]));
        bench.until("it is written down", |bench| bench.writes().contains(&Verb::LabelConfig)).await;
        tokio::time::sleep(secs(60)).await;
        let update = bench.swarm.raw_service(PROXY).await.unwrap().unwrap().update.unwrap();
        assert_eq!(update.state, UpdateState::RollbackCompleted);

        bench.restart_later(secs(700));
        bench.swarm.break_nothing();
        bench.passes_for(secs(30)).await;
        assert!(bench.is_in_step(), "{:?}", bench.status());
        assert_eq!(bench.service_writes(), 2, "{image}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_swarm_gave_up_on_is_told_again() {
    for restart in [false, true] {
        a_rollback_is_told_again(restart).await;
    }
}

async fn a_rollback_is_told_again(restart: bool) {
    let mut three = settings();
    three.proxy.mode = crate::settings::Mode::Replicated(3);
    let (mut bench, app, good) = Bench::serving(three).await;
    // One task gets through, and from then on nothing starts, the way back included.
    let started = std::sync::atomic::AtomicUsize::new(0);
    bench
        .swarm
        .break_when(move |_, _| (started.fetch_add(1, Ordering::SeqCst) >= 1).then(|| "the disk is full".to_owned()));
    bench.aim(&target("second", &[("shop", &app)]));
    bench.until("it is held", |bench| bench.live().2 == 1).await;
    if restart {
        let state = |bench: &Bench| bench.swarm.raw(PROXY).and_then(|service| Some(service.update?.state));
        bench.until("Swarm gives up", |bench| state(bench) == Some(UpdateState::RollbackPaused)).await;
        bench.restart();
        bench.pass().await;
        assert_eq!(
            bench.live(),
            (good.bundle.generation(), good.bundle.generation(), 1),
            "what was gone back to is good"
        );
    }
    bench.passes_for(secs(30)).await;
    bench.swarm.break_nothing();
    bench.passes_for(secs(150)).await;
    assert_eq!(bench.live(), (good.bundle.generation(), good.bundle.generation(), 1));
    let routes = crate::spec::Mounts::read(&bench.spec().await).files["/etc/nginx/routes.conf"].clone();
    let tasks = bench.swarm.running_tasks(PROXY);
    assert_eq!(tasks.len(), 3);
    for task in tasks {
        let mounts = crate::spec::Mounts::read(&json!({"TaskTemplate": *task.spec}));
        assert_eq!(mounts.files["/etc/nginx/routes.conf"], routes, "every proxy serves the last good");
    }
    assert_eq!(bench.service_writes(), 2);
}

#[tokio::test(start_paused = true)]
async fn before_the_first_target_a_fresh_process_blames_nobody() {
    let mut pause = settings();
    pause.proxy.update.failure_action = crate::settings::FailureAction::Pause;
    let (mut bench, app, good) = Bench::serving(pause).await;
    bench.break_on("broken");
    bench.aim(&target("second", &[("broken", &app)]));
    bench.pass().await;
    // It dies right after the update, and Swarm pauses that while nobody looks.
    tokio::time::sleep(secs(60)).await;
    bench.restart();
    bench.swarm.clear_calls();
    bench.pass().await;
    assert_eq!(bench.writes(), []);
    bench.until("the last good is written", |bench| bench.service_writes() == 1).await;
    bench.until("it is live", |bench| bench.live() == (good.bundle.generation(), good.bundle.generation(), 1)).await;
}

#[tokio::test(start_paused = true)]
async fn swarms_own_rollback_is_recognised_by_a_fresh_process() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.break_on("broken");
    // That another image was held before has nothing to do with it.
    bench.settings.proxy.image = "nginx:broken".into();
    bench.restart();
    bench.until("the image is held", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
    bench.settings.proxy.image = "nginx:1.28".into();
    bench.restart();
    bench.until_in_step().await;
    bench.swarm.clear_calls();
    bench.aim(&target("second", &[("broken", &app)]));
    bench.pass().await;
    assert_eq!(bench.service_writes(), 1);
    // It dies right after the update, and Swarm rolls back while nobody looks.
    tokio::time::sleep(secs(60)).await;
    let update = bench.swarm.raw_service(PROXY).await.unwrap().unwrap().update.unwrap();
    assert_eq!(update.state, UpdateState::RollbackCompleted);
    bench.restart();
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.service_writes(), 1);
    assert_eq!(bench.live().2, 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_refuses_is_held_and_does_not_freeze_the_rest() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    let other = bench.swarm.create_network("forbidden").unwrap();
    let forbidden = other.to_string();
    bench.swarm.inject(
        Fault::when(move |call| match call {
            Call::UpdateService { spec, .. } => spec["TaskTemplate"]["Networks"].to_string().contains(&forbidden),
            _ => false,
        })
        .fail(Class::Refused),
    );
    bench.aim(&target("second", &[("demo", &app), ("denied", &other)]));
    bench.passes_for(secs(60)).await;
    let Some(Published::Live { holds, .. }) = bench.outputs.published.borrow().clone() else {
        panic!("what is live is known")
    };
    assert_eq!(holds.len(), 1, "the generation is held");
    assert!(holds[0].reason.contains("refuses"), "{}", holds[0].reason);
    let writes = bench.service_writes();
    assert!(writes <= 3, "it is not tried again and again: {writes} writes");
    // What the reconciler makes of it: everything but the service that is denied.
    bench.aim(&target("third", &[("demo", &app), ("healthy", &app)]));
    bench.until_in_step().await;
    assert_eq!(bench.counters().failed.load(Ordering::Relaxed), 0, "it was never begun, and no other failed");
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_refuses_says_nothing_of_what_is_live() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    bench.swarm.drain("node-1").unwrap();
    let second = target("second", &[("demo", &app), ("shop", &app)]);
    bench.aim(&second);
    bench.until("it is blocked", |bench| matches!(bench.status().phase, Phase::Blocked { .. })).await;
    let refused = bench.swarm.inject(Fault::on(Verb::UpdateService).fail(Class::Refused));
    bench.aim(&target("third", &[("demo", &app), ("third", &app)]));
    bench.until("the third is held", |bench| bench.live().2 == 1).await;
    bench.aim(&second);
    bench.passes_for(secs(30)).await;
    assert_eq!(bench.live(), (second.bundle.generation(), demo.bundle.generation(), 1), "the second is not proven");
    assert_eq!((refused.hits(), bench.counters().failed.load(Ordering::Relaxed)), (2, 0));
    bench.swarm.activate("node-1").unwrap();
    bench.until_in_step().await;
    assert_eq!(kinds(&bench, Outcome::Completed), [(Kind::First, 1), (Kind::Service, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_way_back_that_the_engine_refuses_once_is_forgotten_with_the_next_write() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.aim(&target("late", &[("demo", &app), ("late", &app)]));
    bench.until_in_step().await;
    for task in bench.swarm.running_tasks(PROXY) {
        bench.swarm.kill_task(&task.id);
    }
    let refused = bench.swarm.inject(Fault::on(Verb::UpdateService).once().fail(Class::Refused));
    bench.until("the last good is refused", |_| refused.hits() == 1).await;
    let third = target("third", &[("demo", &app), ("third", &app)]);
    bench.aim(&third);
    bench.until_in_step().await;
    for _ in 0..10 {
        bench.pass().await;
        assert_eq!(bench.status().phase, Phase::InStep);
    }
    assert_eq!(bench.live(), (third.bundle.generation(), third.bundle.generation(), 1));
    assert_eq!(bench.counters().failed.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_refused_is_tried_again_when_its_hold_is_due() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    let refused = bench.swarm.inject(Fault::on(Verb::UpdateService).fail(Class::Refused));
    let second = target("second", &[("demo", &app), ("shop", &app)]);
    bench.aim(&second);
    bench.until("it is held", |bench| bench.live().2 == 1).await;
    bench.passes_for(secs(700)).await;
    assert_eq!(refused.hits(), 4, "twice each time");
    assert_eq!(bench.status().holds[0].attempts, 2);
    refused.lift();
    bench.passes_for(secs(1300)).await;
    assert!(bench.is_in_step(), "{:?}", bench.status());
    assert_eq!(bench.live(), (second.bundle.generation(), second.bundle.generation(), 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_refused_once_may_have_been_a_race() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    let refused = bench.swarm.inject(Fault::on(Verb::UpdateService).once().fail(Class::Refused));
    let second = target("second", &[("demo", &app), ("shop", &app)]);
    bench.aim(&second);
    bench.until("it is refused", |_| refused.hits() == 1).await;
    bench.until_in_step().await;
    assert_eq!(bench.live(), (second.bundle.generation(), second.bundle.generation(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ours_is_never_touched() {
    let swarm = Swarm::new();
    swarm.service(PROXY).create().unwrap();
    let mut bench = Bench::with(swarm, settings());
    bench.aim(&target("first", &[]));
    bench.passes_for(secs(30)).await;
    assert_eq!(bench.writes(), []);
    assert!(matches!(bench.status().phase, Phase::Foreign { .. }));
    assert!(matches!(*bench.outputs.published.borrow(), Some(Published::Unknown { .. })));
    bench.swarm.remove_service(PROXY).unwrap();
    bench.until_in_step().await;
}

#[tokio::test(start_paused = true)]
async fn leaving_a_network_for_its_own_sake_waits_for_quiet() {
    // It is the time without another change that counts, not the next look.
    let mut slow = settings();
    slow.poll_interval = secs(60);
    let (mut bench, ..) = Bench::serving(slow).await;
    let shop = bench.swarm.create_network("shop").unwrap();
    bench.swarm.add_network(PROXY, "shop").unwrap();
    let started = tokio::time::Instant::now();
    bench.until("it waits", |bench| matches!(bench.status().phase, Phase::Waiting { .. })).await;
    bench.pass().await;
    assert_eq!(bench.service_writes(), 1, "it was quiet for long enough");
    assert!((5..30).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    bench.until_in_step().await;
    assert!(!bench.status().networks.contains(&shop));
    assert_eq!(bench.service_writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn too_few_nodes_block_and_are_nobodys_fault() {
    let swarm = Swarm::new();
    swarm.add_node("node-2").unwrap();
    let app = swarm.create_network("app").unwrap();
    let mut with_constraint = settings();
    with_constraint.proxy.constraints = vec!["node.labels.edge==yes".into()];
    let mut bench = Bench::with(swarm, with_constraint);
    bench.aim(&target("first", &[]));
    bench.until("it is blocked", |bench| matches!(bench.status().phase, Phase::Blocked { .. })).await;
    let second = target("second", &[("demo", &app)]);
    bench.aim(&second);
    bench.until("the next one is written all the same", |bench| bench.live().0 == second.bundle.generation()).await;
    assert_eq!(bench.live().2, 0);
    bench.swarm.label_node("node-2", "edge", Some("yes")).unwrap();
    bench.until_in_step().await;
    assert_eq!(bench.service_writes(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_installations_leave_each_other_alone() {
    let swarm = Swarm::new();
    let mut theirs = settings();
    theirs.instance = InstanceName::parse("other").unwrap();
    theirs.proxy.service_name = "other-proxy".into();
    theirs.proxy.ports = vec![Port { published: 8080, target: 80 }];
    let mut theirs = Bench::with(swarm.clone(), theirs);
    let mut ours = Bench::with(swarm, settings());
    let app = ours.swarm.create_network("app").unwrap();
    for name in ["a", "b", "c"] {
        for bench in [&mut ours, &mut theirs] {
            bench.aim(&target(name, &[(name, &app)]));
            bench.until_in_step().await;
        }
    }
    assert_eq!(ours.swarm.configs(&ours.settings.instance).await.unwrap().len(), 5);
    assert_eq!(ours.swarm.configs(&theirs.settings.instance).await.unwrap().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_somebody_uses_is_kept_without_fuss() {
    let mut bench = Bench::in_step_with(&target("first", &[])).await;
    bench.swarm.inject(Fault::on(Verb::RemoveConfig).fail(Class::InUse));
    let app = bench.swarm.create_network("app").unwrap();
    for name in ["a", "b"] {
        bench.aim(&target(name, &[(name, &app)]));
        bench.until_in_step().await;
    }
    bench.swarm.clear_calls();
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.writes(), []);
    assert!(bench.is_in_step());
}

#[tokio::test(start_paused = true)]
async fn it_runs_under_the_driver_and_wakes_for_a_new_target() {
    let Bench { swarm, target: sender, actuator, outputs, .. } = Bench::new();
    let (reporter, _status) = driver::Reporter::new("actuator web");
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(driver::run(actuator, driver::Pacing::default(), reporter, stop.clone()));
    let first = target("first", &[]);
    sender.send_replace(Some(Arc::new(first.clone())));
    swarm.eventually("two proxies run", |swarm| swarm.running_tasks(PROXY).len() == 2).await;
    let mut status = outputs.status.clone();
    let in_step = status.wait_for(|status| status.as_ref().is_some_and(|status| status.phase == Phase::InStep));
    tokio::time::timeout(secs(60), in_step).await.expect("it gets in step").unwrap();
    stop.cancel();
    running.await.unwrap();
    assert_eq!(swarm.running_tasks(PROXY).len(), 2, "and the proxies do not notice that it stops");
}

/// The look that finds a rollout at its end finds the next target, too.
#[tokio::test(start_paused = true)]
async fn rollouts_that_follow_each_other_leave_nothing_behind() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    let mut most = 0;
    for number in 0..20 {
        let name = format!("shop-{number}");
        let wanted = target(&name, &[("demo", &app), (&name, &app)]);
        bench.aim(&wanted);
        bench.until("it is written", |bench| bench.live().0 == wanted.bundle.generation()).await;
        most = most.max(bench.swarm.all_configs().len());
    }
    // The file for all; and the routes and manifest of what is rolled out, of what serves, and of what was before it.
    assert!(most <= 7, "{most}");
    bench.until_in_step().await;
    assert_eq!(bench.service_writes(), 20);
}
