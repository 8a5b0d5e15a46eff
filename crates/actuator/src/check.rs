//! The check of a generation before its rollout: a service with one task that starts the proxies' program so that it
//! only reads its files, with the proxies' image and on the very files and secrets, and ends.
//!
//! It is an ordinary service that is never restarted, not a job: Engine 20.10 leaves the containers of a job behind
//! when that is removed, finished or not; of such a service none, at whatever moment it is removed (seen on 20.10.24).
//!
//! What is checked stands in its labels, so a process that was just started finds the check of the one before.

use std::time::Duration;

use model::{Digest, ServiceId, labels};
use serde_json::{Value, json};
use swarm::{RawService, Task, TaskState};

use crate::live::Attempt;
use crate::moment::Moment;
use crate::settings::{CheckPolicy, Checks, Settings};
use crate::spec::is_manifest_path;

/// The value of the label `dovetail.kind` on a check.
pub const KIND: &str = "check";

/// The longest reason that is made of a program's words, in characters: it is written into a label.
const LONGEST_REASON: usize = 500;

/// The name of a cluster's check. There is one, so that there are never two checks at once.
pub fn service_name(settings: &Settings) -> String {
    format!("dovetail-check-{}-{}", settings.instance, settings.cluster)
}

/// A check to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The spec of its service. References to configs that are going to be created have no id yet.
    pub spec: Value,
    /// What it checks.
    pub digest: Digest,
}

impl Draft {
    /// The check of a spec of the proxy service before that is written, whose files name secrets in these lines.
    ///
    /// Left out is what has nothing to do with the files, or could do harm: networks and ports, the health check
    /// (that of the image, too), labels by which somebody finds the proxies, and reserved resources, since it takes no
    /// proxy's place. Its log goes where it can be read back from.
    pub fn of(settings: &Settings, policy: CheckPolicy, proxy: &Value, attempt: Attempt, secrets: &[&[u8]]) -> Self {
        let mut template = proxy["TaskTemplate"].clone();
        let limits = template["Resources"]["Limits"].clone();
        if let Some(fields) = template.as_object_mut() {
            for field in ["Networks", "ForceUpdate", "Resources"] {
                fields.remove(field);
            }
            if !limits.is_null() {
                fields.insert("Resources".into(), json!({"Limits": limits}));
            }
            fields.insert("RestartPolicy".into(), json!({"Condition": "none"}));
            fields.insert("LogDriver".into(), json!({"Name": "json-file"}));
        }
        if let Some(container) = template.get_mut("ContainerSpec").and_then(Value::as_object_mut) {
            for field in ["Args", "Labels", "TTY", "OpenStdin"] {
                container.remove(field);
            }
            container.insert("Command".into(), json!(settings.checks.command));
            container.insert("Healthcheck".into(), json!({"Test": ["NONE"]}));
        }
        let digest = digest(&template, secrets, &settings.checks, policy);
        let mut written = settings.object_labels.clone();
        for (label, value) in [
            (labels::INSTANCE, settings.instance.to_string()),
            (labels::CLUSTER, settings.cluster.to_string()),
            (labels::KIND, KIND.to_owned()),
            (labels::GENERATION, attempt.generation.to_string()),
            (labels::SETTINGS, attempt.settings.to_string()),
            (labels::DIGEST, digest.to_string()),
        ] {
            written.insert(label.into(), value);
        }
        let spec = json!({
            "Name": service_name(settings),
            "Labels": written,
            "TaskTemplate": template,
            "Mode": {"Replicated": {"Replicas": 1}},
        });
        Self { spec, digest }
    }

