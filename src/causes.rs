//! Errors as one line of text, for places that hold no error: health, remarks, messages to a peer.

use std::error::Error;

/// An error and what caused it.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
