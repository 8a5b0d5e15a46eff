//! Takes the next step towards the target, for one cluster's proxies.
//!
//! - [`settings`]: what the proxy service should look like, as configured;
//! - [`spec`] and [`merge`]: the service spec in the Engine's JSON, and how it is changed without losing
//!   anybody's edit;
//! - [`inventory`] and [`objects`]: what is there;
//! - [`check`]: how a generation is tried before it is rolled out;
//! - [`rollout`] and [`hold`]: how a rollout goes, and what is remembered of one that failed;
//! - [`mod@plan`]: what to write next; [`step`]: the writes; [`mod@execute`]: obeys;
//! - [`fence`] and [`orders`]: which of two operators writes, and what a person orders;
//! - [`Actuator`]: the loop around them.
//!
//! # Guarantees
//! - Only objects that carry our instance and cluster are written, and only by [`execute()`].
//! - Nothing that the live spec or the spec before it refers to is removed.
//! - A running proxy is never touched because this process starts, stops or fails.
//!
//! What is in the files is not understood here: nginx's language is the reconciler's.

mod actuator;
pub mod check;
mod counters;
pub mod execute;
pub mod fence;
pub mod hold;
pub mod image;
pub mod inventory;
pub mod live;
pub mod memory;
pub mod merge;
pub mod moment;
pub mod objects;
pub mod orders;
pub mod plan;
pub mod rollout;
pub mod settings;
pub mod spec;
pub mod status;
pub mod step;
pub mod tally;

#[cfg(test)]
mod tests;

pub use actuator::{Actuator, Outputs};
pub use counters::Counters;
pub use execute::{Executed, execute};
pub use fence::Fence;
pub use inventory::{Inventory, inspect};
pub use memory::Memory;
pub use moment::Moment;
pub use plan::{Plan, plan};
pub use settings::{CheckPolicy, Checks, ProxySettings, Settings, is_service_name};
pub use status::{Phase, Status};
pub use step::{Kind, Step};
