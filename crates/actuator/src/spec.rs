//! The proxy service's spec in the Engine's JSON: what the settings ask for, and how it is put together with
//! files, networks and labels into a spec to be written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{ConfigId, Digest, NetworkId, SecretId, SecretMount, labels};
use serde_json::{Map, Value, json};

use crate::merge::merge;
use crate::settings::{
    FailureAction, HealthCheck, LogDriver, Mode, Order, Policy, ProxySettings, Publish, Resources, RestartCondition,
    Settings,
};

/// The directory in the container that holds the manifest.
const MANIFEST_PREFIX: &str = "/etc/dovetail/manifest";

/// The path of one manifest part, after the name that [`model::Manifest::write`] gives it.
pub fn manifest_path(part: &str) -> String {
    format!("{MANIFEST_PREFIX}{part}.json")
}

/// Whether a file of the container is a part of the manifest.
pub fn is_manifest_path(path: &str) -> bool {
    path.starts_with(MANIFEST_PREFIX)
}

/// The settings as the Engine's JSON, and the digest that stands for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// The fields of a service spec that settings decide; those that they leave open are absent.
    pub value: Value,
    /// The same as compact JSON: the label that says what was applied.
    pub text: String,
    /// The digest of the value.
    pub digest: Digest,
}

impl Owned {
    /// What these settings ask for.
    pub fn of(settings: &Settings) -> Self {
        Self::with_image(settings, &settings.proxy.image)
    }

    /// The same, with the image as it was resolved.
    pub fn with_image(settings: &Settings, image: &str) -> Self {
        Self::read(&owned_fields(settings, image).to_string())
    }

    /// What was applied to a service last.
    pub fn of_service(spec: &Value) -> Self {
        Self::read(spec["Labels"][labels::APPLIED].as_str().unwrap_or_default())
    }

    /// What was applied, as its label says. An absent label reads as an empty text: nothing is known.
    pub fn read(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        // Of the value and not of the text, so that the order of keys is no difference.
        let digest = Digest::of(value.to_string().as_bytes());
        Self { value, text: text.to_owned(), digest }
    }
}

fn owned_fields(settings: &Settings, image: &str) -> Value {
    let proxy = &settings.proxy;
    let mut container = Map::new();
    container.insert("Image".into(), json!(image));
    put(&mut container, "Command", json!(proxy.command));
    let env: Vec<String> = proxy.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    put(&mut container, "Env", json!(env));
    put(&mut container, "Labels", json!(proxy.container_labels));
    container.insert("StopSignal".into(), json!(proxy.stop_signal));
    container.insert("StopGracePeriod".into(), nanoseconds(proxy.stop_grace_period));
    put(&mut container, "Sysctls", json!(proxy.sysctls));
    put(&mut container, "CapabilityDrop", json!(proxy.capability_drop));
    put(&mut container, "CapabilityAdd", json!(proxy.capability_add));
    if let Some(check) = &proxy.health_check {
        container.insert("Healthcheck".into(), health_check(check));
    }

    let mut template = Map::new();
    template.insert("ContainerSpec".into(), Value::Object(container));
    put(&mut template, "Placement", placement(proxy));
    put(&mut template, "Resources", {
        let mut both = Map::new();
        put(&mut both, "Limits", resources(&proxy.limits));
        put(&mut both, "Reservations", resources(&proxy.reservations));
        Value::Object(both)
    });
    let condition = match proxy.restart.condition {
        RestartCondition::Any => "any",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::None => "none",
    };
    template.insert(
        "RestartPolicy".into(),
        json!({
            "Condition": condition,
            "Delay": nanoseconds(proxy.restart.delay),
            "MaxAttempts": proxy.restart.max_attempts,
            "Window": nanoseconds(proxy.restart.window),
        }),
    );
    if let Some(LogDriver { name, options }) = &proxy.log_driver {
        template.insert("LogDriver".into(), json!({"Name": name, "Options": options}));
    }

    let mut fields = Map::new();
    let labels: BTreeMap<&String, &String> = settings.object_labels.iter().chain(&proxy.labels).collect();
    put(&mut fields, "Labels", json!(labels));
    fields.insert("TaskTemplate".into(), Value::Object(template));
    fields.insert(
        "Mode".into(),
        match proxy.mode {
            Mode::Replicated(replicas) => json!({"Replicated": {"Replicas": replicas}}),
            Mode::Global => json!({"Global": {}}),
        },
    );
    fields.insert("UpdateConfig".into(), policy(proxy, &proxy.update));
    fields.insert("RollbackConfig".into(), policy(proxy, &proxy.rollback));
    fields.insert("EndpointSpec".into(), endpoint(proxy));
    Value::Object(fields)
}

