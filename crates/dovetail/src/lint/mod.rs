//! `dovetail lint`: checks the labels of stack files offline.
//!
//! A file is read the way `docker stack deploy` reads it (both forms of labels, anchors, variables), put on a
//! cluster of its own (`offline`), and judged by the operator's own functions: what is said here of a service is what
//! `explain` would say of it. On top of that comes what only the file shows: values that docker takes for something
//! else, secrets that it does not declare, HRM's labels.
//!
//! Deliberately missing: whatever only the cluster knows, such as external networks and secrets, other stacks on the
//! same hosts, and whether the images answer on their ports.

mod answer;
pub mod finding;
mod hrm;
mod offline;
mod stack;
mod variables;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::path::Path;

use model::{BackendMode, Code, Host, Published, Report, ServiceReport, Verdict, labels};
use serde::Serialize;

use crate::config::{Cluster, ClusterSettings, Config, ConfigError, Entries};
use crate::nearest::nearest;
use crate::table::{Table, printable};
pub use answer::Answer;
use finding::Findings;
pub use finding::{Finding, Severity};
use offline::{Offline, SECRETS, service_id};
use stack::{Label, Service, Stack};
pub use variables::Variables;

/// What a file is judged with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The stack's name, if it is known.
    pub stack: Option<String>,
    /// The variables that are set.
    pub variables: Variables,
    /// The operator's configuration, if it is known: then service clusters and fixed networks are judged too.
    pub config: Option<Config>,
}

/// What is said of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Its name.
    pub file: String,
    /// The stack's name that was taken for granted; none if it does not matter.
    pub stack: Option<String>,
    /// The services that ask to be routed, in the order of the file.
    pub services: Vec<Asking>,
    /// What is found, by line.
    pub findings: Vec<Finding>,
}

/// A service that asks to be routed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asking {
    /// Its name in the file.
    pub service: String,
    /// Its line.
    pub line: usize,
    /// Whether its labels, its mode and its networks are fine.
    pub fine: bool,
    /// The hosts it asks for.
    pub hosts: BTreeSet<Host>,
    /// Whether it asks for unknown hosts.
    pub default_backend: bool,
    /// How its endpoints are found.
    pub mode: Option<BackendMode>,
    /// The network it is reached over.
    pub network: Option<String>,
    /// Whether it is reached over none, but at its nodes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_nodes: bool,
}

/// Stands for the stack's name where it is not known.
const UNKNOWN_STACK: &str = "STACK";

/// Reads a file, or standard input if it is `-`.
///
/// # Errors
/// When it cannot be read.
pub fn read_text(file: &Path) -> Result<String, ConfigError> {
    let text =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    text.map_err(|error| ConfigError::unread(file, &error))
}

/// Judges a file.
///
/// # Errors
/// When it is no stack file.
pub async fn check(file: &str, text: &str, settings: &Settings) -> Result<Checked, ConfigError> {
    let unreadable = |line, message| ConfigError { file: file.to_owned(), line, message };
    let root = yaml::parse(text).map_err(|error| unreadable(Some(error.line), error.message))?;
    let root = root.filter(|root| matches!(root.value, yaml::Value::Mapping(_)));
    let root = root.ok_or_else(|| unreadable(None, "is no mapping, as a stack file is".into()))?;
    let mut findings = Findings::default();
    let stack = stack::read(&root, &settings.variables, &mut findings);
    let assumed = if settings.stack.is_none() { assumed_name(&stack, &mut findings) } else { None };
    let name = settings.stack.clone().or(assumed);
    let deployed_as = name.as_deref().unwrap_or(UNKNOWN_STACK);
    let report = judged(&stack, deployed_as, settings.config.as_ref())
        .await
        .map_err(|error| unreadable(None, format!("a bug in Dovetail: {error}")))?;
    let mut services = Vec::new();
    for (number, service) in stack.services.iter().enumerate() {
        match report.services.get(&service_id(number)) {
            Some(about) => {
                say_what_the_operator_says(service, about, &mut findings);
                services.push(asking(service, about));
            }
            None => say_that_it_asks_for_nothing(service, &mut findings),
        }
        say_which_secrets_are_not_declared(service, &stack, deployed_as, &mut findings);
        translate_hrm(service, &mut findings);
    }
    say_which_hosts_are_shared(&stack, &report, &mut findings);
    for (key, network) in &stack.networks {
        for (label, line) in network.labels.iter().filter(|(label, _)| hrm::is_hrm(label)) {
            let message =
                format!("the network {key} needs no label: a proxy joins the networks of the services it serves");
            let mut finding = Finding::note("hrm_labels", *line, message);
            finding.label = Some(label.clone());
            findings.add(finding);
        }
    }
    Ok(Checked { file: file.to_owned(), stack: name, services, findings: findings.sorted() })
}

