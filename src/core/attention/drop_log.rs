//! The log lines that were dropped.

use std::time::Duration;

use jiff::Timestamp;

use super::{Attention, AttentionKind};
use crate::core::text;

/// How long after the last drop it needs attention.
const SHOWN: Duration = Duration::from_hours(1);

/// The drops until there was none for an hour.
#[derive(Debug, Clone, Copy, Default)]
pub struct DropLog {
    /// The lines that were dropped before.
    before: u64,
    total: u64,
    drops: Option<Drops>,
}

#[derive(Debug, Clone, Copy)]
struct Drops {
    first: Timestamp,
    last: Timestamp,
}

impl DropLog {
    /// Notes how many lines were dropped since the start of the process. Returns the entry, if there is one.
    pub fn observe(&mut self, total: u64, now: Timestamp) -> Option<Attention> {
        self.drops = self
            .drops
            .filter(|drops| drops.last.checked_add(SHOWN).is_ok_and(|until| now < until));
        if self.drops.is_none() {
            self.before = self.total;
        }
        if total > self.total {
            self.total = total;
            let first = self.drops.map_or(now, |drops| drops.first);
            self.drops = Some(Drops { first, last: now });
        }
        let drops = self.drops?;
        let lines = text::count(self.total - self.before);
        let message = format!(
            "{lines} log lines were dropped because standard error or the journal did not accept them fast enough"
        );
        let action =
            "check what reads the log of the daemon, its disk and its rate limits; or lower log.filter";
        let entry = Attention::new(AttentionKind::LogDropped, message, action);
        Some(entry.since(Some(drops.first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_counted_until_there_was_none_for_an_hour() {
        let mut log = DropLog::default();
        let mut observe = |total, seconds: i64| {
            let now = Timestamp::from_second(1_800_000_000 + seconds).unwrap();
            let entry = log.observe(total, now)?;
            let lines = entry.message.split(' ').next().unwrap().to_owned();
            Some((lines, entry.since.unwrap().as_second() - 1_800_000_000))
        };
        let lines = |lines: &str, since| Some((lines.to_owned(), since));
        assert_eq!(observe(0, 0), None);
        assert_eq!(observe(1_000, 10), lines("1,000", 10));
        assert_eq!(observe(1_500, 2_000), lines("1,500", 10));
        assert_eq!(observe(1_500, 5_599), lines("1,500", 10));
        assert_eq!(observe(1_500, 5_600), None);
        // The next ones begin again.
        assert_eq!(observe(1_507, 6_000), lines("7", 6_000));
    }
}
