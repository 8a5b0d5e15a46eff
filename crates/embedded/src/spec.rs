//! What the rules need of a service spec in the Engine's JSON. Everything else in it is kept and not read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::Digest;
use serde_json::{Map, Value};
use swarm::{EndpointMode, Mode};

/// The parts of a spec that the rules read.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub container_labels: BTreeMap<String, String>,
    pub mode: Mode,
    /// The names of mode and variant, to notice a change of mode.
    pub mode_name: &'static str,
    /// Ids, once [`crate::store::Store::resolve_networks`] has been over the JSON.
    pub networks: Vec<String>,
    pub endpoint_mode: EndpointMode,
    pub ports: Vec<Port>,
    pub configs: Vec<ConfigReference>,
    /// Id and name.
    pub secrets: Vec<(String, String)>,
    pub update: UpdateConfig,
    pub rollback: UpdateConfig,
    pub constraints: Vec<Constraint>,
    /// How many tasks a node may have; 0 is without limit.
    pub max_replicas: usize,
    pub restart: Restart,
    /// A container with a health check is reported as running only after the first check.
    pub health_interval: Option<Duration>,
    /// Its program only tests something and ends.
    pub ends: bool,
    /// Of `TaskTemplate` as it was written.
    pub template_digest: Digest,
    /// `TaskTemplate`, made comparable.
    pub template: Value,
    /// `TaskTemplate` without its placement, made comparable.
    pub template_anywhere: Value,
    /// `EndpointSpec`, made comparable.
    pub endpoint: Value,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub protocol: String,
    /// The container's.
    pub target: u64,
    /// 0 asks for any.
    pub published: u64,
    pub host: bool,
}

/// A config mounted into the containers.
#[derive(Clone, Debug)]
pub(crate) struct ConfigReference {
    pub id: String,
    pub name: String,
    pub file: String,
}

/// How tasks are replaced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdateConfig {
    /// 0: all at once.
    pub parallelism: u64,
    pub delay: Duration,
    pub monitor: Duration,
    pub on_failure: FailureAction,
    pub max_failure_ratio: f64,
    pub start_first: bool,
}

impl Default for UpdateConfig {
    /// What Swarm does for a spec without the section.
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            monitor: Duration::from_secs(5),
            on_failure: FailureAction::Pause,
            max_failure_ratio: 0.0,
            start_first: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureAction {
    Pause,
    Continue,
    Rollback,
}

/// When a task that ended is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restart {
    pub condition: RestartCondition,
    pub delay: Duration,
    /// 0: for ever.
    pub max_attempts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartCondition {
    Any,
    OnFailure,
    Never,
}

/// `key == value` or `key != value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Constraint {
    pub key: String,
    pub equal: bool,
    pub value: String,
}

