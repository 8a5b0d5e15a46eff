//! What nginx accepts.

use std::net::Ipv4Addr;
use std::time::Duration;

use dovetail_reconciler::nginx::{self, AccessLog, ErrorLogLevel, Forwarded};
use model::{BackendMode, Service};
use proptest::prelude::*;

use crate::any_options::{HOSTS, any_options, secret_names};
use crate::support::{Authority, FIRST, Files, SECOND, accepted, accepted_with_secrets, at, files, service, with};

#[test]
fn nginx_accepts_every_choice_of_settings() {
    let services = [
        service("vip", "demo.local", BackendMode::Vip, &[FIRST], 80),
        service("tasks", "demo.local,*.demo.local", BackendMode::Task, &[FIRST, SECOND], 80),
    ];
    let trusted = || ["10.0.0.0/8", "192.168.1.1", "fd00::/8"].map(|network| network.parse().unwrap()).into();
    let default = nginx::Settings::default;
    for (what, settings) in [
        ("default", default()),
        ("overwrite", nginx::Settings { forwarded: Forwarded::Overwrite, ..default() }),
        ("keep from trusted", nginx::Settings { trusted_proxies: trusted(), ..default() }),
        ("PROXY protocol", nginx::Settings { proxy_protocol: true, ..default() }),
        ("trusted PROXY protocol", nginx::Settings { proxy_protocol: true, trusted_proxies: trusted(), ..default() }),
        ("no x- headers", nginx::Settings { hide_info_headers: true, ..default() }),
        ("JSON", nginx::Settings { access_log: AccessLog::Json, error_log_level: ErrorLogLevel::Info, ..default() }),
        ("trace", nginx::Settings { access_log: AccessLog::Trace, forwarded: Forwarded::Overwrite, ..default() }),
        ("no log", nginx::Settings { access_log: AccessLog::Off, ..default() }),
        ("no keep-alive", nginx::Settings { upstream_keepalive: 0, ..default() }),
        ("odd sizes", nginx::Settings { upstream_zone_size: 70_001, proxy_buffer_size: 1025, ..default() }),
        ("short times", nginx::Settings { connect_timeout: Duration::from_millis(1), ..default() }),
    ] {
        accepted(what, &services, &settings);
        accepted(what, &[], &settings);
    }
}

#[test]
fn nginx_accepts_long_names_strange_names_and_many_of_them() {
    let settings = nginx::Settings::default();
    let one = [FIRST];
    let long = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
    let strange = service("x }\nevil; \"$y' #\u{0}", "_a_.local,10.0.0.1,xn--a,a--b.local", BackendMode::Vip, &one, 1);
    let wild = service("wild", "*.local,*.a.local,a.local,_any.local", BackendMode::Vip, &one, 1);
    let longest = service(&"n".repeat(9000), &format!("{long},*.{}", &long[2..]), BackendMode::Vip, &one, 65535);
    accepted("long and strange names", &[strange, wild, longest], &settings);

    let many: Vec<Service> = (0..3000)
        .map(|n| {
            service(&format!("s{n}"), &format!("host-{n}.example.org,*.{n}.example.org"), BackendMode::Vip, &one, 80)
        })
        .collect();
    accepted("3000 services", &many, &settings);

    let addresses: Vec<Ipv4Addr> =
        (0..3000_u16).map(|n| Ipv4Addr::new(10, 0, (n / 250) as u8, (n % 250) as u8)).collect();
    for count in [1, 30, 31, 32, 33, 100, 500, 3000] {
        let large = service("large", "large.local", BackendMode::Task, &addresses[..count], 80);
        accepted(&format!("{count} tasks"), &[large], &settings);
    }
    let hosts: Vec<String> = (0..5000).map(|n| format!("host-{n}.example.org")).collect();
    accepted("5000 hosts", &[service("hosts", &hosts.join(","), BackendMode::Vip, &one, 80)], &settings);
}

