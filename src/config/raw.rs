//! Settings as written: files, environment and flags merged, each value with its place. Only the names are checked.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::error::{Place, Problems, spot};
use super::keys::{self, Shape};
use super::value::Value;
use crate::core::text::one_line;

/// The prefix of the environment names.
const PREFIX: &str = "BACKFILL_WATCH_";
/// The variable of a secret, which is not the path of a setting.
pub(super) const WEBHOOK_SECRET_VARIABLE: &str = "BACKFILL_WATCH_WEBHOOK_SECRET";
/// The most syntax errors to report per file. Later ones are consequences of the first.
const MAX_SYNTAX_ERRORS: usize = 5;

/// Where a value is set.
#[derive(Debug, Clone, PartialEq)]
enum Origin {
    /// The index of a settings file, and the byte offset into it.
    File(usize, usize),
    Environment(String),
    Flag(&'static str),
}

#[derive(Debug)]
struct Item {
    origin: Origin,
    value: Value,
}

/// A settings file that was read.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// The path as it was named.
    pub path: &'a Path,
    /// Its folder.
    pub folder: Option<&'a Path>,
    pub text: &'a str,
}

/// All values by path. Tables of the files are included as [`Value::Table`].
#[derive(Debug)]
pub(super) struct Raw<'a> {
    /// Where relative paths outside of settings files start.
    folder: Option<&'a Path>,
    sources: Vec<Source<'a>>,
    items: BTreeMap<String, Item>,
}

impl<'a> Raw<'a> {
    /// No values. Relative paths outside of settings files start in `folder`.
    pub(super) fn new(folder: Option<&'a Path>) -> Self {
        Self {
            folder,
            sources: Vec::new(),
            items: BTreeMap::new(),
        }
    }

