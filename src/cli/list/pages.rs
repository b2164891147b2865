//! The pages of a list, one by one, patiently.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::ampersand::{ApiError, ApiKey, Client};
use crate::cli::{format, output};
use crate::clock;
use crate::core::operation::Operation;
use crate::core::paging::{PageSequence, PagingError};

/// Operations a page: few requests, each far from the largest answer that is taken.
const PAGE_SIZE: u16 = 500;
/// How often a page is asked for, when the API does not give it.
const ATTEMPTS: u32 = 4;
/// The wait before the second attempt; it doubles from attempt to attempt.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Whoever waits at a terminal is told rather than made to wait for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The longest time between two requests, however low the limit is.
const LONGEST_SPACING: Duration = Duration::from_hours(1);

/// Why there is no next page.
#[derive(Debug)]
pub(super) enum PageError {
    /// The API does not give it.
    Api(ApiError),
    /// The list has no end.
    Paging(PagingError),
}

/// The pages of one installation's list.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    client: Client,
    project: &'a str,
    integration: &'a str,
    installation: &'a str,
    api_key: ApiKey,
    token: Token,
    sequence: PageSequence,
    /// Between two requests at least.
    spacing: Duration,
    /// When the next request may go out.
    turn: Instant,
    seen: usize,
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
            turn: clock::instant(),
            seen: 0,
        }
    }

    /// How many operations there were so far.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// When the API does not give it, several attempts included, or when the list has no end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Operation>>, PageError> {
        let token = match &self.token {
            Token::First => None,
            Token::Next(token) => Some(token.as_str()),
            Token::Done => return Ok(None),
        };
        let mut attempt = 1;
        let page = loop {
            sleep_until(self.turn).await;
            self.turn = clock::instant() + self.spacing;
            let asked = self.client.list_operations(
                self.project,
                self.integration,
                self.installation,
                &self.api_key,
                PAGE_SIZE,
                token,
            );
            match asked.await {
                Ok(page) => break page,
                Err(error) => {
                    let Some(wait) = wait(&error, attempt) else {
                        return Err(PageError::Api(error));
                    };
                    if !wait.is_zero() {
                        output::notice(&format!(
                            "no list yet, trying again in {}: {error}",
                            format::time(wait)
                        ));
                    }
                    tokio::time::sleep(wait).await;
                    attempt += 1;
                }
            }
        };
        self.seen += page.operations.len();
        self.sequence
            .follow(page.operations.len(), page.next_page_token.as_deref())
            .map_err(PageError::Paging)?;
        self.token = page.next_page_token.map_or(Token::Done, Token::Next);
        Ok(Some(page.operations))
    }
}

/// How long to wait before the attempt after `attempt`; `None` if there is no use in one.
fn wait(error: &ApiError, attempt: u32) -> Option<Duration> {
    let doubled = FIRST_WAIT * 2_u32.pow(attempt.min(5) - 1);
    let wait = match error {
        // It was not processed: the first repetition is no retry.
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
    fn only_what_may_pass_is_tried_again_and_not_for_ever() {
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
