//! A simulated Ampersand API and a simulated webhook receiver, on loopback.
//!
//! Only the commands `simulate` and `demo`, the tests and the benches use it.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use std::time::Duration;
//! use backfill_watch::simulator::{SimulatorConfig, SimulatedReply, SimulatedOperation, Simulator};
//!
//! let simulator = Simulator::start(SimulatorConfig::default()).await?;
//! simulator.add(SimulatedOperation::new("first-sync", Duration::from_secs(30), 5_000));
//! simulator.faults().script("first-sync", [SimulatedReply::Reset, SimulatedReply::Truncated]);
//! println!("poll {}/projects/my-project/operations/first-sync", simulator.base_url());
//! simulator.stop().await;
//! # std::io::Result::Ok(()) }).unwrap();
//! ```

mod api;
mod backfill;
mod body_alteration;
mod chunked_body;
mod count_curve;
mod customer_change;
mod customer_control;
mod customer_plan;
mod customer_state;
mod customers;
mod fault;
mod fault_injector;
mod installation;
mod installation_answer;
mod installations_api;
mod log_line;
mod lone_installation;
mod moment;
mod operation;
mod operations;
mod problem;
mod receiver;
mod reply;
mod request;
mod request_log;
mod routes;
mod seeded_random;
mod server;
mod statistics;
mod uuid;
mod verify;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

pub use self::backfill::{BackfillStart, SimulatedBackfill, StartedBackfill};
pub use self::body_alteration::BodyAlteration;
pub use self::count_curve::{CountCurve, CurvePoint};
pub use self::customer_change::{CustomerChange, OperationsAfterDelete, UnknownInstallation};
pub use self::customer_plan::CustomerPlan;
pub use self::fault::{FaultPlan, Faults, MissingFor};
pub use self::installation::{
    BackfillPeriod, CUSTOMER_TOKEN, InstallationStatus, SimulatedAuthentication, SimulatedGroup,
    SimulatedInstallation, SimulatedIntegration, SimulatedObject,
};
pub use self::log_line::{LogMessage, SimulatedLogLine};
pub use self::operation::{
    CONFIG_ID, INSTALLATION_ID, INTEGRATION_ID, SimulatedEstimate, SimulatedOperation, SimulatedOutcome,
};
pub use self::receiver::{Callback, Receiver, ReceiverConfig};
pub use self::reply::{RetryAfter, SimulatedReply};
pub use self::request::RequestKind;
pub use self::seeded_random::SeededRandom;
pub use self::statistics::RequestCounts;
pub use self::verify::{InvalidSecret, ReceiverSecret, VerificationError, verify};

/// Settings of a simulator.
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    /// Where to listen: a loopback address; port 0 for any free one.
    pub listen: SocketAddr,
    /// The projects; the first is the default of operations.
    pub projects: Vec<SimulatedProject>,
    /// Whether a request for an ID that [`SimulatedOperation::from_id`] parses creates the operation.
    pub on_demand: bool,
    /// How many request times are kept for each operation and each object, the earliest ones.
    pub keep_instants: usize,
    /// Seed of the IDs of installations and backfills.
    pub seed: u64,
}

/// A project of the simulated API.
#[derive(Debug, Clone)]
pub struct SimulatedProject {
    /// The project's ID.
    pub id: String,
    /// The project's name, an alternative to the ID.
    pub name: String,
    /// The API keys it accepts.
    pub api_keys: Vec<String>,
}

impl Default for SimulatedProject {
    /// `my-project` with the API key `simulated-key`.
    fn default() -> Self {
        Self {
            id: "123e4567-e89b-12d3-a456-426614174000".to_owned(),
            name: "my-project".to_owned(),
            api_keys: vec!["simulated-key".to_owned()],
        }
    }
}

impl Default for SimulatorConfig {
    /// The default project on any free port, with operations on demand and 1,000 instants kept.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            projects: vec![SimulatedProject::default()],
            on_demand: true,
            keep_instants: 1_000,
            seed: 1,
        }
    }
}

/// A running simulator. Dropping it stops it, too, without waiting for its tasks.
#[derive(Debug)]
pub struct Simulator {
    api: Arc<api::Api>,
    server: server::Server,
}

