//! A cluster on which a stack file has been deployed, as far as the operator asks: its services with one running
//! task each, its networks, its secrets, and nothing else. So the operator's own functions judge the labels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use model::{Digest, InstanceName, NetworkId, NodeId, SecretId, ServiceId, TaskId, Timestamp, labels};
use swarm::{
    Attachment, Config, DesiredState, Endpoint, EndpointMode, Identity, Mode, Network, Node, RawService, RegistryAuth,
    Result, RunningCount, Secret, Task, TaskState, TasksOf,
};

use super::stack::{Label, Service, Stack};

/// Labels that name secrets.
pub const SECRETS: [&str; 4] = [labels::SSL_CERT, labels::SSL_KEY, labels::CLIENT_CA_CERT, labels::BASIC_AUTH];

/// Its only node.
const NODE: &str = "node";

/// Such a cluster.
#[derive(Clone)]
pub struct Offline(Arc<Content>);

struct Content {
    services: Vec<swarm::Service>,
    tasks: Vec<Task>,
    networks: Vec<Network>,
    secrets: Vec<Secret>,
}

impl Offline {
    /// The cluster after `docker stack deploy` of this file under this name.
    pub fn new(file: &Stack, name: &str) -> Self {
        let networks: Vec<Network> = file
            .networks
            .iter()
            .map(|(key, object)| {
                let name = object.real_name(key, name);
                let (scope, ingress) = match object.driver.as_str() {
                    "overlay" | "ingress" => ("swarm", object.driver == "ingress"),
                    _ => ("local", false),
                };
                let (id, driver) = (network_id(&name), object.driver.clone());
                Network { id, name, driver, scope: scope.into(), ingress, labels: BTreeMap::new(), pools: Vec::new() }
            })
            .collect();
        let declared = file.secrets.iter().map(|(key, object)| object.real_name(key, name));
        // One that the file does not declare may be there all the same, under the name that the label says.
        let named = file.services.iter().flat_map(|service| SECRETS.map(|label| service.labels.get(label)));
        let named: Vec<&str> =
            named.flatten().map(|label| label.value.trim()).filter(|name| !name.is_empty()).collect();
        let mut secrets: BTreeSet<String> = declared.collect();
        for secret in named {
            if !secrets.contains(&format!("{name}_{secret}")) {
                secrets.insert(secret.to_owned());
            }
        }
        let secrets = secrets.into_iter().map(|name| Secret { id: SecretId::new(format!("the id of {name}")), name });
        let mut content = Content { services: Vec::new(), tasks: Vec::new(), networks, secrets: secrets.collect() };
        for (number, service) in file.services.iter().enumerate() {
            let on: BTreeSet<NetworkId> = service
                .networks
                .iter()
                .filter_map(|key| Some(network_id(&file.networks.get(key)?.real_name(key, name))))
                .collect();
            let (read, task) = content.deployed(service, number, name, &on);
            content.services.push(read);
            content.tasks.extend(task);
        }
        Self(Arc::new(content))
    }
}

impl Offline {
    /// What the labels of a service alone ask for.
    pub fn read(service: &Service) -> Option<observer::request::Reading> {
        let values = |labels: &BTreeMap<String, Label>| {
            labels.iter().map(|(name, label)| (name.clone(), label.value.clone())).collect::<BTreeMap<_, _>>()
        };
        observer::request::read(observer::request::Declaration {
            labels: &values(&service.labels),
            container_labels: &values(&service.container_labels),
            mode: service.mode,
            endpoint_mode: service.endpoint_mode,
        })
    }
}

/// No label can hit it by accident: a name never has a blank in it.
fn network_id(name: &str) -> NetworkId {
    NetworkId::new(format!("the id of {name}"))
}

/// The id of a service of the file: its place, so that ties are broken by the order of the file.
pub fn service_id(number: usize) -> ServiceId {
    ServiceId::new(format!("{number:06}"))
}