impl Spec {
    /// Reads a spec, or says in Swarm's words why it is none.
    pub fn parse(spec: &Value) -> Result<Self, String> {
        let name = text(&spec["Name"]);
        check_service_name(&name)?;
        let template = &spec["TaskTemplate"];
        let container = &template["ContainerSpec"];
        if !container.is_object() {
            return Err("ContainerSpec: missing in service spec".into());
        }
        if text(&container["Image"]).is_empty() {
            return Err("ContainerSpec: image reference must be provided".into());
        }
        let (mode, mode_name) = mode(&spec["Mode"])?;
        let endpoint_mode = match text(&spec["EndpointSpec"]["Mode"]).as_str() {
            "" | "vip" => EndpointMode::Vip,
            "dnsrr" => EndpointMode::Dnsrr,
            other => return Err(format!("invalid endpoint mode {other:?}")),
        };
        let ports = ports(&spec["EndpointSpec"]["Ports"], endpoint_mode)?;
        let configs = configs(&container["Configs"])?;
        let secrets = list(&container["Secrets"])
            .iter()
            .map(|secret| (text(&secret["SecretID"]), text(&secret["SecretName"])))
            .collect();
        let mut networks: Vec<String> = list(&template["Networks"]).iter().map(|n| text(&n["Target"])).collect();
        if networks.is_empty() {
            // Where specs of old clients have them.
            networks = list(&spec["Networks"]).iter().map(|n| text(&n["Target"])).collect();
        }
        let constraints = list(&template["Placement"]["Constraints"])
            .iter()
            .map(|constraint| Constraint::parse(&text(constraint)))
            .collect::<Result<_, _>>()?;
        let comparable_template = comparable(template).unwrap_or_else(empty);
        Ok(Self {
            labels: strings(&spec["Labels"])?,
            container_labels: strings(&container["Labels"])?,
            mode,
            mode_name,
            networks,
            endpoint_mode,
            ports,
            configs,
            secrets,
            update: update_config(&spec["UpdateConfig"])?,
            rollback: update_config(&spec["RollbackConfig"])?,
            constraints,
            max_replicas: template["Placement"]["MaxReplicas"].as_u64().unwrap_or_default() as usize,
            restart: restart(&template["RestartPolicy"])?,
            health_interval: health_interval(&container["Healthcheck"]),
            ends: list(&container["Command"]).iter().any(|word| word == "-t"),
            template_anywhere: without_placement(comparable_template.clone()),
            template: comparable_template,
            template_digest: Digest::of(template.to_string().as_bytes()),
            endpoint: comparable(&spec["EndpointSpec"]).unwrap_or_else(empty),
            name,
        })
    }

    /// Whether the service has a port in the routing mesh.
    pub fn uses_ingress(&self) -> bool {
        self.ports.iter().any(|port| !port.host)
    }

    /// The ports of the containers that are published on their nodes.
    pub fn targets_on_node(&self) -> BTreeSet<u16> {
        let on_node = self.ports.iter().filter(|port| port.host && port.protocol == "tcp");
        on_node.filter_map(|port| u16::try_from(port.target).ok()).collect()
    }

    /// The ports that a task binds on its node.
    pub fn host_ports(&self) -> impl Iterator<Item = (u64, &str)> {
        self.ports.iter().filter(|port| port.host && port.published != 0).map(|p| (p.published, p.protocol.as_str()))
    }
}

impl Constraint {
    fn parse(written: &str) -> Result<Self, String> {
        let (key, equal, value) = written
            .split_once("==")
            .map(|(key, value)| (key, true, value))
            .or_else(|| written.split_once("!=").map(|(key, value)| (key, false, value)))
            .ok_or_else(|| format!("constraint expected one operator from ==, !=: {written:?}"))?;
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        if key.is_empty() || value.is_empty() {
            return Err(format!("constraint {written:?} has an empty side"));
        }
        Ok(Self { key, equal, value })
    }
}

/// The rule for services; configs have another.
fn check_service_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("meta: name must be provided".into());
    }
    let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let ends = [name.as_bytes()[0], name.as_bytes()[name.len() - 1]];
    if !name.bytes().all(inside) || !ends.iter().all(u8::is_ascii_alphanumeric) {
        return Err("name must be valid as a DNS name component".into());
    }
    if name.len() > 63 {
        return Err("name must be 63 characters or fewer".into());
    }
    Ok(())
}

fn mode(mode: &Value) -> Result<(Mode, &'static str), String> {
    if mode.get("Global").is_some_and(|global| !global.is_null()) {
        return Ok((Mode::Global, "global"));
    }
    if ["ReplicatedJob", "GlobalJob"].iter().any(|job| mode.get(job).is_some_and(|job| !job.is_null())) {
        return Ok((Mode::Job, "job"));
    }
    match &mode["Replicated"]["Replicas"] {
        Value::Null => Ok((Mode::Replicated(1), "replicated")),
        replicas => match replicas.as_u64() {
            Some(replicas) => Ok((Mode::Replicated(replicas), "replicated")),
            None => Err(format!("replicas must be a number, not {replicas}")),
        },
    }
}

