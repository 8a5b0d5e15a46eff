//! Everything last read, folded into [`Desired`].
//!
//! # Guarantees
//! - The same readings give the same [`Desired`], in whatever order and in however many steps they came.
//! - A service that routes as before keeps its very allocation, and so does whatever is built from it.
//! - A service about which something could not be read stays as it was; its neighbours do not notice. If nothing was
//!   known of it before, it is there as unread: left out, it would look like a service that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Addresses, ClusterName, Desired, Network, NetworkId, Service, ServiceId};
use swarm::RunningCount;
use tokio::time::Instant;

use crate::addresses::{Census, Fullness, Headcount, Proxies, crews};
use crate::facts::{Asked, Facts, TaskRead, task_mode};
use crate::lookups::Lookups;
use crate::request::{self, Reading};
use crate::significance::{Sighting, Significance, Turn, significance};

/// Services as read, with what their labels say.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) candidates: BTreeMap<ServiceId, Candidate>,
    /// Who else is there; `None` if this is not about the whole cluster but about a few known candidates
    /// whose tasks are read again.
    bystanders: Option<BTreeSet<ServiceId>>,
    /// Who is on which network; `None` likewise.
    census: Option<Census>,
}

/// A service that asks to be routed.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) read: swarm::Service,
    pub(crate) labels: Labels,
}

/// What a candidate's labels say.
#[derive(Clone, Debug)]
pub(crate) enum Labels {
    Read(Box<Reading>),
    /// What they said before: all that the Engine says of the service is what it said then.
    AsBefore(Arc<Service>),
}

impl Candidate {
    /// One whose labels have just been read.
    pub(crate) fn new(read: swarm::Service, reading: Reading) -> Self {
        Self { read, labels: Labels::Read(Box::new(reading)) }
    }

    /// What it asks for, or all that is wrong with that.
    pub(crate) fn asked(&self) -> &Asked {
        match &self.labels {
            Labels::Read(reading) => &reading.asked,
            Labels::AsBefore(service) => &service.asked,
        }
    }
}

impl Listing {
    /// A list of all services of the cluster, some of which may be proxies that the index knows of.
    pub(crate) fn whole(services: Vec<swarm::Service>, index: &Index) -> Self {
        let census = Census::take(&services, &index.proxies);
        let mut candidates = BTreeMap::new();
        let mut bystanders = BTreeSet::new();
        for read in services {
            let candidate = match index.candidates.get(&read.id) {
                Some(facts) if facts.read == read => {
                    Candidate { read, labels: Labels::AsBefore(Arc::clone(&facts.service)) }
                }
                _ => match request::read(&read) {
                    Some(reading) => Candidate::new(read, reading),
                    None => {
                        bystanders.insert(read.id);
                        continue;
                    }
                },
            };
            candidates.insert(candidate.read.id.clone(), candidate);
        }
        Self { candidates, bystanders: Some(bystanders), census: Some(census) }
    }

    /// Known candidates, as they were read last.
    pub(crate) fn again(index: &Index, ids: &BTreeSet<ServiceId>) -> Self {
        let known = ids.iter().filter_map(|id| index.candidates.get(id)).map(|facts| {
            let labels = Labels::AsBefore(Arc::clone(&facts.service));
            (facts.read.id.clone(), Candidate { read: facts.read.clone(), labels })
        });
        Self { candidates: known.collect(), bystanders: None, census: None }
    }

    /// The candidates in task mode.
    pub(crate) fn in_task_mode(&self) -> impl Iterator<Item = (&ServiceId, &swarm::Service)> {
        self.candidates
            .iter()
            .filter(|(_, candidate)| task_mode(candidate.asked()).is_some())
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
    proxies: BTreeMap<ClusterName, Proxies>,
    candidates: BTreeMap<ServiceId, Facts>,
    bystanders: BTreeSet<ServiceId>,
    census: Census,
    headcounts: BTreeMap<ClusterName, Headcount>,
    addresses: BTreeMap<NetworkId, Addresses>,
    desired: Desired,
}

/// What one reading changed.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// The services about which anything changed.
    pub(crate) changes: Vec<Change>,
    /// The networks about which anything changed.
    pub(crate) networks: Vec<(Arc<Network>, Significance)>,
    /// The services that stay as they were, or are there as unread, because something could not be read.
    pub(crate) unread: Vec<ServiceId>,
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
        let services = self.changes.iter().map(|change| change.significance);
        let networks = self.networks.iter().map(|(_, significance)| *significance);
        services.chain(networks).any(|significance| matches!(significance, Significance::Routing(_)))
    }
}

