//! The subcommands that look and print. Each turns one [look](mod@crate::look) into text; nothing is written to the cluster.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use actuator::status::HoldStatus;
use actuator::{Phase, Step};
use anyhow::{Context, Result, bail};
use model::{Addresses, ClusterName, NetworkId, Published, Report, ServiceReport, labels};
use serde_json::{Value, json};

use crate::config::{Config, Proxy, PublishMode};
use crate::explain::{SHORT_ID, explain, not_routed, outcome};
use crate::look::{ClusterLook, look};
use crate::not_running::not_running;
use crate::routes::{changes, routes, table};
use crate::table::{Table, indented, printable};
use crate::view::Readiness;

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
    let routes = routes(&look.report, &look.published());
    let mut text = String::new();
    for (name, cluster) in &look.clusters {
        text.push_str(&plan_text(name, cluster, &changes(&routes, name), &look.networks));
    }
    text.push_str(&others(&look.report));
    Ok(text)
}

/// What would change in one cluster.
fn plan_text(
    name: &ClusterName,
    cluster: &ClusterLook,
    changes: &Table,
    networks: &BTreeMap<NetworkId, String>,
) -> String {
    let (live, wanted) = match (&cluster.published, &cluster.bundle) {
        (Published::Unknown { .. }, _) | (_, None) => ("cannot be told".to_owned(), None),
        (Published::Nothing, Some(bundle)) => ("nothing: there is no proxy service yet".to_owned(), Some(bundle)),
        (Published::Live { .. }, Some(bundle)) if cluster.plan.status.live.is_none() => {
            ("nothing: there is no proxy service yet".to_owned(), Some(bundle))
        }
        (Published::Live { manifest, .. }, Some(bundle)) if manifest.generation == bundle.generation() => {
            (format!("generation {}, as wanted", manifest.generation.short()), None)
        }
        (Published::Live { manifest, .. }, Some(bundle)) => {
            (format!("generation {}", manifest.generation.short()), Some(bundle))
        }
    };
    let mut text = format!("cluster {name}\n  live     {live}\n");
    if let Some(bundle) = wanted {
        text.push_str(&format!("  wanted   generation {}: {}\n", bundle.generation().short(), bundle.manifest.reason));
    }
    match &cluster.plan.status.phase {
        // What the steps say better.
        Phase::InStep | Phase::Pending { .. } => {}
        _ => text.push_str(&format!("  state    {}\n", phase_text(cluster))),
    }
    for hold in &cluster.plan.status.holds {
        text.push_str(&format!("  held     {}\n", hold_text(hold)));
    }
    if let Some(reason) = &cluster.kept_setup {
        text.push_str(&format!("  setup    {}\n", kept_text(reason)));
    }
    if !changes.is_empty() {
        text.push_str(&format!("  routes\n{}", indented(&changes.to_string(), 4)));
    }
    let steps = if cluster.plan.waiting.is_empty() { &cluster.plan.steps } else { &cluster.plan.waiting };
    text.push_str(match (steps.is_empty(), cluster.plan.waiting.is_empty()) {
        (true, _) => "  steps    none\n",
        (false, true) => "  steps\n",
        (false, false) => "  waiting, while it is paused\n",
    });
    for (number, step) in steps.iter().enumerate() {
        let known = wanted.map_or("", |bundle| &bundle.manifest.reason);
        text.push_str(&format!("    {}. {}\n", number + 1, step_text(step, cluster, known, networks)));
    }
    printable_lines(&text)
}

