//! The VIP short-circuit: does a change of a service reach its routing? Decided and counted here alone.

use std::sync::atomic::{AtomicU64, Ordering};

use model::{Backends, Network, Scale};

use crate::facts::Facts;

/// What one change of one service or network means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Significance {
    /// Routing depends on it: whoever waits for [`model::Desired`] is woken.
    Routing(Routing),
    /// Something changed that routing does not depend on: nobody is woken.
    Spared(Spared),
    /// Nothing changed.
    Unchanged,
}

macro_rules! reasons {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $reason:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $reason,)* }

        impl $name {
            /// Every reason there is, in the order of the type.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)*];

            /// The reason in metrics and logs; a contract with dashboards.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$reason => $text,)* }
            }
        }
    };
}

reasons! {
    /// Why a change reaches routing.
    Routing {
        /// A candidate is seen for the first time: it was created, or this process just started.
        ServiceCreated = "service_created",
        /// It is gone.
        ServiceRemoved = "service_removed",
        /// A service that did not ask to be routed now does.
        LabelsAdded = "labels_added",
        /// It no longer asks to be routed.
        LabelsRemoved = "labels_removed",
        /// Its routing labels say something else.
        RoutingLabels = "routing_labels",
        /// Its labels are the same, and what they can ask for is not: another endpoint mode, no longer a job.
        ServiceKind = "service_kind",
        /// It wants no task any more.
        ScaledToZero = "scaled_to_zero",
        /// It wants tasks again.
        ScaledUp = "scaled_up",
        /// Its networks, or its address on one of them.
        NetworkChanged = "network_changed",
        /// A secret that its labels may mean came, went, or was replaced by another of its name.
        SecretChanged = "secret_changed",
        /// VIP mode: its first task runs.
        FirstTaskRunning = "first_task_running",
        /// Task mode: its running tasks, or their addresses.
        TasksChanged = "tasks_changed",
        /// Task mode: the list of its tasks fails, or works again.
        TasksStale = "tasks_stale",
        /// Its stack, which resolves bare network names.
        StackChanged = "stack_changed",
        /// Its UCP access label, by which rules may say who claims a host.
        AccessChanged = "access_changed",
        /// Something without which nothing could be said of it was read at last.
        ServiceRead = "service_read",
        /// A network that proxies are not on got too full for them to join, or has room again.
        NetworkRoom = "network_room",
    }
}

reasons! {
    /// Why a change does not reach routing.
    Spared {
        /// How many tasks it wants, at least one before and after.
        Replicas = "replicas",
        /// Image, environment, configs, secrets, mounts, placement.
        TaskTemplate = "task_template",
        /// Labels that do not route.
        Labels = "labels",
        /// How many tasks run: a task failed, was scheduled anew, or started.
        Running = "running",
        /// How Swarm says that its last update goes.
        UpdateStatus = "update_status",
        /// Anything else that moves its version: published ports, update policy, the routing mesh's VIP.
        Other = "other",
    }
}

/// How a service is seen by one reading of the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sighting<'a> {
    /// There is no such service.
    Absent,
    /// It does not ask to be routed.
    Bystander,
    /// It does.
    Candidate(&'a Facts),
}

/// What became of something between two readings of the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn<'a> {
    /// Of a service.
    Service { old: Sighting<'a>, new: Sighting<'a> },
    /// Of a network that candidates are on.
    Network { old: &'a Network, new: &'a Network },
}

/// Judges it.
pub(crate) fn significance(turn: Turn<'_>) -> Significance {
    match turn {
        Turn::Service { old, new } => of_service(old, new),
        Turn::Network { old, new } => of_network(old, new),
    }
}

/// How full a network is never gets here: only whether proxies that are not on it could join. So whoever scales a
/// service on a network that is joined wakes nobody.
fn of_network(old: &Network, new: &Network) -> Significance {
    // No `..`: a field that is added must find its reason.
    let Network { id, name, no_room_for } = old;
    debug_assert!((id, name) == (&new.id, &new.name), "Swarm does not change the name of the network {id}");
    if *no_room_for == new.no_room_for { Significance::Unchanged } else { Significance::Routing(Routing::NetworkRoom) }
}

