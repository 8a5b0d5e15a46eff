//! Logs what is wrong with services: each problem once when it appears, and once when it is gone.

use std::collections::{BTreeMap, BTreeSet};

use model::{Problem, Service, ServiceId};

/// What was said and still stands.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    standing: BTreeMap<ServiceId, BTreeSet<Problem>>,
}

/// What there is to say about one service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    appeared: Vec<Problem>,
    gone: Vec<Problem>,
}

impl Complaints {
    /// Looks at one service whose routing changed; `None` if it does not ask to be routed any more.
    pub(crate) fn update(&mut self, id: &ServiceId, service: Option<&Service>) -> News {
        let before = self.standing.remove(id).unwrap_or_default();
        // Nobody wants to hear that a service which is gone is well.
        let Some(service) = service else { return News::default() };
        let now = complaints(service);
        let news = News {
            appeared: now.difference(&before).cloned().collect(),
            gone: before.difference(&now).cloned().collect(),
        };
        if !now.is_empty() {
            self.standing.insert(id.clone(), now);
        }
        news
    }
}

impl News {
    pub(crate) fn log(&self, service: &str) {
        for problem in &self.appeared {
            tracing::warn!(service, code = problem.code.as_str(), "{problem}");
        }
        for problem in &self.gone {
            tracing::info!(service, code = problem.code.as_str(), "no longer: {problem}");
        }
    }
}

/// What keeps a service from being routed, and what does not.
fn complaints(service: &Service) -> BTreeSet<Problem> {
    let problems = service.asked.as_ref().err().into_iter().flatten();
    problems.chain(&service.warnings).cloned().collect()
}

#[cfg(test)]
mod tests {
    use model::Code;
    use tokio::time::Instant;

    use super::*;
    use crate::facts::{Facts, TaskRead};
    use crate::fixtures::service;
    use crate::index::Candidate;
    use crate::lookups::Lookups;
    use crate::request;

    #[test]
    fn a_problem_is_told_when_it_appears_and_when_it_is_gone() {
        let mut complaints = Complaints::default();
        let mut told = |labels: Option<&[(&str, &str)]>| {
            let service = labels.map(|labels| {
                let read = service("web").labels(labels).with(|service| {
                    service.networks.clear();
                    service.endpoint.vips.clear();
                });
                let read = read.build();
                let reading = request::read(&read).unwrap();
                let candidate = Candidate::new(read, reading);
                Facts::new(candidate, TaskRead::NotAsked, &Lookups::default(), None, Instant::now()).unwrap().service
            });
            let news = complaints.update(&"web-id".into(), service.as_deref());
            let codes = |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.code).collect::<Vec<_>>();
            (codes(news.appeared), codes(news.gone))
        };
        let bad: &[(&str, &str)] = &[("hosts", "$"), ("port", "80")];
        let worse: &[(&str, &str)] = &[("hosts", "$"), ("port", "x")];
        let good: &[(&str, &str)] = &[("hosts", "a"), ("port", "80")];
        assert_eq!(told(Some(bad)), (vec![Code::BadHost], vec![]));
        assert_eq!(told(Some(bad)), (vec![], vec![]));
        assert_eq!(told(Some(worse)), (vec![Code::BadPort], vec![]));
        assert_eq!(told(Some(good)), (vec![], vec![Code::BadHost, Code::BadPort]));
        assert_eq!(told(Some(bad)), (vec![Code::BadHost], vec![]));
        assert_eq!(told(None), (vec![], vec![]));
        assert_eq!(told(Some(bad)), (vec![Code::BadHost], vec![]));
    }
}
