//! Tests of the whole crate on the embedded Swarm: what a plan says, what the loop does, and the laws.

mod checks;
mod duty;
mod hands;
mod images;
mod interrupted;
mod late;
mod laws;
mod loops;
mod manifests;
mod patience;
mod places;
mod plans;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use driver::Level;
use embedded::{Call, Swarm};
use model::{
    BackendMode, Bundle, ClusterName, Contribution, Digest, File, Host, InstanceName, Manifest, NetworkId, Publication,
    Published, ServiceId, Target, Timestamp,
};
use serde_json::Value;
use swarm::Read;
use tokio::sync::watch;

use crate::settings::{HealthCheck, Port, ProxySettings};
use crate::{Actuator, Counters, Memory, Outputs, Phase, Plan, Settings, Status, inspect, plan};

const PROXY: &str = "dovetail-proxy";

const NOT_ACTIVE: &str = "cannot create a swarm scoped network when swarm is not active";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn settings() -> Settings {
    let mut proxy = ProxySettings::new(PROXY, "nginx:1.28");
    proxy.command = vec!["nginx".into()];
    proxy.ports = vec![Port { published: 80, target: 80 }];
    proxy.health_check = Some(HealthCheck {
        test: vec!["CMD".into(), "true".into()],
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        retries: 3,
        start_period: Duration::ZERO,
    });
    Settings::new(InstanceName::parse("main").unwrap(), ClusterName::parse("web").unwrap(), proxy)
}

/// A bundle with one file for all, one for the routes, and a route per name and network.
pub(crate) fn target(reason: &str, routes: &[(&str, &NetworkId)]) -> Target {
    let mut services = model::Publications::new();
    let mut text = String::from("# routes\n");
    for (name, network) in routes {
        let contribution = Contribution {
            name: (*name).to_owned(),
            created_at: Timestamp(1),
            hosts: BTreeSet::from([Host::parse(&format!("{name}.example.org")).unwrap()]),
            default_backend: false,
            mode: BackendMode::Vip,
            network: Some((*network).clone()),
            endpoints: BTreeSet::from(["10.0.0.9:8080".parse().unwrap()]),
            options: model::Options::default(),
            secrets: model::Secrets::new(),
        };
        text.push_str(&format!("{name}\n"));
        let (fragment, contribution) = (contribution.digest(), Arc::new(contribution));
        let publication = Arc::new(Publication { fragment, reason: "has run".into(), contribution });
        services.insert(ServiceId::new(format!("id-{name}")), publication);
    }
    let files = model::Files::from_iter([
        (Arc::from("/etc/nginx/nginx.conf"), File::new(b"events {}\n".to_vec())),
        (Arc::from("/etc/nginx/routes.conf"), File::new(text.into_bytes())),
    ]);
    let networks: BTreeSet<NetworkId> = routes.iter().map(|(_, network)| (*network).clone()).collect();
    let generation = Bundle::digest(&files, &networks, &BTreeSet::new());
    let cluster = settings().cluster;
    let manifest = Manifest {
        cluster: cluster.clone(),
        generation,
        reason: reason.into(),
        setup: serde_json::Value::Null,
        services,
    };
    Target {
        bundle: Arc::new(Bundle { cluster, files, networks, secrets: BTreeSet::new(), manifest: Arc::new(manifest) }),
    }
}

fn three_nodes() -> Swarm {
    let swarm = Swarm::new();
    for name in ["node-2", "node-3"] {
        swarm.add_node(name).unwrap();
    }
    swarm
}

