//! The addresses of the nodes, as far as the Engine was asked.
//!
//! Only services that are reached at their nodes need them, so nobody asks while there is none. A list is remembered,
//! the nodes included that it does not have: the next one is due when a task runs on a node that nobody has asked about,
//! after events of nodes, and once a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::NodeId;

/// The answers so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    answers: BTreeMap<NodeId, Option<IpAddr>>,
    /// Nodes may have changed since.
    doubtful: bool,
    /// The last list was refused.
    refused: bool,
}

impl Nodes {
    /// The address of a node, if it has one that is known; the outer `None` if nobody has asked, or nobody answered.
    pub(crate) fn address(&self, node: &NodeId) -> Option<Option<IpAddr>> {
        self.answers.get(node).copied()
    }

    /// Whether the last list tells nothing about one of `wanted`, or something that may have changed.
    pub(crate) fn must_be_read(&self, wanted: &BTreeSet<NodeId>) -> bool {
        !wanted.is_empty() && (self.doubtful || wanted.iter().any(|node| !self.answers.contains_key(node)))
    }

    /// Takes in a complete list.
    pub(crate) fn learn(&mut self, wanted: &BTreeSet<NodeId>, list: Vec<swarm::Node>) {
        self.answers = list.into_iter().map(|node| (node.id, node.address)).collect();
        self.settle(wanted);
        self.refused = false;
    }

    /// Takes in that we may not see nodes: addresses that were never seen are not known. Says whether that is news.
    pub(crate) fn refuse(&mut self, wanted: &BTreeSet<NodeId>) -> bool {
        self.settle(wanted);
        !std::mem::replace(&mut self.refused, true)
    }

    fn settle(&mut self, wanted: &BTreeSet<NodeId>) {
        for node in wanted {
            self.answers.entry(node.clone()).or_default();
        }
        self.doubtful = false;
    }

    /// Takes in that nodes may have changed.
    pub(crate) fn doubt(&mut self) {
        self.doubtful = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> BTreeSet<NodeId> {
        ids.iter().map(|id| NodeId::new(*id)).collect()
    }

    #[test]
    fn nodes_are_asked_for_when_one_is_unheard_of_or_something_changed() {
        let address = |text: &str| Some(text.parse().unwrap());
        let node = |id: &str, at: Option<IpAddr>| swarm::Node { id: NodeId::new(id), address: at };
        let mut nodes = Nodes::default();
        assert!(nodes.must_be_read(&ids(&["a"])) && !nodes.must_be_read(&ids(&[])));
        assert_eq!(nodes.address(&"a".into()), None);
        nodes.learn(&ids(&["a", "gone"]), vec![node("a", address("172.20.0.1")), node("b", None)]);
        assert!(!nodes.must_be_read(&ids(&["a", "b", "gone"])) && nodes.must_be_read(&ids(&["a", "c"])));
        let known = ["a", "b", "gone"].map(|id| nodes.address(&id.into()));
        assert_eq!(known, [Some(address("172.20.0.1")), Some(None), Some(None)]);
        nodes.doubt();
        assert!(nodes.must_be_read(&ids(&["a"])) && nodes.address(&"a".into()).is_some());
        assert!(nodes.refuse(&ids(&["a", "c"])) && !nodes.refuse(&ids(&["a", "c"])), "news once");
        assert_eq!(["a", "c"].map(|id| nodes.address(&id.into())), [Some(address("172.20.0.1")), Some(None)]);
        nodes.learn(&ids(&["a"]), vec![node("a", address("172.20.0.9"))]);
        assert_eq!(["a", "c"].map(|id| nodes.address(&id.into())), [Some(address("172.20.0.9")), None]);
        assert!(nodes.refuse(&ids(&["a"])));
    }
}