/// A step, with names where it has ids, and without a reason that is `known` already.
fn step_text(step: &Step, cluster: &ClusterLook, known: &str, networks: &BTreeMap<NetworkId, String>) -> String {
    let service = &cluster.plan.status.service;
    let (what, write) = match step {
        Step::CreateService(write) => (format!("create service {service} with"), write),
        Step::UpdateService { write, .. } => (format!("update service {service} with"), write),
        Step::CreateCheck { draft, write } => {
            (format!("check the files with {} before service {service} gets", draft.command()), write)
        }
        Step::CreateConfig(_)
        | Step::HoldGeneration { .. }
        | Step::ReleaseGeneration { .. }
        | Step::LabelService { .. }
        | Step::RemoveCheck { .. }
        | Step::RemoveConfig { .. } => return step.to_string(),
    };
    let mut text = format!("{what} generation {}", write.attempt.generation.short());
    for (verb, ids) in [("joins", &write.joins), ("leaves", &write.leaves)] {
        if !ids.is_empty() {
            let names: Vec<&str> = ids.iter().map(|id| networks.get(id).map_or(id.as_str(), String::as_str)).collect();
            text.push_str(&format!(", which {verb} {}", names.join(" and ")));
        }
    }
    if write.reason != known {
        text.push_str(&format!(": {}", write.reason));
    }
    text
}

/// The services that ask in vain, below a blank line; nothing if there are none.
fn others(report: &Report) -> String {
    let others = not_routed(report);
    if others.is_empty() { String::new() } else { format!("\n{others}") }
}

fn plan_json(name: &ClusterName, cluster: &ClusterLook) -> Value {
    let live = match &cluster.published {
        Published::Live { manifest, .. } => Some(manifest.generation),
        Published::Nothing | Published::Unknown { .. } => None,
    };
    let changed = cluster.bundle.as_ref().filter(|bundle| live != Some(bundle.generation()));
    json!({
        "cluster": name,
        "live": live,
        "wanted": cluster.bundle.as_ref().map(model::Bundle::generation),
        "reason": changed.map(|bundle| &bundle.manifest.reason),
        "steps": cluster.plan.steps,
        "waiting": cluster.plan.waiting,
        "status": cluster.plan.status,
    })
}

/// How the files of `dovetail render` are handed over.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// One after the other, each under its name.
    Text,
    /// A JSON object of clusters, of objects of paths.
    Json,
    /// Written below this directory; what is printed are their paths.
    Below(&'a Path),
}

/// `dovetail render`: the proxies' files as they should be.
///
/// # Errors
/// When the cluster cannot be read, or has no proxies of that name, or a file cannot be written.
pub async fn render(config: &Config, swarm: &impl swarm::Read, only: Option<&str>, form: Form<'_>) -> Result<String> {
    if let Some(name) = only {
        config.require_cluster(name)?;
    }
    let look = look(config, swarm).await?;
    let mut clusters: BTreeMap<&str, BTreeMap<&str, Cow<'_, str>>> = BTreeMap::new();
    for (name, cluster) in look.clusters.iter().filter(|(name, _)| only.is_none_or(|only| name.as_str() == only)) {
        let Some(bundle) = &cluster.bundle else {
            bail!("what the proxies of cluster {name} should be cannot be told: {}", phase_text(cluster));
        };
        let files = bundle.files.iter().map(|(path, file)| (&**path, String::from_utf8_lossy(&file.content)));
        clusters.insert(name.as_str(), files.collect());
    }
    let mut text = String::new();
    match form {
        Form::Json => return pretty(&clusters),
        Form::Text => {
            for (name, path, content) in flat(&clusters) {
                write!(text, "# {name}: {path}\n{content}\n")?;
            }
        }
        Form::Below(directory) => {
            for (name, path, content) in flat(&clusters) {
                let path = directory.join(name).join(path.trim_start_matches('/'));
                std::fs::create_dir_all(path.parent().context("a file has a directory")?)?;
                std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
                writeln!(text, "{}", path.display())?;
            }
        }
    }
    Ok(text)
}

fn flat<'a>(
    clusters: &'a BTreeMap<&str, BTreeMap<&str, Cow<'_, str>>>,
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    clusters.iter().flat_map(|(name, files)| files.iter().map(move |(path, content)| (*name, *path, content.as_ref())))
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
    if look.report.services.is_empty() && routes.is_empty() {
        return Ok(NOBODY_ASKS.into());
    }
    let live = if routes.is_empty() { "there are no routes\n".to_owned() } else { table(&routes).to_string() };
    Ok(live + &others(&look.report))
}

