//! The adapter from the port ([`swarm::Read`], [`swarm::Write`], [`swarm::Watch`]) to a real Docker Engine.
//! The only crate that knows HTTP, the daemon's JSON and bollard.
//!
//! # Guarantees
//! - A verb ends within [`Settings::timeout`], head, body and all the calls it takes, or is
//!   [`Class::Unreachable`]. Only an event stream goes on, and the module `events` says when that ends.
//! - A verb answers whole or not at all: an answer of which one object does not read is [`Class::Malformed`]
//!   and names that object. That goes for objects that nobody wants, too.
//! - Of a list of services, tasks or nodes only one object at a time is held as the Engine wrote it, and what is not
//!   wanted is dropped at once: the tasks of 10,000 services are 125 MiB.
//! - Nothing is tried twice. (The HTTP client sends a request again on a new connection if the Engine closed
//!   the pooled one before a byte of it was sent; that is not a second try.)
//! - No text from a label reaches the Engine's paths or filters unescaped.
//!
//! # How it is built
//! One pooled client over one connector carries everything, so that calls are counted in one place, only
//! the configured CA is trusted, and a poll does not open a connection each time. bollard runs on top of it
//! (`connect_with_custom_transport`) for configs, secrets and networks. Services, tasks and events are our own few
//! lines: bollard drops `PreviousSpec` and unknown fields, takes the version index as `i32`, and fails a
//! list for one unknown word.
//!
//! Paths name API 1.41, so that a newer Engine answers in the form that is known here, or the oldest version
//! that Engine still speaks if that is newer. bollard 0.21 never names a version; the client adds it.

mod classify;
mod connector;
mod decode;
mod endpoint;
mod events;
mod http;
mod tls;
mod traffic;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::{
    InspectNetworkOptionsBuilder, ListConfigsOptionsBuilder, ListSecretsOptions, UpdateConfigOptionsBuilder,
};
use bollard::{ClientVersion, Docker};
use futures::Stream;
use model::{ConfigId, InstanceName, ServiceId, TaskId, Timestamp, labels};
use serde_json::Value;
use swarm::{
    Class, Config, Error, Event, Identity, Network, NewConfig, Node, RawService, Read, RegistryAuth, Result, Secret,
    Service, Task, TasksOf, Watch, Write, limits,
};

use crate::classify::is_about_the_version;
use crate::http::{Failure, Http, Query, is_image, is_segment};
use crate::traffic::Counters;

pub use crate::connector::ConnectError;
pub use crate::endpoint::{Endpoint, EndpointError, Tls};
pub use crate::tls::{Role, TlsError};
pub use crate::traffic::Traffic;

/// The lines of a log that are asked for.
const LOG_LINES: u32 = 20;

/// How patient to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a verb may take, from the connection to the last byte.
    pub timeout: Duration,
    /// How long an event stream may be silent before the Engine is asked whether it is there.
    pub silence: Duration,
}

impl Default for Settings {
    /// 20 s, which is as long as the Engine waits for its own cluster, and 30 s.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(20), silence: Duration::from_secs(30) }
    }
}

/// A Docker Engine. Clones share connections and counters.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
}

struct Core {
    http: Arc<Http>,
    docker: Docker,
    counters: Arc<Counters>,
    settings: Settings,
}

/// Whether Dovetail can work with this Engine, and if not, why.
pub fn supported(identity: &Identity) -> std::result::Result<(), String> {
    let Identity { version, api, manager } = identity;
    if *api < limits::API_VERSION {
        return Err(format!(
            "Engine {version} has API {}.{}; Dovetail needs API {}.{} (Engine 20.10 or later) for the count of running tasks",
            api.0,
            api.1,
            limits::API_VERSION.0,
            limits::API_VERSION.1,
        ));
    }
    if !manager {
        return Err(format!(
            "Engine {version} is not a manager of an active swarm; Dovetail reads services and tasks, which only managers \
             know: point engine.endpoint or --engine at one, or at UCP"
        ));
    }
    Ok(())
}

impl Engine {
    /// Reads the TLS files, if any. No connection is made before the first call.
    pub fn connect(endpoint: &Endpoint, settings: Settings) -> std::result::Result<Self, ConnectError> {
        let counters = Arc::new(Counters::default());
        let http = Arc::new(Http::new(endpoint, Arc::clone(&counters))?);
        let docker = bollard_over(&http);
        Ok(Self { core: Arc::new(Core { http, docker, counters, settings }) })
    }

    /// What went to the Engine and came back.
    pub fn traffic(&self) -> Traffic {
        self.core.counters.read()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("endpoint", &self.core.http.endpoint().to_string()).finish_non_exhaustive()
    }
}

