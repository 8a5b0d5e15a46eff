//! The loop: subscribe, list, watch, and begin anew when the events are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use driver::{Level, Next, Retry};
use futures::{Stream, StreamExt};
use model::{Addresses, ClusterName, Desired, NetworkId, ServiceId};
use swarm::{Class, Error, Event, EventKind, RunningCount};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::addresses::Proxies;
use crate::complaints::Complaints;
use crate::gaps::{Gaps, News};
use crate::index::{Folded, Index};
use crate::lookups::Lookups;
use crate::reading::{self, Scope};
use crate::significance::{ShortCircuits, Significance};

/// How often the observer looks, and for whose proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Everything is listed this often: crashed and rescheduled tasks raise no event. Stretched to ten times
    /// the duration of the last complete list, and to a minute at most.
    pub poll_interval: Duration,
    /// The tasks of a service that is being updated or scaled are listed this often.
    pub updating_interval: Duration,
    /// A subscription to events must stand within this time, or the pass goes on without one.
    pub event_deadline: Duration,
    /// In task mode, a task in whose place others kept ending gets requests once it has run for twice as long as they did,
    /// and at the latest after this; zero: at once.
    pub crash_loop_wait: Duration,
    /// The proxies that may have to join networks. Only their addresses matter here, so only the wiring knows them.
    pub proxies: BTreeMap<ClusterName, Proxies>,
}

impl Default for Settings {
    /// 3 s, 700 ms, 5 s, 2 min; no proxies.
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(3),
            updating_interval: Duration::from_millis(700),
            event_deadline: Duration::from_secs(5),
            crash_loop_wait: Duration::from_secs(120),
            proxies: BTreeMap::new(),
        }
    }
}

/// The addresses of nodes, an answer "no such network", and one found by name, are asked for again this often even if no event says
/// that they changed.
const DOUBT: Duration = Duration::from_secs(60);

/// The poll is stretched to this at most: a task that ends unseen costs requests for as long. Lists that take longer than
/// a tenth of it cost the Engine more than a tenth of its time then, and never more than half.
const STRETCHED_AT_MOST: Duration = Duration::from_secs(60);

/// The longest delay between two tries for a subscription, before it is moved at random.
const SUBSCRIBE_AT_MOST: Duration = Duration::from_secs(30);

/// Events that came for so long are not those that break as soon as they stand.
const LASTING: Duration = Duration::from_secs(60);

/// Says what the cluster asks for, for as long as [`driver::run`] runs it.
///
/// # Guarantees
/// - Nothing is published before the first complete listing. After it, what was published stays until a good
///   reading says otherwise; an Engine that does not answer withdraws nothing.
/// - What changes after the subscription stands either raises an event or is in the listing that follows it.
/// - [`Desired`] is published only when routing changes.
/// - A network that cannot be read holds back the services on it alone, and a list of secrets those that name one, also
///   at the start: they are published as unread, and what is live of them stays.
///
/// The events' content is not used: a service that changed is known by its version in the list.
pub struct Observer<S> {
    swarm: S,
    settings: Settings,
    phase: Phase,
    /// The last try for a subscription failed; said once.
    deaf: bool,
    /// When to try for a subscription again.
    subscribe_at: Instant,
    subscribe_retry: Retry,
    /// The last subscription broke off, and none has lasted since; said once.
    breaking: bool,
    /// Grows with each subscription that stands and does not last.
    breaking_retry: Retry,
    due: Due,
    index: Index,
    lookups: Lookups,
    doubted_at: Instant,
    /// When anything last changed about a service.
    changed: BTreeMap<ServiceId, Instant>,
    desired: watch::Sender<Option<Arc<Desired>>>,
    addresses: watch::Sender<Arc<BTreeMap<NetworkId, Addresses>>>,
    running_proxies: watch::Sender<BTreeMap<ClusterName, RunningCount>>,
    poll_every: watch::Sender<Duration>,
    short_circuits: Arc<ShortCircuits>,
    completeness: watch::Sender<Completeness>,
    complaints: Complaints,
    gaps: Gaps,
}

/// How complete the lists of services and tasks were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completeness {
    /// When all of them were last read without an error; none before the first publication.
    pub last: Option<Instant>,
    /// What failed when everything was last read. The services concerned stay as they were.
    pub gap: Option<String>,
}

type Events = Pin<Box<dyn Stream<Item = swarm::Result<Event>> + Send>>;

