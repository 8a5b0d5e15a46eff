//! Time as an argument.

use std::time::Duration;

/// A point in time: seconds since 1970, in a clock that never goes backwards while the process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Moment {
    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since 1970, as written into labels.
    pub fn seconds(self) -> u64 {
        self.0.as_secs()
    }
}

/// The wall clock at the start, and the runtime's own clock from there: tests can pause it, and a corrected
/// wall clock shortens no deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Duration,
    since: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self { started: wall.unwrap_or_default(), since: tokio::time::Instant::now() }
    }

    #[cfg(test)]
    pub(crate) fn advance(&mut self, by: Duration) {
        self.started += by;
    }

    pub(crate) fn now(&self) -> Moment {
        Moment(self.started + self.since.elapsed())
    }
}
