//! The embedded Swarm, what runs on it, and the operator: what happens there, and what is asked of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use actuator::Phase;
use embedded::Swarm;
use model::{TaskId, labels};
use serde_json::json;

use super::checks::{Checks, holds_within, say};
use super::load::Load;
use super::node::Node;
use super::{PROXY, Running};
use crate::config::Config;
use crate::look::look;
use crate::routes::{State, routes};

/// How long one thing may take.
pub(super) const SOON: Duration = Duration::from_secs(15);

/// Everything that takes part.
pub struct Stage {
    /// What was checked.
    pub checks: Checks,
    pub(super) swarm: Swarm,
    pub(super) config: Config,
    pub(super) node: Node,
    pub(super) operator: Running,
    /// The requests that flow meanwhile, while they do.
    pub(super) load: Option<Load>,
}

impl Stage {
    /// A stage on which nothing has happened.
    pub fn new(swarm: Swarm, config: Config, node: Node, operator: Running) -> Self {
        Self { checks: Checks::default(), swarm, config, node, operator, load: None }
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

    /// Notes what a user could not do.
    pub(super) fn done<T>(&mut self, what: &str, outcome: swarm::Result<T>) {
        if let Err(error) = outcome {
            self.checks.note(false, &format!("{what}: {error}"));
        }
    }

    /// Notes whether a condition comes to hold in time.
    pub(super) async fn eventually(&mut self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let passed = holds_within(SOON, async || condition(self).await).await;
        self.checks.note(passed, what);
    }

    /// The demo application: its updates replace all tasks at once, new ones first.
    pub(super) fn application(&self, name: &str, metadata: &str, replicas: u64) -> embedded::ServiceBuilder {
        self.swarm
            .service(name)
            .network("demo")
            .replicas(replicas)
            .image("demo-app:0.1")
            .label(labels::PORT, "8080")
            .update_config(json!({ "Parallelism": 0, "Order": "start-first", "Monitor": 200_000_000 }))
            .with(|spec| spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!([format!("METADATA={metadata}")]))
    }

    /// Waits until every proxy runs what is wanted, and nothing is left to write: configs that nothing needs any
    /// more are removed after the proxies are in step.
    pub(super) async fn settle(&self) {
        // If not, the next check says it better.
        holds_within(SOON, async || self.is_settled().await).await;
    }

    pub(super) async fn is_settled(&self) -> bool {
        let statuses = self.operator.view.rollouts.values();
        let mut in_step = statuses.map(|status| {
            let status = status.borrow();
            status.as_ref().is_some_and(|status| status.phase == Phase::InStep && status.live == status.target)
        });
        in_step.all(|in_step| in_step) && self.swarm.running_tasks(PROXY).len() == 2 && self.nothing_to_write().await
    }

    /// As `dovetail plan` tells it.
    pub(super) async fn nothing_to_write(&self) -> bool {
        let seen = look(&self.config, &self.swarm).await;
        seen.is_ok_and(|look| look.clusters.values().all(|cluster| cluster.plan.steps.is_empty()))
    }

    /// Whether the operator says what is wrong with a service.
    pub(super) fn is_refused(&self, service: &str) -> bool {
        let report = self.operator.view.report();
        report.services.values().any(|found| found.name == service && !found.problems.is_empty())
    }

    pub(super) fn is_live(&self, host: &str) -> bool {
        let routes = routes(&self.operator.view.report(), &self.operator.view.published());
        routes.iter().any(|route| route.host == host && route.state == State::Live)
    }

    /// Where the live files send requests for a host.
    pub(super) fn live_servers(&self, host: &str) -> BTreeSet<SocketAddr> {
        let routes = routes(&self.operator.view.report(), &self.operator.view.published());
        routes.into_iter().filter(|route| route.host == host).flat_map(|route| route.endpoints).collect()
    }

    pub(super) fn virtual_address(&self, service: &str) -> Option<SocketAddr> {
        let service = self.swarm.service_named(service)?;
        Some(SocketAddr::new(*service.endpoint.vips.values().next()?, 8080))
    }

    pub(super) fn task_addresses(&self, service: &str) -> BTreeSet<SocketAddr> {
        let tasks = self.swarm.running_tasks(service);
        tasks.iter().filter_map(|task| Some(SocketAddr::new(task.attachments.first()?.address, 8080))).collect()
    }

    /// What must not move.
    pub(super) fn proxy(&self) -> ProxyState {
        ProxyState {
            version: self.swarm.raw(PROXY).map_or(0, |service| service.version),
            tasks: self.swarm.running_tasks(PROXY).into_iter().map(|task| task.id).collect(),
            configs: self.swarm.all_configs().into_iter().map(|config| config.name).collect(),
        }
    }
}

/// The proxy service as `docker service inspect`, `docker service ps` and `docker config ls` show it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProxyState {
    pub version: u64,
    pub tasks: BTreeSet<TaskId>,
    pub configs: BTreeSet<String>,
}
