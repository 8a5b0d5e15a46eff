//! The observer's loop on a Swarm in memory, on paused time.

mod engine;
mod networks;
mod nodes;
mod secrets;
mod services;
mod start;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dovetail_observer::{Completeness, Observer, Settings, ShortCircuits};
use driver::{Pacing, Reporter, Status};
use embedded::{ServiceBuilder, Swarm, Verb};
use model::{Addresses, Backends, Desired, NetworkId, SecretId, Service, labels};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A change of a service is known after this long: the burst, and the calls.
const SOON: Duration = Duration::from_millis(200);
/// What raises no event is known after this long: the poll.
const POLL: Duration = Duration::from_millis(3200);
/// A pass after failures comes at the latest after this long.
const LONGEST_RETRY: Duration = Duration::from_secs(50);

/// A running observer.
struct World {
    swarm: Swarm,
    desired: watch::Receiver<Option<Arc<Desired>>>,
    addresses: watch::Receiver<Arc<BTreeMap<NetworkId, Addresses>>>,
    status: watch::Receiver<Status>,
    poll_every: watch::Receiver<Duration>,
    completeness: watch::Receiver<Completeness>,
    short_circuits: Arc<ShortCircuits>,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A swarm with the network `app`.
fn new_swarm() -> Swarm {
    let swarm = Swarm::new();
    swarm.create_network("app").unwrap();
    swarm
}

fn start(swarm: &Swarm) -> World {
    start_with(swarm, Settings::default())
}

fn start_with(swarm: &Swarm, settings: Settings) -> World {
    let (observer, desired) = Observer::new(swarm.clone(), settings);
    let (short_circuits, addresses) = (observer.short_circuits(), observer.addresses());
    let (poll_every, completeness) = (observer.poll_every(), observer.completeness());
    let (reporter, status) = Reporter::new("observer");
    let stop = CancellationToken::new();
    tokio::spawn(driver::run(observer, Pacing::default(), reporter, stop.clone()));
    World { swarm: swarm.clone(), desired, addresses, status, poll_every, completeness, short_circuits, stop }
}

/// Waits until Swarm is at rest, starts, and waits until this is published.
async fn start_at_rest(swarm: &Swarm, what: &str, condition: impl Fn(&Desired) -> bool) -> World {
    swarm.settled(LONGEST_RETRY).await;
    let mut world = start(swarm);
    world.within(SOON, what, condition).await;
    world
}

fn task_mode(swarm: &Swarm, name: &str) -> ServiceBuilder {
    let host = format!("{name}.local");
    swarm.service(name).network("app").label(labels::HOSTS, &host).label(labels::PORT, "80")
}

fn vip_mode(swarm: &Swarm, name: &str) -> ServiceBuilder {
    task_mode(swarm, name).label(labels::BACKEND_MODE, "vip")
}

/// In task mode, with names and passwords.
fn with_secret(swarm: &Swarm, name: &str, secret: &str) -> ServiceBuilder {
    task_mode(swarm, name).label(labels::BASIC_AUTH, secret)
}

/// The secrets that are known.
fn named(desired: &Desired) -> Vec<(String, SecretId)> {
    desired.secrets.iter().map(|(name, id)| (name.to_string(), id.clone())).collect()
}

fn service<'a>(desired: &'a Desired, name: &str) -> Option<&'a Arc<Service>> {
    desired.services.values().find(|service| service.name == name)
}

/// How many tasks of a service are known; none if it is not in task mode, or if its list is stale.
fn tasks(desired: &Desired, name: &str) -> Option<usize> {
    match &service(desired, name)?.backends {
        Backends::Tasks { tasks, stale: false } => Some(tasks.len()),
        Backends::Tasks { .. } | Backends::Vip { .. } | Backends::Unread { .. } => None,
    }
}

/// Why a service is unread, if it is.
fn unread<'a>(desired: &'a Desired, name: &str) -> Option<&'a str> {
    match &service(desired, name)?.backends {
        Backends::Unread { reason } => Some(reason),
        Backends::Tasks { .. } | Backends::Vip { .. } => None,
    }
}

fn has_run(desired: &Desired, name: &str) -> bool {
    service(desired, name).is_some_and(|service| matches!(&service.backends, Backends::Vip { has_run: true, .. }))
}

impl World {
    /// Waits for a published value; panics if there is none in time.
    async fn within(&mut self, limit: Duration, what: &str, condition: impl Fn(&Desired) -> bool) -> Arc<Desired> {
        let found = timeout(limit, self.desired.wait_for(|desired| desired.as_ref().is_some_and(|d| condition(d))))
            .await
            .map(|found| found.expect("the observer runs").clone().expect("a value"));
        match found {
            Ok(desired) => desired,
            Err(_) => panic!("not within {limit:?}: {what}; published is {:#?}", self.desired.borrow()),
        }
    }

    fn nothing_published(&self) -> bool {
        !self.desired.has_changed().expect("the observer runs")
    }

    fn counted(&self, kind: &str, reason: &str) -> u64 {
        let lines = self.short_circuits.snapshot();
        lines.iter().find(|line| line.kind == kind && line.reason == reason).expect("a reason").count
    }

    fn made(&self, verb: Verb) -> usize {
        self.swarm.calls().iter().filter(|call| call.verb() == verb).count()
    }
}
