//! The objects of the cluster, and the one version index that every write moves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId, Timestamp};
use serde_json::Value;
use swarm::{Config, EventKind};
use tokio::time::Instant;

use crate::balancers::Balancer;
use crate::networks::Network;
use crate::nodes::Node;
use crate::schedule::Due;
use crate::services::Service;
use crate::tasks::Task;

/// How long things take. The defaults are near what was measured on Engine 20.10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From a write to the orchestrator's first reaction; until then an update shows no status.
    pub reaction: Duration,
    /// From a service to its virtual addresses.
    pub endpoint: Duration,
    /// From a new task to its addresses.
    pub allocate: Duration,
    /// From its addresses to its node.
    pub schedule: Duration,
    /// From its node to being ready to start: the pull of the image.
    pub prepare: Duration,
    /// From ready to running, without a health check; one adds its interval.
    pub start: Duration,
    /// From running to failed, for a broken task. Zero, or a health check: it never gets to running.
    pub fail: Duration,
    /// From running to its end, for a container that ends by itself.
    pub end: Duration,
    /// From being told to stop to having stopped.
    pub stop: Duration,
    /// From the death of a node to the cluster's noticing.
    pub node_down: Duration,
    /// How old the counts of running tasks are.
    pub count_lag: Duration,
}

impl Default for Timing {
    /// A task runs 0.68 s after it was asked for and stops in 3.3 s; a node is missed after 15 s.
    fn default() -> Self {
        Self {
            reaction: Duration::from_millis(10),
            endpoint: Duration::from_millis(10),
            allocate: Duration::from_millis(10),
            schedule: Duration::from_millis(50),
            prepare: Duration::from_millis(200),
            start: Duration::from_millis(410),
            fail: Duration::from_millis(100),
            end: Duration::from_millis(100),
            stop: Duration::from_millis(3300),
            node_down: Duration::from_secs(15),
            count_lag: Duration::ZERO,
        }
    }
}

/// The config objects that a task can read, for [`crate::Swarm::break_when`].
#[derive(Clone, Copy)]
pub struct Configs<'a>(pub(crate) &'a BTreeMap<ConfigId, Config>);

impl<'a> Configs<'a> {
    /// A config by id.
    pub fn get(&self, id: &str) -> Option<&'a Config> {
        self.0.get(&ConfigId::new(id))
    }

    /// What a task with this spec finds mounted: file names and contents.
    pub fn mounted(&self, task: &Value) -> BTreeMap<String, Arc<[u8]>> {
        let references = task["ContainerSpec"]["Configs"].as_array().map_or(&[][..], Vec::as_slice);
        references
            .iter()
            .filter_map(|reference| {
                let config = self.get(reference["ConfigID"].as_str()?)?;
                Some((reference["File"]["Name"].as_str()?.to_owned(), Arc::clone(&config.data)))
            })
            .collect()
    }
}

impl fmt::Debug for Configs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.values().map(|config| &config.name)).finish()
    }
}

/// Says why a task with this spec (`TaskTemplate`) fails, if it does.
pub(crate) type Breakage = Arc<dyn Fn(&Value, &Configs<'_>) -> Option<String> + Send + Sync>;

/// The state of the cluster.
pub(crate) struct Store {
    pub timing: Timing,
    /// A config must be smaller than this.
    pub config_limit: usize,
    pub breakage: Option<Breakage>,
    /// Which tasks a node refuses.
    pub refusal: Option<Breakage>,

    pub services: BTreeMap<ServiceId, Service>,
    pub service_names: BTreeMap<String, ServiceId>,
    pub tasks: BTreeMap<TaskId, Task>,
    /// Outlives the service while its tasks stop.
    pub tasks_of: BTreeMap<ServiceId, BTreeSet<TaskId>>,
    pub networks: BTreeMap<NetworkId, Network>,
    pub ingress: Option<NetworkId>,
    pub next_subnet: u32,
    /// The last published port that nobody chose.
    pub last_port: u16,
    pub balancers: BTreeMap<(NodeId, NetworkId), Balancer>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub configs: BTreeMap<ConfigId, Config>,
    pub secrets: BTreeMap<SecretId, String>,

    /// The moment that is being lived through; behind the clock only inside [`Store::catch_up`].
    pub now: Instant,
    pub due: BTreeMap<(Instant, u64), Due>,
    pub sequence: u64,
    /// Tasks whose state changed and that nobody has followed up yet.
    pub changed: VecDeque<TaskId>,
    /// Whether something that others wait for became free.
    pub freed: bool,
    /// Tasks without an address or a node, the oldest first.
    pub waiting_tasks: BTreeSet<(Timestamp, TaskId)>,
    /// Services without a virtual address.
    pub waiting_services: BTreeSet<ServiceId>,
    /// Events that no subscriber has got yet.
    pub outbox: Vec<EventKind>,

    started: Instant,
    index: u64,
    ids: u64,
    last_created: i64,
}

impl Store {
    pub fn new(now: Instant, seed: u64) -> Self {
        let mut store = Self {
            timing: Timing::default(),
            config_limit: 500 * 1024,
            breakage: None,
            refusal: None,
            services: BTreeMap::new(),
            service_names: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tasks_of: BTreeMap::new(),
            networks: BTreeMap::new(),
            ingress: None,
            last_port: 0,
            next_subnet: 0,
            balancers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            configs: BTreeMap::new(),
            secrets: BTreeMap::new(),
            now,
            due: BTreeMap::new(),
            sequence: 0,
            changed: VecDeque::new(),
            freed: false,
            waiting_tasks: BTreeSet::new(),
            waiting_services: BTreeSet::new(),
            outbox: Vec::new(),
            started: now,
            index: 10,
            ids: seed,
            last_created: 0,
        };
        store.create_predefined_networks();
        store
    }

    /// Moves the index: there was a write.
    pub fn touch(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    pub fn index(&self) -> u64 {
        self.index
    }

    pub fn emit(&mut self, event: EventKind) {
        self.outbox.push(event);
    }

    /// An id as Swarm makes them: 25 characters, in no order. They follow from the seed alone.
    pub fn fresh_id(&mut self) -> String {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let mut number = (u128::from(self.random()) << 64) | u128::from(self.random());
        let mut id = String::with_capacity(25);
        for _ in 0..25 {
            id.push(char::from(DIGITS[(number % 36) as usize]));
            number /= 36;
        }
        id
    }

    /// SplitMix64: good enough to scatter ids.
    fn random(&mut self) -> u64 {
        self.ids = self.ids.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.ids;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// When an object was created: no two at the same moment.
    pub fn fresh_time(&mut self) -> Timestamp {
        self.last_created = self.time().0.max(self.last_created + 1);
        Timestamp(self.last_created)
    }

    /// What time it is, counted from a fixed one.
    pub fn time(&self) -> Timestamp {
        const EPOCH: i64 = 1_700_000_000_000_000_000;
        let elapsed = i64::try_from(self.since_start().as_nanos()).unwrap_or(i64::MAX - EPOCH);
        Timestamp(EPOCH + elapsed)
    }

    pub fn since_start(&self) -> Duration {
        self.now.duration_since(self.started)
    }
}
