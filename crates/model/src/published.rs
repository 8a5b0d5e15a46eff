//! What is live, as the actuator reads it from the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::{Digest, Manifest, NetworkId, ServiceId};

/// What one cluster's proxies serve. Before the first complete read there is no value of this type at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// There is no proxy service yet, and so nothing is published.
    Nothing,
    /// The proxy service exists and its manifest is read. Or it does not exist, its files were refused before it could
    /// be made, and the manifest is an empty one.
    Live {
        /// What the live spec publishes, be its rollout finished or not.
        manifest: Arc<Manifest>,
        /// What the last rollout that finished well published; the same as `manifest` when no rollout runs.
        last_good: Arc<Manifest>,
        /// Generations that failed and must not be tried again yet.
        holds: Vec<Hold>,
    },
    /// The proxy service exists, and what it publishes cannot be told: nothing is planned from this.
    Unknown {
        /// Why, for people.
        reason: String,
    },
}

/// A generation whose rollout failed. It ends by itself: the actuator leaves it out once it is due again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The generation that failed.
    pub generation: Digest,
    /// Its services and their contributions: whoever differs from the last good may be to blame.
    pub fragments: BTreeMap<ServiceId, Fragment>,
    /// How its proxies were set up ([`Manifest::setup`]).
    pub setup: Value,
    /// What happened, for people. If nginx refused the files, its own words are in it.
    pub reason: String,
    /// Somebody rolled it back although it worked: nothing of it is tried again by itself.
    pub by_hand: bool,
}

/// What a held generation had of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The digest of its contribution.
    pub digest: Digest,
    /// The network that it was reached over, if any.
    pub network: Option<NetworkId>,
    /// If the words of the hold name one of its secrets: what it did with them
    /// ([`crate::Contribution::secrets_digest`]).
    pub named: Option<Digest>,
}