impl Index {
    /// An index that knows nothing yet.
    pub(crate) fn new(proxies: BTreeMap<ClusterName, Proxies>) -> Self {
        Self { proxies, ..Self::default() }
    }

    /// How full the candidates' networks are.
    pub(crate) fn addresses(&self) -> &BTreeMap<NetworkId, Addresses> {
        &self.addresses
    }

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
            self.put(id, candidate, tasks, lookups, now, &mut folded);
        }
        if let Some(bystanders) = listing.bystanders {
            self.bystanders = bystanders;
        }
        if let Some(census) = listing.census {
            self.census = census;
        }
        self.fold_networks(now, &mut folded);
        if folded.reaches_routing() {
            self.fold_secrets();
        }
        folded
    }

    fn remove(&mut self, id: ServiceId, new: Sighting<'_>, folded: &mut Folded) {
        let Some(old) = self.candidates.remove(&id) else { return };
        self.desired.services.remove(&id);
        let significance = significance(Turn::Service { old: Sighting::Candidate(&old), new });
        folded.changes.push(Change { id, name: old.read.name, significance });
    }

    /// Puts a candidate in.
    fn put(
        &mut self,
        id: ServiceId,
        candidate: Candidate,
        tasks: TaskRead<'_>,
        lookups: &Lookups,
        now: Instant,
        folded: &mut Folded,
    ) {
        let old = self.candidates.get(&id);
        let Ok(new) = Facts::new(candidate, tasks, lookups, old, now) else {
            folded.unread.push(id);
            return;
        };
        if !new.is_read() {
            folded.unread.push(id.clone());
        }
        let sighting = match old {
            Some(old) => Sighting::Candidate(old),
            None if self.bystanders.contains(&id) => Sighting::Bystander,
            None => Sighting::Absent,
        };
        let significance = significance(Turn::Service { old: sighting, new: Sighting::Candidate(&new) });
        if let Significance::Routing(_) = significance {
            self.desired.services.insert(id.clone(), Arc::clone(&new.service));
        }
        if significance != Significance::Unchanged {
            folded.changes.push(Change { id: id.clone(), name: new.read.name.clone(), significance });
        }
        self.candidates.insert(id, new);
    }

    /// How many proxies run and should, a cluster.
    pub(crate) fn running_proxies(&self) -> BTreeMap<ClusterName, RunningCount> {
        self.proxies.keys().map(|cluster| (cluster.clone(), self.census.running(cluster))).collect()
    }

    fn fold_networks(&mut self, now: Instant, folded: &mut Folded) {
        let crews = crews(&self.proxies, &self.census, &mut self.headcounts, now);
        let candidates = self.candidates.values().map(|facts| (&*facts.service, &facts.networks));
        let Fullness { addresses, mut shortages } = Fullness::of(candidates, &self.census, &crews);
        self.addresses = addresses;
        let mut networks = imbl::OrdMap::new();
        for (id, network) in self.candidates.values().flat_map(|facts| &facts.networks) {
            if networks.contains_key(id) {
                continue;
            }
            let no_room_for = shortages.remove(id).unwrap_or_default();
            let new = Network { no_room_for, ..Network::new(id.clone(), network.name.clone()) };
            let new = match self.desired.networks.get(id) {
                Some(old) if **old == new => Arc::clone(old),
                Some(old) => {
                    let new = Arc::new(new);
                    let significance = significance(Turn::Network { old, new: &new });
                    folded.networks.push((Arc::clone(&new), significance));
                    new
                }
                None => Arc::new(new),
            };
            networks.insert(id.clone(), new);
        }
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
