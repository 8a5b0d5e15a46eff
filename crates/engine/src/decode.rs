//! From the Engine's JSON to the port's types. Plain functions; what they refuse, they refuse with words.
//!
//! Services and tasks are read into structs of our own and not into bollard's models: those refuse a whole
//! list for one word that they do not know, and read 100,000 task specs to throw them away. Lists are read object by
//! object while they arrive ([`List`]).
//!
//! What is missing or does not parse is an error of the whole answer, since half an answer is none. Only
//! words from sets that newer engines may extend degrade, always to the side that changes nothing:
//!
//! * an unknown state of a task is [`swarm::TaskState::New`]: it does not run, and it has not failed;
//! * an unknown desired state is [`swarm::DesiredState::Ready`]: not to be served, and not gone;
//! * an unknown state of an update is as if there were no update status, which is a hint anyway;
//! * an unknown kind of service is [`swarm::Mode::Job`]: nothing that can be routed to;
//! * an unknown endpoint mode is VIP: whether there is a VIP is seen from the VIPs;
//! * a subnet that does not read leaves a network's addresses unknown: they only serve to warn, and to wait.

mod engine;
mod events;
mod list;
mod logs;
mod nodes;
mod objects;
mod services;
mod tasks;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use model::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) use engine::{Version, error_message, image_digest, is_manager, version};
pub(crate) use events::event;
pub(crate) use list::List;
pub(crate) use logs::{LOG_HEAD, log};
pub(crate) use nodes::node;
pub(crate) use objects::{config, config_spec, network, secret};
pub(crate) use services::{created, raw_service, service, warnings};
pub(crate) use tasks::{tasks, tasks_with_specs};

pub(crate) type Decoded<T> = Result<T, String>;

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Decoded<T> {
    serde_json::from_slice(bytes).map_err(|error| format!("the answer does not read: {error}"))
}

/// A text, copied only if something in it is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// A published port, in a service's spec and in the status of a task. Swarm keeps 32 bits, and checks no upper bound: a
/// number that is none must not make a whole list unreadable.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct WirePort {
    protocol: String,
    publish_mode: String,
    target_port: u32,
    published_port: u32,
}

impl WirePort {
    /// The container's port, if a node publishes it, for TCP.
    fn on_node(&self) -> Option<u16> {
        let on_node = self.publish_mode == "host" && matches!(self.protocol.as_str(), "tcp" | "");
        on_node.then(|| port(self.target_port)).flatten()
    }
}

fn port(number: u32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// `10.0.1.4/24` or `10.0.1.4`.
fn address(text: &str) -> Decoded<IpAddr> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    address.parse().map_err(|_| format!("{text:?} is no address"))
}

/// A time out of the range of nanoseconds in 64 bits (Go's zero time) is the nearest in it: only the order counts.
fn timestamp(text: &str) -> Decoded<Timestamp> {
    let time: jiff::Timestamp = text.parse().map_err(|_| format!("{text:?} is no time"))?;
    let nanoseconds = time.as_nanosecond();
    let nearest = nanoseconds.clamp(i64::MIN.into(), i64::MAX.into());
    Ok(Timestamp(i64::try_from(nearest).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
