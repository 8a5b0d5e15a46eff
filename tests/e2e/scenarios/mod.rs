//! The scenarios, in the order in which they run.

use super::support::runner::Scenario;

/// All of them.
pub fn all() -> Vec<Scenario> {
    Vec::new()
}
