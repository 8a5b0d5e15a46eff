//! The story: what happens on the Swarm, step by step, and what must come of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actuator::Phase;
use embedded::Swarm;
use model::{TaskId, labels};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::checks::{Checks, holds_within, say};
use super::http;
use super::node::Node;
use super::{PROXY, Running};
use crate::commands;
use crate::config::Config;
use crate::look::look;
use crate::routes::{State, routes};

/// How long one thing may take.
const SOON: Duration = Duration::from_secs(15);

/// Everything that takes part.
pub struct Story {
    /// What was checked.
    pub checks: Checks,
    swarm: Swarm,
    config: Config,
    node: Node,
    operator: Running,
    load: Option<Load>,
}

impl Story {
    /// A story that has not begun.
    pub fn new(swarm: Swarm, config: Config, node: Node, operator: Running) -> Self {
        Self { checks: Checks::default(), swarm, config, node, operator, load: None }
    }

    /// Tells it. Dropped anywhere, it is ended by [`Story::end`].
    pub async fn tell(&mut self) {
        self.begin().await;
        self.publish_a_default_host().await;
        self.publish_in_vip_mode().await;
        self.change_what_vip_mode_does_not_care_about().await;
        self.do_the_same_in_task_mode().await;
        self.mistake_a_label().await;
        self.stop_the_operator().await;
    }

    /// Stops and removes everything. Answers the checks, and whether a real nginx took part.
    pub async fn end(mut self) -> (Checks, bool) {
        say("cleaning up");
        drop(self.load.take());
        self.operator.stop.cancel();
        for service in self.swarm.service_names() {
            // It may have gone in the meantime, which is what is wanted.
            let _ = self.swarm.remove_service(&service);
        }
        let real = self.node.published.is_some();
        let stopped = self.node.stop().await;
        if let Some(trouble) = self.node.trouble() {
            self.checks.note(false, &format!("nothing went wrong on the node: {trouble}"));
        }
        let what = match stopped {
            Ok(()) => "nothing is left behind: no process, no file".to_owned(),
            Err(ref error) => format!("nothing is left behind: {error:#}"),
        };
        self.checks.note(stopped.is_ok(), &what);
        (self.checks, real)
    }

    // === Steps ===

    async fn begin(&mut self) {
        say("1/7 the operator begins on an empty Swarm");
        let two_run = async |story: &Self| story.swarm.running_tasks(PROXY).len() == 2;
        self.eventually("the operator creates the proxy service, and two proxies run", two_run).await;
        if let Some(proxy) = self.node.published {
            let unknown = async |_: &Self| status(proxy, "nobody.example.org").await == 503;
            self.eventually("an unknown host is answered 503", unknown).await;
        }
        self.settle().await;
    }

    async fn publish_a_default_host(&mut self) {
        say("2/7 the founding document: publish a default host service");
        say("    docker network create -d overlay demo; docker service create --name demo-default --network demo ...");
        let created = self.swarm.create_network("demo").and_then(|_| {
            self.application("demo-default", "demo-default", 1).label(labels::DEFAULT_BACKEND, "true").create()
        });
        self.done("create demo-default", created);
        let what = "any host that is not configured is answered by the default backend";
        self.check_served("*", "any.example.org", "demo-default", what).await;
        self.settle().await;
    }

    async fn publish_in_vip_mode(&mut self) {
        say("3/7 the founding document: publish a service in VIP mode");
        say("    docker service create --name demo --replicas=4 --label com.docker.lb.backend_mode=vip ...");
        let created = self
            .application("demo", "demo-vip-1", 4)
            .label(labels::HOSTS, "demo.local")
            .label(labels::BACKEND_MODE, "vip")
            .create();
        self.done("create demo", created);
        let only_vip = async |story: &Self| {
            let vip = story.virtual_address("demo");
            vip.is_some() && story.live_servers("demo.local") == vip.into_iter().collect()
        };
        self.eventually("its only upstream is its virtual address", only_vip).await;
        self.settle().await;
        self.check_served("demo.local", "demo.local", "demo", "demo.local is served through the virtual address").await;
        if let Some(proxy) = self.node.published {
            let true_headers = async |story: &Self| story.has_true_headers(proxy).await;
            self.eventually("the answer carries the five headers, with true values", true_headers).await;
            self.show_answer(proxy).await;
            self.load = Some(Load::start(proxy));
        }
    }

