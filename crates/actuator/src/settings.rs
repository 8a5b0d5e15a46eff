//! What the proxy service should look like, as people configure it. The program reads it from YAML; this
//! crate only checks that the parts go together.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use model::{ClusterName, InstanceName};
use serde_json::Value;
use swarm::RegistryAuth;

use crate::fence::Fence;

/// Everything one actuator needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The installation; only objects that carry its name are ever written.
    pub instance: InstanceName,
    /// The cluster whose proxies these are.
    pub cluster: ClusterName,
    /// The proxy service.
    pub proxy: ProxySettings,
    /// Credentials of the proxy image's registry.
    pub registry_auth: Option<RegistryAuth>,
    /// How a generation is checked before it is rolled out.
    pub checks: Checks,
    /// Which operator this is; none for a look that writes nothing.
    pub operator: Option<Fence>,
    /// Labels for every object that is created, such as UCP's `com.docker.ucp.access.label`.
    pub object_labels: BTreeMap<String, String>,
    /// How often to look when nothing happens.
    pub poll_interval: Duration,
    /// How often to look while a rollout runs.
    pub rollout_poll: Duration,
    /// How long a rollout may make no progress before it counts as stuck.
    pub rollout_deadline: Duration,
    /// How long a bundle that failed waits for its first retry; doubled each time, up to two hours.
    pub hold_retry: Duration,
    /// How long a rollout that Swarm calls complete is watched for proxies that end; zero: not at all.
    pub soak: Duration,
    /// How long it must be quiet before a network is left for its own sake.
    pub leave_quiet: Duration,
}

impl Settings {
    /// Settings with every default.
    pub fn new(instance: InstanceName, cluster: ClusterName, proxy: ProxySettings) -> Self {
        Self {
            instance,
            cluster,
            proxy,
            registry_auth: None,
            checks: Checks::default(),
            operator: None,
            object_labels: BTreeMap::new(),
            poll_interval: Duration::from_secs(3),
            rollout_poll: Duration::from_millis(500),
            rollout_deadline: Duration::from_secs(60),
            hold_retry: Duration::from_secs(600),
            soak: Duration::from_secs(30),
            leave_quiet: Duration::from_secs(5),
        }
    }
}

/// The proxy service.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxySettings {
    /// The service's name. A service of this name that is not ours is never touched.
    pub service_name: String,
    /// The image.
    pub image: String,
    /// What a tag of the image is worth.
    pub image_policy: ImagePolicy,
    /// The whole command; nothing depends on the image's entrypoint.
    pub command: Vec<String>,
    /// How many tasks.
    pub mode: Mode,
    /// How the ports are published.
    pub publish: Publish,
    /// The published ports.
    pub ports: Vec<Port>,
    /// Placement constraints, such as `node.labels.edge == true`.
    pub constraints: Vec<String>,
    /// What to spread over, such as `node.labels.zone`.
    pub spread: Vec<String>,
    /// How updates roll.
    pub update: Policy,
    /// How Swarm's own rollbacks roll.
    pub rollback: Policy,
    /// When tasks that end are started again.
    pub restart: Restart,
    /// The signal that stops a proxy: SIGQUIT lets nginx finish its requests.
    pub stop_signal: String,
    /// How long a proxy may take to finish its requests.
    pub stop_grace_period: Duration,
    /// The health check. Without one, a task counts as running as soon as its process does.
    pub health_check: Option<HealthCheck>,
    /// Kernel parameters of the containers.
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities to take from the containers, as the Engine writes them: `ALL`, `CAP_NET_RAW`.
    pub capability_drop: BTreeSet<String>,
    /// Capabilities to give them all the same.
    pub capability_add: BTreeSet<String>,
    /// Further labels of the service.
    pub labels: BTreeMap<String, String>,
    /// Labels of the containers.
    pub container_labels: BTreeMap<String, String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// What a task may use.
    pub limits: Resources,
    /// What a task is promised.
    pub reservations: Resources,
    /// Where the containers' logs go; the engine's default if absent.
    pub log_driver: Option<LogDriver>,
    /// Names or ids of the only networks that the proxies are ever on. If absent, they are on those that
    /// their routes need.
    pub networks: Option<BTreeSet<String>>,
}

