//! The first publication.

use std::time::Duration;

use dovetail_observer::{Settings, observe_once};
use embedded::{Call, Fault, Verb};
use model::Desired;
use swarm::Class;
use tokio::time::sleep;

use crate::{LONGEST_RETRY, SOON, has_run, new_swarm, service, start, task_mode, tasks, vip_mode};

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
    assert_eq!(*desired, observe_once(&swarm, &Settings::default()).await.unwrap().desired);
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
        assert!(observe_once(&swarm, &Settings::default()).await.is_err(), "without {what}");
        fault.lift();
        world.within(LONGEST_RETRY, "the task", |desired| tasks(desired, "task") == Some(1)).await;
    }
}
