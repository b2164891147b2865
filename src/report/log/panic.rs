//! Logs panics. The standard hook writes to standard error directly and may block.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

/// Logs each panic from now on.
pub(super) fn log_panics() {
    panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    // Empty unless `RUST_BACKTRACE` is set.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        thread = std::thread::current().name(),
        place = panic.location().map(ToString::to_string),
        reason = panic.payload_as_str(),
        backtrace,
        "a thread panicked: this is a bug, please report it"
    );
}