/// bollard's address, version and timeout mean nothing here: the transport has its own of each.
fn bollard_over(http: &Arc<Http>) -> Docker {
    let http = Arc::clone(http);
    let transport = move |request| {
        let http = Arc::clone(&http);
        async move { http.forward(request).await }
    };
    let version = ClientVersion { major_version: 1, minor_version: 41 };
    Docker::connect_with_custom_transport(transport, Some("http://engine"), u64::MAX, &version)
        .expect("a custom transport needs nothing that could fail")
}

// === impl Core ===

impl Core {
    /// Gives the work its deadline, and its failure a name and a place in the counters.
    async fn attempt<T>(
        &self,
        operation: impl Into<String>,
        work: impl Future<Output = std::result::Result<T, Failure>>,
    ) -> Result<T> {
        let timeout = self.settings.timeout;
        let outcome = tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
            let message = format!("no whole answer from {} within {timeout:?}", self.http.endpoint());
            Err(Failure::new(Class::Unreachable, message))
        });
        outcome.map_err(|failure| self.failed(operation, failure))
    }

    fn failed(&self, operation: impl Into<String>, failure: Failure) -> Error {
        if is_about_the_version(&failure.message) {
            self.http.forget_api();
        }
        self.counters.failed(failure.class);
        Error::new(failure.class, operation, failure.message)
    }

    /// bollard, once the version is known that its paths are given.
    async fn docker(&self) -> std::result::Result<&Docker, Failure> {
        self.http.api().await?;
        Ok(&self.docker)
    }

    fn of_bollard(&self, error: bollard::errors::Error) -> Failure {
        use bollard::errors::Error as Bollard;
        match error {
            Bollard::DockerResponseServerError { status_code, message } => {
                Failure::answered(status_code, message.trim())
            }
            Bollard::JsonDataError { .. } | Bollard::JsonSerdeError { .. } => {
                Failure::malformed(format!("the answer does not read: {error}"))
            }
            Bollard::HyperLegacyError { ref err } => self.http.unreachable(err),
            Bollard::HyperResponseError { ref err } => self.http.unreachable(err),
            Bollard::RequestTimeoutError | Bollard::IOError { .. } => self.http.unreachable(&error),
            // Requests that cannot be written.
            _ => Failure::new(Class::Refused, error.to_string()),
        }
    }

    /// The network of exactly this id or name, as far as the Engine can tell.
    async fn inspect_network(&self, id_or_name: &str) -> std::result::Result<Option<Network>, Failure> {
        let options = InspectNetworkOptionsBuilder::default().scope("swarm").build();
        let found = self.docker().await?.inspect_network(id_or_name, Some(options)).await;
        match found.map_err(|error| self.of_bollard(error)) {
            Ok(found) => {
                let network = decode::network(found).map_err(Failure::malformed)?;
                // The beginning of an id finds a network too: a guess that we do not make.
                Ok((network.id.as_str() == id_or_name || network.name == id_or_name).then_some(network))
            }
            Err(failure) if failure.class == Class::NotFound || is_ambiguous(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Fails unless the cluster has a leader.
    async fn cluster_answers(&self) -> std::result::Result<(), Failure> {
        self.http.get("/services", &Query::default().filter("id", "none")).await.map(drop)
    }
}

fn absent_is<T>(outcome: std::result::Result<T, Failure>, absent: T) -> std::result::Result<T, Failure> {
    match outcome {
        Err(failure) if failure.class == Class::NotFound => Ok(absent),
        outcome => outcome,
    }
}

/// What the Engine says when a text is no full id and no name, and begins several ids.
fn is_ambiguous(failure: &Failure) -> bool {
    failure.message.contains("is ambiguous (")
}

fn check_segment(kind: &str, text: &str) -> std::result::Result<(), Failure> {
    if is_segment(text) { Ok(()) } else { Err(Failure::new(Class::NotFound, format!("no {kind} has the id {text:?}"))) }
}

fn warn(service: &str, warnings: Vec<String>) {
    for warning in warnings {
        tracing::warn!(service, warning, "the engine warns about the service");
    }
}

// === impl Read ===

impl Read for Engine {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    async fn identity(&self) -> Result<Identity> {
        let Core { http, .. } = &*self.core;
        let work = async {
            // Neither names a version: an engine that is too old is to be told so by `supported`.
            let version = decode::version(&http.get_unversioned("/version").await?).map_err(Failure::malformed)?;
            let manager = decode::is_manager(&http.get_unversioned("/info").await?).map_err(Failure::malformed)?;
            http.settle_api(&version);
            Ok(Identity { version: version.engine, api: version.api, manager })
        };
        self.core.attempt("ask the engine for its version", work).await
    }

    async fn services(&self) -> Result<Vec<Service>> {
        let query = Query::default().pair("status", true);
        self.core.attempt("list services", self.core.http.get_list("/services", &query, decode::service)).await
    }

    async fn tasks(&self, of: TasksOf) -> Result<Vec<Task>> {
        let Core { http, .. } = &*self.core;
        let query = Query::default().filter("desired-state", "running");
        match of {
            TasksOf::Services(ids) => {
                self.core.attempt("list tasks", http.get_list("/tasks", &query, decode::tasks(Some(ids)))).await
            }
            TasksOf::Service(id) => {
                let query = query.filter("service", id.as_str());
                let work = async { absent_is(http.get_list("/tasks", &query, decode::tasks(None)).await, Vec::new()) };
                self.core.attempt(format!("list tasks of service {id}"), work).await
            }
        }
    }

    async fn task_history(&self, service: &ServiceId) -> Result<Vec<Task>> {
        let query = Query::default().filter("service", service.as_str());
        let work = async {
            let history = self.core.http.get_list("/tasks", &query, decode::tasks_with_specs()).await;
            absent_is(history, Vec::new())
        };
        self.core.attempt(format!("list the task history of service {service}"), work).await
    }

    async fn task_log(&self, task: &TaskId) -> Result<String> {
        let query = Query::default().pair("stdout", true).pair("stderr", true).pair("tail", LOG_LINES);
        let work = async {
            check_segment("task", task.as_str())?;
            // The lines come in frames with heads of their own.
            let limit = limits::LOG_BYTES + LOG_LINES as usize * decode::LOG_HEAD;
            let log = self.core.http.get_beginning(&format!("/tasks/{task}/logs"), &query, limit).await?;
            decode::log(&log).map_err(Failure::malformed)
        };
        self.core.attempt(format!("read the log of task {task}"), work).await
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        let query = Query::default();
        self.core.attempt("list nodes", self.core.http.get_list("/nodes", &query, decode::node)).await
    }

    async fn network(&self, id_or_name: &str) -> Result<Option<Network>> {
        if !is_segment(id_or_name) {
            return Ok(None);
        }
        let core = &*self.core;
        let work = async {
            if let Some(network) = core.inspect_network(id_or_name).await? {
                return Ok(Some(network));
            }
            // Without a leader the Engine knows only the networks of its own node, and says 404 for the others. That there
            // is a leader now does not say that there was one before: what counts is what is answered from here on.
            core.cluster_answers().await?;
            core.inspect_network(id_or_name).await
        };
        core.attempt(format!("inspect network {id_or_name}"), work).await
    }

    async fn configs(&self, instance: &InstanceName) -> Result<Vec<Config>> {
        let core = &*self.core;
        let work = async {
            let label = format!("{}={instance}", labels::INSTANCE);
            let filters = HashMap::from([("label", vec![label])]);
            let options = ListConfigsOptionsBuilder::default().filters(&filters).build();
            let found = core.docker().await?.list_configs(Some(options)).await;
            let found = found.map_err(|error| core.of_bollard(error))?;
            let configs: std::result::Result<Vec<Config>, String> = found.into_iter().map(decode::config).collect();
            let mut configs = configs.map_err(Failure::malformed)?;
            // Another installation's objects are never ours, not even if a filter were ignored.
            configs.retain(|config| config.labels.get(labels::INSTANCE).is_some_and(|name| name == instance.as_str()));
            Ok(configs)
        };
        core.attempt("list configs", work).await
    }

    async fn secrets(&self) -> Result<Vec<Secret>> {
        let core = &*self.core;
        let work = async {
            let found = core.docker().await?.list_secrets(None::<ListSecretsOptions>).await;
            let found = found.map_err(|error| core.of_bollard(error))?;
            let secrets: std::result::Result<Vec<Secret>, String> = found.into_iter().map(decode::secret).collect();
            secrets.map_err(Failure::malformed)
        };
        core.attempt("list secrets", work).await
    }

    async fn resolve_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<Option<String>> {
        if !is_image(image) {
            return Ok(None);
        }
        let work = async {
            let found = self.core.http.get_with(&format!("/distribution/{image}/json"), auth).await;
            let Some(found) = absent_is(found.map(Some), None)? else { return Ok(None) };
            let digest = decode::image_digest(&found).map_err(Failure::malformed)?;
            Ok(Some(format!("{image}@{digest}")))
        };
        self.core.attempt(format!("ask the registry of {image} for its digest"), work).await
    }

    async fn raw_service(&self, name: &str) -> Result<Option<RawService>> {
        if !is_segment(name) {
            return Ok(None);
        }
        let work = async {
            let found = match self.core.http.get(&format!("/services/{name}"), &Query::default()).await {
                Ok(found) => found,
                Err(failure) if failure.class == Class::NotFound || is_ambiguous(&failure) => return Ok(None),
                Err(failure) => return Err(failure),
            };
            let (found_name, service) = decode::raw_service(&found).map_err(Failure::malformed)?;
            // Ids and their beginnings are found too.
            Ok((found_name == name).then_some(service))
        };
        self.core.attempt(format!("inspect service {name}"), work).await
    }
}

// === impl Write ===

impl Write for Engine {
    async fn create_config(&self, config: &NewConfig) -> Result<ConfigId> {
        let core = &*self.core;
        let work = async {
            let spec = decode::config_spec(&config.name, &config.labels, Some(&config.data));
            let created = core.docker().await?.create_config(spec).await;
            Ok(ConfigId::new(created.map_err(|error| core.of_bollard(error))?.id))
        };
        core.attempt(format!("create config {}", config.name), work).await
    }

    async fn label_config(&self, config: &Config) -> Result<()> {
        let core = &*self.core;
        let work = async {
            check_segment("config", config.id.as_str())?;
            // Data that is not sent stays as it is.
            let spec = decode::config_spec(&config.name, &config.labels, None);
            let version = i64::try_from(config.version).map_err(|_| Failure::malformed("the version is too large"))?;
            let options = UpdateConfigOptionsBuilder::default().version(version).build();
            let updated = core.docker().await?.update_config(config.id.as_str(), spec, options).await;
            updated.map_err(|error| core.of_bollard(error))
        };
        core.attempt(format!("label config {}", config.name), work).await
    }

    async fn remove_config(&self, id: &ConfigId) -> Result<()> {
        let core = &*self.core;
        let work = async {
            check_segment("config", id.as_str())?;
            core.docker().await?.delete_config(id.as_str()).await.map_err(|error| core.of_bollard(error))
        };
        core.attempt(format!("remove config {id}"), work).await
    }

    async fn create_service(&self, spec: &Value, auth: Option<&RegistryAuth>) -> Result<ServiceId> {
        let name = spec.get("Name").and_then(Value::as_str).unwrap_or_default();
        let work = async {
            let answer = self.core.http.post_spec("/services/create", &Query::default(), spec, auth).await?;
            let (id, warnings) = decode::created(&answer).map_err(Failure::malformed)?;
            warn(name, warnings);
            Ok(ServiceId::new(id))
        };
        self.core.attempt(format!("create service {name}"), work).await
    }

    async fn update_service(
        &self,
        id: &ServiceId,
        version: u64,
        spec: &Value,
        auth: Option<&RegistryAuth>,
    ) -> Result<()> {
        let name = spec.get("Name").and_then(Value::as_str).unwrap_or_else(|| id.as_str());
        let work = async {
            check_segment("service", id.as_str())?;
            let query = Query::default().pair("version", version);
            // Without credentials of ours the ones in the current spec must stay. That is also what the Engine
            // does when nothing is said, but without them a node that lacks the image could not pull it.
            let query = if auth.is_none() { query.pair("registryAuthFrom", "spec") } else { query };
            let answer = self.core.http.post_spec(&format!("/services/{id}/update"), &query, spec, auth).await?;
            warn(name, decode::warnings(&answer));
            Ok(())
        };
        self.core.attempt(format!("update service {name}"), work).await
    }

    async fn remove_service(&self, id: &ServiceId) -> Result<()> {
        let work = async {
            check_segment("service", id.as_str())?;
            self.core.http.delete(&format!("/services/{id}")).await
        };
        self.core.attempt(format!("remove service {id}"), work).await
    }
}

// === impl Watch ===

impl Watch for Engine {
    fn events(&self) -> impl Stream<Item = Result<Event>> + Send + 'static {
        events::events(Arc::clone(&self.core))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_will_not_do_is_told_why() {
        let identity = |version: &str, minor, manager| Identity { version: version.into(), api: (1, minor), manager };
        for (identity, verdict) in [
            (identity("20.10.24", 41, true), Ok(())),
            (identity("29.1.0", 52, true), Ok(())),
            (
                identity("19.03.15", 40, true),
                Err(
                    "Engine 19.03.15 has API 1.40; Dovetail needs API 1.41 (Engine 20.10 or later) for the count of running tasks",
                ),
            ),
            (
                identity("20.10.24", 41, false),
                Err(
                    "Engine 20.10.24 is not a manager of an active swarm; Dovetail reads services and tasks, which only managers \
                     know: point engine.endpoint or --engine at one, or at UCP",
                ),
            ),
        ] {
            assert_eq!(supported(&identity), verdict.map_err(str::to_owned), "{identity:?}");
        }
    }
}
