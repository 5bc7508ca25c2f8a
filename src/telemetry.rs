//! Log lines, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, ProcessConfig};

/// Starts logging as configured. Later calls in the same process change nothing.
pub fn start(config: &ProcessConfig) {
    let filter = EnvFilter::new(&config.log_level);
    let base = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // Escape sequences are for people. Left alone they are also off where NO_COLOR is set.
    let lines = if std::io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    std::panic::set_hook(Box::new(log_panic));
    // Only a test process starts it twice.
    let _ = match config.log_format {
        LogFormat::Pretty => base.with(lines).try_init(),
        LogFormat::Json => base.with(lines.json().flatten_event(true)).try_init(),
    };
}

/// Where it happened, and nothing else: the message of a panic may quote what a caller sent.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    tracing::error!(location, "a panic: this is a fault of scoregate");
}
