//! What is live of one cluster, as far as decisions about services depend on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Contribution, NetworkId, Publications, Published, ServiceId};

use crate::difference::changes;
use crate::tally::Tally;

/// What is live of one cluster. What decisions look at is told by [`Live::follow`] when it changes.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Why it is not known what the proxies serve, if it is not.
    unknown: Option<String>,
    /// What the proxies serve or are about to, and what they served when the last rollout had ended well.
    services: Publications,
    last_good: Publications,
    /// The networks that the proxies are on or are joining, by as many as are reached over them.
    networks: Tally<NetworkId>,
}

/// What changed.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Whether anything is known. That concerns everybody.
    pub known: bool,
    /// What the proxies serve of these services.
    pub services: BTreeSet<ServiceId>,
    /// Whether the proxies are on these networks.
    pub networks: BTreeSet<NetworkId>,
}

impl Live {
    /// Takes in what is published now.
    pub fn follow(&mut self, published: Option<&Published>) -> Moved {
        let (unknown, services, last_good) = match published {
            None => (Some("it was not read yet".to_owned()), None, None),
            Some(Published::Unknown { reason }) => (Some(reason.clone()), None, None),
            Some(Published::Nothing) => (None, None, None),
            Some(Published::Live { manifest, last_good, .. }) => {
                (None, Some(&manifest.services), Some(&last_good.services))
            }
        };
        let mut moved = Moved { known: unknown != self.unknown, ..Moved::default() };
        self.unknown = unknown;
        let services = services.cloned().unwrap_or_default();
        let last_good = last_good.cloned().unwrap_or_default();
        moved.services.extend(changes(&self.services, &services).map(|(id, ..)| id.clone()));
        for (before, now) in [(&self.services, &services), (&self.last_good, &last_good)] {
            for (_, before, now) in changes(before, now) {
                if let Some(network) = now.and_then(|publication| publication.contribution.network.clone())
                    && self.networks.add(network.clone())
                {
                    moved.networks.insert(network);
                }
                if let Some(network) = before.and_then(|publication| publication.contribution.network.as_ref())
                    && self.networks.remove(network)
                {
                    moved.networks.insert(network.clone());
                }
            }
        }
        (self.services, self.last_good) = (services, last_good);
        moved
    }

    pub fn unknown(&self) -> Option<&str> {
        self.unknown.as_deref()
    }

    pub fn contribution(&self, id: &ServiceId) -> Option<&Arc<Contribution>> {
        self.services.get(id).map(|publication| &publication.contribution)
    }

    pub fn is_on(&self, network: &NetworkId) -> bool {
        self.networks.contains(network)
    }
}
