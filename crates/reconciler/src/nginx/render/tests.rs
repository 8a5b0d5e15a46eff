use model::Service;
use proptest::prelude::*;

use super::*;
use crate::compile;
use crate::nginx::{AccessLog, ErrorLogLevel, Workers};
use crate::sample::{desired, main_cluster, nothing_published, settings, tasks_service, vip_service};

fn spec(services: Vec<Service>) -> ProxySpec {
    compile(&desired(services), &nothing_published(), &settings()).specs.remove(&main_cluster()).unwrap()
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
        listen 80 default_server;
        location = "/.dovetail/health" {
            access_log off;
            return 200 'ok\n';
        }
        location / {
            return 503;
        }
    }
    server {
        listen 443 ssl http2 default_server;
        ssl_reject_handshake on;
        location / {
            return 421;
        }
    }
    "#);
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

proptest! {
    #[test]
    fn a_group_is_not_larger_than_the_weights_of_its_services(
        names in prop::collection::vec(".{0,300}", 1..4),
        host in "([a-z]{1,60}\\.){0,3}[a-z]{1,60}",
        tasks in 0..40_usize,
    ) {
        let services = names.iter().enumerate().map(|(n, name)| {
            let addresses: Vec<String> = (0..tasks + 1).map(|task| format!("2001:db8:{n}:ffff:ffff:ffff:ffff:{:x}", 0x1000 + task)).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let mut service = tasks_service(&n.to_string(), &format!("{host},www.{host}"), "n1", &addresses);
            service.name.clone_from(name);
            service
        });
        let spec = spec(services.collect());
        let text = routes::group_text(&spec.groups[0], &spec, &Layout { settings: &Settings::default(), passthrough: false });
        let weights: usize = spec.contributions.values().map(|from| weight(from)).sum();
        prop_assert!(text.len() <= weights, "{} > {weights}", text.len());
    }
}
