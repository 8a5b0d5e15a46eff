//! The adapter against a server in this process that answers well and badly: what goes over the wire, and
//! what becomes of what comes back.

mod calls;
mod certificates;
mod events;
mod fake;
mod tls;

use std::time::Duration;

use dovetail_engine::{Engine, Settings};

use crate::fake::Fake;

/// Long enough for every answer on this machine.
const PATIENT: Settings = Settings { timeout: Duration::from_secs(20), silence: Duration::from_secs(20) };
/// For tests of what happens when no answer comes.
const HASTY: Settings = Settings { timeout: Duration::from_millis(300), silence: Duration::from_millis(100) };

fn connect(fake: &Fake, settings: Settings) -> Engine {
    Engine::connect(&fake.endpoint, settings).unwrap()
}

fn patient(fake: &Fake) -> Engine {
    connect(fake, PATIENT)
}
