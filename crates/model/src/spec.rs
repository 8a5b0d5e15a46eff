//! What one proxy should be, before it is written in the proxy's language.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{BackendMode, ClusterName, CreatedAt, Digest, Host, NetworkId, ServiceId};

/// What one service adds to a proxy: the smallest thing that is published, withdrawn or quarantined.
///
/// It is kept in the live generation's manifest, so that the last good contribution of a service can be
/// served again without asking the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contribution {
    /// The service's name.
    pub name: String,
    /// Decides order within a group.
    pub created_at: CreatedAt,
    /// The hosts it answers.
    pub hosts: BTreeSet<Host>,
    /// Whether it answers unknown hosts.
    pub default_backend: bool,
    /// How the endpoints were found.
    pub mode: BackendMode,
    /// The network it is reached over.
    pub network: NetworkId,
    /// Where its requests go; never empty.
    pub endpoints: BTreeSet<SocketAddr>,
}

impl Contribution {
    /// The content address of this contribution.
    pub fn digest(&self) -> Digest {
        let text = serde_json::to_vec(self).expect("a contribution has only string keys");
        Digest::of(&text)
    }
}

/// What the proxies of one cluster should be. Structure (which hosts there are, who answers them) and
/// endpoints (at which addresses) are apart: endpoints change far more often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySpec {
    /// Whose proxies.
    pub cluster: ClusterName,
    /// The host groups. Every host is in one group, and the groups are in the order of their first host.
    pub groups: Vec<Group>,
    /// Who answers unknown hosts; in order of creation, then id. Empty: the proxy itself, with 503.
    pub default_backends: Vec<ServiceId>,
    /// The addresses of every service named above.
    pub endpoints: BTreeMap<ServiceId, BTreeSet<SocketAddr>>,
    /// The networks that the proxies must be on.
    pub networks: BTreeSet<NetworkId>,
    /// What each service adds, as published in the manifest.
    pub contributions: BTreeMap<ServiceId, Arc<Contribution>>,
}

/// Hosts that are answered by the same services: one upstream, one server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The hosts; never empty.
    pub hosts: BTreeSet<Host>,
    /// Who answers them, in order of creation, then id; never empty.
    pub services: Vec<ServiceId>,
}

impl Group {
    /// The host that names the group.
    pub fn first_host(&self) -> &Host {
        self.hosts.first().expect("a group has a host")
    }
}
