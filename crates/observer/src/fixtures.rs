//! Small clusters for the tests of the pure parts.

use std::collections::BTreeMap;

use model::{Digest, NetworkId, NodeId, ServiceId, TaskId, Timestamp, labels};
use swarm::{Attachment, DesiredState, Endpoint, Mode, Pool, RunningCount, Service, Subnet, Task, TaskState};

/// A replicated service with one running task on the network `app`.
pub(crate) fn service(name: &str) -> Builder {
    Builder(Service {
        id: ServiceId::new(format!("{name}-id")),
        version: 1,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
        name: name.to_owned(),
        labels: BTreeMap::new(),
        container_labels: BTreeMap::new(),
        mode: Mode::Replicated(1),
        networks: vec!["app-id".into()],
        task_template: Digest::of(b"image"),
        endpoint: Endpoint {
            vips: BTreeMap::from([(NetworkId::new("app-id"), "10.0.1.2".parse().unwrap())]),
            ..Endpoint::default()
        },
        running: Some(RunningCount { running: 1, desired: 1 }),
        update: None,
    })
}

#[derive(Clone)]
pub(crate) struct Builder(Service);

impl Builder {
    /// Routing labels, without their prefix.
    pub(crate) fn labels(mut self, labels: &[(&str, &str)]) -> Self {
        for (name, value) in labels {
            self.0.labels.insert(format!("{}{name}", labels::PREFIX), (*value).to_owned());
        }
        self
    }

    pub(crate) fn vip(self) -> Self {
        self.labels(&[("hosts", "a.local"), ("port", "80"), ("backend_mode", "vip")])
    }

    pub(crate) fn task(self) -> Self {
        self.labels(&[("hosts", "a.local"), ("port", "80")])
    }

    /// Its port 80 is published on the nodes.
    pub(crate) fn at_nodes(mut self) -> Self {
        self.0.endpoint.host_ports.insert(80);
        self
    }

    pub(crate) fn scale(mut self, replicas: u64, running: u64) -> Self {
        self.0.mode = Mode::Replicated(replicas);
        self.0.running = Some(RunningCount { running, desired: replicas });
        self
    }

    pub(crate) fn global(mut self, desired: u64, running: u64) -> Self {
        self.0.mode = Mode::Global;
        self.0.running = Some(RunningCount { running, desired });
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Service)) -> Self {
        change(&mut self.0);
        self
    }

    pub(crate) fn build(self) -> Service {
        self.0
    }
}

/// A label, a value that it takes, and the other labels that it needs.
pub(crate) type Good = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Each routing label, without its prefix, with a value that is taken without a word.
pub(crate) const GOOD: [Good; 29] = [
    ("hosts", "a.local", &[]),
    ("port", "80", &[]),
    ("network", "app", &[]),
    ("backend_mode", "task", &[]),
    ("default_backend", "true", &[]),
    ("service_cluster", "east", &[]),
    ("context_root", "/app", &[]),
    ("context_root_rewrite", "true", &[("context_root", "/app")]),
    ("ssl_cert", "app.cert", &[]),
    ("ssl_key", "app.key", &[("ssl_cert", "app.cert")]),
    ("client_ca_cert", "ca", &[("ssl_cert", "app.cert")]),
    ("ssl_passthrough", "true", &[]),
    ("ssl_only", "true", &[("ssl_cert", "app.cert")]),
    ("ssl_backend", "true", &[]),
    ("ssl_backend_tls_verify", "none", &[("ssl_backend", "true")]),
    ("hsts", "true", &[("ssl_cert", "app.cert")]),
    ("redirects", "http://old.local,http://new.local", &[]),
    ("websocket_endpoints", "/ws", &[]),
    ("sticky_session_cookie", "session", &[]),
    ("ip_hash", "true", &[]),
    ("timeout", "30s", &[]),
    ("max_body_size", "32m", &[]),
    ("allow", "10.0.0.0/8", &[]),
    ("deny", "10.0.0.0/8", &[]),
    ("basic_auth", "users", &[]),
    ("rate_limit", "10r/s", &[]),
    ("weight", "20", &[]),
    ("max_fails", "3", &[]),
    ("fail_timeout", "10s", &[]),
];

/// A running task of `service` with an address on the network `app`.
pub(crate) fn task(service: &Service, slot: u64) -> Task {
    Task {
        id: TaskId::new(format!("{}-{slot}", service.name)),
        service: service.id.clone(),
        slot,
        node: NodeId::new("node"),
        created_at: Timestamp(1),
        state: TaskState::Running,
        since: Timestamp(1),
        desired: DesiredState::Running,
        error: None,
        host_ports: BTreeMap::new(),
        attachments: vec![Attachment {
            network: NetworkId::new("app-id"),
            address: format!("10.0.1.{}", 10 + slot).parse().unwrap(),
        }],
        spec: Default::default(),
    }
}

/// A secret; its id tells which of those that have had its name.
pub(crate) fn secret(name: &str, number: u64) -> swarm::Secret {
    swarm::Secret { id: format!("{name}-{number}").as_str().into(), name: name.to_owned() }
}

/// An overlay network; its id is its name and `-id`.
pub(crate) fn overlay(name: &str) -> swarm::Network {
    swarm::Network {
        id: NetworkId::new(format!("{name}-id")),
        name: name.to_owned(),
        driver: "overlay".into(),
        scope: "swarm".into(),
        ingress: false,
        labels: BTreeMap::new(),
        pools: vec![pool("10.0.1.0/24", None, Some("10.0.1.1"))],
    }
}

pub(crate) fn pool(subnet: &str, range: Option<&str>, gateway: Option<&str>) -> Pool {
    Pool {
        subnet: Subnet::parse(subnet).unwrap(),
        range: range.map(|range| Subnet::parse(range).unwrap()),
        gateway: gateway.map(|address| address.parse().unwrap()),
    }
}

pub(crate) fn ingress() -> swarm::Network {
    swarm::Network { ingress: true, ..overlay("ingress") }
}

pub(crate) fn host_network() -> swarm::Network {
    swarm::Network { driver: "host".into(), ..overlay("host") }
}
