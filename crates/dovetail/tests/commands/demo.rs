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

/// The processes whose command line names the directory.
fn processes_in(directory: &Path) -> Vec<String> {
    let directory = directory.display().to_string();
    let lines = std::fs::read_dir("/proc").expect("this is Linux").filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&directory)).collect()
}

fn tell(arguments: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let started = Stopwatch::start();
    let output = demo(arguments, directory.path()).output().expect("the binary starts");
    let (told, table) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{told}\n{table}");
    assert!(started.elapsed() < Duration::from_secs(60), "it took {:?}", started.elapsed());
    let first = told.lines().next().unwrap_or_default();
    assert!(first.starts_with("demo: this is the embedded Swarm"), "{first}");
    let last = table.lines().last().unwrap_or_default();
    assert!(last.ends_with(" passed, 0 failed"), "{last}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no file is left behind");
    assert_eq!(processes_in(directory.path()), Vec::<String>::new(), "no process is left behind");
}

#[test]
fn the_story_is_told_to_its_end() {
    tell(&[]);
}

#[test]
fn the_story_is_told_without_an_nginx_too() {
    tell(&["--without-nginx"]);
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
