//! What a bundle becomes: config objects and a spec.

use std::collections::BTreeSet;

use model::{Bundle, Contribution, Manifest};
use serde_json::Value;
use swarm::{NewConfig, RawService, limits};

use super::{Impossible, Look};
use crate::live::{Attempt, Live};
use crate::merge;
use crate::objects::{new_file, new_manifest_part};
use crate::spec::{ConfigReference, Draft, Mounts, Owned, is_manifest_path, manifest_path};
use crate::step::{Kind, ServiceWrite, Step};

impl Look<'_> {
    /// The objects to create and the spec to write for a bundle.
    pub(super) fn write(
        &self,
        bundle: &Bundle,
        present: Option<(&RawService, &Live)>,
        owned: &Owned,
    ) -> Result<(Vec<Step>, ServiceWrite), Impossible> {
        let live = present.map(|(_, live)| live);
        let (mounts, steps) = self.mounts(bundle, live)?;
        let draft = Draft {
            settings: self.settings,
            live: present.map(|(service, _)| &service.spec),
            applied: live.map_or(&Value::Null, |live| &live.applied.value),
            owned,
            mounts: &mounts,
            generation: bundle.generation(),
        };
        let attempt = Attempt { generation: bundle.generation(), settings: owned.digest };
        let nothing = Mounts::default();
        let before = live.map_or(&nothing, |live| &live.mounts);
        let from = live.map(|live| (live.attempt, &live.mounts, &*live.manifest));
        let kind = kind_of(from, (attempt, &mounts, &*bundle.manifest));
        Ok((steps, service_write(draft.compose(), attempt, (why(bundle, live, owned), kind), before, &mounts)))
    }

    pub(super) fn mounts(&self, bundle: &Bundle, live: Option<&Live>) -> Result<(Mounts, Vec<Step>), Impossible> {
        let generation = bundle.generation();
        let mut mounts = Mounts {
            networks: match &self.inventory.networks {
                Ok(None) => bundle.networks.clone(),
                Ok(Some(fixed)) => fixed.clone(),
                Err(missing) => return Err(self.no_network(missing)),
            },
            secrets: bundle.secrets.clone(),
            ..Mounts::default()
        };
        let mut wanted: Vec<(String, NewConfig)> = Vec::new();
        for (path, file) in &bundle.files {
            wanted.push((path.to_string(), new_file(self.settings, &file.content, file.digest)));
        }
        let mounted = live.filter(|live| live.attempt.generation == generation).map(|live| &live.mounts.files);
        let parts: Vec<_> = mounted.into_iter().flatten().filter(|(path, _)| is_manifest_path(path)).collect();
        if parts.is_empty() {
            // One manifest per generation: the reasons in it are those of the first time.
            let stored = self.inventory.objects.generations().get(&generation);
            let manifest = stored.and_then(|stored| stored.manifest.as_ref()).unwrap_or(&bundle.manifest);
            for (part, content) in manifest.write() {
                wanted.push((manifest_path(&part), new_manifest_part(self.settings, &part, content, generation)));
            }
        } else {
            mounts.files.extend(parts.into_iter().map(|(path, reference)| (path.clone(), reference.clone())));
        }
        let mut steps = Vec::new();
        let mut created = BTreeSet::new();
        for (path, config) in wanted {
            check_size(&path, &config)?;
            let existing = self.inventory.objects.same_as(&config).map_err(|taken| Impossible {
                reason: taken.to_string(),
                advice: format!("find out who made it (docker config inspect {}), and remove it", config.name),
            })?;
            let reference = ConfigReference { name: config.name.clone(), id: existing.map(|config| config.id.clone()) };
            if existing.is_none() && created.insert(config.name.clone()) {
                steps.push(Step::CreateConfig(config));
            }
            mounts.files.insert(path, reference);
        }
        Ok((mounts, steps))
    }

    pub(super) fn no_network(&self, missing: &str) -> Impossible {
        Impossible {
            reason: format!("the network {missing}, which the settings name, does not exist"),
            advice: format!("create it (docker network create -d overlay {missing}), or name another"),
        }
    }
}

/// Why this is written, for people.
fn why(bundle: &Bundle, live: Option<&Live>, owned: &Owned) -> String {
    let Some(live) = live else { return bundle.manifest.reason.clone() };
    let mut reasons = Vec::new();
    if bundle.generation() != live.attempt.generation {
        reasons.push(bundle.manifest.reason.clone());
    }
    let changed = merge::differences(&live.applied.value, &owned.value);
    if live.applied.value.is_null() {
        reasons.push("settings written anew: what was applied before is not known".into());
    } else if !changed.is_empty() {
        reasons.push(format!("settings changed: {}", changed.join(", ")));
    }
    if reasons.is_empty() {
        reasons.push("the service was edited by hand".into());
    }
    reasons.join("; ")
}

/// Something that is or was rolled out.
type Rolled<'a> = (Attempt, &'a Mounts, &'a Manifest);

/// What kind of change leads from one to the other.
pub(super) fn kind_of(from: Option<Rolled<'_>>, to: Rolled<'_>) -> Kind {
    let Some((from, mounts, manifest)) = from else { return Kind::First };
    if from.settings != to.0.settings {
        return Kind::Settings;
    }
    if from.generation == to.0.generation {
        return Kind::Repair;
    }
    if mounts.networks != to.1.networks {
        return Kind::Network;
    }
    if manifest.services == to.2.services {
        // Other files for the same services.
        return Kind::Settings;
    }
    let same = manifest.services.len() == to.2.services.len()
        && manifest.services.iter().all(|(id, old)| {
            to.2.services.get(id).is_some_and(|new| {
                let endpoints = || new.contribution.endpoints.clone();
                old.contribution == new.contribution
                    || Contribution { endpoints: endpoints(), ..Contribution::clone(&old.contribution) }
                        == *new.contribution
            })
        });
    if same { Kind::Tasks } else { Kind::Service }
}

pub(super) fn service_write(
    spec: Value,
    attempt: Attempt,
    (reason, kind): (String, Kind),
    before: &Mounts,
    after: &Mounts,
) -> ServiceWrite {
    ServiceWrite {
        spec,
        attempt,
        reason,
        kind,
        joins: after.networks.difference(&before.networks).cloned().collect(),
        leaves: before.networks.difference(&after.networks).cloned().collect(),
    }
}

fn check_size(path: &str, config: &NewConfig) -> Result<(), Impossible> {
    if (1..=limits::CONFIG_BYTES).contains(&config.data.len()) {
        return Ok(());
    }
    Err(Impossible {
        reason: format!("the file {path} has {} bytes, 1 to {} are possible", config.data.len(), limits::CONFIG_BYTES),
        advice: "this is a fault of Dovetail: please report it".into(),
    })
}
