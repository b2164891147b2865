use super::*;

const RULES: WatchSettings = WatchSettings {
    stalled_after: Duration::from_mins(30),
    silent_after: None,
    unreachable_after: Duration::from_mins(5),
    not_found_grace: Duration::from_mins(2),
    give_up_after: None,
    active_statuses: Vec::new(),
    progress_step: 10.0,
    progress_interval: Duration::from_mins(1),
};

fn counts(processed: Option<u64>, total: Option<u64>) -> operation::Progress {
    operation::Progress {
        records_processed: processed,
        records_estimated_total: total,
        ..Default::default()
    }
}

fn observe_attempt(
    tracker: &mut ProgressTracker,
    seconds: u64,
    progress: &operation::Progress,
    attempt: RetryAttempt,
) -> CountChange {
    let observed_for = Duration::from_secs(seconds);
    tracker.add_time(observed_for);
    let context = ProgressContext {
        now: Timestamp::UNIX_EPOCH,
        observed_for,
        attempt,
        settings: &RULES,
    };
    tracker.observe(Some(progress), &context)
}

fn observe(tracker: &mut ProgressTracker, seconds: u64, processed: u64, total: Option<u64>) -> CountChange {
    observe_attempt(
        tracker,
        seconds,
        &counts(Some(processed), total),
        RetryAttempt::Same,
    )
}

fn report(tracker: &mut ProgressTracker) -> Option<String> {
    tracker.report(&RULES)
}

fn data(tracker: &ProgressTracker, phase: Phase) -> ProgressData {
    tracker.data(Timestamp::UNIX_EPOCH, phase).unwrap()
}

#[test]
fn percent_has_one_decimal_and_stays_below_100_until_success() {
    let mut tracker = ProgressTracker::default();
    for (count, percent) in [
        (0, 0.0),
        (1250, 25.0),
        (1666, 33.3),
        (4999, 99.9),
        (5000, 99.9),
        (6000, 99.9),
    ] {
        let _ = observe(&mut tracker, 10, count, Some(5000));
        let data = data(&tracker, Phase::Running);
        assert_eq!(data.percent, Some(percent), "{count}");
        assert_eq!(data.estimate_exceeded, count > 5000);
    }
    assert_eq!(data(&tracker, Phase::Succeeded).percent, Some(100.0));
}

#[test]
fn a_steady_count_gives_its_rate_and_its_end() {
    let mut tracker = ProgressTracker::default();
    for poll in 0..10 {
        let _ = observe(&mut tracker, 10, poll * 100, Some(2000));
    }
    let data = data(&tracker, Phase::Running);
    assert_eq!(data.records_per_second, Some(10.0));
    assert_eq!(
        data.estimated_end_time,
        Some(Timestamp::from_second(110).unwrap())
    );
    let forecast = tracker.forecast(Duration::ZERO, HistoryStatistics::NONE);
    assert!(forecast.ends_within(100.0) < 0.2 && forecast.ends_within(120.0) > 0.8);
}

#[test]
fn a_poll_without_the_operation_does_not_move_the_end() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 0, Some(2000));
    let _ = observe(&mut tracker, 10, 100, Some(2000));
    let end = data(&tracker, Phase::Running).estimated_end_time;
    tracker.add_time(Duration::from_secs(30));
    let later = tracker.data(Timestamp::from_second(30).unwrap(), Phase::Running);
    assert_eq!(later.unwrap().estimated_end_time, end);
}

#[test]
fn without_an_estimate_there_is_a_count_and_a_rate_and_no_percent() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 0, None);
    let _ = observe(&mut tracker, 10, 50, Some(0));
    let data = data(&tracker, Phase::Running);
    assert_eq!((data.percent, data.estimated_end_time), (None, None));
    assert_eq!(data.records_per_second, Some(5.0));
}

