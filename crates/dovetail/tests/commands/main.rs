//! The program from the outside: its subcommands, its admin server and its end, with the operator's loops really
//! running on the embedded Swarm; and the binary itself.

mod admin;
mod binary;
#[cfg(feature = "demo")]
mod demo;
mod explains;
mod imports;
mod lints;
mod looks;
mod mutated;
mod networks;
mod operator;
mod orders;
mod real_time;
mod rollouts;
mod stage;
