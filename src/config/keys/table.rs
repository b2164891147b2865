//! The table of all settings.

use std::time::Duration;

use super::{Reload, SettingKey, SettingKind};
use crate::core::discovery::DiscoveryRule;
use crate::core::schedule::ScheduleSettings;

/// The shortest duration that is not zero.
const SHORTEST: Duration = Duration::from_millis(1);

const fn applies(path: &'static str, kind: SettingKind, description: &'static str) -> SettingKey {
    SettingKey {
        path,
        kind,
        reload: Reload::Applies,
        description,
    }
}

const fn needs_restart(path: &'static str, kind: SettingKind, description: &'static str) -> SettingKey {
    SettingKey {
        reload: Reload::NeedsRestart,
        ..applies(path, kind, description)
    }
}

const fn duration(default: Duration) -> SettingKind {
    SettingKind::Duration {
        default,
        least: SHORTEST,
    }
}

const fn seconds(default: u64) -> SettingKind {
    duration(Duration::from_secs(default))
}

const fn minutes(default: u64) -> SettingKind {
    seconds(60 * default)
}

const fn number(default: f64, least: f64, most: f64) -> SettingKind {
    SettingKind::Number { default, least, most }
}

/// All settings, in the order in which they are shown.
pub(super) static TABLES: [&[SettingKey]; 11] = [
    &GENERAL,
    &AMPERSAND,
    &PROJECTS,
    &DISCOVER,
    &GROUPS,
    &POLL,
    &ONE_WEBHOOK,
    &WEBHOOKS,
    &HTTP,
    &LOG,
    &METRICS,
];

const GENERAL: [SettingKey; 6] = [
    applies(
        "watch_list",
        SettingKind::Path {
            default: "/etc/backfill-watch/watch.list",
        },
        "The watch list: one operation ID per line. If the setting is absent and `[[discover]]` or `http.write_token_file` is \
         set, the default file may be missing.",
    ),
    applies(
        "watch_list_refresh",
        SettingKind::Duration {
            default: Duration::from_millis(250),
            // A `stat` is cheap, but not free.
            least: Duration::from_millis(10),
        },
        "How often the watch list is checked for changes.",
    ),
    applies(
        "watch_list_shrink_delay",
        SettingKind::Duration {
            default: Duration::from_secs(30),
            least: Duration::ZERO,
        },
        "How long removals are delayed when a change removes more than nine tenths of 10 or more entries. A reload applies \
         them at once.",
    ),
    needs_restart(
        "state_dir",
        SettingKind::StateFolder,
        "The state directory; also for the control socket unless `$RUNTIME_DIRECTORY` is set.",
    ),
    applies(
        "retention",
        minutes(30 * 24 * 60),
        "How long operations that left the watch list, and their events, are kept. Listed operations are kept longer.",
    ),
    applies(
        "shutdown_timeout",
        SettingKind::Duration {
            default: Duration::from_secs(8),
            least: Duration::ZERO,
        },
        "How long the daemon waits for webhook deliveries in flight when it stops. Docker kills after 10 s.",
    ),
];

const AMPERSAND: [SettingKey; 7] = [
    applies(
        "ampersand.base_url",
        SettingKind::Url {
            default: Some("https://api.withampersand.com/v1"),
        },
        "The URL of the API.",
    ),
    applies(
        "ampersand.request_timeout",
        seconds(10),
        "How long one request may take, from connecting to the last byte of the response.",
    ),
    applies(
        "ampersand.max_concurrent_requests",
        SettingKind::Count {
            default: 32,
            most: 10_000,
        },
        "The most requests of one project in flight.",
    ),
    applies(
        "ampersand.max_requests_per_second",
        number(20.0, 0.001, 100_000.0),
        "The most requests of one project that start per second.",
    ),
    applies(
        "ampersand.ca_file",
        SettingKind::File,
        "PEM certificates to trust in addition to those of the system.",
    ),
    applies(
        "ampersand.project",
        SettingKind::Name { default: None },
        "The name or ID of the project at Ampersand. Use `[[ampersand.projects]]` for several.",
    ),
    applies(
        "ampersand.api_key_file",
        SettingKind::File,
        "A file with the API key. Without it: the systemd credential `ampersand-api-key`, otherwise `AMPERSAND_API_KEY`.",
    ),
];

