//! The pollers that were restarted after a panic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Attention, AttentionKind, MAX_NAMED, MAX_REASON};
use crate::core::text;

/// How long a restart needs attention.
const SHOWN: Duration = Duration::from_hours(24);
const ACTION: &str = "keep the log and report this bug; the poller continues by itself";

/// The restarts of the last day, by operation; without an operation, those of the whole project.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RestartLog {
    total: u64,
    named: BTreeMap<Option<Arc<str>>, Restart>,
    /// Further operations, with the time of the last restart and how often they were restarted.
    more: BTreeMap<Option<Arc<str>>, (Timestamp, u32)>,
    /// The size at which old ones are removed from `more`, so that each restart costs little.
    next_cleanup: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Restart {
    time: Timestamp,
    panic: Arc<str>,
    times: u32,
}

impl RestartLog {
    /// The number of restarts since the start.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Notes a restart of the poller of an operation, or of the project, with the message of the panic.
    pub fn add(&mut self, operation: Option<&Arc<str>>, panic: &str, now: Timestamp) {
        self.total = self.total.saturating_add(1);
        self.named.retain(|_, restart| is_shown(restart.time, now));
        let panic = text::one_line(panic, MAX_REASON).into();
        let key = operation.map(Arc::clone);
        let further = self.more.remove(&key).filter(|(last, _)| is_shown(*last, now));
        let before = self.named.get(&key).map(|restart| restart.times);
        let times = before.or(further.map(|(_, times)| times)).unwrap_or(0);
        self.named.insert(
            key,
            Restart {
                time: now,
                panic,
                times: times.saturating_add(1),
            },
        );
        if self.named.len() > MAX_NAMED {
            let oldest = self.named.iter().min_by_key(|(_, restart)| restart.time);
            let oldest = oldest.map(|(key, restart)| (key.clone(), (restart.time, restart.times)));
            if let Some((key, restart)) = oldest {
                self.named.remove(&key);
                self.more.insert(key, restart);
            }
        }
        if self.more.len() > self.next_cleanup {
            self.more.retain(|_, (last, _)| is_shown(*last, now));
            self.next_cleanup = self.more.len().saturating_mul(2).max(MAX_NAMED);
        }
    }

    /// The entries of the last day.
    pub fn entries(&self, project: &str, now: Timestamp) -> impl Iterator<Item = Attention> {
        let named = self
            .named
            .iter()
            .filter(move |(_, restart)| is_shown(restart.time, now));
        let named = named.map(|(operation, restart)| {
            let who = match operation {
                Some(_) => "the poller of this operation",
                None => "the task of this project",
            };
            let times = match restart.times {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            };
            let panic = &restart.panic;
            let message = format!("{who} panicked {times} and was restarted: {panic}");
            let mut entry = Attention::new(AttentionKind::PollerRestarted, message, ACTION);
            entry.subject = operation.as_deref().map(str::to_owned);
            entry.since(Some(restart.time))
        });
        let times = self.more.values().map(|(last, _)| *last);
        let times = times.filter(|last| is_shown(*last, now));
        let (count, last) = times.fold((0, None), |(count, last), time| (count + 1, last.max(Some(time))));
        let more = last.map(|last| {
            let message = format!("the pollers of {count} more operations panicked and were restarted");
            let entry = Attention::new(AttentionKind::PollerRestarted, message, ACTION);
            entry.of_count(count).since(Some(last))
        });
        let project = project.to_owned();
        named.chain(more).map(move |entry| entry.of_project(&project))
    }
}

fn is_shown(time: Timestamp, now: Timestamp) -> bool {
    time.checked_add(SHOWN).is_ok_and(|until| now < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_restart_is_shown_for_a_day_with_the_last_panic() {
        let mut log = RestartLog::default();
        let operation: Arc<str> = "op".into();
        log.add(Some(&operation), "first", at(0));
        log.add(Some(&operation), "index out of bounds\n", at(10));
        log.add(None, "project", at(5));
        let day = 24 * 3600;
        let messages = |now| -> Vec<String> {
            log.entries("p", at(now))
                .map(|entry| format!("{:?} {}", entry.subject, entry.message))
                .collect()
        };
        let of_operation = "Some(\"op\") the poller of this operation panicked 2 times and was restarted: index out of bounds";
        assert_eq!(
            messages(day + 4),
            [
                "None the task of this project panicked once and was restarted: project",
                of_operation
            ]
        );
        assert_eq!(messages(day + 9), [of_operation]);
        assert_eq!(messages(day + 10), [""; 0]);
        assert_eq!(log.total(), 3);
    }

    #[test]
    fn a_hundred_operations_are_named() {
        let mut log = RestartLog::default();
        for number in 0..150 {
            log.add(Some(&format!("op-{number}").into()), "why", at(number));
        }
        let entries: Vec<_> = log.entries("p", at(200)).collect();
        assert_eq!(entries.len(), MAX_NAMED + 1);
        assert_eq!(entries.iter().map(|entry| entry.count).sum::<usize>(), 150);
        assert!(
            entries
                .iter()
                .any(|entry| entry.subject.as_deref() == Some("op-149"))
        );
    }

    #[test]
    fn an_operation_counts_once_however_often_its_poller_is_restarted() {
        let mut log = RestartLog::default();
        let count = |log: &RestartLog, now| log.entries("p", at(now)).map(|entry| entry.count).sum::<usize>();
        for round in 0..3 {
            for number in 0..150 {
                log.add(
                    Some(&format!("op-{number}").into()),
                    "why",
                    at(round * 150 + number),
                );
            }
            assert_eq!(count(&log, 500), 150);
        }
        let entries: Vec<_> = log.entries("p", at(500)).collect();
        let named = entries.iter().filter(|entry| entry.subject.is_some());
        assert_eq!(
            named.filter(|entry| entry.message.contains("3 times")).count(),
            MAX_NAMED
        );
        // Those of the day before neither count nor stay.
        let day = 24 * 3600;
        assert_eq!(count(&log, day + 449), 0);
        for number in 0..=MAX_NAMED {
            log.add(Some(&format!("next-{number}").into()), "why", at(day + 500));
        }
        assert_eq!(count(&log, day + 500), MAX_NAMED + 1);
        assert!(log.more.len() <= 3 * MAX_NAMED, "{}", log.more.len());
    }
}
