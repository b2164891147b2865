//! The reference of all settings, as Markdown.

use super::keys::{self, Reload, SettingKey, SettingKind};

/// A Markdown table of each settings table: key, type, default, what a reload does, description.
#[must_use]
pub fn settings_reference() -> String {
    let mut text = String::new();
    let mut table = None;
    for key in keys::all() {
        let (of_key, name) = keys::split(key.path);
        if table != Some(of_key) {
            if table.is_some() {
                text.push('\n');
            }
            text.push_str(&header(of_key));
            table = Some(of_key);
        }
        text.push_str(&row(name, key));
    }
    text
}

fn header(table: &str) -> String {
    let title = match table {
        "" => "Top level".to_owned(),
        table => format!("`{}`", table_header(table)),
    };
    format!("## {title}\n\n| key | type | default | reload | meaning |\n| --- | --- | --- | --- | --- |\n")
}

fn row(name: &str, key: &SettingKey) -> String {
    let reload = match key.reload {
        Reload::Applies => "applies",
        Reload::NeedsRestart => "needs a restart",
    };
    format!(
        "| `{name}` | {} | {} | {reload} | {} |\n",
        key.kind.describe(),
        key.kind.default_text(),
        key.description
    )
}

/// A table's header in a settings file: `[poll]`, or `[[webhooks]]` for `webhooks[]` and `webhooks[0]`.
#[must_use]
pub fn table_header(table: &str) -> String {
    match table.split_once('[') {
        Some((name, _)) => format!("[[{name}]]"),
        None => format!("[{table}]"),
    }
}

impl SettingKind {
    /// The type and its bounds.
    fn describe(self) -> String {
        match self {
            Self::Duration { .. } => "duration".to_owned(),
            Self::DurationOrOff { .. } => "duration or `off`".to_owned(),
            Self::Number { least, most, .. } => format!("number, {least} to {most}"),
            Self::Count { most, .. } => format!("whole number, 1 to {most}"),
            Self::Boolean { .. } => "`true` or `false`".to_owned(),
            Self::Text { .. } => "text".to_owned(),
            Self::Name { .. } => "name".to_owned(),
            Self::Choice { choices, .. } => choices
                .iter()
                .map(|choice| format!("`{choice}`"))
                .collect::<Vec<_>>()
                .join(", "),
            Self::List { .. } => "list of text".to_owned(),
            Self::Labels => "table of text".to_owned(),
            Self::Deadline => "duration or time".to_owned(),
            Self::Path { .. } => "path".to_owned(),
            Self::StateFolder => "folder".to_owned(),
            Self::File => "file".to_owned(),
            Self::Url { .. } => "URL".to_owned(),
            Self::Address { .. } => "address or `off`".to_owned(),
        }
    }

    /// The default as TOML, or in words.
    fn default_text(self) -> String {
        let quoted = |text: &str| format!("`\"{text}\"`");
        match self {
            Self::Duration { default, .. }
            | Self::DurationOrOff {
                default: Some(default),
            } => quoted(&humantime::format_duration(default).to_string()),
            Self::DurationOrOff { default: None } => quoted("off"),
            Self::Number { default, .. } => format!("`{default}`"),
            Self::Count { default, .. } => format!("`{default}`"),
            Self::Boolean { default } => format!("`{default}`"),
            Self::List { default } if default.starts_with('[') => format!("`{default}`"),
            Self::List { default } => default.to_owned(),
            Self::StateFolder => "`$STATE_DIRECTORY`, `$XDG_STATE_HOME/backfill-watch`, \
                                  `$HOME/.local/state/backfill-watch` or `/var/lib/backfill-watch`"
                .to_owned(),
            Self::Text { .. }
            | Self::Choice { .. }
            | Self::Path { .. }
            | Self::Address { .. }
            | Self::Name { .. }
            | Self::Url { .. }
            | Self::Labels
            | Self::Deadline
            | Self::File => self.text_default().map_or_else(|| "–".to_owned(), quoted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_written_as_in_a_settings_file() {
        assert_eq!(table_header("poll"), "[poll]");
        assert_eq!(table_header("ampersand.projects[3]"), "[[ampersand.projects]]");
    }
}
