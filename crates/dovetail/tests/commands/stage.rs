//! A small cluster on which the operator's loops really run, on paused time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dovetail::config::{self, Config};
use dovetail::view::{Readiness, View};
use dovetail::wire::Operator;
use model::labels;
use tokio::time::{Instant, sleep};

/// What the operator says of itself to a look from elsewhere.
pub fn outside() -> Result<Readiness, String> {
    Err("at 127.0.0.1:8717: Connection refused (os error 111)".into())
}

/// A Swarm with the network `demo`, and the configuration of an operator for it.
pub struct Stage {
    pub swarm: embedded::Swarm,
    pub config: Config,
}

impl Stage {
    pub fn new() -> Self {
        let swarm = embedded::Swarm::new();
        swarm.create_network("demo").expect("the name is free");
        Self { swarm, config: config("{}") }
    }

    /// A service on the network `demo`, to be labelled and created.
    pub fn service(&self, name: &str) -> embedded::ServiceBuilder {
        self.swarm.service(name).network("demo")
    }

    /// The founding document's two services: a default backend in task mode and `demo` in VIP mode.
    pub async fn publish_the_founding_documents_services(&self) {
        self.service("demo-default")
            .label(labels::DEFAULT_BACKEND, "true")
            .label(labels::PORT, "8080")
            .create()
            .expect("it is possible");
        self.service("demo")
            .replicas(4)
            .label(labels::HOSTS, "demo.local")
            .label(labels::PORT, "8080")
            .label(labels::BACKEND_MODE, "vip")
            .create()
            .expect("it is possible");
        self.swarm.eventually("five tasks run", |swarm| running(swarm, &["demo", "demo-default"]) == 5).await;
    }

    /// Runs the operator until the proxies are and stay what they should be, and stops it.
    pub async fn operate(&self) {
        let mut operator = self.operator();
        let view = Arc::clone(&operator.view);
        tokio::select! {
            error = operator.run() => panic!("the operator ended: {error:#}"),
            () = in_step(&view) => {}
        }
        operator.drain().await;
    }

    /// Lets the operator run until something else has happened, and drops it where it is.
    pub async fn while_operating(&self, until: impl Future<Output = ()>) {
        let mut operator = self.operator();
        tokio::select! {
            error = operator.run() => panic!("the operator ended: {error:#}"),
            () = until => {}
        }
        operator.drain().await;
    }

    /// The version of the proxy service.
    pub fn proxy_version(&self) -> u64 {
        self.swarm.raw("dovetail-proxy").expect("there is a proxy service").version
    }

    /// An operator that has not begun.
    pub fn operator(&self) -> Operator<embedded::Swarm> {
        Operator::new(&self.config, self.swarm.clone(), Box::new(engine::Traffic::default))
    }
}

/// A configuration; the admin server may have any port.
pub fn config(yaml: &str) -> Config {
    let mut config = config::parse("test.yaml", yaml).expect("the configuration is fine");
    config.admin.listen = config::Listen(([127, 0, 0, 1], 0).into());
    config
}

/// How many tasks of these services run.
pub fn running(swarm: &embedded::Swarm, services: &[&str]) -> usize {
    services.iter().map(|service| swarm.running_tasks(service).len()).sum()
}

/// Resolves once every cluster has been in step with the latest report for five seconds without a break.
pub async fn in_step(view: &View) {
    const QUIET: Duration = Duration::from_secs(5);
    const LIMIT: Duration = Duration::from_secs(600);
    let started = Instant::now();
    let mut since = None;
    while since.is_none_or(|since: Instant| since.elapsed() < QUIET) {
        let quiet = view.readiness().ready
            && view.rollouts.values().all(|status| {
                let status = status.borrow();
                status
                    .as_ref()
                    .is_some_and(|status| status.phase == actuator::Phase::InStep && status.live == status.target)
            });
        since = if quiet { since.or(Some(Instant::now())) } else { None };
        assert!(started.elapsed() < LIMIT, "not in step within {LIMIT:?}: {:?}", view.rollouts);
        sleep(Duration::from_millis(50)).await;
    }
}

/// The text with what changes with every change of the rendered files replaced: each digest by its number in the
/// order of appearance (so that it shows which are the same), and sizes.
pub fn steady(text: &str) -> String {
    let mut known: Vec<String> = Vec::new();
    let mut steady = String::new();
    for word in words(text) {
        if [12, 20, 64].contains(&word.len()) && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            let digest = &word[..12];
            let number = known.iter().position(|other| other == digest).unwrap_or_else(|| {
                known.push(digest.to_owned());
                known.len() - 1
            });
            steady.push_str(&format!("DIGEST-{}", number + 1));
        } else {
            steady.push_str(word);
        }
    }
    sizes(&steady)
}

/// The text without times that follow from the wall clock: `in 599 s` becomes `in SECONDS`.
pub fn without_seconds(text: &str) -> String {
    let mut pieces = text.split(" in ");
    let mut steady = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        let seconds = rest.len() < piece.len() && rest.starts_with(" s");
        steady.push_str(" in ");
        steady.push_str(if seconds { "SECONDS" } else { piece });
        steady.push_str(if seconds { &rest[2..] } else { "" });
    }
    steady
}

/// Runs of letters and digits, and what is between them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).flat_map(|piece| {
        let end = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len();
        [&piece[..end], &piece[end..]]
    })
}

/// `(123 bytes)` and `"bytes": 123`.
fn sizes(text: &str) -> String {
    let is_size = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let mut steady: Vec<&str> = words(text).collect();
    for index in 1..steady.len() {
        let after = steady.get(index + 1..).unwrap_or_default().iter().take(2).copied().collect::<String>();
        let before = steady[index.saturating_sub(5)..index].concat();
        if is_size(steady[index]) && (after == " bytes" || before.ends_with("\"bytes\": ")) {
            steady[index] = "SIZE";
        }
    }
    steady.concat()
}

/// Every file below a directory.
pub fn files_below(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path.strip_prefix(directory).expect("it is below").display().to_string());
            }
        }
    }
    files.sort();
    files
}
