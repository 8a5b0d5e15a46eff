//! Secrets.

use std::time::Duration;

use dovetail_observer::{Settings, observe_once};
use embedded::{Fault, Verb};
use model::labels;
use swarm::Class;
use tokio::time::sleep;

use crate::{
    LONGEST_RETRY, POLL, SOON, has_run, named, new_swarm, service, start, start_at_rest, task_mode, tasks, unread,
    vip_mode, with_secret,
};

#[tokio::test(start_paused = true)]
async fn secrets_that_nobody_names_are_not_listed_and_wake_nobody() {
    let swarm = new_swarm();
    task_mode(&swarm, "task").create().unwrap();
    let refused = with_secret(&swarm, "refused", "users").label(labels::PORT, "x");
    refused.create().unwrap();
    let mut world = start_at_rest(&swarm, "both", |desired| desired.services.len() == 2).await;
    // In the middle between two polls.
    sleep(Duration::from_secs(19) + Duration::from_millis(500)).await;
    swarm.clear_calls();
    swarm.add_secret("secret").unwrap();
    swarm.delete_secret("secret").unwrap();
    swarm
        .add_config(&swarm::NewConfig { name: "c".into(), labels: Default::default(), data: b"x".as_slice().into() })
        .unwrap();
    sleep(SOON).await;
    assert_eq!(swarm.calls(), []);
    vip_mode(&swarm, "vip").create().unwrap();
    world.within(SOON, "an event that matters", |desired| service(desired, "vip").is_some()).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.made(Verb::Secrets), 0);
    assert!(world.desired.borrow().as_ref().unwrap().secrets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn secrets_that_are_named_are_followed() {
    let swarm = new_swarm();
    let users = swarm.add_secret("users").unwrap();
    swarm.add_secret("other").unwrap();
    with_secret(&swarm, "web", "users").label(labels::STACK, "shop").create().unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(&swarm);
    let desired = world.within(SOON, "both", |desired| desired.services.len() == 2).await;
    assert_eq!(named(&desired), [("users".to_owned(), users.clone())]);
    assert_eq!(*desired, observe_once(&swarm, &Settings::default()).await.unwrap().desired);

    sleep(Duration::from_secs(20)).await;
    swarm.clear_calls();
    sleep(Duration::from_secs(60)).await;
    let lists = world.made(Verb::Secrets);
    assert!((15..=20).contains(&lists), "{lists} lists in a minute at rest");

    // Between two polls: it is the event that tells.
    sleep(Duration::from_millis(500)).await;
    let prefixed = swarm.add_secret("shop_users").unwrap();
    let desired = world.within(SOON, "with its stack's prefix", |desired| desired.secrets.len() == 2).await;
    assert_eq!(named(&desired), [("shop_users".to_owned(), prefixed), ("users".to_owned(), users.clone())]);
    swarm.delete_secret("users").unwrap();
    world.within(SOON, "one is gone", |desired| desired.secrets.len() == 1).await;
    swarm.lose_events(1);
    let again = swarm.add_secret("users").unwrap();
    world.within(POLL, "without an event", |desired| desired.secrets.values().any(|id| *id == again)).await;
    assert_eq!(world.counted("routing", "secret_changed"), 3);

    // What is nobody's business does not reach routing.
    swarm.label_secret("users").unwrap();
    swarm.add_secret("third").unwrap();
    swarm.delete_secret("other").unwrap();
    sleep(POLL).await;
    assert!(world.nothing_published());
    swarm.remove_label("web", labels::BASIC_AUTH).unwrap();
    world.within(SOON, "nobody names one", |desired| desired.secrets.is_empty()).await;
    swarm.clear_calls();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.made(Verb::Secrets), 0);
}

