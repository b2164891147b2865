//! Types and ranges of single settings.

use std::time::Duration;

use super::super::LogFormat;
use super::{Case, first_lines};

/// The error for one line of the settings file.
#[track_caller]
fn error(table: &str, line: &str) -> String {
    let text = Case::new(&format!("[{table}]\n{line}\n")).errors();
    assert_eq!(first_lines(&text).len(), 1, "{text}");
    text
}

#[test]
fn durations() {
    let text = error("poll", "stalled_after = 30");
    assert_eq!(
        text,
        "config.toml:2:17: poll.stalled_after: expected a duration, found the whole number 30\n    \
         help: add the unit, as in \"30s\""
    );
    assert!(
        error("poll", "stalled_after = '30'")
            .contains("\"30\" is not a duration\n    help: write numbers with units")
    );
    assert!(error("poll", "stalled_after = 'off'").contains("\"off\" is not a duration"));
    assert!(error("poll", "stalled_after = ''").contains("\"\" is not a duration"));
    assert!(error("poll", "stalled_after = true").contains("expected a duration, found true"));
    assert!(error("poll", "stalled_after = ['1s']").contains("expected a duration, found a list"));
    assert!(error("poll", "stalled_after = 1979-05-27").contains("expected a duration, found a date"));
    assert!(error("poll", "stalled_after = '11y'").contains("\"11y\" is too long"));
    assert!(error("poll", "stalled_after = '99999999999999999999y'").contains("is not a duration"));
    let settings =
        Case::new("shutdown_timeout = '0s'\n[poll]\nstalled_after = '1h 30m'\nnot_found_grace = '0s'")
            .settings();
    assert_eq!(settings.poll.watch.stalled_after, Duration::from_secs(5_400));
    assert_eq!(settings.poll.watch.not_found_grace, Duration::ZERO);
    assert_eq!(
        Case::new("retention = '10y'").settings().retention,
        Duration::from_secs(315_576_000)
    );
}

#[test]
fn no_interval_is_zero() {
    for (table, key) in [
        ("poll", "initial_interval"),
        ("poll", "min_interval"),
        ("poll", "max_interval"),
        ("poll", "stalled_after"),
        ("poll", "silent_after"),
        ("poll", "unreachable_after"),
        ("poll", "max_retry_after"),
        ("poll", "give_up_after"),
        ("poll", "progress_interval"),
        ("ampersand", "request_timeout"),
    ] {
        let text = error(table, &format!("{key} = '0s'"));
        assert!(
            text.contains(&format!(
                "{table}.{key}: \"0s\" is too short\n    help: use at least 1ms"
            )),
            "{text}"
        );
    }
    let text = Case::new("watch_list_refresh = '9ms'\nretention = '0s'").errors();
    assert!(
        text.contains("watch_list_refresh: \"9ms\" is too short\n    help: use at least 10ms"),
        "{text}"
    );
    assert!(text.contains("retention: \"0s\" is too short"), "{text}");
    let at_once = Case::new("watch_list_shrink_delay = '0s'").settings();
    assert_eq!(at_once.watch_list_shrink_delay, Duration::ZERO);
}

#[test]
fn intervals_are_in_order() {
    assert_eq!(
        error("poll", "max_interval = '30s'\ninitial_interval = '40s'"),
        "config.toml:2:16: poll.max_interval: \"30s\" is below poll.initial_interval (40s)\n    \
         help: raise poll.max_interval to at least 40s, or lower poll.initial_interval"
    );
    assert_eq!(
        error("poll", "min_interval = '2m'"),
        "config.toml:2:16: poll.min_interval: \"2m\" is above poll.max_interval (1m)\n    \
         help: lower poll.min_interval to at most 1m, or raise poll.max_interval"
    );
    Case::new("[poll]\ninitial_interval = '5s'\nmin_interval = '5s'\nmax_interval = '5s'").settings();
    let text = Case::new("[poll]\ninitial_interval = '1s'\n").warnings();
    assert!(text.starts_with(
        "config.toml:2:20: poll.initial_interval: \"1s\" is below poll.min_interval (2s), which applies\n"
    ));
    Case::new("[poll]\nmin_interval = '3s'").settings();
}

#[test]
fn silent_after_may_be_off() {
    let silent_after = |toml: &str| Case::new(toml).settings().poll.watch.silent_after;
    assert_eq!(silent_after(""), Some(Duration::from_hours(6)));
    assert_eq!(silent_after("[poll]\nsilent_after = 'off'"), None);
    assert_eq!(
        silent_after("[poll]\nsilent_after = '90m'"),
        Some(Duration::from_mins(90))
    );
}

#[test]
fn give_up_after_may_be_off() {
    let give_up_after = |toml: &str| Case::new(toml).settings().poll.watch.give_up_after;
    assert_eq!(give_up_after(""), None);
    assert_eq!(give_up_after("[poll]\ngive_up_after = 'off'"), None);
    assert_eq!(
        give_up_after("[poll]\ngive_up_after = '7d'"),
        Some(Duration::from_secs(7 * 86_400))
    );
}

