//! `[log]`: what is logged, and in which format.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::reader::Reader;
use crate::core::text::one_line;

/// Libraries that a filter may name.
const LIBRARIES: [&str; 12] = [
    "axum",
    "h2",
    "hyper",
    "hyper_util",
    "log",
    "mio",
    "reqwest",
    "rustls",
    "rustls_platform_verifier",
    "tokio",
    "tower",
    "want",
];
/// The log target of events, which is not a module.
const EVENTS: &str = "event";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// [`Self::Pretty`] on a terminal, [`Self::Journald`] if standard error is the journal, otherwise [`Self::Json`].
    Auto,
    /// Text for people.
    Pretty,
    /// One JSON object per line.
    Json,
    /// The journal's native protocol.
    Journald,
}

/// What is logged, and in which format.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSettings {
    /// The format of log lines.
    pub format: LogFormat,
    /// Directives that [`EnvFilter`] parses, such as `info,backfill_watch=debug`.
    pub filter: String,
}

impl LogSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            format: format(reader),
            filter: filter(reader),
        }
    }
}

fn format(reader: &mut Reader<'_>) -> LogFormat {
    const KEY: &str = "log.format";
    match reader.text_or_default(KEY, "one of auto, pretty, json, journald") {
        "auto" => LogFormat::Auto,
        "pretty" => LogFormat::Pretty,
        "json" => LogFormat::Json,
        "journald" => LogFormat::Journald,
        other => {
            let problem = format!("{:?} is not a log format", one_line(other, 80));
            reader.fail(KEY, problem, "use auto, pretty, json or journald");
            LogFormat::Auto
        }
    }
}

fn filter(reader: &mut Reader<'_>) -> String {
    const KEY: &str = "log.filter";
    let text = reader.text_or_default(KEY, "a filter such as info");
    if let Err(problem) = check(text) {
        reader.fail(
            KEY,
            problem,
            "use error, warn, info, debug, trace, or a list such as info,backfill_watch=debug",
        );
    }
    text.to_owned()
}

/// Refuses filters that [`EnvFilter`] accepts but that log nothing, such as a misspelled level.
fn check(filter: &str) -> Result<(), String> {
    if EnvFilter::builder().with_regex(false).parse(filter).is_err() {
        return Err(format!("{:?} is not a valid filter", one_line(filter, 80)));
    }
    let mut is_about_this_program = false;
    for directive in filter.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if directive.parse::<LevelFilter>().is_ok() {
            is_about_this_program = true;
            continue;
        }
        let target = directive.split('=').next().unwrap_or(directive);
        let is_own = is_own_module(target);
        if !is_own && !LIBRARIES.contains(&target.split("::").next().unwrap_or(target)) {
            return Err(format!(
                "{:?} is neither a level nor a module of this program",
                one_line(target, 80)
            ));
        }
        is_about_this_program |= is_own;
    }
    if is_about_this_program {
        return Ok(());
    }
    let filter = one_line(filter, 80);
    Err(format!(
        "{filter:?} sets no level for this program, so nothing would be logged"
    ))
}

fn is_own_module(target: &str) -> bool {
    let Some(path) = target.strip_prefix("backfill_watch") else {
        return false;
    };
    match path.strip_prefix("::") {
        None => path.is_empty(),
        Some(path) => {
            let module = path.split("::").next().unwrap_or(path);
            module == EVENTS || own_modules().any(|name| name == module)
        }
    }
}

/// The modules that the library declares.
fn own_modules() -> impl Iterator<Item = &'static str> {
    include_str!("../lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_filter_is_a_level_or_about_modules_that_exist() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,backfill_watch=debug",
            "backfill_watch::report::webhook=trace, error",
            "backfill_watch::event=info",
            "warn,h2=debug,hyper_util::client=trace",
            "backfill_watch",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, problem) in [
            ("verbose", "\"verbose\" is neither a level nor a module"),
            ("info,verbose", "\"verbose\" is neither"),
            ("inof", "\"inof\" is neither"),
            (
                "backfill_watch::reprot=debug",
                "\"backfill_watch::reprot\" is neither",
            ),
            ("backfill_watcher=debug", "is neither"),
            ("[span]=debug", "is neither"),
            ("h2=warn", "\"h2=warn\" sets no level for this program"),
            ("", "sets no level"),
            ("backfill_watch=verbose", "is not a valid filter"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(problem), "{bad}: {error}");
        }
    }
}
