//! A Swarm in memory behind the port of the crate `swarm`, for tests of the loops on paused time, for laws,
//! and for the demo. It refuses what the Engine refuses, takes the time that the Engine takes, and fails on
//! request ([`Fault`]).
//!
//! ```
//! # use dovetail_embedded as embedded;
//! use swarm::{Read, TasksOf};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let swarm = embedded::Swarm::new();
//! swarm.create_network("demo").unwrap();
//! let demo = swarm
//!     .service("demo")
//!     .network("demo")
//!     .replicas(4)
//!     .label("com.docker.lb.hosts", "demo.local")
//!     .label("com.docker.lb.port", "8080")
//!     .create()
//!     .unwrap();
//! swarm.eventually("four tasks run", |swarm| swarm.running_tasks("demo").len() == 4).await;
//! assert_eq!(swarm.tasks(TasksOf::Service(demo)).await.unwrap().len(), 4);
//! # });
//! ```
//!
//! # What is true of it
//! - One version index for all writes, those of tasks included. A service's version also moves when its
//!   virtual addresses are set and with each step of a rollout's status.
//! - Time is tokio's. Nothing runs in the background: whoever calls, or polls an event stream, first lets
//!   everything happen that was due by then, in its order (`schedule`). Ids and creation times follow from
//!   the seed and the calls alone, so a test on paused time is repeatable to the last byte.
//! - A spec is kept as it was written, byte for byte, but for network names, which become ids as in the
//!   daemon.
//! - Containers run until they are told to stop, and say nothing; but those whose command has the word `-t` test
//!   something (`nginx -t`) and end at once: well, or with what [`Swarm::break_when`] says, in their log and with exit
//!   status 1. No log has more than its last words.
//!
//! # What is deliberately missing
//! - Jobs have no tasks. Secrets have no content. Volumes, resources, platforms and plugins are not
//!   looked at; of constraints only `node.id`, `node.hostname`, `node.role` and `node.labels.*`.
//! - A published port of 0 stays 0. `RestartPolicy.Window` is not read: attempts are counted for ever.
//! - The Engine drops fields that it does not know; here they are kept.
//! - Several managers, elections, and lists that lag behind: faults stand for them.

mod balancers;
mod builder;
mod calls;
mod configs;
mod events;
mod faults;
mod networks;
mod nodes;
mod port;
mod rollout;
mod schedule;
mod services;
mod spec;
mod store;
mod tasks;
mod user;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use swarm::{Class, Error, Identity};
use tokio::time::Instant;

pub use builder::ServiceBuilder;
pub use calls::{Call, Entry, Verb};
pub use faults::{Fault, Injected};
pub use store::{Configs, Timing};

/// A Swarm. Clones are handles to the same one.
#[derive(Clone)]
pub struct Swarm {
    /// Never held across an await: [`Swarm::lock`] is the only way in.
    state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    pub store: store::Store,
    pub subscribers: events::Subscribers,
    pub journal: calls::Journal,
    pub faults: faults::Faults,
    /// The digests of the images that a registry has.
    pub registry: std::collections::BTreeMap<String, String>,
    pub identity: Identity,
    /// Whether the Engine does not answer at all.
    pub down: bool,
    /// When subscribers think that something is due next.
    announced: Option<Instant>,
}

impl Default for Swarm {
    fn default() -> Self {
        Self::new()
    }
}

impl Swarm {
    /// A swarm of one manager, `node-1`, with nothing on it.
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// The same with other ids, and so with another order of everything that is sorted by id.
    pub fn seeded(seed: u64) -> Self {
        let mut store = store::Store::new(Instant::now(), seed);
        store.add_node("node-1", true, std::collections::BTreeMap::new()).expect("it is the first");
        store.outbox.clear();
        let state = State {
            store,
            subscribers: events::Subscribers::default(),
            journal: calls::Journal::default(),
            faults: faults::Faults::default(),
            registry: std::collections::BTreeMap::new(),
            identity: Identity { version: "20.10.24".into(), api: (1, 41), manager: true },
            down: false,
            announced: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets time catch up, does something, and tells subscribers what came of it.
    pub(crate) fn lock<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A test that panicked in here has failed already; its other tasks may go on.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let now = Instant::now();
        state.store.catch_up(now);
        let earlier = state.deliver();
        let answer = act(state);
        state.store.catch_up(now);
        let later = state.deliver();
        let next_due = state.store.next_due();
        if earlier || later || next_due != state.announced {
            state.announced = next_due;
            state.subscribers.wake();
        }
        answer
    }

    // === impl Faults ===

    /// Lets calls go wrong.
    pub fn inject(&self, fault: Fault) -> Injected {
        let number = self.lock(|state| state.faults.inject(fault));
        Injected { swarm: self.clone(), number }
    }

    /// Lifts all faults. The Engine stays down if it is.
    pub fn clear_faults(&self) {
        self.lock(|state| state.faults.clear());
    }

    /// Nobody answers any more, and event streams break. The cluster behind goes on, and the user's side
    /// still works.
    pub fn engine_down(&self) {
        self.lock(|state| state.down = true);
        self.break_event_streams();
    }

    /// The Engine answers again.
    pub fn engine_up(&self) {
        self.lock(|state| state.down = false);
    }

    /// All event streams end with an error.
    pub fn break_event_streams(&self) {
        let error = Error::new(Class::Unreachable, "read events", "the stream broke");
        self.lock(|state| {
            state.subscribers.end_all(Some(&error));
            state.subscribers.wake();
        });
    }

    /// All event streams just end.
    pub fn end_event_streams(&self) {
        self.lock(|state| {
            state.subscribers.end_all(None);
            state.subscribers.wake();
        });
    }

    /// Event streams stay open and say nothing, until [`Swarm::resume_event_streams`]. What happens meanwhile
    /// waits in their queues, as far as these reach.
    pub fn stall_event_streams(&self) {
        self.lock(|state| state.subscribers.stalled = true);
    }

    /// Event streams speak again.
    pub fn resume_event_streams(&self) {
        self.lock(|state| {
            state.subscribers.stalled = false;
            state.subscribers.wake();
        });
    }

    /// So many of the next events reach nobody.
    pub fn lose_events(&self, count: u64) {
        self.lock(|state| state.subscribers.deaf = count);
    }

    /// How many events did not reach a subscriber, for lack of room or by [`Swarm::lose_events`].
    pub fn lost_events(&self) -> u64 {
        self.lock(|state| state.subscribers.lost)
    }

    /// How many event streams are open.
    pub fn open_event_streams(&self) -> usize {
        self.lock(|state| state.subscribers.count())
    }

    // === impl Journal ===

    /// The calls to the port so far, failed ones included.
    pub fn calls(&self) -> Vec<Call> {
        self.lock(|state| state.journal.entries().map(|entry| entry.call.clone()).collect())
    }

    /// The calls that asked for a change.
    pub fn writes(&self) -> Vec<Call> {
        self.lock(|state| state.journal.entries().map(|e| &e.call).filter(|call| call.is_write()).cloned().collect())
    }

    /// The calls with their times and answers.
    pub fn journal(&self) -> Vec<Entry> {
        self.lock(|state| state.journal.entries().cloned().collect())
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        self.lock(|state| state.journal.clear());
    }
}

impl State {
    /// Hands the events to the subscribers; whether there were any.
    fn deliver(&mut self) -> bool {
        let events = std::mem::take(&mut self.store.outbox);
        let any = !events.is_empty();
        self.subscribers.publish(events);
        any
    }
}

impl fmt::Debug for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("embedded::Swarm")
    }
}