#[tokio::test(start_paused = true)]
async fn a_secret_comes_with_the_label_that_names_it_or_later() {
    let swarm = new_swarm();
    vip_mode(&swarm, "vip").create().unwrap();
    let mut world = start_at_rest(&swarm, "it runs", |desired| has_run(desired, "vip")).await;
    swarm.set_label("vip", labels::SSL_CERT, "app.cert").unwrap();
    let desired = world
        .within(SOON, "the label", |desired| {
            service(desired, "vip").unwrap().asked.as_ref().is_ok_and(|request| !request.options.secrets().is_empty())
        })
        .await;
    assert!(desired.secrets.is_empty());
    let cert = swarm.add_secret("app.cert").unwrap();
    let desired = world.within(SOON, "the secret", |desired| !desired.secrets.is_empty()).await;
    assert_eq!(named(&desired), [("app.cert".to_owned(), cert)]);
    let key = swarm.add_secret("app.key").unwrap();
    swarm.set_label("vip", labels::SSL_KEY, "app.key").unwrap();
    let desired = world.within(SOON, "the key", |desired| desired.secrets.len() == 2).await;
    assert!(named(&desired).contains(&("app.key".to_owned(), key)));
    assert_eq!(world.counted("routing", "secret_changed"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_list_of_secrets_keeps_the_last_and_holds_back_new_names_alone() {
    let swarm = new_swarm();
    let users = swarm.add_secret("users").unwrap();
    with_secret(&swarm, "web", "users").create().unwrap();
    let mut world = start_at_rest(&swarm, "it runs", |desired| tasks(desired, "web") == Some(1)).await;
    let fault = swarm.inject(Fault::on(Verb::Secrets).fail(Class::Unavailable));
    swarm.delete_secret("users").unwrap();
    sleep(Duration::from_secs(30)).await;
    assert!(world.nothing_published());
    assert!(fault.hits() > 3);

    // Tasks of a service with secrets are followed, and so is who names none or the same.
    swarm.scale("web", 2).unwrap();
    let second = with_secret(&swarm, "second", "users");
    second.create().unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    with_secret(&swarm, "held-back", "more").create().unwrap();
    let desired = world
        .within(Duration::from_secs(10), "all but one", |desired| {
            tasks(desired, "web") == Some(2) && tasks(desired, "second") == Some(1) && has_run(desired, "vip")
        })
        .await;
    assert_eq!(named(&desired), [("users".to_owned(), users)]);
    let reason = Some("the secrets that it names could not be listed");
    assert_eq!(unread(&desired, "held-back"), reason, "whether its secret exists is not known");
    // A fresh process knows nothing of secrets: who names none is published, and the others are not gone.
    for desired in [
        observe_once(&swarm, &Settings::default()).await.unwrap().desired,
        (*start(&swarm).within(SOON, "the start", |_| true).await).clone(),
    ] {
        assert!(has_run(&desired, "vip"));
        for name in ["web", "second", "held-back"] {
            assert_eq!(unread(&desired, name), reason);
        }
    }
    fault.lift();
    let desired = world.within(POLL, "the list", |desired| unread(desired, "held-back").is_none()).await;
    assert!(desired.secrets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn secrets_that_may_not_be_seen_keep_nobody_else_from_being_published() {
    let swarm = new_swarm();
    swarm.add_secret("users").unwrap();
    with_secret(&swarm, "web", "users").create().unwrap();
    vip_mode(&swarm, "vip").create().unwrap();
    swarm.settled(LONGEST_RETRY).await;
    let fault = swarm.inject(Fault::on(Verb::Secrets).fail(Class::Refused));
    let mut world = start(&swarm);
    let desired = world.within(SOON, "both", |desired| desired.services.len() == 2).await;
    assert!(desired.secrets.is_empty());
    fault.lift();
    world.within(POLL, "the secret", |desired| desired.secrets.len() == 1).await;
    // What was seen once is not withdrawn for that.
    swarm.inject(Fault::on(Verb::Secrets).fail(Class::Refused));
    sleep(Duration::from_secs(60)).await;
    assert!(world.nothing_published());
    swarm.set_label("vip", labels::PORT, "81").unwrap();
    let desired =
        world.within(SOON, "an event", |desired| service(desired, "vip").unwrap().labels[labels::PORT] == "81").await;
    assert_eq!(desired.secrets.len(), 1);
}
