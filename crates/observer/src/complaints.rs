//! Logs what is wrong with services: each problem once when it appears, and once when it is gone.

use std::collections::{BTreeMap, BTreeSet};

use model::{Desired, Problem, Service, ServiceId};

/// What was logged and still stands.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    standing: BTreeMap<ServiceId, BTreeSet<Problem>>,
}

impl Complaints {
    /// Looks at one service whose routing changed.
    pub(crate) fn update(&mut self, id: &ServiceId, name: &str, desired: &Desired) {
        let now = desired.services.get(id).map(|service| complaints(service)).unwrap_or_default();
        let gone = !desired.services.contains_key(id);
        let before = self.standing.remove(id).unwrap_or_default();
        for problem in now.difference(&before) {
            tracing::warn!(service = name, code = problem.code.as_str(), "{problem}");
        }
        // Nobody wants to hear that a service which is gone is well.
        if !gone {
            for problem in before.difference(&now) {
                tracing::info!(service = name, code = problem.code.as_str(), "no longer: {problem}");
            }
        }
        if !now.is_empty() {
            self.standing.insert(id.clone(), now);
        }
    }
}

/// What keeps a service from being routed, and what does not.
fn complaints(service: &Service) -> BTreeSet<Problem> {
    let problems = service.asked.as_ref().err().into_iter().flatten();
    problems.chain(&service.warnings).cloned().collect()
}
