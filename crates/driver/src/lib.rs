//! One level-triggered loop for everyone: be woken, let the burst pass, run one pass, say how it went, wait.
//!
//! # Guarantees
//! - Passes of one loop never overlap, and a wake-up during a pass leads to another pass.
//! - A burst of wake-ups leads to one pass, at the latest [`Pacing::at_most`] after the first of them.
//! - A pass that fails is followed by another one after a growing, jittered delay ([`Retry`]); wake-ups do
//!   not shorten it, so that a broken Engine is not hammered. Success resets it.
//! - When told to stop, the loop drops the pass under way. A pass must be fit for that: it is the same as a
//!   crash at that point, and the next start repairs it.
//!
//! What woke the loop is deliberately not passed to the pass: events wake, state decides.

mod retry;
mod status;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

pub use retry::Retry;
pub use status::{Reporter, Status};

/// What a loop does. One value owns the loop's state; nothing else touches it.
pub trait Level: Send {
    /// Why a pass failed.
    type Error: fmt::Display + Send;

    /// Waits until something may have changed. It must be cancel-safe, and what it saw must stay in `self`.
    fn woken(&mut self) -> impl Future<Output = ()> + Send;

    /// Looks at the state and does what it asks for, once.
    fn pass(&mut self) -> impl Future<Output = Result<Next, Self::Error>> + Send;
}

/// When to run again if nothing wakes the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Not before something wakes it.
    Woken,
    /// After this long, or when woken.
    After(Duration),
}

/// How long a burst of wake-ups may take, and how far passes that fail are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// A pass starts once it has been quiet for this long...
    pub quiet: Duration,
    /// ... and at the latest this long after the first wake-up.
    pub at_most: Duration,
    /// The longest delay after a pass that failed, before it is moved at random.
    pub retry_at_most: Duration,
}

impl Default for Pacing {
    /// 100 ms, at most 500 ms; at most 30 s after a failure.
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            at_most: Duration::from_millis(500),
            retry_at_most: Duration::from_secs(30),
        }
    }
}

/// Runs `level` until `stop` is cancelled. The first pass starts at once.
pub async fn run(mut level: impl Level, pacing: Pacing, reporter: Reporter, stop: CancellationToken) {
    let mut retry = Retry::new(pacing.retry_at_most);
    loop {
        let started = Instant::now();
        let outcome = tokio::select! {
            // Dropping the pass is the crash that every pass must survive.
            () = stop.cancelled() => return,
            outcome = level.pass() => outcome,
        };
        let next = match outcome {
            Ok(next) => {
                retry.reset();
                reporter.succeeded(started.elapsed());
                next
            }
            Err(error) => {
                let delay = retry.next_delay();
                reporter.failed(&error, delay);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(delay) => {}
                }
                continue;
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = due(next) => {}
            // `woken` is cancel-safe by contract.
            () = burst(&mut level, pacing) => {}
        }
    }
}

/// Resolves when a pass is due without a wake-up.
async fn due(next: Next) {
    match next {
        Next::Woken => std::future::pending().await,
        Next::After(delay) => sleep(delay).await,
    }
}

/// Resolves when the loop was woken and the burst is over.
async fn burst(level: &mut impl Level, pacing: Pacing) {
    level.woken().await;
    let latest = Instant::now() + pacing.at_most;
    loop {
        let quiet = Instant::now() + pacing.quiet;
        if quiet >= latest {
            sleep_until(latest).await;
            return;
        }
        if timeout_at(quiet, level.woken()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;
    use tokio::time::advance;

    use super::*;

    struct Counting {
        wake: Arc<Notify>,
        passes: Arc<AtomicUsize>,
        fail: Arc<AtomicUsize>,
        next: Next,
    }

    impl Level for Counting {
        type Error = &'static str;

        async fn woken(&mut self) {
            self.wake.notified().await;
        }

        async fn pass(&mut self) -> Result<Next, Self::Error> {
            self.passes.fetch_add(1, Ordering::SeqCst);
            if self.fail.load(Ordering::SeqCst) > 0 {
                self.fail.fetch_sub(1, Ordering::SeqCst);
                return Err("not this time");
            }
            Ok(self.next)
        }
    }

    struct Running {
        wake: Arc<Notify>,
        passes: Arc<AtomicUsize>,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
        status: tokio::sync::watch::Receiver<Status>,
    }

    async fn start(fail: usize, next: Next) -> Running {
        let wake = Arc::new(Notify::new());
        let passes = Arc::new(AtomicUsize::new(0));
        let level = Counting {
            wake: Arc::clone(&wake),
            passes: Arc::clone(&passes),
            fail: Arc::new(AtomicUsize::new(fail)),
            next,
        };
        let stop = CancellationToken::new();
        let (reporter, status) = Reporter::new("test");
        let task = tokio::spawn(run(level, Pacing::default(), reporter, stop.clone()));
        settle().await;
        Running { wake, passes, stop, task, status }
    }

    /// Lets every task that can run do so, without moving the clock.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    async fn after(duration: Duration) {
        advance(duration).await;
        settle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_pass_needs_no_wake_up() {
        let running = start(0, Next::Woken).await;
        assert_eq!(running.passes.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_pass_when_it_is_over() {
        let running = start(0, Next::Woken).await;
        for _ in 0..3 {
            running.wake.notify_one();
            settle().await;
            after(Duration::from_millis(60)).await;
        }
        assert_eq!(running.passes.load(Ordering::SeqCst), 1);
        after(Duration::from_millis(60)).await;
        assert_eq!(running.passes.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_burst_is_cut_at_half_a_second() {
        let running = start(0, Next::Woken).await;
        for _ in 0..11 {
            running.wake.notify_one();
            settle().await;
            after(Duration::from_millis(50)).await;
        }
        assert_eq!(running.passes.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_runs_again_when_due_without_a_wake_up() {
        let running = start(0, Next::After(Duration::from_secs(3))).await;
        after(Duration::from_millis(2900)).await;
        assert_eq!(running.passes.load(Ordering::SeqCst), 1);
        after(Duration::from_millis(200)).await;
        assert_eq!(running.passes.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_spaced_and_reported_and_success_ends_them() {
        let running = start(3, Next::Woken).await;
        assert_eq!(running.status.borrow().failures_in_a_row, 1);
        assert_eq!(running.status.borrow().last_error.as_deref(), Some("not this time"));
        // A wake-up does not shorten the wait.
        running.wake.notify_one();
        settle().await;
        assert_eq!(running.passes.load(Ordering::SeqCst), 1);
        after(Duration::from_secs(10)).await;
        after(Duration::from_secs(10)).await;
        after(Duration::from_secs(10)).await;
        assert!(running.passes.load(Ordering::SeqCst) >= 4);
        assert_eq!(running.status.borrow().failures_in_a_row, 0);
        assert_eq!(running.status.borrow().last_error, None);
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_when_told() {
        let running = start(0, Next::Woken).await;
        running.stop.cancel();
        running.task.await.expect("the loop ends without a panic");
    }
}
