//! The real binary: exit status, what goes to which stream, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use insta::assert_snapshot;

use crate::real_time::{Stopwatch, holds_within};

fn dovetail(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// The exit status, and both streams.
fn run(arguments: &[&str]) -> (i32, String, String) {
    told(&dovetail(arguments).output().expect("the binary starts"))
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it prints UTF-8");
    (output.status.code().expect("it ends by itself"), text(&output.stdout), text(&output.stderr))
}

fn written(directory: &Path, text: &str) -> String {
    let path = directory.join("dovetail.yaml");
    std::fs::write(&path, text).expect("there is room");
    path.display().to_string()
}

#[test]
fn the_version_is_told() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(&["version"]), (0, format!("dovetail {version}\n"), String::new()));
    let (status, json, error) = run(&["version", "--json"]);
    assert_eq!((status, error.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), serde_json::json!({ "version": version }));
}

#[test]
fn help_names_every_subcommand() {
    let (status, help, error) = run(&["--help"]);
    assert_eq!((status, error.as_str()), (0, ""));
    // The demo is there only in builds with its feature.
    let (help, demo): (Vec<&str>, Vec<&str>) = help.lines().partition(|line| !line.trim_start().starts_with("demo "));
    assert_eq!(demo.len(), usize::from(cfg!(feature = "demo")));
    assert_snapshot!("help", help.join("\n"));
}

#[test]
fn bad_usage_is_2() {
    for arguments in [&["fly"][..], &[], &["explain"], &["plan", "--jsn"], &["run", "--log-format", "xml"]] {
        let (status, output, error) = run(arguments);
        assert_eq!((status, output.as_str()), (2, ""), "{arguments:?}");
        assert!(error.contains("Usage") || error.contains("possible values"), "{arguments:?}: {error}");
    }
}

#[test]
fn a_fine_configuration_is_0() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/dovetail.yaml");
    let (status, output, error) = run(&["check-config", file]);
    assert_eq!((status, error.as_str()), (0, ""));
    assert_snapshot!(output.replace(file, "config/dovetail.yaml"), @r"
    config/dovetail.yaml: fine
      instance main, engine unix:///var/run/docker.sock
      cluster main: service dovetail-proxy, image nginx:1.28 (nginx 1.28.0), 2 replicas, http 8080 and https 8443 of the routing mesh
    ");
}

/// The bad line is last and nested.
const BAD: [(&str, &str); 4] = [
    (
        "clusters:\n  main:\n    proxy:\n      health_check:\n        retries: 3\n        intervall: 1s\n",
        ":6: clusters.main.proxy.health_check: unknown field `intervall`, expected one of `test`, `interval`, `timeout`, `retries`, `start_period`",
    ),
    (
        "clusters:\n  main:\n    proxy:\n      health_check:\n        interval: 1s\n        retries: [3]\n",
        ":6: clusters.main.proxy.health_check.retries: invalid type: sequence, expected a whole number from 1 to 100",
    ),
    (
        "clusters:\n  main:\n    nginx:\n      user: nginx\n      worker_connections: 7\n",
        ":5: clusters.main.nginx.worker_connections: invalid value: integer `7`, expected a whole number from 64 to 1000000",
    ),
    (
        "clusters:\n  main:\n    proxy:\n      labels:\n        team: a\n        tier: b\n        team: c\n",
        ":7: clusters.main.proxy.labels: duplicate key \"team\": every key may stand once",
    ),
];

#[test]
fn a_bad_configuration_is_2_with_file_line_field_and_what_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    for (text, expected) in BAD {
        let file = written(directory.path(), text);
        let expected = (2, String::new(), format!("dovetail: {file}{expected}\n"));
        assert_eq!(run(&["check-config", &file]), expected);
        assert_eq!(run(&["plan", "--config", &file]), expected);
    }
}

