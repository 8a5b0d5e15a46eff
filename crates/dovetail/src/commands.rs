//! The subcommands that look and print. Each turns one [look](mod@crate::look) into text; nothing is written to the cluster.

use std::fmt::Write as _;
use std::path::Path;

use actuator::Phase;
use anyhow::{Context, Result, bail};
use model::{ClusterName, Published};
use serde_json::{Value, json};

use crate::config::Config;
use crate::explain::{explain, verdict};
use crate::look::{ClusterLook, look};
use crate::routes::{routes, table};
use crate::table::Table;

/// `dovetail plan`: what would change now.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn plan(config: &Config, swarm: &impl swarm::Read, as_json: bool) -> Result<String> {
    let look = look(config, swarm).await?;
    if as_json {
        let clusters: Vec<Value> = look.clusters.iter().map(|(name, cluster)| plan_json(name, cluster)).collect();
        return pretty(&json!({ "clusters": clusters }));
    }
    let mut text = String::new();
    for (name, cluster) in &look.clusters {
        writeln!(text, "cluster {name}")?;
        match (&cluster.published, &cluster.bundle) {
            (Published::Unknown { reason }, _) => writeln!(text, "  nothing can be planned: {reason}")?,
            (_, None) => writeln!(text, "  nothing can be planned")?,
            (Published::Nothing, Some(bundle)) => {
                writeln!(text, "  live        nothing\n  wanted      generation {}", bundle.generation().short())?;
            }
            (Published::Live { manifest, .. }, Some(bundle)) if manifest.generation == bundle.generation() => {
                writeln!(text, "  live        generation {}, as wanted", manifest.generation.short())?;
            }
            (Published::Live { manifest, .. }, Some(bundle)) => {
                writeln!(text, "  live        generation {}", manifest.generation.short())?;
                writeln!(text, "  wanted      generation {}: {}", bundle.generation().short(), bundle.manifest.reason)?;
            }
        }
        if cluster.plan.steps.is_empty() {
            writeln!(text, "  steps       none")?;
        }
        for (number, step) in cluster.plan.steps.iter().enumerate() {
            writeln!(text, "  step {:<6} {step}", number + 1)?;
        }
    }
    Ok(text)
}

fn plan_json(name: &ClusterName, cluster: &ClusterLook) -> Value {
    let live = match &cluster.published {
        Published::Live { manifest, .. } => Some(manifest.generation),
        Published::Nothing | Published::Unknown { .. } => None,
    };
    json!({
        "cluster": name,
        "live": live,
        "wanted": cluster.bundle.as_ref().map(model::Bundle::generation),
        "reason": cluster.bundle.as_ref().map(|bundle| &bundle.manifest.reason),
        "steps": cluster.plan.steps,
        "status": cluster.plan.status,
    })
}

/// `dovetail render`: the proxies' files as they should be.
///
/// # Errors
/// When the cluster cannot be read, or has no proxies of that name.
pub async fn render(
    config: &Config,
    swarm: &impl swarm::Read,
    only: Option<&str>,
    output: Option<&Path>,
) -> Result<String> {
    let look = look(config, swarm).await?;
    if let Some(name) = only
        && !look.clusters.keys().any(|cluster| cluster.as_str() == name)
    {
        let known: Vec<&str> = look.clusters.keys().map(ClusterName::as_str).collect();
        bail!("there is no cluster {name:?} in the configuration; there is {}", known.join(", "));
    }
    let mut text = String::new();
    for (name, cluster) in look.clusters.iter().filter(|(name, _)| only.is_none_or(|only| name.as_str() == only)) {
        let Some(bundle) = &cluster.bundle else {
            bail!("what cluster {name} should be cannot be told: see dovetail status");
        };
        for (path, file) in &bundle.files {
            let content = String::from_utf8_lossy(&file.content);
            match output {
                None => write!(text, "# {name}: {path}\n{content}\n")?,
                Some(directory) => {
                    let path = directory.join(name.as_str()).join(path.trim_start_matches('/'));
                    std::fs::create_dir_all(path.parent().context("a file has a directory")?)?;
                    std::fs::write(&path, &*content).with_context(|| format!("cannot write {}", path.display()))?;
                    writeln!(text, "{}", path.display())?;
                }
            }
        }
    }
    Ok(text)
}

/// `dovetail routes`: what is served, and what is about to be.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn list_routes(config: &Config, swarm: &impl swarm::Read, as_json: bool) -> Result<String> {
    let look = look(config, swarm).await?;
    let routes = routes(&look.report, &look.published());
    if as_json {
        return pretty(&routes);
    }
    if routes.is_empty() {
        return Ok("no service asks to be routed, or none can be: see dovetail explain SERVICE\n".into());
    }
    Ok(table(&routes).to_string())
}