/// The operator's judgement of every service.
async fn judged(stack: &Stack, name: &str, config: Option<&Config>) -> swarm::Result<Report> {
    let any = any_cluster(stack);
    let config = config.unwrap_or(&any);
    let parts = config.clusters();
    let mut settings = config.reconciler();
    let mut published = BTreeMap::new();
    for part in parts {
        published.insert(part.name.clone(), Published::Nothing);
        settings.clusters.insert(part.name, part.reconciler);
    }
    // No proxies: whether a network has room for them is the cluster's to tell, not the file's.
    let observed = observer::observe_once(&Offline::new(stack, name), &observer::Settings::default()).await?;
    Ok(reconciler::compile(&observed.desired, &published, &settings).report)
}

/// A configuration that serves every service cluster that the file names.
fn any_cluster(stack: &Stack) -> Config {
    let named = stack.services.iter().filter_map(|service| service.labels.get(labels::SERVICE_CLUSTER));
    let all: BTreeSet<String> = named.map(|label| label.value.trim().to_owned()).chain([String::new()]).collect();
    let clusters = all.into_iter().enumerate().map(|(number, service_cluster)| {
        let name = model::ClusterName::parse(&format!("cluster-{number}")).expect("a number is short");
        (Cluster(name), ClusterSettings { service_cluster, ..ClusterSettings::default() })
    });
    Config { clusters: Entries(clusters.collect()), ..Config::default() }
}

/// The stack's name that labels with a prefix (`shop_web` for the network `web`) take for granted.
fn assumed_name(stack: &Stack, findings: &mut Findings) -> Option<String> {
    let mut assumed: BTreeMap<String, usize> = BTreeMap::new();
    for service in &stack.services {
        let networks = service.networks.iter().filter_map(|key| Some((key, stack.networks.get(key)?)));
        let named = [(labels::NETWORK, networks.collect::<Vec<_>>())]
            .into_iter()
            .chain(SECRETS.map(|label| (label, stack.secrets.iter().collect())));
        for (label, objects) in named {
            let Some(Label { line, value }) = service.labels.get(label) else { continue };
            let value = value.trim();
            if objects.iter().any(|(key, object)| *key == value || object.name.as_deref() == Some(value)) {
                continue;
            }
            let prefix = objects.iter().filter(|(_, object)| object.name.is_none()).find_map(|(key, _)| {
                value.strip_suffix(key.as_str())?.strip_suffix('_').filter(|prefix| !prefix.is_empty())
            });
            if let Some(prefix) = prefix {
                assumed.entry(prefix.to_owned()).or_insert(*line);
            }
        }
    }
    let mut names = assumed.iter();
    let (name, line) = names.next()?;
    if let Some((other, other_line)) = names.next() {
        let message =
            format!("labels take the stack to be called {name} (line {line}) and {other}: say which with --stack");
        findings.add(Finding::warning("stack_assumed", *other_line, message));
        return None;
    }
    let message = format!("the labels are right if the stack is called {name}: say so with --stack {name}");
    findings.add(Finding::note("stack_assumed", *line, message));
    Some(name.clone())
}

fn say_what_the_operator_says(service: &Service, about: &ServiceReport, findings: &mut Findings) {
    let line = |problem: &model::Problem| {
        // What is said of a conflict begins with the label.
        let first = || problem.message.split(' ').next().unwrap_or_default();
        let label = problem.label.as_deref().unwrap_or_else(first);
        let label = service.labels.get(label).or_else(|| service.container_labels.get(label));
        label.map_or(service.line, |label| label.line)
    };
    for (severity, problems) in [(Severity::Problem, &about.problems), (Severity::Warning, &about.warnings)] {
        for problem in problems {
            let mut finding = Finding::from_operator(severity, line(problem), problem).of(&service.name);
            if problem.code == Code::Conflict {
                finding.message.push_str("; which one is older is taken from the order of the file");
            }
            findings.add(finding);
        }
    }
    match &about.verdict {
        Verdict::Waiting { reason } => {
            let message = format!("it is not routed at first: waiting for {reason}");
            findings.add(Finding::note("waiting", service.line, message).of(&service.name));
        }
        Verdict::Elsewhere { service_cluster } => {
            let line = service.labels.get(labels::SERVICE_CLUSTER).map_or(service.line, |label| label.line);
            let message = "no cluster of the configuration serves it";
            let finding = Finding::warning("elsewhere", line, message).of(&service.name);
            findings.add(finding.at(labels::SERVICE_CLUSTER, service_cluster));
        }
        Verdict::Routed { .. } | Verdict::Refused | Verdict::Quarantined { .. } => {}
    }
}

fn say_that_it_asks_for_nothing(service: &Service, findings: &mut Findings) {
    let routing = service.labels.iter().filter(|(name, _)| name.starts_with(labels::PREFIX));
    let Some((_, first)) = routing.clone().min_by_key(|(_, label)| label.line) else { return };
    // One that says default_backend=false has thought about it.
    if service.labels.contains_key(labels::DEFAULT_BACKEND) {
        return;
    }
    let meant = routing
        .clone()
        .find_map(|(name, label)| Some((name, label, nearest(name, [labels::HOSTS, labels::DEFAULT_BACKEND])?)));
    let message = format!(
        "it has routing labels and is not routed: neither {} nor {} is among them",
        labels::HOSTS,
        labels::DEFAULT_BACKEND
    );
    let finding = Finding::warning("asks_for_nothing", first.line, message).of(&service.name);
    findings.add(match meant {
        Some((name, label, known)) => Finding { line: label.line, ..finding.at(name, &label.value).allowed(known) },
        None => finding,
    });
}