fn of_service(old: Sighting<'_>, new: Sighting<'_>) -> Significance {
    match (old, new) {
        (Sighting::Absent | Sighting::Bystander, Sighting::Absent | Sighting::Bystander) => Significance::Unchanged,
        (Sighting::Absent, Sighting::Candidate(_)) => Significance::Routing(Routing::ServiceCreated),
        (Sighting::Bystander, Sighting::Candidate(_)) => Significance::Routing(Routing::LabelsAdded),
        (Sighting::Candidate(_), Sighting::Absent) => Significance::Routing(Routing::ServiceRemoved),
        (Sighting::Candidate(_), Sighting::Bystander) => Significance::Routing(Routing::LabelsRemoved),
        (Sighting::Candidate(old), Sighting::Candidate(new)) => {
            if let Some(reason) = routing(old, new) {
                Significance::Routing(reason)
            } else if let Some(reason) = spared(&old.read, &new.read) {
                Significance::Spared(reason)
            } else {
                Significance::Unchanged
            }
        }
    }
}

/// The first reason in the order of what tells people most; `None` exactly if routing sees the same.
fn routing(old: &Facts, new: &Facts) -> Option<Routing> {
    let secrets = || if old.secrets == new.secrets { None } else { Some(Routing::SecretChanged) };
    service_routing(&old.service, &new.service).or_else(secrets)
}

fn service_routing(old: &model::Service, new: &model::Service) -> Option<Routing> {
    // No `..`: a field that is added must find its reason.
    let model::Service {
        id,
        name,
        created_at,
        stack,
        access_label,
        labels,
        asked,
        warnings,
        scale,
        networks,
        at_nodes,
        backends,
    } = old;
    debug_assert!(
        (id, name, created_at) == (&new.id, &new.name, &new.created_at),
        "Swarm changes neither the name nor the time of creation of {id}"
    );
    if *labels != new.labels {
        return Some(Routing::RoutingLabels);
    }
    if *asked != new.asked || *warnings != new.warnings {
        return Some(Routing::ServiceKind);
    }
    match (backends, &new.backends) {
        (Backends::Unread { reason }, Backends::Unread { reason: new_reason }) if reason == new_reason => {}
        (Backends::Unread { .. }, _) | (_, Backends::Unread { .. }) => return Some(Routing::ServiceRead),
        _ => {}
    }
    match (scale, new.scale) {
        (Scale::AtLeastOne, Scale::Zero) => return Some(Routing::ScaledToZero),
        (Scale::Zero, Scale::AtLeastOne) => return Some(Routing::ScaledUp),
        (Scale::Zero, Scale::Zero) | (Scale::AtLeastOne, Scale::AtLeastOne) => {}
    }
    if *networks != new.networks || *at_nodes != new.at_nodes {
        return Some(Routing::NetworkChanged);
    }
    match (backends, &new.backends) {
        (Backends::Vip { addresses, has_run }, Backends::Vip { addresses: new_addresses, has_run: new_has_run }) => {
            if addresses != new_addresses {
                return Some(Routing::NetworkChanged);
            }
            if has_run != new_has_run {
                return Some(Routing::FirstTaskRunning);
            }
        }
        (Backends::Tasks { tasks, stale }, Backends::Tasks { tasks: new_tasks, stale: new_stale }) => {
            if tasks != new_tasks {
                return Some(Routing::TasksChanged);
            }
            if stale != new_stale {
                return Some(Routing::TasksStale);
            }
        }
        // Only other labels or another kind of service lead from one to the other; both are judged above.
        (Backends::Vip { .. }, Backends::Tasks { .. }) | (Backends::Tasks { .. }, Backends::Vip { .. }) => {
            return Some(Routing::RoutingLabels);
        }
        // Judged above.
        (Backends::Unread { .. }, _) | (_, Backends::Unread { .. }) => {}
    }
    if *stack != new.stack {
        return Some(Routing::StackChanged);
    }
    if *access_label != new.access_label { Some(Routing::AccessChanged) } else { None }
}

