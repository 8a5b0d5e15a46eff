//! A steady load of requests, and what became of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::http::status;

/// Between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(20);

/// Requests for some hosts in turn, one after the other, until it is dropped.
#[derive(Debug)]
pub struct Load {
    /// Never held across an await.
    counts: Arc<Mutex<Counts>>,
    stop: CancellationToken,
}

/// What became of them.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Answered with 200.
    pub answered: u64,
    /// Answered with anything else, or not at all.
    pub failed: u64,
    /// The longest time without a good answer.
    pub longest_gap: Duration,
    last_good: Instant,
}

impl Load {
    pub fn start(proxy: SocketAddr, hosts: &'static [&'static str]) -> Self {
        let load = Self { counts: Arc::new(Mutex::new(Counts::new())), stop: CancellationToken::new() };
        let (counts, stop) = (Arc::clone(&load.counts), load.stop.clone());
        tokio::spawn(async move {
            for host in hosts.iter().cycle() {
                if stop.is_cancelled() {
                    break;
                }
                let good = status(proxy, host).await == 200;
                counts.lock().unwrap_or_else(PoisonError::into_inner).note(good);
                sleep(PAUSE).await;
            }
        });
        load
    }

    /// The requests since the last time, which are counted anew from now on.
    pub fn take(&self) -> Counts {
        std::mem::replace(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner), Counts::new())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Counts {
    fn new() -> Self {
        Self { answered: 0, failed: 0, longest_gap: Duration::ZERO, last_good: Instant::now() }
    }

    fn note(&mut self, good: bool) {
        let gap = self.last_good.elapsed();
        self.longest_gap = self.longest_gap.max(gap);
        if good {
            self.answered += 1;
            self.last_good = Instant::now();
        } else {
            self.failed += 1;
        }
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.answered + self.failed
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failed, longest_gap, .. } = self;
        write!(f, "{} requests, {failed} failed, longest gap {:.2} s", self.sent(), longest_gap.as_secs_f64())
    }
}
