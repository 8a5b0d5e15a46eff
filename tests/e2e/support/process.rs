//! Processes that the tests have started.

use anyhow::{Result, ensure};
use tokio::process::Command;

/// Sends SIGTERM to a child that nobody has waited for yet.
pub async fn terminate(id: u32) -> Result<()> {
    let status = Command::new("kill").arg("-TERM").arg(id.to_string()).status().await?;
    ensure!(status.success(), "kill -TERM {id} ended with {status}");
    Ok(())
}
