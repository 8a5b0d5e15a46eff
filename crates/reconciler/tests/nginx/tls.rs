//! TLS that the proxy ends.

use dovetail_reconciler::nginx;
use model::{BackendMode, Options, Service, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Authority, Backend, Client, FIRST, Identity, Proxy, at, exchange, get, service, with};

/// TLS with the secrets `NAME.cert` and `NAME.key`.
pub fn terminated(name: &str) -> impl Fn(&mut Options) {
    let tls = Tls::Terminate {
        certificate: format!("{name}.cert").parse().unwrap(),
        key: format!("{name}.key").parse().unwrap(),
        client_ca: None,
    };
    move |options| options.host.tls = Some(tls.clone())
}

/// The same, for clients with a certificate of `NAME.ca`.
fn mutual(name: &str) -> impl Fn(&mut Options) {
    let tls = Tls::Terminate {
        certificate: format!("{name}.cert").parse().unwrap(),
        key: format!("{name}.key").parse().unwrap(),
        client_ca: Some(format!("{name}.ca").parse().unwrap()),
    };
    move |options| options.host.tls = Some(tls.clone())
}

fn app(name: &str, hosts: &str, backend: &Backend) -> Service {
    service(name, hosts, BackendMode::Vip, &[FIRST], backend.port)
}

#[tokio::test]
async fn each_name_has_its_certificate_and_nobody_else_is_answered() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    let (one, wild) = (authority.issue(&["one.local"]), authority.issue(&["*.wild.local"]));
    let (chained, combined) = (authority.issue_through_another(&["chained.local"]), authority.issue(&["both.local"]));
    let services = [
        with(app("one", "one.local", &backend), terminated("one")),
        with(app("wild", "*.wild.local", &backend), terminated("wild")),
        with(app("chained", "chained.local", &backend), terminated("chained")),
        with(app("combined", "both.local", &backend), |options| {
            options.host.tls = Some(Tls::Terminate {
                certificate: "both.pem".parse().unwrap(),
                key: "both.pem".parse().unwrap(),
                client_ca: None,
            });
        }),
        app("plain", "plain.local", &backend),
    ];
    let both = combined.certificate_pem().to_owned() + &combined.key_pem();
    let secrets = [
        ("one.cert", one.certificate_pem()),
        ("one.key", &one.key_pem()),
        ("wild.cert", wild.certificate_pem()),
        ("wild.key", &wild.key_pem()),
        ("chained.cert", chained.certificate_pem()),
        ("chained.key", &chained.key_pem()),
        ("both.pem", &both),
    ];
    let proxy = Proxy::with_secrets(&services, nginx::Settings::default(), &secrets).await;
    let client = Client::trusting(&authority);
    for (name, identity) in
        [("one.local", &one), ("a.wild.local", &wild), ("chained.local", &chained), ("both.local", &combined)]
    {
        let mut stream = proxy.connect_tls(&client, name).await.unwrap();
        assert!(identity.was_shown_to(&stream), "{name}");
        let response = exchange(&mut stream, &get(name, "/ping", "")).await;
        assert_eq!(response.status, 200, "{name}");
        response.assert_all_five();
        assert_eq!(response.sent("x-forwarded-proto"), Some("https"), "{name}");
        assert_eq!(response.sent("x-real-ip"), Some("127.0.0.1"), "{name}");
        // Plain HTTP is served, too: nobody asked for anything else.
        let response = proxy.get(name, "/ping").await;
        assert_eq!((response.status, response.sent("x-forwarded-proto")), (200, Some("http")), "{name}");
    }
    for name in ["plain.local", "unknown.local", "wild.local"] {
        let refused = proxy.connect_tls(&client, name).await.unwrap_err();
        assert!(refused.to_string().contains("UnrecognisedName"), "{name}: {refused}");
    }
    let refused = proxy.connect_tls(&client.without_name(), "one.local").await.unwrap_err();
    assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
    assert_eq!(proxy.get("plain.local", "/ping").await.status, 200);

    // Over one host's connection other hosts with TLS are answered, as HTTP/2 does it where a certificate is for both;
    // those without are told to look elsewhere, where they find nobody.
    for (host, status) in [("both.local", 200), ("plain.local", 421), ("unknown.local", 421)] {
        let response = proxy.get_tls_as(&client, "one.local", host, "/").await;
        assert_eq!(response.status, status, "{host}");
    }
    assert_eq!(proxy.get_tls(&client, "one.local", "/.dovetail/health").await.body, "ok\n");
    // Plain HTTP on the port for TLS.
    let response = exchange(&mut proxy.connect_tls_port().await, &get("one.local", "/", "")).await;
    assert_eq!(response.status, 400);
}

