//! What one value alone cannot tell: values that do not go together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{ClusterSettings, Config};

/// Something impossible, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Impossible {
    /// The keys from the top.
    pub path: Vec<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Finds the first impossible thing.
///
/// # Errors
/// With that thing.
pub fn check(config: &Config) -> Result<(), Impossible> {
    let at = |path: &[&str], message: String| Impossible {
        path: path.iter().map(|key| (*key).to_owned()).collect(),
        message,
    };
    if config.clusters.0.is_empty() {
        return Err(at(&["clusters"], "is empty: name at least one cluster".into()));
    }
    let endpoint = &config.engine.endpoint.0;
    if !["unix://", "tcp://", "http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
        return Err(at(&["engine", "endpoint"], format!("{endpoint:?} starts with neither unix:// nor tcp://")));
    }
    if config.engine.tls.is_some() && endpoint.starts_with("unix://") {
        return Err(at(&["engine", "tls"], "goes with a tcp:// endpoint only".into()));
    }
    let mut served: BTreeMap<&str, &str> = BTreeMap::new();
    let mut named: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, cluster) in &config.clusters.0 {
        let name = name.0.as_str();
        if let Some(other) = served.insert(&cluster.service_cluster, name) {
            let message = format!(
                "{:?} is served by the cluster {other} already: give each its own",
                cluster.service_cluster
            );
            return Err(at(&["clusters", name, "service_cluster"], message));
        }
        if let Some(other) = named.insert(&cluster.proxy.name.0, name) {
            let message = format!("{:?} is the proxy service of the cluster {other} already", cluster.proxy.name.0);
            return Err(at(&["clusters", name, "proxy", "name"], message));
        }
        check_cluster(cluster)
            .map_err(|(keys, message)| at(&[&["clusters", name][..], keys].concat(), message))?;
    }
    Ok(())
}

fn check_cluster(cluster: &ClusterSettings) -> Result<(), (&'static [&'static str], String)> {
    let (proxy, nginx) = (&cluster.proxy, &cluster.nginx);
    if proxy.ports.http.is_some() && proxy.ports.http == proxy.ports.https {
        return Err((&["proxy", "ports", "https"], "is the same port as http".into()));
    }
    if nginx.worker_shutdown_timeout >= proxy.stop_grace_period {
        let message = format!(
            "{} is not below proxy.stop_grace_period ({}): open requests would be cut",
            nginx.worker_shutdown_timeout, proxy.stop_grace_period
        );
        return Err((&["nginx", "worker_shutdown_timeout"], message));
    }
    if nginx.upstream_keepalive_timeout.0.as_secs() >= 900 {
        let message = "is not below 900s, when the kernel forgets idle connections through a VIP".into();
        return Err((&["nginx", "upstream_keepalive_timeout"], message));
    }
    let path = &nginx.health_path.0;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if !path.starts_with('/') || path.len() < 2 || !path.chars().all(plain) {
        let message = format!("{path:?} is no path of letters, digits and /.-_ that starts with a slash");
        return Err((&["nginx", "health_path"], message));
    }
    if !nginx.user.0.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        return Err((&["nginx", "user"], format!("{:?} is no name of a user", nginx.user.0)));
    }
    for network in &nginx.trusted_proxies {
        if !is_cidr(&network.0) {
            let message = format!("{:?} is no address or network: 10.0.0.0/8 or fd00::/8 would be", network.0);
            return Err((&["nginx", "trusted_proxies"], message));
        }
    }
    for variable in &proxy.env {
        if !variable.split_once('=').is_some_and(|(name, _)| !name.is_empty()) {
            return Err((&["proxy", "env"], format!("{variable:?} is not of the form NAME=value")));
        }
    }
    for constraint in &proxy.constraints {
        if !(constraint.contains("==") || constraint.contains("!=")) {
            return Err((&["proxy", "constraints"], format!("{constraint:?} holds neither == nor !=")));
        }
    }
    Ok(())
}

fn is_cidr(text: &str) -> bool {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most))
}
