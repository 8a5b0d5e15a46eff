//! The calls of one pass: which to make is decided by plain functions, making them is the rest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use model::ServiceId;
use swarm::{Class, Error, Mode, TasksOf};
use tokio::time::{Instant, timeout_at};

use crate::crash_loops::CrashLoops;
use crate::facts::{Facts, TaskRead, network_keys, node_ids, secret_names, task_mode, updating};
use crate::index::{Index, Listing, TaskReads, tasks_of};
use crate::lookups::Lookups;
use crate::networks::Networks;
use crate::nodes::Nodes;
use crate::secrets::Secrets;

/// The tasks of up to so many services are listed singly, those of more in one call for all: the Engine's answer to
/// that one holds every task of the cluster.
const SINGLE_LISTS: usize = 4;

/// So many networks, or histories of tasks, are asked for at once.
const CALLS_AT_ONCE: usize = 8;

/// Histories of tasks are asked for in one pass of many for so long: where a node has died there may be thousands to read, and
/// nobody is to wait for them. The tasks of the others count meanwhile, until they are listed again.
pub(crate) const HISTORIES_FOR: Duration = Duration::from_secs(2);

/// What a pass reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All services, and the tasks of all candidates in task mode.
    Everything,
    /// All services, and the tasks of those in task mode about which anything changed, and of these.
    Services(BTreeSet<ServiceId>),
    /// The tasks of these; their services are taken as read before.
    Tasks(BTreeSet<ServiceId>),
}

/// What a pass read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) listing: Listing,
    pub(crate) tasks: TaskReads,
    /// The lists of tasks that failed.
    pub(crate) errors: Vec<Error>,
    /// What services refer to and could not be read, in this pass or when it was last asked for: only these wait for it.
    /// And histories of tasks, for which nobody waits.
    pub(crate) lookup_errors: Vec<Error>,
    /// How long networks and histories of tasks were asked for. Those that answer are not asked for again, and nobody is to wait
    /// for the others.
    pub(crate) lookups_took: Duration,
    /// How long those that failed may take when they are asked for again.
    pub(crate) networks_may_take: Duration,
}

/// Reads what `scope` says.
///
/// # Errors
/// When the list of services fails: then nothing was learnt. Whatever else fails is in the [`Reading`], and the index
/// keeps what it knew of the services concerned.
pub(crate) async fn read(
    swarm: &impl swarm::Read,
    index: &Index,
    lookups: &mut Lookups,
    scope: &Scope,
    histories_for: Duration,
) -> swarm::Result<Reading> {
    let Lookups { networks, nodes, secrets, crash_loops } = lookups;
    let listing = match scope {
        Scope::Everything | Scope::Services(_) => Listing::whole(swarm.services().await?, index),
        Scope::Tasks(ids) => Listing::again(index, ids),
    };
    let mut errors = Vec::new();
    let tasks = read_tasks(swarm, tasks_to_read(&listing, index, scope), &mut errors).await;
    let asked_at = Instant::now();
    crash_loops.proceed(swarm.now());
    let history_errors = read_histories(swarm, crash_loops, &listing, &tasks, histories_for).await;
    let wanted: BTreeSet<&str> =
        listing.candidates.iter().flat_map(|(id, candidate)| network_keys(candidate, tasks_of(&tasks, id))).collect();
    let wanted: BTreeSet<String> = wanted.into_iter().map(str::to_owned).collect();
    let due = networks.to_ask(&wanted, *scope == Scope::Everything, Instant::now());
    read_networks(swarm, networks, due).await;
    let lookups_took = asked_at.elapsed();
    if *scope == Scope::Everything {
        networks.keep(&wanted);
    }
    let mut lookup_errors = networks.errors(&wanted);
    lookup_errors.extend(history_errors);
    lookup_errors.extend(read_nodes(swarm, nodes, &listing, &tasks).await);
    lookup_errors.extend(read_secrets(swarm, secrets, &listing, scope).await);
    let networks_may_take = networks.may_take();
    Ok(Reading { listing, tasks, errors, lookup_errors, lookups_took, networks_may_take })
}

