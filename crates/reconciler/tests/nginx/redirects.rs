//! Hosts that are redirected.

use std::num::NonZeroU16;

use dovetail_reconciler::nginx;
use model::{BackendMode, Host, Options, Tls};

use crate::support::{Authority, Backend, Client, FIRST, Proxy, service, with};
use crate::tls::terminated;

fn redirects(options: &mut Options, pairs: &[(&str, &str)]) {
    options.host.redirects = pairs.iter().map(|(from, to)| (Host::parse(from).unwrap(), to.parse().unwrap())).collect();
}

#[tokio::test]
async fn hosts_are_redirected_with_path_and_query_on_both_listeners() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    let ours = authority.issue(&["old.local", "new.local"]);
    let services = [with(
        service("app", "old.local,older.local,new.local", BackendMode::Vip, &[FIRST], backend.port),
        |options| {
            terminated("ours")(options);
            redirects(options, &[("old.local", "http://new.local"), ("older.local", "https://new.local:8443/base")]);
        },
    )];
    let secrets = [("ours.cert", ours.certificate_pem()), ("ours.key", &ours.key_pem())];
    let proxy = Proxy::with_secrets(&services, nginx::Settings::default(), &secrets).await;
    let client = Client::trusting(&authority);
    for (host, path, location) in [
        ("old.local", "/", "http://new.local/"),
        ("old.local:8080", "/a%2Fb//c?d=e%20f&g", "http://new.local/a%2Fb//c?d=e%20f&g"),
        ("older.local", "/x?y", "https://new.local:8443/base/x?y"),
    ] {
        let response = proxy.get(host, path).await;
        assert_eq!((response.status, response.header("location")), (302, Some(location)));
        response.assert_none_of_five();
    }
    let response = proxy.get_tls(&client, "old.local", "/x?y").await;
    assert_eq!((response.status, response.header("location")), (302, Some("http://new.local/x?y")));
    assert_eq!(proxy.get("new.local", "/ping").await.status, 200);
    assert_eq!(proxy.get_tls(&client, "new.local", "/ping").await.status, 200);
    assert_eq!(proxy.get("old.local", "/.dovetail/health").await.body, "ok\n");
}

#[tokio::test]
async fn nobody_is_redirected_to_where_they_are() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    let ours = authority.issue(&["up.local", "down.local", "strict.local", "mutual.local"]);
    let app = |name: &str| service(name, &format!("{name}.local"), BackendMode::Vip, &[FIRST], backend.port);
    let to_tls = |name: &str, port: &str| {
        with(app(name), |options| {
            terminated("ours")(options);
            redirects(options, &[(&format!("{name}.local"), &format!("https://{name}.local{port}"))]);
        })
    };
    let to_plain = |name: &str| {
        with(app(name), |options| {
            terminated("ours")(options);
            redirects(options, &[(&format!("{name}.local"), &format!("http://{name}.local"))]);
        })
    };
    let services = [
        to_tls("up", ":8443"),
        to_plain("down"),
        // These want to be reached over TLS only, and that goes before.
        with(to_plain("strict"), |options| options.host.ssl_only = Some(true)),
        with(to_plain("mutual"), |options| {
            let Some(Tls::Terminate { client_ca, .. }) = &mut options.host.tls else { unreachable!() };
            *client_ca = Some("ours.ca".parse().unwrap());
        }),
    ];
    let secrets = [("ours.cert", ours.certificate_pem()), ("ours.key", &ours.key_pem()), ("ours.ca", &authority.pem())];
    let settings = nginx::Settings { published_https: NonZeroU16::new(443), ..nginx::Settings::default() };
    let proxy = Proxy::with_secrets(&services, settings, &secrets).await;
    let client = Client::with_certificate(&authority, &authority.issue(&["client"]));
    for (host, plain, over_tls) in [
        ("up.local", Some("https://up.local:8443/x?y"), None),
        ("down.local", None, Some("http://down.local/x?y")),
        ("strict.local", Some("https://strict.local/x?y"), None),
        ("mutual.local", Some("https://mutual.local/x?y"), None),
    ] {
        assert_eq!(proxy.get(host, "/x?y").await.header("location"), plain, "{host}");
        let response = proxy.get_tls(&client, host, "/x?y").await;
        assert_eq!(response.header("location"), over_tls, "{host}");
        assert_eq!(response.status, if over_tls.is_some() { 302 } else { 200 }, "{host}");
    }
}
