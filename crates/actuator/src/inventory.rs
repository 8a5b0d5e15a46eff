//! What is there: read from the cluster as far as a plan needs it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::NetworkId;
use swarm::{Class, Config, RawService, Task};

use crate::check::{self, Check};
use crate::image;
use crate::memory::Memory;
use crate::moment::Moment;
use crate::objects::Objects;
use crate::settings::Settings;
use crate::spec::{Mounts, Owned};

/// Holds may be lifted from outside; nothing else is changed on our objects by others.
const HOLDS_ARE_READ_EVERY: Duration = Duration::from_secs(30);

/// How long what a registry said about a tag stands; and how long to leave it alone when it said nothing.
const IMAGES_ARE_ASKED_EVERY: Duration = Duration::from_secs(300);
const IMAGES_ARE_ASKED_AGAIN: Duration = Duration::from_secs(60);
/// How long to wait for it.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the words of a check that failed.
const LOG_TIMEOUT: Duration = Duration::from_secs(3);

/// What is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// The service of the proxy's name, whoever made it.
    pub service: Option<RawService>,
    /// Our config objects.
    pub objects: Arc<Objects>,
    /// The recent tasks of the service; absent while nobody asks for them.
    pub tasks: Option<Vec<Task>>,
    /// The service of the check's name. Looked for with each list of our objects, while one is due, and as long as it
    /// is there.
    pub check: Option<Check>,
    /// What the configured image means now, where that was asked and answered.
    pub image: Option<String>,
    /// The only networks that the settings allow, if they name any; or the name of one that does not exist.
    pub networks: Result<Option<BTreeSet<NetworkId>>, String>,
}

/// Reads an inventory for the command line, with nothing remembered.
///
/// # Errors
/// When any read fails: half an inventory is none.
pub async fn inspect(swarm: &impl swarm::Read, settings: &Settings) -> swarm::Result<Inventory> {
    Reader::default().read(swarm, settings, &Memory::default(), Moment::default()).await
}

/// Reads inventories, and keeps the objects between two of them: the list of configs carries every payload.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    listed: Option<Listed>,
    /// The check that was found last.
    check: Option<Check>,
    resolved: Option<Resolved>,
}

/// What a registry said about an image.
#[derive(Debug)]
struct Resolved {
    image: String,
    reference: Option<String>,
    at: Moment,
}

#[derive(Debug)]
struct Listed {
    objects: Arc<Objects>,
    at: Moment,
    /// The version of the service for which an unknown reference was looked up.
    version: Option<u64>,
    /// It is to be listed anew.
    outdated: bool,
}

impl Reader {
    /// Lists the objects anew at the next read.
    pub(crate) fn forget(&mut self) {
        if let Some(listed) = &mut self.listed {
            listed.outdated = true;
        }
    }

    pub(crate) async fn read(
        &mut self,
        swarm: &impl swarm::Read,
        settings: &Settings,
        memory: &Memory,
        now: Moment,
    ) -> swarm::Result<Inventory> {
        let service = swarm.raw_service(&settings.proxy.service_name).await?;
        let lists = !self.is_fresh(service.as_ref(), now);
        if lists {
            let mut listed = swarm.configs(&settings.instance).await?;
            label_as_known(&mut listed, memory);
            let before = self.listed.take().map(|listed| listed.objects).unwrap_or_default();
            let objects = Arc::new(Objects::new(listed, settings, &before));
            let version = service.as_ref().map(|service| service.version);
            self.listed = Some(Listed { objects, at: now, version, outdated: false });
        }
        let objects = self.listed.as_ref().map(|listed| Arc::clone(&listed.objects)).unwrap_or_default();
        let tasks = match &service {
            Some(service) if memory.settled != Some(service.version) || memory.soak.is_some() => {
                Some(swarm.task_history(&service.id).await?)
            }
            Some(_) | None => None,
        };
        if lists || memory.check.is_some() || self.check.is_some() {
            self.check = self.check(swarm, settings).await?;
        }
        let check = self.check.clone();
        let networks = fixed_networks(swarm, settings).await?;
        let image = self.image(swarm, settings, service.as_ref(), now).await;
        Ok(Inventory { service, objects, tasks, check, image, networks })
    }

