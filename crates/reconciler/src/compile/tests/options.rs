//! What is decided about options, and who may claim what.

use model::labels;
use serde_json::{Value, json};

use super::*;
use crate::sample::{options, secrets};
use crate::{ClaimRule, Claims};

fn asking(service: Service, said: Value) -> Service {
    with(service, |service| request(service).options = options(said))
}

fn tls(certificate: &str) -> Value {
    json!({"host": {"tls": {"terminate": {"certificate": certificate, "key": "app.key"}}}})
}

/// Verdicts, problems and warnings in words.
fn told(compiled: &Compiled) -> String {
    let mut text = String::new();
    for (id, about) in &compiled.report.services {
        let reason = match &about.verdict {
            Verdict::Routed { reason } => format!(" ({reason})"),
            _ => String::new(),
        };
        let _ = writeln!(text, "{id}: {}{reason}", about.verdict.as_str());
        for problem in about.problems.iter().chain(&about.warnings) {
            let _ = writeln!(text, "  {}: {problem}", problem.code);
        }
    }
    text
}

#[test]
fn a_secret_that_is_not_there_keeps_its_service_out_and_one_that_was_served_as_it_was() {
    let app = |name: &str, certificate| {
        asking(vip_service(name, &format!("{name}.local"), "n1", "10.0.0.9"), tls(certificate))
    };
    let in_stack = |service| with(service, |service| service.stack = Some("shop".into()));
    let mut desired = desired([
        app("good", "app.cert"),
        app("missing", "gone.cert"),
        in_stack(app("stacked", "stacked.cert")),
        in_stack(app("rotating", "next.cert")),
        vip_service("neighbour", "missing.local", "n1", "10.0.0.8"),
    ]);
    desired.secrets = secrets(["app.cert", "app.key", "shop_stacked.cert"].map(|name| name.parse().unwrap()));
    let served = Contribution {
        options: options(tls("shop_old.cert")),
        secrets: [("shop_old.cert", "old-id"), ("app.key", "id-app.key")]
            .map(|(name, id)| (name.parse().unwrap(), id.into()))
            .into(),
        ..contribution("rotating", "rotating.local", BackendMode::Vip, "n1", "10.0.0.9:8080")
    };
    let compiled = compile(&desired, &live(&[("rotating", served.clone())], vec![]), &settings());
    insta::assert_snapshot!(told(&compiled), @r#"
    good: routed (a task has run)
    missing: refused
      unknown_secret: com.docker.lb.ssl_cert="gone.cert": there is no gone.cert among the secrets of the swarm (allowed: the name of a secret that exists, with or without the prefix of the service's stack)
    neighbour: routed (a task has run)
    rotating: routed (a task has run, with the options it had before)
      unknown_secret: com.docker.lb.ssl_cert="next.cert": there is neither next.cert nor shop_next.cert among the secrets of the swarm (allowed: the name of a secret that exists, with or without the prefix of the service's stack)
    stacked: routed (a task has run)
    "#);
    let spec = &compiled.specs[&main_cluster()];
    assert_eq!(check(spec), Ok(()));
    assert_eq!(*spec.contributions[&ServiceId::new("rotating")], served);
    insta::assert_snapshot!(format!("{:?}", spec.secrets), @r"
    {app.cert: id-app.cert, app.key: id-app.key, shop_old.cert: old-id, shop_stacked.cert: id-shop_stacked.cert}
    ");

    // Once it is there, it is used.
    desired.secrets.insert("shop_next.cert".parse().unwrap(), "next-id".into());
    let compiled = compile(&desired, &live(&[("rotating", served)], vec![]), &settings());
    let spec = &compiled.specs[&main_cluster()];
    assert_eq!(spec.secrets[&"shop_next.cert".parse().unwrap()].as_str(), "next-id");
    assert!(!spec.secrets.contains_key(&"shop_old.cert".parse().unwrap()));
    assert_eq!(compiled.report.services[&ServiceId::new("rotating")].problems, []);
}

#[test]
fn whoever_asks_for_tls_where_no_port_is_published_for_it_is_told() {
    let mut settings = settings();
    let desired = || {
        let mut desired = desired([
            asking(vip_service("ends", "ends.local", "n1", "10.0.0.9"), tls("app.cert")),
            asking(vip_service("passes", "passes.local", "n1", "10.0.0.8"), json!({"host": {"tls": "passthrough"}})),
            vip_service("plain", "plain.local", "n1", "10.0.0.7"),
        ]);
        desired.secrets = secrets(["app.cert", "app.key"].map(|name| name.parse().unwrap()));
        desired
    };
    let warned = |settings: &Settings| {
        let compiled = compile(&desired(), &nothing_published(), settings);
        let warned = compiled.report.services.into_iter().filter(|(_, about)| !about.warnings.is_empty());
        warned.map(|(id, about)| format!("{id}: {}", about.warnings[0])).collect::<Vec<_>>()
    };
    assert_eq!(warned(&settings), [""; 0]);
    settings.clusters.get_mut(&main_cluster()).unwrap().nginx.published_https = None;
    let message = "it asks for TLS, and the proxies of main publish no port for HTTPS";
    assert_eq!(warned(&settings), [format!("ends: {message}"), format!("passes: {message}")]);
}

#[test]
fn the_younger_of_two_who_want_tls_in_different_ways_is_refused_and_others_stay() {
    let created = |at, service| with(service, |service| service.created_at = Timestamp(at));
    let pass = json!({"host": {"tls": "passthrough"}});
    let mut desired = desired([
        created(1, asking(vip_service("passes", "a.local", "n1", "10.0.0.9"), pass)),
        created(2, asking(vip_service("ends", "a.local,b.local", "n1", "10.0.0.8"), tls("app.cert"))),
        created(3, vip_service("silent", "a.local,b.local", "n1", "10.0.0.7")),
    ]);
    desired.secrets = secrets(["app.cert", "app.key"].map(|name| name.parse().unwrap()));
    let compiled = compile(&desired, &nothing_published(), &settings());
    assert_eq!(check(&compiled.specs[&main_cluster()]), Ok(()));
    insta::assert_snapshot!(shown(&compiled), @r"
    main on {n1}
      {a.local} -> silent {10.0.0.7:8080}
      {a.local} passed through -> passes {10.0.0.9:8080}
      {b.local} -> silent {10.0.0.7:8080}
    ends: refused
      problem conflict
    passes: routed (a task has run)
    silent: routed (a task has run)
    ");
}

#[test]
fn huge_values_make_bounded_problems() {
    let huge = || "é\n".repeat(100_000);
    let rule = ClaimRule { hosts: ["mine.local".parse().unwrap()].into(), ..ClaimRule::default() };
    let settings = Settings { claims: Claims { rules: vec![rule] }, ..settings() };
    let compiled = compile(
        &desired([
            with(vip_service("nowhere", "n.local", "n1", "10.0.0.9"), |s| request(s).network = Some(huge())),
            with(vip_service("off", "o.local", "n1", "10.0.0.8"), |s| {
                s.networks.clear();
                request(s).network = Some(huge());
            }),
            with(vip_service("claims", "mine.local", "n1", "10.0.0.7"), |s| {
                s.stack = Some(huge());
                s.access_label = Some(huge());
            }),
            with(vip_service("stacked", "s.local", "n1", "10.0.0.6"), |s| s.stack = Some(huge())),
            vip_service("alone", "s.local", "n1", "10.0.0.5"),
            with(vip_service("elsewhere", "e.local", "n1", "10.0.0.4"), |s| request(s).service_cluster = huge()),
        ]),
        &nothing_published(),
        &settings,
    );
    for (id, about) in &compiled.report.services {
        let told: Vec<String> = about.problems.iter().chain(&about.warnings).map(ToString::to_string).collect();
        assert_eq!(told.len(), usize::from(id.as_str() != "elsewhere"), "{id}");
        let (told, verdict) = (told.concat(), format!("{:?}", about.verdict));
        assert!(told.len() < 2000 && verdict.len() < 2000, "{id}: {} and {}", told.len(), verdict.len());
    }
}

#[test]
fn services_of_different_stacks_on_one_host_are_told_of_each_other_unless_a_rule_lets_them() {
    let of = |stack: &str, service| with(service, |service: &mut Service| service.stack = Some(stack.into()));
    let services = || {
        [
            of("shop", vip_service("a", "one.local,two.local", "n1", "10.0.0.9")),
            of("shop", vip_service("b", "one.local", "n1", "10.0.0.8")),
            of("blog", vip_service("c", "one.local,two.local,alone.local", "n1", "10.0.0.7")),
            vip_service("d", "three.local", "n1", "10.0.0.6"),
            vip_service("e", "three.local", "n1", "10.0.0.5"),
            of("blog", vip_service("f", "", "n1", "10.0.0.4")),
            vip_service("g", "", "n1", "10.0.0.3"),
        ]
    };
    insta::assert_snapshot!(told(&compile(&desired(services()), &nothing_published(), &settings())), @r#"
    a: routed (a task has run)
      shared_host: one.local is also claimed by the service c of the stack "blog" (and 1 more like it)
    b: routed (a task has run)
      shared_host: one.local is also claimed by the service c of the stack "blog"
    c: routed (a task has run)
      shared_host: one.local is also claimed by the service a of the stack "shop" (and 1 more like it)
    d: routed (a task has run)
    e: routed (a task has run)
    f: routed (a task has run)
      shared_host: the default backend is also claimed by the service g of no stack
    g: routed (a task has run)
      shared_host: the default backend is also claimed by the service f of the stack "blog"
    "#);
    let rule = |hosts: &str, stacks: &str| ClaimRule {
        hosts: hosts.split(' ').map(|host| host.parse().unwrap()).collect(),
        stacks: stacks.split(' ').map(str::to_owned).collect(),
        ..ClaimRule::default()
    };
    let claims = Claims { rules: vec![rule("one.local", "shop blog"), rule("two.local", "shop")] };
    let settings = Settings { claims, ..settings() };
    insta::assert_snapshot!(told(&compile(&desired(services()), &nothing_published(), &settings)), @r#"
    a: routed (a task has run)
    b: routed (a task has run)
    c: refused
      claim_refused: com.docker.lb.hosts: the rule of the cluster for two.local does not let the stack "blog" claim two.local (allowed: services of the stacks shop)
    d: routed (a task has run)
    e: routed (a task has run)
    f: routed (a task has run)
      shared_host: the default backend is also claimed by the service g of no stack
    g: routed (a task has run)
      shared_host: the default backend is also claimed by the service f of the stack "blog"
    "#);
}

#[test]
fn a_label_that_the_administrator_lets_nobody_use_keeps_out_who_uses_it() {
    let saying = |name: &str, value: Option<&str>| {
        with(vip_service(name, &format!("{name}.local"), "n1", "10.0.0.9"), |service| {
            service.labels.extend(value.map(|value| (labels::BASIC_AUTH.to_owned(), value.to_owned())));
        })
    };
    let mut settings = settings();
    for cluster in settings.clusters.values_mut() {
        cluster.refused_labels.insert(labels::BASIC_AUTH.into());
    }
    let desired = desired([saying("using", Some("users")), saying("empty", Some(" ")), saying("without", None)]);
    insta::assert_snapshot!(told(&compile(&desired, &nothing_published(), &settings)), @r#"
    empty: routed (a task has run)
    using: refused
      label_refused: com.docker.lb.basic_auth="users": the administrator of these proxies lets no service use it (allowed: a service without this label)
    without: routed (a task has run)
    "#);
}
