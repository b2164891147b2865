use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::core::event::{CompletedRound, Event, GroupData, GroupMember};
use crate::core::phase::Phase;
use crate::report::event_log_line::log_event;

/// Written lines, in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Memory {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The lines that `log` writes.
fn written(layer: fn(Memory) -> BoxedLayer, log: impl FnOnce(&LogHandle)) -> String {
    let memory = Memory::default();
    let (subscriber, handle) = subscriber(parse_filter("info").unwrap(), layer(memory.clone()));
    tracing::subscriber::with_default(subscriber, || log(&handle));
    memory.text()
}

fn plain(memory: Memory) -> BoxedLayer {
    pretty(memory, false)
}

fn coloured(memory: Memory) -> BoxedLayer {
    pretty(memory, true)
}

/// The line after its time, whose format is checked.
fn after_time(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap();
    let parsed: jiff::Timestamp = time.parse().unwrap();
    assert_eq!(format!("{parsed:.3}"), time);
    rest
}

#[test]
fn a_pretty_line_has_time_level_message_and_fields() {
    let line = written(plain, |_| {
        let reason = "no such host";
        tracing::warn!(
            project = "main",
            polls = 3,
            percent = 25.5,
            ok = false,
            reason,
            "it's \"away\" \\o/"
        );
    });
    assert_eq!(
        after_time(&line),
        " WARN it's \"away\" \\o/ project=main polls=3 percent=25.5 ok=false reason=\"no such host\"\n"
    );
}

#[test]
fn colours_are_written_where_they_are_wanted_alone() {
    let log = |_: &LogHandle| tracing::info!(project = "main", "hello");
    assert!(written(coloured, log).contains("\x1b[2mproject=\x1b[0mmain"));
    assert!(!written(plain, log).contains('\x1b'));
}

/// Text from outside can neither begin a line, nor control the terminal, nor pass for a field.
#[test]
fn a_pretty_line_cannot_be_forged() {
    let hostile =
        "done\n2026-11-23T11:49:05.120Z  INFO all is well\r\x1b[2J\u{9b}31m\u{202e}\u{2028}\t phase=ended";
    let lines = written(plain, |_| {
        tracing::info!(result = hostile, "as text");
        tracing::info!(result = %hostile, "by display");
        tracing::info!(result = ?hostile, "by debug");
        tracing::info!("as message {hostile}");
    });
    assert_eq!(lines.lines().count(), 4, "{lines}");
    for line in lines.lines() {
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.contains(['\u{202e}', '\u{2028}']), "{line:?}");
        assert!(
            line.contains(r"done\n2026-11-23T11:49:05.120Z") || line.contains(r"done\\n2026"),
            "{line}"
        );
    }
    let forged = written(plain, |_| {
        tracing::info!(status = %"x phase=ended", "seen");
        tracing::info!(status = "", "seen");
        tracing::info!(status = "ü", "seen");
    });
    let forged: Vec<&str> = forged.lines().map(after_time).collect();
    assert_eq!(
        forged,
        [
            r#" INFO seen status="x phase=ended""#,
            r#" INFO seen status="""#,
            " INFO seen status=ü"
        ]
    );
}

#[test]
fn a_json_line_is_one_flat_object() {
    let hostile = "a\n{\"level\":\"ERROR\"}\x1b[31m";
    let lines = written(json, |_| {
        tracing::info!(
            event = "operation.progress",
            percent = 25.0,
            polls = 3,
            ok = true,
            result = hostile,
            absent = None::<u64>,
            shown = %hostile,
            "message text"
        );
        tracing::error!("second");
    });
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2);
    let mut first: Value = serde_json::from_str(lines[0]).unwrap();
    let timestamp = first.as_object_mut().unwrap().remove("timestamp").unwrap();
    after_time(&format!("{} ", timestamp.as_str().unwrap()));
    assert_eq!(
        first,
        json!({
            "level": "INFO",
            "target": module_path!(),
            "message": "message text",
            "event": "operation.progress",
            "percent": 25.0,
            "polls": 3,
            "ok": true,
            "result": hostile,
            "shown": hostile,
        })
    );
    let second: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(second["level"], "ERROR");
}

#[test]
fn the_filter_can_be_replaced_while_running_and_a_broken_one_changes_nothing() {
    let lines = written(plain, |handle| {
        tracing::debug!("one");
        handle.set_filter("backfill_watch=debug").unwrap();
        tracing::debug!("two");
        let error = handle.set_filter("info,a=b=c").unwrap_err();
        assert!(matches!(&error, LogError::Filter { filter, .. } if filter == "info,a=b=c"));
        tracing::debug!("three");
        handle.set_filter("warn").unwrap();
        tracing::info!("four");
    });
    let lines: Vec<&str> = lines.lines().map(after_time).collect();
    assert_eq!(lines, ["DEBUG two", "DEBUG three"]);
}

