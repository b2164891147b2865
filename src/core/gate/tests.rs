use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn limits(concurrent: usize, per_second: f64) -> RequestLimits {
    RequestLimits {
        concurrent,
        per_second,
    }
}

fn gate(concurrent: usize, per_second: f64) -> Gate<u32> {
    Gate::new(
        limits(concurrent, per_second),
        Restriction::default(),
        Duration::ZERO,
    )
}

fn paused(until: Duration) -> Restriction {
    Restriction {
        paused_until: Some(until),
        probing: None,
    }
}

fn probing(not_before: Duration) -> Restriction {
    Restriction {
        paused_until: None,
        probing: Some(CredentialsProbe { not_before }),
    }
}

fn requester(admission: Admission<u32>) -> Option<u32> {
    match admission {
        Admission::Admit(admitted) => Some(admitted.requester),
        _ => None,
    }
}

#[test]
fn requests_start_evenly_spaced_in_the_order_of_their_coming() {
    let mut gate = gate(10, 4.0);
    for requester in 0..3 {
        gate.join(requester, Duration::ZERO);
    }
    assert_eq!(requester(gate.admit(Duration::ZERO)), Some(0));
    assert_eq!(
        gate.admit(Duration::ZERO),
        Admission::WaitUntil(Duration::from_millis(250))
    );
    assert_eq!(requester(gate.admit(250 * MILLI)), Some(1));
    // A timer that fires late delays the next turn by nothing.
    assert_eq!(requester(gate.admit(530 * MILLI)), Some(2));
    gate.join(3, 530 * MILLI);
    assert_eq!(gate.admit(749 * MILLI), Admission::WaitUntil(750 * MILLI));
    assert_eq!(requester(gate.admit(750 * MILLI)), Some(3));
}

#[test]
fn background_requests_have_the_turns_that_are_left_and_one_in_ten() {
    let mut gate = gate(100, 1.0);
    for requester in 0..25 {
        gate.join(requester, Duration::ZERO);
        gate.join_with(Priority::Background, 100 + requester, Duration::ZERO);
    }
    let order: Vec<u32> = (0..50)
        .filter_map(|second| requester(gate.admit(second * SECOND)))
        .collect();
    let background: Vec<usize> = (0..50).filter(|turn| order[*turn] >= 100).collect();
    assert_eq!(background[..3], [9, 19, 27], "one in ten, then all that are left");
    assert_eq!(background.len(), 25);
    assert!(order.iter().filter(|requester| **requester < 100).is_sorted());
    assert!(order.iter().filter(|requester| **requester >= 100).is_sorted());
}

#[test]
fn background_requests_may_leave() {
    let mut gate = gate(100, 1.0);
    let ticket = gate.join_with(Priority::Background, 1, Duration::ZERO);
    gate.leave(ticket);
    assert_eq!(gate.admit(Duration::ZERO), Admission::Closed);
}

#[test]
fn idle_time_allows_no_burst() {
    let mut gate = gate(10, 10.0);
    gate.join(0, 60 * SECOND);
    gate.join(1, 60 * SECOND);
    assert_eq!(requester(gate.admit(60 * SECOND)), Some(0));
    assert_eq!(
        gate.admit(60 * SECOND),
        Admission::WaitUntil(60 * SECOND + 100 * MILLI)
    );
}

#[test]
fn slots_bound_what_is_in_flight_and_allow_no_burst_when_they_are_free_again() {
    let mut gate = gate(1, 100.0);
    for requester in 0..3 {
        gate.join(requester, Duration::ZERO);
    }
    assert_eq!(requester(gate.admit(Duration::ZERO)), Some(0));
    assert_eq!(gate.admit(SECOND), Admission::Closed);
    gate.release(Pass::Turn, SECOND);
    assert_eq!(requester(gate.admit(SECOND)), Some(1));
    gate.release(Pass::Turn, SECOND);
    assert_eq!(gate.admit(SECOND), Admission::WaitUntil(SECOND + 10 * MILLI));
}

