//! What a service asks of the proxies beyond its hosts and its port: the options of its labels, by what they belong to.
//!
//! Everything is optional. What is not said is not written into a manifest, so that a contribution without options has
//! the bytes, and the digest, that it always had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::values::{Cidr, CookieName, Hsts, Path, RateLimit, RedirectTo, SecretName};
use crate::{Host, SecretId};

/// The options of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The part of its hosts' paths that it answers.
    #[serde(skip_serializing_if = "Path::is_root")]
    pub context_root: Path,
    /// What belongs to a host as a whole. Of several services on a host the oldest that says something decides.
    #[serde(skip_serializing_if = "is_default")]
    pub host: HostOptions,
    /// What belongs to a path of a host; likewise.
    #[serde(skip_serializing_if = "is_default")]
    pub route: RouteOptions,
    /// What belongs to the service's own upstream servers, whoever else answers the same route.
    #[serde(skip_serializing_if = "is_default")]
    pub server: ServerOptions,
}

/// Options of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostOptions {
    /// How TLS is spoken; `None`: not said. A host of which nobody says it has no TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Whether plain HTTP is redirected to HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_only: Option<bool>,
    /// Strict-Transport-Security, sent over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Hosts whose requests are answered with 302, and whereto.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub redirects: BTreeMap<Host, RedirectTo>,
}

/// How TLS is spoken with the clients of a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Tls {
    /// By the proxy.
    Terminate {
        /// The secret with the certificate and its chain, in PEM.
        certificate: SecretName,
        /// The secret with the private key, in PEM; the same secret where one file holds both.
        key: SecretName,
        /// The secret with the authorities, in PEM, that must have signed a client's certificate. `None`: clients need none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_ca: Option<SecretName>,
    },
    /// By the application: the proxy reads the name that a client asks for and passes the bytes on.
    Passthrough,
}

impl Tls {
    /// Every secret that is named.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        let (always, authorities) = match self {
            Tls::Terminate { certificate, key, client_ca } => (Some([certificate, key]), client_ca.as_ref()),
            Tls::Passthrough => (None, None),
        };
        always.into_iter().flatten().chain(authorities)
    }
}

/// Options of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteOptions {
    /// Whether the application sees `/` in the place of the context root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_root_rewrite: Option<bool>,
    /// What keeps a client at one server. Only in task mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// TLS to the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_tls: Option<BackendTls>,
    /// The longest time between two reads from the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// The largest request body in bytes; 0: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_size: Option<u64>,
    /// The only clients that are let in; others get 403. Shared by all hosts that this is said for: a thousand networks on
    /// ten thousand hosts would fill the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Arc<BTreeSet<Cidr>>>,
    /// Clients that get 403, also where `allow` has them; shared likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Arc<BTreeSet<Cidr>>>,
    /// The secret with names and hashed passwords, in the form of htpasswd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<SecretName>,
    /// Requests of one client address; those above get 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// What keeps a client at one server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// The value of a cookie that the application sets. Requests without it are spread.
    Cookie(CookieName),
    /// The client's address.
    ClientAddress,
}

/// TLS to an application.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendTls {
    /// The application's certificate must be of an authority that the cluster's settings name, and for the host.
    Verified,
    /// Any certificate is taken.
    Unverified,
}

/// Options of a service's own servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerOptions {
    /// The share of the whole service among the weights of all services of a route, 1 to [`Self::MAX_WEIGHT`].
    /// `None`: as many as it has servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// After so many failures within `fail_timeout` a server is set aside for as long; 0: never. Only in task mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_fails: Option<u32>,
    /// See `max_fails`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_timeout: Option<Duration>,
}

impl ServerOptions {
    /// The largest weight.
    pub const MAX_WEIGHT: u16 = 1000;
}

impl Options {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        is_default(self)
    }

    /// Every secret that is named, for whoever has to find them.
    pub fn secrets(&self) -> BTreeSet<&SecretName> {
        self.host.tls.iter().flat_map(Tls::secrets).chain(&self.route.basic_auth).collect()
    }

    /// The same options with every secret by the name that `rename` gives it.
    ///
    /// # Errors
    /// The first that `rename` gives.
    pub fn rename_secrets<E>(&self, mut rename: impl FnMut(&SecretName) -> Result<SecretName, E>) -> Result<Self, E> {
        let mut renamed = self.clone();
        if let Some(Tls::Terminate { certificate, key, client_ca }) = &mut renamed.host.tls {
            for name in [certificate, key].into_iter().chain(client_ca) {
                *name = rename(name)?;
            }
        }
        if let Some(name) = &mut renamed.route.basic_auth {
            *name = rename(name)?;
        }
        Ok(renamed)
    }
}

/// The cluster's secrets that somebody asked for, by their whole names.
pub type Secrets = BTreeMap<SecretName, SecretId>;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_written() {
        assert_eq!(serde_json::to_string(&Options::default()).unwrap(), "{}");
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
    }

    #[test]
    fn options_read_back_what_they_wrote() {
        let options = Options {
            context_root: "/app".parse().unwrap(),
            host: HostOptions {
                tls: Some(Tls::Terminate {
                    certificate: "app.cert".parse().unwrap(),
                    key: "app.key".parse().unwrap(),
                    client_ca: None,
                }),
                ssl_only: Some(true),
                hsts: Some("31536000; includeSubDomains".parse().unwrap()),
                redirects: BTreeMap::from([(
                    Host::parse("old.local").unwrap(),
                    "https://new.local:8443/base".parse().unwrap(),
                )]),
            },
            route: RouteOptions {
                sticky: Some(Sticky::Cookie("session".parse().unwrap())),
                timeout: Some(Duration::from_millis(1500)),
                allow: Some(BTreeSet::from(["10.0.0.0/8".parse().unwrap()]).into()),
                basic_auth: Some("users".parse().unwrap()),
                rate_limit: Some("10r/s, burst=20".parse().unwrap()),
                ..RouteOptions::default()
            },
            server: ServerOptions { weight: Some(20), ..ServerOptions::default() },
        };
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options);
        let names: Vec<&str> = options.secrets().into_iter().map(SecretName::as_str).collect();
        assert_eq!(names, ["app.cert", "app.key", "users"]);
        let renamed = options.rename_secrets(|name| format!("shop_{name}").parse()).unwrap();
        assert_eq!(renamed.secrets().first().unwrap().as_str(), "shop_app.cert");
    }

    #[test]
    fn an_unknown_option_is_not_passed_over() {
        assert!(serde_json::from_str::<Options>(r#"{"route": {"unheard_of": 1}}"#).is_err());
    }
}
