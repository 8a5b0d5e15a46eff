//! Real processes live in real time, and the tests of them have no runtime.
#![expect(clippy::disallowed_types, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

/// How long something takes.
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Waits until a condition holds; whether it came to that in time.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let stopwatch = Stopwatch::start();
    while !condition() {
        if stopwatch.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