/// How a generation is checked before it is rolled out: by a service that runs once, with the proxies' image and on
/// the very files. All that is known of the proxies' program stands in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// When.
    pub policy: CheckPolicy,
    /// The command that reads the files and ends, with 0 if they are fine. Empty: nothing can be checked.
    pub command: Vec<String>,
    /// How the lines of its output begin that say why they are not. If there are none, the last line is shown.
    pub refusal: String,
    /// How such a line goes on where it is about something that only the proxies' networks have: a check is on none of
    /// them, so it cannot tell. Empty: there is no such thing.
    pub beyond: String,
    /// The directory of the files that are made of typed values alone. Another change in them is not worth a check.
    pub vouched: String,
}

/// When a generation is checked before it is rolled out. What has worked before never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckPolicy {
    /// When something differs from the last good that nobody can vouch for: a secret or its use, the image, the
    /// command, what the program is started with, a file outside of [`Checks::vouched`]. Where there is no last good
    /// nothing serves that could be hurt, and only secrets are worth a check: one bad key would keep all from starting.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a tag of the proxy image is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePolicy {
    /// What it meant when it was configured; a tag that moves is not noticed.
    #[default]
    Keep,
    /// What it means now: a tag that moves is a rollout.
    Follow,
}

/// How many tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// So many.
    Replicated(u64),
    /// One on each node that fits.
    Global,
}

/// How ports are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// On the routing mesh of every node.
    Ingress,
    /// On the node's own address. It needs [`Mode::Global`]: two replicas on one node with a host port never
    /// finish an update. The service then has no VIP, which saves an address in every network.
    Host,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Outside.
    pub published: u16,
    /// In the container.
    pub target: u16,
}

/// How an update or a rollback rolls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How many tasks at once, 0 being all; if absent, [`ProxySettings::parallelism`] says.
    pub parallelism: Option<u64>,
    /// The pause between two of them.
    pub delay: Duration,
    /// Which comes first; derived from [`Publish`] if absent.
    pub order: Option<Order>,
    /// How long a new task is watched. Never left to Docker's default, which costs five seconds a task.
    pub monitor: Duration,
    /// Which share of the tasks may fail.
    pub max_failure_ratio: f64,
    /// What to do when more fail.
    pub failure_action: FailureAction,
}

/// Which comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The new task starts before the old one stops.
    StartFirst,
    /// The old task stops before the new one starts; the only order that works with a host port.
    StopFirst,
}

/// What Swarm does when an update fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    /// It stops where it is.
    Pause,
    /// It goes on.
    Continue,
    /// It goes back to the spec before.
    Rollback,
}

/// When tasks that end are started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Which ends count.
    pub condition: RestartCondition,
    /// How long to wait.
    pub delay: Duration,
    /// How many times; 0 is without limit.
    pub max_attempts: u64,
    /// Within which time; zero is for ever.
    pub window: Duration,
}

/// Which ends of a task make Swarm start it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartCondition {
    /// Every end.
    Any,
    /// Failures.
    OnFailure,
    /// None.
    None,
}

/// A health check of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Docker's form: `["CMD", program, argument...]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// How often. Docker's default of 30 s would make every rollout take a minute.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many must fail in a row.
    pub retries: u64,
    /// How long failures do not count after the start.
    pub start_period: Duration,
}

/// Processor and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Billionths of a processor.
    pub nano_cpus: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
}

/// Where logs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDriver {
    /// The driver.
    pub name: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

