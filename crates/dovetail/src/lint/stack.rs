//! A stack file, as far as routing depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::finding::{Finding, Findings};
use super::variables::Variables;
use super::yaml::{Entry, Meaning, Node, Value, meaning, was_a_flag};

/// A stack file.
#[derive(Debug, Default)]
pub struct Stack {
    /// Its services, in the order of the file.
    pub services: Vec<Service>,
    /// Its networks, by their names in the file.
    pub networks: BTreeMap<String, Object>,
    /// Its secrets, likewise.
    pub secrets: BTreeMap<String, Object>,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    /// Its name in the file.
    pub name: String,
    /// Its line.
    pub line: usize,
    /// The labels of the service.
    pub labels: BTreeMap<String, Label>,
    /// The labels of its containers.
    pub container_labels: BTreeMap<String, Label>,
    /// Whether the labels of the service are a list (`- name=value`), and not a mapping.
    pub listed: bool,
    /// How many tasks it wants.
    pub mode: swarm::Mode,
    /// How it is found inside its networks.
    pub endpoint_mode: swarm::EndpointMode,
    /// The container's TCP ports that are published on the nodes (`mode: host`).
    pub host_ports: BTreeSet<u16>,
    /// Its networks, by their names in the file.
    pub networks: BTreeSet<String>,
}

impl Service {
    /// The same service with these labels, and on no network.
    pub fn relabelled(&self, labels: BTreeMap<String, Label>) -> Self {
        Self {
            name: self.name.clone(),
            line: self.line,
            labels,
            container_labels: BTreeMap::new(),
            listed: self.listed,
            mode: self.mode,
            endpoint_mode: self.endpoint_mode,
            host_ports: BTreeSet::new(),
            networks: BTreeSet::new(),
        }
    }
}

/// A label.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its line.
    pub line: usize,
    /// Its value, with variables put in.
    pub value: String,
}

/// A network or a secret.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name on the cluster, where it does not follow from that of the stack.
    pub name: Option<String>,
    /// The driver of a network that the stack makes; an external one is taken for an overlay.
    pub driver: String,
    /// The names and lines of its labels.
    pub labels: BTreeMap<String, usize>,
}

impl Object {
    /// Its name on the cluster, in a stack of this name.
    pub fn real_name(&self, key: &str, stack: &str) -> String {
        self.name.clone().unwrap_or_else(|| format!("{stack}_{key}"))
    }
}

/// Reads the sections that count; what docker would refuse in them is found. Everything else in the file is left
/// to docker.
pub fn read(root: &Node, variables: &Variables, findings: &mut Findings) -> Stack {
    let mut reader = Reader { variables, findings };
    reader.check_templates(root);
    let mut stack = Stack {
        networks: reader.objects(root, "networks"),
        secrets: reader.objects(root, "secrets"),
        services: Vec::new(),
    };
    for entry in reader.section(root, "services") {
        let service = reader.service(&entry);
        for network in &service.networks {
            if network == DEFAULT_NETWORK {
                stack.networks.entry(network.clone()).or_insert_with(|| Object {
                    name: None,
                    driver: OVERLAY.into(),
                    labels: BTreeMap::new(),
                });
            } else if !stack.networks.contains_key(network) {
                let message = format!("the network {network} is not among the file's networks: docker refuses it");
                reader.findings.add(Finding::problem("undefined_network", entry.line, message).of(&service.name));
            }
        }
        stack.services.push(service);
    }
    stack
}

/// The network of a service that names none.
const DEFAULT_NETWORK: &str = "default";
const OVERLAY: &str = "overlay";

