//! Reads and writes: requests as the Engine sees them, answers good and bad.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dovetail_engine::{Endpoint, Engine, supported};
use model::{ConfigId, InstanceName, ServiceId, Timestamp};
use serde_json::{Value, json};
use swarm::{Class, Config, Error, Identity, NewConfig, Read, RegistryAuth, TasksOf, Write};

use crate::fake::{Answer, Fake, Request, broken_off, ok, refusal, silence, stalled, status, stream};
use crate::{HASTY, PATIENT, connect, patient};

fn nothing_else(request: &Request) -> Answer {
    panic!("unexpected {}", request.line)
}

fn main_instance() -> InstanceName {
    InstanceName::parse("main").unwrap()
}

/// The tasks of these services, in one list.
fn tasks_of<const N: usize>(services: [&str; N]) -> TasksOf {
    TasksOf::Services(Arc::new(services.map(ServiceId::from).into()))
}

fn network_json() -> Value {
    json!({"Id": "n123", "Name": "app-net", "Driver": "overlay", "Scope": "swarm"})
}

fn service_json() -> Value {
    json!({"ID": "s123", "Version": {"Index": 7}, "Spec": {"Name": "web", "Unknown": {"a": 1}}, "PreviousSpec": {"Name": "web"}})
}

// === What goes over the wire ===

#[tokio::test]
async fn one_connection_serves_all_calls_and_everything_is_counted() {
    let fake = Fake::on_socket(|request| match request.line.as_str() {
        "GET /v1.41/networks/n123?verbose=false&scope=swarm" => ok(network_json()),
        "GET /v1.41/services/gone" => refusal(404, "service gone not found"),
        "GET /v1.41/services?status=true" => refusal(500, "broken"),
        _ => ok(json!([])),
    });
    let engine = patient(&fake);
    engine.tasks(tasks_of(["s1"])).await.unwrap();
    engine.configs(&main_instance()).await.unwrap();
    engine.network("n123").await.unwrap().unwrap();
    assert_eq!(engine.raw_service("gone").await, Ok(None));
    engine.services().await.unwrap_err();
    assert_eq!(fake.connections(), 1);
    let traffic = engine.traffic();
    assert_eq!((traffic.connections, traffic.calls), (1, 6), "one call more for the version");
    assert!(traffic.bytes_sent > 300 && traffic.bytes_received > 300, "{traffic:?}");
    assert_eq!(traffic.errors, BTreeMap::from([(Class::Unavailable, 1)]), "what is absent is no error");
}

#[tokio::test]
async fn queries_are_what_the_port_says() {
    let fake = Fake::on_socket(|_| ok(json!([])));
    let engine = patient(&fake);
    engine.services().await.unwrap();
    engine.tasks(tasks_of(["s1"])).await.unwrap();
    engine.tasks(TasksOf::Service("s1".into())).await.unwrap();
    engine.task_history(&"s1".into()).await.unwrap();
    engine.configs(&main_instance()).await.unwrap();
    engine.secrets().await.unwrap();
    engine.nodes().await.unwrap();
    assert_eq!(
        fake.lines(),
        [
            "GET /v1.41/services?status=true",
            "GET /v1.41/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D",
            "GET /v1.41/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%2C%22service%22%3A%5B%22s1%22%5D%7D",
            "GET /v1.41/tasks?filters=%7B%22service%22%3A%5B%22s1%22%5D%7D",
            "GET /v1.41/configs?filters=%7B%22label%22%3A%5B%22dovetail.instance%3Dmain%22%5D%7D",
            "GET /v1.41/secrets",
            "GET /v1.41/nodes",
        ]
    );
}

/// An engine that was replaced after it had told its version once: its versions before and after, the one that it then
/// answers in, and what it says to any other.
fn replaced(before: Value, after: Value, speaks: &'static str, complaint: &'static str) -> Fake {
    let asked = AtomicUsize::new(0);
    Fake::answering_all(move |request| match request.line.as_str() {
        "GET /version" if asked.fetch_add(1, Ordering::SeqCst) == 0 => ok(before.clone()),
        "GET /version" => ok(after.clone()),
        line if line.starts_with(speaks) => ok(json!([])),
        _ => status(400, complaint),
    })
}

