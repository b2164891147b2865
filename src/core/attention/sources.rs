//! Entries about the watch list and discovery.

use std::time::Duration;

use jiff::Timestamp;

use super::{Attention, AttentionKind};
use crate::core::discovery::DiscoveryFailure;
use crate::core::text;

/// The entry for a watch list that cannot be used.
#[must_use]
pub fn watch_list_unreadable(problem: &str) -> Attention {
    let message = format!("the watch list cannot be used: {problem}. The last good list stays active.");
    let action = "fix the file; it is read again automatically";
    Attention::new(AttentionKind::WatchListUnreadable, message, action)
}

/// The entry for lines that are skipped. `lines` is their number.
#[must_use]
pub fn watch_list_rejected_lines(lines: &str) -> Attention {
    let action = "run `backfill-watch check` to see each line and its error";
    let message = format!("{lines} and skipped");
    Attention::new(AttentionKind::WatchListRejectedLines, message, action)
}

/// The entry for a watch list that lost nearly all entries.
#[must_use]
pub fn watch_list_shrunk(entries: usize, since: Timestamp) -> Attention {
    let entries = text::count(entries as u64);
    let message = format!("the watch list lost nearly all entries; {entries} will be removed soon");
    let action = "restore the file; to remove them at once, run `backfill-watch reload` or send SIGHUP";
    Attention::new(AttentionKind::WatchListShrunk, message, action).since(Some(since))
}

/// The entry for what discovery cannot read.
#[must_use]
pub fn discovery_failure(failure: &DiscoveryFailure) -> Attention {
    let text = failure.text();
    let is_one = failure.objects.as_ref().is_some_and(|objects| objects.count == 1);
    let whose = if is_one { "Its" } else { "Their" };
    let (kind, message, action) = if failure.is_total() {
        (
            AttentionKind::DiscoveryFailing,
            format!(
                "discovery fails: {text}. New backfills are not found; those that were found are still polled."
            ),
            "check the network, the status of the API, and that the API key may read installations; it is retried \
             automatically",
        )
    } else {
        (
            AttentionKind::DiscoveryIncomplete,
            format!("{text}. {whose} new backfills are not found."),
            "check the installation in the Ampersand dashboard, and that the API key may read it; it is retried \
             automatically",
        )
    };
    Attention::new(kind, message, action).since(Some(failure.since))
}

/// The entry for discovery that cannot ask for all objects in time. `pass` is the time of one pass through all of them.
#[must_use]
pub fn discovery_over_capacity(objects: usize, installations: usize, pass: Duration) -> Attention {
    let message = format!(
        "asking for all {} objects of {} installations takes {:.1} h, more than 12 h. Backfills that end and start again in \
         between are missed.",
        text::count(objects as u64),
        text::count(installations as u64),
        pass.as_secs_f64() / 3600.0
    );
    let action = "raise ampersand.max_requests_per_second, or narrow the rules of [[discover]]";
    Attention::new(AttentionKind::DiscoveryOverCapacity, message, action)
}

/// The entry for a rule that matches no installation. `rule` is its position.
#[must_use]
pub fn discovery_matches_nothing(project: &str, rule: usize, installations: usize) -> Attention {
    let number = rule + 1;
    let installations = text::count(installations as u64);
    let message = format!(
        "rule {number} of [[discover]] for this project matches none of {installations} installations"
    );
    let action =
        "correct its integrations and groups, or remove it; `backfill-watch discover` shows what rules find";
    Attention::new(AttentionKind::DiscoveryMatchesNothing, message, action)
        .of_subject(format!("{project} rule {number}"))
}