impl Simulator {
    /// Starts a simulator.
    ///
    /// # Errors
    /// When the address is not of the loopback interface or cannot be listened on.
    pub async fn start(config: SimulatorConfig) -> io::Result<Self> {
        let projects = config.projects.into_iter().map(|project| api::ServedProject {
            id: project.id,
            name: project.name,
            api_keys: Mutex::new(project.api_keys.into_iter().collect()),
        });
        let api = Arc::new(api::Api {
            projects: projects.collect(),
            operations: operations::Operations::new(config.keep_instants),
            customers: customers::Customers::new(config.seed),
            request_log: request_log::RequestLog::new(config.keep_instants),
            injector: fault_injector::FaultInjector::default(),
            on_demand: config.on_demand,
        });
        for project in &api.projects {
            let integration = SimulatedIntegration::default();
            api.customers.add_integration(project.id.clone(), integration);
        }
        let server = server::Server::start(config.listen, routes::router(Arc::clone(&api))).await?;
        Ok(Self { api, server })
    }

    /// The base URL to poll: `http://127.0.0.1:…/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.server.address())
    }

    /// Adds an operation that starts now. Replaces one with the same ID and its requests.
    pub fn add(&self, operation: SimulatedOperation) {
        self.api.operations.add_started(self.placed(operation));
    }

    /// Adds an operation that starts with its first request.
    pub fn add_waiting(&self, operation: SimulatedOperation) {
        self.api.operations.add(self.placed(operation));
    }

    /// Controls the faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.api.injector.faults
    }

    /// Replaces the API keys of the project with this ID or name.
    pub fn set_api_keys(&self, project: &str, keys: impl IntoIterator<Item = String>) {
        let keys: std::collections::HashSet<String> = keys.into_iter().collect();
        for served in &self.api.projects {
            if served.id == project || served.name == project {
                lock(&served.api_keys).clone_from(&keys);
            }
        }
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> RequestCounts {
        self.api.injector.statistics.snapshot()
    }

    /// The requests of one kind so far.
    #[must_use]
    pub fn requests_of_kind(&self, kind: RequestKind) -> RequestCounts {
        self.api.injector.statistics.snapshot_of(kind)
    }

    /// The number of requests for the newest backfill of an object, whatever the response.
    #[must_use]
    pub fn requests_of_object(&self, installation: &str, object: &str) -> u64 {
        let name = RequestKind::backfill_progress(installation, object);
        self.api.request_log.count(&name)
    }

    /// The times of the first [`SimulatorConfig::keep_instants`] requests for the newest backfill of an object.
    #[must_use]
    pub fn instants_of_object(&self, installation: &str, object: &str) -> Vec<Instant> {
        let name = RequestKind::backfill_progress(installation, object);
        self.api.request_log.instants(&name)
    }

    /// The times of the first [`SimulatorConfig::keep_instants`] requests for the list of installations.
    #[must_use]
    pub fn instants_of_lists(&self) -> Vec<Instant> {
        self.api.request_log.instants(installations_api::LIST)
    }

    /// The number of requests for an operation, without its logs, whatever the response.
    #[must_use]
    pub fn requests_of(&self, operation: &str) -> u64 {
        self.api.operations.requests(operation)
    }

    /// The times of the first [`SimulatorConfig::keep_instants`] requests for an operation.
    #[must_use]
    pub fn instants_of(&self, operation: &str) -> Vec<Instant> {
        self.api.operations.instants(operation)
    }

    /// Closes all connections and waits until every task has ended.
    pub async fn stop(self) {
        self.server.stop().await;
    }

    fn placed(&self, mut operation: SimulatedOperation) -> SimulatedOperation {
        operation.project_id = self.project_id(&operation.project_id);
        operation
    }

    /// The ID of the project with this ID or name; of the first one if it is empty.
    fn project_id(&self, project: &str) -> String {
        let first = self.api.projects.first().filter(|_| project.is_empty());
        let found = first.or_else(|| self.api.project(project));
        found.map_or_else(|| project.to_owned(), |served| served.id.clone())
    }
}

/// Locks data that is never left half changed, so a poisoned lock is harmless.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
