//! What every proxy should be, and why: one decision per service, then one spec per service cluster.
//!
//! # Guarantees
//! - A service is decided about from its own labels and state, its cluster's settings, and what of *it* is live:
//!   no service can change another's contribution. (It can join the other's group by naming the same host.) Only
//!   after a failure, or where networks join one by one, others decide when a change of it is let through.
//! - Every candidate is in the report, with the reason for its verdict.
//! - The proxies join no network that is known to have too few addresses left for them, and leave none because of it.
//! - A cluster of which it is not known what its proxies serve has no spec: nothing is planned from not knowing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Backends, ClusterName, Code, Contribution, Desired, Hold, Host, Manifest, NetworkId, Options, Problem, ProxySpec,
    Published, Report, Request, Service, ServiceId, ServiceReport, Verdict,
};

use crate::endpoints::{self, Found};
use crate::groups::{self, Contributions, Grouped};
use crate::holds::{Holds, Standing};
use crate::joining;
use crate::network::{self, Chosen, Question};
use crate::nginx;
use crate::room;
use crate::secrets;
use crate::settings::{ClusterSettings, Settings};
use crate::setup;

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// What the proxies should be, for the clusters of which it is known what they serve.
    pub specs: BTreeMap<ClusterName, ProxySpec>,
    /// How they are to be set up: as configured, unless that is held.
    pub setups: BTreeMap<ClusterName, nginx::Settings>,
    /// What was decided about every candidate.
    pub report: Report,
}

/// Decides about every service and assembles a spec per cluster.
pub fn compile(desired: &Desired, published: &BTreeMap<ClusterName, Published>, settings: &Settings) -> Compiled {
    let mut report = Report::default();
    let live: BTreeMap<&ClusterName, Result<Live<'_>, String>> =
        settings.clusters.keys().map(|cluster| (cluster, Live::of(published.get(cluster)))).collect();
    let mut contributions: BTreeMap<&ClusterName, Contributions> =
        live.iter().filter(|(_, live)| live.is_ok()).map(|(cluster, _)| (*cluster, Contributions::new())).collect();
    for (id, service) in &desired.services {
        let mut about = blank(service);
        let contribution = decide(service, desired, &live, settings, &mut about);
        if let (Some(contribution), Some(cluster)) = (contribution, &about.cluster)
            && let Some(contributions) = contributions.get_mut(cluster)
        {
            contributions.insert(id.clone(), Arc::new(contribution));
        }
        report.services.insert(id.clone(), about);
    }
    let mut setups = BTreeMap::new();
    for (cluster, settings) in &settings.clusters {
        let (setup, kept) = setup::in_effect(&settings.nginx, published.get(cluster));
        report.kept_setups.extend(kept.map(|reason| (cluster.clone(), reason)));
        setups.insert(cluster.clone(), setup);
    }
    let specs = contributions
        .into_iter()
        .map(|(cluster, mut contributions)| {
            if let Ok(Live { manifest: Some(live), last_good: Some(last_good), holds, .. }) = &live[cluster] {
                let nginx = &settings.clusters[cluster].nginx;
                let holds = holds.iter().filter(|hold| {
                    // What somebody rolled back is not tried again, whatever was meant.
                    hold.by_hand || !setup::is_to_blame(hold, &last_good.setup, nginx)
                });
                let wanted = contributions.iter().map(|(id, from)| (id, &**from));
                let weighed = Holds::weigh(wanted, last_good, holds);
                hold_back(&mut contributions, &weighed, &mut report);
                if settings.clusters[cluster].networks.is_none() && weighed.a_join_failed() {
                    join_one_by_one(&mut contributions, live, last_good, desired, &mut report);
                }
            }
            refuse_split_over_tls(&mut contributions, &mut report);
            refuse_too_large(&mut contributions, &mut report);
            let by_claim = groups::by_claim(&contributions);
            warn(settings.claims.shared(&by_claim, desired), &mut report);
            let grouped = groups::group(by_claim);
            (cluster.clone(), assemble(cluster, contributions, grouped, &mut report))
        })
        .collect();
    Compiled { specs, setups, report }
}

/// What is known to be live in one cluster.
struct Live<'a> {
    manifest: Option<&'a Manifest>,
    last_good: Option<&'a Manifest>,
    holds: &'a [Hold],
    /// The networks that the proxies are on, or are joining.
    networks: BTreeSet<&'a NetworkId>,
}

