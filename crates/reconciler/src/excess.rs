//! Who is refused where services do not fit beside each other: into a file, into all files, into nginx's tables of names.
//!
//! # Guarantees
//! - Whoever comes pays before whoever is live, and whoever changed before whoever did not: a service that stays as it is
//!   is not withdrawn for one that comes or grows. Among those alike the ones that need least are let in first, then the
//!   oldest; last is the one whose own text it is that fills the files.
//! - The outcome stays until something changes. Whoever was let in is live at the next look and whoever was refused is
//!   not, and so they come in the same order again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{ClusterName, Code, Contribution, Contributions, Group, Host, Problem, ProxySpec, Publications, ServiceId};

use crate::groups::{Groups, claims};
use crate::loads::Suspects;
use crate::nginx;

/// Says who has to be refused for all others to fit. `around` are all contributions that share a claim with a suspect.
pub(crate) fn refused(
    mut around: Contributions,
    suspects: &Suspects,
    live: &Publications,
    cluster: &ClusterName,
    setup: &nginx::Settings,
) -> Vec<(ServiceId, Problem)> {
    let nobody = Trial::of(Contributions::new(), cluster, setup);
    let mut refused = Vec::new();
    // Whoever fills all files alone would be tried again and again beside others.
    for id in &suspects.services {
        let Some(from) = around.get(id) else { continue };
        let (alone, place) = (nobody.with(Contributions::unit(id.clone(), Arc::clone(from))), Place::Files(id.clone()));
        let needs = alone.taken(&place);
        if needs > place.room() {
            around.remove(id);
            refused.push((id.clone(), alone.problem(&place, needs)));
        }
    }
    let mut trial = nobody.with(around);
    while let Some(place) = trial.overfull(suspects) {
        let (let_in, kept_out) = trial.let_in(&place, live);
        refused.extend(kept_out.into_iter().map(|rival| (rival.id, trial.problem(&place, rival.needs))));
        trial = trial.with(let_in);
    }
    refused
}

/// The largest of these numbers that fits; where one does not, none that is larger does. 0 always fits.
fn most(numbers: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut fitting, mut too_many) = (0, numbers + 1);
    while fitting + 1 < too_many {
        let middle = fitting.midpoint(too_many);
        *(if fits(middle) { &mut fitting } else { &mut too_many }) = middle;
    }
    fitting
}

/// Where there is only so much room.
enum Place {
    /// One file, with the group of which this is the first host.
    File(Option<Host>),
    /// All files, for the text of one service, which stands in each group that it is in.
    Files(ServiceId),
    /// A bucket of a table of names.
    Table(nginx::Bucket),
}

impl Place {
    /// How much there is.
    fn room(&self) -> usize {
        match self {
            Self::File(_) => nginx::PIECE_LIMIT,
            Self::Files(_) => nginx::SERVICE_LIMIT,
            Self::Table(_) => nginx::BUCKET_LIMIT,
        }
    }
}

/// How a service stands to what is live, in the order in which services are let in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    AsBefore,
    Changed,
    New,
}

/// Somebody who needs room.
struct Rival {
    id: ServiceId,
    contribution: Arc<Contribution>,
    /// The bytes that it would need by itself.
    needs: usize,
}

/// What it would come to if these services were served and nobody else.
struct Trial<'a> {
    spec: ProxySpec,
    setup: &'a nginx::Settings,
}

impl<'a> Trial<'a> {
    fn of(contributions: Contributions, cluster: &ClusterName, setup: &'a nginx::Settings) -> Self {
        let Groups { hosts, default_backend, .. } = Groups::of(&contributions);
        let endpoints = contributions.iter().map(|(id, from)| (id.clone(), Arc::new(from.endpoints.clone()))).collect();
        let nothing = ProxySpec::empty(cluster.clone());
        Self { spec: ProxySpec { hosts, default_backend, endpoints, contributions, ..nothing }, setup }
    }

    fn with(&self, contributions: Contributions) -> Self {
        Self::of(contributions, &self.spec.cluster, self.setup)
    }

    /// A place of which more is taken than there is.
    fn overfull(&self, suspects: &Suspects) -> Option<Place> {
        let groups = suspects.claims.iter().filter_map(|claim| self.spec.group_of(claim.as_ref()));
        let groups: BTreeSet<Option<&Host>> = groups.map(|group| group.hosts.first()).collect();
        let file = groups.into_iter().map(|first| Place::File(first.cloned()));
        let files = suspects.services.iter().map(|id| Place::Files(id.clone()));
        let tables = suspects.names.overfull().iter().map(|bucket| Place::Table(bucket.clone()));
        files.chain(file).chain(tables).find(|place| self.taken(place) > place.room())
    }

