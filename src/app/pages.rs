//! What tells others of the daemon: its pages, its metrics, its health, and systemd.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::join;
use crate::board::Board;
use crate::config::Settings;
use crate::error::chain;
use crate::health::Health;
use crate::http::{Access, Audience, Listener, Server, Site, Sources};
use crate::report::attention::AttentionList;
use crate::report::metrics::Metrics;
use crate::store::Store;
use crate::systemd;
use crate::watch_list::Snapshot;

/// Everything that tells others of the daemon.
pub(super) struct Pages {
    pub(super) metrics: Metrics,
    pub(super) health: Arc<Health>,
    server: Server,
    /// Where it listens, and how many event streams there may be; `None` where there are no pages.
    listens: Option<(SocketAddr, usize)>,
    /// Who may see the pages; `None` where there are none.
    access: Option<Arc<Access>>,
    per_operation: Arc<AtomicBool>,
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

impl Pages {
    /// Listens, and answers probes.
    pub(super) async fn new(settings: &Settings, board: &Arc<Board>) -> anyhow::Result<Self> {
        let listener = match settings.http.listen {
            Some(address) => Some(Listener::bind(address).await?),
            None => None,
        };
        let access = match &listener {
            Some(listener) => {
                let (http, address) = (settings.http.clone(), listener.address());
                let access = spawn_blocking(move || Access::new(&http, address)).await??;
                Some(Arc::new(access))
            }
            None => None,
        };
        let request_timeout = settings.ampersand.request_timeout;
        let (server, closing, mut tasks) = (Server::default(), CancellationToken::new(), JoinSet::new());
        let listens = listener.map(|listener| {
            let listens = (listener.address(), listener.max_streams());
            tasks.spawn(server.clone().serve(listener, closing.clone()));
            listens
        });
        Ok(Self {
            metrics: Metrics::new(),
            health: Arc::new(Health::new(Arc::clone(board), request_timeout)),
            server,
            listens,
            access,
            per_operation: Arc::new(AtomicBool::new(settings.metrics.per_operation)),
            closing,
            tasks,
        })
    }

    /// Serves all pages from now on.
    pub(super) fn start(
        &mut self,
        board: &Arc<Board>,
        store: &Store,
        list: &watch::Receiver<Arc<Snapshot>>,
        attention: &Arc<AttentionList>,
        polling: &Handle,
    ) {
        let closing = self.closing.clone();
        let telling = systemd::keep_informed(Arc::clone(&self.health), Arc::clone(board), closing.clone());
        self.tasks.spawn(telling);
        let (dated, until) = (Arc::clone(attention), closing.clone());
        self.tasks.spawn(async move {
            until.run_until_cancelled(dated.keep_dated()).await;
        });
        let readiness = become_ready(list.clone(), Arc::clone(&self.health));
        self.tasks.spawn(readiness);
        let (Some((address, max_streams)), Some(access)) = (self.listens, &self.access) else {
            return;
        };
        let sources = Sources {
            attention: Arc::clone(attention),
            board: Arc::clone(board),
            health: Arc::clone(&self.health),
            metrics: self.metrics.clone(),
            store: store.clone(),
            list: list.clone(),
            polling: polling.clone(),
            per_operation: Arc::clone(&self.per_operation),
        };
        match access.audience() {
            Audience::All => tracing::info!(%address, "the status page is served at http://{address}/"),
            Audience::ThisHost => tracing::info!(
                %address,
                "the status page is served at http://localhost:{}/ to this host alone, health and metrics to others too",
                address.port()
            ),
            Audience::Nobody => tracing::info!(
                %address,
                "health and metrics are served at http://{address}/; the status page needs http.token_file"
            ),
        }
        let site = Site::new(sources, Arc::clone(access), max_streams, closing);
        self.server.set(&site);
        self.tasks.spawn(site.feed());
    }

    /// Other settings hold from now on.
    pub(super) async fn apply(&self, settings: &Settings) -> anyhow::Result<()> {
        if let Some(access) = self.access.clone() {
            let http = settings.http.clone();
            spawn_blocking(move || access.set(&http)).await??;
        }
        self.per_operation
            .store(settings.metrics.per_operation, Ordering::Relaxed);
        self.health
            .set_request_timeout(settings.ampersand.request_timeout);
        Ok(())
    }

    /// Looks at the file of the token, so that one that was changed needs no reload.
    pub(super) async fn refresh_token(&self) {
        if let Some(access) = self.access.clone()
            && let Err(error) = spawn_blocking(move || access.refresh()).await
        {
            tracing::error!(
                error = chain(&error),
                "the token could not be looked at: this is a bug, please report it"
            );
        }
    }

    /// Ends the answers, those under way within a moment.
    pub(super) async fn stop(&mut self) {
        self.closing.cancel();
        join(&mut self.tasks).await;
    }
}

/// The daemon is ready once the watch list was looked at, whatever that found.
async fn become_ready(mut list: watch::Receiver<Arc<Snapshot>>, health: Arc<Health>) {
    // Fails only when the source has ended, which happens at a stop.
    if list.wait_for(|snapshot| snapshot.looked).await.is_ok() {
        health.set_ready();
    }
}