impl<'a> Live<'a> {
    /// What is live, or why that is not known.
    fn of(published: Option<&'a Published>) -> Result<Self, String> {
        match published {
            None => Err("it was not read yet".to_owned()),
            Some(Published::Unknown { reason }) => Err(reason.clone()),
            Some(Published::Nothing) => {
                Ok(Self { manifest: None, last_good: None, holds: &[], networks: BTreeSet::new() })
            }
            Some(Published::Live { manifest, last_good, holds }) => {
                let services = manifest.services.values().chain(last_good.services.values());
                let networks = services.filter_map(|publication| publication.contribution.network.as_ref()).collect();
                Ok(Self { manifest: Some(manifest), last_good: Some(last_good), holds, networks })
            }
        }
    }

    fn contribution(&self, id: &ServiceId) -> Option<&'a Contribution> {
        self.manifest?.services.get(id).map(|publication| &publication.contribution)
    }
}

// === One service ===

/// A report of a service about which nothing is decided.
fn blank(service: &Service) -> ServiceReport {
    ServiceReport {
        name: service.name.clone(),
        cluster: None,
        verdict: Verdict::Refused,
        hosts: BTreeSet::new(),
        default_backend: false,
        mode: None,
        network: None,
        at_nodes: false,
        endpoints: BTreeSet::new(),
        options: Options::default(),
        tasks: Vec::new(),
        labels: service.labels.clone(),
        problems: Vec::new(),
        warnings: service.warnings.clone(),
    }
}

/// What the service contributes to its cluster, if anything. Everything found out on the way goes into `about`.
fn decide(
    service: &Service,
    desired: &Desired,
    live: &BTreeMap<&ClusterName, Result<Live<'_>, String>>,
    settings: &Settings,
    about: &mut ServiceReport,
) -> Option<Contribution> {
    let request = match &service.asked {
        Ok(request) => request,
        Err(problems) => {
            about.problems.clone_from(problems);
            return None;
        }
    };
    about.hosts.clone_from(&request.hosts);
    about.default_backend = request.default_backend;
    about.mode = Some(request.backend_mode);
    let Some((cluster, cluster_settings)) = settings.serving(&request.service_cluster) else {
        about.verdict = Verdict::Elsewhere { service_cluster: request.service_cluster.clone() };
        return None;
    };
    about.cluster = Some(cluster.clone());
    if let Some(problem) = settings.claims.refuse(service, &request.hosts, request.default_backend) {
        about.problems.push(problem);
        return None;
    }
    if request.options.host.tls.is_some() && cluster_settings.nginx.published_https.is_none() {
        let message = format!("it asks for TLS, and the proxies of {cluster} publish no port for HTTPS");
        about.warnings.push(Problem::new(Code::NoHttpsPort, message));
    }
    let live = match &live[cluster] {
        Ok(live) => live,
        Err(reason) => {
            let reason = format!("what the proxies of {cluster} serve is not known: {reason}");
            about.verdict = Verdict::Waiting { reason };
            return None;
        }
    };
    if let Backends::Unread { reason } = &service.backends {
        about.warnings.push(Problem::new(Code::Unread, format!("{reason}; what is live of the service stays")));
        return stay(live.contribution(&service.id), reason, about);
    }
    let contribution = contribute(service, request, desired, cluster_settings, live, about)?;
    let network = contribution.network.as_ref().and_then(|id| desired.networks.get(id));
    match network.and_then(|network| room::lacking(cluster, network, &live.networks)) {
        None => Some(contribution),
        Some(problem) => keep_off(live.contribution(&service.id), problem, about),
    }
}