fn ports(ports: &Value, endpoint: EndpointMode) -> Result<Vec<Port>, String> {
    let mut read: Vec<Port> = Vec::new();
    for port in list(ports) {
        let protocol = match text(&port["Protocol"]) {
            protocol if protocol.is_empty() => "tcp".to_owned(),
            protocol => protocol,
        };
        let host = text(&port["PublishMode"]) == "host";
        if endpoint == EndpointMode::Dnsrr && !host {
            return Err("EndpointSpec: port published with ingress mode can't be used with dnsrr mode".into());
        }
        let published = port["PublishedPort"].as_u64().unwrap_or(0);
        if published != 0 && read.iter().any(|p| p.published == published && p.protocol == protocol) {
            return Err("EndpointSpec: duplicate published ports provided".into());
        }
        let target = port["TargetPort"].as_u64().unwrap_or(0);
        read.push(Port { protocol, target, published, host });
    }
    Ok(read)
}

fn configs(configs: &Value) -> Result<Vec<ConfigReference>, String> {
    let mut read: Vec<ConfigReference> = Vec::new();
    for config in list(configs) {
        let (id, name) = (text(&config["ConfigID"]), text(&config["ConfigName"]));
        if id.is_empty() || name.is_empty() {
            return Err("malformed config reference".into());
        }
        let file = text(&config["File"]["Name"]);
        if config["File"].is_null() && config["Runtime"].is_null() {
            return Err("malformed config reference, no target provided".into());
        }
        if config["File"].is_object() {
            if file.is_empty() {
                return Err("malformed file config reference, invalid target file name provided".into());
            }
            if let Some(other) = read.iter().find(|other| other.file == file) {
                let other = &other.name;
                return Err(format!("config references '{other}' and '{name}' have a conflicting target: '{file}'"));
            }
        }
        read.push(ConfigReference { id, name, file });
    }
    Ok(read)
}

fn update_config(config: &Value) -> Result<UpdateConfig, String> {
    if !config.is_object() {
        return Ok(UpdateConfig::default());
    }
    let on_failure = match text(&config["FailureAction"]).as_str() {
        "" | "pause" => FailureAction::Pause,
        "continue" => FailureAction::Continue,
        "rollback" => FailureAction::Rollback,
        other => return Err(format!("unrecognized update failure action {other}")),
    };
    let start_first = match text(&config["Order"]).as_str() {
        "" | "stop-first" => false,
        "start-first" => true,
        other => return Err(format!("unrecognized update order {other}")),
    };
    let delay = duration(&config["Delay"]);
    let monitor = match duration(&config["Monitor"]) {
        Duration::ZERO => UpdateConfig::default().monitor,
        // Else the watch would be over before the last task's turn is.
        monitor if delay >= monitor => delay + Duration::from_secs(1),
        monitor => monitor,
    };
    Ok(UpdateConfig {
        parallelism: config["Parallelism"].as_u64().unwrap_or(0),
        delay,
        monitor,
        on_failure,
        max_failure_ratio: config["MaxFailureRatio"].as_f64().unwrap_or(0.0),
        start_first,
    })
}

fn restart(policy: &Value) -> Result<Restart, String> {
    let condition = match text(&policy["Condition"]).as_str() {
        "" | "any" => RestartCondition::Any,
        "on-failure" => RestartCondition::OnFailure,
        "none" => RestartCondition::Never,
        other => return Err(format!("invalid restart condition: {other}")),
    };
    let delay = match &policy["Delay"] {
        Value::Null => Duration::from_secs(5),
        delay => duration(delay),
    };
    Ok(Restart { condition, delay, max_attempts: policy["MaxAttempts"].as_u64().unwrap_or(0) })
}

fn health_interval(check: &Value) -> Option<Duration> {
    let test = list(&check["Test"]);
    if test.is_empty() || test[0] == "NONE" {
        return None;
    }
    match duration(&check["Interval"]) {
        // The Engine's default.
        Duration::ZERO => Some(Duration::from_secs(30)),
        interval => Some(interval),
    }
}

