//! The rendered files in a real nginx: accepted by it, and serving what was meant.
//!
//! It is the nginx on the path, or the program that `DOVETAIL_TEST_NGINX` names, with its modules in
//! `DOVETAIL_TEST_NGINX_MODULES`; `make test-nginx` runs these tests with every release that we render for.

mod accepted;
#[path = "../../src/sample/any_options.rs"]
mod any_options;
mod backend_tls;
mod connections;
mod errors;
mod hosts;
mod passthrough;
mod paths;
mod policies;
mod redirects;
mod shares;
mod sticky;
mod support;
mod tls;
mod way;
