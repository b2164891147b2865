//! The events of an operation that an endpoint has not received.

use super::*;

async fn undelivered(store: &Store, operation: &str) -> Vec<OperationDelivery> {
    store.undelivered(&key(operation), 1_000).await.unwrap()
}

/// As `endpoint sequence`.
fn names(deliveries: &[OperationDelivery]) -> Vec<String> {
    let name = |delivery: &OperationDelivery| format!("{} {}", delivery.endpoint, delivery.sequence);
    deliveries.iter().map(name).collect()
}

#[tokio::test]
async fn what_waits_and_what_is_dead_is_found_for_each_endpoint() {
    let store = Store::in_memory();
    store
        .sync_endpoints(vec![endpoint("a"), endpoint("b")], now())
        .await
        .unwrap();
    let events = [(EventType::Started, 1), (EventType::Failed, 2)];
    store.commit(&change("op", &events)).await.unwrap();
    store.commit(&change("another", &events)).await.unwrap();
    let found = undelivered(&store, "op").await;
    assert_eq!(names(&found), ["a 1", "b 1", "a 2", "b 2"]);
    assert_eq!(found[0].event_type, EventType::Started);
    assert_eq!(found[0].event_id, all_events(&store).await[0].id);
    assert_eq!(found[0].state, DeliveryState::Waiting { next_attempt: None });
    assert_eq!((found[0].attempts, found[0].last_attempt), (0, None));

    // What is delivered is not found; what is retried has its next attempt, and what is dead its last one.
    let of_op = async |name: &str| {
        let mut due = due(&store, name).await.into_iter();
        due.find(|delivery| delivery.subject == "p/op").unwrap().id
    };
    settle(&store, of_op("a").await, Settlement::Delivered).await;
    let at = Timestamp::from_second(now().as_second() + 600).unwrap();
    settle(&store, of_op("a").await, retry(at)).await;
    let error = "404 Not Found".to_owned();
    settle(
        &store,
        of_op("b").await,
        Settlement::Dead { error: error.clone() },
    )
    .await;
    let found = undelivered(&store, "op").await;
    assert_eq!(names(&found), ["b 1", "a 2", "b 2"]);
    assert_eq!(found[0].state, DeliveryState::DeadLetter);
    assert_eq!(
        (found[0].attempts, found[0].last_error.as_ref()),
        (1, Some(&error))
    );
    assert!(found[0].last_attempt.is_some());
    assert_eq!(
        found[1].state,
        DeliveryState::Waiting {
            next_attempt: Some(at)
        }
    );
    assert_eq!(found[1].last_error.as_deref(), Some("503"));
    assert!(found[1].last_attempt.is_some());

    // A removed endpoint keeps its deliveries, and is marked.
    store.sync_endpoints(vec![endpoint("a")], now()).await.unwrap();
    let found = undelivered(&store, "op").await;
    let removed: Vec<bool> = found
        .iter()
        .map(|delivery| delivery.is_endpoint_removed)
        .collect();
    assert_eq!(removed, [true, false, true]);
    assert_eq!(undelivered(&store, "unknown").await, []);
}

#[tokio::test]
async fn an_operation_of_another_project_is_another_one() {
    let store = with_endpoint("e").await;
    store
        .commit(&change("op", &[(EventType::Started, 1)]))
        .await
        .unwrap();
    let other = WatchKey {
        project: "q".into(),
        operation: "op".into(),
    };
    assert_eq!(store.undelivered(&other, 1_000).await.unwrap(), []);
    let of_project = async |project: &str| {
        let filter = EventLogFilter {
            operation: Some("op".into()),
            project: Some(project.into()),
            types: None,
        };
        store.events_after(None, 10, filter).await.unwrap().events.len()
    };
    assert_eq!((of_project("p").await, of_project("q").await), (1, 0));
}

#[tokio::test]
async fn a_long_log_is_read_in_parts() {
    let store = with_endpoint("e").await;
    let events: Vec<(EventType, u64)> = (1..=2_500).map(|number| (EventType::Retried, number)).collect();
    store.commit(&change("op", &events)).await.unwrap();
    let found = undelivered(&store, "op").await;
    assert_eq!(found.len(), 1_000, "no more than asked for");
    assert_eq!((found[0].sequence, found[999].sequence), (1, 1_000));
    let all = store.undelivered(&key("op"), 10_000).await.unwrap();
    let sequences: Vec<u64> = all.iter().map(|delivery| delivery.sequence).collect();
    assert_eq!(sequences, (1..=2_500).collect::<Vec<_>>());
}
