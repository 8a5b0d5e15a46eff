//! What candidates refer to, as far as the Engine was asked.

use crate::networks::Networks;
use crate::nodes::Nodes;
use crate::secrets::Secrets;

/// The answers so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookups {
    pub(crate) networks: Networks,
    pub(crate) nodes: Nodes,
    pub(crate) secrets: Secrets,
}
