use embedded::Swarm;
use serde_json::json;
use swarm::{Class, DesiredState, EndpointMode, Mode, Read, TaskState, TasksOf, Write};
use tokio::time::{Instant, sleep};

use crate::{MOMENT, SECOND, class, demo, running, tasks_of};

#[tokio::test(start_paused = true)]
async fn a_task_takes_its_states_in_order_and_runs_after_about_700_ms() {
    let swarm = demo();
    let started = Instant::now();
    swarm.service("web").network("demo").create().unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&TaskState::Running) {
        sleep(MOMENT / 30).await;
        if let [task] = swarm.tasks_named("web").as_slice()
            && seen.last() != Some(&task.state)
        {
            seen.push(task.state);
            assert_eq!(task.attachments.is_empty(), task.state == TaskState::New, "{:?}", task.state);
            assert_eq!(task.node.as_str().is_empty(), task.state < TaskState::Assigned, "{:?}", task.state);
        }
    }
    let expected = [TaskState::New, TaskState::Pending, TaskState::Preparing, TaskState::Starting, TaskState::Running];
    assert_eq!(seen, expected);
    let took = started.elapsed();
    assert!(took > SECOND * 6 / 10 && took < SECOND * 8 / 10, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn only_tasks_that_should_run_are_listed_and_a_service_that_is_gone_has_none() {
    let swarm = demo();
    let web = swarm.service("web").network("demo").replicas(3).create().unwrap();
    let other = swarm.service("other").network("demo").create().unwrap();
    running(&swarm, "web", 3).await;
    assert_eq!(swarm.tasks(tasks_of([web.clone(), other.clone()])).await.unwrap().len(), 4);
    assert_eq!(swarm.tasks(tasks_of([web.clone(), "gone".into()])).await.unwrap().len(), 3);
    assert_eq!(swarm.tasks(TasksOf::Service(web.clone())).await.unwrap().len(), 3);
    swarm.scale("web", 1).unwrap();
    sleep(MOMENT).await;
    // Two still run, and should not.
    assert_eq!(swarm.tasks(TasksOf::Service(web.clone())).await.unwrap().len(), 1);
    let history = swarm.task_history(&web).await.unwrap();
    assert_eq!(history.iter().filter(|task| task.desired == DesiredState::Gone).count(), 2);
    assert!(history.iter().all(|task| task.state == TaskState::Running));
    sleep(4 * SECOND).await;
    assert_eq!(swarm.task_history(&web).await.unwrap().len(), 1);
    swarm.remove_service("web").unwrap();
    assert_eq!(swarm.tasks(TasksOf::Service(web.clone())).await, Ok(Vec::new()));
    let left = swarm.tasks(tasks_of([web, other.clone()])).await.unwrap();
    assert!(left.iter().all(|task| task.service == other));
}

#[tokio::test(start_paused = true)]
async fn a_stale_version_is_a_conflict_and_every_step_of_a_rollout_makes_one() {
    let swarm = demo();
    let web = swarm.service("web").network("demo").create().unwrap();
    let created = swarm.raw("web").unwrap();
    running(&swarm, "web", 1).await;
    // The virtual address came in between.
    let refused = swarm.update_service(&web, created.version, &created.spec, None).await.unwrap_err();
    assert_eq!(refused.class, Class::Conflict);
    assert!(refused.message.contains("update out of sequence"), "{refused}");

    let mut spec = swarm.raw("web").unwrap().spec;
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = "app:2".into();
    let version = swarm.raw("web").unwrap().version;
    swarm.update_service(&web, version, &spec, None).await.unwrap();
    let written = swarm.raw("web").unwrap();
    assert!(written.version > version);
    assert_eq!(written.update, None, "no status before the orchestrator has seen it");
    sleep(MOMENT).await;
    assert!(swarm.raw("web").unwrap().version > written.version);
    assert_eq!(class(swarm.update_service(&web, written.version, &spec, None).await), Some(Class::Conflict));
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_refuses_is_refused_with_its_class() {
    let swarm = demo();
    swarm.service("web").network("demo").create().unwrap();
    swarm.service("all").global().create().unwrap();
    swarm.service("mesh").ingress_port(80).create().unwrap();
    swarm.service("host").host_port(81).create().unwrap();
    for (what, result, expected) in [
        ("the name is taken", swarm.service("web").create(), Class::Conflict),
        ("no such network", swarm.service("a").network("nowhere").create(), Class::NotFound),
        ("the ingress network", swarm.service("a").network("ingress").create(), Class::Refused),
        ("no image", swarm.service("a").image("").create(), Class::Refused),
        ("the mesh's port is taken", swarm.service("a").ingress_port(80).create(), Class::Refused),
        ("a host's port against the mesh's", swarm.service("a").host_port(80).create(), Class::Refused),
        ("the mesh's port against a host's", swarm.service("a").ingress_port(81).create(), Class::Refused),
        ("the mesh without a virtual address", swarm.service("a").dnsrr().ingress_port(82).create(), Class::Refused),
        ("a constraint that does not read", swarm.service("a").constraint("node.role").create(), Class::Refused),
    ] {
        assert_eq!(class(result), Some(expected), "{what}");
    }
    assert!(swarm.service("another").host_port(81).create().is_ok(), "host ports are the scheduler's business");
    for (what, result, expected) in [
        ("another mode", swarm.scale("all", 2), Class::Refused),
        ("another name", swarm.service_update_raw("web", |spec| spec["Name"] = "b".into()), Class::Refused),
        ("nobody", swarm.scale("nobody", 2), Class::NotFound),
        ("nothing to go back to", swarm.rollback_service("web"), Class::Refused),
    ] {
        assert_eq!(class(result), Some(expected), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_of_a_spec_survive() {
    let swarm = demo();
    let spec = swarm.service("web").network("demo").with(|spec| {
        spec["Future"] = json!({ "nested": [1, null, { "x": "" }] });
        spec["TaskTemplate"]["ContainerSpec"]["Sysctls"] = json!({ "net.ipv4.tcp_keepalive_time": "600" });
    });
    let mut spec = spec.spec();
    swarm.create_service(&spec, None).await.unwrap();
    spec["TaskTemplate"]["Networks"][0]["Target"] = swarm.network_id("demo").unwrap().as_str().into();
    assert_eq!(swarm.raw_service("web").await.unwrap().unwrap().spec, spec);
    swarm.scale("web", 2).unwrap();
    let raw = swarm.raw_service("web").await.unwrap().unwrap();
    assert_eq!(raw.spec["Future"], spec["Future"]);
    assert_eq!(raw.previous_spec, Some(spec));
}

#[tokio::test(start_paused = true)]
async fn a_service_shows_mode_labels_networks_endpoint_and_counts() {
    let swarm = demo();
    let demo = swarm.network_id("demo").unwrap();
    swarm.service("web").network("demo").replicas(2).label("a", "1").container_label("b", "2").create().unwrap();
    swarm.service("all").network("demo").dnsrr().global().create().unwrap();
    swarm.service("job").job().create().unwrap();
    running(&swarm, "web", 2).await;
    let services = swarm.services().await.unwrap();
    let find = |name: &str| services.iter().find(|service| service.name == name).unwrap();
    let web = find("web");
    assert_eq!(web.mode, Mode::Replicated(2));
    assert_eq!(web.labels["a"], "1");
    assert_eq!(web.container_labels["b"], "2");
    assert_eq!(web.networks, [demo.as_str()]);
    assert_eq!(web.endpoint.mode, EndpointMode::Vip);
    assert!(web.endpoint.vips.contains_key(&demo));
    assert_eq!(web.running.map(|count| (count.running, count.desired)), Some((2, 2)));
    assert_eq!(find("all").endpoint.mode, EndpointMode::Dnsrr);
    assert!(find("all").endpoint.vips.is_empty());
    assert_eq!(find("all").running.map(|count| (count.running, count.desired)), Some((1, 1)));
    assert_eq!(find("job").mode, Mode::Job);
    assert_eq!(swarm.tasks_named("job"), []);
}

#[tokio::test(start_paused = true)]
async fn counts_can_lag() {
    let swarm = demo();
    swarm.set_timing(|timing| timing.count_lag = 3 * SECOND);
    swarm.service("web").network("demo").replicas(2).create().unwrap();
    running(&swarm, "web", 2).await;
    let count = |swarm: &Swarm| swarm.service_named("web").unwrap().running.unwrap().running;
    assert_eq!(count(&swarm), 0);
    sleep(3 * SECOND).await;
    assert_eq!(count(&swarm), 2);
    swarm.scale("web", 0).unwrap();
    sleep(5 * SECOND).await;
    assert_eq!(count(&swarm), 2);
    sleep(2 * SECOND).await;
    assert_eq!(count(&swarm), 0);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_task_is_replaced_after_its_restart_delay() {
    let swarm = demo();
    swarm.service("web").network("demo").create().unwrap();
    running(&swarm, "web", 1).await;
    let (killed, index) = (swarm.tasks_named("web")[0].id.clone(), swarm.raw("web").unwrap().version);
    let at = Instant::now();
    swarm.kill_task(&killed);
    sleep(MOMENT).await;
    let tasks = swarm.tasks_named("web");
    assert_eq!(tasks[0].state, TaskState::Failed);
    assert!(tasks[0].attachments.is_empty());
    assert_eq!(tasks[0].error.as_deref(), Some("task: non-zero exit (137)"));
    assert_eq!(tasks[1].desired, DesiredState::Ready);
    assert!(!tasks[1].attachments.is_empty(), "it has its address at once");
    swarm.eventually("it runs", |swarm| swarm.running_tasks("web").len() == 1).await;
    let took = at.elapsed();
    assert!(took > 5 * SECOND && took < 6 * SECOND, "{took:?}");
    assert_eq!(swarm.raw("web").unwrap().version, index, "the service object did not move");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_keeps_failing_leaves_five_behind_and_stops_where_its_policy_says() {
    let swarm = demo();
    swarm.break_when(|task, _| (task["ContainerSpec"]["Image"] == "bad").then(|| "exit 1".into()));
    swarm.service("loop").image("bad").create().unwrap();
    swarm
        .service("thrice")
        .image("bad")
        .with(|spec| spec["TaskTemplate"]["RestartPolicy"]["MaxAttempts"] = 2.into())
        .create()
        .unwrap();
    sleep(120 * SECOND).await;
    let ended = |name: &str| swarm.tasks_named(name).iter().filter(|task| task.state == TaskState::Failed).count();
    assert_eq!(ended("loop"), 5);
    assert_eq!((ended("thrice"), swarm.tasks_named("thrice").len()), (3, 3));
    // Looking at the service again does not try again; changing it does.
    swarm.set_label("thrice", "a", "b").unwrap();
    sleep(SECOND).await;
    assert_eq!(swarm.tasks_named("thrice").len(), 3);
    swarm.update_image("thrice", "good").unwrap();
    swarm.within(SECOND, "it runs", |swarm| swarm.running_tasks("thrice").len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_task_with_the_same_host_port_waits_for_a_node() {
    let swarm = demo();
    swarm.service("web").replicas(2).host_port(80).create().unwrap();
    running(&swarm, "web", 1).await;
    let pending = swarm.tasks_named("web").into_iter().find(|task| task.state == TaskState::Pending).unwrap();
    assert_eq!(pending.error.as_deref(), Some("no suitable node (host-mode port already in use on 1 node)"));
    swarm.add_node("node-2").unwrap();
    running(&swarm, "web", 2).await;
    assert_eq!(swarm.waiting_tasks(), 0);
    let ports: Vec<_> = swarm.running_tasks("web").into_iter().map(|task| task.host_ports).collect();
    assert_eq!(ports, [[(80, 80)].into(), [(80, 80)].into()]);
}

#[tokio::test(start_paused = true)]
async fn a_host_port_that_nobody_chose_is_the_next_one() {
    let swarm = demo();
    let any = json!({ "TargetPort": 8080, "PublishMode": "host" });
    swarm.service("web").replicas(2).with(|spec| spec["EndpointSpec"]["Ports"] = json!([any])).create().unwrap();
    running(&swarm, "web", 2).await;
    let mut ports: Vec<_> = swarm.running_tasks("web").into_iter().map(|task| task.host_ports[&8080]).collect();
    ports.sort_unstable();
    assert_eq!(ports, [32768, 32769]);
    let service = swarm.services().await.unwrap().remove(0);
    assert_eq!(service.endpoint.host_ports, [8080].into());
}

#[tokio::test(start_paused = true)]
async fn two_swarms_with_one_seed_are_alike_and_with_two_they_are_not() {
    let story = async |seed| {
        let swarm = Swarm::seeded(seed);
        swarm.create_network("demo").unwrap();
        let web = swarm.service("web").network("demo").replicas(3).create().unwrap();
        running(&swarm, "web", 3).await;
        swarm.kill_task(&swarm.tasks_named("web")[1].id);
        running(&swarm, "web", 3).await;
        (swarm.services().await.unwrap(), swarm.tasks(tasks_of([web])).await.unwrap(), swarm.index())
    };
    assert_eq!(story(1).await, story(1).await);
    assert_ne!(story(1).await, story(2).await);
}

/// A service whose program only tests something.
fn test_service(image: &str) -> serde_json::Value {
    json!({
        "Name": "test",
        "TaskTemplate": {
            "ContainerSpec": { "Image": image, "Command": ["nginx", "-t"] },
            "RestartPolicy": { "Condition": "none" },
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_program_that_only_tests_ends_once_and_tells_what_it_found() {
    for (image, state, error, log) in [
        ("good", TaskState::Complete, None, ""),
        ("bad", TaskState::Failed, Some("task: non-zero exit (1)"), "nginx: [emerg] bad\n"),
    ] {
        let swarm = demo();
        swarm.break_when(|task, _| (task["ContainerSpec"]["Image"] == "bad").then(|| "nginx: [emerg] bad".into()));
        let id = swarm.create_service(&test_service(image), None).await.unwrap();
        let started = Instant::now();
        swarm
            .eventually("it has ended", |swarm| swarm.tasks_named("test").iter().any(|task| task.state == state))
            .await;
        assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
        sleep(600 * SECOND).await;
        let tasks = swarm.task_history(&id).await.unwrap();
        assert_eq!(tasks.len(), 1, "it is not started again");
        assert_eq!((tasks[0].state, tasks[0].error.as_deref()), (state, error));
        assert_eq!(swarm.task_log(&tasks[0].id).await.as_deref(), Ok(log));

        Write::remove_service(&swarm, &id).await.unwrap();
        assert_eq!(class(Write::remove_service(&swarm, &id).await), Some(Class::NotFound));
        assert_eq!(class(swarm.task_log(&tasks[0].id).await), Some(Class::NotFound));
        assert!(swarm.service_names().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_that_is_removed_while_it_goes_on_leaves_nothing() {
    for after in 0..40 {
        let swarm = demo();
        let id = swarm.create_service(&test_service("good"), None).await.unwrap();
        sleep(MOMENT * after).await;
        let first = swarm.tasks_named("test");
        Write::remove_service(&swarm, &id).await.unwrap();
        // The name is free at once.
        swarm.create_service(&test_service("good"), None).await.unwrap();
        sleep(10 * SECOND).await;
        for task in &first {
            assert_eq!(class(swarm.task_log(&task.id).await), Some(Class::NotFound), "after {after} moments");
        }
        assert_eq!(swarm.tasks_named("test")[0].state, TaskState::Complete);
    }
}
