//! A list of the board in chunks. Each item is read when its chunk is produced, so that a client that does not read costs
//! little.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::Response;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use super::HttpService;
use super::chunked_body::{ChunkSource, respond};
use super::json_list::JsonList;
use super::params::Params;
use super::problem::{Problem, text};
use crate::board::{Board, ProjectUnavailable};

/// The most items of one response.
const MAX: usize = 1_000;

/// Items, and the key after which the next ones start.
type ReadItems<T> =
    Result<(Vec<<T as BoardItems>::View>, Option<<T as BoardItems>::Key>), ProjectUnavailable>;

/// The kind of items of a list, with the filter for them.
pub(super) trait BoardItems: Sized + Send + Sync + 'static {
    /// The name of the list's member.
    const NAME: &'static str;
    /// How many items are copied at a time: what a client that does not read keeps in memory.
    const COPIES: usize;
    /// What identifies an item.
    type Key: Send;
    /// A copy of an item.
    type View: Send;

    /// The key of the item with this name in a project.
    fn key(project: &str, name: &str) -> Self::Key;

    /// The project, and the name in it.
    fn names(key: &Self::Key) -> (&str, &str);

    /// Reads up to `limit` items after a key, and the key after which the next ones start.
    fn read(
        &self,
        board: &Board,
        after: Option<&Self::Key>,
        projects: &[String],
        limit: usize,
    ) -> impl Future<Output = ReadItems<Self>> + Send;

    /// An item as JSON.
    fn json(view: Self::View) -> Vec<u8>;
}

/// A page in chunks.
struct BoardList<T: BoardItems> {
    board: Arc<Board>,
    items: T,
    after: Option<T::Key>,
    projects: Vec<String>,
    /// How many more items may follow.
    left: usize,
    list: JsonList,
}

impl<T: BoardItems> ChunkSource for BoardList<T> {
    type Error = ProjectUnavailable;

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, ProjectUnavailable> {
        let Some(mut chunk) = self.list.next_chunk() else {
            return Ok(None);
        };
        while !chunk.is_full() {
            let limit = T::COPIES.min(self.left);
            let page = self
                .items
                .read(&self.board, self.after.as_ref(), &self.projects, limit);
            let (views, next) = page.await?;
            self.left -= views.len();
            for view in views {
                chunk.push(&T::json(view));
            }
            self.after = next;
            if self.left == 0 || self.after.is_none() {
                // `null` at the end.
                chunk.finish(&text(&self.after.as_ref().map(encode::<T>)));
                break;
            }
        }
        Ok(Some(chunk.into_bytes()))
    }

    fn is_finished(&self) -> bool {
        self.list.is_finished()
    }
}

/// The items that match, with the query's `limit`, `after` and `project`.
pub(super) async fn answer<T: BoardItems>(
    service: &HttpService,
    params: &Params,
    items: T,
) -> Result<Response, Problem> {
    let after = params.last("after").map(|cursor| {
        decode::<T>(cursor)
            .ok_or_else(|| Problem::bad_request("`after` is not a cursor; use `next` of the previous page"))
    });
    let page = BoardList {
        board: Arc::clone(&service.data.board),
        items,
        after: after.transpose()?,
        projects: listed(params, "project").map(str::to_owned).collect(),
        left: params.limit(MAX)?,
        list: JsonList::new(T::NAME),
    };
    respond("application/json", page).await.map_err(unavailable)
}

pub(super) fn unavailable(error: ProjectUnavailable) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// Values that may be repeated or separated by commas.
pub(super) fn listed<'a>(params: &'a Params, name: &'a str) -> impl Iterator<Item = &'a str> {
    params
        .all(name)
        .flat_map(|values| values.split(','))
        .filter(|value| !value.is_empty())
}

/// A project has no line break in its name.
fn encode<T: BoardItems>(key: &T::Key) -> String {
    let (project, name) = T::names(key);
    BASE64_URL_SAFE_NO_PAD.encode(format!("{project}\n{name}"))
}

fn decode<T: BoardItems>(cursor: &str) -> Option<T::Key> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (project, name) = text.split_once('\n')?;
    Some(T::key(project, name))
}
