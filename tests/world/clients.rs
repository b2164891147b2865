//! A client that adds and removes watches over HTTP, one request after the other. It uses the handle that the HTTP server uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use backfill_watch::core::source::{Source, Terms};
use backfill_watch::core::watch_list::WatchKey;
use backfill_watch::core::watch_request::WatchRequest;
use backfill_watch::sources::api::{ApiAddition, ApiChange, ApiClient, ApiError, ApiHandle, ApiSource};
use backfill_watch::store::{Engine, MemoryEngine, Store, Withdrawal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::extras;
use crate::scenario::PROJECTS;
use crate::world::{World, key_of};

/// What the client asks for.
#[derive(Debug, Clone)]
pub enum ClientRequest {
    Put(Vec<(WatchKey, Terms)>),
    Withdraw(WatchKey),
}

/// The client and the daemon's source, for one run of the daemon.
pub struct Client {
    requests: mpsc::UnboundedSender<ClientRequest>,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Client {
    pub fn start(
        world: &Arc<World>,
        memory: &Arc<MemoryEngine>,
        store: Store,
        changes: mpsc::Sender<ApiChange>,
    ) -> Self {
        let (source, handle) = ApiSource::new(store, changes, || 0);
        let (requests, receiver) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(source.run(cancel.clone()));
        tasks.spawn(send(Arc::clone(world), Arc::clone(memory), handle, receiver));
        Self {
            requests,
            cancel,
            tasks,
        }
    }

    pub fn put(&self, world: &World, operations: &[usize], version: u64) {
        let watches = operations.iter().map(|index| {
            let key = key_of(&world.scenario.operations[*index]);
            (key, extras::terms(&world.scenario, *index, version))
        });
        // The order of a map: of equal keys, one is left.
        let watches: BTreeMap<WatchKey, Terms> = watches.collect();
        let _ = self
            .requests
            .send(ClientRequest::Put(watches.into_iter().collect()));
    }

    pub fn withdraw(&self, world: &World, operation: usize) {
        let key = key_of(&world.scenario.operations[operation]);
        let _ = self.requests.send(ClientRequest::Withdraw(key));
    }

    /// The daemon stops: it takes no more requests.
    pub fn stop(&self) {
        self.cancel.cancel();
    }

    /// Waits until the request under way is answered.
    pub async fn ended(self) {
        drop(self.requests);
        let mut tasks = self.tasks;
        while tasks.join_next().await.is_some() {}
    }
}

async fn send(
    world: Arc<World>,
    memory: Arc<MemoryEngine>,
    handle: ApiHandle,
    mut requests: mpsc::UnboundedReceiver<ClientRequest>,
) {
    while let Some(request) = requests.recv().await {
        let client = ApiClient {
            method: "PUT".to_owned(),
            address: "the client of the world".to_owned(),
        };
        world.request_begins(&request);
        let result = match request {
            ClientRequest::Put(watches) => {
                let new = watches.len();
                let watches = watches
                    .into_iter()
                    .map(|(key, terms)| WatchRequest { key, terms });
                let addition = ApiAddition {
                    watches: watches.collect(),
                    new,
                };
                handle.add(addition, client).await.map(ClientAnswer::Added)
            }
            ClientRequest::Withdraw(key) => handle.withdraw(key, client).await.map(ClientAnswer::Withdrawn),
        };
        if matches!(result, Err(ApiError::Stopping)) {
            // What became of it is on the disk.
            continue;
        }
        world.request_ends(result.ok());
        let on_disk = on_disk(&world, &memory).await;
        world.check_on_disk(&on_disk);
    }
}

/// A request that was carried out.
#[derive(Debug)]
pub enum ClientAnswer {
    /// For each watch, whether it was not added before.
    Added(Vec<bool>),
    Withdrawn(Withdrawal),
}

/// What the state has of changes over HTTP.
pub async fn on_disk(world: &Arc<World>, memory: &Arc<MemoryEngine>) -> BTreeMap<WatchKey, Terms> {
    let store = Store::new(Arc::clone(memory) as Arc<dyn Engine>, world.wall());
    let mut found = BTreeMap::new();
    for project in PROJECTS {
        let mut after = None;
        loop {
            let page = store.load_source_entries(project.into(), after).await.unwrap();
            let entries = page.entries.into_iter();
            let entries = entries.filter(|entry| entry.source == Source::Api);
            found.extend(entries.map(|entry| (entry.key, (*entry.terms).clone())));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    found
}