#[test]
fn numbers() {
    for (table, key, wrong) in [
        ("poll", "multiplier", "0.99 inf nan 101 -1"),
        ("poll", "randomization", "-0.1 1.01 nan"),
        ("poll", "progress_step", "0 0.0 100.5 -inf"),
        ("ampersand", "max_requests_per_second", "0 -1 inf nan 1e-300 1e9"),
        (
            "ampersand",
            "max_concurrent_requests",
            "0 -1 10001 99999999999999999999",
        ),
    ] {
        for number in wrong.split(' ') {
            let text = error(table, &format!("{key} = {number}"));
            assert!(
                text.contains("is out of range\n    help: use a number from "),
                "{text}"
            );
        }
    }
    assert!(error("poll", "multiplier = '2'").contains("expected a number, found the text \"2\""));
    assert!(
        error("ampersand", "max_concurrent_requests = 1.5")
            .contains("expected a whole number, found the number 1.5")
    );
    let settings = Case::new(
        "[poll]\nmultiplier = 1\nprogress_step = 0.5\n[ampersand]\nmax_concurrent_requests = 1_000",
    )
    .with(&[
        ("BACKFILL_WATCH_POLL__RANDOMIZATION", "0"),
        ("BACKFILL_WATCH_AMPERSAND__MAX_REQUESTS_PER_SECOND", "0.5"),
    ])
    .settings();
    assert_eq!(
        (
            settings.poll.schedule.multiplier,
            settings.poll.schedule.randomization
        ),
        (1.0, 0.0)
    );
    assert_eq!(settings.poll.watch.progress_step, 0.5);
    assert_eq!(settings.ampersand.max_concurrent_requests.get(), 1_000);
    assert_eq!(settings.ampersand.max_requests_per_second, 0.5);
}

#[test]
fn the_environment_gives_all_types_as_text() {
    let settings = Case::new("")
        .with(&[
            ("BACKFILL_WATCH_POLL__ADAPTIVE", "False"),
            ("BACKFILL_WATCH_METRICS__PER_OPERATION", "true"),
            ("BACKFILL_WATCH_POLL__ACTIVE_STATUSES", "in_progress, queued"),
            ("BACKFILL_WATCH_AMPERSAND__MAX_CONCURRENT_REQUESTS", "7"),
        ])
        .settings();
    assert!(!settings.poll.schedule.adaptive && settings.metrics.per_operation);
    assert_eq!(settings.poll.watch.active_statuses, ["in_progress", "queued"]);
    assert_eq!(settings.ampersand.max_concurrent_requests.get(), 7);
    let case = Case::new("").with(&[(
        "BACKFILL_WATCH_POLL__ACTIVE_STATUSES",
        "[\"queued\", 'paused, waiting']",
    )]);
    assert_eq!(
        case.settings().poll.watch.active_statuses,
        ["in_progress", "queued", "paused, waiting"]
    );

    let text = Case::new("")
        .with(&[
            ("BACKFILL_WATCH_POLL__ACTIVE_STATUSES", "[\"queued"),
            ("BACKFILL_WATCH_POLL__ADAPTIVE", "yes"),
            ("BACKFILL_WATCH_POLL__MULTIPLIER", "two"),
        ])
        .errors();
    assert_eq!(
        first_lines(&text),
        [
            "environment variable BACKFILL_WATCH_POLL__ACTIVE_STATUSES: poll.active_statuses: is not a valid TOML list",
            "environment variable BACKFILL_WATCH_POLL__ADAPTIVE: poll.adaptive: expected true or false, found the text \"yes\"",
            "environment variable BACKFILL_WATCH_POLL__MULTIPLIER: poll.multiplier: expected a number, found the text \"two\"",
        ]
    );
}

#[test]
fn active_statuses() {
    assert!(error("poll", "active_statuses = []").contains("the list has 0 elements"));
    assert!(error("poll", "active_statuses = ['']").contains("an element of the list is empty"));
    assert!(
        error("poll", "active_statuses = [1]")
            .contains("expected texts in the list, found the whole number 1")
    );
    assert!(
        error("poll", "active_statuses = 'x'").contains("expected a list of texts, found the text \"x\"")
    );
    assert!(error("poll", "active_statuses = ['failure']").contains("\"failure\" is a final status"));
    assert!(error("poll", "active_statuses = ['success']").contains("\"success\" is a final status"));
}

#[test]
fn logging() {
    assert!(
        error("log", "format = 'jsn'")
            .contains("\"jsn\" is not a log format\n    help: use auto, pretty, json or journald")
    );
    assert!(error("log", "filter = 'backfill_watch=verbose'").contains("is not a valid filter"));
    assert!(error("log", "filter = ''").contains("log.filter: is empty"));
    let settings = Case::new("[log]\nformat = 'journald'\nfilter = 'info,backfill_watch=debug'").settings();
    assert_eq!(settings.log.format, LogFormat::Journald);
    assert_eq!(settings.log.filter, "info,backfill_watch=debug");
}

#[test]
fn addresses() {
    let listen = |text: &str| {
        Case::new(&format!("[http]\nlisten = '{text}'"))
            .settings()
            .http
            .listen
    };
    assert_eq!(listen("off"), None);
    assert_eq!(listen("[::1]:0"), Some("[::1]:0".parse().unwrap()));
    for wrong in [
        "localhost:8464",
        "8464",
        ":8464",
        "127.0.0.1",
        "127.0.0.1:99999",
        "Off",
    ] {
        assert!(
            error("http", &format!("listen = '{wrong}'")).contains("is not an address with a port"),
            "{wrong}"
        );
    }
    assert!(
        error("http", "listen = false").contains("expected an address with a port, or \"off\", found false")
    );
}