/// The first reason for which two readings differ; `None` exactly if they are equal.
fn spared(old: &swarm::Service, new: &swarm::Service) -> Option<Spared> {
    // No `..`: a field that is added must find its reason.
    let swarm::Service {
        id: _,
        version,
        created_at: _,
        updated_at,
        name: _,
        labels,
        container_labels,
        mode,
        networks,
        task_template,
        endpoint,
        running,
        update,
    } = old;
    if *mode != new.mode {
        Some(Spared::Replicas)
    } else if *task_template != new.task_template || *container_labels != new.container_labels {
        Some(Spared::TaskTemplate)
    } else if *labels != new.labels {
        Some(Spared::Labels)
    } else if *networks != new.networks || *endpoint != new.endpoint {
        Some(Spared::Other)
    } else if *running != new.running {
        Some(Spared::Running)
    } else if *update != new.update {
        Some(Spared::UpdateStatus)
    } else if (*version, *updated_at) != (new.version, new.updated_at) {
        Some(Spared::Other)
    } else {
        None
    }
}

/// How many changes were judged how, since the start of the process.
#[derive(Debug)]
pub struct ShortCircuits {
    routing: Vec<AtomicU64>,
    spared: Vec<AtomicU64>,
}

/// One line of the metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortCircuitCount {
    /// `routing` or `spared`.
    pub kind: &'static str,
    /// Why.
    pub reason: &'static str,
    /// How often.
    pub count: u64,
}

impl Default for ShortCircuits {
    fn default() -> Self {
        let zeros = |count| std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Self { routing: zeros(Routing::ALL.len()), spared: zeros(Spared::ALL.len()) }
    }
}

