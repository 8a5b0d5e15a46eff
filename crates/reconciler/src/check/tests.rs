use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::compile;
use crate::sample::{
    desired, main_cluster, nothing_published, options, request, secrets, settings, tasks_service, vip_service,
};

fn spec() -> ProxySpec {
    let mut services = [
        vip_service("a", "a.local,b.local", "n1", "10.0.0.9"),
        tasks_service("b", "b.local", "n2", &["10.1.0.3", "10.1.0.4"]),
        tasks_service("c", "", "n2", &["10.1.0.5"]),
        vip_service("t", "t.local", "n1", "10.0.0.8"),
        vip_service("u", "t.local", "n1", "10.0.0.7"),
        vip_service("p", "p.local", "n1", "10.0.0.6"),
    ];
    let tls = json!({"terminate": {"certificate": "t.cert", "key": "t.key"}});
    for (service, said) in services[3..].iter_mut().zip([
        json!({"host": {"tls": tls, "hsts": "600", "ssl_only": true}}),
        json!({"context_root": "/u", "route": {"basic_auth": "users"}}),
        json!({"host": {"tls": "passthrough"}}),
    ]) {
        request(service).options = options(said);
    }
    let mut desired = desired(services);
    desired.secrets = secrets(["t.cert", "t.key", "users"].map(|name| name.parse().unwrap()));
    compile(&desired, &nothing_published(), &settings()).specs.remove(&main_cluster()).unwrap()
}

fn host(host: &str) -> Host {
    Host::parse(host).unwrap()
}

/// Changes a group that has one host.
fn change(spec: &mut ProxySpec, host: &str, change: impl FnOnce(&mut Group)) {
    change(Arc::make_mut(spec.hosts.get_mut(&self::host(host)).unwrap()));
}

#[test]
fn a_compiled_spec_keeps_every_law() {
    assert_eq!(spec().groups().count(), 4);
    assert_eq!(check(&spec()), Ok(()));
}

#[test]
fn each_law_is_noticed_when_broken() {
    type Break = fn(&mut ProxySpec);
    let cases: [(Break, &str); 20] = [
        (
            |spec| Arc::make_mut(spec.endpoints.get_mut(&ServiceId::new("a")).unwrap()).clear(),
            "the service a is named and has no endpoint",
        ),
        (
            |spec| drop(spec.endpoints.remove(&ServiceId::new("b"))),
            "the endpoints of the service b are not those of its contribution",
        ),
        (
            |spec| change(spec, "a.local", |group| group.routes[0].services.clear()),
            "nobody answers the hosts of the group {a.local}",
        ),
        (
            |spec| change(spec, "t.local", |group| group.routes.clear()),
            "nobody answers the hosts of the group {t.local}",
        ),
        (
            |spec| change(spec, "a.local", |group| group.hosts.clear()),
            "the host a.local is answered by a group that is not its own",
        ),
        (
            |spec| change(spec, "a.local", |group| group.hosts.extend([host("b.local")])),
            "the host b.local is answered by a group that is not its own",
        ),
        (
            |spec| {
                let mut twin = spec.hosts[&host("a.local")].clone();
                Arc::make_mut(&mut twin).hosts = BTreeSet::from([host("b.local")]);
                spec.hosts.insert(host("b.local"), twin);
            },
            "the groups of a.local and b.local differ in their hosts only",
        ),
        (
            |spec| Arc::make_mut(spec.default_backend.as_mut().unwrap()).hosts = BTreeSet::from([host("z.local")]),
            "the default backend has the hosts {z.local}",
        ),
        (
            |spec| change(spec, "p.local", |group| group.tls = None),
            "the group of {p.local} does not know whether its TLS is passed through",
        ),
        (
            |spec| change(spec, "a.local", |group| group.tls = Some(Tls::Passthrough)),
            "the group of {a.local} does not know whether its TLS is passed through",
        ),
        (
            |spec| change(spec, "a.local", |group| group.ssl_only = true),
            "the group of {a.local} has options of TLS and no TLS",
        ),
        (
            |spec| change(spec, "p.local", |group| group.hsts = Some("600".parse().unwrap())),
            "the group of {p.local} has options of TLS and no TLS",
        ),
        (
            |spec| change(spec, "t.local", |group| group.routes.reverse()),
            "the paths of the group {t.local} are not in order",
        ),
        (
            |spec| change(spec, "a.local", |group| group.routes.push(group.routes[0].clone())),
            "the paths of the group {a.local} are not in order",
        ),
        (
            |spec| change(spec, "b.local", |group| group.routes[0].services.reverse()),
            "the services [b, a] are not in the order of their creation",
        ),
        (|spec| spec.default_backend = None, "what the service c contributes is not what the groups say"),
        (
            |spec| change(spec, "t.local", |group| group.routes[1].path = "/elsewhere".parse().unwrap()),
            "what the service u contributes is not what the groups say",
        ),
        (
            |spec| assert!(spec.networks.remove(&"n1".into())),
            "the service a is reached over the network n1, which the proxies do not join",
        ),
        (
            |spec| assert!(spec.secrets.remove(&"users".parse().unwrap()).is_some()),
            "the secret users is named and not among those that the proxies get",
        ),
        (
            |spec| {
                let large = Arc::make_mut(spec.contributions.get_mut(&ServiceId::new("a")).unwrap());
                let addresses = (0..20_000).map(|n| (std::net::Ipv4Addr::from(0x0a01_0000 + n), 8080).into());
                large.endpoints = addresses.collect();
                spec.endpoints.insert("a".into(), Arc::new(large.endpoints.clone()));
            },
            "the group of {a.local} is larger than a file may be",
        ),
    ];
    for (damage, expect) in cases {
        let mut spec = spec();
        damage(&mut spec);
        let violations: Vec<String> = check(&spec).expect_err(expect).iter().map(ToString::to_string).collect();
        assert!(violations.iter().any(|violation| violation == expect), "{expect:?} is not in {violations:?}");
    }
}
