//! TLS that applications end.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use dovetail_reconciler::nginx;
use model::{BackendMode, Options, Service, Sticky, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::{Authority, Backend, Client, FIRST, Proxy, SECOND, accepted, exchange, get, service, with};
use crate::tls::terminated;

fn passed(options: &mut Options) {
    options.host.tls = Some(Tls::Passthrough);
}

fn app(name: &str, hosts: &str, backend: &Backend) -> Service {
    service(name, hosts, BackendMode::Task, &[FIRST, SECOND], backend.port)
}

#[tokio::test]
async fn an_application_shows_its_own_certificate_beside_hosts_whose_tls_ends_here() {
    let authority = Authority::new();
    let names = ["passed.local", "a.passed.local", "*.wide.local", "default", "include", "volatile", "hostnames"];
    let (theirs, ours) = (authority.issue(&names), authority.issue(&["ours.local", "ours.wide.local"]));
    let (passing, ending) = (Backend::with_tls(&theirs).await, Backend::start().await);
    let services = [
        with(app("passed", "passed.local,*.passed.local", &passing), passed),
        // Words of nginx's language.
        with(app("words", "default,include,volatile,hostnames", &passing), passed),
        with(app("wide", "*.wide.local", &passing), passed),
        with(app("ours", "ours.local,ours.wide.local", &ending), terminated("ours")),
        app("plain", "plain.local", &ending),
    ];
    let secrets = [("ours.cert", ours.certificate_pem()), ("ours.key", &ours.key_pem())];
    let proxy = Proxy::with_secrets(&services, nginx::Settings::default(), &secrets).await;
    let client = Client::trusting(&authority);
    for name in ["passed.local", "a.passed.local", "a.wide.local", "default", "include", "volatile", "hostnames"] {
        let mut stream = proxy.connect_tls(&client, name).await.unwrap();
        assert!(theirs.was_shown_to(&stream), "{name}");
        let response = exchange(&mut stream, &get(name, "/ping", "")).await;
        assert_eq!((response.status, response.sent("name")), (200, Some(name)));
        response.assert_none_of_five();
        assert_eq!(response.sent("x-forwarded-for"), None, "nobody looked inside");
        // Nobody asked for plain HTTP.
        assert_eq!(proxy.get(name, "/ping").await.status, 503, "{name}");
    }
    // The whole name goes before the star, whoever ends its TLS.
    for name in ["ours.local", "ours.wide.local"] {
        let mut stream = proxy.connect_tls(&client, name).await.unwrap();
        assert!(ours.was_shown_to(&stream), "{name}");
        let response = exchange(&mut stream, &get(name, "/ping", "")).await;
        assert_eq!(response.status, 200);
        response.assert_all_five();
        for header in ["x-real-ip", "x-forwarded-for"] {
            assert_eq!(response.sent(header), Some("127.0.0.1"), "{header}: the client is known past the hop");
        }
        assert_eq!(response.sent("x-forwarded-proto"), Some("https"));
        assert_eq!(proxy.get(name, "/ping").await.status, 200);
    }
    for name in ["plain.local", "unknown.local"] {
        assert!(proxy.connect_tls(&client, name).await.is_err(), "{name}");
    }
    assert!(proxy.connect_tls(&client.without_name(), "passed.local").await.is_err());
    assert!(proxy.connect_tls(&client, "PASSED.local").await.is_ok(), "names have no case");
    // Not for the wrong certificate: a client that shares it over HTTP/2 is sent to a connection of its own.
    assert_eq!(proxy.get_tls_as(&client, "ours.local", "passed.local", "/").await.status, 421);
}

#[tokio::test]
async fn a_timeout_holds_over_tls_beside_a_service_that_is_passed_through() {
    let authority = Authority::new();
    let (theirs, ours) = (authority.issue(&["passed.local"]), authority.issue(&["ours.local"]));
    let (passing, ending) = (Backend::with_tls(&theirs).await, Backend::start().await);
    let patient = |options: &mut Options| {
        terminated("ours")(options);
        options.route.timeout = Some(Duration::from_millis(1500));
    };
    let services = [
        with(app("passed", "passed.local", &passing), passed),
        with(service("ours", "ours.local", BackendMode::Vip, &[FIRST], ending.port), patient),
    ];
    let secrets = [("ours.cert", ours.certificate_pem()), ("ours.key", &ours.key_pem())];
    let settings = nginx::Settings { read_timeout: Duration::from_millis(500), ..nginx::Settings::default() };
    let proxy = Proxy::with_secrets(&services, settings, &secrets).await;
    let client = Client::trusting(&authority);
    let mut stream = proxy.connect_tls(&client, "ours.local").await.unwrap();
    // Not cut on the way, where nobody would be told anything.
    assert_eq!(exchange(&mut stream, &get("ours.local", "/never", "")).await.status, 504);
    // What is passed on is bounded as before.
    let mut stream = proxy.connect_tls(&client, "passed.local").await.unwrap();
    assert_eq!(timeout(Duration::from_secs(20), stream.read(&mut [0; 1])).await.expect("an end").unwrap_or(0), 0);
}

#[tokio::test]
async fn both_tasks_get_connections_and_plain_http_is_redirected_if_so_wished() {
    let authority = Authority::new();
    let theirs = authority.issue(&["passed.local"]);
    let backend = Backend::with_tls(&theirs).await;
    let services = [with(app("passed", "passed.local", &backend), |options| {
        passed(options);
        options.host.ssl_only = Some(true);
    })];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    let client = Client::trusting(&authority);
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        seen.insert(proxy.get_tls(&client, "passed.local", "/ping").await.backend().to_owned());
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let response = proxy.get("passed.local", "/a?b=c").await;
    assert_eq!((response.status, response.header("location")), (307, Some("https://passed.local:8443/a?b=c")));
}

#[tokio::test]
async fn a_client_keeps_its_task_if_a_service_or_the_cluster_asks_for_it() {
    let authority = Authority::new();
    let theirs = authority.issue(&["own.local", "plain.local", "vip.local"]);
    let backend = Backend::with_tls(&theirs).await;
    let mut services = [
        with(app("own", "own.local", &backend), |options| options.route.sticky = Some(Sticky::ClientAddress)),
        app("plain", "plain.local", &backend),
        service("vip", "vip.local", BackendMode::Vip, &[FIRST], backend.port),
    ];
    services = services.map(|service| with(service, passed));
    let client = Client::trusting(&authority);
    for ip_hash in [false, true] {
        let proxy = Proxy::start(&services, nginx::Settings { ip_hash, ..nginx::Settings::default() }).await;
        for (name, kept) in [("own.local", true), ("plain.local", ip_hash)] {
            let (mut reached, mut faithful) = (BTreeSet::new(), 0);
            for n in 2..22 {
                let mut of_one = BTreeSet::new();
                for _ in 0..3 {
                    let stream = proxy.connect_tls_port_from(Ipv4Addr::new(127, 0, 0, n)).await;
                    let mut stream = client.handshake(stream, name).await.unwrap();
                    of_one.insert(exchange(&mut stream, &get(name, "/ping", "")).await.backend().to_owned());
                }
                faithful += usize::from(of_one.len() == 1);
                reached.extend(of_one);
            }
            assert_eq!(reached.len(), 2, "{name}: clients are spread");
            // Three connections in turn cannot all reach one of two tasks.
            assert_eq!(faithful, if kept { 20 } else { 0 }, "{name}, {ip_hash}");
        }
        let routes = proxy.files.text("dovetail/streams.conf");
        assert_eq!(routes.matches("hash ").count(), 1 + usize::from(ip_hash), "not for a VIP: {routes}");
    }
}

#[tokio::test]
async fn unknown_names_are_passed_through_to_a_default_backend_that_wants_them() {
    let authority = Authority::new();
    let (theirs, ours) =
        (authority.issue(&["unknown.local", "a.star.local"]), authority.issue(&["ours.local", "*.star.local"]));
    let (passing, ending) = (Backend::with_tls(&theirs).await, Backend::start().await);
    let mut services = vec![with(app("fallback", "", &passing), passed)];
    let client = Client::trusting(&authority);
    for secrets in [&[][..], &[("ours.cert", ours.certificate_pem()), ("ours.key", &ours.key_pem())]] {
        if !secrets.is_empty() {
            services.push(with(app("ours", "ours.local,*.star.local", &ending), terminated("ours")));
        }
        let proxy = Proxy::with_secrets(&services, nginx::Settings::default(), secrets).await;
        for client in [&client, &client.without_name()] {
            let stream = proxy.connect_tls(client, "unknown.local").await.unwrap();
            assert!(theirs.was_shown_to(&stream));
        }
        for name in ["ours.local", "a.star.local"] {
            if !secrets.is_empty() {
                assert!(ours.was_shown_to(&proxy.connect_tls(&client, name).await.unwrap()), "{name}");
                assert_eq!(proxy.get_tls(&client, name, "/ping").await.status, 200, "{name}");
            }
        }
        assert_eq!(proxy.get("unknown.local", "/").await.status, 503, "it wants TLS only");
    }
}

#[tokio::test]
async fn a_balancer_in_front_may_speak_the_proxy_protocol() {
    let authority = Authority::new();
    let (theirs, ours) = (authority.issue(&["passed.local"]), authority.issue(&["ours.local"]));
    let (passing, ending) = (Backend::with_tls(&theirs).await, Backend::start().await);
    let ours_alone = [with(app("ours", "ours.local", &ending), terminated("ours"))];
    let both = [ours_alone[0].clone(), with(app("passed", "passed.local", &passing), passed)];
    let secrets = [("ours.cert", ours.certificate_pem()), ("ours.key", &ours.key_pem())];
    let client = Client::trusting(&authority);
    for trusted_proxies in [BTreeSet::new(), BTreeSet::from(["127.0.0.0/8".parse().unwrap()])] {
        for services in [&ours_alone[..], &both] {
            let settings = nginx::Settings {
                proxy_protocol: true,
                trusted_proxies: trusted_proxies.clone(),
                ..nginx::Settings::default()
            };
            let proxy = Proxy::with_secrets(services, settings, &secrets).await;
            let connect = async |name: &'static str| {
                let mut stream = proxy.connect_tls_port().await;
                stream.write_all(b"PROXY TCP4 192.0.2.9 10.0.0.1 5555 443\r\n").await.unwrap();
                client.handshake(stream, name).await.unwrap()
            };
            let response = exchange(&mut connect("ours.local").await, &get("ours.local", "/ping", "")).await;
            assert_eq!(response.sent("x-real-ip"), Some("192.0.2.9"));
            assert_eq!(response.sent("x-forwarded-for"), Some("192.0.2.9"));
            if services.len() == 2 {
                let mut stream = connect("passed.local").await;
                assert!(theirs.was_shown_to(&stream), "what the balancer put in front does not reach the application");
                assert_eq!(exchange(&mut stream, &get("passed.local", "/ping", "")).await.status, 200);
            }
            // Whoever does not speak it is not answered.
            assert!(proxy.is_closed_after(get("ours.local", "/", "").as_bytes()).await);
        }
    }
}

