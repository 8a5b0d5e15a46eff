//! What an actuator counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::status::{Ended, Outcome, Verdict};
use crate::step::Kind;

/// What an actuator counts, from its start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rollouts that ended well.
    pub completed: AtomicU64,
    /// Rollouts that failed.
    pub failed: AtomicU64,
    /// Rollouts that something else took the place of.
    pub superseded: AtomicU64,
    checks: [AtomicU64; Verdict::ALL.len()],
    by_kind: [[AtomicU64; Kind::ALL.len()]; Outcome::ALL.len()],
    /// Config objects created or labelled, tries included.
    pub config_writes: AtomicU64,
    /// Creations and updates of the proxy service, tries included.
    pub service_writes: AtomicU64,
    /// Config objects removed.
    pub removals: AtomicU64,
    /// How long the last rollout that ended well took, in milliseconds; 0 before the first.
    pub last_rollout_milliseconds: AtomicU64,
    /// How long the last check that passed took, in milliseconds; 0 before the first.
    pub last_check_milliseconds: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Rollouts of this kind that ended so.
    pub fn rollouts(&self, outcome: Outcome, kind: Kind) -> u64 {
        self.by_kind[outcome as usize][kind as usize].load(Ordering::Relaxed)
    }

    /// Checks that ended so.
    pub fn checks(&self, verdict: Verdict) -> u64 {
        self.checks[verdict as usize].load(Ordering::Relaxed)
    }

    /// Counts a check that ended.
    pub(crate) fn checked(&self, verdict: Verdict, seconds: f64) {
        Self::add(&self.checks[verdict as usize]);
        if verdict == Verdict::Passed {
            self.last_check_milliseconds.store((seconds * 1000.0) as u64, Ordering::Relaxed);
        }
    }

    /// Counts a rollout that ended.
    pub(crate) fn ended(&self, ended: &Ended) {
        Self::add(&self.by_kind[ended.outcome as usize][ended.kind as usize]);
        Self::add(match ended.outcome {
            Outcome::Completed => &self.completed,
            Outcome::Failed => &self.failed,
            Outcome::Superseded => &self.superseded,
        });
        if ended.outcome == Outcome::Completed {
            self.last_rollout_milliseconds.store((ended.seconds * 1000.0) as u64, Ordering::Relaxed);
        }
    }
}
