//! Where a service's requests go: on the chosen network, or at its nodes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use model::{
    AtNode, BackendMode, Backends, Code, Contribution, NetworkChoice, Problem, Scale, Service, Task, TaskVerdict,
    labels,
};

/// What was found. `tasks` is for explanations and empty in VIP mode.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// There are endpoints.
    Some { endpoints: BTreeSet<SocketAddr>, reason: String, tasks: Vec<TaskVerdict>, warnings: Vec<Problem> },
    /// There are none yet, or none any more.
    None { reason: String, tasks: Vec<TaskVerdict>, warnings: Vec<Problem> },
    /// There can be none.
    Never(Problem),
}

/// Finds the endpoints of `service`, whose live route, if it has one, is `live`.
/// It is reached over `network`, or, without one, at its nodes.
pub(crate) fn find(
    service: &Service,
    port: NonZeroU16,
    network: Option<&NetworkChoice>,
    live: Option<&Contribution>,
) -> Found {
    match &service.backends {
        Backends::Vip { addresses, has_run } => {
            let reason = match vip_standing(service.scale, *has_run, live) {
                Ok(reason) => reason.to_owned(),
                Err(reason) => {
                    return Found::None { reason: reason.to_owned(), tasks: Vec::new(), warnings: Vec::new() };
                }
            };
            let vip = network.and_then(|network| addresses.get(&network.id));
            match vip {
                Some(address) => Found::Some {
                    endpoints: BTreeSet::from([SocketAddr::new(*address, port.get())]),
                    reason,
                    tasks: Vec::new(),
                    warnings: Vec::new(),
                },
                None => {
                    let network = network.map_or(String::new(), |network| format!(" on its network {}", network.name));
                    Found::Never(
                        Problem::new(Code::NoVip, format!("the service has no VIP{network}"))
                            .at(labels::BACKEND_MODE, BackendMode::Vip.as_str())
                            .allowed("task, or a service with endpoint_mode vip"),
                    )
                }
            }
        }
        // Whoever asks has dealt with it: its networks are not known either.
        Backends::Unread { reason } => Found::None { reason: reason.clone(), tasks: Vec::new(), warnings: Vec::new() },
        Backends::Tasks { tasks, stale } => {
            let stale = stale.then(|| {
                Problem::new(Code::StaleTasks, "the last list of its tasks failed; those known before are served")
            });
            let warnings: Vec<Problem> = stale.into_iter().chain(crash_loop(tasks)).collect();
            let verdicts: Vec<TaskVerdict> = tasks.iter().map(|task| verdict(task, port, network)).collect();
            let endpoints: BTreeSet<SocketAddr> = verdicts.iter().filter_map(|task| task.endpoint).collect();
            if endpoints.is_empty() {
                let reason = match (service.scale, verdicts.len()) {
                    (Scale::Zero, 0) => "0 replicas are wanted".to_owned(),
                    (Scale::AtLeastOne, 0) => "no task runs".to_owned(),
                    _ if tasks.iter().any(|task| task.held_off) => {
                        "no task has run for longer than those before it, which kept ending".to_owned()
                    }
                    (_, count) => match network {
                        Some(network) => {
                            let tasks = if count == 1 { "its task has" } else { "its tasks have" };
                            format!("no task runs with an address: {tasks} none on the network {}", network.name)
                        }
                        None => format!("no task is reached at its node: {}", verdicts[0].reason),
                    },
                };
                return Found::None { reason, tasks: verdicts, warnings };
            }
            let reason = match endpoints.len() {
                1 => "1 task runs".to_owned(),
                count => format!("{count} tasks run"),
            };
            Found::Some { endpoints, reason, tasks: verdicts, warnings }
        }
    }
}

