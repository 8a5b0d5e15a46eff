//! nginx's language: how it is set up, and how a spec is written in it.

mod command;
mod names;
mod render;
mod settings;
mod values;
mod writer;

pub use command::{REFUSAL, UNRESOLVED, check_command};
pub(crate) use names::{BUCKET_LIMIT, Bucket, Tables};
pub use render::{COMMAND, HEALTH_PORT, MAIN_FILE, ROUTES_DIRECTORY, render};
pub(crate) use render::{PIECE_LIMIT, Rendered, SERVICE_LIMIT, is_redirected, size, weight, weight_without_hosts};
pub use settings::{
    AccessLog, ErrorLogLevel, ExtraLines, Forwarded, InvalidSetting, LargeHeaderBuffers, Settings, TlsProtocol, Workers,
};
pub use values::{AdminLine, Text, Version};
