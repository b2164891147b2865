//! Settings as they were written: the file, the environment and the flags laid over each other, each value with
//! the place that it came from. Nothing is checked here but that the names exist.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::error::{ConfigErrors, Place, Problems, spot};
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
    /// Byte offset into the settings file.
    File(usize),
    Environment(String),
    Flag(&'static str),
}

#[derive(Debug)]
struct Item {
    origin: Origin,
    value: Value,
}

/// The settings file that was read.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

/// All values, by the path of their key. Tables that the file opens are there too, as [`Value::Table`].
#[derive(Debug, Default)]
pub(super) struct Raw<'a> {
    source: Option<Source<'a>>,
    items: BTreeMap<String, Item>,
}

impl<'a> Raw<'a> {
    /// Lays the settings file over what is there, if its syntax holds.
    pub(super) fn add_file(
        &mut self,
        source: Source<'a>,
        problems: &mut Problems,
    ) -> Result<(), ConfigErrors> {
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
        if !errors.is_empty() {
            return Err(mem::take(problems).into_errors());
        }
        self.source = Some(source);
        self.add_table("", table.get_ref(), problems);
        Ok(())
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
                    for (index, table) in tables.iter().enumerate() {
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
            origin: Origin::File(value.span().start),
            value: Value::from_toml(value.get_ref()),
        };
        self.items.insert(path, item);
    }

    fn not_a_table(&self, path: &str, value: &Spanned<DeValue<'_>>, header: &str, problems: &mut Problems) {
        let found = Value::from_toml(value.get_ref()).describe();
        let place = self.place(&Origin::File(value.span().start));
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
        let place = Some(self.place(&Origin::File(name.span().start)));
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
        let place = Some(self.place(&Origin::File(name.span().start)));
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

    fn place(&self, origin: &Origin) -> Place {
        match (origin, &self.source) {
            (Origin::File(offset), Some(source)) => spot(source.path, source.text, *offset),
            (Origin::File(_), None) => Place::File(Path::new("").to_owned()),
            (Origin::Environment(name), _) => Place::Environment(name.clone()),
            (Origin::Flag(flag), _) => Place::Flag(flag),
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
