//! Reads the headers of responses.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_ENCODING, DATE, HeaderMap, RETRY_AFTER};

use crate::core::retry_after;

/// The most bytes of headers in a response.
pub const MAX_HEAD: usize = 64 * 1024;

/// The size of the headers in bytes, each with its colon, space and line end.
#[must_use]
pub fn head_size(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum()
}

/// The content codings other than `identity`, if any. Such a body cannot be read.
#[must_use]
pub fn content_coding(headers: &HeaderMap) -> Option<String> {
    let codings: Vec<String> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|value| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let codings: Vec<String> = value.split(',').map(|coding| coding.trim().to_owned()).collect();
            codings
        })
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
        .collect();
    (!codings.is_empty()).then(|| codings.join(", "))
}

/// The reference for times in a response: its `Date`, otherwise `now`.
#[must_use]
pub fn date(headers: &HeaderMap, now: Timestamp) -> Timestamp {
    let date = headers
        .get(DATE)
        .and_then(|value| retry_after::date(value.to_str().ok()?));
    date.unwrap_or(now)
}

/// The wait of `Retry-After`; the longest if there are several.
#[must_use]
pub fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let mut values = headers.get_all(RETRY_AFTER).iter().peekable();
    // Most responses have none, and need no date.
    values.peek()?;
    let seen_from = date(headers, now);
    values
        .filter_map(|value| retry_after::from_header(value.to_str().ok()?, seen_from))
        .max()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_coding_is_named_unless_it_is_none() {
        for (lines, coding) in [
            (&[][..], None),
            (&[("content-encoding", "identity")], None),
            (&[("content-encoding", "")], None),
            (&[("content-encoding", "Identity, identity")], None),
            (&[("content-encoding", "gzip")], Some("gzip")),
            (&[("content-encoding", "br, identity,zstd")], Some("br, zstd")),
            (
                &[("content-encoding", "identity"), ("content-encoding", "x-gzip")],
                Some("x-gzip"),
            ),
        ] {
            assert_eq!(content_coding(&headers(lines)).as_deref(), coding, "{lines:?}");
        }
    }

    #[test]
    fn a_date_to_wait_for_is_seen_from_the_date_of_the_answer() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let at = "Mon, 22 Apr 2024 18:56:28 GMT";
        let date = ("date", "Mon, 22 Apr 2024 18:55:28 GMT");
        let wait_of = |lines: &[(&'static str, &'static str)]| wait(&headers(lines), now);
        assert_eq!(
            wait_of(&[("retry-after", at), date]),
            Some(Duration::from_secs(60))
        );
        assert_eq!(wait_of(&[("retry-after", at)]), None);
        assert_eq!(wait_of(&[("retry-after", at), ("date", "today")]), None);
        assert_eq!(
            wait_of(&[("retry-after", "7"), date]),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            wait_of(&[("retry-after", "7"), ("retry-after", at), date]),
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            head_size(&headers(&[date])),
            "date: Mon, 22 Apr 2024 18:55:28 GMT\r\n".len()
        );
    }
}
