//! Secrets: where they are, and how they are read.

use std::fmt;
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::file::{FileError, read_text};

/// The largest secret file, in bytes.
const MAX_FILE: usize = 64 * 1024;
/// The most secrets of one webhook. Each adds a signature to the header of every delivery.
const MAX_WEBHOOK_SECRETS: usize = 10;
/// The most tokens of a file. Each request is compared with all of them.
const MAX_TOKENS: usize = 100;
const WEBHOOK_SECRET_PREFIX: &str = "whsec_";
/// Placeholders from examples, which are refused as secrets.
const PLACEHOLDERS: [&str; 8] = [
    "replace-me",
    "replace_me",
    "replaceme",
    "change-me",
    "changeme",
    "your-api-key",
    "your_api_key",
    "whsec_cmVwbGFjZSBtZSB3aXRoIDI0IHRvIDY0IGJ5dGVz",
];

/// Where a secret is. It is read each time it is needed, so a changed secret needs no reload.
#[derive(Clone)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// An environment variable of this process.
    Environment {
        /// Its name.
        name: &'static str,
        /// Its value; `None` when it is not set.
        value: Option<SecretString>,
    },
}

/// Why a secret cannot be used. No message contains any part of the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: FileError,
    },
    /// The environment variable is not set.
    #[error("{name} is not set")]
    NotSet {
        /// The variable.
        name: &'static str,
    },
    /// It contains only white space.
    #[error("{place} is empty")]
    Empty {
        /// The file or variable.
        place: String,
    },
    /// It is a placeholder from an example.
    #[error("{place} contains a placeholder instead of a secret")]
    Placeholder {
        /// The file or variable.
        place: String,
    },
    /// It must be one line.
    #[error("{place} has more than one line")]
    SeveralLines {
        /// The file or variable.
        place: String,
    },
    /// It contains a character that is not allowed in an HTTP header.
    #[error("{place} has a character at column {column} that is not visible ASCII")]
    IllegalCharacter {
        /// The file or variable.
        place: String,
        /// Its column, from 1.
        column: usize,
    },
    /// A webhook secret is not `whsec_` and base64 of 24 to 64 bytes.
    #[error("line {line} of {place} is not a webhook secret: {problem}")]
    NotAWebhookSecret {
        /// The file or variable.
        place: String,
        /// The line, from 1.
        line: usize,
        /// The cause.
        problem: &'static str,
    },
    /// It has too many secrets.
    #[error("{place} has more than {most} secrets")]
    TooMany {
        /// The file or variable.
        place: String,
        /// The most that are allowed.
        most: usize,
    },
}

impl SecretError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::File { source, .. } => source.help(),
            Self::NotSet { .. } => "set the variable, or use a file with the secret",
            Self::Empty { .. } => "write the secret there",
            Self::Placeholder { .. } => "replace it with the real secret",
            Self::SeveralLines { .. } => "keep only the secret, on one line",
            Self::IllegalCharacter { .. } => {
                "write only the secret there, without spaces or a byte-order mark"
            }
            Self::NotAWebhookSecret { .. } => {
                "write one secret per line, newest first; create one with: echo whsec_$(openssl rand -base64 32)"
            }
            Self::TooMany { .. } => "remove the old ones, from the end",
        }
    }
}

/// A key that signs webhook deliveries.
#[derive(Debug, Clone)]
pub struct WebhookSecret(SecretSlice<u8>);

impl WebhookSecret {
    /// The key, 24 to 64 bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let encoded = text
            .strip_prefix(WEBHOOK_SECRET_PREFIX)
            .ok_or("it does not begin with whsec_")?;
        let bytes = BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| "what follows whsec_ is not padded base64")?;
        let secret = SecretSlice::from(bytes);
        match secret.expose_secret().len() {
            24..=64 => Ok(Self(secret)),
            0..24 => Err("it has fewer than 24 bytes"),
            _ => Err("it has more than 64 bytes"),
        }
    }
}

impl SecretSource {
    /// Reads a secret of one line, such as an API key or a token: visible ASCII characters. White space and one pair of
    /// quotes around it are removed.
    ///
    /// Blocks while it reads a small file.
    ///
    /// # Errors
    /// When there is no secret, or one that is not allowed in an HTTP header.
    pub fn read_line(&self) -> Result<SecretString, SecretError> {
        let text = self.read()?;
        let line = bare(text.expose_secret());
        let place = || self.to_string();
        if line.is_empty() {
            return Err(SecretError::Empty { place: place() });
        }
        if line.contains('\n') {
            return Err(SecretError::SeveralLines { place: place() });
        }
        if is_placeholder(line) {
            return Err(SecretError::Placeholder { place: place() });
        }
        match line.chars().position(|c| !c.is_ascii_graphic()) {
            Some(index) => Err(SecretError::IllegalCharacter {
                place: place(),
                column: column_of(line, text.expose_secret()) + index,
            }),
            None => Ok(SecretString::from(line)),
        }
    }

