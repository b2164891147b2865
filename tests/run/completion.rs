//! From a line in the watch list to the ending event in the log and the exit code.

use std::time::Duration;

use backfill_watch::simulator::{
    SimulatedEstimate, SimulatedOperation, SimulatedOutcome, Simulator, SimulatorConfig,
};

use crate::support::{Log, LogLine, Setup, lines_of};

/// The largest difference between the start of a poll and the simulator's reading of its clock.
const TOLERANCE: Duration = Duration::from_millis(30);

/// Fifty operations of one to five seconds, each tenth of which fails.
pub fn fifty(simulator: &Simulator) -> Vec<SimulatedOperation> {
    let operations: Vec<SimulatedOperation> = (0..50)
        .map(|i| SimulatedOperation {
            outcome: if i % 10 == 3 {
                SimulatedOutcome::Failure
            } else {
                SimulatedOutcome::Success
            },
            ..SimulatedOperation::new(format!("op{i}"), Duration::from_millis(1_000 + i * 80), 10_000)
        })
        .collect();
    for operation in &operations {
        simulator.add_waiting(operation.clone());
    }
    operations
}

/// Every operation has one started and one ending event, in a gapless sequence, with its true status.
pub fn assert_reported_once(log: &Log, operations: &[SimulatedOperation]) {
    let reported = log.events_by_operation();
    assert_eq!(reported.len(), operations.len());
    for operation in operations {
        let events = &reported[&operation.id];
        let sequence: Vec<u64> = events
            .iter()
            .map(|event| event["sequence"].as_u64().unwrap())
            .collect();
        assert_eq!(sequence, (1..=events.len() as u64).collect::<Vec<_>>());
        let (first, last) = (&events[0], &events[events.len() - 1]);
        let (end, status, phase) = match operation.outcome {
            SimulatedOutcome::Success => ("operation.succeeded", "success", "succeeded"),
            SimulatedOutcome::Failure => ("operation.failed", "failure", "failed"),
            SimulatedOutcome::Other(_) => unreachable!("none of these tests"),
        };
        assert_eq!(last["event"], end);
        assert_eq!((&last["status"], &last["phase"]), (&status.into(), &phase.into()));
        // One whose first answered poll came after its end gets its ending event alone.
        if events.len() > 1 {
            assert_eq!(first["event"], "operation.started");
            assert_eq!(first["status"], "in_progress");
        }
        for between in events.iter().skip(1).rev().skip(1) {
            assert_eq!(between["event"], "operation.progress", "{between:?}");
        }
        for event in events {
            assert_eq!(event["project"], "my-project");
        }
    }
    let mut ids: Vec<String> = log
        .lines(|line| line["event"].is_string())
        .iter()
        .map(|line| line["event_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), reported.values().map(Vec::len).sum::<usize>());
}

fn step(percent: f64) -> u64 {
    (percent / 10.0) as u64
}

/// Each step of ten percent that a poll could observe was reported once.
fn assert_steps_reported(simulator: &Simulator, operation: &SimulatedOperation, events: &[LogLine]) {
    let reported: Vec<u64> = events
        .iter()
        .filter(|event| event["event"] == "operation.progress")
        .map(|event| {
            assert_eq!(
                (&event["phase"], &event["status"]),
                (&"running".into(), &"in_progress".into())
            );
            let percent = event["percent"].as_f64().unwrap();
            assert!((10.0..=99.9).contains(&percent), "{event:?}");
            step(percent)
        })
        .collect();
    assert!(
        reported.is_sorted_by(|before, after| before < after),
        "{reported:?}"
    );

    let polls = simulator.instants_of(&operation.id);
    let (mut seen, mut doubtful) = (Vec::new(), 0);
    for poll in &polls {
        let elapsed = *poll - polls[0];
        // A failing one comes no further than this.
        let whole = if operation.outcome == SimulatedOutcome::Success {
            100.0
        } else {
            70.0
        };
        let part = |elapsed: Duration| whole * elapsed.as_secs_f64() / operation.duration.as_secs_f64();
        let (now, soon) = (step(part(elapsed)), step(part(elapsed + TOLERANCE)));
        doubtful += usize::from(now != soon);
        if elapsed < operation.duration && now > seen.last().copied().unwrap_or(0) {
            seen.push(now);
        }
    }
    assert!(
        reported.len().abs_diff(seen.len()) <= doubtful,
        "{}: polls saw {seen:?}, reported was {reported:?}, {doubtful} polls at a border",
        operation.id
    );
}

#[tokio::test]
async fn every_start_step_and_end_of_fifty_operations_is_logged_exactly_once() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let operations = fifty(&simulator);
    let lines: Vec<String> = operations
        .iter()
        .map(|operation| format!("{} customer=acme", operation.id))
        .collect();
    let mut daemon = Setup::new(&simulator)
        .list(&lines)
        .arguments(&["--until-done"])
        .start();

    assert_eq!(daemon.exit_code().await, Some(1), "five of them fail");
    assert_reported_once(&daemon.log, &operations);
    let reported = daemon.log.events_by_operation();
    for operation in &operations {
        let events = &reported[&operation.id];
        assert_eq!(events[0]["event"], "operation.started");
        assert!(events.iter().all(|event| event["labels"] == "customer=acme"));
        assert_steps_reported(&simulator, operation, events);
        let end = &events[events.len() - 1];
        match operation.outcome {
            SimulatedOutcome::Success => {
                assert_eq!((&end["percent"], &end["level"]), (&100.0.into(), &"INFO".into()))
            }
            _ => {
                assert_eq!(end["level"], "ERROR");
                assert!(end["percent"].as_f64().unwrap() < 100.0);
                assert!(end["last_log"].is_string(), "{end:?}");
            }
        }
        assert!(
            end["result"].is_string() && end["duration_seconds"].is_number(),
            "{end:?}"
        );
    }
    assert_eq!(
        daemon.log.lines(|line| !line.is_object()).len(),
        0,
        "every line is JSON"
    );
}

#[tokio::test]
async fn until_done_exits_0_when_all_succeed() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let ids = ["op-300-100-s-a", "op-500-100-s-b", "op-0-100-s-c"];
    let mut daemon = Setup::new(&simulator)
        .list(&ids)
        .arguments(&["--until-done"])
        .start();
    assert_eq!(daemon.exit_code().await, Some(0));
    assert_eq!(daemon.log.count("operation.succeeded"), 3);
    let reported = daemon.log.events_by_operation();
    assert_eq!(
        reported["op-0-100-s-c"].len(),
        1,
        "finished when first polled: its ending event alone"
    );
    let finished = daemon
        .wait_for("the figures of the end", |line| {
            line["message"] == "all listed operations are finished"
        })
        .await;
    assert_eq!(
        (&finished["succeeded"], &finished["failed"]),
        (&3.into(), &0.into())
    );
}

