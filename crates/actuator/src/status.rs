//! How one cluster's proxies stand, for people and programs.

use std::collections::BTreeSet;

use model::{ClusterName, Digest, NetworkId};
use serde::Serialize;

use crate::hold::Blame;
use crate::moment::Moment;
use crate::rollout::Rollout;
use crate::step::Kind;

/// How one cluster's proxies stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The cluster.
    pub cluster: ClusterName,
    /// The proxy service's name.
    pub service: String,
    /// What goes on.
    pub phase: Phase,
    /// The generation in the live spec.
    pub live: Option<Digest>,
    /// The generation that is wanted.
    pub target: Option<Digest>,
    /// The networks in the live spec.
    pub networks: BTreeSet<NetworkId>,
    /// The image in the live spec.
    pub image: Option<String>,
    /// How many proxies do not run although no rollout runs, and why; none if none was found to be missing. While
    /// nothing changes only a fresh look asks for the tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What failed and waits for a retry.
    pub holds: Vec<HoldStatus>,
    /// The last rollout that ended while this process watched.
    pub last_rollout: Option<Ended>,
    /// Why the last generation was rolled out without the check that was due, if it was.
    pub unchecked: Option<String>,
    /// Why the last look or write did not go through, if it did not.
    pub trouble: Option<String>,
}

/// What goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Phase {
    /// Nothing can be done yet.
    Waiting {
        /// For what.
        waits_for: String,
    },
    /// The proxies are what they should be.
    InStep,
    /// Something is to be written.
    Pending {
        /// Why.
        reason: String,
    },
    /// What is wanted is checked before it is rolled out.
    Checking {
        /// What is checked.
        generation: Digest,
        /// Since so many seconds, as far as this process knows.
        seconds: u64,
        /// Why it is to be rolled out.
        reason: String,
        /// What the check waits for.
        waits_for: String,
    },
    /// A rollout runs.
    Rolling {
        /// What is rolled out.
        generation: Digest,
        /// Since so many seconds, as far as this process knows.
        seconds: u64,
        /// Tasks that run it.
        tasks_done: u64,
        /// Tasks that should.
        tasks_total: u64,
        /// Why it was started.
        reason: String,
        /// What it waits for.
        waits_for: String,
    },
    /// A rollout cannot go on, and what is rolled out is not to blame.
    Blocked {
        /// What is rolled out.
        generation: Digest,
        /// Tasks that run it.
        tasks_done: u64,
        /// Tasks that should.
        tasks_total: u64,
        /// What it waits for.
        waits_for: String,
        /// What to do.
        advice: String,
    },
    /// What is wanted failed, and is not tried again yet.
    Held {
        /// What is held.
        blame: Blame,
        /// The generation that it happened to.
        generation: Digest,
        /// What happened.
        reason: String,
        /// The seconds until it is tried again; none if no time ends it.
        retry_in_seconds: Option<u64>,
        /// What to do.
        advice: String,
    },
    /// A person ordered that nothing is written. Routes are computed all the same.
    Paused {
        /// Who, when and why.
        reason: String,
        /// How many writes wait.
        waiting: usize,
    },
    /// An operator that was started later writes to these proxies; this one only looks.
    Fenced {
        /// Which.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// A service of our name is not ours.
    Foreign {
        /// Whose it is.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// What is published cannot be told.
    Unreadable {
        /// Why.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// What is wanted cannot be brought about.
    Impossible {
        /// Why.
        reason: String,
        /// What to do.
        advice: String,
    },
}

impl Phase {
    /// All of them, as words.
    pub const ALL: [&'static str; 12] = [
        "waiting",
        "in_step",
        "pending",
        "checking",
        "rolling",
        "blocked",
        "held",
        "paused",
        "fenced",
        "foreign",
        "unreadable",
        "impossible",
    ];

    /// The phase as one word; the same as in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Waiting { .. } => "waiting",
            Phase::InStep => "in_step",
            Phase::Pending { .. } => "pending",
            Phase::Checking { .. } => "checking",
            Phase::Rolling { .. } => "rolling",
            Phase::Blocked { .. } => "blocked",
            Phase::Held { .. } => "held",
            Phase::Paused { .. } => "paused",
            Phase::Fenced { .. } => "fenced",
            Phase::Foreign { .. } => "foreign",
            Phase::Unreadable { .. } => "unreadable",
            Phase::Impossible { .. } => "impossible",
        }
    }
}

/// A hold, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoldStatus {
    /// The generation that it is written on.
    pub generation: Digest,
    /// What is held.
    pub blame: Blame,
    /// What happened.
    pub reason: String,
    /// How many times; 0 was somebody's decision.
    pub attempts: u32,
    /// The seconds until it is tried again; none if no time ends it.
    pub retry_in_seconds: Option<u64>,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What was checked.
    pub generation: Digest,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took, from the moment when it was due, as far as this process saw.
    pub seconds: f64,
    /// Why it did not pass; empty if it did.
    pub reason: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The files are fine.
    Passed,
    /// They are not, and are not rolled out.
    Failed,
    /// It came to no end, and they are rolled out without.
    Skipped,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 3] = [Verdict::Passed, Verdict::Failed, Verdict::Skipped];

    /// The verdict as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        }
    }
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    /// What was rolled out.
    pub generation: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, as far as this process saw.
    pub seconds: f64,
    /// Why it was started.
    pub reason: String,
    /// The same for counting.
    pub kind: Kind,
}

impl Ended {
    /// Tells the end of a rollout, once.
    pub fn of(rollout: &Rollout, outcome: Outcome, now: Moment) -> Option<Self> {
        (!rollout.over).then(|| Self {
            generation: rollout.attempt.generation,
            outcome,
            seconds: (now.since(rollout.since).as_millis() as f64) / 1000.0,
            reason: rollout.reason.clone(),
            kind: rollout.kind,
        })
    }
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every task runs it.
    Completed,
    /// It failed and is held.
    Failed,
    /// Something else was rolled out before it ended.
    Superseded,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 3] = [Outcome::Completed, Outcome::Failed, Outcome::Superseded];

    /// The outcome as one word; the same as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::Superseded => "superseded",
        }
    }
}
