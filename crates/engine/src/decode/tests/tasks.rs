//! Tasks and their logs.

use std::collections::BTreeSet;
use std::sync::Arc;

use swarm::{DesiredState, TaskState};

use super::*;

#[test]
fn the_recorded_tasks_are_read_without_their_specs() {
    let tasks = tasks(TASKS).unwrap();
    assert_eq!(tasks.len(), 8);
    assert!(tasks.iter().all(|task| task.desired == DesiredState::Running && task.state == TaskState::Running));
    assert!(tasks.iter().all(|task| *task.spec == Value::Null));
    assert!(tasks.iter().all(|task| task.since > task.created_at), "each took a while until it ran");
    let of = |service: &'static str| tasks.iter().filter(move |task| task.service.as_str() == service);
    let addresses: Vec<String> = of("bdtp2pb63qm39jxpqh4i0m8pn")
        .flat_map(|task| &task.attachments)
        .map(|attachment| format!("{}={}", attachment.network, attachment.address))
        .collect();
    assert_eq!(addresses, ["aexxibzivy2hjnt4ly05s8l8g=10.0.0.6", "gvag7rsajo11v4m3fva6jf5ya=10.0.1.6"]);
    // On the network `host`: an attachment without an address.
    assert_eq!(of("w0i7e2crbgohat91u6aeov3vu").next().unwrap().attachments, []);
    // A global service has no slots.
    assert_eq!(of("orxqqseuvya2lqycjbvr1hzi0").map(|task| task.slot).collect::<Vec<_>>(), [0, 0, 0]);
    assert!(tasks.iter().all(|task| !task.node.as_str().is_empty()));
}

#[test]
fn the_recorded_history_tells_how_a_rollout_failed() {
    let tasks = history(TASK_HISTORY).unwrap();
    let states: Vec<(TaskState, DesiredState)> = tasks.iter().map(|task| (task.state, task.desired)).collect();
    assert_eq!(
        states,
        [
            (TaskState::Shutdown, DesiredState::Gone),
            (TaskState::Rejected, DesiredState::Gone),
            (TaskState::Shutdown, DesiredState::Gone),
            (TaskState::Running, DesiredState::Running),
            (TaskState::Complete, DesiredState::Gone),
        ]
    );
    assert_eq!(tasks[1].error.as_deref(), Some("No such image: 10.99.1.254:5000/nope:1"));
    assert_eq!(tasks[3].error, None);
    assert_eq!(tasks[1].spec["ContainerSpec"]["Image"], "10.99.1.254:5000/nope:1");
    assert_eq!(tasks[3].spec["ContainerSpec"]["Configs"][0]["ConfigName"], "c1");
}

pub(super) fn wire_task(change: impl FnOnce(&mut Value)) -> Value {
    let mut task = json!({
        "ID": "t1",
        "CreatedAt": "2021-01-02T03:04:05.123456789Z",
        "ServiceID": "s1",
        "Status": {"State": "new"},
        "DesiredState": "running",
    });
    change(&mut task);
    task
}

#[test]
fn a_task_that_is_not_scheduled_yet_is_read() {
    let read = tasks(&bytes(&json!([wire_task(|task| {
        task["NetworksAttachments"] = json!([{"Network": {"ID": "n"}}, {"Network": {"ID": "m"}, "Addresses": []}]);
        task["Status"]["Err"] = json!("no suitable node (1 node not available for new tasks)");
    })])))
    .unwrap()
    .remove(0);
    assert_eq!((read.slot, read.node.as_str(), read.state), (0, "", TaskState::New));
    assert_eq!(read.attachments, []);
    assert_eq!(read.error.as_deref(), Some("no suitable node (1 node not available for new tasks)"));
}

#[test]
fn a_task_of_no_service_is_left_out() {
    let attached = wire_task(|task| drop(task.as_object_mut().unwrap().remove("ServiceID")));
    let empty = wire_task(|task| task["ServiceID"] = json!(""));
    assert_eq!(tasks(&bytes(&json!([attached, empty, wire_task(|_| {})]))).unwrap().len(), 1);
}

#[test]
fn only_tasks_of_the_services_that_are_wanted_are_kept_and_all_must_read() {
    let of = |id: &str, service: &str| {
        wire_task(|task| {
            task["ID"] = json!(id);
            task["ServiceID"] = json!(service);
        })
    };
    let wanted = || Some(Arc::new(BTreeSet::from(["s1".into(), "s3".into()])));
    let answer = json!([of("t1", "s1"), of("t2", "s2"), of("t3", "s1")]);
    let read = whole(&bytes(&answer), super::super::tasks(wanted())).unwrap();
    assert_eq!(read.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["t1", "t3"]);
    let bad = wire_task(|task| {
        task["ServiceID"] = json!("s2");
        task["CreatedAt"] = json!("");
    });
    let error = whole(&bytes(&json!([bad])), super::super::tasks(wanted())).unwrap_err();
    assert_eq!(error, "task t1: \"\" is no time");
}

#[test]
fn one_bad_task_spoils_the_answer_and_is_named() {
    for (bad, complaint) in [
        (wire_task(|task| task["Status"] = json!({})), "task t1: missing field `State`"),
        (wire_task(|task| task["CreatedAt"] = json!("")), "task t1: \"\" is no time"),
        (wire_task(|task| task["Status"]["Timestamp"] = json!("now")), "task t1: \"now\" is no time"),
        (
            wire_task(|task| task["NetworksAttachments"] = json!([{"Network": {"ID": "n"}, "Addresses": ["?"]}])),
            "task t1: \"?\" is no address",
        ),
    ] {
        let answer = bytes(&json!([wire_task(|task| task["ID"] = json!("good")), bad]));
        for error in [tasks(&answer).unwrap_err(), history(&answer).unwrap_err()] {
            assert!(error.starts_with(complaint), "{error}");
        }
    }
}

fn frame(stream: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn a_log_is_the_text_of_its_frames() {
    // As Engine 20.10.24 sends them.
    let both = [frame(1, "out\n"), frame(2, "nginx: [emerg] \"x\"\n")].concat();
    assert_eq!(log(&both), Ok("out\nnginx: [emerg] \"x\"\n".into()));
    assert_eq!(log(b""), Ok(String::new()));
    // The reader stopped in the middle of a frame, or of a head.
    assert_eq!(log(&both[..20]), Ok("out\n".into()));
    assert_eq!(log(&both[..24]), Ok("out\nngin".into()));
    assert_eq!(log(&frame(2, "\u{e9}")[..9]), Ok("\u{fffd}".into()));
    assert_eq!(log(&frame(1, &"x".repeat(9000))).unwrap().len(), 8192);
    let refused = [frame(2, "first\n"), frame(3, "Error grabbing logs: rpc error: task t has not been scheduled\n")];
    assert_eq!(log(&refused.concat()), Err("Error grabbing logs: rpc error: task t has not been scheduled".into()));
    // A terminal has no frames.
    assert!(log(b"nginx: [emerg] x").is_err());
    assert!(log(&frame(9, "x")).is_err());
}
