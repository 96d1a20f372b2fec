//! Logs. Metrics are served by `api::status` and the proxy's admin listener.

use crate::config::{Environment, LOG_VARIABLE};
use std::io::IsTerminal;
use std::sync::OnceLock;
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
    if json {
        let builder = builder.json().with_filter_reloading();
        let handle = builder.reload_handle();
        if builder.try_init().is_ok() {
            let _ = FILTER.set(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())));
        }
    } else {
        let builder = builder.with_target(false).compact().with_filter_reloading();
        let handle = builder.reload_handle();
        if builder.try_init().is_ok() {
            let _ = FILTER.set(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())));
        }
    }
    Ok(())
}

/// Changes what is logged.
type Change = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Changes what this process logs; set once logs are.
static FILTER: OnceLock<Change> = OnceLock::new();

/// Logs from now on what this level says, by Envoy's words or by `tracing`'s: `trace`, `debug`, `info`, `warning`, `error`,
/// `critical` or `off`. Answers the filter that it came to.
///
/// # Errors
/// What is wrong with the level, or that this process has no logs.
pub fn set_level(level: &str) -> Result<&'static str, String> {
    let filter = match level {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warning" | "warn" => "warn",
        "error" | "critical" => "error",
        "off" => "off",
        other => {
            return Err(format!("level is {other:?}; it is trace, debug, info, warning, error, critical or off"));
        }
    };
    let change = FILTER.get().ok_or("this process has no logs that could be changed")?;
    change(EnvFilter::new(filter))?;
    Ok(filter)
}
