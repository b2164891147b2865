//! The pages of a list, each with retries.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::ampersand::{ApiError, ApiKey, Client};
use crate::cli::{format, output};
use crate::clock;
use crate::core::operation::Operation;
use crate::core::paging::{PageSequence, PagingError};

/// Operations per page.
const PAGE_SIZE: u16 = 500;
/// How often a page is requested.
const ATTEMPTS: u32 = 4;
/// The wait before the second attempt. It doubles with each attempt.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A longer wait is an error instead, because a user waits at the terminal.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The longest time between two requests, for very low limits.
const LONGEST_SPACING: Duration = Duration::from_hours(1);

/// Why a page is missing.
#[derive(Debug)]
pub(super) enum PageError {
    /// The API did not return it.
    Api(ApiError),
    /// The list does not end.
    Paging(PagingError),
}

/// The pages of the list of one installation.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    client: Client,
    project: &'a str,
    integration: &'a str,
    installation: &'a str,
    api_key: ApiKey,
    token: Token,
    sequence: PageSequence,
    /// The shortest time between two requests.
    spacing: Duration,
    /// The earliest time of the next request.
    next_request: Instant,
    total: usize,
}

#[derive(Debug)]
enum Token {
    First,
    Next(String),
    Done,
}

impl<'a> Pages<'a> {
    pub(super) fn new(
        client: Client,
        project: &'a str,
        integration: &'a str,
        installation: &'a str,
        api_key: ApiKey,
        max_requests_per_second: f64,
    ) -> Self {
        let spacing = Duration::try_from_secs_f64(1.0 / max_requests_per_second);
        Self {
            client,
            project,
            integration,
            installation,
            api_key,
            token: Token::First,
            sequence: PageSequence::default(),
            spacing: spacing.map_or(LONGEST_SPACING, |spacing| spacing.min(LONGEST_SPACING)),
            next_request: clock::instant(),
            total: 0,
        }
    }

    /// How many operations were returned so far.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// When all attempts failed, or the list does not end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Operation>>, PageError> {
        let token = match &self.token {
            Token::First => None,
            Token::Next(token) => Some(token.as_str()),
            Token::Done => return Ok(None),
        };
        let mut attempt = 1;
        let page = loop {
            sleep_until(self.next_request).await;
            self.next_request = clock::instant() + self.spacing;
            let request = self.client.list_operations(
                self.project,
                self.integration,
                self.installation,
                &self.api_key,
                PAGE_SIZE,
                token,
            );
            match request.await {
                Ok(page) => break page,
                Err(error) => {
                    let Some(wait) = wait(&error, attempt) else {
                        return Err(PageError::Api(error));
                    };
                    if !wait.is_zero() {
                        output::notice(&format!(
                            "cannot read the list, retrying in {}: {error}",
                            format::time(wait)
                        ));
                    }
                    tokio::time::sleep(wait).await;
                    attempt += 1;
                }
            }
        };
        self.total += page.operations.len();
        self.sequence
            .follow(page.operations.len(), page.next_page_token.as_deref())
            .map_err(PageError::Paging)?;
        self.token = page.next_page_token.map_or(Token::Done, Token::Next);
        Ok(Some(page.operations))
    }
}

/// The wait after attempt `attempt`, counted from 1; `None` if another one is useless.
fn wait(error: &ApiError, attempt: u32) -> Option<Duration> {
    let doubled = FIRST_WAIT * 2_u32.pow(attempt.min(5) - 1);
    let wait = match error {
        // The API did not process it, so it is repeated at once.
        ApiError::Unprocessed(_) if attempt == 1 => Duration::ZERO,
        ApiError::Failed(_) | ApiError::Unprocessed(_) => doubled,
        ApiError::Throttled { wait, .. } => wait.unwrap_or(doubled).max(doubled),
        ApiError::NotFound(_) | ApiError::Refused(_) | ApiError::Unauthorized(_) | ApiError::Forbidden(_) => {
            return None;
        }
    };
    (attempt < ATTEMPTS && wait <= LONGEST_WAIT).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_failures_are_retried_a_few_times() {
        let throttled = |seconds: Option<u64>| ApiError::Throttled {
            wait: seconds.map(Duration::from_secs),
            reason: String::new(),
        };
        let seconds = |error: &ApiError, attempt| wait(error, attempt).map(|wait| wait.as_secs());
        assert_eq!(seconds(&throttled(None), 1), Some(1));
        assert_eq!(seconds(&throttled(None), 3), Some(4));
        assert_eq!(seconds(&throttled(Some(30)), 2), Some(30));
        assert_eq!(seconds(&throttled(Some(61)), 2), None);
        assert_eq!(seconds(&throttled(None), ATTEMPTS), None);
        assert_eq!(seconds(&ApiError::Unauthorized(String::new()), 1), None);
    }
}
