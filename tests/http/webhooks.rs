//! `/api/webhooks`.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::fixture::{Fixture, WEBHOOK_SECRET};
use crate::support::until_answered;

#[tokio::test]
async fn an_endpoint_has_its_state_and_counts() {
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", receiver.local_addr().unwrap());
    let fixture = Fixture::start_with(&["op-600000-5000-s-1"], |setup| {
        setup
            .set("webhook.url", &url)
            .variable("BACKFILL_WATCH_WEBHOOK_SECRET", WEBHOOK_SECRET)
    })
    .await;
    // It has what was delivered, and has not answered yet.
    let (mut delivery, _) = receiver.accept().await.unwrap();
    let _ = delivery.read(&mut [0; 16_384]).await.unwrap();
    let before = fixture.json("/api/webhooks").await["endpoints"][0].take();
    assert_eq!(before["name"], "webhook");
    assert_eq!(before["state"], "open");
    assert_eq!(before["backlog"], 1);
    let oldest = &before["oldest"];
    assert_eq!(
        (
            &oldest["type"],
            &oldest["project"],
            &oldest["operationId"],
            &oldest["attempts"]
        ),
        (
            &json!("operation.started"),
            &json!("my-project"),
            &json!("op-600000-5000-s-1"),
            &json!(0)
        )
    );
    assert!(oldest["event"].as_str().unwrap().starts_with("evt_"), "{oldest}");
    assert!(oldest["recordedTime"].is_string(), "{oldest}");
    assert_eq!(oldest.get("nextAttemptTime"), None);
    let deliveries = async || {
        let path = "/api/operations/my-project/op-600000-5000-s-1";
        fixture.json(path).await["deliveries"].as_array().unwrap().clone()
    };
    let waiting = deliveries().await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        (&waiting[0]["endpoint"], &waiting[0]["type"], &waiting[0]["state"]),
        (&json!("webhook"), &json!("operation.started"), &json!("waiting"))
    );
    assert_eq!(
        (&waiting[0]["sequence"], &waiting[0]["attempts"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(waiting[0].get("lastError"), None);

    let gone = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    delivery.write_all(gone).await.unwrap();
    let endpoint = until_answered("it is disabled", async || {
        let endpoint: Value = fixture.json("/api/webhooks").await["endpoints"][0].take();
        if endpoint["state"] == "disabled" && endpoint["lastError"] == "410 Gone" {
            Ok(endpoint)
        } else {
            Err(endpoint.to_string())
        }
    })
    .await;
    // What waits is kept.
    assert_eq!(endpoint["backlog"], 1);
    assert_eq!(endpoint["deadLetters"], 0);
    let waiting = deliveries().await;
    assert_eq!(waiting[0]["lastError"], "410 Gone");
    let oldest = &endpoint["oldest"];
    assert_eq!(
        (&oldest["event"], &oldest["attempts"], &oldest["nextAttemptTime"]),
        (
            &waiting[0]["event"],
            &waiting[0]["attempts"],
            &waiting[0]["nextAttemptTime"]
        )
    );
    for member in ["nextAttemptTime", "lastAttemptTime"] {
        assert!(waiting[0][member].is_string(), "{member}: {waiting:?}");
    }
    assert!(waiting[0]["event"].as_str().unwrap().starts_with("evt_"));
    assert_eq!(endpoint.get("lastSuccessTime"), None);
}
