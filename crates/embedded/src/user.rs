//! What people do to a cluster, past the port: it is neither written down in the journal nor touched by
//! faults. And what tests want to know about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId};
use serde_json::{Value, json};
use swarm::{Class, Config, Error, Identity, NewConfig, RawService, Result, Service, Task, TaskState};
use tokio::time::{Instant, sleep_until, timeout};

use crate::builder::push;
use crate::store::Store;
use crate::tasks::Desired;
use crate::{Configs, ServiceBuilder, Swarm, Timing};

/// Services, as with `docker service`.
impl Swarm {
    /// Begins a service; [`ServiceBuilder::create`] ends it.
    pub fn service(&self, name: &str) -> ServiceBuilder {
        ServiceBuilder::new(self.clone(), name)
    }

    /// `docker service create`, with a spec in the Engine's JSON.
    ///
    /// # Errors
    /// As the Engine refuses it.
    pub fn service_create_raw(&self, spec: &Value) -> Result<ServiceId> {
        self.lock(|state| state.store.create_service(spec))
    }

    /// `docker service update`: changes the spec in the Engine's JSON, whatever its version is.
    ///
    /// # Errors
    /// As the Engine refuses it; an unknown service is [`Class::NotFound`].
    pub fn service_update_raw(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        self.lock(|state| {
            let id = id_of(&state.store, name)?;
            let service = &state.store.services[&id];
            let (version, mut spec) = (service.version, Value::clone(&service.raw));
            change(&mut spec);
            state.store.update_service(&id, version, &spec)
        })
    }

    /// `docker service scale`. A global service becomes what the Engine would refuse to make of it.
    ///
    /// # Errors
    /// As [`Swarm::service_update_raw`].
    pub fn scale(&self, name: &str, replicas: u64) -> Result<()> {
        self.service_update_raw(name, |spec| spec["Mode"] = json!({ "Replicated": { "Replicas": replicas } }))
    }

    /// `--image`.
    ///
    /// # Errors
    /// As [`Swarm::service_update_raw`].
    pub fn update_image(&self, name: &str, image: &str) -> Result<()> {
        self.service_update_raw(name, |spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = image.into())
    }

    /// `--env-add`.
    ///
    /// # Errors
    /// As [`Swarm::service_update_raw`].
    pub fn set_env(&self, name: &str, key: &str, value: &str) -> Result<()> {
        self.service_update_raw(name, |spec| {
            let list = &mut spec["TaskTemplate"]["ContainerSpec"]["Env"];
            if let Some(list) = list.as_array_mut() {
                list.retain(|entry| entry.as_str().and_then(|entry| entry.split_once('=')).is_none_or(|e| e.0 != key));
            }
            push(list, format!("{key}={value}").into());
        })
    }

    /// `--label-add`.
    ///
    /// # Errors
    /// As [`Swarm::service_update_raw`].
    pub fn set_label(&self, name: &str, label: &str, value: &str) -> Result<()> {
        self.service_update_raw(name, |spec| spec["Labels"][label] = value.into())
    }

    /// `--label-rm`.
    ///
    /// # Errors
    /// As [`Swarm::service_update_raw`].
    pub fn remove_label(&self, name: &str, label: &str) -> Result<()> {
        self.service_update_raw(name, |spec| {
            if let Some(labels) = spec["Labels"].as_object_mut() {
                labels.remove(label);
            }
        })
    }

    /// `--network-add`, by name or id.
    ///
    /// # Errors
    /// As [`Swarm::service_update_raw`].
    pub fn add_network(&self, name: &str, network: &str) -> Result<()> {
        self.service_update_raw(name, |spec| push(&mut spec["TaskTemplate"]["Networks"], json!({ "Target": network })))
    }

