//! How long the loop waits for a rollout before it gives way or blames, on paused time.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_rollout_that_stands_still_gives_way_to_newer_routes_before_it_is_blamed() {
    // An image that does not come is blamed after five minutes; if the routes under it have worked, nothing is to be
    // learnt from waiting even for one. Other routes wait for one minute.
    for (by_hand, wanted_after, limit) in [(true, 5, 15), (true, 40, 40), (false, 5, 60)] {
        let (mut bench, app, _) = Bench::serving_demo().await;
        bench.swarm.set_timing(|timing| timing.prepare = secs(3600));
        let started = tokio::time::Instant::now();
        if by_hand {
            bench.swarm.update_image(PROXY, "nginx:1.30").unwrap();
        } else {
            bench.aim(&target("more", &[("demo", &app), ("more", &app)]));
        }
        bench.passes_for(secs(wanted_after)).await;
        let shop = target("shop", &[("demo", &app), ("shop", &app)]);
        bench.aim(&shop);
        bench.until("the route is written", |bench| bench.live().0 == shop.bundle.generation()).await;
        let took = started.elapsed().as_secs();
        assert!((limit..limit + 5).contains(&took), "by hand: {by_hand}, {wanted_after} s: after {took} s");
        assert_eq!(bench.status().holds, []);
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_long_in_coming_is_not_blamed_at_the_second_proxy_either() {
    let (mut bench, _, demo) = Bench::serving_demo().await;
    bench.swarm.set_timing(|timing| timing.prepare = secs(100));
    bench.image("nginx:1.30").await;
    bench.until("it is written", |bench| bench.service_writes() == 1).await;
    bench.until_in_step().await;
    assert_eq!(bench.live(), (demo.bundle.generation(), demo.bundle.generation(), 0));
    assert_eq!((bench.service_writes(), bench.status().holds.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_ran_here_before_may_be_as_slow_as_anything_else() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    bench.aim(&target("second", &[("demo", &app), ("shop", &app)]));
    bench.until_in_step().await;
    // Its tasks of the first time are still listed.
    bench.swarm.set_timing(|timing| timing.start = secs(40));
    bench.aim(&demo);
    bench.until_in_step().await;
    assert_eq!(bench.live(), (demo.bundle.generation(), demo.bundle.generation(), 0));
    assert_eq!(bench.service_writes(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_never_comes_is_blamed_however_often_routes_change() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.swarm.set_timing(|timing| timing.prepare = secs(3600));
    bench.image("nginx:1.30").await;
    bench.until("it is written", |bench| bench.service_writes() == 1).await;
    for name in ["a", "b", "c", "d"] {
        bench.passes_for(secs(70)).await;
        bench.aim(&target(name, &[("demo", &app), (name, &app)]));
    }
    bench.passes_for(secs(30)).await;
    assert!(!bench.status().holds.is_empty(), "{:?}", bench.status());
    // The image that the nodes have serves the next routes.
    bench.swarm.set_timing(|timing| timing.prepare = secs(1));
    let last = target("e", &[("demo", &app), ("e", &app)]);
    bench.aim(&last);
    bench.passes_for(secs(120)).await;
    assert_eq!((bench.live().0, bench.live().1), (last.bundle.generation(), last.bundle.generation()));
    assert_eq!(bench.spec().await["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.28");
}

#[tokio::test(start_paused = true)]
async fn a_network_without_addresses_is_noticed_and_the_last_good_is_written_forward() {
    for restart in [false, true] {
        let (mut bench, app, good) = Bench::serving_demo().await;
        let full = bench.swarm.create_network_sized("full", 29).unwrap();
        bench.swarm.service("filler").network("full").replicas(4).create().unwrap();
        bench.aim(&target("network full joined for shop", &[("demo", &app), ("shop", &full)]));
        let started = tokio::time::Instant::now();
        bench.until("it is written", |bench| bench.service_writes() == 1).await;
        if restart {
            bench.restart();
        }
        bench.until("it is held", |bench| bench.live().2 == 1).await;
        bench.until("the last good is live", |bench| bench.live().0 == good.bundle.generation()).await;
        assert!(started.elapsed() < secs(30), "{:?}", started.elapsed());
        bench.passes_for(secs(60)).await;
        assert_eq!(bench.service_writes(), 2, "the bad one, the last good");
        assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_without_addresses_is_noticed_as_soon_beside_a_node_that_died() {
    // Also where other routes are wanted meanwhile.
    for changes in [false, true] {
        let mut everywhere = settings();
        everywhere.proxy.mode = crate::settings::Mode::Global;
        let (mut bench, app, _) = Bench::serving_on(three_nodes(), everywhere).await;
        bench.swarm.kill_node("node-2").unwrap();
        bench.passes_for(secs(60)).await;
        let full = bench.swarm.create_network_sized("full", 29).unwrap();
        bench.swarm.service("filler").network("full").replicas(4).create().unwrap();
        bench.aim(&target("network full joined for shop", &[("demo", &app), ("shop", &full)]));
        let started = tokio::time::Instant::now();
        bench.passes_for(secs(10)).await;
        if changes {
            bench.aim(&target("more", &[("demo", &app), ("more", &app), ("shop", &full)]));
        }
        bench.until("it is held", |bench| bench.live().2 == 1).await;
        assert!(started.elapsed() < secs(30), "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_node_refused_is_tried_again_after_a_minute_and_then_as_late_as_other_failures() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.refuse_on("shop");
    let shop = target("service shop published", &[("demo", &app), ("shop", &app)]);
    bench.aim(&shop);
    bench.until("it is held", |bench| bench.live().2 == 1).await;
    let hold = bench.status().holds[0].clone();
    assert!(hold.reason.contains(&format!(": {NOT_ACTIVE}; node ")), "{hold:?}");
    assert!(hold.retry_in_seconds.is_some_and(|seconds| seconds <= 60), "{hold:?}");
    // A fresh process knows it too.
    bench.restart();
    bench.passes_for(secs(50)).await;
    let before = bench.service_writes();
    bench.until("it is tried again", |bench| bench.service_writes() > before).await;
    bench.until("it is held again", |bench| bench.live().2 == 1).await;
    let hold = bench.status().holds[0].clone();
    assert_eq!(hold.attempts, 2);
    assert!(hold.retry_in_seconds.is_some_and(|seconds| (500..=600).contains(&seconds)), "{hold:?}");

    bench.swarm.break_nothing();
    bench.passes_for(secs(700)).await;
    assert_eq!((bench.live().0, bench.live().2), (shop.bundle.generation(), 0));
}

#[tokio::test(start_paused = true)]
async fn settings_that_a_node_refused_are_not_hurried() {
    let (mut bench, ..) = Bench::serving_demo().await;
    bench.swarm.refuse_when(|task, _| {
        let image = task["ContainerSpec"]["Image"].as_str()?;
        image.contains("typo").then(|| format!("No such image: {image}"))
    });
    bench.settings.proxy.image = "nginx:typo".into();
    bench.restart();
    bench.until("it is held", |bench| !bench.status().holds.is_empty()).await;
    let hold = bench.status().holds[0].clone();
    assert!(hold.reason.contains("No such image: nginx:typo"), "{hold:?}");
    assert!(hold.retry_in_seconds.is_some_and(|seconds| (500..=600).contains(&seconds)), "{hold:?}");
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_could_look_is_no_time_without_progress() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.swarm.set_timing(|timing| timing.start = secs(80));
    let second = target("second", &[("demo", &app), ("shop", &app)]);
    bench.aim(&second);
    bench.passes_for(secs(5)).await;
    bench.swarm.set_timing(|timing| timing.start = embedded::Timing::default().start);
    bench.swarm.engine_down();
    bench.passes_for(secs(70)).await;
    bench.swarm.engine_up();
    bench.until_in_step().await;
    assert_eq!(bench.live(), (second.bundle.generation(), second.bundle.generation(), 0));
    assert_eq!(bench.service_writes(), 1);
}
