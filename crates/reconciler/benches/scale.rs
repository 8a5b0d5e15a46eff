//! What the reconciler's passes cost, from a hundred services to ten thousand: half of them in VIP mode, half with ten
//! tasks each. First everything from nothing, then one change after the other, each where the one before it has been rolled
//! out; then the pass in which that manifest is read back, and one in which nothing happens. Times are the best of several
//! runs on this machine; allocations are the same everywhere, and tell what a change costs whatever else the machine does.

use std::alloc::System;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use dovetail_reconciler::{ClusterSettings, Counters, Reconciler, Settings};
use driver::Level;
use futures::executor::block_on;
use model::{
    BackendMode, Backends, ClusterName, Desired, Host, Manifest, Network, NetworkId, Options, Published, Request,
    Scale, Service, ServiceId, Target, Task, Timestamp,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::watch;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TASKS: u32 = 10;

fn main() {
    println!("{:>9}  {:<20}  {:>11}  {:>11}  {:>11}", "services", "what happens", "time", "allocations", "allocated");
    for services in [100, 1000, 10_000] {
        let print = |what, costs: Vec<Cost>| print(services, what, costs.into_iter().reduce(Cost::best));
        print("everything is new", (0..5).map(|_| Operator::new(services).1).collect());
        let (mut operator, _) = Operator::new(services);
        let mut rolled_out = Vec::new();
        for (what, change) in CHANGES {
            let mut costs = Vec::new();
            for turn in 0..20 {
                change(&mut operator.desired, services / 2, turn);
                costs.push(operator.pass());
                rolled_out.push(operator.roll_out());
            }
            print(what, costs);
        }
        print("it is rolled out", rolled_out);
        print("nothing", (0..20).map(|_| operator.pass()).collect());
    }
}

/// What happens, and how: the `turn`th time, to the services around a number.
type Change = (&'static str, fn(&mut Desired, u32, u32));

const CHANGES: [Change; 3] = [
    ("a task is replaced", |desired, number, turn| {
        let service = desired.services.get_mut(&id(number + 1)).map(Arc::make_mut);
        if let Some(Backends::Tasks { tasks, .. }) = service.map(|service| &mut service.backends) {
            tasks[0] = task(number, TASKS + 1 + turn);
        }
    }),
    ("a host is changed", |desired, number, turn| {
        let service = desired.services.get_mut(&id(number)).map(Arc::make_mut);
        if let Some(Ok(request)) = service.map(|service| &mut service.asked) {
            request.hosts = BTreeSet::from([host(&format!("{number}-{turn}"))]);
        }
    }),
    ("a service comes", |desired, number, turn| {
        let id = ServiceId::new(format!("new-{turn}"));
        let new = Service { id: id.clone(), name: id.to_string(), ..service(number) };
        desired.services.insert(id, Arc::new(new));
    }),
];

/// What a pass has cost.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    allocations: usize,
    bytes: usize,
}

impl Cost {
    fn best(self, other: Self) -> Self {
        Self {
            time: self.time.min(other.time),
            allocations: self.allocations.min(other.allocations),
            bytes: self.bytes.min(other.bytes),
        }
    }
}

fn print(services: u32, what: &str, cost: Option<Cost>) {
    let Some(Cost { time, allocations, bytes }) = cost else { return };
    let milliseconds = time.as_secs_f64() * 1000.0;
    println!("{services:>9}  {what:<20}  {milliseconds:>8.3} ms  {allocations:>11}  {:>7} KiB", bytes / 1024);
}

/// A reconciler with its inputs and its output.
struct Operator {
    reconciler: Reconciler,
    desired: Desired,
    asked: watch::Sender<Option<Arc<Desired>>>,
    published: watch::Sender<Option<Published>>,
    target: watch::Receiver<Option<Arc<Target>>>,
}

impl Operator {
    /// One whose first target is live, and what it has cost to make that.
    fn new(services: u32) -> (Self, Cost) {
        let clusters = BTreeMap::from([(cluster(), ClusterSettings::default())]);
        let (asked, desired_receiver) = watch::channel(None);
        let (published, published_receiver) = watch::channel(Some(Published::Nothing));
        let (target_sender, target) = watch::channel(None);
        let reconciler = Reconciler::new(
            Settings { clusters, ..Settings::default() },
            desired_receiver,
            BTreeMap::from([(cluster(), published_receiver)]),
            BTreeMap::from([(cluster(), target_sender)]),
            watch::channel(None).0,
            Arc::new(Counters::default()),
        );
        let mut operator = Self { reconciler, desired: desired(services), asked, published, target };
        let cost = operator.pass();
        operator.roll_out();
        (operator, cost)
    }

    fn pass(&mut self) -> Cost {
        self.asked.send_replace(Some(Arc::new(self.desired.clone())));
        let (region, started) = (Region::new(ALLOCATOR), Instant::now());
        let Ok(_) = block_on(self.reconciler.pass());
        let (time, allocated) = (started.elapsed(), region.change());
        Cost { time, allocations: allocated.allocations + allocated.reallocations, bytes: allocated.bytes_allocated }
    }

    /// The target goes live, and its manifest is read back from the cluster.
    fn roll_out(&mut self) -> Cost {
        let target = self.target.borrow_and_update().clone().expect("a target");
        let written = target.bundle.manifest.write();
        let read = Manifest::read(written.values().map(Vec::as_slice)).expect("a manifest that was just written");
        let manifest = Arc::new(read);
        let last_good = Arc::clone(&manifest);
        self.published.send_replace(Some(Published::Live { manifest, last_good, holds: Vec::new() }));
        self.pass()
    }
}

fn cluster() -> ClusterName {
    ClusterName::parse("main").expect("a name")
}

fn network() -> NetworkId {
    NetworkId::new("network")
}

fn id(number: u32) -> ServiceId {
    ServiceId::new(format!("service-{number}"))
}

fn host(name: &str) -> Host {
    Host::parse(&format!("{name}.example.org")).expect("a host")
}

fn addresses(number: u32, task: u32) -> BTreeMap<NetworkId, IpAddr> {
    BTreeMap::from([(network(), IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number * 64 + task)))])
}