/// A subscription to events that stands.
struct Subscription {
    events: Events,
    since: Instant,
}

/// Where the watch stands.
enum Phase {
    /// Nothing is known.
    Empty,
    /// Events are collected, and the listing that they complete is not done.
    Listing(Subscription),
    /// Events tell what changed since the last listing.
    Watching(Subscription),
    /// Something is known, and events are not to be had: what was published stays, and the poll goes on.
    Resync,
}

/// What is to be read next.
#[derive(Debug)]
struct Due {
    /// Something asks for a pass now.
    now: bool,
    /// The services may have changed.
    services: bool,
    /// Anything may have changed.
    everything: bool,
    /// When the poll is due.
    poll_at: Instant,
    /// When the tasks of restless services are due.
    tasks_at: Option<Instant>,
    /// Not before this, however much happens: listing may take half of the time at most.
    not_before: Instant,
}

impl<S: swarm::Read + swarm::Watch> Observer<S> {
    /// An observer that knows nothing yet, and where it publishes: `None` until the first complete listing.
    pub fn new(swarm: S, settings: Settings) -> (Self, watch::Receiver<Option<Arc<Desired>>>) {
        let (desired, receiver) = watch::channel(None);
        let now = Instant::now();
        let index = Index::new(settings.proxies.clone());
        let lookups = Lookups::new(settings.crash_loop_wait);
        let (poll_every, _) = watch::channel(settings.poll_interval);
        let observer = Self {
            swarm,
            settings,
            phase: Phase::Empty,
            deaf: false,
            subscribe_at: now,
            subscribe_retry: Retry::new(SUBSCRIBE_AT_MOST),
            breaking: false,
            breaking_retry: Retry::new(SUBSCRIBE_AT_MOST),
            due: Due { now: false, services: true, everything: true, poll_at: now, tasks_at: None, not_before: now },
            index,
            lookups,
            doubted_at: now,
            changed: BTreeMap::new(),
            desired,
            addresses: watch::Sender::default(),
            running_proxies: watch::Sender::default(),
            poll_every,
            short_circuits: Arc::default(),
            completeness: watch::Sender::default(),
            complaints: Complaints::default(),
            gaps: Gaps::default(),
        };
        (observer, receiver)
    }

    /// The counters of the short-circuit, for the metrics page.
    pub fn short_circuits(&self) -> Arc<ShortCircuits> {
        Arc::clone(&self.short_circuits)
    }

    /// How full the networks are that candidates are on, as of the last reading. It changes with every service that is
    /// scaled: for people and dashboards, and nobody is to decide anything from it.
    pub fn addresses(&self) -> watch::Receiver<Arc<BTreeMap<NetworkId, Addresses>>> {
        self.addresses.subscribe()
    }

    /// How many proxies run and should, a cluster, by the last list of services; empty before the first.
    pub fn running_proxies(&self) -> watch::Receiver<BTreeMap<ClusterName, RunningCount>> {
        self.running_proxies.subscribe()
    }

    /// The time from the end of one poll to the end of the next: [`Settings::poll_interval`], unless listing takes long and
    /// succeeds.
    pub fn poll_every(&self) -> watch::Receiver<Duration> {
        self.poll_every.subscribe()
    }

    /// When the lists were last complete. A network, node or secret that cannot be read concerns its services alone, and
    /// is no gap in them.
    pub fn completeness(&self) -> watch::Receiver<Completeness> {
        self.completeness.subscribe()
    }

    fn ready(&self) -> bool {
        self.desired.borrow().is_some()
    }

    /// Subscribes to events if there is no subscription. Without one the pass goes on: the poll is the floor.
    async fn subscribe(&mut self) {
        match &self.phase {
            Phase::Listing(subscription) | Phase::Watching(subscription) => {
                if self.breaking && subscription.since.elapsed() >= LASTING {
                    tracing::info!("the Engine's events last again");
                    self.breaking = false;
                    self.breaking_retry.reset();
                }
                return;
            }
            Phase::Empty | Phase::Resync => {}
        }
        if Instant::now() < self.subscribe_at {
            return;
        }
        match established(&self.swarm, self.settings.event_deadline).await {
            Ok(events) => {
                if self.breaking && !self.deaf {
                    tracing::debug!("subscribed to the Engine's events again");
                } else {
                    tracing::info!("subscribed to the Engine's events");
                }
                self.deaf = false;
                self.subscribe_retry.reset();
                self.phase = Phase::Listing(Subscription { events, since: Instant::now() });
            }
            Err(error) => {
                if !self.deaf {
                    tracing::warn!(%error, "no events from the Engine; it is only polled");
                }
                self.deaf = true;
                self.subscribe_at = Instant::now() + self.subscribe_retry.next_delay();
            }
        }
    }

