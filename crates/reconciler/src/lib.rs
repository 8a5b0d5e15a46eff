//! Says what the proxy should be. The pass is a pipeline of plain functions:
//!
//! 1. [`compile()`] decides about every candidate service and assembles one [`model::ProxySpec`] per service
//!    cluster, with a [`model::Report`] that says why.
//! 2. [`check()`] asserts the laws that every such spec keeps; a violation is a bug of ours.
//! 3. [`nginx::render`] writes the spec in nginx's language, and [`target()`] packs the files with a manifest.
//! 4. [`Reconciler`] runs this as a level-triggered loop and publishes a target where the generation differs.
//!
//! The loop does so again and again, so [`Compiler`] and [`Bundler`] remember what they made: from one change comes the
//! work of one change. The plain functions are these two with nothing remembered.
//!
//! Swarm does not exist here: what is live comes in as [`model::Published`], what should be goes out as
//! [`model::Target`]. Nothing but [`Reconciler`] is `async` or reads a clock.

mod bisect;
mod bundle;
mod check;
mod claims;
mod cluster;
mod compile;
mod counters;
mod decide;
mod dependents;
mod difference;
mod endpoints;
mod excess;
mod groups;
mod holds;
mod joining;
mod live;
mod loads;
mod network;
pub mod nginx;
mod pass;
mod reason;
mod room;
#[cfg(test)]
mod sample;
mod secrets;
mod settings;
mod setup;
mod tally;

pub use bundle::{Bundler, target};
pub use check::{Violation, check};
pub use claims::{ClaimRule, Claims, HostPattern};
pub use compile::{Compiled, Compiler, compile};
pub use counters::Counters;
pub use pass::Reconciler;
pub use settings::{ClusterSettings, Settings};
