//! What one scenario has to play with: an engine, a client, a directory, an operator when it wants one. What it
//! made is removed afterwards, and what cannot be removed is a failure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::docker::Docker;
use super::engine::Engine;
use super::load::{self, Answer, Load};
use super::operator::{self, Operator};
use super::recorder::Recorder;
use super::wait::{self, SECOND};

/// The label of containers that belong to no service.
const STRANGER: &str = "dovetail.e2e.stranger";

/// Lists the networks that services can be on.
const NETWORKS: &str = "network ls --format {{.Name}} -f driver=overlay";

/// The world of one scenario.
pub struct World {
    name: &'static str,
    directory: PathBuf,
    /// The client.
    pub docker: Docker,
    /// Values that `scripts/engine` exported.
    pub exports: std::collections::BTreeMap<String, String>,
    /// Where the proxies answer HTTP.
    pub http: Vec<String>,
    engine_socket: PathBuf,
    figures: Vec<String>,
    /// The proxy between the operator and the engine, once there is one.
    pub recorder: Option<Recorder>,
    /// The operator, once there is one.
    pub operator: Option<Operator>,
    /// How the proxies are published: `host`, unless the scenario sets `ingress` (which needs a kernel with IPVS
    /// to be reached).
    pub publish_mode: &'static str,
    /// More lines below `nginx:` in the operator's configuration, indented by six.
    pub nginx_settings: String,
    /// The clusters of proxies, in the place of the one that is made otherwise.
    pub clusters: Option<String>,
    /// The port that the proxies publish. The requests of a world go to port 80.
    pub http_port: u16,
    /// The program that the next operator is: this version's, unless the scenario says otherwise.
    pub program: PathBuf,
    /// Where the operator serves its admin pages: on a port that was free, so that two runs get on beside each other.
    admin: String,
    /// Nodes that the scenario has broken: mended when it is over.
    broken: BTreeSet<usize>,
}

