use model::{Group, Options, Service, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::compile;
use crate::nginx::{AccessLog, ErrorLogLevel, Workers};
use crate::sample::{
    HOSTS, any_options, desired, main_cluster, nothing_published, options, request, secret_names, secrets, settings,
    tasks_service, vip_service,
};

pub(super) fn spec(services: Vec<Service>) -> ProxySpec {
    let mut desired = desired(services);
    desired.secrets = secrets(secret_names());
    compile(&desired, &nothing_published(), &settings()).specs.remove(&main_cluster()).unwrap()
}

fn files(services: Vec<Service>) -> BTreeMap<String, String> {
    render(&spec(services), &Settings::default())
}

#[test]
fn the_routes_of_one_vip_and_one_task_service() {
    let files = files(vec![
        vip_service("demo", "demo.local", "n1", "10.0.2.9"),
        tasks_service("shop", "shop.local,*.shop.local", "n2", &["10.1.0.3", "10.1.0.4"]),
    ]);
    insta::assert_snapshot!(files["/etc/nginx/dovetail/routes.conf"]);
}

#[test]
fn a_mixed_group_and_a_default_backend() {
    let files = files(vec![
        vip_service("v1", "demo.local", "n1", "10.0.2.9"),
        tasks_service("v2", "demo.local", "n1", &["10.0.2.3"]),
        tasks_service("other", "", "n1", &["10.0.2.4"]),
    ]);
    insta::assert_snapshot!(files["/etc/nginx/dovetail/routes.conf"]);
}

#[test]
fn the_main_file() {
    insta::assert_snapshot!(files(vec![])[MAIN_FILE]);
}

#[test]
fn the_main_file_with_everything_else_chosen() {
    let settings = Settings {
        worker_processes: Workers::Count(std::num::NonZeroU16::MIN),
        proxy_protocol: true,
        trusted_proxies: ["10.0.0.0/8", "192.168.1.1"].map(|network| network.parse().unwrap()).into(),
        hide_info_headers: true,
        access_log: AccessLog::Json,
        error_log_level: ErrorLogLevel::Notice,
        ..Settings::default()
    };
    insta::assert_snapshot!(render(&spec(vec![]), &settings)[MAIN_FILE]);
}

#[test]
fn an_empty_spec_answers_unknown_hosts() {
    let files = files(vec![]);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["/etc/nginx/dovetail/routes.conf", MAIN_FILE]);
    insta::assert_snapshot!(files["/etc/nginx/dovetail/routes.conf"], @r#"
    server {
        listen 80 default_server so_keepalive=on;
        location = "/.dovetail/health" {
            access_log off;
            return 200 'ok\n';
        }
        location / {
            return 503;
        }
    }
    server {
        listen 443 ssl http2 default_server so_keepalive=on;
        ssl_reject_handshake on;
        location / {
            return 421;
        }
    }
    "#);
}

#[test]
fn http_2_is_written_as_the_release_wants_it() {
    for (version, listen, directive) in [
        ("1.22.1", "listen 443 ssl http2 default_server so_keepalive=on;", false),
        ("1.25.0", "listen 443 ssl http2 default_server so_keepalive=on;", false),
        ("1.25.1", "listen 443 ssl default_server so_keepalive=on;", true),
        ("1.30.0", "listen 443 ssl default_server so_keepalive=on;", true),
    ] {
        let settings = Settings { version: version.parse().unwrap(), ..Settings::default() };
        let text = &render(&spec(vec![]), &settings)["/etc/nginx/dovetail/routes.conf"];
        assert!(text.contains(listen), "{version}: {text}");
        assert_eq!(text.contains("http2 on;"), directive, "{version}: {text}");
    }
}

#[test]
fn a_host_of_each_kind_with_tls() {
    let service = |name: &str, host: &str, n: i64, said| any_service(name.to_owned(), host, 1, true, n, options(said));
    let terminate = json!({"certificate": "secret", "key": "secret"});
    let mutual = json!({"certificate": "secret", "key": "secret", "client_ca": "secret"});
    let files = files(vec![
        service(
            "strict",
            "strict.local",
            1,
            json!({"host": {"tls": {"terminate": terminate}, "ssl_only": true, "hsts": "600"}}),
        ),
        service("mutual", "mutual.local", 2, json!({"host": {"tls": {"terminate": mutual}}})),
        service("passed", "passed.local", 3, json!({"host": {"tls": "passthrough"}})),
        service("sticky", "*.sticky.local", 4, json!({"route": {"sticky": {"cookie": "connect.sid"}}})),
    ]);
    let all: Vec<String> =
        files.iter().filter(|(path, _)| *path != MAIN_FILE).map(|(path, text)| format!("## {path}\n{text}")).collect();
    insta::assert_snapshot!(all.join("\n"));
    let main = &files[MAIN_FILE];
    insta::assert_snapshot!(&main[main.find("    include /etc/nginx/dovetail").unwrap()..]);
}

#[test]
fn one_service_that_is_passed_through_shortens_no_other_services_connections() {
    let service = |name: &str, host: &str, n: i64, said| any_service(name.to_owned(), host, 1, true, n, options(said));
    let terminate = json!({"certificate": "secret", "key": "secret"});
    let long = json!({"host": {"tls": {"terminate": terminate}}, "route": {"timeout": {"secs": 3600, "nanos": 0}}});
    let services = vec![
        service("long", "long.local", 1, long),
        service("passed", "p.local", 2, json!({"host": {"tls": "passthrough"}})),
    ];
    let settings = Settings { read_timeout: std::time::Duration::from_secs(60), ..Settings::default() };
    let files = render(&spec(services), &settings);
    let main = &files[MAIN_FILE];
    let stream = &main[main.find("stream {").expect("something is passed through")..];
    let servers: Vec<&str> = stream.split("server {").collect();
    let [before, outer, inner] = servers[..] else { panic!("{stream}") };
    assert!(!before.contains("proxy_timeout"), "{before}");
    assert!(outer.contains("proxy_pass $dovetail_listener;") && outer.contains("proxy_timeout 86400s;"), "{outer}");
    assert!(inner.contains("proxy_pass $dovetail_passthrough;") && inner.contains("proxy_timeout 60s;"), "{inner}");
}

#[test]
fn no_connection_is_kept_where_none_is_wanted() {
    let settings = Settings { upstream_keepalive: 0, ..Settings::default() };
    let services = vec![vip_service("demo", "demo.local", "n1", "10.0.2.9")];
    let text = &render(&spec(services), &settings)["/etc/nginx/dovetail/routes.conf"];
    let kept: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("keepalive")).collect();
    assert_eq!(kept, ["keepalive 1;", "keepalive_requests 1;"]);
}

