//! What a client gets when something fails.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use dovetail_reconciler::nginx;
use model::BackendMode;

use crate::support::{Backend, FIRST, GONE, Proxy, SECOND, service};

#[tokio::test]
async fn proxied_errors_carry_the_headers_and_an_application_s_error_sets_nothing_aside() {
    let backend = Backend::start().await;
    let services = [
        service("app", "app.local", BackendMode::Task, &[FIRST, SECOND], backend.port),
        service("half", "half.local", BackendMode::Task, &[FIRST, GONE], backend.port),
        service("mixed-vip", "mixed.local", BackendMode::Vip, &[SECOND], backend.port),
        service("mixed-tasks", "mixed.local", BackendMode::Task, &[GONE], backend.port),
        service("gone", "gone.local", BackendMode::Vip, &[GONE], backend.port),
        service("all-gone", "all-gone.local", BackendMode::Task, &[GONE, Ipv4Addr::new(127, 0, 0, 5)], backend.port),
    ];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;

    let response = proxy.get("app.local", "/missing").await;
    assert_eq!(response.status, 404);
    assert!(response.backend().starts_with("127.0.0."), "the application's own page");
    response.assert_all_five();

    // The application's own header of the same name is replaced, others pass.
    let response = proxy.get("app.local", "/echo").await;
    response.assert_all_five();
    assert_eq!(response.header("x-upstream-addr"), Some(response.backend()));
    assert_eq!(response.header("x-other"), Some("mine"));

    for _ in 0..6 {
        let response = proxy.get("app.local", "/busy").await;
        assert_eq!(response.status, 503);
        response.assert_all_five();
        assert_eq!(proxy.get("app.local", "/ping").await.status, 200, "busy on one path is busy on one path");
    }

    for _ in 0..6 {
        assert_eq!(proxy.get("half.local", "/ping").await.status, 200, "a task that is gone is passed by");
        assert_eq!(proxy.get("mixed.local", "/ping").await.status, 200);
    }
    // A crash behind the VIP does not set the VIP aside.
    for _ in 0..3 {
        assert_eq!(proxy.get("mixed.local", "/crash").await.status, 502);
        assert_eq!(proxy.get("mixed.local", "/ping").await.status, 200);
    }

    for host in ["gone.local", "all-gone.local", "all-gone.local"] {
        let response = proxy.get(host, "/ping").await;
        assert_eq!(response.status, 502, "{host}");
        response.assert_all_five();
    }

    // A POST that reached the application is not sent twice.
    let before = backend.requests.load(Ordering::SeqCst);
    let request = "POST /crash HTTP/1.1\r\nHost: app.local\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(proxy.send(request).await.status, 502);
    assert_eq!(backend.requests.load(Ordering::SeqCst), before + 1);

    let settings = nginx::Settings { hide_info_headers: true, default_status: 404, ..nginx::Settings::default() };
    let proxy = Proxy::start(&services, settings).await;
    proxy.get("app.local", "/ping").await.assert_none_of_five();
    proxy.get("gone.local", "/ping").await.assert_none_of_five();
    assert_eq!(proxy.get("app.local", "/echo").await.header("x-request-id"), Some("mine"));
    assert_eq!(proxy.get("unknown.local", "/").await.status, 404);
}
