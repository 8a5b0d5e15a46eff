//! What to remove.

use std::collections::BTreeSet;

use model::{Bundle, ConfigId};
use swarm::{NewConfig, RawService};

use super::Look;
use crate::live::Live;
use crate::memory::Memory;
use crate::objects::new_file;
use crate::rollout::Judgement;
use crate::spec::{Mounts, Owned};
use crate::step::Step;

impl Look<'_> {
    /// What nothing needs any more. Kept: what the live spec, the spec before it, the one that is about to be `written` or
    /// the target refers to, the last good, what a rollout that is watched may yet be taken back to, and the manifests of what is
    /// held or was until a while ago. Nothing is removed before the rollout is known to work.
    pub(super) fn garbage(
        &self,
        service: &RawService,
        live: &Live,
        bundle: &Bundle,
        (judgement, effective): (&Judgement, &Owned),
        written: Option<&Mounts>,
        memory: &Memory,
    ) -> Vec<Step> {
        if !judgement.works() {
            return Vec::new();
        }
        let objects = &self.inventory.objects;
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let previous = service.previous_spec.as_ref().map(Mounts::read).unwrap_or_default();
        let good = memory.good.as_ref();
        let before = memory.soak.as_ref().map(|soak| &soak.before);
        let recipes =
            good.into_iter().chain(before).filter_map(|good| good.recipe.as_ref()).map(|recipe| &recipe.mounts);
        for mounts in [&live.mounts, &previous].into_iter().chain(recipes).chain(written) {
            names.extend(mounts.files.values().map(|reference| reference.name.as_str()));
        }
        let files: Vec<NewConfig> =
            bundle.files.values().map(|file| new_file(self.settings, &file.content, file.digest)).collect();
        names.extend(files.iter().map(|file| file.name.as_str()));
        let mut ids: BTreeSet<&ConfigId> = memory.in_use.iter().collect();
        for (generation, stored) in objects.generations() {
            let wanted = *generation == bundle.generation()
                || good.into_iter().chain(before).any(|good| good.generation() == *generation);
            let held = stored.held.as_ref().is_some_and(|held| self.remembers(held, effective));
            if wanted || held {
                ids.extend(&stored.parts);
            }
        }
        let unneeded =
            objects.iter().filter(|config| !names.contains(config.name.as_str()) && !ids.contains(&config.id));
        unneeded.map(|config| Step::RemoveConfig { id: config.id.clone(), name: config.name.clone() }).collect()
    }
}
