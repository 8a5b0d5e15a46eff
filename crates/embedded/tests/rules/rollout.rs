use std::time::Duration;

use embedded::{ServiceBuilder, Swarm};
use serde_json::{Value, json};
use swarm::{DesiredState, TaskState, UpdateState};
use tokio::time::{Instant, sleep};

use crate::{MOMENT, SECOND, demo, running, status};

fn breaks_on_bad(swarm: &Swarm) {
    swarm.break_when(|task, _| (task["ContainerSpec"]["Image"] == "bad").then(|| "exit 1".into()));
}

fn policy(order: &str, parallelism: u64, on_failure: &str) -> Value {
    json!({ "Parallelism": parallelism, "Order": order, "FailureAction": on_failure })
}

fn web(swarm: &Swarm, replicas: u64, policy: Value) -> ServiceBuilder {
    swarm.service("web").network("demo").replicas(replicas).update_config(policy.clone()).rollback_config(policy)
}

/// Waits for a status of the rollout that was just begun: the fewest and the most tasks that ran meanwhile,
/// and how long it took.
async fn watch(swarm: &Swarm, until: UpdateState) -> (usize, usize, Duration) {
    let (started, mut least, mut most) = (Instant::now(), usize::MAX, 0);
    while status(swarm, "web") != Some(until) {
        assert!(started.elapsed() < 300 * SECOND, "{:?}", swarm.service_named("web"));
        sleep(MOMENT / 3).await;
        let tasks = swarm.tasks_named("web");
        let running = tasks.iter().filter(|task| task.state == TaskState::Running).count();
        (least, most) = (least.min(running), most.max(running));
    }
    (least, most, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn tasks_are_replaced_in_the_order_and_number_that_the_policy_says() {
    for (order, parallelism, delay, least, most, seconds) in [
        // 2 x (3.3 + 0.5) + 5.
        ("stop-first", 1, 0, 1, 2, 12..13),
        // All at once: 3.8 + 5.
        ("stop-first", 0, 0, 0, 2, 8..9),
        // 2 x 0.7 + 5.
        ("start-first", 1, 0, 2, 4, 6..7),
        // The delay comes after each, and the watch is longer than the delay: 2 x (0.7 + 10) + 11.
        ("start-first", 1, 10, 2, 3, 32..33),
    ] {
        let swarm = demo();
        let mut policy = policy(order, parallelism, "pause");
        policy["Delay"] = json!(delay * 1_000_000_000_u64);
        policy["Monitor"] = json!(5_000_000_000_u64);
        web(&swarm, 2, policy).create().unwrap();
        running(&swarm, "web", 2).await;
        let before = swarm.raw("web").unwrap();
        swarm.update_image("web", "app:2").unwrap();
        let (fewest, largest, took) = watch(&swarm, UpdateState::Completed).await;
        let case = format!("{order} {parallelism} {delay}");
        assert_eq!((fewest, largest), (least, most), "{case}");
        assert!(seconds.contains(&took.as_secs()), "{case}: {took:?}");
        assert_eq!(swarm.raw("web").unwrap().previous_spec, Some(before.spec), "{case}");
        assert!(swarm.running_tasks("web").iter().all(|task| task.spec["ContainerSpec"]["Image"] == "app:2"), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_replaces_tasks_and_what_does_not() {
    type Change = fn(&Swarm) -> swarm::Result<()>;
    let changes: [(&str, Change, bool); 11] = [
        ("a label", |s| s.set_label("web", "a", "b"), false),
        ("a label removed", |s| s.remove_label("web", "a"), false),
        ("nothing", |s| s.service_update_raw("web", |_| ()), false),
        ("more replicas", |s| s.scale("web", 3), false),
        (
            "the update policy",
            |s| s.service_update_raw("web", |spec| spec["UpdateConfig"]["Order"] = "start-first".into()),
            false,
        ),
        (
            "an empty field",
            |s| s.service_update_raw("web", |spec| spec["TaskTemplate"]["Resources"] = json!({})),
            false,
        ),
        (
            "a constraint that holds",
            |s| {
                s.service_update_raw("web", |spec| {
                    spec["TaskTemplate"]["Placement"]["Constraints"] = json!(["node.role==manager"])
                })
            },
            false,
        ),
        ("the image", |s| s.update_image("web", "app:2"), true),
        ("an environment variable", |s| s.set_env("web", "A", "1"), true),
        ("force", |s| s.force_update("web"), true),
        (
            "the endpoint",
            |s| {
                s.service_update_raw("web", |spec| {
                    spec["EndpointSpec"]["Ports"] = json!([{ "PublishedPort": 80, "PublishMode": "host" }])
                })
            },
            true,
        ),
    ];
    for (what, change, replaces) in changes {
        let swarm = demo();
        web(&swarm, 1, policy("stop-first", 1, "pause")).create().unwrap();
        running(&swarm, "web", 1).await;
        let before = swarm.tasks_named("web")[0].id.clone();
        change(&swarm).unwrap();
        assert!(swarm.settled(60 * SECOND).await, "{what}");
        let kept = swarm.running_tasks("web").iter().any(|task| task.id == before);
        assert_eq!(!kept, replaces, "{what}");
        assert_eq!(status(&swarm, "web"), replaces.then_some(UpdateState::Completed), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_at_zero_replicas_has_no_status() {
    let swarm = demo();
    web(&swarm, 0, policy("stop-first", 1, "rollback")).create().unwrap();
    swarm.update_image("web", "app:2").unwrap();
    assert!(swarm.settled(60 * SECOND).await);
    assert_eq!(status(&swarm, "web"), None);
    assert!(swarm.raw("web").unwrap().previous_spec.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_failed_update_is_rolled_back_and_the_previous_spec_is_gone() {
    for (order, least) in [("start-first", 2), ("stop-first", 1)] {
        let swarm = demo();
        breaks_on_bad(&swarm);
        web(&swarm, 2, policy(order, 1, "rollback")).create().unwrap();
        running(&swarm, "web", 2).await;
        let good = swarm.raw("web").unwrap().spec;
        swarm.update_image("web", "bad").unwrap();
        let (fewest, _, _) = watch(&swarm, UpdateState::RollbackCompleted).await;
        assert_eq!(fewest, least, "{order}");
        running(&swarm, "web", 2).await;
        let raw = swarm.raw("web").unwrap();
        assert_eq!((raw.spec, raw.previous_spec), (good, None), "{order}");
        assert!(
            swarm.running_tasks("web").iter().all(|task| task.spec["ContainerSpec"]["Image"] == "app:1"),
            "{order}"
        );
        assert_eq!(swarm.running_tasks("web").len(), 2, "{order}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_update_pauses_or_goes_on_if_told_so() {
    for (on_failure, ends) in [("pause", UpdateState::Paused), ("continue", UpdateState::Completed)] {
        let swarm = demo();
        breaks_on_bad(&swarm);
        web(&swarm, 2, policy("start-first", 1, on_failure)).create().unwrap();
        running(&swarm, "web", 2).await;
        swarm.update_image("web", "bad").unwrap();
        watch(&swarm, ends).await;
        assert_eq!(swarm.raw("web").unwrap().spec["TaskTemplate"]["ContainerSpec"]["Image"], "bad");
        // The next update starts afresh.
        swarm.update_image("web", "app:2").unwrap();
        assert_eq!(status(&swarm, "web"), None);
        watch(&swarm, UpdateState::Completed).await;
        running(&swarm, "web", 2).await;
        assert!(swarm.running_tasks("web").iter().all(|task| task.spec["ContainerSpec"]["Image"] == "app:2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tolerated_share_of_failures_is_tolerated() {
    for (ratio, ends) in [(0.5, UpdateState::Completed), (0.4, UpdateState::RollbackCompleted)] {
        let swarm = demo();
        let mut policy = policy("start-first", 0, "rollback");
        policy["MaxFailureRatio"] = json!(ratio);
        web(&swarm, 2, policy).create().unwrap();
        running(&swarm, "web", 2).await;
        swarm.update_image("web", "app:2").unwrap();
        swarm
            .eventually("both are new", |swarm| {
                swarm.running_tasks("web").iter().filter(|task| task.spec["ContainerSpec"]["Image"] == "app:2").count()
                    == 2
            })
            .await;
        let victim = swarm.running_tasks("web").pop().unwrap();
        swarm.kill_task(&victim.id);
        watch(&swarm, ends).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_after_the_watch_fails_alone() {
    let swarm = demo();
    web(&swarm, 1, policy("start-first", 1, "rollback")).create().unwrap();
    running(&swarm, "web", 1).await;
    swarm.update_image("web", "app:2").unwrap();
    watch(&swarm, UpdateState::Completed).await;
    swarm.kill_task(&swarm.running_tasks("web")[0].id);
    running(&swarm, "web", 1).await;
    assert_eq!(status(&swarm, "web"), Some(UpdateState::Completed));
    assert_eq!(swarm.raw("web").unwrap().spec["TaskTemplate"]["ContainerSpec"]["Image"], "app:2");
}

#[tokio::test(start_paused = true)]
async fn a_health_check_delays_running_and_a_sick_task_never_runs() {
    let swarm = demo();
    breaks_on_bad(&swarm);
    let check = json!({ "Test": ["CMD", "true"], "Interval": 1_000_000_000 });
    web(&swarm, 1, policy("start-first", 1, "rollback"))
        .with(|spec| spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"] = check)
        .create()
        .unwrap();
    sleep(SECOND).await;
    assert_eq!(swarm.running_tasks("web").len(), 0);
    running(&swarm, "web", 1).await;
    swarm.update_image("web", "bad").unwrap();
    let (least, most, _) = watch(&swarm, UpdateState::RollbackCompleted).await;
    assert_eq!((least, most), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_operators_rollback_swaps_the_specs_and_completes_as_a_rollback() {
    let swarm = demo();
    web(&swarm, 1, policy("start-first", 1, "pause")).create().unwrap();
    running(&swarm, "web", 1).await;
    let first = swarm.raw("web").unwrap().spec;
    swarm.update_image("web", "app:2").unwrap();
    running(&swarm, "web", 1).await;
    let second = swarm.raw("web").unwrap().spec;
    swarm.rollback_service("web").unwrap();
    assert_eq!(status(&swarm, "web"), Some(UpdateState::RollbackStarted));
    watch(&swarm, UpdateState::RollbackCompleted).await;
    let raw = swarm.raw("web").unwrap();
    assert_eq!((raw.spec, raw.previous_spec), (first, Some(second)));
}

#[tokio::test(start_paused = true)]
async fn a_newer_update_takes_over_and_an_identical_one_takes_the_status_away() {
    let swarm = demo();
    web(&swarm, 3, policy("stop-first", 1, "pause")).create().unwrap();
    running(&swarm, "web", 3).await;
    swarm.update_image("web", "app:2").unwrap();
    sleep(5 * SECOND).await;
    swarm.update_image("web", "app:3").unwrap();
    watch(&swarm, UpdateState::Completed).await;
    running(&swarm, "web", 3).await;
    assert!(swarm.running_tasks("web").iter().all(|task| task.spec["ContainerSpec"]["Image"] == "app:3"));

    swarm.update_image("web", "app:4").unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(status(&swarm, "web"), Some(UpdateState::Updating));
    swarm.service_update_raw("web", |_| ()).unwrap();
    assert!(swarm.settled(60 * SECOND).await);
    assert_eq!(status(&swarm, "web"), None);
    assert!(swarm.running_tasks("web").iter().all(|task| task.spec["ContainerSpec"]["Image"] == "app:4"));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_fails_is_paused_and_then_called_completed() {
    let swarm = demo();
    web(&swarm, 1, policy("stop-first", 1, "rollback")).create().unwrap();
    running(&swarm, "web", 1).await;
    swarm.break_when(|_, _| Some("exit 1".into()));
    swarm.update_image("web", "app:2").unwrap();
    watch(&swarm, UpdateState::Completed).await;
    assert_eq!(swarm.raw("web").unwrap().spec["TaskTemplate"]["ContainerSpec"]["Image"], "app:1");
    assert_eq!(swarm.running_tasks("web").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn stop_first_waits_for_its_predecessor_and_a_host_port_never_clashes() {
    let swarm = demo();
    web(&swarm, 1, policy("stop-first", 1, "rollback")).host_port(80).create().unwrap();
    running(&swarm, "web", 1).await;
    swarm.update_image("web", "app:2").unwrap();
    sleep(2 * SECOND).await;
    let tasks = swarm.tasks_named("web");
    assert_eq!((tasks[0].state, tasks[0].desired), (TaskState::Running, DesiredState::Gone));
    assert_eq!((tasks[1].state, tasks[1].desired), (TaskState::Pending, DesiredState::Ready));
    watch(&swarm, UpdateState::Completed).await;

    // Two of them, on one node, never finish.
    swarm.scale("web", 2).unwrap();
    assert!(swarm.settled(60 * SECOND).await);
    swarm.update_image("web", "app:3").unwrap();
    sleep(3600 * SECOND).await;
    assert_eq!(status(&swarm, "web"), Some(UpdateState::Updating));
}

#[tokio::test(start_paused = true)]
async fn a_global_service_is_updated_node_by_node() {
    let swarm = demo();
    swarm.add_node("node-2").unwrap();
    breaks_on_bad(&swarm);
    let policy = policy("stop-first", 1, "rollback");
    swarm.service("web").network("demo").dnsrr().global().host_port(80).update_config(policy).create().unwrap();
    running(&swarm, "web", 2).await;
    swarm.update_image("web", "app:2").unwrap();
    let (least, most, _) = watch(&swarm, UpdateState::Completed).await;
    assert_eq!((least, most), (1, 2));
    swarm.update_image("web", "bad").unwrap();
    watch(&swarm, UpdateState::RollbackCompleted).await;
    running(&swarm, "web", 2).await;
}
