//! Numbers and durations as text.

use std::time::Duration;

pub use crate::core::text::count;

/// A count in at most five characters: `950`, `12.3k`, `4.0M`.
#[must_use]
pub fn short_count(number: u64) -> String {
    const UNITS: [(u64, char); 4] = [
        (1_000_000_000_000, 'T'),
        (1_000_000_000, 'G'),
        (1_000_000, 'M'),
        (1_000, 'k'),
    ];
    for (unit, letter) in UNITS {
        if number >= unit {
            let tenths = u128::from(number) * 10 / u128::from(unit);
            return if tenths < 1_000 {
                format!("{}.{}{letter}", tenths / 10, tenths % 10)
            } else {
                format!("{}{letter}", tenths / 10)
            };
        }
    }
    number.to_string()
}

/// A rate: `41.7/s`; without decimals from 1,000.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second < 999.95 {
        format!("{per_second:.1}/s")
    } else {
        // The cast saturates.
        format!("{}/s", count(per_second.round() as u64))
    }
}

/// A duration in its two largest units: `9s`, `1m 09s`, `2h 05m`, `3d 04h`.
#[must_use]
pub fn time(duration: Duration) -> String {
    let seconds = duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_millis() >= 500));
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if days > 0 {
        format!("{}d {:02}h", count(days), hours % 24)
    } else if hours > 0 {
        format!("{hours}h {:02}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {:02}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// A duration in seconds as [`time`]; an invalid one counts as zero.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    time(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// `1 operation`, `2 operations`.
#[must_use]
pub fn operations(number: usize) -> String {
    format!("{number} operation{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let separated = [0, 999, 1_000, 12_345, 1_234_567].map(count);
        assert_eq!(separated, ["0", "999", "1,000", "12,345", "1,234,567"]);
        let short = [999, 1_000, 12_345, 999_999, 4_000_000, u64::MAX].map(short_count);
        assert_eq!(short, ["999", "1.0k", "12.3k", "999k", "4.0M", "18446744T"]);
    }

    #[test]
    fn rates() {
        let rates = [0.0, 41.66, 999.9, 999.99, 12_345.6, f64::INFINITY].map(rate);
        assert_eq!(rates[..5], ["0.0/s", "41.7/s", "999.9/s", "1,000/s", "12,346/s"]);
    }

    #[test]
    fn times() {
        let times = [0.0, 0.6, 59.4, 59.6, 69.0, 3_600.0, 7_530.0, 273_600.0]
            .map(|seconds| time(Duration::from_secs_f64(seconds)));
        assert_eq!(
            times,
            [
                "0s", "1s", "59s", "1m 00s", "1m 09s", "1h 00m", "2h 05m", "3d 04h"
            ]
        );
        assert!(!time(Duration::MAX).is_empty());
    }
}
