//! Serves HTTP and the control socket, and reports readiness and health to systemd.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::control_file::{ControlSlot, bind, keep};
use super::{join, project_names};
use crate::board::Board;
use crate::config::{SecretError, Settings};
use crate::error::chain;
use crate::health::Health;
use crate::http::{
    Access, AccessRules, ControlError, ControlSender, HttpListener, HttpService, ServedData, StartupRouter,
    StatusPageAccess,
};
use crate::report::attention::AttentionList;
use crate::report::metrics::Metrics;
use crate::sources::api::ApiHandle;
use crate::sources::watch_list::WatchListSnapshot;
use crate::store::Store;
use crate::systemd;

/// The time limit for removing the control socket; a file system may hang.
const REMOVAL: Duration = Duration::from_secs(1);

/// The HTTP listener, the control socket, metrics and health.
pub(super) struct HttpServer {
    pub(super) metrics: Metrics,
    pub(super) health: Arc<Health>,
    server: StartupRouter,
    /// The address and the most event streams; `None` without HTTP.
    listens: Option<(SocketAddr, usize)>,
    /// Access control; `None` without HTTP.
    access: Option<Arc<Access>>,
    /// Declared before the tasks, so that its file is removed before the socket closes.
    control: Option<Control>,
    /// Why there is no control socket.
    control_problem: Option<ControlError>,
    per_operation: Arc<AtomicBool>,
    /// The configured projects.
    projects: watch::Sender<Arc<[Arc<str>]>>,
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

/// The control socket. Its file is removed when it is dropped, also after a start that failed.
struct Control {
    slot: ControlSlot,
    server: StartupRouter,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.slot.remove();
    }
}

/// The sources, as HTTP uses them.
pub(super) struct Sources {
    /// The watch list.
    pub(super) list: watch::Receiver<Arc<WatchListSnapshot>>,
    /// Adds and withdraws watches.
    pub(super) api: ApiHandle,
}

