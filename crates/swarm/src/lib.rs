//! The port: Swarm as Dovetail needs it. Few verbs, our own types, errors by class.
//!
//! [`Read`] is all that observing needs, [`Write`] is what only the actuator does, [`Watch`] wakes. The
//! adapter to a real Engine is the crate `engine`; `embedded` is a Swarm in memory behind the same verbs.

mod error;
pub mod limits;
mod types;

use std::future::Future;

use futures::Stream;
use model::{ConfigId, InstanceName, ServiceId, TaskId, Timestamp};
use serde_json::Value;

pub use error::{Class, Error, Result};
pub use types::{
    Attachment, Config, DesiredState, Endpoint, EndpointMode, Event, EventKind, Identity, Mode, Network, NewConfig,
    Node, Place, Pool, RawService, RegistryAuth, RunningCount, Secret, Service, Subnet, Task, TaskState, TasksOf,
    UpdateState, UpdateStatus,
};

/// The reads. Each is one call to the Engine unless it says otherwise, and each answers whole or not at all:
/// an error means that nothing was learnt.
pub trait Read: Clone + Send + Sync + 'static {
    /// The time by which the times in the other answers are to be understood. No call.
    fn now(&self) -> Timestamp;

    /// Who answers: versions, and whether it is a manager. Asked once at the start.
    fn identity(&self) -> impl Future<Output = Result<Identity>> + Send;

    /// Every service of the cluster, with counts of running and wanted tasks (`GET /services?status=true`).
    fn services(&self) -> impl Future<Output = Result<Vec<Service>>> + Send;

    /// The tasks that should run (`GET /tasks?filters={"desired-state":["running"]}`).
    /// A service that does not exist has no tasks: the Engine's 404 for it is an empty list. Their specs are
    /// left out.
    fn tasks(&self, of: TasksOf) -> impl Future<Output = Result<Vec<Task>>> + Send;

    /// All recent tasks of one service with their specs, those included that failed or were shut down: how a
    /// rollout goes.
    fn task_history(&self, service: &ServiceId) -> impl Future<Output = Result<Vec<Task>>> + Send;

    /// What the container of a task said last, on standard output and error together: at most the last 20 lines, and
    /// of these the first [`limits::LOG_BYTES`]. Its node is asked, so it can take long, and a log driver that cannot
    /// be read says nothing. Characters are not checked: it is what a program wrote.
    fn task_log(&self, task: &TaskId) -> impl Future<Output = Result<String>> + Send;

    /// The nodes of the cluster (`GET /nodes`).
    fn nodes(&self) -> impl Future<Output = Result<Vec<Node>>> + Send;

    /// One network by its whole id or name; `None` if there is none. The list of networks is not offered: it
    /// can answer 200 with half of them. Without a leader the Engine says 404 for networks that exist [seen on
    /// 20.10.24], so `None` takes a second call, which only a cluster with a leader answers.
    fn network(&self, id_or_name: &str) -> impl Future<Output = Result<Option<Network>>> + Send;

    /// The config objects of one installation, with their content. Expensive: for start-up and rollouts.
    fn configs(&self, instance: &InstanceName) -> impl Future<Output = Result<Vec<Config>>> + Send;

    /// Every secret of the cluster that we may see, by id and name (`GET /secrets`).
    fn secrets(&self) -> impl Future<Output = Result<Vec<Secret>>> + Send;

    /// What an image's tag means now: the same reference with its digest. `None` if its registry does not have it.
    /// The Engine asks the registry, with these credentials, so it can take long.
    fn resolve_image(
        &self,
        image: &str,
        auth: Option<&RegistryAuth>,
    ) -> impl Future<Output = Result<Option<String>>> + Send;

    /// One service by name, as the Engine wrote it: no field is lost. `None` if there is none.
    fn raw_service(&self, name: &str) -> impl Future<Output = Result<Option<RawService>>> + Send;
}

/// The writes. None of them is repeated by the adapter: the next pass is the retry.
pub trait Write: Read {
    /// Creates a config object. A name that exists is [`Class::Conflict`].
    fn create_config(&self, config: &NewConfig) -> impl Future<Output = Result<ConfigId>> + Send;

    /// Replaces the labels of a config object (its data cannot change).
    fn label_config(&self, config: &Config) -> impl Future<Output = Result<()>> + Send;

    /// Removes a config object. One that a service refers to is [`Class::InUse`]; one that is gone already
    /// is [`Class::NotFound`].
    fn remove_config(&self, id: &ConfigId) -> impl Future<Output = Result<()>> + Send;

    /// Creates a service from a spec in the Engine's JSON. A name that exists is [`Class::Conflict`].
    fn create_service(
        &self,
        spec: &Value,
        auth: Option<&RegistryAuth>,
    ) -> impl Future<Output = Result<ServiceId>> + Send;

    /// Replaces the spec of the service that had this version. If it has another by now: [`Class::Conflict`].
    fn update_service(
        &self,
        id: &ServiceId,
        version: u64,
        spec: &Value,
        auth: Option<&RegistryAuth>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes a service. One that is gone already is [`Class::NotFound`]. Its tasks stop a while later.
    fn remove_service(&self, id: &ServiceId) -> impl Future<Output = Result<()>> + Send;
}

/// The wake-up calls.
pub trait Watch: Clone + Send + Sync + 'static {
    /// The cluster's events. The first item is [`Event::Established`], and whatever changes after it raises
    /// an event or is seen by a list that starts after it: subscribe, wait for it, then list. The stream ends
    /// with an error or just ends; either way it must be opened again and everything listed anew.
    fn events(&self) -> impl Stream<Item = Result<Event>> + Send + 'static;
}
