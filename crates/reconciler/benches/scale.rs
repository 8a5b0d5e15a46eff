//! What deciding and rendering cost, from a hundred services to ten thousand: half of them in VIP mode, half with
//! ten tasks each. Times are the best of several runs on this machine; read the ratios, not the milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use dovetail_reconciler::{ClusterSettings, Settings, compile, nginx, target};
use model::{
    BackendMode, Backends, ClusterName, CreatedAt, Desired, Host, Network, NetworkId, Options, Published, Request,
    Scale, Service, ServiceId, Task,
};
use tokio::time::Instant;

const RUNS: usize = 5;
const TASKS: u32 = 10;

fn main() {
    println!("{:>9}  {:>11}  {:>11}  {:>13}  {:>9}", "services", "compile", "+ render", "a service", "files");
    for services in [100, 1000, 10_000] {
        let cluster = ClusterName::parse("main").expect("a name");
        let settings = Settings {
            clusters: BTreeMap::from([(cluster.clone(), ClusterSettings::default())]),
            ..Settings::default()
        };
        let published = BTreeMap::from([(cluster.clone(), Published::Nothing)]);
        let desired = desired(services);
        let decide = || compile(&desired, &published, &settings);
        let compiled = decide();
        let spec = &compiled.specs[&cluster];
        let bundle = || target(spec, &nginx::Settings::default(), &compiled.report, &desired, None);
        let bytes: usize = bundle().expect("a lawful spec").files.values().map(|file| file.content.len()).sum();
        let (compile, render) = (best(decide), best(bundle));
        println!(
            "{services:>9}  {:>8.2} ms  {:>8.2} ms  {:>10.2} us  {:>5} KiB",
            milliseconds(compile),
            milliseconds(compile + render),
            milliseconds(compile + render) * 1000.0 / services as f64,
            bytes / 1024,
        );
    }
}

fn best<T>(mut work: impl FnMut() -> T) -> Duration {
    (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(work());
            started.elapsed()
        })
        .min()
        .unwrap_or_default()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn desired(services: u32) -> Desired {
    let network = NetworkId::new("network");
    let address = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    let service = |number: u32| {
        let vip = number.is_multiple_of(2);
        let backends = if vip {
            Backends::Vip { addresses: BTreeMap::from([(network.clone(), address(number * 32))]), has_run: true }
        } else {
            let task = |task: u32| Task {
                id: format!("{number}.{task}").as_str().into(),
                slot: u64::from(task),
                node: "node".into(),
                addresses: BTreeMap::from([(network.clone(), address(number * 32 + task))]),
                at_node: None,
            };
            Backends::Tasks { tasks: (1..=TASKS).map(task).collect(), stale: false }
        };
        Service {
            id: ServiceId::new(format!("service-{number}")),
            name: format!("service-{number}"),
            created_at: CreatedAt(i64::from(number)),
            stack: None,
            access_label: None,
            labels: BTreeMap::new(),
            asked: Ok(Request {
                hosts: BTreeSet::from([Host::parse(&format!("{number}.example.org")).expect("a host")]),
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
            networks: BTreeSet::from([network.clone()]),
            backends,
        }
    };
    Desired {
        services: (0..services).map(service).map(|service| (service.id.clone(), Arc::new(service))).collect(),
        networks: [(network.clone(), Arc::new(Network::new(network.clone(), "network")))].into_iter().collect(),
        secrets: imbl::OrdMap::new(),
    }
}
