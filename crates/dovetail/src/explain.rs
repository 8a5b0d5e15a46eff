//! The answer to "why is my service not routed?": label by label, network, tasks, what is live.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use model::{
    Addresses, BackendMode, ClusterName, Code, Digest, NetworkId, Problem, Published, Report, ServiceId, ServiceReport,
    Verdict,
};
use serde::Serialize;

use crate::not_running::{self, NotRunning};
use crate::routes::rolled_out;
use crate::table::{Table, printable};

/// Everything there is to say about one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Its id.
    pub id: ServiceId,
    /// What was decided, and why.
    #[serde(flatten)]
    pub report: Arc<ServiceReport>,
    /// Other services that answer hosts of its, by host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub shared: BTreeMap<model::Host, Vec<String>>,
    /// How full the chosen network is; none if that cannot be told.
    pub addresses: Option<Addresses>,
    /// Its tasks that do not run; none if nobody looked, as the running operator does not, or they could not be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_running: Option<Vec<NotRunning>>,
    /// What the proxies serve of it; none if nothing.
    pub live: Option<Live>,
}

/// What the proxies serve of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Live {
    /// The generation of the live files.
    pub generation: Digest,
    /// Why it was published the way it is.
    pub reason: String,
    /// The hosts they route to it.
    pub hosts: BTreeSet<model::Host>,
    /// Whether they send unknown hosts to it.
    pub default_backend: bool,
    /// The addresses they send requests to.
    pub endpoints: BTreeSet<SocketAddr>,
    /// Whether that is what should be served.
    pub in_step: bool,
    /// Whether every proxy has it; not while the rollout of these files is under way.
    pub rolled_out: bool,
}

/// Explains every service of this name or id; if there is none, the one whose id begins like this, as in
/// `docker service ls`.
pub fn explain(
    report: &Report,
    published: &BTreeMap<ClusterName, Published>,
    addresses: &BTreeMap<NetworkId, Addresses>,
    service: &str,
) -> Vec<Explanation> {
    let explanation = |(id, about): (&ServiceId, &Arc<ServiceReport>)| Explanation {
        id: id.clone(),
        report: Arc::clone(about),
        shared: shared(id, about, report),
        addresses: about.network.as_ref().and_then(|network| addresses.get(&network.id)).cloned(),
        not_running: None,
        live: live(id, about, published),
    };
    let named = |(id, about): &(&ServiceId, &Arc<ServiceReport>)| about.name == service || id.as_str() == service;
    let exact: Vec<Explanation> = report.services.iter().filter(named).map(explanation).collect();
    if !exact.is_empty() || service.len() < SHORT_ID {
        return exact;
    }
    report.services.iter().filter(|(id, _)| id.as_str().starts_with(service)).map(explanation).collect()
}

/// Who else answers its hosts: services that are routed in the same cluster of proxies.
fn shared(id: &ServiceId, about: &ServiceReport, report: &Report) -> BTreeMap<model::Host, Vec<String>> {
    let mut shared: BTreeMap<model::Host, Vec<String>> = BTreeMap::new();
    let others = report.services.iter().filter(|(other, them)| {
        *other != id && them.cluster == about.cluster && matches!(them.verdict, Verdict::Routed { .. })
    });
    for (_, them) in others {
        for host in about.hosts.intersection(&them.hosts) {
            let root = &them.options.context_root;
            let at = if root.is_root() { String::new() } else { format!(" at {root}") };
            shared.entry(host.clone()).or_default().push(format!("{}{at}", them.name));
        }
    }
    shared
}

/// The length of an id where docker prints it short.
pub const SHORT_ID: usize = 12;

