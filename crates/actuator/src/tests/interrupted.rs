//! Checks that come to no end, and what happens in the middle of one.

use embedded::{Fault, Verb};
use swarm::Class;

use super::checks::{CHECK, checking, sealed};
use super::*;
use crate::Fence;
use crate::settings::CheckPolicy;
use crate::status::Verdict;

// === Checks that come to no end ===

#[tokio::test(start_paused = true)]
async fn a_check_that_does_not_move_is_gone_without() {
    // Its image is slow to come; no address, no node.
    type Slow = fn(&mut embedded::Timing);
    let cases: [(Slow, u64); 2] =
        [(|timing| timing.prepare = secs(3600), 60), (|timing| timing.allocate = secs(3600), 15)];
    for (slow, limit) in cases {
        let (mut bench, ..) = Bench::serving(checking()).await;
        let timing = embedded::Timing::default();
        bench.swarm.set_timing(slow);
        bench.image("nginx:1.30").await;
        let started = tokio::time::Instant::now();
        bench.until("it is written", |bench| bench.service_writes() == 1).await;
        let took = started.elapsed();
        assert!(took > secs(limit) && took < secs(limit + 3), "{took:?}");
        assert!(!bench.has_check(), "it is removed");
        assert_eq!(bench.counters().checks(Verdict::Skipped), 1, "told once");
        bench.swarm.set_timing(|now| *now = timing);
        let unchecked = bench.status().unchecked.expect("status says it");
        assert!(unchecked.starts_with(&format!("no progress for {limit} s: its task")), "{unchecked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_generation_waits_no_longer_for_its_check() {
    let mut bench = Bench::with(Swarm::new(), checking());
    let key = bench.secret("key");
    bench.swarm.set_timing(|timing| timing.prepare = secs(3600));
    bench.aim(&sealed(&target("first", &[]), &[&key], "k /run/secrets/key;\n"));
    let started = tokio::time::Instant::now();
    bench.until("it is written", |bench| bench.service_writes() == 1).await;
    let took = started.elapsed();
    assert!(took > secs(60) && took < secs(63), "{took:?}");
    assert_eq!(bench.counters().checks(Verdict::Skipped), 1, "told once");
    bench.pass().await;
    assert!(matches!(bench.status().phase, Phase::Rolling { .. }), "{:?}", bench.status());
    let unchecked = bench.status().unchecked.expect("status goes on saying it");
    assert!(unchecked.starts_with("no progress for 60 s: its task"), "{unchecked}");
    assert_eq!(bench.swarm.service_names(), [PROXY]);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_stopped_from_outside_is_gone_without() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.image("nginx:1.30").await;
    bench.swarm.set_timing(|timing| timing.end = secs(3600));
    bench.until_checking().await;
    bench.passes_for(secs(5)).await;
    bench.swarm.scale(CHECK, 0).unwrap();
    bench.until("it is written", |bench| bench.service_writes() == 1).await;
    bench.until_in_step().await;
    assert_eq!(bench.swarm.service_names(), [PROXY]);
}

/// Calls that are about a check.
fn of_the_check(call: &Call) -> bool {
    match call {
        Call::CreateService { spec, .. } => spec["Name"] == CHECK,
        Call::RawService(name) => name == CHECK,
        _ => false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_allows_no_check_gets_its_rollouts_at_once() {
    // It may not be created; it may not even be looked for.
    for reads in [false, true] {
        let (mut bench, app, demo) = Bench::serving(checking()).await;
        let key = bench.secret("key");
        let refuses = move |call: &Call| of_the_check(call) && (reads || call.is_write());
        bench.swarm.inject(Fault::when(refuses).fail(Class::Refused));
        bench.image("nginx:1.30").await;
        let started = tokio::time::Instant::now();
        bench.until("it is written", |bench| bench.service_writes() == 1).await;
        assert!(started.elapsed() < secs(2), "{:?}", started.elapsed());
        bench.until_in_step().await;
        assert_eq!(bench.status().unchecked.as_deref(), Some("the Engine refuses the check: injected"));
        assert_eq!(bench.status().trouble, None, "nobody has to do anything");
        assert_eq!(bench.checks(), 1, "tried once for each rollout");
        bench.aim(&sealed(&target("keys", &[("demo", &app), ("shop", &app)]), &[&key], "k /run/secrets/key;\n"));
        bench.until("it is written", |bench| bench.service_writes() == 2).await;
        assert_eq!((bench.checks(), bench.counters().checks(Verdict::Skipped)), (2, 2));
        drop(demo);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_cannot_create_a_check_keeps_nothing_for_ever() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.swarm.inject(Fault::when(|call| of_the_check(call) && call.is_write()).fail(Class::Unavailable));
    bench.image("nginx:1.30").await;
    let started = tokio::time::Instant::now();
    bench.until("it is written", |bench| bench.service_writes() == 1).await;
    assert!(started.elapsed() < secs(20), "{:?}", started.elapsed());
    let unchecked = bench.status().unchecked.unwrap();
    assert!(unchecked.starts_with("it was not started for"), "{unchecked}");
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_checks_name_that_is_not_ours_is_left_alone() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.swarm.service(CHECK).create().unwrap();
    let foreign = bench.swarm.raw(CHECK).unwrap();
    bench.image("nginx:1.30").await;
    bench.until_in_step().await;
    assert_eq!(bench.writes(), [Verb::UpdateService]);
    assert_eq!(
        bench.status().unchecked.as_deref(),
        Some("the service dovetail-check-main-web exists and is no check of ours")
    );
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.swarm.raw(CHECK).unwrap().spec, foreign.spec);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_removed_keeps_nobody_from_anything() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    let refused = bench.swarm.inject(Fault::on(Verb::RemoveService).fail(Class::Refused));
    bench.image("nginx:1.30").await;
    bench.until_in_step().await;
    bench.passes_for(secs(60)).await;
    bench.swarm.remove_service(PROXY).unwrap();
    bench.until_in_step().await;
    assert_eq!(refused.hits(), 1, "it is not tried again, not even when the proxies are made anew");
    assert!(bench.has_check());
    // The next one has no place, but for a fresh process, which tries to remove it once.
    bench.image("nginx:1.31").await;
    bench.until_in_step().await;
    assert_eq!((refused.hits(), bench.checks(), bench.service_writes()), (2, 1, 3));
    assert_eq!(bench.status().unchecked.as_deref(), Some("the check before cannot be removed"));
    refused.lift();
    bench.restart();
    bench.until_in_step().await;
    assert_eq!(bench.swarm.service_names(), [PROXY], "left-overs go when they can");
}

// === In the middle ===

#[tokio::test(start_paused = true)]
async fn a_fresh_process_goes_on_with_the_check_that_it_finds() {
    for (broken, passes) in [(false, 1), (false, 3), (true, 1), (true, 3)] {
        let (mut bench, ..) = Bench::serving(checking()).await;
        let image = if broken { "nginx:broken" } else { "nginx:1.30" };
        bench.break_on("broken");
        bench.image(image).await;
        bench.until_checking().await;
        for _ in 1..passes {
            bench.pass().await;
        }
        bench.restart();
        let over = |bench: &Bench| bench.is_in_step() || matches!(bench.status().phase, Phase::Held { .. });
        bench.until("it is decided", over).await;
        bench.passes_for(secs(60)).await;
        assert_eq!((bench.checks(), bench.service_writes()), (1, usize::from(!broken)), "{broken} {passes}");
        assert_eq!(bench.swarm.service_names(), [PROXY]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_nobody_wants_any_more_is_removed_by_a_fresh_process() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.image("nginx:1.30").await;
    bench.until_checking().await;
    bench.settings.checks.policy = CheckPolicy::Never;
    bench.image("nginx:1.28").await;
    bench.until_in_step().await;
    assert_eq!(bench.swarm.service_names(), [PROXY]);
    assert_eq!(bench.service_writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_newer_target_takes_the_place_of_the_check() {
    let (mut bench, app, demo) = Bench::serving(checking()).await;
    let (one, two) = (bench.secret("one"), bench.secret("two"));
    bench.aim(&sealed(&demo, &[&one], "k /run/secrets/one;\n"));
    bench.until_checking().await;
    let first = bench.swarm.raw(CHECK).unwrap().id;
    let last = sealed(&target("more", &[("demo", &app), ("shop", &app)]), &[&one, &two], "k /run/secrets/two;\n");
    bench.aim(&last);
    bench.until("the check is another", |bench| bench.swarm.raw(CHECK).is_some_and(|check| check.id != first)).await;
    assert_eq!(bench.service_writes(), 0, "what was superseded is not rolled out");
    bench.until_in_step().await;
    assert_eq!((bench.checks(), bench.service_writes()), (2, 1));
    assert_eq!(bench.live().0, last.bundle.generation());
    assert_eq!(bench.swarm.service_names(), [PROXY]);

    // And one that needs no check is not kept waiting.
    bench.swarm.clear_calls();
    bench.aim(&sealed(&demo, &[&two], "k /run/secrets/two;\n"));
    bench.until_checking().await;
    bench.aim(&target("without", &[("demo", &app), ("more", &app)]));
    bench.pass().await;
    assert_eq!(bench.service_writes(), 1);
    bench.until_in_step().await;
    assert_eq!(bench.swarm.service_names(), [PROXY]);
    assert_eq!(
        bench.swarm.configs(&bench.settings.instance).await.unwrap().len(),
        5,
        "of the one between nothing is left"
    );
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_the_middle_is_checked_too() {
    let (mut bench, _, demo) = Bench::serving(checking()).await;
    let key = bench.secret("key");
    bench.aim(&sealed(&demo, &[&key], "k /run/secrets/key;\n"));
    bench.until_checking().await;
    bench.swarm.update_image(PROXY, "nginx:edited").unwrap();
    bench.until_in_step().await;
    let images: Vec<Value> = bench
        .written_specs()
        .filter(|spec| spec["Name"] == CHECK)
        .map(|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"].clone())
        .collect();
    assert_eq!(images, ["nginx:1.28", "nginx:edited"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_race_needs_no_second_check() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    let faster = |swarm: &Swarm| swarm.set_label(PROXY, "com.example.race", "won").unwrap();
    bench.swarm.inject(Fault::on(Verb::UpdateService).once().first(faster));
    bench.image("nginx:1.30").await;
    bench.until_in_step().await;
    assert_eq!((bench.checks(), bench.service_writes()), (1, 2), "the conflict, and the update");
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_the_middle_stops_everything_but_the_check_itself() {
    for broken in [false, true] {
        let (mut bench, _, demo) = Bench::serving(checking()).await;
        bench.break_on("broken");
        bench.image(if broken { "nginx:broken" } else { "nginx:1.30" }).await;
        bench.until_checking().await;
        bench.pause("wait").await;
        bench.passes_for(secs(200)).await;
        assert_eq!(bench.writes(), [], "{broken}");
        assert!(bench.has_check());
        let waits = bench.plan(&demo).await.waiting.len();
        assert_eq!(waits, 2, "the update or the hold, and the removal");
        bench.resume().await;
        bench.passes_for(secs(60)).await;
        assert_eq!((bench.checks(), bench.service_writes()), (0, usize::from(!broken)));
        assert_eq!(matches!(bench.status().phase, Phase::Held { .. }), broken);
        assert_eq!(bench.swarm.service_names(), [PROXY]);
    }
    // Paused before: none is started, and its time does not run.
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.pause("wait").await;
    bench.image("nginx:1.30").await;
    bench.passes_for(secs(600)).await;
    assert_eq!(bench.writes(), []);
    bench.resume().await;
    bench.until_in_step().await;
    assert_eq!((bench.checks(), bench.service_writes()), (1, 1));
    assert_eq!(bench.status().unchecked, None);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_operator_checks_nothing() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.swarm.service_update_raw(PROXY, |spec| Fence::new(secs(9), 1).leave_on(spec)).unwrap();
    bench.settings.operator = Some(Fence::new(secs(1), 1));
    bench.image("nginx:1.30").await;
    // Whoever was started first finds the fence only after its own first look.
    bench.swarm.service_update_raw(PROXY, |spec| Fence::new(secs(99), 1).leave_on(spec)).unwrap();
    bench.passes_for(secs(120)).await;
    assert_eq!(bench.writes(), []);
    assert!(matches!(bench.status().phase, Phase::Fenced { .. }), "{:?}", bench.status());
}

#[tokio::test(start_paused = true)]
async fn answers_that_get_lost_lead_to_one_rollout_and_no_left_over() {
    for verb in [Verb::CreateService, Verb::UpdateService, Verb::RemoveService, Verb::CreateConfig, Verb::LabelConfig] {
        for broken in [false, true] {
            let (mut bench, app, _) = Bench::serving(checking()).await;
            let key = bench.secret("key");
            bench.break_on("broken");
            let lost = bench.swarm.inject(Fault::on(verb).once().unanswered());
            let name = if broken { "broken" } else { "shop" };
            let wanted = target("keys", &[("demo", &app), (name, &app)]);
            bench.aim(&sealed(&wanted, &[&key], "k /run/secrets/key;\n"));
            let over = |bench: &Bench| bench.is_in_step() || matches!(bench.status().phase, Phase::Held { .. });
            bench.pass().await;
            bench.until("it is decided", over).await;
            bench.passes_for(secs(60)).await;
            assert_eq!(bench.service_writes(), usize::from(!broken), "{verb:?} {broken}");
            assert_eq!(bench.swarm.service_names(), [PROXY], "{verb:?} {broken}");
            let never = if broken { verb == Verb::UpdateService } else { verb == Verb::LabelConfig };
            assert_eq!(lost.hits(), u64::from(!never), "{verb:?} {broken}");
        }
    }
}
