//! How a loop is doing, for logs, metrics and health.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How a loop is doing.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Passes that went well.
    pub passes: u64,
    /// Passes that failed.
    pub failures: u64,
    /// Failures since the last pass that went well.
    pub failures_in_a_row: u64,
    /// The last failure, if nothing went well since.
    pub last_error: Option<String>,
    /// When a pass last went well.
    pub last_success: Option<Instant>,
    /// How long that pass took.
    pub last_duration: Duration,
}

/// The loop's end of its [`Status`].
#[derive(Debug)]
pub struct Reporter {
    name: String,
    status: watch::Sender<Status>,
}

impl Reporter {
    /// A reporter for the loop of this name, and where to read what it reports.
    pub fn new(name: impl Into<String>) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status::default());
        (Self { name: name.into(), status }, receiver)
    }

    pub(crate) fn succeeded(&self, took: Duration) {
        let recovered = self.status.borrow().failures_in_a_row;
        if recovered > 0 {
            tracing::info!(loop_name = %self.name, failures = recovered, "the loop works again");
        }
        self.status.send_modify(|status| {
            status.passes += 1;
            status.failures_in_a_row = 0;
            status.last_error = None;
            status.last_success = Some(Instant::now());
            status.last_duration = took;
        });
    }

    /// Logs the first failure and then each that says something new; repeats are counted, not repeated.
    pub(crate) fn failed(&self, error: &impl fmt::Display, retry_in: Duration) {
        let text = error.to_string();
        let repeated = self.status.borrow().last_error.as_deref() == Some(text.as_str());
        let retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
        if repeated {
            tracing::debug!(loop_name = %self.name, error = %text, retry_in_ms, "the pass failed again");
        } else {
            tracing::warn!(loop_name = %self.name, error = %text, retry_in_ms, "the pass failed");
        }
        self.status.send_modify(|status| {
            status.failures += 1;
            status.failures_in_a_row += 1;
            status.last_error = Some(text);
        });
    }
}
