//! One look at the cluster, for the subcommands: the same reads and the same plain functions as the operator's.

use std::collections::BTreeMap;

use actuator::{Inventory, Memory, Moment, Plan};
use anyhow::{Context, Result};
use model::{Addresses, Bundle, ClusterName, NetworkId, Published, Report, Target};
use observer::Observation;

use crate::config::{ClusterParts, Config};

/// What one look saw, and what the operator would do about it.
pub struct Look {
    /// Every cluster of proxies.
    pub clusters: BTreeMap<ClusterName, ClusterLook>,
    /// What was decided about every service.
    pub report: Report,
    /// The names of the networks that services which ask to be routed are on.
    pub networks: BTreeMap<NetworkId, String>,
    /// How full these networks are, where that can be told.
    pub addresses: BTreeMap<NetworkId, Addresses>,
}

/// One cluster of proxies.
pub struct ClusterLook {
    /// What is live.
    pub published: Published,
    /// What should be; none if nothing can be planned, for the reason in [`Published::Unknown`].
    pub bundle: Option<Bundle>,
    /// Why nginx stays set up as it was, if it does.
    pub kept_setup: Option<String>,
    /// What the actuator would do now.
    pub plan: Plan,
}

impl Look {
    /// What is live, a cluster.
    pub fn published(&self) -> BTreeMap<ClusterName, Published> {
        self.clusters.iter().map(|(name, cluster)| (name.clone(), cluster.published.clone())).collect()
    }
}

/// Looks once. Writes nothing.
///
/// # Errors
/// When a read fails (a look that is not complete is not a look), or when the operator would refuse this Engine.
pub async fn look(config: &Config, swarm: &impl swarm::Read) -> Result<Look> {
    engine::supported(&swarm.identity().await?).map_err(anyhow::Error::msg)?;
    let Observation { desired, addresses } = observer::observe_once(swarm, &config.observer()).await?;
    let mut settings = config.reconciler();
    let mut inventories: BTreeMap<ClusterName, (ClusterParts, Inventory)> = BTreeMap::new();
    let mut published = BTreeMap::new();
    for parts in config.clusters() {
        let inventory = actuator::inspect(swarm, &parts.actuator).await?;
        let seen = plan(None, &inventory, &parts);
        published.insert(parts.name.clone(), seen.published);
        settings.clusters.insert(parts.name.clone(), parts.reconciler.clone());
        inventories.insert(parts.name.clone(), (parts, inventory));
    }
    let compiled = reconciler::compile(&desired, &published, &settings);
    let mut clusters = BTreeMap::new();
    for (name, (parts, inventory)) in inventories {
        let live = match &published[&name] {
            Published::Live { manifest, .. } => Some(&**manifest),
            Published::Nothing | Published::Unknown { .. } => None,
        };
        let bundle = compiled
            .specs
            .get(&name)
            .map(|spec| reconciler::target(spec, &compiled.setups[&name], &compiled.report, &desired, live))
            .transpose()
            .map_err(|violations| {
                let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
                anyhow::anyhow!(violations.join("; "))
            })
            .with_context(|| format!("a bug in Dovetail: what cluster {name} should be breaks a law"))?;
        let target = bundle.clone().map(|bundle| Target { bundle: bundle.into() });
        let plan = plan(target.as_ref(), &inventory, &parts);
        let kept_setup = compiled.report.kept_setups.get(&name).cloned();
        clusters.insert(name, ClusterLook { published: plan.published.clone(), bundle, kept_setup, plan });
    }
    let networks = desired.networks.iter().map(|(id, network)| (id.clone(), network.name.clone())).collect();
    Ok(Look { clusters, report: compiled.report, networks, addresses })
}

fn plan(target: Option<&Target>, inventory: &Inventory, parts: &ClusterParts) -> Plan {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    actuator::plan(target, inventory, &parts.actuator, &Memory::default(), Moment(now))
}
