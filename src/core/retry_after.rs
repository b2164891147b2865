//! How long an answer asks to be left alone.

use std::time::Duration;

use jiff::Timestamp;

/// The wait that the header `Retry-After` asks for: seconds, or an HTTP date seen from `now`.
///
/// `None` if it is not positive or not understood. More seconds than fit into 32 bits count as that many, so
/// that the wait can be added to a clock.
#[must_use]
pub fn from_header(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = value.parse().unwrap_or(u32::MAX);
        return (seconds > 0).then(|| Duration::from_secs(seconds.into()));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    until(Timestamp::try_from(date).ok()?, now)
}

/// The time from `now` to `instant`; `None` if that is not ahead.
#[must_use]
pub fn until(instant: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(instant.duration_since(now))
        .ok()
        .filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_understood() {
        let now: Timestamp = "2024-04-22T18:55:28Z".parse().unwrap();
        for (value, wait) in [
            ("120", Some(120)),
            (" 1 ", Some(1)),
            ("0", None),
            ("-5", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("4294967296", Some(u64::from(u32::MAX))),
            ("99999999999999999999999999", Some(u64::from(u32::MAX))),
            ("Mon, 22 Apr 2024 18:56:28 GMT", Some(60)),
            ("Mon, 22 Apr 2024 18:55:28 GMT", None),
            ("Mon, 22 Apr 2024 18:55:27 GMT", None),
            ("Mon, 22 Apr 9999 18:55:27 GMT", None),
            ("Fri, 31 Dec 1999 23:59:60 GMT", None),
        ] {
            assert_eq!(
                from_header(value, now),
                wait.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }

    #[test]
    fn only_what_is_ahead_is_waited_for() {
        let now: Timestamp = "2024-04-22T18:55:28Z".parse().unwrap();
        let later: Timestamp = "2024-04-22T18:55:28.25Z".parse().unwrap();
        assert_eq!(until(later, now), Some(Duration::from_millis(250)));
        assert_eq!(until(now, later), None);
        assert_eq!(until(now, now), None);
    }
}
