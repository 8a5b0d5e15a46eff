//! The operator as a process on this machine, talking to the engine through a recorder.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::{process, wait};

/// The program under test: built by whoever runs the tests, beside this test's own binary, unless `E2E_PROGRAM` names one.
pub fn program() -> Result<PathBuf> {
    if let Some(program) = named_by("E2E_PROGRAM") {
        if !program.exists() {
            bail!("E2E_PROGRAM names {}, and that is not there", program.display());
        }
        return Ok(program);
    }
    let here = std::env::current_exe()?;
    // target/TRIPLE/debug/deps/e2e-HASH -> target/TRIPLE/debug/dovetail
    let program =
        here.parent().and_then(Path::parent).context("the test runs from a target directory")?.join("dovetail");
    if !program.exists() {
        bail!("{} is not there: build it with `cargo build -p dovetail`, or run `make test`", program.display());
    }
    Ok(program)
}

/// The program of an earlier version, if the runner names one in `E2E_EARLIER_PROGRAM`.
pub fn earlier_program() -> Option<PathBuf> {
    named_by("E2E_EARLIER_PROGRAM")
}

/// A file that the environment names; an empty variable is none.
fn named_by(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// A running operator; killed when dropped.
pub struct Operator {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    admin: String,
}

impl Operator {
    /// Starts `PROGRAM run` with this configuration; the log goes to a file in `directory`.
    pub fn start(program: &Path, directory: &Path, config: &Path, admin: &str) -> Result<Self> {
        let log = directory.join("operator.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(config)
            .arg("--log-level")
            .arg("debug")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context("start dovetail run")?;
        Ok(Self { child, config: config.to_owned(), log, admin: admin.to_owned() })
    }

    /// SIGKILL, at once.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill the operator")
    }

    /// SIGTERM, and the status that it ends with.
    pub async fn terminate(mut self) -> Result<std::process::ExitStatus> {
        let id = self.child.id().context("the operator runs")?;
        process::terminate(id).await?;
        let ended = tokio::time::timeout(Duration::from_secs(15), self.child.wait()).await;
        ended.context("the operator ends within 15 s of SIGTERM")?.context("wait for the operator")
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let id = self.child.id().context("the operator runs")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS is told")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// The log's lines as JSON objects.
    pub fn log(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.log)?;
        text.lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).with_context(|| format!("a log line is no JSON: {line}")))
            .collect()
    }

    /// Fetches a page of the admin server.
    pub async fn admin(&self, path: &str) -> Result<(u16, String)> {
        super::load::get(&self.admin, "localhost", path).await.map(|answer| (answer.status, answer.body))
    }

    /// Waits until `/readyz` says 200.
    pub async fn ready(&self) -> Result<()> {
        wait::until("the operator is ready", Duration::from_secs(30), || async {
            let (status, body) = self.admin("/readyz").await?;
            if status == 200 { Ok(()) } else { bail!("/readyz: {status} {body}") }
        })
        .await
    }

    /// The sum of all samples of a metric whose labels contain every one of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let (_, text) = self.admin("/metrics").await?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum())
    }

    /// Runs another subcommand with the same configuration: (exit code, standard output, standard error).
    pub async fn command(&self, arguments: &[&str]) -> Result<(i32, String, String)> {
        run(&self.config, arguments).await
    }

    /// A subcommand with `--json`.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let (code, output, error) = self.command(&[arguments, &["--json"]].concat()).await?;
        if code != 0 {
            bail!("dovetail {}: exit {code}: {error}", arguments.join(" "));
        }
        Ok(serde_json::from_str(&output)?)
    }
}

/// Runs a subcommand with a configuration.
pub async fn run(config: &Path, arguments: &[&str]) -> Result<(i32, String, String)> {
    let output = Command::new(program()?)
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .await
        .context("start dovetail")?;
    Ok((
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}
