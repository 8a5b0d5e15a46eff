//! Limits of Swarm that an object of ours must keep.

/// The longest name of a config or secret, in characters of `[a-zA-Z0-9-_.]`.
pub const NAME: usize = 64;

/// The largest config, in bytes, that every engine since 20.10 takes. Since 20.10.15 it would be 1000 KiB.
pub const CONFIG_BYTES: usize = 500 * 1024 - 1;

/// The most of a task's log that is read, in bytes: room for the words of a program that failed.
pub const LOG_BYTES: usize = 8 * 1024;

/// The oldest API that has `GET /services?status=true`: that of Engine 20.10.
pub const API_VERSION: (u32, u32) = (1, 41);
