use std::fmt::Write as _;

use model::{BackendMode, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::sample::{contribution, options};

/// Services, the oldest first: name, hosts, and options in the form of a manifest.
fn services(all: Vec<(&str, &str, Value)>) -> Contributions {
    let contribution = |(age, (name, hosts, said)): (usize, (&str, &str, Value))| {
        let from = contribution(name, hosts, BackendMode::Task, "n1", "10.0.0.1:80");
        let from = Contribution { created_at: Timestamp(age as i64), options: options(said), ..from };
        (ServiceId::new(name), Arc::new(from))
    };
    all.into_iter().enumerate().map(contribution).collect()
}

fn shown(contributions: &Contributions) -> String {
    let groups = Groups::of(contributions);
    let mut text = String::new();
    let of_hosts = groups.hosts.iter().filter(|(host, group)| *host == group.first_host()).map(|(_, group)| group);
    for group in of_hosts.chain(&groups.default_backend) {
        let Group { hosts, tls, passthrough, ssl_only, hsts, redirect, routes } = &**group;
        let mut said = vec![format!("{hosts:?}")];
        said.extend(tls.iter().map(|tls| format!("tls {}", json!(tls))));
        said.extend(ssl_only.then(|| "TLS only".to_owned()));
        said.extend(hsts.iter().map(|hsts| format!("hsts {hsts}")));
        said.extend(redirect.iter().map(|to| format!("redirected to {to}")));
        let _ = writeln!(text, "{}", said.join(", "));
        if !passthrough.is_empty() {
            let _ = writeln!(text, "  passed through to {passthrough:?}");
        }
        for Route { path, options, services } in routes {
            let options = json!(options).to_string().replace("{}", "");
            let _ = writeln!(text, "{}", format!("  {path} -> {services:?} {options}").trim_end());
        }
    }
    for (id, problem) in groups.warnings.iter().flat_map(|(id, told)| told.iter().map(move |problem| (id, problem))) {
        let leads_back = problem.message.contains("it leads back");
        assert_eq!(problem.code, if leads_back { Code::NoEffect } else { Code::Conflict });
        let _ = writeln!(text, "{id}: {problem}");
    }
    text
}

#[test]
fn options_come_from_the_oldest_that_says_something_those_of_a_path_from_the_oldest_on_the_path() {
    let all = services(vec![
        ("silent", "shop.local", json!({})),
        (
            "old",
            "shop.local",
            json!({"host": {"hsts": "600", "tls": {"terminate": {"certificate": "old.cert", "key": "old.key"}}}, "route": {"max_body_size": 1}}),
        ),
        ("api", "shop.local", json!({"context_root": "/api", "route": {"max_body_size": 2, "allow": ["10.0.0.0/8"]}})),
        (
            "new",
            "shop.local",
            json!({"host": {"hsts": "700", "ssl_only": true, "tls": {"terminate": {"certificate": "new.cert", "key": "new.key"}}},
                   "route": {"max_body_size": 3, "sticky": {"cookie": "session"}}}),
        ),
        ("agrees", "shop.local", json!({"host": {"hsts": "600"}, "route": {"max_body_size": 1}})),
    ]);
    insta::assert_snapshot!(shown(&all), @r#"
    {shop.local}, tls {"terminate":{"certificate":"old.cert","key":"old.key"}}, TLS only, hsts max-age=600
      / -> [silent, old, new, agrees] {"max_body_size":1,"sticky":{"cookie":"session"}}
      /api -> [api] {"allow":["10.0.0.0/8"],"max_body_size":2}
    new: com.docker.lb.hsts has no effect on shop.local: the older service old says something else
    new: com.docker.lb.max_body_size has no effect on shop.local: the older service old says something else
    new: com.docker.lb.ssl_cert has no effect on shop.local: the older service old says something else
    "#);
}

#[test]
fn a_conflict_is_told_once_a_label_with_the_number_of_hosts() {
    let hosts = "a.local,b.local,c.local";
    let all = services(vec![
        ("old", hosts, json!({"route": {"timeout": {"secs": 1, "nanos": 0}, "rate_limit": "1r/s"}})),
        (
            "new",
            &format!("{hosts},d.local"),
            json!({"route": {"timeout": {"secs": 2, "nanos": 0}, "rate_limit": "2r/s"}}),
        ),
        ("fallback", "", json!({"context_root": "/x", "route": {"max_body_size": 1}})),
        ("later", "", json!({"context_root": "/x", "route": {"max_body_size": 2}})),
    ]);
    insta::assert_snapshot!(shown(&all), @r#"
    {a.local, b.local, c.local}
      / -> [old, new] {"rate_limit":"1r/s","timeout":{"nanos":0,"secs":1}}
    {d.local}
      / -> [new] {"rate_limit":"2r/s","timeout":{"nanos":0,"secs":2}}
    {}
      /x -> [fallback, later] {"max_body_size":1}
    later: com.docker.lb.max_body_size has no effect for the default backend at /x: the older service fallback says something else
    new: com.docker.lb.rate_limit has no effect on a.local: the older service old says something else (and on 2 more)
    new: com.docker.lb.timeout has no effect on a.local: the older service old says something else (and on 2 more)
    "#);
}

#[test]
fn hosts_with_the_same_answer_are_one_group_and_one_redirected_to_itself_is_alone() {
    let redirects = json!({"a.local": "https://b.local", "b.local": "https://b.local", "c.local": "https://b.local", "d.local": "http://e.local"});
    let all = services(vec![
        ("app", "a.local,b.local,c.local,d.local,e.local,f.local", json!({"host": {"redirects": redirects}})),
        ("more", "f.local", json!({})),
    ]);
    insta::assert_snapshot!(shown(&all), @r"
    {a.local, c.local}, redirected to https://b.local
      / -> [app]
    {b.local}, redirected to https://b.local
      / -> [app]
    {d.local}, redirected to http://e.local
      / -> [app]
    {e.local}
      / -> [app]
    {f.local}
      / -> [app, more]
    ");
}

#[test]
fn whoever_redirects_a_host_to_where_its_requests_are_is_told() {
    let tls = json!({"terminate": {"certificate": "a.cert", "key": "a.key"}});
    let to = |host: &str, to: &str| json!({ host: to });
    let all = services(vec![
        ("other-port", "a.local", json!({"host": {"redirects": to("a.local", "http://a.local:8080/x")}})),
        ("the-same", "a.local", json!({"host": {"redirects": to("a.local", "http://a.local:8080/x")}})),
        ("silent", "a.local", json!({})),
        ("to-tls", "b.local", json!({"host": {"tls": tls, "redirects": to("b.local", "https://b.local")}})),
        ("to-plain", "c.local", json!({"host": {"tls": tls, "redirects": to("c.local", "http://c.local")}})),
        (
            "tls-only",
            "d.local,e.local",
            json!({"host": {"tls": tls, "ssl_only": true, "redirects": {"d.local": "http://d.local", "e.local": "http://e.local"}}}),
        ),
    ]);
    let shown = shown(&all);
    let told: Vec<&str> = shown.lines().filter(|line| line.contains("lb.redirects")).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    other-port: com.docker.lb.redirects has no effect on a.local: it leads back to where the request is, whatever the port
    the-same: com.docker.lb.redirects has no effect on a.local: it leads back to where the request is, whatever the port
    tls-only: com.docker.lb.redirects has no effect on d.local: it leads back to where the request is, whatever the port (and on 1 more)
    ");
}

#[test]
fn what_is_of_tls_counts_with_tls_only() {
    let all = services(vec![
        ("plain", "plain.local", json!({"host": {"hsts": "600", "ssl_only": true}})),
        ("passed", "passed.local", json!({"host": {"hsts": "600", "ssl_only": true, "tls": "passthrough"}})),
        // Beside one whose bytes are passed through, others answer plain HTTP.
        ("beside", "passed.local", json!({"context_root": "/x"})),
        ("young", "passed.local", json!({"host": {"tls": "passthrough"}})),
    ]);
    insta::assert_snapshot!(shown(&all), @r#"
    {passed.local}, tls "passthrough", TLS only
      passed through to [passed, young]
      /x -> [beside]
    {plain.local}
      / -> [plain]
    "#);
}

#[test]
fn the_younger_of_two_who_want_tls_in_different_ways_is_refused() {
    let terminate = || json!({"host": {"tls": {"terminate": {"certificate": "a.cert", "key": "a.key"}}}});
    let pass = || json!({"host": {"tls": "passthrough"}});
    let split = |all| {
        let refused: Vec<String> =
            split_over_tls(&services(all)).into_iter().map(|(id, problem)| format!("{id}: {problem}")).collect();
        refused.join("\n")
    };
    insta::assert_snapshot!(split(vec![
        ("silent", "a.local", json!({})),
        ("ends", "a.local,b.local", terminate()),
        ("passes", "c.local", pass()),
        ("too-late", "c.local,d.local", terminate()),
        // What is refused claims nothing.
        ("passes-too", "d.local,b.local", pass()),
        ("free", "d.local", pass()),
        ("default", "", pass()),
        ("default-too", "", terminate()),
        ("alike", "a.local", terminate()),
    ]), @r"
    too-late: com.docker.lb.ssl_cert does not go with the older service passes, which has its TLS passed through on c.local
    passes-too: com.docker.lb.ssl_passthrough does not go with the older service ends, which has its TLS ended by the proxy on b.local
    default-too: com.docker.lb.ssl_cert does not go with the older service default, which has its TLS passed through for the default backend
    ");
}
