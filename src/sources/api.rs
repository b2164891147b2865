//! Watches that are asked for over HTTP. Each change is committed, then handed to the projects, one after the other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::core::source::{Source, Terms};
use crate::core::watch_list::{MAX_ENTRIES, WatchKey};
use crate::core::watch_request::WatchRequest;
use crate::store::{CommitError, SourceEntry, Store, Withdrawal};

/// The requests that may wait for the one before them.
const QUEUE: usize = 16;
/// How long an answer waits until the change is applied. It is committed already.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// A change of what is asked for over HTTP. It is committed already.
#[derive(Debug)]
pub struct ApiChange {
    /// Watches that are added, or have new terms.
    pub set: Vec<(WatchKey, Arc<Terms>)>,
    /// Watches that are withdrawn.
    pub withdrawn: Vec<WatchKey>,
    /// Dropped when the change was applied, or when its project restarts and reads it from the state.
    pub applied: Arc<DropGuard>,
}

/// Who requests a change, for the log.
#[derive(Debug, Clone)]
pub struct ApiClient {
    /// The HTTP method.
    pub method: String,
    /// The address of the client, or that it uses the control socket.
    pub address: String,
}

/// Watches to add.
#[derive(Debug)]
pub struct ApiAddition {
    /// The watches with their terms. Of equal keys the last one applies.
    pub watches: Vec<WatchRequest>,
    /// At most this many of them are not watched yet.
    pub new: usize,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// There would be too many watches.
    #[error("at most {MAX_ENTRIES} operations can be watched; remove finished ones, or run a second daemon")]
    Full,
    /// It cannot be recorded.
    #[error("the change cannot be recorded")]
    Commit(#[from] CommitError),
    /// The source has stopped.
    #[error("the daemon is stopping")]
    Stopping,
}

/// A change that waits.
struct ApiRequest {
    wanted: Wanted,
    client: ApiClient,
}

enum Wanted {
    Add(
        ApiAddition,
        oneshot::Sender<Result<Committed<Vec<bool>>, ApiError>>,
    ),
    Withdraw(WatchKey, oneshot::Sender<Result<Committed<Withdrawal>, ApiError>>),
}

/// The result of a change that is committed.
#[derive(Debug)]
struct Committed<T> {
    result: T,
    /// Cancelled when the change was applied.
    applied: CancellationToken,
}

/// Requests changes.
#[derive(Debug, Clone)]
pub struct ApiHandle(mpsc::Sender<ApiRequest>);

/// Makes the changes. A client that disconnects does not stop a change that has begun.
pub struct ApiSource {
    store: Store,
    changes: mpsc::Sender<ApiChange>,
    requests: mpsc::Receiver<ApiRequest>,
    /// The number of watches.
    watches: Box<dyn Fn() -> usize + Send + Sync>,
    /// Additions that are perhaps not counted in it yet.
    unapplied: Vec<(CancellationToken, usize)>,
}

impl ApiHandle {
    /// Adds watches, or replaces their terms. Returns for each whether it was not asked for over HTTP before. Returns after the
    /// commit, and if possible when the watches can be found.
    ///
    /// # Errors
    /// Nothing was changed.
    pub async fn add(&self, addition: ApiAddition, client: ApiClient) -> Result<Vec<bool>, ApiError> {
        self.request(client, |reply| Wanted::Add(addition, reply)).await
    }

    /// Withdraws what was added over HTTP. Returns as [`add`](Self::add) does.
    ///
    /// # Errors
    /// Nothing was changed.
    pub async fn withdraw(&self, key: WatchKey, client: ApiClient) -> Result<Withdrawal, ApiError> {
        self.request(client, |reply| Wanted::Withdraw(key, reply)).await
    }

    async fn request<T>(
        &self,
        client: ApiClient,
        wanted: impl FnOnce(oneshot::Sender<Result<Committed<T>, ApiError>>) -> Wanted,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let request = ApiRequest {
            wanted: wanted(reply),
            client,
        };
        self.0.send(request).await.map_err(|_| ApiError::Stopping)?;
        let committed = answer.await.map_err(|_| ApiError::Stopping)??;
        // A project that is being restarted applies the change later.
        let _ = tokio::time::timeout(APPLY_TIMEOUT, committed.applied.cancelled()).await;
        Ok(committed.result)
    }
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiRequest")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl ApiSource {
    /// A source that records changes in `store` and sends them to `changes`. `watches` returns the number of all watches.
    pub fn new(
        store: Store,
        changes: mpsc::Sender<ApiChange>,
        watches: impl Fn() -> usize + Send + Sync + 'static,
    ) -> (Self, ApiHandle) {
        let (handle, requests) = mpsc::channel(QUEUE);
        let source = Self {
            store,
            changes,
            requests,
            watches: Box::new(watches),
            unapplied: Vec::new(),
        };
        (source, ApiHandle(handle))
    }

