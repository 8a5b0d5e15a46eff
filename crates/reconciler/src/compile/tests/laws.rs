//! What holds whatever is asked for.

use std::num::NonZeroU16;

use model::values::Scheme;
use model::{Group, Host};
use proptest::prelude::*;

use super::*;
use crate::sample::{HOSTS, any_options, secret_names, secrets};

/// A service that may be routed, or wrong in any of several ways.
fn any_service() -> impl Strategy<Value = Service> {
    let name = prop::sample::select(vec!["a", "b", "c", "d", "e", "f"]);
    let hosts = prop::sample::subsequence(HOSTS.to_vec(), 0..=3);
    let network = prop::sample::select(vec!["n1", "n2"]);
    (name, hosts, network, any::<bool>(), 0..4_usize, 0..3_i64, 0..8_u8).prop_map(
        |(name, hosts, network, vip, tasks, created_at, oddity)| {
            let hosts = hosts.join(",");
            let addresses: Vec<String> = (0..tasks).map(|n| format!("10.0.{n}.{}", name.as_bytes()[0])).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let mut service = if vip {
                vip_service(name, &hosts, network, "10.0.0.200")
            } else {
                tasks_service(name, &hosts, network, &addresses)
            };
            service.created_at = Timestamp(created_at);
            match oddity {
                0 => service.scale = Scale::Zero,
                1 => service.networks.clear(),
                2 => service.asked = Err(vec![Problem::new(Code::BadPort, "no")]),
                3 => request(&mut service).network = Some("}; evil \n $x".into()),
                4 => request(&mut service).port = NonZeroU16::MAX,
                5 => service.name = "}\nevil; \"$x".into(),
                _ => {}
            }
            service
        },
    )
}

/// One that asks for more than a host, also for secrets that are not there.
pub(super) fn any_service_with_options() -> impl Strategy<Value = Service> {
    (any_service(), any_options()).prop_map(|(mut service, options)| {
        if let Ok(request) = &mut service.asked {
            request.options = options;
        }
        service
    })
}

fn compiled(services: impl IntoIterator<Item = Service>) -> Compiled {
    let mut desired = desired(services);
    desired.secrets = secrets(secret_names().into_iter().take(1));
    compile(&desired, &nothing_published(), &settings())
}

fn files(services: Vec<Service>) -> BTreeMap<String, String> {
    nginx::render(&compiled(services).specs[&main_cluster()], &nginx::Settings::default())
}

/// One service per name, the last.
fn distinct(services: Vec<Service>) -> Vec<Service> {
    services
        .into_iter()
        .map(|service| (service.id.clone(), service))
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .collect()
}

/// The hosts of every server that listens there.
fn on_listener<'a>(text: &'a str, listen: &str) -> Vec<&'a str> {
    let servers = text.split("server {\n").skip(1).map(|server| server.split("\n}").next().unwrap_or_default());
    let here = servers.filter(|server| server.lines().any(|line| line.trim().starts_with(&format!("listen {listen}"))));
    here.flat_map(|server| server.lines().filter_map(|line| line.trim().strip_prefix("server_name "))).collect()
}

fn sorted<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut hosts: Vec<String> = hosts.into_iter().map(|host| host.trim_end_matches(';').to_owned()).collect();
    hosts.sort();
    hosts
}