    /// What this pass must read.
    fn scope(&self, now: Instant) -> Scope {
        let listed = matches!(self.phase, Phase::Watching(_) | Phase::Resync);
        if !listed || self.due.everything || now >= self.due.poll_at {
            Scope::Everything
        } else if !self.due.services && self.due.tasks_at.is_some_and(|at| now >= at) {
            Scope::Tasks(self.restless(now))
        } else {
            Scope::Services(self.restless(now))
        }
    }

    fn restless(&self, now: Instant) -> BTreeSet<ServiceId> {
        self.index
            .candidates()
            .filter(|(id, facts)| {
                self.changed.get(*id).is_some_and(|changed| reading::restless(facts, now.duration_since(*changed)))
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Counts, logs and remembers what changed, and publishes if it reaches routing.
    fn publish(&mut self, folded: &Folded, now: Instant) {
        let first = !self.ready();
        for change in &folded.changes {
            self.short_circuits.count(change.significance);
            match change.significance {
                Significance::Routing(reason) => {
                    tracing::debug!(service = %change.name, reason = reason.as_str(), "routing changes");
                    let service = self.index.desired().services.get(&change.id).map(Arc::as_ref);
                    self.complaints.update(&change.id, service).log(&change.name);
                }
                Significance::Spared(reason) => {
                    tracing::debug!(service = %change.name, reason = reason.as_str(), "routing is spared");
                }
                Significance::Unchanged => {}
            }
            match self.index.get(&change.id) {
                // At the start everything looks new, and only what Swarm is at work on deserves a closer look.
                Some(facts) if !first || reading::unsettled(facts) => {
                    self.changed.insert(change.id.clone(), now);
                }
                Some(_) => {}
                None => {
                    self.changed.remove(&change.id);
                }
            }
        }
        for (network, significance) in &folded.networks {
            self.short_circuits.count(*significance);
            match significance {
                Significance::Routing(reason) => {
                    tracing::debug!(network = network.name, reason = reason.as_str(), "routing changes");
                }
                Significance::Spared(reason) => {
                    tracing::debug!(network = network.name, reason = reason.as_str(), "routing is spared");
                }
                Significance::Unchanged => {}
            }
        }
        self.publish_addresses();
        self.running_proxies.send_replace(self.index.running_proxies());
        if first || folded.reaches_routing() {
            self.desired.send_replace(Some(Arc::new(self.index.desired().clone())));
        }
    }

    /// Tells how full networks are, and logs it when one becomes nearly full.
    fn publish_addresses(&mut self) {
        let now = self.index.addresses();
        self.addresses.send_if_modified(|known| {
            if **known == *now {
                return false;
            }
            let was = |id| known.get(id).is_some_and(|before| before.nearly_full);
            for (_, addresses) in now.iter().filter(|(id, addresses)| addresses.nearly_full != was(id)) {
                let Addresses { name, subnets, total, taken, nearly_full } = addresses;
                let subnets = subnets.join(", ");
                if *nearly_full {
                    tracing::warn!(network = name, subnets, total, taken, "the network is nearly full");
                } else {
                    tracing::info!(network = name, subnets, total, taken, "the network is not nearly full any more");
                }
            }
            *known = Arc::new(now.clone());
            true
        });
    }

    /// Logs each failure within a pass once, until it is over.
    fn log_failures<'a>(&mut self, scope: &Scope, errors: impl Iterator<Item = &'a Error>, unread: &[ServiceId]) {
        for news in self.gaps.update(scope, errors.map(ToString::to_string).collect()) {
            match news {
                News::Fails(error) => {
                    let kept = unread.len();
                    tracing::warn!(
                        error,
                        services_kept_as_they_were = kept,
                        "the reading has gaps; what was known there stays"
                    );
                }
                News::Over => tracing::info!("the reading is complete again"),
            }
        }
    }

    fn take(&mut self, event: Option<swarm::Result<Event>>) {
        match event {
            Some(Ok(Event::Established)) => {}
            Some(Ok(Event::Changed(EventKind::Service(_)))) => self.wake(false),
            Some(Ok(Event::Changed(EventKind::Node))) => {
                self.lookups.nodes.doubt();
                self.wake(true);
            }
            Some(Ok(Event::Changed(EventKind::Network))) => {
                if self.lookups.networks.forget_doubtful() {
                    self.wake(false);
                }
            }
            // Routing does not depend on configs, and on secrets only where labels name them.
            Some(Ok(Event::Changed(EventKind::Object))) => {
                if self.lookups.secrets.doubt() {
                    self.wake(false);
                }
            }
            Some(Err(error)) => self.broke_off(&error.to_string()),
            None => self.broke_off("the Engine ended them"),
        }
    }

    fn wake(&mut self, everything: bool) {
        self.due.now = true;
        self.due.services = true;
        self.due.everything |= everything;
    }

    /// Takes in that the subscription is over: another one at once if it lasted, and else the later the oftener that
    /// happens. One that breaks as soon as it stands must not turn the poll into a spin, nor the log into a flood.
    fn broke_off(&mut self, error: &str) {
        let Some(lasted) = self.lose_events() else { return };
        if lasted >= LASTING {
            self.breaking = false;
            self.breaking_retry.reset();
        }
        if self.breaking {
            tracing::debug!(error, "the Engine's events broke off again");
        } else {
            tracing::warn!(error, "the Engine's events broke off");
        }
        // Balancers close idle responses after less than a minute, too: one that lasts as long as the longest delay is
        // cheaper to replace than to do without.
        let worth = if self.breaking { SUBSCRIBE_AT_MOST } else { self.settings.poll_interval.min(SUBSCRIBE_AT_MOST) };
        if lasted >= worth {
            self.due.now = true;
        } else {
            self.subscribe_at = Instant::now() + self.breaking_retry.next_delay();
        }
        self.breaking = true;
    }

    /// Goes on without a subscription; says how long there was one, if there was.
    fn lose_events(&mut self) -> Option<Duration> {
        let without = if self.ready() { Phase::Resync } else { Phase::Empty };
        self.due.everything = true;
        match std::mem::replace(&mut self.phase, without) {
            Phase::Listing(subscription) | Phase::Watching(subscription) => Some(subscription.since.elapsed()),
            Phase::Empty | Phase::Resync => None,
        }
    }
}

/// The time until everything is listed again after it was listed without a gap.
fn stretched(poll_interval: Duration, took: Duration) -> Duration {
    poll_interval.max((10 * took).min(STRETCHED_AT_MOST))
}

impl<S: swarm::Read + swarm::Watch> Level for Observer<S> {
    type Error = Error;

    /// Reads events until one matters. Cancel-safe: what an event asks for is in `due` before the next await.
    async fn woken(&mut self) {
        loop {
            let event = match &mut self.phase {
                Phase::Listing(subscription) | Phase::Watching(subscription) => Some(&mut subscription.events),
                Phase::Empty | Phase::Resync => None,
            };
            tokio::select! {
                // Dropping `next` of a stream loses no item.
                event = next(event) => self.take(event),
                () = sleep_until(self.due.not_before), if self.due.now => {
                    self.due.now = false;
                    return;
                }
            }
        }
    }

    async fn pass(&mut self) -> Result<Next, Error> {
        // Whatever asked for a pass until now gets this one.
        self.due.now = false;
        self.subscribe().await;
        let started = Instant::now();
        if started.duration_since(self.doubted_at) >= DOUBT {
            self.lookups.networks.forget_doubtful();
            self.lookups.nodes.doubt();
            self.doubted_at = started;
        }
        let scope = self.scope(started);
        let read = reading::read(&self.swarm, &self.index, &mut self.lookups, &scope, reading::HISTORIES_FOR).await;
        let now = Instant::now();
        // Networks and histories are asked for once, and networks that fail seldom: nobody else is to wait for them.
        let lookups_took = read.as_ref().map_or(Duration::ZERO, |read| read.lookups_took);
        let took = now.duration_since(started).saturating_sub(lookups_took);
        self.due.not_before = now + took;
        let read = match read {
            Ok(mut read) if !self.ready() && !read.errors.is_empty() => Err(read.errors.swap_remove(0)),
            read => read,
        };
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                // Nobody reads the events while the driver waits, so they are not to be relied on.
                self.due.everything = true;
                // Polls were perhaps seldom because they took long; what is known now waits for the next success.
                self.poll_every.send_replace(self.settings.poll_interval);
                if error.class == Class::Unreachable {
                    // The stream may be dead without knowing it.
                    self.lose_events();
                }
                // The driver spaces the passes that fail; events are tried for with each of them.
                self.subscribe_at = now;
                return Err(error);
            }
        };
        let folded = self.index.fold(read.listing, &read.tasks, &self.lookups, now);
        self.publish(&folded, now);
        self.log_failures(&scope, read.errors.iter().chain(&read.lookup_errors), &folded.unread);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Resync) {
            Phase::Listing(subscription) | Phase::Watching(subscription) => Phase::Watching(subscription),
            Phase::Empty | Phase::Resync => Phase::Resync,
        };
        let gaps = !read.errors.is_empty() || !read.lookup_errors.is_empty();
        match scope {
            Scope::Everything => {
                self.due.everything = false;
                self.due.services = false;
                // How long a reading with gaps took says nothing: a list that ran into its deadline took as long as that.
                let interval = self.settings.poll_interval;
                let every = if gaps { interval } else { stretched(interval, took) };
                self.due.poll_at = now + every;
                let gap = read.errors.first().map(ToString::to_string);
                let until_the_next = every.max(took) + took + read.networks_may_take;
                self.poll_every.send_replace(if gap.is_some() { interval } else { until_the_next });
                self.completeness.send_modify(|completeness| {
                    if gap.is_none() {
                        completeness.last = Some(now);
                    }
                    completeness.gap = gap;
                });
            }
            Scope::Services(_) => self.due.services = false,
            Scope::Tasks(_) => {}
        }
        if gaps {
            // What failed is read again by the poll, which may have been far off.
            self.due.poll_at = self.due.poll_at.min(now + self.settings.poll_interval);
        }
        let restless = !self.restless(now).is_empty();
        self.due.tasks_at = restless.then(|| now + self.settings.updating_interval.max(took));
        let next = self.due.tasks_at.map_or(self.due.poll_at, |at| at.min(self.due.poll_at));
        Ok(Next::After(next.max(self.due.not_before).duration_since(now)))
    }
}