    /// `--network-rm`, by name or id.
    ///
    /// # Errors
    /// As [`Swarm::service_update_raw`]; an unknown network is [`Class::NotFound`].
    pub fn leave_network(&self, name: &str, network: &str) -> Result<()> {
        let id = self.network_id(network).ok_or_else(|| {
            Error::new(Class::NotFound, format!("update service {name}"), format!("network {network} not found"))
        })?;
        self.service_update_raw(name, |spec| {
            if let Some(networks) = spec["TaskTemplate"]["Networks"].as_array_mut() {
                networks.retain(|network| network["Target"] != id.as_str());
            }
        })
    }

    /// `--force`: replaces all tasks.
    ///
    /// # Errors
    /// As [`Swarm::service_update_raw`].
    pub fn force_update(&self, name: &str) -> Result<()> {
        self.service_update_raw(name, |spec| {
            let force = &mut spec["TaskTemplate"]["ForceUpdate"];
            *force = json!(force.as_u64().unwrap_or(0) + 1);
        })
    }

    /// `docker service rollback`.
    ///
    /// # Errors
    /// When there is no such service, or nothing to go back to.
    pub fn rollback_service(&self, name: &str) -> Result<()> {
        self.lock(|state| {
            let id = id_of(&state.store, name)?;
            state.store.rollback_service(&id)
        })
    }

    /// `docker service rm`. Its tasks stop a while later.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn remove_service(&self, name: &str) -> Result<()> {
        self.lock(|state| {
            let id = id_of(&state.store, name)?;
            state.store.remove_service(&id)
        })
    }

    /// Kills a task's container. Whether it runs again is up to its service.
    pub fn kill_task(&self, task: &TaskId) {
        self.lock(|state| state.store.fail(task, "task: non-zero exit (137)"));
    }

    /// Says which tasks fail once they start (or find something to complain about, where that is what they are for), and
    /// why: asked with the task's spec (`TaskTemplate`) and the
    /// config objects. Asked while the swarm is locked: it must not call the swarm. Tasks that run already
    /// are not asked about.
    pub fn break_when(&self, why: impl Fn(&Value, &Configs<'_>) -> Option<String> + Send + Sync + 'static) {
        self.lock(|state| state.store.breakage = Some(Arc::new(why)));
    }

    /// Says which tasks their node refuses before they run, and why; asked as [`Swarm::break_when`] is.
    pub fn refuse_when(&self, why: impl Fn(&Value, &Configs<'_>) -> Option<String> + Send + Sync + 'static) {
        self.lock(|state| state.store.refusal = Some(Arc::new(why)));
    }

    /// No task fails by itself any more, or is refused.
    pub fn break_nothing(&self) {
        self.lock(|state| (state.store.breakage, state.store.refusal) = (None, None));
    }
}

/// Networks, nodes, configs and secrets.
impl Swarm {
    /// An overlay network with a /24: 253 addresses for services, tasks, and nodes that have tasks on it.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn create_network(&self, name: &str) -> Result<NetworkId> {
        self.create_network_sized(name, 24)
    }

    /// An overlay network with a subnet of this prefix length, 8 to 29; a /29 has 5 addresses.
    ///
    /// # Errors
    /// When the name is taken, or no such subnet is left.
    pub fn create_network_sized(&self, name: &str, prefix: u8) -> Result<NetworkId> {
        self.lock(|state| state.store.create_network(name, "overlay", prefix))
    }

    /// The Engine tells no subnet of this network, as it does for a moment after one was created.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn hide_subnets(&self, network: &str) -> Result<()> {
        self.lock(|state| state.store.hide_subnets(network))
    }

    /// `docker run --network`, on an attachable network: takes an address that neither services nor tasks tell of. Its
    /// node's own is not taken.
    ///
    /// # Errors
    /// When there is no such network, or no address left.
    pub fn run_container(&self, network: &str) -> Result<()> {
        self.lock(|state| state.store.take_address(network))
    }

    /// `docker network rm`, by name or id.
    ///
    /// # Errors
    /// [`Class::InUse`] while a service or a task that should run is on it.
    pub fn remove_network(&self, id_or_name: &str) -> Result<()> {
        self.lock(|state| state.store.remove_network(id_or_name))
    }

    /// A further worker.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_node(&self, name: &str) -> Result<NodeId> {
        self.lock(|state| state.store.add_node(name, false, BTreeMap::new()))
    }

    /// A further manager.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_manager(&self, name: &str) -> Result<NodeId> {
        self.lock(|state| state.store.add_node(name, true, BTreeMap::new()))
    }

    /// Sets or removes a node's label.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn label_node(&self, name: &str, label: &str, value: Option<&str>) -> Result<()> {
        self.lock(|state| state.store.set_node_label(name, label, value))
    }

    /// `docker node update --availability drain`.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn drain(&self, name: &str) -> Result<()> {
        self.lock(|state| state.store.set_active(name, false))
    }

    /// `docker node update --availability active`.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn activate(&self, name: &str) -> Result<()> {
        self.lock(|state| state.store.set_active(name, true))
    }

    /// The machine is gone at once; the cluster learns it after [`Timing::node_down`], and goes on showing its
    /// tasks as running.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn kill_node(&self, name: &str) -> Result<()> {
        self.lock(|state| state.store.kill_node(name))
    }

    /// The machine is back.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn revive_node(&self, name: &str) -> Result<()> {
        self.lock(|state| state.store.revive_node(name))
    }

    /// `docker config create`.
    ///
    /// # Errors
    /// As the Engine refuses it.
    pub fn add_config(&self, config: &NewConfig) -> Result<ConfigId> {
        self.lock(|state| state.store.create_config(config))
    }

    /// `docker config rm`.
    ///
    /// # Errors
    /// As the Engine refuses it.
    pub fn delete_config(&self, id: &ConfigId) -> Result<()> {
        self.lock(|state| state.store.remove_config(id))
    }

    /// `docker secret create`, without the content.
    ///
    /// # Errors
    /// As the Engine refuses it.
    pub fn add_secret(&self, name: &str) -> Result<SecretId> {
        self.lock(|state| state.store.create_secret(name))
    }

    /// Changes a secret's labels: the only change that Swarm allows.
    ///
    /// # Errors
    /// When there is no such secret.
    pub fn label_secret(&self, name: &str) -> Result<()> {
        self.lock(|state| state.store.label_secret(name))
    }

    /// `docker secret rm`.
    ///
    /// # Errors
    /// [`Class::InUse`] while a service refers to it; [`Class::NotFound`] when there is none.
    pub fn delete_secret(&self, name: &str) -> Result<()> {
        self.lock(|state| state.store.remove_secret(name))
    }
}