    /// Makes changes until `cancel`. A change that has begun is recorded first.
    pub async fn run(mut self, cancel: CancellationToken) {
        while let Some(Some(request)) = cancel.run_until_cancelled(self.requests.recv()).await {
            let change = match request.wanted {
                Wanted::Add(addition, reply) => self.add(addition, reply, &request.client).await,
                Wanted::Withdraw(key, reply) => self.withdraw(key, reply, &request.client).await,
            };
            if let Some(change) = change {
                // Without it, the projects read the change from the state at the next start.
                cancel.run_until_cancelled(self.changes.send(change)).await;
            }
        }
    }

    async fn add(
        &mut self,
        ApiAddition { watches, new }: ApiAddition,
        reply: oneshot::Sender<Result<Committed<Vec<bool>>, ApiError>>,
        client: &ApiClient,
    ) -> Option<ApiChange> {
        // A reply fails when the client has gone, here and below.
        if self.is_full(new) {
            let _ = reply.send(Err(ApiError::Full));
            return None;
        }
        let without_terms = Arc::new(Terms::default());
        let set: Vec<(WatchKey, Arc<Terms>)> = watches
            .into_iter()
            .map(|WatchRequest { key, terms }| match terms == *without_terms {
                true => (key, Arc::clone(&without_terms)),
                false => (key, Arc::new(terms)),
            })
            .collect();
        let entries = set.iter().map(|(key, terms)| SourceEntry {
            key: key.clone(),
            source: Source::Api,
            terms: Arc::clone(terms),
        });
        let result = match self.store.put_source_entries(entries.collect()).await {
            Ok(are_new) => are_new,
            Err(error) => {
                let _ = reply.send(Err(error.into()));
                return None;
            }
        };
        tracing::info!(
            method = client.method,
            subject = subject(&set),
            address = client.address,
            "watches added over HTTP"
        );
        let applied = CancellationToken::new();
        self.unapplied.push((applied.clone(), new));
        let guard = Arc::new(applied.clone().drop_guard());
        let _ = reply.send(Ok(Committed { result, applied }));
        Some(ApiChange {
            set,
            withdrawn: Vec::new(),
            applied: guard,
        })
    }

    async fn withdraw(
        &self,
        key: WatchKey,
        reply: oneshot::Sender<Result<Committed<Withdrawal>, ApiError>>,
        client: &ApiClient,
    ) -> Option<ApiChange> {
        let withdrawn = self.store.withdraw_source_entry(key.clone(), Source::Api).await;
        let applied = CancellationToken::new();
        let guard = Arc::new(applied.clone().drop_guard());
        let is_withdrawn = matches!(withdrawn, Ok(Withdrawal::Withdrawn));
        if is_withdrawn {
            tracing::info!(
                method = client.method,
                subject = %key,
                address = client.address,
                "watch withdrawn over HTTP"
            );
        }
        let committed = withdrawn.map(|result| Committed { result, applied });
        let _ = reply.send(committed.map_err(Into::into));
        is_withdrawn.then(|| ApiChange {
            set: Vec::new(),
            withdrawn: vec![key],
            applied: guard,
        })
    }