#[tokio::test]
async fn until_done_exits_1_when_one_ended_otherwise() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    simulator.add(SimulatedOperation {
        outcome: SimulatedOutcome::Other("cancelled".to_owned()),
        ..SimulatedOperation::new("stopped", Duration::ZERO, 100)
    });
    let mut daemon = Setup::new(&simulator)
        .list(&["stopped", "op-100-100-s-a"])
        .arguments(&["--until-done"])
        .start();
    assert_eq!(daemon.exit_code().await, Some(1));
    let ended = daemon.event_of("stopped", "operation.ended").await;
    assert_eq!(
        (&ended["status"], &ended["phase"]),
        (&"cancelled".into(), &"ended".into())
    );
}

#[tokio::test]
async fn an_empty_list_is_done_and_a_missing_one_is_waited_for() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let nothing = Setup::new(&simulator)
        .list(&["# nothing yet", ""])
        .arguments(&["--until-done"]);
    assert_eq!(nothing.start().exit_code().await, Some(0));

    let mut daemon = Setup::new(&simulator).arguments(&["--until-done"]).start();
    let warning = daemon
        .wait_for("that the file is missing", |line| line["level"] == "WARN")
        .await;
    let list = daemon.list_path();
    assert_eq!(warning["file"], list.display().to_string());
    std::fs::write(list, lines_of(&["op-100-100-s-a"])).unwrap();
    assert_eq!(daemon.exit_code().await, Some(0));
    assert_eq!(daemon.log.count("operation.succeeded"), 1);
}

