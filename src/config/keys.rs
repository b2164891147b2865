//! The names of all settings.

/// The path of every setting; `[]` stands for the index into an array of tables.
pub(super) const KEYS: &[&str] = &[
    "watch_list",
    "watch_list_refresh",
    "watch_list_shrink_delay",
    "state_dir",
    "retention",
    "shutdown_timeout",
    "ampersand.base_url",
    "ampersand.request_timeout",
    "ampersand.max_concurrent_requests",
    "ampersand.max_requests_per_second",
    "ampersand.ca_file",
    "ampersand.project",
    "ampersand.api_key_file",
    "ampersand.projects[].name",
    "ampersand.projects[].api_key_file",
    "poll.initial_interval",
    "poll.min_interval",
    "poll.max_interval",
    "poll.multiplier",
    "poll.randomization",
    "poll.adaptive",
    "poll.stalled_after",
    "poll.silent_after",
    "poll.unreachable_after",
    "poll.not_found_grace",
    "poll.max_retry_after",
    "poll.give_up_after",
    "poll.active_statuses",
    "poll.progress_step",
    "poll.progress_interval",
    "webhook.name",
    "webhook.url",
    "webhook.secret_file",
    "webhook.events",
    "webhook.max_in_flight",
    "webhook.max_backlog",
    "webhook.allow_http",
    "webhooks[].name",
    "webhooks[].url",
    "webhooks[].secret_file",
    "webhooks[].events",
    "webhooks[].max_in_flight",
    "webhooks[].max_backlog",
    "webhooks[].allow_http",
    "http.listen",
    "http.token_file",
    "http.allow_unauthenticated",
    "log.format",
    "log.filter",
    "metrics.per_operation",
];

/// What a path may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One setting.
    Setting,
    /// A table of settings.
    Table,
    /// An array of such tables.
    Tables,
    /// Nothing.
    Unknown,
}

/// What the path names, which may have indexes in it.
pub(super) fn shape(path: &str) -> Shape {
    let pattern = pattern(path);
    if KEYS.contains(&pattern.as_str()) {
        return Shape::Setting;
    }
    let below = |sign: &str| {
        KEYS.iter().any(|key| {
            key.strip_prefix(pattern.as_str())
                .is_some_and(|rest| rest.starts_with(sign))
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

/// The path with every index left out: `webhooks[3].url` becomes `webhooks[].url`.
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

/// Where a secret belongs, for somebody who tried to write it as the setting `path`; `None` for any other path.
pub(super) fn place_of_secret(path: &str) -> Option<&'static str> {
    match last_name(path) {
        "api_key" | "api-key" | "apikey" => Some(
            "put the API key into a file and name it with api_key_file, or into the environment as AMPERSAND_API_KEY",
        ),
        "secret" | "secrets" => Some(
            "put the secrets into a file, one a line, and name it with secret_file, or for a single [webhook] into \
             the environment as BACKFILL_WATCH_WEBHOOK_SECRET",
        ),
        "token" => Some("put the token into a file and name it with http.token_file"),
        _ => None,
    }
}

fn last_name(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, name)| name)
}

/// The setting that somebody who wrote `path` may have meant.
pub(super) fn suggestion(path: &str) -> Option<&'static str> {
    /// Longer names than this are no slip of the finger, and comparing them costs time.
    const MAX_LENGTH: usize = 80;
    if path.len() > MAX_LENGTH {
        return None;
    }
    let pattern = pattern(path);
    let (wanted_table, wanted) = pattern.rsplit_once('.').unwrap_or(("", &pattern));
    let same_table = |key: &&&str| key.rsplit_once('.').map_or("", |(table, _)| table) == wanted_table;
    let distance = |one: &str, other: &str| {
        let distance = strsim::damerau_levenshtein(one, other);
        (distance <= (one.len() / 3).clamp(1, 3)).then_some(distance)
    };

    let misspelt = KEYS
        .iter()
        .filter(same_table)
        .filter_map(|key| Some((distance(wanted, last_name(key))?, key)));
    let in_the_wrong_table = KEYS.iter().filter(|key| last_name(key) == wanted);
    let misspelt_table = KEYS
        .iter()
        .filter_map(|key| Some((distance(&pattern, key)?, key)));
    misspelt
        .min()
        .map(|(_, key)| key)
        .or_else(|| in_the_wrong_table.min_by_key(|key| key.len()))
        .or_else(|| misspelt_table.min().map(|(_, key)| key))
        .copied()
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
    fn suggestions_for_slips_and_wrong_tables() {
        assert_eq!(suggestion("poll.max_intervall"), Some("poll.max_interval"));
        assert_eq!(suggestion("webhooks[3].ulr"), Some("webhooks[].url"));
        assert_eq!(suggestion("watchlist"), Some("watch_list"));
        assert_eq!(suggestion("ampersand.state_dir"), Some("state_dir"));
        assert_eq!(suggestion("pol.adaptive"), Some("poll.adaptive"));
        assert_eq!(suggestion("listen"), Some("http.listen"));
        assert_eq!(suggestion("colour"), None);
        assert_eq!(suggestion(&"x".repeat(100_000)), None);
    }
}