/// What the labels and the state of the service come to, whatever happened to earlier generations.
fn contribute(
    service: &Service,
    request: &Request,
    desired: &Desired,
    settings: &ClusterSettings,
    live: &Live<'_>,
    about: &mut ServiceReport,
) -> Option<Contribution> {
    let live = live.contribution(&service.id);
    about.at_nodes = service.at_nodes;
    if !service.at_nodes {
        let chosen = network::choose(&Question {
            networks: &service.networks,
            known: &desired.networks,
            fixed: settings.networks.as_ref(),
            label: request.network.as_deref(),
            stack: service.stack.as_deref(),
            live: live.and_then(|live| live.network.as_ref()),
        });
        match chosen {
            Ok(Chosen { choice, warning }) => {
                about.network = Some(choice);
                about.warnings.extend(warning);
            }
            Err(problem) => {
                about.problems.push(problem);
                return None;
            }
        }
    }
    let (options, secrets, waits) = match secrets::resolve(&request.options, service.stack.as_deref(), &desired.secrets)
    {
        Ok((options, secrets)) => (options, secrets, false),
        Err(problem) => {
            about.problems.push(problem);
            // A rotation that is half done: the new name is said, and its secret is not there yet.
            let live = live?;
            (live.options.clone(), live.secrets.clone(), true)
        }
    };
    match endpoints::find(service, request.port, about.network.as_ref(), live) {
        Found::Never(problem) => {
            about.problems.push(problem);
            None
        }
        Found::None { reason, tasks, warning } => {
            about.tasks = tasks;
            about.warnings.extend(warning);
            about.verdict = Verdict::Waiting { reason };
            None
        }
        Found::Some { endpoints, reason, tasks, warning } => {
            about.tasks = tasks;
            about.warnings.extend(warning);
            let before = if waits { ", with the options it had before" } else { "" };
            about.verdict = Verdict::Routed { reason: format!("{reason}{before}") };
            about.endpoints.clone_from(&endpoints);
            about.options.clone_from(&options);
            Some(Contribution {
                name: service.name.clone(),
                created_at: service.created_at,
                hosts: request.hosts.clone(),
                default_backend: request.default_backend,
                mode: request.backend_mode,
                network: about.network.as_ref().map(|network| network.id.clone()),
                endpoints,
                options,
                secrets,
            })
        }
    }
}

/// Leaves a service as it is live: nothing that was found out now is to be believed, or to be done, yet.
fn stay(live: Option<&Contribution>, reason: &str, about: &mut ServiceReport) -> Option<Contribution> {
    about.tasks.clear();
    tell_served(live, about);
    about.verdict = match live {
        Some(_) => Verdict::Routed { reason: format!("as before: {reason}") },
        None => Verdict::Waiting { reason: reason.to_owned() },
    };
    live.cloned()
}

/// Tells what the proxies serve of a service instead of what was found out.
fn tell_served(served: Option<&Contribution>, about: &mut ServiceReport) {
    about.endpoints = served.map(|served| served.endpoints.clone()).unwrap_or_default();
    about.options = served.map(|served| served.options.clone()).unwrap_or_default();
}

/// Keeps the proxies off a network. A service that was reached over another one goes on being reached there.
fn keep_off(live: Option<&Contribution>, problem: Problem, about: &mut ServiceReport) -> Option<Contribution> {
    match live {
        Some(_) => {
            let contribution = stay(live, &problem.message, about);
            about.warnings.push(problem);
            contribution
        }
        None => {
            about.problems.push(problem);
            about.verdict = Verdict::Refused;
            about.endpoints.clear();
            about.options = Options::default();
            None
        }
    }
}

// === One cluster ===

/// Puts a service's last good contribution, if there is one, in the place of the new one.
fn put_back(contributions: &mut Contributions, id: ServiceId, last_good: Option<Arc<Contribution>>) {
    match last_good {
        Some(last_good) => drop(contributions.insert(id, last_good)),
        None => drop(contributions.remove(&id)),
    }
}

/// Puts the last good contribution, if there is one, in the place of those that are suspected of having broken a
/// rollout.
fn hold_back(contributions: &mut Contributions, weighed: &Holds<'_>, report: &mut Report) {
    let suspects = contributions.iter().filter_map(|(id, from)| match weighed.judge(id, from) {
        Standing::Clear => None,
        Standing::Suspect { reason, last_good } => Some((id.clone(), reason, last_good)),
    });
    for (id, reason, last_good) in suspects.collect::<Vec<_>>() {
        if let Some(about) = report.services.get_mut(&id) {
            let instead = if last_good.is_some() { "what it was before is served" } else { "it is not served" };
            let message =
                format!("a rollout with its last change failed ({reason}); until it is tried again {instead}");
            about.problems.push(Problem::new(Code::Quarantined, message));
            tell_served(last_good.as_deref(), about);
            about.verdict = Verdict::Quarantined { reason, last_good_served: last_good.is_some() };
        }
        put_back(contributions, id, last_good);
    }
}

