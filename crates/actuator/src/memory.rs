//! What an actuator remembers between two looks. Nothing in it is needed to be right, only to be quick and to
//! tell people more: a fresh memory on the same cluster comes to the same end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{ConfigId, Digest, Manifest, NetworkId, ServiceId, TaskId};

use crate::check::Watched;
use crate::fence::Fence;
use crate::live::{Attempt, Live};
use crate::moment::Moment;
use crate::rollout::Rollout;
use crate::spec::{Mounts, Owned};
use crate::status::Ended;

/// What an actuator remembers between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The rollout that runs.
    pub rollout: Option<Rollout>,
    /// What was last seen to work.
    pub good: Option<Good>,
    /// What Swarm called complete a short while ago.
    pub soak: Option<Soak>,
    /// The version of the proxy service at which its rollout was seen to have ended: while it stands, nobody
    /// asks for tasks.
    pub settled: Option<u64>,
    /// What the Engine last refused to write to the service, until a hold says so.
    pub refused: Option<Refused>,
    /// The check that is due or goes on.
    pub check: Option<Watched>,
    /// What is rolled out without a check that was due, and why.
    pub unchecked: Option<(Digest, String)>,
    /// A check that the Engine refuses to remove.
    pub stuck_check: Option<ServiceId>,
    /// Labels of objects that the Engine refuses to write: holds that are known here alone.
    pub unwritten: BTreeMap<ConfigId, BTreeMap<String, String>>,
    /// Networks that could be left, and since when nothing else is to do.
    pub leaving: Option<(BTreeSet<NetworkId>, Moment)>,
    /// Objects that could not be removed; not tried again before the next rollout.
    pub in_use: BTreeSet<ConfigId>,
    /// Which operator this is, settled at the first look.
    pub fence: Option<Fence>,
    /// The last rollout that ended.
    pub last: Option<Ended>,
}

/// A write that the Engine refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it tried.
    pub attempt: Attempt,
    /// The Engine's words.
    pub reason: String,
    /// It was refused after another look, too. Once may be a race: another operator has removed an object that the look
    /// before still showed.
    pub again: bool,
}

/// A generation that works, or that must be taken for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Good {
    /// What it publishes.
    pub manifest: Arc<Manifest>,
    /// How to write it again; absent where only its manifest was found.
    pub recipe: Option<Recipe>,
}

/// A rollout that ended well so shortly ago that it may yet turn out to be a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Soak {
    /// What was rolled out.
    pub attempt: Attempt,
    /// The last good before it.
    pub before: Good,
    /// When it ended; later, when a proxy ended since.
    pub since: Moment,
    /// The tasks that had failed by then.
    pub ended: BTreeSet<TaskId>,
    /// How many have failed since.
    pub failures: usize,
}

/// How to write a generation again.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What it was.
    pub attempt: Attempt,
    /// What it mounts.
    pub mounts: Mounts,
    /// Its settings.
    pub applied: Owned,
}

impl Good {
    /// What this spec says.
    pub fn of(live: &Live) -> Self {
        Self {
            manifest: Arc::clone(&live.manifest),
            recipe: Some(Recipe { attempt: live.attempt, mounts: live.mounts.clone(), applied: live.applied.clone() }),
        }
    }

    /// Its generation.
    pub fn generation(&self) -> Digest {
        self.manifest.generation
    }

    /// Whether it is known that this attempt works.
    pub fn is(&self, attempt: Attempt) -> bool {
        self.recipe.as_ref().is_some_and(|recipe| recipe.attempt == attempt)
    }
}
