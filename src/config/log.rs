//! `[log]`: what is logged, and how it looks.

use tracing_subscriber::EnvFilter;

use super::defaults;
use super::reader::Reader;
use crate::core::text::one_line;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable on a terminal, the journal's own where standard error is the journal, else JSON.
    Auto,
    /// Readable.
    Pretty,
    /// One JSON object a line.
    Json,
    /// The journal's own protocol.
    Journald,
}

/// What is logged, and how it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// How log lines look.
    pub format: LogFormat,
    /// Directives that [`EnvFilter`] parses, such as `info,backfill_watch=debug`.
    pub filter: String,
}

impl Log {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            format: format(reader),
            filter: filter(reader),
        }
    }
}

fn format(reader: &mut Reader<'_>) -> LogFormat {
    const KEY: &str = "log.format";
    match reader.text(KEY, "one of auto, pretty, json, journald") {
        None => defaults::LOG_FORMAT,
        Some("auto") => LogFormat::Auto,
        Some("pretty") => LogFormat::Pretty,
        Some("json") => LogFormat::Json,
        Some("journald") => LogFormat::Journald,
        Some(other) => {
            let problem = format!("there is no format {:?}", one_line(other, 80));
            reader.fail(KEY, problem, "use auto, pretty, json or journald");
            defaults::LOG_FORMAT
        }
    }
}

fn filter(reader: &mut Reader<'_>) -> String {
    const KEY: &str = "log.filter";
    let text = reader
        .text(KEY, "a filter such as info")
        .unwrap_or(defaults::LOG_FILTER);
    if EnvFilter::builder().with_regex(false).parse(text).is_err() {
        let problem = format!("{:?} is no filter", one_line(text, 80));
        reader.fail(
            KEY,
            problem,
            "use error, warn, info, debug or trace, or such as info,backfill_watch=debug",
        );
    }
    text.to_owned()
}
