//! Packing a spec for the actuator: files in the proxy's language, and the manifest that says what they publish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Bundle, Desired, File, Manifest, ProxySpec, Publication, Report, SecretMount, ServiceId, Verdict};

use crate::check::{Violation, check};
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
    check(spec)?;
    Ok(bundle(spec, settings, reason(live, spec, report, desired), report, live))
}

/// Packs a spec that keeps the laws. `live` only lends the words for what did not change, so that a manifest
/// does not tell a new story about an old publication.
pub fn bundle(
    spec: &ProxySpec,
    settings: &nginx::Settings,
    reason: String,
    report: &Report,
    live: Option<&Manifest>,
) -> Bundle {
    let files: BTreeMap<String, File> =
        nginx::render(spec, settings).into_iter().map(|(path, text)| (path, File::new(text.into_bytes()))).collect();
    let secrets: BTreeSet<SecretMount> = spec.secrets.iter().map(|(name, id)| SecretMount::new(name, id)).collect();
    let manifest = Manifest {
        cluster: spec.cluster.clone(),
        generation: Bundle::digest(&files, &spec.networks, &secrets),
        reason,
        setup: setup::write(settings),
        services: spec
            .contributions
            .iter()
            .map(|(id, contribution)| {
                let fragment = contribution.digest();
                let reason = live
                    .and_then(|live| live.services.get(id))
                    .filter(|publication| publication.fragment == fragment)
                    .map_or_else(|| why_published(id, report), |publication| publication.reason.clone());
                (id.clone(), Publication { fragment, reason, contribution: (**contribution).clone() })
            })
            .collect(),
    };
    Bundle {
        cluster: spec.cluster.clone(),
        files,
        networks: spec.networks.clone(),
        secrets,
        manifest: Arc::new(manifest),
    }
}

fn why_published(id: &ServiceId, report: &Report) -> String {
    match report.services.get(id).map(|about| &about.verdict) {
        Some(Verdict::Routed { reason }) => reason.clone(),
        Some(Verdict::Quarantined { .. }) => "its last good state, while its change is held".to_owned(),
        _ => String::new(),
    }
}
