//! Reads the event log with the command `events`, and checks its invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use serde_json::Value;

use crate::support::Setup;
use crate::verifying_receiver::VerifyingReceiver;

/// One event of the log, as JSON.
pub type Event = Value;

/// The whole log, oldest first.
pub async fn events(setup: &Setup) -> Vec<Event> {
    select(setup, &[]).await
}

/// What `events --json` answers to these arguments.
pub async fn select(setup: &Setup, arguments: &[&str]) -> Vec<Event> {
    let arguments = [arguments, &["--json"]].concat();
    parse(&setup.run_with("events", &arguments).await)
}

/// The lines of a successful `events --json`.
pub fn parse(output: &Output) -> Vec<Event> {
    assert!(output.status.success(), "{output:?}");
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The events of each operation, in the order of the log.
pub fn by_operation(events: &[Event]) -> BTreeMap<&str, Vec<&Event>> {
    let mut found: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        if let Some(operation) = event["data"]["operationId"].as_str() {
            found.entry(operation).or_default().push(event);
        }
    }
    found
}

/// The types of these events.
pub fn types<'e>(events: &[&'e Event]) -> Vec<&'e str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

/// No ID comes twice, and the sequence of each operation has no gap.
pub fn assert_gapless(events: &[Event]) {
    let ids: BTreeSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len(), "an ID came twice");
    for (operation, events) in by_operation(events) {
        for (event, sequence) in events.iter().zip(1_u64..) {
            assert_eq!(event["data"]["sequence"], sequence, "{operation}: {events:#?}");
        }
    }
}

/// Whether a later event of the same operation made it needless to deliver the event.
pub fn is_superseded(event: &Event, of_operation: &[&Event]) -> bool {
    const SUPERSEDE: [&str; 5] = ["progress", "succeeded", "failed", "ended", "gone"];
    let sequence = event["data"]["sequence"].as_u64();
    event["type"] == "operation.progress"
        && of_operation.iter().any(|other| {
            let name = other["type"].as_str().unwrap().trim_start_matches("operation.");
            SUPERSEDE.contains(&name) && other["data"]["sequence"].as_u64() > sequence
        })
}

/// The receiver accepted every event as it is in the log, superseded progress aside, and received nothing else.
/// Gives how many events were superseded and not received.
pub fn assert_delivered(events: &[Event], inbox: &VerifyingReceiver) -> usize {
    inbox.assert_verified_and_ordered();
    let known: BTreeMap<&str, &Event> = events
        .iter()
        .map(|event| (event["id"].as_str().unwrap(), event))
        .collect();
    let messages = inbox.messages();
    let mut accepted = BTreeSet::new();
    for message in &messages {
        let event = known[message.id.as_str()];
        assert_eq!(message.body["type"], event["type"]);
        assert_eq!(message.body["timestamp"], event["timestamp"]);
        assert_eq!(message.body["data"], event["data"]);
        if message.accepted {
            accepted.insert(message.id.as_str());
        }
    }
    let mut superseded = 0;
    for (operation, events) in by_operation(events) {
        for event in &events {
            if !accepted.contains(event["id"].as_str().unwrap()) {
                assert!(is_superseded(event, &events), "{operation} lacks {event:#}");
                superseded += 1;
            }
        }
    }
    superseded
}
