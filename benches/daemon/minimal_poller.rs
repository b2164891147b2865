//! A minimal poller with reqwest: a task for each line, without state, schedule and error handling.

use std::time::Duration;

use serde_json::Value;

/// Polls every line of `list` each `interval` milliseconds, for ever, on one thread.
pub fn poll(base: &str, list: &str, interval: u64) -> anyhow::Result<()> {
    let lines = std::fs::read_to_string(list)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut tasks = tokio::task::JoinSet::new();
        for id in lines.lines() {
            let url = format!("{base}/projects/my-project/operations/{id}");
            let client = client.clone();
            tasks.spawn(async move {
                loop {
                    let request = client.get(&url).header("x-api-key", "simulated-key");
                    if let Ok(response) = request.send().await
                        && let Ok(bytes) = response.bytes().await
                    {
                        let _: Option<Value> = serde_json::from_slice(&bytes).ok();
                    }
                    tokio::time::sleep(Duration::from_millis(interval)).await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    })
}