/// `dovetail explain`: why a service is routed or not.
///
/// # Errors
/// When the cluster cannot be read, or has no such service.
pub async fn explain_service(config: &Config, swarm: &impl swarm::Read, name: &str, as_json: bool) -> Result<String> {
    let look = look(config, swarm).await?;
    let mut explanations = explain(&look.report, &look.published(), &look.addresses, name);
    for explanation in &mut explanations {
        let history = swarm.task_history(&explanation.id).await;
        explanation.not_running = history.ok().map(|history| not_running(&history, swarm.now()));
    }
    if explanations.is_empty() {
        bail!(nothing_to_explain(&swarm.services().await?, name));
    }
    if as_json {
        return pretty(&explanations);
    }
    Ok(explanations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// Why there is nothing to explain about a service.
fn nothing_to_explain(services: &[swarm::Service], name: &str) -> String {
    let is_meant = |service: &&swarm::Service| {
        let id = service.id.as_str();
        service.name == name || id == name || (name.len() >= SHORT_ID && id.starts_with(name))
    };
    if let Some(service) = services.iter().find(is_meant) {
        return format!(
            "the service {} does not ask to be routed: among its labels (deploy.labels in a stack file, --label in \
             docker service create) is neither {} nor {}=true",
            service.name,
            labels::HOSTS,
            labels::DEFAULT_BACKEND,
        );
    }
    // A stack's services are called by its name, and people by theirs.
    let mut similar: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
    similar.retain(|service| service.contains(name));
    similar.sort_unstable();
    if similar.is_empty() || name.is_empty() {
        return format!("there is no service {name:?}; docker service ls lists those there are");
    }
    format!("there is no service {name:?}; is {} meant?", similar.join(" or "))
}

/// `dovetail status`: how the operator, proxies and services are doing. `running` is what the operator
/// [says](crate::running::ask), or why it could not be asked.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn status(
    config: &Config,
    swarm: &impl swarm::Read,
    running: &Result<Readiness, String>,
    as_json: bool,
) -> Result<String> {
    let mut look = look(config, swarm).await?;
    if let Ok(running) = running {
        for (name, cluster) in &mut look.clusters {
            cluster.plan.status.trouble = running.trouble.get(name).cloned();
        }
    }
    let left_behind = left_behind(config, &swarm.services().await?);
    if as_json {
        let clusters: Vec<&actuator::Status> = look.clusters.values().map(|cluster| &cluster.plan.status).collect();
        return pretty(&json!({
            "operator": running.as_ref().ok(), "clusters": clusters, "services": look.report.services,
            "networks": look.addresses, "kept_setups": look.report.kept_setups, "left_behind": left_behind,
        }));
    }
    let mut text = printable(&operator_text(running)) + "\n";
    for (name, cluster) in &look.clusters {
        let blocked = running.as_ref().ok().and_then(|running| running.blocked.get(name));
        text.push_str(&status_text(cluster, blocked, &look.networks));
    }
    text.extend(look.addresses.values().filter(|addresses| addresses.nearly_full).map(nearly_full_text));
    text.extend(left_behind.iter().map(|name| {
        let name = printable(name);
        format!(
            "service {name}: proxies of this installation that are in no cluster of the configuration; they serve what \
             they served last, until you remove them (docker service rm {name})\n"
        )
    }));
    text.push('\n');
    let mut services: Vec<&Arc<ServiceReport>> = look.report.services.values().collect();
    if services.is_empty() {
        text.push_str(NOBODY_ASKS);
        return Ok(text);
    }
    services.sort_by(|one, other| one.name.cmp(&other.name));
    let mut table = Table::new(["SERVICE", "CLUSTER", "STATE"]);
    for service in services {
        let cluster = service.cluster.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row([service.name.clone(), cluster, outcome(service)]);
    }
    Ok(text + &table.to_string())
}

/// Proxy services of this installation that no cluster of the configuration has: of a cluster that was taken out, or from
/// before its proxies got another name. Whether anybody still needs them, only people know.
fn left_behind(config: &Config, services: &[swarm::Service]) -> Vec<String> {
    let ours = |service: &&swarm::Service| {
        service.labels.get(labels::INSTANCE).is_some_and(|instance| *instance == config.instance.0.to_string())
            && service.labels.contains_key(labels::APPLIED)
            && config.clusters.0.values().all(|cluster| cluster.proxy.name.0 != service.name)
    };
    services.iter().filter(ours).map(|service| service.name.clone()).collect()
}

fn operator_text(running: &Result<Readiness, String>) -> String {
    match running {
        Ok(running) if running.ready => "operator: ready".into(),
        Ok(running) => format!("operator: not ready: {}", running.reasons.join("; ")),
        Err(why) => format!("operator: not asked, since this is not its container, or it does not run ({why})"),
    }
}

const NOBODY_ASKS: &str = "no service asks to be routed: none has the label com.docker.lb.hosts\n";

fn status_text(cluster: &ClusterLook, blocked: Option<&String>, networks: &BTreeMap<NetworkId, String>) -> String {
    let status = &cluster.plan.status;
    let mut lines = vec![
        format!("cluster {}: {}", status.cluster, phase_text(cluster)),
        format!("  service     {}", status.service),
    ];
    lines.push(match (status.live, status.target) {
        (Some(live), Some(target)) if live == target => format!("  generation  {}, as wanted", live.short()),
        (Some(live), Some(target)) => format!("  generation  {} live, {} wanted", live.short(), target.short()),
        (Some(live), None) => format!("  generation  {} live, what is wanted cannot be told", live.short()),
        (None, Some(target)) => format!("  generation  none live, {} wanted", target.short()),
        (None, None) => "  generation  cannot be told".to_owned(),
    });
    if let Some(image) = &status.image {
        lines.push(format!("  image       {image}"));
    }
    if !status.networks.is_empty() {
        let name = |id| networks.get(id).map_or_else(|| ToString::to_string(id), String::clone);
        let names: Vec<String> = status.networks.iter().map(name).collect();
        lines.push(format!("  networks    {}", names.join(", ")));
    }
    if let Some(missing) = &status.missing {
        lines.push(format!("  missing     {missing}"));
    }
    lines.extend(status.holds.iter().map(|hold| format!("  held        {}", hold_text(hold))));
    lines.extend(cluster.kept_setup.iter().map(|reason| format!("  setup       {}", kept_text(reason))));
    if let Some(reason) = &status.unchecked {
        lines.push(format!("  unchecked   the last generation was rolled out without a check: {reason}"));
    }
    // One look cannot tell a rollout that goes on from one that does not.
    lines.extend(blocked.map(|blocked| format!("  blocked     {blocked}")));
    if let Some(trouble) = &status.trouble {
        lines.push(format!("  trouble     {trouble}"));
    }
    printable_lines(&(lines.join("\n") + "\n"))
}

/// A warning: one more stack on such a network, and services or proxies wait for an address for ever.
fn nearly_full_text(addresses: &Addresses) -> String {
    let Addresses { name, subnets, total, taken, nearly_full: _ } = addresses;
    let subnets = subnets.join(" and ");
    printable_lines(&format!(
        "network {name}: nearly full: at least {taken} of the {total} addresses of {subnets} are taken"
    ))
}

fn hold_text(hold: &HoldStatus) -> String {
    let retry = match hold.retry_in_seconds {
        Some(seconds) => format!("tried again in {seconds} s"),
        None => "not tried again by itself".to_owned(),
    };
    format!("generation {}: {}; {retry}", hold.generation.short(), hold.reason)
}

fn kept_text(reason: &str) -> String {
    format!("what the configuration says of nginx is not in effect, what worked before is: {reason}")
}

/// Each line with control characters escaped: reasons can hold what strangers wrote.
fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(line) + "\n").collect()
}

