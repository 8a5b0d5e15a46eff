//! The words Dovetail speaks: what the cluster asks for ([`Desired`]), what the proxy should be
//! ([`ProxySpec`], [`Bundle`]), what is live ([`Published`], [`Manifest`]), and what to tell people ([`Report`]).
//!
//! Nothing here does IO, reads a clock or throws dice. Names with rules have a checking constructor, so
//! that a value of such a type is fit to be written into a proxy file or an object name.

mod addresses;
mod bundle;
mod desired;
mod digest;
pub mod labels;
mod manifest;
mod names;
mod options;
mod problem;
mod published;
mod report;
mod shard;
mod spec;
pub mod values;

pub use addresses::Addresses;
pub use bundle::{Bundle, File, Files, SECRETS_DIRECTORY, SecretMount, Target};
pub use desired::{
    AtNode, BackendMode, Backends, Desired, Network, Request, Scale, Service, Shortage, Task, TaskAddresses,
};
pub use digest::Digest;
pub use manifest::{Manifest, ManifestError, Publication, Publications};
pub use names::{
    ClusterName, ConfigId, Host, HostError, InstanceName, NameError, NetworkId, NodeId, SecretId, ServiceId, TaskId,
    Timestamp,
};
pub use options::{BackendTls, HostOptions, Options, RouteOptions, Secrets, ServerOptions, Sticky, Tls};
pub use problem::{Code, Problem, excerpt};
pub use published::{Fragment, Hold, Published};
pub use report::{NetworkChoice, Report, ServiceReport, ServiceReports, TaskVerdict, Verdict};
pub use shard::Shards;
pub use spec::{Contribution, Contributions, Group, ProxySpec, Route};
