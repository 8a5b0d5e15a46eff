//! Connections to applications.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dovetail_reconciler::nginx;
use model::BackendMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::{Backend, FIRST, Proxy, Response, service};

#[tokio::test]
async fn websockets_need_no_label_and_other_upgrades_are_not_passed_on() {
    let backend = Backend::start().await;
    let services = [service("app", "app.local", BackendMode::Vip, &[FIRST], backend.port)];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;

    let mut stream = proxy.connect().await;
    let upgrade =
        "GET /ws HTTP/1.1\r\nHost: app.local\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(Duration::from_secs(20), stream.read_u8()).await.expect("an answer").unwrap());
    }
    let head = Response::parse(&String::from_utf8_lossy(&head));
    assert_eq!(head.status, 101);
    head.assert_all_five();
    for message in [&b"first"[..], b"\x00second"] {
        stream.write_all(message).await.unwrap();
        let mut back = vec![0; message.len()];
        timeout(Duration::from_secs(20), stream.read_exact(&mut back)).await.expect("an echo").unwrap();
        assert_eq!(back, message);
    }

    let response = proxy.get_with("app.local", "/ping", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n").await;
    assert_eq!((response.status, response.sent("upgrade"), response.sent("connection")), (200, None, None));
}

#[tokio::test]
async fn connections_to_upstreams_are_kept() {
    let backend = Backend::start().await;
    let services = [service("app", "app.local", BackendMode::Vip, &[FIRST], backend.port)];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("app.local", "/ping").await.status, 200);
    }
    assert_eq!(backend.requests.load(Ordering::SeqCst), 20);
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);

    let settings = nginx::Settings { upstream_keepalive_requests: 5, ..nginx::Settings::default() };
    let proxy = Proxy::start(&services, settings).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("app.local", "/ping").await.status, 200);
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1 + 4);

    let proxy = Proxy::start(&services, nginx::Settings { upstream_keepalive: 0, ..nginx::Settings::default() }).await;
    for _ in 0..5 {
        assert_eq!(proxy.get("app.local", "/ping").await.status, 200);
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1 + 4 + 5);
}