impl Content {
    fn deployed(
        &self,
        service: &Service,
        number: usize,
        stack: &str,
        on: &BTreeSet<NetworkId>,
    ) -> (swarm::Service, Option<Task>) {
        let wanted = match service.mode {
            Mode::Replicated(replicas) => replicas,
            Mode::Global | Mode::Job => 1,
        };
        let address = |network: &NetworkId, host: u8| {
            let place = self.networks.iter().position(|known| known.id == *network).unwrap_or_default();
            let low = u8::try_from(place % 256).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::new(10, host, low, u8::try_from(number % 250).unwrap_or_default() + 2))
        };
        let vips = match service.endpoint_mode {
            EndpointMode::Vip => on.iter().map(|network| (network.clone(), address(network, 0))).collect(),
            EndpointMode::Dnsrr => BTreeMap::new(),
        };
        let values = |labels: &BTreeMap<String, Label>| {
            let values = labels.iter().map(|(name, label)| (name.clone(), label.value.clone()));
            values.chain([(labels::STACK.to_owned(), stack.to_owned())]).collect::<BTreeMap<_, _>>()
        };
        let id = service_id(number);
        let created_at = Timestamp(i64::try_from(number).unwrap_or(i64::MAX));
        let task = (wanted > 0).then(|| Task {
            id: TaskId::new(format!("{id}.1")),
            service: id.clone(),
            slot: 1,
            node: NodeId::new(NODE),
            created_at,
            state: TaskState::Running,
            since: created_at,
            desired: DesiredState::Running,
            error: None,
            host_ports: service.host_ports.iter().map(|port| (*port, *port)).collect(),
            attachments: on
                .iter()
                .map(|network| Attachment { network: network.clone(), address: address(network, 1) })
                .collect(),
            spec: Arc::default(),
        });
        let read = swarm::Service {
            id,
            version: 1,
            created_at,
            updated_at: created_at,
            name: service.name.clone(),
            labels: values(&service.labels),
            container_labels: values(&service.container_labels),
            mode: service.mode,
            networks: on.iter().map(|id| id.as_str().to_owned()).collect(),
            task_template: Digest::of(b""),
            endpoint: Endpoint { mode: service.endpoint_mode, vips, host_ports: service.host_ports.clone() },
            running: Some(RunningCount { running: wanted, desired: wanted }),
            update: None,
        };
        (read, task)
    }
}

impl swarm::Read for Offline {
    /// Nothing of a file has a past.
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    async fn identity(&self) -> Result<Identity> {
        Ok(Identity { version: "20.10".into(), api: (1, 41), manager: true })
    }

    async fn services(&self) -> Result<Vec<swarm::Service>> {
        Ok(self.0.services.clone())
    }

    async fn tasks(&self, of: TasksOf) -> Result<Vec<Task>> {
        let meant = |task: &&Task| match &of {
            TasksOf::Services(ids) => ids.contains(&task.service),
            TasksOf::Service(id) => task.service == *id,
        };
        Ok(self.0.tasks.iter().filter(meant).cloned().collect())
    }

    async fn task_history(&self, _: &ServiceId) -> Result<Vec<Task>> {
        Ok(Vec::new())
    }

    async fn task_log(&self, _: &TaskId) -> Result<String> {
        Ok(String::new())
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        Ok(vec![Node { id: NodeId::new(NODE), address: Some(IpAddr::V4(Ipv4Addr::new(172, 20, 0, 1))) }])
    }

    async fn network(&self, id_or_name: &str) -> Result<Option<Network>> {
        let meant = |network: &&Network| network.id.as_str() == id_or_name || network.name == id_or_name;
        Ok(self.0.networks.iter().find(meant).cloned())
    }

    async fn configs(&self, _: &InstanceName) -> Result<Vec<Config>> {
        Ok(Vec::new())
    }

    async fn secrets(&self) -> Result<Vec<Secret>> {
        Ok(self.0.secrets.clone())
    }

    async fn resolve_image(&self, _: &str, _: Option<&RegistryAuth>) -> Result<Option<String>> {
        Ok(None)
    }

    async fn raw_service(&self, _: &str) -> Result<Option<RawService>> {
        Ok(None)
    }
}