/// As standard error on a full disk or a broken pipe.
struct Broken;

impl io::Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_log_that_cannot_be_written_harms_nobody() {
    for layer in [pretty(|| Broken, true), json(|| Broken)] {
        let (subscriber, _handle) = subscriber(parse_filter("info").unwrap(), layer);
        tracing::subscriber::with_default(subscriber, || tracing::error!(reason = "any", "lost"));
    }
}

#[test]
fn the_journal_is_known_by_device_and_inode() {
    let is_stream = |text: &str| is_stream(OsStr::new(text), 9, 12345);
    assert!(is_stream("9:12345"));
    for other in ["", "9", "9:1234", "9:123456", "12345:9", "9:12345 "] {
        assert!(!is_stream(other), "{other:?}");
    }
}

#[test]
fn colour_is_for_terminals_that_show_it_unless_it_is_disabled() {
    let shows = |is_terminal, no_color: Option<&str>, term: Option<&str>| {
        uses_colour(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new))
    };
    assert!(shows(true, None, Some("xterm")));
    assert!(shows(true, Some(""), None));
    assert!(!shows(true, Some("1"), Some("xterm")));
    assert!(!shows(true, None, Some("dumb")));
    assert!(!shows(false, None, Some("xterm")));
}

/// Records what would be sent to the journal.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Sent {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let message = journal::Record::of(event).text("message");
        self.0.lock().unwrap().push(message);
    }
}

#[test]
fn a_message_of_the_journal_can_be_read_by_itself() {
    let sent = Sent::default();
    let subscriber = tracing_subscriber::registry().with(sent.clone());
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(
            event = "operation.stalled",
            project = "main",
            operation_id = "op-1",
            labels = "customer=acme object=contact",
            percent = 25.5,
            reason = "count unchanged",
            sequence = 3,
            "operation has stalled"
        );
        let of = CompletedRound {
            project: "main",
            label: "group",
            group: "Gale Ltd",
            round: 2,
        };
        let member = GroupMember {
            operation: "op-1",
            objects: &[],
            phase: Phase::Failed,
            started: None,
            finished: None,
            labels: &vec![("team".to_owned(), "crm".to_owned())],
        };
        let data = GroupData::new(of, [member], []);
        log_event(&Event::group_completed(jiff::Timestamp::UNIX_EPOCH, data));
        tracing::error!(
            error = "disk\n\u{202e}full",
            status = None::<&str>,
            "cannot write\u{2028}"
        );
        let error = io::Error::other("inner");
        tracing::error!(error = chain(&error), "by chain");
    });
    assert_eq!(
        *sent.0.lock().unwrap(),
        [
            "operation has stalled operation_id=op-1 customer=acme object=contact project=main percent=25.5 \
             reason=\"count unchanged\"",
            "group completed: all of its operations are finished group=\"Gale Ltd\" outcome=failed team=crm project=main \
             not_succeeded=op-1",
            r#"cannot write\u{2028} error="disk\n\u{202e}full""#,
            "by chain error=inner",
        ]
    );
}

/// `tracing-journald` receives the fields that were logged.
#[test]
fn what_is_replayed_is_what_was_logged() {
    #[derive(Clone, Default)]
    struct Replayed(Arc<Mutex<Vec<journal::Record>>>);
    impl<S: Subscriber> Layer<S> for Replayed {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            self.0.lock().unwrap().push(journal::Record::of(event));
        }
    }
    let replayed = Replayed::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(replayed.clone()), || {
        tracing::info!(
            text = "a",
            count = 3_u64,
            minus = -1_i64,
            half = 0.5,
            yes = true,
            none = None::<u64>,
            "m"
        );
    });
    let target = Replayed::default();
    replayed.0.lock().unwrap()[0].replay(&tracing_subscriber::registry().with(target.clone()));
    let target = target.0.lock().unwrap();
    let fields = ["message", "text", "count", "minus", "half", "yes", "none"];
    let shown = fields.map(|name| target[0].text(name));
    assert_eq!(shown, ["m", "a", "3", "-1", "0.5", "true", ""]);
}

#[test]
fn every_format_prints_the_causes_of_an_error() {
    #[derive(Debug, thiserror::Error)]
    #[error("the state cannot be opened")]
    struct Outer(#[source] io::Error);
    let error = Outer(io::Error::from_raw_os_error(28));
    for layer in [plain as fn(Memory) -> BoxedLayer, json] {
        let line = written(layer, |_| tracing::error!(error = chain(&error), "failed"));
        assert!(
            line.contains("the state cannot be opened: No space left on device"),
            "{line}"
        );
    }
}
