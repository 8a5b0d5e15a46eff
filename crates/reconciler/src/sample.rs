//! Small inputs for tests.

mod any_options;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use model::values::SecretName;
use model::{
    BackendMode, Backends, ClusterName, Contribution, Desired, Digest, Host, Manifest, Network, Options, Publication,
    Published, Request, Scale, SecretId, Secrets, Service, ServiceId, Task, TaskAddresses, Timestamp,
};

pub(crate) use any_options::{HOSTS, any_options, secret_names};

use crate::{ClusterSettings, Settings};

pub(crate) fn main_cluster() -> ClusterName {
    ClusterName::parse("main").unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings { clusters: BTreeMap::from([(main_cluster(), ClusterSettings::default())]), ..Settings::default() }
}

pub(crate) fn nothing_published() -> BTreeMap<ClusterName, Published> {
    BTreeMap::from([(main_cluster(), Published::Nothing)])
}

/// A service whose id is its name, on port 8080; `hosts` are comma-separated, none makes a default backend.
fn service(name: &str, hosts: &str, network: &str, mode: BackendMode, backends: Backends) -> Service {
    Service {
        id: ServiceId::new(name),
        name: name.to_owned(),
        created_at: Timestamp(0),
        stack: None,
        access_label: None,
        labels: BTreeMap::new(),
        asked: Ok(Request {
            hosts: hosts.split(',').filter(|host| !host.is_empty()).map(|host| Host::parse(host).unwrap()).collect(),
            port: NonZeroU16::new(8080).unwrap(),
            network: None,
            backend_mode: mode,
            default_backend: hosts.is_empty(),
            service_cluster: String::new(),
            options: Options::default(),
        }),
        warnings: Vec::new(),
        scale: Scale::AtLeastOne,
        at_nodes: false,
        networks: BTreeSet::from([network.into()]),
        backends,
    }
}

pub(crate) fn vip_service(name: &str, hosts: &str, network: &str, address: &str) -> Service {
    let addresses = BTreeMap::from([(network.into(), address.parse().unwrap())]);
    service(name, hosts, network, BackendMode::Vip, Backends::Vip { addresses, has_run: true })
}

pub(crate) fn tasks_service(name: &str, hosts: &str, network: &str, addresses: &[&str]) -> Service {
    let tasks =
        addresses.iter().enumerate().map(|(n, address)| task(&format!("{name}.{n}"), network, address)).collect();
    service(name, hosts, network, BackendMode::Task, Backends::Tasks { tasks, stale: false })
}

pub(crate) fn task(id: &str, network: &str, address: &str) -> Task {
    Task {
        id: id.into(),
        slot: 1,
        node: "node".into(),
        addresses: TaskAddresses::from_iter([(network.into(), address.parse().unwrap())]),
        at_node: None,
        held_off: false,
    }
}

pub(crate) fn request(service: &mut Service) -> &mut Request {
    service.asked.as_mut().expect("labels that read")
}

/// The services on networks whose names are `net-` and their ids.
pub(crate) fn desired(services: impl IntoIterator<Item = Service>) -> Desired {
    let services: imbl::OrdMap<ServiceId, Arc<Service>> =
        services.into_iter().map(|service| (service.id.clone(), Arc::new(service))).collect();
    let networks = services
        .values()
        .flat_map(|service| service.networks.iter())
        .map(|id| (id.clone(), Arc::new(Network::new(id.clone(), format!("net-{id}")))))
        .collect();
    Desired { services, networks, secrets: imbl::OrdMap::new() }
}

/// Secrets with the ids `id-NAME`.
pub(crate) fn secrets(names: impl IntoIterator<Item = SecretName>) -> imbl::OrdMap<SecretName, SecretId> {
    names.into_iter().map(|name| (name.clone(), SecretId::new(format!("id-{name}")))).collect()
}

/// Options as a manifest has them.
pub(crate) fn options(written: serde_json::Value) -> Options {
    serde_json::from_value(written).expect("options that read")
}

pub(crate) fn contribution(name: &str, hosts: &str, mode: BackendMode, network: &str, endpoint: &str) -> Contribution {
    Contribution {
        name: name.to_owned(),
        created_at: Timestamp(0),
        hosts: hosts.split(',').filter(|host| !host.is_empty()).map(|host| Host::parse(host).unwrap()).collect(),
        default_backend: hosts.is_empty(),
        mode,
        network: Some(network.into()),
        endpoints: BTreeSet::from([endpoint.parse().unwrap()]),
        options: Options::default(),
        secrets: Secrets::new(),
    }
}

pub(crate) fn manifest(services: &[(&str, Contribution)]) -> Manifest {
    Manifest {
        cluster: main_cluster(),
        generation: Digest::of(b"sample"),
        reason: String::new(),
        setup: serde_json::Value::Null,
        services: services
            .iter()
            .map(|(id, contribution)| {
                let publication = Publication {
                    fragment: contribution.digest(),
                    reason: String::new(),
                    contribution: Arc::new(contribution.clone()),
                };
                (ServiceId::new(*id), Arc::new(publication))
            })
            .collect(),
    }
}