#[tokio::test]
async fn a_newer_engine_is_asked_in_the_oldest_version_it_speaks() {
    let fake = replaced(
        json!({"Version": "28.5.2", "ApiVersion": "1.51", "MinAPIVersion": "1.24"}),
        json!({"Version": "29.1.0", "ApiVersion": "1.52", "MinAPIVersion": "1.44"}),
        "GET /v1.44/",
        "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade",
    );
    let engine = patient(&fake);
    // The engine was upgraded between the two: one pass fails, the next one knows.
    assert_eq!(engine.services().await.unwrap_err().class, Class::Unavailable);
    engine.services().await.unwrap();
    engine.configs(&main_instance()).await.unwrap();
    let lines = fake.lines();
    assert_eq!(lines[0], "GET /v1.41/services?status=true");
    assert!(lines[1..].iter().all(|line| line.starts_with("GET /v1.44/")), "{lines:?}");
}

#[tokio::test]
async fn an_engine_that_was_taken_back_is_asked_as_before() {
    let fake = replaced(
        json!({"Version": "29.1.0", "ApiVersion": "1.52", "MinAPIVersion": "1.44"}),
        json!({"Version": "24.0.9", "ApiVersion": "1.43", "MinAPIVersion": "1.12"}),
        "GET /v1.41/",
        "client version 1.44 is too new. Maximum supported API version is 1.43",
    );
    let engine = patient(&fake);
    // A network that is asked for meanwhile is not taken for one that may not be seen.
    let network = engine.network("n1").await.unwrap_err();
    assert_eq!(network.class, Class::Unavailable);
    engine.services().await.unwrap();
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_recognised_without_naming_a_version() {
    let fake = Fake::answering_all(|request| match request.line.as_str() {
        "GET /version" => ok(json!({"Version": "19.03.15", "ApiVersion": "1.40", "MinAPIVersion": "1.12"})),
        "GET /info" => ok(json!({"Swarm": {"LocalNodeState": "active", "ControlAvailable": true}})),
        _ => nothing_else(request),
    });
    let identity = patient(&fake).identity().await.unwrap();
    assert_eq!(identity, Identity { version: "19.03.15".into(), api: (1, 40), manager: true });
    assert!(supported(&identity).unwrap_err().contains("API 1.40"));
}

#[tokio::test]
async fn services_are_written_whole() {
    let fake = Fake::on_socket(|request| match request.line.split('?').next().unwrap() {
        "POST /services/create" => status(201, r#"{"ID":"s9","Warning":"image could not be accessed"}"#),
        "POST /services/s1/update" => ok(json!({"Warnings": null})),
        _ => nothing_else(request),
    });
    let engine = patient(&fake);
    let spec = json!({"Name": "proxy", "Nobody": {"knows": [1.5, null]}});
    let auth = RegistryAuth::new("c2VjcmV0".into());
    assert_eq!(engine.create_service(&spec, Some(&auth)).await, Ok(ServiceId::from("s9")));
    engine.update_service(&"s1".into(), u64::MAX, &spec, Some(&auth)).await.unwrap();
    engine.update_service(&"s1".into(), 7, &spec, None).await.unwrap();
    let requests = fake.requests();
    // In no version but the Engine's newest: an older one would lose what came later.
    assert_eq!(
        fake.lines(),
        [
            "POST /services/create",
            "POST /services/s1/update?version=18446744073709551615",
            "POST /services/s1/update?version=7&registryAuthFrom=spec",
        ]
    );
    assert!(
        requests.iter().all(|request| request.body == spec && request.headers["content-type"] == "application/json")
    );
    let auths: Vec<_> =
        requests.iter().map(|request| request.headers.get("x-registry-auth").map(String::as_str)).collect();
    assert_eq!(auths, [Some("c2VjcmV0"), Some("c2VjcmV0"), None]);
}

#[tokio::test]
async fn configs_are_created_labelled_and_removed() {
    let fake = Fake::on_socket(|request| match request.line.as_str() {
        "POST /v1.41/configs/create" => status(201, r#"{"ID":"c9"}"#),
        "POST /v1.41/configs/c9/update?version=5" => status(200, ""),
        "DELETE /v1.41/configs/c9" => status(204, ""),
        _ => nothing_else(request),
    });
    let engine = patient(&fake);
    let labels = BTreeMap::from([("dovetail.instance".to_owned(), "main".to_owned())]);
    let new = NewConfig { name: "one".into(), labels: labels.clone(), data: b"hi\n"[..].into() };
    assert_eq!(engine.create_config(&new).await, Ok(ConfigId::from("c9")));
    let config = Config {
        id: "c9".into(),
        version: 5,
        created_at: Timestamp(0),
        name: "one".into(),
        labels,
        data: b"hi\n"[..].into(),
    };
    engine.label_config(&config).await.unwrap();
    engine.remove_config(&config.id).await.unwrap();
    let bodies: Vec<Value> = fake.requests().into_iter().skip(1).map(|request| request.body).collect();
    let labels = json!({"dovetail.instance": "main"});
    assert_eq!(
        bodies,
        [
            json!({"Name": "one", "Labels": labels, "Data": "aGkK"}),
            json!({"Name": "one", "Labels": labels}),
            Value::Null
        ]
    );
}

#[tokio::test]
async fn a_service_is_removed_by_its_id() {
    let fake = Fake::on_socket(|request| match request.line.as_str() {
        "DELETE /v1.41/services/s1" => status(200, ""),
        "DELETE /v1.41/services/gone" => refusal(404, "service gone not found"),
        "DELETE /v1.41/services/theirs" => refusal(403, "access denied"),
        _ => nothing_else(request),
    });
    let engine = patient(&fake);
    engine.remove_service(&"s1".into()).await.unwrap();
    for (id, class) in [("gone", Class::NotFound), ("theirs", Class::Refused), ("../configs/c1", Class::NotFound)] {
        assert_eq!(engine.remove_service(&id.into()).await.unwrap_err().class, class, "{id}");
    }
    assert_eq!(fake.lines().len(), 3, "what is no id is not sent");
}

#[tokio::test]
async fn the_end_of_a_log_is_asked_for_and_no_more_is_read_than_is_wanted() {
    let (sender, answer) = stream();
    let answer = std::sync::Mutex::new(Some(answer));
    let fake = Fake::on_socket(move |request| match request.line.as_str() {
        "GET /v1.41/tasks/t1/logs?stdout=true&stderr=true&tail=20" => answer.lock().unwrap().take().unwrap(),
        "GET /v1.41/tasks/gone/logs?stdout=true&stderr=true&tail=20" => refusal(404, "task gone not found"),
        _ => nothing_else(request),
    });
    let engine = patient(&fake);
    // The stream never ends: enough is enough.
    let frame = [&[2, 0, 0, 0, 0, 0, 16, 0][..], &[b'x'; 4096]].concat();
    for _ in 0..3 {
        sender.send(frame.clone()).unwrap();
    }
    let log = engine.task_log(&"t1".into()).await.unwrap();
    assert_eq!(log, "x".repeat(8192));
    assert_eq!(engine.task_log(&"gone".into()).await.unwrap_err().class, Class::NotFound);
    assert_eq!(engine.task_log(&"../info".into()).await.unwrap_err().class, Class::NotFound);
}

// === What becomes of answers ===

#[tokio::test]
async fn configs_of_another_installation_are_not_ours() {
    let config = |id: &str, instance: &str| {
        json!({
            "ID": id, "Version": {"Index": 1}, "CreatedAt": "2026-11-24T22:20:04.97389781Z",
            "Spec": {"Name": id, "Labels": {"dovetail.instance": instance}, "Data": "aGkK"},
        })
    };
    let fake = Fake::on_socket(move |_| ok(json!([config("ours", "main"), config("theirs", "other")])));
    let configs = patient(&fake).configs(&main_instance()).await.unwrap();
    assert_eq!(
        configs.iter().map(|config| (config.name.as_str(), &*config.data)).collect::<Vec<_>>(),
        [("ours", &b"hi\n"[..])]
    );
}

#[tokio::test]
async fn a_service_is_found_by_its_whole_name_only() {
    let fake = Fake::on_socket(|request| match request.line.as_str() {
        "GET /v1.41/services/web" | "GET /v1.41/services/s12" | "GET /v1.41/services/s123" => ok(service_json()),
        // What 20.10.24 says to a text that begins several ids and is no name.
        "GET /v1.41/services/c" => refusal(400, "service c is ambiguous (2 matches found)"),
        "GET /v1.41/services/nope" => refusal(404, "service nope not found"),
        "GET /v1.41/services/lost" => {
            refusal(500, "rpc error: code = Unknown desc = The swarm does not have a leader.")
        }
        _ => nothing_else(request),
    });
    let engine = patient(&fake);
    let found = engine.raw_service("web").await.unwrap().unwrap();
    assert_eq!((found.version, &found.spec), (7, &service_json()["Spec"]));
    for absent in ["s12", "s123", "c", "nope", "", "../info", "a b"] {
        assert_eq!(engine.raw_service(absent).await, Ok(None), "{absent:?}");
    }
    assert_eq!(engine.raw_service("lost").await.unwrap_err().class, Class::Unavailable);
}

#[tokio::test]
async fn a_network_is_absent_only_when_the_cluster_says_so() {
    let leader = AtomicUsize::new(1);
    let fake = Fake::on_socket(move |request| match request.line.split('?').next().unwrap() {
        "GET /v1.41/networks/n123" | "GET /v1.41/networks/app-net" | "GET /v1.41/networks/n1" => ok(network_json()),
        "GET /v1.41/networks/local" => ok(json!({"Id": "l", "Name": "local", "Driver": "bridge", "Scope": "local"})),
        "GET /v1.41/networks/n" => refusal(400, "network n is ambiguous (2 matches found based on ID prefix)"),
        "GET /v1.41/networks/nope" => refusal(404, "network nope not found"),
        // The leader is there the first three times that it is asked for.
        "GET /v1.41/services" if leader.fetch_add(1, Ordering::SeqCst) <= 3 => ok(json!([])),
        "GET /v1.41/services" => refusal(500, "rpc error: code = Unknown desc = The swarm does not have a leader."),
        _ => nothing_else(request),
    });
    let engine = patient(&fake);
    assert_eq!(engine.network("app-net").await.unwrap().unwrap().id.as_str(), "n123");
    assert_eq!(engine.network("n123").await.unwrap().unwrap().name, "app-net");
    assert_eq!(engine.network("local").await.unwrap().unwrap().scope, "local");
    for absent in ["n1", "n", "nope", "", "../info", "nope?scope=local", "n 123"] {
        assert_eq!(engine.network(absent).await, Ok(None), "{absent:?}");
    }
    for unknown in ["n1", "n", "nope"] {
        assert_eq!(engine.network(unknown).await.unwrap_err().class, Class::Unavailable, "{unknown:?}");
    }
    assert!(fake.lines().iter().all(|line| !line.contains("info")));
}

#[tokio::test]
async fn a_network_that_is_there_once_there_is_a_leader_again_was_never_absent() {
    let asked = AtomicUsize::new(0);
    let fake = Fake::on_socket(move |request| match request.line.split('?').next().unwrap() {
        // While the leader is being elected, and after.
        "GET /v1.41/networks/n123" if asked.fetch_add(1, Ordering::SeqCst) == 0 => {
            refusal(404, "network n123 not found")
        }
        "GET /v1.41/networks/n123" => ok(network_json()),
        "GET /v1.41/services" => ok(json!([])),
        _ => nothing_else(request),
    });
    assert_eq!(patient(&fake).network("n123").await.unwrap().unwrap().name, "app-net");
}

#[tokio::test]
async fn a_service_that_is_gone_has_no_tasks() {
    let fake = Fake::on_socket(|_| refusal(404, "service s1 not found"));
    let engine = patient(&fake);
    assert_eq!(engine.tasks(TasksOf::Service("s1".into())).await, Ok(Vec::new()));
    assert_eq!(engine.task_history(&"s1".into()).await, Ok(Vec::new()));
    assert_eq!(engine.tasks(tasks_of(["s1"])).await.unwrap_err().class, Class::NotFound);
    assert!(engine.traffic().errors.get(&Class::NotFound) == Some(&1));
}

#[tokio::test]
async fn refusals_have_their_class_and_say_what_was_tried() {
    for (code, message, class) in [
        (500, "rpc error: code = Unknown desc = update out of sequence", Class::Conflict),
        (409, "rpc error: code = AlreadyExists desc = config c1 already exists", Class::Conflict),
        (
            400,
            "rpc error: code = InvalidArgument desc = config 'c' is in use by the following service: s",
            Class::InUse,
        ),
        (404, "config c not found", Class::NotFound),
        (400, "nonsense", Class::Refused),
        (503, "This node is not a swarm manager.", Class::Unavailable),
    ] {
        let fake = Fake::on_socket(move |_| refusal(code, message));
        let engine = patient(&fake);
        let expected = |operation: &str| Error::new(class, operation, message);
        assert_eq!(
            engine.update_service(&"s1".into(), 1, &json!({"Name": "proxy"}), None).await,
            Err(expected("update service proxy"))
        );
        assert_eq!(engine.remove_config(&"c1".into()).await, Err(expected("remove config c1")));
        assert_eq!(engine.traffic().errors, BTreeMap::from([(class, 2)]));
    }
}

#[tokio::test]
async fn an_answer_that_stalls_ends_at_the_deadline() {
    for (what, answer) in [("head", silence as fn() -> Answer), ("body", || stalled("[{}"))] {
        let fake = Fake::on_socket(move |_| answer());
        let engine = connect(&fake, HASTY);
        let outcomes = tokio::time::timeout(Duration::from_secs(10), async {
            let services = engine.services().await.map(drop);
            (services, engine.configs(&main_instance()).await.map(drop))
        });
        let (services, configs) = outcomes.await.unwrap_or_else(|_| panic!("a stalled {what} has a deadline"));
        for error in [services.unwrap_err(), configs.unwrap_err()] {
            assert_eq!(error.class, Class::Unreachable, "{what}: {error}");
            assert!(error.message.contains("within 300ms") && error.message.contains("unix://"), "{what}: {error}");
        }
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    for (answer, class) in [
        ((|| broken_off("[")) as fn() -> Answer, Class::Unreachable),
        (|| status(200, "[{\"ID\":\"s1\""), Class::Malformed),
        (|| status(200, "[]]"), Class::Malformed),
        (|| status(200, ""), Class::Malformed),
        (|| status(200, "<html>"), Class::Malformed),
        (|| status(302, ""), Class::Malformed),
    ] {
        let fake = Fake::on_socket(move |_| answer());
        let engine = patient(&fake);
        let errors = [
            engine.services().await.map(drop).unwrap_err(),
            engine.tasks(tasks_of(["s1"])).await.map(drop).unwrap_err(),
            engine.configs(&main_instance()).await.map(drop).unwrap_err(),
            engine.secrets().await.map(drop).unwrap_err(),
            engine.raw_service("web").await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.class, class, "{error}");
        }
    }
}

#[tokio::test]
async fn no_engine_is_unreachable_and_says_where() {
    for (endpoint, said) in [
        ("unix:///nowhere/docker.sock", "No such file or directory"),
        // Nobody listens on port 1.
        ("tcp://127.0.0.1:1", "Connection refused"),
    ] {
        let engine = Engine::connect(&Endpoint::parse(endpoint, None).unwrap(), PATIENT).unwrap();
        for error in [engine.services().await.unwrap_err(), engine.configs(&main_instance()).await.unwrap_err()] {
            assert_eq!(error.class, Class::Unreachable);
            assert!(error.message.contains(endpoint) && error.message.contains(said), "{error}");
        }
    }
}

fn task_json(id: &str, service: &str) -> Value {
    json!({
        "ID": id, "CreatedAt": "2026-11-24T22:20:04.97389781Z", "ServiceID": service,
        "Spec": {"ContainerSpec": {"Image": "x".repeat(1000)}}, "Status": {"State": "running"},
        "DesiredState": "running",
    })
}

#[tokio::test]
async fn a_long_answer_is_read_too() {
    let services = ["s1", "s2", "s3"];
    let task = |number: usize| task_json(&format!("t{number}"), services[number % 3]);
    let answer: Value = (0..3000).map(task).collect();
    let fake = Fake::on_socket(move |_| ok(answer.clone()));
    let engine = patient(&fake);
    let read = engine.tasks(tasks_of(["s1", "s3", "gone"])).await.unwrap();
    let ids: Vec<&str> = read.iter().map(|task| task.id.as_str()).collect();
    let expected: Vec<String> = (0..3000).filter(|number| number % 3 != 1).map(|number| format!("t{number}")).collect();
    assert_eq!(ids, expected);
    // The connection is as good as before.
    assert_eq!(engine.tasks(tasks_of(["s2"])).await.unwrap().len(), 1000);
    assert_eq!(fake.connections(), 1);
}

/// The same text as one answer, and byte by byte.
#[tokio::test]
async fn a_list_may_arrive_in_pieces() {
    let text = json!([task_json("t1", "s1"), task_json("t2", "s2"), task_json("t3", "s1")]).to_string();
    let pieces = move || {
        let (sender, answer) = stream();
        for byte in text.bytes() {
            sender.send(vec![byte]).unwrap();
        }
        answer
    };
    let fake = Fake::on_socket(move |_| pieces());
    let read = patient(&fake).tasks(tasks_of(["s1"])).await.unwrap();
    assert_eq!(read.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["t1", "t3"]);
}

/// How an answer ends that has this text so far.
type Ends = fn(String) -> Answer;

#[tokio::test]
async fn a_list_that_is_cut_short_is_none_however_many_objects_came() {
    let whole = json!([task_json("t1", "s1"), task_json("t2", "s1")]).to_string();
    let without_end = whole.len() - 1;
    let second = whole.rfind(r#"{"CreatedAt""#).unwrap();
    for length in [without_end, second, second + 20] {
        let cut = whole[..length].to_owned();
        // The body ends properly, or breaks off: its length says that more was to come, or a chunk is missing.
        let answers: [(Ends, Class); 4] = [
            (|cut| status(200, &cut), Class::Malformed),
            (|cut| chunked(cut, true), Class::Malformed),
            (|cut| broken_off(&cut), Class::Unreachable),
            (|cut| chunked(cut, false), Class::Unreachable),
        ];
        for (answer, class) in answers {
            let cut = cut.clone();
            let fake = Fake::on_socket(move |_| answer(cut.clone()));
            let error = patient(&fake).tasks(tasks_of(["s1"])).await.unwrap_err();
            assert_eq!(error.class, class, "{error}, {length} bytes");
        }
    }
    // With all of the list and not all of the body nobody knows what was to follow.
    let fake = Fake::on_socket(move |_| chunked(whole.clone(), false));
    assert_eq!(patient(&fake).tasks(tasks_of(["s1"])).await.unwrap_err().class, Class::Unreachable);
}

/// The text as one chunk, with a proper end or without.
fn chunked(text: String, ends: bool) -> Answer {
    let (sender, answer) = stream();
    sender.send(text.into_bytes()).unwrap();
    if !ends {
        sender.send(Vec::new()).unwrap();
    }
    answer
}

#[tokio::test]
async fn an_object_that_does_not_read_is_named_before_the_rest_has_come() {
    let (sender, answer) = stream();
    let answer = std::sync::Mutex::new(Some(answer));
    let fake = Fake::on_socket(move |_| answer.lock().unwrap().take().unwrap());
    let mut bad = task_json("bad", "nobody asks for it");
    bad["CreatedAt"] = json!("today");
    let text = json!([task_json("t1", "s1"), bad, {}]).to_string();
    sender.send(text.strip_suffix("{}]").unwrap().as_bytes().to_vec()).unwrap();
    let error = patient(&fake).tasks(tasks_of(["s1"])).await.unwrap_err();
    assert_eq!((error.class, error.message.as_str()), (Class::Malformed, "task bad: \"today\" is no time"));
}

#[tokio::test]
async fn an_image_is_resolved_with_the_credentials_and_by_whole_digests_only() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let said = digest.clone();
    let fake = Fake::on_socket(move |request| match request.line.as_str() {
        "GET /v1.41/distribution/10.99.0.254:5000/team/nginx:1.28/json" => ok(json!({
            "Descriptor": {"mediaType": "x", "digest": said, "size": 7}, "Platforms": []
        })),
        "GET /v1.41/distribution/gone:1/json" => refusal(404, "manifest unknown"),
        "GET /v1.41/distribution/secret:1/json" => refusal(401, "unauthorized: authentication required"),
        "GET /v1.41/distribution/odd:1/json" => ok(json!({"Descriptor": {"digest": "sha256:x y"}})),
        _ => nothing_else(request),
    });
    let engine = patient(&fake);
    let auth = RegistryAuth::new("e30=".into());
    let image = "10.99.0.254:5000/team/nginx:1.28";
    assert_eq!(engine.resolve_image(image, Some(&auth)).await, Ok(Some(format!("{image}@{digest}"))));
    assert_eq!(fake.requests().last().unwrap().headers.get("x-registry-auth").map(String::as_str), Some("e30="));
    assert_eq!(engine.resolve_image("gone:1", None).await, Ok(None));
    assert_eq!(fake.requests().last().unwrap().headers.get("x-registry-auth"), None);
    assert!(engine.resolve_image("secret:1", None).await.is_err());
    assert_eq!(engine.resolve_image("odd:1", None).await.unwrap_err().class, Class::Malformed);
    assert_eq!(engine.resolve_image("../../info", None).await, Ok(None));
}
