//! What was checked, and how it went.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A line of progress, on standard error: standard output is for the table at the end.
pub fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "demo: {line}");
}

/// The checks so far, in their order.
#[derive(Debug, Default)]
pub struct Checks(Vec<(bool, String)>);

impl Checks {
    /// Notes and says how a check went.
    pub fn note(&mut self, passed: bool, what: &str) {
        say(&line(passed, what));
        self.0.push((passed, what.to_owned()));
    }

    /// How many passed.
    pub fn passed(&self) -> usize {
        self.0.iter().filter(|(passed, _)| *passed).count()
    }

    /// How many did not.
    pub fn failed(&self) -> usize {
        self.0.len() - self.passed()
    }
}

/// Whether a condition comes to hold in time.
pub async fn holds_within(limit: Duration, condition: impl AsyncFn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition().await {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(50)).await;
    }
    true
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(passed, what)| writeln!(f, "{}", line(*passed, what)))
    }
}

fn line(passed: bool, what: &str) -> String {
    format!("{}  {what}", if passed { "ok    " } else { "FAILED" })
}