#[test]
fn two_counts_far_below_the_highest_are_a_restart() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 0, Some(100));
    let _ = observe(&mut tracker, 10, 90, Some(100));
    assert!(report(&mut tracker).is_some());
    assert_eq!(observe(&mut tracker, 10, 5, Some(100)), CountChange::Same);
    assert_eq!(data(&tracker, Phase::Running).records_processed, 90);
    assert_eq!(observe(&mut tracker, 10, 8, Some(100)), CountChange::Restarted);
    let shown = data(&tracker, Phase::Running);
    assert_eq!((shown.records_processed, shown.records_per_second), (8, None));
    let _ = observe(&mut tracker, 10, 25, Some(100));
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 1 percent 20"));
}

#[test]
fn one_count_far_below_the_highest_is_not() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 50, Some(100));
    assert!(report(&mut tracker).is_some());
    for _ in 0..3 {
        assert_eq!(observe(&mut tracker, 10, 0, Some(100)), CountChange::Same);
        assert_eq!(observe(&mut tracker, 10, 50, Some(100)), CountChange::Same);
        assert_eq!(report(&mut tracker), None);
    }
    assert_eq!(tracker.unchanged(), Duration::from_secs(60));
}

#[test]
fn a_count_that_lags_by_up_to_a_tenth_changes_nothing() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 1000, Some(2000));
    for count in [999, 900, 950, 900, 900, 1000] {
        assert_eq!(
            observe(&mut tracker, 10, count, Some(2000)),
            CountChange::Same,
            "{count}"
        );
        assert_eq!(data(&tracker, Phase::Running).records_processed, 1000);
    }
    assert_eq!(tracker.unchanged(), Duration::from_mins(1));
    assert_eq!(observe(&mut tracker, 10, 1001, Some(2000)), CountChange::Rose);
}

#[test]
fn a_new_attempt_restarts_the_count_at_once_and_does_not_reset_the_stall_clock() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 50, Some(100));
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 0 percent 50"));
    let _ = observe(&mut tracker, 10, 50, Some(100));
    let same = observe_attempt(&mut tracker, 10, &counts(Some(50), Some(100)), RetryAttempt::New);
    assert_eq!(
        (same, tracker.unchanged()),
        (CountChange::Same, Duration::from_secs(20))
    );
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 1 percent 50"));
    let fell = observe_attempt(&mut tracker, 10, &counts(Some(45), Some(100)), RetryAttempt::New);
    assert_eq!(
        (fell, tracker.unchanged()),
        (CountChange::Restarted, Duration::ZERO)
    );
}

#[test]
fn a_new_attempt_whose_count_comes_later_is_one_restart() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 90, Some(100));
    assert_eq!(
        observe_attempt(&mut tracker, 10, &counts(None, None), RetryAttempt::New),
        CountChange::None
    );
    assert_eq!(observe(&mut tracker, 10, 30, Some(100)), CountChange::Restarted);
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 1 percent 30"));
    let _ = observe(&mut tracker, 10, 40, Some(100));
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 1 percent 40"));
}

#[test]
fn a_missing_count_counts_as_unchanged() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 50, Some(100));
    for _ in 0..3 {
        assert_eq!(
            observe_attempt(&mut tracker, 10, &counts(None, None), RetryAttempt::Same),
            CountChange::None
        );
    }
    assert_eq!(tracker.unchanged(), Duration::from_secs(30));
    assert_eq!(data(&tracker, Phase::Running).percent, Some(50.0));
    assert_eq!(observe(&mut tracker, 10, 50, Some(100)), CountChange::Same);
}

#[test]
fn one_step_is_reported_once_and_the_highest_only() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 45, Some(100));
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 0 percent 40"));
    assert_eq!(report(&mut tracker), None);
    let _ = observe(&mut tracker, 10, 49, Some(100));
    assert_eq!(report(&mut tracker), None);
}

#[test]
fn without_an_estimate_progress_is_reported_once_an_interval_when_it_rose() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 45, None);
    assert_eq!(report(&mut tracker), None);
    let _ = observe(&mut tracker, 59, 46, None);
    assert_eq!(report(&mut tracker), None);
    let _ = observe(&mut tracker, 1, 46, None);
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 0 count 46"));
    let _ = observe(&mut tracker, 90, 46, None);
    assert_eq!(report(&mut tracker), None);
}

