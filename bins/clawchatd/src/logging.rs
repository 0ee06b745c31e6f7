//! The log: stderr, and where panics go.

use std::io::{self, IsTerminal as _};
use std::panic;

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info";

/// Starts the log. Panics of any thread are logged from then on, in the same format.
pub(crate) fn start(format: LogFormat) {
    let (filter, complaint) = match EnvFilter::try_from_default_env() {
        Ok(filter) => (filter, None),
        Err(error) => {
            let unset = std::env::var_os(EnvFilter::DEFAULT_ENV).is_none_or(|value| value.is_empty());
            (EnvFilter::new(DEFAULT_FILTER), (!unset).then_some(error))
        }
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A line that cannot be written is lost. Complaining about it, on stderr too, would panic.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    if let Some(error) = complaint {
        tracing::warn!(%error, "RUST_LOG cannot be read; logging {DEFAULT_FILTER}");
    }
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a value that is not text");
        tracing::error!(place, message, "panicked; this is a bug");
    }));
}
