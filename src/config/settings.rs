//! All settings, loaded and checked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ampersand::{AmpersandSettings, PROJECT_FLAG};
use super::discovery::{self, DiscoveryRules, GroupSettings};
use super::effective::EffectiveSettings;
use super::environment::Environment;
use super::error::{ConfigErrors, ConfigProblem, Problems};
use super::files::{FileChoice, read_files};
use super::http::HttpSettings;
use super::log::LogSettings;
use super::places;
use super::poll::PollSettings;
use super::raw::{Raw, Source};
use super::reader::{Purpose, Reader, default_text};
use super::webhook::{WebhookSettings, webhooks};

/// The settings file without `--config`; it may be missing.
pub const DEFAULT_PATH: &str = "/etc/backfill-watch/config.toml";

/// Settings from the command line, which win over all other sources.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--watch-list`.
    pub watch_list: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--listen`, as it was typed.
    pub listen: Option<String>,
    /// `--project`: the only project to use, configured or not.
    pub project: Option<String>,
}

/// All settings, checked. It contains the places of secrets, not the secrets.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The watch list.
    pub watch_list: PathBuf,
    /// Whether the watch list is awaited when it is missing. Not so at its default path if there is another source.
    pub requires_watch_list: bool,
    /// How often the watch list is checked for changes.
    pub watch_list_refresh: Duration,
    /// How long removals are delayed when a change removes nearly all entries; may be zero.
    pub watch_list_shrink_delay: Duration,
    /// The folder for state.
    pub state_dir: PathBuf,
    /// How long operations that left the watch list, and their events, are kept.
    pub retention: Duration,
    /// How long the daemon waits for deliveries in flight when it stops; may be zero.
    pub shutdown_timeout: Duration,
    /// The API and its projects.
    pub ampersand: AmpersandSettings,
    /// Which backfills are found.
    pub discovery: DiscoveryRules,
    /// Which watches belong together.
    pub groups: GroupSettings,
    /// How operations are polled.
    pub poll: PollSettings,
    /// Where events are sent.
    pub webhooks: Vec<WebhookSettings>,
    /// Status page, health, metrics and HTTP API.
    pub http: HttpSettings,
    /// The log.
    pub log: LogSettings,
    /// The metrics.
    pub metrics: MetricsSettings,
}

/// `[metrics]`: which series are exported.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsSettings {
    /// Whether each operation has its own series.
    pub per_operation: bool,
}

/// Valid settings, with warnings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadedSettings {
    /// The settings.
    pub settings: Settings,
    /// Problems that do not prevent a start.
    pub warnings: Vec<ConfigProblem>,
    /// The values that apply, each with its place.
    pub effective: EffectiveSettings,
}

/// The result of a check of the settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SettingsCheck {
    /// The settings; usable if there are no errors.
    pub settings: Settings,
    /// The settings file, existing or not.
    pub file: PathBuf,
    /// Problems that do not prevent a start.
    pub warnings: Vec<ConfigProblem>,
    /// All errors, if there are any.
    pub errors: Option<ConfigErrors>,
    /// Secrets that this user cannot read. The daemon may have other rights and credentials.
    pub unread: Vec<ConfigProblem>,
}

/// Where a running daemon answers, according to the settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DaemonLocation {
    /// Its state directory.
    pub state_dir: PathBuf,
    /// How it serves HTTP.
    pub http: HttpSettings,
    /// All errors of the settings. With errors, the other members may be defaults.
    pub errors: Option<ConfigErrors>,
}

impl Settings {
    /// Loads and checks all settings: defaults, files, environment, command line; later sources win.
    ///
    /// Without a path, [`DEFAULT_PATH`] is read if it exists, then `conf.d/*.toml` beside it in order of name. Each secret
    /// is read once to check it. Blocks while it reads small files.
    ///
    /// # Errors
    /// All errors, together.
    pub fn load(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<LoadedSettings, ConfigErrors> {
        load(&choice(path), environment, overrides, Purpose::Poll)
    }

    /// As [`Settings::load`], without reading secrets and without requiring a project. For commands that inspect a running
    /// daemon or its state. Projects and webhooks without a place for their secret may be missing.
    ///
    /// # Errors
    /// All other errors, together.
    pub fn load_without_secrets(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<LoadedSettings, ConfigErrors> {
        load(&choice(path), environment, overrides, Purpose::Inspect)
    }

    /// As [`Settings::load`], for commands that send requests to the API. Only API keys are read, and a default settings
    /// file that this user cannot read is ignored with a warning.
    ///
    /// # Errors
    /// All other errors, together.
    pub fn load_for_requests(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<LoadedSettings, ConfigErrors> {
        load(&choice(path), environment, overrides, Purpose::Request)
    }

    /// As [`Settings::load`], for a check: returns errors together with the settings.
    #[must_use]
    pub fn load_for_check(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> SettingsCheck {
        let choice = choice(path);
        let loaded = read(&choice, environment, overrides, Purpose::Check);
        let (warnings, unread, errors) = loaded.problems.split();
        // Most warnings are consequences of the errors.
        let warnings = if errors.is_some() { Vec::new() } else { warnings };
        SettingsCheck {
            settings: loaded.settings,
            file: environment.absolute(choice.path()),
            warnings,
            errors,
            unread,
        }
    }

    /// Finds the daemon of these settings, also if they have errors.
    #[must_use]
    pub fn locate(path: Option<&Path>, environment: &Environment, overrides: &Overrides) -> DaemonLocation {
        let loaded = read(&choice(path), environment, overrides, Purpose::Inspect);
        DaemonLocation {
            state_dir: loaded.settings.state_dir,
            http: loaded.settings.http,
            errors: loaded.problems.split().2,
        }
    }

    /// Restores the values that need a restart from `running`. Returns the keys of those that differed.
    pub fn keep_restart_only(&mut self, running: &Self) -> Vec<&'static str> {
        fn keep<T: PartialEq + Clone>(value: &mut T, running: &T) -> bool {
            let differs = value != running;
            value.clone_from(running);
            differs
        }
        let kept = [
            ("state_dir", keep(&mut self.state_dir, &running.state_dir)),
            ("http.listen", keep(&mut self.http.listen, &running.http.listen)),
            ("log.format", keep(&mut self.log.format, &running.log.format)),
        ];
        kept.into_iter()
            .filter(|(_, differed)| *differed)
            .map(|(key, _)| key)
            .collect()
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let environment = reader.environment;
        let uses_installed = reader.purpose.uses_installed_state();
        let ampersand = AmpersandSettings::read(reader);
        let http = HttpSettings::read(reader);
        let has_other_source = discovery::is_configured(reader) || http.write_tokens.is_some();
        Self {
            requires_watch_list: !has_other_source || reader.place_set("watch_list").is_some(),
            watch_list: reader.path_or("watch_list", || PathBuf::from(default_text("watch_list"))),
            watch_list_refresh: reader.duration("watch_list_refresh"),
            watch_list_shrink_delay: reader.duration("watch_list_shrink_delay"),
            state_dir: reader.path_or("state_dir", || {
                let installed = uses_installed.then(places::installed_state_dir).flatten();
                places::state_dir(environment, installed)
            }),
            retention: reader.duration("retention"),
            shutdown_timeout: reader.duration("shutdown_timeout"),
            discovery: discovery::rules(reader, &ampersand.projects),
            groups: GroupSettings::read(reader),
            ampersand,
            poll: PollSettings::read(reader),
            webhooks: webhooks(reader),
            http,
            log: LogSettings::read(reader),
            metrics: MetricsSettings {
                per_operation: reader.boolean("metrics.per_operation"),
            },
        }
    }
}

fn choice(path: Option<&Path>) -> FileChoice<'_> {
    path.map_or(FileChoice::Default(Path::new(DEFAULT_PATH)), FileChoice::Named)
}

pub(super) fn load(
    choice: &FileChoice<'_>,
    environment: &Environment,
    overrides: &Overrides,
    purpose: Purpose,
) -> Result<LoadedSettings, ConfigErrors> {
    let loaded = read(choice, environment, overrides, purpose);
    match loaded.problems.split() {
        (_, _, Some(errors)) => Err(errors),
        (warnings, _, None) => Ok(LoadedSettings {
            settings: loaded.settings,
            warnings,
            effective: loaded.effective,
        }),
    }
}

/// Settings as they were read, valid or not.
struct UncheckedSettings {
    settings: Settings,
    effective: EffectiveSettings,
    problems: Problems,
}

fn read(
    choice: &FileChoice<'_>,
    environment: &Environment,
    overrides: &Overrides,
    purpose: Purpose,
) -> UncheckedSettings {
    let mut problems = Problems::default();
    let files = read_files(choice, environment, purpose, &mut problems);
    let main = environment.absolute(choice.path());
    let folder = main.parent().filter(|_| !files.is_empty());
    let mut raw = Raw::new(folder);
    let sources = files.iter().map(|file| Source {
        path: &file.path,
        folder: file.located.parent(),
        text: &file.text,
    });
    raw.add_files(sources, &mut problems);
    raw.add_environment(environment, &mut problems);
    add_flags(&mut raw, overrides);
    let mut reader = Reader {
        raw: &raw,
        environment,
        purpose,
        problems,
        effective: EffectiveSettings::default(),
    };
    let settings = Settings::read(&mut reader);
    UncheckedSettings {
        settings,
        effective: reader.effective.with_places(|key| raw.place_set(key)),
        problems: reader.problems,
    }
}

fn add_flags(raw: &mut Raw<'_>, overrides: &Overrides) {
    let Overrides {
        watch_list,
        state_dir,
        listen,
        project,
    } = overrides;
    let flags: [(&'static str, &str, Option<&OsStr>); 4] = [
        (
            "--watch-list",
            "watch_list",
            watch_list.as_deref().map(Path::as_os_str),
        ),
        (
            "--state-dir",
            "state_dir",
            state_dir.as_deref().map(Path::as_os_str),
        ),
        ("--listen", "http.listen", listen.as_deref().map(OsStr::new)),
        (
            PROJECT_FLAG,
            "ampersand.project",
            project.as_deref().map(OsStr::new),
        ),
    ];
    for (flag, key, value) in flags {
        if let Some(value) = value {
            raw.add_flag(flag, key, value);
        }
    }
}
