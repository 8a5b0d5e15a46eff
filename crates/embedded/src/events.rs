//! Event streams. Each subscriber has its own bounded queue; what does not fit is lost, as in the Engine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::{Stream, stream};
use swarm::{Error, Event, EventKind, Result};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::Swarm;

/// Everybody who listens.
#[derive(Debug)]
pub(crate) struct Subscribers {
    open: BTreeMap<u64, Subscriber>,
    last: u64,
    /// How many events a subscriber may be behind.
    pub capacity: usize,
    /// Nothing is delivered, the streams stay open.
    pub stalled: bool,
    /// So many of the next events reach nobody.
    pub deaf: u64,
    /// How many events some subscriber did not get.
    pub lost: u64,
}

#[derive(Debug)]
struct Subscriber {
    queue: VecDeque<EventKind>,
    /// How the stream ends, once it must.
    end: Option<Option<Error>>,
    wake: Arc<Notify>,
}

/// What a subscriber finds.
enum Found {
    Event(EventKind),
    End(Option<Error>),
    Nothing { next_due: Option<Instant> },
}

impl Default for Subscribers {
    /// With the Engine's bound.
    fn default() -> Self {
        Self { open: BTreeMap::new(), last: 0, capacity: 1024, stalled: false, deaf: 0, lost: 0 }
    }
}

impl Subscribers {
    pub fn publish(&mut self, events: Vec<EventKind>) {
        for event in events {
            if self.deaf > 0 {
                self.deaf -= 1;
                self.lost += self.open.len() as u64;
                continue;
            }
            for subscriber in self.open.values_mut() {
                if subscriber.queue.len() < self.capacity {
                    subscriber.queue.push_back(event.clone());
                } else {
                    self.lost += 1;
                }
            }
        }
    }

    /// Makes every subscriber look again: there are events, or something is due earlier than it thought.
    pub fn wake(&self) {
        for subscriber in self.open.values() {
            subscriber.wake.notify_one();
        }
    }

    /// Ends all streams, with an error or just so.
    pub fn end_all(&mut self, end: Option<&Error>) {
        for subscriber in self.open.values_mut() {
            subscriber.end = Some(end.cloned());
        }
    }

    pub fn count(&self) -> usize {
        self.open.len()
    }

    pub fn subscribe(&mut self) -> (u64, Arc<Notify>) {
        self.last += 1;
        let wake = Arc::new(Notify::new());
        self.open.insert(self.last, Subscriber { queue: VecDeque::new(), end: None, wake: Arc::clone(&wake) });
        (self.last, wake)
    }

    fn find(&mut self, number: u64, next_due: Option<Instant>) -> Found {
        let Some(subscriber) = self.open.get_mut(&number) else { return Found::End(None) };
        if let Some(end) = subscriber.end.take() {
            return Found::End(end);
        }
        if self.stalled {
            return Found::Nothing { next_due };
        }
        match subscriber.queue.pop_front() {
            Some(event) => Found::Event(event),
            None => Found::Nothing { next_due },
        }
    }
}

/// A subscription; dropping it ends it.
pub(crate) struct Subscription {
    pub swarm: Swarm,
    pub number: u64,
    pub wake: Arc<Notify>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.swarm.lock(|state| state.subscribers.open.remove(&self.number));
    }
}

impl Subscription {
    /// The next event, or how it ends. It wakes by itself when something is due, so that a cluster nobody
    /// else looks at still moves.
    async fn next(&self) -> std::result::Result<EventKind, Option<Error>> {
        loop {
            let found = self.swarm.lock(|state| {
                let next_due = state.store.next_due();
                state.subscribers.find(self.number, next_due)
            });
            match found {
                Found::Event(event) => return Ok(event),
                Found::End(end) => return Err(end),
                Found::Nothing { next_due } => tokio::select! {
                    () = self.wake.notified() => {}
                    () = due(next_due) => {}
                },
            }
        }
    }
}

async fn due(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next).await,
        None => std::future::pending().await,
    }
}

enum Phase {
    Opening(Swarm),
    Open(Subscription),
    Over,
}

/// The stream behind [`swarm::Watch::events`].
pub(crate) fn stream(swarm: Swarm) -> impl Stream<Item = Result<Event>> + Send + 'static {
    stream::unfold(Phase::Opening(swarm), |phase| async move {
        match phase {
            Phase::Opening(swarm) => match swarm.subscribe().await {
                Ok(subscription) => Some((Ok(Event::Established), Phase::Open(subscription))),
                Err(error) => Some((Err(error), Phase::Over)),
            },
            Phase::Open(subscription) => match subscription.next().await {
                Ok(event) => Some((Ok(Event::Changed(event)), Phase::Open(subscription))),
                Err(Some(error)) => Some((Err(error), Phase::Over)),
                Err(None) => None,
            },
            Phase::Over => None,
        }
    })
}