/// How this swarm behaves.
impl Swarm {
    /// Changes how long things take from now on.
    pub fn set_timing(&self, change: impl FnOnce(&mut Timing)) {
        self.lock(|state| change(&mut state.store.timing));
    }

    /// A config must be smaller than this many bytes: 512,000 before Engine 20.10.15, which is the default
    /// here, 1,024,000 since.
    pub fn set_config_limit(&self, bytes: usize) {
        self.lock(|state| state.store.config_limit = bytes);
    }

    /// How many events a subscriber may be behind before it loses some; 1,024 by default.
    pub fn set_event_capacity(&self, events: usize) {
        self.lock(|state| state.subscribers.capacity = events);
    }

    /// Pushes an image to the registry: its tag means this digest from now on. Tasks run images that no registry has.
    pub fn push_image(&self, image: &str, digest: &str) {
        self.lock(|state| drop(state.registry.insert(image.to_owned(), digest.to_owned())));
    }

    /// Who answers.
    pub fn set_identity(&self, identity: Identity) {
        self.lock(|state| state.identity = identity);
    }
}

/// What tests want to know.
impl Swarm {
    /// A service as the port shows it.
    pub fn service_named(&self, name: &str) -> Option<Service> {
        self.lock(|state| {
            let id = state.store.service_names.get(name)?;
            Some(state.store.view_service(&state.store.services[id]))
        })
    }

    /// A service as the Engine wrote it.
    pub fn raw(&self, name: &str) -> Option<RawService> {
        self.lock(|state| state.store.view_raw(name))
    }