struct Reader<'a> {
    variables: &'a Variables,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    /// Every value of the file has to be a template that docker can fill, or it refuses the whole file.
    fn check_templates(&mut self, root: &Node) {
        let mut seen: BTreeSet<*const Node> = BTreeSet::new();
        let mut rest: Vec<&Node> = vec![root];
        while let Some(node) = rest.pop() {
            // What an anchor names is looked at once.
            if !seen.insert(std::ptr::from_ref(node)) {
                continue;
            }
            match &node.value {
                Value::Scalar { text, .. } => {
                    if let Err(error) = self.variables.fill(text) {
                        self.findings.add(Finding::problem("bad_variable", node.line, error));
                    }
                }
                Value::List(items) => rest.extend(items.iter().map(Arc::as_ref)),
                Value::Mapping(entries) => rest.extend(entries.iter().map(|entry| entry.node.as_ref())),
            }
        }
    }

    /// A text with its variables put in; what is wrong with it was said already.
    fn filled(&self, text: &str) -> String {
        self.variables.fill(text).map(|filled| filled.text).unwrap_or_default()
    }

    fn section(&mut self, node: &Node, key: &str) -> Vec<Entry> {
        let Some(entry) = node.get(key) else { return Vec::new() };
        if !matches!(entry.node.value, Value::Mapping(_)) && !entry.node.is_null() {
            self.findings.add(Finding::problem("bad_section", entry.line, format!("{key} is no mapping")));
        }
        entry.node.entries().to_vec()
    }

    fn objects(&mut self, root: &Node, key: &str) -> BTreeMap<String, Object> {
        let section = self.section(root, key);
        section.into_iter().map(|entry| (entry.key.clone(), self.object(&entry))).collect()
    }

    fn object(&self, entry: &Entry) -> Object {
        let node = &entry.node;
        let word =
            |node: &Node, key: &str| node.get(key).and_then(|entry| entry.node.text()).map(|text| self.filled(text));
        // `external: true`, or the old form `external: {name: x}`.
        let external = node.get("external").map(|entry| &entry.node);
        let old_name = external.and_then(|external| word(external, "name"));
        let is_external = old_name.is_some() || word(node, "external").is_some_and(|text| is_true(&text));
        let name = word(node, "name").or(old_name).or_else(|| is_external.then(|| entry.key.clone()));
        let not_overlay = matches!(name.as_deref(), Some("host" | "bridge" | "none" | "ingress"));
        let driver = match &name {
            Some(name) if is_external && not_overlay => name.clone(),
            _ => word(node, "driver").filter(|_| !is_external).unwrap_or_else(|| OVERLAY.into()),
        };
        let labels = node.get("labels").map(|entry| &entry.node);
        let mapped = labels.iter().flat_map(|labels| labels.entries()).map(|label| (label.key.clone(), label.line));
        let listed = labels.iter().flat_map(|labels| labels.items()).filter_map(|item| {
            let text = item.text()?;
            Some((text.split_once('=').map_or(text, |(name, _)| name).to_owned(), item.line))
        });
        Object { name, driver, labels: mapped.chain(listed).collect() }
    }

    fn service(&mut self, entry: &Entry) -> Service {
        let (name, node) = (entry.key.clone(), &entry.node);
        let deploy = node.get("deploy").map(|entry| Arc::clone(&entry.node));
        let labels = deploy.as_ref().and_then(|deploy| deploy.get("labels")).cloned();
        let listed = labels.as_ref().is_some_and(|labels| matches!(labels.node.value, Value::List(_)));
        let networks = match node.get("networks") {
            Some(entry) => entry
                .node
                .entries()
                .iter()
                .map(|entry| entry.key.clone())
                .chain(entry.node.items().iter().filter_map(|item| item.text()).map(|text| self.filled(text)))
                .collect(),
            None => BTreeSet::new(),
        };
        let service = Service {
            line: entry.line,
            labels: labels.map(|labels| self.labels(&name, &labels)).unwrap_or_default(),
            container_labels: node.get("labels").map(|labels| self.labels(&name, labels)).unwrap_or_default(),
            listed,
            mode: self.mode(&name, deploy.as_deref()),
            endpoint_mode: self.endpoint_mode(&name, deploy.as_deref()),
            host_ports: self.host_ports(node),
            networks: if networks.is_empty() { BTreeSet::from([DEFAULT_NETWORK.to_owned()]) } else { networks },
            name,
        };
        self.say_what_is_misplaced(&service);
        service
    }

    /// Labels in either form; what docker refuses or reads in an unexpected way is found where it is a routing label.
    fn labels(&mut self, service: &str, labels: &Entry) -> BTreeMap<String, Label> {
        let mut read = BTreeMap::new();
        for entry in labels.node.entries() {
            let value = self.label_value(service, entry);
            read.insert(entry.key.clone(), Label { line: entry.line, value });
        }
        for item in labels.node.items() {
            let (text, plain) = match &item.value {
                Value::Scalar { text, plain } => (text, *plain),
                Value::List(_) | Value::Mapping(_) => {
                    let message = "the item is a mapping or a list, which docker refuses: write - name=value";
                    self.findings.add(Finding::problem("bad_label", item.line, message).of(service));
                    continue;
                }
            };
            if plain && meaning(text) != Meaning::Text {
                self.findings.add(
                    Finding::problem("bad_label", item.line, "the item is no text: docker refuses it").of(service),
                );
            }
            let filled = self.filled(text);
            let (name, value) = filled.split_once('=').unwrap_or((&filled, ""));
            self.say_what_is_unset(service, name, item.line, text);
            read.insert(name.to_owned(), Label { line: item.line, value: value.to_owned() });
        }
        if !matches!(labels.node.value, Value::Mapping(_) | Value::List(_)) {
            let message = "labels are a mapping or a list: docker refuses anything else";
            self.findings.add(Finding::problem("bad_label", labels.line, message).of(service));
        }
        read
    }

    fn label_value(&mut self, service: &str, entry: &Entry) -> String {
        let name = &entry.key;
        let (text, plain) = match &entry.node.value {
            Value::Scalar { text, plain } => (text, *plain),
            Value::List(_) | Value::Mapping(_) => {
                let message = "the value is a mapping or a list: docker refuses it";
                self.findings.add(Finding::problem("bad_label", entry.line, message).of(service).at(name, ""));
                return String::new();
            }
        };
        self.say_what_is_unset(service, name, entry.line, text);
        if !plain {
            return self.filled(text);
        }
        let routing = name.starts_with(model::labels::PREFIX);
        match meaning(text) {
            Meaning::Null => String::new(),
            Meaning::Flag(flag) => {
                let finding =
                    Finding::problem("bad_label", entry.line, "docker refuses a flag as the value of a label");
                self.findings.add(finding.of(service).at(name, text).allowed(format!("\"{flag}\", in quotes")));
                flag.to_string()
            }
            Meaning::Number(printed) => {
                if printed != *text && routing {
                    let message = format!("docker reads it as the number {printed}");
                    let finding = Finding::warning("number", entry.line, message).of(service).at(name, text);
                    self.findings.add(finding.allowed(format!("\"{text}\", in quotes, if that is meant")));
                }
                printed
            }
            Meaning::Text => {
                if was_a_flag(text) && routing {
                    let message = "docker before version 23 takes it for a flag and refuses it";
                    let finding = Finding::warning("was_a_flag", entry.line, message).of(service).at(name, text);
                    self.findings.add(finding.allowed(format!("\"{text}\", in quotes")));
                }
                self.filled(text)
            }
        }
    }

    fn say_what_is_unset(&mut self, service: &str, label: &str, line: usize, text: &str) {
        if !label.starts_with(model::labels::PREFIX) {
            return;
        }
        for name in self.variables.fill(text).map(|filled| filled.unset).unwrap_or_default() {
            let message = format!("the variable {name} is not set, and docker puts nothing in its place");
            let finding = Finding::warning("unset_variable", line, message).of(service).at(label, text);
            self.findings
                .add(finding.allowed(format!("{name} in the environment or in --env-file, or ${{{name}:-default}}")));
        }
    }

    fn mode(&mut self, service: &str, deploy: Option<&Node>) -> swarm::Mode {
        let entry = deploy.and_then(|deploy| deploy.get("mode"));
        let mode = entry.and_then(|entry| entry.node.text()).map(|text| self.filled(text)).unwrap_or_default();
        match mode.as_str() {
            "global" => swarm::Mode::Global,
            "replicated-job" | "global-job" => swarm::Mode::Job,
            "" | "replicated" => swarm::Mode::Replicated(self.replicas(service, deploy)),
            other => {
                let line = entry.map_or(0, |entry| entry.line);
                let message = format!(
                    "{other:?} is no mode of a service (allowed: replicated, global, replicated-job or global-job)"
                );
                self.findings.add(Finding::problem("bad_mode", line, message).of(service));
                swarm::Mode::Replicated(1)
            }
        }
    }

    fn replicas(&mut self, service: &str, deploy: Option<&Node>) -> u64 {
        let Some(entry) = deploy.and_then(|deploy| deploy.get("replicas")) else { return 1 };
        let written = entry.node.text().map(|text| self.filled(text)).unwrap_or_default();
        let read = match meaning(&written) {
            Meaning::Number(number) => number.parse().ok(),
            Meaning::Null | Meaning::Flag(_) | Meaning::Text => None,
        };
        read.unwrap_or_else(|| {
            let message = format!("deploy.replicas is {written:?}: docker refuses what is no whole number");
            self.findings.add(Finding::problem("bad_replicas", entry.line, message).of(service));
            1
        })
    }

    fn endpoint_mode(&mut self, service: &str, deploy: Option<&Node>) -> swarm::EndpointMode {
        let Some(entry) = deploy.and_then(|deploy| deploy.get("endpoint_mode")) else {
            return swarm::EndpointMode::Vip;
        };
        match entry.node.text().map(|text| self.filled(text)).unwrap_or_default().as_str() {
            "" | "vip" => swarm::EndpointMode::Vip,
            "dnsrr" => swarm::EndpointMode::Dnsrr,
            other => {
                let message = format!("{other:?} is no endpoint mode (allowed: vip or dnsrr)");
                self.findings.add(Finding::problem("bad_endpoint_mode", entry.line, message).of(service));
                swarm::EndpointMode::Vip
            }
        }
    }

    /// Only the long form can say `mode: host`. What docker would refuse is not said here: it says so itself, and no label
    /// depends on it.
    fn host_ports(&self, service: &Node) -> BTreeSet<u16> {
        let ports = service.get("ports").map(|entry| entry.node.items()).unwrap_or_default();
        let text = |port: &Node, key| port.get(key).and_then(|entry| entry.node.text()).map(|text| self.filled(text));
        let on_node = ports.iter().filter(|port| {
            text(port, "mode").as_deref() == Some("host")
                && matches!(text(port, "protocol").as_deref(), None | Some("tcp"))
        });
        on_node.filter_map(|port| text(port, "target")?.parse().ok()).collect()
    }

    /// Routing labels of the containers, where the service has some too: those of the service count.
    fn say_what_is_misplaced(&mut self, service: &Service) {
        let routing =
            |labels: &BTreeMap<String, Label>| labels.keys().any(|name| name.starts_with(model::labels::PREFIX));
        if !routing(&service.labels) {
            return;
        }
        for (name, label) in &service.container_labels {
            if name.starts_with(model::labels::PREFIX) {
                let message = "the label is on the containers, where it is not read";
                let finding = Finding::warning("labels_on_container", label.line, message).of(&service.name);
                self.findings.add(finding.at(name, &label.value).allowed("deploy.labels"));
            }
        }
    }
}

/// As docker casts a text to a flag.
fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "y" | "yes" | "true" | "on")
}
