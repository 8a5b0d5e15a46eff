//! What is asked for, and the files that come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::Arc;

use dovetail_reconciler::{ClusterSettings, Settings, check, compile, nginx};
use model::{
    BackendMode, Backends, ClusterName, Code, Desired, Host, Network, NetworkId, Options, Problem, Published, Request,
    Scale, SecretId, Service, Task, TaskAddresses, Timestamp, Verdict,
};

/// A service; `hosts` are comma-separated, none makes a default backend.
pub fn service(name: &str, hosts: &str, mode: BackendMode, addresses: &[Ipv4Addr], port: u16) -> Service {
    let network = || "n1".into();
    Service {
        id: name.into(),
        name: name.to_owned(),
        created_at: Timestamp(0),
        stack: None,
        access_label: None,
        labels: BTreeMap::new(),
        asked: Ok(Request {
            hosts: hosts.split(',').filter(|host| !host.is_empty()).map(|host| Host::parse(host).unwrap()).collect(),
            port: NonZeroU16::new(port).unwrap(),
            network: None,
            backend_mode: mode,
            default_backend: hosts.is_empty(),
            service_cluster: String::new(),
            options: Options::default(),
        }),
        warnings: Vec::new(),
        scale: Scale::AtLeastOne,
        at_nodes: false,
        networks: BTreeSet::from([network()]),
        backends: match mode {
            BackendMode::Vip => {
                Backends::Vip { addresses: BTreeMap::from([(network(), addresses[0].into())]), has_run: true }
            }
            BackendMode::Task => Backends::Tasks {
                tasks: addresses
                    .iter()
                    .enumerate()
                    .map(|(n, address)| Task {
                        id: format!("{name}.{n}").as_str().into(),
                        slot: n as u64,
                        node: "node".into(),
                        addresses: TaskAddresses::from_iter([(network(), (*address).into())]),
                        at_node: None,
                        held_off: false,
                    })
                    .collect(),
                stale: false,
            },
        },
    }
}

/// The service with options.
pub fn with(mut service: Service, edit: impl FnOnce(&mut Options)) -> Service {
    edit(&mut service.asked.as_mut().unwrap().options);
    service
}

/// The service as if it had been created at this time.
pub fn at(created_at: i64, service: Service) -> Service {
    Service { created_at: Timestamp(created_at), ..service }
}

/// The files. Every service must be routed, unless its TLS does not go with another's or it is too large, and every secret
/// that one names is there.
pub fn files(services: &[Service], settings: &nginx::Settings) -> BTreeMap<String, String> {
    let cluster = ClusterName::parse("main").unwrap();
    let named = services.iter().flat_map(|service| service.asked.as_ref().unwrap().options.secrets());
    let desired = Desired {
        services: services.iter().map(|service| (service.id.clone(), Arc::new(service.clone()))).collect(),
        networks: [(NetworkId::new("n1"), Arc::new(Network::new("n1".into(), "app")))].into_iter().collect(),
        secrets: named.map(|name| (name.clone(), SecretId::new(format!("id-{name}")))).collect(),
    };
    let of_cluster = ClusterSettings { nginx: settings.clone(), ..ClusterSettings::default() };
    let all = Settings { clusters: BTreeMap::from([(cluster.clone(), of_cluster)]), ..Settings::default() };
    assert_eq!(settings.check(), Ok(()));
    let compiled = compile(&desired, &BTreeMap::from([(cluster.clone(), Published::Nothing)]), &all);
    for about in compiled.report.services.values() {
        let refused = |problem: &Problem| matches!(problem.code, Code::Conflict | Code::TooLarge);
        assert!(about.problems.iter().any(refused) || matches!(about.verdict, Verdict::Routed { .. }), "{about:?}");
    }
    let spec = &compiled.specs[&cluster];
    assert_eq!(check(spec), Ok(()));
    nginx::render(spec, settings)
}
