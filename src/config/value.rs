//! A single value as written.

use std::ffi::{OsStr, OsString};

use toml::de::{DeInteger, DeValue};

use crate::core::text::one_line;

/// A value as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// From the environment or a flag.
    Text(String),
    /// From the environment or a flag, usable as a path only.
    NotUtf8(OsString),
    String(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Datetime,
    Array(Vec<Value>),
    Table(Vec<(String, Value)>),
}

impl Value {
    pub(super) fn from_os(text: &OsStr) -> Self {
        match text.to_str() {
            Some(text) => Self::Text(text.trim().to_owned()),
            None => Self::NotUtf8(text.to_owned()),
        }
    }

    pub(super) fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::String(text.to_string()),
            DeValue::Integer(number) => Self::Integer(integer(number)),
            DeValue::Float(number) => Self::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Self::Boolean(*value),
            DeValue::Datetime(_) => Self::Datetime,
            DeValue::Array(values) => Self::Array(
                values
                    .iter()
                    .map(|value| Self::from_toml(value.get_ref()))
                    .collect(),
            ),
            DeValue::Table(table) => Self::Table(
                table
                    .iter()
                    .map(|(name, value)| (name.get_ref().to_string(), Self::from_toml(value.get_ref())))
                    .collect(),
            ),
        }
    }

    /// The text, if it is text.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a TOML array in `text`, if it is one.
    pub(super) fn parse_array(text: &str) -> Option<Vec<Self>> {
        match Self::from_toml(DeValue::parse(text).ok()?.get_ref()) {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The entries of a TOML inline table in `text`, if it is one.
    pub(super) fn parse_table(text: &str) -> Option<Vec<(String, Self)>> {
        match Self::from_toml(DeValue::parse(text).ok()?.get_ref()) {
            Self::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value as TOML.
    pub(super) fn to_toml(&self) -> String {
        match self {
            Self::Text(text) | Self::String(text) => toml::Value::String(text.clone()).to_string(),
            Self::NotUtf8(text) => toml::Value::String(text.to_string_lossy().into_owned()).to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Array(values) => {
                let values: Vec<String> = values.iter().map(Self::to_toml).collect();
                format!("[{}]", values.join(", "))
            }
            Self::Table(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(name, value)| format!("{} = {}", toml_key(name), value.to_toml()))
                    .collect();
                match entries.as_slice() {
                    [] => "{}".to_owned(),
                    entries => format!("{{ {} }}", entries.join(", ")),
                }
            }
            Self::Datetime => String::new(),
        }
    }

    /// A list of texts.
    pub(super) fn list<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Self {
        Self::Array(texts.into_iter().map(|text| Self::String(text.into())).collect())
    }

    /// The value, as an error describes it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text(text) | Self::String(text) => format!("the text {:?}", one_line(text, 80)),
            Self::NotUtf8(_) => "text that is not UTF-8".to_owned(),
            Self::Integer(number) => format!("the whole number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Boolean(value) => format!("{value}"),
            Self::Datetime => "a date".to_owned(),
            Self::Array(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

/// A key as TOML, quoted if needed.
fn toml_key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(is_bare) {
        name.to_owned()
    } else {
        toml::Value::String(name.to_owned()).to_string()
    }
}

/// The number, or the nearest that fits. No setting allows such large numbers.
fn integer(number: &DeInteger<'_>) -> i128 {
    let text = number.as_str();
    i128::from_str_radix(text, number.radix()).unwrap_or(if text.starts_with('-') {
        i128::MIN
    } else {
        i128::MAX
    })
}
