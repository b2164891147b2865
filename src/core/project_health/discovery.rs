//! What requests of discovery show about a project.

use std::time::Duration;

use super::{ProjectContext, ProjectHealth};
use crate::core::answer::Failure;
use crate::core::event::Event;
use crate::core::gate::Pass;

/// What the reply to a request of discovery shows about the project.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum DiscoveryEvidence {
    /// The API answered, so the project exists.
    Answered,
    /// The API accepts the key. Whether the project exists is open.
    KeyAccepted,
    /// The API does not know the project.
    ProjectMissing(String),
    /// The API does not accept the key.
    Unauthorized(String),
    /// The key may not read a list of the project.
    ListForbidden(String),
    /// The API asks for a pause.
    Throttled {
        /// How long, if known.
        wait: Option<Duration>,
        /// The API's reason.
        reason: String,
    },
    /// The request failed.
    Failed(Failure),
    /// It concerns the requested object only.
    Nothing,
}

impl ProjectHealth {
    /// Applies the reply to a request of discovery.
    pub fn observe_discovery(
        &mut self,
        evidence: &DiscoveryEvidence,
        pass: Pass,
        cx: &ProjectContext<'_>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        if !matches!(evidence, DiscoveryEvidence::Throttled { .. }) {
            self.pauses.end(cx.now);
        }
        match evidence {
            DiscoveryEvidence::Answered => self.succeed(pass, cx, &mut events),
            DiscoveryEvidence::KeyAccepted if !self.is_in_doubt() => {
                self.accept(pass, cx, &mut events);
            }
            DiscoveryEvidence::ProjectMissing(reason) => self.report_missing(reason, cx, &mut events),
            DiscoveryEvidence::Unauthorized(reason) => self.reject(pass, reason, cx, &mut events),
            // While polls succeed, a refused list concerns discovery only.
            DiscoveryEvidence::ListForbidden(reason) if cx.watches == 0 => {
                self.reject(pass, reason, cx, &mut events);
            }
            DiscoveryEvidence::Throttled { wait, reason } => {
                self.observe_throttled(*wait, reason, cx, &mut events);
                self.credentials.delay_probe(pass, cx);
            }
            DiscoveryEvidence::Failed(failure) => {
                self.observe_failed(failure, cx, &mut events);
                self.credentials.delay_probe(pass, cx);
            }
            DiscoveryEvidence::KeyAccepted
            | DiscoveryEvidence::ListForbidden(_)
            | DiscoveryEvidence::Nothing => {
                self.credentials.delay_probe(pass, cx);
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::answer::FailureClass;
    use crate::core::project_health::Moment;
    use crate::core::schedule::ScheduleSettings;

    struct Fixture {
        health: ProjectHealth,
        watches: usize,
        minutes: u64,
    }

    impl Fixture {
        fn new(watches: usize) -> Self {
            Self {
                health: ProjectHealth::default(),
                watches,
                minutes: 0,
            }
        }

        fn observe(&mut self, evidence: &DiscoveryEvidence, pass: Pass) -> Vec<&'static str> {
            let steady = Duration::from_mins(self.minutes);
            let cx = ProjectContext {
                name: "p",
                schedule: &ScheduleSettings::DEFAULT,
                unreachable_after: Duration::from_mins(5),
                max_retry_after: Duration::from_mins(15),
                watches: self.watches,
                now: Moment {
                    wall: "2026-11-23T12:00:00Z".parse::<jiff::Timestamp>().unwrap() + steady,
                    steady,
                },
            };
            let events = self.health.observe_discovery(evidence, pass, &cx);
            events.iter().map(|event| event.event_type.as_str()).collect()
        }
    }

    const NOTHING: [&str; 0] = [];

    fn reason() -> String {
        "why".to_owned()
    }

    fn failed() -> DiscoveryEvidence {
        DiscoveryEvidence::Failed(Failure {
            class: FailureClass::ServerError,
            reason: reason(),
        })
    }

    #[test]
    fn an_outage_without_watches_is_noticed() {
        let mut fixture = Fixture::new(0);
        assert_eq!(fixture.observe(&failed(), Pass::Turn), NOTHING);
        fixture.minutes = 5;
        assert_eq!(fixture.observe(&failed(), Pass::Turn), ["api.unreachable"]);
        assert_eq!(
            fixture.observe(&DiscoveryEvidence::Answered, Pass::Turn),
            ["api.reachable"]
        );
    }

    #[test]
    fn a_missing_project_is_reported_at_once() {
        let mut fixture = Fixture::new(0);
        let missing = DiscoveryEvidence::ProjectMissing(reason());
        assert_eq!(fixture.observe(&missing, Pass::Turn), ["api.unreachable"]);
        assert_eq!(fixture.observe(&missing, Pass::Turn), NOTHING);
    }

    #[test]
    fn a_rejected_key_is_accepted_by_a_probe() {
        let mut fixture = Fixture::new(0);
        let unauthorized = DiscoveryEvidence::Unauthorized(reason());
        assert_eq!(
            fixture.observe(&unauthorized, Pass::Turn),
            ["api.credentials_rejected"]
        );
        assert_eq!(fixture.observe(&DiscoveryEvidence::Answered, Pass::Turn), NOTHING);
        assert_eq!(
            fixture.observe(&DiscoveryEvidence::Answered, Pass::Probe),
            ["api.credentials_accepted"]
        );
    }

    #[test]
    fn a_forbidden_list_rejects_the_key_only_without_watches() {
        let forbidden = DiscoveryEvidence::ListForbidden(reason());
        assert_eq!(Fixture::new(1).observe(&forbidden, Pass::Turn), NOTHING);
        assert_eq!(
            Fixture::new(0).observe(&forbidden, Pass::Turn),
            ["api.credentials_rejected"]
        );
    }
}
