//! The observer: says what the cluster asks for.
//!
//! [`request`] reads one service's labels, the index folds all services into a [`model::Desired`], and
//! [`Significance`] says which changes reach it; these are plain functions. [`Observer`] is the loop around
//! them: it subscribes to the Engine's events, lists, and publishes.
//!
//! How full networks are is counted in `addresses`, as far as a list of services tells; whether proxies could join one
//! is part of [`model::Desired`], the numbers are not.
//!
//! Deliberately missing: which network a service is reached over, who shares a host with whom, and what the
//! proxy should be. That is the reconciler's.

mod addresses;
mod complaints;
mod crash_loops;
mod facts;
#[cfg(test)]
mod fixtures;
mod gaps;
mod index;
#[cfg(test)]
mod laws;
mod lookups;
mod networks;
mod nodes;
mod observer;
mod reading;
pub mod request;
mod secrets;
mod significance;

pub use addresses::Proxies;
pub use observer::{Completeness, Observation, Observer, Settings, observe_once};
pub use significance::{Routing, ShortCircuitCount, ShortCircuits, Significance, Spared};
