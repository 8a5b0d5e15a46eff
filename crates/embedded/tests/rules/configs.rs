use std::collections::BTreeMap;

use embedded::Swarm;
use model::{InstanceName, labels};
use serde_json::json;
use swarm::{Class, NewConfig, Read, TaskState, Write};
use tokio::time::sleep;

use crate::{SECOND, class, demo, running};

fn config(name: &str, data: &str) -> NewConfig {
    let labels = BTreeMap::from([(labels::INSTANCE.to_owned(), "main".to_owned())]);
    NewConfig { name: name.into(), labels, data: data.as_bytes().into() }
}

/// Makes the config the only one of the service.
fn mount(swarm: &Swarm, service: &str, name: &str) -> swarm::Result<()> {
    let id = swarm.all_configs().into_iter().find(|config| config.name == name).map(|config| config.id);
    let id = id.map_or_else(|| "missing".to_owned(), |id| id.as_str().to_owned());
    swarm.service_update_raw(service, |spec| {
        spec["TaskTemplate"]["ContainerSpec"]["Configs"] =
            json!([{ "ConfigID": id, "ConfigName": name, "File": { "Name": "/etc/nginx/nginx.conf" } }]);
    })
}

#[tokio::test(start_paused = true)]
async fn names_are_unique_and_sizes_limited() {
    let swarm = demo();
    swarm.create_config(&config("a", "x")).await.unwrap();
    for (what, new, expected) in [
        ("the name is taken", config("a", "y"), Some(Class::Conflict)),
        ("an empty one", config("b", ""), Some(Class::Refused)),
        ("the largest", config("c", &"x".repeat(511_999)), None),
        ("one byte more", config("d", &"x".repeat(512_000)), Some(Class::Refused)),
        ("the longest name", config(&"e".repeat(64), "x"), None),
        ("one character more", config(&"e".repeat(65), "x"), Some(Class::Refused)),
        ("a slash", config("a/b", "x"), Some(Class::Refused)),
    ] {
        assert_eq!(class(swarm.create_config(&new).await), expected, "{what}");
    }
    swarm.set_config_limit(1_024_000);
    assert!(swarm.create_config(&config("d", &"x".repeat(512_000))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn only_labels_change_and_only_of_the_version_that_was_seen() {
    let swarm = demo();
    let id = swarm.create_config(&config("a", "x")).await.unwrap();
    let main = InstanceName::parse("main").unwrap();
    let mut seen = swarm.configs(&main).await.unwrap().remove(0);
    assert_eq!(swarm.configs(&InstanceName::parse("other").unwrap()).await, Ok(Vec::new()));
    let stale = seen.clone();
    seen.labels.insert("held".into(), "yes".into());
    swarm.label_config(&seen).await.unwrap();
    assert_eq!(swarm.configs(&main).await.unwrap()[0].labels["held"], "yes");
    assert_eq!(class(swarm.label_config(&stale).await), Some(Class::Conflict));
    let mut other = swarm.configs(&main).await.unwrap().remove(0);
    other.data = b"y".as_slice().into();
    assert_eq!(class(swarm.label_config(&other).await), Some(Class::Refused));
    swarm.remove_config(&id).await.unwrap();
    assert_eq!(class(swarm.remove_config(&id).await), Some(Class::NotFound));
    assert_eq!(class(swarm.label_config(&seen).await), Some(Class::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_config_is_protected_by_current_specs_and_not_by_previous_ones() {
    let swarm = demo();
    let a = swarm.create_config(&config("a", "x")).await.unwrap();
    let b = swarm.create_config(&config("b", "y")).await.unwrap();
    swarm.service("web").create().unwrap();
    assert_eq!(class(mount(&swarm, "web", "missing")), Some(Class::Refused));
    mount(&swarm, "web", "a").unwrap();
    assert_eq!(class(swarm.remove_config(&a).await), Some(Class::InUse));
    running(&swarm, "web", 1).await;

    // The old one is removed while the rollout of the next runs, and that fails: the rollback cannot work.
    swarm.service_update_raw("web", |spec| spec["UpdateConfig"] = json!({ "FailureAction": "rollback" })).unwrap();
    swarm.break_when(|task, configs| {
        (configs.mounted(task).get("/etc/nginx/nginx.conf")?.as_ref() == b"y").then(|| "emerg".into())
    });
    mount(&swarm, "web", "b").unwrap();
    swarm.remove_config(&a).await.unwrap();
    sleep(30 * SECOND).await;
    assert_eq!(swarm.running_tasks("web").len(), 0);
    let last = swarm.tasks_named("web").into_iter().rfind(|task| task.state == TaskState::Rejected).unwrap();
    assert_eq!(last.error.as_deref(), Some("config a not found"));
    assert!(swarm.remove_config(&b).await.is_ok(), "nothing refers to the one that failed");
}

#[tokio::test(start_paused = true)]
async fn secrets_have_unique_names_and_are_protected_by_current_specs() {
    let swarm = demo();
    let cert = swarm.add_secret("app.cert").unwrap();
    for (name, expected) in [("app.cert", Some(Class::Conflict)), ("-a", Some(Class::Refused)), ("app.key", None)] {
        assert_eq!(class(swarm.add_secret(name)), expected, "{name}");
    }
    let mut names: Vec<String> = swarm.secrets().await.unwrap().into_iter().map(|secret| secret.name).collect();
    names.sort();
    assert_eq!(names, ["app.cert", "app.key"]);

    swarm.service("web").create().unwrap();
    let mount = |id: &str| {
        swarm.service_update_raw("web", |spec| {
            spec["TaskTemplate"]["ContainerSpec"]["Secrets"] =
                json!([{ "SecretID": id, "SecretName": "app.cert", "File": { "Name": "app.cert" } }]);
        })
    };
    assert_eq!(class(mount("missing")), Some(Class::Refused));
    mount(cert.as_str()).unwrap();
    let refused = swarm.delete_secret("app.cert").unwrap_err();
    assert_eq!(
        (refused.class, &*refused.message),
        (Class::InUse, "secret 'app.cert' is in use by the following service: web")
    );
    swarm.remove_service("web").unwrap();
    swarm.delete_secret("app.cert").unwrap();
    assert_eq!(class(swarm.delete_secret("app.cert")), Some(Class::NotFound));
    assert_eq!(class(swarm.label_secret("app.cert")), Some(Class::NotFound));
    // Under its old name it is another one.
    assert_ne!(swarm.add_secret("app.cert").unwrap(), cert);
}
