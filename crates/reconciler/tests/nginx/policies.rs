//! What is demanded of clients, and of applications.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dovetail_reconciler::nginx::{self, AdminLine, ExtraLines};
use model::values::Cidr;
use model::{BackendMode, Options, Service};

use crate::support::{Backend, FIRST, Proxy, SECOND, at, exchange, get, service, with};

fn app(name: &str, backend: &Backend) -> Service {
    service(name, &format!("{name}.local"), BackendMode::Vip, &[FIRST], backend.port)
}

fn networks(networks: &[&str]) -> Option<Arc<BTreeSet<Cidr>>> {
    Some(networks.iter().map(|network| network.parse().unwrap()).collect::<BTreeSet<_>>().into())
}

#[tokio::test]
async fn an_application_that_takes_too_long_is_not_waited_for() {
    let backend = Backend::start().await;
    let services = [
        with(app("impatient", &backend), |options| options.route.timeout = Some(Duration::from_millis(300))),
        app("patient", &backend),
    ];
    let settings = nginx::Settings { read_timeout: Duration::from_secs(2), ..nginx::Settings::default() };
    let proxy = Proxy::start(&services, settings).await;
    for (host, least, most) in [("impatient.local", 0.3, 1.9), ("patient.local", 2.0, 20.0)] {
        let response = proxy.get(host, "/never").await;
        assert_eq!(response.status, 504, "{host}");
        response.assert_all_five();
        let seconds: f64 = response.header("x-upstream-response-time").unwrap().parse().unwrap();
        assert!(least <= seconds && seconds < most, "{host}: {seconds}");
    }
    assert_eq!(proxy.get("impatient.local", "/ping").await.status, 200);
}

#[tokio::test]
async fn bodies_have_the_size_that_is_allowed() {
    let backend = Backend::start().await;
    let sized = |name: &str, bytes| with(app(name, &backend), |options| options.route.max_body_size = Some(bytes));
    let services = [sized("small", 1000), sized("any", 0), app("usual", &backend)];
    let settings = nginx::Settings { client_max_body_size: 2000, ..nginx::Settings::default() };
    let proxy = Proxy::start(&services, settings).await;
    for (host, size, status) in [
        ("small.local", 1000, 200),
        ("small.local", 1001, 413),
        ("usual.local", 2000, 200),
        ("usual.local", 2001, 413),
        ("any.local", 100_000, 200),
    ] {
        let head =
            format!("POST /ping HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n");
        assert_eq!(proxy.send(&(head + &"x".repeat(size))).await.status, status, "{host}, {size}");
    }
}

#[tokio::test]
async fn clients_are_let_in_by_their_address() {
    let backend = Backend::start().await;
    let services = [
        with(app("allow", &backend), |options| options.route.allow = networks(&["192.0.2.0/24", "fd00::/8"])),
        with(app("deny", &backend), |options| options.route.deny = networks(&["192.0.2.7"])),
        with(app("both", &backend), |options| {
            options.route.allow = networks(&["192.0.2.0/24"]);
            options.route.deny = networks(&["192.0.2.7"]);
        }),
        with(app("nobody", &backend), |options| options.route.allow = Some(BTreeSet::new().into())),
        with(app("path", &backend), |options| {
            options.context_root = "/app".parse().unwrap();
            options.route.deny = networks(&["192.0.2.7"]);
        }),
    ];
    let settings = nginx::Settings { proxy_protocol: true, ..nginx::Settings::default() };
    let proxy = Proxy::start(&services, settings).await;
    for (host, path, address, status) in [
        ("allow.local", "/", "192.0.2.7", 200),
        ("allow.local", "/", "192.0.3.7", 403),
        ("allow.local", "/", "fd00::1", 200),
        ("allow.local", "/", "fe00::1", 403),
        ("deny.local", "/", "192.0.2.7", 403),
        ("deny.local", "/", "192.0.2.8", 200),
        ("deny.local", "/", "fd00::1", 200),
        ("both.local", "/", "192.0.2.7", 403),
        ("both.local", "/", "192.0.2.8", 200),
        ("both.local", "/", "192.0.3.8", 403),
        ("both.local", "/", "fd00::1", 403),
        ("nobody.local", "/", "192.0.2.7", 403),
        ("path.local", "/app", "192.0.2.7", 403),
        ("path.local", "/app/x", "192.0.2.7", 403),
        ("path.local", "/app/x", "192.0.2.8", 200),
        ("allow.local", "/.dovetail/health", "192.0.3.7", 200),
    ] {
        let (family, ours) = if address.contains(':') { ("TCP6", "::1") } else { ("TCP4", "10.0.0.1") };
        let request = format!("PROXY {family} {address} {ours} 5555 80\r\n{}", get(host, path, ""));
        let response = exchange(&mut proxy.connect().await, &request).await;
        assert_eq!(response.status, status, "{host}{path} from {address}");
        if status == 403 {
            response.assert_none_of_five();
        }
    }
}

