//! Logs. Metrics are served by `api::status` and the proxy's admin listener.

use crate::config::{Environment, LOG_VARIABLE};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Writes logs to stderr: JSON lines or text, filtered by `TIDEGATE_LOG` (default as given).
///
/// # Errors
/// Names the variable and what is wrong with its value.
pub fn init(environment: &dyn Environment, json: bool, default: &str) -> Result<(), String> {
    let text = environment.get(LOG_VARIABLE).unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|error| {
        format!("{LOG_VARIABLE}={text} is not a filter ({error}); for example info, or warn,tidegate=debug")
    })?;
    // Colours are for people: a file or a log service would keep their codes.
    let coloured = std::io::stderr().is_terminal() && environment.get("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(coloured);
    // A second initialisation in one process (tests) keeps the first.
    let _ = if json { builder.json().try_init() } else { builder.with_target(false).compact().try_init() };
    Ok(())
}
