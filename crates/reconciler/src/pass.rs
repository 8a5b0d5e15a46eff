//! The loop: whenever what is asked for or what is live changes, say anew what the proxies should be.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use driver::{Level, Next};
use futures::FutureExt;
use futures::future::select_all;
use model::{ClusterName, Desired, Manifest, Problem, ProxySpec, Published, Report, ServiceId, ServiceReports, Target};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::bundle::Bundler;
use crate::check::Violation;
use crate::compile::{Compiled, Compiler};
use crate::counters::Counters;
use crate::difference::{changes, sharing};
use crate::nginx;
use crate::settings::Settings;

/// The reconciler's loop. A pass never fails: whatever is wrong is wrong with one service or one cluster, and
/// stays there.
pub struct Reconciler {
    compiler: Compiler,
    desired: watch::Receiver<Option<Arc<Desired>>>,
    published: BTreeMap<ClusterName, watch::Receiver<Option<Published>>>,
    targets: BTreeMap<ClusterName, watch::Sender<Option<Arc<Target>>>>,
    report: watch::Sender<Option<Arc<Report>>>,
    counters: Arc<Counters>,
    bundlers: BTreeMap<ClusterName, Bundler>,
    /// The specs and setups that were dealt with: what is the same is not made, or found broken, anew.
    made: BTreeMap<ClusterName, (ProxySpec, nginx::Settings)>,
    /// The manifests that were read last.
    manifests: BTreeMap<ClusterName, [Read; 2]>,
    /// The problems that are in the log already.
    logged: BTreeMap<ServiceId, Vec<Problem>>,
}

/// A manifest that was read, and what stands for it here.
#[derive(Clone)]
struct Read {
    manifest: Arc<Manifest>,
    known: Arc<Manifest>,
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
        let bundlers =
            settings.clusters.keys().map(|cluster| (cluster.clone(), Bundler::new(cluster.clone()))).collect();
        Self {
            compiler: Compiler::new(settings),
            desired,
            published,
            targets,
            report,
            counters,
            bundlers,
            made: BTreeMap::new(),
            manifests: BTreeMap::new(),
            logged: BTreeMap::new(),
        }
    }

    fn reconcile(&mut self) {
        let Some(desired) = self.desired.borrow_and_update().clone() else {
            tracing::debug!("nothing to do: what the cluster asks for is not known yet");
            return;
        };
        let published: Vec<(ClusterName, Published)> = self
            .published
            .iter_mut()
            .filter_map(|(cluster, published)| Some((cluster.clone(), published.borrow_and_update().clone()?)))
            .collect();
        let published: BTreeMap<ClusterName, Published> = published
            .into_iter()
            .map(|(cluster, published)| (cluster.clone(), self.known(cluster, published)))
            .collect();
        let started = Instant::now();
        let Compiled { specs, mut setups, report } = self.compiler.compile(&desired, &published);
        self.counters.compiled(started.elapsed());
        for (cluster, spec) in specs {
            let live = match published.get(&cluster) {
                Some(Published::Live { manifest, .. }) => Some(&**manifest),
                Some(Published::Nothing | Published::Unknown { .. }) | None => None,
            };
            let Some(setup) = setups.remove(&cluster) else { continue };
            self.aim(cluster, (spec, setup), &report, &desired, live);
        }
        self.tell(report, &desired);
    }

    /// What is published, in manifests that share what is the same with what was made here. One that the actuator read
    /// back from the cluster is made of other values, and would be compared service by service in every pass.
    fn known(&mut self, cluster: ClusterName, published: Published) -> Published {
        let (Published::Live { manifest, last_good, holds }, Some(bundler)) = (&published, self.bundlers.get(&cluster))
        else {
            return published;
        };
        let before = self.manifests.remove(&cluster);
        let read = [manifest, last_good].map(|manifest| {
            let seen = before.iter().flatten().find(|read| Arc::ptr_eq(&read.manifest, manifest));
            seen.cloned().unwrap_or_else(|| {
                let services = sharing(bundler.publications(), &manifest.services);
                let known = Arc::new(Manifest { services, ..Manifest::clone(manifest) });
                Read { manifest: Arc::clone(manifest), known }
            })
        });
        let [manifest, last_good] = read.each_ref().map(|read| Arc::clone(&read.known));
        let known = Published::Live { manifest, last_good, holds: holds.clone() };
        self.manifests.insert(cluster, read);
        known
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
        let (Some(sender), Some(bundler)) = (self.targets.get(&cluster), self.bundlers.get_mut(&cluster)) else {
            return;
        };
        if self.made.get(&cluster) == Some(&made) {
            return;
        }
        let (spec, setup) = &made;
        let started = Instant::now();
        match bundler.target(spec, setup, report, desired, live) {
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

    /// Logs, counts and publishes what was decided, as far as it is not what was reported last.
    fn tell(&mut self, report: Report, desired: &Desired) {
        let before = self.report.borrow().clone();
        if before.as_deref() == Some(&report) {
            return;
        }
        let Report { services, kept_setups } = before.as_deref().cloned().unwrap_or_default();
        log_kept_setups(&kept_setups, &report);
        self.log_problems(&services, &report, desired);
        for (_, before, now) in changes(&services, &report.services) {
            self.counters.reported(before.map(|about| &**about), now.map(|about| &**about));
        }
        self.report.send_replace(Some(Arc::new(report)));
    }

    /// Logs each problem that was found here when it appears or changes. Problems of the labels themselves are
    /// the observer's to log.
    fn log_problems(&mut self, before: &ServiceReports, report: &Report, desired: &Desired) {
        for (id, _, about) in changes(before, &report.services) {
            let logged = self.logged.remove(id).unwrap_or_default();
            let service = desired.services.get(id).filter(|service| service.asked.is_ok());
            let (Some(about), Some(service)) = (about, service) else { continue };
            let ours: Vec<Problem> = about
                .problems
                .iter()
                .chain(about.warnings.iter().filter(|warning| !service.warnings.contains(warning)))
                .cloned()
                .collect();
            for problem in ours.iter().filter(|problem| !logged.contains(problem)) {
                tracing::warn!(service = %about.name, code = %problem.code, verdict = about.verdict.as_str(), "{problem}");
            }
            if !ours.is_empty() {
                self.logged.insert(id.clone(), ours);
            } else if !logged.is_empty() {
                tracing::info!(service = %about.name, verdict = about.verdict.as_str(), "its problems are solved");
            }
        }
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

/// Logs that the setup of a cluster is kept, and that it is not any more.
fn log_kept_setups(before: &BTreeMap<ClusterName, String>, report: &Report) {
    for (cluster, reason) in &report.kept_setups {
        if before.get(cluster) != Some(reason) {
            tracing::warn!(%cluster, reason, "nginx stays set up as before: a generation with the setup that is configured failed");
        }
    }
    for cluster in before.keys().filter(|cluster| !report.kept_setups.contains_key(*cluster)) {
        tracing::info!(%cluster, "nginx is set up as configured again");
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
        f.debug_struct("Reconciler").field("clusters", &self.bundlers.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
