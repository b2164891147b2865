//! `[ampersand]`: the API and its projects.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::error::Place;
use super::file::read_text;
use super::reader::{Purpose, Reader, default_text};
use super::secret::SecretSource;
use super::secrets::{self, Fallback, Missing};
use super::value::Value;
use super::web_address::{is_loopback, web_address};
use crate::core::text::one_line;
use crate::error::chain;

const PROJECT: &str = "ampersand.project";
/// The flag that sets `ampersand.project`.
pub(super) const PROJECT_FLAG: &str = "--project";
/// The tables of several projects.
pub(super) const PROJECTS: &str = "ampersand.projects";
const API_KEY_FILE: &str = "ampersand.api_key_file";
const API_KEY: Fallback = Fallback {
    credential: "ampersand-api-key",
    variable: "AMPERSAND_API_KEY",
};
/// The longest name of a project, in characters.
pub(super) const MAX_NAME: usize = 128;
/// The largest certificate file, in bytes. System bundles have a quarter of that.
const MAX_CA_FILE: usize = 1024 * 1024;

/// The API and its projects.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AmpersandSettings {
    /// The URL that paths such as `/projects/…` are appended to, without a trailing slash unless it has no path.
    pub base_url: Url,
    /// How long one request may take, from connecting to the last byte.
    pub request_timeout: Duration,
    /// The most requests of one project in flight.
    pub max_concurrent_requests: NonZeroUsize,
    /// The most requests of one project that start per second, 0.001 to 100,000.
    pub max_requests_per_second: f64,
    /// PEM certificates to trust in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// The projects, each with another name. The first is the default of the watch list.
    pub projects: Vec<ProjectSettings>,
}

/// One project at Ampersand.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProjectSettings {
    /// The name or ID: 1 to 128 characters of `A-Z a-z 0-9 . _ ~ -`, neither `.` nor `..`.
    pub name: Arc<str>,
    /// Where the API key is.
    pub api_key: SecretSource,
}

impl AmpersandSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            base_url: base_url(reader),
            request_timeout: reader.duration("ampersand.request_timeout"),
            max_concurrent_requests: reader.count("ampersand.max_concurrent_requests"),
            max_requests_per_second: reader.number("ampersand.max_requests_per_second"),
            ca_file: ca_file(reader),
            projects: projects(reader),
        }
    }
}

fn base_url(reader: &mut Reader<'_>) -> Url {
    const KEY: &str = "ampersand.base_url";
    let Some(mut url) = web_address(reader, KEY) else {
        let default = default_text(KEY);
        reader.note_text(KEY, default);
        return Url::parse(default).expect("a test loads the default");
    };
    if url.query().is_some() || url.fragment().is_some() {
        reader.fail(
            KEY,
            "has a query or a fragment",
            "remove ? and # and what follows",
        );
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        reader.warn(
            KEY,
            "sends the API key in clear text",
            "use https, unless a proxy on the way encrypts the connection",
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
            let problem = format!("{} contains no PEM certificate", path.display());
            reader.fail(
                KEY,
                problem,
                "use a file with at least one block of BEGIN CERTIFICATE and END CERTIFICATE",
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
    let is_alone = reader.place_set(PROJECT).is_some();
    if reader.raw.place_of(PROJECT) == Some(Place::Flag(PROJECT_FLAG)) {
        return project_of_flag(reader, &indexes).into_iter().collect();
    }
    match (is_alone, indexes.as_slice()) {
        (true, []) => project(reader, PROJECT, API_KEY_FILE, true).into_iter().collect(),
        (true, _) => {
            let help = "remove one of the two: ampersand.project is for a single project";
            reader.fail(PROJECT, "is set together with ampersand.projects", help);
            Vec::new()
        }
        (false, []) => {
            const SETTING: &str = "set ampersand.project to the name or ID of your Ampersand project, in the \
                                   settings file or as BACKFILL_WATCH_AMPERSAND__PROJECT";
            let help = match reader.purpose {
                Purpose::Poll | Purpose::Check => Some(SETTING.to_owned()),
                Purpose::Request => Some(format!("use --project NAME, or {SETTING}")),
                Purpose::Inspect => None,
            };
            if let Some(help) = help.filter(|_| !reader.problems.has_error(PROJECTS)) {
                reader.fail(PROJECT, "no project is configured", help);
            }
            Vec::new()
        }
        (false, indexes) => {
            let only = indexes.len() == 1;
            if !only && reader.place_set(API_KEY_FILE).is_some() {
                let help = "set api_key_file in each of [[ampersand.projects]] instead";
                reader.fail(API_KEY_FILE, "is ambiguous with several projects", help);
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
                        format!("project {:?} is configured twice", project.name),
                        help,
                    );
                }
                projects.push(project);
            }
            projects
        }
    }
}

/// The project that `--project` names: as configured, otherwise with the key for a single project.
fn project_of_flag(reader: &mut Reader<'_>, indexes: &[usize]) -> Option<ProjectSettings> {
    let requested = reader.name(PROJECT, MAX_NAME)?;
    let mut configured = Vec::new();
    for index in indexes {
        let name_key = format!("{PROJECTS}[{index}].name");
        match reader.raw.get(&name_key).and_then(Value::as_text) {
            Some(name) if *name == *requested => {
                let key_file = format!("{PROJECTS}[{index}].api_key_file");
                return project(reader, &name_key, &key_file, indexes.len() == 1);
            }
            Some(name) => configured.push(one_line(name, MAX_NAME)),
            None => {}
        }
    }
    let is_keyless = matches!(
        API_KEY.source(reader),
        SecretSource::Environment { value: None, .. }
    );
    if is_keyless && !configured.is_empty() {
        reader.fail(
            PROJECT,
            format!(
                "{requested:?} is not one of the configured projects: {}",
                configured.join(", ")
            ),
            "use one of these, or set AMPERSAND_API_KEY to the key of the other project",
        );
        return None;
    }
    project(reader, PROJECT, API_KEY_FILE, true)
}

/// One project, from its keys. `is_only`: there is no other project.
fn project(
    reader: &mut Reader<'_>,
    name_key: &str,
    key_file: &str,
    is_only: bool,
) -> Option<ProjectSettings> {
    if reader.raw.get(name_key).is_none() {
        reader.fail(
            name_key,
            "is missing",
            "set it to the name or ID of the project at Ampersand",
        );
    }
    let name = reader.name(name_key, MAX_NAME);
    let shown = name.as_deref().unwrap_or("?").to_owned();
    let key_of_project = if is_only && reader.place_set(key_file).is_none() {
        API_KEY_FILE
    } else {
        key_file
    };
    let api_key = if reader.place_set(key_of_project).is_some() {
        secrets::in_file(reader, key_of_project)?
    } else if is_only {
        let source = API_KEY.source(reader);
        let key = key_file.strip_suffix("_file").unwrap_or(key_file);
        secrets::note_place(reader, key, &source);
        source
    } else {
        let help = "set api_key_file for it; AMPERSAND_API_KEY is for a single project";
        if reader.purpose != Purpose::Inspect {
            reader.fail(key_file, format!("project {shown:?} has no API key"), help);
        }
        return None;
    };
    let missing = Missing {
        problem: &format!("project {shown:?} has no API key"),
        help: "set AMPERSAND_API_KEY, or api_key_file to a file with the key, or the systemd credential ampersand-api-key",
    };
    secrets::check_api_key(reader, key_of_project, &api_key, missing);
    Some(ProjectSettings { name: name?, api_key })
}