/// Inserts what is not empty: an empty list or map would claim a field that the settings leave open.
fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    if !empty {
        map.insert(key.into(), value);
    }
}

fn nanoseconds(duration: Duration) -> Value {
    json!(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn health_check(check: &HealthCheck) -> Value {
    json!({
        "Test": check.test,
        "Interval": nanoseconds(check.interval),
        "Timeout": nanoseconds(check.timeout),
        "Retries": check.retries,
        "StartPeriod": nanoseconds(check.start_period),
    })
}

fn placement(proxy: &ProxySettings) -> Value {
    let mut placement = Map::new();
    put(&mut placement, "Constraints", json!(proxy.constraints));
    let spread: Vec<Value> =
        proxy.spread.iter().map(|descriptor| json!({"Spread": {"SpreadDescriptor": descriptor}})).collect();
    put(&mut placement, "Preferences", json!(spread));
    Value::Object(placement)
}

fn resources(resources: &Resources) -> Value {
    let mut fields = Map::new();
    put(&mut fields, "NanoCPUs", json!(resources.nano_cpus));
    put(&mut fields, "MemoryBytes", json!(resources.memory));
    Value::Object(fields)
}

fn policy(proxy: &ProxySettings, policy: &Policy) -> Value {
    json!({
        "Parallelism": proxy.parallelism(policy),
        "Delay": nanoseconds(policy.delay),
        "FailureAction": match policy.failure_action {
            FailureAction::Pause => "pause",
            FailureAction::Continue => "continue",
            FailureAction::Rollback => "rollback",
        },
        "Monitor": nanoseconds(policy.monitor),
        "MaxFailureRatio": policy.max_failure_ratio,
        "Order": match proxy.order(policy) {
            Order::StartFirst => "start-first",
            Order::StopFirst => "stop-first",
        },
    })
}

fn endpoint(proxy: &ProxySettings) -> Value {
    let (mode, publish_mode) = match proxy.publish {
        Publish::Ingress => ("vip", "ingress"),
        Publish::Host => ("dnsrr", "host"),
    };
    let ports: Vec<Value> = proxy
        .ports
        .iter()
        .map(|port| {
            json!({
                "Protocol": "tcp",
                "TargetPort": port.target,
                "PublishedPort": port.published,
                "PublishMode": publish_mode,
            })
        })
        .collect();
    let mut endpoint = Map::new();
    endpoint.insert("Mode".into(), json!(mode));
    put(&mut endpoint, "Ports", Value::Array(ports));
    Value::Object(endpoint)
}

/// What the proxies mount and where they are attached. It is always ours: no merge, no exception.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// The config objects by the path in the container, manifest included.
    pub files: BTreeMap<String, ConfigReference>,
    /// The networks.
    pub networks: BTreeSet<NetworkId>,
    /// The secrets.
    pub secrets: BTreeSet<SecretMount>,
}

/// A config object as a service refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigReference {
    /// Its name.
    pub name: String,
    /// Its id; absent while it is only going to be created.
    pub id: Option<ConfigId>,
}

