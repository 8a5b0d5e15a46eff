//! A real nginx for each task of the proxy service, with the files of that task's configs.
//!
//! The files are as rendered but for paths, the listening address, the addresses of servers (loopback stands for the
//! Swarm's networks), and the user, which only root could change to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::config::{self, NginxVersion};

/// The nginx of this machine.
#[derive(Clone, Debug)]
pub struct Nginx {
    /// The binary.
    pub program: PathBuf,
    /// What it says it is.
    pub version: NginxVersion,
}

impl Nginx {
    /// Looks for one, or takes this; the error says for people why there is none.
    pub async fn find(program: Option<&Path>) -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_the_path = || {
            std::env::split_paths(&path)
                .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
                .map(|directory| directory.join("nginx"))
                .find(|program| program.is_file())
        };
        let program = program
            .map(Path::to_owned)
            .or_else(on_the_path)
            .ok_or("there is none on this machine (Debian: apt-get install nginx-light)")?;
        let output = Command::new(&program)
            .arg("-v")
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let version = said.split_once("nginx/").map_or("", |(_, rest)| rest).split_whitespace().next().unwrap_or("");
        let version = config::read_word(version)
            .map_err(|error| format!("{} is not of a version that Dovetail knows: {error}", program.display()))?;
        Ok(Self { program, version })
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("-e")
            .arg(directory.join("error.log"))
            .arg("-p")
            .arg(directory)
            .arg("-c")
            .arg(directory.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Starts one on these files, and waits until it answers its health check.
    pub async fn start(&self, directory: PathBuf, files: &BTreeMap<String, String>) -> Result<Proxy> {
        let address = write(&directory, files)?;
        // Ctrl-C is for us alone: we stop it in order.
        let process = self.command(&directory).process_group(0).kill_on_drop(true).spawn()?;
        let mut proxy = Proxy { nginx: self.clone(), directory, address, process };
        proxy.answers().await?;
        Ok(proxy)
    }

    /// Why it does not take these files, if so: `nginx -t`, for some ten milliseconds.
    pub fn refuses(&self, directory: &Path, files: &BTreeMap<String, String>) -> Option<String> {
        let test = || -> Result<Option<String>> {
            write(directory, files)?;
            let output = self.command(directory).arg("-t").as_std_mut().stderr(Stdio::piped()).output()?;
            Ok((!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        };
        test().unwrap_or_else(|error| Some(format!("nginx -t cannot be run: {error:#}")))
    }
}

/// Writes what lies in `/etc/nginx` to a directory, for an address that is free.
fn write(directory: &Path, files: &BTreeMap<String, String>) -> Result<SocketAddr> {
    std::fs::create_dir_all(directory.join("dovetail"))?;
    // Free now, and asked for at once.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    for (path, text) in files {
        let Some(path) = path.strip_prefix("/etc/nginx/") else { continue };
        std::fs::write(directory.join(path), adjusted(text, directory, address))?;
    }
    Ok(address)
}

/// A running nginx. Dropped, it is told to stop at once.
#[derive(Debug)]
pub struct Proxy {
    nginx: Nginx,
    directory: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    process: Child,
}

impl Proxy {
    async fn answers(&mut self) -> Result<()> {
        for _ in 0..500 {
            if let Some(status) = self.process.try_wait()? {
                let log = std::fs::read_to_string(self.directory.join("error.log")).unwrap_or_default();
                bail!("nginx ended with {status}: {}", log.trim());
            }
            let answer = super::http::get(self.address, "health", "/.dovetail/health").await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("nginx does not answer its health check")
    }

    /// Lets it finish open requests (SIGQUIT, as Swarm does), and waits until it has ended.
    pub async fn quit(self) -> Result<()> {
        self.end(&["quit", "stop"]).await
    }

    /// Ends it at once, with all that it is at.
    pub async fn kill(self) -> Result<()> {
        self.end(&["stop"]).await
    }

    /// By one signal after the other, each with three seconds. A master that is killed would leave its workers.
    async fn end(mut self, signals: &[&str]) -> Result<()> {
        for signal in signals {
            self.nginx.command(&self.directory).args(["-s", signal]).status().await?;
            if let Ok(ended) = timeout(Duration::from_secs(3), self.process.wait()).await {
                ended.context("nginx cannot be waited for")?;
                return Ok(());
            }
        }
        bail!("nginx does not end")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Killing the master alone would leave its workers.
        if matches!(self.process.try_wait(), Ok(None)) {
            let mut command = self.nginx.command(&self.directory);
            let _ = command.args(["-s", "stop"]).as_std_mut().status();
        }
    }
}

/// A rendered file for a life outside of a container.
fn adjusted(text: &str, directory: &Path, address: SocketAddr) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut adjusted = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["user", ..] => continue,
            ["pid", ..] => adjusted.push_str(&format!("pid {};", at("nginx.pid"))),
            // Nothing in the story is about TLS, and the processes of all proxies are on one machine.
            ["listen", "443", ..] => adjusted.push_str(&line.replacen("443", &format!("unix:{}", at("tls.sock")), 1)),
            ["listen", _, ..] => adjusted.push_str(&line.replacen("80", &address.to_string(), 1)),
            ["http", "{"] => {
                adjusted.push_str(line);
                for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
                    adjusted.push_str(&format!("\n    {kind}_temp_path {};", at(kind)));
                }
            }
            _ => {
                let line = line.replace("/etc/nginx/dovetail/", &at("dovetail/"));
                adjusted
                    .push_str(&line.replace("/dev/stdout", &at("access.log")).replace("/dev/stderr", &at("error.log")));
            }
        }
        adjusted.push('\n');
    }
    adjusted
}