#[tokio::test]
async fn http_2_is_spoken_with_who_offers_it() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    let one = authority.issue(&["one.local"]);
    let services = [with(app("one", "one.local", &backend), terminated("one"))];
    let secrets = [("one.cert", one.certificate_pem()), ("one.key", &one.key_pem())];
    let proxy = Proxy::with_secrets(&services, nginx::Settings::default(), &secrets).await;
    let client = Client::trusting(&authority);
    for (offered, spoken) in [(&[][..], None), (&["http/1.1"], Some("http/1.1")), (&["h2", "http/1.1"], Some("h2"))] {
        let stream = proxy.connect_tls(&client.offering(offered), "one.local").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), spoken.map(str::as_bytes), "{offered:?}");
    }

    // A request by hand: the preface, no settings, and one block of headers, none of them compressed.
    let mut stream = proxy.connect_tls(&client.offering(&["h2"]), "one.local").await.unwrap();
    let literal = |name: u8, value: &str| [&[name, value.len() as u8], value.as_bytes()].concat();
    let (get, https) = (0x82, 0x87);
    let block = [vec![get, https], literal(0x04, "/ping"), literal(0x01, "One.local:8443")].concat();
    let end_of_stream_and_headers = 0x05;
    let headers = [&[0, 0, block.len() as u8, 1, end_of_stream_and_headers, 0, 0, 0, 1], &*block].concat();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    stream.write_all(&headers).await.unwrap();
    let data = loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            // The first header is the status; 0x88 is 200.
            1 => assert!(payload.contains(&0x88), "{payload:?}"),
            0 => break String::from_utf8(payload).unwrap(),
            _ => {}
        }
    };
    assert!(data.contains("GET /ping HTTP/1.1") && data.contains("Host: One.local:8443"), "{data}");
}

#[tokio::test]
async fn clients_may_have_to_show_a_certificate() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    let (clients, others, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let identity = authority.issue(&["mutual.local", "other.local", "open.local"]);
    let services = [
        with(app("mutual", "mutual.local", &backend), mutual("mutual")),
        with(app("other", "other.local", &backend), mutual("other")),
        with(app("open", "open.local", &backend), terminated("open")),
        with(app("default", "", &backend), mutual("default")),
    ];
    let key = identity.key_pem();
    let mut secrets = Vec::new();
    for name in ["mutual", "other", "open", "default"] {
        secrets.push((format!("{name}.cert"), identity.certificate_pem().to_owned()));
        secrets.push((format!("{name}.key"), key.clone()));
    }
    secrets.push(("mutual.ca".to_owned(), clients.pem()));
    secrets.push(("other.ca".to_owned(), others.pem()));
    secrets.push(("default.ca".to_owned(), others.pem()));
    let secrets: Vec<(&str, &str)> = secrets.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let settings = nginx::Settings { published_https: std::num::NonZeroU16::new(8443), ..nginx::Settings::default() };
    let proxy = Proxy::with_secrets(&services, settings, &secrets).await;

    let nobody = Client::trusting(&authority);
    let with = |signed_by: &Authority| Client::with_certificate(&authority, &signed_by.issue(&["client"]));
    let (member, other, stranger) = (with(&clients), with(&others), with(&strangers));
    for (who, client, status) in [
        ("nobody", &nobody, 400),
        ("a member", &member, 200),
        ("another's", &other, 400),
        ("a stranger", &stranger, 400),
    ] {
        assert_eq!(proxy.get_tls(client, "mutual.local", "/ping").await.status, status, "{who}");
    }
    // There is no way around: not through a connection that was made for somebody else, nor without a name.
    for (who, client, name) in
        [("nobody", &nobody, "open.local"), ("another's", &other, "other.local"), ("a member", &member, "other.local")]
    {
        let response = proxy.get_tls_as(client, name, "mutual.local", "/ping").await;
        assert!(matches!(response.status, 400 | 421), "{who}: {response:?}");
        assert_eq!(response.sent("backend"), None, "{who}");
    }
    for (who, client) in [("nobody", &nobody), ("another's", &other)] {
        let response = proxy.get_tls_as(&client.without_name(), "other.local", "mutual.local", "/ping").await;
        assert_eq!(response.status, if who == "nobody" { 400 } else { 421 }, "{who}: {response:?}");
    }
    // A session that began with the default backend's check is none for another host.
    assert_eq!(proxy.get_tls_as(&other.without_name(), "other.local", "whatever.local", "/ping").await.status, 200);
    assert_eq!(proxy.get_tls(&other, "mutual.local", "/ping").await.status, 400);

    // Nor over plain HTTP, where nobody can show a certificate.
    let response = proxy.get("mutual.local", "/ping?x=1").await;
    assert_eq!((response.status, response.header("location")), (307, Some("https://mutual.local:8443/ping?x=1")));
    assert_eq!(proxy.get("whatever.local", "/").await.status, 307);
    assert_eq!(proxy.get("open.local", "/ping").await.status, 200);
}

