//! The options: a table for each label, what they do to each other, and what strangers try.

use std::collections::BTreeMap;
use std::time::Duration;

use model::BackendTls;
use model::Sticky;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::GOOD;

const BASE: [(&str, &str); 2] = [("hosts", "a.local,old.local"), ("port", "80")];
const VIP: (&str, &str) = ("backend_mode", "vip");
const CERT: (&str, &str) = ("ssl_cert", "app.cert");
const PASSTHROUGH: (&str, &str) = ("ssl_passthrough", "true");

fn reading(labels: &[(&str, &str)]) -> Reading {
    read_labels(&[&BASE, labels].concat()).expect("a candidate")
}

fn options(labels: &[(&str, &str)]) -> Options {
    let reading = reading(labels);
    reading.asked.unwrap_or_else(|problems| panic!("{labels:?}: {problems:?}")).options
}

fn problems(labels: &[(&str, &str)]) -> Vec<String> {
    let problems = reading(labels).asked.expect_err("refused");
    problems.iter().map(ToString::to_string).collect()
}

/// The warnings' kinds and labels, the latter without their prefix.
fn warned(labels: &[(&str, &str)]) -> Vec<(Code, String)> {
    let reading = reading(labels);
    assert!(reading.asked.is_ok(), "{labels:?}: {reading:?}");
    let short = |problem: Problem| (problem.code, problem.label.unwrap()[labels::PREFIX.len()..].to_owned());
    reading.warnings.into_iter().map(short).collect()
}

fn no_effect(labels: &[&str]) -> Vec<(Code, String)> {
    labels.iter().map(|label| (Code::NoEffect, (*label).to_owned())).collect()
}

/// Each value is accepted and says this, in the form of a manifest, and none of the bad ones is accepted.
fn table(with: &[(&str, &str)], label: &str, good: &[(&str, Value)], bad: &[&str]) {
    for (value, says) in good {
        let options = options(&[with, &[(label, *value)]].concat());
        let without = serde_json::to_value(self::options(with)).unwrap();
        let mut written = serde_json::to_value(options).unwrap();
        // What the others say is not repeated.
        subtract(&mut written, &without);
        assert_eq!(written, *says, "{label}={value:?}");
    }
    for value in bad {
        let refused = reading(&[with, &[(label, *value)]].concat()).asked;
        let problems = refused.expect_err(&format!("{label}={value:?} is refused"));
        for problem in problems {
            assert_eq!(problem.code, Code::BadOption, "{label}={value:?}");
            assert_eq!(problem.label.unwrap(), format!("{}{label}", labels::PREFIX));
            assert!(problem.allowed.is_some(), "{label}={value:?}");
        }
    }
    assert_eq!(options(&[with, &[(label, " ")]].concat()), options(with), "{label}: empty is the same as absent");
}

fn subtract(value: &mut Value, other: &Value) {
    let (Value::Object(fields), Value::Object(others)) = (value, other) else { return };
    for (key, other) in others {
        let Some(field) = fields.get_mut(key) else { continue };
        subtract(field, other);
        if field == other || *field == json!({}) {
            fields.remove(key);
        }
    }
}

// === One by one ===

#[test]
fn context_roots_are_paths() {
    let good = [
        ("/", json!({})),
        ("/app", json!({ "context_root": "/app" })),
        (" /app/ ", json!({ "context_root": "/app" })),
        ("/a/b", json!({ "context_root": "/a/b" })),
    ];
    table(&[], "context_root", &good, &["app", "/a//b", "/a b", "/..", "/a?b", "/a*"]);
    let root = ("context_root", "/app");
    let rewrite = |value: bool| json!({ "route": { "context_root_rewrite": value } });
    let good = [("true", rewrite(true)), ("1", rewrite(true)), ("False", rewrite(false))];
    table(&[root], "context_root_rewrite", &good, &["yes", "on", "2"]);
}

