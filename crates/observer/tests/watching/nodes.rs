//! Services that are reached at their nodes.

use std::time::Duration;

use dovetail_observer::{Settings, observe_once};
use embedded::{Fault, Verb};
use model::{Backends, Desired, labels};
use swarm::Class;
use tokio::time::sleep;

use crate::{POLL, has_run, new_swarm, service, start_at_rest, task_mode, tasks, unread, vip_mode};

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
    let mut world = start_at_rest(&swarm, "it runs", |desired| tasks(desired, "web") == Some(1)).await;
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
    assert_eq!(*desired, observe_once(&swarm, &Settings::default()).await.unwrap().desired);
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
    let mut world = start_at_rest(&swarm, "it runs", |desired| at_nodes(desired, "web") == ["172.20.0.1:80"]).await;
    let fault = swarm.inject(Fault::on(Verb::Nodes).fail(Class::Unavailable));
    sleep(Duration::from_secs(130)).await;
    assert!(world.nothing_published() && fault.hits() > 0);
    // A fresh process knows no addresses: it withdraws nothing for that.
    let fresh = observe_once(&swarm, &Settings::default()).await.unwrap().desired;
    assert_eq!(unread(&fresh, "web"), Some("the addresses of its nodes could not be listed"));
    assert!(has_run(&fresh, "vip"));
    fault.lift();
    let refusal = swarm.inject(Fault::on(Verb::Nodes).fail(Class::Refused));
    sleep(Duration::from_secs(70)).await;
    assert!(world.nothing_published(), "what was seen once stays");
    let fresh = observe_once(&swarm, &Settings::default()).await.unwrap().desired;
    assert_eq!((unread(&fresh, "web"), at_nodes(&fresh, "web")), (None, Vec::new()));
    refusal.lift();
    on_nodes("more", 81);
    world.within(POLL, "another one", |desired| at_nodes(desired, "more") == ["172.20.0.1:81"]).await;
}