#[test]
fn time_in_which_the_caller_let_nothing_through_is_not_caught_up() {
    let mut gate = gate(10, 10.0);
    for requester in 0..3 {
        gate.join(requester, Duration::ZERO);
    }
    assert_eq!(requester(gate.admit(Duration::ZERO)), Some(0));
    gate.reopen(140 * MILLI);
    assert_eq!(requester(gate.admit(140 * MILLI)), Some(1));
    assert_eq!(gate.admit(140 * MILLI), Admission::WaitUntil(240 * MILLI));
}

#[test]
fn nothing_starts_in_a_pause_and_the_pause_does_not_count_as_waiting() {
    let mut gate = gate(10, 1000.0);
    gate.join(0, Duration::ZERO);
    gate.set_restriction(paused(30 * SECOND), SECOND);
    assert_eq!(gate.admit(2 * SECOND), Admission::WaitUntil(30 * SECOND));
    assert_eq!(gate.blocked_time(5 * SECOND), 4 * SECOND);
    let admitted = Admitted {
        requester: 0,
        queued: SECOND,
    };
    assert_eq!(gate.admit(30 * SECOND), Admission::Admit(admitted));
    assert_eq!(gate.blocked_time(60 * SECOND), 29 * SECOND);
}

#[test]
fn probes_are_sent_one_at_a_time_and_not_before_their_time() {
    let mut gate = gate(10, 1000.0);
    gate.join(0, Duration::ZERO);
    gate.set_restriction(probing(2 * SECOND), SECOND);
    assert_eq!(gate.admit(SECOND), Admission::WaitUntil(2 * SECOND));
    assert_eq!(gate.admit(2 * SECOND), Admission::Probe);
    gate.start_probe(2 * SECOND);
    assert_eq!(gate.admit(3 * SECOND), Admission::Closed);
    gate.release(Pass::Probe, 3 * SECOND);
    assert_eq!(gate.admit(3 * SECOND), Admission::Probe);
    gate.set_restriction(Restriction::default(), 4 * SECOND);
    assert_eq!(requester(gate.admit(4 * SECOND)), Some(0));
    assert_eq!(gate.blocked_time(60 * SECOND), 3 * SECOND);
}

#[test]
fn other_limits_apply_at_once() {
    let mut gate = gate(1, 0.001);
    gate.join(0, Duration::ZERO);
    gate.join(1, Duration::ZERO);
    assert_eq!(requester(gate.admit(Duration::ZERO)), Some(0));
    gate.set_limits(limits(2, 10.0), SECOND);
    assert_eq!(gate.admit(SECOND), Admission::WaitUntil(SECOND + 100 * MILLI));
    assert_eq!(requester(gate.admit(SECOND + 100 * MILLI)), Some(1));
}

#[test]
fn what_is_repeated_comes_next() {
    let mut gate = gate(10, 1e6);
    for requester in 0..2 {
        gate.join(requester, Duration::ZERO);
    }
    gate.join_front(2, Duration::ZERO);
    for (expected, at) in [(2, 0), (0, 1), (1, 2)] {
        assert_eq!(requester(gate.admit(at * MILLI)), Some(expected));
    }
}

#[derive(Debug, Clone)]
enum GateEvent {
    Join,
    Leave(usize),
    Release(usize),
    Pass(u64),
    Pause(u64),
    Probe(u64),
    Open,
    RequestLimits(usize, u32),
}

fn gate_events() -> impl Strategy<Value = Vec<GateEvent>> {
    let event = prop_oneof![
        6 => Just(GateEvent::Join),
        1 => any::<usize>().prop_map(GateEvent::Leave),
        5 => any::<usize>().prop_map(GateEvent::Release),
        5 => (0_u64..2_000).prop_map(GateEvent::Pass),
        1 => (0_u64..5_000).prop_map(GateEvent::Pause),
        1 => (0_u64..5_000).prop_map(GateEvent::Probe),
        2 => Just(GateEvent::Open),
        1 => (1_usize..5, 1_u32..50).prop_map(|(concurrent, rate)| GateEvent::RequestLimits(concurrent, rate)),
    ];
    prop::collection::vec(event, 1..300)
}

