//! Counts of what goes to the Engine and comes back, for a metrics endpoint.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use swarm::Class;

/// What went to the Engine and came back, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections opened. Far fewer than calls, or keep-alive does not work.
    pub connections: u64,
    /// Requests sent, pings and subscriptions among them.
    pub calls: u64,
    /// Bytes received: heads, bodies and events, after decryption.
    pub bytes_received: u64,
    /// Bytes sent, before encryption.
    pub bytes_sent: u64,
    /// Verbs of the port that failed, by class. A class without failures is absent.
    pub errors: BTreeMap<Class, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub connections: AtomicU64,
    pub calls: AtomicU64,
    pub bytes_received: AtomicU64,
    pub bytes_sent: AtomicU64,
    /// A lock and not one atomic per class: failures are rare, and it is never held over anything.
    errors: Mutex<BTreeMap<Class, u64>>,
}

impl Counters {
    pub fn failed(&self, class: Class) {
        *self.errors.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).entry(class).or_default() += 1;
    }

    pub fn read(&self) -> Traffic {
        Traffic {
            connections: self.connections.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            errors: self.errors.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone(),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(u64::try_from(amount).unwrap_or(u64::MAX), Ordering::Relaxed);
}
