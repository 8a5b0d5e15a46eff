//! Why a generation is made, in words for the manifest, the log and `docker config ls`.

use std::collections::BTreeSet;

use model::{Contribution, Desired, Manifest, NetworkId, ProxySpec, Report, ServiceId, Verdict};

/// So many changes are told one by one; a longer list helps nobody on call.
const TOLD: usize = 3;

/// What is different between what is live and the new spec.
pub fn reason(live: Option<&Manifest>, spec: &ProxySpec, report: &Report, desired: &Desired) -> String {
    let Some(live) = live else {
        return match spec.contributions.len() {
            0 => "the first generation: nothing is published yet".to_owned(),
            count => format!("the first generation: {} published", counted(count, "service")),
        };
    };
    let mut changes = Vec::new();
    for (id, publication) in &live.services {
        let (old, new) = (&publication.contribution, spec.contributions.get(id));
        match new {
            Some(new) if **new == *old => {}
            Some(new) => changes.push(changed(old, new, desired)),
            None => changes.push(withdrawn(id, old, report)),
        }
    }
    for (id, new) in &spec.contributions {
        if !live.services.contains_key(id) {
            changes.push(format!("service {} published", new.name));
        }
    }
    if changes.is_empty() {
        return "the settings of the proxy changed".to_owned();
    }
    let count = changes.len();
    let mut text = if count > 1 { format!("{}: ", counted(count, "change")) } else { String::new() };
    text.push_str(&changes.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; "));
    if count > TOLD {
        text.push_str(&format!("; and {} more", count - TOLD));
    }
    let joined = joined(live, spec);
    if !joined.is_empty() {
        let names: Vec<&str> = joined.iter().map(|(network, _)| network_name(desired, network)).collect();
        let services: BTreeSet<&str> = joined.iter().map(|(_, service)| *service).collect();
        let plural = if names.len() == 1 { "network" } else { "networks" };
        let services = services.into_iter().collect::<Vec<_>>();
        text.push_str(&format!("; {plural} {} joined for {}", names.join(", "), services.join(", ")));
    }
    text
}

fn withdrawn(id: &ServiceId, old: &Contribution, report: &Report) -> String {
    let why = match report.services.get(id) {
        None => "it is gone".to_owned(),
        Some(about) => match &about.verdict {
            Verdict::Waiting { reason } | Verdict::Quarantined { reason, .. } => reason.clone(),
            Verdict::Refused => about.problems.first().map_or("refused".to_owned(), |problem| problem.code.to_string()),
            Verdict::Routed { .. } => "it moved to another service cluster".to_owned(),
            Verdict::Elsewhere { service_cluster } => format!("it asks for the service cluster {service_cluster:?}"),
        },
    };
    format!("service {} withdrawn ({why})", old.name)
}

/// Names everything that changed, destructured so that a new field cannot be forgotten here.
fn changed(old: &Contribution, new: &Contribution, desired: &Desired) -> String {
    let Contribution { name, created_at: _, hosts, default_backend, mode, network, endpoints, options, secrets } = new;
    let mut parts = Vec::new();
    if *hosts != old.hosts {
        parts.push(format!("hosts of {name} changed"));
    }
    if *default_backend != old.default_backend {
        parts.push(format!("{name} is {} default backend", if *default_backend { "now a" } else { "no longer a" }));
    }
    if *network != old.network {
        parts.push(match network {
            Some(network) => format!("{name} is reached over the network {}", network_name(desired, network)),
            None => format!("{name} is reached at its nodes"),
        });
    }
    if *mode != old.mode {
        parts.push(format!("{name} is now in {} mode", mode.as_str()));
    } else if *network == old.network && *endpoints != old.endpoints {
        parts.push(match mode {
            model::BackendMode::Vip => format!("the VIP or the port of {name} changed"),
            model::BackendMode::Task => {
                let came = endpoints.difference(&old.endpoints).count();
                let went = old.endpoints.difference(endpoints).count();
                match (came, went) {
                    (came, 0) => format!("{} of {name} came", counted(came, "task")),
                    (0, went) => format!("{} of {name} went", counted(went, "task")),
                    (came, went) => format!("{} of {name} came, {went} went", counted(came, "task")),
                }
            }
        });
    }
    if *options != old.options {
        parts.push(format!("options of {name} changed"));
    } else if *secrets != old.secrets {
        parts.push(format!("secrets of {name} were replaced"));
    }
    if parts.is_empty() { format!("{name} changed") } else { parts.join(", ") }
}

/// The networks that nothing live uses, each with the first service that needs it.
fn joined<'a>(live: &Manifest, spec: &'a ProxySpec) -> Vec<(&'a NetworkId, &'a str)> {
    let used: BTreeSet<&NetworkId> =
        live.services.values().filter_map(|service| service.contribution.network.as_ref()).collect();
    let mut joined: Vec<(&NetworkId, &str)> = Vec::new();
    for from in spec.contributions.values() {
        let Some(needed) = &from.network else { continue };
        if !used.contains(needed) && joined.iter().all(|(network, _)| *network != needed) {
            joined.push((needed, &from.name));
        }
    }
    joined
}

