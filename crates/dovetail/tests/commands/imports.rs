//! `import-config`: the samples of Interlock's documents, every option, and generated files.

use std::path::Path;

use dovetail::config;
use dovetail::import::{Imported, Outcome, import};
use insta::assert_snapshot;
use proptest::prelude::*;

/// The samples of the documents: the preview's, host mode, service clusters, and what UCP 3.0 and 3.2 made.
const SAMPLES: [(&str, &str); 6] = [
    ("preview", include_str!("interlock/preview.toml")),
    ("host", include_str!("interlock/host.toml")),
    ("regions", include_str!("interlock/regions.toml")),
    ("ucp-3.0", include_str!("interlock/ucp-3.0.toml")),
    ("ucp-3.2-service-clusters", include_str!("interlock/ucp-3.2-service-clusters.toml")),
    ("everything", include_str!("interlock/everything.toml")),
];

fn imported(text: &str) -> Imported {
    import("config.toml", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The file below one extension.
fn extension(lines: &str) -> String {
    format!("[Extensions.default]\n{lines}")
}

fn refused(text: &str) -> String {
    import("config.toml", text).expect_err("refused").to_string()
}

#[test]
fn every_sample_becomes_a_configuration_and_everything_left_out_is_said() {
    for (name, text) in SAMPLES {
        let imported = imported(text);
        config::parse("dovetail.yaml", &imported.configuration).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_snapshot!(format!("import_{name}"), format!("{}\n{}", imported.configuration, imported.report()));
        let unknown: Vec<_> =
            imported.remarks.iter().filter(|remark| matches!(remark.outcome, Outcome::Unknown { .. })).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
}

/// One line a key of the TOML, but for tables: nothing vanishes without a word.
#[test]
fn every_key_is_in_the_result_or_is_remarked_on() {
    let text = include_str!("interlock/everything.toml");
    let imported = imported(text);
    let config = config::parse("dovetail.yaml", &imported.configuration).expect("it is fine");
    let cluster = config.clusters.0.values().next().expect("there is one");
    let remarked: Vec<usize> = imported.remarks.iter().map(|remark| remark.line).collect();
    // Those that are taken over silently, and where they are now.
    let taken = [
        ("DOCKERURL", config.engine.endpoint.to_string(), "tcp://manager.example.org:2376"),
        ("TlsCaCert", config.engine.tls.as_ref().unwrap().ca.display().to_string(), "/certs/ca.pem"),
        ("TLSCert", config.engine.tls.as_ref().unwrap().cert.display().to_string(), "/certs/cert.pem"),
        ("tlskey", config.engine.tls.as_ref().unwrap().key.display().to_string(), "/certs/key.pem"),
        ("POLLINTERVAL", config.engine.poll_interval.to_string(), "10s"),
        ("networks", format!("{:?}", cluster.networks), r#"Some([Word("edge"), Word("shop_default")])"#),
        (
            "proxyimage",
            format!("{} {}", cluster.proxy.image, cluster.nginx.version),
            "registry.example.org/ops/nginx:1.26.2 1.26.2",
        ),
        ("proxystopgraceperiod", cluster.proxy.stop_grace_period.to_string(), "90s"),
        ("proxyconstraints", cluster.proxy.constraints.join(" "), "node.labels.nodetype==loadbalancer"),
        ("proxyplacementpreferences", cluster.proxy.spread.join(" "), "node.labels.zone node.labels.rack"),
        ("servicecluster", cluster.service_cluster.clone(), "europe"),
        ("publishmode", cluster.proxy.publish_mode.to_string(), "ingress"),
        ("publishedport", format!("{:?}", cluster.proxy.ports.http), "Some(Whole(8000))"),
        ("publishedsslport", format!("{:?}", cluster.proxy.ports.https), "Some(Whole(8443))"),
        ("user", cluster.nginx.user.to_string(), "www-data"),
        ("workerprocesses", cluster.nginx.worker_processes.to_string(), "auto"),
        ("rlimitnofile", cluster.nginx.worker_rlimit_nofile.0.to_string(), "1048576"),
        ("hideinfoheaders", cluster.nginx.hide_info_headers.to_string(), "true"),
        ("keepalivetimeout", cluster.nginx.keepalive_timeout.to_string(), "75s"),
        ("clientmaxbodysize", cluster.nginx.client_max_body_size.to_string(), "1g"),
        ("clientbodybuffersize", cluster.nginx.client_body_buffer_size.to_string(), "16k"),
        ("clientheaderbuffersize", cluster.nginx.client_header_buffer_size.to_string(), "2k"),
        (
            "largeclientheaderbuffers",
            format!("{:?}", cluster.nginx.large_client_header_buffers),
            "HeaderBuffers { number: Whole(8), size: Size(16384) }",
        ),
        ("clientbodytimeout", cluster.nginx.client_body_timeout.to_string(), "2m"),
        ("underscoresinheaders", cluster.nginx.underscores_in_headers.to_string(), "true"),
        ("sslciphers", cluster.nginx.ssl_ciphers.to_string(), "ECDHE-RSA-AES256-GCM-SHA384"),
        ("accesslogpath", cluster.nginx.access_log.to_string(), "off"),
        ("iphash", cluster.nginx.ip_hash.to_string(), "true"),
    ];
    for (key, found, expected) in &taken {
        assert_eq!(found, expected, "{key}");
    }
    for (number, line) in text.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        let of_a_table = matches!(key, "team" | "\"com.docker.ucp.access.label\"" | "\"com.docker.ucp.InstanceID\"");
        let silent = taken.iter().any(|(taken, ..)| *taken == key);
        assert!(of_a_table || silent || remarked.contains(&(number + 1)), "nothing is said of {line}");
    }
}

#[test]
fn passwords_are_not_shown() {
    let imported = imported(include_str!("interlock/everything.toml"));
    let json = serde_json::to_string(&imported).expect("it is JSON");
    assert!(json.contains("adminpass") && !json.contains("hunter2"), "{json}");
}

#[test]
fn a_grace_period_that_hitless_updates_made_harmless_is_left_out() {
    let cluster = |lines: &str| {
        let imported = imported(&extension(lines));
        let config = config::parse("dovetail.yaml", &imported.configuration).expect("it is fine");
        let cluster = config.clusters.0.into_values().next().expect("there is one");
        let times = [cluster.proxy.stop_grace_period, cluster.nginx.worker_shutdown_timeout];
        (times.map(|time| time.to_string()), imported.report())
    };
    let (times, report) = cluster("ProxyStopGracePeriod = \"5s\"\nHitlessServiceUpdate = true\n");
    assert_eq!(times, ["30s", "25s"]);
    assert!(!report.contains("changed:") && !report.contains("kept"), "{report}");
    assert!(
        report.contains("ProxyStopGracePeriod (line 2): with HitlessServiceUpdate a change of routes was"),
        "{report}"
    );

    // There the proxies stopped at every change, as here.
    for hitless in ["", "HitlessServiceUpdate = false\n"] {
        let (times, report) = cluster(&format!("ProxyStopGracePeriod = \"5s\"\n{hitless}"));
        assert_eq!(times, ["5s", "4s"]);
        let kept = "ProxyStopGracePeriod = \"5s\": clusters.default.proxy.stop_grace_period; requests longer than this are \
                    cut at every change of routes; Dovetail's default is 30s";
        assert!(report.contains(kept), "{report}");
    }
    // Whoever chose a longer one has it.
    let (times, report) = cluster("ProxyStopGracePeriod = \"90s\"\nHitlessServiceUpdate = true\n");
    assert_eq!(times, ["90s", "25s"]);
    assert!(!report.contains("ProxyStopGracePeriod"), "{report}");
}

#[test]
fn of_two_times_the_first_is_how_long_a_connection_is_kept() {
    for (written, kept, changed) in [
        ("75s", "75s", false),
        ("75s 60s", "75s", true),
        ("75 60", "75s", true),
        ("50s 75s", "50s", true),
        ("30s 1m", "30s", true),
        ("1m30s 60s", "90s", true),
        ("1m 30s", "90s", false),
        ("1m 30", "90s", false),
    ] {
        let imported =
            imported(&extension(&format!("[Extensions.default.Config]\nKeepaliveTimeout = \"{written}\"\n")));
        let config = config::parse("dovetail.yaml", &imported.configuration).expect("it is fine");
        let cluster = config.clusters.0.values().next().expect("there is one");
        assert_eq!(cluster.nginx.keepalive_timeout.to_string(), kept, "{written}");
        let remarked = imported.remarks.iter().any(|remark| matches!(remark.outcome, Outcome::Changed { .. }));
        assert_eq!(remarked, changed, "{written}");
    }
    let error = refused(&extension("[Extensions.default.Config]\nKeepaliveTimeout = \"75s soon\"\n"));
    assert!(error.ends_with("expected a length of time such as 75, 75s or 1h 30m"), "{error}");
}

#[test]
fn unknown_keys_pass_with_the_nearest_name() {
    let imported =
        imported(&extension("ProxyReplica = 3\nFrobnicate = true\n[Extensions.default.Config]\nuserr = \"a\"\n"));
    assert_snapshot!(imported.report(), @r#"
    unknown, and passed over:
      config.toml:2: Extensions.default.ProxyReplica = 3: is ProxyReplicas meant?
      config.toml:3: Extensions.default.Frobnicate = true
      config.toml:5: Extensions.default.Config.userr = "a": is User meant?
    "#);
}

#[test]
fn what_cannot_be_read_is_said_with_file_line_and_value() {
    for (text, expected) in [
        ("[Extensions\n".to_owned(), "config.toml:1: is no TOML: "),
        ("PollInterval = 1\n".to_owned(), "config.toml:1: PollInterval = 1: expected a text in quotes"),
        (
            "PollInterval = \"3 days\"\n".to_owned(),
            "config.toml:1: PollInterval = \"3 days\": expected a length of time such as 500ms, 3s or 1m30s",
        ),
        ("PollInterval = \"3s\"\n".to_owned(), "config.toml: has no table Extensions"),
        (
            "[Extensions]\n".to_owned(),
            "config.toml:1: Extensions: names no extension: each becomes a cluster of proxies",
        ),
        ("Extensions = 1\n".to_owned(), "config.toml:1: Extensions = 1: is no table"),
        ("[Extensions]\ndefault = \"x\"\n".to_owned(), "config.toml:2: Extensions.default = \"x\": is no table"),
        (
            extension("PublishedPort = 80\npublishedport = 81\n"),
            "config.toml:3: Extensions.default.publishedport = 81: stands here a second time, in whatever case: every key may stand once",
        ),
        (
            extension("\nPublishedPort = 70000\n"),
            "config.toml:3: Extensions.default.PublishedPort = 70000: expected a port from 1 to 65535",
        ),
        (
            extension("PublishMode = \"mesh\"\n"),
            "config.toml:2: Extensions.default.PublishMode = \"mesh\": expected ingress or host",
        ),
        (
            extension("ProxyReplicas = -1\n"),
            "config.toml:2: Extensions.default.ProxyReplicas = -1: expected a whole number that is not negative",
        ),
        (
            extension("ProxyConstraints = \"a==b\"\n"),
            "config.toml:2: Extensions.default.ProxyConstraints = \"a==b\": expected a list of texts",
        ),
        (
            extension("[Extensions.default.ProxyLabels]\na = 1\n"),
            "config.toml:2: Extensions.default.ProxyLabels: the label a is no text",
        ),
        (
            extension("[Extensions.default.Config]\nUser = \"nginx\"\nClientMaxBodySize = \"much\"\n"),
            "config.toml:4: Extensions.default.Config.ClientMaxBodySize = \"much\": expected a size such as 512, 8k or 32m",
        ),
        (
            extension("[Extensions.default.Config]\nSSLCiphers = 1\n"),
            "config.toml:3: Extensions.default.Config.SSLCiphers = 1: expected a text in quotes",
        ),
    ] {
        let error = refused(&text);
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[test]
fn what_dovetail_refuses_is_said_at_the_line_that_it_came_from() {
    for (text, expected) in [
        (
            extension("ServiceCluster = \"\"\nPublishedPort = 80\nPublishedSSLPort = 80\n"),
            "config.toml:3: Extensions.default.PublishedPort = 80: is not possible in Dovetail: clusters.default.proxy.ports: port 80 is published twice",
        ),
        (
            extension("ProxyConstraints = [\"node.labels.a\"]\n"),
            "config.toml:2: Extensions.default.ProxyConstraints = [\"node.labels.a\"]: is not possible in Dovetail: clusters.default.proxy.constraints: \"node.labels.a\" is no constraint: write it with == or !=, such as node.role==worker",
        ),
        (
            extension("[Extensions.default.Config]\nMaxConnections = 64\nUser = \"a b\"\n"),
            "config.toml:4: Extensions.default.Config.User = \"a b\": is not possible in Dovetail: clusters.default.nginx.user: \"a b\" is empty or has blanks in it, expected a word without blanks",
        ),
        (
            "[Extensions.a]\nServiceCluster = \"x\"\n[Extensions.b]\nServiceCluster = \"x\"\n".to_owned(),
            "config.toml:4: Extensions.b.ServiceCluster = \"x\": is not possible in Dovetail: clusters.b.service_cluster: \"x\" is served by the cluster a already: give each its own",
        ),
    ] {
        let error = refused(&text);
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
}

#[test]
fn the_binary_writes_yaml_to_one_stream_and_remarks_to_the_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let toml = directory.path().join("config.toml");
    std::fs::write(&toml, include_str!("interlock/host.toml")).expect("there is room");
    let run = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_dovetail"))
            .arg("import-config")
            .arg(&toml)
            .args(more)
            .env_clear()
            .output()
            .expect("the binary starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, yaml, remarks) = run(&[]);
    assert_eq!(status, Some(0));
    assert!(config::parse("dovetail.yaml", &yaml).is_ok(), "{yaml}");
    assert!(remarks.contains("ProxyReplicas (line 14): with publish_mode host"), "{remarks}");

    let output = directory.path().join("dovetail.yaml");
    let (status, nothing, again) = run(&["--output", output.to_str().expect("UTF-8")]);
    assert_eq!((status, nothing.as_str(), &again), (Some(0), "", &remarks));
    assert_eq!(std::fs::read_to_string(&output).expect("it is there"), yaml);
    assert!(config::load(Path::new(&output), Path::exists).is_ok());

    let (status, json, nothing) = run(&["--json"]);
    assert_eq!((status, nothing.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json["configuration"], yaml);
    assert!(json["remarks"].as_array().is_some_and(|remarks| remarks.iter().any(|remark| {
        remark["outcome"] == "dropped" && remark["option"] == "Extensions.default.ProxyReplicas" && remark["line"] == 14
    })));

    std::fs::write(&toml, "PollInterval = 1\n").expect("there is room");
    let (status, nothing, error) = run(&[]);
    assert_eq!((status, nothing.as_str()), (Some(2), ""));
    assert!(error.ends_with("config.toml:1: PollInterval = 1: expected a text in quotes\n"), "{error}");
    let (status, json, _) = run(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((status, &json["fine"], &json["line"]), (Some(2), &false.into(), &1.into()));
    std::fs::remove_file(&toml).expect("it was there");
    let (status, _, error) = run(&[]);
    assert_eq!(status, Some(2));
    assert!(error.contains("cannot be read: No such file"), "{error}");
}

/// A line of TOML with a value that Interlock would take.
fn option() -> impl Strategy<Value = (&'static str, String, bool)> {
    let number = |name: &'static str, most: u64| (0..most).prop_map(move |n| (name, n.to_string())).boxed();
    let text = |name: &'static str, pattern: &'static str| {
        proptest::string::string_regex(pattern)
            .expect("a pattern")
            .prop_map(move |text| (name, serde_json::to_string(&text).expect("JSON")))
            .boxed()
    };
    let flag = |name: &'static str| any::<bool>().prop_map(move |flag| (name, flag.to_string())).boxed();
    let extension = prop_oneof![
        text("ProxyServiceName", "(ucp-)?(interlock-)?[a-z]{1,8}(-[a-z]{1,8})?"),
        text("ProxyImage", "[a-z.]{0,9}/?(nginx|proxy)(:1\\.(1|2)[0-9](\\.[0-9])?(-alpine)?)?"),
        text("PublishMode", "(ingress|host)?"),
        text("ServiceCluster", "[ -~]{0,12}"),
        text("ProxyStopSignal", "(SIG(QUIT|TERM))?"),
        text("ProxyStopGracePeriod", "([0-9]{1,2}m)?[0-9]{1,3}(ms|s)"),
        text("ProxyUpdateDelay", "[0-9]{1,2}(ms|s|m)"),
        number("ProxyReplicas", 3000),
        number("PublishedPort", 65535).prop_map(|(name, port)| (name, port.replacen('0', "1", 1))),
        flag("HitlessServiceUpdate"),
    ];
    let nginx = prop_oneof![
        number("MaxConnections", 2_000_000),
        number("ConnectTimeout", 100_000),
        number("SendTimeout", 100_000),
        number("ReadTimeout", 700),
        number("WorkerProcesses", 600),
        number("RlimitNoFile", 20_000_000),
        number("UpstreamZoneSize", 100_000),
        text("KeepaliveTimeout", "([0-9]{1,2}h ?)?[0-9]{1,3}(ms|s|m|h|d)?"),
        text("ClientBodyTimeout", "[0-9]{1,5}s?"),
        text("ClientMaxBodySize", "[0-9]{1,4}[kKmMg]?"),
        text("ClientBodyBufferSize", "[0-9]{1,4}k?"),
        text("ClientHeaderBufferSize", "[0-9]{1,4}k?"),
        text("LargeClientHeaderBuffers", "[0-9]{1,2} (8|16|300)k?"),
        flag("UnderscoresInHeaders"),
        flag("HideInfoHeaders"),
        flag("IPHash"),
        text("SSLProtocols", "(TLSv1(\\.[123])? ?){0,3}"),
        text("SSLCiphers", "[A-Z0-9:! -]{0,20}"),
        text("AccessLogPath", "(off|/dev/stdout)"),
        text("x", "[ -~\n]{0,30}").prop_map(|(_, line)| ("HTTPOptions", format!("[{line}]"))),
        text("x", "[ -~]{0,30}").prop_map(|(_, line)| ("GlobalOptions", format!("[{line}, {line}]"))),
    ];
    prop_oneof![
        extension.prop_map(|(name, value)| (name, value, false)),
        nginx.prop_map(|(name, value)| (name, value, true)),
    ]
}

proptest! {
    #[test]
    fn whatever_interlock_takes_becomes_a_configuration(
        extensions in proptest::collection::btree_map("[A-Za-z0-9_-]{1,20}", proptest::collection::vec(option(), 0..12), 1..4),
    ) {
        let mut text = String::new();
        for (number, (name, options)) in extensions.iter().enumerate() {
            // Both are unique in a file that works.
            let unique = |option: &str, value: &str| match option {
                "ServiceCluster" => format!("\"{number}\""),
                "ProxyServiceName" => format!("{}-{number}\"", value.trim_end_matches('"')),
                _ => value.to_owned(),
            };
            let mut seen = std::collections::BTreeSet::new();
            let mut options: Vec<_> = options.iter().filter(|(option, ..)| seen.insert(option.to_lowercase())).collect();
            options.sort_by_key(|(.., of_nginx)| *of_nginx);
            text.push_str(&format!("[Extensions.{name}]\n"));
            if !seen.contains("servicecluster") {
                text.push_str(&format!("ServiceCluster = \"{number}\"\n"));
            }
            let mut before = false;
            for (option, value, of_nginx) in options {
                if *of_nginx && !before {
                    text.push_str(&format!("[Extensions.{name}.Config]\n"));
                    before = true;
                }
                text.push_str(&format!("{option} = {}\n", unique(option, value)));
            }
        }
        match import("config.toml", &text) {
            Ok(imported) => {
                let read = config::parse("dovetail.yaml", &imported.configuration).expect("it is fine");
                prop_assert_eq!(read.clusters.0.len(), extensions.len());
            }
            Err(error) => prop_assert!(false, "{error}\n{text}"),
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "([\\[\\]A-Za-z.= \"\n#0-9]{0,80}|\\[Extensions.a\\]\n([A-Za-z]{1,20} = (1|\"x\"|\\[\\]|true)\n){0,6})") {
        let _ = import("config.toml", &text);
    }
}