/// The services in task mode whose tasks may be others than those known.
fn tasks_to_read(listing: &Listing, index: &Index, scope: &Scope) -> BTreeSet<ServiceId> {
    let changed = |id: &ServiceId, read: &swarm::Service| match index.get(id) {
        None => true,
        Some(known) => {
            let fresh = matches!(known.service.backends, model::Backends::Tasks { stale: false, .. })
                && task_mode(&known.service.asked).is_some();
            // Its version, or its count of running tasks, or anything else.
            !fresh || known.read != *read
        }
    };
    listing
        .in_task_mode()
        .filter(|(id, read)| match scope {
            Scope::Everything | Scope::Tasks(_) => true,
            Scope::Services(restless) => restless.contains(*id) || changed(id, read),
        })
        .map(|(id, _)| id.clone())
        .collect()
}

async fn read_tasks(swarm: &impl swarm::Read, services: BTreeSet<ServiceId>, errors: &mut Vec<Error>) -> TaskReads {
    if services.len() > SINGLE_LISTS {
        let services = Arc::new(services);
        return match swarm.tasks(TasksOf::Services(Arc::clone(&services))).await {
            Ok(tasks) => {
                let mut reads: TaskReads = services.iter().map(|id| (id.clone(), Some(Vec::new()))).collect();
                for task in tasks {
                    if let Some(Some(of_service)) = reads.get_mut(&task.service) {
                        of_service.push(task);
                    }
                }
                reads
            }
            Err(error) => {
                errors.push(error);
                services.iter().map(|id| (id.clone(), None)).collect()
            }
        };
    }
    let lists = services.iter().map(|id| swarm.tasks(TasksOf::Service(id.clone())));
    let lists = futures::future::join_all(lists).await;
    let mut reads = TaskReads::new();
    for (id, list) in services.into_iter().zip(lists) {
        reads.insert(id, list.map_err(|error| errors.push(error)).ok());
    }
    reads
}

/// Asks for the past of tasks that may be part of a crash loop. Answers what failed: those tasks count meanwhile, which can
/// cost an update of the proxies, and keeps nobody from being served.
async fn read_histories(
    swarm: &impl swarm::Read,
    crash_loops: &mut CrashLoops,
    listing: &Listing,
    tasks: &TaskReads,
    at_most: Duration,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let suspicious = listing.in_task_mode().filter(|(id, read)| match tasks_of(tasks, id) {
        TaskRead::Listed(tasks) => crash_loops.must_be_read(read, tasks),
        TaskRead::Failed | TaskRead::NotAsked => false,
    });
    let suspicious: Vec<ServiceId> = suspicious.map(|(id, _)| id.clone()).collect();
    let mut histories = futures::stream::iter(suspicious)
        .map(async |id| {
            let history = swarm.task_history(&id).await;
            (id, history)
        })
        .buffer_unordered(CALLS_AT_ONCE);
    let deadline = Instant::now() + at_most;
    loop {
        let (id, history) = match timeout_at(deadline, histories.next()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => break,
            Err(_) => {
                let message = format!("not all were read within {at_most:?}; the others follow");
                errors.push(Error::new(Class::Unavailable, "list the task histories of services", message));
                break;
            }
        };
        match (history, listing.candidates.get(&id), tasks_of(tasks, &id)) {
            (Ok(history), Some(candidate), TaskRead::Listed(tasks)) => {
                crash_loops.learn(&candidate.read, tasks, &history)
            }
            (Ok(_), _, _) => {}
            (Err(error), _, _) => errors.push(error),
        }
    }
    errors
}

