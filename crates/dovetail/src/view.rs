//! What the admin server can see of the running loops. Reading it disturbs nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actuator::Phase;
use model::{Addresses, ClusterName, InstanceName, NetworkId, Published, Report};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

/// The loops' outputs.
#[derive(Debug)]
pub struct View {
    /// The installation's name.
    pub instance: InstanceName,
    /// The reconciler's last report.
    pub report: watch::Receiver<Option<Arc<Report>>>,
    /// How full the networks of services that ask to be routed are.
    pub addresses: watch::Receiver<Arc<BTreeMap<NetworkId, Addresses>>>,
    /// How many proxies run and should, a cluster.
    pub running_proxies: watch::Receiver<BTreeMap<ClusterName, swarm::RunningCount>>,
    /// What is live, a cluster.
    pub published: BTreeMap<ClusterName, watch::Receiver<Option<Published>>>,
    /// How the rollouts are doing, a cluster.
    pub rollouts: BTreeMap<ClusterName, watch::Receiver<Option<Arc<actuator::Status>>>>,
    /// Why the loops have not begun: the Engine does not answer; none if nothing is known to be in the way.
    pub waits_for: watch::Receiver<Option<String>>,
    /// How the observer's loop is doing.
    pub observer: watch::Receiver<driver::Status>,
    /// When the observer's lists were last complete.
    pub completeness: watch::Receiver<observer::Completeness>,
    /// How every loop is doing, by name, the observer's among them.
    pub loops: BTreeMap<String, watch::Receiver<driver::Status>>,
    /// The time from the end of one poll to the end of the next.
    pub poll_every: watch::Receiver<Duration>,
    /// A complete reading that is older than that by this much is stale.
    pub stale_grace: Duration,
}

/// Whether the operator knows the cluster well enough to act on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// The installation's name.
    pub instance: InstanceName,
    /// Whether it does.
    pub ready: bool,
    /// What is missing, for people.
    pub reasons: Vec<String>,
    /// How old its knowledge of the cluster is, in milliseconds; absent before the first complete reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// The clusters that are paused, and by whom, when and why; the operator is ready all the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paused: BTreeMap<ClusterName, String>,
    /// The clusters that another operator writes to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fenced: BTreeMap<ClusterName, String>,
    /// The clusters whose rollout cannot go on, what it waits for, and what to do. It takes watching to know that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blocked: BTreeMap<ClusterName, String>,
    /// The clusters whose last look or write did not go through, and why; it is tried again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trouble: BTreeMap<ClusterName, String>,
    /// Since when its knowledge is out of date (RFC 3339); absent while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<String>,
}

impl View {
    /// The last report; none before the cluster was read whole for the first time.
    pub fn known(&self) -> Option<Arc<Report>> {
        self.report.borrow().clone()
    }

    /// The last report, or an empty one.
    pub fn report(&self) -> Arc<Report> {
        self.known().unwrap_or_default()
    }

    /// What is live in the clusters that were read.
    pub fn published(&self) -> BTreeMap<ClusterName, Published> {
        self.published
            .iter()
            .filter_map(|(cluster, published)| Some((cluster.clone(), published.borrow().clone()?)))
            .collect()
    }

    /// A complete reading older than this is stale. A poll that takes long is made seldom, by itself.
    pub fn stale_after(&self) -> Duration {
        *self.poll_every.borrow() + self.stale_grace
    }

    /// How old the last complete reading of services and tasks is; none before the first.
    pub fn age(&self) -> Option<Duration> {
        self.completeness.borrow().last.map(|then| Instant::now().duration_since(then))
    }

    /// Why there is no newer reading: the loop fails, or what it reads has a gap.
    fn failing(&self) -> Option<String> {
        let error = self.observer.borrow().last_error.clone();
        error.or_else(|| self.completeness.borrow().gap.clone())
    }

    /// Whether the operator is ready.
    pub fn readiness(&self) -> Readiness {
        let age = self.age();
        let mut reasons = Vec::new();
        match age {
            None => {
                let why = self.waits_for.borrow().clone().or_else(|| self.failing());
                let why = why.unwrap_or_else(|| "it is under way".into());
                reasons.push(format!("the cluster was not yet read completely: {why}"));
            }
            Some(age) if age > self.stale_after() => {
                let why = self.failing().unwrap_or_else(|| "no answer".into());
                reasons.push(format!("the last complete reading is {} s old: {why}", age.as_secs()));
            }
            Some(_) => {}
        }
        for (cluster, published) in &self.published {
            match &*published.borrow() {
                None => reasons.push(format!("what the proxies of cluster {cluster} serve was not yet read")),
                Some(Published::Unknown { reason }) => {
                    reasons.push(format!("what the proxies of cluster {cluster} serve cannot be told: {reason}"));
                }
                Some(Published::Nothing | Published::Live { .. }) => {}
            }
        }
        let stale_since = age.filter(|age| *age > self.stale_after()).map(|age| {
            let age = jiff::SignedDuration::try_from(age).unwrap_or(jiff::SignedDuration::MAX);
            jiff::Timestamp::now().checked_sub(age).map(|then| format!("{then:.0}")).unwrap_or_default()
        });
        let (mut paused, mut fenced) = (BTreeMap::new(), BTreeMap::new());
        let (mut blocked, mut trouble) = (BTreeMap::new(), BTreeMap::new());
        for (cluster, status) in &self.rollouts {
            let Some(status) = status.borrow().clone() else { continue };
            match &status.phase {
                Phase::Paused { reason, .. } => drop(paused.insert(cluster.clone(), reason.clone())),
                Phase::Fenced { reason, .. } => drop(fenced.insert(cluster.clone(), reason.clone())),
                Phase::Blocked { waits_for, advice, .. } => {
                    blocked.insert(cluster.clone(), format!("it waits for {waits_for}; {advice}"));
                }
                _ => {}
            }
            if let Some(reason) = &status.trouble {
                trouble.insert(cluster.clone(), reason.clone());
            }
        }
        Readiness {
            instance: self.instance.clone(),
            ready: reasons.is_empty(),
            reasons,
            paused,
            fenced,
            blocked,
            trouble,
            age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            stale_since,
        }
    }
}
