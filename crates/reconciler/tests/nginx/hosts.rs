//! Who answers which host.

use std::collections::BTreeMap;

use dovetail_reconciler::nginx;
use model::BackendMode;

use crate::support::{Backend, FIRST, Proxy, SECOND, service};

#[tokio::test]
async fn requests_are_routed_by_host_and_spread_over_tasks() {
    let (tasks, vip, fallback) = (Backend::start().await, Backend::start().await, Backend::start().await);
    let mut services = vec![
        service("tasks", "tasks.local,*.wild.local", BackendMode::Task, &[FIRST, SECOND], tasks.port),
        service("vip", "vip.local", BackendMode::Vip, &[SECOND], vip.port),
    ];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;

    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..10 {
        let response = proxy.get("tasks.local", "/ping").await;
        assert_eq!(response.status, 200);
        response.assert_all_five();
        assert_eq!(response.header("x-upstream-addr"), Some(response.backend()));
        assert_eq!(response.header("x-request-id"), response.sent("x-request-id"));
        *seen.entry(response.backend().to_owned()).or_default() += 1;
    }
    let expected = [FIRST, SECOND].map(|address| (format!("{address}:{}", tasks.port), 5));
    assert_eq!(seen, BTreeMap::from(expected));

    let at_vip = format!("{SECOND}:{}", vip.port);
    for host in ["vip.local", "VIP.local", "vip.local:8080", "vip.local."] {
        assert_eq!(proxy.get(host, "/").await.backend(), at_vip, "{host}");
    }
    for host in ["a.wild.local", "a.b.wild.local"] {
        assert!(proxy.get(host, "/").await.backend().ends_with(&format!(":{}", tasks.port)), "{host}");
    }
    // An absolute address in the request line names the host.
    let response = proxy.send("GET http://vip.local/x HTTP/1.1\r\nHost: vip.local\r\nConnection: close\r\n\r\n").await;
    assert_eq!(response.backend(), at_vip);
    // Paths reach the application as they were written.
    assert!(proxy.get("vip.local", "/a%2Fb//c/../d?e=%20").await.body.contains("GET /a%2Fb//c/../d?e=%20 HTTP/1.1"));

    for host in ["unknown.local", "wild.local", "127.0.0.1"] {
        let response = proxy.get(host, "/ping").await;
        assert_eq!(response.status, 503, "{host}");
        assert!(response.body.len() < 1024);
        response.assert_none_of_five();
        assert_eq!(response.header("server"), Some("nginx"), "no version");
    }
    assert_eq!(proxy.send("GET / HTTP/1.0\r\n\r\n").await.status, 503);
    assert_eq!(proxy.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.status, 400);
    // Newer releases know that this is no name.
    assert!(matches!(proxy.get("a;b{}", "/").await.status, 400 | 503));
    assert_eq!(proxy.get("a/b", "/").await.status, 400);

    for host in ["tasks.local", "unknown.local", "whatever"] {
        let response = proxy.get(host, "/.dovetail/health").await;
        assert_eq!((response.status, response.body.as_str()), (200, "ok\n"), "{host}");
        response.assert_none_of_five();
    }
    let log = proxy.files.log("access.log");
    assert!(log.contains("GET /ping") && !log.contains("health"), "{log}");

    services.push(service("fallback", "", BackendMode::Task, &[FIRST], fallback.port));
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    let at_fallback = format!("{FIRST}:{}", fallback.port);
    let response = proxy.get("unknown.local", "/ping").await;
    assert_eq!(response.backend(), at_fallback);
    response.assert_all_five();
    // A request without a host gets one, since HTTP/1.1 to the application demands it.
    let response = proxy.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((response.backend(), response.sent("host")), (at_fallback.as_str(), Some("127.0.0.1")));
    assert_eq!(proxy.get("vip.local", "/").await.backend(), at_vip);
    assert_eq!(proxy.get("unknown.local", "/.dovetail/health").await.body, "ok\n");
}