const PROJECTS: [SettingKey; 2] = [
    applies(
        "ampersand.projects[].name",
        SettingKind::Name { default: None },
        "The name or ID of the project at Ampersand. The first project is the default of the watch list.",
    ),
    applies(
        "ampersand.projects[].api_key_file",
        SettingKind::File,
        "A file with the API key of this project.",
    ),
];

/// All names.
const ANY: SettingKind = SettingKind::List { default: "[\"*\"]" };

const DISCOVER: [SettingKey; 8] = [
    applies(
        "discover[].project",
        SettingKind::Name { default: None },
        "The project whose backfills are found. The default is the first project.",
    ),
    applies(
        "discover[].integrations",
        ANY,
        "The integrations, by name or ID. `*` matches any text.",
    ),
    applies(
        "discover[].groups",
        ANY,
        "The customers, by `groupRef`. `*` matches any text.",
    ),
    applies("discover[].objects", ANY, "The objects. `*` matches any text."),
    applies(
        "discover[].every",
        SettingKind::Duration {
            default: DiscoveryRule::EVERY,
            // Each round requests a list of all installations.
            least: Duration::from_secs(1),
        },
        "How often the project is searched. The shortest of its tables applies to all of them.",
    ),
    applies(
        "discover[].lookback",
        SettingKind::Duration {
            default: DiscoveryRule::LOOKBACK,
            least: Duration::ZERO,
        },
        "Finished backfills that started longer ago than this when their installation is first seen are not reported.",
    ),
    applies(
        "discover[].deadline",
        SettingKind::Deadline,
        "By when a backfill should be finished: a time, or a duration after its start.",
    ),
    applies(
        "discover[].labels",
        SettingKind::Labels,
        "Labels of what is found, in addition to `group`, `object`, `installation` and `integration`.",
    ),
];

const GROUPS: [SettingKey; 2] = [
    applies(
        "groups.by",
        SettingKind::Text { default: "group" },
        "The label whose value is the group of a watch.",
    ),
    applies(
        "groups.settle",
        SettingKind::Duration {
            default: Duration::from_secs(30),
            least: Duration::ZERO,
        },
        "`group.completed` is sent when no watch has joined for this time and all are finished.",
    ),
];

const POLL: [SettingKey; 15] = [
    applies(
        "poll.initial_interval",
        duration(ScheduleSettings::DEFAULT.initial_interval),
        "The interval between the first polls of an operation.",
    ),
    applies(
        "poll.min_interval",
        duration(ScheduleSettings::DEFAULT.min_interval),
        "The shortest interval between two polls of an operation.",
    ),
    applies(
        "poll.max_interval",
        duration(ScheduleSettings::DEFAULT.max_interval),
        "The longest interval between two polls of an operation.",
    ),
    applies(
        "poll.multiplier",
        number(ScheduleSettings::DEFAULT.multiplier, 1.0, 100.0),
        "The factor by which the interval grows from poll to poll.",
    ),
    applies(
        "poll.randomization",
        number(ScheduleSettings::DEFAULT.randomization, 0.0, 1.0),
        "The share of each interval that is added or subtracted at random.",
    ),
    applies(
        "poll.adaptive",
        SettingKind::Boolean {
            default: ScheduleSettings::DEFAULT.adaptive,
        },
        "Poll rarely while the estimated end is far, and often around it.",
    ),
    applies(
        "poll.stalled_after",
        minutes(30),
        "`operation.stalled` is sent when the record count has not risen for this time.",
    ),
    applies(
        "poll.silent_after",
        SettingKind::DurationOrOff {
            default: Some(Duration::from_hours(6)),
        },
        "`operation.stalled` is sent when the operation has shown no record count for this time.",
    ),
    applies(
        "poll.unreachable_after",
        minutes(5),
        "`api.unreachable` or `operation.unreachable` is sent when every poll has failed for this time.",
    ),
    applies(
        "poll.not_found_grace",
        SettingKind::Duration {
            default: Duration::from_mins(2),
            least: Duration::ZERO,
        },
        "`operation.gone` is sent when the API has not known the operation for this time.",
    ),
    applies(
        "poll.max_retry_after",
        minutes(15),
        "The longest pause that a `Retry-After` of the API can cause.",
    ),
    applies(
        "poll.give_up_after",
        SettingKind::DurationOrOff { default: None },
        "`operation.expired` is sent, and the watch finishes, after this time.",
    ),
    applies(
        "poll.active_statuses",
        SettingKind::List {
            default: "[\"in_progress\"]",
        },
        "The statuses that count as running, in addition to `in_progress`.",
    ),
    applies(
        "poll.progress_step",
        // The percentage has one decimal.
        number(10.0, 0.1, 100.0),
        "Percentage points between two `operation.progress` events.",
    ),
    applies(
        "poll.progress_interval",
        minutes(1),
        "The time between two `operation.progress` events of an operation without an estimate.",
    ),
];

