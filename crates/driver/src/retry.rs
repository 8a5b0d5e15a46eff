//! Delays between passes that fail. The only place that knows the crate `backoff`.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// 250 ms, growing by 1.8 to a limit, each delay moved by up to half of itself at random, for ever.
#[derive(Debug)]
pub struct Retry(ExponentialBackoff);

impl Retry {
    /// Delays of at most `limit`, before they are moved at random.
    pub fn new(limit: Duration) -> Self {
        Self(ExponentialBackoff {
            initial_interval: Duration::from_millis(250),
            current_interval: Duration::from_millis(250),
            multiplier: 1.8,
            randomization_factor: 0.5,
            max_interval: limit,
            // Never give up: what is right to do when the Engine is gone is to wait for it.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// How long to wait after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// A success: the next failure waits shortly again.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_start_over_after_a_success() {
        let mut retry = Retry::new(Duration::from_secs(30));
        let delays: Vec<Duration> = (0..20).map(|_| retry.next_delay()).collect();
        assert!(delays[0] <= Duration::from_millis(375));
        assert!(delays[19] >= Duration::from_secs(15) && delays[19] <= Duration::from_secs(45));
        retry.reset();
        assert!(retry.next_delay() <= Duration::from_millis(375));
    }
}
