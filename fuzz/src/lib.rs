//! One target for each kind of text from outside. For any bytes nothing panics, accepted values are within their
//! limits, and errors are short.
//!
//! `fuzz_targets/` runs each with libFuzzer. `tests/fuzz.rs` includes these files, replays the corpus, and can change it at
//! random.

use jiff::Timestamp;

pub mod answer;
pub mod query;
pub mod retry_after;
pub mod secrets;
pub mod settings;
pub mod store;
pub mod watch_list;

/// A target: any bytes may be given to it.
pub type Run = fn(&[u8]);

/// Every target, by the name of its folder in `corpus/`.
pub const TARGETS: [(&str, Run); 7] = [
    ("answer", answer::run),
    ("query", query::run),
    ("retry_after", retry_after::run),
    ("secrets", secrets::run),
    ("settings", settings::run),
    ("store", store::run),
    ("watch_list", watch_list::run),
];

/// The time of day in all of this.
fn wall() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().expect("a time")
}

/// What parts the texts of an input that is made of several.
const PARTING: &str = "\n%%\n";

/// Whether `text` can be shown on one line.
fn is_one_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A runtime of this thread's own.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}
