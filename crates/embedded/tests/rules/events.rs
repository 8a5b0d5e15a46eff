use std::pin::Pin;

use embedded::{Fault, Swarm, Verb};
use futures::{FutureExt, Stream, StreamExt};
use swarm::{Class, Event, EventKind, Result, Watch};
use tokio::time::{Instant, sleep, timeout};

use crate::{MOMENT, SECOND, demo, running};

type Events = Pin<Box<dyn Stream<Item = Result<Event>> + Send>>;

async fn subscribe(swarm: &Swarm) -> Events {
    let mut events: Events = Box::pin(swarm.events());
    assert_eq!(events.next().await, Some(Ok(Event::Established)));
    events
}

fn heard(events: &mut Events) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    while let Some(Some(Ok(Event::Changed(kind)))) = events.next().now_or_never() {
        kinds.push(kind);
    }
    kinds
}

#[tokio::test(start_paused = true)]
async fn objects_raise_events_and_tasks_do_not() {
    let swarm = demo();
    let mut events = subscribe(&swarm).await;
    let web = swarm.service("web").network("demo").create().unwrap();
    running(&swarm, "web", 1).await;
    let service = EventKind::Service(web);
    assert_eq!(heard(&mut events), [service.clone(), service.clone()], "created, and its address set");
    swarm.kill_task(&swarm.tasks_named("web")[0].id);
    running(&swarm, "web", 1).await;
    assert_eq!(heard(&mut events), [], "a crash and its repair");
    swarm.update_image("web", "app:2").unwrap();
    running(&swarm, "web", 1).await;
    assert_eq!(heard(&mut events), vec![service.clone(); 3], "updated, updating, completed");
    swarm.create_network("other").unwrap();
    swarm.add_node("node-2").unwrap();
    swarm.add_secret("secret").unwrap();
    swarm.remove_service("web").unwrap();
    assert_eq!(heard(&mut events), [EventKind::Network, EventKind::Node, EventKind::Object, service]);
    swarm.label_secret("secret").unwrap();
    swarm.delete_secret("secret").unwrap();
    assert_eq!(heard(&mut events), [EventKind::Object, EventKind::Object], "labelled, removed");
}

#[tokio::test(start_paused = true)]
async fn a_stream_wakes_when_something_happens_by_itself() {
    let swarm = demo();
    let web = swarm.service("web").network("demo").create().unwrap();
    running(&swarm, "web", 1).await;
    let mut events = subscribe(&swarm).await;
    swarm.update_image("web", "app:2").unwrap();
    let mut times = Vec::new();
    for _ in 0..3 {
        let event = timeout(60 * SECOND, events.next()).await.expect("nobody else looks at the swarm");
        assert_eq!(event, Some(Ok(Event::Changed(EventKind::Service(web.clone())))));
        times.push(Instant::now());
    }
    // Stop-first: 3.3 s to stop, 0.5 s to start, 5 s of watch.
    let took = times[2] - times[0];
    assert!(took > 8 * SECOND && took < 10 * SECOND, "{took:?}");
    // A write by somebody else wakes it, too.
    let other = swarm.clone();
    tokio::spawn(async move {
        sleep(SECOND).await;
        other.set_label("web", "a", "b").unwrap();
    });
    assert!(timeout(2 * SECOND, events.next()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_loses_events_and_a_dropped_one_is_forgotten() {
    let swarm = demo();
    swarm.set_event_capacity(2);
    let mut events = subscribe(&swarm).await;
    for name in ["a", "b", "c"] {
        swarm.create_network(name).unwrap();
    }
    assert_eq!(heard(&mut events).len(), 2);
    assert_eq!(swarm.lost_events(), 1);
    swarm.lose_events(1);
    swarm.create_network("d").unwrap();
    swarm.create_network("e").unwrap();
    assert_eq!(heard(&mut events).len(), 1);
    assert_eq!(swarm.lost_events(), 2);
    assert_eq!(swarm.open_event_streams(), 1);
    drop(events);
    assert_eq!(swarm.open_event_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_break_end_stall_and_are_refused() {
    let swarm = demo();
    let mut events = subscribe(&swarm).await;
    swarm.break_event_streams();
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!(error.class, Class::Unreachable);
    assert_eq!(events.next().await, None);

    let mut events = subscribe(&swarm).await;
    swarm.end_event_streams();
    assert_eq!(events.next().await, None);

    let mut events = subscribe(&swarm).await;
    swarm.stall_event_streams();
    swarm.create_network("a").unwrap();
    assert!(timeout(60 * SECOND, events.next()).await.is_err());
    swarm.resume_event_streams();
    assert_eq!(events.next().await, Some(Ok(Event::Changed(EventKind::Network))));

    swarm.engine_down();
    assert!(events.next().await.unwrap().is_err());
    let mut refused: Events = Box::pin(swarm.events());
    assert!(refused.next().await.unwrap().is_err());
    assert_eq!(refused.next().await, None);
    swarm.engine_up();
    drop(subscribe(&swarm).await);

    swarm.inject(Fault::on(Verb::Events).once().unanswered());
    let mut unanswered: Events = Box::pin(swarm.events());
    assert!(unanswered.next().await.unwrap().is_err());
    sleep(MOMENT).await;
    assert_eq!(swarm.open_event_streams(), 0, "the lost subscription is not kept");
}
