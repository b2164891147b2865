//! Settings as they were written: the files, the environment and the flags laid over each other, each value with
//! the place that it came from. Nothing is checked here but that the names exist.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::error::{Place, Problems, spot};
use super::given::Given;
use super::keys::{self, Shape};
use super::value::Value;
use crate::core::text::one_line;

/// What the names of our environment variables begin with.
const PREFIX: &str = "BACKFILL_WATCH_";
/// A secret of its own, not the path of a setting.
pub(super) const WEBHOOK_SECRET_VARIABLE: &str = "BACKFILL_WATCH_WEBHOOK_SECRET";
/// The most syntax errors of one file that are told; the parser's later guesses help nobody.
const MAX_SYNTAX_ERRORS: usize = 5;

/// Where a value came from.
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
    /// As it was given.
    pub path: &'a Path,
    /// The folder that it is in.
    pub folder: Option<&'a Path>,
    pub text: &'a str,
}

/// All values, by the path of their key. Tables that the files open are there too, as [`Value::Table`].
#[derive(Debug)]
pub(super) struct Raw<'a> {
    /// Where relative paths start that no settings file names.
    folder: Option<&'a Path>,
    sources: Vec<Source<'a>>,
    items: BTreeMap<String, Item>,
}

impl<'a> Raw<'a> {
    /// No values yet. Relative paths that no settings file names start from `folder`.
    pub(super) fn new(folder: Option<&'a Path>) -> Self {
        Self {
            folder,
            sources: Vec::new(),
            items: BTreeMap::new(),
        }
    }

    /// Lays settings files over what is there, each over those before, if the syntax of all is right.
    pub(super) fn add_files(&mut self, sources: impl Iterator<Item = Source<'a>>, problems: &mut Problems) {
        let mut is_syntax_wrong = false;
        for source in sources {
            let (table, errors) = DeTable::parse_recoverable(source.text);
            for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
                let offset = error.span().map_or(source.text.len(), |span| span.start);
                problems.error(
                    "",
                    Some(spot(source.path, source.text, offset)),
                    format!("not valid TOML: {}", error.message()),
                    "correct the line; text wants quotation marks, as in key = \"value\"".to_owned(),
                );
            }
            is_syntax_wrong |= !errors.is_empty();
            self.sources.push(source);
            // What could be read of a broken file still shows where the daemon is; its errors are enough.
            let mut consequences = Problems::default();
            let found = if errors.is_empty() {
                &mut *problems
            } else {
                &mut consequences
            };
            self.add_table("", table.get_ref(), found);
        }
        if is_syntax_wrong {
            // What is missing now may be in the file.
            problems.close();
        }
    }

    /// An offset into the file that is being laid over.
    fn here(&self, offset: usize) -> Origin {
        Origin::File(self.sources.len().saturating_sub(1), offset)
    }

    /// Where each of these tables goes: to the one of the same name that an earlier file has, otherwise after all others.
    fn indexes_of(&self, path: &str, tables: &[Spanned<DeValue<'_>>]) -> Vec<usize> {
        let earlier = self.indexes(path);
        let named = |wanted: &str| {
            let has_name = |index: &&usize| {
                let name = self.items.get(&format!("{path}[{index}].name"));
                name.and_then(|item| item.value.as_text()) == Some(wanted)
            };
            earlier.iter().find(has_name).copied()
        };
        let mut next = earlier.last().map_or(0, |last| last + 1);
        // A second table of the same name in one file is a mistake, which is reported by its own index.
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

    /// A name with a dot or bracket in it would pass for a path.
    fn quoted_key(&self, path: &str, name: &Spanned<Cow<'_, str>>, problems: &mut Problems) {
        if problems.leave_out() {
            return;
        }
        let place = Some(self.place(&self.here(name.span().start)));
        let help = "write the key without quotation marks".to_owned();
        problems.error(
            &one_line(path, 100),
            place,
            "there is no such setting".to_owned(),
            help,
        );
    }

    fn unknown_key(&self, path: &str, name: &Spanned<Cow<'_, str>>, problems: &mut Problems) {
        if problems.leave_out() {
            return;
        }
        let place = Some(self.place(&self.here(name.span().start)));
        let key = one_line(path, 100);
        if let Some(help) = keys::place_of_secret(path) {
            problems.error(
                &key,
                place,
                "secrets do not belong into the settings file".to_owned(),
                help.to_owned(),
            );
            return;
        }
        let help = match keys::suggestion(path) {
            Some(known) if known.contains('.') => format!("did you mean {known}?"),
            Some(known) => {
                format!("did you mean {known}? It stands at the top of the file, before the first [table]")
            }
            None => "remove it, or look its name up in the example settings".to_owned(),
        };
        problems.error(&key, place, "there is no such setting".to_owned(), help);
    }

    /// Lays the environment over what is there.
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

    /// Lays a command-line flag over what is there.
    pub(super) fn add_flag(&mut self, flag: &'static str, path: &str, text: &OsStr) {
        let item = Item {
            origin: Origin::Flag(flag),
            value: Value::from_os(text),
        };
        self.items.insert(path.to_owned(), item);
    }

    /// The value of a setting, if one was given.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        debug_assert_eq!(
            keys::shape(path),
            Shape::Setting,
            "{path} is not in the list of settings"
        );
        self.items.get(path).map(|item| &item.value)
    }

    /// The values of all settings that were given.
    pub(super) fn given(&self) -> Given {
        let settings = self.items.iter().filter(|(_, item)| item.value != Value::Table);
        Given(
            settings
                .map(|(key, item)| (key.clone(), item.value.clone()))
                .collect(),
        )
    }

    /// Whether the table, or anything in it, was given.
    pub(super) fn has_table(&self, path: &str) -> bool {
        let below = format!("{path}.");
        self.items.contains_key(path) || self.items.keys().any(|key| key.starts_with(&below))
    }

    /// The indexes at which an array of tables has elements, in order.
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

    /// Where a setting was given, or if it was not, where the table that it belongs to was opened.
    pub(super) fn place_of(&self, path: &str) -> Option<Place> {
        let table = || self.items.get(path.rsplit_once('.')?.0);
        self.items
            .get(path)
            .or_else(table)
            .map(|item| self.place(&item.origin))
    }

    /// Where a setting was given, if it was.
    pub(super) fn place_given(&self, path: &str) -> Option<Place> {
        self.items.get(path).map(|item| self.place(&item.origin))
    }

    /// Where the relative path starts that a setting gives: beside the file that names it.
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

/// The path of the setting that a variable names, its name given without the prefix.
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
    let help = if let Some(help) = keys::place_of_secret(&path) {
        help.to_owned()
    } else if keys::shape(&path) == Shape::Tables {
        format!("give such tables by index, as in {PREFIX}{rest}__0__NAME")
    } else if let Some(known) = keys::suggestion(&path) {
        let variable = known.replace("[]", "__0").replace('.', "__").to_uppercase();
        format!("did you mean {PREFIX}{variable}?")
    } else {
        "nothing has to be done if Kubernetes put it there for a Service of this name (enableServiceLinks: false \
         stops that), else correct the name"
            .to_owned()
    };
    let place = Some(Place::Environment(one_line(name, 120)));
    problems.warning(
        "",
        place,
        "there is no such setting, so it is ignored".to_owned(),
        help,
    );
}
