//! What one service adds to its cluster, and why: decided from its own labels and state, its cluster's settings, and what
//! of *it* is live. Whatever is looked up beside the service is looked up by [`Compiler`](crate::Compiler), too, to find
//! whom to decide about anew: networks and secrets in [`dependents`](crate::dependents), the rest in [`live`](crate::live).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Backends, ClusterName, Code, Contribution, Desired, Manifest, Options, Problem, Request, Service, ServiceReport,
    Verdict, excerpt,
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
        about.verdict = Verdict::Elsewhere { service_cluster: excerpt(&request.service_cluster) };
        return None;
    };
    about.cluster = Some(cluster.clone());
    about.problems.extend(labels_refused(service, cluster_settings));
    if !about.problems.is_empty() {
        return None;
    }
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
    if let Some(bytes) = contribution.excess() {
        let message =
            format!("its hosts, tasks and options need {bytes} bytes of what is kept of all that is published");
        let problem = Problem::new(Code::TooLarge, message);
        refuse(problem.allowed(format!("{} bytes for one service", Manifest::PART_LIMIT)), about);
        return None;
    }
    let network = contribution.network.as_ref().and_then(|id| desired.networks.get(id));
    match network.and_then(|network| room::lacking(cluster, network, |id| live.is_on(id))) {
        None => Some(contribution),
        Some(problem) => keep_off(live.contribution(&service.id), problem, about),
    }
}

/// What the service says that the administrator lets nobody say. An empty value says nothing.
fn labels_refused(service: &Service, settings: &ClusterSettings) -> Vec<Problem> {
    let said = |label: &String| service.labels.get(label).filter(|value| !value.trim().is_empty());
    let refused = settings.refused_labels.iter().filter_map(|label| Some((label, said(label)?)));
    let problem = |(label, value): (&String, &String)| {
        Problem::new(Code::LabelRefused, "the administrator of these proxies lets no service use it")
            .at(label, value)
            .allowed("a service without this label")
    };
    refused.map(problem).collect()
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
    let question = Question {
        networks: &service.networks,
        known: &desired.networks,
        fixed: settings.networks.as_ref(),
        label: request.network.as_deref(),
        stack: service.stack.as_deref(),
        live: live.and_then(|live| live.network.as_ref()),
    };
    if !service.at_nodes {
        match network::choose(&question) {
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
    let find = |network| endpoints::find(service, request.port, network, live.map(|live| &**live));
    let mut found = find(about.network.as_ref());
    if !matches!(found, Found::Some { .. })
        && let Some(before) = network::in_use(&question)
        && let there @ Found::Some { .. } = find(Some(&before))
    {
        // On its way from one network to another: its tasks move one after the other, and none has yet.
        let name = about.network.as_ref().map_or("", |network| network.name.as_str());
        let message =
            format!("nothing of the service is reached over {name} yet; {}, which is in use, is kept", before.name);
        about.warnings.push(Problem::new(Code::NetworkKept, message));
        about.network = Some(before);
        found = there;
    }
    match found {
        Found::Never(problem) => {
            about.problems.push(problem);
            None
        }
        Found::None { reason, tasks, warnings } => {
            about.tasks = tasks;
            about.warnings.extend(warnings);
            about.verdict = Verdict::Waiting { reason };
            None
        }
        Found::Some { endpoints, reason, tasks, warnings } => {
            about.tasks = tasks;
            about.warnings.extend(warnings);
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
            refuse(problem, about);
            None
        }
    }
}

/// Refuses a service after all.
pub(crate) fn refuse(problem: Problem, about: &mut ServiceReport) {
    about.problems.push(problem);
    about.verdict = Verdict::Refused;
    tell_served(None, about);
}

/// Tells what the proxies serve of a service instead of what was found out.
pub(crate) fn tell_served(served: Option<&Arc<Contribution>>, about: &mut ServiceReport) {
    about.endpoints = served.map(|served| served.endpoints.clone()).unwrap_or_default();
    about.options = served.map(|served| served.options.clone()).unwrap_or_default();
}
