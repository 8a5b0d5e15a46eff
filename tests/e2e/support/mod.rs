//! What scenarios stand on.

pub mod admission;
pub mod api;
pub mod calls;
pub mod crowd;
pub mod docker;
pub mod engine;
pub mod load;
pub mod operator;
pub mod permissions;
pub mod process;
pub mod recorder;
pub mod runner;
pub mod tls;
pub mod wait;
pub mod websocket;
pub mod world;
