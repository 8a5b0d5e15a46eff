//! What to tell the reconciler and people.

use std::sync::Arc;

use model::{Bundle, Contribution, Digest, Fragment, Hold, Manifest, Published, SecretMount};
use swarm::RawService;

use super::Look;
use crate::hold::{Blame, Held};
use crate::live::Live;
use crate::memory::Memory;
use crate::rollout::Judgement;
use crate::spec::Owned;
use crate::status::{HoldStatus, Phase, Status};
use crate::tally::Tally;

impl Look<'_> {
    pub(super) fn published(&self, live: &Live, memory: &Memory, effective: &Owned) -> Published {
        let last_good = match &memory.good {
            Some(good) => Arc::clone(&good.manifest),
            None => Arc::new(self.nothing()),
        };
        let holds = self.holds_beside(last_good.generation, effective).collect();
        Published::Live { manifest: Arc::clone(&live.manifest), holds, last_good }
    }

    /// What is published while there is no proxy service: nothing. What is held is told all the same, or the same that
    /// was refused would be asked for again.
    pub(super) fn published_without_service(&self, memory: &Memory) -> Published {
        let good = memory.good.as_ref().map_or_else(|| Arc::new(self.nothing()), |good| Arc::clone(&good.manifest));
        let mut holds: Vec<Hold> = self.holds_beside(good.generation, &self.owned).collect();
        // Who removes the service has overruled what somebody decided about it.
        holds.retain(|hold| !hold.by_hand);
        if holds.is_empty() {
            return Published::Nothing;
        }
        Published::Live { manifest: Arc::new(self.nothing()), last_good: good, holds }
    }

    fn holds_beside(&self, good: Digest, effective: &Owned) -> impl Iterator<Item = Hold> {
        let generations = self.inventory.objects.generations();
        let others = generations.iter().filter(move |(generation, _)| **generation != good);
        let settings = effective.digest;
        others.filter_map(move |(generation, stored)| {
            let held = self.bundle_hold(*generation, settings)?;
            let services = stored.manifest.as_ref().map(|manifest| &manifest.services);
            let fragments = services.into_iter().flatten().map(|(id, publication)| {
                let Contribution { network, secrets, .. } = &*publication.contribution;
                let named = secrets.iter().any(|(name, id)| SecretMount::new(name, id).is_named_in(&held.reason));
                let named = named.then(|| publication.contribution.secrets_digest());
                (id.clone(), Fragment { digest: publication.fragment, network: network.clone(), named })
            });
            Some(Hold {
                generation: *generation,
                fragments: fragments.collect(),
                setup: stored.manifest.as_ref().map(|manifest| manifest.setup.clone()).unwrap_or_default(),
                reason: held.reason.clone(),
                by_hand: held.attempts == 0,
            })
        })
    }

    /// The last good of a proxy service whose first rollout has not ended yet.
    pub(super) fn nothing(&self) -> Manifest {
        Manifest {
            cluster: self.settings.cluster.clone(),
            generation: Bundle::digest(&Default::default(), &Default::default(), &Default::default()),
            reason: "nothing was published before".into(),
            setup: serde_json::Value::Null,
            services: Default::default(),
        }
    }

    pub(super) fn phase_of(&self, live: &Live, judgement: &Judgement, tally: &Tally, memory: &Memory) -> Phase {
        let generation = live.attempt.generation;
        let (tasks_done, tasks_total) = (tally.done, tally.total);
        match judgement {
            Judgement::Converged => Phase::InStep,
            Judgement::Rolling { waits_for } => {
                let rollout = memory.rollout.as_ref();
                Phase::Rolling {
                    generation,
                    seconds: rollout.map_or(0, |rollout| self.now.since(rollout.since).as_secs()),
                    tasks_done,
                    tasks_total,
                    reason: rollout.map(|rollout| rollout.reason.clone()).unwrap_or_default(),
                    waits_for: format!("{waits_for}{}", tally.at()),
                }
            }
            Judgement::Blocked { waits_for, .. }
            | Judgement::Halted { reason: waits_for }
            | Judgement::Failed { reason: waits_for } => {
                let name = &self.settings.proxy.service_name;
                let advice = format!("see docker service ps --no-trunc {name}");
                let waits_for = format!("{waits_for}{}", tally.at());
                Phase::Blocked { generation, tasks_done, tasks_total, waits_for, advice }
            }
        }
    }

    pub(super) fn held_phase(&self, held: &Held) -> Phase {
        let cluster = &self.settings.cluster;
        Phase::Held {
            blame: held.blame,
            generation: held.generation,
            reason: held.reason.clone(),
            retry_in_seconds: held.wait(self.settings.hold_retry, self.now).map(|wait| wait.as_secs()),
            advice: match held.blame {
                Blame::Bundle => {
                    format!(
                        "put right what the reason names; a changed route or image is tried at once, the same again with: dovetail retry {cluster}"
                    )
                }
                Blame::Settings => {
                    format!(
                        "put the proxy's settings right, the image above all; the same are tried again with: dovetail retry {cluster}"
                    )
                }
            },
        }
    }

    pub(super) fn status(
        &self,
        phase: Phase,
        present: Option<(&RawService, Option<&Live>)>,
        memory: &Memory,
        effective: &Owned,
    ) -> Status {
        let live = present.and_then(|(_, live)| live);
        let held = self.inventory.objects.held().filter(|held| self.matters(held, effective));
        Status {
            cluster: self.settings.cluster.clone(),
            service: self.settings.proxy.service_name.clone(),
            phase,
            live: live.map(|live| live.attempt.generation),
            target: self.bundle.map(Bundle::generation),
            networks: live.map(|live| live.mounts.networks.clone()).unwrap_or_default(),
            image: present.and_then(|(service, _)| {
                service.spec.pointer("/TaskTemplate/ContainerSpec/Image")?.as_str().map(str::to_owned)
            }),
            missing: None,
            holds: held
                .map(|held| HoldStatus {
                    generation: held.generation,
                    blame: held.blame,
                    reason: held.reason.clone(),
                    attempts: held.attempts,
                    retry_in_seconds: held.wait(self.settings.hold_retry, self.now).map(|wait| wait.as_secs()),
                })
                .collect(),
            last_rollout: memory.last.clone(),
            unchecked: memory.unchecked.as_ref().map(|(_, reason)| reason.clone()),
            trouble: None,
        }
    }
}