#[test]
fn secrets_make_tls() {
    let tls = |certificate: &str, key: &str| json!({ "host": { "tls": { "terminate": { "certificate": certificate, "key": key } } } });
    let good = [
        ("app.cert", tls("app.cert", "app.cert")),
        (" demo_app.example.org.cert ", tls("demo_app.example.org.cert", "demo_app.example.org.cert")),
    ];
    let long = "a".repeat(65);
    table(&[], "ssl_cert", &good, &["a b", "../a", "a;b", "/run/secrets/a", &long]);
    let with = options(&[CERT, ("ssl_key", "app.key"), ("client_ca_cert", "ca")]).host.tls;
    let name = |text: &str| text.parse().unwrap();
    let expected = Tls::Terminate { certificate: name("app.cert"), key: name("app.key"), client_ca: Some(name("ca")) };
    assert_eq!(with, Some(expected));
    table(&[CERT], "ssl_key", &[], &["a b", "a/b"]);
    table(&[CERT], "client_ca_cert", &[], &["a b", "a/b"]);
    table(
        &[],
        "ssl_passthrough",
        &[("true", json!({ "host": { "tls": "passthrough" } })), ("0", json!({}))],
        &["yes", "on"],
    );
}

#[test]
fn secrets_are_named_as_the_labels_say() {
    let options = options(&[CERT, ("ssl_key", "app.key"), ("client_ca_cert", "ca"), ("basic_auth", "users")]);
    let names: Vec<&str> = options.secrets().into_iter().map(model::values::SecretName::as_str).collect();
    assert_eq!(names, ["app.cert", "app.key", "ca", "users"]);
}

#[test]
fn tls_only_is_a_boolean() {
    let only = |value: bool| json!({ "host": { "ssl_only": value } });
    table(&[CERT], "ssl_only", &[("true", only(true)), ("f", only(false))], &["yes", "443"]);
    table(&[PASSTHROUGH], "ssl_only", &[("true", only(true))], &["yes"]);
    let hsts = |text: &str| json!({ "host": { "hsts": text } });
    let good = [("true", hsts("max-age=31536000")), ("60; preload", hsts("max-age=60; preload"))];
    table(&[CERT], "hsts", &good, &["false", "1y", "60; includeSubDomains; x"]);
}

#[test]
fn tls_to_the_application_is_verified_unless_none_is_said() {
    table(
        &[],
        "ssl_backend",
        &[("true", json!({ "route": { "backend_tls": "verified" } })), ("false", json!({}))],
        &["yes"],
    );
    let backend = ("ssl_backend", "true");
    for (word, meaning) in [
        ("none", BackendTls::Unverified),
        ("None", BackendTls::Unverified),
        ("required", BackendTls::Verified),
        ("", BackendTls::Verified),
    ] {
        let options = options(&[backend, ("ssl_backend_tls_verify", word)]);
        assert_eq!(options.route.backend_tls, Some(meaning), "{word:?}");
    }
    table(&[backend], "ssl_backend_tls_verify", &[], &["false", "optional", "off", "true"]);
}

#[test]
fn redirects_are_pairs_whose_source_is_a_host_of_the_service() {
    let to = |pairs: &[(&str, &str)]| {
        let pairs: BTreeMap<&str, &str> = pairs.iter().copied().collect();
        json!({ "host": { "redirects": pairs } })
    };
    let good = [
        ("http://old.local,http://new.local;", to(&[("old.local", "http://new.local")])),
        ("http://old.local,https://new.local:8443/base/", to(&[("old.local", "https://new.local:8443/base")])),
        (
            " http://old.local , https://a.local ;\thttps://A.local:8080/ , http://b.local",
            to(&[("old.local", "https://a.local"), ("a.local", "http://b.local")]),
        ),
        ("http://a.local,https://a.local", to(&[("a.local", "https://a.local")])),
        ("http://old.local,http://n.local;https://old.local,http://n.local", to(&[("old.local", "http://n.local")])),
    ];
    let bad = [
        "http://old.local",
        "old.local,http://new.local",
        "ftp://old.local,http://new.local",
        "http://old.local/a\nb,http://new.local",
        "http://old.local?a,http://new.local",
        "http://old.local,http://new.local?a",
        "http://old.local:x,http://new.local",
        "http://old.local:0,http://new.local",
        "http://old.local,new.local",
        "http://old.local,http://*.local",
        "http://old.local,http://new.local;;",
        "http://old.local,http://new.local;http://old.local,http://newer.local",
    ];
    table(&[], "redirects", &good, &bad);
    // What Interlock passed over keeps no service out.
    let other = "http://other.local,http://new.local";
    let path = "http://old.local/a/b?c,http://new.local";
    let both = format!("{other};{path}");
    let kept = to(&[("old.local", "http://new.local")]);
    table(&[], "redirects", &[(other, json!({})), (path, kept.clone()), (&both, kept)], &[]);
    for (value, count) in [(other, 1), (path, 1), (&*both, 2)] {
        assert_eq!(warned(&[("redirects", value)]), no_effect(&["redirects", "redirects"][..count]), "{value}");
    }
    let warnings = reading(&[("redirects", &"http://other.local,http://b.local;".repeat(5000))]).warnings;
    assert_eq!((warnings.len(), warnings[NAMED].code), (NAMED + 1, Code::NoEffect));
    assert!(warnings[NAMED].message.starts_with("4980 more of its items"), "{}", warnings[NAMED]);
    let wildcard = [("hosts", "*.old.org"), ("redirects", "http://*.old.org,https://new.org")];
    assert_eq!(options(&wildcard).host.redirects.len(), 1);
    // Which host is meant cannot be known while one does not read.
    let problems = reading(&[("hosts", "a.local,ol$d.local"), ("redirects", "http://old.local,http://b.local")]).asked;
    let codes: Vec<Code> = problems.unwrap_err().into_iter().map(|problem| problem.code).collect();
    assert_eq!(codes, [Code::BadHost]);
}