/// Lets one new network in, now that a join has failed, and puts the last good contribution in the place of those that need another one.
fn join_one_by_one(
    contributions: &mut Contributions,
    live: &Manifest,
    last_good: &Manifest,
    desired: &Desired,
    report: &mut Report,
) {
    for (id, joining) in joining::waiting(contributions, live, last_good) {
        let last_good = last_good.services.get(&id).map(|good| Arc::new(good.contribution.clone()));
        if let Some(about) = report.services.get_mut(&id) {
            let name = desired.networks.get(&joining).map_or(joining.as_str(), |network| network.name.as_str());
            let reason = format!("its network joins after {name}: one at a time, so that it is known which one fails");
            tell_served(last_good.as_deref(), about);
            about.verdict = match last_good {
                Some(_) => Verdict::Routed { reason: format!("as before: {reason}") },
                None => Verdict::Waiting { reason },
            };
        }
        put_back(contributions, id, last_good);
    }
}

/// Refuses services that ask for the other way of TLS than an older one on their host.
fn refuse_split_over_tls(contributions: &mut Contributions, report: &mut Report) {
    for (id, problem) in groups::split_over_tls(contributions) {
        contributions.remove(&id);
        refuse(&id, problem, report);
    }
}

/// Refuses services until every group fits into a config object. In a group that does not fit, the service with
/// the most text of its own goes first, then the youngest: a small service is not the one who pays.
fn refuse_too_large(contributions: &mut Contributions, report: &mut Report) {
    while let Some((id, size)) = largest_of_a_group_too_large(contributions) {
        contributions.remove(&id);
        let problem =
            Problem::new(Code::TooLarge, format!("its hosts and tasks need {size} bytes of the proxy's files"))
                .allowed(format!("{} bytes for all services that share a host", nginx::PIECE_LIMIT));
        refuse(&id, problem, report);
    }
}

fn refuse(id: &ServiceId, problem: Problem, report: &mut Report) {
    let Some(about) = report.services.get_mut(id) else { return };
    about.problems.push(problem);
    about.verdict = Verdict::Refused;
    about.endpoints.clear();
}

fn warn(warnings: Vec<(ServiceId, Problem)>, report: &mut Report) {
    for (id, warning) in warnings {
        if let Some(about) = report.services.get_mut(&id) {
            about.warnings.push(warning);
        }
    }
}

fn largest_of_a_group_too_large(contributions: &Contributions) -> Option<(ServiceId, usize)> {
    // Nearly always everything together is far below the limit, and no group needs to be looked at.
    if contributions.values().map(|contribution| nginx::weight(contribution)).sum::<usize>() <= nginx::PIECE_LIMIT {
        return None;
    }
    // All services on a host are in its group, and nobody else.
    let mut weights: BTreeMap<Option<&Host>, usize> = BTreeMap::new();
    for from in contributions.values() {
        let weight = nginx::weight(from);
        for host in groups::claims(from) {
            *weights.entry(host).or_default() += weight;
        }
    }
    let (host, _) = weights.into_iter().find(|(_, weight)| *weight > nginx::PIECE_LIMIT)?;
    let on_it = contributions.iter().filter(|(_, from)| groups::claims(from).any(|claimed| claimed == host));
    let largest = on_it.max_by_key(|(id, from)| (nginx::weight(from), from.created_at, *id));
    largest.map(|(id, from)| (id.clone(), nginx::weight(from)))
}

/// The networks are those that are needed, also where the proxies are on a fixed list: the actuator reads that list
/// from the cluster, where it finds networks that no candidate is on. Here a generation would depend on who is.
fn assemble(cluster: &ClusterName, contributions: Contributions, grouped: Grouped, report: &mut Report) -> ProxySpec {
    let Grouped { groups, default_backend, conflicts } = grouped;
    warn(conflicts, report);
    ProxySpec {
        cluster: cluster.clone(),
        groups,
        default_backend,
        endpoints: contributions.iter().map(|(id, from)| (id.clone(), from.endpoints.clone())).collect(),
        secrets: contributions.values().flat_map(|from| from.secrets.clone()).collect(),
        networks: contributions.values().filter_map(|from| from.network.clone()).collect(),
        contributions,
    }
}

#[cfg(test)]
mod tests;
