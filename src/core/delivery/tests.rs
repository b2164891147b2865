use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn status(status: u16) -> AttemptOutcome {
    AttemptOutcome::Answered {
        status,
        retry_after: None,
    }
}

fn asks(status: u16, seconds: u64) -> AttemptOutcome {
    AttemptOutcome::Answered {
        status,
        retry_after: Some(Duration::from_secs(seconds)),
    }
}

fn ordinary(subject: &str, attempts: u32) -> AttemptedEvent<'_> {
    AttemptedEvent {
        subject,
        attempts,
        first_attempt: at(0),
        kind: AttemptKind::Ordinary,
    }
}

fn probe(subject: &str) -> AttemptedEvent<'_> {
    AttemptedEvent {
        kind: AttemptKind::Probe,
        ..ordinary(subject, 3)
    }
}

fn retry(seconds: u64) -> DeliveryDecision {
    DeliveryDecision::Retry {
        after: Duration::from_secs(seconds),
        counts: true,
    }
}

fn free(seconds: u64) -> DeliveryDecision {
    DeliveryDecision::Retry {
        after: Duration::from_secs(seconds),
        counts: false,
    }
}

/// An endpoint that accepted something a second ago.
fn working() -> EndpointHealth {
    let mut health = EndpointHealth::default();
    let (decision, change) = health.record_attempt(ordinary("other", 0), status(200), at(1), 0.5);
    assert_eq!((decision, change), (DeliveryDecision::Delivered, None));
    health
}

/// An endpoint that has just failed for the fifth time in a row.
fn failed_five_times() -> EndpointHealth {
    let mut health = working();
    for (n, subject) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let _ = health.record_attempt(ordinary(subject, 0), status(500), at(2), 0.5);
        assert_eq!(health.failures as usize, n + 1);
    }
    health
}

#[test]
fn the_waits_are_those_promised_and_then_comes_the_dead_letter() {
    const HOUR: u64 = 3600;
    let promised = [
        5,
        30,
        120,
        600,
        1800,
        2 * HOUR,
        5 * HOUR,
        10 * HOUR,
        14 * HOUR,
        20 * HOUR,
        24 * HOUR,
    ];
    for (attempts, seconds) in (0..).zip(promised) {
        for (random_fraction, factor) in [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2), (f64::NAN, 1.0), (7.0, 1.2)] {
            let (decision, _) =
                working().record_attempt(ordinary("a", attempts), status(500), at(2), random_fraction);
            let after = Duration::from_secs(seconds).mul_f64(factor);
            assert_eq!(
                decision,
                DeliveryDecision::Retry { after, counts: true },
                "{attempts} {random_fraction}"
            );
        }
    }
    for attempts in [11, 12, u32::MAX] {
        let (decision, _) = working().record_attempt(ordinary("a", attempts), status(500), at(2), 0.5);
        assert_eq!(decision, DeliveryDecision::Dead);
    }
}

