//! The lines that the daemon logs, as they come.

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

/// A child's standard error, read to its end in a thread of its own.
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
                // Whatever is no JSON is kept, too: tests of the log's format look for it.
                let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                sender.send_modify(|log| log.lines.push(LogLine { at, value }));
            }
            sender.send_modify(|log| log.ended = true);
        });
        Self(receiver)
    }

    /// Waits for the first line that is wanted, from the beginning of the log on. Panics after a while, or when
    /// the log ends without it.
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

    /// The lines up to now that are wanted.
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

    /// All of it up to now.
    pub fn text(&self) -> String {
        let log = self.0.borrow();
        log.lines.iter().map(|line| format!("{}\n", line.value)).collect()
    }

    /// How often an event was told up to now.
    pub fn count(&self, event: &str) -> usize {
        self.lines(|line| line["event"] == event).len()
    }

    async fn search<T>(&self, what: &str, mut look: impl FnMut(&Lines) -> Option<T>) -> T {
        let mut lines = self.0.clone();
        let looking = async {
            loop {
                // Seen before looked at, so that a line that comes after this look ends the wait below.
                let (found, ended) = {
                    let log = lines.borrow_and_update();
                    (look(&log), log.ended)
                };
                if found.is_some() || ended {
                    return found;
                }
                lines.changed().await.expect("the end of the log is told");
            }
        };
        match tokio::time::timeout(DEADLINE, looking).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("the log ended without: {what}\n{self}"),
            Err(_) => panic!("waited in vain for: {what}\n{self}"),
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A log at debug can be long; what led to a failure stands at its end.
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
