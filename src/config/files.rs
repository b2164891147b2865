//! Which settings files are read, in which order.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::{Place, Problems};
use super::file::{FileError, read_text};
use super::reader::Purpose;
use crate::error::chain;

/// Who can read what an installed unit reads.
const RUN_AS: &str = "run this as root, for example with sudo, or name another file with --config";
/// The folder beside the usual settings file whose files are laid over it.
const FOLDER: &str = "conf.d";
/// The most a settings file may hold, in bytes.
const MAX_FILE: usize = 1024 * 1024;
/// The most files of that folder: more are a mistake, and would take long to read.
const MAX_FILES: usize = 256;

/// The settings files to read.
pub(super) enum FileChoice<'a> {
    /// One that somebody named, so it has to be there; nothing else is read.
    Named(&'a Path),
    /// One that is read if it is there, and those of the folder `conf.d` beside it.
    Usual(&'a Path),
}

impl FileChoice<'_> {
    pub(super) fn path(&self) -> &Path {
        let (Self::Named(path) | Self::Usual(path)) = self;
        path
    }
}

/// A settings file that was read.
#[derive(Debug)]
pub(super) struct SettingsFile {
    /// As it was given, for errors.
    pub path: PathBuf,
    /// From the root on.
    pub located: PathBuf,
    pub text: String,
}

/// Reads the files, the later ones to be laid over the earlier ones. Each that cannot be read is a problem.
pub(super) fn read_files(
    choice: &FileChoice<'_>,
    environment: &Environment,
    purpose: Purpose,
    problems: &mut Problems,
) -> Vec<SettingsFile> {
    let is_usual = matches!(choice, FileChoice::Usual(_));
    let mut files = Vec::new();
    let mut refused = false;
    let mut refuse = |path: &Path, error: &FileError| {
        let place = Some(Place::File(path.to_owned()));
        // They are a service's, and this user asks for themselves.
        let is_unreadable = matches!(error, FileError::Unreadable(_));
        if is_usual && is_unreadable && matches!(purpose, Purpose::Request | Purpose::Inspect) {
            let problem = format!("the settings are passed over: {}", chain(error));
            let help = "name a file of your own with --config, if settings are missing";
            problems.warning("", place, problem, help.to_owned());
            return;
        }
        refused = true;
        let problem = format!("cannot read the settings: {}", chain(error));
        let help = match is_unreadable && purpose.is_of_shell() {
            true => RUN_AS,
            false => error.help(),
        };
        problems.error("", place, problem, help.to_owned());
    };
    let mut paths = vec![choice.path().to_owned()];
    if is_usual {
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
            Err(FileError::Missing) if index == 0 && is_usual => {}
            Err(error) => refuse(&path, &error),
        }
    }
    if refused {
        // Most of what would be found after this is that something is missing which a file has.
        problems.close();
    }
    files
}

/// The names of the settings files in a folder, in their order; hidden ones, which editors leave behind, are not among them.
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