/// `dovetail explain`: why a service is routed or not.
///
/// # Errors
/// When the cluster cannot be read, or has no such service.
pub async fn explain_service(config: &Config, swarm: &impl swarm::Read, name: &str, as_json: bool) -> Result<String> {
    let look = look(config, swarm).await?;
    let explanations = explain(&look.report, &look.published(), name);
    if explanations.is_empty() {
        let exists = swarm.services().await?.iter().any(|service| service.name == name || service.id.as_str() == name);
        if exists {
            bail!(
                "the service {name} does not ask to be routed: it has neither com.docker.lb.hosts nor \
                 com.docker.lb.default_backend=true among its labels (deploy.labels in a stack file)"
            );
        }
        bail!("there is no service {name}; docker service ls lists those there are");
    }
    if as_json {
        return pretty(&explanations);
    }
    Ok(explanations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// `dovetail status`: how proxies and services are doing.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn status(config: &Config, swarm: &impl swarm::Read, as_json: bool) -> Result<String> {
    let look = look(config, swarm).await?;
    if as_json {
        let clusters: Vec<&actuator::Status> = look.clusters.values().map(|cluster| &cluster.plan.status).collect();
        return pretty(&json!({ "clusters": clusters, "services": look.report.services }));
    }
    let mut text = String::new();
    for cluster in look.clusters.values() {
        text.push_str(&status_text(&cluster.plan.status));
    }
    if look.report.services.is_empty() {
        text.push_str("no service asks to be routed\n");
        return Ok(text);
    }
    let mut table = Table::new(["SERVICE", "CLUSTER", "STATE"]);
    for service in look.report.services.values() {
        let cluster = service.cluster.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row([service.name.clone(), cluster, verdict(&service.verdict)]);
    }
    write!(text, "\n{table}")?;
    Ok(text)
}

fn status_text(status: &actuator::Status) -> String {
    let short = |digest: &Option<model::Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.short());
    let mut lines = vec![
        format!("cluster {}: {}", status.cluster, phase_text(&status.phase)),
        format!("  service     {}", status.service),
        format!("  generation  {} live, {} wanted", short(&status.live), short(&status.target)),
    ];
    if let Some(image) = &status.image {
        lines.push(format!("  image       {image}"));
    }
    for hold in &status.holds {
        let retry = match hold.retry_in_seconds {
            Some(seconds) => format!("tried again in {seconds} s"),
            None => "not tried again by itself".to_owned(),
        };
        lines.push(format!("  held        {}: {}; {retry}", hold.generation.short(), hold.reason));
    }
    if let Some(trouble) = &status.trouble {
        lines.push(format!("  trouble     {trouble}"));
    }
    lines.join("\n") + "\n"
}

fn phase_text(phase: &Phase) -> String {
    match phase {
        Phase::Waiting { waits_for } => format!("waiting for {waits_for}"),
        Phase::InStep => "in step".to_owned(),
        Phase::Pending { reason } => format!("about to change: {reason}"),
        Phase::Rolling { generation, tasks_done, tasks_total, reason, waits_for, .. } => format!(
            "rolling out {}, {tasks_done} of {tasks_total} proxies done, waiting for {waits_for}: {reason}",
            generation.short()
        ),
        Phase::Blocked { tasks_done, tasks_total, waits_for, advice, .. } => {
            format!("blocked at {tasks_done} of {tasks_total} proxies, waiting for {waits_for}; {advice}")
        }
        Phase::Held { generation, reason, advice, .. } => format!("held {}: {reason}; {advice}", generation.short()),
        Phase::Foreign { reason, advice } => format!("not ours: {reason}; {advice}"),
        Phase::Unreadable { reason, advice } => format!("cannot be told: {reason}; {advice}"),
        Phase::Impossible { reason, advice } => format!("impossible: {reason}; {advice}"),
    }
}

/// `dovetail check-config`: what a configuration means, in a few lines.
pub fn describe(config: &Config, file: &Path) -> String {
    let mut text = format!("{}: fine\n", file.display());
    text.push_str(&format!("  instance {}, engine {}\n", config.instance, config.engine.endpoint));
    for (name, cluster) in &config.clusters.0 {
        let proxy = &cluster.proxy;
        let number = match proxy.publish_mode {
            crate::config::PublishMode::Host => "one on each chosen node".to_owned(),
            crate::config::PublishMode::Ingress => format!("{} of them", proxy.replicas.0),
        };
        let ports: Vec<String> = [("http", proxy.ports.http), ("https", proxy.ports.https)]
            .into_iter()
            .filter_map(|(kind, port)| Some(format!("{kind} {}", port?.0)))
            .collect();
        text.push_str(&format!(
            "  cluster {name}: service {}, image {}, {number}, published by {} on {}\n",
            proxy.name,
            proxy.image,
            proxy.publish_mode,
            if ports.is_empty() { "no port".to_owned() } else { ports.join(" and ") },
        ));
    }
    text
}

fn pretty(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