#[test]
fn paths_of_web_sockets_change_nothing() {
    let label = "websocket_endpoints";
    table(&[], label, &[("/ws,/foo", json!({})), ("/", json!({})), (" /ws , /foo/,", json!({}))], &[]);
    assert_eq!(warned(&[(label, "/ws,/foo")]), []);
    for odd in ["ws", "/ws,,/foo", "/ws;/foo", "/ws*"] {
        assert_eq!(warned(&[(label, odd)]), no_effect(&[label]), "{odd}");
    }
}

#[test]
fn clients_stay_by_cookie_or_address() {
    let cookie = |name: &str| json!({ "route": { "sticky": { "cookie": name } } });
    table(
        &[],
        "sticky_session_cookie",
        &[("session", cookie("session")), ("JSESSIONID", cookie("JSESSIONID"))],
        &["a b", "a=b", "a;"],
    );
    table(
        &[],
        "ip_hash",
        &[("true", json!({ "route": { "sticky": "client_address" } })), ("false", json!({}))],
        &["yes"],
    );
}

#[test]
fn failures_times_and_weights_have_bounds() {
    let server = |field: &str, value: Value| json!({ "server": { field: value } });
    let seconds = |seconds: u64| json!({ "secs": seconds, "nanos": 0 });
    let weight = [("1", server("weight", json!(1))), ("1000", server("weight", json!(1000)))];
    table(&[], "weight", &weight, &["0", "1001", "-1", "+1", "1.5", "20%"]);
    let fails = [("0", server("max_fails", json!(0))), ("1000000", server("max_fails", json!(1_000_000)))];
    table(&[], "max_fails", &fails, &["-1", "1000001", "x", "99999999999999999999"]);
    let timeouts = [
        ("10s", server("fail_timeout", seconds(10))),
        ("1m30s", server("fail_timeout", seconds(90))),
        ("10", server("fail_timeout", seconds(10))),
        ("1000ms", server("fail_timeout", seconds(1))),
        ("1d", server("fail_timeout", seconds(86_400))),
    ];
    table(&[], "fail_timeout", &timeouts, &["0", "500ms", "1500ms", "25h", "1w", "ten", "1 0"]);
    let route = |nanoseconds: u64| json!({ "route": { "timeout": { "secs": 1, "nanos": nanoseconds } } });
    table(&[], "timeout", &[("1s", route(0)), ("1500ms", route(500_000_000))], &["0", "999ms", "25h", "-1s"]);
    assert_eq!(options(&[("timeout", "1d")]).route.timeout, Some(Duration::from_secs(86_400)));
}

