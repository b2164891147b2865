//! The data of an installation that explains a stall.

use thiserror::Error;

use super::json::{self, Json};

/// The IDs under which the API serves an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationPath {
    /// The integration ID.
    pub integration: String,
    /// The installation ID.
    pub installation: String,
}

/// The status of an installation. Nothing else of the API's answer is read, since it contains the customer's tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installation {
    /// The health status, as the API writes it.
    pub health_status: Option<String>,
    /// The status of its connection, as the API writes it.
    pub connection_status: Option<String>,
}

/// Why an answer is not an installation, without the text of the answer, which may contain tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotInstallation {
    /// It is not a JSON object.
    #[error("the body is not a JSON object")]
    NotObject,
    /// It is another installation.
    #[error("the member `id` is not the requested installation")]
    OtherId,
}

impl Installation {
    /// Parses the installation `id`. An unusable member counts as absent.
    ///
    /// # Errors
    /// When the text is not this installation.
    pub fn parse(body: &str, id: &str) -> Result<Self, NotInstallation> {
        let mut found = Self::default();
        let mut is_other = false;
        json::members(body, |name, value| match name {
            "id" => is_other |= value.string().is_some_and(|found| found != id),
            "healthStatus" => found.health_status = status(value),
            "connection" => {
                found.connection_status = None;
                value.members(|name, value| {
                    if name == "status" {
                        found.connection_status = status(value);
                    }
                });
            }
            _ => {}
        })
        .map_err(|_| NotInstallation::NotObject)?;
        if is_other {
            return Err(NotInstallation::OtherId);
        }
        Ok(found)
    }

    /// Calls `each` with every text from the API.
    pub fn for_each_text(&mut self, each: &mut dyn FnMut(&mut String)) {
        let Self {
            health_status,
            connection_status,
        } = self;
        health_status.iter_mut().chain(connection_status).for_each(each);
    }
}

fn status(value: Json<'_>) -> Option<String> {
    value.string().filter(|status| !status.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> (Option<String>, Option<String>) {
        let installation = Installation::parse(body, "n").unwrap();
        (installation.health_status, installation.connection_status)
    }

    #[test]
    fn two_members_are_read_and_no_token() {
        let body = r#"{"id":"n","healthStatus":"unhealthy","connection":{"status":"bad_credentials","apiKey":"token-1",
            "oauth2AuthorizationCode":{"accessToken":{"token":"token-2"}}},"config":{"apiKey":"token-3"}}"#;
        let installation = Installation::parse(body, "n").unwrap();
        assert!(!format!("{installation:?}").contains("token"));
        assert_eq!(
            parse(body),
            (Some("unhealthy".into()), Some("bad_credentials".into()))
        );
    }

    #[test]
    fn what_cannot_be_used_counts_as_absent() {
        let healthy = || Some("healthy".to_owned());
        for (body, expected) in [
            (r"{}", (None, None)),
            (
                r#"{"id":7,"healthStatus":"healthy","connection":"working"}"#,
                (healthy(), None),
            ),
            (
                r#"{"healthStatus":"\ud800","connection":{"status":{"token":"x"}}}"#,
                (None, None),
            ),
            (
                r#"{"healthStatus":"","connection":{"status":"working","status":null}}"#,
                (None, None),
            ),
            (
                "\u{feff}{\"healthStatus\":\"healthy\",\"connection\":null}",
                (healthy(), None),
            ),
        ] {
            assert_eq!(parse(body), expected, "{body}");
        }
    }

    #[test]
    fn an_answer_of_another_kind_is_refused_without_its_text() {
        for (body, error) in [
            ("\"planted-token\"", NotInstallation::NotObject),
            ("[\"planted-token\"]", NotInstallation::NotObject),
            ("{\"planted-token\"", NotInstallation::NotObject),
            (r#"{"id":"planted-token"}"#, NotInstallation::OtherId),
        ] {
            let found = Installation::parse(body, "n").unwrap_err();
            assert_eq!(found, error, "{body}");
            assert!(!found.to_string().contains("planted"));
        }
    }
}
