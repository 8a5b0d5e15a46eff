//! TLS to applications.

use dovetail_reconciler::nginx;
use model::{BackendMode, BackendTls, Service};

use crate::support::{Authority, Backend, FIRST, Proxy, service, with};

#[tokio::test]
async fn an_application_s_certificate_is_checked_unless_that_is_not_wanted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = Backend::with_tls(&authority.issue_through_another(&["good.local", "*.wild.local"])).await;
    let unknown = Backend::with_tls(&stranger.issue(&["unknown.local", "lax.local"])).await;
    let other = Backend::with_tls(&authority.issue(&["somebody-else.local"])).await;
    let app = |name: &str, host: &str, tls, backend: &Backend| -> Service {
        with(service(name, host, BackendMode::Vip, &[FIRST], backend.port), |options| {
            options.route.backend_tls = Some(tls);
        })
    };
    let services = [
        app("good", "good.local", BackendTls::Verified, &good),
        app("wild", "*.wild.local", BackendTls::Verified, &good),
        app("unknown", "unknown.local", BackendTls::Verified, &unknown),
        app("other", "other.local", BackendTls::Verified, &other),
        app("lax", "lax.local", BackendTls::Unverified, &unknown),
        app("default", "", BackendTls::Unverified, &unknown),
    ];
    let secrets = [("authorities", &*authority.pem())];
    let proxy = Proxy::with_secrets(&services, nginx::Settings::default(), &secrets).await;
    for (host, status) in [
        ("good.local:8080", 200),
        ("a.wild.local", 200),
        ("unknown.local", 502),
        ("other.local", 502),
        ("lax.local", 200),
        ("nobody.local", 200),
    ] {
        let response = proxy.get(host, "/ping").await;
        assert_eq!(response.status, status, "{host}: {}", proxy.files.log("error.log"));
        response.assert_all_five();
        if status == 200 {
            assert_eq!(response.sent("name"), host.split(':').next(), "the application is asked for the host");
            assert_eq!(response.sent("host"), Some(host));
        }
    }
}