/// The keys of one webhook, which `[webhook]` and `[[webhooks]]` share.
macro_rules! webhook_keys {
    ($table:literal, $default_name:expr, $no_secret_file:literal) => {
        [
            applies(
                concat!($table, ".name"),
                SettingKind::Name {
                    default: $default_name,
                },
                "The name of the endpoint. It identifies the backlog, also after a change of the URL.",
            ),
            applies(
                concat!($table, ".url"),
                SettingKind::Url { default: None },
                "The URL that events are posted to: `https`, or `http` to this machine.",
            ),
            applies(
                concat!($table, ".secret_file"),
                SettingKind::File,
                concat!(
                    "A file with the signing secrets, one per line, newest first.",
                    $no_secret_file
                ),
            ),
            applies(
                concat!($table, ".events"),
                SettingKind::List {
                    default: "all but operation.progress",
                },
                "The event types to send. `*` matches any text, as in `operation.*`.",
            ),
            applies(
                concat!($table, ".max_in_flight"),
                SettingKind::Count {
                    default: 16,
                    most: 1_000,
                },
                "The most deliveries in flight.",
            ),
            applies(
                concat!($table, ".max_backlog"),
                SettingKind::Count {
                    default: 1_000_000,
                    most: 100_000_000,
                },
                "The most events that wait for delivery. Beyond it, progress events are dropped, then the oldest become dead letters.",
            ),
            applies(
                concat!($table, ".allow_http"),
                SettingKind::Boolean { default: false },
                "Allow `http` to other machines. Events are then sent in clear text.",
            ),
        ]
    };
}

const ONE_WEBHOOK: [SettingKey; 7] = webhook_keys!(
    "webhook",
    Some("webhook"),
    " Without it: the systemd credential `webhook-secret`, otherwise `BACKFILL_WATCH_WEBHOOK_SECRET`."
);

const WEBHOOKS: [SettingKey; 7] = webhook_keys!("webhooks[]", None, "");

const HTTP: [SettingKey; 4] = [
    needs_restart(
        "http.listen",
        SettingKind::Address {
            default: "127.0.0.1:8464",
        },
        "The address of the status page, health, metrics and HTTP API.",
    ),
    applies(
        "http.token_file",
        SettingKind::File,
        "A file with tokens, one per line. Every path but `/livez` and `/readyz` then requires one of them.",
    ),
    applies(
        "http.write_token_file",
        SettingKind::File,
        "A file with tokens, one per line, that may add and remove watches, and read. Without it nothing can be written over TCP.",
    ),
    applies(
        "http.allow_unauthenticated",
        SettingKind::Boolean { default: false },
        "Without a token, answer requests from other machines completely. Otherwise they get only health and metrics.",
    ),
];

const LOG: [SettingKey; 2] = [
    needs_restart(
        "log.format",
        SettingKind::Choice {
            default: "auto",
            choices: &["auto", "pretty", "json", "journald"],
        },
        "The format of log lines. `auto` is `pretty` on a terminal, `journald` in the journal, otherwise `json`.",
    ),
    applies(
        "log.filter",
        SettingKind::Text { default: "info" },
        "The level `error`, `warn`, `info`, `debug` or `trace`, or one per module: `info,backfill_watch=debug`.",
    ),
];

const METRICS: [SettingKey; 1] = [applies(
    "metrics.per_operation",
    SettingKind::Boolean { default: false },
    "Export series for each operation: records and progress.",
)];