#[test]
fn clients_are_bounded() {
    let route = |field: &str, value: Value| json!({ "route": { field: value } });
    let size = [("32m", route("max_body_size", json!(33_554_432))), ("0", route("max_body_size", json!(0)))];
    table(&[], "max_body_size", &size, &["1t", "-1", "1.5m", "m", "99999999999g"]);
    for label in ["allow", "deny"] {
        let good = [
            ("10.0.0.0/8, 192.0.2.1,", route(label, json!(["10.0.0.0/8", "192.0.2.1/32"]))),
            ("fd00::/8", route(label, json!(["fd00::/8"]))),
        ];
        table(&[], label, &good, &["10.0.0.0/33", "all", "unix:", "10.0.0.1,,10.0.0.2", "10.0.0.1 10.0.0.2", ","]);
        let list = |count: usize| {
            let items: Vec<String> = (0..count).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
            items.join(",")
        };
        let (most, many) = (list(1000), list(1001));
        assert!(reading(&[(label, &most)]).asked.is_ok());
        let refused = problems(&[(label, &many)]);
        assert!(refused[0].contains("names 1001 networks"), "{refused:?}");
        // Bad ones are counted, as bad hosts are.
        let bad = "x,".repeat(5000);
        let refused = problems(&[(label, &bad)]);
        assert_eq!(refused.len(), NAMED + 1);
        assert!(refused[NAMED].contains("4980 more of its items are no networks"), "{}", refused[NAMED]);
    }
    table(&[], "basic_auth", &[("users", route("basic_auth", json!("users")))], &["a b", "user:password"]);
    let rate = [
        ("10r/s", route("rate_limit", json!("10r/s"))),
        ("30r/m, burst=5", route("rate_limit", json!("30r/m,burst=5"))),
    ];
    table(&[], "rate_limit", &rate, &["10", "10r/h", "0r/s", "10r/s,delay=1"]);
}

