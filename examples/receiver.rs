//! Receives webhooks of backfill-watch, with axum and the crate `standardwebhooks`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;

struct Receiver {
    webhook: Webhook,
    known: Mutex<HashSet<String>>,
}

impl Receiver {
    /// Stores an event. Returns whether it is new. Replace it: insert the ID under a unique key of your database.
    fn store(&self, id: &str, _event: &Value) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id.to_owned())
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // Also refuses timestamps that are more than five minutes away.
    if receiver.webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let (Some(id), Ok(event)) = (id, serde_json::from_slice::<Value>(&body)) else {
        return StatusCode::BAD_REQUEST;
    };
    let result = if receiver.store(id, &event) {
        "accepted"
    } else {
        "duplicate"
    };
    let operation = event["data"]["operationId"].as_str().unwrap_or_default();
    println!(
        "{result} {id} {} {operation}",
        event["type"].as_str().unwrap_or_default()
    );
    StatusCode::NO_CONTENT
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = std::env::var("WEBHOOK_SECRET")?;
    let secret = secret.trim();
    // 24 bytes in base64. The library also takes an empty secret.
    if secret.strip_prefix("whsec_").unwrap_or(secret).len() < 32 {
        return Err("WEBHOOK_SECRET is not a webhook secret".into());
    }
    let receiver = Receiver {
        webhook: Webhook::new(secret)?,
        known: Mutex::default(),
    };
    let port: u16 = std::env::var("PORT").map_or(Ok(8000), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    let router = Router::new()
        .route("/backfills", post(receive))
        .with_state(Arc::new(receiver));
    Ok(axum::serve(listener, router).await?)
}