fn network_name<'a>(desired: &'a Desired, id: &'a NetworkId) -> &'a str {
    desired.networks.get(id).map_or(id.as_str(), |network| network.name.as_str())
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use model::{Published, Service};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::bundle::bundle;
    use crate::sample::{desired, main_cluster, nothing_published, request, settings, tasks_service, vip_service};
    use crate::{compile, nginx};

    /// The reason of the step from one set of services to another.
    fn step(before: Vec<Service>, after: Vec<Service>) -> String {
        let compiled = compile(&desired(before), &nothing_published(), &settings());
        let spec = &compiled.specs[&main_cluster()];
        let live = bundle(spec, &nginx::Settings::default(), String::new(), &compiled.report, None).manifest;
        let published = Published::Live { manifest: Arc::clone(&live), last_good: Arc::clone(&live), holds: vec![] };
        let after = desired(after);
        let compiled = compile(&after, &BTreeMap::from([(main_cluster(), published)]), &settings());
        reason(Some(&live), &compiled.specs[&main_cluster()], &compiled.report, &after)
    }

    #[test]
    fn the_reason_names_what_changed() {
        let vip = || vip_service("demo", "demo.local", "n1", "10.0.0.9");
        let tasks = |addresses: &[&str]| tasks_service("shop", "shop.local", "n1", addresses);
        let with = |mut service: Service, edit: fn(&mut Service)| {
            edit(&mut service);
            service
        };
        let (one, two, other) = (&["10.0.0.3"][..], &["10.0.0.3", "10.0.0.4"][..], &["10.0.0.5"][..]);
        let many = || (0..5).map(|n| vip_service(&format!("s{n}"), &format!("s{n}.local"), "n1", "10.0.0.9")).collect();
        for (before, after, expect) in [
            (vec![vip()], vec![vip()], "the settings of the proxy changed"),
            (vec![vip()], vec![vip(), tasks(one)], "service shop published"),
            (vec![vip(), tasks(one)], vec![vip()], "service shop withdrawn (it is gone)"),
            (
                vec![vip()],
                vec![with(vip(), |s| s.scale = model::Scale::Zero)],
                "service demo withdrawn (0 replicas are wanted)",
            ),
            (vec![vip()], vec![with(vip(), |s| s.networks.clear())], "service demo withdrawn (no_network)"),
            (
                vec![vip()],
                vec![with(vip(), |s| request(s).service_cluster = "x".into())],
                "service demo withdrawn (it asks for the service cluster \"x\")",
            ),
            (vec![tasks(one)], vec![tasks(two)], "1 task of shop came"),
            (vec![tasks(two)], vec![tasks(one)], "1 task of shop went"),
            (vec![tasks(two)], vec![tasks(other)], "1 task of shop came, 2 went"),
            (
                vec![vip()],
                vec![vip_service("demo", "demo.local", "n1", "10.0.0.8")],
                "the VIP or the port of demo changed",
            ),
            (vec![vip()], vec![tasks_service("demo", "demo.local", "n1", one)], "demo is now in task mode"),
            (
                vec![vip()],
                vec![vip_service("demo", "demo.local", "n2", "10.0.0.9")],
                "demo is reached over the network net-n2; network net-n2 joined for demo",
            ),
            (vec![vip()], vec![vip_service("demo", "new.local", "n1", "10.0.0.9")], "hosts of demo changed"),
            (vec![vip()], vec![with(vip(), |s| request(s).default_backend = true)], "demo is now a default backend"),
            (
                vec![vip(), tasks(one)],
                vec![tasks(two)],
                "2 changes: service demo withdrawn (it is gone); 1 task of shop came",
            ),
            (
                vec![],
                many(),
                "5 changes: service s0 published; service s1 published; service s2 published; and 2 more; network net-n1 joined for s0",
            ),
        ] {
            assert_eq!(step(before, after), expect);
        }
    }

    #[test]
    fn the_first_generation_says_so() {
        let empty = desired([]);
        let compiled = compile(&empty, &nothing_published(), &settings());
        let text = reason(None, &compiled.specs[&main_cluster()], &compiled.report, &empty);
        assert_eq!(text, "the first generation: nothing is published yet");
    }
}