#[test]
fn each_outcome_has_its_effect_on_the_event_and_the_endpoint() {
    let paused = SendPermit::Paused(Duration::from_secs(5));
    let open = SendPermit::Open;
    // AttemptOutcome, decision on a first attempt and on a fifth, what may be sent then.
    let table = [
        (
            status(200),
            DeliveryDecision::Delivered,
            DeliveryDecision::Delivered,
            open,
        ),
        (
            status(204),
            DeliveryDecision::Delivered,
            DeliveryDecision::Delivered,
            open,
        ),
        (
            status(299),
            DeliveryDecision::Delivered,
            DeliveryDecision::Delivered,
            open,
        ),
        (status(101), retry(5), retry(1800), open),
        (status(301), retry(5), retry(1800), open),
        (status(307), retry(5), retry(1800), open),
        (status(400), retry(5), DeliveryDecision::Dead, open),
        (status(401), retry(5), retry(1800), open),
        (status(403), retry(5), retry(1800), open),
        (status(404), retry(5), DeliveryDecision::Dead, open),
        (status(405), retry(5), DeliveryDecision::Dead, open),
        (status(408), retry(5), retry(1800), open),
        (status(409), retry(5), retry(1800), open),
        (status(410), free(0), free(0), SendPermit::Disabled),
        (status(413), retry(5), DeliveryDecision::Dead, open),
        (status(422), retry(5), DeliveryDecision::Dead, open),
        (status(429), retry(5), retry(1800), paused),
        (
            asks(429, 60),
            retry(60),
            retry(1800),
            SendPermit::Paused(Duration::from_secs(60)),
        ),
        (
            asks(429, 1_000_000_000),
            retry(86400),
            retry(86400),
            SendPermit::Paused(MAX_RETRY_AFTER),
        ),
        (asks(429, 1), retry(5), retry(1800), paused),
        (status(500), retry(5), retry(1800), open),
        (status(502), retry(5), retry(1800), paused),
        (status(503), retry(5), retry(1800), open),
        (asks(503, 3600), retry(3600), retry(3600), open),
        (status(504), retry(5), retry(1800), paused),
        (
            asks(504, 7),
            retry(7),
            retry(1800),
            SendPermit::Paused(Duration::from_secs(7)),
        ),
        (status(999), retry(5), retry(1800), open),
        (AttemptOutcome::TimedOut, retry(5), retry(1800), paused),
        (AttemptOutcome::NoAnswer, retry(5), retry(1800), open),
    ];
    for (outcome, first, fifth, permit) in table {
        for (attempts, decision) in [(0, first), (4, fifth)] {
            let mut health = working();
            assert_eq!(
                health
                    .record_attempt(ordinary("a", attempts), outcome, at(2), 0.5)
                    .0,
                decision,
                "{outcome:?}"
            );
            assert_eq!(health.permit(at(2)), permit, "{outcome:?}");
        }
    }
}

#[test]
fn a_refused_event_is_at_fault_only_while_the_endpoint_accepts_others() {
    let decision =
        |mut health: EndpointHealth| health.record_attempt(ordinary("a", 4), status(404), at(3), 0.5).0;
    assert_eq!(decision(working()), DeliveryDecision::Dead);
    // Nothing was accepted yet, or nothing since the event was tried first.
    assert_eq!(decision(EndpointHealth::default()), retry(1800));
    let mut stale = EndpointHealth::default();
    let _ = stale.record_attempt(ordinary("other", 0), status(200), at(-1), 0.5);
    assert_eq!(decision(stale), retry(1800));
    // The endpoint refuses everything: somebody removed its route.
    let mut all_refused = working();
    for subject in ["b", "c", "d", "e", "f"] {
        let _ = all_refused.record_attempt(ordinary(subject, 0), status(404), at(2), 0.5);
    }
    assert_eq!(decision(all_refused), retry(1800));
}

#[test]
fn one_refused_event_does_not_count_as_a_failing_endpoint() {
    let mut health = working();
    for attempts in 0..5 {
        let (_, change) = health.record_attempt(ordinary("a", attempts), status(422), at(2), 0.5);
        assert_eq!((change, health.permit(at(2))), (None, SendPermit::Open));
    }
}

#[test]
fn five_failures_in_a_row_lead_to_probes_that_cost_nothing() {
    let mut health = failed_five_times();
    let pauses = [5, 10, 20, 40, 60, 60];
    let mut now = 2;
    for seconds in pauses {
        assert_eq!(
            health.permit(at(now)),
            SendPermit::Paused(Duration::from_secs(seconds))
        );
        now += i64::try_from(seconds).unwrap();
        let before = at(now).checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(
            health.permit(before),
            SendPermit::Paused(Duration::from_millis(1))
        );
        assert_eq!(health.permit(at(now)), SendPermit::Probe);
        let (decision, _) = health.record_attempt(probe("a"), AttemptOutcome::NoAnswer, at(now), 0.5);
        assert_eq!(decision, free(0));
    }
    now += 60;
    assert_eq!(health.permit(at(now)), SendPermit::Probe);
    assert_eq!(
        health.record_attempt(probe("a"), status(204), at(now), 0.5),
        (DeliveryDecision::Delivered, Some(EndpointChange::Recovered))
    );
    assert_eq!(health.permit(at(now)), SendPermit::Open);
    // The next failure starts with the shortest pause again.
    let _ = health.record_attempt(ordinary("a", 0), AttemptOutcome::TimedOut, at(now), 0.5);
    assert_eq!(health.permit(at(now)), SendPermit::Paused(FIRST_PAUSE));
}