    /// What is run, for people.
    pub fn command(&self) -> String {
        let words = self.spec.pointer("/TaskTemplate/ContainerSpec/Command").and_then(Value::as_array);
        words.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// What a check is about. The ids of config objects are left out: those that are going to be created have none, and
/// their names say what is in them. So are the files that are vouched for, but for their lines about secrets: routes
/// that change all the time would else begin the check anew before it ends, and keep everybody waiting.
fn digest(template: &Value, secrets: &[&[u8]], checks: &Checks, policy: CheckPolicy) -> Digest {
    let mut template = template.clone();
    if let Some(configs) = template.pointer_mut("/ContainerSpec/Configs").and_then(Value::as_array_mut) {
        let path = |config: &Value| config["File"]["Name"].as_str().unwrap_or_default().to_owned();
        configs.retain(|config| policy == CheckPolicy::Always || !checks.vouch_for(&path(config)));
        for config in configs.iter_mut().filter_map(Value::as_object_mut) {
            config.remove("ConfigID");
        }
    }
    let mut text = template.to_string().into_bytes();
    for line in secrets {
        text.push(b'\n');
        text.extend_from_slice(line);
    }
    Digest::of(&text)
}

impl Checks {
    /// Whether a file is made of typed values alone.
    pub fn vouch_for(&self, path: &str) -> bool {
        is_manifest_path(path) || (!self.vouched.is_empty() && path.starts_with(&self.vouched))
    }
}

/// The service of the check's name, as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Its id.
    pub id: ServiceId,
    /// What it checks; none if it is not a check of ours.
    pub digest: Option<Digest>,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// What the task that failed said, where that could be read.
    pub log: Option<String>,
}

/// How a check stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The files are fine.
    Passed,
    /// They were refused, or its container could not be made, as the proxies' could not.
    Failed {
        /// What happened.
        reason: String,
        /// Whether it never ran, since its node refused it.
        rejected: bool,
    },
    /// It ended and could not tell.
    Undecided {
        /// Why.
        reason: String,
    },
    /// It is under way.
    Runs {
        /// The state of its task.
        state: Option<TaskState>,
        /// What it waits for.
        waits_for: String,
    },
}

impl Check {
    /// Reads the service. Tasks and log are to be added.
    pub fn read(service: &RawService, settings: &Settings) -> Self {
        let label = |name: &str| service.spec["Labels"][name].as_str();
        let ours = label(labels::INSTANCE) == Some(settings.instance.as_str())
            && label(labels::CLUSTER) == Some(settings.cluster.as_str())
            && label(labels::KIND) == Some(KIND);
        // One of ours whose label does not read checks nothing that is ever wanted.
        let digest = ours.then(|| label(labels::DIGEST).and_then(Digest::parse).unwrap_or_else(|| Digest::of(&[])));
        Self { id: service.id.clone(), digest, tasks: Vec::new(), log: None }
    }

    /// The task whose log is worth reading: the last, if it failed.
    pub fn failed(&self) -> Option<&Task> {
        self.last().filter(|task| matches!(task.state, TaskState::Failed | TaskState::Rejected))
    }

    fn last(&self) -> Option<&Task> {
        self.tasks.iter().max_by_key(|task| (task.created_at, &task.id))
    }

    /// How it stands.
    pub fn standing(&self, checks: &Checks) -> Standing {
        if self.tasks.iter().any(|task| task.state == TaskState::Complete) {
            return Standing::Passed;
        }
        if let Some(task) = self.failed() {
            let (reason, beyond) = self.reason(task, checks);
            let rejected = task.state == TaskState::Rejected;
            return if beyond { Standing::Undecided { reason } } else { Standing::Failed { reason, rejected } };
        }
        let Some(task) = self.last() else {
            return Standing::Runs { state: None, waits_for: "it has no task yet".into() };
        };
        let waits_for = match task.state {
            TaskState::New | TaskState::Allocated => "its task is not allocated",
            TaskState::Pending => "its task is being scheduled",
            TaskState::Preparing => "its task is fetching the image",
            TaskState::Running => "it is reading the files",
            state if state > TaskState::Running => return Standing::Undecided { reason: "it was stopped".into() },
            _ => "its task is on its way",
        };
        let waits_for = task.error.clone().unwrap_or_else(|| waits_for.into());
        Standing::Runs { state: Some(task.state), waits_for }
    }

    /// Why it failed, and whether that is beyond a check.
    fn reason(&self, task: &Task, checks: &Checks) -> (String, bool) {
        let program = checks.command.first().map_or("", String::as_str);
        let program = program.rsplit('/').next().unwrap_or_default();
        let words = words(self.log.as_deref().unwrap_or_default(), &checks.refusal);
        let beyond = !checks.beyond.is_empty() && words.as_ref().is_some_and(|words| words.starts_with(&checks.beyond));
        let reason = match words {
            Some(words) if beyond => format!("it is on no network: {words}"),
            Some(words) => format!("{program} refused the files: {words}"),
            None => format!("the check of the files failed: {}", task.error.as_deref().unwrap_or("no reason is given")),
        };
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        (reason.chars().map(printable).take(LONGEST_REASON).collect(), beyond)
    }
}

