//! One page of an installation's operations.

use jiff::Timestamp;

use crate::core::json;
use crate::core::operation::Operation;

/// One page of an installation's operations.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationsPage {
    /// The operations, in the API's order.
    pub operations: Vec<Operation>,
    /// The token of the next page; `None` after the last.
    pub next_page_token: Option<String>,
}

impl OperationsPage {
    /// Parses a page. `mask` removes the API key from texts. An unusable operation is an error, since the list would be
    /// incomplete without notice.
    pub(super) fn parse(
        body: &str,
        now: Timestamp,
        mask: &mut dyn FnMut(&mut String),
    ) -> Result<Self, String> {
        let mut operations = None;
        let mut is_last = None;
        let mut token = None;
        json::members(body, |name, value| match name {
            "results" => operations = Some(read_all(value.text(), now, mask)),
            "pagination" => {
                value.members(|name, value| match name {
                    "done" => is_last = value.boolean(),
                    "nextPageToken" => token = value.string().filter(|token| !token.is_empty()),
                    _ => {}
                });
            }
            _ => {}
        })
        .map_err(|error| format!("the body is not a JSON object: {error}"))?;
        let operations = operations.unwrap_or_else(|| Err("the member `results` is missing".to_owned()))?;
        // Either member shows whether there are more pages.
        let next_page_token = match (is_last, token) {
            (Some(true), _) => None,
            (_, Some(token)) => Some(token),
            (Some(false), None) => {
                return Err("the member `pagination.nextPageToken` cannot be used".to_owned());
            }
            (None, None) => return Err("the member `pagination` cannot be used".to_owned()),
        };
        Ok(Self {
            operations,
            next_page_token,
        })
    }
}

fn read_all(text: &str, now: Timestamp, mask: &mut dyn FnMut(&mut String)) -> Result<Vec<Operation>, String> {
    let mut operations = Vec::new();
    let mut problem = None;
    json::elements(text, |value| match Operation::parse(value.text(), now) {
        Ok(mut operation) => {
            operation.for_each_text(mask);
            operations.push(operation);
        }
        Err(error) => {
            problem.get_or_insert_with(|| format!("an operation in `results` cannot be read: {error}"));
        }
    })
    .map_err(|error| format!("the member `results` is not a JSON array: {error}"))?;
    problem.map_or(Ok(operations), Err)
}
