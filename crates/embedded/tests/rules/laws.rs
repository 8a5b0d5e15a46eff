//! Whatever people do, in whatever order: afterwards the cluster is what the specs say.

use std::collections::BTreeSet;
use std::time::Duration;

use embedded::Swarm;
use proptest::prelude::*;
use serde_json::json;
use swarm::{DesiredState, Mode, TaskState, UpdateState};
use tokio::time::sleep;

use crate::SECOND;

#[derive(Clone, Debug)]
enum Step {
    Create(usize, u64),
    Scale(usize, u64),
    Image(usize, u8),
    Order(usize, bool),
    Join(usize, usize),
    Leave(usize, usize),
    Remove(usize),
    Rollback(usize),
    Kill(usize),
    Node(usize, bool),
    Drain(usize, bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (service, network, node) = (0..3_usize, 0..2_usize, 1..3_usize);
    prop_oneof![
        3 => (service.clone(), 0..4_u64).prop_map(|(s, n)| Step::Create(s, n)),
        2 => (service.clone(), 0..4_u64).prop_map(|(s, n)| Step::Scale(s, n)),
        3 => (service.clone(), 0..4_u8).prop_map(|(s, n)| Step::Image(s, n)),
        1 => (service.clone(), any::<bool>()).prop_map(|(s, o)| Step::Order(s, o)),
        1 => (service.clone(), network.clone()).prop_map(|(s, n)| Step::Join(s, n)),
        1 => (service.clone(), network).prop_map(|(s, n)| Step::Leave(s, n)),
        1 => service.clone().prop_map(Step::Remove),
        1 => service.clone().prop_map(Step::Rollback),
        2 => (0..8_usize).prop_map(Step::Kill),
        1 => (node.clone(), any::<bool>()).prop_map(|(n, up)| Step::Node(n, up)),
        1 => (node, any::<bool>()).prop_map(|(n, up)| Step::Drain(n, up)),
        4 => (0..12_000_u64).prop_map(Step::Wait),
    ]
}

/// Does a step; what the Engine refuses is refused.
async fn take(swarm: &Swarm, step: &Step) {
    let service = |n: &usize| format!("s{n}");
    let network = |n: &usize| format!("n{n}");
    let node = |n: &usize| format!("node-{}", n + 1);
    let _ = match step {
        Step::Create(s, replicas) if *s == 2 => swarm
            .service(&service(s))
            .network("n0")
            .dnsrr()
            .global()
            .label("replicas", &replicas.to_string())
            .create()
            .map(drop),
        Step::Create(s, replicas) => swarm.service(&service(s)).network("n0").replicas(*replicas).create().map(drop),
        Step::Scale(s, replicas) => swarm.scale(&service(s), *replicas),
        Step::Image(s, image) => swarm.update_image(&service(s), &format!("app:{image}")),
        Step::Order(s, start_first) => swarm.service_update_raw(&service(s), |spec| {
            let order = if *start_first { "start-first" } else { "stop-first" };
            spec["UpdateConfig"] = json!({ "Order": order, "Parallelism": 1, "FailureAction": "rollback" });
        }),
        Step::Join(s, n) => swarm.add_network(&service(s), &network(n)),
        Step::Leave(s, n) => swarm.leave_network(&service(s), &network(n)),
        Step::Remove(s) => swarm.remove_service(&service(s)),
        Step::Rollback(s) => swarm.rollback_service(&service(s)),
        Step::Kill(n) => {
            let tasks: Vec<_> = (0..3).flat_map(|s| swarm.running_tasks(&service(&s))).collect();
            if let Some(task) = tasks.get(*n) {
                swarm.kill_task(&task.id);
            }
            Ok(())
        }
        Step::Node(n, true) => swarm.revive_node(&node(n)),
        Step::Node(n, false) => swarm.kill_node(&node(n)),
        Step::Drain(n, true) => swarm.activate(&node(n)),
        Step::Drain(n, false) => swarm.drain(&node(n)),
        Step::Wait(milliseconds) => {
            sleep(Duration::from_millis(*milliseconds)).await;
            Ok(())
        }
    };
    no_address_twice(swarm);
}

fn no_address_twice(swarm: &Swarm) {
    let mut seen = BTreeSet::new();
    for name in swarm.service_names() {
        for vip in swarm.service_named(&name).unwrap().endpoint.vips {
            assert!(seen.insert(vip.clone()), "{vip:?}");
        }
        for attachment in swarm.tasks_named(&name).into_iter().flat_map(|task| task.attachments) {
            assert!(seen.insert((attachment.network.clone(), attachment.address)), "{attachment:?}");
        }
    }
}

async fn story(steps: &[Step]) {
    let swarm = Swarm::new();
    for name in ["node-2", "node-3"] {
        swarm.add_node(name).unwrap();
    }
    for name in ["n0", "n1"] {
        swarm.create_network(name).unwrap();
    }
    swarm.break_when(|task, _| (task["ContainerSpec"]["Image"] == "app:3").then(|| "exit 1".into()));
    for step in steps {
        take(&swarm, step).await;
    }
    for name in ["node-2", "node-3"] {
        swarm.revive_node(name).unwrap();
        swarm.activate(name).unwrap();
    }
    swarm.break_nothing();
    assert!(swarm.settled(600 * SECOND).await, "everything comes to rest");
    no_address_twice(&swarm);
    // Rollouts may have been paused, or have lost their status and stopped: an update starts them anew.
    for name in swarm.service_names() {
        swarm.force_update(&name).unwrap();
    }
    assert!(swarm.settled(600 * SECOND).await, "everything comes to rest");
    for name in swarm.service_names() {
        let service = swarm.service_named(&name).unwrap();
        let wanted = match service.mode {
            Mode::Replicated(replicas) => usize::try_from(replicas).unwrap(),
            Mode::Global => 3,
            Mode::Job => 0,
        };
        let template = swarm.raw(&name).unwrap().spec["TaskTemplate"].clone();
        let tasks = swarm.tasks_named(&name);
        let alive: Vec<_> = tasks.iter().filter(|task| task.desired != DesiredState::Gone).collect();
        assert_eq!(alive.len(), wanted, "{name} {service:?} {tasks:#?}");
        assert!(alive.iter().all(|task| *task.spec == template), "{name} {service:?} {tasks:#?}");
        let status = service.update.map(|update| update.state);
        assert_eq!(status, (wanted > 0).then_some(UpdateState::Completed), "{name}");
        assert!(alive.iter().all(|task| task.state == TaskState::Running), "{name}");
        assert!(tasks.iter().all(|task| task.state == TaskState::Running || task.attachments.is_empty()), "{name}");
        swarm.remove_service(&name).unwrap();
    }
    assert!(swarm.settled(600 * SECOND).await);
    for name in ["n0", "n1"] {
        assert_eq!(swarm.free_addresses(name), 253, "every address came back to {name}");
        swarm.remove_network(name).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_cluster_left_alone_is_what_the_specs_say(steps in prop::collection::vec(step(), 1..25)) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(story(&steps));
    }
}
