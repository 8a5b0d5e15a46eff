//! Proxies that end too late for Swarm to see.

use super::duty::kinds;
use super::*;
use crate::Kind;
use crate::hold::Blame;
use crate::status::Outcome;

impl Bench {
    /// Another image, rolled out by the process that is started for it.
    async fn roll_out_image(&mut self, image: &str) {
        self.image(image).await;
        self.until("the image runs", |bench| bench.is_in_step() && bench.service_writes() == 1).await;
    }

    /// Passes until all proxies run what is wanted, but for what is held.
    async fn until_in_step_but_held(&mut self) {
        let rests = |bench: &Bench| {
            let status = bench.status();
            matches!(status.phase, Phase::Held { .. }) && status.live == status.target
        };
        self.until("all but what is held", rests).await;
        self.passes_for(secs(60)).await;
    }

    /// Every proxy that serves these routes ends so long after it started, until a condition holds.
    async fn proxies_end_every(&mut self, interval: Duration, times: usize) {
        for _ in 0..times {
            self.passes_for(interval).await;
            for task in self.swarm.running_tasks(PROXY) {
                self.swarm.kill_task(&task.id);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_generation_whose_proxies_end_after_swarms_watch_is_taken_back() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    let bad = target("late", &[("demo", &app), ("late", &app)]);
    bench.aim(&bad);
    bench.until_in_step().await;
    assert_eq!(bench.live(), (bad.bundle.generation(), bad.bundle.generation(), 0), "Swarm called it complete");
    bench.proxies_end_every(secs(8), 1).await;
    bench
        .until("the last good is back", |bench| bench.live() == (demo.bundle.generation(), demo.bundle.generation(), 1))
        .await;
    let failed = bench.status().last_rollout.map(|ended| (ended.outcome, ended.reason));
    assert_eq!(failed, Some((Outcome::Failed, "late".to_owned())), "it is told by the reason that it was written for");
    bench.until("all run", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);
    let Phase::Held { reason, .. } = bench.status().phase else { panic!("{:?}", bench.status()) };
    assert!(reason.starts_with("its proxies end after the rollout was complete: task: non-zero exit"), "{reason}");
    assert_eq!(bench.service_writes(), 2);
    assert_eq!(kinds(&bench, Outcome::Completed), [(Kind::First, 1), (Kind::TakeBack, 1), (Kind::Service, 1)]);
    assert_eq!(kinds(&bench, Outcome::Failed), [(Kind::Service, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_single_proxy_that_ends_again_and_again_is_found_however_slowly_it_does() {
    let mut one = settings();
    one.proxy.mode = crate::settings::Mode::Replicated(1);
    let (mut bench, app, demo) = Bench::serving(one).await;
    bench.aim(&target("late", &[("demo", &app), ("late", &app)]));
    bench.until_in_step().await;
    bench.proxies_end_every(secs(15), 2).await;
    bench
        .until("the last good is back", |bench| bench.live() == (demo.bundle.generation(), demo.bundle.generation(), 1))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_and_refuses_its_proxy_for_a_while_says_nothing_of_the_routes() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    let second = target("second", &[("demo", &app), ("shop", &app)]);
    bench.aim(&second);
    bench.until_in_step().await;
    bench.refuse_on("shop");
    bench.swarm.kill_task(&bench.swarm.running_tasks(PROXY)[0].id.clone());
    bench.passes_for(secs(20)).await;
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 1);
    bench.swarm.break_nothing();
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.live(), (second.bundle.generation(), second.bundle.generation(), 0));
    assert_eq!(bench.service_writes(), 1);
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_ends_once_or_late_is_bad_luck() {
    for (wait, soak) in [(5, 30), (40, 30), (5, 0)] {
        let (mut bench, app, _) = Bench::serving_demo().await;
        bench.settings.soak = secs(soak);
        bench.restart();
        let second = target("second", &[("demo", &app), ("shop", &app)]);
        bench.aim(&second);
        bench.until_in_step().await;
        if wait == 5 && soak == 30 {
            bench.passes_for(secs(wait)).await;
            bench.swarm.kill_task(&bench.swarm.running_tasks(PROXY)[0].id.clone());
        } else {
            bench.proxies_end_every(secs(wait), 1).await;
        }
        bench.passes_for(secs(60)).await;
        assert_eq!(bench.live(), (second.bundle.generation(), second.bundle.generation(), 0), "{wait} {soak}");
        assert_eq!(bench.service_writes(), 1);
        assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_whose_proxies_end_late_are_held_and_routes_go_on() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.roll_out_image("nginx:late").await;
    bench.proxies_end_every(secs(8), 1).await;
    bench.until("the settings are held", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
    let shop = target("shop", &[("demo", &app), ("shop", &app)]);
    bench.aim(&shop);
    bench.until("the route is there", |bench| bench.live().1 == shop.bundle.generation()).await;
    assert_eq!(bench.spec().await["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.28");
}

/// Routes that change meanwhile would be blamed for it.
#[tokio::test(start_paused = true)]
async fn settings_whose_proxies_end_late_are_blamed_for_it_although_routes_were_to_change() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.roll_out_image("nginx:late").await;
    for name in ["shop", "blog"] {
        bench.passes_for(secs(2)).await;
        bench.aim(&target(name, &[("demo", &app), (name, &app)]));
        bench.pass().await;
        assert!(matches!(bench.status().phase, Phase::Waiting { .. }), "{:?}", bench.status());
    }
    bench.proxies_end_every(secs(8), 1).await;
    let is_held = |bench: &Bench| matches!(&bench.status().phase, Phase::Held { blame: Blame::Settings, .. });
    bench.until("the settings are held", is_held).await;
    bench.until_in_step_but_held().await;
    let (live, last_good, holds) = bench.live();
    assert_eq!((live, last_good, holds), (bench.status().target.unwrap(), live, 0), "the last routes are there");
    assert_eq!(bench.spec().await["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.28");
}

#[tokio::test(start_paused = true)]
async fn new_settings_keep_routes_waiting_for_their_soak_and_others_at_once() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.roll_out_image("nginx:1.30").await;
    let (shop, blog) = (target("shop", &[("shop", &app)]), target("blog", &[("blog", &app)]));
    for (routes, wait) in [(&shop, 25..35), (&blog, 0..2)] {
        bench.aim(routes);
        let started = tokio::time::Instant::now();
        bench.until("it is written", |bench| bench.live().0 == routes.bundle.generation()).await;
        assert!(wait.contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        bench.until_in_step().await;
    }
}
