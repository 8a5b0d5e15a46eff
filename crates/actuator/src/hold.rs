//! Holds: what failed, written as labels onto the manifest of its generation, so that the next operator
//! process knows it too.
//!
//! A hold is on one of two things. A *bundle* is held when it failed under settings that are known to work:
//! its routes are to blame. *Settings* are held when they failed with whatever bundle (an image that cannot be
//! pulled): routes go on being rolled out under the settings before. Either ends when the settings change.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ConfigId, Digest, labels};
use serde::Serialize;
use swarm::Config;

use crate::moment::Moment;

/// The longest wait for a retry.
const LONGEST_WAIT: Duration = Duration::from_secs(2 * 60 * 60);

/// The first wait after a node refused a task, which is mostly the node's own trouble: a manager that has just come
/// back knows no network yet, a registry was away.
const WAIT_FOR_NODE: Duration = Duration::from_secs(60);

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The generation.
    Bundle,
    /// The settings of the proxy service.
    Settings,
}

/// Something that failed and is not to be tried again yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The generation that the hold is written on; the one that is held if `blame` says so.
    pub generation: Digest,
    /// The config object that carries the labels.
    pub config: ConfigId,
    /// What is held.
    pub blame: Blame,
    /// The settings under which it failed: the first twelve digits of their digest.
    pub settings: String,
    /// What happened.
    pub reason: String,
    /// When, in seconds since 1970.
    pub since: u64,
    /// How many times it failed; 0 was somebody's decision, and no time ends it.
    pub attempts: u32,
    /// Whether it is routes whose task was refused by a node, and never ran.
    pub rejected: bool,
}

impl Held {
    /// Reads a hold from a manifest's labels. Labels that do not read hold nothing.
    pub fn read(config: &Config) -> Option<Self> {
        let value = config.labels.get(labels::HELD)?;
        let mut words = value.splitn(3, ' ');
        let blame = match words.next()? {
            "bundle" => Blame::Bundle,
            "settings" => Blame::Settings,
            _ => return None,
        };
        let settings = words.next()?.to_owned();
        let number = |label: &str| config.labels.get(label).and_then(|text| text.parse().ok());
        Some(Self {
            generation: Digest::parse(config.labels.get(labels::GENERATION)?)?,
            config: config.id.clone(),
            blame,
            settings,
            reason: words.next().unwrap_or_default().to_owned(),
            since: number(labels::HELD_SINCE)?,
            attempts: u32::try_from(number(labels::HELD_ATTEMPTS)?).unwrap_or(u32::MAX),
            rejected: config.labels.contains_key(labels::HELD_REJECTED),
        })
    }

    /// The labels that say so, beside those that the object has.
    pub fn write(&self, config: &Config) -> BTreeMap<String, String> {
        let blame = match self.blame {
            Blame::Bundle => "bundle",
            Blame::Settings => "settings",
        };
        let mut written = config.labels.clone();
        written.insert(labels::HELD.into(), format!("{blame} {} {}", self.settings, self.reason));
        written.insert(labels::HELD_SINCE.into(), self.since.to_string());
        written.insert(labels::HELD_ATTEMPTS.into(), self.attempts.to_string());
        if self.rejected {
            written.insert(labels::HELD_REJECTED.into(), "true".into());
        } else {
            written.remove(labels::HELD_REJECTED);
        }
        written
    }

    /// The same, due at once, also by a clock that is behind this one. It stays written that it failed: a fresh process
    /// would take what Swarm still shows of that failure for a new one.
    pub fn released(&self, now: Moment) -> Self {
        let since = now.0.saturating_sub(LONGEST_WAIT * 2).as_secs();
        Self { since, attempts: self.attempts.max(1), ..self.clone() }
    }

