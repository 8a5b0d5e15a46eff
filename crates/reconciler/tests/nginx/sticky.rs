//! Clients that stay at one task.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dovetail_reconciler::nginx;
use model::{BackendMode, Service, Sticky};

use crate::support::{Backend, FIRST, Proxy, SECOND, accepted, exchange, get, service, with};

fn app(name: &str, mode: BackendMode, backend: &Backend) -> Service {
    service(name, &format!("{name}.local"), mode, &[FIRST, SECOND], backend.port)
}

fn by_cookie(service: Service, cookie: &str) -> Service {
    with(service, |options| options.route.sticky = Some(Sticky::Cookie(cookie.parse().unwrap())))
}

/// How often each task answered.
fn counted<'a>(backends: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for backend in backends {
        *counts.entry(backend).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn the_same_cookie_leads_to_the_same_task_and_requests_without_it_are_spread() {
    let backend = Backend::start().await;
    let services = [
        by_cookie(app("plain", BackendMode::Task, &backend), "session"),
        by_cookie(app("dotted", BackendMode::Task, &backend), "connect.sid"),
        by_cookie(app("dashed", BackendMode::Task, &backend), "my-app_session.1"),
    ];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    for (host, cookie) in [("plain", "session"), ("dotted", "connect.sid"), ("dashed", "my-app_session.1")] {
        let host = format!("{host}.local");
        let ask = async |cookies: String| {
            let response = proxy.get_with(&host, "/ping", &format!("Cookie: {cookies}\r\n")).await;
            response.backend().to_owned()
        };
        let mut first = Vec::new();
        for n in 0..20 {
            let tasks = [
                ask(format!("{cookie}=value-{n}")).await,
                ask(format!("{cookie}=value-{n}; other=x{n}")).await,
                ask(format!("a=b;{cookie}=value-{n}")).await,
                ask(format!("a=b; {cookie}=value-{n}; x{cookie}=zzz")).await,
            ];
            assert!(tasks.iter().all(|task| *task == tasks[0]), "{host}: {tasks:?}");
            first.push(tasks[0].clone());
        }
        let counts = counted(first.iter().map(String::as_str));
        assert_eq!(counts.len(), 2, "different values lead to both tasks: {counts:?}");

        // Another cookie with a similar name is none, nor is one without a value.
        for cookies in [format!("x{cookie}=v"), format!("{}=v", cookie.replace('.', "x") + "x"), format!("{cookie}=")] {
            let mut seen = Vec::new();
            for _ in 0..40 {
                seen.push(ask(cookies.clone()).await);
            }
            let counts = counted(seen.iter().map(String::as_str));
            // By chance one of two would get fewer than 5 of 40 about once in ten million times.
            assert!(counts.len() == 2 && counts.values().all(|count| *count >= 5), "{host}, {cookies}: {counts:?}");
        }
    }
}

#[tokio::test]
async fn the_same_address_leads_to_the_same_task() {
    let backend = Backend::start().await;
    let by_address = with(app("own", BackendMode::Task, &backend), |options| {
        options.route.sticky = Some(Sticky::ClientAddress);
    });
    let services = [
        by_address,
        app("plain", BackendMode::Task, &backend),
        by_cookie(app("cookie", BackendMode::Task, &backend), "session"),
        app("vip", BackendMode::Vip, &backend),
    ];
    for ip_hash in [false, true] {
        let settings = nginx::Settings { proxy_protocol: true, ip_hash, ..nginx::Settings::default() };
        let proxy = Proxy::start(&services, settings).await;
        let ask = async |host: &str, address: Ipv4Addr| {
            let mut stream = proxy.connect().await;
            let request = format!("PROXY TCP4 {address} 10.0.0.1 5555 80\r\n{}", get(host, "/ping", ""));
            exchange(&mut stream, &request).await.backend().to_owned()
        };
        for (host, sticks) in [("own.local", true), ("plain.local", ip_hash), ("cookie.local", false)] {
            let (mut stayed, mut seen) = (true, Vec::new());
            // Addresses of one /24 are not all alike, as they are to nginx's own `ip_hash`.
            for n in 1..30 {
                let address = Ipv4Addr::new(192, 0, 2, n);
                let tasks = [ask(host, address).await, ask(host, address).await];
                stayed &= tasks[0] == tasks[1];
                seen.extend(tasks);
            }
            assert_eq!(stayed, sticks, "{host}, {ip_hash}");
            assert_eq!(counted(seen.iter().map(String::as_str)).len(), 2, "{host}");
        }
        assert_eq!(ask("vip.local", FIRST).await, format!("{FIRST}:{}", backend.port));
    }
}

#[test]
fn nginx_accepts_many_sticky_services() {
    let services = |cookie: &dyn Fn(u32) -> String| -> Vec<Service> {
        let one =
            |n| service(&format!("s{n}"), &format!("host-{n}.example.org"), BackendMode::Task, &[FIRST, SECOND], 80);
        (0..3000).map(|n| by_cookie(one(n), &cookie(n))).collect()
    };
    let settings = nginx::Settings::default();
    accepted("3000 sticky services", &services(&|_| "session".to_owned()), &settings);
    // More than one file holds.
    accepted("3000 cookies", &services(&|n| format!("{n:0128}")), &settings);
}