#[tokio::test]
async fn a_default_backend_with_tls_answers_every_name() {
    let (authority, backend, fallback) = (Authority::new(), Backend::start().await, Backend::start().await);
    let (one, other) = (authority.issue(&["one.local"]), authority.issue(&["unknown.local"]));
    let services = [
        with(app("one", "one.local", &backend), terminated("one")),
        app("plain", "plain.local", &backend),
        with(app("fallback", "", &fallback), terminated("fallback")),
    ];
    let secrets = [
        ("one.cert", one.certificate_pem()),
        ("one.key", &one.key_pem()),
        ("fallback.cert", other.certificate_pem()),
        ("fallback.key", &other.key_pem()),
    ];
    let proxy = Proxy::with_secrets(&services, nginx::Settings::default(), &secrets).await;
    let client = Client::trusting(&authority);
    assert!(one.was_shown_to(&proxy.connect_tls(&client, "one.local").await.unwrap()));
    for client in [&client, &client.without_name()] {
        let mut stream = proxy.connect_tls(client, "unknown.local").await.unwrap();
        assert!(other.was_shown_to(&stream));
        let response = exchange(&mut stream, &get("unknown.local", "/ping", "")).await;
        assert_eq!(response.backend(), format!("{FIRST}:{}", fallback.port), "{response:?}");
        response.assert_all_five();
    }
    assert_eq!(
        proxy.get("unknown.local", "/").await.backend().split('\n').next(),
        Some(&*format!("{FIRST}:{}", fallback.port))
    );
    assert_eq!(proxy.get_tls(&client, "unknown.local", "/.dovetail/health").await.body, "ok\n");
}

#[tokio::test]
async fn plain_http_may_be_redirected_and_transport_security_be_strict() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    let one = authority.issue(&["one.local"]);
    let service = with(app("one", "one.local", &backend), |options| {
        terminated("one")(options);
        options.host.ssl_only = Some(true);
        options.host.hsts = Some("600; includeSubDomains".parse().unwrap());
    });
    let secrets = [("one.cert", one.certificate_pem()), ("one.key", &one.key_pem())];
    let client = Client::trusting(&authority);
    for (port, location) in [
        (443, "https://one.local/a%20b?c=/d"),
        (8443, "https://one.local:8443/a%20b?c=/d"),
        (0, "https://one.local/a%20b?c=/d"),
    ] {
        let settings =
            nginx::Settings { published_https: std::num::NonZeroU16::new(port), ..nginx::Settings::default() };
        let proxy = Proxy::with_secrets(std::slice::from_ref(&service), settings, &secrets).await;
        let response = proxy.get("one.local:8080", "/a%20b?c=/d").await;
        assert_eq!((response.status, response.header("location")), (307, Some(location)));
        assert_eq!(response.header("strict-transport-security"), None, "over TLS only");
        assert_eq!(proxy.get("one.local", "/.dovetail/health").await.body, "ok\n");

        for path in ["/ping", "/missing", "/crash"] {
            let response = proxy.get_tls(&client, "one.local", path).await;
            assert_eq!(response.header("strict-transport-security"), Some("max-age=600; includeSubDomains"), "{path}");
            response.assert_all_five();
        }
    }
    let settings = nginx::Settings { hide_info_headers: true, ..nginx::Settings::default() };
    let proxy = Proxy::with_secrets(&[service], settings, &secrets).await;
    let response = proxy.get_tls(&client, "one.local", "/ping").await;
    response.assert_none_of_five();
    assert!(response.header("strict-transport-security").is_some());
}

#[tokio::test]
async fn of_two_who_disagree_the_older_decides() {
    let (authority, backend) = (Authority::new(), Backend::start().await);
    let (old, new) = (authority.issue(&["one.local"]), authority.issue(&["one.local"]));
    let services = [
        at(2, with(app("new", "one.local", &backend), terminated("new"))),
        at(1, with(app("old", "one.local", &backend), terminated("old"))),
    ];
    let secrets = [
        ("old.cert", old.certificate_pem()),
        ("old.key", &old.key_pem()),
        ("new.cert", new.certificate_pem()),
        ("new.key", &new.key_pem()),
    ];
    let shown = async |services: &[Service], identity: &Identity| {
        let proxy = Proxy::with_secrets(services, nginx::Settings::default(), &secrets).await;
        identity.was_shown_to(&proxy.connect_tls(&Client::trusting(&authority), "one.local").await.unwrap())
    };
    assert!(shown(&services, &old).await);
    assert!(shown(&services[..1], &new).await);
}
