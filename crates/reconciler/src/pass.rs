//! The loop: whenever what is asked for or what is live changes, say anew what the proxies should be.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use driver::{Level, Next};
use futures::FutureExt;
use futures::future::select_all;
use model::{ClusterName, Desired, Manifest, Problem, ProxySpec, Published, Report, ServiceId, Target};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::bundle::target;
use crate::check::Violation;
use crate::compile::{Compiled, compile};
use crate::counters::Counters;
use crate::nginx;
use crate::settings::Settings;

/// The reconciler's loop. A pass never fails: whatever is wrong is wrong with one service or one cluster, and
/// stays there.
pub struct Reconciler {
    settings: Settings,
    desired: watch::Receiver<Option<Arc<Desired>>>,
    published: BTreeMap<ClusterName, watch::Receiver<Option<Published>>>,
    targets: BTreeMap<ClusterName, watch::Sender<Option<Arc<Target>>>>,
    report: watch::Sender<Option<Arc<Report>>>,
    counters: Arc<Counters>,
    /// The specs and setups that were dealt with: what is the same is not made, or found broken, anew.
    made: BTreeMap<ClusterName, (ProxySpec, nginx::Settings)>,
    /// The setups that are kept, and that is in the log already.
    kept_setups: BTreeMap<ClusterName, String>,
    /// The problems that are in the log already.
    logged: BTreeMap<ServiceId, Vec<Problem>>,
}

impl Reconciler {
    /// A reconciler for the clusters in `settings`. A cluster without an entry in `published` is never ready, and
    /// one without an entry in `targets` is only reported about.
    pub fn new(
        settings: Settings,
        desired: watch::Receiver<Option<Arc<Desired>>>,
        published: BTreeMap<ClusterName, watch::Receiver<Option<Published>>>,
        targets: BTreeMap<ClusterName, watch::Sender<Option<Arc<Target>>>>,
        report: watch::Sender<Option<Arc<Report>>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            settings,
            desired,
            published,
            targets,
            report,
            counters,
            made: BTreeMap::new(),
            kept_setups: BTreeMap::new(),
            logged: BTreeMap::new(),
        }
    }

    fn reconcile(&mut self) {
        let Some(desired) = self.desired.borrow_and_update().clone() else {
            tracing::debug!("nothing to do: what the cluster asks for is not known yet");
            return;
        };
        let published: BTreeMap<ClusterName, Published> = self
            .published
            .iter_mut()
            .filter_map(|(cluster, published)| Some((cluster.clone(), published.borrow_and_update().clone()?)))
            .collect();
        let started = Instant::now();
        let Compiled { specs, mut setups, report } = compile(&desired, &published, &self.settings);
        self.counters.compiled(started.elapsed(), &report);
        for (cluster, spec) in specs {
            let live = match published.get(&cluster) {
                Some(Published::Live { manifest, .. }) => Some(&**manifest),
                Some(Published::Nothing | Published::Unknown { .. }) | None => None,
            };
            let Some(setup) = setups.remove(&cluster) else { continue };
            self.aim(cluster, (spec, setup), &report, &desired, live);
        }
        self.log_kept_setups(&report);
        self.log_problems(&desired, &report);
        self.report.send_if_modified(|current| {
            let differs = current.as_deref() != Some(&report);
            if differs {
                *current = Some(Arc::new(report));
            }
            differs
        });
    }

    /// Makes the target of one cluster, unless it comes from the same spec as the last one.
    fn aim(
        &mut self,
        cluster: ClusterName,
        made: (ProxySpec, nginx::Settings),
        report: &Report,
        desired: &Desired,
        live: Option<&Manifest>,
    ) {
        let Some(sender) = self.targets.get(&cluster) else { return };
        if self.made.get(&cluster) == Some(&made) {
            return;
        }
        let (spec, setup) = &made;
        let started = Instant::now();
        match target(spec, setup, report, desired, live) {
            Err(violations) => {
                self.counters.violated();
                let violations = violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ");
                tracing::error!(%cluster, violations, "a bug in Dovetail: the proxies of this cluster stay as they are");
            }
            Ok(bundle) => {
                self.counters.rendered(started.elapsed());
                let generation = bundle.generation();
                let reason = bundle.manifest.reason.clone();
                let differs = sender.send_if_modified(|current| {
                    let differs = current.as_ref().map(|current| current.bundle.generation()) != Some(generation);
                    if differs {
                        *current = Some(Arc::new(Target { bundle: Arc::new(bundle) }));
                    }
                    differs
                });
                let generation_name = generation.short();
                if !differs {
                    tracing::debug!(%cluster, generation = generation_name, "the target stays what it is");
                } else if live.is_some_and(|live| live.generation == generation) {
                    self.counters.retargeted();
                    tracing::info!(%cluster, generation = generation_name, "the target is what is live");
                } else {
                    self.counters.retargeted();
                    tracing::info!(%cluster, generation = generation_name, reason, "the target changed");
                }
            }
        }
        self.made.insert(cluster, made);
    }

    /// Logs that the setup of a cluster is kept, and that it is not any more.
    fn log_kept_setups(&mut self, report: &Report) {
        for (cluster, reason) in &report.kept_setups {
            if self.kept_setups.get(cluster) != Some(reason) {
                tracing::warn!(%cluster, reason, "nginx stays set up as before: a generation with the setup that is configured failed");
            }
        }
        for cluster in self.kept_setups.keys().filter(|cluster| !report.kept_setups.contains_key(*cluster)) {
            tracing::info!(%cluster, "nginx is set up as configured again");
        }
        self.kept_setups.clone_from(&report.kept_setups);
    }

    /// Logs each problem that was found here when it appears or changes. Problems of the labels themselves are
    /// the observer's to log.
    fn log_problems(&mut self, desired: &Desired, report: &Report) {
        let mut now = BTreeMap::new();
        for (id, about) in &report.services {
            let Some(service) = desired.services.get(id).filter(|service| service.asked.is_ok()) else { continue };
            let ours: Vec<Problem> = about
                .problems
                .iter()
                .chain(about.warnings.iter().filter(|warning| !service.warnings.contains(warning)))
                .cloned()
                .collect();
            let before = self.logged.get(id).map_or(&[][..], Vec::as_slice);
            for problem in ours.iter().filter(|problem| !before.contains(problem)) {
                tracing::warn!(service = %about.name, code = %problem.code, verdict = about.verdict.as_str(), "{problem}");
            }
            if !ours.is_empty() {
                now.insert(id.clone(), ours);
            } else if !before.is_empty() {
                tracing::info!(service = %about.name, verdict = about.verdict.as_str(), "its problems are solved");
            }
        }
        self.logged = now;
    }
}

impl Level for Reconciler {
    type Error = Infallible;

    /// `changed` is cancel-safe, and a change stays unseen until a pass reads it or it is returned from here.
    async fn woken(&mut self) {
        let desired = changed(&mut self.desired).boxed();
        let published = self.published.values_mut().map(|published| changed(published).boxed());
        select_all(published.chain([desired])).await;
    }

    async fn pass(&mut self) -> Result<Next, Infallible> {
        self.reconcile();
        Ok(Next::Woken)
    }
}

/// Resolves when there is something new; never if nobody is left to say anything.
async fn changed<T: Send + Sync>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending().await
    }
}

impl fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler").field("clusters", &self.settings.clusters.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
