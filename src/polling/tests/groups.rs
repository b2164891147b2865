//! Groups of watches, and the event when all of a group are finished.

use serde_json::{Value, json};

use super::*;

impl Fixture {
    /// The data of each `group.completed`, in their order.
    async fn completed(&self) -> Vec<Value> {
        let filter = EventLogFilter::default();
        let page = self.store.events_after(None, 1_000, filter).await.unwrap();
        let events = page.events.iter();
        let completed = events.filter(|event| event.event_type == EventType::GroupCompleted);
        completed
            .map(|event| serde_json::from_str(event.data()).unwrap())
            .collect()
    }

    /// Group, round, outcome and operations of each `group.completed`.
    async fn rounds(&self) -> Vec<(String, u64, String, Vec<String>)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let completed = self.completed().await;
        let rounds = completed.iter().map(|data| {
            let operations = data["operations"].as_array().unwrap();
            let mut ids: Vec<_> = operations.iter().map(|of| text(&of["operationId"])).collect();
            ids.sort();
            assert_eq!(data["operationCount"], ids.len());
            let round = data["round"].as_u64().unwrap();
            (text(&data["group"]), round, text(&data["outcome"]), ids)
        });
        rounds.collect()
    }

    fn finish(&self, operations: &[&str]) {
        for operation in operations {
            self.script().play(operation, &[Act::Succeed]);
        }
    }

    /// The process ends at once: nothing more is written.
    async fn crash(self) -> Arc<Disk> {
        self.task.abort();
        let _ = self.task.await;
        self.disk
    }
}

fn round(group: &str, round: u64, outcome: &str, operations: &[&str]) -> (String, u64, String, Vec<String>) {
    let operations = operations.iter().map(|id| (*id).to_owned()).collect();
    (group.to_owned(), round, outcome.to_owned(), operations)
}

