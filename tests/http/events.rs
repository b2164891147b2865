//! The event log and the event stream.

use std::collections::BTreeMap;

use reqwest::Response;
use serde_json::Value;

use crate::fixture::{Fixture, problem};
use crate::support::DEADLINE;

/// One message of the stream.
#[derive(Debug, Default)]
struct Message {
    event: String,
    id: Option<String>,
    data: Value,
}

/// The messages of an event stream.
struct Stream {
    answer: Response,
    buffer: String,
    /// What a browser would send when it comes back.
    last_id: Option<String>,
}

impl Stream {
    async fn open(fixture: &Fixture, last_id: Option<&str>) -> Self {
        let mut request = fixture.client.get(fixture.url("/api/events/stream"));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        Self {
            answer,
            buffer: String::new(),
            last_id: None,
        }
    }

    /// The next message; what has no event name, such as the first ID alone, is kept in `last_id`.
    async fn next(&mut self) -> Message {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let mut message = Message::default();
                for line in block.lines() {
                    match line.split_once(": ").unwrap() {
                        ("event", event) => event.clone_into(&mut message.event),
                        ("id", id) => message.id = Some(id.to_owned()),
                        ("data", data) => message.data = serde_json::from_str(data).unwrap(),
                        ("retry", _) => {}
                        other => panic!("{other:?}"),
                    }
                }
                self.buffer = rest.to_owned();
                if message.id.is_some() {
                    self.last_id.clone_from(&message.id);
                }
                if !message.event.is_empty() {
                    return message;
                }
                continue;
            }
            let chunk = tokio::time::timeout(DEADLINE, self.answer.chunk()).await;
            let chunk = chunk
                .expect("the stream goes on")
                .unwrap()
                .expect("it does not end");
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Message) -> bool) -> Message {
        loop {
            let message = self.next().await;
            if wanted(&message) {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn the_log_is_read_by_pages_and_the_stream_resumes_anywhere() {
    let lines: Vec<String> = (0..8)
        .map(|n| format!("op-{}-1000-s-{n}", 400 + n * 50))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let fixture = Fixture::start(&lines).await;
    for id in &lines {
        fixture.phase(id, "succeeded").await;
    }

    let mut events = Vec::new();
    let mut path = "/api/events?limit=5".to_owned();
    loop {
        let page = fixture.json(&path).await;
        let of_page = page["events"].as_array().unwrap();
        if of_page.is_empty() {
            break;
        }
        events.extend(of_page.clone());
        path = format!("/api/events?limit=5&after={}", page["next"].as_str().unwrap());
    }
    let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in &events {
        assert!(event["id"].as_str().unwrap().starts_with("evt_"));
        assert!(event["timestamp"].is_string() && event["type"].is_string());
        let operation = event["data"]["operationId"].as_str().unwrap().to_owned();
        let sequence = event["data"]["sequence"].as_u64().unwrap();
        sequences.entry(operation).or_default().push(sequence);
    }
    assert_eq!(sequences.len(), lines.len());
    for (operation, found) in &sequences {
        let wanted: Vec<u64> = (1..=found.len() as u64).collect();
        assert_eq!(*found, wanted, "{operation}");
    }

    let found = async |query: &str| {
        let page = fixture.json(&format!("/api/events?{query}")).await;
        page["events"].as_array().unwrap().clone()
    };
    let of_one = found("operation=my-project/op-400-1000-s-0").await;
    let operations: Vec<&Value> = of_one.iter().map(|event| &event["data"]["operationId"]).collect();
    assert_eq!(operations.len(), sequences["op-400-1000-s-0"].len());
    assert!(
        operations.iter().all(|id| **id == "op-400-1000-s-0"),
        "{operations:?}"
    );
    assert_eq!(
        found("operation=my-project%2Fop-400-1000-s-0&type=operation.s*")
            .await
            .len(),
        2
    );
    assert_eq!(
        found("type=operation.started,operation.succeeded").await.len(),
        16
    );
    assert_eq!(found("operation=other/op-400-1000-s-0").await.len(), 0);

    // From any event on, the stream sends exactly those after it.
    for start in [0, events.len() / 2, events.len() - 2] {
        let cursor = events[start]["cursor"].as_str().unwrap();
        let mut stream = Stream::open(&fixture, Some(cursor)).await;
        for event in &events[start + 1..] {
            let reported = stream.until(|message| message.event != "snapshot").await;
            assert_eq!(reported.id.as_deref(), event["cursor"].as_str());
            assert_eq!(reported.event, event["type"].as_str().unwrap());
            assert_eq!(reported.data, *event);
        }
    }
}

#[tokio::test]
async fn events_and_snapshots_come_as_they_happen() {
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    fixture.phase("op-600000-5000-s-1", "running").await;
    let mut stream = Stream::open(&fixture, None).await;
    let first = stream.next().await;
    assert_eq!(first.event, "snapshot");
    assert_eq!(first.data["phases"]["running"], 1);
    assert_eq!(first.data["projects"][0]["reachable"], true);
    let changed = stream
        .until(|message| message.event == "snapshot" && message.data["operations"][0].is_object())
        .await;
    assert_eq!(changed.id, None);
    assert_eq!(changed.data["operations"][0]["operationId"], "op-600000-5000-s-1");

    std::fs::write(fixture.daemon.list_path(), "op-300-100-s-2 customer=acme\n").unwrap();
    let mut removed = false;
    let mut succeeded = None;
    let mut started = false;
    while !(removed && succeeded.is_some()) {
        let message = stream.next().await;
        let data = &message.data;
        match message.event.as_str() {
            "snapshot" => removed |= data["removed"][0]["operationId"] == "op-600000-5000-s-1",
            "operation.started" => started |= data["data"]["operationId"] == "op-300-100-s-2",
            "operation.succeeded" => succeeded = message.id.clone(),
            _ => {}
        }
    }
    assert!(started);

    // The stream continues from a cursor: a reader that returns misses nothing and gets nothing twice.
    let mut back = Stream::open(&fixture, succeeded.as_deref()).await;
    std::fs::write(fixture.daemon.list_path(), "op-300-100-s-3\n").unwrap();
    let next = back.until(|message| message.event != "snapshot").await;
    assert_eq!(next.data["data"]["operationId"], "op-300-100-s-3");
}

#[tokio::test]
async fn a_connection_that_breaks_before_its_first_event_misses_nothing() {
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    fixture.phase("op-600000-5000-s-1", "running").await;
    let mut stream = Stream::open(&fixture, None).await;
    assert_eq!(stream.next().await.event, "snapshot");
    let id = stream.last_id.clone().expect("the first bytes have an ID");
    drop(stream);
    // What happens while nobody is connected.
    std::fs::write(fixture.daemon.list_path(), "op-200-100-s-2\n").unwrap();
    fixture.phase("op-200-100-s-2", "succeeded").await;

    let mut back = Stream::open(&fixture, Some(&id)).await;
    let mut types = Vec::new();
    while types.last().is_none_or(|last| last != "operation.succeeded") {
        let message = back.until(|message| message.event != "snapshot").await;
        assert_eq!(message.data["data"]["operationId"], "op-200-100-s-2");
        types.push(message.event);
    }
    assert_eq!(types[0], "operation.started");
    // A client that comes back before its first event is still at the same place.
    let mut again = Stream::open(&fixture, Some(&id)).await;
    again.next().await;
    assert_eq!(again.last_id, Some(id));
}

#[tokio::test]
async fn invalid_cursors_are_refused() {
    let fixture = Fixture::start(&["op-200-100-s-1"]).await;
    fixture.phase("op-200-100-s-1", "succeeded").await;
    for path in ["/api/events", "/api/events/stream"] {
        problem(fixture.get(&format!("{path}?after=nonsense")).await, 400).await;
        problem(
            fixture.get(&format!("{path}?after=0123456789abcdef-1")).await,
            410,
        )
        .await;
        problem(fixture.get(&format!("{path}?before=1")).await, 400).await;
    }
    for wrong in [
        "limit=0",
        "operation=op-200-100-s-1",
        "operation=/x",
        "operation=p/",
        "type=operation.suceeded",
    ] {
        problem(fixture.get(&format!("/api/events?{wrong}")).await, 400).await;
    }
    for (id, status) in [("nonsense", 400), ("0123456789abcdef-1", 410)] {
        let request = fixture
            .client
            .get(fixture.url("/api/events/stream"))
            .header("last-event-id", id);
        problem(request.send().await.unwrap(), status).await;
    }
}

#[tokio::test]
async fn a_stop_ends_the_streams_at_once() {
    let fixture = Fixture::start(&["op-600000-5000-s-1"]).await;
    let mut stream = Stream::open(&fixture, None).await;
    stream.next().await;
    let ending = async {
        // The end may come in the middle of a message, and is an end in any case.
        while let Ok(Some(_)) = stream.answer.chunk().await {}
    };
    let (setup, ()) = tokio::join!(fixture.daemon.stop(), ending);
    drop(setup);
}
