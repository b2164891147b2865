//! When an operation started, from the API or from its ID.

use jiff::{SignedDuration, Timestamp};

/// 2015-01-01: the earliest possible start.
const EARLIEST: Timestamp = Timestamp::constant(1_420_070_400, 0);
/// Maximum difference of clocks.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// `time`, unless it is before 2015 or more than a day after `now`.
#[must_use]
pub fn plausible(time: Timestamp, now: Timestamp) -> Option<Timestamp> {
    (time >= EARLIEST && time.duration_since(now) <= TOLERANCE).then_some(time)
}

/// The time in a UUIDv7 operation ID: the first 48 bits are milliseconds since 1970.
#[must_use]
pub fn of_id(id: &str, now: Timestamp) -> Option<Timestamp> {
    let bytes = id.as_bytes();
    let is_uuid = bytes.len() == 36
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let is_version_7 =
        is_uuid && bytes[14] == b'7' && matches!(bytes[19], b'8' | b'9' | b'a' | b'b' | b'A' | b'B');
    if !is_version_7 {
        return None;
    }
    let millis = i64::from_str_radix(&format!("{}{}", &id[..8], &id[9..13]), 16).ok()?;
    plausible(Timestamp::from_millisecond(millis).ok()?, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn only_times_that_can_be_true_count() {
        for (time, is_plausible) in [
            ("0001-01-01T00:00:00Z", false),
            ("1970-01-01T00:00:00Z", false),
            ("2014-12-31T23:59:59.999Z", false),
            ("2015-01-01T00:00:00Z", true),
            ("2026-11-25T12:00:00Z", true),
            ("2026-11-25T12:00:00.001Z", false),
            ("9999-12-30T22:00:00Z", false),
        ] {
            let time: Timestamp = time.parse().unwrap();
            assert_eq!(plausible(time, now()), Some(time).filter(|_| is_plausible));
        }
    }

    #[test]
    fn the_time_is_read_from_a_uuid_of_version_7_alone() {
        let id = "019ab5bc-2e00-7a2b-8c3d-0123456789ab";
        let time: Timestamp = "2025-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(of_id(id, now()), Some(time));
        assert_eq!(of_id(&id.to_uppercase(), now()), Some(time));
        for other in [
            "019ab5bc-2e00-4a2b-8c3d-0123456789ab",
            "019ab5bc-2e00-7a2b-cc3d-0123456789ab",
            "019ab5bc-2e00-7a2b-8c3d-0123456789a",
            "019ab5bc2e007a2b8c3d0123456789ab",
            "ffffffff-ffff-7a2b-8c3d-0123456789ab",
            "00000000-0000-7000-8000-000000000000",
            "019ab5bc-2e00-7a2b-8c3d-0123456789aß",
            "op-1",
            "",
        ] {
            assert_eq!(of_id(other, now()), None, "{other}");
        }
    }
}
