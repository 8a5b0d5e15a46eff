//! The observer's loop on a Swarm in memory, on paused time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dovetail_observer::{Observer, Proxies, Settings, ShortCircuits, observe_once};
use driver::{Pacing, Reporter, Status};
use embedded::{Call, Fault, ServiceBuilder, Swarm, Verb};
use model::{Addresses, Backends, ClusterName, Code, Desired, NetworkId, Scale, SecretId, Service, labels};
use swarm::{Class, TasksOf};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A change of a service is known after this long: the burst, and the calls.
const SOON: Duration = Duration::from_millis(200);
/// What raises no event is known after this long: the poll.
const POLL: Duration = Duration::from_millis(3200);
/// A pass after failures comes at the latest after this long.
const LONGEST_RETRY: Duration = Duration::from_secs(50);

/// A running observer.
struct World {
    swarm: Swarm,
    desired: watch::Receiver<Option<Arc<Desired>>>,
    addresses: watch::Receiver<Arc<BTreeMap<NetworkId, Addresses>>>,
    status: watch::Receiver<Status>,
    short_circuits: Arc<ShortCircuits>,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A swarm with the network `app`.
fn new_swarm() -> Swarm {
    let swarm = Swarm::new();
    swarm.create_network("app").unwrap();
    swarm
}

fn start(swarm: &Swarm) -> World {
    start_with(swarm, Settings::default())
}

fn start_with(swarm: &Swarm, settings: Settings) -> World {
    let (observer, desired) = Observer::new(swarm.clone(), settings);
    let (short_circuits, addresses) = (observer.short_circuits(), observer.addresses());
    let (reporter, status) = Reporter::new("observer");
    let stop = CancellationToken::new();
    tokio::spawn(driver::run(observer, Pacing::default(), reporter, stop.clone()));
    World { swarm: swarm.clone(), desired, addresses, status, short_circuits, stop }
}

fn task_mode(swarm: &Swarm, name: &str) -> ServiceBuilder {
    let host = format!("{name}.local");
    swarm.service(name).network("app").label(labels::HOSTS, &host).label(labels::PORT, "80")
}

fn vip_mode(swarm: &Swarm, name: &str) -> ServiceBuilder {
    task_mode(swarm, name).label(labels::BACKEND_MODE, "vip")
}

/// In task mode, with names and passwords.
fn with_secret(swarm: &Swarm, name: &str, secret: &str) -> ServiceBuilder {
    task_mode(swarm, name).label(labels::BASIC_AUTH, secret)
}

/// The secrets that are known.
fn named(desired: &Desired) -> Vec<(String, SecretId)> {
    desired.secrets.iter().map(|(name, id)| (name.to_string(), id.clone())).collect()
}

fn service<'a>(desired: &'a Desired, name: &str) -> Option<&'a Arc<Service>> {
    desired.services.values().find(|service| service.name == name)
}

/// How many tasks of a service are known; none if it is not in task mode, or if its list is stale.
fn tasks(desired: &Desired, name: &str) -> Option<usize> {
    match &service(desired, name)?.backends {
        Backends::Tasks { tasks, stale: false } => Some(tasks.len()),
        Backends::Tasks { .. } | Backends::Vip { .. } | Backends::Unread { .. } => None,
    }
}

/// Why a service is unread, if it is.
fn unread<'a>(desired: &'a Desired, name: &str) -> Option<&'a str> {
    match &service(desired, name)?.backends {
        Backends::Unread { reason } => Some(reason),
        Backends::Tasks { .. } | Backends::Vip { .. } => None,
    }
}

fn has_run(desired: &Desired, name: &str) -> bool {
    service(desired, name).is_some_and(|service| matches!(&service.backends, Backends::Vip { has_run: true, .. }))
}

impl World {
    /// Waits for a published value; panics if there is none in time.
    async fn within(&mut self, limit: Duration, what: &str, condition: impl Fn(&Desired) -> bool) -> Arc<Desired> {
        let found = timeout(limit, self.desired.wait_for(|desired| desired.as_ref().is_some_and(|d| condition(d))))
            .await
            .map(|found| found.expect("the observer runs").clone().expect("a value"));
        match found {
            Ok(desired) => desired,
            Err(_) => panic!("not within {limit:?}: {what}; published is {:#?}", self.desired.borrow()),
        }
    }

    fn nothing_published(&self) -> bool {
        !self.desired.has_changed().expect("the observer runs")
    }

    fn counted(&self, kind: &str, reason: &str) -> u64 {
        let lines = self.short_circuits.snapshot();
        lines.iter().find(|line| line.kind == kind && line.reason == reason).expect("a reason").count
    }