/// Whether a service in VIP mode stands in the proxy. Tasks decide the first publication only; after it the
/// service stays until nothing is wanted of it, also across a restart of ours, by what the live manifest says.
fn vip_standing(scale: Scale, has_run: bool, live: Option<&Contribution>) -> Result<&'static str, &'static str> {
    match scale {
        Scale::Zero => Err("0 replicas are wanted"),
        Scale::AtLeastOne if has_run => Ok("a task has run"),
        Scale::AtLeastOne if live.is_some_and(|live| live.mode == BackendMode::Vip) => Ok("it is published already"),
        Scale::AtLeastOne => Err("its first task has not run yet"),
    }
}

/// The warning for a service whose tasks keep ending.
fn crash_loop(tasks: &[Task]) -> Option<Problem> {
    let held_off = tasks.iter().filter(|task| task.held_off).count();
    let which = match held_off {
        0 => return None,
        1 => "a task gets".to_owned(),
        count => format!("{count} tasks get"),
    };
    let message = format!(
        "{which} no requests yet: the three before in the same place ended within five minutes, and it must run for twice as \
         long as they lasted, or for crash_loop_wait"
    );
    Some(Problem::new(Code::CrashLoop, message))
}

fn verdict(task: &Task, port: NonZeroU16, network: Option<&NetworkChoice>) -> TaskVerdict {
    let found = match network {
        Some(network) => match task.addresses.get(&network.id) {
            Some(address) => Ok(SocketAddr::new(address, port.get())),
            None => Err(format!("has no address on the network {}", network.name)),
        },
        None => match task.at_node {
            Some(AtNode { address: Some(address), port: Some(published) }) => {
                Ok(SocketAddr::new(address, published.get()))
            }
            Some(AtNode { port: None, .. }) => Err(format!("its node has not published its port {port} yet")),
            Some(AtNode { address: None, .. }) | None => Err("the address of its node is not known".to_owned()),
        },
    };
    let (endpoint, reason) = match found {
        Ok(_) if task.held_off => {
            (None, "runs, and must run for longer than those before it, which kept ending".to_owned())
        }
        Ok(endpoint) => (Some(endpoint), "runs".to_owned()),
        Err(reason) => (None, reason),
    };
    TaskVerdict { id: task.id.clone(), endpoint, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{contribution, task, tasks_service, vip_service};

    fn codes(warnings: &[Problem]) -> String {
        warnings.iter().map(|warning| format!(", {}", warning.code)).collect()
    }

    fn check(service: &Service, live: Option<&Contribution>, expect: &str) {
        let network = NetworkChoice { id: "n1".into(), name: "app".into(), reason: String::new() };
        let port = NonZeroU16::new(80).unwrap();
        let network = (!service.at_nodes).then_some(&network);
        let found = match find(service, port, network, live) {
            Found::Some { endpoints, reason, warnings, .. } => format!("{endpoints:?}, {reason}{}", codes(&warnings)),
            Found::None { reason, warnings, .. } => format!("none, {reason}{}", codes(&warnings)),
            Found::Never(problem) => format!("never, {}", problem.code),
        };
        assert_eq!(found, expect);
    }

    #[test]
    fn a_vip_is_published_once_and_stays_until_nothing_is_wanted() {
        let service = |scale, has_run, network: &str| {
            let mut service = vip_service("a", "a.local", network, "10.0.0.9");
            service.scale = scale;
            let Backends::Vip { has_run: flag, .. } = &mut service.backends else { unreachable!() };
            *flag = has_run;
            service
        };
        let in_vip = contribution("a", "a.local", BackendMode::Vip, "n1", "10.0.0.9:80");
        let in_task = contribution("a", "a.local", BackendMode::Task, "n1", "10.0.0.3:80");
        use Scale::{AtLeastOne, Zero};
        for (scale, has_run, live, expect) in [
            (AtLeastOne, false, None, "none, its first task has not run yet"),
            (AtLeastOne, false, Some(&in_task), "none, its first task has not run yet"),
            (AtLeastOne, false, Some(&in_vip), "{10.0.0.9:80}, it is published already"),
            (AtLeastOne, true, None, "{10.0.0.9:80}, a task has run"),
            (AtLeastOne, true, Some(&in_vip), "{10.0.0.9:80}, a task has run"),
            (Zero, true, Some(&in_vip), "none, 0 replicas are wanted"),
            (Zero, false, None, "none, 0 replicas are wanted"),
        ] {
            check(&service(scale, has_run, "n1"), live, expect);
        }
        check(&service(AtLeastOne, true, "n2"), None, "never, no_vip");
        check(&service(Zero, true, "n2"), None, "none, 0 replicas are wanted");
    }

    #[test]
    fn tasks_are_endpoints_where_they_have_an_address() {
        let service = |tasks: Vec<Task>, stale| {
            let mut service = tasks_service("a", "a.local", "n1", &[]);
            service.backends = Backends::Tasks { tasks, stale };
            service
        };
        let (one, two, elsewhere) =
            (task("t1", "n1", "10.0.0.3"), task("t2", "n1", "10.0.0.4"), task("t3", "n2", "10.9.0.3"));
        check(&service(vec![one.clone()], false), None, "{10.0.0.3:80}, 1 task runs");
        check(
            &service(vec![one.clone(), two, elsewhere.clone()], false),
            None,
            "{10.0.0.3:80, 10.0.0.4:80}, 2 tasks run",
        );
        check(&service(vec![one], true), None, "{10.0.0.3:80}, 1 task runs, stale_tasks");
        check(&service(vec![], false), None, "none, no task runs");
        check(
            &service(vec![elsewhere], false),
            None,
            "none, no task runs with an address: its task has none on the network app",
        );
    }

    #[test]
    fn a_task_that_is_held_off_gets_no_requests_and_the_reason_is_told() {
        let service = |tasks: &[Task]| {
            let mut service = tasks_service("a", "a.local", "n1", &[]);
            service.backends = Backends::Tasks { tasks: tasks.to_vec(), stale: false };
            service
        };
        let good = task("t1", "n1", "10.0.0.3");
        let new = Task { held_off: true, ..task("t2", "n1", "10.0.0.4") };
        check(&service(&[good, new.clone()]), None, "{10.0.0.3:80}, 1 task runs, crash_loop");
        let expect = "none, no task has run for longer than those before it, which kept ending, crash_loop";
        check(&service(&[new]), None, expect);
    }

    #[test]
    fn tasks_are_reached_at_their_nodes_where_these_publish_them() {
        let task = |id: &str, address: Option<&str>, port: u16| Task {
            at_node: Some(AtNode { address: address.map(|text| text.parse().unwrap()), port: NonZeroU16::new(port) }),
            addresses: model::TaskAddresses::from_iter([("n1".into(), "10.0.0.3".parse().unwrap())]),
            ..task(id, "n1", "10.0.0.3")
        };
        let service = |tasks: &[Task]| {
            let mut service = tasks_service("a", "a.local", "n1", &[]);
            service.at_nodes = true;
            service.backends = Backends::Tasks { tasks: tasks.to_vec(), stale: false };
            service
        };
        let one = task("t1", Some("172.20.0.4"), 32768);
        let (unpublished, unknown) = (task("t2", Some("172.20.0.4"), 0), task("t3", None, 32769));
        check(&service(std::slice::from_ref(&one)), None, "{172.20.0.4:32768}, 1 task runs");
        let other = task("t4", Some("172.20.0.4"), 32770);
        let all = [one, unpublished.clone(), unknown.clone(), other];
        check(&service(&all), None, "{172.20.0.4:32768, 172.20.0.4:32770}, 2 tasks run");
        let expect = "none, no task is reached at its node: its node has not published its port 80 yet";
        check(&service(&[unpublished]), None, expect);
        check(&service(&[unknown]), None, "none, no task is reached at its node: the address of its node is not known");
        check(&service(&[]), None, "none, no task runs");
    }
}