#[tokio::test]
async fn users_say_their_password() {
    let backend = Backend::start().await;
    let services = [with(app("members", &backend), |options| {
        options.route.basic_auth = Some("members".parse().unwrap());
    })];
    // As `openssl passwd -apr1` hashes the word, and plain.
    let users = "ann:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\nbob:{PLAIN}secret\n";
    let proxy = Proxy::with_secrets(&services, nginx::Settings::default(), &[("members", users)]).await;
    for (credentials, status) in [
        ("", 401),
        // ann:secret, bob:secret, bob:other, eve:secret
        ("Authorization: Basic YW5uOnNlY3JldA==\r\n", 200),
        ("Authorization: Basic Ym9iOnNlY3JldA==\r\n", 200),
        ("Authorization: Basic Ym9iOm90aGVy\r\n", 401),
        ("Authorization: Basic ZXZlOnNlY3JldA==\r\n", 401),
    ] {
        let response = proxy.get_with("members.local", "/ping", credentials).await;
        assert_eq!(response.status, status, "{credentials}");
        let asked = response.header("www-authenticate");
        assert_eq!(asked, if status == 401 { Some("Basic realm=\"restricted\"") } else { None }, "{credentials}");
    }
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told() {
    let backend = Backend::start().await;
    let limited = |name: &str, limit: &str| {
        with(app(name, &backend), |options| options.route.rate_limit = Some(limit.parse().unwrap()))
    };
    let services = [
        limited("usual", "3r/m"),
        limited("none", "1r/m,burst=0"),
        limited("burst", "1r/m,burst=3"),
        limited("plenty", "1000000r/s"),
    ];
    let settings = nginx::Settings { proxy_protocol: true, ..nginx::Settings::default() };
    let proxy = Proxy::start(&services, settings).await;
    for (host, allowed) in [("usual.local", 3), ("none.local", 1), ("burst.local", 4), ("plenty.local", 10)] {
        for address in ["192.0.2.7", "192.0.2.8"] {
            let mut statuses = Vec::new();
            for _ in 0..10 {
                let request = format!("PROXY TCP4 {address} 10.0.0.1 5555 80\r\n{}", get(host, "/ping", ""));
                statuses.push(exchange(&mut proxy.connect().await, &request).await.status);
            }
            let expected: Vec<u16> = (0..10).map(|n| if n < allowed { 200 } else { 429 }).collect();
            assert_eq!(statuses, expected, "{host} from {address}");
        }
    }
}

#[tokio::test]
async fn of_two_services_on_a_path_the_older_one_s_options_count() {
    let backend = Backend::start().await;
    let limited = |name: &str, created_at, edit: fn(&mut Options)| {
        at(created_at, with(service(name, "shared.local", BackendMode::Task, &[FIRST, SECOND], backend.port), edit))
    };
    let services = [
        limited("young", 2, |options| {
            options.route.max_body_size = Some(10);
            options.route.allow = Some(BTreeSet::new().into());
        }),
        limited("old", 1, |options| options.route.max_body_size = Some(20)),
        limited("elsewhere", 0, |options| {
            options.context_root = "/elsewhere".parse().unwrap();
            options.route.max_body_size = Some(5);
        }),
    ];
    let proxy = Proxy::start(&services[1..], nginx::Settings::default()).await;
    let post = |path: &str, size: usize| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: shared.local\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
        );
        head + &"x".repeat(size)
    };
    for (path, size, status) in [("/", 20, 200), ("/", 21, 413), ("/elsewhere", 5, 200), ("/elsewhere", 6, 413)] {
        assert_eq!(proxy.send(&post(path, size)).await.status, status, "{path}, {size}");
    }
    // What only the young one says counts too.
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    assert_eq!(proxy.send(&post("/", 20)).await.status, 403);
    assert_eq!(proxy.send(&post("/", 21)).await.status, 413);
    assert_eq!(proxy.send(&post("/elsewhere", 5)).await.status, 200);
}

#[tokio::test]
async fn the_administrator_s_lines_are_in_their_blocks() {
    let backend = Backend::start().await;
    let lines = |lines: &[&str]| lines.iter().map(|line| AdminLine::parse(line).unwrap()).collect();
    let settings = nginx::Settings {
        extra: ExtraLines {
            main: lines(&["worker_priority 1;"]),
            http: lines(&["map $uri $ours {", "    default 'from $uri';", "}", "add_trailer x-ours $ours;"]),
            stream: lines(&["log_format lines '$remote_addr';", "# a second line"]),
        },
        ..nginx::Settings::default()
    };
    let proxy = Proxy::start(&[app("app", &backend)], settings).await;
    assert_eq!(proxy.get("app.local", "/ping").await.status, 200);
    let text = proxy.files.text("nginx.conf");
    let position = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part} in {text}"));
    assert!(position("http {") < position("    map $uri $ours {"));
    assert!(position("add_trailer") < position("stream {"));
    assert!(position("stream {") < position("    log_format lines"));
    assert!(position("    # a second line") < position("\nworker_priority 1;"));
}
