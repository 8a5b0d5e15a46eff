//! The event stream: how it begins, what comes out of it, and that it ends.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use serde_json::json;
use swarm::{Class, Event, EventKind, Result, Watch};
use tokio::sync::mpsc::UnboundedSender;

use crate::fake::{Answer, Fake, ok, refusal, silence, status, stream};
use crate::{HASTY, connect, patient};

/// A server with one event stream, and the end that feeds it.
fn streaming() -> (UnboundedSender<Vec<u8>>, Fake) {
    let (sender, answer) = stream();
    let answer = Mutex::new(Some(answer));
    let fake = Fake::on_socket(move |_| answer.lock().unwrap().take().expect("one subscription"));
    (sender, fake)
}

fn event(kind: &str) -> String {
    let actor = json!({"ID": "x1", "Attributes": {"name": "web"}});
    let event = json!({"Type": kind, "Action": "update", "Actor": actor, "scope": "swarm", "time": 1795558804});
    format!("{event}\n")
}

async fn next(events: &mut Pin<Box<impl Stream<Item = Result<Event>>>>) -> Option<Result<Event>> {
    tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("the stream goes on or ends")
}

fn service() -> Option<Result<Event>> {
    Some(Ok(Event::Changed(EventKind::Service("x1".into()))))
}

#[tokio::test]
async fn events_come_out_however_they_are_cut() {
    let (sender, fake) = streaming();
    let mut events = Box::pin(patient(&fake).events());
    assert_eq!(next(&mut events).await, Some(Ok(Event::Established)));
    // Two in one chunk.
    sender.send((event("service") + &event("node")).into_bytes()).unwrap();
    assert_eq!(next(&mut events).await, service());
    assert_eq!(next(&mut events).await, Some(Ok(Event::Changed(EventKind::Node))));
    // One in two.
    let text = event("service");
    let (front, back) = text.split_at(30);
    sender.send(front.into()).unwrap();
    sender.send(back.into()).unwrap();
    assert_eq!(next(&mut events).await, service());
    // One that is nothing to us.
    sender.send((event("container") + &event("secret")).into_bytes()).unwrap();
    assert_eq!(next(&mut events).await, Some(Ok(Event::Changed(EventKind::Object))));
    drop(sender);
    assert_eq!(next(&mut events).await, None);
}

#[tokio::test]
async fn the_subscription_starts_a_little_before_now_by_the_engines_clock() {
    let (_sender, fake) = streaming();
    let mut events = Box::pin(patient(&fake).events());
    assert_eq!(next(&mut events).await, Some(Ok(Event::Established)));
    // The ping's date is 2026-11-24 22:20:09.
    assert_eq!(
        fake.lines(),
        [
            "GET /_ping",
            "GET /v1.41/events?since=1795558804&filters=%7B%22scope%22%3A%5B%22swarm%22%5D%2C%22type%22%3A%5B%22service%22%2C%22node%22%2C%22network%22%2C%22config%22%2C%22secret%22%5D%7D"
        ]
    );
}

#[tokio::test]
async fn a_stream_that_breaks_says_so_and_ends() {
    for (bytes, class) in [
        (&b""[..], Class::Unreachable),
        (b"{\"Type\":\"serv", Class::Unreachable),
        (b"{\"Type\":\"service\"}\n", Class::Malformed),
        (b"nonsense\n", Class::Malformed),
    ] {
        let (sender, fake) = streaming();
        let engine = patient(&fake);
        let mut events = Box::pin(engine.events());
        assert_eq!(next(&mut events).await, Some(Ok(Event::Established)));
        if !bytes.is_empty() {
            sender.send(bytes.into()).unwrap();
        }
        sender.send(Vec::new()).unwrap();
        let error = next(&mut events).await.unwrap().unwrap_err();
        assert_eq!((error.class, error.operation.as_str()), (class, "watch events"), "{error}");
        assert_eq!(next(&mut events).await, None);
        assert_eq!(engine.traffic().errors.get(&class), Some(&1));
    }
    // An orderly end, in the middle of an event.
    let (sender, fake) = streaming();
    let mut events = Box::pin(patient(&fake).events());
    assert_eq!(next(&mut events).await, Some(Ok(Event::Established)));
    sender.send(b"{\"Type\":".into()).unwrap();
    drop(sender);
    assert_eq!(next(&mut events).await.unwrap().unwrap_err().class, Class::Unreachable);
}

#[tokio::test]
async fn an_endless_event_is_not_collected() {
    let (sender, fake) = streaming();
    let mut events = Box::pin(patient(&fake).events());
    assert_eq!(next(&mut events).await, Some(Ok(Event::Established)));
    for _ in 0..20 {
        sender.send(vec![b' '; 100_000]).unwrap();
    }
    assert_eq!(next(&mut events).await.unwrap().unwrap_err().class, Class::Malformed);
}

#[tokio::test]
async fn a_subscription_that_is_refused_or_never_answered_is_an_error() {
    for (answer, class) in [
        ((|| refusal(503, "This node is not a swarm manager.")) as fn() -> Answer, Class::Unavailable),
        (silence, Class::Unreachable),
    ] {
        let fake = Fake::on_socket(move |_| answer());
        let mut events = Box::pin(connect(&fake, HASTY).events());
        assert_eq!(next(&mut events).await.unwrap().unwrap_err().class, class);
        assert_eq!(next(&mut events).await, None);
    }
}

/// A server whose pings are answered `pings` times; one is sent with the subscription.
fn mortal(pings: usize) -> (UnboundedSender<Vec<u8>>, Fake) {
    let (sender, answer) = stream();
    let (answer, count) = (Mutex::new(Some(answer)), AtomicUsize::new(0));
    let fake = Fake::answering_all(move |request| match request.line.as_str() {
        "GET /version" => ok(json!({"Version": "20.10.24", "ApiVersion": "1.41"})),
        "GET /_ping" if count.fetch_add(1, Ordering::SeqCst) < pings => status(200, "OK"),
        "GET /_ping" => silence(),
        _ => answer.lock().unwrap().take().expect("one subscription"),
    });
    (sender, fake)
}

#[tokio::test]
async fn a_silent_stream_of_an_engine_that_hangs_ends() {
    let (_sender, fake) = mortal(3);
    let mut events = Box::pin(connect(&fake, HASTY).events());
    assert_eq!(next(&mut events).await, Some(Ok(Event::Established)));
    let error = next(&mut events).await.unwrap().unwrap_err();
    assert_eq!(error.class, Class::Unreachable);
    assert_eq!(error.operation, "ping the engine of a silent event stream");
    assert_eq!(next(&mut events).await, None);
    assert_eq!(fake.lines().iter().filter(|line| *line == "GET /_ping").count(), 4);
}

#[tokio::test]
async fn a_silent_stream_of_an_engine_that_answers_goes_on() {
    let (sender, fake) = mortal(usize::MAX);
    let mut events = Box::pin(connect(&fake, HASTY).events());
    assert_eq!(next(&mut events).await, Some(Ok(Event::Established)));
    let pinged = async {
        while fake.lines().len() < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sender.send(event("service").into_bytes()).unwrap();
    };
    let pinged = async { tokio::time::timeout(Duration::from_secs(10), pinged).await.expect("three pings are sent") };
    let ((), event) = tokio::join!(pinged, next(&mut events));
    assert_eq!(event, service());
}
