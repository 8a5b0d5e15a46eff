//! Waiting for a condition, with a deadline and a name. Nothing here sleeps for luck.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// A deadline on this machine: an emulated one, which says so in E2E_SLOWNESS, needs more time for everything.
pub fn stretched(deadline: Duration) -> Duration {
    static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
        std::env::var("E2E_SLOWNESS").map_or(1, |text| text.parse().expect("E2E_SLOWNESS is a number"))
    });
    deadline * *SLOWNESS
}

/// The unit of most deadlines.
pub const SECOND: Duration = Duration::from_secs(1);

/// Waits until `condition` holds, asking every 100 ms; its last complaint is in the failure.
pub async fn until<F, T>(what: &str, within: Duration, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let within = stretched(within);
    let deadline = Instant::now() + within;
    loop {
        let complaint = match condition().await {
            Ok(value) => return Ok(value),
            Err(complaint) => complaint,
        };
        if Instant::now() >= deadline {
            bail!("not within {} s: {what}: {complaint:#}", within.as_secs_f64());
        }
        sleep(Duration::from_millis(100)).await;
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
