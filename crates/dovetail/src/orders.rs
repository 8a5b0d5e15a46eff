//! The subcommands that write: pause, resume, retry. What is written is decided by the plain functions of
//! [`actuator::orders`] and executed as the operator's own steps are; a conflict means looking again.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actuator::{Counters, Inventory, Moment, Step, orders};
use anyhow::{Result, bail};
use model::ClusterName;
use serde::Serialize;
use swarm::Class;

use crate::config::{ClusterParts, Config};
use crate::table::printable;

/// How often to look again after a conflict: a rollout moves the version of its service all the time.
const TRIES: usize = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// A running operator reads its holds this often.
const HOLDS_ARE_READ_WITHIN: &str = "30 s";

/// What became of an order, a cluster.
#[derive(Debug, Serialize)]
pub struct Done(Vec<DoneTo>);

/// What became of it in one.
#[derive(Debug, Serialize)]
struct DoneTo {
    cluster: ClusterName,
    /// Whether anything was written.
    changed: bool,
    /// For people.
    outcome: String,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for done in &self.0 {
            let text = format!("cluster {}: {}", done.cluster, done.outcome);
            text.lines().try_for_each(|line| writeln!(f, "{}", printable(line)))?;
        }
        Ok(())
    }
}

/// `dovetail pause`: nothing is written to these clusters' proxies until `resume`.
///
/// # Errors
/// When a cluster is unknown, has no proxy service, or the write fails; the other clusters are paused all the same.
pub async fn pause(
    config: &Config,
    swarm: &impl swarm::Write,
    clusters: &[String],
    reason: Option<&str>,
) -> Result<Done> {
    let words = words(reason);
    each(config, swarm, clusters, async |parts| {
        let order = |inventory: &Inventory| orders::pause(inventory, &parts.actuator, &words);
        Ok(match carry_out(swarm, parts, order).await? {
            0 => (false, format!("is paused already: {words}")),
            _ => (true, format!("paused: {words}")),
        })
    })
    .await
}

/// `dovetail resume`: the operator writes again.
///
/// # Errors
/// When a cluster is unknown, or the write fails; the other clusters are resumed all the same.
pub async fn resume(config: &Config, swarm: &impl swarm::Write, clusters: &[String]) -> Result<Done> {
    each(config, swarm, clusters, async |parts| {
        let order = |inventory: &Inventory| orders::resume(inventory, &parts.actuator);
        Ok(match carry_out(swarm, parts, order).await? {
            0 => (false, "is not paused".to_owned()),
            _ => (true, "resumed; what waited is written now".to_owned()),
        })
    })
    .await
}

/// `dovetail retry`: what failed and is held is tried again.
///
/// # Errors
/// When the cluster is unknown, or a write fails.
pub async fn retry(config: &Config, swarm: &impl swarm::Write, cluster: &str) -> Result<Done> {
    each(config, swarm, &[cluster.to_owned()], async |parts| {
        for _ in 0..TRIES {
            let inventory = actuator::inspect(swarm, &parts.actuator).await?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let steps = orders::release(&inventory, &parts.actuator, Moment(now));
            if steps.is_empty() {
                return Ok((false, "nothing is held".to_owned()));
            }
            if execute(swarm, &steps).await? {
                return Ok((true, released(&inventory, &steps)));
            }
        }
        bail!(BUSY)
    })
    .await
}

const BUSY: &str = "something else writes all the time: try again";

/// What will be tried again.
fn released(inventory: &Inventory, steps: &[Step]) -> String {
    let paused = inventory.service.as_ref().is_some_and(|service| orders::paused(&service.spec).is_some());
    let when = if paused {
        "once it is resumed (it is paused)".to_owned()
    } else {
        format!("by a running operator within {HOLDS_ARE_READ_WITHIN}")
    };
    let mut text = format!("tried again {when}:");
    for step in steps {
        let Step::ReleaseGeneration { generation, reason, .. } = step else { continue };
        let stored = inventory.objects.generations().get(generation);
        let what = stored.and_then(|stored| stored.manifest.as_ref()).map_or("", |manifest| &manifest.reason);
        let separator = if what.is_empty() { "" } else { ", " };
        text.push_str(&format!("\n  generation {}{separator}{what}; it failed: {reason}", generation.short()));
    }
    text
}

/// Does something for each of the named clusters, or for all; says what became of each.
async fn each(
    config: &Config,
    swarm: &impl swarm::Write,
    named: &[String],
    order: impl AsyncFn(&ClusterParts) -> Result<(bool, String)>,
) -> Result<Done> {
    for name in named {
        config.require_cluster(name)?;
    }
    let clusters = config.clusters();
    engine::supported(&swarm.identity().await?).map_err(anyhow::Error::msg)?;
    let chosen = |parts: &&ClusterParts| named.is_empty() || named.iter().any(|name| parts.name.as_str() == name);
    let (mut done, mut failed) = (Done(Vec::new()), Vec::new());
    for parts in clusters.iter().filter(chosen) {
        match order(parts).await {
            Ok((changed, outcome)) => done.0.push(DoneTo { cluster: parts.name.clone(), changed, outcome }),
            Err(error) => failed.push(format!("cluster {}: {error:#}", parts.name)),
        }
    }
    if failed.is_empty() { Ok(done) } else { bail!("{}{}", failed.join("\n"), prefixed(&done.to_string())) }
}

/// What was done all the same, below what failed.
fn prefixed(done: &str) -> String {
    if done.is_empty() { String::new() } else { format!("\n{}", done.trim_end()) }
}

/// Looks and writes until there is nothing left to write; answers how many writes it took.
async fn carry_out(
    swarm: &impl swarm::Write,
    parts: &ClusterParts,
    order: impl Fn(&Inventory) -> Result<Option<Step>, String>,
) -> Result<usize> {
    let mut written = 0;
    for _ in 0..TRIES {
        let inventory = actuator::inspect(swarm, &parts.actuator).await?;
        let Some(step) = order(&inventory).map_err(anyhow::Error::msg)? else { return Ok(written) };
        written += usize::from(execute(swarm, &[step]).await?);
    }
    bail!(BUSY)
}

/// Whether all was written; not if somebody else was faster.
async fn execute(swarm: &impl swarm::Write, steps: &[Step]) -> Result<bool> {
    match actuator::execute(swarm, steps, None, &Counters::default()).await.error {
        None => Ok(true),
        Some(error) if error.class == Class::Conflict => {
            tokio::time::sleep(BETWEEN_TRIES).await;
            Ok(false)
        }
        Some(error) => Err(error.into()),
    }
}

/// When, who and why, as the label says it.
fn words(reason: Option<&str>) -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| variable(name));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let by = format!("{}@{}", user.as_deref().unwrap_or("somebody"), host.trim());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{:.0} by {by}{reason}", jiff::Timestamp::now())
}