impl ProxySettings {
    /// A proxy service with every default.
    pub fn new(service_name: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            service_name: service_name.into(),
            image: image.into(),
            image_policy: ImagePolicy::default(),
            command: Vec::new(),
            mode: Mode::Replicated(2),
            publish: Publish::Ingress,
            ports: Vec::new(),
            constraints: Vec::new(),
            spread: Vec::new(),
            update: Policy { failure_action: FailureAction::Rollback, ..Policy::default() },
            rollback: Policy::default(),
            restart: Restart {
                condition: RestartCondition::Any,
                delay: Duration::from_secs(1),
                max_attempts: 0,
                window: Duration::ZERO,
            },
            stop_signal: "SIGQUIT".into(),
            stop_grace_period: Duration::from_secs(30),
            health_check: None,
            // IPVS forgets a flow that is idle for 900 s.
            sysctls: BTreeMap::from([("net.ipv4.tcp_keepalive_time".into(), "600".into())]),
            capability_drop: BTreeSet::new(),
            capability_add: BTreeSet::new(),
            labels: BTreeMap::new(),
            container_labels: BTreeMap::new(),
            env: BTreeMap::new(),
            limits: Resources::default(),
            reservations: Resources::default(),
            log_driver: None,
            networks: None,
        }
    }

    /// How many tasks an update or rollback replaces at once. Not told: a quarter of the replicas, rounded down and at
    /// least one, where the new ones start first, since then all the old ones still serve; else one after the
    /// other, since each is missing while it is replaced, and how many nodes there are is not known here.
    pub fn parallelism(&self, policy: &Policy) -> u64 {
        policy.parallelism.unwrap_or(match (self.mode, self.order(policy)) {
            (Mode::Replicated(replicas), Order::StartFirst) => (replicas / 4).max(1),
            (Mode::Replicated(_), Order::StopFirst) | (Mode::Global, _) => 1,
        })
    }

    /// The order of an update or rollback: start-first wherever no host port is in the way.
    pub fn order(&self, policy: &Policy) -> Order {
        policy.order.unwrap_or(match self.publish {
            Publish::Ingress => Order::StartFirst,
            Publish::Host => Order::StopFirst,
        })
    }
}

impl Default for Policy {
    /// As many tasks at once as is safe, watched for 3 s; pause on the first failure.
    fn default() -> Self {
        Self {
            parallelism: None,
            delay: Duration::ZERO,
            order: None,
            monitor: Duration::from_secs(3),
            max_failure_ratio: 0.0,
            failure_action: FailureAction::Pause,
        }
    }
}