    /// Merges settings files in; later files win.
    pub(super) fn add_files(&mut self, sources: impl Iterator<Item = Source<'a>>, problems: &mut Problems) {
        let mut has_syntax_errors = false;
        for source in sources {
            let (table, errors) = DeTable::parse_recoverable(source.text);
            for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
                let offset = error.span().map_or(source.text.len(), |span| span.start);
                problems.error(
                    "",
                    Some(spot(source.path, source.text, offset)),
                    format!("not valid TOML: {}", error.message()),
                    "correct the line; text needs quotation marks, as in key = \"value\"".to_owned(),
                );
            }
            has_syntax_errors |= !errors.is_empty();
            self.sources.push(source);
            // Values of a file with syntax errors help to find the daemon. Other errors in it may be consequences.
            let mut consequences = Problems::default();
            let found = if errors.is_empty() {
                &mut *problems
            } else {
                &mut consequences
            };
            self.add_table("", table.get_ref(), found);
        }
        if has_syntax_errors {
            // Missing settings may be in the unread part.
            problems.close();
        }
    }

    /// An offset into the file that is being merged.
    fn here(&self, offset: usize) -> Origin {
        Origin::File(self.sources.len().saturating_sub(1), offset)
    }

    /// The index of each table: that of the same name in an earlier file, otherwise a new one.
    fn indexes_of(&self, path: &str, tables: &[Spanned<DeValue<'_>>]) -> Vec<usize> {
        let earlier = self.indexes(path);
        let named = |name: &str| {
            let has_name = |index: &&usize| {
                let item = self.items.get(&format!("{path}[{index}].name"));
                item.and_then(|item| item.value.as_text()) == Some(name)
            };
            earlier.iter().find(has_name).copied()
        };
        let mut next = earlier.last().map_or(0, |last| last + 1);
        // A second table of the same name in one file gets its own index and is reported later.
        let mut taken = BTreeSet::new();
        let index_of = |table: &Spanned<DeValue<'_>>| {
            let name = match table.get_ref() {
                DeValue::Table(table) => table.get("name").map(Spanned::get_ref),
                _ => None,
            };
            let known = match name {
                Some(DeValue::String(name)) => named(name),
                _ => None,
            };
            known.filter(|index| taken.insert(*index)).unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        };
        tables.iter().map(index_of).collect()
    }

    fn add_table(&mut self, parent: &str, table: &DeTable<'_>, problems: &mut Problems) {
        for (name, value) in table {
            let quoted = name.get_ref().contains(['.', '[', ']']);
            let path = match parent {
                "" => name.get_ref().to_string(),
                _ => format!("{parent}.{}", name.get_ref()),
            };
            match (keys::shape(&path), value.get_ref()) {
                _ if quoted => self.quoted_key(&path, name, problems),
                (Shape::Unknown, _) => self.unknown_key(&path, name, problems),
                (Shape::Setting, _) => self.add_value(path, value),
                (Shape::Table, DeValue::Table(table)) => {
                    self.add_value(path.clone(), value);
                    self.add_table(&path, table, problems);
                }
                (Shape::Tables, DeValue::Array(tables)) => {
                    let indexes = self.indexes_of(&path, tables);
                    for (index, table) in indexes.into_iter().zip(tables.iter()) {
                        let path = format!("{path}[{index}]");
                        if let DeValue::Table(below) = table.get_ref() {
                            self.add_value(path.clone(), table);
                            self.add_table(&path, below, problems);
                        } else {
                            self.not_a_table(
                                &path,
                                table,
                                &format!("[[{}]]", keys::pattern(&path).replace("[]", "")),
                                problems,
                            );
                        }
                    }
                }
                (Shape::Table, _) => self.not_a_table(&path, value, &format!("[{path}]"), problems),
                (Shape::Tables, _) => self.not_a_table(&path, value, &format!("[[{path}]]"), problems),
            }
        }
    }

    fn add_value(&mut self, path: String, value: &Spanned<DeValue<'_>>) {
        let item = Item {
            origin: self.here(value.span().start),
            value: Value::from_toml(value.get_ref()),
        };
        self.items.insert(path, item);
    }

    fn not_a_table(&self, path: &str, value: &Spanned<DeValue<'_>>, header: &str, problems: &mut Problems) {
        let found = Value::from_toml(value.get_ref()).describe();
        let place = self.place(&self.here(value.span().start));
        let help = format!("write {header} on a line of its own, and its settings below");
        problems.error(
            path,
            Some(place),
            format!("expected a table, found {found}"),
            help,
        );
    }

    /// A quoted name with a dot or bracket would be mistaken for a path.
    fn quoted_key(&self, path: &str, name: &Spanned<Cow<'_, str>>, problems: &mut Problems) {
        if problems.is_full() {
            return;
        }
        let place = Some(self.place(&self.here(name.span().start)));
        let help = "write the key without quotation marks".to_owned();
        problems.error(&one_line(path, 100), place, "unknown setting".to_owned(), help);
    }

    fn unknown_key(&self, path: &str, name: &Spanned<Cow<'_, str>>, problems: &mut Problems) {
        if problems.is_full() {
            return;
        }
        let place = Some(self.place(&self.here(name.span().start)));
        let key = one_line(path, 100);
        if let Some(help) = keys::secret_help(path) {
            problems.error(
                &key,
                place,
                "secrets are not allowed in the settings file".to_owned(),
                help.to_owned(),
            );
            return;
        }
        let help = match keys::suggestion(path) {
            Some(known) if known.contains('.') => format!("did you mean {known}?"),
            Some(known) => {
                format!("did you mean {known}? It belongs at the top of the file, before the first [table]")
            }
            None => "remove it; `backfill-watch config reference` lists all settings".to_owned(),
        };
        problems.error(&key, place, "unknown setting".to_owned(), help);
    }

    /// Merges the environment in.
    pub(super) fn add_environment(&mut self, environment: &Environment, problems: &mut Problems) {
        for (name, value) in environment.iter() {
            let Some(rest) = name
                .strip_prefix(PREFIX)
                .filter(|_| name != WEBHOOK_SECRET_VARIABLE)
            else {
                continue;
            };
            let Some(path) = path_of_variable(rest) else {
                unknown_variable(name, rest, problems);
                continue;
            };
            let item = Item {
                origin: Origin::Environment(name.to_owned()),
                value: Value::from_os(value),
            };
            self.items.insert(path, item);
        }
    }

    /// Merges a command-line flag in.
    pub(super) fn add_flag(&mut self, flag: &'static str, path: &str, text: &OsStr) {
        let item = Item {
            origin: Origin::Flag(flag),
            value: Value::from_os(text),
        };
        self.items.insert(path.to_owned(), item);
    }

    /// The value of a setting, if it is set.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        debug_assert_eq!(
            keys::shape(path),
            Shape::Setting,
            "{path} is not in the table of settings"
        );
        self.items.get(path).map(|item| &item.value)
    }

    /// Whether the table, or a setting in it, is set.
    pub(super) fn has_table(&self, path: &str) -> bool {
        let below = format!("{path}.");
        self.items.contains_key(path) || self.items.keys().any(|key| key.starts_with(&below))
    }

    /// The indexes of an array of tables, in order.
    pub(super) fn indexes(&self, path: &str) -> Vec<usize> {
        let start = format!("{path}[");
        let mut indexes: Vec<usize> = self
            .items
            .keys()
            .filter_map(|key| key.strip_prefix(&start)?.split(']').next()?.parse().ok())
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }

    /// Where a setting is set, otherwise where its table begins.
    pub(super) fn place_of(&self, path: &str) -> Option<Place> {
        let table = || self.items.get(path.rsplit_once('.')?.0);
        self.items
            .get(path)
            .or_else(table)
            .map(|item| self.place(&item.origin))
    }

    /// Where a setting is set, if it is.
    pub(super) fn place_set(&self, path: &str) -> Option<Place> {
        self.items.get(path).map(|item| self.place(&item.origin))
    }

    /// Where a relative path in this setting starts: beside the settings file that sets it.
    pub(super) fn folder_of(&self, path: &str) -> Option<&'a Path> {
        match self.items.get(path).map(|item| &item.origin) {
            Some(Origin::File(index, _)) => self.sources.get(*index)?.folder,
            _ => self.folder,
        }
    }

    fn place(&self, origin: &Origin) -> Place {
        match origin {
            Origin::File(index, offset) => self.sources.get(*index).map_or_else(
                || Place::File(Path::new("").to_owned()),
                |source| spot(source.path, source.text, *offset),
            ),
            Origin::Environment(name) => Place::Environment(name.clone()),
            Origin::Flag(flag) => Place::Flag(flag),
        }
    }
}