/// The numbers of the lines that were logged as rejected, in their order.
fn rejected_lines(log: &Log) -> Vec<u64> {
    let named = log.lines(|line| line["message"] == "line of the watch list rejected");
    named.iter().map(|line| line["line"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn until_done_exits_2_when_lines_were_rejected() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let start = |lines: &[&str]| {
        let setup = Setup::new(&simulator).list(lines);
        setup.arguments(&["--until-done"]).start()
    };
    let mut daemon = start(&["op/1 customer=acme", "customer=borealis op-2"]);
    assert_eq!(daemon.exit_code().await, Some(2));
    assert_eq!(
        rejected_lines(&daemon.log),
        [1, 2, 1, 2],
        "when found, and at the end"
    );
    let is_verdict = |line: &LogLine| line["message"] == "all listed operations are finished";
    assert_eq!(daemon.log.lines(is_verdict).len(), 0, "nothing was watched");

    let mut daemon = start(&["op-100-100-s-a", "op/2", "op-100-100-s-a"]);
    assert_eq!(daemon.exit_code().await, Some(2));
    assert_eq!(daemon.log.count("operation.succeeded"), 1);
    assert_eq!(rejected_lines(&daemon.log), [2, 2]);

    simulator.add(SimulatedOperation {
        outcome: SimulatedOutcome::Failure,
        ..SimulatedOperation::new("fails", Duration::ZERO, 100)
    });
    let mut daemon = start(&["fails", "op/2"]);
    assert_eq!(
        daemon.exit_code().await,
        Some(1),
        "a failure is what matters more"
    );

    let mut daemon = start(&["op-100-100-s-b", "op-100-100-s-b again=yes"]);
    assert_eq!(
        daemon.exit_code().await,
        Some(0),
        "a repeated line is not a rejected one"
    );
}

#[tokio::test]
async fn without_an_estimate_there_is_a_count_and_no_percent() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    simulator.add_waiting(SimulatedOperation {
        estimate: SimulatedEstimate::Missing,
        ..SimulatedOperation::new("unknown", Duration::from_secs(2), 1_000)
    });
    let mut daemon = Setup::new(&simulator)
        .set("poll.progress_interval", "200ms")
        .list(&["unknown"])
        .arguments(&["--until-done"])
        .start();
    assert_eq!(daemon.exit_code().await, Some(0));
    let reported = daemon.log.events_by_operation();
    let progress: Vec<&LogLine> = reported["unknown"]
        .iter()
        .filter(|event| event["event"] == "operation.progress")
        .collect();
    let counts: Vec<u64> = progress
        .iter()
        .map(|event| event["records_processed"].as_u64().unwrap())
        .collect();
    assert!(
        counts.len() > 2 && counts.is_sorted_by(|before, after| before < after),
        "{counts:?}"
    );
    assert!(progress.iter().all(|event| event["percent"].is_null()));
}

#[tokio::test]
async fn finished_operations_stay_finished_across_a_restart_and_the_others_continue() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = Setup::new(&simulator)
        .list(&["op-100-100-s-short", "op-600000-1000000-s-long"])
        .start();
    daemon.event_of("op-100-100-s-short", "operation.succeeded").await;
    daemon
        .event_of("op-600000-1000000-s-long", "operation.started")
        .await;
    let setup = daemon.stop().await;
    let asked = simulator.requests_of("op-100-100-s-short");
    let asked_long = simulator.requests_of("op-600000-1000000-s-long");

    let daemon = setup.start();
    crate::support::until("the long one is polled on", || {
        simulator.requests_of("op-600000-1000000-s-long") > asked_long + 2
    })
    .await;
    daemon.stop().await;
    assert_eq!(simulator.requests_of("op-100-100-s-short"), asked);
}