impl ShortCircuits {
    pub(crate) fn count(&self, significance: Significance) {
        let counter = match significance {
            Significance::Routing(reason) => &self.routing[reason as usize],
            Significance::Spared(reason) => &self.spared[reason as usize],
            Significance::Unchanged => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Every count, zeros included, so that a dashboard sees each line from the start.
    pub fn snapshot(&self) -> Vec<ShortCircuitCount> {
        let line = |kind, reason, counter: &AtomicU64| ShortCircuitCount {
            kind,
            reason,
            count: counter.load(Ordering::Relaxed),
        };
        let routing = Routing::ALL.iter().zip(&self.routing);
        let spared = Spared::ALL.iter().zip(&self.spared);
        routing
            .map(|(reason, counter)| line("routing", reason.as_str(), counter))
            .chain(spared.map(|(reason, counter)| line("spared", reason.as_str(), counter)))
            .collect()
    }

    /// How many changes routing was spared.
    pub fn spared(&self) -> u64 {
        self.spared.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use swarm::{Service, UpdateState, UpdateStatus};
    use tokio::time::Instant;

    use super::*;
    use crate::facts::{TaskRead, secret_names};
    use crate::fixtures::{Builder, GOOD, overlay, secret, service, task};
    use crate::index::Candidate;
    use crate::lookups::Lookups;
    use crate::request;

    fn facts(read: Service, previous: Option<&Facts>) -> Facts {
        facts_with(read, &[], previous)
    }

    fn facts_with(read: Service, secrets: &[swarm::Secret], previous: Option<&Facts>) -> Facts {
        let mut lookups = Lookups::default();
        lookups.nodes.learn(&["node".into()].into(), Vec::new());
        for network in [overlay("app"), overlay("other")] {
            lookups.networks.learn(network.id.as_str().to_owned(), Some(network));
        }
        let running = read.running.map_or(0, |count| count.running);
        let tasks: Vec<swarm::Task> = (1..=running).map(|slot| task(&read, slot)).collect();
        let reading = request::read(&read).unwrap();
        let candidate = Candidate::new(read, reading);
        lookups.secrets.learn(&secret_names(&candidate), secrets.to_vec());
        Facts::new(candidate, TaskRead::Listed(&tasks), &lookups, previous, Instant::now()).unwrap()
    }

    /// Judges the change from `old` to `new`.
    fn judge(old: Builder, new: Builder) -> Significance {
        let old = facts(old.build(), None);
        let new = facts(new.build(), Some(&old));
        let turn = Turn::Service { old: Sighting::Candidate(&old), new: Sighting::Candidate(&new) };
        let significance = significance(turn);
        let same = std::sync::Arc::ptr_eq(&old.service, &new.service);
        assert_eq!(same, !matches!(significance, Significance::Routing(_)), "{significance:?}");
        significance
    }

    fn vip() -> Builder {
        service("web").vip().scale(2, 2)
    }

    #[test]
    fn the_founding_documents_list_is_spared_in_vip_mode() {
        let version = |service: &mut Service| service.version += 1;
        let updating = Some(UpdateStatus { state: UpdateState::Updating, message: String::new() });
        for (new, reason) in [
            (vip().scale(6, 2), Spared::Replicas),
            (vip().scale(1, 2), Spared::Replicas),
            (vip().with(|s| s.task_template = model::Digest::of(b"new image")), Spared::TaskTemplate),
            (vip().with(|s| drop(s.container_labels.insert("a".into(), "b".into()))), Spared::TaskTemplate),
            (vip().with(|s| drop(s.labels.insert("team".into(), "a".into()))), Spared::Labels),
            (vip().scale(2, 1), Spared::Running),
            (vip().scale(2, 0), Spared::Running),
            (vip().with(|s| s.running = None), Spared::Running),
            (vip().with(|s| s.update = updating), Spared::UpdateStatus),
            (vip().with(version), Spared::Other),
        ] {
            assert_eq!(judge(vip(), new), Significance::Spared(reason));
        }
        assert_eq!(judge(vip(), vip()), Significance::Unchanged);
    }

    #[test]
    fn what_changes_the_routing_of_a_vip_service_reaches_it() {
        let other = |service: &mut Service| {
            service.endpoint.vips = [("other-id".into(), "10.0.2.2".parse().unwrap())].into();
            service.networks = vec!["other-id".into()];
        };
        let new_address = |service: &mut Service| {
            service.endpoint.vips = [("app-id".into(), "10.0.1.9".parse().unwrap())].into();
        };
        let no_vip = |service: &mut Service| service.endpoint.vips.clear();
        let dnsrr = |service: &mut Service| service.endpoint.mode = swarm::EndpointMode::Dnsrr;
        for (new, reason) in [
            (vip().labels(&[("port", "81")]), Routing::RoutingLabels),
            (vip().labels(&[("port", "x")]), Routing::RoutingLabels),
            (vip().labels(&[("backend_mode", "task")]), Routing::RoutingLabels),
            (vip().with(dnsrr), Routing::ServiceKind),
            (vip().scale(0, 2), Routing::ScaledToZero),
            (vip().with(other), Routing::NetworkChanged),
            (vip().with(new_address), Routing::NetworkChanged),
            (vip().with(no_vip), Routing::NetworkChanged),
            (vip().with(|s| drop(s.labels.insert(model::labels::STACK.into(), "a".into()))), Routing::StackChanged),
            (
                vip().with(|s| drop(s.labels.insert(model::labels::UCP_ACCESS.into(), "/a".into()))),
                Routing::AccessChanged,
            ),
        ] {
            assert_eq!(judge(vip(), new), Significance::Routing(reason));
        }
        assert_eq!(judge(vip().scale(0, 0), vip()), Significance::Routing(Routing::ScaledUp));
        assert_eq!(judge(vip().scale(2, 0), vip()), Significance::Routing(Routing::FirstTaskRunning));
    }

    #[test]
    fn options_are_routing_labels_in_both_modes() {
        for base in [vip as fn() -> Builder, || service("web").task().scale(2, 2)] {
            for (label, value, with) in GOOD {
                let changed = base().labels(with).labels(&[(label, value)]);
                if changed.clone().build().labels != base().build().labels {
                    assert_eq!(judge(base(), changed), Significance::Routing(Routing::RoutingLabels), "{label}");
                }
            }
        }
    }

    #[test]
    fn a_secret_reaches_the_services_that_name_it_and_no_other() {
        let names = || vip().labels(&[("basic_auth", "users")]);
        let in_stack = || names().with(|s| drop(s.labels.insert(model::labels::STACK.into(), "shop".into())));
        let (users, other) = (secret("users", 1), secret("other", 1));
        let (again, prefixed) = (secret("users", 2), secret("shop_users", 1));
        for (what, service, old, new, reaches) in [
            ("appears", names(), vec![], vec![users.clone()], true),
            ("goes", names(), vec![users.clone()], vec![], true),
            ("is another one", names(), vec![users.clone()], vec![again], true),
            ("stays", names(), vec![users.clone()], vec![users.clone()], false),
            ("is not named", names(), vec![users.clone()], vec![users.clone(), other.clone()], false),
            ("is another stack's", names(), vec![users.clone()], vec![users.clone(), prefixed.clone()], false),
            ("appears with its stack's prefix", in_stack(), vec![users.clone()], vec![users.clone(), prefixed], true),
            ("is named by nobody", vip(), vec![], vec![users, other], false),
        ] {
            let read = service.build();
            let old = facts_with(read.clone(), &old, None);
            let new = facts_with(read, &new, Some(&old));
            let expected =
                if reaches { Significance::Routing(Routing::SecretChanged) } else { Significance::Unchanged };
            let turn = Turn::Service { old: Sighting::Candidate(&old), new: Sighting::Candidate(&new) };
            assert_eq!(significance(turn), expected, "{what}");
        }
    }

    #[test]
    fn in_task_mode_tasks_reach_routing_and_the_rest_is_spared() {
        let task_mode = || service("web").task().scale(2, 2);
        assert_eq!(judge(task_mode(), task_mode().scale(4, 2)), Significance::Spared(Spared::Replicas));
        assert_eq!(judge(task_mode(), task_mode().scale(4, 3)), Significance::Routing(Routing::TasksChanged));
        assert_eq!(judge(task_mode(), task_mode().scale(0, 0)), Significance::Routing(Routing::ScaledToZero));
    }

    #[test]
    fn a_port_on_nodes_reaches_routing_only_if_it_is_the_one_that_is_asked_for() {
        let task_mode = || service("web").task();
        let other = |s: &mut Service| s.endpoint.host_ports = [81].into();
        assert_eq!(judge(task_mode(), task_mode().with(other)), Significance::Spared(Spared::Other));
        assert_eq!(judge(task_mode(), task_mode().at_nodes()), Significance::Routing(Routing::NetworkChanged));
        assert_eq!(judge(vip(), vip().at_nodes()), Significance::Spared(Spared::Other));
    }

    #[test]
    fn what_could_not_be_read_and_where_a_service_is_reached_change_its_routing() {
        let read = (*facts(vip().build(), None).service).clone();
        let unread = |reason: &str| {
            let backends = Backends::Unread { reason: reason.into() };
            model::Service { backends, ..read.clone() }
        };
        let at_nodes = model::Service { at_nodes: !read.at_nodes, ..read.clone() };
        let elsewhere = model::Service { networks: ["other-id".into()].into(), ..read.clone() };
        for (old, new, expected) in [
            (&read, &unread("no answer"), Some(Routing::ServiceRead)),
            (&unread("no answer"), &read, Some(Routing::ServiceRead)),
            (&unread("no answer"), &unread("half an answer"), Some(Routing::ServiceRead)),
            (&unread("no answer"), &unread("no answer"), None),
            (&read, &at_nodes, Some(Routing::NetworkChanged)),
            (&read, &elsewhere, Some(Routing::NetworkChanged)),
            (&read, &read, None),
        ] {
            assert_eq!(service_routing(old, new), expected, "{:?}, {:?}", old.backends, new.backends);
        }
    }

    #[test]
    fn coming_and_going_reaches_routing() {
        let candidate = facts(vip().build(), None);
        let candidate = Sighting::Candidate(&candidate);
        for (old, new, reason) in [
            (Sighting::Absent, candidate, Routing::ServiceCreated),
            (Sighting::Bystander, candidate, Routing::LabelsAdded),
            (candidate, Sighting::Absent, Routing::ServiceRemoved),
            (candidate, Sighting::Bystander, Routing::LabelsRemoved),
        ] {
            assert_eq!(significance(Turn::Service { old, new }), Significance::Routing(reason));
        }
        let bystander = Turn::Service { old: Sighting::Absent, new: Sighting::Bystander };
        assert_eq!(significance(bystander), Significance::Unchanged);
    }

    #[test]
    fn every_judgement_has_its_counter() {
        let counts = ShortCircuits::default();
        for reason in Routing::ALL {
            counts.count(Significance::Routing(*reason));
        }
        for reason in Spared::ALL {
            counts.count(Significance::Spared(*reason));
        }
        counts.count(Significance::Unchanged);
        let lines = counts.snapshot();
        assert_eq!(lines.len(), Routing::ALL.len() + Spared::ALL.len());
        assert!(lines.iter().all(|line| line.count == 1));
        assert_eq!(counts.spared(), Spared::ALL.len() as u64);
        let mut names: Vec<_> = lines.iter().map(|line| (line.kind, line.reason)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), lines.len());
    }
}