/// Something in the settings that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The field, as a path below [`Settings`].
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Settings {
    /// The same for a service as it is: an operator may have limited how many proxies are on a node
    /// (`--replicas-max-per-node`). Where no new one may fit beside the old ones, it can only start after one of them.
    pub fn for_service(&self, spec: Option<&Value>) -> Cow<'_, Self> {
        let number = |pointer: &str| spec.and_then(|spec| spec.pointer(pointer)).and_then(Value::as_u64);
        let limit = number("/TaskTemplate/Placement/MaxReplicas").filter(|limit| *limit > 0);
        let replicas = number("/Mode/Replicated/Replicas").unwrap_or_default();
        // On one node all would be together; how many there are is not known here.
        let room = |policy: &Policy| limit.is_none_or(|limit| replicas + self.proxy.parallelism(policy) <= limit);
        let mut adapted = Cow::Borrowed(self);
        if self.proxy.update.order.is_none() && !room(&self.proxy.update) {
            adapted.to_mut().proxy.update.order = Some(Order::StopFirst);
        }
        if self.proxy.rollback.order.is_none() && !room(&self.proxy.rollback) {
            adapted.to_mut().proxy.rollback.order = Some(Order::StopFirst);
        }
        adapted
    }

    /// Checks that the parts go together.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn check(&self) -> Result<(), Vec<Complaint>> {
        let mut complaints = Vec::new();
        let mut complain = |field, message: String| complaints.push(Complaint { field, message });
        let proxy = &self.proxy;
        if !is_service_name(&proxy.service_name) {
            let message = format!(
                "{:?} is no service name: 1 to 63 letters, digits, hyphens and underscores, with a letter or digit at both ends",
                proxy.service_name
            );
            complain("proxy.service_name", message);
        }
        if proxy.image.trim().is_empty() {
            complain("proxy.image", "an image is needed".into());
        }
        if proxy.publish == Publish::Host && proxy.mode != Mode::Global {
            let message = "host publishing needs mode global: two replicas on one node never finish an update".into();
            complain("proxy.publish", message);
        }
        let mut published = BTreeSet::new();
        for port in &proxy.ports {
            if port.published == 0 || port.target == 0 {
                complain("proxy.ports", "0 is no port".into());
            }
            if !published.insert(port.published) {
                complain("proxy.ports", format!("port {} is published twice", port.published));
            }
        }
        for (field, policy) in [("proxy.update", &proxy.update), ("proxy.rollback", &proxy.rollback)] {
            if proxy.publish == Publish::Host && policy.order == Some(Order::StartFirst) {
                complain(field, "start-first cannot work with host publishing: the port is taken".into());
            }
            if !(0.0..=1.0).contains(&policy.max_failure_ratio) {
                complain(field, format!("max_failure_ratio {} is not within 0 and 1", policy.max_failure_ratio));
            }
            if policy.monitor.is_zero() {
                complain(field, "a monitor of 0 is read by Docker as its default of 5 s; give at least 1ms".into());
            }
            if policy.delay + policy.monitor >= self.rollout_deadline {
                let message = format!(
                    "delay and monitor together ({:?}) must be shorter than the deadline of the rollout ({:?})",
                    policy.delay + policy.monitor,
                    self.rollout_deadline
                );
                complain(field, message);
            }
        }
        if proxy.rollback.failure_action == FailureAction::Rollback {
            complain("proxy.rollback", "a rollback cannot be rolled back: pause or continue".into());
        }
        if let Some(check) = &proxy.health_check {
            if check.test.len() < 2 || !matches!(check.test[0].as_str(), "CMD" | "CMD-SHELL") {
                complain("proxy.health_check", "test is CMD and a program, or CMD-SHELL and a line".into());
            }
            if check.interval < Duration::from_millis(1) || check.timeout < Duration::from_millis(1) {
                complain("proxy.health_check", "interval and timeout are at least 1ms".into());
            }
        }
        for (field, labels) in [("proxy.labels", &proxy.labels), ("object_labels", &self.object_labels)] {
            for label in labels.keys().filter(|label| label.starts_with("dovetail.") || *label == model::labels::TYPE) {
                complain(field, format!("the label {label:?} is ours"));
            }
        }
        let compares = |constraint: &&String| constraint.contains("==") || constraint.contains("!=");
        if let Some(constraint) = proxy.constraints.iter().find(|constraint| !compares(constraint)) {
            let message = format!("{constraint:?} is no constraint: write it with == or !=, such as node.role==worker");
            complain("proxy.constraints", message);
        }
        if proxy.networks.as_ref().is_some_and(BTreeSet::is_empty) {
            complain("proxy.networks", "an empty list is no list: leave it out, or name a network".into());
        }
        for (field, interval) in [
            ("poll_interval", self.poll_interval),
            ("rollout_poll", self.rollout_poll),
            ("rollout_deadline", self.rollout_deadline),
            ("hold_retry", self.hold_retry),
        ] {
            if interval.is_zero() {
                complain(field, "it must be longer than 0".into());
            }
        }
        if complaints.is_empty() { Ok(()) } else { Err(complaints) }
    }
}