/// Asks for networks. "There is none" is believed only while the cluster answers: the Engine's lookup of one
/// network drops the error of a cluster without a leader and says 404 (moby, `network_routes.go`), and a
/// network that a service is on cannot have been removed.
async fn read_networks(swarm: &impl swarm::Read, networks: &mut Networks, wanted: BTreeSet<String>) {
    let started = Instant::now();
    let mut failed = Vec::new();
    let mut answers = futures::stream::iter(wanted)
        .map(async |key| {
            let answer = swarm.network(&key).await;
            (key, answer)
        })
        .buffer_unordered(CALLS_AT_ONCE);
    let mut absent = Vec::new();
    while let Some((key, answer)) = answers.next().await {
        match answer {
            Ok(Some(network)) => networks.learn(key, Some(network)),
            Ok(None) => absent.push(key),
            Err(error) if error.class == Class::Refused => {
                if networks.refuse(key.clone(), &error) {
                    tracing::warn!(network = %key, %error, "the network is left out");
                }
            }
            Err(error) => failed.push((key, error)),
        }
    }
    drop(answers);
    if !absent.is_empty() {
        match swarm.services().await {
            Ok(_) => absent.into_iter().for_each(|key| networks.learn(key, None)),
            Err(error) => failed.extend(absent.into_iter().map(|key| (key, error.clone()))),
        }
    }
    let now = Instant::now();
    for (key, error) in failed {
        networks.fail(key, error, now - started, now);
    }
}

/// Lists the nodes, if a candidate is reached at some that the last list does not tell of. Answers what failed.
async fn read_nodes(
    swarm: &impl swarm::Read,
    nodes: &mut Nodes,
    listing: &Listing,
    tasks: &TaskReads,
) -> Option<Error> {
    let candidates = listing.candidates.iter();
    let wanted: BTreeSet<_> = candidates.flat_map(|(id, candidate)| node_ids(candidate, tasks_of(tasks, id))).collect();
    if !nodes.must_be_read(&wanted) {
        return None;
    }
    match swarm.nodes().await {
        Ok(list) => nodes.learn(&wanted, list),
        Err(error) if error.class == Class::Refused => {
            if nodes.refuse(&wanted) {
                tracing::warn!(%error, "services are not reached at nodes whose addresses were never seen");
            }
        }
        Err(error) => return Some(error),
    }
    None
}

/// Lists the secrets, if a candidate names any and the last list does not tell. Answers what failed.
async fn read_secrets(
    swarm: &impl swarm::Read,
    secrets: &mut Secrets,
    listing: &Listing,
    scope: &Scope,
) -> Option<Error> {
    let everything = match scope {
        Scope::Everything => true,
        Scope::Services(_) => false,
        // Only a few services are looked at, and their labels are those of before.
        Scope::Tasks(_) => return None,
    };
    let candidates = listing.candidates.values();
    let wanted: BTreeSet<_> = candidates.flat_map(secret_names).collect();
    if wanted.is_empty() {
        secrets.forget();
        return None;
    }
    if !everything && !secrets.must_be_read(&wanted) {
        return None;
    }
    match swarm.secrets().await {
        Ok(list) => secrets.learn(&wanted, list),
        // We may not see them: those whose labels name one must not keep everybody else from being published.
        Err(error) if error.class == Class::Refused => {
            if secrets.refused(&wanted) {
                tracing::warn!(%error, "secrets that were never seen count as absent");
            }
        }
        Err(error) => return Some(error),
    }
    None
}

/// For so long after its last change a service that is not done is watched closely. An update can last for
/// ever, and a task may never start: such a service is left to the poll.
const UNSETTLED: Duration = Duration::from_secs(60);

/// For so long after its last change a service that looks done is watched closely: what follows a change of
/// the service raises no event.
const SETTLING: Duration = Duration::from_secs(15);

/// Whether the tasks of a service should be listed more often than the poll does.
pub(crate) fn restless(facts: &Facts, since_last_change: Duration) -> bool {
    if task_mode(&facts.service.asked).is_none() {
        return false;
    }
    since_last_change < if unsettled(facts) { UNSETTLED } else { SETTLING }
}

/// Whether Swarm is still at work on a service: it updates it, or other tasks run than are wanted.
pub(crate) fn unsettled(facts: &Facts) -> bool {
    let known = match &facts.service.backends {
        model::Backends::Tasks { tasks, .. } => tasks.len() as u64,
        model::Backends::Vip { .. } | model::Backends::Unread { .. } => return false,
    };
    updating(&facts.read) || (facts.read.mode != Mode::Job && facts.wanted().is_some_and(|wanted| wanted != known))
}