#[test]
fn problems_say_where_what_and_what_else() {
    for (labels, message) in [
        (vec![("weight", "0")], r#"com.docker.lb.weight="0": is no weight (allowed: a number from 1 to 1000)"#),
        (
            vec![("fail_timeout", "500ms")],
            r#"com.docker.lb.fail_timeout="500ms": is no time (allowed: whole seconds such as 10s, 1m30s or 10, from 1s to 1d)"#,
        ),
        (
            vec![("client_ca_cert", "ca")],
            r#"com.docker.lb.client_ca_cert="ca": has no meaning without ssl_cert (allowed: with ssl_cert, or not at all)"#,
        ),
        (
            vec![CERT, PASSTHROUGH, ("client_ca_cert", "ca")],
            r#"com.docker.lb.client_ca_cert="ca": clients cannot be kept out with ssl_passthrough (allowed: with ssl_cert, or not at all)"#,
        ),
        (
            vec![("redirects", "http://old.local,http://new.local/?a")],
            r#"com.docker.lb.redirects="http://old.local,http://new.local/?a": the target is not possible; possible is http:// or https://, a host name, and perhaps a port and a path, such as https://new.example.org (allowed: pairs of source and target such as http://old.example.org,https://new.example.org, separated by semicolons)"#,
        ),
        (
            vec![("allow", "10.0.0.0/8,all")],
            r#"com.docker.lb.allow="all": is no network (allowed: addresses and networks, separated by commas, such as 10.0.0.0/8, fd00::/8; at most 1000)"#,
        ),
    ] {
        assert_eq!(problems(&labels), [message]);
    }
}

#[test]
fn every_problem_of_the_options_is_told_at_once() {
    let labels =
        [("context_root", "x"), ("ssl_cert", "/"), ("hsts", "x"), ("weight", "x"), ("allow", "x,y"), ("ip_hash", "x")];
    let mut told: Vec<String> = reading(&labels)
        .asked
        .unwrap_err()
        .into_iter()
        .map(|problem| problem.label.unwrap()[labels::PREFIX.len()..].to_owned())
        .collect();
    told.sort();
    assert_eq!(told, ["allow", "allow", "context_root", "hsts", "ip_hash", "ssl_cert", "weight"]);
    // And nothing is said of effects while TLS does not read.
    assert_eq!(reading(&labels).warnings, []);
}

// === Together ===

#[test]
fn an_authority_needs_a_certificate() {
    for labels in [
        vec![("client_ca_cert", "c")],
        vec![("ssl_key", "k"), ("client_ca_cert", "c")],
        vec![PASSTHROUGH, ("client_ca_cert", "c")],
        vec![PASSTHROUGH, CERT, ("ssl_key", "k"), ("client_ca_cert", "c")],
    ] {
        let problems = reading(&labels).asked.unwrap_err();
        let told: Vec<_> = problems.iter().map(|problem| (problem.code, problem.label.as_deref().unwrap())).collect();
        assert_eq!(told, [(Code::InconsistentOptions, labels::CLIENT_CA_CERT)], "{labels:?}");
    }
    assert!(options(&[CERT, ("ssl_passthrough", "false")]).host.tls.is_some());
}

#[test]
fn certificates_and_keys_that_interlock_passed_over_are_left_out_with_a_warning() {
    for (labels, left_out, without) in [
        (&[("ssl_key", "k")][..], &["ssl_key"][..], &[][..]),
        (&[PASSTHROUGH, CERT], &["ssl_cert"], &[PASSTHROUGH]),
        (&[PASSTHROUGH, ("ssl_key", "k")], &["ssl_key"], &[PASSTHROUGH]),
        (&[PASSTHROUGH, CERT, ("ssl_key", "k")], &["ssl_cert", "ssl_key"], &[PASSTHROUGH]),
    ] {
        assert_eq!(warned(labels), no_effect(left_out), "{labels:?}");
        assert_eq!(options(labels), options(without), "{labels:?}");
        assert!(options(labels).secrets().is_empty(), "{labels:?}");
    }
}

#[test]
fn what_passthrough_cannot_do_is_left_out_with_a_warning() {
    let labels = [
        PASSTHROUGH,
        ("context_root", "/app"),
        ("context_root_rewrite", "true"),
        ("sticky_session_cookie", "s"),
        ("hsts", "true"),
        ("rate_limit", "1r/s"),
        ("max_body_size", "1m"),
        ("timeout", "5s"),
        ("ssl_backend", "true"),
        ("ssl_backend_tls_verify", "none"),
    ];
    let left_out = [
        "sticky_session_cookie",
        "context_root",
        "context_root_rewrite",
        "hsts",
        "ssl_backend",
        "timeout",
        "max_body_size",
        "rate_limit",
    ];
    assert_eq!(warned(&labels), no_effect(&left_out));
    assert_eq!(options(&labels), options(&[PASSTHROUGH]));
    assert!(options(&labels).secrets().is_empty());
    let kept = [
        PASSTHROUGH,
        ("ip_hash", "true"),
        ("sticky_session_cookie", "s"),
        ("ssl_only", "true"),
        ("weight", "5"),
        ("max_fails", "3"),
    ];
    assert_eq!(warned(&kept), no_effect(&["sticky_session_cookie"]));
    let options = options(&kept);
    assert_eq!(options.route.sticky, Some(Sticky::ClientAddress));
    assert_eq!((options.host.ssl_only, options.server.weight), (Some(true), Some(5)));
    for (label, value) in [("allow", "10.0.0.0/8"), ("deny", "10.0.0.0/8"), ("basic_auth", "users")] {
        let problems = reading(&[PASSTHROUGH, (label, value)]).asked.unwrap_err();
        assert_eq!((problems.len(), problems[0].code), (1, Code::InconsistentOptions), "{label}");
    }
}

#[test]
fn what_needs_tls_is_left_out_without() {
    let labels = [("ssl_only", "true"), ("hsts", "true")];
    assert_eq!(warned(&labels), no_effect(&["ssl_only", "hsts"]));
    assert_eq!(options(&labels), Options::default());
    assert_eq!(warned(&[("ssl_only", "false")]), []);
    assert_eq!(warned(&[CERT, ("ssl_only", "true"), ("hsts", "true")]), []);
}

#[test]
fn lesser_labels_are_left_out_with_a_warning() {
    assert_eq!(warned(&[("context_root_rewrite", "true")]), no_effect(&["context_root_rewrite"]));
    assert_eq!(
        warned(&[("context_root", "/"), ("context_root_rewrite", "true")]),
        no_effect(&["context_root_rewrite"])
    );
    assert_eq!(options(&[("context_root_rewrite", "false")]), Options::default());
    for word in ["none", "false"] {
        for backend in [&[][..], &[("ssl_backend", "false")]] {
            let labels = [backend, &[("ssl_backend_tls_verify", word)]].concat();
            assert_eq!(warned(&labels), no_effect(&["ssl_backend_tls_verify"]), "{labels:?}");
        }
    }
    let both = [("sticky_session_cookie", "s"), ("ip_hash", "true")];
    assert_eq!(warned(&both), no_effect(&["ip_hash"]));
    assert_eq!(options(&both).route.sticky, Some(Sticky::Cookie("s".parse().unwrap())));
}

#[test]
fn in_vip_mode_servers_have_no_options() {
    let labels = [VIP, ("max_fails", "3"), ("fail_timeout", "5s"), ("sticky_session_cookie", "s"), ("weight", "20")];
    let mut expected = vec![(Code::StickyInVip, "sticky_session_cookie".to_owned())];
    expected.extend(no_effect(&["max_fails", "fail_timeout"]));
    assert_eq!(warned(&labels), expected);
    assert_eq!(options(&labels), options(&[VIP, ("weight", "20")]));
    assert_eq!(options(&labels).server.weight, Some(20));
}

#[test]
fn unknown_labels_are_a_warning_with_the_nearest_name() {
    let reading = reading(&[("ssl_certs", "a"), ("zzz", "b\nc")]);
    assert!(reading.asked.is_ok());
    let told: Vec<String> = reading.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            r#"com.docker.lb.ssl_certs="a": nobody knows this label, so it changes nothing; is it meant to be com.docker.lb.ssl_cert?"#,
            r#"com.docker.lb.zzz="b\nc": nobody knows this label, so it changes nothing"#,
        ]
    );
    let refused = read_labels(&[("hosts", "$"), ("prot", "80")]).unwrap();
    assert_eq!((refused.asked.unwrap_err().len(), refused.warnings.len()), (2, 1));
    assert_eq!(read_labels(&[("host", "a.local"), ("port", "80")]), None, "it does not ask to be routed");
}