#[test]
fn nothing_is_opened_before_the_configuration_is_fine() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let engine = UnixListener::bind(&socket).unwrap();
    engine.set_nonblocking(true).unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let opens = format!(
        "engine:\n  endpoint: unix://{}\nadmin:\n  listen: {}\n",
        socket.display(),
        admin.local_addr().unwrap()
    );
    for (text, expected) in BAD {
        let lines = opens.lines().count();
        let file = written(directory.path(), &format!("{opens}{text}"));
        let (line, what) = expected[1..].split_once(':').unwrap();
        let line = line.parse::<usize>().unwrap() + lines;
        assert_eq!(run(&["run", "--config", &file]), (2, String::new(), format!("dovetail: {file}:{line}:{what}\n")));
    }
    assert_eq!(engine.accept().expect_err("nobody came").kind(), std::io::ErrorKind::WouldBlock);
    // The same file without its bad lines does open the admin address, and is told that it is taken.
    let file = written(directory.path(), &opens);
    let (status, log, error) = run(&["run", "--config", &file]);
    assert_eq!((status, error.as_str()), (1, ""), "from then on it is the log that says so");
    let log: serde_json::Value = serde_json::from_str(&log).expect("one line of JSON");
    assert_eq!(log["level"], "ERROR");
    let message = log["message"].as_str().unwrap().replace(&admin.local_addr().unwrap().to_string(), "ADDRESS");
    assert_snapshot!(message, @"the admin server cannot listen on ADDRESS (admin.listen in the configuration): Address already in use (os error 98)");
}

#[test]
fn a_file_that_is_not_there_is_2() {
    let (status, output, error) = run(&["routes"]);
    assert_eq!((status, output.as_str()), (2, ""));
    assert_snapshot!(error, @"dovetail: /etc/dovetail/dovetail.yaml: cannot be read: No such file or directory (os error 2); name the file with --config or DOVETAIL_CONFIG");
    let (status, _, error) = run(&["check-config", "/nowhere/at-all.yaml"]);
    assert_eq!(status, 2);
    assert_snapshot!(error, @"dovetail: /nowhere/at-all.yaml: cannot be read: No such file or directory (os error 2)");
    let (status, output, error) = told(&dovetail(&["plan"]).env("DOVETAIL_CONFIG", "/nowhere.yaml").output().unwrap());
    assert_eq!((status, output.as_str()), (2, ""));
    assert!(error.contains("/nowhere.yaml: cannot be read"), "{error}");
}

#[test]
fn a_cluster_that_the_configuration_does_not_have_is_2() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), "{}\n");
    for command in [&["render", "--cluster"][..], &["pause"], &["resume"], &["retry"]] {
        let (status, output, error) = run(&[command, &["east", "--config", &file]].concat());
        assert_eq!((status, output.as_str()), (2, ""), "{command:?}");
        assert_eq!(error, "dovetail: there is no cluster \"east\" in the configuration; there is main\n");
    }
}

/// The operator's own secrets are where the operator runs.
#[test]
fn credentials_that_are_elsewhere_keep_nobody_from_looking() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("registry.json");
    let text = format!("clusters:\n  main:\n    proxy:\n      registry_auth_file: {}\n", secret.display());
    let file = written(directory.path(), &text);
    let socket = format!("unix://{}/docker.sock", directory.path().display());
    for command in ["plan", "status", "retry"] {
        let arguments = [command, "--config", &file, "--engine", &socket, "main"];
        let (status, _, error) = run(&arguments[..if command == "retry" { 6 } else { 5 }]);
        assert_eq!(status, 1, "{command} gets as far as the Engine, which is not there: {error}");
    }
    let (status, output, _) = run(&["check-config", &file]);
    assert_eq!(status, 0);
    assert!(output.contains(&format!("note: {}, its registry_auth_file, is not here", secret.display())), "{output}");
    let (status, _, error) = run(&["run", "--config", &file]);
    assert_eq!(status, 2);
    assert!(error.contains(":4: clusters.main.proxy.registry_auth_file: "), "{error}");
    std::fs::write(&secret, "{}").unwrap();
    let (status, _, error) = run(&["check-config", &file]);
    assert_eq!(status, 2);
    assert!(error.contains("has no credentials for docker.io"), "{error}");
}

