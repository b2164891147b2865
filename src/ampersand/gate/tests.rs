//! The gate on time that stands still unless somebody sleeps.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use crate::core::project::Probing;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn gate(concurrent: usize, per_second: f64) -> Arc<Gate> {
    let limits = Limits {
        concurrent,
        per_second,
    };
    Arc::new(Gate::new(limits, clock::instant(), Arc::default()))
}

fn paused(until: Duration) -> Hold {
    Hold {
        paused_until: Some(until),
        probing: None,
    }
}

fn probing(not_before: Duration, doubted_by: Option<&str>) -> Hold {
    Hold {
        paused_until: None,
        probing: Some(Probing {
            not_before,
            doubted_by: doubted_by.map(Arc::from),
        }),
    }
}

/// Comers that pass the gate one after the other and stay inside for a while.
#[derive(Default)]
struct Crowd {
    tasks: JoinSet<()>,
    passed: Arc<Mutex<Vec<(usize, Duration, bool)>>>,
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Crowd {
    /// The next comer; it has queued up when this returns.
    async fn come(&mut self, gate: &Arc<Gate>, number: usize, stay: Duration) {
        let (gate, passed) = (Arc::clone(gate), Arc::clone(&self.passed));
        let (inside, most) = (Arc::clone(&self.inside), Arc::clone(&self.most));
        self.tasks.spawn(async move {
            let permit = gate.admit(&format!("op{number}")).await;
            let at = clock::instant() - gate.start;
            passed.lock().unwrap().push((number, at, permit.is_probe()));
            most.fetch_max(inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(stay).await;
            inside.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
        settle().await;
    }

    fn numbers(&self) -> Vec<usize> {
        self.passed
            .lock()
            .unwrap()
            .iter()
            .map(|(number, ..)| *number)
            .collect()
    }

    fn times(&self) -> Vec<Duration> {
        self.passed.lock().unwrap().iter().map(|(_, at, _)| *at).collect()
    }

    fn probes(&self) -> Vec<bool> {
        self.passed
            .lock()
            .unwrap()
            .iter()
            .map(|(.., probe)| *probe)
            .collect()
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    async fn all(&mut self) {
        while let Some(joined) = self.tasks.join_next().await {
            joined.unwrap();
        }
    }
}

/// Lets every task go on until it waits, without time passing.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Lets everybody take their turn: however close turns are, their timers fire at a whole millisecond.
async fn turns() {
    tokio::time::sleep(10 * MILLISECOND).await;
}

/// A moment, give or take what turns and timers cost.
#[track_caller]
fn assert_about(at: Duration, expected: Duration) {
    assert!(
        at >= expected && at <= expected + 2 * MILLISECOND,
        "{at:?}, not {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn never_more_are_in_flight_than_allowed_and_whoever_came_first_goes_first() {
    let gate = gate(3, 1e9);
    let mut crowd = Crowd::default();
    for number in 0..30 {
        crowd.come(&gate, number, SECOND).await;
    }
    crowd.all().await;
    assert_eq!(crowd.most(), 3);
    assert_eq!(crowd.numbers(), (0..30).collect::<Vec<_>>());
    assert_about(crowd.times()[29], 9 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn whoever_meets_the_reason_for_a_pause_is_behind_all_others_after_it() {
    let gate = gate(2, 100.0);
    gate.set_hold(paused(SECOND));
    let passed = Arc::new(Mutex::new(Vec::new()));
    let mut pollers = JoinSet::new();
    for number in 0..5 {
        let (gate, passed) = (Arc::clone(&gate), Arc::clone(&passed));
        pollers.spawn(async move {
            loop {
                let permit = gate.admit(&format!("op{number}")).await;
                passed.lock().unwrap().push(number);
                gate.set_hold(paused(clock::instant() - gate.start + SECOND));
                drop(permit);
            }
        });
        settle().await;
    }
    tokio::time::sleep(15 * SECOND).await;
    let passed = passed.lock().unwrap();
    assert_eq!(passed[..10], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn in_no_second_do_more_pass_than_allowed() {
    let gate = gate(100, 10.0);
    let mut crowd = Crowd::default();
    for number in 0..50 {
        crowd.come(&gate, number, MILLISECOND).await;
    }
    crowd.all().await;
    let times = crowd.times();
    for (index, from) in times.iter().enumerate() {
        let within = times[index..].iter().filter(|at| **at < *from + SECOND).count();
        assert!(within <= 10, "{within} within the second from {from:?}");
    }
    assert_about(times[49], 49 * SECOND / 10);

    // Quiet time is not saved up for a burst.
    tokio::time::sleep(10 * SECOND).await;
    let quiet_until = clock::instant() - gate.start;
    let mut crowd = Crowd::default();
    for number in 0..11 {
        crowd.come(&gate, number, MILLISECOND).await;
    }
    crowd.all().await;
    assert_about(crowd.times()[10], quiet_until + SECOND);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_the_queue_holds_up_nobody() {
    let gate = gate(1, 1e9);
    let inside = gate.admit("a").await;
    let mut waiting = Box::pin(gate.admit("b"));
    assert!(futures_ready(&mut waiting).await.is_none());
    let mut crowd = Crowd::default();
    crowd.come(&gate, 0, SECOND).await;
    drop(waiting);
    drop(inside);
    crowd.all().await;
    assert_eq!(crowd.numbers(), [0]);
}

/// What a future is ready with now.
async fn futures_ready<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        ready = future => Some(ready),
        () = std::future::ready(()) => None,
    }
}

/// Timers fire at whole milliseconds, which must not lower a rate of more than one in that time.
#[tokio::test(start_paused = true)]
async fn whoever_waits_gets_as_many_turns_as_are_allowed() {
    let gate = gate(10_000, 2_000.0);
    let mut crowd = Crowd::default();
    gate.set_hold(paused(SECOND));
    for number in 0..4_001 {
        crowd.come(&gate, number, Duration::ZERO).await;
    }
    crowd.all().await;
    assert_about(crowd.times()[4_000], 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn limits_change_while_it_works() {
    let gate = gate(4, 1e9);
    let mut crowd = Crowd::default();
    let set = |concurrent| {
        gate.set_limits(Limits {
            concurrent,
            per_second: 1e9,
        });
    };
    for number in 0..4 {
        crowd.come(&gate, number, SECOND).await;
    }
    turns().await;
    set(1);
    for number in 4..8 {
        crowd.come(&gate, number, SECOND).await;
    }
    assert_eq!(crowd.numbers().len(), 4, "those in flight are not disturbed");
    tokio::time::sleep(3 * SECOND / 2).await;
    assert_eq!(crowd.inside.load(Ordering::Relaxed), 1);
    set(3);
    turns().await;
    assert_eq!(crowd.inside.load(Ordering::Relaxed), 3);
    // Lowered and raised again before any slot came back: as if nothing had been.
    set(1);
    set(3);
    crowd.all().await;
    assert_eq!(crowd.numbers(), (0..8).collect::<Vec<_>>());
    let mut crowd = Crowd::default();
    for number in 0..9 {
        crowd.come(&gate, number, SECOND).await;
    }
    crowd.all().await;
    assert_eq!(crowd.most(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_everybody_until_its_end_and_is_not_waiting_in_the_queue() {
    let gate = gate(10, 1e9);
    gate.set_hold(paused(5 * SECOND));
    let mut waiting = Box::pin(gate.admit("a"));
    assert!(futures_ready(&mut waiting).await.is_none());
    tokio::time::advance(5 * SECOND - MILLISECOND).await;
    assert!(futures_ready(&mut waiting).await.is_none());
    let permit = waiting.await;
    assert_about(clock::instant() - gate.start, 5 * SECOND);
    assert_about(permit.held, 5 * SECOND);
    assert!(permit.queued <= MILLISECOND && !permit.is_probe());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_lengthened_or_lifted_is_seen_by_whoever_waits() {
    let gate = gate(10, 1e9);
    let mut crowd = Crowd::default();
    gate.set_hold(paused(5 * SECOND));
    crowd.come(&gate, 0, SECOND).await;
    tokio::time::sleep(SECOND).await;
    gate.set_hold(paused(9 * SECOND));
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(crowd.numbers(), [0; 0]);
    gate.set_hold(Hold::default());
    crowd.all().await;
    assert_about(crowd.times()[0], 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_comes_while_somebody_stands_in_the_queue_holds_it_too() {
    let gate = gate(1, 1e9);
    let inside = gate.admit("a").await;
    let mut crowd = Crowd::default();
    crowd.come(&gate, 0, SECOND).await;
    gate.set_hold(paused(5 * SECOND));
    drop(inside);
    crowd.all().await;
    assert_about(crowd.times()[0], 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn probes_go_out_one_at_a_time_and_in_turn() {
    let gate = gate(10, 1e9);
    gate.set_hold(probing(SECOND, None));
    let mut crowd = Crowd::default();
    for number in 0..3 {
        // Longer under way than the next probe is put off.
        crowd.come(&gate, number, 3 * SECOND).await;
    }
    tokio::time::sleep(2 * SECOND).await;
    gate.set_hold(probing(2 * SECOND, None));
    crowd.all().await;
    assert_eq!(crowd.most(), 1);
    assert_eq!(crowd.numbers(), [0, 1, 2]);
    assert_eq!(crowd.probes(), [true; 3]);
    assert_about(crowd.times()[0], SECOND);
    assert_about(crowd.times()[1], 4 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn when_the_probe_is_answered_everybody_passes() {
    let gate = gate(10, 1e9);
    gate.set_hold(probing(SECOND, None));
    let mut crowd = Crowd::default();
    for number in 0..5 {
        crowd.come(&gate, number, 3 * SECOND).await;
    }
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(crowd.numbers(), [0]);
    gate.set_hold(Hold::default());
    turns().await;
    assert_eq!(crowd.numbers().len(), 5);
    assert_eq!(crowd.probes(), [true, false, false, false, false]);
    crowd.all().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_raised_the_doubt_does_not_probe() {
    let gate = gate(10, 1e9);
    gate.set_hold(probing(Duration::ZERO, Some("op0")));
    let mut crowd = Crowd::default();
    crowd.come(&gate, 0, SECOND).await;
    crowd.come(&gate, 1, SECOND).await;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(crowd.numbers(), [1]);
    let mut resolved = Box::pin(gate.doubt_resolved("op0"));
    assert!(futures_ready(&mut resolved).await.is_none());
    assert!(
        futures_ready(&mut Box::pin(gate.doubt_resolved("op1")))
            .await
            .is_some()
    );
    gate.set_hold(Hold::default());
    resolved.await;
    crowd.all().await;
    assert_eq!(crowd.numbers(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn one_sleeper_is_called_when_probes_are_wanted() {
    let gate = gate(10, 1e9);
    gate.set_hold(paused(SECOND));
    assert!(!gate.is_calling(), "a pause calls nobody");
    gate.set_hold(probing(SECOND, None));
    assert!(gate.is_calling());
    assert_eq!(futures_ready(&mut Box::pin(gate.bell.notified())).await, Some(()));
    assert_eq!([gate.answer_call(), gate.answer_call()], [true, false]);
    gate.set_hold(probing(2 * SECOND, None));
    gate.set_hold(Hold::default());
    assert!(
        gate.is_calling() && !gate.answer_call(),
        "there is nothing to probe any more"
    );
}