    fn is_full(&mut self, new: usize) -> bool {
        self.unapplied.retain(|(applied, _)| !applied.is_cancelled());
        let unapplied: usize = self.unapplied.iter().map(|(_, new)| new).sum();
        (self.watches)() + unapplied + new > MAX_ENTRIES
    }
}

/// What a log line names.
fn subject(set: &[(WatchKey, Arc<Terms>)]) -> String {
    match set {
        [] => "nothing".to_owned(),
        [(key, _)] => key.to_string(),
        [(key, _), others @ ..] => format!("{key} and {} more", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(operation: &str) -> WatchKey {
        WatchKey {
            project: "p".into(),
            operation: operation.into(),
        }
    }

    fn client() -> ApiClient {
        ApiClient {
            method: "PUT".to_owned(),
            address: "127.0.0.1:1".to_owned(),
        }
    }

    fn addition(operations: &[&str]) -> ApiAddition {
        let watches = operations.iter().map(|operation| WatchRequest {
            key: key(operation),
            terms: Terms::default(),
        });
        ApiAddition {
            watches: watches.collect(),
            new: operations.len(),
        }
    }

    struct Running {
        handle: ApiHandle,
        changes: mpsc::Receiver<ApiChange>,
        store: Store,
        cancel: CancellationToken,
        tasks: tokio::task::JoinSet<()>,
    }

    fn run(watches: usize) -> Running {
        let (sender, changes) = mpsc::channel(1);
        let store = Store::in_memory();
        let (source, handle) = ApiSource::new(store.clone(), sender, move || watches);
        let cancel = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(source.run(cancel.clone()));
        Running {
            handle,
            changes,
            store,
            cancel,
            tasks,
        }
    }

    #[tokio::test]
    async fn a_change_is_committed_then_handed_on_and_then_answered() {
        let mut running = run(0);
        let (added, applied) = tokio::join!(running.handle.add(addition(&["a", "b"]), client()), async {
            let change = running.changes.recv().await.unwrap();
            let stored = running.store.load_source_entries("p".into(), None).await.unwrap();
            assert_eq!(stored.entries.len(), 2);
            change
                .set
                .iter()
                .map(|(key, _)| key.to_string())
                .collect::<Vec<_>>()
        });
        assert_eq!(added.unwrap(), [true, true]);
        assert_eq!(applied, ["p/a", "p/b"]);
        let (withdrawn, change) = tokio::join!(
            running.handle.withdraw(key("a"), client()),
            running.changes.recv()
        );
        assert_eq!(withdrawn.unwrap(), Withdrawal::Withdrawn);
        assert_eq!(change.unwrap().withdrawn, [key("a")]);
        // What changes nothing is handed on to nobody.
        let again = running.handle.withdraw(key("a"), client()).await.unwrap();
        assert_eq!(again, Withdrawal::AlreadyWithdrawn);
        let never = running.handle.withdraw(key("x"), client()).await.unwrap();
        assert_eq!(never, Withdrawal::NeverAdded);
        assert!(running.changes.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_client_that_disconnects_stops_no_change_that_has_begun() {
        let mut running = run(0);
        for operation in ["a", "b", "c"] {
            let adding = running.handle.add(addition(&[operation]), client());
            // The first poll queues the request.
            assert!(futures_util::future::poll_immediate(adding).await.is_none());
        }
        for operation in ["a", "b", "c"] {
            let change = running.changes.recv().await.unwrap();
            assert_eq!(change.set[0].0, key(operation));
        }
        let stored = running.store.load_source_entries("p".into(), None).await.unwrap();
        assert_eq!(stored.entries.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_does_not_wait_long_for_a_project_and_a_stop_not_at_all() {
        let mut running = run(0);
        let handle = running.handle.clone();
        // Nobody takes the first change, so the second one waits for the channel.
        for operation in ["a", "b"] {
            handle.add(addition(&[operation]), client()).await.unwrap();
        }
        running.cancel.cancel();
        running.tasks.join_next().await.unwrap().unwrap();
        let refused = handle.add(addition(&["c"]), client()).await;
        assert!(matches!(refused, Err(ApiError::Stopping)));
        let stored = running.store.load_source_entries("p".into(), None).await.unwrap();
        assert_eq!(stored.entries.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_watches_is_limited_also_by_those_that_are_not_applied_yet() {
        let mut running = run(MAX_ENTRIES - 2);
        let refused = running.handle.add(addition(&["a", "b", "c"]), client()).await;
        assert!(matches!(refused, Err(ApiError::Full)));
        running.handle.add(addition(&["a"]), client()).await.unwrap();
        let unapplied = running.changes.recv().await.unwrap();
        let refused = running.handle.add(addition(&["b", "c"]), client()).await;
        assert!(matches!(refused, Err(ApiError::Full)));
        let known = ApiAddition {
            new: 0,
            ..addition(&["a"])
        };
        running.handle.add(known, client()).await.unwrap();
        drop(unapplied);
        drop(running.changes.recv().await);
        running.handle.add(addition(&["b", "c"]), client()).await.unwrap();
        let stored = running.store.load_source_entries("p".into(), None).await.unwrap();
        assert_eq!(stored.entries.len(), 3);
    }
}
