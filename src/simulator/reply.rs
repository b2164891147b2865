//! How the simulator replies to a request.

use std::time::Duration;

use super::body_alteration::BodyAlteration;

/// The reply to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SimulatedReply {
    /// The normal response.
    Normal,
    /// The normal response, delayed by this time.
    Late(Duration),
    /// This status (200 to 599) with problem details.
    Status(u16, RetryAfter),
    /// 404, as for an unknown operation.
    NotFound,
    /// The connection is reset (a TCP `RST`) without an answer.
    Reset,
    /// No response: the connection stays open until the client leaves.
    Hang,
    /// The normal response, one byte per interval.
    Slow(Duration),
    /// The normal response, but the connection closes after half of the body.
    Truncated,
    /// 200 and `application/json`, but the body is not JSON.
    Garbage,
    /// 200 and `text/html`, as from a proxy or a captive portal.
    Html,
    /// The normal response followed by this many bytes of white space, which is valid JSON.
    Huge(usize),
    /// 200 with an endless body.
    Endless,
    /// 200 and `application/json` with this body.
    Body(Vec<u8>),
    /// The normal response with an altered body.
    Altered(BodyAlteration),
    /// 307 to this location; `None` for the requested address.
    Redirect(Option<String>),
}

/// How an error response carries the time to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// Not at all.
    Absent,
    /// In the header `Retry-After`, in whole seconds, rounded up.
    Seconds(Duration),
    /// In the header `Retry-After`, as an HTTP date, rounded up.
    Date(Duration),
    /// In the problem details' `retryAfter`.
    Body(Duration),
}
