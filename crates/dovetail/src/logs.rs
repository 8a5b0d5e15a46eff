//! The log: one JSON object a line on standard output, or text for people.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts the log. Field names (`service`, `cluster`, `generation`, `reason`) stand at the top of each object,
/// beside `timestamp`, `level`, `target` and `message`.
pub fn start(log: &Log) {
    // The libraries below us speak only from warnings on: their debug output can hold headers and bodies.
    let ours = ["actuator", "driver", "engine", "observer", "reconciler"];
    let mut filter = format!("warn,dovetail={}", log.level);
    for name in ours {
        filter.push_str(&format!(",dovetail_{name}={}", log.level));
    }
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter));
    match log.format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
        LogFormat::Text => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            builder.with_ansi(colour).with_target(false).init();
        }
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug in Dovetail: {panic}")));
}
