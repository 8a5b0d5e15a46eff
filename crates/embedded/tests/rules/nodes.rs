use std::collections::BTreeSet;

use swarm::{DesiredState, TaskState};
use tokio::time::sleep;

use crate::{SECOND, demo, running};

#[tokio::test(start_paused = true)]
async fn tasks_spread_over_the_nodes_that_fit() {
    let swarm = demo();
    for name in ["node-2", "node-3"] {
        swarm.add_node(name).unwrap();
    }
    swarm.label_node("node-2", "zone", Some("a")).unwrap();
    let nodes = |name: &str| swarm.running_tasks(name).into_iter().map(|t| t.node).collect::<BTreeSet<_>>().len();
    for (name, constraint, fit) in [
        ("everywhere", "node.hostname!=nobody", 3),
        ("managers", "node.role == manager", 1),
        ("workers", "node.role!=manager", 2),
        ("zone", "node.labels.zone==a", 1),
        ("outside", "node.labels.zone!=a", 2),
    ] {
        swarm.service(name).replicas(3).constraint(constraint).create().unwrap();
        running(&swarm, name, 3).await;
        assert_eq!(nodes(name), fit, "{constraint}");
        let global = format!("all-{name}");
        swarm.service(&global).global().constraint(constraint).create().unwrap();
        running(&swarm, &global, fit).await;
    }
    swarm.service("nowhere").constraint("node.labels.zone==b").create().unwrap();
    assert!(swarm.settled(60 * SECOND).await);
    let task = swarm.tasks_named("nowhere").remove(0);
    assert_eq!(task.error.as_deref(), Some("no suitable node (scheduling constraints not satisfied on 3 nodes)"));
}

#[tokio::test(start_paused = true)]
async fn a_node_has_no_more_tasks_of_a_service_than_it_may() {
    let swarm = demo();
    let limited = |spec: &mut serde_json::Value| spec["TaskTemplate"]["Placement"]["MaxReplicas"] = 2.into();
    swarm.service("web").replicas(3).with(limited).create().unwrap();
    running(&swarm, "web", 2).await;
    assert!(swarm.settled(60 * SECOND).await);
    let waiting: Vec<_> = swarm.tasks_named("web").into_iter().filter_map(|task| task.error).collect();
    assert_eq!(waiting, ["no suitable node (max replicas per node limit exceed)"]);
    swarm.add_node("node-2").unwrap();
    running(&swarm, "web", 3).await;
}

#[tokio::test(start_paused = true)]
async fn the_tasks_of_a_dead_node_show_as_running_and_are_replaced_when_it_is_missed() {
    let swarm = demo();
    swarm.add_node("node-2").unwrap();
    swarm.service("web").network("demo").replicas(2).create().unwrap();
    swarm.service("all").network("demo").global().create().unwrap();
    running(&swarm, "web", 2).await;
    swarm.kill_node("node-2").unwrap();
    sleep(14 * SECOND).await;
    assert_eq!(swarm.running_tasks("web").len(), 2, "nobody has noticed");
    sleep(10 * SECOND).await;
    let tasks = swarm.tasks_named("web");
    assert_eq!(tasks.iter().filter(|task| task.state == TaskState::Running).count(), 3);
    assert_eq!(tasks.iter().filter(|task| task.desired == DesiredState::Running).count(), 2);
    let count = swarm.service_named("web").unwrap().running.unwrap();
    assert_eq!((count.running, count.desired), (3, 2), "the dead one counts");
    let count = swarm.service_named("all").unwrap().running.unwrap();
    assert_eq!((count.running, count.desired), (2, 1));

    swarm.revive_node("node-2").unwrap();
    running(&swarm, "all", 2).await;
    let count = swarm.service_named("web").unwrap().running.unwrap();
    assert_eq!((count.running, count.desired), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_back_in_time_is_not_missed() {
    let swarm = demo();
    swarm.add_node("node-2").unwrap();
    swarm.service("web").replicas(2).create().unwrap();
    running(&swarm, "web", 2).await;
    swarm.kill_node("node-2").unwrap();
    sleep(5 * SECOND).await;
    swarm.revive_node("node-2").unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(swarm.tasks_named("web").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_loses_its_tasks_without_a_restart_delay() {
    let swarm = demo();
    swarm.add_node("node-2").unwrap();
    swarm.service("web").replicas(2).create().unwrap();
    swarm.service("all").global().create().unwrap();
    running(&swarm, "all", 2).await;
    swarm.drain("node-1").unwrap();
    sleep(5 * SECOND).await;
    assert_eq!(swarm.running_tasks("web").len(), 2);
    assert_eq!(swarm.running_tasks("all").len(), 1);
    let nodes: BTreeSet<_> = swarm.running_tasks("web").into_iter().map(|task| task.node).collect();
    assert_eq!(nodes.len(), 1);
    swarm.activate("node-1").unwrap();
    running(&swarm, "all", 2).await;
}
