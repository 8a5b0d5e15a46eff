//! What the reconciler did, for metrics. Kept beside what is counted, read by whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::{Code, Report};

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

    pub(crate) fn compiled(&self, took: Duration, report: &Report) {
        self.compiles.fetch_add(1, Ordering::Relaxed);
        add(&self.compile_nanoseconds, took);
        let mut now = [0; Code::ALL.len()];
        for problem in report.services.values().flat_map(|about| about.problems.iter().chain(&about.warnings)) {
            if let Some(index) = Code::ALL.iter().position(|one| *one == problem.code) {
                now[index] += 1;
            }
        }
        for (gauge, value) in self.problems.iter().zip(now) {
            gauge.store(value, Ordering::Relaxed);
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
