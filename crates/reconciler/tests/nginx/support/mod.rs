//! What is asked for, applications, the proxy, and clients.

mod backend;
mod http;
mod proxy;
mod services;
mod tls;

pub use backend::{Backend, FIRST, GONE, SECOND};
pub use http::{Response, exchange, get};
pub use proxy::{Files, Proxy, accepted, accepted_with_secrets};
pub use services::{at, files, service, with};
pub use tls::{Authority, Client, Identity};
