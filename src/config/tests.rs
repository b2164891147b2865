//! Whole settings: how sources are merged, and how problems are reported.

mod ampersand;
mod discovery;
mod example;
mod files;
mod reference;
mod sources;
mod values;
mod webhooks;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::keys::{self, Reload};
use super::{ConfigErrors, Environment, LoadedSettings, Overrides, Settings};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The shortest valid settings.
const PROJECT: &[(&str, &str)] = &[
    ("BACKFILL_WATCH_AMPERSAND__PROJECT", "p"),
    ("AMPERSAND_API_KEY", "hunter2"),
];

/// A folder with a settings file and other files, and an environment.
struct Case {
    folder: TempDir,
    variables: Vec<(String, String)>,
    overrides: Overrides,
}

impl Case {
    /// The settings file, and the variables of [`PROJECT`].
    fn new(toml: &str) -> Self {
        Self::bare(toml).with(PROJECT)
    }

    /// The settings file, and no environment.
    fn bare(toml: &str) -> Self {
        let case = Self {
            folder: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
            overrides: Overrides::default(),
        };
        case.file("config.toml", toml)
    }

    fn with(mut self, variables: &[(&str, &str)]) -> Self {
        self.variables.extend(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        self
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn environment(&self) -> Environment {
        self.variables.iter().cloned().collect()
    }

    fn load(&self) -> Result<LoadedSettings, ConfigErrors> {
        Settings::load(
            Some(&self.path("config.toml")),
            &self.environment(),
            &self.overrides,
        )
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        match self.load() {
            Ok(loaded) => {
                assert_eq!(loaded.warnings, []);
                loaded.settings
            }
            Err(errors) => panic!("{errors}"),
        }
    }

    /// The errors, with paths relative to the folder.
    #[track_caller]
    fn errors(&self) -> String {
        self.short(&self.load().unwrap_err().to_string())
    }

    /// The warnings, with paths relative to the folder.
    #[track_caller]
    fn warnings(&self) -> String {
        let warnings = self.load().unwrap().warnings;
        self.short(
            &warnings
                .iter()
                .map(|warning| format!("{warning}\n"))
                .collect::<String>(),
        )
    }

    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

/// The first lines of the problems, without their help.
fn first_lines(errors: &str) -> Vec<&str> {
    errors
        .lines()
        .filter(|line| !line.starts_with("    help: "))
        .collect()
}

#[test]
fn all_errors_are_reported_together() {
    let case = Case::bare(
        r#"retention = 30
watch_lists = "w"

[ampersand]
base_url = "ftp://example.com"
api_key_file = "missing-key"
project = "a b"

[poll]
initial_interval = "5s"
min_interval = "0s"
max_interval = "1s"
multiplier = "1.5"
stalled_after = "30 parsecs"
randomization = 1.5
adaptive = 1

[[webhooks]]
url = "http://example.com/"
secret_file = "secrets"
events = ["operation.fail"]

[log]
format = 5
filter = "backfill_watch=verbose"
"#,
    )
    .file("secrets", "\n")
    .with(&[("BACKFILL_WATCH_HTTP__LISTEN", "localhost")]);
    insta::assert_snapshot!(case.errors(), @r#"
    config.toml:1:13: retention: expected a duration, found the whole number 30
        help: add the unit, as in "30s"
    config.toml:2:1: watch_lists: unknown setting
        help: did you mean watch_list? It belongs at the top of the file, before the first [table]
    config.toml:5:12: ampersand.base_url: has the unsupported scheme "ftp"
        help: use a full URL, such as https://www.example.com/path
    config.toml:6:16: ampersand.api_key_file: cannot read missing-key: there is no such file
        help: create the file, or correct the path
    config.toml:7:11: ampersand.project: "a b" is not a valid name
        help: use 1 to 128 characters of A-Z a-z 0-9 . _ ~ -
    config.toml:11:16: poll.min_interval: "0s" is too short
        help: use at least 1ms and at most 10 years
    config.toml:12:16: poll.max_interval: "1s" is below poll.initial_interval (5s)
        help: raise poll.max_interval to at least 5s, or lower poll.initial_interval
    config.toml:13:14: poll.multiplier: expected a number, found the text "1.5"
        help: use a number from 1 to 100, without quotation marks
    config.toml:14:17: poll.stalled_after: "30 parsecs" is not a duration
        help: write numbers with units, such as "250ms", "30s", "5m" or "1h 30m"
    config.toml:15:17: poll.randomization: 1.5 is out of range
        help: use a number from 0 to 1
    config.toml:16:12: poll.adaptive: expected true or false, found the whole number 1
        help: write true or false, without quotation marks
    config.toml:18:1: webhooks[0].name: is missing
        help: add a name, which stays the same when the URL changes
    config.toml:19:7: webhooks[0].url: sends events in clear text
        help: use https, or set allow_http = true in a trusted network
    config.toml:20:15: webhooks[0].secret_file: secrets is empty
        help: write the secret there
    config.toml:21:10: webhooks[0].events: no event type matches "operation.fail"
        help: did you mean "operation.failed"? "operation.*", "group.*" and "api.*" match all
    config.toml:24:10: log.format: expected one of auto, pretty, json, journald, found the whole number 5
        help: write it in quotation marks
    config.toml:25:10: log.filter: "backfill_watch=verbose" is not a valid filter
        help: use error, warn, info, debug, trace, or a list such as info,backfill_watch=debug
    environment variable BACKFILL_WATCH_HTTP__LISTEN: http.listen: "localhost" is not an address with a port
        help: use an IP address and a port, such as 127.0.0.1:8464, [::1]:8464 or 0.0.0.0:8464, or off
    "#);
}

#[test]
fn no_secret_is_shown_by_errors_or_debug() {
    let case = Case::new("[webhook]\nurl = \"https://hooks.example.com/T0K3N?key=T0K3N\"\n")
        .with(&[("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET)]);
    let printed = format!(
        "{:?} {:?} {:#?}",
        case.load().unwrap(),
        case.environment(),
        case.settings()
    );
    for secret in ["hunter2", "whsec_", "T0K3N"] {
        assert!(!printed.contains(secret), "{printed}");
    }

    let case = Case::new(
        r#"
[ampersand]
api_key = "hunter3"
[webhook]
url = "https://user:hunter3@hooks.example.com/"
secret = "hunter3"
secret_file = "whsec_hunter3"
[http]
token = "hunter3"
token_file = "token"
"#,
    )
    .file("token", "hunter3 hunter3\n")
    .with(&[("BACKFILL_WATCH_AMPERSAND__API_KEY", "hunter3")]);
    let errors = case.load().unwrap_err();
    let text = format!("{errors} {errors:?}");
    assert!(!text.contains("hunter3"), "{text}");
    assert_eq!(
        first_lines(&case.errors()),
        [
            "config.toml:3:1: ampersand.api_key: secrets are not allowed in the settings file",
            "config.toml:5:7: webhook.url: contains a user name or password",
            "config.toml:6:1: webhook.secret: secrets are not allowed in the settings file",
            "config.toml:7:15: webhook.secret_file: contains the secret itself",
            "config.toml:9:1: http.token: secrets are not allowed in the settings file",
            "config.toml:10:14: http.token_file: line 1 of token has a character at column 8 that is not visible ASCII",
        ]
    );
}

#[test]
fn inspection_requires_neither_secrets_nor_projects() {
    let case = Case::bare(
        r#"
[ampersand]
project = "p"
api_key_file = "nowhere"
ca_file = "nowhere"
[[webhooks]]
name = "w"
url = "https://example.com/"
[http]
token_file = "nowhere"
"#,
    );
    assert_eq!(case.load().unwrap_err().problems().len(), 4);
    let inspect = |case: &Case, path: &Path| {
        Settings::load_without_secrets(Some(path), &case.environment(), &case.overrides)
    };
    let settings = inspect(&case, &case.path("config.toml")).unwrap().settings;
    assert_eq!(settings.ampersand.projects.len(), 1);
    assert!(settings.http.tokens.unwrap().read_tokens().is_err());

    let case = Case::bare("state_dir = 5");
    assert_eq!(
        inspect(&case, &case.path("config.toml"))
            .unwrap_err()
            .problems()
            .len(),
        1
    );
    let case = Case::bare("");
    assert!(
        inspect(&case, &case.path("config.toml"))
            .unwrap()
            .settings
            .ampersand
            .projects
            .is_empty()
    );
}

#[test]
fn settings_that_need_a_restart_are_kept_and_named() {
    let old = Case::new("").settings();
    let mut same = Case::new("watch_list = 'other'\n[http]\nlisten = '127.0.0.1:8464'").settings();
    assert!(same.keep_restart_only(&old).is_empty());
    let mut other =
        Case::new("state_dir = 'other'\n[http]\nlisten = 'off'\n[log]\nformat = 'json'\nfilter = 'debug'")
            .settings();
    let kept = other.keep_restart_only(&old);
    assert_eq!(kept, ["state_dir", "http.listen", "log.format"]);
    let in_table = keys::all().filter(|key| key.reload == Reload::NeedsRestart);
    assert_eq!(kept, in_table.map(|key| key.path).collect::<Vec<_>>());
    assert_eq!(
        (&other.state_dir, other.http.listen, other.log.format),
        (&old.state_dir, old.http.listen, old.log.format)
    );
    assert_eq!(other.log.filter, "debug");
}

#[test]
fn only_changed_values_are_differences() {
    let effective = |toml: &str| Case::new(toml).load().unwrap().effective;
    let old = effective("[poll]\nstalled_after = '60s'");
    let same = effective("retention = '30d'\n[poll]\nstalled_after = '1m'\nadaptive = true");
    assert_eq!(old.differences(&same), [""; 0]);
    let other = effective("[poll]\nstalled_after = '2m'\n[http]\nlisten = 'off'");
    assert_eq!(old.differences(&other), ["http.listen", "poll.stalled_after"]);
}

#[test]
fn a_daemon_is_found_by_settings_with_errors() {
    let located = |case: &Case| {
        let file = case.path("config.toml");
        Settings::locate(Some(&file), &case.environment(), &case.overrides)
    };
    let case = Case::bare(
        "state_dir = '/s'\nnonsense = 1\n[http]\nlisten = '127.0.0.1:1'\n[poll]\nmultiplier = 'x'",
    );
    let found = located(&case);
    assert_eq!(found.state_dir, Path::new("/s"));
    assert_eq!(found.http.listen, Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(found.errors.unwrap().problems().len(), 2);
    // The other lines of a file with a syntax error are known.
    let case = Case::bare("state_dir = '/s'\n[http]\nlisten = 'off'\n[poll\n");
    let found = located(&case);
    assert_eq!(
        (found.state_dir.as_path(), found.http.listen),
        (Path::new("/s"), None)
    );
    assert!(found.errors.is_some());
    // Only the environment is known.
    let case = Case::bare("state_dir = ").with(&[("BACKFILL_WATCH_STATE_DIR", "/e")]);
    let found = located(&case);
    assert_eq!(found.state_dir, Path::new("/e"));
    assert_eq!(found.errors.unwrap().problems().len(), 1);
}

#[test]
fn a_check_lists_unreadable_secrets_separately() {
    let check = |case: &Case| {
        let file = case.path("config.toml");
        Settings::load_for_check(Some(&file), &case.environment(), &case.overrides)
    };
    let case = Case::bare(
        "[ampersand]\nproject = 'p'\n[webhook]\nurl = 'https://h.example'\nsecret_file = 'nowhere'",
    );
    let found = check(&case);
    assert!(found.errors.is_none(), "{:?}", found.errors);
    let keys: Vec<&str> = found.unread.iter().map(|problem| &*problem.key).collect();
    assert_eq!(keys, ["ampersand.api_key_file", "webhook.secret_file"]);
    // A secret that can be read and is invalid is an error.
    let case = case.file("nowhere", "hunter2");
    let found = check(&case);
    assert_eq!(found.unread.len(), 1);
    assert_eq!(found.errors.unwrap().problems()[0].key, "webhook.secret_file");
}