#[cfg(test)]
mod tests {
    use swarm::{UpdateState, UpdateStatus};

    use super::*;
    use crate::fixtures::{Builder, overlay, service, task};

    fn lookups() -> Lookups {
        let mut lookups = Lookups::default();
        lookups.networks.learn("app-id".into(), Some(overlay("app")));
        lookups
    }

    fn whole(services: Vec<swarm::Service>) -> Listing {
        Listing::whole(services, &Index::default())
    }

    /// An index of services in which `running` tasks of each run.
    fn index(services: Vec<swarm::Service>) -> Index {
        let mut index = Index::default();
        let listing = whole(services);
        let tasks = listing
            .in_task_mode()
            .map(|(id, read)| {
                let running = read.running.map_or(0, |count| count.running);
                (id.clone(), Some((1..=running).map(|slot| task(read, slot)).collect()))
            })
            .collect();
        index.fold(listing, &tasks, &lookups(), Instant::now());
        index
    }

    #[test]
    fn only_tasks_that_may_be_others_are_listed() {
        let known = || vec![service("same").task(), service("other").task(), service("vip").vip()];
        let index = index(known().into_iter().map(Builder::build).collect());
        let mut now: Vec<swarm::Service> = known().into_iter().map(Builder::build).collect();
        now[1].version += 1;
        now[2].version += 1;
        now.push(service("new").task().build());
        now.push(service("refused").labels(&[("hosts", "$")]).build());
        now.push(service("bystander").build());
        let read = |scope| {
            let ids = tasks_to_read(&whole(now.clone()), &index, &scope);
            ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(read(Scope::Everything), ["new-id", "other-id", "same-id"]);
        assert_eq!(read(Scope::Services(BTreeSet::new())), ["new-id", "other-id"]);
        assert_eq!(read(Scope::Services(BTreeSet::from(["same-id".into()]))), ["new-id", "other-id", "same-id"]);
    }

    #[test]
    fn a_service_whose_list_failed_is_listed_again() {
        let read = service("web").task().build();
        let mut index = index(vec![read.clone()]);
        let failed = TaskReads::from([(read.id.clone(), None)]);
        index.fold(whole(vec![read.clone()]), &failed, &lookups(), Instant::now());
        let again = tasks_to_read(&whole(vec![read.clone()]), &index, &Scope::Services(BTreeSet::new()));
        assert_eq!(again, BTreeSet::from([read.id]));
    }

    #[test]
    fn a_service_is_watched_closely_while_swarm_works_on_it_and_for_a_while_after() {
        let updating = |state| {
            move |service: &mut swarm::Service| {
                service.update = Some(UpdateStatus { state, message: String::new() });
            }
        };
        let task_mode = || service("web").task().scale(2, 2);
        for (what, read, quiet_after) in [
            ("settled", task_mode(), 15),
            ("short of tasks", task_mode().scale(3, 2), 60),
            ("with a task too many", task_mode().scale(1, 2), 60),
            ("updating", task_mode().with(updating(UpdateState::Updating)), 60),
            ("rolling back", task_mode().with(updating(UpdateState::RollbackStarted)), 60),
            ("updated", task_mode().with(updating(UpdateState::Completed)), 15),
            ("global", task_mode().global(2, 2), 15),
            ("global and short", task_mode().global(3, 2), 60),
            ("in VIP mode", service("web").vip().scale(3, 2), 0),
            ("refused", service("web").labels(&[("hosts", "$")]).scale(3, 2), 0),
        ] {
            let index = index(vec![read.build()]);
            let facts = index.get(&"web-id".into()).unwrap();
            for (seconds, watched) in
                [(0, quiet_after > 0), (14, quiet_after > 14), (16, quiet_after > 16), (61, false)]
            {
                assert_eq!(restless(facts, Duration::from_secs(seconds)), watched, "{what}, {seconds} s");
            }
        }
    }
}
