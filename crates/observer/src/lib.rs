//! The observer: says what the cluster asks for.
//!
//! [`request`] reads one service's labels, the index folds all services into a [`model::Desired`], and
//! [`Significance`] says which changes reach it; these are plain functions. [`Observer`] is the loop around
//! them: it subscribes to the Engine's events, lists, and publishes.
//!
//! Deliberately missing: which network a service is reached over, who shares a host with whom, and what the
//! proxy should be. That is the reconciler's.

mod complaints;
mod facts;
#[cfg(test)]
mod fixtures;
mod index;
#[cfg(test)]
mod laws;
mod lookups;
mod networks;
mod observer;
mod reading;
pub mod request;
mod secrets;
mod significance;

pub use observer::{Observer, Settings, observe_once};
pub use significance::{Routing, ShortCircuitCount, ShortCircuits, Significance, Spared};
