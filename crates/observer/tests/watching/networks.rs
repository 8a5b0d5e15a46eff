//! Networks, and how full they are.

use std::collections::BTreeMap;
use std::time::Duration;

use dovetail_observer::{Proxies, Settings, observe_once};
use embedded::{Call, Fault, Verb};
use model::{ClusterName, Desired, labels};
use swarm::Class;
use tokio::time::sleep;

use crate::{
    LONGEST_RETRY, POLL, SOON, World, has_run, new_swarm, service, start, start_at_rest, start_with, unread, vip_mode,
};

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
        assert_eq!(*desired, observe_once(&swarm, &Settings::default()).await.unwrap().desired);
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
async fn a_network_that_hangs_delays_nobody_for_long() {
    let (deadline, three_seconds) = (Duration::from_secs(20), Duration::from_secs(3));
    let swarm = new_swarm();
    vip_mode(&swarm, "fine").create().unwrap();
    let mut world = start_at_rest(&swarm, "it runs", |desired| has_run(desired, "fine")).await;
    let key = swarm.create_network("other").unwrap().as_str().to_owned();
    let hanging = Fault::when(move |call| *call == Call::Network(key.clone())).slow(deadline);
    let fault = swarm.inject(hanging.fail(Class::Unreachable));
    vip_mode(&swarm, "held-back").network("other").create().unwrap();
    sleep(SOON).await;
    let mut limit = deadline + three_seconds;
    for port in 81..=85 {
        swarm.set_label("fine", labels::PORT, &port.to_string()).unwrap();
        world
            .within(limit, "the new port", |desired| {
                service(desired, "fine").unwrap().asked.as_ref().is_ok_and(|request| request.port.get() == port)
            })
            .await;
        limit = three_seconds;
        assert!(unread(&world.desired.borrow().clone().unwrap(), "held-back").is_some());
        sleep(Duration::from_secs(8)).await;
    }
    assert_eq!(fault.hits(), 1, "it took long to fail, so nobody waits for it again so soon");
    assert_eq!(*world.poll_every.borrow(), three_seconds + deadline, "the lists took no time, and it may hang again");
    assert_eq!(world.completeness.borrow().gap, None, "the lists were complete");
    fault.lift();
    world.within(Duration::from_secs(60), "the other one", |desired| has_run(desired, "held-back")).await;
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
