//! The media type of a response.

use crate::core::text::one_line;

/// The media type of `Content-Type`, lower case and without parameters; empty without the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MediaType(String);

impl MediaType {
    /// The media type in the header's value.
    pub(super) fn parse(content_type: Option<&str>) -> Self {
        let name = content_type.unwrap_or("").split(';').next().unwrap_or("");
        Self(name.trim().to_ascii_lowercase())
    }

    /// `application/json` or any type built on it.
    pub(super) fn is_json(&self) -> bool {
        self.0 == "application/json" || self.0.ends_with("+json")
    }

    /// `application/problem+json`.
    pub(super) fn is_problem(&self) -> bool {
        self.0 == "application/problem+json"
    }

    /// The type for a message.
    pub(super) fn describe(&self) -> String {
        if self.0.is_empty() {
            "no content type".to_owned()
        } else {
            format!("content type {}", one_line(&self.0, 80))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_names() {
        for (header, json, problem) in [
            (Some("application/json"), true, false),
            (Some("Application/JSON ; charset=UTF-8"), true, false),
            (Some("application/vnd.api+json"), true, false),
            (Some("application/problem+json;a=b"), true, true),
            (Some("text/html"), false, false),
            (Some("application/jsonp"), false, false),
            (Some(""), false, false),
            (None, false, false),
        ] {
            let media_type = MediaType::parse(header);
            assert_eq!(
                (media_type.is_json(), media_type.is_problem()),
                (json, problem),
                "{header:?}"
            );
        }
    }
}
