//! The rules of the embedded Swarm, seen from outside, on paused time.

// Other crates know it by this name.
extern crate dovetail_embedded as embedded;

mod configs;
mod events;
mod faults;
mod laws;
mod networks;
mod nodes;
mod rollout;
mod services;

use std::sync::Arc;
use std::time::Duration;

use embedded::Swarm;
use model::ServiceId;
use swarm::{Class, Result, TasksOf, UpdateState};

/// A moment, longer than any of the Engine's reactions and shorter than a task needs to start.
const MOMENT: Duration = Duration::from_millis(30);

const SECOND: Duration = Duration::from_secs(1);

/// A swarm with the network `demo`.
fn demo() -> Swarm {
    let swarm = Swarm::new();
    swarm.create_network("demo").unwrap();
    swarm
}

/// The tasks of these services, in one list.
fn tasks_of(services: impl IntoIterator<Item = ServiceId>) -> TasksOf {
    TasksOf::Services(Arc::new(services.into_iter().collect()))
}

/// The swarm once the service has so many running tasks, and nothing is under way.
async fn running(swarm: &Swarm, name: &str, replicas: usize) {
    swarm.eventually("the tasks run", |swarm| swarm.running_tasks(name).len() == replicas).await;
    assert!(swarm.settled(600 * SECOND).await, "{name} settles");
}

fn status(swarm: &Swarm, name: &str) -> Option<UpdateState> {
    swarm.service_named(name).and_then(|service| service.update).map(|update| update.state)
}

fn class<T>(result: Result<T>) -> Option<Class> {
    result.err().map(|error| error.class)
}
