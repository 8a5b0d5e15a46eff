//! How full a network is, for people and dashboards. Nothing is decided from it.

use serde::Serialize;

/// The addresses of a network that candidates are on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// The network's name.
    pub name: String,
    /// Its subnets, such as `10.0.1.0/24`.
    pub subnets: Vec<String>,
    /// How many addresses these have for services, tasks and nodes.
    pub total: u64,
    /// How many of them are taken or spoken for, at least: not everything that takes one can be seen.
    pub taken: u64,
    /// Whether hardly any is left: nine of ten are taken, or fewer are free than the next rollout of the proxies on it
    /// needs.
    pub nearly_full: bool,
}

impl Addresses {
    /// How many are free, at most.
    pub fn free(&self) -> u64 {
        self.total.saturating_sub(self.taken)
    }
}
