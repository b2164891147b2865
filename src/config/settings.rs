//! All settings, checked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ampersand::{Ampersand, PROJECT_FLAG};
use super::defaults;
use super::environment::Environment;
use super::error::{ConfigErrors, ConfigProblem, Place, Problems};
use super::file::{FileError, read_text};
use super::http::Http;
use super::log::Log;
use super::poll::Poll;
use super::raw::{Raw, Source};
use super::reader::{Purpose, Reader, SHORTEST};
use super::webhook::{Webhook, webhooks};
use crate::error::chain;

/// The settings file that is read when none is named; it may be missing.
pub const DEFAULT_PATH: &str = "/etc/backfill-watch/config.toml";
/// The most a settings file may hold, in bytes.
const MAX_FILE: usize = 1024 * 1024;

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
    pub ampersand: Ampersand,
    /// How operations are polled.
    pub poll: Poll,
    /// Where events are sent.
    pub webhooks: Vec<Webhook>,
    /// The daemon's own pages.
    pub http: Http,
    /// The log.
    pub log: Log,
    /// The metrics.
    pub metrics: Metrics,
}

/// `[metrics]`: what is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Whether each operation gets series of its own.
    pub per_operation: bool,
}

/// Settings that hold, and what is doubtful about them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What to tell somebody, though it stops nothing.
    pub warnings: Vec<ConfigProblem>,
}

impl Settings {
    /// Reads and checks all settings: defaults, file, environment, command line, the later over the earlier.
    ///
    /// Without a path, [`DEFAULT_PATH`] is read if it exists. Every secret is read once, so that an unusable one is
    /// told now. Reads small files, so it may block for a moment.
    ///
    /// # Errors
    /// Everything that is wrong, together.
    pub fn load(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<Loaded, ConfigErrors> {
        load(&FileChoice::new(path), environment, overrides, Purpose::Poll)
    }

    /// As [`Settings::load`], for commands that only look at a running daemon or its state: no secret is read and no
    /// project is demanded, so that those may look who may not read the secrets. A project or webhook without a
    /// place for its secret may be left out.
    ///
    /// # Errors
    /// Everything else that is wrong, together.
    pub fn load_to_look(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<Loaded, ConfigErrors> {
        load(&FileChoice::new(path), environment, overrides, Purpose::Look)
    }

    /// As [`Settings::load`], for commands that ask the API and serve nobody: of the secrets only API keys are read,
    /// and a settings file in the usual place that this user may not read, since it is a service's, is passed over
    /// with a warning.
    ///
    /// # Errors
    /// Everything else that is wrong, together.
    pub fn load_to_ask(
        path: Option<&Path>,
        environment: &Environment,
        overrides: &Overrides,
    ) -> Result<Loaded, ConfigErrors> {
        load(&FileChoice::new(path), environment, overrides, Purpose::Ask)
    }

    /// The keys that differ in `new` although they cannot change while the daemon runs.
    #[must_use]
    pub fn unchangeable_differences(&self, new: &Self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        if self.state_dir != new.state_dir {
            keys.push("state_dir");
        }
        if self.http.listen != new.http.listen {
            keys.push("http.listen");
        }
        keys
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        // A stat is cheap, but not so cheap that it may fill the day.
        let shortest_refresh = Duration::from_millis(10);
        Self {
            watch_list: reader
                .path("watch_list")
                .unwrap_or_else(|| PathBuf::from(defaults::WATCH_LIST)),
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
            state_dir: reader
                .path("state_dir")
                .unwrap_or_else(|| default_state_dir(reader.environment)),
            retention: reader.duration("retention", defaults::RETENTION, SHORTEST),
            shutdown_timeout: reader.duration("shutdown_timeout", defaults::SHUTDOWN_TIMEOUT, Duration::ZERO),
            ampersand: Ampersand::read(reader),
            poll: Poll::read(reader),
            webhooks: webhooks(reader),
            http: Http::read(reader),
            log: Log::read(reader),
            metrics: Metrics {
                per_operation: reader.boolean("metrics.per_operation", false),
            },
        }
    }
}

/// The settings file to read.
pub(super) enum FileChoice<'a> {
    /// One that somebody named, so it has to be there.
    Named(&'a Path),
    /// One that is read if it is there.
    Usual(&'a Path),
}

impl<'a> FileChoice<'a> {
    fn new(path: Option<&'a Path>) -> Self {
        path.map_or(Self::Usual(Path::new(DEFAULT_PATH)), Self::Named)
    }
}

pub(super) fn load(
    choice: &FileChoice<'_>,
    environment: &Environment,
    overrides: &Overrides,
    purpose: Purpose,
) -> Result<Loaded, ConfigErrors> {
    let mut problems = Problems::default();
    let mut raw = Raw::default();
    let (FileChoice::Named(file) | FileChoice::Usual(file)) = *choice;
    // Errors name it as it was given.
    let located = environment.absolute(file);
    let text = match read_text(&located, MAX_FILE) {
        Ok(text) => Some(text),
        Err(FileError::Missing) if matches!(choice, FileChoice::Usual(_)) => None,
        Err(error @ FileError::Unreadable(_))
            if matches!(choice, FileChoice::Usual(_)) && purpose == Purpose::Ask =>
        {
            let problem = format!("the settings are passed over: {}", chain(&error));
            let help = "name a file of your own with --config, if settings are missing".to_owned();
            problems.warning("", Some(Place::File(file.to_owned())), problem, help);
            None
        }
        Err(error) => {
            let problem = format!("cannot read the settings: {}", chain(&error));
            let place = Place::File(file.to_owned());
            problems.error("", Some(place), problem, error.help().to_owned());
            return Err(problems.into_errors());
        }
    };
    if let Some(text) = &text {
        // Without the file, most of what would be found after this is that something is missing which it holds.
        raw.add_file(Source { path: file, text }, &mut problems)?;
    }
    raw.add_environment(environment, &mut problems);
    add_flags(&mut raw, overrides);
    let folder = text.as_ref().and_then(|_| located.parent());
    let mut reader = Reader {
        raw: &raw,
        environment,
        folder,
        purpose,
        problems,
    };
    let settings = Settings::read(&mut reader);
    let warnings = reader.problems.finish()?;
    Ok(Loaded { settings, warnings })
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

fn default_state_dir(environment: &Environment) -> PathBuf {
    // systemd gives several folders parted by colons when the unit names several.
    let of_systemd = environment
        .get("STATE_DIRECTORY")
        .and_then(|folders| std::env::split_paths(folders).find(|folder| folder.is_absolute()));
    of_systemd
        .or_else(|| {
            Some(
                environment
                    .absolute_path("XDG_STATE_HOME")?
                    .join("backfill-watch"),
            )
        })
        .or_else(|| {
            Some(
                environment
                    .absolute_path("HOME")?
                    .join(".local/state/backfill-watch"),
            )
        })
        .unwrap_or_else(|| PathBuf::from(defaults::STATE_DIR))
}
