//! `dovetail demo`, to its end: with the nginx of this machine if there is one, without, and interrupted.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::real_time::{Stopwatch, holds_within};

fn demo(arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail"));
    command.arg("demo").args(arguments).env("TMPDIR", directory).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The processes whose command line names the directory, or which have a file of it open, as nginx's workers do.
fn processes_in(directory: &Path) -> Vec<String> {
    let directory = directory.display().to_string();
    let processes = std::fs::read_dir("/proc").expect("this is Linux").filter_map(|entry| {
        let process = entry.ok()?.path();
        let line = std::fs::read(process.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut open = open.filter_map(|file| std::fs::read_link(file.path()).ok());
        let is_in = line.contains(&directory) || open.any(|file| file.display().to_string().contains(&directory));
        is_in.then_some(line)
    });
    processes.collect()
}

fn tell(arguments: &[&str], limit: Duration) {
    let directory = tempfile::tempdir().unwrap();
    let started = Stopwatch::start();
    let output = demo(arguments, directory.path()).output().expect("the binary starts");
    let (told, table) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{told}\n{table}");
    assert!(started.elapsed() < limit, "it took {:?}", started.elapsed());
    let first = told.lines().next().unwrap_or_default();
    assert!(first.starts_with("demo: this is the embedded Swarm"), "{first}");
    let last = table.lines().last().unwrap_or_default();
    assert!(last.ends_with(" passed, 0 failed"), "{last}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no file is left behind");
    assert_eq!(processes_in(directory.path()), Vec::<String>::new(), "no process is left behind");
}

#[test]
fn the_story_is_told_to_its_end() {
    tell(&[], Duration::from_secs(180));
}

#[test]
fn the_story_is_told_without_an_nginx_too() {
    tell(&["--without-nginx"], Duration::from_secs(180));
}

/// Each kind once: tasks, proxies and the operator killed, calls and events in trouble, edits and rollbacks by hand, files that
/// nginx refuses.
#[test]
fn no_fault_costs_a_request() {
    tell(&["--faults", "21", "--seed", "1"], Duration::from_secs(600));
}

#[test]
fn faults_without_an_nginx_say_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let output = demo(&["--faults", "3", "--nginx", "/nowhere/nginx"], directory.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let last = error.lines().last().unwrap_or_default();
    assert!(last.starts_with("dovetail: --faults needs an nginx: /nowhere/nginx does not start"), "{error}");
}

#[test]
fn an_interrupted_story_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let process = demo(&[], directory.path()).spawn().expect("the binary starts");
    // In the middle of things: an nginx runs, where there is one.
    holds_within(Duration::from_secs(6), || !processes_in(directory.path()).is_empty());
    let told = Stopwatch::start();
    let sent = Command::new("sh").args(["-c", &format!("kill -INT {}", process.id())]).status().unwrap();
    assert!(sent.success());
    let output = process.wait_with_output().expect("it ends");
    assert!(told.elapsed() < Duration::from_secs(15), "it took {:?}", told.elapsed());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.ends_with("dovetail: interrupted; everything was stopped and removed\n"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no file is left behind");
    assert_eq!(processes_in(directory.path()), Vec::<String>::new(), "no process is left behind");
}
