//! Labels to request: what one service asks for, or everything that is wrong with how it asks.
//!
//! Only labels, the service's mode and its endpoint mode count here. A label without the routing prefix never
//! changes the answer, and neither does any other service.
//!
//! Deliberately missing: whether the network exists, whether the cluster is ours, whether somebody else asks
//! for the same host. Those need more than one service, and the reconciler decides them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use model::{BackendMode, Code, Host, Problem, Request, labels};

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

/// The longest excerpt of a stranger's value in a problem, in characters: it goes into logs.
const EXCERPT: usize = 200;

/// So many bad hosts of one service are named one by one; the rest is counted.
const BAD_HOSTS: usize = 20;

/// Reads a service's labels; `None` if it does not ask to be routed.
///
/// A service asks by `hosts`, or by a `default_backend` that is not plainly false. One that says so on its
/// containers only has put the labels in the wrong place, and is told.
pub fn read(service: &swarm::Service) -> Option<Reading> {
    let labels: BTreeMap<String, String> = service
        .labels
        .iter()
        .filter(|(name, _)| name.starts_with(labels::PREFIX))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut problems = Vec::new();
    if !mentions_routing(&labels) {
        let misplaced = misplaced(&service.container_labels)?;
        problems.push(misplaced);
        return Some(Reading { labels, asked: Err(problems), warnings: Vec::new() });
    }
    let default_backend = default_backend(&labels, &mut problems);
    if !labels.contains_key(labels::HOSTS) && default_backend == Some(false) {
        return None;
    }
    let backend_mode = backend_mode(&labels, &mut problems);
    let hosts = hosts(&labels, default_backend, &mut problems);
    let port = port(&labels, &mut problems);
    if service.mode == swarm::Mode::Job {
        problems.push(
            Problem::new(Code::JobService, "the service is a job, whose tasks end by themselves")
                .allowed("a replicated or global service"),
        );
    }
    if backend_mode == Some(BackendMode::Vip) && service.endpoint.mode == swarm::EndpointMode::Dnsrr {
        problems.push(
            Problem::new(Code::VipWithDnsrr, "the service has no virtual address, because its endpoint_mode is dnsrr")
                .at(labels::BACKEND_MODE, excerpt(&labels[labels::BACKEND_MODE]))
                .allowed("task, or a service with endpoint_mode vip"),
        );
    }
    let warnings = if backend_mode == Some(BackendMode::Vip) { sticky(&labels) } else { Vec::new() };
    let asked = match (port, backend_mode, default_backend) {
        (Some(port), Some(backend_mode), Some(default_backend)) if problems.is_empty() => Ok(Request {
            hosts,
            port,
            network: text(&labels, labels::NETWORK),
            backend_mode,
            default_backend,
            service_cluster: text(&labels, labels::SERVICE_CLUSTER).unwrap_or_default(),
            options: model::Options::default(),
        }),
        // Whatever is missing above has left its problem.
        _ => Err(problems),
    };
    Some(Reading { labels, asked, warnings })
}

fn mentions_routing(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(labels::HOSTS) || labels.contains_key(labels::DEFAULT_BACKEND)
}

/// The problem of routing labels that only the containers have; `None` if those ask for nothing.
fn misplaced(container_labels: &BTreeMap<String, String>) -> Option<Problem> {
    let wanted = |name: &&str| match container_labels.get(*name) {
        None => false,
        Some(value) => *name == labels::HOSTS || boolean(value) != Some(false),
    };
    let name = [labels::HOSTS, labels::DEFAULT_BACKEND].into_iter().find(wanted)?;
    let problem = Problem::new(Code::LabelsOnContainer, "the label is on the containers, where it is not read")
        .at(name, excerpt(&container_labels[name]))
        .allowed("labels of the service: deploy.labels in a stack file, --label in docker service create");
    Some(problem)
}

