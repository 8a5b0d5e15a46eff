//! Waiting for a condition, with a deadline and a name. Nothing here sleeps for luck.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// A deadline on this machine: an emulated one, which says so in E2E_SLOWNESS, needs more time for everything.
pub fn stretched(deadline: Duration) -> Duration {
    static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
        std::env::var("E2E_SLOWNESS").map_or(1, |text| text.parse().expect("E2E_SLOWNESS is a number"))
    });
    deadline * *SLOWNESS
}

/// How long to wait for a condition that should hold within this time. On the machines of a continuous integration
/// everything may take twice as long, and is no fault for it.
fn patience(within: Duration) -> Duration {
    static BUSY: LazyLock<u32> = LazyLock::new(|| if std::env::var_os("CI").is_some() { 2 } else { 1 });
    stretched(within) * *BUSY
}

/// How long the last answer may take beyond the deadline: one that never comes would be waited for without end.
const LAST_ANSWER: Duration = Duration::from_secs(120);

/// The unit of most deadlines.
pub const SECOND: Duration = Duration::from_secs(1);

/// Waits until `condition` holds, asking every 100 ms; its last complaint is in the failure. Where asking takes longer
/// than that (the docker client, emulated, is at work for a second) it waits for as long as it took: asking all the
/// time would slow down what is asked for.
pub async fn until<F, T>(what: &str, within: Duration, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let within = patience(within);
    let deadline = Instant::now() + within;
    loop {
        let asked = Instant::now();
        let complaint = match timeout_at(deadline + LAST_ANSWER, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(complaint)) => complaint,
            Err(_) => anyhow!("nor was there an answer {} s later", LAST_ANSWER.as_secs()),
        };
        if Instant::now() >= deadline {
            bail!("not within {} s: {what}: {complaint:#}", within.as_secs_f64());
        }
        sleep(asked.elapsed().max(Duration::from_millis(100))).await;
    }
}

/// Checks all the time that `condition` holds for so long; for "nothing happens" (follow it with a change that
/// must happen, or a dead operator passes).
pub async fn throughout<F>(what: &str, duration: Duration, mut condition: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let end = Instant::now() + duration;
    while Instant::now() < end {
        if let Err(complaint) = condition().await {
            bail!("{what}: {complaint:#}");
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