impl Mounts {
    /// What a spec mounts. References without a file are somebody else's and are not ours to keep.
    pub fn read(spec: &Value) -> Self {
        let elements = |pointer: &str| spec.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let files = elements("/TaskTemplate/ContainerSpec/Configs")
            .iter()
            .filter_map(|config| {
                let reference = ConfigReference {
                    name: text(&config["ConfigName"])?,
                    id: text(&config["ConfigID"]).map(ConfigId::new),
                };
                Some((text(&config["File"]["Name"])?, reference))
            })
            .collect();
        let networks = elements("/TaskTemplate/Networks")
            .iter()
            .filter_map(|network| text(&network["Target"]).map(NetworkId::new))
            .collect();
        let secrets = elements("/TaskTemplate/ContainerSpec/Secrets")
            .iter()
            .filter_map(|secret| {
                Some(SecretMount {
                    id: SecretId::new(text(&secret["SecretID"])?),
                    name: text(&secret["SecretName"])?,
                    target: text(&secret["File"]["Name"])?,
                })
            })
            .collect();
        Self { files, networks, secrets }
    }

    /// Whether both mount objects of the same names at the same paths. Ids say nothing more: what is going to
    /// be created has none.
    pub fn same_files(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }

    /// The same, the manifest left aside.
    pub fn same_content(&self, other: &Self) -> bool {
        let content = |(path, _): &(&String, &String)| !is_manifest_path(path);
        self.names().filter(content).eq(other.names().filter(content))
    }

    fn names(&self) -> impl Iterator<Item = (&String, &String)> {
        self.files.iter().map(|(path, reference)| (path, &reference.name))
    }
}

/// A spec to be written.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// Whose.
    pub settings: &'a Settings,
    /// The spec that is live, if the service exists.
    pub live: Option<&'a Value>,
    /// The settings applied last; [`Value::Null`] if that is not known.
    pub applied: &'a Value,
    /// The settings to apply.
    pub owned: &'a Owned,
    /// What to mount.
    pub mounts: &'a Mounts,
    /// The generation that the mounts make.
    pub generation: Digest,
}

impl Draft<'_> {
    /// The whole spec. It equals the live one when there is nothing to write.
    pub fn compose(&self) -> Value {
        let nothing = json!({});
        let mut spec = merge(self.applied, self.live.unwrap_or(&nothing), &self.owned.value);
        if !spec.is_object() {
            spec = nothing;
        }
        if self.live.is_none() {
            spec["Name"] = json!(self.settings.proxy.service_name);
        }
        self.label(&mut spec);
        self.mount(&mut spec);
        self.attach(&mut spec);
        self.tell_endpoints_apart(&mut spec);
        spec
    }

    fn label(&self, spec: &mut Value) {
        let labels = map_at(spec, &["Labels"]);
        let applied = labels.get(labels::APPLIED).and_then(Value::as_str).map(Owned::read);
        let other_settings = applied.is_none_or(|applied| applied.value != self.owned.value);
        // The label stays as it is written while it says the same: the order of its keys is no change.
        if other_settings {
            labels.insert(labels::APPLIED.into(), json!(self.owned.text));
        }
        // What the rollout before was told to go past, the next may be stuck at too.
        if other_settings || labels.get(labels::GENERATION) != Some(&json!(self.generation)) {
            labels.remove(labels::PASSED_BY);
        }
        labels.insert(labels::INSTANCE.into(), json!(self.settings.instance));
        labels.insert(labels::CLUSTER.into(), json!(self.settings.cluster));
        labels.insert(labels::TYPE.into(), json!(labels::TYPE_PROXY));
        labels.insert(labels::GENERATION.into(), json!(self.generation));
    }

    fn mount(&self, spec: &mut Value) {
        let live = Mounts::read(spec);
        let container = map_at(spec, &["TaskTemplate", "ContainerSpec"]);
        let file = |name: &str| json!({"Name": name, "UID": "0", "GID": "0", "Mode": 0o444});
        if !live.same_files(self.mounts) {
            let configs = self.mounts.files.iter().map(|(path, reference)| {
                let mut config = json!({"File": file(path), "ConfigName": reference.name});
                if let Some(id) = &reference.id {
                    config["ConfigID"] = json!(id);
                }
                config
            });
            container.insert("Configs".into(), configs.collect());
        }
        if live.secrets != self.mounts.secrets {
            let secrets =
                self.mounts.secrets.iter().map(
                    |secret| json!({"File": file(&secret.target), "SecretID": secret.id, "SecretName": secret.name}),
                );
            container.insert("Secrets".into(), secrets.collect());
        }
    }

    /// An attachment that stays keeps what else is in it, such as an alias.
    fn attach(&self, spec: &mut Value) {
        let live = Mounts::read(spec);
        if live.networks == self.mounts.networks {
            return;
        }
        let template = map_at(spec, &["TaskTemplate"]);
        let mut attachments = template.get("Networks").and_then(Value::as_array).cloned().unwrap_or_default();
        attachments.retain(|attachment| {
            attachment["Target"].as_str().is_some_and(|id| self.mounts.networks.contains(&NetworkId::new(id)))
        });
        for id in self.mounts.networks.difference(&live.networks) {
            attachments.push(json!({"Target": id}));
        }
        template.insert("Networks".into(), Value::Array(attachments));
    }

    /// Swarm replaces every task for another endpoint, a port for example, and no task tells for which it was made. So
    /// the template says it, as `docker service update --force` would.
    fn tell_endpoints_apart(&self, spec: &mut Value) {
        if self.live.is_some_and(|live| live["EndpointSpec"] != spec["EndpointSpec"]) {
            let template = map_at(spec, &["TaskTemplate"]);
            let forced = template.get("ForceUpdate").and_then(Value::as_u64).unwrap_or_default();
            template.insert("ForceUpdate".into(), json!(forced + 1));
        }
    }
}

