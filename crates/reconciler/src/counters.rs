//! What the reconciler did, for metrics. Kept beside what is counted, read by whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::{Code, ServiceReport};

/// Counts since the start, unless said otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    compiles: AtomicU64,
    compile_nanoseconds: AtomicU64,
    renders: AtomicU64,
    render_nanoseconds: AtomicU64,
    targets: AtomicU64,
    violations: AtomicU64,
    problems: [AtomicU64; Code::ALL.len()],
}

impl Counters {
    /// How often everything was decided anew, and how long that took in all.
    pub fn compiles(&self) -> (u64, Duration) {
        (read(&self.compiles), Duration::from_nanos(read(&self.compile_nanoseconds)))
    }

    /// How often a cluster's files were written anew, and how long that took in all.
    pub fn renders(&self) -> (u64, Duration) {
        (read(&self.renders), Duration::from_nanos(read(&self.render_nanoseconds)))
    }

    /// How often a cluster got another target.
    pub fn targets(&self) -> u64 {
        read(&self.targets)
    }

    /// How often a spec broke a law of ours. More than 0 is a bug in Dovetail.
    pub fn violations(&self) -> u64 {
        read(&self.violations)
    }

    /// How many problems and warnings of this kind there are now.
    pub fn problems(&self, code: Code) -> u64 {
        Code::ALL.iter().position(|one| *one == code).map_or(0, |index| read(&self.problems[index]))
    }

    pub(crate) fn compiled(&self, took: Duration) {
        self.compiles.fetch_add(1, Ordering::Relaxed);
        add(&self.compile_nanoseconds, took);
    }

    /// Counts what a service has now, in the place of what it had before.
    pub(crate) fn reported(&self, before: Option<&ServiceReport>, now: Option<&ServiceReport>) {
        let gauges = |about: Option<&ServiceReport>| {
            let problems = about.into_iter().flat_map(|about| about.problems.iter().chain(&about.warnings));
            let index = |code| Code::ALL.iter().position(|one| *one == code);
            problems.filter_map(|problem| index(problem.code)).map(|index| &self.problems[index]).collect::<Vec<_>>()
        };
        for gauge in gauges(now) {
            gauge.fetch_add(1, Ordering::Relaxed);
        }
        for gauge in gauges(before) {
            gauge.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn rendered(&self, took: Duration) {
        self.renders.fetch_add(1, Ordering::Relaxed);
        add(&self.render_nanoseconds, took);
    }

    pub(crate) fn retargeted(&self) {
        self.targets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn violated(&self) {
        self.violations.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, took: Duration) {
    counter.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}