    /// The names of all services, in order.
    pub fn service_names(&self) -> Vec<String> {
        self.lock(|state| state.store.service_names.keys().cloned().collect())
    }

    /// The tasks of a service, those that ended included, the oldest first.
    pub fn tasks_named(&self, name: &str) -> Vec<Task> {
        self.lock(|state| {
            let Some(id) = state.store.service_names.get(name) else { return Vec::new() };
            let tasks = state.store.tasks_of.get(id).into_iter().flatten();
            let mut tasks: Vec<Task> = tasks.filter_map(|id| state.store.tasks.get(id)).map(|t| t.view()).collect();
            tasks.sort_by_key(|task| task.created_at);
            tasks
        })
    }

    /// The tasks of a service that run and should, the oldest first.
    pub fn running_tasks(&self, name: &str) -> Vec<Task> {
        let mut tasks = self.tasks_named(name);
        tasks.retain(|task| task.state == TaskState::Running && task.desired == swarm::DesiredState::Running);
        tasks
    }

    /// All config objects, the oldest first.
    pub fn all_configs(&self) -> Vec<Config> {
        self.lock(|state| {
            let mut configs: Vec<Config> = state.store.configs.values().cloned().collect();
            configs.sort_by_key(|config| config.created_at);
            configs
        })
    }

    /// A network's id.
    pub fn network_id(&self, id_or_name: &str) -> Option<NetworkId> {
        self.lock(|state| state.store.find_network(id_or_name).map(|network| network.seen.id.clone()))
    }

    /// How many addresses of a network are free; none for one that has no addresses.
    pub fn free_addresses(&self, id_or_name: &str) -> usize {
        self.lock(|state| {
            let network = state.store.find_network(id_or_name);
            network.and_then(|network| network.pool.as_ref()).map_or(0, |pool| pool.free())
        })
    }

    /// The version index of the whole store.
    pub fn index(&self) -> u64 {
        self.lock(|state| state.store.index())
    }

    /// Waits until a condition holds; looks at it at every moment at which something happens here.
    ///
    /// # Panics
    /// After 10 minutes, naming the condition.
    pub async fn eventually(&self, what: &str, condition: impl Fn(&Swarm) -> bool) {
        self.within(Duration::from_secs(600), what, condition).await;
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// When it does not hold in time, naming the condition.
    pub async fn within(&self, limit: Duration, what: &str, condition: impl Fn(&Swarm) -> bool) {
        let waiting = async {
            // Others work on it too, and raise no alarm here: look now and then.
            const INTERVAL: Duration = Duration::from_millis(20);
            while !condition(self) {
                let latest = Instant::now() + INTERVAL;
                let next = self.lock(|state| state.store.next_due());
                sleep_until(next.map_or(latest, |next| next.min(latest))).await;
            }
        };
        assert!(timeout(limit, waiting).await.is_ok(), "not within {limit:?}: {what}");
    }

    /// Waits until nothing is under way any more by itself: no rollout, no task on its way. Answers whether
    /// it came to that in time; tasks that fail again and again never do.
    pub async fn settled(&self, limit: Duration) -> bool {
        let waiting = async {
            while let Some(next) = self.lock(|state| state.store.next_live_due()) {
                sleep_until(next).await;
            }
        };
        timeout(limit, waiting).await.is_ok()
    }

    /// How many tasks wait for an address, a port or a node.
    pub fn waiting_tasks(&self) -> usize {
        self.lock(|state| {
            let store = &state.store;
            let waits = |id: &TaskId| store.tasks.get(id).is_some_and(|task| task.desired <= Desired::Running);
            store.waiting_tasks.iter().filter(|(_, id)| waits(id)).count()
        })
    }
}

fn id_of(store: &Store, name: &str) -> Result<ServiceId> {
    store
        .service_names
        .get(name)
        .cloned()
        .ok_or_else(|| Error::new(Class::NotFound, format!("find service {name}"), format!("service {name} not found")))
}
