//! Prints errors with their sources, which `Display` omits.

use std::error::Error;
use std::io;

/// The help for a file or socket that only another user can open.
pub const RUN_AS_ROOT: &str = "run this as root, for example with sudo";

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

/// The error and its causes. It includes the error that an I/O error wraps, which `source` omits.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The first `E` among the error and its causes.
#[must_use]
pub fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The innermost I/O error; outer ones wrap it with kind `Other`.
#[must_use]
pub fn find_io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    causes(error).filter_map(|cause| cause.downcast_ref()).last()
}

/// The causes of an error of the HTTP client, outermost first. It omits the error itself (which names the URL), repetitions,
/// and causes that only name a part of the library.
#[must_use]
pub fn describe_http(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error).skip(1) {
        let message = cause.to_string();
        if text.contains(&message) || message.starts_with("client error (") {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&message);
    }
    text
}

/// Why a name cannot be resolved, in the words of the system: `Name or service not known`.
#[must_use]
pub fn describe_dns(error: &(dyn Error + 'static)) -> String {
    let innermost = causes(error).last().map(ToString::to_string).unwrap_or_default();
    match innermost.strip_prefix("failed to lookup address information: ") {
        Some(words) => words.to_owned(),
        None => innermost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_resolved_has_one_cause() {
        let system = io::Error::other("failed to lookup address information: Name or service not known");
        let resolver = io::Error::other(io::Error::other(system));
        assert_eq!(describe_dns(&resolver), "Name or service not known");
        assert_eq!(
            describe_dns(&io::Error::other("no record found")),
            "no record found"
        );
    }
}