fn live(id: &ServiceId, about: &ServiceReport, published: &BTreeMap<ClusterName, Published>) -> Option<Live> {
    let published = published.get(about.cluster.as_ref()?)?;
    let Published::Live { manifest, .. } = published else { return None };
    let publication = manifest.services.get(id)?;
    let contribution = &publication.contribution;
    let in_step = match &about.verdict {
        Verdict::Routed { .. } => {
            contribution.endpoints == about.endpoints
                && contribution.hosts == about.hosts
                && contribution.default_backend == about.default_backend
                && contribution.options == about.options
        }
        // The hosts of its last good state are not known here; its servers are.
        Verdict::Quarantined { last_good_served: true, .. } => contribution.endpoints == about.endpoints,
        Verdict::Quarantined { .. } | Verdict::Waiting { .. } | Verdict::Refused | Verdict::Elsewhere { .. } => false,
    };
    Some(Live {
        generation: manifest.generation,
        reason: publication.reason.clone(),
        hosts: contribution.hosts.clone(),
        default_backend: contribution.default_backend,
        endpoints: contribution.endpoints.clone(),
        in_step,
        rolled_out: rolled_out(published, id),
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = &self.report;
        writeln!(f, "service   {} ({})", about.name, self.id)?;
        writeln!(f, "verdict   {}", printable(&outcome(about)))?;
        // Without a mode the labels did not read, and nothing else was looked at.
        let unread = about.mode.is_none();
        match &about.cluster {
            Some(cluster) => writeln!(f, "cluster   {cluster}")?,
            None if unread => {}
            None => writeln!(f, "cluster   none of ours")?,
        }
        writeln!(f, "labels")?;
        if about.labels.is_empty() {
            writeln!(f, "  none on the service itself")?;
        }
        for (label, value) in &about.labels {
            writeln!(f, "  {label}={}", printable(value))?;
            for line in remarks(label, about) {
                writeln!(f, "    {line}")?;
            }
        }
        for problem in unlabelled(&about.problems, about) {
            writeln!(f, "problem   {problem}")?;
        }
        for warning in unlabelled(&about.warnings, about) {
            writeln!(f, "warning   {warning}")?;
        }
        for (host, others) in &self.shared {
            writeln!(f, "shared    {host} with {}", others.join(", "))?;
        }
        match &about.network {
            Some(network) => writeln!(f, "network   {} ({}): {}", network.name, network.id, network.reason)?,
            None if about.at_nodes => {
                writeln!(f, "network   none: its nodes publish its port (mode=host), and it is reached there")?;
            }
            None if unread => writeln!(f, "network   not chosen before the problems are solved")?,
            None => writeln!(f, "network   none chosen")?,
        }
        let full = about.problems.iter().chain(&about.warnings).any(|problem| problem.code == Code::NetworkFull);
        if let Some(addresses) = self.addresses.as_ref().filter(|addresses| addresses.nearly_full || full) {
            let (taken, total) = (addresses.taken, addresses.total);
            writeln!(f, "          at least {taken} of its {total} addresses are taken now, those of nodes included")?;
        }
        let not_running = self.not_running.as_deref().unwrap_or_default();
        if !about.tasks.is_empty() || !not_running.is_empty() {
            writeln!(f, "tasks")?;
        }
        for task in &about.tasks {
            match task.endpoint {
                Some(endpoint) => writeln!(f, "  {}  in, {endpoint}: {}", task.id, task.reason)?,
                None => writeln!(f, "  {}  out: {}", task.id, task.reason)?,
            }
        }
        for line in not_running::lines(not_running) {
            writeln!(f, "  {line}")?;
        }
        if about.tasks.is_empty() && !about.endpoints.is_empty() {
            let what = if about.mode == Some(BackendMode::Vip) { ", its virtual address" } else { "" };
            writeln!(f, "server    {}{what}", join(&about.endpoints))?;
        }
        self.fmt_live(f)
    }
}

impl Explanation {
    fn fmt_live(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = &self.report.verdict;
        let routed = matches!(verdict, Verdict::Routed { .. });
        let Some(live) = &self.live else {
            let then = if routed { " yet; that is about to change" } else { "" };
            return writeln!(f, "live      the proxies serve nothing of it{then}");
        };
        let hosts = live.hosts.iter().map(ToString::to_string);
        let hosts: Vec<String> = hosts.chain(live.default_backend.then(|| "unknown hosts".to_owned())).collect();
        let then = match (live.in_step, routed) {
            (true, _) if live.rolled_out => "",
            (true, _) => "; not all proxies have that yet, it is being rolled out",
            (false, true) => "; that is about to change",
            (false, false) => "; that is about to end",
        };
        let (generation, hosts, servers) = (live.generation.short(), hosts.join(", "), join(&live.endpoints));
        writeln!(f, "live      generation {generation} sends {hosts} to {servers}{then}")
    }
}

/// What became of a service, as a sentence.
pub fn outcome(about: &ServiceReport) -> String {
    match &about.verdict {
        Verdict::Routed { reason } => format!("routed: {reason}"),
        Verdict::Waiting { reason } => format!("waiting: {reason}"),
        Verdict::Refused => match &about.problems[..] {
            [] => "refused".to_owned(),
            [problem] => format!("refused: {}", brief(problem)),
            [first, others @ ..] => format!("refused for {} reasons, the first: {}", others.len() + 1, brief(first)),
        },
        Verdict::Quarantined { reason, last_good_served: true } => {
            format!("quarantined, its last good state is served: {reason}")
        }
        Verdict::Quarantined { reason, last_good_served: false } => format!("quarantined, it is not served: {reason}"),
        Verdict::Elsewhere { service_cluster } => {
            format!("elsewhere: it asks for the service cluster {service_cluster:?}, which is none of ours")
        }
    }
}

/// A problem without what is allowed.
fn brief(problem: &Problem) -> String {
    Problem { allowed: None, ..problem.clone() }.to_string()
}

/// The services that are not routed as they ask to be, with the reasons, for people.
pub fn not_routed(report: &Report) -> Table {
    let mut services: Vec<&Arc<ServiceReport>> = report
        .services
        .values()
        .filter(|about| match about.verdict {
            Verdict::Waiting { .. } | Verdict::Refused | Verdict::Quarantined { .. } => true,
            Verdict::Routed { .. } | Verdict::Elsewhere { .. } => false,
        })
        .collect();
    services.sort_by(|one, other| one.name.cmp(&other.name));
    let mut table = Table::new(["SERVICE", "NOT ROUTED AS ASKED"]);
    for about in services {
        table.row([about.name.clone(), outcome(about)]);
    }
    table
}

/// What is to be said of one label: its problems and warnings, or that it was accepted.
fn remarks(label: &str, about: &ServiceReport) -> Vec<String> {
    let mut remarks = Vec::new();
    for (kind, problems) in [("refused", &about.problems), ("warning", &about.warnings)] {
        for problem in problems.iter().filter(|problem| problem.label.as_deref() == Some(label)) {
            let mut remark = format!("{kind}: {}", problem.message);
            if let Some(value) = problem.value.as_ref().filter(|value| about.labels.get(label) != Some(value)) {
                let _ = write!(remark, ", found {value:?}");
            }
            if let Some(allowed) = &problem.allowed {
                let _ = write!(remark, " (allowed: {allowed})");
            }
            remarks.push(remark);
        }
    }
    if remarks.is_empty() {
        remarks.push("accepted".to_owned());
    }
    remarks
}

/// Problems that are not said at one of the labels shown.
fn unlabelled<'a>(problems: &'a [Problem], about: &'a ServiceReport) -> impl Iterator<Item = &'a Problem> {
    problems.iter().filter(|problem| problem.label.as_ref().is_none_or(|label| !about.labels.contains_key(label)))
}

fn join<T: ToString>(items: &BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use model::{Host, NetworkChoice, TaskVerdict, labels};

    use super::*;

    fn report() -> ServiceReport {
        ServiceReport {
            name: "demo".into(),
            cluster: Some(ClusterName::parse("main").unwrap()),
            verdict: Verdict::Refused,
            hosts: BTreeSet::from([Host::parse("demo.local").unwrap()]),
            default_backend: false,
            mode: Some(BackendMode::Task),
            network: Some(NetworkChoice {
                id: NetworkId::new("n1"),
                name: "demo".into(),
                reason: "the only one".into(),
            }),
            at_nodes: false,
            endpoints: BTreeSet::new(),
            options: model::Options::default(),
            tasks: vec![TaskVerdict { id: "t1".into(), endpoint: None, reason: "no address on demo".into() }],
            labels: BTreeMap::from([
                (labels::HOSTS.to_owned(), "demo.local".to_owned()),
                (labels::PORT.to_owned(), "80\u{1b}[31m".to_owned()),
                ("com.docker.lb.weight".to_owned(), "3".to_owned()),
            ]),
            problems: vec![
                Problem::new(Code::BadPort, "is no port").at(labels::PORT, "80\u{1b}[31m").allowed("1 to 65535"),
            ],
            warnings: vec![],
        }
    }

    #[test]
    fn every_label_is_answered_and_nothing_steers_the_terminal() {
        let report = Report {
            services: [(ServiceId::new("s1"), Arc::new(report()))].into_iter().collect(),
            ..Report::default()
        };
        let explanations = explain(&report, &BTreeMap::new(), &BTreeMap::new(), "demo");
        assert_eq!(explanations.len(), 1);
        assert_eq!(
            explanations[0].to_string(),
            "service   demo (s1)\n\
             verdict   refused: com.docker.lb.port=\"80\\u{1b}[31m\": is no port\n\
             cluster   main\n\
             labels\n  com.docker.lb.hosts=demo.local\n    accepted\n  com.docker.lb.port=80\\u{1b}[31m\n    refused: is no port (allowed: 1 to 65535)\n  com.docker.lb.weight=3\n    accepted\n\
             network   demo (n1): the only one\n\
             tasks\n  t1  out: no address on demo\n\
             live      the proxies serve nothing of it\n"
        );
        assert!(explain(&report, &BTreeMap::new(), &BTreeMap::new(), "other").is_empty());
        assert_eq!(explain(&report, &BTreeMap::new(), &BTreeMap::new(), "s1").len(), 1);
    }
}
