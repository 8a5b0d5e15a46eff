//! What a node does for its tasks, seen from the Swarm: starts and stops containers, gives them addresses, balances
//! virtual addresses and the published port.
//!
//! It looks at the Swarm every few milliseconds and brings what runs in step with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use model::{ServiceId, TaskId};
use swarm::{DesiredState, Task, TaskState};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::PROXY;
use super::application::{Container, Identity};
use super::balancer::Balancer;
use super::nginx::{Nginx, Proxy};

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// What every proxy has mounted, and nothing else has.
const MAIN_FILE: &str = "/etc/nginx/nginx.conf";

/// The port of the demo application in the Swarm.
const PORT: u16 = 8080;

/// The node, at work.
#[derive(Debug)]
pub struct Node {
    /// Where the proxies' published port is; none without an nginx.
    pub published: Option<SocketAddr>,
    addresses: Addresses,
    trouble: Arc<Mutex<Option<String>>>,
    stop: CancellationToken,
    work: JoinHandle<Result<()>>,
}

/// The loopback address of each address in the Swarm.
#[derive(Clone, Debug, Default)]
struct Addresses(Arc<Mutex<BTreeMap<SocketAddr, SocketAddr>>>);

impl Addresses {
    fn set(&self, in_swarm: SocketAddr, here: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(in_swarm, here);
    }

    fn get(&self, in_swarm: SocketAddr) -> Option<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&in_swarm).copied()
    }
}

impl Node {
    /// Begins to work for a Swarm.
    pub async fn start(swarm: embedded::Swarm, nginx: Option<Nginx>) -> Result<Self> {
        let mesh = Balancer::start(TcpListener::bind("127.0.0.1:0").await?)?;
        let published = nginx.is_some().then_some(mesh.address);
        let (addresses, trouble, stop) = (Addresses::default(), Arc::default(), CancellationToken::new());
        let directory =
            tempfile::Builder::new().prefix("dovetail-demo-").tempdir().context("no temporary directory")?;
        if let Some(nginx) = &nginx {
            let (nginx, place) = (nginx.clone(), directory.path().join("test"));
            // The Swarm sees fail what this nginx refuses: a check of it, or a proxy.
            swarm.break_when(move |task, configs| {
                let mounted = configs.mounted(task);
                let files = mounted.into_iter().map(|(path, data)| (path, String::from_utf8_lossy(&data).into_owned()));
                let files: BTreeMap<String, String> = files.collect();
                files.contains_key(MAIN_FILE).then(|| nginx.refuses(&place, &files)).flatten()
            });
        }
        let worker = Worker {
            swarm,
            nginx,
            directory,
            addresses: addresses.clone(),
            trouble: Arc::clone(&trouble),
            containers: BTreeMap::new(),
            virtual_addresses: BTreeMap::new(),
            mesh,
            proxies: BTreeMap::new(),
            broken: BTreeSet::new(),
            leaving: JoinSet::new(),
        };
        let work = tokio::spawn(worker.work(stop.clone()));
        Ok(Self { published, addresses, trouble, stop, work })
    }

    /// The loopback address that stands for an address in the Swarm.
    pub fn stands_for(&self, in_swarm: SocketAddr) -> Option<SocketAddr> {
        self.addresses.get(in_swarm)
    }

    /// What went wrong last, if anything did.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops everything and removes its files.
    pub async fn stop(&mut self) -> Result<()> {
        self.stop.cancel();
        (&mut self.work).await?
    }
}

/// What runs on the node.
struct Worker {
    swarm: embedded::Swarm,
    nginx: Option<Nginx>,
    directory: TempDir,
    addresses: Addresses,
    trouble: Arc<Mutex<Option<String>>>,
    containers: BTreeMap<TaskId, Container>,
    virtual_addresses: BTreeMap<ServiceId, Balancer>,
    mesh: Balancer,
    proxies: BTreeMap<TaskId, Proxy>,
    /// Proxies that did not start: they are not tried again.
    broken: BTreeSet<TaskId>,
    /// Proxies that finish their requests.
    leaving: JoinSet<Result<()>>,
}