    /// Reads tokens, one per line, at least one: visible ASCII characters. White space and one pair of quotes around each
    /// are removed, and empty lines are skipped.
    ///
    /// Blocks while it reads a small file.
    ///
    /// # Errors
    /// When there is no token, or one that is not allowed in an HTTP header.
    pub fn read_tokens(&self) -> Result<Vec<SecretString>, SecretError> {
        let text = self.read()?;
        let mut tokens = Vec::new();
        for (index, full) in text.expose_secret().lines().enumerate() {
            let line = bare(full);
            let place = || format!("line {} of {self}", index + 1);
            if line.is_empty() {
                continue;
            }
            if tokens.len() == MAX_TOKENS {
                return Err(SecretError::TooMany {
                    place: self.to_string(),
                    most: MAX_TOKENS,
                });
            }
            if is_placeholder(line) {
                return Err(SecretError::Placeholder { place: place() });
            }
            if let Some(position) = line.chars().position(|c| !c.is_ascii_graphic()) {
                return Err(SecretError::IllegalCharacter {
                    place: place(),
                    column: column_of(line, full) + position,
                });
            }
            tokens.push(SecretString::from(line));
        }
        if tokens.is_empty() {
            return Err(SecretError::Empty {
                place: self.to_string(),
            });
        }
        Ok(tokens)
    }

    /// Reads the secrets of a webhook, one per line, newest first, at least one. White space and one pair of quotes around
    /// each are removed, and empty lines are skipped.
    ///
    /// Blocks while it reads a small file.
    ///
    /// # Errors
    /// When there is no secret, or a line is not one.
    pub fn read_webhook_secrets(&self) -> Result<Vec<WebhookSecret>, SecretError> {
        let text = self.read()?;
        let place = || self.to_string();
        let mut secrets = Vec::new();
        for (index, line) in text.expose_secret().lines().enumerate() {
            let line = bare(line);
            if line.is_empty() {
                continue;
            }
            if secrets.len() == MAX_WEBHOOK_SECRETS {
                return Err(SecretError::TooMany {
                    place: place(),
                    most: MAX_WEBHOOK_SECRETS,
                });
            }
            if is_placeholder(line) {
                return Err(SecretError::Placeholder { place: place() });
            }
            let secret = WebhookSecret::parse(line).map_err(|problem| SecretError::NotAWebhookSecret {
                place: place(),
                line: index + 1,
                problem,
            })?;
            secrets.push(secret);
        }
        if secrets.is_empty() {
            return Err(SecretError::Empty { place: place() });
        }
        Ok(secrets)
    }

    fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::File(path) => read_text(path, MAX_FILE)
                .map(SecretString::from)
                .map_err(|source| SecretError::File {
                    path: path.clone(),
                    source,
                }),
            Self::Environment { name, value } => value.clone().ok_or(SecretError::NotSet { name }),
        }
    }
}

/// `text` without white space and one pair of quotes around it, as environment files and copied settings have them.
#[must_use]
pub fn bare(text: &str) -> &str {
    let text = text.trim();
    let unquoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    unquoted.map_or(text, str::trim)
}

fn is_placeholder(text: &str) -> bool {
    PLACEHOLDERS
        .iter()
        .any(|placeholder| text.eq_ignore_ascii_case(placeholder))
}

/// The column, from 1, at which `part` begins on its line of `text`.
fn column_of(part: &str, text: &str) -> usize {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    let line = text[..start].rsplit('\n').next().unwrap_or_default();
    line.chars().count() + 1
}

/// Displays the place of the secret.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment { name, .. } => write!(f, "environment variable {name}"),
        }
    }
}

