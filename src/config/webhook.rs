//! `[webhook]` and `[[webhooks]]`: the endpoints that events are sent to.

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use url::Url;

use super::event_filter::{EventGlob, WebhookEventFilter};
use super::raw::WEBHOOK_SECRET_VARIABLE;
use super::reader::{Purpose, Reader, default_text};
use super::secret::SecretSource;
use super::secrets::{self, Fallback, Missing};
use super::value::Value;
use super::web_address::{is_loopback, web_address};
use crate::core::event::EventType;

const SECRET: Fallback = Fallback {
    credential: "webhook-secret",
    variable: WEBHOOK_SECRET_VARIABLE,
};
/// The longest name of a webhook, in characters.
const MAX_NAME: usize = 64;

/// Whether events may be sent in clear text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// Only `https`, and `http` to this machine.
    Refused,
    /// `http` to anywhere (`allow_http = true`).
    Allowed,
}

/// One endpoint that events are sent to.
#[derive(Clone)]
#[non_exhaustive]
pub struct WebhookSettings {
    /// Identifies the endpoint, also after a change of its URL: 1 to 64 characters of `A-Z a-z 0-9 . _ ~ -`.
    pub name: Arc<str>,
    /// Where events are posted to. It may contain a secret, so only its host is shown.
    pub url: Url,
    /// Where the signing secrets are.
    pub secret: SecretSource,
    /// Which events are sent.
    pub events: WebhookEventFilter,
    /// The most deliveries in flight.
    pub max_in_flight: NonZeroUsize,
    /// The most events that wait.
    pub max_backlog: NonZeroUsize,
    /// Whether `http` is allowed. The URL was checked against this.
    pub plain_http: PlainHttp,
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("name", &self.name)
            .field(
                "url",
                &format_args!("{}/…", self.url.origin().ascii_serialization()),
            )
            .field("secret", &self.secret)
            .field("events", &self.events)
            .field("max_in_flight", &self.max_in_flight)
            .field("max_backlog", &self.max_backlog)
            .field("plain_http", &self.plain_http)
            .finish()
    }
}

/// All webhooks, each with another name.
pub(super) fn webhooks(reader: &mut Reader<'_>) -> Vec<WebhookSettings> {
    let indexes = reader.raw.indexes("webhooks");
    if !reader.raw.has_table("webhook") {
        let is_only = indexes.len() == 1;
        let mut names = HashSet::new();
        let mut webhooks = Vec::new();
        for index in indexes {
            let table = format!("webhooks[{index}]");
            let Some(webhook) = webhook(reader, &table, is_only) else {
                continue;
            };
            if !names.insert(Arc::clone(&webhook.name)) {
                let problem = format!("the name {:?} is used twice", webhook.name);
                reader.fail(
                    &format!("{table}.name"),
                    problem,
                    "use another name for each webhook",
                );
            }
            webhooks.push(webhook);
        }
        return webhooks;
    }
    if !indexes.is_empty() {
        let place = reader.raw.place_of("webhook.url");
        let help = "remove one of the two: [webhook] is for a single webhook";
        reader.problems.error(
            "webhook",
            place,
            "is set together with [[webhooks]]".to_owned(),
            help.to_owned(),
        );
        return Vec::new();
    }
    webhook(reader, "webhook", true).into_iter().collect()
}

/// The webhook of a table. `is_only`: there is no other webhook.
fn webhook(reader: &mut Reader<'_>, table: &str, is_only: bool) -> Option<WebhookSettings> {
    let key = |name: &str| format!("{table}.{name}");
    let name_key = key("name");
    let name = match reader.raw.get(&name_key) {
        None if table == "webhook" => {
            let default = default_text(&name_key);
            reader.note_text(&name_key, default);
            Some(Arc::from(default))
        }
        None => {
            let help = "add a name, which stays the same when the URL changes";
            reader.fail(&name_key, "is missing", help);
            None
        }
        Some(_) => reader.name(&name_key, MAX_NAME),
    };
    let plain_http = match reader.boolean(&key("allow_http")) {
        true => PlainHttp::Allowed,
        false => PlainHttp::Refused,
    };
    let url = url(reader, &key("url"), plain_http);
    if let Some(url) = &url {
        let shown = format!("{}/…", url.origin().ascii_serialization());
        let value = Value::String(url.to_string());
        reader.effective.note_part(&key("url"), value, shown);
    }
    let events = events(reader, &key("events"));
    let max_in_flight = reader.count(&key("max_in_flight"));
    let max_backlog = reader.count(&key("max_backlog"));
    let secret = secret(reader, &key("secret_file"), name.as_deref(), is_only)?;
    Some(WebhookSettings {
        name: name?,
        url: url?,
        secret,
        events,
        max_in_flight,
        max_backlog,
        plain_http,
    })
}

fn url(reader: &mut Reader<'_>, key: &str, plain_http: PlainHttp) -> Option<Url> {
    if reader.raw.get(key).is_none() {
        reader.fail(key, "is missing", "set it to the URL that events are posted to");
    }
    let url = web_address(reader, key)?;
    if url.scheme() == "http" && !is_loopback(&url) && plain_http == PlainHttp::Refused {
        let help = "use https, or set allow_http = true in a trusted network";
        reader.fail(key, "sends events in clear text", help);
    }
    if url.fragment().is_some() {
        reader.fail(
            key,
            "has a fragment, which is never sent",
            "remove # and what follows",
        );
    }
    Some(url)
}

fn events(reader: &mut Reader<'_>, key: &str) -> WebhookEventFilter {
    let Some(texts) = reader.list(key) else {
        let default = WebhookEventFilter::default();
        let types = EventType::ALL
            .iter()
            .copied()
            .filter(|event| default.matches(*event));
        reader
            .effective
            .note(key, Value::list(types.map(EventType::as_str)));
        return default;
    };
    let mut globs = Vec::with_capacity(texts.len());
    for text in texts {
        match EventGlob::parse(&text) {
            Ok(glob) => globs.push(glob),
            Err((problem, help)) => reader.fail(key, problem, help),
        }
    }
    WebhookEventFilter::Globs(globs)
}

fn secret(reader: &mut Reader<'_>, key: &str, name: Option<&str>, is_only: bool) -> Option<SecretSource> {
    let problem = format!("webhook {:?} has no secret", name.unwrap_or("?"));
    let secret = if reader.place_set(key).is_some() {
        secrets::in_file(reader, key)?
    } else if is_only {
        let source = SECRET.source(reader);
        secrets::note_place(reader, key.strip_suffix("_file").unwrap_or(key), &source);
        source
    } else {
        if reader.purpose == Purpose::Poll {
            let help = "set secret_file for it; BACKFILL_WATCH_WEBHOOK_SECRET is for a single webhook";
            reader.fail(key, problem, help);
        }
        return None;
    };
    let missing = Missing {
        problem: &problem,
        help: "set secret_file to a file with the secret, or the systemd credential webhook-secret, or \
               BACKFILL_WATCH_WEBHOOK_SECRET",
    };
    secrets::check_webhook(reader, key, &secret, missing);
    Some(secret)
}