/// The map at a path, made if it is not there.
fn map_at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut at = value;
    for key in path {
        if !at[*key].is_object() {
            at[*key] = json!({});
        }
        at = &mut at[*key];
    }
    at.as_object_mut().expect("it was made a map above")
}

/// Writes the ids of objects that have been created by now into a spec that knows their names only.
///
/// # Errors
/// The name of a config that has no id.
pub fn fill_in_ids(spec: &Value, created: &BTreeMap<String, ConfigId>) -> Result<Value, String> {
    let mut spec = spec.clone();
    let configs = spec.pointer_mut("/TaskTemplate/ContainerSpec/Configs").and_then(Value::as_array_mut);
    for config in configs.into_iter().flatten() {
        if config["ConfigID"].is_null() {
            let name = config["ConfigName"].as_str().unwrap_or_default();
            let id = created.get(name).ok_or_else(|| name.to_owned())?;
            config["ConfigID"] = json!(id);
        }
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::{ClusterName, InstanceName};

    use super::*;
    use crate::settings::Port;

    fn settings() -> Settings {
        let mut proxy = ProxySettings::new("dovetail-proxy", "nginx:1.28");
        proxy.command = vec!["nginx".into(), "-g".into(), "daemon off;".into()];
        proxy.ports = vec![Port { published: 80, target: 8080 }];
        proxy.constraints = vec!["node.role==worker".into()];
        proxy.spread = vec!["node.labels.zone".into()];
        proxy.limits.memory = Some(256 << 20);
        proxy.health_check = Some(HealthCheck {
            test: vec!["CMD".into(), "true".into()],
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            retries: 3,
            start_period: Duration::ZERO,
        });
        Settings::new(InstanceName::parse("main").unwrap(), ClusterName::parse("blue").unwrap(), proxy)
    }

    fn mounts() -> Mounts {
        let reference =
            |name: &str, id: Option<&str>| ConfigReference { name: name.into(), id: id.map(ConfigId::from) };
        Mounts {
            files: BTreeMap::from([
                ("/etc/nginx/nginx.conf".into(), reference("dovetail.main.blue.1", Some("id1"))),
                (manifest_path(""), reference("dovetail.main.blue.2", None)),
            ]),
            networks: BTreeSet::from(["net1".into()]),
            secrets: BTreeSet::new(),
        }
    }

    fn compose(settings: &Settings, live: Option<&Value>, applied: &Value, mounts: &Mounts) -> Value {
        let owned = Owned::of(settings);
        Draft { settings, live, applied, owned: &owned, mounts, generation: Digest::of(b"g") }.compose()
    }

    #[test]
    fn a_new_service_has_everything() {
        insta::assert_json_snapshot!(compose(&settings(), None, &Value::Null, &mounts()));
    }

    #[test]
    fn host_publishing_has_no_vip_and_stops_first() {
        let mut settings = settings();
        settings.proxy.publish = Publish::Host;
        settings.proxy.mode = Mode::Global;
        let spec = compose(&settings, None, &Value::Null, &mounts());
        assert_eq!(spec["EndpointSpec"]["Mode"], "dnsrr");
        assert_eq!(spec["EndpointSpec"]["Ports"][0]["PublishMode"], "host");
        assert_eq!(spec["UpdateConfig"]["Order"], "stop-first");
        assert_eq!(spec["Mode"], json!({"Global": {}}));
    }

    #[test]
    fn composing_over_what_was_written_changes_nothing() {
        let settings = settings();
        let live = compose(&settings, None, &Value::Null, &mounts());
        assert_eq!(compose(&settings, Some(&live), &Owned::of(&settings).value, &mounts()), live);
        // Not even when nothing is known of what was applied.
        assert_eq!(compose(&settings, Some(&live), &Value::Null, &mounts()), live);
    }

    #[test]
    fn an_alias_on_a_network_that_stays_is_kept() {
        let settings = settings();
        let mut live = compose(&settings, None, &Value::Null, &mounts());
        live["TaskTemplate"]["Networks"][0]["Aliases"] = json!(["edge"]);
        let mut wider = mounts();
        wider.networks.insert("net2".into());
        let spec = compose(&settings, Some(&live), &Owned::of(&settings).value, &wider);
        assert_eq!(
            spec["TaskTemplate"]["Networks"],
            json!([{"Target": "net1", "Aliases": ["edge"]}, {"Target": "net2"}])
        );
    }

    #[test]
    fn what_a_rollout_was_told_to_go_past_is_its_own() {
        let settings = settings();
        let mut live = compose(&settings, None, &Value::Null, &mounts());
        live["Labels"][labels::PASSED_BY] = json!("g places");
        let (owned, mounts) = (Owned::of(&settings), mounts());
        let draft = |owned, generation| Draft {
            settings: &settings,
            live: Some(&live),
            applied: &Value::Null,
            owned,
            mounts: &mounts,
            generation,
        };
        let says_it = |draft: Draft<'_>| draft.compose()["Labels"].get(labels::PASSED_BY).is_some();
        assert!(says_it(draft(&owned, Digest::of(b"g"))));
        assert!(!says_it(draft(&owned, Digest::of(b"h"))));
        let mut others = settings.clone();
        others.proxy.image = "nginx:1.30".into();
        assert!(!says_it(draft(&Owned::of(&others), Digest::of(b"g"))));
    }

    #[test]
    fn another_endpoint_is_another_template() {
        let mut settings = settings();
        let live = compose(&settings, None, &Value::Null, &mounts());
        let applied = Owned::of(&settings).value;
        settings.proxy.ports[0].published = 8080;
        let spec = compose(&settings, Some(&live), &applied, &mounts());
        assert_eq!(spec["TaskTemplate"]["ForceUpdate"], 1);
        assert_eq!(compose(&settings, Some(&spec), &Owned::of(&settings).value, &mounts()), spec);
    }

    #[test]
    fn ids_are_filled_in_once_known() {
        let spec = compose(&settings(), None, &Value::Null, &mounts());
        assert_eq!(fill_in_ids(&spec, &BTreeMap::new()), Err("dovetail.main.blue.2".into()));
        let filled = fill_in_ids(&spec, &BTreeMap::from([("dovetail.main.blue.2".into(), "id2".into())])).unwrap();
        let read = Mounts::read(&filled);
        assert!(read.same_files(&mounts()));
        assert_eq!(read.files[&manifest_path("")].id, Some("id2".into()));
    }
}
