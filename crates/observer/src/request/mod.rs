//! Labels to request: what one service asks for, or everything that is wrong with how it asks.
//!
//! Only labels, the service's mode and its endpoint mode count here. A label without the routing prefix never
//! changes the answer, and neither does any other service. One function reads one label; labels that contradict
//! each other are a problem, and what changes nothing beside the others is left out with a warning (`effects`).
//!
//! Deliberately missing: whether the network and the secrets exist, whether the cluster is ours, whether somebody
//! else asks for the same host. Those need more than one service, and the reconciler decides them.

mod effects;
mod hosts;
mod policy;
mod servers;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod unknown;
mod written;

use std::collections::{BTreeMap, BTreeSet};

use model::{
    BackendMode, Code, Host, HostOptions, Options, Problem, Request, RouteOptions, ServerOptions, Tls, labels,
};

use written::{Written, boolean, without_final_break};

/// What a service says of itself, be it in a cluster already or in a file only.
#[derive(Clone, Copy, Debug)]
pub struct Declaration<'a> {
    /// The labels of the service (`deploy.labels` in a stack file).
    pub labels: &'a BTreeMap<String, String>,
    /// The labels of its containers (`labels` in a stack file).
    pub container_labels: &'a BTreeMap<String, String>,
    /// How many tasks it wants; only whether it is a job counts here.
    pub mode: swarm::Mode,
    /// VIP or DNS round robin.
    pub endpoint_mode: swarm::EndpointMode,
}

impl<'a> From<&'a swarm::Service> for Declaration<'a> {
    fn from(service: &'a swarm::Service) -> Self {
        Self {
            labels: &service.labels,
            container_labels: &service.container_labels,
            mode: service.mode,
            endpoint_mode: service.endpoint.mode,
        }
    }
}

/// What the labels of a candidate say.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The routing labels as written.
    pub labels: BTreeMap<String, String>,
    /// What they ask for, or all that is wrong with them.
    pub asked: Result<Request, Vec<Problem>>,
    /// What is odd but does not keep the service from being routed.
    pub warnings: Vec<Problem>,
}

/// Reads a service's labels; `None` if it does not ask to be routed.
///
/// A service asks by `hosts`, or by a `default_backend` that is not plainly false. One that says so on its
/// containers only has put the labels in the wrong place, and is told.
pub fn read<'a>(service: impl Into<Declaration<'a>>) -> Option<Reading> {
    let Declaration { labels, container_labels, mode, endpoint_mode } = service.into();
    let labels: BTreeMap<String, String> = labels
        .iter()
        .filter(|(name, _)| name.starts_with(labels::PREFIX))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !labels.contains_key(labels::HOSTS) && !labels.contains_key(labels::DEFAULT_BACKEND) {
        let misplaced = misplaced(container_labels)?;
        return Some(Reading { labels, asked: Err(vec![misplaced]), warnings: Vec::new() });
    }
    let mut written = Written::new(&labels);
    let default_backend = hosts::default_backend(&mut written);
    if !labels.contains_key(labels::HOSTS) && default_backend == Some(false) {
        return None;
    }
    let backend_mode = servers::backend_mode(&mut written);
    let hosts = hosts::hosts(&mut written, default_backend);
    let port = servers::port(&mut written);
    if mode == swarm::Mode::Job {
        written.problem(
            Problem::new(Code::JobService, "the service is a job, whose tasks end by themselves")
                .allowed("a replicated or global service"),
        );
    }
    if backend_mode == Some(BackendMode::Vip) && endpoint_mode == swarm::EndpointMode::Dnsrr {
        written.problem(
            Problem::new(Code::VipWithDnsrr, "the service has no virtual address, because its endpoint_mode is dnsrr")
                .at(labels::BACKEND_MODE, &labels[labels::BACKEND_MODE])
                .allowed("task, or a service with endpoint_mode vip"),
        );
    }
    let options = options(&mut written, &hosts, backend_mode.unwrap_or_default());
    let network = written.text(labels::NETWORK);
    let service_cluster = written.text(labels::SERVICE_CLUSTER).unwrap_or_default();
    unknown::warn(&mut written);
    let (problems, warnings) = written.complaints();
    let asked = match (port, backend_mode, default_backend) {
        (Some(port), Some(backend_mode), Some(default_backend)) if problems.is_empty() => {
            Ok(Request { hosts, port, network, backend_mode, default_backend, service_cluster, options })
        }
        // Whatever is missing above has left its problem.
        _ => Err(problems),
    };
    Some(Reading { labels, asked, warnings })
}

/// Everything beyond host and port.
fn options(written: &mut Written<'_>, hosts: &BTreeSet<Host>, mode: BackendMode) -> Options {
    let tls = tls::tls(written);
    hosts::websocket_endpoints(written);
    let mut options = Options {
        context_root: hosts::context_root(written),
        host: HostOptions {
            tls: None,
            ssl_only: tls::ssl_only(written),
            hsts: tls::hsts(written),
            redirects: hosts::redirects(written, hosts),
        },
        route: RouteOptions {
            context_root_rewrite: hosts::context_root_rewrite(written),
            sticky: None,
            backend_tls: tls::backend_tls(written),
            timeout: policy::timeout(written),
            max_body_size: policy::max_body_size(written),
            allow: policy::networks(written, labels::ALLOW),
            deny: policy::networks(written, labels::DENY),
            basic_auth: policy::basic_auth(written),
            rate_limit: policy::rate_limit(written),
        },
        server: ServerOptions {
            weight: servers::weight(written),
            max_fails: servers::max_fails(written),
            fail_timeout: servers::fail_timeout(written),
        },
    };
    let cookie = policy::sticky_session_cookie(written);
    let ip_hash = policy::ip_hash(written);
    // What the other labels can do is not known while those for TLS do not read: the service is refused anyway.
    let Ok(tls) = tls else { return options };
    options.route.sticky = effects::sticky(written, mode, tls.as_ref(), cookie, ip_hash);
    match &tls {
        Some(Tls::Passthrough) => effects::without_http(written, &mut options),
        Some(Tls::Terminate { .. }) => {}
        None => effects::without_tls(written, &mut options),
    }
    effects::without_context_root(written, &mut options);
    if mode == BackendMode::Vip {
        effects::without_servers(written, &mut options.server);
    }
    options.host.tls = tls;
    options
}

/// The problem of routing labels that only the containers have; `None` if those ask for nothing.
fn misplaced(container_labels: &BTreeMap<String, String>) -> Option<Problem> {
    let wanted = |name: &&str| match container_labels.get(*name) {
        None => false,
        Some(value) => *name == labels::HOSTS || boolean(without_final_break(value)) != Some(false),
    };
    let name = [labels::HOSTS, labels::DEFAULT_BACKEND].into_iter().find(wanted)?;
    let problem = Problem::new(Code::LabelsOnContainer, "the label is on the containers, where it is not read")
        .at(name, &container_labels[name])
        .allowed("labels of the service: deploy.labels in a stack file, --label in docker service create");
    Some(problem)
}