#[test]
fn beyond_its_estimate_progress_is_reported_once_an_interval() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 850, Some(1000));
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 0 percent 80"));
    let _ = observe(&mut tracker, 10, 1001, Some(1000));
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 0 percent 90"));
    let _ = observe(&mut tracker, 59, 1002, Some(1000));
    assert_eq!(report(&mut tracker), None);
    let _ = observe(&mut tracker, 1, 1003, Some(1000));
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 0 count 1003"));
    // A better estimate makes the percentage usable again, from what it is now.
    for count in [1100, 2500] {
        let _ = observe(&mut tracker, 60, count, Some(10_000));
    }
    assert_eq!(
        report(&mut tracker).as_deref(),
        Some("restart 0 lowered 1 percent 20")
    );
}

#[test]
fn a_corrected_estimate_continues_from_the_lower_percentage() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 900, Some(1000));
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 0 percent 90"));
    let _ = observe(&mut tracker, 10, 900, Some(10_000));
    assert_eq!(report(&mut tracker), None);
    let _ = observe(&mut tracker, 10, 1500, Some(10_000));
    assert_eq!(
        report(&mut tracker).as_deref(),
        Some("restart 0 lowered 1 percent 10")
    );
    let _ = observe(&mut tracker, 10, 9500, Some(10_000));
    assert_eq!(
        report(&mut tracker).as_deref(),
        Some("restart 0 lowered 1 percent 90")
    );
}

#[test]
fn an_estimate_that_alternates_reports_each_step_once() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 500, Some(1000));
    let mut reports: Vec<String> = report(&mut tracker).into_iter().collect();
    for poll in 0..20 {
        let total = if poll % 2 == 0 { 10_000 } else { 1000 };
        let _ = observe(&mut tracker, 10, 500, Some(total));
        reports.extend(report(&mut tracker));
    }
    assert_eq!(reports, ["restart 0 percent 50"]);
}

#[test]
fn an_estimate_that_is_missing_once_is_kept_and_one_that_left_is_not() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 50, Some(100));
    let _ = report(&mut tracker);
    for count in [51, 52, 53] {
        let _ = observe(&mut tracker, 60, count, None);
        let _ = observe(&mut tracker, 60, count, Some(100));
        assert_eq!(report(&mut tracker), None);
        assert_eq!(
            data(&tracker, Phase::Running).percent,
            Some(f64::from(count as u32))
        );
    }
    let _ = observe(&mut tracker, 60, 54, None);
    let _ = observe(&mut tracker, 60, 55, None);
    assert_eq!(data(&tracker, Phase::Running).percent, None);
    assert_eq!(report(&mut tracker).as_deref(), Some("restart 0 count 55"));
}

#[test]
fn a_rate_never_spans_a_restart_of_the_daemon() {
    let mut tracker = ProgressTracker::default();
    let _ = observe(&mut tracker, 10, 0, Some(100));
    let json = serde_json::to_string(&tracker).unwrap();
    let mut restored: ProgressTracker = serde_json::from_str(&json).unwrap();
    let _ = observe(&mut restored, 1, 90, Some(100));
    let count = restored
        .forecast(Duration::ZERO, HistoryStatistics::NONE)
        .count
        .unwrap();
    assert_eq!((count.part, count.speed), (0.9, 0.0));
}

#[test]
fn the_numbers_at_the_edges_overflow_nothing() {
    let mut tracker = ProgressTracker::default();
    for (count, total) in [(u64::MAX, Some(1)), (0, Some(u64::MAX)), (u64::MAX - 1, None)] {
        for _ in 0..3 {
            let _ = observe(&mut tracker, 1, count, total);
            let _ = report(&mut tracker);
        }
    }
    assert!(
        size_of::<ProgressTracker>() <= 144,
        "{} bytes",
        size_of::<ProgressTracker>()
    );
}
