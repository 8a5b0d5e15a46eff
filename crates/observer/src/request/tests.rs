//! Who asks to be routed, and where; the options have tests of their own.

mod options;

use swarm::{EndpointMode, Mode};

use super::written::NAMED;
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
        // As `>` leaves it in YAML.
        ("a.local, b.local\n", vec!["a.local", "b.local"]),
        ("a.local,b.local,\r\n", vec!["a.local", "b.local"]),
    ] {
        let request = asked(&[("hosts", written), ("port", "80")]).unwrap();
        assert_eq!(host_names(&request), expected, "{written:?}");
    }
}

#[test]
fn one_bad_host_refuses_the_service_and_each_is_named() {
    for (written, bad) in [
        ("a;b{}", vec!["a;b{}"]),
        ("demo.local\n\n", vec!["demo.local\n"]),
        ("a.local,\nb.local", vec!["\nb.local"]),
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
    assert_eq!(problems.len(), NAMED + 1);
    assert_eq!(problems.last().unwrap().message, "99980 more of its names are no host names");
    let long = "é".repeat(1_000_000);
    let problems = asked(&[("hosts", &long), ("port", &long), ("backend_mode", &long)]).unwrap_err();
    assert!(problems.iter().all(|problem| problem.to_string().len() < 1000), "{problems:?}");
}

#[test]
fn ports_are_numbers_from_1_to_65535() {
    for (written, port) in [("80", 80), (" 8080 ", 8080), ("065535", 65535), ("1", 1), ("80\n", 80)] {
        assert_eq!(asked(&[("hosts", "a"), ("port", written)]).unwrap().port.get(), port, "{written:?}");
    }
    for written in [
        "",
        "0",
        "65536",
        "-1",
        "+80",
        "80/tcp",
        "http",
        "8\n0",
        "\n80",
        "80\r",
        "80\n\n",
        "\n",
        "8080;",
        "８０",
        "99999999999999999999",
    ] {
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
        ("vip\r\n", BackendMode::Vip),
    ] {
        assert_eq!(
            asked(&[("hosts", "a"), ("port", "80"), ("backend_mode", written)]).unwrap().backend_mode,
            mode,
            "{written:?}"
        );
    }
    for written in ["", "default", "vips", "vip;", "vip\n ", "vi\np", "\n", "task,vip"] {
        assert_eq!(
            codes(&[("hosts", "a"), ("port", "80"), ("backend_mode", written)]),
            [Code::BadBackendMode],
            "{written:?}"
        );
    }
}

#[test]
fn booleans_are_gos() {
    for written in ["1", "t", "T", "TRUE", "true", "True", " true ", "true\n"] {
        assert!(asked(&[("default_backend", written), ("port", "80")]).unwrap().default_backend, "{written:?}");
    }
    for written in ["0", "f", "F", "FALSE", "false", "False"] {
        let request = asked(&[("hosts", "a"), ("default_backend", written), ("port", "80")]).unwrap();
        assert!(!request.default_backend, "{written:?}");
    }
    for written in ["", "yes", "on", "tRUE", "true;", "tr\nue", "\n", "2"] {
        assert_eq!(codes(&[("default_backend", written), ("port", "80")]), [Code::BadDefaultBackend], "{written:?}");
    }
}

#[test]
fn texts_are_kept_as_written_without_blanks_around() {
    let labels = [("hosts", "a"), ("port", "80"), ("network", " Demo_Net "), ("service_cluster", " us-east\n")];
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
    let codes: Vec<Code> = read(&service).unwrap().asked.unwrap_err().into_iter().map(|problem| problem.code).collect();
    assert_eq!(codes, [Code::BadDefaultBackend, Code::BadBackendMode, Code::BadHost, Code::BadPort, Code::JobService]);
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
    let vip =
        [("hosts", "a"), ("port", "80"), ("backend_mode", "vip"), ("sticky_session_cookie", "s"), ("ip_hash", "true")];
    let reading = read_labels(&vip).unwrap();
    assert!(reading.asked.is_ok());
    let warned: Vec<&str> = reading.warnings.iter().map(|warning| warning.label.as_deref().unwrap()).collect();
    assert_eq!(warned, [labels::STICKY_SESSION_COOKIE, labels::IP_HASH]);
    assert_eq!(reading.asked.unwrap().options, Options::default());
    for sticky in [("sticky_session_cookie", "s"), ("ip_hash", "true")] {
        assert!(read_labels(&[("hosts", "a"), ("port", "80"), sticky]).unwrap().warnings.is_empty());
    }
    let off =
        [("hosts", "a"), ("port", "80"), ("backend_mode", "vip"), ("sticky_session_cookie", ""), ("ip_hash", "false")];
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
    for labels in [[("default_backend", "false")], [("default_backend", "false\n")], [("port", "80")]] {
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