fn task(number: u32, task: u32) -> Task {
    Task {
        id: format!("{number}.{task}").as_str().into(),
        slot: u64::from(task),
        node: "node".into(),
        addresses: addresses(number, task).into_iter().collect(),
        at_node: None,
        held_off: false,
    }
}

fn service(number: u32) -> Service {
    let vip = number.is_multiple_of(2);
    let backends = match vip {
        true => Backends::Vip { addresses: addresses(number, 0), has_run: true },
        false => Backends::Tasks { tasks: (1..=TASKS).map(|n| task(number, n)).collect(), stale: false },
    };
    Service {
        id: id(number),
        name: id(number).to_string(),
        created_at: Timestamp(i64::from(number)),
        stack: None,
        access_label: None,
        labels: BTreeMap::new(),
        asked: Ok(Request {
            hosts: BTreeSet::from([host(&number.to_string())]),
            port: NonZeroU16::MIN,
            network: None,
            backend_mode: if vip { BackendMode::Vip } else { BackendMode::Task },
            default_backend: false,
            service_cluster: String::new(),
            options: Options::default(),
        }),
        warnings: Vec::new(),
        scale: Scale::AtLeastOne,
        at_nodes: false,
        networks: BTreeSet::from([network()]),
        backends,
    }
}

fn desired(services: u32) -> Desired {
    Desired {
        services: (0..services).map(service).map(|service| (service.id.clone(), Arc::new(service))).collect(),
        networks: [(network(), Arc::new(Network::new(network(), "network")))].into_iter().collect(),
        secrets: imbl::OrdMap::new(),
    }
}
