//! The pages of a list.

use crate::ampersand::{ApiError, ApiKey, Client};
use crate::cli::requests::Requests;
use crate::core::operation::Operation;
use crate::core::paging::{PageSequence, PagingError};

/// Operations per page.
const PAGE_SIZE: u16 = 500;
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
    requests: Requests,
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
        Self {
            client,
            project,
            integration,
            installation,
            api_key,
            token: Token::First,
            sequence: PageSequence::default(),
            requests: Requests::new(max_requests_per_second),
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
        let request = || {
            self.client.list_operations(
                self.project,
                self.integration,
                self.installation,
                &self.api_key,
                PAGE_SIZE,
                token,
            )
        };
        let page = self
            .requests
            .send("read the list", request)
            .await
            .map_err(PageError::Api)?;
        self.total += page.operations.len();
        self.sequence
            .follow(page.operations.len(), page.next_page_token.as_deref())
            .map_err(PageError::Paging)?;
        self.token = page.next_page_token.map_or(Token::Done, Token::Next);
        Ok(Some(page.operations))
    }
}
