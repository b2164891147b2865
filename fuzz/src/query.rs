//! Requests to the HTTP interface: path and query on the first line, headers on the next ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use backfill_watch::ampersand::Fetch;
use backfill_watch::board::Board;
use backfill_watch::config::{Environment, Overrides, Settings};
use backfill_watch::core::answer::{Answer, LogAnswer};
use backfill_watch::core::event::{ApiData, Event, EventType};
use backfill_watch::core::gate::RequestLimits;
use backfill_watch::core::operation_log::LogSelection;
use backfill_watch::core::watch_list::{WatchKey, parse};
use backfill_watch::health::Health;
use backfill_watch::http::{Access, HttpService, ServedData};
use backfill_watch::polling::{PollingServices, PollingSettings, Supervisor};
use backfill_watch::random::RandomSource;
use backfill_watch::record::Recorder;
use backfill_watch::report::attention::AttentionList;
use backfill_watch::report::metrics::Metrics;
use backfill_watch::sources::api::ApiSource;
use backfill_watch::sources::watch_list::WatchListSnapshot;
use backfill_watch::store::{StateChange, Store, Subject};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::wall;

/// More bytes than any response here has.
const MOST: usize = 1 << 20;
const WATCHES: usize = 3;

thread_local! {
    static PAGES: HttpServer = HttpServer::new();
}

struct HttpServer {
    runtime: Runtime,
    service: Arc<HttpService>,
    access: Arc<Access>,
}

pub fn run(data: &[u8]) {
    PAGES.with(|pages| {
        if let Some(request) = request(data) {
            pages.runtime.block_on(pages.ask(request));
        }
    });
}

fn request(data: &[u8]) -> Option<Request<Body>> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut request = Request::get(lines.next()?).header(header::HOST, "localhost");
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    request.body(Body::empty()).ok()
}

impl HttpServer {
    fn new() -> Self {
        let runtime = super::runtime();
        let board = Arc::new(Board::default());
        let environment = Environment::from_iter([("BACKFILL_WATCH_LOG__FORMAT", "json")]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "").expect("a file");
        let settings = Settings::load_without_secrets(Some(&file), &environment, &Overrides::default());
        let settings = settings.expect("no settings at all are settings").settings;
        let http = settings.http.clone();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8464));
        let store = Store::in_memory();
        runtime.block_on(record(&store));
        runtime.block_on(watch_some(&settings, &store, &board));
        let list = watch::channel(Arc::new(WatchListSnapshot::default())).1;
        let metrics = Metrics::new();
        let attention = AttentionList::new(
            Arc::clone(&board),
            list.clone(),
            "watch.list".into(),
            store.clone(),
            metrics.clone(),
        );
        // Requests here only read.
        let api = ApiSource::new(store.clone(), mpsc::channel(1).0, || WATCHES).1;
        let data = ServedData {
            api,
            projects: watch::channel(Arc::from([Arc::from("project")])).1,
            attention: Arc::new(attention),
            health: Arc::new(Health::new(Arc::clone(&board), Duration::from_secs(1))),
            board,
            metrics,
            store,
            list,
            polling: runtime.handle().clone(),
            per_operation: Arc::new(AtomicBool::new(true)),
        };
        let access = Arc::new(Access::new(&http, address).expect("no token is configured"));
        // Event streams end at once, so every response is finite.
        let closing = CancellationToken::new();
        closing.cancel();
        Self {
            service: HttpService::new(data, closing),
            access,
            runtime,
        }
    }

    async fn ask(&self, request: Request<Body>) {
        let path = request.uri().path().to_owned();
        let service = TowerToHyperService::new(self.service.network_routes(Arc::clone(&self.access), 0));
        let response = service.call(request).await.expect("never fails");
        let status = response.status();
        let media_type = response.headers().get(header::CONTENT_TYPE).cloned();
        let media_type = media_type
            .as_ref()
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        let is_json = media_type == "application/json" || media_type == "application/problem+json";
        let media_type = media_type.to_owned();
        let body = to_bytes(response.into_body(), MOST).await.expect("it ends soon");
        // A starting daemon is not ready and accepts no event streams; all other requests must be answered.
        let fails = status.is_server_error() && path != "/readyz" && path != "/api/events/stream";
        assert!(!fails, "{status}: {}", String::from_utf8_lossy(&body));
        if status.is_client_error() {
            assert!(is_json && body.len() < 2_000, "{status} {media_type}");
        }
        if is_json {
            let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            if status == StatusCode::OK && path == "/api/operations" {
                let shown = json["operations"].as_array().expect("a list").len();
                assert!(shown <= WATCHES && (json["next"].is_null() || shown > 0));
            }
        }
    }
}

/// An API that never answers.
#[derive(Debug)]
struct Silent;

impl Fetch for Silent {
    async fn fetch(&self, _: &WatchKey) -> Answer {
        std::future::pending().await
    }

    async fn refresh_key(&self, _: &str) -> bool {
        false
    }

    async fn last_lines(&self, _: &WatchKey, _: LogSelection) -> LogAnswer {
        LogAnswer::Found(Vec::new())
    }
}

/// Watches [`WATCHES`] operations for as long as the runtime lives.
async fn watch_some(settings: &Settings, store: &Store, board: &Arc<Board>) {
    let project: Arc<str> = "project".into();
    let lines: String = (0..WATCHES)
        .map(|id| format!("op-{id} customer=acme\n"))
        .collect();
    let list = WatchListSnapshot {
        list: Some(Arc::new(parse(lines.as_bytes(), &[Arc::clone(&project)]))),
        generation: 1,
        ..WatchListSnapshot::default()
    };
    let settings = PollingSettings {
        poll: settings.poll.clone(),
        limits: RequestLimits {
            concurrent: 1,
            per_second: 1.0,
        },
        projects: [(project, 0)].into(),
        discovery: settings.discovery.clone(),
        groups: settings.groups.clone(),
        retention: settings.retention,
    };
    let shared = PollingServices {
        fetch: Silent,
        recorder: Recorder::new(store.clone(), Vec::new()),
        board: Arc::clone(board),
        random: RandomSource::seeded(1),
        metrics: Metrics::new(),
        polling: Handle::current(),
        background: Handle::current(),
    };
    let (list, settings) = (
        watch::Sender::new(Arc::new(list)),
        watch::Sender::new(Arc::new(settings)),
    );
    let supervisor = Supervisor::new(
        Arc::new(shared),
        list.subscribe(),
        mpsc::channel(1).1,
        settings.subscribe(),
    );
    let mut changed = board.changed();
    tokio::spawn(async move {
        let _kept_open = (list, settings);
        supervisor.run(CancellationToken::new()).await;
    });
    while board.phases().total() < WATCHES {
        changed.changed().await.expect("the board is there");
    }
}

async fn record(store: &Store) {
    let since = wall();
    for turn in 0..3 {
        let event = Event::api(
            EventType::ApiUnreachable,
            since + Duration::from_secs(turn),
            ApiData {
                project: "project".to_owned(),
                since: since + Duration::from_secs(turn),
                reason: "no answer".to_owned(),
            },
        );
        let change = StateChange {
            subject: Subject::Project("project".into(), Box::default()),
            events: vec![event],
        };
        store.commit(&change).await.expect("it is in memory");
    }
}