fn default_backend(labels: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Option<bool> {
    let Some(value) = labels.get(labels::DEFAULT_BACKEND) else {
        return Some(false);
    };
    let read = boolean(value);
    if read.is_none() {
        problems.push(
            Problem::new(Code::BadDefaultBackend, "is neither true nor false")
                .at(labels::DEFAULT_BACKEND, excerpt(value))
                .allowed("true or false"),
        );
    }
    read
}

fn backend_mode(labels: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Option<BackendMode> {
    let Some(value) = labels.get(labels::BACKEND_MODE) else {
        return Some(BackendMode::default());
    };
    let written = trimmed(value);
    let read =
        [BackendMode::Task, BackendMode::Vip].into_iter().find(|mode| written.eq_ignore_ascii_case(mode.as_str()));
    if read.is_none() {
        problems.push(
            Problem::new(Code::BadBackendMode, "is no backend mode")
                .at(labels::BACKEND_MODE, excerpt(value))
                .allowed("task or vip"),
        );
    }
    read
}

fn hosts(
    labels: &BTreeMap<String, String>,
    default_backend: Option<bool>,
    problems: &mut Vec<Problem>,
) -> BTreeSet<Host> {
    let mut hosts = BTreeSet::new();
    let Some(value) = labels.get(labels::HOSTS) else {
        return hosts;
    };
    if trimmed(value).is_empty() {
        // `hosts=${HOSTS:-}` beside `default_backend=true` asks for the default backend alone.
        if default_backend == Some(false) {
            problems.push(
                Problem::new(Code::BadHost, "names no host").at(labels::HOSTS, excerpt(value)).allowed(Host::ALLOWED),
            );
        }
        return hosts;
    }
    let list = trimmed(value);
    let list = list.strip_suffix(',').unwrap_or(list);
    let mut bad = 0;
    for item in list.split(',') {
        match Host::parse(item) {
            Ok(host) => {
                hosts.insert(host);
            }
            Err(error) => {
                bad += 1;
                if bad <= BAD_HOSTS {
                    problems.push(
                        Problem::new(Code::BadHost, error.to_string())
                            .at(labels::HOSTS, excerpt(item))
                            .allowed(Host::ALLOWED),
                    );
                }
            }
        }
    }
    if bad > BAD_HOSTS {
        let more = format!("{} more of its names are no host names", bad - BAD_HOSTS);
        problems.push(Problem::new(Code::BadHost, more).at(labels::HOSTS, excerpt(value)).allowed(Host::ALLOWED));
    }
    hosts
}

fn port(labels: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Option<NonZeroU16> {
    const ALLOWED: &str = "a number from 1 to 65535";
    let Some(value) = labels.get(labels::PORT) else {
        let problem = Problem::new(Code::MissingPort, format!("the label {} is missing", labels::PORT));
        problems.push(problem.allowed(ALLOWED));
        return None;
    };
    let written = trimmed(value);
    // Rust would read "+80" too.
    let digits = written.bytes().all(|byte| byte.is_ascii_digit());
    let read = if digits { written.parse().ok() } else { None };
    if read.is_none() {
        problems.push(Problem::new(Code::BadPort, "is no port").at(labels::PORT, excerpt(value)).allowed(ALLOWED));
    }
    read
}

/// Sticky sessions are left out in VIP mode: Swarm chooses the task, and the proxy cannot.
fn sticky(labels: &BTreeMap<String, String>) -> Vec<Problem> {
    let warning = |name: &str, value: &str| {
        Problem::new(Code::StickyInVip, "has no effect in VIP mode: Swarm chooses the task")
            .at(name, excerpt(value))
            .allowed("sticky sessions with backend_mode task")
    };
    let mut warnings = Vec::new();
    if let Some(value) = labels.get(labels::STICKY_SESSION_COOKIE).filter(|value| !trimmed(value).is_empty()) {
        warnings.push(warning(labels::STICKY_SESSION_COOKIE, value));
    }
    if let Some(value) = labels.get(labels::IP_HASH).filter(|value| boolean(value) != Some(false)) {
        warnings.push(warning(labels::IP_HASH, value));
    }
    warnings
}

/// The words that Interlock takes, which are those of Go's `strconv.ParseBool`.
fn boolean(value: &str) -> Option<bool> {
    match trimmed(value) {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A label that is kept as written; empty is the same as absent.
fn text(labels: &BTreeMap<String, String>, name: &str) -> Option<String> {
    labels.get(name).map(|value| trimmed(value)).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Blanks around a value are forgiven, line breaks are not: the same rule as in [`Host::parse`].
fn trimmed(value: &str) -> &str {
    value.trim_matches(|c: char| c == ' ' || c == '\t')
}

fn excerpt(value: &str) -> String {
    match value.char_indices().nth(EXCERPT) {
        None => value.to_owned(),
        Some((end, _)) => format!("{}...", &value[..end]),
    }
}

#[cfg(test)]
mod tests {
    use swarm::{EndpointMode, Mode};

    use super::*;
    use crate::fixtures::service;

    fn read_labels(labels: &[(&str, &str)]) -> Option<Reading> {
        read(&service("web").labels(labels).build())
    }

    fn asked(labels: &[(&str, &str)]) -> Result<Request, Vec<Problem>> {
        read_labels(labels).expect("a candidate").asked
    }

    fn codes(labels: &[(&str, &str)]) -> Vec<Code> {
        asked(labels).expect_err("refused").into_iter().map(|problem| problem.code).collect()
    }

    fn host_names(request: &Request) -> Vec<&str> {
        request.hosts.iter().map(Host::as_str).collect()
    }

    #[test]
    fn the_founding_documents_services_are_read() {
        let vip = asked(&[("hosts", "demo.local"), ("port", "8080"), ("backend_mode", "vip")]).unwrap();
        assert_eq!(host_names(&vip), ["demo.local"]);
        assert_eq!(vip.port.get(), 8080);
        assert_eq!(vip.backend_mode, BackendMode::Vip);
        assert!(!vip.default_backend);
        let default = asked(&[("default_backend", "true"), ("port", "8080")]).unwrap();
        assert!(default.default_backend && default.hosts.is_empty());
        assert_eq!(default.backend_mode, BackendMode::Task);
        assert_eq!((default.network, default.service_cluster), (None, String::new()));
    }

    #[test]
    fn a_candidate_asks_by_hosts_or_by_a_default_backend() {
        for (labels, candidate) in [
            (vec![], false),
            (vec![("port", "80")], false),
            (vec![("backend_mode", "vip"), ("network", "n")], false),
            (vec![("default_backend", "false")], false),
            (vec![("default_backend", "0"), ("port", "80")], false),
            (vec![("default_backend", "true")], true),
            (vec![("default_backend", "perhaps")], true),
            (vec![("default_backend", "")], true),
            (vec![("hosts", "")], true),
            (vec![("hosts", "a"), ("default_backend", "false")], true),
        ] {
            assert_eq!(read_labels(&labels).is_some(), candidate, "{labels:?}");
        }
    }

    #[test]
    fn hosts_are_separated_by_commas_and_trimmed() {
        for (written, expected) in [
            ("demo.local", vec!["demo.local"]),
            ("example.com, test.com", vec!["example.com", "test.com"]),
            (" B.local ,\ta.local,", vec!["a.local", "b.local"]),
            ("a.local,A.LOCAL.,a.local", vec!["a.local"]),
            ("*.example.org", vec!["*.example.org"]),
        ] {
            let request = asked(&[("hosts", written), ("port", "80")]).unwrap();
            assert_eq!(host_names(&request), expected, "{written:?}");
        }
    }

    #[test]
    fn one_bad_host_refuses_the_service_and_each_is_named() {
        for (written, bad) in [
            ("a;b{}", vec!["a;b{}"]),
            ("demo.local\n", vec!["demo.local\n"]),
            ("good.local,$x,ä.local,also.good", vec!["$x", "ä.local"]),
            ("a.local,,b.local", vec![""]),
            (",a.local", vec![""]),
            ("a.local, ,", vec![" "]),
            ("a.local b.local", vec!["a.local b.local"]),
            (",", vec![""]),
        ] {
            let problems = asked(&[("hosts", written), ("port", "80")]).unwrap_err();
            let named: Vec<&str> = problems.iter().map(|problem| problem.value.as_deref().unwrap()).collect();
            assert_eq!(named, bad, "{written:?}");
            for problem in &problems {
                assert_eq!(problem.code, Code::BadHost);
                assert_eq!(problem.label.as_deref(), Some(labels::HOSTS));
                assert_eq!(problem.allowed.as_deref(), Some(Host::ALLOWED));
            }
        }
    }

    #[test]
    fn an_empty_list_of_hosts_is_a_problem_unless_it_is_a_default_backend() {
        assert_eq!(codes(&[("hosts", " "), ("port", "80")]), [Code::BadHost]);
        assert!(asked(&[("hosts", ""), ("default_backend", "true"), ("port", "80")]).unwrap().hosts.is_empty());
    }

    #[test]
    fn huge_values_make_bounded_problems() {
        let many = "$,".repeat(100_000);
        let problems = asked(&[("hosts", &many), ("port", "80")]).unwrap_err();
        assert_eq!(problems.len(), BAD_HOSTS + 1);
        assert_eq!(problems.last().unwrap().message, "99980 more of its names are no host names");
        let long = "é".repeat(1_000_000);
        let problems = asked(&[("hosts", &long), ("port", &long), ("backend_mode", &long)]).unwrap_err();
        assert!(problems.iter().all(|problem| problem.to_string().len() < 1000), "{problems:?}");
    }

    #[test]
    fn ports_are_numbers_from_1_to_65535() {
        for (written, port) in [("80", 80), (" 8080 ", 8080), ("065535", 65535), ("1", 1)] {
            assert_eq!(asked(&[("hosts", "a"), ("port", written)]).unwrap().port.get(), port, "{written:?}");
        }
        for written in
            ["", "0", "65536", "-1", "+80", "80/tcp", "http", "80\n", "8080;", "８０", "99999999999999999999"]
        {
            assert_eq!(codes(&[("hosts", "a"), ("port", written)]), [Code::BadPort], "{written:?}");
        }
        assert_eq!(codes(&[("hosts", "a")]), [Code::MissingPort]);
    }

    #[test]
    fn backend_modes_are_task_and_vip_in_any_case() {
        for (written, mode) in [
            ("task", BackendMode::Task),
            ("vip", BackendMode::Vip),
            (" VIP ", BackendMode::Vip),
            ("Task", BackendMode::Task),
        ] {
            assert_eq!(
                asked(&[("hosts", "a"), ("port", "80"), ("backend_mode", written)]).unwrap().backend_mode,
                mode,
                "{written:?}"
            );
        }
        for written in ["", "default", "vips", "vip;", "vip\n", "task,vip"] {
            assert_eq!(
                codes(&[("hosts", "a"), ("port", "80"), ("backend_mode", written)]),
                [Code::BadBackendMode],
                "{written:?}"
            );
        }
    }

    #[test]
    fn booleans_are_gos() {
        for written in ["1", "t", "T", "TRUE", "true", "True", " true "] {
            assert!(asked(&[("default_backend", written), ("port", "80")]).unwrap().default_backend, "{written:?}");
        }
        for written in ["0", "f", "F", "FALSE", "false", "False"] {
            let request = asked(&[("hosts", "a"), ("default_backend", written), ("port", "80")]).unwrap();
            assert!(!request.default_backend, "{written:?}");
        }
        for written in ["", "yes", "on", "tRUE", "true;", "2"] {
            assert_eq!(
                codes(&[("default_backend", written), ("port", "80")]),
                [Code::BadDefaultBackend],
                "{written:?}"
            );
        }
    }

    #[test]
    fn texts_are_kept_as_written_without_blanks_around() {
        let labels = [("hosts", "a"), ("port", "80"), ("network", " Demo_Net "), ("service_cluster", " us-east")];
        let request = asked(&labels).unwrap();
        assert_eq!(request.network.as_deref(), Some("Demo_Net"));
        assert_eq!(request.service_cluster, "us-east");
        let request = asked(&[("hosts", "a"), ("port", "80"), ("network", " "), ("service_cluster", "")]).unwrap();
        assert_eq!((request.network, request.service_cluster), (None, String::new()));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let labels = [("hosts", "$,ok"), ("default_backend", "x"), ("backend_mode", "y"), ("port", "z")];
        let mut service = service("web").labels(&labels).build();
        service.mode = Mode::Job;
        let codes: Vec<Code> =
            read(&service).unwrap().asked.unwrap_err().into_iter().map(|problem| problem.code).collect();
        assert_eq!(
            codes,
            [Code::BadDefaultBackend, Code::BadBackendMode, Code::BadHost, Code::BadPort, Code::JobService]
        );
    }

    #[test]
    fn vip_mode_needs_a_vip() {
        let labels = [("hosts", "a"), ("port", "80"), ("backend_mode", "vip")];
        let mut service = service("web").labels(&labels).build();
        service.endpoint.mode = EndpointMode::Dnsrr;
        let problems = read(&service).unwrap().asked.unwrap_err();
        assert_eq!(problems[0].code, Code::VipWithDnsrr);
        service.labels.remove(labels::BACKEND_MODE);
        assert!(read(&service).unwrap().asked.is_ok());
    }

    #[test]
    fn sticky_sessions_in_vip_mode_are_a_warning() {
        let vip = [
            ("hosts", "a"),
            ("port", "80"),
            ("backend_mode", "vip"),
            ("sticky_session_cookie", "s"),
            ("ip_hash", "true"),
        ];
        let reading = read_labels(&vip).unwrap();
        assert!(reading.asked.is_ok());
        let warned: Vec<&str> = reading.warnings.iter().map(|warning| warning.label.as_deref().unwrap()).collect();
        assert_eq!(warned, [labels::STICKY_SESSION_COOKIE, labels::IP_HASH]);
        let task = [("hosts", "a"), ("port", "80"), ("sticky_session_cookie", "s"), ("ip_hash", "true")];
        assert!(read_labels(&task).unwrap().warnings.is_empty());
        let off = [
            ("hosts", "a"),
            ("port", "80"),
            ("backend_mode", "vip"),
            ("sticky_session_cookie", ""),
            ("ip_hash", "false"),
        ];
        assert!(read_labels(&off).unwrap().warnings.is_empty());
    }

    #[test]
    fn labels_on_the_container_alone_are_a_problem() {
        let on_container = |labels: &[(&str, &str)]| {
            let mut service = service("web").build();
            service.container_labels =
                labels.iter().map(|(name, value)| (format!("{}{name}", labels::PREFIX), (*value).to_owned())).collect();
            service
        };
        for labels in [[("hosts", "a.local")], [("default_backend", "true")], [("default_backend", "x")]] {
            let problems = read(&on_container(&labels)).unwrap().asked.unwrap_err();
            assert_eq!(problems[0].code, Code::LabelsOnContainer, "{labels:?}");
            assert_eq!(problems[0].value.as_deref(), Some(labels[0].1));
        }
        for labels in [[("default_backend", "false")], [("port", "80")]] {
            assert_eq!(read(&on_container(&labels)), None, "{labels:?}");
        }
        let mut both = on_container(&[("hosts", "$")]);
        both.labels = service("web").labels(&[("hosts", "a"), ("port", "80")]).build().labels;
        assert!(read(&both).unwrap().asked.is_ok());
    }

    #[test]
    fn only_routing_labels_are_kept_and_matter() {
        let mut service = service("web").labels(&[("hosts", "a"), ("port", "80"), ("max_fails", "3")]).build();
        let before = read(&service).unwrap();
        assert_eq!(before.labels.len(), 3);
        service.labels.insert("com.example.port".into(), "$".into());
        service.labels.insert("hosts".into(), "$".into());
        assert_eq!(read(&service).unwrap(), before);
    }
}