fn say_which_secrets_are_not_declared(service: &Service, stack: &Stack, name: &str, findings: &mut Findings) {
    for label in SECRETS {
        let Some(Label { line, value }) = service.labels.get(label) else { continue };
        let secret = value.trim();
        let declared = stack.secrets.iter().any(|(key, object)| {
            let real = object.real_name(key, name);
            real == secret || real == format!("{name}_{secret}")
        });
        if !declared && !secret.is_empty() {
            let message = "the file declares no such secret; it has to be on the cluster (docker secret ls)";
            findings.add(Finding::note("secret_not_declared", *line, message).of(&service.name).at(label, secret));
        }
    }
}

fn translate_hrm(service: &Service, findings: &mut Findings) {
    let Some((line, translation)) = hrm::translate(service) else { return };
    findings.add(hrm::finding(service, line, &translation));
    // A translation that would be refused is no help.
    let translated = translation.labels.into_iter().map(|(name, value)| (name, Label { line, value }));
    if let Some(Err(problems)) = Offline::read(&service.relabelled(translated.collect())).map(|reading| reading.asked) {
        for problem in problems {
            findings.add(Finding::from_operator(Severity::Warning, line, &problem).of(&service.name));
        }
    }
}

/// Hosts that several services ask for, in one cluster of proxies and at one path.
fn say_which_hosts_are_shared(stack: &Stack, report: &Report, findings: &mut Findings) {
    let mut shared: BTreeMap<_, Vec<&Service>> = BTreeMap::new();
    for (number, service) in stack.services.iter().enumerate() {
        let Some(about) = report.services.get(&service_id(number)) else { continue };
        if !matches!(about.verdict, Verdict::Routed { .. } | Verdict::Waiting { .. }) {
            continue;
        }
        let root = about.options.context_root.as_str().trim_end_matches('/');
        for host in &about.hosts {
            shared.entry((&about.cluster, host, root)).or_default().push(service);
        }
    }
    for ((_, host, root), services) in shared.into_iter().filter(|(_, services)| services.len() > 1) {
        let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        let line = services[0].labels.get(labels::HOSTS).map_or(services[0].line, |label| label.line);
        let message =
            format!("{host}{root} is asked for by {}, which share its requests (canary)", names.join(" and "));
        findings.add(Finding::note("shared_host", line, message));
    }
}

fn asking(service: &Service, about: &ServiceReport) -> Asking {
    Asking {
        service: service.name.clone(),
        line: service.line,
        fine: about.problems.is_empty(),
        hosts: about.hosts.clone(),
        default_backend: about.default_backend,
        mode: about.mode,
        network: about.network.as_ref().map(|network| network.name.clone()),
        at_nodes: about.at_nodes,
    }
}

impl Checked {
    /// How many findings there are of one severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    fn summary(&self) -> String {
        let counts = [Severity::Problem, Severity::Warning, Severity::Note].into_iter().filter_map(|severity| {
            let count = self.count(severity);
            let plural = if count == 1 { "" } else { "s" };
            (count > 0).then(|| format!("{count} {}{plural}", severity.as_str()))
        });
        let counts: Vec<String> = counts.collect();
        if counts.is_empty() { "fine".into() } else { counts.join(", ") }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.file, self.summary())?;
        if self.services.is_empty() {
            writeln!(f, "no service asks to be routed: none has the label {} in deploy.labels", labels::HOSTS)?;
        } else {
            let mut table = Table::new(["SERVICE", "LABELS", "HOSTS", "MODE", "NETWORK"]);
            for asking in &self.services {
                let hosts = asking.hosts.iter().map(ToString::to_string);
                let hosts: Vec<String> =
                    hosts.chain(asking.default_backend.then(|| "unknown hosts".to_owned())).collect();
                let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
                table.row([
                    asking.service.clone(),
                    if asking.fine { "fine".into() } else { "refused".into() },
                    if hosts.is_empty() { "-".into() } else { hosts.join(", ") },
                    or_none(asking.mode.map(|mode| mode.as_str().to_owned())),
                    if asking.at_nodes { "none: at its nodes".into() } else { or_none(asking.network.clone()) },
                ]);
            }
            write!(f, "{table}")?;
        }
        if self.findings.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(["LINE", "KIND", "SERVICE", "WHAT"]);
        let mut paste = String::new();
        for finding in &self.findings {
            let line = if finding.line == 0 { "-".to_owned() } else { finding.line.to_string() };
            let service = finding.service.clone().unwrap_or_else(|| "-".into());
            if !finding.paste.is_empty() {
                writeln!(paste, "\nfor {}, in the place of line {line}:", printable(&service))?;
                finding.paste.iter().try_for_each(|line| writeln!(paste, "  {}", printable(line)))?;
            }
            table.row([line, finding.severity.as_str().into(), service, finding.to_string()]);
        }
        write!(f, "\n{table}{paste}")
    }
}
