//! What one service adds to its cluster, and why: decided from its own labels and state, its cluster's settings, and what
//! of *it* is live. Whatever is looked up beside the service is looked up by [`Compiler`](crate::Compiler), too, to find
//! whom to decide about anew: networks and secrets in [`dependents`](crate::dependents), the rest in [`live`](crate::live).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Backends, ClusterName, Code, Contribution, Desired, Options, Problem, Request, Service, ServiceReport, Verdict,
};

use crate::endpoints::{self, Found};
use crate::live::Live;
use crate::network::{self, Chosen, Question};
use crate::room;
use crate::secrets;
use crate::settings::{ClusterSettings, Settings};

/// A report of a service about which nothing is decided.
pub(crate) fn blank(service: &Service) -> ServiceReport {
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
pub(crate) fn decide(
    service: &Service,
    desired: &Desired,
    live: &BTreeMap<ClusterName, Live>,
    settings: &Settings,
    about: &mut ServiceReport,
) -> Option<Arc<Contribution>> {
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
    let live = &live[cluster];
    if let Some(reason) = live.unknown() {
        let reason = format!("what the proxies of {cluster} serve is not known: {reason}");
        about.verdict = Verdict::Waiting { reason };
        return None;
    }
    if let Backends::Unread { reason } = &service.backends {
        about.warnings.push(Problem::new(Code::Unread, format!("{reason}; what is live of the service stays")));
        return stay(live.contribution(&service.id), reason, about);
    }
    let contribution = contribute(service, request, desired, cluster_settings, live, about)?;
    let network = contribution.network.as_ref().and_then(|id| desired.networks.get(id));
    match network.and_then(|network| room::lacking(cluster, network, |id| live.is_on(id))) {
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
    live: &Live,
    about: &mut ServiceReport,
) -> Option<Arc<Contribution>> {
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
    match endpoints::find(service, request.port, about.network.as_ref(), live.map(|live| &**live)) {
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
            Some(Arc::new(Contribution {
                name: service.name.clone(),
                created_at: service.created_at,
                hosts: request.hosts.clone(),
                default_backend: request.default_backend,
                mode: request.backend_mode,
                network: about.network.as_ref().map(|network| network.id.clone()),
                endpoints,
                options,
                secrets,
            }))
        }
    }
}

/// Leaves a service as it is live: nothing that was found out now is to be believed, or to be done, yet.
fn stay(live: Option<&Arc<Contribution>>, reason: &str, about: &mut ServiceReport) -> Option<Arc<Contribution>> {
    about.tasks.clear();
    tell_served(live, about);
    about.verdict = match live {
        Some(_) => Verdict::Routed { reason: format!("as before: {reason}") },
        None => Verdict::Waiting { reason: reason.to_owned() },
    };
    live.cloned()
}

/// Keeps the proxies off a network. A service that was reached over another one goes on being reached there.
fn keep_off(
    live: Option<&Arc<Contribution>>,
    problem: Problem,
    about: &mut ServiceReport,
) -> Option<Arc<Contribution>> {
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

/// Tells what the proxies serve of a service instead of what was found out.
pub(crate) fn tell_served(served: Option<&Arc<Contribution>>, about: &mut ServiceReport) {
    about.endpoints = served.map(|served| served.endpoints.clone()).unwrap_or_default();
    about.options = served.map(|served| served.options.clone()).unwrap_or_default();
}
