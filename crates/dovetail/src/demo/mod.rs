//! `dovetail demo`: the founding document's story on the embedded Swarm, for machines without root or a dockerd; or a
//! schedule of faults there, under a steady load of requests.
//!
//! The operator is the real one, and so is nginx, if there is one on this machine. In memory are the Swarm (crate
//! `embedded`), the containers of the demo application (HTTP servers in this process) and the ways packets take
//! between containers (a forwarder in place of IPVS and of the routing mesh). Addresses of the Swarm, such as
//! 10.0.1.3:8080, are listeners on loopback.
//!
//! Nothing is left when it ends, also after Ctrl-C: processes are told to stop and waited for, files are in one
//! temporary directory.

mod application;
mod balancer;
mod checks;
mod faults;
mod http;
mod load;
mod nginx;
mod node;
mod stage;
mod story;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::config::{self, Config};
use crate::wire::Operator;

use checks::{Checks, say};
use nginx::Nginx;
use node::Node;
use stage::Stage;

/// The name of the proxy service.
const PROXY: &str = "dovetail-proxy";

/// A line that no nginx knows.
const REFUSED: &str = "serve_everything on;";

/// The story ends by itself long before; past this something hangs.
const LIMIT: Duration = Duration::from_secs(150);

/// Tells the story until it ends or `stop` resolves, prints what was checked, and cleans up.
///
/// # Errors
/// When a check fails, or it was stopped.
pub async fn run(arguments: &args::Demo, stop: impl Future<Output = ()>) -> Result<()> {
    let started = Instant::now();
    say("this is the embedded Swarm: in memory, in this process; no container runs, no Docker Engine is asked");
    let nginx = match arguments.without_nginx {
        true => Err("--without-nginx was given".to_owned()),
        false => Nginx::find(arguments.nginx.as_deref()).await,
    };
    match &nginx {
        Ok(nginx) => {
            say(&format!(
                "a real nginx takes part: {} {}, and real requests flow",
                nginx.program.display(),
                nginx.version
            ));
            say("a forwarder in this process stands in for IPVS (virtual addresses) and for the routing mesh");
        }
        Err(reason) => {
            say(&format!("no real nginx takes part: {reason}"));
            say("so no request is made; what is checked is what the operator does and what the live files say");
        }
    }
    if let (Some(_), Err(reason)) = (arguments.faults, &nginx) {
        bail!("--faults needs an nginx: {reason}");
    }
    let nginx = nginx.ok();
    let (config, refused) = (configuration(nginx.as_ref(), "")?, configuration(nginx.as_ref(), REFUSED)?);
    let swarm = quick_swarm();
    let node = Node::start(swarm.clone(), nginx).await?;
    let operator = Running::start(&config, swarm.clone());

    let mut stage = Stage::new(swarm, config, node, operator);
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let (limit, telling) = match arguments.faults {
        None => (LIMIT, stage.tell().boxed_local()),
        Some(count) => (faults::REST * (count + 1), stage.endure(count as usize, seed, &refused).boxed_local()),
    };
    let outcome = tokio::select! {
        () = stop => Err(anyhow!("interrupted; everything was stopped and removed")),
        told = tokio::time::timeout(limit, telling) => Ok(told.is_ok()),
    };
    if let Ok(false) = outcome {
        stage.checks.note(false, &format!("it ends within {} s", limit.as_secs()));
    }
    let (checks, real) = stage.end().await;
    outcome?;
    print(&checks, real, started.elapsed())
}

/// Prints the table.
fn print(checks: &Checks, real: bool, took: Duration) -> Result<()> {
    use std::io::Write;
    let with = if real { "real nginx and real requests" } else { "no nginx: the live files were looked at" };
    let title = format!("What was checked, on the embedded Swarm with {with} ({} s):", took.as_secs());
    let text = format!("\n{title}\n{checks}{} passed, {} failed\n", checks.passed(), checks.failed());
    // A reader that has gone away does not change the outcome.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if checks.failed() > 0 {
        bail!("{} of {} checks failed", checks.failed(), checks.passed() + checks.failed());
    }
    Ok(())
}

/// Swarm watches new proxies for a moment only: they are tried by requests here.
fn configuration(nginx: Option<&Nginx>, raw: &str) -> Result<Config> {
    let version = nginx.map_or_else(|| "1.28.0".to_owned(), |nginx| nginx.version.to_string());
    let text = format!(
        "engine: {{ poll_interval: 1s }}\n\
         admin: {{ listen: 127.0.0.1:0 }}\n\
         clusters:\n  main:\n    proxy:\n      name: {PROXY}\n      image: nginx:{version}\n      update: {{ monitor: 300ms }}\n      \
         health_check: {{ interval: 200ms }}\n    \
         nginx: {{ version: \"{version}\", worker_processes: 1, worker_connections: 512, worker_rlimit_nofile: 1024, extra: {{ http: [{raw}] }} }}\n"
    );
    Ok(config::parse("the demo's configuration", &text)?)
}

/// A Swarm whose containers stop as quickly as the demo application does.
fn quick_swarm() -> embedded::Swarm {
    let swarm = embedded::Swarm::new();
    swarm.set_timing(|timing| timing.stop = Duration::from_millis(500));
    swarm
}

/// The operator, running.
struct Running {
    view: Arc<crate::view::View>,
    short_circuits: Arc<observer::ShortCircuits>,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<Option<anyhow::Error>>,
}

impl Running {
    fn start(config: &Config, swarm: embedded::Swarm) -> Self {
        let mut operator = Operator::new(config, swarm, Box::new(engine::Traffic::default));
        let (view, short_circuits) = (Arc::clone(&operator.view), Arc::clone(&operator.short_circuits));
        let stop = CancellationToken::new();
        let told = stop.clone();
        let ended = tokio::spawn(async move {
            let error = tokio::select! {
                error = operator.run() => Some(error),
                () = told.cancelled() => None,
            };
            operator.drain().await;
            error
        });
        Self { view, short_circuits, stop, ended }
    }

    /// Stops it as SIGTERM does; answers why it had ended before, if it had.
    async fn stop(&mut self) -> Option<anyhow::Error> {
        self.stop.cancel();
        match (&mut self.ended).await {
            Ok(error) => error,
            Err(panic) => Some(panic.into()),
        }
    }

    /// Ends it at once, as SIGKILL does, whatever it is at.
    fn kill(&self) {
        self.ended.abort();
    }
}
