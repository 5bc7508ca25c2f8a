//! Log lines, to standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, ProcessConfig};

/// Starts logging as configured. Later calls in the same process change nothing.
pub fn start(config: &ProcessConfig) {
    let filter = EnvFilter::new(&config.log_level);
    let base = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // Only a test process starts it twice.
    let _ = match config.log_format {
        LogFormat::Pretty => base.with(lines).try_init(),
        LogFormat::Json => base.with(lines.json().flatten_event(true)).try_init(),
    };
}
