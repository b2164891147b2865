//! Whether the key is good, asked by a person.

use super::*;
use crate::ampersand::NO_OPERATION;
use crate::core::key_verdict::KeyVerdict;

#[tokio::test(start_paused = true)]
async fn one_request_answers_all_who_ask_and_disturbs_no_watch() {
    let bench = Bench::of("a").await;
    let project = &names()[0];
    let (first, second) = tokio::join!(bench.board.check_key(project), bench.board.check_key(project));
    assert_eq!(
        (first.unwrap(), second.unwrap()),
        (KeyVerdict::Good, KeyVerdict::Good)
    );
    assert_eq!(bench.script().polls(NO_OPERATION).len(), 1);

    bench.script().play(NO_OPERATION, &[Act::Unauthorized]);
    let rejected = bench.board.check_key(project).await.unwrap();
    assert_eq!(rejected, KeyVerdict::Rejected("401".to_owned()));
    // A person's question is no poll: it neither rejects the credentials nor changes a schedule.
    pass(62).await;
    assert_eq!(bench.script().gaps("a"), INTERVALS[..6]);
    assert!(!bench.has_rejected_key());
    assert!(bench.board.check_key(&Arc::from("nowhere")).await.is_err());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_waits_at_the_gate_and_one_that_panics_has_no_answer() {
    let bench = Bench::of("a").await;
    let project = &names()[0];
    let mut settings = PollingSettings::clone(&bench.settings.borrow());
    settings.limits = RequestLimits {
        concurrent: 1,
        per_second: 1e6,
    };
    bench.settings.send_replace(Arc::new(settings));
    bench.script().play("a", &[Act::Hang]);
    pass(5).await;
    assert_eq!(bench.script().in_flight(), 1);
    let asked = tokio::time::timeout(Duration::from_mins(1), bench.board.check_key(project));
    assert!(asked.await.is_err());
    assert!(bench.script().polls(NO_OPERATION).is_empty());
    bench.stop().await;

    let bench = Bench::of("a").await;
    bench.script().play(NO_OPERATION, &[Act::Panic]);
    assert!(bench.board.check_key(project).await.is_err());
    assert_eq!(bench.board.check_key(project).await, Ok(KeyVerdict::Good));
    bench.stop().await;
}