fn phase_text(cluster: &ClusterLook) -> String {
    match &cluster.plan.status.phase {
        Phase::Waiting { waits_for } => format!("waiting for {waits_for}"),
        Phase::InStep => "in step".to_owned(),
        Phase::Pending { reason } => format!("about to change: {reason}"),
        Phase::Checking { generation, reason, waits_for, .. } => {
            format!("checking the files of {} ({reason}) before they are rolled out; {waits_for}", generation.short())
        }
        Phase::Rolling { generation, tasks_done, tasks_total, reason, waits_for, .. } => {
            // One look does not know why the rollout was started; what is rolled out says it.
            let reason = match &cluster.published {
                Published::Live { manifest, .. } => &manifest.reason,
                Published::Nothing | Published::Unknown { .. } => reason,
            };
            let generation = generation.short();
            format!("rolling out {generation} ({reason}), {tasks_done} of {tasks_total} proxies done; {waits_for}")
        }
        Phase::Blocked { tasks_done, tasks_total, waits_for, advice, .. } => {
            format!("blocked at {tasks_done} of {tasks_total} proxies, waiting for {waits_for}; {advice}")
        }
        Phase::Held { generation, reason, advice, .. } => format!("held {}: {reason}; {advice}", generation.short()),
        Phase::Paused { reason, waiting: 0 } => format!("paused ({reason}); nothing waits"),
        Phase::Paused { reason, waiting } => format!("paused ({reason}); {waiting} writes wait for dovetail resume"),
        Phase::Fenced { reason, advice } => format!("only looking: {reason}; {advice}"),
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
        let ports: Vec<String> = [("http", proxy.ports.http), ("https", proxy.ports.https)]
            .into_iter()
            .filter_map(|(kind, port)| Some(format!("{kind} {}", port?.0)))
            .collect();
        let ports = if ports.is_empty() { "no port".to_owned() } else { ports.join(" and ") };
        let published = match proxy.publish_mode {
            PublishMode::Host => format!("one on each chosen node, on its {ports}"),
            PublishMode::Ingress if proxy.replicas.0 == 1 => format!("1 replica, {ports} of the routing mesh"),
            PublishMode::Ingress => format!("{} replicas, {ports} of the routing mesh", proxy.replicas.0),
        };
        text.push_str(&format!(
            "  cluster {name}: service {}, image {} (nginx {}), {published}\n",
            proxy.name, proxy.image, cluster.nginx.version,
        ));
        text.extend(ports_taken(config, name.0.as_str(), proxy));
        if let Some(file) = proxy.registry_auth_file.as_ref().filter(|_| proxy.registry_auth.is_none()) {
            let file = file.display();
            text.push_str(&format!("    note: {file}, its registry_auth_file, is not here, and so was not checked\n"));
        }
        if cluster.nginx.proxy_protocol && cluster.nginx.trusted_proxies.is_empty() {
            text.push_str(
                "    note: nginx.proxy_protocol without nginx.trusted_proxies: whoever reaches the ports, applications \
                 included, is believed about the client's address, and so gets past allow, deny and rate_limit\n",
            );
        }
    }
    text
}

/// A note for each port that a cluster before this one publishes already. A port of the routing mesh is taken on every
/// node; of host ports one cannot tell here, since the clusters' nodes may differ.
fn ports_taken(config: &Config, name: &str, proxy: &Proxy) -> Vec<String> {
    let ports = |proxy: &Proxy| [proxy.ports.http, proxy.ports.https].into_iter().flatten().map(|port| port.0);
    let before = config.clusters.0.iter().take_while(|(other, _)| other.0.as_str() != name);
    let on_the_mesh = |other: &Proxy| [proxy, other].iter().any(|one| one.publish_mode == PublishMode::Ingress);
    let taken = before.filter(|(_, other)| on_the_mesh(&other.proxy)).flat_map(|(other, cluster)| {
        ports(&cluster.proxy).filter(|port| ports(proxy).any(|own| own == *port)).map(move |port| {
            format!(
                "    note: port {port} is published by the cluster {} already: Swarm refuses one of the two\n",
                other.0
            )
        })
    });
    taken.collect()
}

/// JSON, as all commands print it.
///
/// # Errors
/// When it cannot be said in JSON, as a map whose keys are no texts.
pub fn pretty(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