/// The Engine writes durations in nanoseconds.
fn duration(value: &Value) -> Duration {
    Duration::from_nanos(value.as_u64().unwrap_or(0))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let Some(map) = value.as_object() else { return Ok(BTreeMap::new()) };
    map.iter()
        .map(|(key, value)| match value.as_str() {
            Some(value) => Ok((key.clone(), value.to_owned())),
            None => Err(format!("json: cannot unmarshal {value} into the string of label {key}")),
        })
        .collect()
}

fn empty() -> Value {
    Value::Object(Map::new())
}

/// The value as Swarm compares it. Its own form cannot tell an absent field from an empty one, so neither
/// may a comparison here: `None` is what is not there.
fn comparable(value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(number) if number.as_f64() == Some(0.0) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => Some(items.iter().map(|item| comparable(item).unwrap_or(Value::Null)).collect()),
        Value::Object(fields) => {
            let kept: Map<_, _> = fields.iter().filter_map(|(k, v)| Some((k.clone(), comparable(v)?))).collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Bool(true) | Value::Number(_) | Value::String(_) => Some(value.clone()),
    }
}

fn without_placement(mut template: Value) -> Value {
    if let Some(template) = template.as_object_mut() {
        template.remove("Placement");
    }
    template
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn minimal() -> Value {
        json!({ "Name": "web", "TaskTemplate": { "ContainerSpec": { "Image": "nginx" } } })
    }

    #[test]
    fn specs_that_the_engine_refuses_are_refused_in_its_words() {
        for (change, message) in [
            (json!({ "Name": "" }), "meta: name must be provided"),
            (json!({ "Name": "a.b" }), "name must be valid as a DNS name component"),
            (json!({ "Name": "a".repeat(64) }), "name must be 63 characters or fewer"),
            (json!({ "TaskTemplate": {} }), "ContainerSpec: missing in service spec"),
            (json!({ "TaskTemplate": { "ContainerSpec": {} } }), "ContainerSpec: image reference must be provided"),
            (json!({ "EndpointSpec": { "Mode": "x" } }), "invalid endpoint mode \"x\""),
            (
                json!({ "EndpointSpec": { "Mode": "dnsrr", "Ports": [{ "PublishedPort": 80 }] } }),
                "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
            ),
            (
                json!({ "EndpointSpec": { "Ports": [{ "PublishedPort": 80 }, { "PublishedPort": 80 }] } }),
                "EndpointSpec: duplicate published ports provided",
            ),
            (json!({ "UpdateConfig": { "Order": "x" } }), "unrecognized update order x"),
        ] {
            let mut spec = minimal();
            for (key, value) in change.as_object().unwrap() {
                spec[key] = value.clone();
            }
            assert_eq!(Spec::parse(&spec).err().as_deref(), Some(message), "{change}");
        }
        assert!(Spec::parse(&minimal()).is_ok());
    }

    #[test]
    fn an_absent_field_and_an_empty_one_compare_alike() {
        for (left, right, same) in [
            (json!({}), json!({ "ForceUpdate": 0 }), true),
            (json!({}), json!({ "ContainerSpec": { "Env": [] } }), true),
            (json!({}), json!({ "ContainerSpec": { "Privileges": null, "Init": false } }), true),
            (json!({}), json!({ "ForceUpdate": 1 }), false),
            (json!({ "Unknown": "a" }), json!({ "Unknown": "b" }), false),
            (json!({ "A": [0, 1] }), json!({ "A": [1] }), false),
        ] {
            assert_eq!(comparable(&left) == comparable(&right), same, "{left} {right}");
        }
    }

    #[test]
    fn a_missing_update_section_and_an_empty_one_differ() {
        assert_eq!(Spec::parse(&minimal()).unwrap().update.parallelism, 1);
        let mut spec = minimal();
        spec["UpdateConfig"] = json!({});
        assert_eq!(Spec::parse(&spec).unwrap().update.parallelism, 0);
    }
}