    /// How long until it is due for a retry; `None` if no time ends it, zero if it is due.
    pub fn wait(&self, retry: Duration, now: Moment) -> Option<Duration> {
        let retries = self.attempts.checked_sub(1)?;
        let wait = match retries.checked_sub(u32::from(self.rejected)) {
            None => retry.min(WAIT_FOR_NODE),
            Some(doublings) => retry.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_WAIT),
        };
        let since = Moment(Duration::from_secs(self.since));
        // A time far ahead is a broken clock's, and would hold for ever.
        if since.since(now) > LONGEST_WAIT {
            return Some(Duration::ZERO);
        }
        Some(Moment(since.0 + wait).since(now))
    }

    /// Whether it holds what is to be tried under these settings.
    pub fn in_force(&self, settings: &str, retry: Duration, now: Moment) -> bool {
        self.settings == settings && self.wait(retry, now) != Some(Duration::ZERO)
    }

    /// Whether it is worth keeping, in force or not: what fails again within hours of its retry waits longer.
    pub fn is_remembered(&self, settings: &str, now: Moment) -> bool {
        let since = Moment(Duration::from_secs(self.since));
        let is_recent = now.since(since) < LONGEST_WAIT * 3 && since.since(now) <= LONGEST_WAIT;
        self.settings == settings && (self.attempts == 0 || is_recent)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Timestamp;

    use super::*;

    const RETRY: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn held(attempts: u32) -> Held {
        Held {
            generation: Digest::of(b"g"),
            config: "c".into(),
            blame: Blame::Bundle,
            settings: "0123456789ab".into(),
            reason: "no address is left in net1".into(),
            since: 1_000_000,
            attempts,
            rejected: false,
        }
    }

    #[test]
    fn a_hold_reads_back_from_its_labels() {
        let mut config = Config {
            id: "c".into(),
            version: 1,
            created_at: Timestamp(0),
            name: "n".into(),
            labels: BTreeMap::from([(labels::GENERATION.into(), Digest::of(b"g").to_string())]),
            data: Arc::from(*b"{}"),
        };
        assert_eq!(Held::read(&config), None);
        config.labels = held(3).write(&config);
        assert_eq!(Held::read(&config), Some(held(3)));
        let rejected = Held { rejected: true, ..held(3) };
        config.labels = rejected.write(&config);
        assert_eq!(Held::read(&config), Some(rejected));
        config.labels = held(4).write(&config);
        assert_eq!(Held::read(&config), Some(held(4)), "another failure says another thing");
        config.labels.insert(labels::HELD.into(), "nonsense".into());
        assert_eq!(Held::read(&config), None);
    }

    #[test]
    fn a_hold_ends_with_time_or_with_the_settings() {
        let settings = "0123456789ab";
        for (attempts, seconds, in_force) in [
            (1, 0, true),
            (1, 599, true),
            (1, 600, false),
            (2, 1199, true),
            (2, 1200, false),
            (40, 7199, true),
            (40, 7200, false),
            (0, 1_000_000_000, true),
        ] {
            let now = at(1_000_000 + seconds);
            assert_eq!(held(attempts).in_force(settings, RETRY, now), in_force, "{attempts} after {seconds}");
        }
        for (attempts, seconds, in_force) in
            [(1, 59, true), (1, 60, false), (2, 599, true), (2, 600, false), (3, 1199, true)]
        {
            let (now, held) = (at(1_000_000 + seconds), Held { rejected: true, ..held(attempts) });
            assert_eq!(held.in_force(settings, RETRY, now), in_force, "{attempts} after {seconds}, refused by a node");
            let sooner = Duration::from_secs(5);
            assert_eq!(held.in_force(settings, sooner, at(1_000_005)), attempts == 3, "a shorter wait is kept");
        }
        assert!([0, 1, 40].iter().all(|attempts| !held(*attempts).released(at(1_000_000)).in_force(
            settings,
            RETRY,
            at(1_000_000)
        )));
        assert!(!held(1).in_force("another", RETRY, at(1_000_000)));
        for (attempts, seconds, remembered) in [(1, 21_599, true), (1, 21_600, false), (0, 1_000_000_000, true)] {
            let now = at(1_000_000 + seconds);
            assert_eq!(held(attempts).is_remembered(settings, now), remembered, "{attempts} after {seconds}");
        }
        let released = held(1).released(at(1_000_000));
        assert!(released.is_remembered(settings, at(1_000_000)) && !released.is_remembered(settings, at(1_007_200)));
        assert!(!held(1).is_remembered("another", at(1_000_000)));
        // Written by a clock that was ahead: by up to the longest wait it is believed.
        assert!(held(1).in_force(settings, RETRY, at(1_000_000 - 7200)));
        assert!(!held(1).in_force(settings, RETRY, at(1_000_000 - 7201)));
        assert!(!held(1).is_remembered(settings, at(1_000_000 - 7201)));
    }
}
