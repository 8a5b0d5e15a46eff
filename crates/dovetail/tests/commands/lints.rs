//! `lint`: stack files as people write them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use serde_json::Value;

/// The directory of the tests' stack files.
fn stacks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands/stacks")
}

/// Runs `dovetail lint` there, with these variables set and nothing else.
fn lint(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dovetail"))
        .arg("lint")
        .args(arguments)
        .current_dir(stacks())
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (output.status.code().expect("it ends by itself"), text(output.stdout), text(output.stderr))
}

/// What is said of a text; its first line is line 1.
fn of_text(text: &str, more: &[&str], variables: &[(&str, &str)]) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("stack.yml");
    std::fs::write(&file, text).expect("there is room");
    let (_, json, error) = lint(&[&[file.to_str().expect("UTF-8"), "--json"], more].concat(), variables);
    assert_eq!(error, "");
    serde_json::from_str::<Value>(&json).expect("it is JSON")["files"][0].take()
}

/// The codes of all findings with their lines.
fn codes(checked: &Value) -> Vec<String> {
    let findings = checked["findings"].as_array().unwrap_or_else(|| panic!("{checked}"));
    findings
        .iter()
        .map(|finding| format!("{} {}", finding["line"], finding["code"].as_str().unwrap_or_default()))
        .collect()
}

/// A service with these labels, which begin in line 5.
fn labels(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("        {line}\n")).collect();
    format!("services:\n  web:\n    deploy:\n      labels:\n{lines}")
}

#[test]
fn a_good_file_is_0() {
    let (status, output, error) = lint(&["good.yml"], &[]);
    assert_eq!((status, error.as_str()), (0, ""));
    assert_snapshot!("lint_good", output);
    let (status, output, _) = lint(&["good.yml", "--stack", "shop"], &[("SHOP_HOST", "other.example.org")]);
    assert_eq!(status, 0);
    assert_snapshot!("lint_good_with_stack", output);
}

#[test]
fn a_bad_file_is_1_and_every_line_is_named() {
    let (status, output, error) = lint(&["bad.yml"], &[]);
    assert_eq!((status, error.as_str()), (1, ""));
    assert_snapshot!("lint_bad", output);
    let (status, json, _) = lint(&["bad.yml", "--json"], &[]);
    assert_eq!(status, 1);
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((&json["fine"], &json["problems"]), (&false.into(), &16.into()));
    let finding = &json["files"][0]["findings"][0];
    assert_eq!((&finding["code"], &finding["service"]), (&"ambiguous_network".into(), &"two-networks".into()));
}

#[test]
fn notes_and_translations_are_told() {
    let (status, output, _) = lint(&["notes.yml"], &[]);
    assert_eq!(status, 1, "a service with HRM's labels alone is not routed");
    assert_snapshot!("lint_notes", output);
}

#[test]
fn warnings_fail_only_if_that_is_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("stack.yml");
    let text = labels(&["com.docker.lb.hosts: a.local", "com.docker.lb.port: 0x50"]);
    std::fs::write(&file, text).expect("there is room");
    let file = file.to_str().expect("UTF-8");
    assert_eq!(lint(&[file], &[]).0, 0);
    assert_eq!(lint(&[file, "--strict"], &[]).0, 1);
}

#[test]
fn what_cannot_be_read_is_2_and_the_other_files_are_judged_all_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("tab.yml"), "services:\n\tweb: {}\n").expect("there is room");
    std::fs::write(path("list.yml"), "- a\n").expect("there is room");
    std::fs::write(path("empty.yml"), "# nothing\n").expect("there is room");
    let (tab, list, empty) = (path("tab.yml"), path("list.yml"), path("empty.yml"));
    let (status, output, error) = lint(&["good.yml", &tab, &list, &empty, "missing.yml"], &[]);
    assert_eq!(status, 2);
    assert!(output.starts_with("good.yml: 1 note\n"), "{output}");
    let errors: Vec<&str> = error.lines().collect();
    assert!(errors[0].starts_with(&format!("dovetail: {tab}:2: is no YAML: ")), "{error}");
    assert_eq!(errors[1], format!("dovetail: {list}: is no mapping, as a stack file is"));
    assert_eq!(errors[2], format!("dovetail: {empty}: is no mapping, as a stack file is"));
    assert!(errors[3].starts_with("dovetail: missing.yml: cannot be read: No such file"), "{error}");
    let (status, json, error) = lint(&[&tab, "--json"], &[]);
    assert_eq!((status, error.as_str()), (2, ""));
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((&json["fine"], &json["files"][0]["unreadable"]["line"]), (&false.into(), &2.into()));
    let (status, _, error) = lint(&["good.yml", "--config", "missing.yaml"], &[]);
    assert!(status == 2 && error.contains("missing.yaml: cannot be read"), "{error}");
}

