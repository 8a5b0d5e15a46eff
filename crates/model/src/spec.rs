//! What one proxy should be, before it is written in the proxy's language.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::values::{Hsts, Path, RedirectTo, SecretName};
use crate::{
    BackendMode, ClusterName, Digest, Host, Manifest, NetworkId, Options, RouteOptions, Secrets, ServiceId, Timestamp,
    Tls,
};

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
    pub created_at: Timestamp,
    /// The hosts it answers.
    pub hosts: BTreeSet<Host>,
    /// Whether it answers unknown hosts.
    pub default_backend: bool,
    /// How the endpoints were found.
    pub mode: BackendMode,
    /// The network it is reached over; none if it is reached at its nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkId>,
    /// Where its requests go; never empty.
    pub endpoints: BTreeSet<SocketAddr>,
    /// What it asks for beyond that; every secret by its whole name.
    #[serde(default, skip_serializing_if = "Options::is_default")]
    pub options: Options,
    /// Which secrets those are: exactly the ones that `options` names.
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
}

impl Contribution {
    /// The content address of this contribution.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.json())
    }

    /// Its bytes in a manifest, if they are more than one part of that holds; there it is written as a whole.
    pub fn excess(&self) -> Option<usize> {
        // None of them takes more than this, and the rest takes no more than one of them: few cannot be too many.
        const ITEM: usize = 1024;
        let Options { host, route, .. } = &self.options;
        let networks = route.allow.iter().chain(&route.deny).map(|networks| networks.len()).sum::<usize>();
        let items = self.hosts.len() + self.endpoints.len() + host.redirects.len() + networks;
        if (items + 1) * ITEM + self.name.len() <= Manifest::PART_LIMIT {
            return None;
        }
        Some(self.json().len()).filter(|bytes| *bytes > Manifest::PART_LIMIT)
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a contribution has only string keys")
    }

    /// What it does with secrets: which ones they are, and what each is for. Two services with the same answer work both
    /// or neither, as far as it is the secrets' fault.
    pub fn secrets_digest(&self) -> Digest {
        let uses = (&self.options.host.tls, &self.options.route.basic_auth, &self.secrets);
        Digest::of(&serde_json::to_vec(&uses).expect("it has only string keys"))
    }
}

/// What services contribute, by their ids.
pub type Contributions = imbl::OrdMap<ServiceId, Arc<Contribution>>;

/// What the proxies of one cluster should be. Structure (which hosts there are, who answers them) and
/// endpoints (at which addresses) are apart: endpoints change far more often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySpec {
    /// Whose proxies.
    pub cluster: ClusterName,
    /// Every host, with the group that answers it: a group stands here once for each of its hosts.
    pub hosts: imbl::OrdMap<Host, Arc<Group>>,
    /// Who answers unknown hosts: a group without hosts. None: the proxy itself, with 503.
    pub default_backend: Option<Arc<Group>>,
    /// The addresses of every service named above.
    pub endpoints: imbl::OrdMap<ServiceId, Arc<BTreeSet<SocketAddr>>>,
    /// The secrets that the proxies need.
    pub secrets: Secrets,
    /// The networks that the proxies must be on.
    pub networks: BTreeSet<NetworkId>,
    /// What each service adds, as published in the manifest.
    pub contributions: Contributions,
}

impl ProxySpec {
    /// Proxies that serve nothing.
    pub fn empty(cluster: ClusterName) -> Self {
        Self {
            cluster,
            hosts: imbl::OrdMap::new(),
            default_backend: None,
            endpoints: imbl::OrdMap::new(),
            secrets: Secrets::new(),
            networks: BTreeSet::new(),
            contributions: Contributions::new(),
        }
    }

    /// The groups of hosts, in the order of their first hosts.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.hosts.iter().filter(|(host, group)| group.hosts.first() == Some(*host)).map(|(_, group)| group)
    }

    /// Who answers a host, or under `None` the hosts that nobody claims.
    pub fn group_of(&self, host: Option<&Host>) -> Option<&Arc<Group>> {
        match host {
            Some(host) => self.hosts.get(host),
            None => self.default_backend.as_ref(),
        }
    }
}

/// Hosts that are answered alike: the same options, and the same services at the same paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The hosts; empty only for the default backend.
    pub hosts: BTreeSet<Host>,
    /// How TLS is spoken; `None`: plain HTTP only.
    pub tls: Option<Tls>,
    /// Who gets the bytes of TLS connections, in order of creation, then id; empty unless `tls` passes them through.
    pub passthrough: Vec<ServiceId>,
    /// Whether plain HTTP is redirected to HTTPS. Only with `tls`.
    pub ssl_only: bool,
    /// Strict-Transport-Security, sent over TLS.
    pub hsts: Option<Hsts>,
    /// Whereto every request is redirected, unless it came there already.
    pub redirect: Option<RedirectTo>,
    /// Who answers which paths, in the order of the paths; empty only where everything is passed through. A path that is
    /// below none of them is answered with 404.
    pub routes: Vec<Route>,
}

/// A path and everything below it, as far as no longer one is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The path.
    pub path: Path,
    /// What is demanded there.
    pub options: RouteOptions,
    /// Who answers it, in order of creation, then id; never empty.
    pub services: Vec<ServiceId>,
}

impl Group {
    /// The host that names the group.
    pub fn first_host(&self) -> &Host {
        self.hosts.first().expect("a group has a host")
    }

    /// Everyone who answers one of its paths or gets its bytes.
    pub fn services(&self) -> BTreeSet<&ServiceId> {
        self.routes.iter().flat_map(|route| &route.services).chain(&self.passthrough).collect()
    }

    /// Whether a service is among those.
    pub fn names(&self, id: &ServiceId) -> bool {
        self.passthrough.contains(id) || self.routes.iter().any(|route| route.services.contains(id))
    }

    /// Every secret that it needs.
    pub fn secrets(&self) -> BTreeSet<&SecretName> {
        let of_tls = self.tls.iter().flat_map(Tls::secrets);
        of_tls.chain(self.routes.iter().filter_map(|route| route.options.basic_auth.as_ref())).collect()
    }
}
