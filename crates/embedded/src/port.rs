//! The port: each call is written down, goes through what faults have in store for it, and meets the store.

use std::sync::Arc;

use futures::Stream;
use model::{ConfigId, InstanceName, ServiceId, TaskId, Timestamp};
use serde_json::Value;
use swarm::{
    Class, Config, Error, Event, Identity, Network, NewConfig, Node, RawService, Read, RegistryAuth, Result, Secret,
    Service, Task, TasksOf, Watch, Write,
};
use tokio::time::sleep;

use crate::calls::Call;
use crate::events::{self, Subscription};
use crate::faults::{self, Outcome};
use crate::store::Store;
use crate::tasks::Desired;
use crate::{State, Swarm};

impl Read for Swarm {
    fn now(&self) -> Timestamp {
        self.lock(|state| state.store.time())
    }

    async fn identity(&self) -> Result<Identity> {
        self.call(Call::Identity, None, |state| Ok(state.identity.clone())).await
    }

    async fn services(&self) -> Result<Vec<Service>> {
        self.call(Call::Services, Some(Vec::new()), |state| {
            let store = &state.store;
            Ok(store.services.values().map(|service| store.view_service(service)).collect())
        })
        .await
    }

    async fn tasks(&self, of: TasksOf) -> Result<Vec<Task>> {
        self.call(Call::Tasks(of.clone()), Some(Vec::new()), move |state| {
            let store = &state.store;
            let running = |task: &&crate::tasks::Task| task.desired == Desired::Running;
            Ok(match &of {
                TasksOf::Services(ids) => {
                    let wanted = store.tasks.values().filter(|task| ids.contains(&task.service));
                    wanted.filter(running).map(crate::tasks::Task::view).collect()
                }
                // The Engine's 404 for a service that is gone, while its tasks still stop.
                TasksOf::Service(id) if !store.services.contains_key(id) => Vec::new(),
                TasksOf::Service(id) => tasks_of(store, id).filter(running).map(crate::tasks::Task::view).collect(),
            })
        })
        .await
    }

    async fn task_history(&self, service: &ServiceId) -> Result<Vec<Task>> {
        let id = service.clone();
        self.call(Call::TaskHistory(id.clone()), Some(Vec::new()), move |state| {
            if !state.store.services.contains_key(&id) {
                return Ok(Vec::new());
            }
            Ok(tasks_of(&state.store, &id).map(crate::tasks::Task::view).collect())
        })
        .await
    }

    async fn task_log(&self, task: &TaskId) -> Result<String> {
        let id = task.clone();
        self.call(Call::TaskLog(id.clone()), Some(String::new()), move |state| match state.store.tasks.get(&id) {
            Some(task) => Ok(task.log.clone()),
            None => {
                Err(Error::new(Class::NotFound, format!("read the log of task {id}"), format!("task {id} not found")))
            }
        })
        .await
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        let view = |node: &crate::nodes::Node| Node { id: node.id.clone(), address: Some(node.address) };
        self.call(Call::Nodes, Some(Vec::new()), move |state| Ok(state.store.nodes.values().map(view).collect())).await
    }

    async fn network(&self, id_or_name: &str) -> Result<Option<Network>> {
        let wanted = id_or_name.to_owned();
        self.call(Call::Network(wanted.clone()), Some(None), move |state| {
            Ok(state.store.find_network(&wanted).map(|network| network.seen.clone()))
        })
        .await
    }

    async fn configs(&self, instance: &InstanceName) -> Result<Vec<Config>> {
        let instance = instance.clone();
        self.call(Call::Configs(instance.clone()), Some(Vec::new()), move |state| Ok(state.store.configs_of(&instance)))
            .await
    }

    async fn secrets(&self) -> Result<Vec<Secret>> {
        self.call(Call::Secrets, Some(Vec::new()), |state| Ok(state.store.view_secrets())).await
    }

    async fn resolve_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<Option<String>> {
        let image = image.to_owned();
        self.call(Call::ResolveImage { image: image.clone(), auth: auth.is_some() }, Some(None), move |state| {
            Ok(state.registry.get(&image).map(|digest| format!("{image}@{digest}")))
        })
        .await
    }

