//! How errors are shown: `Display` of an error omits its sources, this prints them all.

use std::error::Error;

/// An error and its sources on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