    async fn change_what_vip_mode_does_not_care_about(&mut self) {
        say("4/7 scale, update, break: the proxy stands still");
        let running = |swarm: &Swarm, count| swarm.running_tasks("demo").len() == count;
        self.stands_still("docker service scale demo=2", |swarm| swarm.scale("demo", 2), |swarm| running(swarm, 2))
            .await;
        self.stands_still("docker service scale demo=6", |swarm| swarm.scale("demo", 6), |swarm| running(swarm, 6))
            .await;
        let blue = |swarm: &Swarm| {
            let tasks = swarm.running_tasks("demo");
            tasks.len() == 6 && tasks.iter().all(|task| task.spec.to_string().contains("COLOUR=blue"))
        };
        let add_env = |swarm: &Swarm| swarm.set_env("demo", "COLOUR", "blue");
        self.stands_still("docker service update --env-add COLOUR=blue demo", add_env, blue).await;
        let new = |swarm: &Swarm| {
            let tasks = swarm.running_tasks("demo");
            tasks.len() == 6 && tasks.iter().all(|task| task.spec.to_string().contains("demo-app:0.2"))
        };
        let image = |swarm: &Swarm| swarm.update_image("demo", "demo-app:0.2");
        self.stands_still("docker service update --image demo-app:0.2 demo", image, new).await;
        if let Some(proxy) = self.node.published {
            let new_version = async |_: &Self| {
                http::get(proxy, "demo.local", "/ping").await.is_ok_and(|answer| answer.field("version") == "0.2")
            };
            self.eventually("and the new image answers through the same address", new_version).await;
        }
        let label = |swarm: &Swarm| swarm.set_label("demo", "team", "shop");
        self.stands_still("docker service update --label-add team=shop demo", label, |_| true).await;
        let killed: Vec<TaskId> = self.swarm.running_tasks("demo").into_iter().take(1).map(|task| task.id).collect();
        let kill = |swarm: &Swarm| {
            killed.iter().for_each(|task| swarm.kill_task(task));
            Ok(())
        };
        let replaced = |swarm: &Swarm| {
            let tasks = swarm.running_tasks("demo");
            tasks.len() == 6 && tasks.iter().all(|task| !killed.contains(&task.id))
        };
        self.stands_still("a task is killed and scheduled anew", kill, replaced).await;
    }

    async fn do_the_same_in_task_mode(&mut self) {
        say("5/7 the same in task mode: the proxy moves");
        say("    docker service create --name tasks --replicas=1 --label com.docker.lb.hosts=tasks.local ...");
        let created = self.application("tasks", "tasks", 1).label(labels::HOSTS, "tasks.local").create();
        self.done("create tasks", created);
        self.check_served("tasks.local", "tasks.local", "tasks", "tasks.local is served by its task").await;
        self.settle().await;
        let before = self.proxy();
        say("    docker service scale tasks=3");
        let scaled = self.swarm.scale("tasks", 3);
        self.done("scale tasks", scaled);
        let all_listed = async |story: &Self| {
            let tasks = story.task_addresses("tasks");
            tasks.len() == 3 && story.live_servers("tasks.local") == tasks
        };
        self.eventually("each of the three tasks is an upstream of its own", all_listed).await;
        self.settle().await;
        if let Some(proxy) = self.node.published {
            let three = async |_: &Self| instances(proxy, "tasks.local", 12).await.len() == 3;
            self.eventually("requests reach exactly three tasks", three).await;
        }
        let after = self.proxy();
        let what =
            format!("the proxy has moved: version {} became {}, its tasks are new", before.version, after.version);
        self.checks.note(after.version > before.version && after.tasks.is_disjoint(&before.tasks), &what);
        if let Some(load) = self.load.take() {
            let (answered, failed) = load.stop();
            let what = format!("demo.local was asked {} times meanwhile, {failed} requests failed", answered + failed);
            self.checks.note(failed == 0 && answered > 0, &what);
        }
    }

    async fn mistake_a_label(&mut self) {
        say("6/7 why is my service not routed?");
        let before = self.proxy();
        say("    docker service create --name mistaken --label \"com.docker.lb.hosts=shop;local\" ...");
        let created = self.application("mistaken", "mistaken", 1).label(labels::HOSTS, "shop;local").create();
        self.done("create mistaken", created);
        let refused = async |story: &Self| {
            let report = story.operator.view.report();
            report.services.values().any(|service| service.name == "mistaken" && !service.problems.is_empty())
        };
        self.eventually("it is refused", refused).await;
        let explained = commands::explain_service(&self.config, &self.swarm, "mistaken", false).await;
        let explained = explained.unwrap_or_else(|error| format!("{error:#}\n"));
        say("    dovetail explain mistaken");
        show(&explained);
        self.checks.note(explained.contains("the character ';' is not possible"), "explain names the label, and why");
        let listed = commands::list_routes(&self.config, &self.swarm, false).await;
        say("    dovetail routes");
        show(&listed.unwrap_or_else(|error| format!("{error:#}\n")));
        let now = self.proxy();
        self.checks.note(now == before, "nobody else notices: the proxy stands still");
        if now != before {
            say(&format!("    proxy before {before:?}, now {now:?}"));
        }
    }

