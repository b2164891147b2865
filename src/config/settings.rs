//! All settings, checked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ampersand::{AmpersandSettings, PROJECT_FLAG};
use super::defaults;
use super::effective::{Effective, SettingValue};
use super::environment::Environment;
use super::error::{ConfigErrors, ConfigProblem, Problems};
use super::files::{FileChoice, read_files};
use super::given::Given;
use super::http::HttpSettings;
use super::log::LogSettings;
use super::places;
use super::poll::PollSettings;
use super::raw::{Raw, Source};
use super::reader::{Purpose, Reader, SHORTEST};
use super::webhook::{WebhookSettings, webhooks};

/// The settings file that is read when none is named; it may be missing.
pub const DEFAULT_PATH: &str = "/etc/backfill-watch/config.toml";

/// What the command line sets, over everything else.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--watch-list`.
    pub watch_list: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--listen`, as it was typed.
    pub listen: Option<String>,
    /// `--project`: the one project that is meant, configured or not.
    pub project: Option<String>,
}

/// All settings, checked. Of secrets it holds the places where they stand; its debug print shows none.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The file with the operations to watch.
    pub watch_list: PathBuf,
    /// How often the watch list is looked at.
    pub watch_list_refresh: Duration,
    /// How long a change that removes nearly all entries waits for them to return; may be zero.
    pub watch_list_shrink_delay: Duration,
    /// The folder for state.
    pub state_dir: PathBuf,
    /// How long what is over or was taken off the list is remembered.
    pub retention: Duration,
    /// How long deliveries in flight may take when the daemon stops; may be zero.
    pub shutdown_timeout: Duration,
    /// The API and its projects.
    pub ampersand: AmpersandSettings,
    /// How operations are polled.
    pub poll: PollSettings,
    /// Where events are sent.
    pub webhooks: Vec<WebhookSettings>,
    /// The daemon's own pages.
    pub http: HttpSettings,
    /// The log.
    pub log: LogSettings,
    /// The metrics.
    pub metrics: MetricsSettings,
}

/// `[metrics]`: what is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsSettings {
    /// Whether each operation gets series of its own.
    pub per_operation: bool,
}

/// Settings that hold, and what is doubtful about them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadedSettings {
    /// The settings.
    pub settings: Settings,
    /// What to tell somebody, though it stops nothing.
    pub warnings: Vec<ConfigProblem>,
    /// Every value that applies, and where it comes from.
    pub values: Vec<SettingValue>,
    /// The values that were given.
    pub given: Given,
}

/// Settings that are to be checked, with all that is wrong with them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SettingsCheck {
    /// The settings; of use where nothing is wrong.
    pub settings: Settings,
    /// The file that they were read from, whether it is there or not.
    pub file: PathBuf,
    /// What is doubtful about them.
    pub warnings: Vec<ConfigProblem>,
    /// What is wrong with them.
    pub errors: Option<ConfigErrors>,
    /// The secrets that cannot be read here. The daemon may have other rights, and credentials of its own.
    pub unread: Vec<ConfigProblem>,
}

/// Where a running daemon may be found, as far as the settings say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DaemonLocation {
    /// Its state directory.
    pub state_dir: PathBuf,
    /// How it serves HTTP.
    pub http: HttpSettings,
    /// What is wrong with the settings, so that the above may be the defaults.
    pub errors: Option<ConfigErrors>,
}

impl Settings {
    /// Reads and checks all settings: defaults, files, environment, command line, the later over the earlier.
    ///
    /// Without a path, [`DEFAULT_PATH`] is read if it exists, then `conf.d/*.toml` beside it in order of name. Every secret is read once, so that an unusable one is
    /// told now. Reads small files, so it may block for a moment.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn load(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<LoadedSettings, ConfigErrors> {
        load(&choice(path), environment, overrides, Purpose::Poll)
    }

    /// As [`Settings::load`], for commands that only look at a running daemon or its state: no secret is read and no
    /// project is demanded, so that those may look who may not read the secrets. A project or webhook without a
    /// place for its secret may be left out.
    ///
    /// # Errors
    /// Everything else that is wrong, together.
    pub fn load_without_secrets(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<LoadedSettings, ConfigErrors> {
        load(&choice(path), environment, overrides, Purpose::Inspect)
    }

    /// As [`Settings::load`], for commands that ask the API and serve nobody: of the secrets only API keys are read,
    /// and a settings file in the usual place that this user may not read, since it is a service's, is passed over
    /// with a warning.
    ///
    /// # Errors
    /// Everything else that is wrong, together.
    pub fn load_for_requests(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<LoadedSettings, ConfigErrors> {
        load(&choice(path), environment, overrides, Purpose::Request)
    }

    /// As [`Settings::load`], for a command that checks them. Nothing that is wrong is an error of this function.
    #[must_use]
    pub fn load_for_check(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> SettingsCheck {
        let choice = choice(path);
        let found = read(&choice, environment, overrides, Purpose::Check);
        let (warnings, unread, errors) = found.problems.part();
        // Most of what is doubtful is a consequence of what is wrong.
        let warnings = if errors.is_some() { Vec::new() } else { warnings };
        SettingsCheck {
            settings: found.settings,
            file: environment.absolute(choice.path()),
            warnings,
            errors,
            unread,
        }
    }

    /// Finds the daemon of these settings, also where they are broken.
    #[must_use]
    pub fn locate(path: Option<&Path>, environment: &Environment, overrides: &Overrides) -> DaemonLocation {
        let found = read(&choice(path), environment, overrides, Purpose::Inspect);
        DaemonLocation {
            state_dir: found.settings.state_dir,
            http: found.settings.http,
            errors: found.problems.part().2,
        }
    }

    /// Takes the values that cannot change while the daemon runs from `running`, and names those that were others.
    pub fn keep_restart_only(&mut self, running: &Self) -> Vec<&'static str> {
        let mut kept = Vec::new();
        if self.state_dir != running.state_dir {
            self.state_dir.clone_from(&running.state_dir);
            kept.push("state_dir");
        }
        if self.http.listen != running.http.listen {
            self.http.listen = running.http.listen;
            kept.push("http.listen");
        }
        if self.log.format != running.log.format {
            self.log.format = running.log.format;
            kept.push("log.format");
        }
        kept
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        // A stat is cheap, but not so cheap that it may fill the day.
        let shortest_refresh = Duration::from_millis(10);
        let environment = reader.environment;
        let wants_installed = reader.purpose.wants_its_state();
        Self {
            watch_list: reader.path_or("watch_list", || PathBuf::from(defaults::WATCH_LIST)),
            watch_list_refresh: reader.duration(
                "watch_list_refresh",
                defaults::WATCH_LIST_REFRESH,
                shortest_refresh,
            ),
            watch_list_shrink_delay: reader.duration(
                "watch_list_shrink_delay",
                defaults::WATCH_LIST_SHRINK_DELAY,
                Duration::ZERO,
            ),
            state_dir: reader.path_or("state_dir", || {
                let installed = wants_installed.then(places::installed_state_dir).flatten();
                places::state_dir(environment, installed)
            }),
            retention: reader.duration("retention", defaults::RETENTION, SHORTEST),
            shutdown_timeout: reader.duration("shutdown_timeout", defaults::SHUTDOWN_TIMEOUT, Duration::ZERO),
            ampersand: AmpersandSettings::read(reader),
            poll: PollSettings::read(reader),
            webhooks: webhooks(reader),
            http: HttpSettings::read(reader),
            log: LogSettings::read(reader),
            metrics: MetricsSettings {
                per_operation: reader.boolean("metrics.per_operation", false),
            },
        }
    }
}

fn choice(path: Option<&Path>) -> FileChoice<'_> {
    path.map_or(FileChoice::Usual(Path::new(DEFAULT_PATH)), FileChoice::Named)
}

pub(super) fn load(
    choice: &FileChoice<'_>,
    environment: &Environment,
    overrides: &Overrides,
    purpose: Purpose,
) -> Result<LoadedSettings, ConfigErrors> {
    let found = read(choice, environment, overrides, purpose);
    match found.problems.part() {
        (_, _, Some(errors)) => Err(errors),
        (warnings, _, None) => Ok(LoadedSettings {
            settings: found.settings,
            warnings,
            values: found.values,
            given: found.given,
        }),
    }
}

/// What was read, be it of use or not.
struct Found {
    settings: Settings,
    values: Vec<SettingValue>,
    given: Given,
    problems: Problems,
}

fn read(
    choice: &FileChoice<'_>,
    environment: &Environment,
    overrides: &Overrides,
    purpose: Purpose,
) -> Found {
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
        effective: Effective::default(),
    };
    let settings = Settings::read(&mut reader);
    Found {
        settings,
        values: reader.effective.into_values(|key| raw.place_given(key)),
        given: raw.given(),
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