proptest! {
    #[test]
    fn limits_are_kept_nobody_starves_and_the_order_is_kept(gate_events in gate_events()) {
        let mut gate = gate(3, 20.0);
        let mut now = Duration::ZERO;
        let mut joined = 0;
        let mut queue: VecDeque<(u32, Ticket)> = VecDeque::new();
        let mut in_flight: Vec<Pass> = Vec::new();
        let mut starts: Vec<Duration> = Vec::new();
        let mut restriction = Restriction::default();
        for event in gate_events {
            match event {
                GateEvent::Join => {
                    queue.push_back((joined, gate.join(joined, now)));
                    joined += 1;
                }
                GateEvent::Leave(nth) if !queue.is_empty() => {
                    let nth = nth % queue.len();
                    gate.leave(queue.remove(nth).unwrap().1);
                }
                GateEvent::Release(nth) if !in_flight.is_empty() => {
                    let nth = nth % in_flight.len();
                    gate.release(in_flight.remove(nth), now);
                }
                GateEvent::Pass(millis) => now += Duration::from_millis(millis),
                GateEvent::Pause(millis) => {
                    restriction = paused(now + Duration::from_millis(millis));
                    gate.set_restriction(restriction.clone(), now);
                }
                GateEvent::Probe(millis) => {
                    restriction = probing(now + Duration::from_millis(millis));
                    gate.set_restriction(restriction.clone(), now);
                }
                GateEvent::Open => {
                    restriction = Restriction::default();
                    gate.set_restriction(restriction.clone(), now);
                }
                GateEvent::RequestLimits(concurrent, rate) => {
                    gate.set_limits(limits(concurrent, f64::from(rate)), now);
                    starts.clear();
                }
                GateEvent::Leave(_) | GateEvent::Release(_) => {}
            }
            for _ in 0..100 {
                let before = now;
                match gate.admit(now) {
                    Admission::Admit(admitted) => {
                        prop_assert!(restriction.probing.is_none(), "a turn while probing");
                        prop_assert_eq!(Some(admitted.requester), queue.pop_front().map(|(requester, _)| requester));
                        in_flight.push(Pass::Turn);
                        starts.push(now);
                    }
                    Admission::Probe => {
                        prop_assert!(restriction.probing.as_ref().is_some_and(|probing| probing.not_before <= now));
                        gate.start_probe(now);
                        in_flight.push(Pass::Probe);
                        starts.push(now);
                    }
                    Admission::WaitUntil(until) => {
                        prop_assert!(until > now, "a wait for the past would be a busy loop");
                        if until > now + Duration::from_secs(1) {
                            break;
                        }
                        now = until;
                    }
                    Admission::Closed => {
                        let is_full = in_flight.len() >= gate.limits().concurrent;
                        let has_probe = in_flight.contains(&Pass::Probe);
                        prop_assert!(
                            is_full || queue.is_empty() || (has_probe && restriction.probing.is_some()),
                            "closed with free slots and a queue"
                        );
                        break;
                    }
                }
                if now == before {
                    prop_assert!(restriction.paused_until.is_none_or(|until| until <= now), "in a pause");
                    prop_assert!(in_flight.len() <= gate.limits().concurrent);
                    let probes = in_flight.iter().filter(|pass| **pass == Pass::Probe).count();
                    prop_assert!(probes <= 1);
                    // What starts within a second was due within it, but for what a late timer delays.
                    let window = SECOND + TIMER_DELAY;
                    let most = (gate.limits().per_second * window.as_secs_f64()).ceil() as usize + 1;
                    let recent = starts.iter().filter(|start| **start + SECOND > now).count();
                    prop_assert!(recent <= most, "{} starts within a second", recent);
                }
            }
            prop_assert_eq!(gate.waiting(), queue.len());
            prop_assert_eq!(gate.in_flight(), in_flight.len());
        }
        // With time and free slots, everything that waits gets its turn.
        gate.set_restriction(Restriction::default(), now);
        for _ in 0..10 * (queue.len() + in_flight.len() + 1) {
            for pass in in_flight.drain(..) {
                gate.release(pass, now);
            }
            match gate.admit(now) {
                Admission::Admit(admitted) => {
                    prop_assert_eq!(Some(admitted.requester), queue.pop_front().map(|(requester, _)| requester));
                    in_flight.push(Pass::Turn);
                }
                Admission::WaitUntil(until) => now = until,
                Admission::Probe | Admission::Closed => {}
            }
        }
        prop_assert!(queue.is_empty(), "{} starve", queue.len());
    }
}
