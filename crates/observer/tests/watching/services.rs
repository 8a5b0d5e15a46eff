//! Services in VIP mode, and labels.

use std::sync::Arc;
use std::time::Duration;

use embedded::Verb;
use model::{Backends, Code, Scale, labels};
use tokio::time::sleep;

use crate::{LONGEST_RETRY, POLL, SOON, has_run, new_swarm, service, start, start_at_rest, tasks, vip_mode};

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
    let mut world = start_at_rest(&swarm, "it runs", |desired| has_run(desired, "vip")).await;

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
    let mut world = start_at_rest(&swarm, "it runs", |desired| has_run(desired, "vip")).await;
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
async fn labels_that_come_and_go_are_followed() {
    let swarm = new_swarm();
    swarm.service("web").network("app").create().unwrap();
    let mut world = start_at_rest(&swarm, "nobody asks", |desired| desired.services.is_empty()).await;
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
