//! Discovery in the project task: rounds beside polls, restarts, failures, retention.

use super::*;
use crate::core::deadline::Deadline;
use crate::core::discovery::{
    DiscoveryAnswer, DiscoveryRule, InstallationList, NamedOperation, OperationState,
};
use crate::core::glob::Globs;

/// The customers of the scripted API: the newest backfill of each object, and what requests meet instead.
#[derive(Debug, Default)]
pub(super) struct Customers {
    objects: BTreeMap<(String, String), Option<NamedOperation>>,
    /// What every request meets.
    refused: Option<Answer>,
    /// The list of installations alone is refused.
    pub refused_list: Option<Answer>,
    /// The names of integrations alone are refused.
    refused_names: Option<Answer>,
    requests: Vec<(Instant, DiscoveryRequest)>,
}

impl Customers {
    pub fn answer(&mut self, request: &DiscoveryRequest) -> DiscoveryReply {
        self.requests.push((clock::instant(), request.clone()));
        let refused = self.refused.as_ref().or(match request {
            DiscoveryRequest::Installations => self.refused_list.as_ref(),
            DiscoveryRequest::Integrations => self.refused_names.as_ref(),
            _ => None,
        });
        if let Some(refused) = refused {
            return DiscoveryReply::Other(refused.clone());
        }
        DiscoveryReply::Answered(match request {
            DiscoveryRequest::Installations => DiscoveryAnswer::Installations(self.list()),
            DiscoveryRequest::Integrations => {
                DiscoveryAnswer::Integrations(vec![("g".to_owned(), "read-contacts".to_owned())])
            }
            DiscoveryRequest::Backfill(path) => {
                let key = (path.key.installation.to_string(), path.key.object.to_string());
                DiscoveryAnswer::Backfill(self.objects.get(&key).cloned().flatten())
            }
            DiscoveryRequest::Operation(_) => DiscoveryAnswer::Operation(OperationState::Finished),
        })
    }

    fn list(&self) -> InstallationList {
        let mut installations: BTreeMap<&str, serde_json::Map<String, serde_json::Value>> = BTreeMap::new();
        for (installation, object) in self.objects.keys() {
            let backfill = serde_json::json!({"backfill": {"defaultPeriod": {"fullHistory": true}}});
            installations
                .entry(installation)
                .or_default()
                .insert(object.clone(), backfill);
        }
        let list: Vec<_> = installations
            .into_iter()
            .map(|(id, objects)| {
                serde_json::json!({
                    "id": id, "integrationId": "g", "group": {"groupRef": format!("group of {id}")},
                    "config": {"content": {"read": {"objects": objects}}},
                })
            })
            .collect();
        InstallationList::parse(&serde_json::Value::from(list).to_string()).unwrap()
    }

    /// The times between the lists, in seconds.
    fn list_gaps(&self) -> Vec<u64> {
        let lists: Vec<Instant> = self
            .requests
            .iter()
            .filter(|(_, request)| *request == DiscoveryRequest::Installations)
            .map(|(at, _)| *at)
            .collect();
        lists
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64().round() as u64)
            .collect()
    }
}

fn rule() -> DiscoveryRule {
    DiscoveryRule {
        integrations: Globs::all(),
        groups: Globs::all(),
        objects: Globs::all(),
        every: Duration::from_mins(1),
        lookback: Duration::from_hours(24),
        deadline: None,
        labels: vec![("team".to_owned(), "crm".to_owned())],
    }
}

impl Fixture {
    /// A running supervisor that discovers the backfills of project `p`.
    pub(super) fn discovering(disk: Arc<Disk>) -> Self {
        let fixture = Self::start_with(disk, |_| {});
        fixture.settings.send_modify(|settings| {
            let settings = Arc::make_mut(settings);
            settings.discovery = BTreeMap::from([(Arc::from("p"), Arc::from([rule()]))]);
        });
        fixture
    }