/// A balancer that ends TLS and begins it anew says who the client is in `X-Forwarded-For`.
#[tokio::test]
async fn what_a_trusted_balancer_says_is_kept_past_the_hop() {
    let authority = Authority::new();
    let (theirs, ours) = (authority.issue(&["passed.local"]), authority.issue(&["ours.local"]));
    let (passing, ending) = (Backend::with_tls(&theirs).await, Backend::start().await);
    let services = [
        with(app("ours", "ours.local", &ending), terminated("ours")),
        with(app("passed", "passed.local", &passing), passed),
    ];
    let secrets = [("ours.cert", ours.certificate_pem()), ("ours.key", &ours.key_pem())];
    let client = Client::trusting(&authority);
    for (trusted, forwarded_for, proto) in
        [("127.0.0.0/8", "192.0.2.7, 127.0.0.1", "http"), ("10.0.0.0/8", "127.0.0.1", "https")]
    {
        let settings = nginx::Settings {
            trusted_proxies: BTreeSet::from([trusted.parse().unwrap()]),
            ..nginx::Settings::default()
        };
        let proxy = Proxy::with_secrets(&services, settings, &secrets).await;
        let mut stream = proxy.connect_tls(&client, "ours.local").await.unwrap();
        let said = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n";
        let response = exchange(&mut stream, &get("ours.local", "/ping", said)).await;
        assert_eq!(response.sent("x-forwarded-for"), Some(forwarded_for), "{trusted}");
        assert_eq!(response.sent("x-forwarded-proto"), Some(proto), "{trusted}");
    }
}

#[test]
fn nginx_accepts_many_and_long_names() {
    let long = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
    let one = service("long", &format!("{long},*.{}", &long[2..]), BackendMode::Vip, &[FIRST], 443);
    let mut services = vec![with(one, passed), with(service("default", "", BackendMode::Vip, &[FIRST], 443), passed)];
    accepted("long names", &services, &nginx::Settings::default());
    services.extend((0..3000).map(|n| {
        let hosts = format!("host-{n}.example.org,*.{n}.example.org");
        with(service(&format!("s{n}"), &hosts, BackendMode::Vip, &[FIRST], 443), passed)
    }));
    accepted("3000 services", &services, &nginx::Settings::default());
}
