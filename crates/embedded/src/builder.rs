//! A service in a few words, as one would give them to `docker service create`.

use model::ServiceId;
use serde_json::{Value, json};
use swarm::Result;

use crate::Swarm;

/// A service to be. Made by [`Swarm::service`]; one replica of the image `app:1` unless told otherwise.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `create`"]
pub struct ServiceBuilder {
    swarm: Swarm,
    spec: Value,
}

impl ServiceBuilder {
    pub(crate) fn new(swarm: Swarm, name: &str) -> Self {
        let spec = json!({
            "Name": name,
            "Labels": {},
            "TaskTemplate": {
                "ContainerSpec": { "Image": "app:1", "Labels": {}, "Env": [] },
                "RestartPolicy": { "Condition": "any", "MaxAttempts": 0 },
                "Placement": {},
                "ForceUpdate": 0,
                "Runtime": "container",
            },
            "Mode": { "Replicated": { "Replicas": 1 } },
            "EndpointSpec": { "Mode": "vip" },
        });
        Self { swarm, spec }
    }

    /// So many tasks.
    pub fn replicas(self, replicas: u64) -> Self {
        self.with(|spec| spec["Mode"] = json!({ "Replicated": { "Replicas": replicas } }))
    }

    /// One task on each node.
    pub fn global(self) -> Self {
        self.with(|spec| spec["Mode"] = json!({ "Global": {} }))
    }

    /// Tasks that end by themselves; here there will be none.
    pub fn job(self) -> Self {
        self.with(|spec| spec["Mode"] = json!({ "ReplicatedJob": {} }))
    }

    /// Attached to this network, by name or id.
    pub fn network(self, network: &str) -> Self {
        self.with(|spec| push(&mut spec["TaskTemplate"]["Networks"], json!({ "Target": network })))
    }

    /// With a label (`deploy.labels` in a stack).
    pub fn label(self, label: &str, value: &str) -> Self {
        self.with(|spec| spec["Labels"][label] = value.into())
    }

    /// With a label on its containers (`labels` in a stack).
    pub fn container_label(self, label: &str, value: &str) -> Self {
        self.with(|spec| spec["TaskTemplate"]["ContainerSpec"]["Labels"][label] = value.into())
    }

    /// Of this image.
    pub fn image(self, image: &str) -> Self {
        self.with(|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = image.into())
    }

    /// Found by DNS round robin, without a virtual address.
    pub fn dnsrr(self) -> Self {
        self.with(|spec| spec["EndpointSpec"]["Mode"] = "dnsrr".into())
    }

    /// Published on the port of each task's node.
    pub fn host_port(self, port: u16) -> Self {
        self.port(port, "host")
    }

    /// Published in the routing mesh.
    pub fn ingress_port(self, port: u16) -> Self {
        self.port(port, "ingress")
    }

    fn port(self, port: u16, mode: &str) -> Self {
        let port = json!({ "Protocol": "tcp", "TargetPort": port, "PublishedPort": port, "PublishMode": mode });
        self.with(|spec| push(&mut spec["EndpointSpec"]["Ports"], port))
    }

    /// Only on nodes such as `node.labels.zone==a`, `node.role==manager`, `node.hostname!=n1`.
    pub fn constraint(self, constraint: &str) -> Self {
        self.with(|spec| push(&mut spec["TaskTemplate"]["Placement"]["Constraints"], constraint.into()))
    }

    /// With this `UpdateConfig`, in the Engine's JSON.
    pub fn update_config(self, config: Value) -> Self {
        self.with(|spec| spec["UpdateConfig"] = config)
    }

    /// With this `RollbackConfig`, in the Engine's JSON.
    pub fn rollback_config(self, config: Value) -> Self {
        self.with(|spec| spec["RollbackConfig"] = config)
    }

    /// Whatever else: changes the spec in the Engine's JSON.
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.spec);
        self
    }

    /// The spec in the Engine's JSON.
    pub fn spec(self) -> Value {
        self.spec
    }

    /// Creates it.
    ///
    /// # Errors
    /// As the Engine refuses it.
    pub fn create(self) -> Result<ServiceId> {
        self.swarm.service_create_raw(&self.spec)
    }
}

/// Appends to a list that may not be there yet.
pub(crate) fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}
