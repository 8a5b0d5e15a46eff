//! What an application is told about the way of a request.

use std::collections::BTreeSet;

use dovetail_reconciler::nginx::{self, Forwarded};
use model::BackendMode;

use crate::support::{Backend, FIRST, Proxy, service};

#[tokio::test]
async fn what_a_request_says_about_its_way_is_kept_or_overwritten() {
    let backend = Backend::start().await;
    let services = [service("app", "app.local", BackendMode::Vip, &[FIRST], backend.port)];
    let said = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Request-ID: abc-123\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-Host: evil\r\n";
    let default = nginx::Settings::default;
    let trusting = |network: &str| BTreeSet::from([network.parse().unwrap()]);
    let overwrite = nginx::Settings { forwarded: Forwarded::Overwrite, ..default() };
    let trusted = nginx::Settings { trusted_proxies: trusting("127.0.0.0/8"), ..default() };
    let untrusted = nginx::Settings { trusted_proxies: trusting("10.0.0.0/8"), ..default() };
    for (what, settings, address, forwarded_for, proto, id) in [
        ("keep", default(), "127.0.0.1", "192.0.2.7, 127.0.0.1", "https", Some("abc-123")),
        ("overwrite", overwrite, "127.0.0.1", "127.0.0.1", "http", None),
        ("keep from trusted", trusted, "192.0.2.7", "192.0.2.7, 127.0.0.1", "https", Some("abc-123")),
        ("keep from trusted, but not trusted", untrusted, "127.0.0.1", "127.0.0.1", "http", None),
    ] {
        let overwrites = settings.forwarded == Forwarded::Overwrite;
        let proxy = Proxy::start(&services, settings).await;
        let response = proxy.get_with("app.local:8080", "/ping", said).await;
        assert_eq!(response.sent("host"), Some("app.local:8080"), "{what}");
        assert_eq!(response.sent("x-real-ip"), Some(address), "{what}");
        assert_eq!(response.sent("x-forwarded-for"), Some(forwarded_for), "{what}");
        assert_eq!(response.sent("x-forwarded-proto"), Some(proto), "{what}");
        assert_eq!(response.sent("x-forwarded-host"), if overwrites { None } else { Some("evil") }, "{what}");
        assert_eq!(response.header("x-request-id"), response.sent("x-request-id"), "{what}");
        match id {
            Some(id) => assert_eq!(response.header("x-request-id"), Some(id), "{what}"),
            None => response.assert_all_five(),
        }
        // Nothing said: what nginx sees.
        let response = proxy.get("app.local", "/ping").await;
        response.assert_all_five();
        assert_eq!(response.sent("x-forwarded-for"), Some("127.0.0.1"), "{what}");
        assert_eq!(response.sent("x-forwarded-proto"), Some("http"), "{what}");
        // An id that is none is replaced.
        let response = proxy.get_with("app.local", "/ping", "X-Request-ID: a b\"<script>\r\n").await;
        response.assert_all_five();
    }

    for trusted_proxies in [BTreeSet::new(), trusting("127.0.0.0/8")] {
        let proxy =
            Proxy::start(&services, nginx::Settings { proxy_protocol: true, trusted_proxies, ..default() }).await;
        let request = "GET /ping HTTP/1.1\r\nHost: app.local\r\nConnection: close\r\n\r\n";
        let response = proxy.send(&format!("PROXY TCP4 192.0.2.9 10.0.0.1 5555 80\r\n{request}")).await;
        assert_eq!(response.sent("x-real-ip"), Some("192.0.2.9"));
        assert_eq!(response.sent("x-forwarded-for"), Some("192.0.2.9"));
    }
}

#[tokio::test]
async fn the_application_sees_the_host_that_routed_the_request_and_no_proxy_header() {
    let backend = Backend::start().await;
    let services = [service("app", "app.local", BackendMode::Vip, &[FIRST], backend.port)];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    for (line, host, sent) in [
        ("GET /ping", "app.local", "app.local"),
        ("GET /ping", "App.Local:8080", "App.Local:8080"),
        ("GET /ping", "app.local.", "app.local."),
        ("GET http://app.local/ping", "admin.internal", "app.local"),
        ("GET http://app.local/ping", "app.local.evil", "app.local"),
    ] {
        let rest = "Connection: close\r\nProxy: http://192.0.2.1/\r\n\r\n";
        let response = proxy.send(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n{rest}")).await;
        assert_eq!(response.sent("host"), Some(sent), "{line}, Host: {host}");
        assert_eq!(response.sent("proxy"), None, "{line}, Host: {host}");
    }
}