/// The words of a log that say why: of the lines that begin as `refusal` does, else the last line.
fn words(log: &str, refusal: &str) -> Option<String> {
    let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut telling: Vec<&str> = lines().filter_map(|line| line.strip_prefix(refusal)).collect();
    telling.dedup();
    if refusal.is_empty() || telling.is_empty() {
        lines().next_back().map(str::to_owned)
    } else {
        Some(telling.join("; "))
    }
}

/// A check as this process has watched it, from the moment when it was found to be due.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// What is checked.
    pub digest: Digest,
    /// Since when it is due.
    pub since: Moment,
    /// Since when it or others, each of which something newer took the place of, have kept a write waiting.
    pub keeps_waiting: Moment,
    /// The furthest that its task got.
    pub furthest: Option<TaskState>,
    /// When that was.
    pub moved: Moment,
    /// Whether its end was told.
    pub told: bool,
}

impl Watched {
    /// A check that is due from now on.
    pub fn new(digest: Digest, now: Moment) -> Self {
        Self { digest, since: now, keeps_waiting: now, furthest: None, moved: now, told: false }
    }

    /// One that takes the place of another.
    pub fn after(self, before: Option<Watched>) -> Self {
        let before = before.filter(|before| !before.told);
        Self { keeps_waiting: before.map_or(self.since, |before| before.keeps_waiting), ..self }
    }

    /// For how long others before it, none of which came to an end, have kept a write waiting, if that is too long.
    pub fn overtaken_for(&self, settings: &Settings, now: Moment) -> Option<Duration> {
        let waiting = now.since(self.keeps_waiting);
        (self.keeps_waiting < self.since && waiting > settings.rollout_deadline).then_some(waiting)
    }

