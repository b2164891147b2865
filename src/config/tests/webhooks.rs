//! Where events are sent.

use crate::core::event::EventType;

use super::super::{PlainHttp, WebhookEventFilter};
use super::{Case, SECRET, first_lines};

#[test]
fn a_single_webhook_from_the_environment() {
    let case = Case::new("").with(&[
        ("BACKFILL_WATCH_WEBHOOK__URL", "https://hooks.example.com/x"),
        ("BACKFILL_WATCH_WEBHOOK__EVENTS", "operation.failed,api.*"),
        ("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET),
    ]);
    let [webhook] = case.settings().webhooks.try_into().unwrap();
    assert_eq!(
        (&*webhook.name, webhook.url.as_str()),
        ("webhook", "https://hooks.example.com/x")
    );
    assert_eq!(
        (webhook.max_in_flight.get(), webhook.max_backlog.get()),
        (16, 1_000_000)
    );
    assert!(
        webhook
            .events
            .matches(EventType::parse("operation.failed").unwrap())
            && webhook.events.matches(EventType::parse("api.reachable").unwrap())
    );
    assert!(
        !webhook
            .events
            .matches(EventType::parse("operation.started").unwrap())
    );
    assert_eq!(webhook.secret.read_webhook_secrets().unwrap().len(), 1);
    assert_eq!(webhook.plain_http, PlainHttp::Refused);
}

#[test]
fn the_secrets_of_a_single_webhook() {
    let case = Case::new("[webhook]\nurl = 'http://localhost/'\n").file("s", format!("{SECRET}\n").repeat(3));
    assert!(
        case.errors()
            .starts_with("config.toml:1:1: webhook.secret_file: webhook \"webhook\" has no secret")
    );
    let count = |case: &Case| {
        case.settings().webhooks[0]
            .secret
            .read_webhook_secrets()
            .unwrap()
            .len()
    };
    let case = case
        .with(&[("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET)])
        .file("webhook-secret", format!("{SECRET}\n").repeat(2));
    assert_eq!(count(&case), 1);
    let folder = case.folder.path().to_str().unwrap().to_owned();
    let case = case.with(&[("CREDENTIALS_DIRECTORY", &folder)]);
    assert_eq!(count(&case), 2);
    let case = case.with(&[("BACKFILL_WATCH_WEBHOOK__SECRET_FILE", "s")]);
    assert_eq!(count(&case), 3);
    let case = case.file("s", "hunter2\n");
    assert!(
        case.errors()
            .contains("line 1 of s is not a webhook secret: it does not begin with whsec_"),
        "{}",
        case.errors()
    );
}

#[test]
fn several_webhooks() {
    let case = Case::new(
        r#"
[[webhooks]]
name = "a"
url = "https://example.com/"
secret_file = "s"
[[webhooks]]
name = "a"
url = "http://10.0.0.1/"
secret_file = "s"
events = ["operation.*", "operations.failed"]
[[webhooks]]
name = "c d"
secret_file = "s"
max_in_flight = 0
allow_http = "yes"
[[webhooks]]
name = "e"
url = "http://10.0.0.1/"
allow_http = true
events = []
"#,
    )
    .file("s", SECRET)
    .with(&[("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET)]);
    assert_eq!(
        first_lines(&case.errors()),
        [
            "config.toml:7:8: webhooks[1].name: the name \"a\" is used twice",
            "config.toml:8:7: webhooks[1].url: sends events in clear text",
            "config.toml:10:10: webhooks[1].events: no event type matches \"operations.failed\"",
            "config.toml:11:1: webhooks[2].url: is missing",
            "config.toml:12:8: webhooks[2].name: \"c d\" is not a valid name",
            "config.toml:14:17: webhooks[2].max_in_flight: 0 is out of range",
            "config.toml:15:14: webhooks[2].allow_http: expected true or false, found the text \"yes\"",
            "config.toml:16:1: webhooks[3].secret_file: webhook \"e\" has no secret",
            "config.toml:20:10: webhooks[3].events: the list has 0 elements",
        ]
    );
    let case = Case::new("[[webhooks]]\nname = 'a'\nurl = 'http://localhost/'\n[[webhooks]]\nname = 'a'\nurl = 'http://[::1]/'\n")
        .file("s", SECRET)
        .with(&[("BACKFILL_WATCH_WEBHOOKS__0__SECRET_FILE", "s"), ("BACKFILL_WATCH_WEBHOOKS__1__SECRET_FILE", "s")]);
    assert_eq!(
        first_lines(&case.errors()),
        ["config.toml:5:8: webhooks[1].name: the name \"a\" is used twice"]
    );
    let case = case.with(&[("BACKFILL_WATCH_WEBHOOKS__1__NAME", "b")]);
    let settings = case.settings();
    assert_eq!(settings.webhooks.len(), 2);
    assert_eq!(settings.webhooks[0].events, WebhookEventFilter::AllButProgress);
}

#[test]
fn one_and_several_are_not_mixed() {
    let case = Case::new("[[webhooks]]\nname = 'a'\n").with(&[
        ("BACKFILL_WATCH_WEBHOOK__URL", "http://localhost/"),
        ("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET),
    ]);
    assert_eq!(
        case.errors(),
        "environment variable BACKFILL_WATCH_WEBHOOK__URL: webhook: is set together with [[webhooks]]\n    \
         help: remove one of the two: [webhook] is for a single webhook"
    );
}

#[test]
fn plain_http_has_to_be_allowed() {
    let case = Case::new("[webhook]\nurl = 'http://hooks.internal/'\n")
        .with(&[("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET)]);
    assert_eq!(
        first_lines(&case.errors()),
        ["config.toml:2:7: webhook.url: sends events in clear text"]
    );
    let case = case.with(&[("BACKFILL_WATCH_WEBHOOK__ALLOW_HTTP", "true")]);
    assert_eq!(case.settings().webhooks[0].plain_http, PlainHttp::Allowed);
}