impl World {
    /// An empty world on this engine.
    ///
    /// # Errors
    /// When the program is not built, or this machine has no directory or port to spare.
    pub fn new(name: &'static str, engine: &Engine) -> Result<Self> {
        let program = operator::program()?;
        let directory = std::env::temp_dir().join(format!("dovetail-e2e-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).context("make a temporary directory")?;
        Ok(Self {
            name,
            directory,
            docker: Docker::new(engine.socket()),
            exports: engine.exports().clone(),
            http: engine.http_addresses(),
            engine_socket: engine.socket(),
            figures: Vec::new(),
            recorder: None,
            operator: None,
            publish_mode: "host",
            nginx_settings: String::new(),
            clusters: None,
            http_port: 80,
            program,
            admin: free_address().context("find a free port on loopback")?,
            broken: BTreeSet::new(),
        })
    }

    /// A client of another node's engine; the first is 1.
    pub fn docker_of(&self, node: usize) -> Docker {
        Docker::new(format!("{}/n{node}/docker.sock", self.export("ENGINE_STATE")).into())
    }

    /// Kills a node's dockerd, as a crash would: its containers go on.
    pub async fn crash(&mut self, node: usize) -> Result<()> {
        self.broken.insert(node);
        self.on_node(node, &["stop-dockerd"], &["KILL"]).await
    }

    /// Stops a node's dockerd as `systemctl` does, and starts it again.
    pub async fn restart_dockerd(&mut self, node: usize) -> Result<()> {
        self.broken.insert(node);
        self.on_node(node, &["restart-dockerd"], &[]).await?;
        self.broken.remove(&node);
        Ok(())
    }

    /// Takes a node's network cable out.
    pub async fn cut(&mut self, node: usize) -> Result<()> {
        self.broken.insert(node);
        self.on_node(node, &["cut"], &[]).await
    }

    /// Puts the cable back, and starts dockerd if it does not run.
    pub async fn mend(&mut self, node: usize) -> Result<()> {
        self.on_node(node, &["heal"], &[]).await?;
        self.on_node(node, &["start-dockerd"], &[]).await?;
        self.broken.remove(&node);
        Ok(())
    }

    async fn on_node(&self, node: usize, verb: &[&str], more: &[&str]) -> Result<()> {
        let node = node.to_string();
        Engine::verb_of(self.export("ENGINE_NAME"), &[verb, &[node.as_str()], more].concat()).await
    }

    /// A directory for the scenario's files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// One of the values that `scripts/engine` exported.
    pub fn export(&self, key: &str) -> &str {
        self.exports.get(key).map(String::as_str).unwrap_or_else(|| panic!("scripts/engine exports {key}"))
    }

    /// The demo application's image.
    pub fn demo_image(&self) -> String {
        self.export("DEMO_IMAGE").to_owned()
    }

    /// Tells a figure in the table at the end.
    pub fn figure(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }

    /// The figures told.
    pub fn figures(&self) -> &[String] {
        &self.figures
    }

    /// The configuration of one cluster of proxies with the test's image: `settings` are lines below its name, `proxy`
    /// lines below `proxy:`.
    pub fn cluster(&self, name: &str, settings: &str, proxy: &str) -> String {
        format!(
            "  {name}:\n{settings}    nginx:\n      version: \"{}\"\n{}    proxy:\n      image: {}\n{proxy}",
            self.exports.get("NGINX_VERSION").map(String::as_str).unwrap_or("1.22.1"),
            self.nginx_settings,
            self.export("PROXY_IMAGE"),
        )
    }

    /// Writes the operator's configuration: host mode, the test's image and version of nginx, and `extra`
    /// lines below `proxy:` (indented by six).
    pub fn write_config(&self, extra: &str) -> Result<PathBuf> {
        let recorder = self.recorder.as_ref().context("a recorder")?;
        let path = self.directory.join("dovetail.yaml");
        std::fs::write(&path, self.config_text(recorder, &self.admin, extra))?;
        Ok(path)
    }

    fn config_text(&self, recorder: &Recorder, admin: &str, extra: &str) -> String {
        let head = format!(
            "instance: e2e\nengine:\n  endpoint: unix://{}\nadmin:\n  listen: {admin}\nclusters:\n",
            recorder.socket().display(),
        );
        let clusters = match &self.clusters {
            Some(clusters) => clusters.clone(),
            None => self.cluster(
                "main",
                "",
                &format!(
                    "      publish_mode: {}\n      ports:\n        http: {}\n{extra}{}",
                    self.publish_mode,
                    self.http_port,
                    patience(extra)
                ),
            ),
        };
        head + &clusters
    }

    /// The socket of the first manager's engine, without a recorder in front.
    pub fn engine_socket(&self) -> &Path {
        &self.engine_socket
    }

    /// Starts an operator behind a recorder and waits until it is ready.
    pub async fn start_operator(&mut self) -> Result<()> {
        self.start_operator_with("").await
    }

    /// Starts the recorder that an operator speaks through.
    pub fn start_recorder(&mut self) -> Result<()> {
        if self.recorder.is_none() {
            let socket = self.directory.join("engine.sock");
            self.recorder = Some(Recorder::start(socket, self.engine_socket.clone())?);
        }
        Ok(())
    }

    /// Starts an operator and waits for nothing.
    pub fn launch_operator(&mut self, extra: &str) -> Result<()> {
        self.start_recorder()?;
        let config = self.write_config(extra)?;
        self.operator = Some(Operator::start(&self.program, &self.directory, &config, &self.admin)?);
        Ok(())
    }

    /// The same with extra lines below `proxy:`.
    pub async fn start_operator_with(&mut self, extra: &str) -> Result<()> {
        self.launch_operator(extra)?;
        self.operator().ready().await?;
        if self.publish_mode != "host" {
            return self.settled(Duration::from_secs(60)).await;
        }
        wait::until("a proxy answers its health path", Duration::from_secs(60), || async {
            let answer = self.get("health", "/.dovetail/health").await?;
            if answer.status == 200 { Ok(()) } else { bail!("{}", answer.status) }
        })
        .await
    }

    /// Starts a second operator of the same installation beside the first, behind a recorder of its own.
    pub fn another_operator(&self, extra: &str) -> Result<(Operator, Recorder)> {
        let directory = self.directory.join("another");
        std::fs::create_dir_all(&directory)?;
        let recorder = Recorder::start(directory.join("engine.sock"), self.engine_socket.clone())?;
        let admin = free_address()?;
        let config = directory.join("dovetail.yaml");
        std::fs::write(&config, self.config_text(&recorder, &admin, extra))?;
        Ok((Operator::start(&self.program, &directory, &config, &admin)?, recorder))
    }

    /// The operator.
    pub fn operator(&self) -> &Operator {
        self.operator.as_ref().expect("the scenario started an operator")
    }

    /// The recorder.
    pub fn recorder(&self) -> &Recorder {
        self.recorder.as_ref().expect("the scenario started an operator")
    }

    /// Creates an overlay network.
    pub async fn network(&self, name: &str) -> Result<()> {
        self.docker.run(&["network", "create", "-d", "overlay", name]).await.map(|_| ())
    }

    /// Creates a service of the demo application that asks for these hosts, on the network `demo` unless `more`
    /// names one, and does not wait for it unless that says `--detach=false`.
    pub async fn serve(&self, name: &str, hosts: &str, more: &str) -> Result<()> {
        let network = if more.contains("--network") { "" } else { "--network demo" };
        let image = self.demo_image();
        self.docker
            .line(&format!(
                "service create --name {name} {network} --detach --label com.docker.lb.hosts={hosts} \
                 --label com.docker.lb.port=8080 {more} {image}"
            ))
            .await
            .map(|_| ())
    }

    /// Starts an operator, and a service `NAME` on the network `demo`; waits until it is routed, and all is at rest.
    pub async fn begin_serving(&mut self, name: &str, more: &str, at_rest_within: Duration) -> Result<()> {
        self.start_operator().await?;
        self.network("demo").await?;
        let host = format!("{name}.local");
        self.serve(name, &host, more).await?;
        self.routed(&host, 60 * SECOND).await?;
        self.settled(at_rest_within).await
    }

    /// Serves a healthy service in the middle of some trouble, and tells how long it takes until it is routed: at
    /// most 60 s.
    pub async fn healthy_meanwhile(&mut self, name: &str) -> Result<()> {
        self.serve(name, &format!("{name}.local"), "").await?;
        let started = Instant::now();
        self.routed(&format!("{name}.local"), Duration::from_secs(60)).await?;
        self.figure(format!("a healthy service meanwhile is routed after {:.1} s", started.elapsed().as_secs_f64()));
        Ok(())
    }

    /// What `dovetail status --json` says of the cluster.
    pub async fn status(&self) -> Result<Value> {
        Ok(self.operator().json(&["status"]).await?["clusters"][0].clone())
    }

    /// Waits until `dovetail status`, as people read it, contains all of these words; answers it.
    pub async fn status_says(&self, words: &[&str], within: Duration) -> Result<String> {
        wait::until(&format!("status says {words:?}"), within, || async {
            let (_, text, _) = self.operator().command(&["status"]).await?;
            if words.iter().all(|word| text.contains(word)) { Ok(text) } else { bail!("{text}") }
        })
        .await
    }

    /// Builds and pushes an image that is the proxy image with this shell script instead of nginx, which the
    /// script finds at `/usr/sbin/nginx`. A check of the files (`-t`) passes all the same.
    pub async fn proxy_image_with(&self, tag: &str, script: &str) -> Result<String> {
        let good = self.export("PROXY_IMAGE");
        let image = format!("{}/nginx-{tag}:{}", self.export("REGISTRY"), good.rsplit(':').next().unwrap_or("latest"));
        let context = self.directory.join(tag);
        std::fs::create_dir_all(&context)?;
        let check = "case \" $* \" in *\" -t \"*) exec /usr/sbin/nginx \"$@\" ;; esac";
        std::fs::write(context.join("nginx"), format!("#!/bin/sh\n{check}\n{script}\n"))?;
        std::fs::set_permissions(context.join("nginx"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let dockerfile = format!(
            "FROM {good}\nCOPY nginx /usr/local/sbin/nginx\nENV PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        );
        std::fs::write(context.join("Dockerfile"), dockerfile)?;
        self.docker.run(&["build", "-q", "-t", &image, &context.display().to_string()]).await?;
        self.docker.run(&["push", "-q", &image]).await?;
        Ok(image)
    }

    /// The name of the node that the client talks to.
    pub async fn first_node(&self) -> Result<String> {
        self.docker.run(&["info", "--format", "{{.Name}}"]).await
    }

    /// A container of a service on the first node.
    pub async fn container(&self, service: &str) -> Result<String> {
        let containers = self.docker.line(&format!("ps -q -f label=com.docker.swarm.service.name={service}")).await?;
        let container = containers.lines().next().with_context(|| format!("a container of {service} runs here"))?;
        Ok(container.to_owned())
    }

    /// Kills a container of a service on the first node, and waits until Swarm has put another task in its place.
    pub async fn kill_one_task(&self, service: &str) -> Result<()> {
        let before = self.docker.task_ids(service).await?;
        self.docker.run(&["kill", &self.container(service).await?]).await?;
        wait::until(&format!("the task of {service} is replaced"), 60 * SECOND, || async {
            let running = self.docker.running_tasks(service).await?.len();
            let now = self.docker.task_ids(service).await?;
            if running == before.len() && now != before { Ok(()) } else { bail!("{running} run") }
        })
        .await
    }

    /// Waits until a service on the network `demo` has so many tasks, and each of them is an upstream in the live files.
    pub async fn every_task_is_an_upstream(&self, service: &str, tasks: usize) -> Result<()> {
        wait::until(&format!("the {tasks} tasks of {service} are upstreams"), 60 * SECOND, || async {
            let (routes, addresses) = (self.live_routes().await?, self.docker.addresses(service, "demo").await?);
            ensure!(addresses.len() == tasks, "{} run", addresses.len());
            match addresses.iter().find(|address| !routes.contains(&format!("server {address}:8080"))) {
                None => Ok(()),
                Some(missing) => bail!("{missing} is none"),
            }
        })
        .await
    }

    /// Connects so many containers of no service to an attachable network, on the first node.
    pub async fn strangers(&self, network: &str, count: usize) -> Result<()> {
        let image = self.demo_image();
        for _ in 0..count {
            self.docker.line(&format!("run -d --label {STRANGER} --network {network} {image}")).await?;
        }
        Ok(())
    }

    /// One request to the proxy.
    pub async fn get(&self, host: &str, path: &str) -> Result<Answer> {
        load::get_any(&self.http, host, path).await
    }

    /// The same with more headers.
    pub async fn get_with(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        load::get_with(&self.http[0], host, path, headers).await
    }

    /// Waits until a host answers 200.
    pub async fn routed(&self, host: &str, within: Duration) -> Result<Answer> {
        wait::until(&format!("{host} answers 200"), within, || async {
            let answer = self.get(host, "/ping").await?;
            if answer.status == 200 { Ok(answer) } else { bail!("{}", answer.status) }
        })
        .await
    }

    /// A steady stream of requests for `/ping` of a host.
    pub fn load(&self, host: &str, every: Duration) -> Load {
        Load::start(&self.http, host, "/ping", every)
    }

    /// Stops a load on a route that was there before, and tells what became of it: a balancer in front loses nothing.
    pub async fn nothing_failed(&mut self, load: Load) -> Result<()> {
        let counts = load.stop().await;
        self.figure(format!("the old route throughout: {counts}"));
        ensure!(counts.failed == 0, "the old routes keep answering: {counts}");
        Ok(())
    }

    /// The live files of the proxy service: every config object it refers to, by target path.
    pub async fn live_files(&self) -> Result<std::collections::BTreeMap<String, String>> {
        let service = self.docker.service("dovetail-proxy").await?;
        let references = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"].as_array().cloned();
        let mut files = std::collections::BTreeMap::new();
        for reference in references.unwrap_or_default() {
            let name = reference["ConfigName"].as_str().context("a reference has a name")?;
            let text = self.docker.run(&["config", "inspect", "--pretty", name]).await?;
            let data = text.split_once("Data:").map(|(_, data)| data.trim().to_owned()).unwrap_or_default();
            files.insert(reference["File"]["Name"].as_str().unwrap_or_default().to_owned(), data);
        }
        Ok(files)
    }

    /// All live files that hold routes, as one text.
    pub async fn live_routes(&self) -> Result<String> {
        let files = self.live_files().await?;
        Ok(files.iter().filter(|(path, _)| path.contains("routes")).map(|(_, text)| text.as_str()).collect())
    }

    /// Waits until the proxy service's last update is over and `plan` has nothing to do.
    pub async fn settled(&self, within: Duration) -> Result<()> {
        wait::until("the proxies are in step", within, || async {
            let plan = self.operator().json(&["plan"]).await?;
            for cluster in plan["clusters"].as_array().context("plan --json lists clusters")? {
                let steps = cluster["steps"].as_array().map_or(0, Vec::len);
                // While a rollout runs nothing is planned, and when it ends the next one can begin: so what runs has to be
                // said by the same look.
                let state = cluster["status"]["phase"]["state"].as_str().unwrap_or_default();
                if steps > 0 || matches!(state, "rolling" | "checking") {
                    bail!("{} is {state}, and {steps} steps are planned", cluster["cluster"])
                }
            }
            let service = self.docker.service("dovetail-proxy").await?;
            let state = service["UpdateStatus"]["State"].as_str().unwrap_or("none").to_owned();
            if matches!(state.as_str(), "updating" | "rollback_started") {
                bail!("the update is {state}")
            } else {
                Ok(())
            }
        })
        .await
    }

    /// Prints what helps to understand a failure.
    pub async fn print_evidence(&self) {
        eprintln!("--- evidence of {}", self.name);
        if let Some(operator) = &self.operator {
            if let Ok(lines) = operator.log() {
                for line in lines.iter().rev().take(40).rev() {
                    eprintln!("{line}");
                }
            }
            if let Ok((_, output, error)) = operator.command(&["status"]).await {
                eprintln!("{output}{error}");
            }
        }
        for arguments in [
            &["service", "ls"][..],
            &["service", "ps", "--no-trunc", "dovetail-proxy"][..],
            &["service", "inspect", "-f", "{{json .UpdateStatus}}", "dovetail-proxy"][..],
            &["service", "logs", "--tail", "20", "--raw", "dovetail-proxy"][..],
            &["service", "logs", "--tail", "60", "--raw", "dovetail_operator"][..],
        ] {
            match self.docker.run(arguments).await {
                Ok(output) => eprintln!("$ docker {}\n{output}", arguments.join(" ")),
                Err(error) => eprintln!("{error:#}"),
            }
        }
        eprintln!("--- end of evidence");
    }

    /// Stops the operator and removes services, stacks, configs, secrets and networks from the engine.
    pub async fn clean_up(&mut self) -> Result<()> {
        if let Some(operator) = self.operator.take() {
            operator.kill().await?;
        }
        let offences = self.recorder.take().map(|recorder| recorder.take_offences()).unwrap_or_default();
        for node in std::mem::take(&mut self.broken) {
            self.mend(node).await.with_context(|| format!("mend node {node}"))?;
        }
        let docker = &self.docker;
        wait::until("the engine is empty again", Duration::from_secs(60), || async {
            // A network that goes while containers are still on it stays on their node, half removed, for good.
            self.remove_all("service ls -q", "service rm").await?;
            self.remove_all(&format!("ps -aq -f label={STRANGER}"), "rm -f").await?;
            let containers = docker.line("ps -q").await?;
            if !containers.is_empty() {
                bail!("containers still run: {containers}")
            }
            self.remove_all("config ls -q", "config rm").await?;
            self.remove_all("secret ls -q", "secret rm").await?;
            self.remove_all(NETWORKS, "network rm").await?;
            // The cluster forgets a network at once, each node only when its last task on it is gone; until then a
            // new network cannot have its name.
            let networks = self.removable(NETWORKS).await?;
            if networks.is_empty() { Ok(()) } else { bail!("networks are still there: {networks:?}") }
        })
        .await?;
        std::fs::remove_dir_all(&self.directory).context("remove the scenario's directory")?;
        ensure!(offences.is_empty(), "the operator asked for more than it may: {offences:?}");
        Ok(())
    }

    async fn remove_all(&self, list: &str, remove: &str) -> Result<()> {
        let found = self.removable(list).await?;
        if found.is_empty() {
            return Ok(());
        }
        let arguments: Vec<&str> = remove.split(' ').chain(found.iter().map(String::as_str)).collect();
        self.docker.run(&arguments).await.map(|_| ())
    }

    /// What a list has, the network of the routing mesh aside.
    async fn removable(&self, list: &str) -> Result<Vec<String>> {
        let found = self.docker.line(list).await?;
        Ok(found.lines().filter(|name| *name != "ingress").map(str::to_owned).collect())
    }
}

fn free_address() -> std::io::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// On a slow machine a proxy is slow too, and no failure for it.
fn patience(extra: &str) -> String {
    let slow = wait::stretched(SECOND).as_secs();
    if slow == 1 || extra.contains("update:") {
        return String::new();
    }
    format!("      update:\n        deadline: {}s\n      health_check:\n        timeout: {}s\n", 60 * slow, 3 * slow)
}