    async fn check(&self, swarm: &impl swarm::Read, settings: &Settings) -> swarm::Result<Option<Check>> {
        let Some(service) = permitted(swarm.raw_service(&check::service_name(settings)).await)?.flatten() else {
            return Ok(None);
        };
        let mut check = Check::read(&service, settings);
        if check.digest.is_none() {
            return Ok(Some(check));
        }
        check.tasks = permitted(swarm.task_history(&service.id).await)?.unwrap_or_default();
        let known = self.check.as_ref().filter(|known| known.id == check.id).and_then(|known| known.log.clone());
        check.log = match check.failed() {
            Some(task) if known.is_none() => log(swarm, task, settings).await,
            Some(_) | None => known,
        };
        Ok(Some(check))
    }

    /// What the image means now, if that matters. A registry that does not answer keeps nobody from anything.
    async fn image(
        &mut self,
        swarm: &impl swarm::Read,
        settings: &Settings,
        service: Option<&RawService>,
        now: Moment,
    ) -> Option<String> {
        let configured = &settings.proxy.image;
        let applied = service.map(|service| Owned::of_service(&service.spec).value);
        if !image::must_resolve(&settings.proxy, applied.as_ref().and_then(image::applied)) {
            self.resolved = None;
            return None;
        }
        let is_fresh = |resolved: &&Resolved| {
            let lasts = if resolved.reference.is_some() { IMAGES_ARE_ASKED_EVERY } else { IMAGES_ARE_ASKED_AGAIN };
            resolved.image == *configured && now.since(resolved.at) < lasts
        };
        if let Some(resolved) = self.resolved.as_ref().filter(is_fresh) {
            return resolved.reference.clone();
        }
        let asked = swarm.resolve_image(configured, settings.registry_auth.as_ref());
        let (cluster, image) = (&settings.cluster, configured);
        let answer = match tokio::time::timeout(REGISTRY_TIMEOUT, asked).await {
            Ok(Ok(Some(reference))) => Some(reference),
            Ok(Ok(None)) => {
                tracing::warn!(%cluster, image, "its registry does not have the image; its tag is left to the nodes");
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(%cluster, image, %error, "the image's digest is not known; its tag is left to the nodes");
                None
            }
            Err(_) => {
                tracing::warn!(%cluster, image, "its registry does not answer; its tag is left to the nodes");
                None
            }
        };
        // A registry that is gone for a while has not changed its mind.
        let before = self.resolved.take().filter(|before| before.image == *configured);
        let reference = answer.or_else(|| before.and_then(|before| before.reference));
        self.resolved = Some(Resolved { image: configured.clone(), reference: reference.clone(), at: now });
        reference
    }

    fn is_fresh(&self, service: Option<&RawService>, now: Moment) -> bool {
        let Some(listed) = self.listed.as_ref().filter(|listed| !listed.outdated) else { return false };
        if listed.objects.held().next().is_some() && now.since(listed.at) >= HOLDS_ARE_READ_EVERY {
            return false;
        }
        let Some(service) = service.filter(|service| listed.version != Some(service.version)) else { return true };
        Mounts::read(&service.spec)
            .files
            .values()
            .all(|reference| reference.id.as_ref().is_some_and(|id| listed.objects.get(id).is_some()))
    }
}

/// A cluster that lets nobody look at a check goes without.
fn permitted<T>(answer: swarm::Result<T>) -> swarm::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.class == Class::Refused => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a task that failed said. That it failed is known without.
async fn log(swarm: &impl swarm::Read, task: &Task, settings: &Settings) -> Option<String> {
    let cluster = &settings.cluster;
    match tokio::time::timeout(LOG_TIMEOUT, swarm.task_log(&task.id)).await {
        Ok(Ok(log)) => Some(log),
        Ok(Err(error)) => {
            tracing::debug!(%cluster, %error, "what the check said cannot be read");
            None
        }
        Err(_) => {
            tracing::debug!(%cluster, "what the check said was not told in time");
            None
        }
    }
}

/// What could not be written counts as though it were, as long as this process lives.
fn label_as_known(listed: &mut [Config], memory: &Memory) {
    for config in listed {
        if let Some(labels) = memory.unwritten.get(&config.id) {
            config.labels.clone_from(labels);
        }
    }
}

/// Asked for at every look: the answer is small, and a network that was removed and made again has a new id.
async fn fixed_networks(
    swarm: &impl swarm::Read,
    settings: &Settings,
) -> swarm::Result<Result<Option<BTreeSet<NetworkId>>, String>> {
    let Some(names) = &settings.proxy.networks else { return Ok(Ok(None)) };
    let mut ids = BTreeSet::new();
    for name in names {
        match swarm.network(name).await? {
            Some(network) => drop(ids.insert(network.id)),
            None => return Ok(Err(name.clone())),
        }
    }
    Ok(Ok(Some(ids)))
}
