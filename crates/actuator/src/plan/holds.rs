//! What is held, and what is to be.

use model::Digest;

use super::{Failure, Look};
use crate::hold::{Blame, Held};
use crate::live::{Attempt, Live};
use crate::memory::Good;
use crate::spec::Owned;
use crate::step::Step;

impl<'a> Look<'a> {
    pub(super) fn in_force(&self, held: &Held, settings: &str) -> bool {
        held.in_force(settings, self.settings.hold_retry, self.now)
    }

    /// Whether it holds anything under the settings that are rolled out, or under those that are wanted.
    pub(super) fn matters(&self, held: &Held, effective: &Owned) -> bool {
        [effective.digest, self.owned.digest].iter().any(|settings| self.in_force(held, &settings.short()))
    }

    /// Whether it may yet matter how often it failed.
    pub(super) fn remembers(&self, held: &Held, effective: &Owned) -> bool {
        [effective.digest, self.owned.digest].iter().any(|settings| held.is_remembered(&settings.short(), self.now))
    }

    /// The hold on a generation under these settings.
    pub(super) fn bundle_hold(&self, generation: Digest, settings: Digest) -> Option<&'a Held> {
        let held = self.inventory.objects.generations().get(&generation)?.held.as_ref()?;
        (held.blame == Blame::Bundle && self.in_force(held, &settings.short())).then_some(held)
    }

    /// The hold on these settings.
    pub(super) fn settings_hold(&self, settings: Digest) -> Option<&'a Held> {
        let held = self.inventory.objects.held();
        held.filter(|held| held.blame == Blame::Settings).find(|held| self.in_force(held, &settings.short()))
    }

    pub(super) fn holds_attempt(&self, attempt: Attempt) -> bool {
        self.bundle_hold(attempt.generation, attempt.settings).is_some()
            || self.settings_hold(attempt.settings).is_some()
    }

    /// Whether it was ever written down that this attempt failed, in force or not.
    pub(super) fn was_held(&self, attempt: Attempt) -> bool {
        self.inventory.objects.held().any(|held| {
            held.settings == attempt.settings_name()
                && (held.blame == Blame::Settings || held.generation == attempt.generation)
        })
    }

    /// The holds to write for a failure. If the settings changed too, they are blamed first: the same routes
    /// are tried again under the settings that worked, and are blamed if they fail then.
    pub(super) fn new_holds(&self, failure: &Failure, live: Option<&Live>, good: Option<&Good>) -> Vec<(Held, Step)> {
        if failure.blame == Some(Blame::Bundle) {
            return self.new_hold(failure, Blame::Bundle, failure.attempt).into_iter().collect();
        }
        let recipe = good.and_then(|good| good.recipe.as_ref());
        let base = if failure.by_hand { live.map(|live| live.attempt) } else { recipe.map(|recipe| recipe.attempt) };
        let settings_changed = base.filter(|base| base.settings != failure.attempt.settings);
        let routes_changed = base.is_none_or(|base| base.generation != failure.attempt.generation);
        let mut holds = Vec::new();
        if let Some(base) = settings_changed {
            holds.push((Blame::Settings, Attempt { generation: base.generation, ..failure.attempt }));
        }
        if routes_changed && (settings_changed.is_none() || failure.by_hand) {
            // Under the settings that stand, lest the same routes come back under those.
            let settings = settings_changed.unwrap_or(failure.attempt).settings;
            holds.push((Blame::Bundle, Attempt { settings, ..failure.attempt }));
        }
        holds.into_iter().filter_map(|(blame, on)| self.new_hold(failure, blame, on)).collect()
    }

    pub(super) fn new_hold(&self, failure: &Failure, blame: Blame, on: Attempt) -> Option<(Held, Step)> {
        let objects = &self.inventory.objects;
        let (generation, settings) = (on.generation, on.settings_name());
        let before = objects.held().find(|held| {
            held.blame == blame
                && held.settings == settings
                && (blame == Blame::Settings || held.generation == generation)
        });
        if before.is_some_and(|held| self.in_force(held, &settings)) {
            return None;
        }
        let id = match before {
            Some(held) => &held.config,
            None => objects.generations().get(&generation)?.parts.first()?,
        };
        let config = objects.get(id)?;
        let held = Held {
            generation: before.map_or(generation, |held| held.generation),
            config: id.clone(),
            blame,
            settings,
            reason: failure.reason.clone(),
            since: self.now.seconds(),
            attempts: if failure.by_hand { 0 } else { before.map_or(1, |held| held.attempts.saturating_add(1)) },
            // Settings can wait: routes go on under those before.
            rejected: failure.rejected && blame == Blame::Bundle,
        };
        let labelled = swarm::Config { labels: held.write(config), ..config.clone() };
        let step = Step::HoldGeneration {
            config: labelled,
            generation: failure.attempt.generation,
            reason: held.reason.clone(),
        };
        Some((held, step))
    }
}
