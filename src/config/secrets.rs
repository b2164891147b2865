//! Finds the place of each secret, and checks the secrets that will be needed.

use std::path::Path;

use secrecy::SecretString;

use super::error::Place;
use super::file::FileError;
use super::reader::{Purpose, Reader};
use super::secret::{SecretError, SecretSource};
use crate::error::chain;

/// Where a secret can be, other than the file of its setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fallback {
    /// The name of the systemd credential.
    pub credential: &'static str,
    /// The environment variable.
    pub variable: &'static str,
}

impl Fallback {
    /// The systemd credential if there is one, otherwise the variable, set or not. A command that sends requests prefers
    /// the variable to the credential of an installed unit.
    pub(super) fn source(self, reader: &Reader<'_>) -> SecretSource {
        let credentials = reader.environment.get("CREDENTIALS_DIRECTORY").map(Path::new);
        let is_set = reader.environment.get(self.variable).is_some();
        let credstore = reader
            .credstore()
            .filter(|_| !(is_set && reader.purpose == Purpose::Request));
        let credential = credentials
            .or(credstore)
            .map(|folder| folder.join(self.credential))
            .filter(|file| file.exists());
        if let Some(file) = credential {
            return SecretSource::File(file);
        }
        let value = reader.environment.get(self.variable).map(|value| {
            // Bytes that are not UTF-8 become replacement characters, which the check refuses.
            SecretString::from(value.to_string_lossy().into_owned())
        });
        SecretSource::Environment {
            name: self.variable,
            value,
        }
    }
}

/// The file that the setting `key` names, if it does.
pub(super) fn in_file(reader: &mut Reader<'_>, key: &str) -> Option<SecretSource> {
    // Checked before anything shows the path, which may be the secret itself.
    if reader.has_path_with(key, |part| part.trim_start().starts_with("whsec_")) {
        reader.fail(
            key,
            "contains the secret itself",
            "put the secret into a file, and use the path of that file",
        );
        return None;
    }
    Some(SecretSource::File(reader.file(key)?))
}

/// Notes the place of a secret that no setting names, if it is set.
pub(super) fn note_place(reader: &mut Reader<'_>, key: &str, source: &SecretSource) {
    let place = match source {
        SecretSource::File(path) => Place::File(path.clone()),
        SecretSource::Environment { value: None, .. } => return,
        SecretSource::Environment { name, .. } => Place::Environment((*name).to_owned()),
    };
    reader.effective.note_secret(key, place);
}

/// Notes an error when the API key cannot be used.
pub(super) fn check_api_key(reader: &mut Reader<'_>, key: &str, source: &SecretSource, missing: Missing<'_>) {
    if reader.purpose != Purpose::Inspect {
        note(reader, key, missing, source.read_line().err());
    }
}

/// Notes an error when the tokens cannot be used.
pub(super) fn check_tokens(reader: &mut Reader<'_>, key: &str, source: &SecretSource, missing: Missing<'_>) {
    if matches!(reader.purpose, Purpose::Poll | Purpose::Check) {
        note(reader, key, missing, source.read_tokens().err());
    }
}

/// Notes an error when the secrets of a webhook cannot be used.
pub(super) fn check_webhook(reader: &mut Reader<'_>, key: &str, source: &SecretSource, missing: Missing<'_>) {
    if matches!(reader.purpose, Purpose::Poll | Purpose::Check) {
        note(reader, key, missing, source.read_webhook_secrets().err());
    }
}

/// The error when no secret is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missing<'a> {
    pub problem: &'a str,
    pub help: &'a str,
}

fn note(reader: &mut Reader<'_>, key: &str, missing: Missing<'_>, error: Option<SecretError>) {
    let Some(error) = error else { return };
    let is_here = !matches!(
        &error,
        SecretError::NotSet { .. }
            | SecretError::File {
                source: FileError::Missing | FileError::Unreadable(_),
                ..
            }
    );
    let (problem, help) = match &error {
        SecretError::NotSet { .. } => (missing.problem.to_owned(), missing.help),
        error => (chain(error), error.help()),
    };
    if reader.purpose == Purpose::Check && !is_here {
        let place = reader.raw.place_of(key);
        reader.problems.unread(key, place, problem, help.to_owned());
    } else {
        reader.fail(key, problem, help);
    }
}