#[test]
fn nginx_starts_although_it_cannot_hold_many_names_with_one_hash() {
    let settings = nginx::Settings::default();
    let service = |name: &str, hosts: &str| service(name, hosts, BackendMode::Vip, &[FIRST], 80);
    let word = |n: u32| (0..11).map(|bit| if n >> bit & 1 == 0 { "an" } else { "c0" }).collect::<String>();
    for (before, after) in [("", ""), ("*.", ""), ("*.a.", ".local")] {
        let hosts = |count| (0..count).map(|n| format!("{before}{}{after}", word(n))).collect::<Vec<_>>().join(",");
        accepted("too many", &[service("many", &hosts(2048)), service("other", "other.local")], &settings);
        let most = Files::write(&[service("most", &hosts(31)), service("one-more", "other.local")], &settings, &[]);
        assert!(most.text("dovetail/routes.conf").contains(&word(30)));
        most.assert_accepted("as many as are let in");
    }
}

/// Several services with options of every kind, on hosts of each other's.
fn any_services() -> impl Strategy<Value = Vec<Service>> {
    let hosts = prop::sample::subsequence(HOSTS.to_vec(), 0..=3);
    let one = (hosts, any::<bool>(), 0..3_i64, any_options());
    prop::collection::vec(one, 1..6).prop_map(|all| {
        let services = all.into_iter().enumerate().map(|(n, (hosts, vip, age, said))| {
            let mode = if vip { BackendMode::Vip } else { BackendMode::Task };
            let service = service(&format!("s{n}"), &hosts.join(","), mode, &[FIRST, SECOND], 80);
            at(age, with(service, |options| *options = said))
        });
        services.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nginx_accepts_whatever_is_asked_for(services in any_services(), proxy_protocol in any::<bool>(), ip_hash in any::<bool>()) {
        let authority = Authority::new();
        let identity = authority.issue(&["a.local"]);
        let pem = identity.certificate_pem().to_owned() + &identity.key_pem();
        let [one, other] = secret_names();
        let secrets = [(one.as_str(), pem.as_str()), (other.as_str(), &pem), ("authorities", &authority.pem())];
        let settings = nginx::Settings {
            proxy_protocol,
            ip_hash,
            trailing_slash_redirect: ip_hash,
            trusted_proxies: ["10.1.2.3/8".parse().unwrap()].into(),
            ..nginx::Settings::default()
        };
        accepted_with_secrets("these services", &services, &settings, &secrets);
    }
}

#[test]
fn the_command_and_the_main_file_belong_together() {
    let main = &files(&[], &nginx::Settings::default())[nginx::MAIN_FILE];
    assert_eq!(main.matches("daemon off;").count(), 1);
    assert!(!nginx::COMMAND.join(" ").contains("daemon"));
    assert!(nginx::COMMAND.contains(&nginx::MAIN_FILE));
    assert!(nginx::MAIN_FILE.starts_with('/'));
}

#[test]
fn the_check_ends_and_says_why_in_lines_that_are_recognised() {
    let files = Files::write(&[], &nginx::Settings::default(), &[]);
    let (content, said) = files.check();
    assert!(content, "{said}");
    let text = files.text("nginx.conf");
    for (damage, instead, words) in [
        ("http {", "http ;", "directive \"http\" has no opening \"{\""),
        ("    tcp_nodelay on;", "    no_such_directive on;", "unknown directive \"no_such_directive\""),
        ("    tcp_nodelay on;", "    upstream away { server no-such-host.invalid; }", nginx::UNRESOLVED),
    ] {
        assert!(text.contains(damage));
        files.overwrite("nginx.conf", &text.replace(damage, instead));
        let (content, said) = files.check();
        let refusals: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix(nginx::REFUSAL)).collect();
        assert!(!content && refusals.len() == 1 && refusals[0].starts_with(words), "{said}");
    }
}
