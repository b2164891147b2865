//! Reproducible UUIDs.

use jiff::Timestamp;

use super::seeded_random::SeededRandom;

/// The variant of RFC 9562, in the upper bits of the fourth group.
const VARIANT: u64 = 0x8000;
const TWELVE_BITS: u64 = 0xfff;
const FOURTEEN_BITS: u64 = 0x3fff;
const FORTY_EIGHT_BITS: u64 = 0xffff_ffff_ffff;

/// A random UUID (version 4).
pub(super) fn random(random: &SeededRandom) -> String {
    format(4, random.next_u64() & FORTY_EIGHT_BITS, random)
}

/// A UUID of version 7, which contains the time in milliseconds.
pub(super) fn of_time(time: Timestamp, random: &SeededRandom) -> String {
    let millis = u64::try_from(time.as_millisecond()).unwrap_or_default();
    format(7, millis & FORTY_EIGHT_BITS, random)
}

fn format(version: u64, start: u64, random: &SeededRandom) -> String {
    let (third, rest) = (random.next_u64() & TWELVE_BITS, random.next_u64());
    format!(
        "{:08x}-{:04x}-{version}{third:03x}-{:04x}-{:012x}",
        start >> 16,
        start & 0xffff,
        VARIANT | (rest >> 48 & FOURTEEN_BITS),
        rest & FORTY_EIGHT_BITS
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::start_time;

    #[test]
    fn the_time_of_a_version_7_can_be_read_from_it() {
        let now: Timestamp = "2026-11-24T12:00:00.123Z".parse().unwrap();
        let seeded = SeededRandom::new(1);
        let id = of_time(now, &seeded);
        assert_eq!(start_time::of_id(&id, now), Some(now), "{id}");
        assert_ne!(of_time(now, &seeded), id);
        assert_eq!(of_time(now, &SeededRandom::new(1)), id);
    }

    #[test]
    fn a_random_one_is_of_version_4() {
        let id = random(&SeededRandom::new(1));
        assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
}