    fn made(&self, verb: Verb) -> usize {
        self.swarm.calls().iter().filter(|call| call.verb() == verb).count()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_published_at_the_start() {
    let swarm = new_swarm();
    task_mode(&swarm, "task").replicas(3).create().unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.service("bystander").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    let desired = world.within(SOON, "both candidates", |desired| desired.services.len() == 2).await;
    assert_eq!(tasks(&desired, "task"), Some(3));
    assert!(has_run(&desired, "vip"));
    let names: Vec<&str> = desired.networks.values().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["app"]);
    assert_eq!(*desired, observe_once(&swarm, BTreeMap::new()).await.unwrap().desired);
}

#[tokio::test(start_paused = true)]
async fn an_empty_cluster_is_an_answer_too() {
    let mut world = start(&new_swarm());
    let desired = world.within(SOON, "an empty answer", |_| true).await;
    assert_eq!(*desired, Desired::default());
}

#[tokio::test(start_paused = true)]
async fn nothing_falls_between_subscription_and_list() {
    let swarm = new_swarm();
    // Something happens after the list is read, and before its answer arrives.
    swarm.inject(Fault::on(Verb::Services).once().late(Duration::from_secs(1)));
    let mut world = start(&swarm);
    sleep(Duration::from_millis(500)).await;
    vip_mode(&swarm, "vip").create().unwrap();
    let limit = Duration::from_millis(500) + Duration::from_secs(1) + SOON;
    world.within(limit, "the service created meanwhile", |desired| service(desired, "vip").is_some()).await;
    let order: Vec<Verb> = swarm.calls().iter().map(Call::verb).collect();
    assert_eq!(order[..2], [Verb::Events, Verb::Services]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_before_everything_is_listed() {
    for (what, fault) in [("services", Fault::on(Verb::Services)), ("tasks", Fault::on(Verb::Tasks))] {
        let swarm = new_swarm();
        task_mode(&swarm, "task").create().unwrap();
        swarm.settled(LONGEST_RETRY).await;
        let fault = swarm.inject(fault.fail(Class::Unavailable));
        let mut world = start(&swarm);
        sleep(Duration::from_secs(60)).await;
        assert!(world.desired.borrow().is_none(), "without {what}");
        assert!(world.status.borrow().failures_in_a_row > 3, "without {what}");
        assert!(observe_once(&swarm, BTreeMap::new()).await.is_err(), "without {what}");
        fault.lift();
        world.within(LONGEST_RETRY, "the task", |desired| tasks(desired, "task") == Some(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_vip_service_is_published_and_then_left_alone() {
    let swarm = new_swarm();
    let mut world = start(&swarm);
    vip_mode(&swarm, "vip").replicas(4).create().unwrap();
    let before = world.within(POLL, "the VIP service runs", |desired| has_run(desired, "vip")).await;
    swarm.settled(LONGEST_RETRY).await;
    sleep(POLL).await;
    assert!(world.nothing_published());

    swarm.scale("vip", 2).unwrap();
    sleep(POLL).await;
    swarm.scale("vip", 6).unwrap();
    sleep(POLL).await;
    swarm.update_image("vip", "app:2").unwrap();
    swarm.settled(LONGEST_RETRY).await;
    swarm.set_env("vip", "A", "b").unwrap();
    swarm.settled(LONGEST_RETRY).await;
    swarm.set_label("vip", "team", "a").unwrap();
    sleep(POLL).await;
    swarm.remove_label("vip", "team").unwrap();
    sleep(POLL).await;
    for task in swarm.running_tasks("vip") {
        swarm.kill_task(&task.id);
    }
    sleep(Duration::from_secs(120)).await;
    assert!(world.nothing_published());
    assert!(Arc::ptr_eq(&before, world.desired.borrow().as_ref().unwrap()));
    assert_eq!(world.counted("spared", "replicas"), 2);
    assert_eq!(world.counted("spared", "task_template"), 2);
    assert_eq!(world.counted("spared", "labels"), 2);
    assert!(world.counted("spared", "running") >= 2);
    assert_eq!(world.made(Verb::Tasks), 0);

    // And yet it lives.
    swarm.set_label("vip", labels::PORT, "81").unwrap();
    world
        .within(SOON, "the new port", |desired| {
            service(desired, "vip").unwrap().asked.as_ref().is_ok_and(|request| request.port.get() == 81)
        })
        .await;
    assert_eq!(world.counted("routing", "routing_labels"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_edges_of_a_vip_service_are_published_once_each() {
    let swarm = new_swarm();
    swarm.create_network("other").unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "it runs", |desired| has_run(desired, "vip")).await;

    swarm.scale("vip", 0).unwrap();
    world.within(SOON, "it is at zero", |desired| service(desired, "vip").unwrap().scale == Scale::Zero).await;
    sleep(POLL).await;
    assert!(world.nothing_published());

    swarm.scale("vip", 2).unwrap();
    world.within(POLL, "it runs again", |desired| has_run(desired, "vip")).await;
    sleep(POLL).await;
    assert!(world.nothing_published());

    swarm.add_network("vip", "other").unwrap();
    world.within(SOON, "it is on two networks", |desired| desired.networks.len() == 2).await;
    swarm.settled(LONGEST_RETRY).await;
    world.within(POLL, "it has two addresses", |desired| {
        matches!(&service(desired, "vip").unwrap().backends, Backends::Vip { addresses, .. } if addresses.len() == 2)
    })
    .await;

    swarm.remove_service("vip").unwrap();
    let desired = world.within(SOON, "it is gone", |desired| desired.services.is_empty()).await;
    assert!(desired.networks.is_empty());
    assert_eq!(world.counted("routing", "service_removed"), 1);
    assert_eq!(world.counted("routing", "scaled_to_zero"), 1);
    assert_eq!(world.counted("routing", "scaled_up"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_global_vip_service_on_one_node_survives_its_updates() {
    let swarm = new_swarm();
    vip_mode(&swarm, "vip").global().create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "it runs", |desired| has_run(desired, "vip")).await;
    swarm.update_image("vip", "app:2").unwrap();
    sleep(Duration::from_secs(60)).await;
    swarm.kill_task(&swarm.running_tasks("vip")[0].id);
    sleep(Duration::from_secs(60)).await;
    assert!(world.nothing_published());
    swarm.drain("node-1").unwrap();
    world
        .within(Duration::from_secs(40), "it is at zero", |desired| {
            service(desired, "vip").unwrap().scale == Scale::Zero
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn scaling_in_task_mode_is_seen_within_a_second_of_its_tasks() {
    let swarm = new_swarm();
    task_mode(&swarm, "task").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "one task", |desired| tasks(desired, "task") == Some(1)).await;
    for replicas in [4, 2] {
        // Not in step with the poll.
        sleep(Duration::from_millis(10_700)).await;
        swarm.scale("task", replicas as u64).unwrap();
        swarm.eventually("its tasks run", |swarm| swarm.running_tasks("task").len() == replicas).await;
        world
            .within(Duration::from_secs(1), "they are known", |desired| tasks(desired, "task") == Some(replicas))
            .await;
    }
    // The wish for more is seen before they run; those to be gone are gone with the wish.
    assert_eq!(world.counted("spared", "replicas"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_in_task_mode_is_followed_closely() {
    let swarm = new_swarm();
    let update = serde_json::json!({ "Parallelism": 1, "Delay": 5_000_000_000_u64, "Order": "start-first" });
    task_mode(&swarm, "task").replicas(3).update_config(update).create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "three tasks", |desired| tasks(desired, "task") == Some(3)).await;
    swarm.update_image("task", "app:2").unwrap();
    let ids =
        |tasks: &[swarm::Task]| tasks.iter().map(|task| task.id.clone()).collect::<std::collections::BTreeSet<_>>();
    let known = |desired: &Desired| match &service(desired, "task").unwrap().backends {
        Backends::Tasks { tasks, .. } => tasks.iter().map(|task| task.id.clone()).collect(),
        Backends::Vip { .. } | Backends::Unread { .. } => std::collections::BTreeSet::new(),
    };
    let mut behind = Duration::ZERO;
    let mut worst = Duration::ZERO;
    for _ in 0..600 {
        let running = ids(&swarm.running_tasks("task"));
        let seen = known(world.desired.borrow().as_ref().unwrap());
        behind = if running == seen { Duration::ZERO } else { behind + Duration::from_millis(50) };
        worst = worst.max(behind);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(worst > Duration::ZERO, "the update moved nothing");
    assert!(worst <= Duration::from_secs(1), "what is known was behind for {worst:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_raises_no_event_and_is_found_by_the_poll() {
    let swarm = new_swarm();
    task_mode(&swarm, "task").replicas(2).create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "two tasks", |desired| tasks(desired, "task") == Some(2)).await;
    sleep(Duration::from_secs(60)).await;
    swarm.kill_task(&swarm.running_tasks("task")[0].id);
    world.within(POLL, "one task", |desired| tasks(desired, "task") == Some(1)).await;
    swarm.eventually("two run again", |swarm| swarm.running_tasks("task").len() == 2).await;
    world.within(Duration::from_secs(1), "two tasks", |desired| tasks(desired, "task") == Some(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_takes_its_tasks_along() {
    let swarm = new_swarm();
    swarm.add_node("node-2").unwrap();
    task_mode(&swarm, "task").replicas(2).create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "two tasks", |desired| tasks(desired, "task") == Some(2)).await;
    swarm.kill_node("node-2").unwrap();
    let limit = Duration::from_secs(15) + POLL;
    world.within(limit, "one task", |desired| tasks(desired, "task") == Some(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_list_of_tasks_keeps_them_stale_and_recovers() {
    let swarm = new_swarm();
    for number in 0..6 {
        task_mode(&swarm, &format!("task{number}")).create().unwrap();
    }
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "all tasks", |desired| (0..6).all(|n| tasks(desired, &format!("task{n}")) == Some(1))).await;

    // The lists of all tasks fail, and so do those of one service alone.
    let fault = swarm.inject(Fault::on(Verb::Tasks).fail(Class::Unavailable));
    let desired = world
        .within(POLL, "stale tasks", |desired| {
            (0..6).all(|number| match &service(desired, &format!("task{number}")).unwrap().backends {
                Backends::Tasks { tasks, stale } => *stale && tasks.len() == 1,
                Backends::Vip { .. } | Backends::Unread { .. } => false,
            })
        })
        .await;
    assert!(has_run(&desired, "vip"));
    // Nothing else stands still.
    swarm.set_label("vip", labels::PORT, "81").unwrap();
    world
        .within(SOON, "the new port", |desired| {
            service(desired, "vip").unwrap().asked.as_ref().is_ok_and(|request| request.port.get() == 81)
        })
        .await;
    sleep(Duration::from_secs(60)).await;
    assert!(world.nothing_published());
    fault.lift();
    world.within(POLL, "fresh tasks", |desired| (0..6).all(|n| tasks(desired, &format!("task{n}")) == Some(1))).await;
    // A good list without tasks does withdraw.
    swarm.inject(Fault::on(Verb::Tasks).nothing());
    world.within(POLL, "no tasks", |desired| tasks(desired, "task0") == Some(0)).await;
}

#[tokio::test(start_paused = true)]
async fn one_failing_list_makes_one_service_stale() {
    let swarm = new_swarm();
    let bad = task_mode(&swarm, "bad").create().unwrap();
    task_mode(&swarm, "good").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "both", |desired| tasks(desired, "good") == Some(1)).await;
    swarm.inject(Fault::when(move |call| *call == Call::Tasks(TasksOf::Service(bad.clone()))).fail(Class::Malformed));
    let desired = world.within(POLL, "the bad one is stale", |desired| tasks(desired, "bad").is_none()).await;
    assert_eq!(tasks(&desired, "good"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_withdraws_nothing() {
    let swarm = new_swarm();
    task_mode(&swarm, "task").replicas(2).create().unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "both", |desired| desired.services.len() == 2).await;
    swarm.engine_down();
    sleep(Duration::from_secs(30)).await;
    swarm.scale("task", 3).unwrap();
    sleep(Duration::from_secs(30)).await;
    assert!(world.nothing_published());
    assert!(world.status.borrow().failures_in_a_row > 3);
    swarm.engine_up();
    world.within(LONGEST_RETRY, "what happened meanwhile", |desired| tasks(desired, "task") == Some(3)).await;
    assert_eq!(swarm.open_event_streams(), 1);
    sleep(Duration::from_secs(20)).await;
    swarm.set_label("vip", labels::PORT, "81").unwrap();
    world.within(SOON, "an event", |desired| service(desired, "vip").unwrap().labels[labels::PORT] == "81").await;
}

#[tokio::test(start_paused = true)]
async fn a_network_is_not_taken_for_gone_while_there_is_no_leader() {
    let swarm = new_swarm();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    // Each time the leader is lost between the list and the lookup of the network, which answers 404 then.
    for pass in 0..20 {
        swarm.inject(Fault::on(Verb::Services).skip(pass + 1).once().fail(Class::Unavailable));
    }
    let lying = swarm.inject(Fault::on(Verb::Network).nothing());
    let mut world = start(&swarm);
    let what = "it is there, and nothing is said of its networks";
    let desired = world.within(SOON, what, |desired| unread(desired, "vip").is_some()).await;
    let key = swarm.network_id("app").unwrap();
    assert_eq!(unread(&desired, "vip").unwrap(), format!("its network {key} could not be read (unavailable)"));
    sleep(Duration::from_secs(30)).await;
    assert!(lying.hits() > 3);
    assert!(world.nothing_published());
    swarm.clear_faults();
    let desired = world.within(LONGEST_RETRY, "it runs", |desired| has_run(desired, "vip")).await;
    assert_eq!(desired.networks.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_really_not_there_is_left_out() {
    let swarm = new_swarm();
    let other = swarm.create_network("other").unwrap();
    vip_mode(&swarm, "vip").network("other").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    swarm.inject(Fault::when(move |call| *call == Call::Network(other.as_str().to_owned())).nothing());
    let mut world = start(&swarm);
    let desired = world.within(SOON, "it runs", |desired| has_run(desired, "vip")).await;
    assert_eq!(desired.networks.len(), 1);
    swarm.clear_faults();
    // Asked again once networks change.
    swarm.create_network("third").unwrap();
    world.within(SOON, "both networks", |desired| desired.networks.len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_unread_network_holds_back_its_service_alone() {
    for at_the_start in [false, true] {
        let swarm = new_swarm();
        let other = swarm.create_network("other").unwrap();
        let key = other.as_str().to_owned();
        let fault = swarm.inject(Fault::when(move |call| *call == Call::Network(key.clone())).fail(Class::Malformed));
        let services = || {
            vip_mode(&swarm, "held-back").network("other").create().unwrap();
            vip_mode(&swarm, "fine").create().unwrap();
        };
        let mut world = if at_the_start {
            services();
            swarm.settled(LONGEST_RETRY).await;
            start(&swarm)
        } else {
            let mut world = start(&swarm);
            world.within(SOON, "an empty answer", |_| true).await;
            services();
            world
        };
        let desired = world.within(POLL, "the other one", |desired| has_run(desired, "fine")).await;
        let reason = format!("its network {other} could not be read (malformed)");
        assert_eq!(unread(&desired, "held-back"), Some(reason.as_str()), "it is there, since it is not gone");
        let held_back = service(&desired, "held-back").unwrap();
        assert!(held_back.networks.is_empty(), "with one unread, the other would look like the only one");
        assert_eq!(*desired, observe_once(&swarm, BTreeMap::new()).await.unwrap().desired);
        sleep(Duration::from_secs(60)).await;
        assert!(world.nothing_published());
        fault.lift();
        world.within(POLL, "both", |desired| has_run(desired, "held-back")).await;
        assert_eq!(world.counted("routing", "service_read"), 1);

        // What is known of it stays when its networks change to one that cannot be read.
        let third = swarm.create_network("third").unwrap();
        let key = third.as_str().to_owned();
        swarm.inject(Fault::when(move |call| *call == Call::Network(key.clone())).fail(Class::Malformed));
        swarm.add_network("held-back", "third").unwrap();
        sleep(POLL).await;
        assert!(world.nothing_published());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_is_opened_again_and_everything_listed() {
    for (what, lose) in
        [("broken", Swarm::break_event_streams as fn(&Swarm)), ("ended", Swarm::end_event_streams as fn(&Swarm))]
    {
        let swarm = new_swarm();
        vip_mode(&swarm, "vip").create().unwrap();
        swarm.settled(LONGEST_RETRY).await;
        let mut world = start(&swarm);
        world.within(SOON, "it runs", |desired| has_run(desired, "vip")).await;
        sleep(Duration::from_secs(10)).await;
        swarm.clear_calls();
        lose(&swarm);
        sleep(SOON).await;
        assert_eq!(world.made(Verb::Events), 1, "{what}");
        assert_eq!(swarm.open_event_streams(), 1, "{what}");
        assert!(world.nothing_published(), "{what}");
        swarm.set_label("vip", labels::PORT, "81").unwrap();
        world.within(SOON, what, |desired| service(desired, "vip").unwrap().labels[labels::PORT] == "81").await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_events_the_poll_is_the_floor() {
    for (what, fault) in [
        ("refused", Fault::on(Verb::Events).fail(Class::Refused)),
        ("never established", Fault::on(Verb::Events).hang()),
    ] {
        let swarm = new_swarm();
        let fault = swarm.inject(fault);
        let mut world = start(&swarm);
        let deadline = Settings::default().event_deadline;
        world.within(deadline + SOON, what, |_| true).await;
        vip_mode(&swarm, "vip").create().unwrap();
        world.within(deadline + POLL, what, |desired| service(desired, "vip").is_some()).await;
        fault.lift();
        sleep(LONGEST_RETRY).await;
        assert_eq!(swarm.open_event_streams(), 1, "{what}");
        swarm.set_label("vip", labels::PORT, "81").unwrap();
        world.within(SOON, what, |desired| service(desired, "vip").unwrap().labels[labels::PORT] == "81").await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_never_come_are_made_up_for_by_the_poll() {
    let swarm = new_swarm();
    let mut world = start(&swarm);
    world.within(SOON, "an empty answer", |_| true).await;
    swarm.stall_event_streams();
    vip_mode(&swarm, "vip").create().unwrap();
    world.within(POLL, "the service", |desired| service(desired, "vip").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_at_once_does_not_make_it_spin() {
    let swarm = new_swarm();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "it runs", |desired| has_run(desired, "vip")).await;
    swarm.clear_calls();
    for _ in 0..1200 {
        swarm.break_event_streams();
        sleep(Duration::from_millis(50)).await;
    }
    let lists = world.made(Verb::Services);
    assert!((10..=45).contains(&lists), "{lists} lists in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_at_rest_is_asked_a_bounded_number_of_times() {
    for (task_services, services_per_minute, tasks_per_minute) in
        [(0, 20, 0), (1, 20, 20), (4, 20, 80), (5, 20, 20), (40, 20, 20)]
    {
        let swarm = new_swarm();
        for number in 0..task_services {
            task_mode(&swarm, &format!("task{number}")).create().unwrap();
        }
        vip_mode(&swarm, "vip").create().unwrap();
        swarm.settled(LONGEST_RETRY).await;
        let mut world = start(&swarm);
        world.within(SOON, "everything", |desired| desired.services.len() == task_services + 1).await;
        sleep(Duration::from_secs(20)).await;
        swarm.clear_calls();
        sleep(Duration::from_secs(60)).await;
        let services = world.made(Verb::Services);
        let tasks = world.made(Verb::Tasks);
        let all = swarm.calls().len();
        assert!(services <= services_per_minute, "{task_services} task services: {services} lists of services");
        assert!(tasks <= tasks_per_minute, "{task_services} task services: {tasks} lists of tasks");
        assert_eq!(all, services + tasks, "{:?}", swarm.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_engine_is_asked_less_often() {
    let swarm = new_swarm();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "it runs", |desired| has_run(desired, "vip")).await;
    swarm.inject(Fault::on(Verb::Services).slow(Duration::from_secs(2)));
    sleep(Duration::from_secs(30)).await;
    swarm.clear_calls();
    sleep(Duration::from_secs(220)).await;
    let at_rest = world.made(Verb::Services);
    assert!((9..=11).contains(&at_rest), "{at_rest} lists");
    swarm.clear_calls();
    // However much happens, it lists half of the time at most.
    for number in 0..440 {
        swarm.set_label("vip", "count", &number.to_string()).unwrap();
        sleep(Duration::from_millis(500)).await;
    }
    let busy = world.made(Verb::Services);
    assert!((20..=56).contains(&busy), "{busy} lists");
    assert!(world.nothing_published());
}

#[tokio::test(start_paused = true)]
async fn secrets_that_nobody_names_are_not_listed_and_wake_nobody() {
    let swarm = new_swarm();
    task_mode(&swarm, "task").create().unwrap();
    let refused = with_secret(&swarm, "refused", "users").label(labels::PORT, "x");
    refused.create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "both", |desired| desired.services.len() == 2).await;
    // In the middle between two polls.
    sleep(Duration::from_secs(19) + Duration::from_millis(500)).await;
    swarm.clear_calls();
    swarm.add_secret("secret").unwrap();
    swarm.delete_secret("secret").unwrap();
    swarm
        .add_config(&swarm::NewConfig { name: "c".into(), labels: Default::default(), data: b"x".as_slice().into() })
        .unwrap();
    sleep(SOON).await;
    assert_eq!(swarm.calls(), []);
    vip_mode(&swarm, "vip").create().unwrap();
    world.within(SOON, "an event that matters", |desired| service(desired, "vip").is_some()).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.made(Verb::Secrets), 0);
    assert!(world.desired.borrow().as_ref().unwrap().secrets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn secrets_that_are_named_are_followed() {
    let swarm = new_swarm();
    let users = swarm.add_secret("users").unwrap();
    swarm.add_secret("other").unwrap();
    with_secret(&swarm, "web", "users").label(labels::STACK, "shop").create().unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    let desired = world.within(SOON, "both", |desired| desired.services.len() == 2).await;
    assert_eq!(named(&desired), [("users".to_owned(), users.clone())]);
    assert_eq!(*desired, observe_once(&swarm, BTreeMap::new()).await.unwrap().desired);

    sleep(Duration::from_secs(20)).await;
    swarm.clear_calls();
    sleep(Duration::from_secs(60)).await;
    let lists = world.made(Verb::Secrets);
    assert!((15..=20).contains(&lists), "{lists} lists in a minute at rest");

    // Between two polls: it is the event that tells.
    sleep(Duration::from_millis(500)).await;
    let prefixed = swarm.add_secret("shop_users").unwrap();
    let desired = world.within(SOON, "with its stack's prefix", |desired| desired.secrets.len() == 2).await;
    assert_eq!(named(&desired), [("shop_users".to_owned(), prefixed), ("users".to_owned(), users.clone())]);
    swarm.delete_secret("users").unwrap();
    world.within(SOON, "one is gone", |desired| desired.secrets.len() == 1).await;
    swarm.lose_events(1);
    let again = swarm.add_secret("users").unwrap();
    world.within(POLL, "without an event", |desired| desired.secrets.values().any(|id| *id == again)).await;
    assert_eq!(world.counted("routing", "secret_changed"), 3);

    // What is nobody's business does not reach routing.
    swarm.label_secret("users").unwrap();
    swarm.add_secret("third").unwrap();
    swarm.delete_secret("other").unwrap();
    sleep(POLL).await;
    assert!(world.nothing_published());
    swarm.remove_label("web", labels::BASIC_AUTH).unwrap();
    world.within(SOON, "nobody names one", |desired| desired.secrets.is_empty()).await;
    swarm.clear_calls();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.made(Verb::Secrets), 0);
}

#[tokio::test(start_paused = true)]
async fn a_secret_comes_with_the_label_that_names_it_or_later() {
    let swarm = new_swarm();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "it runs", |desired| has_run(desired, "vip")).await;
    swarm.set_label("vip", labels::SSL_CERT, "app.cert").unwrap();
    let desired = world
        .within(SOON, "the label", |desired| {
            service(desired, "vip").unwrap().asked.as_ref().is_ok_and(|request| !request.options.secrets().is_empty())
        })
        .await;
    assert!(desired.secrets.is_empty());
    let cert = swarm.add_secret("app.cert").unwrap();
    let desired = world.within(SOON, "the secret", |desired| !desired.secrets.is_empty()).await;
    assert_eq!(named(&desired), [("app.cert".to_owned(), cert)]);
    let key = swarm.add_secret("app.key").unwrap();
    swarm.set_label("vip", labels::SSL_KEY, "app.key").unwrap();
    let desired = world.within(SOON, "the key", |desired| desired.secrets.len() == 2).await;
    assert!(named(&desired).contains(&("app.key".to_owned(), key)));
    assert_eq!(world.counted("routing", "secret_changed"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_list_of_secrets_keeps_the_last_and_holds_back_new_names_alone() {
    let swarm = new_swarm();
    let users = swarm.add_secret("users").unwrap();
    with_secret(&swarm, "web", "users").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "it runs", |desired| tasks(desired, "web") == Some(1)).await;
    let fault = swarm.inject(Fault::on(Verb::Secrets).fail(Class::Unavailable));
    swarm.delete_secret("users").unwrap();
    sleep(Duration::from_secs(30)).await;
    assert!(world.nothing_published());
    assert!(fault.hits() > 3);

    // Tasks of a service with secrets are followed, and so is who names none or the same.
    swarm.scale("web", 2).unwrap();
    let second = with_secret(&swarm, "second", "users");
    second.create().unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    with_secret(&swarm, "held-back", "more").create().unwrap();
    let desired = world
        .within(Duration::from_secs(10), "all but one", |desired| {
            tasks(desired, "web") == Some(2) && tasks(desired, "second") == Some(1) && has_run(desired, "vip")
        })
        .await;
    assert_eq!(named(&desired), [("users".to_owned(), users)]);
    let reason = Some("the secrets that it names could not be listed");
    assert_eq!(unread(&desired, "held-back"), reason, "whether its secret exists is not known");
    // A fresh process knows nothing of secrets: who names none is published, and the others are not gone.
    for desired in [
        observe_once(&swarm, BTreeMap::new()).await.unwrap().desired,
        (*start(&swarm).within(SOON, "the start", |_| true).await).clone(),
    ] {
        assert!(has_run(&desired, "vip"));
        for name in ["web", "second", "held-back"] {
            assert_eq!(unread(&desired, name), reason);
        }
    }
    fault.lift();
    let desired = world.within(POLL, "the list", |desired| unread(desired, "held-back").is_none()).await;
    assert!(desired.secrets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn secrets_that_may_not_be_seen_keep_nobody_else_from_being_published() {
    let swarm = new_swarm();
    swarm.add_secret("users").unwrap();
    with_secret(&swarm, "web", "users").create().unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let fault = swarm.inject(Fault::on(Verb::Secrets).fail(Class::Refused));
    let mut world = start(&swarm);
    let desired = world.within(SOON, "both", |desired| desired.services.len() == 2).await;
    assert!(desired.secrets.is_empty());
    fault.lift();
    world.within(POLL, "the secret", |desired| desired.secrets.len() == 1).await;
    // What was seen once is not withdrawn for that.
    swarm.inject(Fault::on(Verb::Secrets).fail(Class::Refused));
    sleep(Duration::from_secs(60)).await;
    assert!(world.nothing_published());
    swarm.set_label("vip", labels::PORT, "81").unwrap();
    let desired =
        world.within(SOON, "an event", |desired| service(desired, "vip").unwrap().labels[labels::PORT] == "81").await;
    assert_eq!(desired.secrets.len(), 1);
}

/// Where the tasks of a service are reached at their nodes.
fn at_nodes(desired: &Desired, name: &str) -> Vec<String> {
    let Some(Backends::Tasks { tasks, .. }) = service(desired, name).map(|service| &service.backends) else {
        return Vec::new();
    };
    let at = tasks.iter().filter_map(|task| task.at_node);
    let mut at: Vec<String> = at.filter_map(|at| Some(format!("{}:{}", at.address?, at.port?))).collect();
    at.sort();
    at
}

#[tokio::test(start_paused = true)]
async fn nodes_are_listed_for_services_that_are_reached_at_them_and_then_rarely() {
    let swarm = new_swarm();
    task_mode(&swarm, "web").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "it runs", |desired| tasks(desired, "web") == Some(1)).await;
    sleep(Duration::from_secs(90)).await;
    assert_eq!(world.made(Verb::Nodes), 0, "nobody needs them");

    swarm
        .service("on-nodes")
        .host_port(8080)
        .label(labels::HOSTS, "n.local")
        .label(labels::PORT, "8080")
        .create()
        .unwrap();
    let found = |desired: &Desired| at_nodes(desired, "on-nodes") == ["172.20.0.1:8080"];
    let desired = world.within(POLL, "at its node", found).await;
    assert_eq!(*desired, observe_once(&swarm, BTreeMap::new()).await.unwrap().desired);
    swarm.clear_calls();
    sleep(Duration::from_secs(120)).await;
    let lists = world.made(Verb::Nodes);
    assert!((1..=2).contains(&lists), "{lists} lists in two minutes at rest");
    assert!(world.nothing_published());

    // A node that nobody has heard of.
    swarm.add_node("second").unwrap();
    swarm.scale("on-nodes", 2).unwrap();
    let both = |desired: &Desired| at_nodes(desired, "on-nodes") == ["172.20.0.1:8080", "172.20.0.2:8080"];
    world.within(POLL, "at both", both).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_list_of_nodes_keeps_what_was_known_and_holds_back_those_on_new_nodes_alone() {
    let swarm = new_swarm();
    let on_nodes = |name: &str, port: u16| {
        let service = swarm.service(name).host_port(port).label(labels::HOSTS, &format!("{name}.local"));
        service.label(labels::PORT, &port.to_string()).create().unwrap();
    };
    on_nodes("web", 80);
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "it runs", |desired| at_nodes(desired, "web") == ["172.20.0.1:80"]).await;
    let fault = swarm.inject(Fault::on(Verb::Nodes).fail(Class::Unavailable));
    sleep(Duration::from_secs(130)).await;
    assert!(world.nothing_published() && fault.hits() > 0);
    // A fresh process knows no addresses: it withdraws nothing for that.
    let fresh = observe_once(&swarm, BTreeMap::new()).await.unwrap().desired;
    assert_eq!(unread(&fresh, "web"), Some("the addresses of its nodes could not be listed"));
    assert!(has_run(&fresh, "vip"));
    fault.lift();
    let refusal = swarm.inject(Fault::on(Verb::Nodes).fail(Class::Refused));
    sleep(Duration::from_secs(70)).await;
    assert!(world.nothing_published(), "what was seen once stays");
    let fresh = observe_once(&swarm, BTreeMap::new()).await.unwrap().desired;
    assert_eq!((unread(&fresh, "web"), at_nodes(&fresh, "web")), (None, Vec::new()));
    refusal.lift();
    on_nodes("more", 81);
    world.within(POLL, "another one", |desired| at_nodes(desired, "more") == ["172.20.0.1:81"]).await;
}

#[tokio::test(start_paused = true)]
async fn labels_that_come_and_go_are_followed() {
    let swarm = new_swarm();
    swarm.service("web").network("app").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(SOON, "nobody asks", |desired| desired.services.is_empty()).await;
    swarm.set_label("web", labels::HOSTS, "a;b{}").unwrap();
    let desired = world.within(SOON, "it asks", |desired| service(desired, "web").is_some()).await;
    let codes: Vec<Code> =
        service(&desired, "web").unwrap().asked.as_ref().unwrap_err().iter().map(|p| p.code).collect();
    assert_eq!(codes, [Code::BadHost, Code::MissingPort]);
    assert_eq!(world.counted("routing", "labels_added"), 1);
    swarm.set_label("web", labels::HOSTS, "a.local").unwrap();
    swarm.set_label("web", labels::PORT, "80").unwrap();
    world.within(SOON, "it is routed", |desired| tasks(desired, "web") == Some(1)).await;
    swarm.remove_label("web", labels::HOSTS).unwrap();
    world.within(SOON, "it asks no more", |desired| desired.services.is_empty()).await;
    assert_eq!(world.counted("routing", "labels_removed"), 1);
}

#[tokio::test(start_paused = true)]
async fn how_full_a_network_is_wakes_nobody_but_for_its_edge_before_the_proxies_are_on_it() {
    let swarm = new_swarm();
    let small = swarm.create_network_sized("small", 28).unwrap();
    let main = ClusterName::parse("main").unwrap();
    let two =
        Proxies { service: "proxy".into(), service_cluster: String::new(), replicas: Some(2), surge: 1, vip: true };
    let settings = Settings { proxies: BTreeMap::from([(main.clone(), two)]), ..Settings::default() };
    swarm
        .service("vip")
        .network("small")
        .replicas(2)
        .label(labels::HOSTS, "vip.local")
        .label(labels::PORT, "80")
        .label(labels::BACKEND_MODE, "vip")
        .create()
        .unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start_with(&swarm, settings);
    world.within(SOON, "it runs", |desired| has_run(desired, "vip")).await;
    let room = |desired: &Desired| desired.networks[&small].no_room_for.is_empty();
    let taken = |world: &mut World| world.addresses.borrow_and_update()[&small].taken;
    // Its virtual address, its tasks, their node: of 13, and five are needed, the node's among them.
    for (replicas, expected) in [(3, 5), (7, 9), (4, 6)] {
        swarm.scale("vip", replicas).unwrap();
        sleep(POLL + POLL).await;
        assert_eq!(taken(&mut world), expected);
        assert!(world.nothing_published(), "{replicas} replicas");
    }
    swarm.scale("vip", 8).unwrap();
    let desired = world.within(SOON, "it is too full", |desired| !room(desired)).await;
    let shortage = &desired.networks[&small].no_room_for[&main];
    assert_eq!((shortage.addresses, shortage.needed), (13, 5));
    assert_eq!(shortage.subnets, ["10.0.2.0/28"]);
    swarm.scale("vip", 20).unwrap();
    sleep(POLL).await;
    assert!(world.nothing_published());
    assert_eq!(taken(&mut world), 13);
    swarm.scale("vip", 7).unwrap();
    world.within(POLL + POLL, "there is room again", room).await;
    assert_eq!(world.counted("routing", "network_room"), 2);

    // Once the proxies are on it, no edge matters.
    swarm.service("proxy").network("small").replicas(2).create().unwrap();
    sleep(POLL).await;
    assert!(world.nothing_published());
    for replicas in [20, 1, 9] {
        swarm.scale("vip", replicas).unwrap();
        sleep(POLL + POLL).await;
        assert!(world.nothing_published(), "{replicas} replicas");
    }
    assert_eq!(world.counted("routing", "network_room"), 2);
}