proptest! {
    #[test]
    fn every_spec_keeps_the_laws_and_every_candidate_is_reported(
        services in prop::collection::vec(any_service_with_options(), 0..8),
    ) {
        let services = distinct(services);
        let compiled = compiled(services.clone());
        prop_assert_eq!(check(&compiled.specs[&main_cluster()]), Ok(()));
        prop_assert!(compiled.report.services.keys().eq(services.iter().map(|service| &service.id)));
        for (id, about) in &compiled.report.services {
            let routed = compiled.specs[&main_cluster()].contributions.contains_key(id);
            prop_assert_eq!(routed, matches!(about.verdict, Verdict::Routed { .. }));
            prop_assert_eq!(matches!(about.verdict, Verdict::Refused), !about.problems.is_empty());
        }
    }

    #[test]
    fn nothing_joins_a_full_network_and_nobody_leaves_one(
        services in prop::collection::vec(any_service(), 0..8),
        known in prop::collection::vec(any_service(), 0..4),
    ) {
        let before = compile(&desired(known), &nothing_published(), &settings());
        let known: Vec<(&str, Contribution)> = before.specs[&main_cluster()]
            .contributions.iter().map(|(id, from)| (id.as_str(), (**from).clone())).collect();
        let published = live(&known, vec![]);
        let on = &before.specs[&main_cluster()].networks;
        let roomy = compile(&desired(services.clone()), &published, &settings());
        let full = compile(&crowded(services, &["n1", "n2"]), &published, &settings());
        let (roomy, full) = (&roomy.specs[&main_cluster()], &full.specs[&main_cluster()]);
        prop_assert_eq!(check(full), Ok(()));
        prop_assert!(full.networks.is_subset(on), "{:?} of {on:?}", full.networks);
        for (id, from) in roomy.contributions.iter().filter(|(_, from)| from.network.as_ref().is_none_or(|network| on.contains(network))) {
            prop_assert_eq!(full.contributions.get(id), Some(from), "it needs no join");
        }
    }

    #[test]
    fn order_of_insertion_is_irrelevant(services in prop::collection::vec(any_service_with_options(), 0..8)) {
        let services = distinct(services);
        let reversed = services.iter().rev().cloned().collect();
        prop_assert_eq!(files(services), files(reversed));
    }

    #[test]
    fn every_host_is_in_one_server_of_each_listener_where_it_is_answered(
        services in prop::collection::vec(any_service_with_options(), 0..8),
    ) {
        let services = distinct(services);
        let spec = &compiled(services.clone()).specs[&main_cluster()];
        let text: String = files(services).into_values().collect();
        // A redirect to where the request is already is none.
        let redirected = |group: &Group| {
            group.redirect.as_ref().is_some_and(|to| to.scheme == Scheme::Https || !group.hosts.contains(&to.host))
        };
        let plain = spec.groups().filter(|group| !group.routes.is_empty() || group.ssl_only || redirected(group));
        let plain = plain.flat_map(|group| &group.hosts).map(Host::as_str);
        let terminated = spec.groups().filter(|group| matches!(group.tls, Some(model::Tls::Terminate { .. })));
        let terminated = terminated.flat_map(|group| &group.hosts).map(Host::as_str);
        let tls = if spec.groups().chain(&spec.default_backend).any(|group| !group.passthrough.is_empty()) {
            "unix:/var/run/dovetail-tls.sock ssl"
        } else {
            "443 ssl"
        };
        prop_assert_eq!(sorted(on_listener(&text, "80")), sorted(plain));
        prop_assert_eq!(sorted(on_listener(&text, tls)), sorted(terminated));
    }

    #[test]
    fn a_strange_service_changes_nobody_else(services in prop::collection::vec(any_service(), 0..6), strange in any_service()) {
        let services: Vec<Service> = distinct(services).into_iter().filter(|service| service.id != strange.id).collect();
        let main = main_cluster();
        let before = compiled(services.clone());
        let after = compiled(services.iter().cloned().chain([strange.clone()]));
        for id in services.iter().map(|service| &service.id) {
            let (before, after) = (&before.report.services[id], &after.report.services[id]);
            prop_assert_eq!(before, after);
        }
        let mut others = after.specs[&main].contributions.clone();
        others.remove(&strange.id);
        prop_assert_eq!(&others, &before.specs[&main].contributions);
        // Groups that it is not in read as before.
        let group = |compiled: &Compiled, host: &Host| {
            compiled.specs[&main].groups().find(|group| group.hosts.contains(host)).map(|group| group.routes[0].services.clone())
        };
        for host in before.specs[&main].hosts.keys() {
            let mut now: Vec<_> = group(&after, host).unwrap_or_default();
            now.retain(|id| *id != strange.id);
            prop_assert_eq!(Some(now), group(&before, host));
        }
    }

    /// The only thing that takes another service out is the other way of TLS on a host of both.
    #[test]
    fn strange_options_take_nobody_out_but_by_tls_on_the_same_host(
        services in prop::collection::vec(any_service_with_options(), 0..6),
        strange in any_service_with_options(),
    ) {
        let services: Vec<Service> = distinct(services).into_iter().filter(|service| service.id != strange.id).collect();
        let main = main_cluster();
        let before = compiled(services.clone());
        let after = compiled(services.iter().cloned().chain([strange.clone()]));
        let refused_for_tls = |compiled: &Compiled| {
            let split = |about: &ServiceReport| about.problems.iter().any(|problem| problem.code == Code::Conflict);
            compiled.report.services.values().filter(|about| split(about)).count()
        };
        prop_assume!(refused_for_tls(&before) == 0 && refused_for_tls(&after) == 0);
        let mut others = after.specs[&main].contributions.clone();
        others.remove(&strange.id);
        prop_assert_eq!(&others, &before.specs[&main].contributions);
        for id in services.iter().map(|service| &service.id) {
            prop_assert_eq!(&before.report.services[id].verdict, &after.report.services[id].verdict);
        }
    }
}
