//! Whether the key is good, asked by a person.

use super::*;
use crate::ampersand::NO_OPERATION;
use crate::core::key_verdict::KeyVerdict;

#[tokio::test(start_paused = true)]
async fn one_request_answers_all_who_ask_and_disturbs_no_watch() {
    let fixture = Fixture::of("a").await;
    let project = &names()[0];
    let (first, second) = tokio::join!(fixture.board.check_key(project), fixture.board.check_key(project));
    assert_eq!(
        (first.unwrap(), second.unwrap()),
        (KeyVerdict::Good, KeyVerdict::Good)
    );
    assert_eq!(fixture.script().polls(NO_OPERATION).len(), 1);

    fixture.script().play(NO_OPERATION, &[Act::Unauthorized]);
    let rejected = fixture.board.check_key(project).await.unwrap();
    assert_eq!(rejected, KeyVerdict::Rejected("401".to_owned()));
    // A person's question is no poll: it neither rejects the credentials nor changes a schedule.
    pass(62).await;
    assert_eq!(fixture.script().gaps("a"), INTERVALS[..6]);
    assert!(!fixture.has_rejected_key());
    assert!(fixture.board.check_key(&Arc::from("nowhere")).await.is_err());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_waits_at_the_gate_and_one_that_panics_has_no_answer() {
    let fixture = Fixture::of("a").await;
    let project = &names()[0];
    let mut settings = PollingSettings::clone(&fixture.settings.borrow());
    settings.limits = RequestLimits {
        concurrent: 1,
        per_second: 1e6,
    };
    fixture.settings.send_replace(Arc::new(settings));
    fixture.script().play("a", &[Act::Hang]);
    pass(5).await;
    assert_eq!(fixture.script().in_flight(), 1);
    let asked = tokio::time::timeout(Duration::from_mins(1), fixture.board.check_key(project));
    assert!(asked.await.is_err());
    assert!(fixture.script().polls(NO_OPERATION).is_empty());
    fixture.stop().await;

    let fixture = Fixture::of("a").await;
    fixture.script().play(NO_OPERATION, &[Act::Panic]);
    assert!(fixture.board.check_key(project).await.is_err());
    assert_eq!(fixture.board.check_key(project).await, Ok(KeyVerdict::Good));
    fixture.stop().await;
}
