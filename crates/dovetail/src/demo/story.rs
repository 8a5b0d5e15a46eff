//! The story: what happens on the Swarm, step by step, and what must come of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use embedded::Swarm;
use model::{TaskId, labels};

use super::PROXY;
use super::checks::{holds_within, say};
use super::http::{self, status};
use super::load::Load;
use super::stage::{SOON, Stage};
use crate::commands;

impl Stage {
    /// Tells it. Dropped anywhere, it is ended by [`Stage::end`].
    pub async fn tell(&mut self) {
        self.begin().await;
        self.publish_a_default_host().await;
        self.publish_in_vip_mode().await;
        self.change_what_vip_mode_does_not_care_about().await;
        self.do_the_same_in_task_mode().await;
        self.mistake_a_label().await;
        self.stop_the_operator().await;
    }

    async fn begin(&mut self) {
        say("1/7 the operator begins on an empty Swarm");
        let two_run = async |stage: &Self| stage.swarm.running_tasks(PROXY).len() == 2;
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
        let only_vip = async |stage: &Self| {
            let vip = stage.virtual_address("demo");
            vip.is_some() && stage.live_servers("demo.local") == vip.into_iter().collect()
        };
        self.eventually("its only upstream is its virtual address", only_vip).await;
        self.settle().await;
        self.check_served("demo.local", "demo.local", "demo", "demo.local is served through the virtual address").await;
        if let Some(proxy) = self.node.published {
            let true_headers = async |stage: &Self| stage.has_true_headers(proxy).await;
            self.eventually("the answer carries the five headers, with true values", true_headers).await;
            self.show_answer(proxy).await;
            self.load = Some(Load::start(proxy, &["demo.local"]));
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
        let all_listed = async |stage: &Self| {
            let tasks = stage.task_addresses("tasks");
            tasks.len() == 3 && stage.live_servers("tasks.local") == tasks
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
            let counts = load.take();
            let what = format!("demo.local was asked meanwhile: {counts}");
            self.checks.note(counts.failed == 0 && counts.answered > 0, &what);
        }
    }

    async fn mistake_a_label(&mut self) {
        say("6/7 why is my service not routed?");
        let before = self.proxy();
        say("    docker service create --name mistaken --label \"com.docker.lb.hosts=shop;local\" ...");
        let created = self.application("mistaken", "mistaken", 1).label(labels::HOSTS, "shop;local").create();
        self.done("create mistaken", created);
        self.eventually("it is refused", async |stage: &Self| stage.is_refused("mistaken")).await;
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
        let served = async |stage: &Self| match stage.node.published {
            None => stage.is_live(route),
            Some(proxy) => {
                let Ok(answer) = http::get(proxy, host, "/ping").await else { return false };
                let instance = answer.field("instance");
                let tasks = stage.swarm.running_tasks(service);
                answer.status == 200 && tasks.iter().any(|task| task.id.as_str()[..12] == instance)
            }
        };
        self.eventually(what, served).await;
    }

    async fn show_answer(&self, proxy: SocketAddr) {
        let Ok(answer) = http::get(proxy, "demo.local", "/ping").await else { return };
        say("    curl -i -H \"Host: demo.local\" http://proxy/ping");
        let headers = answer.headers.keys().map(|name| format!("{name}: {}\n", answer.header(name.as_str())));
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