    async fn raw_service(&self, name: &str) -> Result<Option<RawService>> {
        let name = name.to_owned();
        self.call(Call::RawService(name.clone()), Some(None), move |state| Ok(state.store.view_raw(&name))).await
    }
}

impl Write for Swarm {
    async fn create_config(&self, config: &NewConfig) -> Result<ConfigId> {
        let config = config.clone();
        self.call(Call::CreateConfig(config.clone()), None, move |state| state.store.create_config(&config)).await
    }

    async fn label_config(&self, config: &Config) -> Result<()> {
        let config = config.clone();
        self.call(Call::LabelConfig(config.clone()), None, move |state| state.store.label_config(&config)).await
    }

    async fn remove_config(&self, id: &ConfigId) -> Result<()> {
        let id = id.clone();
        self.call(Call::RemoveConfig(id.clone()), None, move |state| state.store.remove_config(&id)).await
    }

    async fn create_service(&self, spec: &Value, auth: Option<&RegistryAuth>) -> Result<ServiceId> {
        let spec = Arc::new(spec.clone());
        let call = Call::CreateService { spec: Arc::clone(&spec), auth: auth.is_some() };
        self.call(call, None, move |state| state.store.create_service(&spec)).await
    }

    async fn update_service(
        &self,
        id: &ServiceId,
        version: u64,
        spec: &Value,
        auth: Option<&RegistryAuth>,
    ) -> Result<()> {
        let (id, spec) = (id.clone(), Arc::new(spec.clone()));
        let call = Call::UpdateService { id: id.clone(), version, spec: Arc::clone(&spec), auth: auth.is_some() };
        self.call(call, None, move |state| state.store.update_service(&id, version, &spec)).await
    }

    async fn remove_service(&self, id: &ServiceId) -> Result<()> {
        let id = id.clone();
        self.call(Call::RemoveService(id.clone()), None, move |state| state.store.remove_service(&id)).await
    }
}

impl Watch for Swarm {
    fn events(&self) -> impl Stream<Item = Result<Event>> + Send + 'static {
        events::stream(self.clone())
    }
}

impl Swarm {
    /// One call. `nothing` is what it answers when there is nothing.
    async fn call<T: Send>(
        &self,
        call: Call,
        nothing: Option<T>,
        act: impl FnOnce(&mut State) -> Result<T> + Send,
    ) -> Result<T> {
        let (number, ordeal) = self.lock(|state| {
            let number = state.journal.begin(state.store.since_start(), call.clone());
            (number, state.faults.decide(&call))
        });
        if let Some(first) = ordeal.first {
            first(self);
        }
        if !ordeal.slow.is_zero() {
            sleep(ordeal.slow).await;
        }
        let unreachable = || Error::new(Class::Unreachable, format!("{:?}", call.verb()), "the Engine is down");
        let answer = match ordeal.outcome {
            Outcome::Hang => std::future::pending().await,
            Outcome::Fail(class) => Err(faults::error(class, &call)),
            Outcome::Pass | Outcome::Unanswered | Outcome::Nothing => self.lock(|state| {
                if state.down {
                    return Err(unreachable());
                }
                match nothing.filter(|_| ordeal.outcome == Outcome::Nothing) {
                    Some(nothing) => Ok(nothing),
                    None => act(state),
                }
            }),
        };
        if !ordeal.late.is_zero() {
            sleep(ordeal.late).await;
        }
        let answer = match ordeal.outcome {
            Outcome::Unanswered => Err(faults::error(Class::Unreachable, &call)),
            Outcome::Pass | Outcome::Fail(_) | Outcome::Hang | Outcome::Nothing => answer,
        };
        let short = answer.as_ref().map(|_| ()).map_err(|error| error.class);
        self.lock(|state| state.journal.end(number, short));
        answer
    }

    pub(crate) async fn subscribe(&self) -> Result<Subscription> {
        // Made in there, so that it ends properly if the answer gets lost.
        let swarm = self.clone();
        self.call(Call::Events, None, move |state| {
            let (number, wake) = state.subscribers.subscribe();
            Ok(Subscription { swarm, number, wake })
        })
        .await
    }
}

fn tasks_of<'a>(store: &'a Store, id: &ServiceId) -> impl Iterator<Item = &'a crate::tasks::Task> {
    store.tasks_of.get(id).into_iter().flatten().filter_map(|task| store.tasks.get(task))
}
