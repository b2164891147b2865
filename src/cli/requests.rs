//! The requests of commands to the API: an even pace, and retries.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Failure, exit, format, output};
use crate::clock;
use crate::config::ProjectSettings;
use crate::core::answer::Answer;

/// How often a request is sent.
const ATTEMPTS: u32 = 4;
/// The wait before the second attempt. It doubles with each attempt.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A longer wait is an error instead, because a user waits at the terminal.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest time between two requests, for very low limits.
const LONGEST_SPACING: Duration = Duration::from_hours(1);

/// Sends one request at a time, within the limit of requests per second.
#[derive(Debug)]
pub struct Requests {
    /// The shortest time between two requests.
    spacing: Duration,
    /// The earliest time of the next request.
    next: Instant,
}

impl Requests {
    /// The first request may be sent at once.
    #[must_use]
    pub fn new(max_requests_per_second: f64) -> Self {
        let spacing = Duration::try_from_secs_f64(1.0 / max_requests_per_second);
        Self {
            spacing: spacing.map_or(LONGEST_SPACING, |spacing| spacing.min(LONGEST_SPACING)),
            next: clock::instant(),
        }
    }

    /// Sends a request in its turn, and again after a temporary failure. `what` completes "cannot …" in messages.
    ///
    /// # Errors
    /// When all attempts failed, or another one is useless.
    pub async fn send<T, E, F>(&mut self, what: &str, request: impl Fn() -> F) -> Result<T, E>
    where
        E: Clone + Into<Answer>,
        F: Future<Output = Result<T, E>>,
    {
        let mut attempt = 1;
        loop {
            sleep_until(self.next).await;
            self.next = clock::instant() + self.spacing;
            let error = match request().await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let answer = error.clone().into();
            let Some(wait) = wait(&answer, attempt) else {
                return Err(error);
            };
            if !wait.is_zero() {
                output::notice(&format!(
                    "cannot {what}, retrying in {}: {}",
                    format::time(wait),
                    answer.reason().unwrap_or_default()
                ));
            }
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }
}

/// The wait after attempt `attempt`, counted from 1; `None` if another one is useless.
fn wait(answer: &Answer, attempt: u32) -> Option<Duration> {
    let doubled = FIRST_WAIT * 2_u32.pow(attempt.min(5) - 1);
    let wait = match answer {
        // The API did not process it, so it is repeated at once.
        Answer::Unprocessed(_) if attempt == 1 => Duration::ZERO,
        Answer::Failed(_) | Answer::Unprocessed(_) => doubled,
        Answer::Throttled { wait, .. } => wait.unwrap_or(doubled).max(doubled),
        Answer::Operation(_)
        | Answer::NotFound(_)
        | Answer::Refused(_)
        | Answer::Unauthorized(_)
        | Answer::Forbidden(_) => {
            return None;
        }
    };
    (attempt < ATTEMPTS && wait <= LONGEST_WAIT).then_some(wait)
}

/// The failure when the API rejects the key of a project.
#[must_use]
pub fn rejected_key(project: &ProjectSettings, reason: &str) -> Failure {
    Failure {
        message: format!(
            "the API rejected the key of project {} from {}: {reason}\nReplace it with an active key of this project.",
            project.name, project.api_key
        ),
        code: exit::CREDENTIALS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_failures_are_retried_a_few_times() {
        let throttled = |seconds: Option<u64>| Answer::Throttled {
            wait: seconds.map(Duration::from_secs),
            reason: String::new(),
        };
        let seconds = |answer: &Answer, attempt| wait(answer, attempt).map(|wait| wait.as_secs());
        assert_eq!(seconds(&throttled(None), 1), Some(1));
        assert_eq!(seconds(&throttled(None), 3), Some(4));
        assert_eq!(seconds(&throttled(Some(30)), 2), Some(30));
        assert_eq!(seconds(&throttled(Some(61)), 2), None);
        assert_eq!(seconds(&throttled(None), ATTEMPTS), None);
        assert_eq!(seconds(&Answer::Unauthorized(String::new()), 1), None);
    }
}
