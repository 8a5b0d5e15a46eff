//! Why a generation is made, in words for the manifest, the log and `docker config ls`.

use std::collections::{BTreeMap, BTreeSet};

use model::{Contribution, Desired, Manifest, NetworkId, Publications, Report, ServiceId, Verdict};

use crate::difference::changes;

/// So many changes are told one by one; a longer list helps nobody on call.
const TOLD: usize = 3;

/// What is different between what is live and what is to be published.
pub(crate) fn reason(live: Option<&Manifest>, published: &Publications, report: &Report, desired: &Desired) -> String {
    let Some(live) = live else {
        return match published.len() {
            0 => "the first generation: nothing is published yet".to_owned(),
            count => format!("the first generation: {} published", counted(count, "service")),
        };
    };
    let changes: Vec<Change<'_>> = changes(&live.services, published)
        .map(|(id, old, new)| (id, old.map(|old| &*old.contribution), new.map(|new| &*new.contribution)))
        .filter(|(_, old, new)| old != new)
        .collect();
    // What changed or went comes before what came.
    let (came, other): (Vec<_>, Vec<_>) = changes.iter().partition(|(_, old, _)| old.is_none());
    if changes.is_empty() {
        return "the settings of the proxy changed".to_owned();
    }
    let told = other.into_iter().chain(came).take(TOLD).map(|change| told(change, report, desired));
    let count = changes.len();
    let mut text = if count > 1 { format!("{}: ", counted(count, "change")) } else { String::new() };
    text.push_str(&told.collect::<Vec<_>>().join("; "));
    if count > TOLD {
        text.push_str(&format!("; and {} more", count - TOLD));
    }
    let joined = joined(live, &changes);
    if !joined.is_empty() {
        let names: Vec<&str> = joined.iter().map(|(network, _)| network_name(desired, network)).collect();
        let services: BTreeSet<&str> = joined.iter().map(|(_, service)| *service).collect();
        let plural = if names.len() == 1 { "network" } else { "networks" };
        let services = services.into_iter().collect::<Vec<_>>();
        text.push_str(&format!("; {plural} {} joined for {}", names.join(", "), services.join(", ")));
    }
    text
}

/// A service with what it contributed and what it contributes, which is not the same.
type Change<'a> = (&'a ServiceId, Option<&'a Contribution>, Option<&'a Contribution>);

fn told((id, old, new): &Change<'_>, report: &Report, desired: &Desired) -> String {
    match (old, new) {
        (Some(old), Some(new)) => changed(old, new, desired),
        (Some(old), None) => withdrawn(id, old, report),
        (None, Some(new)) => format!("service {} published", new.name),
        (None, None) => String::new(),
    }
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

/// The networks that nothing live uses, each with the first service that needs it: one that changed.
fn joined<'a>(live: &Manifest, changes: &[Change<'a>]) -> Vec<(&'a NetworkId, &'a str)> {
    let mut joined: Vec<(&NetworkId, &str)> = Vec::new();
    let mut used: BTreeMap<&NetworkId, bool> = BTreeMap::new();
    for (_, old, new) in changes {
        let Some((needed, new)) = new.and_then(|new| Some((new.network.as_ref()?, new))) else { continue };
        let is_used = || live.services.values().any(|live| live.contribution.network.as_ref() == Some(needed));
        let stays = old.is_some_and(|old| old.network == new.network);
        if !stays && !*used.entry(needed).or_insert_with(is_used) && joined.iter().all(|(other, _)| *other != needed) {
            joined.push((needed, &new.name));
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
    use std::sync::Arc;

    use model::{Published, Service};

    use super::*;
    use crate::sample::{desired, main_cluster, request, settings, tasks_service, vip_service};
    use crate::{compile, target};

    /// The manifest of some services, where this is published.
    fn manifest(services: Vec<Service>, published: &Published) -> Arc<Manifest> {
        let desired = desired(services);
        let compiled = compile(&desired, &BTreeMap::from([(main_cluster(), published.clone())]), &settings());
        let live = match published {
            Published::Live { manifest, .. } => Some(&**manifest),
            _ => None,
        };
        let (spec, setup) = (&compiled.specs[&main_cluster()], &compiled.setups[&main_cluster()]);
        target(spec, setup, &compiled.report, &desired, live).unwrap().manifest
    }

    /// The reason of the step from one set of services to another.
    fn step(before: Vec<Service>, after: Vec<Service>) -> String {
        let live = manifest(before, &Published::Nothing);
        let published = Published::Live { manifest: Arc::clone(&live), last_good: live, holds: vec![] };
        manifest(after, &published).reason.clone()
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
        assert_eq!(manifest(vec![], &Published::Nothing).reason, "the first generation: nothing is published yet");
    }
}
