//! The docker client, as an operator uses it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

/// The docker client, pointed at one engine.
#[derive(Clone)]
pub struct Docker {
    /// The options that say where it is and how to get in.
    options: Vec<String>,
}

impl Docker {
    /// A client of the engine at this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { options: vec!["--host".into(), format!("unix://{}", socket.display())] }
    }

    /// A client of the engine at this endpoint, with the client certificate of this bundle.
    pub fn over_tls(endpoint: &str, bundle: &str) -> Self {
        let file = |option: &str, name: &str| format!("{option}={bundle}/{name}.pem");
        let files = [file("--tlscacert", "ca"), file("--tlscert", "cert"), file("--tlskey", "key")];
        let mut options = vec!["--host".to_owned(), endpoint.to_owned(), "--tlsverify".into()];
        options.extend(files);
        Self { options }
    }

    /// Runs `docker ARGUMENTS` and returns what it prints.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("docker")
            .args(&self.options)
            .args(arguments)
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY")
            .env_remove("DOCKER_CERT_PATH")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("start docker")?;
        if !output.status.success() {
            bail!("docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a command line, split at blanks.
    pub async fn line(&self, line: &str) -> Result<String> {
        self.run(&line.split_whitespace().collect::<Vec<_>>()).await
    }

    /// `docker inspect` of one service.
    pub async fn service(&self, name: &str) -> Result<Value> {
        let text = self.run(&["service", "inspect", name]).await?;
        let value: Value = serde_json::from_str(&text)?;
        value.get(0).cloned().context("docker service inspect prints a list of one")
    }

    /// The version index of a service.
    pub async fn version(&self, name: &str) -> Result<u64> {
        self.service(name).await?["Version"]["Index"].as_u64().context("a service has a version")
    }

    /// Ids of the tasks of a service that should run.
    pub async fn task_ids(&self, service: &str) -> Result<Vec<String>> {
        let text = self.run(&["service", "ps", "-q", "--no-trunc", "-f", "desired-state=running", service]).await?;
        let mut ids: Vec<String> = text.lines().map(str::to_owned).collect();
        ids.sort();
        Ok(ids)
    }

    /// The tasks that run: (id, addresses by network name).
    pub async fn running_tasks(&self, service: &str) -> Result<Vec<Value>> {
        let ids = self.task_ids(service).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["inspect"];
        arguments.extend(ids.iter().map(String::as_str));
        let tasks: Vec<Value> = serde_json::from_str(&self.run(&arguments).await?)?;
        Ok(tasks.into_iter().filter(|task| task["Status"]["State"] == "running").collect())
    }

    /// The addresses of a service's running tasks on a network.
    pub async fn addresses(&self, service: &str, network: &str) -> Result<Vec<String>> {
        let tasks = self.running_tasks(service).await?;
        let mut addresses: Vec<String> = tasks
            .iter()
            .flat_map(|task| task["NetworksAttachments"].as_array().cloned().unwrap_or_default())
            .filter(|attachment| attachment["Network"]["Spec"]["Name"] == network)
            .filter_map(|attachment| {
                let address = attachment["Addresses"][0].as_str()?;
                Some(address.split('/').next().unwrap_or_default().to_owned())
            })
            .collect();
        addresses.sort();
        Ok(addresses)
    }

    /// Where the nodes of a service's running tasks publish a port of theirs in host mode.
    pub async fn at_nodes(&self, service: &str, port: u16) -> Result<Vec<String>> {
        // The Engine tells a port once for each family of addresses.
        let mut found = BTreeSet::new();
        for task in self.running_tasks(service).await? {
            let node = task["NodeID"].as_str().context("a running task has a node")?;
            let address = self.run(&["node", "inspect", "-f", "{{.Status.Addr}}", node]).await?;
            let ports = task["Status"]["PortStatus"]["Ports"].as_array().cloned().unwrap_or_default();
            let published = ports.iter().filter(|published| published["TargetPort"] == port);
            found.extend(published.map(|published| format!("{address}:{}", published["PublishedPort"])));
        }
        Ok(found.into_iter().collect())
    }

    /// The virtual address of a service on a network.
    pub async fn vip(&self, service: &str, network: &str) -> Result<String> {
        let network = self.run(&["network", "inspect", "-f", "{{.ID}}", network]).await?;
        let service = self.service(service).await?;
        let vips = service["Endpoint"]["VirtualIPs"].as_array().cloned().unwrap_or_default();
        let vip =
            vips.iter().find(|vip| vip["NetworkID"] == network.as_str()).context("the service has a VIP there")?;
        Ok(vip["Addr"].as_str().unwrap_or_default().split('/').next().unwrap_or_default().to_owned())
    }
}
