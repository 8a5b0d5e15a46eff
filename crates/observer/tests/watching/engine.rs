//! An Engine that is down, slow, or without events; and how often it is asked.

use std::time::Duration;

use dovetail_observer::Settings;
use embedded::{Fault, Swarm, Verb};
use model::{Backends, labels};
use swarm::Class;
use tokio::time::sleep;

use crate::{LONGEST_RETRY, POLL, SOON, has_run, new_swarm, service, start, start_at_rest, task_mode, tasks, vip_mode};

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_withdraws_nothing() {
    let swarm = new_swarm();
    task_mode(&swarm, "task").replicas(2).create().unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    let mut world = start_at_rest(&swarm, "both", |desired| desired.services.len() == 2).await;
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
async fn a_lost_stream_is_opened_again_and_everything_listed() {
    for (what, lose) in
        [("broken", Swarm::break_event_streams as fn(&Swarm)), ("ended", Swarm::end_event_streams as fn(&Swarm))]
    {
        let swarm = new_swarm();
        vip_mode(&swarm, "vip").create().unwrap();
        let mut world = start_at_rest(&swarm, "it runs", |desired| has_run(desired, "vip")).await;
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
    let world = start_at_rest(&swarm, "it runs", |desired| has_run(desired, "vip")).await;
    swarm.clear_calls();
    for _ in 0..1200 {
        swarm.break_event_streams();
        sleep(Duration::from_millis(50)).await;
    }
    let lists = world.made(Verb::Services);
    assert!((10..=45).contains(&lists), "{lists} lists in a minute");
    let subscriptions = world.made(Verb::Events);
    assert!((1..=10).contains(&subscriptions), "{subscriptions} subscriptions in a minute");
    // One stands again before long, and is relied on.
    swarm.eventually("a subscription", |swarm| swarm.open_event_streams() == 1).await;
    sleep(Duration::from_secs(70)).await;
    swarm.clear_calls();
    swarm.break_event_streams();
    sleep(SOON).await;
    assert_eq!(world.made(Verb::Events), 1, "it had lasted");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_a_balancer_closes_now_and_then_is_replaced_at_once() {
    let swarm = new_swarm();
    let mut world = start(&swarm);
    world.within(SOON, "an empty answer", |_| true).await;
    for round in 0..20 {
        sleep(Duration::from_secs(45)).await;
        swarm.clear_calls();
        swarm.end_event_streams();
        sleep(SOON).await;
        assert_eq!(world.made(Verb::Events), 1, "round {round}");
        assert_eq!(swarm.open_event_streams(), 1, "round {round}");
    }
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
        let world = start_at_rest(&swarm, "everything", |desired| desired.services.len() == task_services + 1).await;
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
    let world = start_at_rest(&swarm, "it runs", |desired| has_run(desired, "vip")).await;
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
async fn a_list_that_ran_into_its_deadline_does_not_make_polls_seldom() {
    let deadline = Duration::from_secs(20);
    let swarm = new_swarm();
    for number in 0..6 {
        task_mode(&swarm, &format!("task{number}")).create().unwrap();
    }
    let mut world =
        start_at_rest(&swarm, "all tasks", |desired| (0..6).all(|n| tasks(desired, &format!("task{n}")) == Some(1)))
            .await;
    sleep(Duration::from_secs(60)).await;
    let fault = swarm.inject(Fault::on(Verb::Tasks).once().slow(deadline).fail(Class::Unreachable));
    world.within(POLL + deadline, "stale tasks", |desired| tasks(desired, "task0").is_none()).await;
    assert_eq!(fault.hits(), 1);
    let killed = swarm.running_tasks("task0")[0].id.clone();
    swarm.kill_task(&killed);
    world
        .within(deadline + POLL, "the task is gone", |desired| match &service(desired, "task0").unwrap().backends {
            Backends::Tasks { tasks, stale } => !stale && tasks.iter().all(|task| task.id != killed),
            Backends::Vip { .. } | Backends::Unread { .. } => false,
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn polls_are_a_minute_apart_at_most() {
    let swarm = new_swarm();
    let mut world = start(&swarm);
    world.within(SOON, "an empty answer", |_| true).await;
    swarm.inject(Fault::on(Verb::Services).slow(Duration::from_secs(15)));
    sleep(Duration::from_secs(75)).await;
    swarm.clear_calls();
    sleep(Duration::from_secs(750)).await;
    let lists = world.made(Verb::Services);
    assert!((9..=11).contains(&lists), "{lists} lists");
    assert_eq!(*world.poll_every.borrow(), Duration::from_secs(75), "what is known is as old as that");
}