/// Opens the stream of events and waits until it stands.
async fn established(swarm: &impl swarm::Watch, deadline: Duration) -> swarm::Result<Events> {
    let failed = |class, message: &str| Error::new(class, "subscribe to events", message);
    let mut events: Events = Box::pin(swarm.events());
    let first = timeout(deadline, events.next()).await;
    match first {
        Ok(Some(Ok(Event::Established))) => Ok(events),
        Ok(Some(Ok(Event::Changed(_)))) => Err(failed(Class::Malformed, "an event came before the subscription stood")),
        Ok(Some(Err(error))) => Err(error),
        Ok(None) => Err(failed(Class::Unreachable, "the stream ended at once")),
        Err(_) => Err(failed(Class::Unreachable, &format!("no answer within {deadline:?}"))),
    }
}

/// The next event; never, if there is no subscription.
async fn next(events: Option<&mut Events>) -> Option<swarm::Result<Event>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// What one look saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// What the cluster asks for.
    pub desired: Desired,
    /// How full the networks are that candidates are on.
    pub addresses: BTreeMap<NetworkId, Addresses>,
}

/// One look reads every history that it needs, within reason.
const ALL_HISTORIES_FOR: Duration = Duration::from_secs(300);

/// Looks once, without events: what the cluster asks for now.
///
/// Only time can tell two things: a global service that wants no task at this moment counts as wanting some, and proxies
/// with one on each node count as they are now.
///
/// # Errors
/// When a list of services or tasks is missing. What services refer to and could not be read is none: they are unread.
pub async fn observe_once(swarm: &impl swarm::Read, settings: &Settings) -> swarm::Result<Observation> {
    let mut index = Index::new(settings.proxies.clone());
    let mut lookups = Lookups::new(settings.crash_loop_wait);
    let mut read = reading::read(swarm, &index, &mut lookups, &Scope::Everything, ALL_HISTORIES_FOR).await?;
    if !read.errors.is_empty() {
        return Err(read.errors.swap_remove(0));
    }
    index.fold(read.listing, &read.tasks, &lookups, Instant::now());
    Ok(Observation { desired: index.desired().clone(), addresses: index.addresses().clone() })
}
