//! Which settings files are read, and in which order.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::{Place, Problems};
use super::file::{FileError, read_text};
use super::reader::Purpose;
use crate::error::{RUN_AS_ROOT, chain};

/// The folder beside the default settings file whose files are merged into it.
const FOLDER: &str = "conf.d";
/// The largest settings file, in bytes.
const MAX_FILE: usize = 1024 * 1024;
/// The most files in that folder.
const MAX_FILES: usize = 256;

/// The settings files to read.
pub(super) enum FileChoice<'a> {
    /// A file named on the command line. It must exist, and no other file is read.
    Named(&'a Path),
    /// The default file, which may be missing, and those of `conf.d` beside it.
    Default(&'a Path),
}

impl FileChoice<'_> {
    pub(super) fn path(&self) -> &Path {
        let (Self::Named(path) | Self::Default(path)) = self;
        path
    }
}

/// A settings file that was read.
#[derive(Debug)]
pub(super) struct SettingsFile {
    /// As named, for errors.
    pub path: PathBuf,
    /// The absolute path.
    pub located: PathBuf,
    pub text: String,
}

/// Reads the files in the order in which they are merged. Each unreadable file is a problem.
pub(super) fn read_files(
    choice: &FileChoice<'_>,
    environment: &Environment,
    purpose: Purpose,
    problems: &mut Problems,
) -> Vec<SettingsFile> {
    let is_default = matches!(choice, FileChoice::Default(_));
    let mut files = Vec::new();
    let mut refused = false;
    let mut refuse = |path: &Path, error: &FileError| {
        let place = Some(Place::File(path.to_owned()));
        // They belong to a service, and this user may need none of them.
        let is_unreadable = matches!(error, FileError::Unreadable(_));
        if is_default && is_unreadable && matches!(purpose, Purpose::Request | Purpose::Inspect) {
            let problem = format!("settings file ignored: {}", chain(error));
            let help = "if settings are missing, use your own file with --config";
            problems.warning("", place, problem, help.to_owned());
            return;
        }
        refused = true;
        let problem = format!("cannot read the settings: {}", chain(error));
        let help = match is_unreadable && purpose.is_command() {
            true => format!("{RUN_AS_ROOT}, or use another file with --config"),
            false => error.help().to_owned(),
        };
        problems.error("", place, problem, help);
    };
    let mut paths = vec![choice.path().to_owned()];
    if is_default {
        let folder = choice.path().with_file_name(FOLDER);
        match names(&environment.absolute(&folder)) {
            Ok(names) => paths.extend(names.into_iter().map(|name| folder.join(name))),
            Err(error) => refuse(&folder, &error),
        }
    }
    for (index, path) in paths.into_iter().enumerate() {
        let located = environment.absolute(&path);
        match read_text(&located, MAX_FILE) {
            Ok(text) => files.push(SettingsFile { path, located, text }),
            Err(FileError::Missing) if index == 0 && is_default => {}
            Err(error) => refuse(&path, &error),
        }
    }
    if refused {
        // Missing settings may be in the unreadable file.
        problems.close();
    }
    files
}

/// The names of the settings files in a folder, sorted. Hidden files, as editors leave them, are skipped.
fn names(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::Unreadable(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = PathBuf::from(entry.map_err(FileError::Unreadable)?.file_name());
        let is_hidden = name.as_os_str().as_bytes().starts_with(b".");
        if !is_hidden && name.extension() == Some(OsStr::new("toml")) {
            names.push(name);
        }
    }
    if names.len() > MAX_FILES {
        return Err(FileError::TooMany { max: MAX_FILES });
    }
    names.sort_unstable();
    Ok(names)
}