#[test]
fn variables_come_from_the_environment_and_from_files() {
    let text = labels(&["com.docker.lb.hosts: ${HOST}", "com.docker.lb.port: $PORT"]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("variables.env");
    std::fs::write(&file, "HOST=file.local\nPORT=8080\n").expect("there is room");
    let file = file.to_str().expect("UTF-8");
    let checked = of_text(&text, &["--env-file", file], &[("HOST", "environment.local")]);
    assert_eq!(checked["services"][0]["hosts"][0], "environment.local");
    assert_eq!(codes(&checked), [""; 0]);
    let checked = of_text(&text, &[], &[("HOST", "environment.local")]);
    assert_eq!(codes(&checked), ["6 bad_port", "6 unset_variable"]);
}

#[test]
fn the_prefix_of_a_stack_is_known_told_or_taken_for_granted() {
    let text = |network: &str| {
        format!(
            "{}    networks: [one, two]\nnetworks:\n  one: {{}}\n  two: {{}}\n",
            labels(&[
                "com.docker.lb.hosts: a.local",
                "com.docker.lb.port: 80",
                &format!("com.docker.lb.network: {network}")
            ])
        )
    };
    let checked = of_text(&text("one"), &[], &[]);
    assert_eq!((codes(&checked), &checked["stack"]), (vec![], &Value::Null));
    let checked = of_text(&text("shop_one"), &[], &[]);
    assert_eq!((codes(&checked), &checked["stack"]), (vec!["7 stack_assumed".to_owned()], &"shop".into()));
    assert_eq!(checked["services"][0]["network"], "shop_one");
    let checked = of_text(&text("shop_one"), &["--stack", "shop"], &[]);
    assert_eq!(codes(&checked), [""; 0]);
    let checked = of_text(&text("shop_one"), &["--stack", "other"], &[]);
    assert_eq!(codes(&checked), ["7 unknown_network"]);
    assert_eq!(checked["findings"][0]["allowed"], "other_one or other_two");
}

#[test]
fn a_configuration_tells_which_service_clusters_there_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("dovetail.yaml");
    std::fs::write(&config, "clusters:\n  main:\n    networks: [edge]\n").expect("there is room");
    let text =
        labels(&["com.docker.lb.hosts: a.local", "com.docker.lb.port: 80", "com.docker.lb.service_cluster: east"]);
    let with_config = ["--config", config.to_str().expect("UTF-8")];
    assert_eq!(codes(&of_text(&text, &[], &[])), [""; 0]);
    assert_eq!(codes(&of_text(&text, &with_config, &[])), ["7 elsewhere"]);
    let text = labels(&["com.docker.lb.hosts: a.local", "com.docker.lb.port: 80"]);
    assert_eq!(codes(&of_text(&text, &with_config, &[])), ["2 no_network"]);
}

#[test]
fn what_docker_would_refuse_is_a_problem() {
    for (text, expected) in [
        (labels(&["- 5"]), vec!["5 bad_label"]),
        (labels(&["- {a: b}"]), vec!["5 bad_label"]),
        (labels(&["a: {b: c}"]), vec!["5 bad_label"]),
        (labels(&["a: true"]), vec!["5 bad_label"]),
        (labels(&["a: \"${\""]), vec!["5 bad_variable"]),
        ("services:\n  web:\n    deploy:\n      labels:\n".into(), vec!["4 bad_label"]),
        ("services: 1\n".into(), vec!["1 bad_section"]),
        ("services:\n  web:\n    image: a$\n".into(), vec!["3 bad_variable"]),
        ("services:\n  web:\n    deploy:\n      replicas: few\n".into(), vec!["4 bad_replicas"]),
        ("services:\n  web:\n    deploy:\n      endpoint_mode: x\n".into(), vec!["4 bad_endpoint_mode"]),
        ("services:\n  web:\n    networks: {x: null}\n".into(), vec!["2 undefined_network"]),
        ("x: y\n".into(), vec![]),
    ] {
        let checked = of_text(&text, &[], &[]);
        assert_eq!(codes(&checked), expected, "{text}");
    }
}

