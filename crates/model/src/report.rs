//! What a pass found out, for logs, metrics, the API and the command line: the answer to "why is my
//! service not routed?".

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::{BackendMode, ClusterName, Host, NetworkId, Options, Problem, ServiceId, TaskId};

/// What was decided about every candidate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// By service id.
    pub services: ServiceReports,
    /// The clusters whose proxies stay set up as they were, since a generation with the setup that is configured failed;
    /// and what happened.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_setups: BTreeMap<ClusterName, String>,
}

/// What was decided about candidates, by service id; passes share what they did not decide anew.
pub type ServiceReports = imbl::OrdMap<ServiceId, Arc<ServiceReport>>;

/// What was decided about one candidate, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceReport {
    /// The service's name.
    pub name: String,
    /// The cluster that serves it; none if its labels did not read or name no cluster of ours.
    pub cluster: Option<ClusterName>,
    /// The outcome.
    pub verdict: Verdict,
    /// The hosts it asks for.
    pub hosts: BTreeSet<Host>,
    /// Whether it asks for unknown hosts.
    pub default_backend: bool,
    /// How its endpoints are found; none if its labels did not read.
    pub mode: Option<BackendMode>,
    /// The network chosen, and why.
    pub network: Option<NetworkChoice>,
    /// Whether it is reached over none, but at its nodes, which publish its port.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_nodes: bool,
    /// Where its requests go.
    pub endpoints: BTreeSet<SocketAddr>,
    /// What the proxies are to do for it beyond that; every secret by its whole name.
    #[serde(skip_serializing_if = "Options::is_default")]
    pub options: Options,
    /// Its tasks, in or out, and why; empty in VIP mode.
    pub tasks: Vec<TaskVerdict>,
    /// The routing labels as written.
    pub labels: BTreeMap<String, String>,
    /// What keeps it from being routed.
    pub problems: Vec<Problem>,
    /// What does not.
    pub warnings: Vec<Problem>,
}

/// The outcome for one candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Verdict {
    /// It is in the proxy's target.
    Routed {
        /// Why, for people: "has run", "2 tasks run".
        reason: String,
    },
    /// Nothing is wrong, and something must happen first.
    Waiting {
        /// For what.
        reason: String,
    },
    /// Its problems keep it out.
    Refused,
    /// Its last change made a rollout fail.
    Quarantined {
        /// What happened.
        reason: String,
        /// Whether its last good contribution is served meanwhile.
        last_good_served: bool,
    },
    /// It asks for a service cluster that is not ours: not our business, and no problem of ours.
    Elsewhere {
        /// The service cluster that it asks for.
        service_cluster: String,
    },
}

impl Verdict {
    /// The state as one word; the same as in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Routed { .. } => "routed",
            Verdict::Waiting { .. } => "waiting",
            Verdict::Refused => "refused",
            Verdict::Quarantined { .. } => "quarantined",
            Verdict::Elsewhere { .. } => "elsewhere",
        }
    }
}

/// Which network a service is reached over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkChoice {
    /// Swarm's id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Why this one.
    pub reason: String,
}

/// Whether a task is an endpoint, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskVerdict {
    /// Swarm's id.
    pub id: TaskId,
    /// Its endpoint, if it is one.
    pub endpoint: Option<SocketAddr>,
    /// Why it is in or out.
    pub reason: String,
}
