//! The addresses that nodes take: on each network of its tasks a node has one for its load balancer, and without it no
//! task there starts [seen on 20.10.24: a /29 with a gateway, a virtual address and three tasks on one node is full].

use std::net::IpAddr;
use std::time::Duration;

use model::{NetworkId, NodeId, TaskId};
use swarm::TaskState;

use crate::schedule::Due;
use crate::store::Store;

/// How long a node waits for such an address before it refuses the task (seen).
const PATIENCE: Duration = Duration::from_secs(30);

/// A node's place on a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Balancer {
    /// Taken when there was one.
    address: Option<IpAddr>,
    /// How many tasks of the node are on the network.
    tasks: usize,
}

impl Store {
    /// Tells a node that a task which it was given is on these networks.
    pub(crate) fn join_balancers(&mut self, node: &NodeId, addresses: &[(NetworkId, IpAddr)]) {
        for (network, _) in addresses {
            self.balancers.entry((node.clone(), network.clone())).or_default().tasks += 1;
        }
        self.have_balancers(node, addresses);
    }

    /// Whether the node has an address on each of these networks by now.
    pub(crate) fn have_balancers(&mut self, node: &NodeId, addresses: &[(NetworkId, IpAddr)]) -> bool {
        let mut complete = true;
        for (network, _) in addresses {
            let key = (node.clone(), network.clone());
            if self.balancers.get(&key).is_some_and(|balancer| balancer.address.is_some()) {
                continue;
            }
            match self.allocate(std::slice::from_ref(network)).as_deref() {
                Some([(_, address)]) => self.balancers.entry(key).or_default().address = Some(*address),
                _ => complete = false,
            }
        }
        complete
    }

    /// Tells a node that a task on these networks is gone; with the last one its own address is given back.
    pub(crate) fn leave_balancers(&mut self, node: &NodeId, addresses: &[(NetworkId, IpAddr)]) {
        for (network, _) in addresses {
            let key = (node.clone(), network.clone());
            let Some(balancer) = self.balancers.get_mut(&key) else { continue };
            balancer.tasks -= 1;
            if balancer.tasks == 0 {
                let left = self.balancers.remove(&key).and_then(|balancer| balancer.address);
                self.release(&left.map(|address| (network.clone(), address)).into_iter().collect::<Vec<_>>());
            }
        }
    }

    /// Whether a task that is being prepared finds its node on all of its networks. If not, it waits.
    pub(crate) fn finds_balancers(&mut self, id: &TaskId) -> bool {
        let Some(task) = self.tasks.get(id) else { return false };
        let (Some(node), addresses) = (task.node.clone(), task.addresses.clone()) else { return false };
        let complete = self.have_balancers(&node, &addresses);
        if !complete {
            let waits = (self.tasks[id].created_at, id.clone());
            if self.waiting_tasks.insert(waits) {
                self.later(PATIENCE, Due::NoBalancer(id.clone()));
            }
        }
        complete
    }

    /// A task has waited long enough for its node.
    pub(crate) fn no_balancer(&mut self, id: &TaskId) {
        if !self.waits_for_balancer(id) {
            return;
        }
        if self.finds_balancers(id) {
            self.advance(id, TaskState::Preparing);
        } else {
            let error = "node is missing network attachments, ip addresses may be exhausted".to_owned();
            self.end(id, TaskState::Rejected, Some(error));
        }
    }

    /// Whether a task may still be waiting for its node.
    pub(crate) fn waits_for_balancer(&self, id: &TaskId) -> bool {
        self.tasks.get(id).is_some_and(|task| task.state == TaskState::Preparing && self.has_living_node(task))
    }
}
