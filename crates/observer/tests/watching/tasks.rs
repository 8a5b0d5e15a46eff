//! Services in task mode.

use std::time::Duration;

use dovetail_observer::{Completeness, Settings, observe_once};
use embedded::{Call, Fault, Verb};
use model::{Backends, Desired, labels};
use swarm::{Class, TasksOf};
use tokio::time::{Instant, sleep};

use crate::{LONGEST_RETRY, POLL, SOON, has_run, new_swarm, service, start, start_at_rest, task_mode, tasks, vip_mode};

#[tokio::test(start_paused = true)]
async fn scaling_in_task_mode_is_seen_within_a_second_of_its_tasks() {
    let swarm = new_swarm();
    task_mode(&swarm, "task").create().unwrap();
    let mut world = start_at_rest(&swarm, "one task", |desired| tasks(desired, "task") == Some(1)).await;
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
    let world = start_at_rest(&swarm, "three tasks", |desired| tasks(desired, "task") == Some(3)).await;
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
    let mut world = start_at_rest(&swarm, "two tasks", |desired| tasks(desired, "task") == Some(2)).await;
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
    let mut world = start_at_rest(&swarm, "two tasks", |desired| tasks(desired, "task") == Some(2)).await;
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
    let mut world =
        start_at_rest(&swarm, "all tasks", |desired| (0..6).all(|n| tasks(desired, &format!("task{n}")) == Some(1)))
            .await;

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
    let Completeness { last, gap } = world.completeness.borrow().clone();
    assert!(
        last.is_some_and(|last| last.elapsed() > Duration::from_secs(60)),
        "a pass with gaps is no complete reading"
    );
    assert!(gap.is_some_and(|gap| gap.contains("injected")));
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
    let mut world = start_at_rest(&swarm, "both", |desired| tasks(desired, "good") == Some(1)).await;
    swarm.inject(Fault::when(move |call| *call == Call::Tasks(TasksOf::Service(bad.clone()))).fail(Class::Malformed));
    let desired = world.within(POLL, "the bad one is stale", |desired| tasks(desired, "bad").is_none()).await;
    assert_eq!(tasks(&desired, "good"), Some(1));
}

/// How many tasks of a service get requests, and how many are held off.
fn held_off(desired: &Desired, name: &str) -> (usize, usize) {
    let Backends::Tasks { tasks, .. } = &service(desired, name).unwrap().backends else { panic!("it is in task mode") };
    let held_off = tasks.iter().filter(|task| task.held_off).count();
    (tasks.len() - held_off, held_off)
}

#[tokio::test(start_paused = true)]
async fn a_task_that_comes_back_a_fourth_time_must_run_for_longer_than_those_before_it() {
    let swarm = new_swarm();
    task_mode(&swarm, "loop").create().unwrap();
    task_mode(&swarm, "good").create().unwrap();
    let mut world =
        start_at_rest(&swarm, "both", |desired| tasks(desired, "loop") == Some(1) && tasks(desired, "good") == Some(1))
            .await;
    sleep(Duration::from_secs(60)).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        sleep(Duration::from_secs(8)).await;
        swarm.kill_task(&swarm.running_tasks("loop")[0].id);
        world.within(POLL, "none", |desired| tasks(desired, "loop") == Some(0)).await;
        let desired = world.within(2 * POLL, "another", |desired| tasks(desired, "loop") == Some(1)).await;
        seen.push(held_off(&desired, "loop"));
    }
    assert_eq!(seen, [(1, 0), (1, 0), (0, 1), (0, 1), (0, 1), (0, 1)]);
    assert_eq!(world.made(Verb::TaskHistory), 6, "once for each");
    let once = || async { observe_once(&swarm, &Settings::default()).await.unwrap().desired };
    assert_eq!(held_off(&once().await, "loop"), (0, 1), "whoever looks sees the same");

    // It made it: those before it lasted for some 14 s, the delay before their start included.
    sleep(Duration::from_secs(20)).await;
    assert_eq!(held_off(world.desired.borrow().as_ref().unwrap(), "loop"), (0, 1));
    world.within(Duration::from_secs(10) + POLL, "it counts", |desired| held_off(desired, "loop") == (1, 0)).await;
    assert_eq!(held_off(&once().await, "loop"), (1, 0));
    assert_eq!(held_off(&once().await, "good"), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_repaired_service_is_served_at_once() {
    let swarm = new_swarm();
    task_mode(&swarm, "loop").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    for _ in 0..5 {
        sleep(Duration::from_secs(8)).await;
        swarm.eventually("it runs", |swarm| swarm.running_tasks("loop").len() == 1).await;
        swarm.kill_task(&swarm.running_tasks("loop")[0].id);
    }
    world.within(4 * POLL, "held off", |desired| held_off(desired, "loop") == (0, 1)).await;
    swarm.update_image("loop", "app:2").unwrap();
    swarm
        .eventually("the repaired one runs", |swarm| {
            let running = swarm.running_tasks("loop");
            running.len() == 1 && running[0].spec["ContainerSpec"]["Image"] == "app:2"
        })
        .await;
    world.within(Duration::from_secs(1), "it is served", |desired| held_off(desired, "loop") == (1, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_history_that_cannot_be_read_keeps_no_task_from_being_served() {
    let swarm = new_swarm();
    task_mode(&swarm, "loop").create().unwrap();
    let mut world = start_at_rest(&swarm, "a task", |desired| tasks(desired, "loop") == Some(1)).await;
    sleep(Duration::from_secs(60)).await;
    let fault = swarm.inject(Fault::on(Verb::TaskHistory).fail(Class::Unavailable));
    for _ in 0..4 {
        sleep(Duration::from_secs(8)).await;
        swarm.kill_task(&swarm.running_tasks("loop")[0].id);
        world.within(POLL, "none", |desired| tasks(desired, "loop") == Some(0)).await;
        world.within(2 * POLL, "another counts", |desired| held_off(desired, "loop") == (1, 0)).await;
    }
    start(&swarm).within(SOON, "nor a start", |desired| held_off(desired, "loop") == (1, 0)).await;
    fault.lift();
    world.within(POLL, "its past is known", |desired| held_off(desired, "loop") == (0, 1)).await;
}

/// As where a node has died: nobody waits until all of their pasts are known.
#[tokio::test(start_paused = true)]
async fn tasks_that_come_back_by_the_hundred_are_served_before_their_past_is_known() {
    let swarm = new_swarm();
    let names: Vec<String> = (0..100).map(|number| format!("task{number}")).collect();
    for name in &names {
        task_mode(&swarm, name).create().unwrap();
    }
    let all = |desired: &Desired| names.iter().all(|name| tasks(desired, name) == Some(1));
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    world.within(POLL, "all", all).await;
    sleep(Duration::from_secs(60)).await;
    for name in &names {
        swarm.kill_task(&swarm.running_tasks(name)[0].id);
    }
    world.within(2 * POLL, "none", |desired| names.iter().all(|name| tasks(desired, name) == Some(0))).await;
    swarm.inject(Fault::on(Verb::TaskHistory).slow(Duration::from_millis(200)));
    let before = world.made(Verb::TaskHistory);
    let came = Instant::now();
    world.within(4 * POLL, "all are back", all).await;
    let asked = world.made(Verb::TaskHistory) - before;
    assert!((8..100).contains(&asked), "{asked} asked in {:?}", came.elapsed());
    sleep(6 * POLL).await;
    // Those that were cut off are asked for again.
    assert!((100..=116).contains(&(world.made(Verb::TaskHistory) - before)), "and each is known in the end");
}
