//! All settings: path, type, default, reload, description. Readers, suggestions, `config show` and `config reference` use
//! this table.

mod table;

use std::time::Duration;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct SettingKey {
    /// Its path; `[]` is the index into an array of tables.
    pub path: &'static str,
    pub kind: SettingKind,
    pub reload: Reload,
    /// One or two sentences of Markdown.
    pub description: &'static str,
}

/// The type of a setting, with its default and bounds.
#[derive(Debug, Clone, Copy)]
pub(super) enum SettingKind {
    Duration {
        default: Duration,
        least: Duration,
    },
    /// A duration, or `"off"`: `None`.
    DurationOrOff {
        default: Option<Duration>,
    },
    /// Whole or not.
    Number {
        default: f64,
        least: f64,
        most: f64,
    },
    /// A whole number from 1.
    Count {
        default: usize,
        most: usize,
    },
    Boolean {
        default: bool,
    },
    Text {
        default: &'static str,
    },
    Name {
        default: Option<&'static str>,
    },
    Choice {
        default: &'static str,
        choices: &'static [&'static str],
    },
    /// A list of text.
    List {
        /// TOML, or a description.
        default: &'static str,
    },
    /// A table of text: key and value of each label.
    Labels,
    /// A duration after the start of an operation, or a time.
    Deadline,
    Path {
        default: &'static str,
    },
    /// A folder whose default depends on the environment.
    StateFolder,
    /// A file that is read; relative paths start at the credentials or beside the settings file.
    File,
    Url {
        default: Option<&'static str>,
    },
    /// An IP address and a port, or `"off"`.
    Address {
        default: &'static str,
    },
}

impl SettingKind {
    /// The default, if it is text.
    pub fn text_default(self) -> Option<&'static str> {
        match self {
            Self::Text { default }
            | Self::Choice { default, .. }
            | Self::Path { default }
            | Self::Address { default } => Some(default),
            Self::Name { default } | Self::Url { default } => default,
            Self::Duration { .. }
            | Self::DurationOrOff { .. }
            | Self::Number { .. }
            | Self::Count { .. }
            | Self::Boolean { .. }
            | Self::List { .. }
            | Self::Labels
            | Self::Deadline
            | Self::StateFolder
            | Self::File => None,
        }
    }
}

/// Whether a reload applies a changed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reload {
    Applies,
    /// The running value is kept until a restart.
    NeedsRestart,
}

/// All settings, in the order in which they are shown.
pub(super) fn all() -> impl Iterator<Item = &'static SettingKey> {
    table::TABLES.iter().copied().flatten()
}

/// The setting at a path, which may contain indexes.
pub(super) fn find(path: &str) -> Option<&'static SettingKey> {
    let pattern = pattern(path);
    all().find(|key| key.path == pattern)
}

/// The type of a setting that the program reads.
pub(super) fn kind(path: &str) -> SettingKind {
    find(path).expect("each path that is read is in the table").kind
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One setting.
    Setting,
    /// A table of settings.
    Table,
    /// An array of such tables.
    Tables,
    Unknown,
}

/// What is at a path, which may contain indexes.
pub(super) fn shape(path: &str) -> Shape {
    let pattern = pattern(path);
    if all().any(|key| key.path == pattern) {
        return Shape::Setting;
    }
    let below = |sign: &str| {
        all().any(|key| {
            let rest = key.path.strip_prefix(pattern.as_str());
            rest.is_some_and(|rest| rest.starts_with(sign))
        })
    };
    if below("[]") {
        Shape::Tables
    } else if below(".") {
        Shape::Table
    } else {
        Shape::Unknown
    }
}

/// The path without its indexes: `webhooks[3].url` becomes `webhooks[].url`.
pub(super) fn pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if inside => continue,
            _ => {}
        }
        pattern.push(c);
    }
    pattern
}

/// Where to put a secret that was written as the setting `path`; `None` for any other path.
pub(super) fn secret_help(path: &str) -> Option<&'static str> {
    match split(path).1 {
        "api_key" | "api-key" | "apikey" => Some(
            "put the API key into a file and name it with api_key_file, or into the environment as AMPERSAND_API_KEY",
        ),
        "secret" | "secrets" => Some(
            "put the secrets into a file, one per line, and name it with secret_file, or for a single [webhook] into \
             the environment as BACKFILL_WATCH_WEBHOOK_SECRET",
        ),
        "token" | "tokens" => Some("put the token into a file and name it with http.token_file"),
        "write_token" | "write_tokens" => {
            Some("put the token into a file and name it with http.write_token_file")
        }
        _ => None,
    }
}

/// The table of a setting, and its name in that table.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// The setting that is probably meant by an unknown `path`.
pub(super) fn suggestion(path: &str) -> Option<&'static str> {
    /// Longer names are not typing errors, and comparing them is slow.
    const MAX_LENGTH: usize = 80;
    if path.len() > MAX_LENGTH {
        return None;
    }
    let pattern = pattern(path);
    let (table, name) = split(&pattern);
    let distance = |one: &str, other: &str| {
        let distance = strsim::damerau_levenshtein(one, other);
        (distance <= (one.len() / 3).clamp(1, 3)).then_some(distance)
    };
    let paths = || all().map(|key| key.path);

    let misspelt_name = paths()
        .filter(|known| split(known).0 == table)
        .filter_map(|known| Some((distance(name, split(known).1)?, known)));
    let in_another_table = paths().filter(|known| split(known).1 == name);
    let misspelt_path = paths().filter_map(|known| Some((distance(&pattern, known)?, known)));
    misspelt_name
        .min()
        .map(|(_, known)| known)
        .or_else(|| in_another_table.min_by_key(|known| known.len()))
        .or_else(|| misspelt_path.min().map(|(_, known)| known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert_eq!(shape("poll.max_interval"), Shape::Setting);
        assert_eq!(shape("webhooks[12].url"), Shape::Setting);
        assert_eq!(shape("webhooks"), Shape::Tables);
        assert_eq!(shape("webhook"), Shape::Table);
        assert_eq!(shape("ampersand.project"), Shape::Setting);
        assert_eq!(shape("ampersand.projects"), Shape::Tables);
        assert_eq!(shape("poll.max"), Shape::Unknown);
        assert_eq!(shape("po"), Shape::Unknown);
        assert_eq!(shape(""), Shape::Unknown);
    }

    #[test]
    fn suggestions_for_typing_errors_and_wrong_tables() {
        assert_eq!(suggestion("poll.max_intervall"), Some("poll.max_interval"));
        assert_eq!(suggestion("webhooks[3].ulr"), Some("webhooks[].url"));
        assert_eq!(suggestion("watchlist"), Some("watch_list"));
        assert_eq!(suggestion("ampersand.state_dir"), Some("state_dir"));
        assert_eq!(suggestion("pol.adaptive"), Some("poll.adaptive"));
        assert_eq!(suggestion("listen"), Some("http.listen"));
        assert_eq!(suggestion("colour"), None);
        assert_eq!(suggestion(&"x".repeat(100_000)), None);
    }

    #[test]
    fn each_path_is_listed_once_and_has_a_description() {
        let mut paths: Vec<&str> = all().map(|key| key.path).collect();
        paths.sort_unstable();
        assert!(paths.windows(2).all(|pair| pair[0] != pair[1]));
        for key in all() {
            assert!(key.description.ends_with('.'), "{}", key.path);
        }
    }
}
