//! Everything last read, folded into [`Desired`].
//!
//! # Guarantees
//! - The same readings give the same [`Desired`], in whatever order and in however many steps they came.
//! - A service that routes as before keeps its very allocation, and so does whatever is built from it.
//! - A service about which something could not be read stays as it was; its neighbours do not notice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Desired, ServiceId};
use tokio::time::Instant;

use crate::facts::{Facts, TaskRead, Unread, task_mode};
use crate::lookups::Lookups;
use crate::request::{self, Reading};
use crate::significance::{Sighting, Significance, significance};

/// Services as read, with what their labels say.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) candidates: BTreeMap<ServiceId, Candidate>,
    /// Who else is there; `None` if this is not about the whole cluster but about a few known candidates
    /// whose tasks are read again.
    bystanders: Option<BTreeSet<ServiceId>>,
}

#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) read: swarm::Service,
    pub(crate) reading: Reading,
}

impl Listing {
    /// A list of all services of the cluster.
    pub(crate) fn whole(services: Vec<swarm::Service>) -> Self {
        let mut candidates = BTreeMap::new();
        let mut bystanders = BTreeSet::new();
        for read in services {
            match request::read(&read) {
                Some(reading) => {
                    candidates.insert(read.id.clone(), Candidate { read, reading });
                }
                None => {
                    bystanders.insert(read.id);
                }
            }
        }
        Self { candidates, bystanders: Some(bystanders) }
    }

    /// Known candidates in task mode, as they were read last.
    pub(crate) fn again(index: &Index, ids: &BTreeSet<ServiceId>) -> Self {
        let known = ids.iter().filter_map(|id| index.candidates.get(id)).filter_map(|facts| {
            let reading = request::read(&facts.read)?;
            Some((facts.read.id.clone(), Candidate { read: facts.read.clone(), reading }))
        });
        Self { candidates: known.collect(), bystanders: None }
    }

    /// The candidates in task mode.
    pub(crate) fn in_task_mode(&self) -> impl Iterator<Item = (&ServiceId, &swarm::Service)> {
        self.candidates
            .iter()
            .filter(|(_, candidate)| task_mode(&candidate.reading.asked).is_some())
            .map(|(id, candidate)| (id, &candidate.read))
    }
}

/// The tasks that a pass listed, by service; `None` where the list failed.
pub(crate) type TaskReads = BTreeMap<ServiceId, Option<Vec<swarm::Task>>>;

/// Finds what was read of one service's tasks.
pub(crate) fn tasks_of<'a>(reads: &'a TaskReads, id: &ServiceId) -> TaskRead<'a> {
    match reads.get(id) {
        Some(Some(tasks)) => TaskRead::Listed(tasks),
        Some(None) => TaskRead::Failed,
        None => TaskRead::NotAsked,
    }
}

/// All candidates as last read.
#[derive(Debug, Default)]
pub(crate) struct Index {
    candidates: BTreeMap<ServiceId, Facts>,
    bystanders: BTreeSet<ServiceId>,
    desired: Desired,
}

/// What one reading changed.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// The services about which anything changed.
    pub(crate) changes: Vec<Change>,
    /// The services that stay as they were, because something could not be read.
    pub(crate) unread: Vec<(ServiceId, Unread)>,
}

#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) id: ServiceId,
    pub(crate) name: String,
    pub(crate) significance: Significance,
}

impl Folded {
    /// Whether [`Desired`] is another one.
    pub(crate) fn reaches_routing(&self) -> bool {
        self.changes.iter().any(|change| matches!(change.significance, Significance::Routing(_)))
    }
}

impl Index {
    pub(crate) fn desired(&self) -> &Desired {
        &self.desired
    }

    pub(crate) fn get(&self, id: &ServiceId) -> Option<&Facts> {
        self.candidates.get(id)
    }

    pub(crate) fn candidates(&self) -> impl Iterator<Item = (&ServiceId, &Facts)> {
        self.candidates.iter()
    }

    /// Takes in one reading.
    pub(crate) fn fold(&mut self, listing: Listing, tasks: &TaskReads, lookups: &Lookups, now: Instant) -> Folded {
        let mut folded = Folded::default();
        if let Some(bystanders) = &listing.bystanders {
            let left: Vec<ServiceId> =
                self.candidates.keys().filter(|id| !listing.candidates.contains_key(*id)).cloned().collect();
            for id in left {
                let new = if bystanders.contains(&id) { Sighting::Bystander } else { Sighting::Absent };
                self.remove(id, new, &mut folded);
            }
        }
        for (id, candidate) in listing.candidates {
            let tasks = tasks_of(tasks, &id);
            let unread = self.put(id, candidate, tasks, lookups, now, &mut folded);
            folded.unread.extend(unread);
        }
        if let Some(bystanders) = listing.bystanders {
            self.bystanders = bystanders;
        }
        if folded.reaches_routing() {
            self.fold_networks();
            self.fold_secrets();
        }
        folded
    }

    fn remove(&mut self, id: ServiceId, new: Sighting<'_>, folded: &mut Folded) {
        let Some(old) = self.candidates.remove(&id) else { return };
        self.desired.services.remove(&id);
        let significance = significance(Sighting::Candidate(&old), new);
        folded.changes.push(Change { id, name: old.read.name, significance });
    }

    /// Puts a candidate in; tells what kept it from being read, if anything did.
    fn put(
        &mut self,
        id: ServiceId,
        candidate: Candidate,
        tasks: TaskRead<'_>,
        lookups: &Lookups,
        now: Instant,
        folded: &mut Folded,
    ) -> Option<(ServiceId, Unread)> {
        let old = self.candidates.get(&id);
        let new = match Facts::new(candidate.read, candidate.reading, tasks, lookups, old, now) {
            Ok(new) => new,
            Err(unread) => return Some((id, unread)),
        };
        let sighting = match old {
            Some(old) => Sighting::Candidate(old),
            None if self.bystanders.contains(&id) => Sighting::Bystander,
            None => Sighting::Absent,
        };
        let significance = significance(sighting, Sighting::Candidate(&new));
        if let Significance::Routing(_) = significance {
            self.desired.services.insert(id.clone(), Arc::clone(&new.service));
        }
        if significance != Significance::Unchanged {
            folded.changes.push(Change { id: id.clone(), name: new.read.name.clone(), significance });
        }
        self.candidates.insert(id, new);
        None
    }

    fn fold_networks(&mut self) {
        let networks: imbl::OrdMap<_, _> = self
            .candidates
            .values()
            .flat_map(|facts| &facts.networks)
            .map(|(id, network)| (id.clone(), Arc::clone(network)))
            .collect();
        if networks != self.desired.networks {
            self.desired.networks = networks;
        }
    }

    fn fold_secrets(&mut self) {
        let secrets: imbl::OrdMap<_, _> = self
            .candidates
            .values()
            .flat_map(|facts| &facts.secrets)
            .map(|(name, id)| (name.clone(), id.clone()))
            .collect();
        if secrets != self.desired.secrets {
            self.desired.secrets = secrets;
        }
    }
}