#[test]
fn an_engine_that_does_not_answer_is_1() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), "{}\n");
    let socket = format!("unix://{}/docker.sock", directory.path().display());
    for command in [&["plan"][..], &["routes"], &["status"], &["render"], &["explain", "demo"]] {
        let (status, output, error) = run(&[command, &["--config", &file, "--engine", &socket]].concat());
        assert_eq!((status, output.as_str()), (1, ""), "{command:?}");
        assert_snapshot!(
            "unreachable_engine",
            error.replace(&socket, "unix:///SOCKET").replace(directory.path().to_str().unwrap(), "")
        );
    }
    let (status, _, error) = run(&["plan", "--config", &file, "--engine", "ftp://engine"]);
    assert_eq!(status, 2);
    assert_snapshot!("impossible_engine", error);
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("there are pipes");
    drop(reader);
    let output = dovetail(&["check-config", "--schema"]).stdout(writer).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stderr, b"");

    let (reader, writer) = std::io::pipe().expect("there are pipes");
    drop(reader);
    let status = dovetail(&["check-config", "/nowhere.yaml"]).stderr(writer).status().expect("the binary starts");
    assert_eq!(status.code(), Some(2));
}

/// A running operator without an Engine; killed when dropped.
struct Running {
    process: Child,
    log: BufReader<std::process::ChildStdout>,
    admin: String,
}

impl Running {
    fn start(directory: &Path) -> Self {
        let file = written(directory, "admin:\n  listen: 127.0.0.1:0\n");
        let socket = format!("unix://{}/docker.sock", directory.display());
        let mut process = dovetail(&["run", "--config", &file, "--engine", &socket])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut log = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        log.read_line(&mut line).expect("it logs");
        let first: serde_json::Value = serde_json::from_str(&line).expect("each line is one JSON object");
        assert_eq!(first["message"], "dovetail runs");
        let admin = first["admin"].as_str().expect("the address is told").to_owned();
        Self { process, log, admin }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).expect("the admin server listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_operator_waits_for_its_engine_and_ends_on_sigterm_with_0() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        let mut running = Running::start(directory.path());
        assert!(running.get("/healthz").starts_with("HTTP/1.1 200"));
        let mut readiness = String::new();
        holds_within(Duration::from_secs(20), || {
            readiness = running.get("/readyz");
            readiness.contains("docker.sock")
        });
        assert!(readiness.starts_with("HTTP/1.1 503"), "{readiness}");
        assert!(readiness.contains("the cluster was not yet read completely: failed to"), "{readiness}");

        let pid = running.process.id().to_string();
        let sent =
            Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().expect("there is a shell");
        assert!(sent.success());
        let told = Stopwatch::start();
        let mut status = None;
        holds_within(Duration::from_secs(20), || {
            status = running.process.try_wait().expect("it can be waited for");
            status.is_some()
        });
        let status = status.expect("it ends");
        assert_eq!(status.code(), Some(0), "after SIG{signal}: {status}");
        assert!(told.elapsed() < Duration::from_secs(6), "it took {:?}", told.elapsed());
        let mut rest = String::new();
        running.log.read_to_string(&mut rest).unwrap();
        for line in rest.lines() {
            let object: serde_json::Value = serde_json::from_str(line).expect("each line is one JSON object");
            for field in ["timestamp", "level", "target", "message"] {
                assert!(object[field].is_string(), "{field} in {line}");
            }
        }
        assert!(rest.contains("stopping; the proxies go on serving"), "{rest}");
    }
}

#[test]
fn programs_are_told_what_is_wrong_with_a_configuration_on_standard_output() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("dovetail.yaml");
    let check = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_dovetail"))
            .args(["check-config", "--json"])
            .arg(&file)
            .output()
            .expect("the program runs");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), answer)
    };
    std::fs::write(&file, "instance: main\n").expect("written");
    let (code, answer) = check();
    assert_eq!((code, &answer["fine"]), (Some(0), &true.into()));
    std::fs::write(&file, "instance: main\nlog:\n  level: loud\n").expect("written");
    let (code, answer) = check();
    assert_eq!((code, &answer["fine"], &answer["line"]), (Some(2), &false.into(), &3.into()));
    assert!(answer["message"].as_str().is_some_and(|message| message.starts_with("log.level: \"loud\"")), "{answer}");
}