    /// How much of a place is taken.
    fn taken(&self, place: &Place) -> usize {
        match place {
            Place::File(first) => {
                self.spec.group_of(first.as_ref()).map_or(0, |group| nginx::size(group, &self.spec, self.setup))
            }
            Place::Files(id) => self.spec.contributions.get(id).map_or(0, |from| {
                let first = from.hosts.iter().take(1).cloned().collect();
                self.groups(from).count() * self.text_alone(id, from, first)
            }),
            Place::Table(bucket) => bucket.taken_by(self.spec.hosts.keys()),
        }
    }

    /// The groups that a service is in.
    fn groups(&self, from: &Contribution) -> impl Iterator<Item = &Arc<Group>> {
        let group = |claim: Option<&Host>| self.spec.group_of(claim).filter(|group| group.hosts.first() == claim);
        claims(from).filter_map(group)
    }

    /// All for whom there is room in a place, and those for whom there is none beside them.
    fn let_in(&self, place: &Place, live: &Publications) -> (Contributions, Vec<Rival>) {
        let (mut let_in, mut kept_out) = (self.spec.contributions.clone(), Vec::new());
        let by_standing = self.rivals(place, live);
        by_standing.values().flatten().for_each(|rival| drop(let_in.remove(&rival.id)));
        for mut rivals in by_standing.into_values() {
            let with = |count: usize| {
                let first = rivals[..count].iter().map(|rival| (rival.id.clone(), Arc::clone(&rival.contribution)));
                let_in.clone().union(first.collect())
            };
            let count = most(rivals.len(), |count| self.with(with(count)).taken(place) <= place.room());
            let_in = with(count);
            kept_out.extend(rivals.drain(count..));
        }
        (let_in, kept_out)
    }

    /// Who takes a part of a place, in the order in which they are let in.
    fn rivals(&self, place: &Place, live: &Publications) -> BTreeMap<Standing, Vec<Rival>> {
        let groups: Vec<&Arc<Group>> = match place {
            Place::File(first) => self.spec.group_of(first.as_ref()).into_iter().collect(),
            Place::Files(id) => {
                self.spec.contributions.get(id).into_iter().flat_map(|from| self.groups(from)).collect()
            }
            Place::Table(bucket) => {
                self.spec.hosts.iter().filter(|(host, _)| bucket.leads_to(host)).map(|(_, group)| group).collect()
            }
        };
        let hosts = groups.first().map(|group| &group.hosts);
        let ids: BTreeSet<&ServiceId> = groups.iter().flat_map(|group| group.services()).collect();
        let mut rivals: BTreeMap<Standing, Vec<Rival>> = BTreeMap::new();
        for (id, contribution) in ids.into_iter().filter_map(|id| self.spec.contributions.get_key_value(id)) {
            let standing = match live.get(id) {
                Some(publication) if publication.contribution == *contribution => Standing::AsBefore,
                Some(_) => Standing::Changed,
                None => Standing::New,
            };
            let needs = match place {
                Place::File(_) | Place::Files(_) => {
                    self.text_alone(id, contribution, hosts.cloned().unwrap_or_default())
                }
                Place::Table(bucket) => bucket.taken_by(contribution.hosts.iter()),
            };
            let rival = Rival { id: id.clone(), contribution: Arc::clone(contribution), needs };
            rivals.entry(standing).or_default().push(rival);
        }
        for alike in rivals.values_mut() {
            alike.sort_by_cached_key(|Rival { id, contribution, needs }| {
                let fills_it = matches!(place, Place::Files(filler) if filler == id);
                (fills_it, *needs, contribution.created_at, id.clone())
            });
        }
        rivals
    }

    /// The bytes that a service would need in a file by itself if these were its hosts, all of them answered alike.
    fn text_alone(&self, id: &ServiceId, contribution: &Contribution, hosts: BTreeSet<Host>) -> usize {
        let mut alone = contribution.clone();
        alone.options.host.redirects.clear();
        let first = hosts.first().cloned();
        (alone.default_backend, alone.hosts) = (hosts.is_empty(), hosts);
        let alone = Contributions::unit(id.clone(), Arc::new(alone));
        self.with(alone).taken(&Place::File(first))
    }

    /// Why somebody who needs so much by itself is kept out of a place.
    fn problem(&self, place: &Place, needs: usize) -> Problem {
        let (message, allowed) = match place {
            Place::File(_) => (
                format!("its hosts and tasks need {needs} bytes of the proxy's files"),
                format!("{} bytes for all services that share a host", place.room()),
            ),
            Place::Files(id) => {
                let from = self.spec.contributions.get(id);
                let (name, groups) = from.map_or(("", 0), |from| (&from.name, self.groups(from).count()));
                (
                    format!(
                        "with it the hosts of the service {name} are in {groups} groups, each answered in its own way, and \
                         its text in all of them takes {} bytes of the proxy's files",
                        self.taken(place)
                    ),
                    format!("{} bytes for one service", place.room()),
                )
            }
            Place::Table(_) => (
                format!(
                    "its hosts need {needs} bytes of a table in which nginx keeps names with the same hash together"
                ),
                format!("{} bytes for all names with the same hash", place.room()),
            ),
        };
        Problem::new(Code::TooLarge, message).allowed(allowed)
    }
}