/// Prints the place of the secret.
impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretSource({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn variable(value: &str) -> SecretSource {
        SecretSource::Environment {
            name: "TEST_SECRET",
            value: Some(SecretString::from(value)),
        }
    }

    fn line(value: &str) -> Result<String, String> {
        let answer = variable(value).read_line();
        answer
            .map(|secret| secret.expose_secret().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_line_secrets() {
        assert_eq!(line("k3y~!").unwrap(), "k3y~!");
        assert_eq!(line("key\r\n\n").unwrap(), "key");
        assert_eq!(line(" \t key \n").unwrap(), "key");
        assert_eq!(line("\"key\"\n").unwrap(), "key");
        assert_eq!(line(" 'k\"y' ").unwrap(), "k\"y");
        assert_eq!(line("\"\"key\"\"").unwrap(), "\"key\"");
        assert_eq!(line("\"key").unwrap(), "\"key");
        assert!(line("\"\"").unwrap_err().ends_with("is empty"));
        assert!(line("' '").unwrap_err().ends_with("is empty"));
        assert!(line("\n").unwrap_err().ends_with("is empty"));
        assert!(line("").unwrap_err().ends_with("is empty"));
        assert!(line("a\nb").unwrap_err().ends_with("more than one line"));
        assert!(line("key two").unwrap_err().contains("column 4"));
        assert!(line("\n \"key two\"").unwrap_err().contains("column 6"));
        assert!(line("\u{feff}key").unwrap_err().contains("column 1"));
        assert!(line("kéy").unwrap_err().contains("column 2"));
    }

    #[test]
    fn tokens_are_read_one_per_line() {
        let read = |text: &str| {
            let tokens = variable(text).read_tokens().map_err(|error| error.to_string())?;
            let texts: Vec<String> = tokens
                .iter()
                .map(|token| token.expose_secret().to_owned())
                .collect();
            Ok::<_, String>(texts.join(" "))
        };
        assert_eq!(read("one").unwrap(), "one");
        assert_eq!(read(" one \r\n\n\"two\"\n'#3'\n").unwrap(), "one two #3");
        for empty in ["", "\n \n", "''"] {
            assert!(read(empty).unwrap_err().ends_with("is empty"), "{empty:?}");
        }
        let wrong = read("one\n two 2\n").unwrap_err();
        assert!(
            wrong.starts_with("line 2 of environment") && wrong.contains("column 5"),
            "{wrong}"
        );
        assert!(read("one\nchangeme").unwrap_err().contains("placeholder"));
        assert!(read(&"t\n".repeat(100)).is_ok());
        assert!(read(&"t\n".repeat(101)).unwrap_err().contains("more than 100"));
    }

    #[test]
    fn placeholders_are_refused() {
        for placeholder in ["replace-me", "Replace-Me\n", "\"changeme\""] {
            let message = line(placeholder).unwrap_err();
            assert!(
                message.ends_with("contains a placeholder instead of a secret"),
                "{message}"
            );
        }
        assert_eq!(line("replace-me-not").unwrap(), "replace-me-not");
        let old = format!("{SECRET}\nwhsec_cmVwbGFjZSBtZSB3aXRoIDI0IHRvIDY0IGJ5dGVz\n");
        let message = variable(&old).read_webhook_secrets().unwrap_err().to_string();
        assert!(message.contains("placeholder"), "{message}");
    }

    #[test]
    fn webhook_secrets() {
        let read = |text: &str| {
            variable(text)
                .read_webhook_secrets()
                .map_err(|error| error.to_string())
        };
        let two = read(&format!("{SECRET}\r\n\nwhsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n")).unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(
            (two[0].expose()[0], two[1].expose()[0], two[0].expose().len()),
            (0x31, 0x0b, 24)
        );
        assert_eq!(
            read(&format!(" \"{SECRET}\" \n'{SECRET}'\n\"\"\n"))
                .unwrap()
                .len(),
            2
        );
        let of_bytes = |n: usize| read(&format!("whsec_{}", BASE64_STANDARD.encode(vec![7; n])));
        assert!(of_bytes(64).is_ok());
        assert!(of_bytes(65).unwrap_err().contains("more than 64 bytes"));
        assert!(of_bytes(23).unwrap_err().contains("fewer than 24 bytes"));
        assert!(read("whsec_???").unwrap_err().contains("base64"));
        assert!(
            read(&format!("{SECRET}\nhunter2"))
                .unwrap_err()
                .starts_with("line 2 of environment variable")
        );
        assert!(read("\n\n").unwrap_err().ends_with("is empty"));
        assert!(
            read(&format!("{SECRET}\n").repeat(11))
                .unwrap_err()
                .contains("more than 10")
        );
        assert_eq!(read(&format!("{SECRET}\n").repeat(10)).unwrap().len(), 10);
    }

    #[test]
    fn files_are_read_each_time_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let source = SecretSource::File(path.clone());
        assert!(matches!(
            source.read_line(),
            Err(SecretError::File {
                source: FileError::Missing,
                ..
            })
        ));
        for key in ["first", "second"] {
            std::fs::write(&path, format!("{key}\n")).unwrap();
            assert_eq!(source.read_line().unwrap().expose_secret(), key);
        }
        std::fs::write(&path, "x".repeat(MAX_FILE + 1)).unwrap();
        assert!(matches!(
            source.read_line(),
            Err(SecretError::File {
                source: FileError::TooLarge { .. },
                ..
            })
        ));
    }

    #[test]
    fn neither_debug_nor_errors_show_a_secret() {
        let printed = format!("{:?} {}", variable(SECRET), variable(SECRET));
        assert!(!printed.contains("whsec_"), "{printed}");
        let secrets = format!("{:?}", variable(SECRET).read_webhook_secrets().unwrap());
        assert!(
            secrets.contains("REDACTED") && !secrets.contains("49"),
            "{secrets}"
        );
        for wrong in ["hunter2 hunter2", "whsec_hunter2", "hunter2\nhunter2"] {
            for error in [
                variable(wrong).read_line().err(),
                variable(wrong).read_webhook_secrets().err(),
                variable(&wrong.replace('\n', " ")).read_tokens().err(),
            ] {
                let text = error
                    .map(|error| format!("{error} {error:?} {}", error.help()))
                    .unwrap_or_default();
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
    }
}
