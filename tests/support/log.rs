//! The log of the daemon, read as it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::ops::Deref;

use backfill_watch::clock;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::DEADLINE;

/// One line of the log.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// When it was read.
    pub at: Instant,
    value: Value,
}

impl Deref for LogLine {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

/// A child's standard error, read to its end by a thread.
#[derive(Debug, Clone)]
pub struct Log(watch::Receiver<Lines>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<LogLine>,
    ended: bool,
}

impl Log {
    /// Reads `stream`.
    pub fn read(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(Lines::default());
        std::thread::spawn(move || {
            for text in BufReader::new(stream).lines() {
                let Ok(text) = text else { break };
                let at = clock::instant();
                // Lines that are no JSON are kept, for tests of the log's format.
                let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                sender.send_modify(|log| log.lines.push(LogLine { at, value }));
            }
            sender.send_modify(|log| log.ended = true);
        });
        Self(receiver)
    }

    /// Waits for the first matching line, from the beginning of the log. Panics after [`DEADLINE`], or when the log ends
    /// without it.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&LogLine) -> bool) -> LogLine {
        let mut next = 0;
        let found = self.search(what, |log| {
            let found = log.lines[next..].iter().find(|line| wanted(line)).cloned();
            next = log.lines.len();
            found
        });
        found.await
    }

    /// Waits until the log has ended.
    pub async fn end(&self) {
        self.search("the end of the log", |log| log.ended.then_some(()))
            .await;
    }

    /// The matching lines up to now.
    pub fn lines(&self, wanted: impl Fn(&LogLine) -> bool) -> Vec<LogLine> {
        let log = self.0.borrow();
        log.lines.iter().filter(|line| wanted(line)).cloned().collect()
    }

    /// The events of each operation up to now, in the order of the log.
    pub fn events_by_operation(&self) -> BTreeMap<String, Vec<LogLine>> {
        let mut events: BTreeMap<String, Vec<LogLine>> = BTreeMap::new();
        for line in self.lines(|line| line["event"].is_string()) {
            if let Some(operation) = line["operation_id"].as_str() {
                events.entry(operation.to_owned()).or_default().push(line);
            }
        }
        events
    }

    /// All lines up to now.
    pub fn text(&self) -> String {
        let log = self.0.borrow();
        log.lines.iter().map(|line| format!("{}\n", line.value)).collect()
    }

    /// How often an event was logged up to now.
    pub fn count(&self, event: &str) -> usize {
        self.lines(|line| line["event"] == event).len()
    }

    async fn search<T>(&self, what: &str, mut find: impl FnMut(&Lines) -> Option<T>) -> T {
        let mut lines = self.0.clone();
        let searching = async {
            loop {
                // Marked as seen before the search, so that a later line ends the wait below.
                let (found, ended) = {
                    let log = lines.borrow_and_update();
                    (find(&log), log.ended)
                };
                if found.is_some() || ended {
                    return found;
                }
                lines
                    .changed()
                    .await
                    .expect("the reader reports the end of the log");
            }
        };
        match tokio::time::timeout(DEADLINE, searching).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("the log ended without: {what}\n{self}"),
            Err(_) => panic!("timed out waiting for: {what}\n{self}"),
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A log at debug can be long; the reason of a failure is at its end.
        const SHOWN: usize = 60;
        let log = self.0.borrow();
        let left_out = log.lines.len().saturating_sub(SHOWN);
        if left_out > 0 {
            writeln!(f, "({left_out} lines before)")?;
        }
        for line in &log.lines[left_out..] {
            writeln!(f, "{}", line.value)?;
        }
        Ok(())
    }
}
