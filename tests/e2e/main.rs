//! End-to-end scenarios on a real engine: real dockerd, real nginx, real requests.
//!
//! `cargo test -p dovetail-tests` runs them all, `cargo test -p dovetail-tests -- NAME...` those whose name
//! contains one of the words, `-- --list` names them. Two lanes (`E2E_LANES`) run one scenario after the other, each on
//! throwaway engines of its own (`scripts/engine`), which are taken down at the end, after a failure and after Ctrl-C.

mod support;

mod scenarios;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::runner::run(&scenarios::all())
}