    pub(super) fn customers(&self) -> std::sync::MutexGuard<'_, Customers> {
        self.script().customers.lock().unwrap()
    }

    /// Starts a backfill of an object.
    pub(super) fn backfill(&self, installation: &str, object: &str, operation: &str) {
        self.named(installation, object, operation, self.store.now());
    }

    /// An object names this operation from now on.
    fn named(&self, installation: &str, object: &str, operation: &str, created: Timestamp) {
        let key = (installation.to_owned(), object.to_owned());
        let named = NamedOperation {
            id: operation.to_owned(),
            create_time: Some(created),
        };
        self.customers().objects.insert(key, Some(named));
    }

    /// An object that has no backfill yet.
    pub(super) fn object(&self, installation: &str, object: &str) {
        let key = (installation.to_owned(), object.to_owned());
        self.customers().objects.insert(key, None);
    }

    fn discovery(&self) -> crate::board::DiscoveryView {
        let projects = self.board.projects();
        let project = projects.into_iter().find(|project| *project.name == *"p");
        project.unwrap().discovery.unwrap()
    }

    /// The types of all events of the API of `p`.
    async fn api_events(&self) -> Vec<String> {
        let page = self
            .store
            .events_after(None, 1_000, EventLogFilter::default())
            .await
            .unwrap();
        let types = page.events.iter().map(|event| event.event_type.to_string());
        types.filter(|name| name.starts_with("api.")).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn every_backfill_is_found_in_the_round_after_it_starts() {
    let fixture = Fixture::discovering(Arc::default());
    fixture.list("").await;
    pass(5).await;
    assert!(fixture.is_finished(), "there is nothing to find");
    fixture.backfill("acme", "contact", "op-1");
    fixture.backfill("acme", "lead", "op-2");
    pass(62).await;
    let view = fixture.view("op-1").await.unwrap();
    assert_eq!(view.demand.sources().collect::<Vec<_>>(), [Source::Discovery]);
    let labels: Vec<String> = view
        .labels()
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(
        labels,
        [
            "group=group of acme",
            "object=contact",
            "installation=acme",
            "integration=read-contacts",
            "team=crm"
        ]
    );
    assert!(fixture.view("op-2").await.is_some() && !fixture.is_finished());
    for operation in ["op-1", "op-2"] {
        fixture.script().play(operation, &[Act::Succeed]);
    }
    pass(60).await;
    assert!(fixture.is_finished());
    assert_eq!(fixture.counts(), (2, 2));
    fixture.backfill("acme", "contact", "op-3");
    pass(62).await;
    assert!(
        fixture.view("op-3").await.is_some(),
        "a finished object is asked for again"
    );
    assert_eq!(fixture.discovery().installations, 1);
    assert_eq!(fixture.discovery().objects, 2);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_found_survives_a_restart_and_is_not_found_again() {
    let disk: Arc<Disk> = Arc::default();
    let fixture = Fixture::discovering(Arc::clone(&disk));
    fixture.list("").await;
    fixture.backfill("acme", "contact", "op-1");
    fixture.backfill("acme", "lead", "op-2");
    pass(70).await;
    fixture.script().play("op-2", &[Act::Succeed]);
    pass(60).await;
    assert_eq!(fixture.counts(), (2, 1));
    fixture.stop().await;

    let fixture = Fixture::discovering(disk);
    *fixture.customers() = Customers::default();
    fixture.backfill("acme", "contact", "op-1");
    fixture.backfill("acme", "lead", "op-2");
    fixture.list("").await;
    pass(120).await;
    assert_eq!(fixture.counts(), (2, 1));
    assert_eq!(
        fixture.script().polls("op-2").len(),
        0,
        "what is finished stays finished"
    );
    let started = fixture.events("op-1").await;
    assert_eq!(
        started
            .iter()
            .filter(|(kind, _)| *kind == EventType::Started)
            .count(),
        1
    );
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_ended_during_three_days_without_the_daemon_is_reported() {
    let disk: Arc<Disk> = Arc::default();
    let fixture = Fixture::discovering(Arc::clone(&disk));
    fixture.list("").await;
    fixture.backfill("acme", "contact", "op-1");
    pass(70).await;
    fixture.stop().await;
    *disk.away.lock().unwrap() = Duration::from_hours(72);

    let fixture = Fixture::discovering(disk);
    let ago = |hours| {
        fixture
            .store
            .now()
            .checked_sub(Duration::from_hours(hours))
            .unwrap()
    };
    fixture.named("acme", "contact", "op-2", ago(48));
    fixture.named("acme", "lead", "op-3", ago(47));
    for operation in ["op-1", "op-2", "op-3"] {
        fixture.script().play(operation, &[Act::Succeed]);
    }
    fixture.list("").await;
    pass(120).await;
    assert_eq!(fixture.counts(), (3, 3));
    for operation in ["op-1", "op-2", "op-3"] {
        let events = fixture.events(operation).await;
        assert!(
            events.iter().any(|(kind, _)| *kind == EventType::Succeeded),
            "{operation}"
        );
    }
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn old_backfills_are_not_watched() {
    let fixture = Fixture::discovering(Arc::default());
    let created = fixture
        .store
        .now()
        .checked_sub(Duration::from_hours(100))
        .unwrap();
    fixture.named("acme", "contact", "old", created);
    fixture.backfill("acme", "lead", "new");
    fixture.list("").await;
    pass(10).await;
    assert!(fixture.view("old").await.is_none());
    assert!(fixture.view("new").await.is_some());
    let operation = DiscoveryRequest::Operation(Arc::from("old"));
    let polls = fixture
        .customers()
        .requests
        .iter()
        .filter(|(_, request)| *request == operation)
        .count();
    assert_eq!(polls, 1);
    pass(3_600).await;
    assert!(fixture.view("old").await.is_none());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_noticed_without_watches_and_ends_with_a_list() {
    let fixture = Fixture::discovering(Arc::default());
    let failure = crate::core::answer::Failure {
        class: crate::core::answer::FailureClass::ServerError,
        reason: "502".to_owned(),
    };
    fixture.customers().refused = Some(Answer::Failed(failure));
    fixture.list("").await;
    pass(400).await;
    assert_eq!(fixture.api_events().await, ["api.unreachable"]);
    let failure = fixture.discovery().failure.unwrap();
    assert_eq!(&*failure.reason, "502");
    fixture.customers().refused = None;
    pass(62).await;
    assert_eq!(fixture.api_events().await, ["api.unreachable", "api.reachable"]);
    assert_eq!(fixture.discovery().failure, None);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_list_concerns_discovery_only_while_polls_succeed() {
    let fixture = Fixture::discovering(Arc::default());
    fixture.customers().refused_list = Some(Answer::Forbidden("403".to_owned()));
    fixture.list("a\n").await;
    pass(400).await;
    assert_eq!(fixture.api_events().await, Vec::<String>::new());
    assert_eq!(&*fixture.discovery().failure.unwrap().reason, "403");
    assert!(fixture.script().polls("a").len() > 10);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn names_that_cannot_be_read_show_nothing_about_the_project() {
    for refused in [Answer::NotFound, Answer::Forbidden, Answer::Unauthorized] {
        let fixture = Fixture::discovering(Arc::default());
        fixture.customers().refused_names = Some(refused("why".to_owned()));
        fixture.object("acme", "contact");
        fixture.list("").await;
        pass(600).await;
        assert_eq!(fixture.api_events().await, Vec::<String>::new());
        assert_eq!(fixture.discovery().failure, None);
        fixture.backfill("acme", "contact", "op-1");
        pass(70).await;
        assert!(fixture.view("op-1").await.is_some());
        fixture.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_watches_the_list_is_the_probe_of_a_rejected_key() {
    let fixture = Fixture::discovering(Arc::default());
    fixture.customers().refused = Some(Answer::Unauthorized("401".to_owned()));
    fixture.list("").await;
    pass(40).await;
    assert!(fixture.has_rejected_key());
    assert_eq!(fixture.customers().list_gaps()[..4], [1, 2, 4, 8]);
    fixture.customers().refused = None;
    fixture.backfill("acme", "contact", "op-1");
    pass(60).await;
    assert!(!fixture.has_rejected_key());
    assert_eq!(
        fixture.api_events().await,
        ["api.credentials_rejected", "api.credentials_accepted"]
    );
    assert!(fixture.view("op-1").await.is_some());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_recorded_is_not_lost() {
    let fixture = Fixture::discovering(Arc::default());
    *fixture.disk.refuses.lock().unwrap() = Some("op-1");
    fixture.backfill("acme", "contact", "op-1");
    fixture.list("").await;
    pass(30).await;
    assert!(fixture.view("op-1").await.is_none());
    assert!(!fixture.is_finished());
    *fixture.disk.refuses.lock().unwrap() = None;
    pass(5).await;
    assert!(fixture.view("op-1").await.is_some());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_watch_leaves_after_retention_and_is_not_found_again() {
    let fixture = Fixture::discovering(Arc::default());
    fixture.backfill("acme", "contact", "op-1");
    fixture.script().play("op-1", &[Act::Succeed]);
    fixture.list("").await;
    fixture.over_http(&[("b", "api")], &[]).await;
    fixture.script().play("b", &[Act::Succeed]);
    pass(100).await;
    assert_eq!(fixture.counts(), (2, 2));
    // The retention of these settings is a day.
    pass(86_300).await;
    assert_eq!(fixture.counts(), (2, 2));
    pass(400).await;
    assert_eq!(fixture.counts(), (0, 0));
    pass(8_000).await;
    assert_eq!(fixture.counts(), (0, 0));
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn changed_rules_apply_to_what_was_found_before() {
    let disk: Arc<Disk> = Arc::default();
    let fixture = Fixture::discovering(Arc::clone(&disk));
    fixture.list("").await;
    fixture.backfill("acme", "contact", "op-1");
    fixture.backfill("acme", "lead", "op-2");
    pass(70).await;
    fixture.script().play("op-2", &[Act::Succeed]);
    pass(60).await;
    let mut changed = rule();
    changed.labels = vec![("team".to_owned(), "support".to_owned())];
    changed.deadline = Some(Deadline::After(Duration::from_mins(10)));
    let apply = |fixture: &Fixture| {
        let rules = Arc::from([changed.clone()]);
        fixture.settings.send_modify(|settings| {
            Arc::make_mut(settings).discovery = BTreeMap::from([(Arc::from("p"), rules)])
        });
    };
    apply(&fixture);
    pass(70).await;
    let team = async |fixture: &Fixture, operation| {
        let view = fixture.view(operation).await.unwrap();
        view.labels().last().cloned().map(|(_, value)| value)
    };
    assert_eq!(team(&fixture, "op-1").await.as_deref(), Some("support"));
    assert_eq!(
        team(&fixture, "op-2").await.as_deref(),
        Some("crm"),
        "it is finished"
    );
    assert_eq!(fixture.counts(), (2, 1));
    pass(600).await;
    let events = fixture.events("op-1").await;
    assert!(
        events.iter().any(|(kind, _)| *kind == EventType::Overdue),
        "{events:?}"
    );
    fixture.stop().await;

    // The rules of the settings are those from before.
    let fixture = Fixture::discovering(disk);
    fixture.backfill("acme", "contact", "op-1");
    fixture.list("").await;
    pass(100).await;
    assert_eq!(team(&fixture, "op-1").await.as_deref(), Some("crm"));
    assert_eq!(fixture.counts(), (2, 1));
    fixture.stop().await;
}
