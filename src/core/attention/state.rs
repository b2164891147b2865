//! Entries about the state and the settings.

use jiff::Timestamp;

use super::{Attention, AttentionKind, MAX_REASON};
use crate::core::text;

/// The entry for a state that was removed or replaced.
#[must_use]
pub fn state_removed(what: &str, since: Option<Timestamp>) -> Attention {
    let message = format!("the state was removed or replaced while in use: {what}. Nothing is recorded.");
    let action = "restore the files, or restart the daemon to start with the files that are there";
    Attention::new(AttentionKind::StateRemoved, message, action).since(since)
}

/// The entry for a state that cannot be written.
#[must_use]
pub fn state_not_writable(reason: &str, since: Option<Timestamp>) -> Attention {
    let message = format!(
        "the state cannot be written: {reason}. Figures may be old; new events wait, and nothing is lost."
    );
    let action = "free disk space or fix the permissions of state_dir; it is retried every second";
    Attention::new(AttentionKind::StateNotWritable, message, action).since(since)
}

/// The entry for damaged rows; without any there is none.
#[must_use]
pub fn state_damaged(rows: u64, since: Option<Timestamp>) -> Option<Attention> {
    let count = text::count(rows);
    let message = format!("{count} damaged rows of the state were set aside; the log names each");
    let action = "check the disk; restore a backup if you need these rows";
    (rows > 0).then(|| Attention::new(AttentionKind::StateDamaged, message, action).since(since))
}

/// The entry for settings that were not applied.
#[must_use]
pub fn settings_rejected(reason: &str, since: Timestamp) -> Attention {
    let reason = text::one_line(reason, MAX_REASON);
    let message = format!("settings not applied: {reason}. The previous settings stay active.");
    let action = "fix the settings and reload; `backfill-watch check` shows all problems";
    Attention::new(AttentionKind::SettingsRejected, message, action).since(Some(since))
}