    async fn stop_the_operator(&mut self) {
        say("7/7 the operator stops");
        let before = self.proxy();
        let error = self.operator.stop().await;
        let what = match &error {
            None => "the operator drains and stops".to_owned(),
            Some(error) => format!("the operator drains and stops: {error:#}"),
        };
        self.checks.note(error.is_none(), &what);
        self.checks.note(self.proxy() == before, "the proxies go on as they were");
        if let Some(proxy) = self.node.published {
            let all = ["demo.local", "tasks.local", "any.example.org"];
            let mut served = true;
            for host in all {
                served &= status(proxy, host).await == 200;
            }
            self.checks.note(served, "and answer for every host");
        }
    }

    // === What is asked on the way ===

    /// Notes what a user could not do.
    fn done<T>(&mut self, what: &str, outcome: swarm::Result<T>) {
        if let Err(error) = outcome {
            self.checks.note(false, &format!("{what}: {error}"));
        }
    }

    /// Notes whether a condition comes to hold in time.
    async fn eventually(&mut self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let passed = holds_within(SOON, async || condition(self).await).await;
        self.checks.note(passed, what);
    }

    /// The demo application: its updates replace all tasks at once, new ones first.
    fn application(&self, name: &str, metadata: &str, replicas: u64) -> embedded::ServiceBuilder {
        self.swarm
            .service(name)
            .network("demo")
            .replicas(replicas)
            .image("demo-app:0.1")
            .label(labels::PORT, "8080")
            .update_config(json!({ "Parallelism": 0, "Order": "start-first", "Monitor": 200_000_000 }))
            .with(|spec| spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!([format!("METADATA={metadata}")]))
    }

