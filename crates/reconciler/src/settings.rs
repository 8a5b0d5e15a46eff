//! What the cluster's administrator decides, as far as the content of the proxies goes.

use std::collections::{BTreeMap, BTreeSet};

use model::ClusterName;

use crate::claims::Claims;
use crate::nginx;

/// Every service cluster that is ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// By name. No two serve the same `service_cluster`; if they do, the first by name has it.
    pub clusters: BTreeMap<ClusterName, ClusterSettings>,
    /// Who may claim which host, in every cluster.
    pub claims: Claims,
}

/// One service cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterSettings {
    /// The value of the label `com.docker.lb.service_cluster` that it serves; empty: services without one.
    pub service_cluster: String,
    /// How nginx is set up.
    pub nginx: nginx::Settings,
    /// The only networks that its proxies join, by name or id: a service on none of them is refused. None: exactly
    /// those that are needed.
    pub networks: Option<BTreeSet<String>>,
    /// Labels that no service of this cluster may use.
    pub refused_labels: BTreeSet<String>,
}

impl Settings {
    /// The cluster that serves this value of the label.
    pub(crate) fn serving(&self, service_cluster: &str) -> Option<(&ClusterName, &ClusterSettings)> {
        self.clusters.iter().find(|(_, cluster)| cluster.service_cluster == service_cluster)
    }
}
