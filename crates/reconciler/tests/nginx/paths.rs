//! Who answers which path.

use dovetail_reconciler::nginx;
use model::{BackendMode, Service};

use crate::support::{Backend, FIRST, Proxy, accepted, service, with};

fn app(name: &str, root: &str, rewrite: bool, backend: &Backend) -> Service {
    with(service(name, "app.local", BackendMode::Vip, &[FIRST], backend.port), |options| {
        options.context_root = root.parse().unwrap();
        options.route.context_root_rewrite = rewrite.then_some(true);
    })
}

/// The first line of the request that the application got.
fn asked(body: &str) -> &str {
    body.lines().nth(1).unwrap_or_default().trim_end_matches(" HTTP/1.1")
}

#[tokio::test]
async fn the_longest_path_wins_and_a_path_ends_at_a_slash() {
    let (app_backend, deep, root) = (Backend::start().await, Backend::start().await, Backend::start().await);
    let mut services = vec![app("app", "/app", false, &app_backend), app("deep", "/app/deep/er", false, &deep)];
    for has_root in [false, true] {
        if has_root {
            services.push(app("root", "/", false, &root));
        }
        let proxy = Proxy::start(&services, nginx::Settings::default()).await;
        for (path, to) in [
            ("/app", &app_backend),
            ("/app/", &app_backend),
            ("/app?x=/app/deep/er", &app_backend),
            ("/app/x%2Fy//z", &app_backend),
            ("/app/deep", &app_backend),
            ("/app/deep/erx", &app_backend),
            ("/app/deep/er", &deep),
            ("/app/deep/er/x?y", &deep),
        ] {
            let response = proxy.get("app.local", path).await;
            assert_eq!(response.backend(), format!("{FIRST}:{}", to.port), "{path}");
            assert_eq!(asked(&response.body), format!("GET {path}"), "paths reach the application as they are");
            response.assert_all_five();
        }
        for path in ["/", "/other", "/application", "/app.html", "/APP/"] {
            let response = proxy.get("app.local", path).await;
            if has_root {
                assert_eq!(response.backend(), format!("{FIRST}:{}", root.port), "{path}");
            } else {
                assert_eq!(response.status, 404, "{path}");
                response.assert_none_of_five();
            }
        }
        // What resolves to another path is there, not here.
        let response = proxy.get("app.local", "/app/../other").await;
        assert_eq!(response.status, if has_root { 200 } else { 404 });
        assert_eq!(proxy.get("app.local", "/.dovetail/health").await.body, "ok\n");
    }
}

#[tokio::test]
async fn the_application_may_see_a_slash_in_the_place_of_its_path() {
    let backend = Backend::start().await;
    let services = [app("app", "/app", true, &backend), app("v1", "/app/v1.0", true, &backend)];
    let interlocks = nginx::Settings { trailing_slash_redirect: true, ..nginx::Settings::default() };
    for (settings, redirects) in [(nginx::Settings::default(), false), (interlocks, true)] {
        let proxy = Proxy::start(&services, settings).await;
        for (path, seen) in [
            ("/app/", "/"),
            ("/app/x/", "/x/"),
            ("/app/x.html?y=/app/", "/x.html?y=/app/"),
            ("/app/v1.0/x/", "/x/"),
            ("/app/v1.0/x", "/x"),
        ] {
            assert_eq!(asked(&proxy.get("app.local", path).await.body), format!("GET {seen}"), "{path}");
        }
        for (path, location) in [("/app", "/app/"), ("/app?x=y&z", "/app/?x=y&z"), ("/app/v1.0", "/app/v1.0/")] {
            let response = proxy.get("app.local:8080", path).await;
            assert_eq!((response.status, response.header("location")), (301, Some(location)));
        }
        // As Interlock had it: a path without a dot gets a slash at its end first.
        let response = proxy.get("app.local:8080", "/app/ping?x=y").await;
        if redirects {
            assert_eq!((response.status, response.header("location")), (301, Some("/app/ping/?x=y")));
        } else {
            assert_eq!(asked(&response.body), "GET /ping?x=y");
        }
        assert_eq!(proxy.get("app.local", "/other").await.status, 404);
    }
}

#[tokio::test]
async fn the_health_path_stays_the_proxy_s() {
    let backend = Backend::start().await;
    for rewrite in [false, true] {
        let services = [app("app", "/.dovetail/health", rewrite, &backend)];
        let proxy = Proxy::start(&services, nginx::Settings::default()).await;
        assert_eq!(proxy.get("app.local", "/.dovetail/health").await.body, "ok\n");
        let seen = if rewrite { "/x" } else { "/.dovetail/health/x" };
        assert_eq!(asked(&proxy.get("app.local", "/.dovetail/health/x").await.body), format!("GET {seen}"));
    }
}

#[test]
fn nginx_accepts_every_character_of_a_path() {
    let strange = ["/-._~+@:=,", "/=", "/@named", "/~x", "/+", "/a+b@c:d=e,f", "/if", "/%s".trim_end_matches("%s")];
    let services: Vec<Service> = strange
        .iter()
        .enumerate()
        .flat_map(|(n, root)| [false, true].map(|rewrite| (n, *root, rewrite)))
        .map(|(n, root, rewrite)| {
            let host = format!("{rewrite}.local");
            with(service(&format!("s{n}{rewrite}"), &host, BackendMode::Vip, &[FIRST], 80), |options| {
                options.context_root = root.parse().unwrap();
                options.route.context_root_rewrite = Some(rewrite);
            })
        })
        .collect();
    accepted("strange paths", &services, &nginx::Settings::default());
}