/// Whether Swarm takes this as the name of a service: 1 to 63 letters, digits, hyphens and underscores, with a letter or
/// digit at both ends.
#[must_use]
pub fn is_service_name(name: &str) -> bool {
    let at_the_ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 63
        && at_the_ends(name.bytes().next())
        && at_the_ends(name.bytes().last())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut proxy = ProxySettings::new("dovetail-proxy", "nginx:1.28");
        proxy.ports = vec![Port { published: 80, target: 80 }];
        Settings::new(InstanceName::parse("main").unwrap(), ClusterName::parse("main").unwrap(), proxy)
    }

    fn complaints(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = settings();
        change(&mut settings);
        settings.check().err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_defaults_go_together() {
        assert_eq!(complaints(|_| {}), Vec::<String>::new());
        assert_eq!(
            complaints(|settings| {
                settings.proxy.publish = Publish::Host;
                settings.proxy.mode = Mode::Global;
            }),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_quarter_is_replaced_at_once_where_nothing_goes_missing() {
        use Mode::{Global, Replicated};
        for (mode, publish, order, told, expected) in [
            (Replicated(0), Publish::Ingress, None, None, 1),
            (Replicated(2), Publish::Ingress, None, None, 1),
            (Replicated(7), Publish::Ingress, None, None, 1),
            (Replicated(8), Publish::Ingress, None, None, 2),
            (Replicated(100), Publish::Ingress, None, None, 25),
            (Replicated(100), Publish::Ingress, Some(Order::StopFirst), None, 1),
            (Global, Publish::Host, None, None, 1),
            (Global, Publish::Ingress, None, None, 1),
            (Replicated(100), Publish::Ingress, None, Some(3), 3),
            (Global, Publish::Host, None, Some(0), 0),
        ] {
            let mut proxy = settings().proxy;
            (proxy.mode, proxy.publish) = (mode, publish);
            (proxy.update.order, proxy.update.parallelism) = (order, told);
            assert_eq!(proxy.parallelism(&proxy.update), expected, "{mode:?} {publish:?} {order:?} {told:?}");
        }
    }

    #[test]
    fn where_no_new_proxy_fits_beside_the_old_ones_they_stop_first() {
        use Order::{StartFirst, StopFirst};
        for (replicas, limit, told, expected) in [
            (2, 0, None, StartFirst),
            (2, 2, None, StopFirst),
            (2, 3, None, StartFirst),
            (8, 9, None, StopFirst),
            (2, 2, Some(StartFirst), StartFirst),
        ] {
            let mut settings = settings();
            settings.proxy.mode = Mode::Replicated(replicas);
            settings.proxy.update.order = told;
            let spec = serde_json::json!({
                "Mode": {"Replicated": {"Replicas": replicas}},
                "TaskTemplate": {"Placement": {"MaxReplicas": limit}},
            });
            let adapted = settings.for_service(Some(&spec));
            assert_eq!(adapted.proxy.order(&adapted.proxy.update), expected, "{replicas} {limit} {told:?}");
        }
        assert_eq!(*settings().for_service(None), settings());
    }

    #[test]
    fn what_cannot_work_is_named() {
        type Change = fn(&mut Settings);
        let cases: [(Change, &str); 11] = [
            (|s| s.proxy.service_name = "a.b".into(), "proxy.service_name: \"a.b\""),
            (|s| s.proxy.image = " ".into(), "proxy.image: an image"),
            (|s| s.proxy.publish = Publish::Host, "proxy.publish: host publishing needs mode global"),
            (|s| s.proxy.ports.push(Port { published: 80, target: 81 }), "proxy.ports: port 80 is published twice"),
            (|s| s.proxy.update.max_failure_ratio = 2.0, "proxy.update: max_failure_ratio 2"),
            (|s| s.proxy.update.monitor = Duration::ZERO, "proxy.update: a monitor of 0"),
            (|s| s.proxy.update.delay = Duration::from_secs(60), "proxy.update: delay and monitor"),
            (|s| s.proxy.rollback.failure_action = FailureAction::Rollback, "proxy.rollback: a rollback"),
            (|s| drop(s.proxy.labels.insert("dovetail.x".into(), "1".into())), "proxy.labels: the label"),
            (|s| s.proxy.constraints.push("node.role".into()), "proxy.constraints: \"node.role\" is no constraint"),
            (|s| s.poll_interval = Duration::ZERO, "poll_interval: it must"),
        ];
        for (change, expected) in cases {
            let found = complaints(change);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
    }
}
