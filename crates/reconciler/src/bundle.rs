//! Packing a spec for the actuator: files in the proxy's language, and the manifest that says what they publish.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    Bundle, ClusterName, Desired, Manifest, ProxySpec, Publication, Publications, Report, SecretMount, ServiceId,
    ServiceReports, Verdict,
};

use crate::check::{Violation, check_difference};
use crate::compile::replace;
use crate::difference::{Difference, changes};
use crate::nginx;
use crate::reason::reason;
use crate::setup;

/// Everything from a spec to what the actuator is handed: laws, reason, files. `live` is the manifest of what
/// the proxies serve now.
///
/// # Errors
/// When the spec breaks a law.
pub fn target(
    spec: &ProxySpec,
    settings: &nginx::Settings,
    report: &Report,
    desired: &Desired,
    live: Option<&Manifest>,
) -> Result<Bundle, Vec<Violation>> {
    Bundler::new(spec.cluster.clone()).target(spec, settings, report, desired, live)
}

/// Packs the specs of one cluster, one after the other, and each time only what changed.
#[derive(Debug)]
pub struct Bundler {
    spec: ProxySpec,
    rendered: nginx::Rendered,
    publications: Publications,
    /// What lent the publications their words.
    live: Publications,
    reports: ServiceReports,
}

impl Bundler {
    /// A bundler that remembers nothing yet.
    pub fn new(cluster: ClusterName) -> Self {
        Self {
            spec: ProxySpec::empty(cluster),
            rendered: nginx::Rendered::new(nginx::Settings::default()),
            publications: Publications::new(),
            live: Publications::new(),
            reports: ServiceReports::new(),
        }
    }

    /// See [`target()`], which is this with nothing remembered.
    ///
    /// # Errors
    /// When the spec breaks a law. What is remembered stays what it was.
    pub fn target(
        &mut self,
        spec: &ProxySpec,
        settings: &nginx::Settings,
        report: &Report,
        desired: &Desired,
        live: Option<&Manifest>,
    ) -> Result<Bundle, Vec<Violation>> {
        let nothing = ProxySpec::empty(spec.cluster.clone());
        let set_up_anew = self.rendered.settings() != settings;
        let before = if set_up_anew { &nothing } else { &self.spec };
        let difference = Difference::between(before, spec);
        check_difference(before, spec, &difference, settings)?;
        if set_up_anew {
            self.rendered = nginx::Rendered::new(settings.clone());
        }
        let files = self.rendered.follow(before, spec, &difference).clone();
        self.publish(spec, report, live);
        self.spec = spec.clone();
        let secrets: BTreeSet<SecretMount> = spec.secrets.iter().map(|(name, id)| SecretMount::new(name, id)).collect();
        let manifest = Manifest {
            cluster: spec.cluster.clone(),
            generation: Bundle::digest(&files, &spec.networks, &secrets),
            reason: reason(live, &self.publications, report, desired),
            setup: setup::write(settings),
            services: self.publications.clone(),
        };
        Ok(Bundle {
            cluster: spec.cluster.clone(),
            files,
            networks: spec.networks.clone(),
            secrets,
            manifest: Arc::new(manifest),
        })
    }

    /// What was published last.
    pub(crate) fn publications(&self) -> &Publications {
        &self.publications
    }

    /// Publishes what is contributed. What is live only lends the words for what did not change, so that a manifest does
    /// not tell a new story about an old publication.
    fn publish(&mut self, spec: &ProxySpec, report: &Report, live: Option<&Manifest>) {
        let live = live.map(|live| live.services.clone()).unwrap_or_default();
        let contributed = changes(&self.spec.contributions, &spec.contributions).map(|(id, ..)| id);
        let reported = changes(&self.reports, &report.services).map(|(id, ..)| id);
        let told = changes(&self.live, &live).map(|(id, ..)| id);
        let stale: BTreeSet<&ServiceId> = contributed.chain(reported).chain(told).collect();
        let before = self.publications.clone();
        if before.is_empty() && self.live.is_empty() {
            // Whatever is the same is shared with what is live, so that the two are soon compared.
            self.publications = live.clone();
        }
        for id in stale {
            let publication = spec.contributions.get(id).map(|contribution| {
                let before = before.get(id).filter(|before| before.contribution == *contribution);
                let fragment = before.map_or_else(|| contribution.digest(), |before| before.fragment);
                let reason = live
                    .get(id)
                    .filter(|publication| publication.fragment == fragment)
                    .map_or_else(|| why_published(id, report), |publication| publication.reason.clone());
                Arc::new(Publication { fragment, reason, contribution: Arc::clone(contribution) })
            });
            replace(&mut self.publications, id, publication);
        }
        (self.live, self.reports) = (live, report.services.clone());
    }
}

fn why_published(id: &ServiceId, report: &Report) -> String {
    match report.services.get(id).map(|about| &about.verdict) {
        Some(Verdict::Routed { reason }) => reason.clone(),
        Some(Verdict::Quarantined { .. }) => "its last good state, while its change is held".to_owned(),
        _ => String::new(),
    }
}
