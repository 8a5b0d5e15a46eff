//! What is there: read from the cluster as far as a plan needs it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::NetworkId;
use swarm::{RawService, Task};

use crate::memory::Memory;
use crate::moment::Moment;
use crate::objects::Objects;
use crate::settings::Settings;
use crate::spec::Mounts;

/// Holds may be lifted from outside; nothing else is changed on our objects by others.
const HOLDS_ARE_READ_EVERY: Duration = Duration::from_secs(30);

/// What is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// The service of the proxy's name, whoever made it.
    pub service: Option<RawService>,
    /// Our config objects.
    pub objects: Arc<Objects>,
    /// The recent tasks of the service; absent while nobody asks for them.
    pub tasks: Option<Vec<Task>>,
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
}

#[derive(Debug)]
struct Listed {
    objects: Arc<Objects>,
    at: Moment,
    /// The version of the service for which an unknown reference was looked up.
    version: Option<u64>,
}

impl Reader {
    /// Lists the objects anew at the next read.
    pub(crate) fn forget(&mut self) {
        self.listed = None;
    }

    pub(crate) async fn read(
        &mut self,
        swarm: &impl swarm::Read,
        settings: &Settings,
        memory: &Memory,
        now: Moment,
    ) -> swarm::Result<Inventory> {
        let service = swarm.raw_service(&settings.proxy.service_name).await?;
        if !self.is_fresh(service.as_ref(), now) {
            let objects = Arc::new(Objects::new(swarm.configs(&settings.instance).await?, settings));
            self.listed = Some(Listed { objects, at: now, version: service.as_ref().map(|service| service.version) });
        }
        let objects = self.listed.as_ref().map(|listed| Arc::clone(&listed.objects)).unwrap_or_default();
        let tasks = match &service {
            Some(service) if memory.settled != Some(service.version) || memory.soak.is_some() => {
                Some(swarm.task_history(&service.id).await?)
            }
            Some(_) | None => None,
        };
        let networks = fixed_networks(swarm, settings).await?;
        Ok(Inventory { service, objects, tasks, networks })
    }

    fn is_fresh(&self, service: Option<&RawService>, now: Moment) -> bool {
        let Some(listed) = &self.listed else { return false };
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