/// The setting of a variable, from its name without the prefix.
fn path_of_variable(rest: &str) -> Option<String> {
    let path = dotted(rest);
    (keys::shape(&path) == Shape::Setting).then_some(path)
}

/// `WEBHOOKS__0__URL` as `webhooks[0].url`.
fn dotted(rest: &str) -> String {
    let mut path = String::new();
    for part in rest.to_lowercase().split("__") {
        match part.parse::<u16>() {
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_) if path.is_empty() => path.push_str(part),
            Err(_) => path.push_str(&format!(".{part}")),
        }
    }
    path
}

fn unknown_variable(name: &str, rest: &str, problems: &mut Problems) {
    let path = dotted(rest);
    let help = if let Some(help) = keys::secret_help(&path) {
        help.to_owned()
    } else if keys::shape(&path) == Shape::Tables {
        format!("set each table by index, as in {PREFIX}{rest}__0__NAME")
    } else if let Some(known) = keys::suggestion(&path) {
        let variable = known.replace("[]", "__0").replace('.', "__").to_uppercase();
        format!("did you mean {PREFIX}{variable}?")
    } else {
        "ignore this if Kubernetes sets it for a Service of this name (prevent it with enableServiceLinks: false), \
         otherwise correct the name"
            .to_owned()
    };
    let place = Some(Place::Environment(one_line(name, 120)));
    problems.warning("", place, "unknown setting, ignored".to_owned(), help);
}
