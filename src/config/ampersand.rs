//! `[ampersand]`: the API and the projects that are watched there.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::defaults;
use super::error::Place;
use super::file::read_text;
use super::reader::{Purpose, Reader, SHORTEST};
use super::secret::SecretSource;
use super::secrets::{self, Fallback, Missing};
use super::value::Value;
use super::web_address::{is_loopback, web_address};
use crate::core::text::one_line;
use crate::error::chain;

const PROJECT: &str = "ampersand.project";
/// The flag that sets it.
pub(super) const PROJECT_FLAG: &str = "--project";
const PROJECTS: &str = "ampersand.projects";
const API_KEY_FILE: &str = "ampersand.api_key_file";
const API_KEY: Fallback = Fallback {
    credential: "ampersand-api-key",
    variable: "AMPERSAND_API_KEY",
};
/// The longest name of a project, in characters.
const MAX_NAME: usize = 128;
/// The most a file of certificates may hold, in bytes; whole system bundles have a quarter of that.
const MAX_CA_FILE: usize = 1024 * 1024;

/// How the API is reached.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AmpersandSettings {
    /// The URL that paths such as `/projects/…` are appended to, without a trailing slash (`https://host` alone
    /// keeps its own).
    pub base_url: Url,
    /// How long one request may take, from connecting to the last byte.
    pub request_timeout: Duration,
    /// How many requests of one project may be in flight.
    pub max_concurrent_requests: NonZeroUsize,
    /// How many requests of one project may start in a second, 0.001 to 100,000.
    pub max_requests_per_second: f64,
    /// PEM certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The projects; their names differ. The first is the default of the watch list.
    pub projects: Vec<ProjectSettings>,
}

/// One project at Ampersand.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProjectSettings {
    /// Its name or ID: 1 to 128 characters of `A-Z a-z 0-9 . _ ~ -`, neither `.` nor `..`.
    pub name: Arc<str>,
    /// Where its API key stands.
    pub api_key: SecretSource,
}

impl AmpersandSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let seconds = 0.001..=100_000.0;
        Self {
            base_url: base_url(reader),
            request_timeout: reader.duration(
                "ampersand.request_timeout",
                defaults::REQUEST_TIMEOUT,
                SHORTEST,
            ),
            max_concurrent_requests: reader.count(
                "ampersand.max_concurrent_requests",
                defaults::MAX_CONCURRENT_REQUESTS,
                10_000,
            ),
            max_requests_per_second: reader.number(
                "ampersand.max_requests_per_second",
                defaults::MAX_REQUESTS_PER_SECOND,
                &seconds,
            ),
            ca_file: ca_file(reader),
            projects: projects(reader),
        }
    }
}

fn base_url(reader: &mut Reader<'_>) -> Url {
    const KEY: &str = "ampersand.base_url";
    let default = || Url::parse(defaults::BASE_URL).expect("the default is a URL, as a test shows");
    let Some(mut url) = web_address(reader, KEY) else {
        let text = Value::String(defaults::BASE_URL.to_owned());
        reader.effective.note_default(KEY, &text);
        return default();
    };
    if url.query().is_some() || url.fragment().is_some() {
        reader.fail(KEY, "has a query or a fragment", "end the URL before ? and #");
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        reader.warn(
            KEY,
            "sends the API key in clear text",
            "use https, unless a proxy on the way encrypts",
        );
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    url
}

fn ca_file(reader: &mut Reader<'_>) -> Option<PathBuf> {
    const KEY: &str = "ampersand.ca_file";
    let path = reader.file(KEY)?;
    if reader.purpose == Purpose::Inspect {
        return Some(path);
    }
    match read_text(&path, MAX_CA_FILE) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {}
        Ok(_) => {
            let problem = format!("{} holds no PEM certificate", path.display());
            reader.fail(
                KEY,
                problem,
                "name a file with at least one block of BEGIN CERTIFICATE and END CERTIFICATE",
            );
        }
        Err(error) => reader.fail(
            KEY,
            format!("cannot read {}: {}", path.display(), chain(&error)),
            error.help(),
        ),
    }
    Some(path)
}

