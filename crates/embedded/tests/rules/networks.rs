use std::collections::BTreeSet;

use swarm::{Class, Read, TaskState};
use tokio::time::sleep;

use crate::{MOMENT, SECOND, class, demo, running, status};

#[tokio::test(start_paused = true)]
async fn a_virtual_address_comes_a_moment_later_on_each_network_and_stays() {
    let swarm = demo();
    let demo = swarm.network_id("demo").unwrap();
    let vips = || swarm.service_named("web").unwrap().endpoint.vips;
    swarm.service("web").network("demo").create().unwrap();
    assert!(vips().is_empty());
    sleep(MOMENT).await;
    let first = vips();
    assert_eq!(first.keys().collect::<Vec<_>>(), [&demo]);

    let second = swarm.create_network("second").unwrap();
    swarm.add_network("web", "second").unwrap();
    assert_eq!(vips(), first);
    sleep(MOMENT).await;
    assert_eq!(vips().keys().collect::<BTreeSet<_>>(), BTreeSet::from([&demo, &second]));
    assert_eq!(vips()[&demo], first[&demo]);

    swarm.leave_network("web", "demo").unwrap();
    sleep(MOMENT).await;
    assert_eq!(vips().keys().collect::<Vec<_>>(), [&second]);
    swarm.service_update_raw("web", |spec| spec["EndpointSpec"]["Mode"] = "dnsrr".into()).unwrap();
    sleep(MOMENT).await;
    assert!(vips().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_port_in_the_mesh_brings_an_address_on_the_ingress_network() {
    let swarm = demo();
    swarm.service("web").network("demo").ingress_port(80).create().unwrap();
    running(&swarm, "web", 1).await;
    let ingress = swarm.network("ingress").await.unwrap().unwrap();
    assert!(ingress.ingress);
    assert!(swarm.service_named("web").unwrap().endpoint.vips.contains_key(&ingress.id));
    assert_eq!(swarm.tasks_named("web")[0].attachments.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_host_network_has_no_addresses() {
    let swarm = demo();
    swarm.service("web").network("host").create().unwrap();
    running(&swarm, "web", 1).await;
    let host = swarm.network("host").await.unwrap().unwrap();
    assert_eq!((host.driver.as_str(), host.scope.as_str()), ("host", "local"));
    let service = swarm.service_named("web").unwrap();
    assert_eq!(service.networks, [host.id.as_str()]);
    assert!(service.endpoint.vips.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_network_in_use_stays_until_its_last_service_has_gone() {
    let swarm = demo();
    swarm.service("web").network("demo").create().unwrap();
    running(&swarm, "web", 1).await;
    assert_eq!(class(swarm.remove_network("demo")), Some(Class::InUse));
    swarm.remove_service("web").unwrap();
    swarm.remove_network("demo").unwrap();
    assert_eq!(swarm.network("demo").await, Ok(None));
    assert_eq!(class(swarm.remove_network("demo")), Some(Class::NotFound));
    assert_eq!(class(swarm.remove_network("ingress")), Some(Class::Refused));
    assert_eq!(class(swarm.create_network("host")), Some(Class::Conflict));
}

#[tokio::test(start_paused = true)]
async fn a_task_without_a_free_address_stays_new_until_one_is_given_back() {
    let swarm = demo();
    swarm.create_network_sized("small", 29).unwrap();
    // Of 5 addresses the service has one and its node has one.
    swarm.service("web").network("small").replicas(3).create().unwrap();
    running(&swarm, "web", 3).await;
    assert_eq!(swarm.free_addresses("small"), 0);
    swarm.scale("web", 4).unwrap();
    assert!(swarm.settled(60 * SECOND).await);
    let tasks = swarm.tasks_named("web");
    let new: Vec<_> = tasks.iter().filter(|task| task.state == TaskState::New).collect();
    assert_eq!(new.len(), 1);
    // Swarm says nothing about it.
    assert_eq!(new[0].error, None);
    assert_eq!(swarm.waiting_tasks(), 1);

    swarm.service("late").network("small").create().unwrap();
    assert!(swarm.settled(60 * SECOND).await);
    assert!(swarm.service_named("late").unwrap().endpoint.vips.is_empty(), "no virtual address either");
    swarm.remove_service("web").unwrap();
    running(&swarm, "late", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_into_an_exhausted_network_is_updating_for_ever() {
    let swarm = demo();
    swarm.create_network_sized("small", 29).unwrap();
    swarm.service("full").network("small").replicas(3).create().unwrap();
    swarm.service("proxy").dnsrr().replicas(1).create().unwrap();
    running(&swarm, "full", 3).await;
    swarm.add_network("proxy", "small").unwrap();
    sleep(3600 * SECOND).await;
    assert_eq!(status(&swarm, "proxy"), Some(swarm::UpdateState::Updating));
    assert_eq!(swarm.running_tasks("proxy").len(), 0, "stop-first: the old one is gone");
}

#[tokio::test(start_paused = true)]
async fn a_node_without_an_address_of_its_own_refuses_its_tasks_after_a_while() {
    let swarm = demo();
    swarm.create_network_sized("small", 29).unwrap();
    swarm.service("web").network("small").replicas(4).create().unwrap();
    sleep(20 * SECOND).await;
    let states = |swarm: &embedded::Swarm| swarm.tasks_named("web").iter().map(|task| task.state).collect::<Vec<_>>();
    assert_eq!(states(&swarm), [TaskState::Preparing; 4]);
    sleep(11 * SECOND).await;
    let tasks = swarm.tasks_named("web");
    let refused: Vec<_> = tasks.iter().filter(|task| task.state == TaskState::Rejected).collect();
    // The address of the first one is what the node lacked.
    assert_eq!(refused.len(), 1);
    let error = "node is missing network attachments, ip addresses may be exhausted";
    assert_eq!(refused[0].error.as_deref(), Some(error));
    running(&swarm, "web", 3).await;
    assert_eq!(swarm.waiting_tasks(), 1);
    swarm.remove_service("web").unwrap();
    assert!(swarm.settled(60 * SECOND).await);
    assert_eq!(swarm.free_addresses("small"), 5, "the node gives its own back, too");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_no_list_shows_takes_an_address() {
    let swarm = demo();
    swarm.create_network_sized("small", 29).unwrap();
    for free in [4, 3, 2, 1, 0] {
        swarm.run_container("small").unwrap();
        assert_eq!(swarm.free_addresses("small"), free);
    }
    assert_eq!(class(swarm.run_container("small")), Some(Class::Refused));
    assert_eq!(class(swarm.run_container("none")), Some(Class::NotFound));
    assert!(swarm.services().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_network_tells_its_subnet_and_its_gateway() {
    let swarm = demo();
    swarm.create_network_sized("small", 29).unwrap();
    let told = |network: swarm::Network| {
        let pool = network.pools[0];
        format!("{} {:?} {:?}", pool.subnet, pool.range, pool.gateway)
    };
    let small = swarm.network("small").await.unwrap().unwrap();
    assert_eq!(told(small), "10.0.2.0/29 None Some(10.0.2.1)");
    assert!(swarm.network("host").await.unwrap().unwrap().pools.is_empty());
}