    /// A change after which the proxy service is what it was, although the operator has seen it.
    async fn stands_still(
        &mut self,
        what: &str,
        change: impl FnOnce(&Swarm) -> swarm::Result<()>,
        done: impl Fn(&Swarm) -> bool,
    ) {
        let (before, spared) = (self.proxy(), self.operator.short_circuits.spared());
        let changed = change(&self.swarm);
        let seen = async || done(&self.swarm) && self.operator.short_circuits.spared() > spared;
        let seen = changed.is_ok() && holds_within(SOON, seen).await;
        // Long enough for a rollout to begin, if there were to be one.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let served = match self.node.published {
            Some(proxy) => status(proxy, "demo.local").await == 200,
            None => true,
        };
        let still = self.proxy() == before;
        self.checks.note(seen && served && still, &format!("{what}: seen, spared, the proxy stands still"));
        if !(seen && served && still) {
            say(&format!("    seen {seen}, served {served}, proxy before {before:?}, now {:?}", self.proxy()));
        }
    }

    /// With an nginx: the host is answered by a task of the service. Without: the live files say so.
    async fn check_served(&mut self, route: &str, host: &str, service: &str, what: &str) {
        let served = async |story: &Self| match story.node.published {
            None => story.is_live(route),
            Some(proxy) => {
                let Ok(answer) = http::get(proxy, host, "/ping").await else { return false };
                let instance = answer.field("instance");
                let tasks = story.swarm.running_tasks(service);
                answer.status == 200 && tasks.iter().any(|task| task.id.as_str()[..12] == instance)
            }
        };
        self.eventually(what, served).await;
    }

    async fn show_answer(&self, proxy: SocketAddr) {
        let Ok(answer) = http::get(proxy, "demo.local", "/ping").await else { return };
        say("    curl -i -H \"Host: demo.local\" http://proxy/ping");
        let headers = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        show(&format!("HTTP/1.1 {}\n{}\n{}\n", answer.status, headers.collect::<String>(), answer.body));
        let vip = self.virtual_address("demo");
        if let (Some(vip), Some(upstream)) = (vip, vip.and_then(|vip| self.node.stands_for(vip))) {
            say(&format!("    {upstream} stands for the virtual address {vip}"));
        }
    }

    async fn has_true_headers(&self, proxy: SocketAddr) -> bool {
        let Ok(answer) = http::get(proxy, "demo.local", "/ping").await else { return false };
        let upstream = self.virtual_address("demo").and_then(|vip| self.node.stands_for(vip));
        let seconds = answer.header("x-upstream-response-time").parse::<f64>();
        answer.header("x-request-id") == answer.field("request_id")
            && !answer.header("x-request-id").is_empty()
            && !answer.header("x-proxy-id").is_empty()
            && answer.header("x-server-info") == "dovetail"
            && upstream.is_some_and(|upstream| answer.header("x-upstream-addr") == upstream.to_string())
            && seconds.is_ok_and(|seconds| (0.0..3.0).contains(&seconds))
    }

    /// Waits until every proxy runs what is wanted, and nothing is left to write: configs that nothing needs any
    /// more are removed after the proxies are in step.
    async fn settle(&self) {
        let settled = async || {
            let statuses = self.operator.view.rollouts.values();
            let mut in_step = statuses.map(|status| {
                let status = status.borrow();
                status.as_ref().is_some_and(|status| status.phase == Phase::InStep && status.live == status.target)
            });
            in_step.all(|in_step| in_step)
                && self.swarm.running_tasks(PROXY).len() == 2
                && self.nothing_to_write().await
        };
        // If not, the next check says it better.
        holds_within(SOON, settled).await;
    }

    /// As `dovetail plan` tells it.
    async fn nothing_to_write(&self) -> bool {
        let seen = look(&self.config, &self.swarm).await;
        seen.is_ok_and(|look| look.clusters.values().all(|cluster| cluster.plan.steps.is_empty()))
    }

    fn is_live(&self, host: &str) -> bool {
        let routes = routes(&self.operator.view.report(), &self.operator.view.published());
        routes.iter().any(|route| route.host == host && route.state == State::Live)
    }

    /// Where the live files send requests for a host.
    fn live_servers(&self, host: &str) -> BTreeSet<SocketAddr> {
        let routes = routes(&self.operator.view.report(), &self.operator.view.published());
        routes.into_iter().filter(|route| route.host == host).flat_map(|route| route.endpoints).collect()
    }

    fn virtual_address(&self, service: &str) -> Option<SocketAddr> {
        let service = self.swarm.service_named(service)?;
        Some(SocketAddr::new(*service.endpoint.vips.values().next()?, 8080))
    }

    fn task_addresses(&self, service: &str) -> BTreeSet<SocketAddr> {
        let tasks = self.swarm.running_tasks(service);
        tasks.iter().filter_map(|task| Some(SocketAddr::new(task.attachments.first()?.address, 8080))).collect()
    }

    /// What must not move.
    fn proxy(&self) -> ProxyState {
        ProxyState {
            version: self.swarm.raw(PROXY).map_or(0, |service| service.version),
            tasks: self.swarm.running_tasks(PROXY).into_iter().map(|task| task.id).collect(),
            configs: self.swarm.all_configs().into_iter().map(|config| config.name).collect(),
        }
    }
}

/// The proxy service as `docker service inspect`, `docker service ps` and `docker config ls` show it.
#[derive(Debug, PartialEq, Eq)]
struct ProxyState {
    version: u64,
    tasks: BTreeSet<TaskId>,
    configs: BTreeSet<String>,
}

/// The status of `/ping`; 0 if there is none.
async fn status(proxy: SocketAddr, host: &str) -> u16 {
    http::get(proxy, host, "/ping").await.map_or(0, |answer| answer.status)
}

/// Who answers so many requests.
async fn instances(proxy: SocketAddr, host: &str, requests: usize) -> BTreeSet<String> {
    let mut instances = BTreeSet::new();
    for _ in 0..requests {
        if let Ok(answer) = http::get(proxy, host, "/ping").await {
            instances.insert(answer.field("instance"));
        }
    }
    instances
}

fn show(text: &str) {
    for line in text.lines() {
        say(&format!("    | {line}"));
    }
}

/// Requests for demo.local, one after the other, until it is dropped.
struct Load {
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Load {
    fn start(proxy: SocketAddr) -> Self {
        let load = Self { answered: Arc::default(), failed: Arc::default(), stop: CancellationToken::new() };
        let (answered, failed, stop) = (Arc::clone(&load.answered), Arc::clone(&load.failed), load.stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                let counter = if status(proxy, "demo.local").await == 200 { &answered } else { &failed };
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        load
    }

    /// How many were answered with 200, and how many were not.
    fn stop(self) -> (u64, u64) {
        (self.answered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