#[test]
fn whose_certificates_are_believed_is_said_once_and_only_while_it_matters() {
    let app = |n: i64, tls| {
        let said = options(json!({"route": {"backend_tls": tls}}));
        any_service(format!("s{n}"), &format!("{n}.local"), 1, true, n, said)
    };
    let lines = |services: Vec<Service>, line: &str| -> usize {
        files(services).into_values().map(|text| text.matches(line).count()).sum()
    };
    let some = || vec![app(1, "verified"), app(2, "verified"), app(3, "unverified")];
    assert_eq!(lines(some(), "proxy_ssl_trusted_certificate"), 1);
    assert_eq!((lines(some(), "proxy_ssl_verify on;"), lines(some(), "proxy_ssl_verify off;")), (1, 1));
    assert_eq!(lines(vec![app(3, "unverified")], "proxy_ssl_trusted_certificate"), 0);
}

#[test]
fn many_cookies_are_many_files_and_one_that_comes_or_goes_changes_one() {
    let service = |n: usize| {
        let cookie = json!({"route": {"sticky": {"cookie": format!("session-{n}-{}", "x".repeat(100))}}});
        any_service(format!("s{n}"), &format!("{n}.example.org"), 1, false, n as i64, options(cookie))
    };
    let services: Vec<Service> = (0..3000).map(service).collect();
    let before = files(services.clone());
    assert!(before.values().all(|text| text.len() <= PIECE_LIMIT + 4096));
    let tables = |files: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        files
            .iter()
            .filter(|(path, _)| path.contains("cookies"))
            .map(|(path, text)| (path.clone(), text.clone()))
            .collect()
    };
    let (before, after) = (tables(&before), tables(&files(services[1..].to_vec())));
    assert_eq!(before.values().map(|text| text.matches("map ").count()).sum::<usize>(), 3000);
    let changed: Vec<&String> = before.keys().filter(|path| before.get(*path) != after.get(*path)).collect();
    assert_eq!((changed.len(), before.len() > 1, before.len()), (1, true, after.len()), "{changed:?}");
}

#[test]
fn many_groups_are_many_files_and_one_change_changes_one() {
    let service = |n: usize, address: &str| vip_service(&format!("s{n}"), &format!("{n}.example.org"), "n1", address);
    let before = files((0..3000).map(|n| service(n, "10.0.0.9")).collect());
    assert!(before.len() > 3, "{}", before.len());
    assert!(before.values().all(|text| text.len() <= PIECE_LIMIT));
    let after = files((0..3000).map(|n| service(n, if n == 1234 { "10.0.0.8" } else { "10.0.0.9" })).collect());
    assert!(before.keys().eq(after.keys()));
    let changed: Vec<&String> = before.keys().filter(|path| before[*path] != after[*path]).collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    let one_more = files((0..3001).map(|n| service(n, "10.0.0.9")).collect());
    let changed: Vec<&String> = one_more.keys().filter(|path| before.get(*path) != one_more.get(*path)).collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
}

