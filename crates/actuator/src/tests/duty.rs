//! What people on call do and meet: pauses, retries, two operators, notes that cannot be made.

use embedded::{Fault, Verb};
use model::labels;
use swarm::Class;

use super::*;
use crate::status::Outcome;
use crate::{Fence, Kind, orders};

pub(super) fn kinds(bench: &Bench, outcome: Outcome) -> Vec<(Kind, u64)> {
    let counted = Kind::ALL.iter().map(|kind| (*kind, bench.counters().rollouts(outcome, *kind)));
    counted.filter(|(_, count)| *count > 0).collect()
}

impl Bench {
    async fn order(&self, order: impl Fn(&crate::Inventory) -> Vec<crate::Step>) {
        for _ in 0..3 {
            let inventory = inspect(&self.swarm, &self.settings).await.unwrap();
            let steps = order(&inventory);
            if steps.is_empty() {
                return self.swarm.clear_calls();
            }
            let executed = crate::execute(&self.swarm, &steps, None, &Counters::default()).await;
            assert_eq!(executed.error, None);
        }
        panic!("an order is two writes at most");
    }

    pub(super) async fn pause(&self, words: &str) {
        self.order(|inventory| orders::pause(inventory, &self.settings, words).unwrap().into_iter().collect()).await;
    }

    pub(super) async fn resume(&self) {
        self.order(|inventory| orders::resume(inventory, &self.settings).unwrap().into_iter().collect()).await;
    }

    async fn release(&self) {
        let now = crate::moment::Clock::start().now();
        self.order(|inventory| orders::release(inventory, &self.settings, now)).await;
    }

    fn is_paused(&self) -> bool {
        matches!(self.status().phase, Phase::Paused { .. })
    }

    /// Another operator on the same swarm, started at this time in milliseconds since 1970.
    fn operator(swarm: &Swarm, started: u64) -> Self {
        let mut settings = settings();
        settings.operator = Some(Fence::new(Duration::from_millis(started), 7));
        Self::with(swarm.clone(), settings)
    }
}

// === Pause ===

#[tokio::test(start_paused = true)]
async fn while_paused_nothing_is_written_and_resumed_it_catches_up() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    let tasks: BTreeSet<_> = bench.swarm.running_tasks(PROXY).into_iter().map(|task| task.id).collect();
    bench.pause("ops: freeze").await;
    for name in ["a", "b", "c"] {
        bench.aim(&target(name, &[("demo", &app), (name, &app)]));
        bench.passes_for(secs(20)).await;
    }
    assert_eq!(bench.writes(), []);
    let last = target("c", &[("demo", &app), ("c", &app)]);
    assert_eq!(bench.status().phase, Phase::Paused { reason: "ops: freeze".into(), waiting: 3 });
    assert_eq!(bench.live().0, demo.bundle.generation());
    assert_eq!(bench.status().target, Some(last.bundle.generation()), "what is wanted is still computed");
    let plan = bench.plan(&last).await;
    assert_eq!((plan.steps.len(), plan.waiting.len()), (0, 3), "two objects and the service");
    let after: BTreeSet<_> = bench.swarm.running_tasks(PROXY).into_iter().map(|task| task.id).collect();
    assert_eq!(after, tasks, "no proxy noticed");

    // A fresh process finds the pause too.
    bench.restart();
    bench.passes_for(secs(60)).await;
    assert!(bench.is_paused());
    assert_eq!(bench.writes(), []);

    bench.resume().await;
    bench.until_in_step().await;
    assert_eq!(bench.service_writes(), 1);
    assert_eq!(bench.live().0, last.bundle.generation());
    assert!(bench.spec().await["Labels"].get(labels::PAUSED).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_the_middle_of_a_bad_rollout_leaves_it_to_people() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    bench.break_on("broken");
    bench.aim(&target("bad", &[("broken", &app), ("demo", &app)]));
    bench.pass().await;
    assert_eq!(bench.service_writes(), 1);
    bench.pause("look at it first").await;
    bench.passes_for(secs(200)).await;
    assert_eq!(bench.writes(), [], "neither a hold nor the last good");
    assert!(bench.is_paused());
    bench.resume().await;
    bench
        .until("the last good is back", |bench| bench.live() == (demo.bundle.generation(), demo.bundle.generation(), 1))
        .await;
    bench.until("all run", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);
    assert_eq!(kinds(&bench, Outcome::Failed), [(Kind::Service, 1)], "told once");
}

