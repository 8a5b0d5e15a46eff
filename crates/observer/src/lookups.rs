//! What candidates refer to, as far as the Engine was asked.

use std::time::Duration;

use crate::crash_loops::CrashLoops;
use crate::networks::Networks;
use crate::nodes::Nodes;
use crate::secrets::Secrets;

/// The answers so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookups {
    pub(crate) networks: Networks,
    pub(crate) nodes: Nodes,
    pub(crate) secrets: Secrets,
    pub(crate) crash_loops: CrashLoops,
}

impl Lookups {
    /// Nothing was asked yet. No task is held off for longer than `crash_loop_wait`.
    pub(crate) fn new(crash_loop_wait: Duration) -> Self {
        Self { crash_loops: CrashLoops::new(crash_loop_wait), ..Self::default() }
    }
}