#[test]
fn a_probe_that_is_asked_to_wait_waits() {
    let mut health = failed_five_times();
    assert_eq!(
        health.record_attempt(probe("a"), asks(503, 900), at(8), 0.5).0,
        free(900)
    );
    assert_eq!(health.permit(at(8)), SendPermit::Paused(Duration::from_secs(900)));
}

#[test]
fn attempts_that_fail_together_are_one_pause_and_success_does_not_cut_it_short() {
    let mut health = working();
    for _ in 0..16 {
        let _ = health.record_attempt(ordinary("a", 0), AttemptOutcome::TimedOut, at(2), 0.5);
    }
    assert_eq!(health.permit(at(2)), SendPermit::Paused(FIRST_PAUSE));
    let _ = health.record_attempt(ordinary("b", 0), asks(429, 30), at(3), 0.5);
    let _ = health.record_attempt(ordinary("b", 0), status(200), at(4), 0.5);
    assert_eq!(health.permit(at(4)), SendPermit::Paused(Duration::from_secs(29)));
    assert_eq!(health.permit(at(33)), SendPermit::Open);
}

#[test]
fn a_clock_that_is_set_back_does_not_stretch_a_pause() {
    let mut health = working();
    let _ = health.record_attempt(ordinary("a", 0), asks(429, 30), at(2), 0.5);
    assert_eq!(
        health.permit(at(-100_000)),
        SendPermit::Paused(Duration::from_secs(30))
    );
    assert_eq!(
        health.permit(at(-99_971)),
        SendPermit::Paused(Duration::from_secs(1))
    );
    assert_eq!(health.permit(at(-99_970)), SendPermit::Open);
}

#[test]
fn gone_disables_until_a_reload() {
    let mut health = working();
    assert_eq!(
        health.record_attempt(ordinary("a", 11), status(410), at(2), 0.5),
        (free(0), Some(EndpointChange::Disabled))
    );
    // Attempts that were under way change nothing.
    assert_eq!(
        health.record_attempt(ordinary("b", 0), status(410), at(2), 0.5).1,
        None
    );
    let _ = health.record_attempt(ordinary("c", 0), status(200), at(2), 0.5);
    assert_eq!(health.permit(at(1_000_000)), SendPermit::Disabled);
    health.reload(EndpointTarget::Unchanged);
    assert_eq!(health.permit(at(2)), SendPermit::Open);
}

#[test]
fn a_reload_resets_failures_only_with_another_target() {
    let mut health = failed_five_times();
    health.reload(EndpointTarget::Unchanged);
    assert_eq!(health.permit(at(2)), SendPermit::Paused(FIRST_PAUSE));
    health.reload(EndpointTarget::Changed);
    assert_eq!(health.permit(at(2)), SendPermit::Open);
}

#[test]
fn failing_and_recovering_are_reported_once_and_flapping_is_not_reported_each_time() {
    let mut health = working();
    let mut change = |seconds: i64, outcome| {
        health
            .record_attempt(ordinary("a", 0), outcome, at(seconds), 0.5)
            .1
    };
    assert_eq!(change(100, status(500)), Some(EndpointChange::Failing));
    assert_eq!(change(101, status(500)), None);
    assert_eq!(change(102, status(200)), Some(EndpointChange::Recovered));
    assert_eq!(change(103, status(200)), None);
    assert_eq!(change(104, status(500)), None);
    assert_eq!(change(105, status(200)), None);
    assert_eq!(change(161, status(500)), None);
    assert_eq!(change(162, status(500)), Some(EndpointChange::Failing));
    assert_eq!(change(163, status(200)), Some(EndpointChange::Recovered));
    for _ in 0..4 {
        assert_eq!(change(164, status(500)), None);
    }
    assert_eq!(change(164, status(500)), Some(EndpointChange::Failing));
}