#[tokio::test(start_paused = true)]
async fn proxies_that_end_late_during_a_pause_are_taken_back_afterwards() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    bench.aim(&target("late", &[("demo", &app), ("late", &app)]));
    bench.until_in_step().await;
    bench.pause("look at it first").await;
    bench.passes_for(secs(5)).await;
    for task in bench.swarm.running_tasks(PROXY) {
        bench.swarm.kill_task(&task.id);
    }
    // For longer than they would be watched.
    bench.passes_for(secs(100)).await;
    assert!(bench.is_paused());
    assert_eq!(kinds(&bench, Outcome::Failed), [], "it is told when it can be written down");
    bench.resume().await;
    bench
        .until("the last good is back", |bench| bench.live() == (demo.bundle.generation(), demo.bundle.generation(), 1))
        .await;
    assert_eq!(kinds(&bench, Outcome::Failed), [(Kind::Service, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_by_hand_during_a_pause_is_held_to_afterwards() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    let bad = target("second", &[("demo", &app), ("shop", &app)]);
    bench.aim(&bad);
    bench.until_in_step().await;
    // Docker keeps one spec to go back to, so the pause comes after the rollback.
    bench.swarm.rollback_service(PROXY).unwrap();
    bench.passes_for(secs(6)).await;
    bench.pause("rolled back").await;
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.writes(), []);
    bench.resume().await;
    bench.passes_for(secs(200)).await;
    assert_eq!(bench.service_writes(), 0, "it is not fought");
    assert_eq!(bench.live(), (demo.bundle.generation(), demo.bundle.generation(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_pause_needs_a_service_and_says_so() {
    let bench = Bench::new();
    let nothing = inspect(&bench.swarm, &bench.settings).await.unwrap();
    let refused = orders::pause(&nothing, &bench.settings, "x").unwrap_err();
    assert!(refused.contains("has no proxy service dovetail-proxy yet"), "{refused}");
    assert_eq!(orders::resume(&nothing, &bench.settings), Ok(None));

    let (bench, ..) = Bench::serving_demo().await;
    bench.pause("x").await;
    let paused = inspect(&bench.swarm, &bench.settings).await.unwrap();
    assert_eq!(orders::pause(&paused, &bench.settings, "x"), Ok(None), "said already");
    let again = orders::pause(&paused, &bench.settings, "y").unwrap().expect("other words are written");
    assert_eq!(serde_json::to_value(&again).unwrap()["step"], "label_service");
    bench.resume().await;
    let resumed = inspect(&bench.swarm, &bench.settings).await.unwrap();
    assert_eq!(orders::resume(&resumed, &bench.settings), Ok(None));

    // Somebody else's service is left alone.
    let swarm = Swarm::new();
    swarm.service(PROXY).create().unwrap();
    let foreign = inspect(&swarm, &bench.settings).await.unwrap();
    assert!(orders::pause(&foreign, &bench.settings, "x").is_err());
    assert!(orders::resume(&foreign, &bench.settings).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_order_loses_no_race() {
    let (bench, ..) = Bench::serving_demo().await;
    let inventory = inspect(&bench.swarm, &bench.settings).await.unwrap();
    bench.swarm.scale(PROXY, 3).unwrap();
    let steps: Vec<_> = orders::pause(&inventory, &bench.settings, "x").unwrap().into_iter().collect();
    let executed = crate::execute(&bench.swarm, &steps, None, &Counters::default()).await;
    assert_eq!(executed.error.map(|error| error.class), Some(Class::Conflict));
    bench.pause("x").await;
    assert_eq!(bench.spec().await["Mode"]["Replicated"]["Replicas"], 3);
}

// === Retry ===

#[tokio::test(start_paused = true)]
async fn a_retry_ends_the_holds_for_a_fresh_process_too() {
    for restart in [false, true] {
        a_retry_ends_the_holds(restart).await;
    }
}

async fn a_retry_ends_the_holds(restart: bool) {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.break_on("broken");
    let bad = target("bad", &[("broken", &app), ("demo", &app)]);
    bench.aim(&bad);
    bench.until("it is held", |bench| bench.live().2 == 1).await;
    bench.passes_for(secs(60)).await;
    bench.swarm.break_nothing();
    let inventory = inspect(&bench.swarm, &bench.settings).await.unwrap();
    let since = secs(inventory.objects.held().next().expect("there is one").since);
    let ahead = crate::moment::Moment(since + bench.settings.hold_retry + secs(30));
    let steps = orders::release(&inventory, &bench.settings, ahead);
    assert_eq!(steps.len(), 1, "due by the clock of who orders, and perhaps not by the operator's");
    bench.release().await;
    if restart {
        bench.restart();
    }
    bench.passes_for(secs(60)).await;
    assert!(bench.is_in_step());
    assert_eq!(bench.service_writes(), 1);
    assert_eq!(bench.live(), (bad.bundle.generation(), bad.bundle.generation(), 0));
    let inventory = inspect(&bench.swarm, &bench.settings).await.unwrap();
    assert_eq!(orders::release(&inventory, &bench.settings, crate::moment::Clock::start().now()), []);
}

#[tokio::test(start_paused = true)]
async fn what_fails_again_is_held_for_longer_although_others_served_meanwhile() {
    for released in [false, true] {
        let (mut bench, app, _) = Bench::serving_demo().await;
        bench.break_on("broken");
        let bad = target("bad", &[("broken", &app), ("demo", &app)]);
        let without = target("without", &[("demo", &app), ("shop", &app)]);
        for attempts in 1..=3 {
            bench.aim(&bad);
            bench
                .until("it is held", |bench| bench.status().holds.first().is_some_and(|hold| hold.attempts == attempts))
                .await;
            bench.aim(&without);
            bench.until_in_step().await;
            if released {
                bench.release().await;
            } else {
                bench.passes_for(secs(700 << (attempts - 1))).await;
            }
            bench.passes_for(secs(60)).await;
            assert_eq!(bench.live().2, 0, "it is due");
        }
        bench.restart_later(secs(7 * 60 * 60));
        bench.until_in_step().await;
        let configs = bench.swarm.all_configs();
        assert!(configs.iter().all(|config| !config.labels.contains_key(labels::HELD)), "at last it is forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_ends_what_was_rolled_back_by_hand_too() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    let second = target("second", &[("demo", &app), ("shop", &app)]);
    bench.aim(&second);
    bench.until_in_step().await;
    bench.swarm.rollback_service(PROXY).unwrap();
    bench.passes_for(secs(100)).await;
    assert_eq!(bench.live().2, 1);
    bench.release().await;
    bench.until_in_step().await;
    assert_eq!(bench.live().0, second.bundle.generation());
}

// === Two operators ===

#[tokio::test(start_paused = true)]
async fn of_two_operators_the_later_one_writes_and_a_fresh_cluster_gets_one_rollout() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    let (mut old, mut new) = (Bench::operator(&swarm, 1000), Bench::operator(&swarm, 2000));
    let first = target("first", &[("demo", &app)]);
    for bench in [&old, &new] {
        bench.aim(&first);
    }
    // Both find nothing and both want to create: one loses the race.
    let both_looked = swarm.inject(Fault::on(Verb::CreateConfig).slow(Duration::from_millis(50)));
    for _ in 0..60 {
        tokio::join!(old.pass(), new.pass());
    }
    both_looked.lift();
    new.until_in_step().await;
    assert!(old.is_in_step() || matches!(old.status().phase, Phase::Fenced { .. }), "{:?}", old.status());
    let spec = swarm.raw_service(PROXY).await.unwrap().unwrap();
    assert_eq!(spec.previous_spec, None, "the service was created, and never updated");

    // The later one's next real write takes over; the older one idles and says so.
    new.aim(&target("second", &[("demo", &app), ("shop", &app)]));
    new.until_in_step().await;
    swarm.clear_calls();
    old.aim(&target("third", &[("demo", &app)]));
    old.passes_for(secs(120)).await;
    assert_eq!(swarm.writes(), []);
    assert!(matches!(old.status().phase, Phase::Fenced { .. }), "{:?}", old.status());
    assert!(matches!(*old.outputs.published.borrow(), Some(Published::Live { .. })), "it goes on looking");

    // Started again, it is the later one.
    swarm.clear_calls();
    old.restart();
    old.until_in_step().await;
    assert_eq!(old.service_writes(), 1);
    new.passes_for(secs(20)).await;
    assert!(matches!(new.status().phase, Phase::Fenced { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_fence_alone_is_never_written() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    let first = target("first", &[("demo", &app)]);
    let mut bench = Bench::operator(&swarm, 1000);
    bench.aim(&first);
    bench.until_in_step().await;
    let fence = Fence::read(&bench.spec().await).expect("it was left by the creation");
    for started in [500, 1000, 5000] {
        let mut bench = Bench::operator(&swarm, started);
        bench.aim(&first);
        swarm.clear_calls();
        bench.passes_for(secs(60)).await;
        assert_eq!(bench.writes(), [], "{started}");
        assert!(bench.is_in_step(), "{started}");
    }
    // A machine whose clock is behind takes over all the same.
    let mut behind = Bench::operator(&swarm, 1);
    behind.aim(&target("second", &[("demo", &app), ("shop", &app)]));
    behind.until_in_step().await;
    assert!(Fence::read(&behind.spec().await) > Some(fence));
    bench.passes_for(secs(20)).await;
    assert!(matches!(bench.status().phase, Phase::Fenced { .. }));
}

// === Kinds ===

#[tokio::test(start_paused = true)]
async fn rollouts_are_counted_by_what_they_were_for() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    let shop = bench.swarm.create_network("shop").unwrap();
    bench.aim(&target("service", &[("demo", &app), ("shop", &app)]));
    bench.until_in_step().await;
    bench.aim(&target("network", &[("demo", &app), ("shop", &shop)]));
    bench.until_in_step().await;
    let mut changed = target("tasks, then a host", &[("demo", &app), ("shop", &shop)]);
    let changes: [fn(&mut Contribution); 2] = [
        |demo| {
            demo.endpoints.insert("10.0.0.10:8080".parse().unwrap());
        },
        |demo| {
            demo.hosts.insert(Host::parse("more.example.org").unwrap());
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let bundle = Arc::make_mut(&mut changed.bundle);
        bundle.files.insert("/etc/nginx/routes.conf".into(), File::new(format!("change {number}").into_bytes()));
        let manifest = Arc::make_mut(&mut bundle.manifest);
        manifest.generation = Bundle::digest(&bundle.files, &bundle.networks, &bundle.secrets);
        let published = manifest.services.get_mut(&ServiceId::new("id-demo")).unwrap();
        change(Arc::make_mut(&mut Arc::make_mut(published).contribution));
        bench.aim(&changed);
        bench.until_in_step().await;
    }
    bench.settings.proxy.env.insert("A".into(), "1".into());
    // A counter is the process's own: what it counts is not lost, only the process is.
    let counted = kinds(&bench, Outcome::Completed);
    assert_eq!(counted, [(Kind::First, 1), (Kind::Network, 1), (Kind::Service, 2), (Kind::Tasks, 1)]);
    bench.restart();
    bench
        .until("the variable is there", |bench| bench.is_in_step() && kinds(bench, Outcome::Completed).len() == 1)
        .await;
    assert_eq!(kinds(&bench, Outcome::Completed), [(Kind::Settings, 1)]);
    bench
        .swarm
        .service_update_raw(PROXY, |spec| {
            spec["TaskTemplate"]["ContainerSpec"]["Configs"].as_array_mut().unwrap().pop();
        })
        .unwrap();
    bench.until("it is repaired", |bench| kinds(bench, Outcome::Completed).len() == 2).await;
    assert!(kinds(&bench, Outcome::Completed).contains(&(Kind::Repair, 1)));
    drop(demo);
}

// === Notes that cannot be made ===

#[tokio::test(start_paused = true)]
async fn a_hold_that_cannot_be_written_does_not_keep_the_last_good_from_coming_back() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    let mut pause = bench.settings.clone();
    pause.proxy.update.failure_action = crate::settings::FailureAction::Pause;
    bench.settings = pause;
    bench.restart();
    bench.until_in_step().await;
    bench.swarm.clear_calls();
    bench.break_on("broken");
    let refused = bench.swarm.inject(Fault::on(Verb::LabelConfig).fail(Class::Refused));
    bench.aim(&target("bad", &[("broken", &app), ("demo", &app)]));
    bench.until("the last good is written", |bench| bench.service_writes() == 2).await;
    bench.passes_for(secs(120)).await;
    assert_eq!(bench.live(), (demo.bundle.generation(), demo.bundle.generation(), 1));
    assert!(matches!(bench.status().phase, Phase::Held { .. }), "{:?}", bench.status());
    assert_eq!((bench.service_writes(), refused.hits()), (2, 1), "it is remembered without");
    let verbs = bench.writes();
    let label = verbs.iter().position(|verb| *verb == Verb::LabelConfig).unwrap();
    assert_eq!(verbs[label + 1], Verb::UpdateService, "in the same pass");
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);

    // With the rights the second failure is written down, and what was remembered does not stand in its way.
    refused.lift();
    bench.until("it is tried again", |bench| bench.service_writes() == 3).await;
    bench.until("it is held again", |bench| bench.status().holds.first().is_some_and(|hold| hold.attempts == 2)).await;
    bench.passes_for(secs(60)).await;
    let configs = bench.swarm.configs(&bench.settings.instance).await.unwrap();
    let attempts: Vec<&String> = configs.iter().filter_map(|config| config.labels.get(labels::HELD_ATTEMPTS)).collect();
    assert_eq!(attempts, ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_be_written_is_an_error() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.break_on("broken");
    bench.aim(&target("bad", &[("broken", &app), ("demo", &app)]));
    bench.until("it is held", |bench| bench.live().2 == 1).await;
    bench.swarm.inject(Fault::on(Verb::LabelConfig).fail(Class::Refused));
    let inventory = inspect(&bench.swarm, &bench.settings).await.unwrap();
    let steps = orders::release(&inventory, &bench.settings, crate::moment::Clock::start().now());
    let executed = crate::execute(&bench.swarm, &steps, None, &Counters::default()).await;
    assert_eq!(executed.error.map(|error| error.class), Some(Class::Refused));
}