/// Whatever a label holds, one line of the table is one line.
#[test]
fn no_label_can_steer_a_terminal() {
    let text = labels(&["com.docker.lb.hosts: \"a\\e[31m\\nb\"", "com.docker.lb.port: 80"]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("stack.yml");
    std::fs::write(&file, text).expect("there is room");
    let (status, output, _) = lint(&[file.to_str().expect("UTF-8")], &[]);
    assert_eq!(status, 1);
    assert!(!output.contains('\u{1b}') && output.lines().count() == 6, "{output}");
}

/// The label sets of Interlock's documents, as they are.
#[test]
fn the_documents_own_labels_are_fine() {
    let services = [
        ("basic", vec!["hosts=demo.local", "port=8080"]),
        ("two", vec!["hosts=example.com, test.com", "port=8080"]),
        ("canary", vec!["hosts=demo.local", "port=8080"]),
        ("vip", vec!["hosts=vip.local", "port=8080", "backend_mode=vip"]),
        ("sticky", vec!["hosts=sticky.local", "port=8080", "sticky_session_cookie=session"]),
        ("hashed", vec!["hosts=hashed.local", "port=8080", "ip_hash=true"]),
        ("chat", vec!["hosts=chat.local", "port=8080", "websocket_endpoints=/ws"]),
        ("moved", vec!["hosts=old.local,new.local", "port=8080", "redirects=http://old.local,http://new.local"]),
        ("root", vec!["hosts=root.local", "port=8080", "context_root=/app", "context_root_rewrite=true"]),
        (
            "tls",
            vec![
                "hosts=app.example.org",
                "port=8080",
                "network=demo_demo-network",
                "ssl_cert=demo_app.example.org.cert",
                "ssl_key=demo_app.example.org.key",
            ],
        ),
        ("passed", vec!["hosts=passed.local", "port=8080", "network=demo_demo-network", "ssl_passthrough=true"]),
        ("default", vec!["default_backend=true", "port=8080"]),
        ("east", vec!["hosts=demo.A", "port=8000", "service_cluster=east"]),
        ("west", vec!["hosts=demo.A", "port=8000", "service_cluster=west"]),
    ];
    let mut text = "services:\n".to_owned();
    for (name, labels) in &services {
        text.push_str(&format!("  {name}:\n    networks: [demo-network]\n    deploy:\n      labels:\n"));
        labels.iter().for_each(|label| text.push_str(&format!("        - com.docker.lb.{label}\n")));
    }
    text.push_str("networks:\n  demo-network: {}\nsecrets:\n  app.example.org.cert: {file: a}\n  app.example.org.key: {file: b}\n");
    let checked = of_text(&text, &["--stack", "demo"], &[]);
    assert_eq!(codes(&checked), ["6 shared_host"], "{checked:#}");
    assert!(checked["services"].as_array().is_some_and(|all| all.len() == services.len()));
    assert!(checked["services"].as_array().is_some_and(|all| all.iter().all(|service| service["fine"] == true)));
}

#[test]
fn options_are_judged_as_the_operator_judges_them() {
    let two = |first: &[&str], second: &[&str]| {
        let service = |name: &str, labels: &[&str]| {
            let lines: String = labels.iter().map(|label| format!("        com.docker.lb.{label}\n")).collect();
            format!("  {name}:\n    deploy:\n      labels:\n{lines}")
        };
        format!("services:\n{}{}", service("one", first), service("two", second))
    };
    for (first, second, expected) in [
        // Lines 5 to 8, and from 11 on.
        (
            &["hosts: a.local", "port: 80", "hsts: 'true'", "weihgt: 5"][..],
            &["x: z"][..],
            vec!["7 no_effect", "8 unknown_label", "12 asks_for_nothing"],
        ),
        (
            &["hosts: a.local", "port: 80", "ssl_key: k", "timeout: 1h"],
            &["x: z"],
            vec!["7 no_effect", "7 secret_not_declared", "12 asks_for_nothing"],
        ),
        (
            &["hosts: a.local", "port: 80", "client_ca_cert: k", "timeout: 1h"],
            &["x: z"],
            vec!["7 inconsistent_options", "7 secret_not_declared", "12 asks_for_nothing"],
        ),
        (
            &["hosts: a.local", "port: 80", "context_root: /a", "timeout: 5s"],
            &["hosts: a.local", "port: 80", "context_root: /b"],
            vec![],
        ),
        (
            &["hosts: a.local", "port: 80", "context_root: /a", "timeout: 5s"],
            &["hosts: a.local", "port: 80", "context_root: /a/", "timeout: 6s"],
            vec!["5 shared_host", "15 conflict"],
        ),
        (
            &["hosts: a.local", "port: 80", "ssl_cert: c", "ssl_key: k"],
            &["hosts: a.local", "port: 80", "ssl_passthrough: 'true'"],
            vec!["7 secret_not_declared", "8 secret_not_declared", "14 conflict"],
        ),
    ] {
        let checked = of_text(&two(first, second), &[], &[]);
        assert_eq!(codes(&checked), expected, "{checked:#}");
    }
}