#[test]
fn unknown_labels_make_bounded_warnings() {
    let mut service = service("web").labels(&BASE).build();
    for number in 0..1000 {
        service.labels.insert(format!("{}x{number}{}", labels::PREFIX, "é".repeat(1000)), "y".repeat(1000));
    }
    let warnings = read(&service).unwrap().warnings;
    assert_eq!(warnings.len(), NAMED + 1);
    assert!(warnings.iter().all(|warning| warning.to_string().len() < 1000));
    assert!(warnings[NAMED].message.starts_with("980 more labels"), "{}", warnings[NAMED].message);
}

// === Strangers ===

#[test]
fn every_label_has_a_value_that_it_takes_without_a_word() {
    let known: BTreeSet<String> =
        labels::ROUTING.iter().map(|label| label[labels::PREFIX.len()..].to_owned()).collect();
    assert_eq!(GOOD.iter().map(|(label, ..)| (*label).to_owned()).collect::<BTreeSet<_>>(), known);
    for (label, value, with) in GOOD {
        let reading = reading(&[with, &[(label, value)]].concat());
        assert!(reading.asked.is_ok() && reading.warnings.is_empty(), "{label}: {reading:?}");
    }
}

#[test]
fn nothing_gets_through_that_a_proxy_file_could_read_otherwise() {
    let long = "a".repeat(100_000);
    let attempts = [
        "\"",
        "'",
        "`",
        "{",
        "}",
        "{}",
        "\n",
        "\r\n",
        "\u{85}",
        "\u{2028}",
        "$",
        "$host",
        "${host}",
        "#",
        "\\",
        "\0",
        "\u{1b}[2J",
        "ä",
        "８",
        " a",
        ";}",
        "; deny all; #",
        "\";}\nserver{listen 1;}#",
        "%0a",
        "<",
        "|",
        "()",
        "*",
        "~ .*",
        &long,
    ];
    for (label, good, with) in GOOD {
        for attempt in attempts {
            for value in [attempt.to_owned(), format!("{good}{attempt}"), format!("{attempt}{good}")] {
                let reading = reading(&[with, &[(label, &value)]].concat());
                let complaints: Vec<&Problem> =
                    reading.asked.as_ref().err().into_iter().flatten().chain(&reading.warnings).collect();
                assert!(complaints.iter().all(|problem| problem.to_string().len() < 1000), "{label}={attempt:?}");
                // A line break at the end is not part of the value.
                if let Some(line) = value.strip_suffix("\n") {
                    let line = line.strip_suffix('\r').unwrap_or(line);
                    let same = self::reading(&[with, &[(label, line)]].concat());
                    assert_eq!((&reading.asked, &reading.warnings), (&same.asked, &same.warnings), "{label}={value:?}");
                    continue;
                }
                match &reading.asked {
                    // The only two texts, which are compared with names and written nowhere; and what changes nothing.
                    Ok(request) if matches!(label, "network" | "service_cluster" | "websocket_endpoints") => {
                        assert_eq!(request.options, Options::default());
                    }
                    Ok(request) => {
                        // An "a" before is another value of the label's type, and read back the same.
                        let written = serde_json::to_string(&request.options).unwrap();
                        assert_eq!(serde_json::from_str::<Options>(&written).unwrap(), request.options);
                        assert!(
                            [" a", "*", &long].contains(&attempt),
                            "{label}={value:.100?} is {:?}",
                            request.options
                        );
                    }
                    Err(problems) => {
                        let place = format!("{}{label}", labels::PREFIX);
                        assert!(problems.iter().any(|p| p.label.as_deref() == Some(&*place)), "{label}={value:.100?}");
                    }
                }
            }
        }
    }
}
