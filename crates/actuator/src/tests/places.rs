//! Places where a proxy cannot run: everywhere else routes go on, and nothing is written over and over.

use serde_json::json;

use super::*;
use crate::settings::{Mode, Publish};

/// The tasks that run what the live spec says.
fn current(bench: &Bench) -> usize {
    let Some(service) = bench.swarm.raw(PROXY) else { return 0 };
    let files = |template: &Value| template["ContainerSpec"]["Configs"].clone();
    let live = files(&service.spec["TaskTemplate"]);
    bench.swarm.running_tasks(PROXY).iter().filter(|task| files(&task.spec) == live).count()
}

fn node_id(bench: &Bench) -> model::NodeId {
    bench.swarm.tasks_named("squatter").remove(0).node
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_on_one_node_keeps_no_other_node_from_its_routes() {
    // Whichever node it is, and so in whatever order the places are updated.
    for node in ["node-1", "node-2", "node-3"] {
        let swarm = three_nodes();
        let app = swarm.create_network("app").unwrap();
        let taken = format!("node.hostname=={node}");
        swarm.service("squatter").host_port(80).constraint(&taken).create().unwrap();
        swarm.eventually("it runs", |swarm| swarm.running_tasks("squatter").len() == 1).await;
        let mut on_hosts = settings();
        (on_hosts.proxy.mode, on_hosts.proxy.publish) = (Mode::Global, Publish::Host);
        let mut bench = Bench::with(swarm, on_hosts);
        let first = target("first", &[]);
        bench.aim(&first);
        bench.until("two run", |bench| current(bench) == 2).await;

        let mut routes = Vec::new();
        for name in ["a", "b", "c"] {
            routes.push((name, &app));
            let wanted = target(name, &routes);
            bench.aim(&wanted);
            let started = tokio::time::Instant::now();
            let generation = wanted.bundle.generation();
            bench.until("both have it", |bench| bench.live().0 == generation && current(bench) == 2).await;
            assert!(started.elapsed() < secs(60), "{node}, {name}: after {:?}", started.elapsed());
        }
        // Which of the two it is depends on whether the node was the last to be updated.
        let over = |bench: &Bench| matches!(bench.status().phase, Phase::Blocked { .. } | Phase::InStep);
        bench.until("the rollout is over", over).await;
        let wanted_last = target("c", &routes);
        let status = bench.plan(&wanted_last).await.status;
        let said = format!("{:?} {:?}", bench.status().phase, status.missing);
        let expected = format!("host-mode port already in use on 1 node; node {}", node_id(&bench));
        assert!(said.contains(&expected), "{said}");
        let writes = bench.service_writes();
        bench.passes_for(secs(300)).await;
        assert_eq!(bench.service_writes(), writes, "with nothing more to do, nothing is written");
        let live = wanted_last.bundle.generation();
        assert_eq!(bench.live(), (live, live, 0), "nothing is held, and what runs wherever it can is good");
        assert!(bench.swarm.all_configs().len() <= 6, "{}", bench.swarm.all_configs().len());

        bench.swarm.remove_service("squatter").unwrap();
        bench.until_in_step().await;
        assert_eq!(current(&bench), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_while_its_proxy_starts_keeps_no_other_from_its_routes() {
    for (mode, publish) in
        [(Mode::Replicated(3), Publish::Ingress), (Mode::Global, Publish::Ingress), (Mode::Global, Publish::Host)]
    {
        // The first, the second or the last that is updated.
        for done in 0..3 {
            a_node_dies_while_its_proxy_starts(mode, publish, done).await;
        }
    }
}

async fn a_node_dies_while_its_proxy_starts(mode: Mode, publish: Publish, done: usize) {
    let case = format!("{mode:?}, {publish:?}, after {done}");
    let swarm = Swarm::new();
    let workers: BTreeMap<_, _> = ["node-2", "node-3"].map(|name| (swarm.add_node(name).unwrap(), name)).into();
    let mut three = settings();
    (three.proxy.mode, three.proxy.publish) = (mode, publish);
    let (mut bench, app, _) = Bench::serving_on(swarm, three).await;
    bench.swarm.set_timing(|timing| timing.start = secs(5));
    let starts = |bench: &Bench| {
        let mut tasks = bench.swarm.tasks_named(PROXY).into_iter();
        tasks.find(|task| task.state == swarm::TaskState::Starting).map(|task| task.node)
    };
    bench.aim(&target("second", &[("demo", &app), ("shop", &app)]));
    bench.until("one starts", |bench| current(bench) == done && starts(bench).is_some()).await;
    let node = starts(&bench).and_then(|node| workers.get(&node).copied()).unwrap_or("node-1");
    bench.swarm.kill_node(node).unwrap();
    let died = tokio::time::Instant::now();
    let all = |bench: &Bench| bench.swarm.running_tasks(PROXY).len() == current(bench);
    bench.until("all others have it", all).await;
    assert!(died.elapsed() < secs(60), "{case}: {:?}", died.elapsed());
    bench.passes_for(secs(300)).await;
    assert_eq!(bench.live().2, 0, "{case}: nothing is held");
    assert!(bench.is_in_step() && all(&bench), "{case}: {:?}", bench.status());
    assert!(bench.service_writes() <= 2, "{case}: {}", bench.service_writes());
    bench.swarm.revive_node(node).unwrap();
    bench.until_in_step().await;
    bench.until("it is served there too", |bench| current(bench) == 3).await;
}

#[tokio::test(start_paused = true)]
async fn another_port_is_rolled_out_however_long_proxies_take_to_stop() {
    let mut on_hosts = settings();
    (on_hosts.proxy.mode, on_hosts.proxy.publish) = (Mode::Global, Publish::Host);
    let (mut bench, ..) = Bench::serving_on(three_nodes(), on_hosts).await;
    bench.swarm.set_timing(|timing| timing.stop = secs(25));
    bench.settings.proxy.ports[0].published = 8080;
    bench.restart();
    bench.until("it is written", |bench| bench.service_writes() == 1).await;
    bench.until_in_step().await;
    let tasks = bench.swarm.running_tasks(PROXY);
    let ports: Vec<_> = tasks.iter().map(|task| task.host_ports.get(&80).copied()).collect();
    assert_eq!(ports, [Some(8080); 3], "it is not in step before all have it");
    bench.passes_for(secs(60)).await;
    assert_eq!((bench.service_writes(), bench.status().holds.len()), (1, 0));
    assert!(bench.is_in_step(), "{:?}", bench.status());
}

#[tokio::test(start_paused = true)]
async fn where_no_proxy_fits_beside_the_old_ones_routes_go_on() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    let mut bench = Bench::with(swarm, settings());
    bench.aim(&target("first", &[]));
    bench.until_in_step().await;
    // One node, and three replicas of which it may have two.
    let edit = |spec: &mut Value| {
        spec["TaskTemplate"]["Placement"] = json!({"MaxReplicas": 2});
        spec["Mode"]["Replicated"]["Replicas"] = json!(3);
    };
    bench.swarm.service_update_raw(PROXY, edit).unwrap();
    let mut routes = Vec::new();
    for name in ["a", "b"] {
        routes.push((name, &app));
        let wanted = target(name, &routes);
        bench.aim(&wanted);
        let started = tokio::time::Instant::now();
        let generation = wanted.bundle.generation();
        bench.until("both have it", |bench| bench.live().0 == generation && current(bench) == 2).await;
        assert!(started.elapsed() < secs(60), "{name}: after {:?}", started.elapsed());
    }
    let spec = bench.spec().await;
    assert_eq!(spec["UpdateConfig"]["Order"], "stop-first");
    assert_eq!(spec["TaskTemplate"]["Placement"]["MaxReplicas"], 2);
    let writes = bench.service_writes();
    bench.passes_for(secs(300)).await;
    assert_eq!(bench.service_writes(), writes);

    // Without the limit, as before.
    bench.swarm.service_update_raw(PROXY, |spec| spec["TaskTemplate"]["Placement"] = json!({})).unwrap();
    bench.until_in_step().await;
    assert_eq!(bench.spec().await["UpdateConfig"]["Order"], "start-first");
    assert_eq!(current(&bench), 3);
}