/// One actuator on an embedded Swarm, run pass by pass.
struct Bench {
    swarm: Swarm,
    settings: Settings,
    target: watch::Sender<Option<Arc<Target>>>,
    actuator: Actuator<Swarm>,
    outputs: Outputs,
    /// The target that a process which was just started will be given after its first look.
    late: RefCell<Option<Arc<Target>>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Swarm::new(), settings())
    }

    fn with(swarm: Swarm, settings: Settings) -> Self {
        settings.check().unwrap();
        let (target, receiver) = watch::channel(None);
        let (actuator, outputs) = Actuator::new(swarm.clone(), settings.clone(), receiver);
        Self { swarm, settings, target, actuator, outputs, late: RefCell::default() }
    }

    /// A bench in step with this target.
    async fn in_step_with(target: &Target) -> Self {
        let mut bench = Self::new();
        bench.aim(target);
        bench.until_in_step().await;
        bench
    }

    /// A bench on a swarm of its own whose proxies serve demo on the network app; both are answered with it. The calls so
    /// far are forgotten.
    async fn serving(settings: Settings) -> (Self, NetworkId, Target) {
        Self::serving_on(Swarm::new(), settings).await
    }

    /// The same on this swarm.
    async fn serving_on(swarm: Swarm, settings: Settings) -> (Self, NetworkId, Target) {
        let app = swarm.create_network("app").unwrap();
        let mut bench = Self::with(swarm, settings);
        let demo = target("first", &[("demo", &app)]);
        bench.aim(&demo);
        bench.until_in_step().await;
        bench.swarm.clear_calls();
        (bench, app, demo)
    }

    async fn serving_demo() -> (Self, NetworkId, Target) {
        Self::serving(settings()).await
    }

    fn aim(&self, target: &Target) {
        self.late.take();
        self.target.send_replace(Some(Arc::new(target.clone())));
    }

    /// Another process takes over, with the same target and settings as changed by then.
    fn restart(&mut self) {
        // As in the program: the first target follows from what the first look publishes.
        let late = self.late.take().or(self.target.send_replace(None));
        self.late.replace(late);
        let (actuator, outputs) = Actuator::new(self.swarm.clone(), self.settings.clone(), self.target.subscribe());
        (self.actuator, self.outputs) = (actuator, outputs);
    }

    /// The same, by a wall clock that is so much ahead of the real one.
    fn restart_later(&mut self, later: Duration) {
        self.restart();
        self.actuator.advance_clock(later);
    }

    /// One pass, and the time until the next; what a pass answers when it fails is not looked at.
    async fn pass(&mut self) {
        let wait = match self.actuator.pass().await {
            Ok(driver::Next::After(wait)) => wait,
            Ok(driver::Next::Woken) => unreachable!("an actuator always looks again"),
            Err(_) => Duration::from_millis(500),
        };
        if let Some(late) = self.late.take() {
            self.target.send_replace(Some(late));
        }
        tokio::time::sleep(wait).await;
    }

    async fn passes_for(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            self.pass().await;
        }
    }

    /// Passes until a condition holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..600 {
            self.pass().await;
            if holds(self) {
                return;
            }
        }
        panic!("not within 600 passes: {what}; {:#?}", self.outputs.status.borrow());
    }

    /// In step, the garbage gone, and the target rolled out.
    async fn until_in_step(&mut self) {
        self.until("the proxies are in step", Self::is_in_step).await;
        // One more look, so that what a converged pass removes is removed.
        self.pass().await;
        self.pass().await;
    }

    fn is_in_step(&self) -> bool {
        let status = self.status();
        status.phase == Phase::InStep && status.live == status.target && status.trouble.is_none()
    }

    fn status(&self) -> Status {
        self.outputs.status.borrow().as_deref().expect("a pass went through").clone()
    }

    fn live(&self) -> (Digest, Digest, usize) {
        match self.outputs.published.borrow().as_ref() {
            Some(Published::Live { manifest, last_good, holds }) => {
                (manifest.generation, last_good.generation, holds.len())
            }
            other => panic!("not live: {other:?}"),
        }
    }

    async fn spec(&self) -> Value {
        self.swarm.raw_service(PROXY).await.unwrap().expect("the proxy service exists").spec
    }

    fn counters(&self) -> &Counters {
        &self.outputs.counters
    }

    /// The writes so far, by name.
    fn writes(&self) -> Vec<embedded::Verb> {
        self.swarm.writes().iter().map(Call::verb).collect()
    }

    /// Creations and updates of the proxy service.
    fn service_writes(&self) -> usize {
        self.written_specs().filter(|spec| spec["Name"] == PROXY).count()
    }

    /// The specs of services that were written, in their order.
    fn written_specs(&self) -> impl Iterator<Item = Arc<Value>> {
        self.swarm.writes().into_iter().filter_map(|call| match call {
            Call::CreateService { spec, .. } | Call::UpdateService { spec, .. } => Some(spec),
            _ => None,
        })
    }

    /// What a fresh process would plan now.
    async fn plan(&self, target: &Target) -> Plan {
        let inventory = inspect(&self.swarm, &self.settings).await.unwrap();
        let now = crate::moment::Clock::start().now();
        plan(Some(target), &inventory, &self.settings, &Memory::default(), now)
    }

    /// Makes tasks fail whose routes hold a name, or whose image is this.
    fn break_on(&self, word: &'static str) {
        self.swarm.break_when(move |task, configs| {
            let image = task["ContainerSpec"]["Image"].as_str().is_some_and(|image| image.contains(word));
            (image || routes_hold(word, task, configs)).then(|| format!("nginx: [emerg] {word}"))
        });
    }

    /// Makes nodes refuse tasks whose routes hold a name, as a manager does that has just come back.
    fn refuse_on(&self, word: &'static str) {
        self.swarm.refuse_when(move |task, configs| routes_hold(word, task, configs).then(|| NOT_ACTIVE.to_owned()));
    }
}

fn routes_hold(word: &str, task: &Value, configs: &embedded::Configs<'_>) -> bool {
    let mounted = configs.mounted(task);
    let mut routes = mounted.iter().filter(|(path, _)| path.ends_with("routes.conf"));
    routes.any(|(_, data)| String::from_utf8_lossy(data).contains(word))
}