pub(super) fn any_service(
    name: String,
    hosts: &str,
    tasks: usize,
    vip: bool,
    created_at: i64,
    options: Options,
) -> Service {
    let n = created_at;
    let addresses: Vec<String> =
        (0..tasks).map(|task| format!("2001:db8:{n}:ffff:ffff:ffff:ffff:{:x}", 0x1000 + task)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut service = match vip {
        true => vip_service(&n.to_string(), hosts, "n1", addresses[0]),
        false => tasks_service(&n.to_string(), hosts, "n1", &addresses),
    };
    service.name = name;
    service.created_at = Timestamp(created_at);
    request(&mut service).options = options;
    service
}

/// What a group adds to each kind of file, where nothing is passed through, and where something is.
fn group_texts(group: &Group, spec: &ProxySpec) -> Vec<String> {
    let settings = Settings::default();
    let layout = |passthrough| Layout { settings: &settings, passthrough };
    let routes = [false, true].map(|passthrough| routes::group_text(group, spec, &layout(passthrough)));
    let streams = [streams::upstream_text(group, spec, &settings), streams::names_text(group)];
    routes.into_iter().chain(streams.into_iter().flatten()).collect()
}

proptest! {
    #[test]
    fn a_group_is_not_larger_than_the_weights_of_its_services(
        names in prop::collection::vec(".{0,300}", 1..4),
        host in "([a-z]{1,60}\\.){0,3}[a-z]{1,60}",
        tasks in 1..40_usize,
        vip in any::<bool>(),
        options in prop::collection::vec(prop_oneof![Just(Options::default()), any_options()], 4),
        fallback in any::<bool>(),
    ) {
        let hosts = if fallback { String::new() } else { format!("{host},www.{host},*.{host}") };
        let services = names.into_iter().zip(options).enumerate();
        let services = services.map(|(n, (name, options))| any_service(name, &hosts, tasks, vip, n as i64, options));
        let spec = spec(services.collect());
        let settings = Settings::default();
        for group in spec.groups() {
            let weights: usize = group.services().into_iter().map(|id| weight(&spec.contributions[id])).sum();
            let size = size(group, &spec, &settings);
            prop_assert!(size <= weights, "{size} > {weights}");
            for text in group_texts(group, &spec) {
                prop_assert!(text.len() <= size, "{} > {size}: {text}", text.len());
            }
        }
        if let Some(group) = &spec.default_backend {
            let weights: usize = group.services().into_iter().map(|id| weight(&spec.contributions[id])).sum();
            let size = size(group, &spec, &settings);
            prop_assert!(size <= weights, "{size} > {weights}");
            for passthrough in [false, true] {
                let text = routes::default_text(&spec, &Layout { settings: &settings, passthrough });
                prop_assert!(text.len() <= size, "{} > {size}: {text}", text.len());
            }
        }
    }

    #[test]
    fn options_of_one_service_change_no_part_of_a_host_that_is_not_its_own(
        services in prop::collection::vec((prop::sample::subsequence(HOSTS.to_vec(), 0..=3), 1..3_usize, any_options()), 1..5),
        strange in 0..5_usize,
        options in any_options(),
    ) {
        let strange = strange % services.len();
        let strange_hosts = &services[strange].0;
        let texts = |options: &Options| {
            let services = services.iter().enumerate().map(|(n, (hosts, tasks, own))| {
                let options = if n == strange { options } else { own };
                any_service(format!("s{n}"), &hosts.join(","), *tasks, false, n as i64, options.clone())
            });
            let spec = spec(services.collect());
            let others = spec.groups().filter(|group| group.hosts.iter().all(|host| !strange_hosts.contains(&host.as_str())));
            let texts: Vec<Vec<String>> = others.map(|group| group_texts(group, &spec)).collect();
            (spec.contributions.keys().cloned().collect::<Vec<_>>(), texts)
        };
        let (before, after) = (texts(&Options::default()), texts(&options));
        // Who is refused for its TLS leaves its hosts.
        prop_assume!(before.0 == after.0);
        prop_assert_eq!(before.1, after.1);
    }

    /// What a stranger chooses freely is the service's name, and that is in comments only.
    #[test]
    fn a_strange_name_leaves_the_shape_of_the_files(name in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", options in any_options()) {
        let shape = |name: &str| {
            let files = files(vec![any_service(name.to_owned(), "x.local", 2, false, 1, options.clone())]);
            let lines = files.into_values().flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
            lines.filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>()
        };
        prop_assert_eq!(shape(&name), shape("plain"));
    }
}
