//! What one value alone cannot tell: values that do not go together.

use std::collections::BTreeMap;

use super::convert::Complaint;
use super::{Cluster, ClusterSettings, Config};

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
    if config.engine.tls.is_some() && endpoint.starts_with("unix://") {
        return Err(at(&["engine", "tls"], "goes with a tcp:// endpoint only".into()));
    }
    if let Err(error) = super::engine_endpoint(config, None) {
        return Err(at(&["engine", "endpoint"], error.to_string()));
    }
    let mut served: BTreeMap<&str, &str> = BTreeMap::new();
    let mut named: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, cluster) in &config.clusters.0 {
        let key = name.0.as_str();
        if let Some(other) = served.insert(&cluster.service_cluster, key) {
            let message =
                format!("{:?} is served by the cluster {other} already: give each its own", cluster.service_cluster);
            return Err(at(&["clusters", key, "service_cluster"], message));
        }
        if let Some(other) = named.insert(&cluster.proxy.name.0, key) {
            let message = format!("{:?} is the proxy service of the cluster {other} already", cluster.proxy.name.0);
            return Err(at(&["clusters", key, "proxy", "name"], message));
        }
        check_cluster(config, name, cluster).map_err(|(keys, message)| at(&place(key, &keys), message))?;
    }
    Ok(())
}

fn check_cluster(config: &Config, name: &Cluster, cluster: &ClusterSettings) -> Result<(), Complaint> {
    let (proxy, nginx) = (&cluster.proxy, &cluster.nginx);
    if nginx.worker_shutdown_timeout >= proxy.stop_grace_period {
        let message = format!(
            "{} is not below proxy.stop_grace_period ({}): open requests would be cut",
            nginx.worker_shutdown_timeout, proxy.stop_grace_period
        );
        return Err((vec!["nginx", "worker_shutdown_timeout"], message));
    }
    let parts = config.cluster(&name.0, cluster)?;
    parts.actuator.check().map_err(|complaints| {
        let first = complaints.into_iter().next().expect("a refusal has a reason");
        (first.field.split('.').collect(), first.message)
    })
}

/// Where the file has what is complained of: the keys from the top.
fn place<'a>(cluster: &'a str, keys: &[&'a str]) -> Vec<&'a str> {
    let below: &[&str] = match keys {
        // The same for all clusters.
        ["object_labels"] => return keys.to_vec(),
        ["poll_interval"] => return vec!["engine", "poll_interval"],
        // Named by the actuator in its own words.
        ["proxy", "service_name"] => &["proxy", "name"],
        ["proxy", "publish"] => &["proxy", "publish_mode"],
        ["proxy", "networks"] => &["networks"],
        ["rollout_deadline"] => &["proxy", "update", "deadline"],
        ["hold_retry"] => &["proxy", "update", "retry_after"],
        _ => keys,
    };
    [&["clusters", cluster], below].concat()
}