impl Worker {
    async fn work(mut self, stop: CancellationToken) -> Result<()> {
        while !stop.is_cancelled() {
            if let Err(error) = self.look().await {
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
        self.mesh.set_targets(Vec::new());
        for proxy in std::mem::take(&mut self.proxies).into_values() {
            self.leaving.spawn(proxy.quit());
        }
        let mut outcome = Ok(());
        while let Some(ended) = self.leaving.join_next().await {
            outcome = outcome.and(ended.map_err(Into::into).and_then(|ended| ended));
        }
        self.directory.close().context("the temporary directory cannot be removed")?;
        outcome
    }

    async fn look(&mut self) -> Result<()> {
        let mut running: BTreeSet<TaskId> = BTreeSet::new();
        let mut services = BTreeSet::new();
        let mut failed = BTreeSet::new();
        for name in self.swarm.service_names() {
            let all = self.swarm.tasks_named(&name);
            let tasks: Vec<&Task> = all.iter().filter(|task| runs(task)).collect();
            running.extend(tasks.iter().map(|task| task.id.clone()));
            if name == PROXY {
                failed.extend(all.iter().filter(|task| task.state == TaskState::Failed).map(|task| task.id.clone()));
                self.start_proxies(&tasks).await?;
                continue;
            }
            for task in &tasks {
                self.start_container(task).await?;
            }
            if let Some(service) = self.swarm.service_named(&name) {
                self.balance(&service, &tasks).await?;
                services.insert(service.id);
            }
        }
        self.containers.retain(|task, _| running.contains(task));
        self.virtual_addresses.retain(|service, _| services.contains(service));
        let (stay, leave) = std::mem::take(&mut self.proxies).into_iter().partition(|(task, _)| running.contains(task));
        self.proxies = stay;
        self.mesh.set_targets(self.proxies.values().map(|proxy| proxy.address).collect());
        let leave: BTreeMap<TaskId, Proxy> = leave;
        for (task, proxy) in leave {
            // What was killed finishes nothing.
            let _ = if failed.contains(&task) {
                self.leaving.spawn(proxy.kill())
            } else {
                self.leaving.spawn(proxy.quit())
            };
        }
        Ok(())
    }

    async fn start_container(&mut self, task: &Task) -> Result<()> {
        let Some(attachment) = task.attachments.first() else { return Ok(()) };
        if self.containers.contains_key(&task.id) {
            return Ok(());
        }
        let in_swarm = SocketAddr::new(attachment.address, PORT);
        let container = Container::start(listener_for(in_swarm).await?, identity(task))?;
        self.addresses.set(in_swarm, container.address);
        self.containers.insert(task.id.clone(), container);
        Ok(())
    }

    /// Lets the virtual addresses of a service lead to its tasks.
    async fn balance(&mut self, service: &swarm::Service, tasks: &[&Task]) -> Result<()> {
        let Some(address) = service.endpoint.vips.values().next() else { return Ok(()) };
        if !self.virtual_addresses.contains_key(&service.id) {
            let in_swarm = SocketAddr::new(*address, PORT);
            let balancer = Balancer::start(listener_for(in_swarm).await?)?;
            self.addresses.set(in_swarm, balancer.address);
            self.virtual_addresses.insert(service.id.clone(), balancer);
        }
        let containers = tasks.iter().filter_map(|task| self.containers.get(&task.id));
        self.virtual_addresses[&service.id].set_targets(containers.map(|container| container.address).collect());
        Ok(())
    }

    /// Starts an nginx for each new task, and waits until it answers: Swarm believes that it runs already, and stops
    /// the one before it.
    async fn start_proxies(&mut self, tasks: &[&Task]) -> Result<()> {
        let Some(nginx) = self.nginx.clone() else { return Ok(()) };
        for task in tasks {
            if self.proxies.contains_key(&task.id) || self.broken.contains(&task.id) {
                continue;
            }
            let directory = self.directory.path().join(task.id.as_str());
            match nginx.start(directory, &self.files(task)).await {
                Ok(proxy) => {
                    self.proxies.insert(task.id.clone(), proxy);
                }
                Err(error) => {
                    self.broken.insert(task.id.clone());
                    return Err(error.context(format!("the proxy of task {} does not start", task.id)));
                }
            }
        }
        Ok(())
    }

    /// What a task finds mounted, with addresses of this machine.
    fn files(&self, task: &Task) -> BTreeMap<String, String> {
        let configs = self.swarm.all_configs();
        let references = task.spec.pointer("/ContainerSpec/Configs").and_then(|configs| configs.as_array());
        let mounted = references.into_iter().flatten().filter_map(|reference| {
            let id = reference["ConfigID"].as_str()?;
            let config = configs.iter().find(|config| config.id.as_str() == id)?;
            let text = String::from_utf8_lossy(&config.data);
            Some((reference["File"]["Name"].as_str()?.to_owned(), self.with_addresses_here(&text)))
        });
        mounted.collect()
    }

    fn with_addresses_here(&self, text: &str) -> String {
        let mut lines = String::new();
        for line in text.lines() {
            let in_swarm = line
                .trim_start()
                .strip_prefix("server ")
                .and_then(|rest| rest.split([' ', ';']).next().filter(|word| word.parse::<SocketAddr>().is_ok()));
            let line = match in_swarm {
                Some(word) => {
                    // A server that has just gone: nobody listens on port 1.
                    let here = word.parse().ok().and_then(|address| self.addresses.get(address));
                    let here = here.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 1)));
                    line.replacen(word, &here.to_string(), 1)
                }
                None => line.to_owned(),
            };
            lines.push_str(&line);
            lines.push('\n');
        }
        lines
    }
}

fn runs(task: &Task) -> bool {
    task.state == TaskState::Running && task.desired == DesiredState::Running
}

/// 127.0.1.3 for 10.0.1.3 where all of 127.0.0.0/8 is ours, else 127.0.0.1; on a port that is free.
async fn listener_for(in_swarm: SocketAddr) -> Result<TcpListener> {
    if let IpAddr::V4(address) = in_swarm.ip() {
        let [_, b, c, d] = address.octets();
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::new(127, b, c, d), 0)).await {
            return Ok(listener);
        }
    }
    TcpListener::bind("127.0.0.1:0").await.context("nothing can listen on loopback")
}

fn identity(task: &Task) -> Identity {
    let text = |pointer| task.spec.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
    let env = task.spec.pointer("/ContainerSpec/Env").and_then(|env| env.as_array());
    let metadata = env.into_iter().flatten().find_map(|entry| entry.as_str()?.strip_prefix("METADATA="));
    let (image, instance) = (text("/ContainerSpec/Image"), task.id.as_str());
    Identity {
        instance: instance.chars().take(12).collect(),
        version: image.rsplit_once(':').map_or("", |(_, tag)| tag).to_owned(),
        metadata: metadata.unwrap_or_default().to_owned(),
    }
}
