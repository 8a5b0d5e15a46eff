//! The program: arguments, configuration, wiring, the admin server, and subcommands over the same plain
//! functions as the loops. Everything that decides is in the crates below.

pub mod admin;
pub mod args;
pub mod bounded;
pub mod commands;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod explain;
pub mod http;
pub mod import;
pub mod lint;
pub mod logs;
pub mod look;
pub mod metrics;
pub mod nearest;
pub mod not_running;
pub mod orders;
pub mod routes;
pub mod running;
pub mod table;
pub mod view;
pub mod wire;