#[test]
fn probes_rotate() {
    let mut health = EndpointHealth::default();
    let mut waiting = vec!["a", "b", "c"];
    let mut turns = Vec::new();
    for _ in 0..6 {
        turns.push(waiting[health.choose_probe(waiting.iter().copied()).unwrap()]);
    }
    waiting.insert(0, "d");
    turns.push(waiting[health.choose_probe(waiting.iter().copied()).unwrap()]);
    assert_eq!(turns, ["a", "b", "c", "a", "b", "c", "d"]);
    assert_eq!(health.choose_probe([]), None);
    let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for _ in 0..200 {
        let _ = health.choose_probe(many.iter().map(String::as_str));
        assert!(health.probed.len() <= PROBED_REMEMBERED);
    }
}

fn any_outcome() -> impl Strategy<Value = AttemptOutcome> {
    prop_oneof![
        (
            prop_oneof![
                Just(200u16),
                Just(410),
                Just(429),
                Just(404),
                Just(500),
                any::<u16>()
            ],
            prop::option::of(any::<(u64, u32)>().prop_map(|(s, n)| Duration::new(s, n % 1_000_000_000)))
        )
            .prop_map(|(status, retry_after)| AttemptOutcome::Answered { status, retry_after }),
        Just(AttemptOutcome::TimedOut),
        Just(AttemptOutcome::NoAnswer),
    ]
}

proptest! {
    #[test]
    fn the_bounds_always_apply(
        steps in prop::collection::vec((any_outcome(), 0u32..14, 0usize..7, -100i64..4000, any::<f64>()), 0..80),
    ) {
        let mut health = EndpointHealth::default();
        let mut now = 0;
        let (mut row, mut disabled) = (0u32, false);
        for (outcome, attempts, subject, step, random_fraction) in steps {
            now += step;
            let subject = ["a", "b", "c", "d", "e", "f", "g"][subject];
            let kind = match health.permit(at(now)) {
                SendPermit::Probe => AttemptKind::Probe,
                SendPermit::Open | SendPermit::Paused(_) | SendPermit::Disabled => AttemptKind::Ordinary,
            };
            let tried = AttemptedEvent { subject, attempts, first_attempt: at(0), kind };
            let (decision, _) = health.record_attempt(tried, outcome, at(now), random_fraction);
            let success = matches!(outcome, AttemptOutcome::Answered { status: 200..=299, .. });
            let gone = matches!(outcome, AttemptOutcome::Answered { status: 410, .. });
            prop_assert_eq!(decision == DeliveryDecision::Delivered, success);
            disabled |= gone;
            row = if success { 0 } else if gone { row } else { row + 1 };
            match decision {
                DeliveryDecision::Delivered => {}
                DeliveryDecision::Dead => {
                    prop_assert!(kind == AttemptKind::Ordinary && attempts >= 4);
                }
                DeliveryDecision::Retry { after, counts } => {
                    prop_assert!(after <= MAX_RETRY_AFTER.mul_f64(1.0 + JITTER));
                    prop_assert_eq!(counts, kind == AttemptKind::Ordinary && !gone);
                    prop_assert!(!counts || attempts < 11);
                }
            }
            prop_assert!(health.refused.len() <= FAILURES_UNTIL_PROBED as usize);
            match health.permit(at(now)) {
                SendPermit::Disabled => prop_assert!(disabled),
                SendPermit::Paused(left) => prop_assert!(!disabled && !left.is_zero() && left <= MAX_RETRY_AFTER),
                SendPermit::Probe => prop_assert!(!disabled && row >= FAILURES_UNTIL_PROBED),
                SendPermit::Open => prop_assert!(!disabled && health.failures < FAILURES_UNTIL_PROBED),
            }
        }
    }
}