fn projects(reader: &mut Reader<'_>) -> Vec<ProjectSettings> {
    let indexes = reader.raw.indexes(PROJECTS);
    let alone = reader.given_at(PROJECT).is_some();
    if reader.raw.place_of(PROJECT) == Some(Place::Flag(PROJECT_FLAG)) {
        return project_of_flag(reader, &indexes).into_iter().collect();
    }
    match (alone, indexes.as_slice()) {
        (true, []) => project(reader, PROJECT, API_KEY_FILE, true).into_iter().collect(),
        (true, _) => {
            let help = "keep one of the two: ampersand.project is for a single project";
            reader.fail(PROJECT, "is given beside ampersand.projects", help);
            Vec::new()
        }
        (false, []) => {
            const SETTING: &str = "set ampersand.project to the name or ID of your Ampersand project, in the \
                                   settings file or as BACKFILL_WATCH_AMPERSAND__PROJECT";
            let help = match reader.purpose {
                Purpose::Poll | Purpose::Check => Some(SETTING.to_owned()),
                Purpose::Request => Some(format!("give --project NAME, or {SETTING}")),
                Purpose::Inspect => None,
            };
            if let Some(help) = help.filter(|_| !reader.problems.has_error(PROJECTS)) {
                reader.fail(PROJECT, "no project is configured", help);
            }
            Vec::new()
        }
        (false, indexes) => {
            let only = indexes.len() == 1;
            if !only && reader.given_at(API_KEY_FILE).is_some() {
                let help = "give each of [[ampersand.projects]] an api_key_file of its own";
                reader.fail(API_KEY_FILE, "does not say which project it is for", help);
            }
            let mut names = HashSet::new();
            let mut projects = Vec::new();
            for index in indexes {
                let name_key = format!("{PROJECTS}[{index}].name");
                let key_file = format!("{PROJECTS}[{index}].api_key_file");
                let Some(project) = project(reader, &name_key, &key_file, only) else {
                    continue;
                };
                if !names.insert(Arc::clone(&project.name)) {
                    let help = "list each project once";
                    reader.fail(
                        &name_key,
                        format!("the project {:?} is given twice", project.name),
                        help,
                    );
                }
                projects.push(project);
            }
            projects
        }
    }
}

/// The one project that the command line names: as it is configured, else with the key that is for a single project.
fn project_of_flag(reader: &mut Reader<'_>, indexes: &[usize]) -> Option<ProjectSettings> {
    let wanted = reader.name(PROJECT, MAX_NAME)?;
    let mut others = Vec::new();
    for index in indexes {
        let name_key = format!("{PROJECTS}[{index}].name");
        match reader.raw.get(&name_key).and_then(Value::as_text) {
            Some(name) if *name == *wanted => {
                let key_file = format!("{PROJECTS}[{index}].api_key_file");
                return project(reader, &name_key, &key_file, indexes.len() == 1);
            }
            Some(name) => others.push(one_line(name, MAX_NAME)),
            None => {}
        }
    }
    let keyless = matches!(
        API_KEY.source(reader),
        SecretSource::Environment { value: None, .. }
    );
    if keyless && !others.is_empty() {
        reader.fail(
            PROJECT,
            format!(
                "{wanted:?} is not among the configured projects, which are {}",
                others.join(", ")
            ),
            "name one of these, or set AMPERSAND_API_KEY to the key of another project",
        );
        return None;
    }
    project(reader, PROJECT, API_KEY_FILE, true)
}

/// One project, whose name and key file stand at these keys. `only` tells whether there is no other.
fn project(reader: &mut Reader<'_>, name_key: &str, key_file: &str, only: bool) -> Option<ProjectSettings> {
    if reader.raw.get(name_key).is_none() {
        reader.fail(
            name_key,
            "is missing",
            "give the name or ID of the project at Ampersand",
        );
    }
    let name = reader.name(name_key, MAX_NAME);
    let shown = name.as_deref().unwrap_or("?").to_owned();
    let key_of_project = if only && reader.given_at(key_file).is_none() {
        API_KEY_FILE
    } else {
        key_file
    };
    let api_key = if reader.given_at(key_of_project).is_some() {
        secrets::in_file(reader, key_of_project)?
    } else if only {
        let source = API_KEY.source(reader);
        let key = key_file.strip_suffix("_file").unwrap_or(key_file);
        secrets::note_place(reader, key, &source);
        source
    } else {
        let help = "give it an api_key_file; AMPERSAND_API_KEY is for a single project";
        if reader.purpose != Purpose::Inspect {
            reader.fail(key_file, format!("the project {shown:?} has no API key"), help);
        }
        return None;
    };
    let missing = Missing {
        problem: &format!("the project {shown:?} has no API key"),
        help: "set AMPERSAND_API_KEY, or name a file with api_key_file, or pass the systemd credential ampersand-api-key",
    };
    secrets::check_api_key(reader, key_of_project, &api_key, missing);
    Some(ProjectSettings { name: name?, api_key })
}
