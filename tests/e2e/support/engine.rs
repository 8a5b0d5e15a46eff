//! A throwaway engine, made and taken down by `scripts/engine`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::process;

/// The project's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A running engine.
pub struct Engine {
    name: String,
    nodes: usize,
    exports: BTreeMap<String, String>,
}

impl Engine {
    /// Brings one up; its name is made unique by our process id. Where all is stopped on the way, the script removes what
    /// it has made so far.
    pub async fn up(name: &str, nodes: usize, stopped: &CancellationToken) -> Result<Self> {
        let name = format!("{name}-{}", std::process::id());
        // `output` of tokio would keep the progress on standard error from whoever waits.
        let child = Command::new(root().join("scripts/engine"))
            .arg("up")
            .env("ENGINE_NAME", &name)
            .env("ENGINE_TLS", "1")
            .env("NODES", nodes.to_string())
            .current_dir(root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start scripts/engine")?;
        let id = child.id().context("scripts/engine runs")?;
        let mut work = pin!(child.wait_with_output());
        let output = tokio::select! {
            output = &mut work => output,
            () = stopped.cancelled() => {
                process::terminate(id).await?;
                work.await
            }
        };
        let output = output.context("wait for scripts/engine")?;
        if !output.status.success() {
            bail!("scripts/engine up ended with {}", output.status);
        }
        let exports = String::from_utf8(output.stdout)?
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
            .collect();
        Ok(Self { name, nodes, exports })
    }

    /// One of the exported values.
    pub fn get(&self, key: &str) -> &str {
        self.exports.get(key).map(String::as_str).unwrap_or_else(|| panic!("scripts/engine exports {key}"))
    }

    /// All exported values, for child processes.
    pub fn exports(&self) -> &BTreeMap<String, String> {
        &self.exports
    }

    /// The path of the first manager's API socket.
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(self.get("DOCKER_HOST").strip_prefix("unix://").expect("a unix socket"))
    }

    /// How many managers it has.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Where the proxies' HTTP listeners answer, one address a node, the first manager's first.
    pub fn http_addresses(&self) -> Vec<String> {
        self.get("ENGINE_NODES").split(',').map(|address| format!("{address}:80")).collect()
    }

    /// Runs a verb of `scripts/engine` on the engine of this name.
    pub async fn verb_of(name: &str, arguments: &[&str]) -> Result<()> {
        let status = Command::new(root().join("scripts/engine"))
            .args(arguments)
            .env("ENGINE_NAME", name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .await?;
        if status.success() { Ok(()) } else { bail!("scripts/engine {arguments:?} ended with {status}") }
    }

    /// Takes it down.
    pub async fn down(&mut self) {
        if let Err(error) = Self::verb_of(&self.name, &["down"]).await {
            eprintln!("e2e: taking the engine {} down: {error:#}", self.name);
        }
    }
}