    /// Notes how far it got, and answers for how long it has not moved if that is too long: allocation and
    /// scheduling take milliseconds or do not happen.
    pub fn note(&mut self, state: Option<TaskState>, settings: &Settings, now: Moment) -> Option<Duration> {
        if state > self.furthest {
            (self.furthest, self.moved) = (state, now);
        }
        let scheduled = state.is_some_and(|state| state > TaskState::Pending);
        let patience = if scheduled { settings.rollout_deadline } else { settings.rollout_deadline / 4 };
        Some(now.since(self.moved)).filter(|idle| *idle > patience)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{ClusterName, InstanceName, Timestamp};
    use swarm::DesiredState;

    use super::*;
    use crate::settings::ProxySettings;

    fn settings() -> Settings {
        let proxy = ProxySettings::new("dovetail-proxy", "nginx:1.28");
        let mut settings =
            Settings::new(InstanceName::parse("main").unwrap(), ClusterName::parse("blue").unwrap(), proxy);
        settings.checks = Checks {
            policy: CheckPolicy::Always,
            command: vec!["/usr/sbin/nginx".into(), "-t".into()],
            refusal: "nginx: [emerg] ".into(),
            beyond: "host not found".into(),
            vouched: "/etc/nginx/dovetail/".into(),
        };
        settings.object_labels.insert("com.docker.ucp.access.label".into(), "/Shared".into());
        settings
    }

    fn proxy() -> Value {
        json!({
            "Name": "dovetail-proxy",
            "Labels": {"type": "com.docker.interlock.core.proxy"},
            "Mode": {"Global": {}},
            "EndpointSpec": {"Ports": [{"PublishedPort": 80}]},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "nginx:1.28@sha256:1",
                    "Command": ["nginx"],
                    "Args": ["-q"],
                    "User": "nginx",
                    "Env": ["A=1"],
                    "Labels": {"find": "me"},
                    "Healthcheck": {"Test": ["CMD", "true"]},
                    "Mounts": [{"Target": "/cache"}],
                    "Configs": [{"ConfigName": "dovetail.main.blue.1", "File": {"Name": "/etc/nginx/nginx.conf"}}],
                    "Secrets": [{"SecretID": "s1", "SecretName": "key", "File": {"Name": "key"}}],
                },
                "Networks": [{"Target": "n1"}],
                "ForceUpdate": 3,
                "Placement": {"Constraints": ["node.labels.edge==true"]},
                "Resources": {"Limits": {"MemoryBytes": 1}, "Reservations": {"MemoryBytes": 2}},
                "RestartPolicy": {"Condition": "any"},
                "LogDriver": {"Name": "syslog"},
            },
        })
    }

    fn draft(proxy: &Value) -> Draft {
        draft_under(&settings(), proxy, &[])
    }

    fn draft_under(settings: &Settings, proxy: &Value, secrets: &[&[u8]]) -> Draft {
        Draft::of(
            settings,
            settings.checks.policy,
            proxy,
            Attempt { generation: Digest::of(b"g"), settings: Digest::of(b"s") },
            secrets,
        )
    }

    #[test]
    fn it_is_the_proxy_without_what_is_not_about_its_files() {
        insta::assert_json_snapshot!(draft(&proxy()).spec);
        let mut bare = proxy();
        bare["TaskTemplate"] = json!({"ContainerSpec": {"Image": "nginx:1.28"}});
        assert!(draft(&bare).spec["TaskTemplate"].get("Resources").is_none());
    }

    #[test]
    fn what_is_checked_is_told_by_everything_but_the_ids_of_configs() {
        let mut created = proxy();
        created["TaskTemplate"]["ContainerSpec"]["Configs"][0]["ConfigID"] = json!("id1");
        assert_eq!(draft(&created).digest, draft(&proxy()).digest);
        for (place, value) in [
            ("/TaskTemplate/ContainerSpec/Image", json!("nginx:1.30")),
            ("/TaskTemplate/ContainerSpec/Configs/0/ConfigName", json!("dovetail.main.blue.2")),
            ("/TaskTemplate/ContainerSpec/Secrets/0/SecretID", json!("s2")),
        ] {
            let mut other = proxy();
            *other.pointer_mut(place).unwrap() = value;
            assert_ne!(draft(&other).digest, draft(&proxy()).digest, "{place}");
        }
    }

    #[test]
    fn what_is_vouched_for_is_no_other_check_unless_everything_is_to_be_checked() {
        let mut routes = proxy();
        let file = json!({"ConfigName": "dovetail.main.blue.2", "File": {"Name": "/etc/nginx/dovetail/00.conf"}});
        routes["TaskTemplate"]["ContainerSpec"]["Configs"].as_array_mut().unwrap().push(file);
        for (policy, same) in [(CheckPolicy::Auto, true), (CheckPolicy::Always, false)] {
            let mut settings = settings();
            settings.checks.policy = policy;
            let one = draft_under(&settings, &proxy(), &[b"key a;"]);
            assert_eq!(draft_under(&settings, &routes, &[b"key a;"]).digest == one.digest, same, "{policy:?}");
            assert_ne!(draft_under(&settings, &proxy(), &[b"key b;"]).digest, one.digest);
        }
    }

    fn service(spec: Value) -> RawService {
        RawService { id: "c".into(), version: 1, spec, previous_spec: None, update: None }
    }

    #[test]
    fn it_reads_back_from_its_labels_and_another_service_is_not_ours() {
        let Draft { spec, digest } = draft(&proxy());
        assert_eq!(Check::read(&service(spec.clone()), &settings()).digest, Some(digest));
        let mut old = spec.clone();
        old["Labels"][labels::DIGEST] = json!("?");
        let old = Check::read(&service(old), &settings()).digest.expect("it is ours all the same");
        assert_ne!(old, digest);
        for label in [labels::INSTANCE, labels::CLUSTER, labels::KIND] {
            let mut foreign = spec.clone();
            foreign["Labels"][label] = json!("other");
            assert_eq!(Check::read(&service(foreign), &settings()).digest, None, "{label}");
        }
    }

    fn task(age: i64, state: TaskState, error: Option<&str>) -> Task {
        Task {
            id: format!("{age}").as_str().into(),
            service: "c".into(),
            slot: 1,
            node: "n".into(),
            created_at: Timestamp(age),
            state,
            since: Timestamp(age),
            desired: DesiredState::Running,
            error: error.map(str::to_owned),
            host_ports: Default::default(),
            attachments: Vec::new(),
            spec: Arc::default(),
        }
    }

    #[test]
    fn it_stands_as_its_last_task_does() {
        use TaskState::{Complete, Failed, New, Orphaned, Pending, Preparing, Rejected, Running, Shutdown};
        let log = "2026/11/25 01:32:38 [emerg] 1#1: cannot load certificate key \"/run/secrets/x\": PEM_read_bio\n\
                   nginx: [emerg] cannot load certificate key \"/run/secrets/x\": PEM_read_bio\n\
                   nginx: configuration file /etc/nginx/nginx.conf test failed\n";
        let failed = Some("task: non-zero exit (1)");
        let refused = "failed nginx refused the files: ";
        for (tasks, log, expected) in [
            (vec![], None, "runs it has no task yet".to_owned()),
            (vec![task(1, New, None)], None, "runs its task is not allocated".into()),
            (vec![task(1, Pending, None)], None, "runs its task is being scheduled".into()),
            (vec![task(1, Pending, Some("no suitable node"))], None, "runs no suitable node".into()),
            (vec![task(1, Preparing, None)], None, "runs its task is fetching the image".into()),
            (vec![task(1, Running, None)], None, "runs it is reading the files".into()),
            (vec![task(1, Complete, None)], None, "passed".into()),
            (
                vec![task(1, Failed, failed)],
                Some(log),
                format!("{refused}cannot load certificate key \"/run/secrets/x\": PEM_read_bio"),
            ),
            (vec![task(1, Failed, failed)], Some("first\n\n last \n"), format!("{refused}last")),
            (
                vec![task(1, Failed, failed)],
                None,
                "failed the check of the files failed: task: non-zero exit (1)".into(),
            ),
            (
                vec![task(1, Failed, None)],
                Some(" \n"),
                "failed the check of the files failed: no reason is given".into(),
            ),
            (vec![task(1, Failed, None)], Some("a\u{1b}[2Jb"), format!("{refused}a [2Jb")),
            (
                vec![task(1, Rejected, Some("No such image: nginx:none"))],
                None,
                "failed the check of the files failed: No such image: nginx:none".into(),
            ),
            (vec![task(1, Shutdown, None)], None, "undecided it was stopped".into()),
            (vec![task(1, Orphaned, None)], None, "undecided it was stopped".into()),
            (
                vec![task(1, Failed, failed)],
                Some("nginx: [emerg] host not found in upstream \"logs\" in /etc/nginx/nginx.conf:9\n"),
                "undecided it is on no network: host not found in upstream \"logs\" in /etc/nginx/nginx.conf:9".into(),
            ),
            (vec![task(1, Shutdown, None), task(2, Running, None)], None, "runs it is reading the files".into()),
        ] {
            let check = Check {
                id: "c".into(),
                digest: Some(Digest::of(b"d")),
                tasks: tasks.clone(),
                log: log.map(str::to_owned),
            };
            let standing = match check.standing(&settings().checks) {
                Standing::Passed => "passed".to_owned(),
                Standing::Failed { reason, .. } => format!("failed {reason}"),
                Standing::Undecided { reason } => format!("undecided {reason}"),
                Standing::Runs { waits_for, .. } => format!("runs {waits_for}"),
            };
            assert_eq!(standing, expected, "{tasks:?}");
        }
        let log = Some("x".repeat(9000));
        let check = Check { id: "c".into(), digest: None, tasks: vec![task(1, Failed, None)], log };
        let Standing::Failed { reason, .. } = check.standing(&settings().checks) else { panic!() };
        assert_eq!(reason.chars().count(), 500);
    }

    #[test]
    fn it_is_given_up_when_it_does_not_move() {
        use TaskState::{Pending, Preparing, Running};
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let mut watched = Watched::new(Digest::of(b"d"), at(100));
        for (second, state, given_up) in [
            (100, None, false),
            (115, None, false),
            (116, None, true),
            (116, Some(Pending), false),
            (131, Some(Pending), false),
            (132, Some(Pending), true),
            (140, Some(Preparing), false),
            (200, Some(Preparing), false),
            (201, Some(Preparing), true),
            (202, Some(Running), false),
            (262, Some(Running), false),
            (263, Some(Running), true),
        ] {
            assert_eq!(watched.note(state, &settings(), at(second)).is_some(), given_up, "{second} {state:?}");
        }
        assert_eq!(watched.since, at(100));
    }
}