impl HttpServer {
    /// Listens and answers probes. `control_folder` is the folder of the control socket, if any.
    pub(super) async fn new(
        settings: &Settings,
        board: &Arc<Board>,
        control_folder: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let listener = match settings.http.listen {
            Some(address) => Some(HttpListener::bind(address).await?),
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
        let (server, closing, mut tasks) =
            (StartupRouter::default(), CancellationToken::new(), JoinSet::new());
        let listens = listener.map(|listener| {
            let listens = (listener.address(), listener.max_streams());
            tasks.spawn(server.clone().serve(listener, closing.clone()));
            listens
        });
        let (control, control_problem) = match control_folder {
            Some(folder) => match bind(folder.clone()).await? {
                Ok(socket) => {
                    let (listener, file) = socket.split();
                    let server = StartupRouter::default();
                    tracing::debug!(path = %file.path().display(), "the control socket is served");
                    let slot = ControlSlot::new(file);
                    tasks.spawn(keep(
                        folder,
                        slot.clone(),
                        listener,
                        server.clone(),
                        closing.clone(),
                    ));
                    (Some(Control { slot, server }), None)
                }
                Err(problem) => (None, Some(problem)),
            },
            None => (None, None),
        };
        Ok(Self {
            metrics: Metrics::new(),
            health: Arc::new(Health::new(Arc::clone(board), request_timeout)),
            server,
            listens,
            access,
            control,
            control_problem,
            per_operation: Arc::new(AtomicBool::new(settings.metrics.per_operation)),
            projects: watch::Sender::new(project_names(&settings.ampersand).into()),
            closing,
            tasks,
        })
    }

    /// Serves all routes from now on.
    pub(super) fn start(
        &mut self,
        board: &Arc<Board>,
        store: &Store,
        Sources { list, api }: Sources,
        attention: &Arc<AttentionList>,
        polling: &Handle,
        control_requests: ControlSender,
    ) {
        // Only now: with another daemon on the same state, its error is the only one.
        if let Some(problem) = self.control_problem.take() {
            tracing::warn!(
                error = chain(&problem),
                "cannot create the control socket: `status` needs HTTP, and a reload needs SIGHUP"
            );
        }
        let closing = self.closing.clone();
        let notifications = systemd::send_notifications(
            Arc::clone(&self.health),
            Arc::clone(board),
            Arc::clone(attention),
            closing.clone(),
        );
        self.tasks.spawn(notifications);
        let (attention_list, until) = (Arc::clone(attention), closing.clone());
        self.tasks.spawn(async move {
            until
                .run_until_cancelled(attention_list.collect_regularly())
                .await;
        });
        let readiness = become_ready(list.clone(), Arc::clone(&self.health));
        self.tasks.spawn(readiness);
        if self.listens.is_none() && self.control.is_none() {
            return;
        }
        let data = ServedData {
            attention: Arc::clone(attention),
            board: Arc::clone(board),
            health: Arc::clone(&self.health),
            metrics: self.metrics.clone(),
            store: store.clone(),
            list,
            api,
            projects: self.projects.subscribe(),
            polling: polling.clone(),
            per_operation: Arc::clone(&self.per_operation),
        };
        let service = HttpService::new(data, closing);
        if let (Some((address, max_streams)), Some(access)) = (self.listens, &self.access) {
            report_pages(address, access.audience());
            self.server
                .set(service.network_routes(Arc::clone(access), max_streams));
        }
        if let Some(control) = &self.control {
            control.server.set(service.control_routes(control_requests));
        }
        self.tasks.spawn(service.feed_streams());
    }

    /// Reads the access rules of other settings.
    pub(super) async fn read_rules(&self, settings: &Settings) -> anyhow::Result<Option<AccessRules>> {
        if self.access.is_none() {
            return Ok(None);
        }
        let http = settings.http.clone();
        Ok(Some(spawn_blocking(move || AccessRules::read(&http)).await??))
    }

    /// Applies other settings, with their access rules.
    pub(super) fn apply(&self, settings: &Settings, rules: Option<AccessRules>) {
        if let (Some(access), Some(rules)) = (&self.access, rules) {
            access.set(rules);
        }
        self.per_operation
            .store(settings.metrics.per_operation, Ordering::Relaxed);
        self.projects
            .send_replace(project_names(&settings.ampersand).into());
        self.health
            .set_request_timeout(settings.ampersand.request_timeout);
    }

    /// Reads the token files again, so that a new token needs no reload. Returns the settings whose file cannot be read.
    pub(super) async fn refresh_tokens(&self) -> Vec<(&'static str, SecretError)> {
        let Some(access) = self.access.clone() else {
            return Vec::new();
        };
        match spawn_blocking(move || access.refresh()).await {
            Ok(unreadable) => unreadable,
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "the check of the HTTP tokens failed: this is a bug, please report it"
                );
                Vec::new()
            }
        }
    }

    /// Stops; running responses may end within a second.
    pub(super) async fn stop(&mut self) {
        if let Some(control) = self.control.take() {
            let removing = spawn_blocking(move || drop(control));
            // A file that stays is replaced at the next start.
            let _ = tokio::time::timeout(REMOVAL, removing).await;
        }
        self.closing.cancel();
        join(&mut self.tasks).await;
    }
}

/// Logs the address and who can open the status page.
fn report_pages(address: SocketAddr, audience: StatusPageAccess) {
    match audience {
        StatusPageAccess::All => tracing::info!(%address, "the status page is served at http://{address}/"),
        StatusPageAccess::Nobody => tracing::info!(
            %address,
            "health and metrics are served at http://{address}/; the status page needs http.token_file"
        ),
    }
}

/// Reports readiness once the watch list was read, whatever the result.
async fn become_ready(mut list: watch::Receiver<Arc<WatchListSnapshot>>, health: Arc<Health>) {
    // Fails only when the source has ended, which happens at a stop.
    if list.wait_for(|snapshot| snapshot.is_checked).await.is_ok() {
        health.set_ready();
    }
}