#[tokio::test(start_paused = true)]
async fn a_group_is_complete_when_all_are_finished_and_none_joined_for_a_while() {
    let fixture = Fixture::start();
    fixture.finish(&["a"]);
    fixture.script().play("b", &[Act::Count(10), Act::Succeed]);
    fixture
        .list("a group=acme team=crm\nb group=acme team=crm\nc\nd group=other\n")
        .await;
    pass(27).await;
    assert_eq!(fixture.completed().await, Vec::<Value>::new());
    pass(10).await;
    let expected = round("acme", 1, "succeeded", &["a", "b"]);
    assert_eq!(fixture.rounds().await, std::slice::from_ref(&expected));
    let data = &fixture.completed().await[0];
    assert_eq!(data["labels"], json!({"group": "acme", "team": "crm"}));
    assert_eq!(data["label"], "group");
    pass(3_600).await;
    // Who joins later belongs to the next round, and only that.
    fixture
        .list("a group=acme\nb group=acme\nc\nd group=other\ne group=acme\n")
        .await;
    pass(60).await;
    fixture.script().play("e", &[Act::Fail]);
    pass(60).await;
    let second = round("acme", 2, "failed", &["e"]);
    assert_eq!(fixture.rounds().await, [expected, second]);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_finished_before_is_not_reported() {
    let fixture = Fixture::start();
    fixture.finish(&["a", "b"]);
    fixture.list("a\nb\n").await;
    pass(60).await;
    // Labels of finished watches; operations that ended before the state existed.
    for old in ["old-1", "old-2", "mixed-1"] {
        fixture.script().play(old, &[Act::SucceedBefore]);
    }
    let list = "a group=acme\nb group=acme\nold-1 group=old\nold-2 group=old\nmixed-1 group=mixed\nmixed-2 group=mixed\n";
    fixture.list(list).await;
    pass(120).await;
    assert_eq!(fixture.completed().await, Vec::<Value>::new());
    fixture.finish(&["mixed-2", "old-3"]);
    fixture.list(&format!("{list}old-3 group=old\n")).await;
    pass(120).await;
    let mixed = round("mixed", 1, "succeeded", &["mixed-1", "mixed-2"]);
    let old = round("old", 1, "succeeded", &["old-3"]);
    let mut rounds = fixture.rounds().await;
    rounds.sort();
    assert_eq!(rounds, [mixed, old]);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_removed_or_has_another_label_does_not_count() {
    let fixture = Fixture::start();
    fixture.finish(&["a", "c", "e"]);
    fixture
        .list("a group=one\nb group=one\nc group=two\nd group=two\ne group=three\nf group=three\n")
        .await;
    pass(100).await;
    assert_eq!(fixture.completed().await, Vec::<Value>::new());
    fixture.list("a group=one\nb group=two\nc group=two\n").await;
    pass(100).await;
    assert_eq!(fixture.rounds().await, [round("one", 1, "succeeded", &["a"])]);
    fixture.finish(&["b"]);
    pass(100).await;
    let two = round("two", 1, "succeeded", &["b", "c"]);
    assert_eq!(fixture.rounds().await[1..], [two]);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_round_goes_on_after_a_restart_and_is_reported_once() {
    let list = "a group=acme\nb group=acme\n";
    let fixture = Fixture::start();
    fixture.finish(&["a"]);
    fixture.list(list).await;
    pass(100).await;
    let disk = fixture.crash().await;

    let fixture = Fixture::start_with(disk, |_| {});
    fixture.list(list).await;
    fixture.finish(&["b"]);
    pass(25).await;
    // All are finished, and it crashes before they are reported.
    assert_eq!(fixture.counts(), (2, 2));
    assert_eq!(fixture.completed().await, Vec::<Value>::new());
    let disk = fixture.crash().await;

    let fixture = Fixture::start_with(disk, |_| {});
    fixture.list(list).await;
    pass(60).await;
    let expected = [round("acme", 1, "succeeded", &["a", "b"])];
    assert_eq!(fixture.rounds().await, expected);
    let disk = fixture.crash().await;

    let fixture = Fixture::start_with(disk, |_| {});
    fixture.list(list).await;
    pass(100).await;
    assert_eq!(fixture.rounds().await, expected);
    // The number of the round was kept.
    fixture.finish(&["c"]);
    fixture.list(&format!("{list}c group=acme\n")).await;
    pass(100).await;
    assert_eq!(
        fixture.rounds().await[1..],
        [round("acme", 2, "succeeded", &["c"])]
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_round_that_cannot_be_recorded_is_recorded_later_as_it_was() {
    let list = "a group=acme\nb group=acme\n";
    for crashes in [false, true] {
        let fixture = Fixture::start();
        *fixture.disk.refuses.lock().unwrap() = Some("/group=acme");
        fixture.finish(&["a", "b"]);
        fixture.list(list).await;
        pass(60).await;
        assert_eq!(fixture.completed().await, Vec::<Value>::new());
        assert!(!fixture.is_finished(), "the event is outstanding");
        let fixture = if crashes {
            let disk = fixture.crash().await;
            Fixture::start_with(disk, |_| {})
        } else {
            fixture
        };
        *fixture.disk.refuses.lock().unwrap() = None;
        fixture.list(list).await;
        pass(60).await;
        assert_eq!(
            fixture.rounds().await,
            [round("acme", 1, "succeeded", &["a", "b"])]
        );
        assert!(fixture.is_finished());
        fixture.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_label_of_groups_may_change() {
    let fixture = Fixture::start();
    fixture.finish(&["a"]);
    fixture
        .list("a group=acme customer=gale\nb group=acme customer=gale\nc customer=hill\n")
        .await;
    pass(60).await;
    fixture.settings.send_modify(|settings| {
        Arc::make_mut(settings).groups = GroupSettings::new("customer", Duration::ZERO);
    });
    pass(60).await;
    assert_eq!(fixture.completed().await, Vec::<Value>::new());
    fixture.finish(&["b", "c"]);
    pass(60).await;
    let mut rounds = fixture.rounds().await;
    rounds.sort();
    // The other watch was finished before.
    let expected = ["gale", "hill"].map(|group| {
        let operation = if group == "gale" { "b" } else { "c" };
        round(group, 1, "succeeded", &[operation])
    });
    assert_eq!(rounds, expected);
    assert_eq!(fixture.completed().await[0]["label"], "customer");
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_groups_and_one_of_a_thousand_are_complete_once() {
    let ids: Vec<String> = (0..1_000).map(|number| format!("op-{number:04}")).collect();
    let fixture = Fixture::start();
    let mut list = String::new();
    for id in &ids {
        fixture.finish(&[id, &format!("one-{id}")]);
        list += &format!("{id} group={id}\none-{id} group=one\n");
    }
    fixture.list(&list).await;
    pass(100).await;
    let filter = EventLogFilter::default;
    let mut completed = std::collections::BTreeSet::new();
    let mut after = None;
    loop {
        let page = fixture.store.events_after(after, 1_000, filter()).await.unwrap();
        for event in &page.events {
            if event.event_type == EventType::GroupCompleted {
                let data: Value = serde_json::from_str(event.data()).unwrap();
                let count = data["operationCount"].as_u64().unwrap();
                let is_one = data["group"] == "one";
                assert_eq!(count, if is_one { 1_000 } else { 1 });
                assert!(completed.insert(data["group"].to_string()), "twice");
            }
        }
        if !page.more {
            break;
        }
        after = Some(page.next);
    }
    assert_eq!(completed.len(), 1_001);
    assert!(fixture.is_finished());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_waits_after_a_crash_for_an_object_that_was_just_added() {
    let fixture = Fixture::discovering(Arc::default());
    fixture.list("").await;
    fixture.backfill("acme", "contact", "op-1");
    pass(70).await;
    fixture.object("acme", "deal");
    // The next list has it.
    pass(62).await;
    let disk = fixture.crash().await;

    let fixture = Fixture::discovering(disk);
    fixture.finish(&["op-1"]);
    fixture.customers().refused_list = Some(server_error());
    fixture.list("").await;
    pass(600).await;
    assert_eq!(fixture.counts(), (1, 1));
    assert_eq!(fixture.completed().await, Vec::<Value>::new());
    fixture.customers().refused_list = None;
    fixture.backfill("acme", "contact", "op-1");
    fixture.backfill("acme", "deal", "op-2");
    fixture.finish(&["op-2"]);
    pass(200).await;
    let expected = round("group of acme", 1, "succeeded", &["op-1", "op-2"]);
    assert_eq!(fixture.rounds().await, [expected]);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_waits_after_a_start_for_the_first_list_unless_lists_fail() {
    let fixture = Fixture::discovering(Arc::default());
    fixture.list("").await;
    fixture.backfill("acme", "contact", "op-1");
    fixture.backfill("gale", "contact", "op-2");
    pass(70).await;
    let disk = fixture.crash().await;

    // An object was added while the daemon was down.
    let fixture = Fixture::discovering(disk);
    fixture.finish(&["op-1"]);
    fixture.customers().refused_list = Some(server_error());
    fixture.list("").await;
    pass(100).await;
    assert_eq!(fixture.counts(), (2, 1));
    fixture.customers().refused_list = None;
    fixture.backfill("acme", "contact", "op-1");
    fixture.backfill("gale", "contact", "op-2");
    fixture.object("acme", "deal");
    pass(200).await;
    assert_eq!(fixture.completed().await, Vec::<Value>::new());
    let disk = fixture.crash().await;

    let fixture = Fixture::discovering(disk);
    fixture.finish(&["op-1", "op-2"]);
    fixture.customers().refused_list = Some(server_error());
    fixture.list("").await;
    pass(100).await;
    assert_eq!(fixture.counts(), (2, 2));
    assert_eq!(fixture.completed().await, Vec::<Value>::new());
    pass(300).await;
    let expected = round("group of gale", 1, "succeeded", &["op-2"]);
    assert_eq!(fixture.rounds().await, [expected]);
    fixture.stop().await;
}

fn server_error() -> Answer {
    Answer::Failed(crate::core::answer::Failure {
        class: crate::core::answer::FailureClass::ServerError,
        reason: "502".to_owned(),
    })
}
