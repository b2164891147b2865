//! The wait that an answer asks for.

use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;

/// The value of waits out of range: longer than every limit, and short enough to be added to a clock.
pub const FAR: Duration = Duration::from_secs(u32::MAX as u64);

/// The wait of the header `Retry-After`: seconds, fractions rounded up, or an HTTP date relative to `now`.
///
/// `None` if it is not positive or not valid. Out of range counts as [`FAR`].
#[must_use]
pub fn from_header(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if value.starts_with(|c: char| c.is_ascii_digit()) {
        return seconds(value);
    }
    until(http_date(value)?, now)
}

/// The wait of the member `retryAfter`: an RFC 3339 time relative to `now`.
///
/// `None` if it is not in the future or not valid. Out of range counts as [`FAR`].
#[must_use]
pub fn from_body(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(time) = value.parse() {
        return until(Point::at(time), now);
    }
    // The last hours of the year 9999 and later years do not fit into a `Timestamp`.
    let (year, rest) = value.trim_start_matches('+').split_once('-')?;
    let is_beyond = (year.len() > 4 || year == "9999") && year.bytes().all(|byte| byte.is_ascii_digit());
    let in_range = format!("2000-{rest}");
    (is_beyond && in_range.parse::<Timestamp>().is_ok()).then_some(FAR)
}

/// The time of the header `Date`.
#[must_use]
pub fn date(value: &str) -> Option<Timestamp> {
    match http_date(value.trim())? {
        Point::At(nanoseconds) => Timestamp::from_nanosecond(nanoseconds).ok(),
        Point::Beyond => None,
    }
}

/// A point in time, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    At(i128),
    /// After the year 9999.
    Beyond,
}

impl Point {
    fn at(time: Timestamp) -> Self {
        Self::At(time.as_nanosecond())
    }
}

/// The time from `now` to `instant`, at most [`FAR`]; `None` if it is not in the future.
fn until(instant: Point, now: Timestamp) -> Option<Duration> {
    match instant {
        Point::Beyond => Some(FAR),
        Point::At(nanoseconds) => {
            let ahead = nanoseconds - now.as_nanosecond();
            let wait = u64::try_from(ahead.max(0)).map_or(FAR, Duration::from_nanos);
            (!wait.is_zero()).then_some(wait.min(FAR))
        }
    }
}

/// Parses `120` or `1.5`.
fn seconds(value: &str) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let whole: u64 = whole.parse().unwrap_or(u64::MAX);
    let more = fraction.bytes().any(|digit| digit != b'0');
    let seconds = whole.saturating_add(u64::from(more));
    (seconds > 0).then(|| Duration::from_secs(seconds).min(FAR))
}

/// Parses an HTTP date in any of its three forms; also with `UTC` instead of `GMT`, and after the year 9999.
fn http_date(value: &str) -> Option<Point> {
    let zone = value
        .len()
        .checked_sub(3)
        .filter(|at| value.is_char_boundary(*at));
    let is_utc = zone
        .is_some_and(|at| value[at..].eq_ignore_ascii_case("UTC") || value[at..].eq_ignore_ascii_case("GMT"));
    let value = match zone {
        Some(at) if is_utc => format!("{}GMT", &value[..at]),
        _ => value.to_owned(),
    };
    if let Ok(date) = httpdate::parse_http_date(&value) {
        let since = date.duration_since(UNIX_EPOCH).ok()?;
        return Some(Point::At(i128::try_from(since.as_nanos()).ok()?));
    }
    // `Fri, 01 Jan 10000 00:00:00 GMT`: the date is valid if it is valid in a year of four digits.
    let mut words: Vec<&str> = value.split(' ').collect();
    let year = *words.get(3)?;
    let is_beyond =
        year.len() > 4 && year.bytes().all(|byte| byte.is_ascii_digit()) && !year.starts_with('0');
    if !is_beyond || words.len() != 6 {
        return None;
    }
    let is_date = ["Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,"]
        .into_iter()
        .any(|day| {
            words[0] = day;
            words[3] = "2000";
            httpdate::parse_http_date(&words.join(" ")).is_ok()
        });
    is_date.then_some(Point::Beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2024-04-22T18:55:28Z".parse().unwrap()
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        for (value, wait) in [
            ("120", Some(120)),
            (" 1 ", Some(1)),
            ("0", None),
            ("0.0", None),
            ("-5", None),
            ("0.001", Some(1)),
            ("1.5", Some(2)),
            ("2.000", Some(2)),
            ("1.", None),
            (".5", None),
            ("1e3", None),
            ("1,5", None),
            ("1 s", None),
            ("", None),
            ("soon", None),
            ("4294967296", Some(u64::from(u32::MAX))),
            ("99999999999999999999999999", Some(u64::from(u32::MAX))),
            ("18446744073709551615.5", Some(u64::from(u32::MAX))),
            ("Mon, 22 Apr 2024 18:56:28 GMT", Some(60)),
            ("Mon, 22 Apr 2024 18:56:28 UTC", Some(60)),
            ("Mon, 22 Apr 2024 18:56:28 utc", Some(60)),
            ("Monday, 22-Apr-24 18:56:28 GMT", Some(60)),
            ("Monday, 22-Apr-24 18:56:28 UTC", Some(60)),
            ("Mon Apr 22 18:56:28 2024", Some(60)),
            ("Mon, 22 Apr 2024 18:55:28 GMT", None),
            ("Mon, 22 Apr 2024 18:55:27 GMT", None),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(u64::from(u32::MAX))),
            ("Sat, 01 Jan 10000 00:00:00 GMT", Some(u64::from(u32::MAX))),
            ("Sat, 41 Jan 10000 00:00:00 GMT", None),
            ("Fri, 31 Dec 1999 23:59:60 GMT", None),
            ("GMT", None),
            ("ü", None),
        ] {
            assert_eq!(
                from_header(value, now()),
                wait.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }

    #[test]
    fn only_what_is_ahead_is_waited_for() {
        for (value, wait) in [
            ("2024-04-22T18:55:28.25Z", Some(Duration::from_millis(250))),
            ("2024-04-22T20:55:29+02:00", Some(Duration::from_secs(1))),
            ("2024-04-22T18:55:28Z", None),
            ("1999-04-22T18:55:28Z", None),
            ("9999-12-30T00:00:00Z", Some(FAR)),
            ("9999-12-31T23:59:59Z", Some(FAR)),
            ("9999-12-31T23:59:59.999+01:00", Some(FAR)),
            ("+010000-01-01T00:00:00Z", Some(FAR)),
            ("10000-01-01T00:00:00Z", Some(FAR)),
            ("9999-13-31T23:59:59Z", None),
            ("9999-", None),
            ("tomorrow", None),
            ("60", None),
            ("", None),
        ] {
            assert_eq!(from_body(value, now()), wait, "{value:?}");
        }
    }

    #[test]
    fn the_date_of_an_answer_is_read_in_all_forms() {
        for value in [
            "Mon, 22 Apr 2024 18:55:28 GMT",
            "Monday, 22-Apr-24 18:55:28 GMT",
            "Mon Apr 22 18:55:28 2024",
        ] {
            assert_eq!(date(value), Some(now()), "{value}");
        }
        assert_eq!(date("today"), None);
        assert_eq!(date("Sat, 01 Jan 10000 00:00:00 GMT"), None);
    }
}
