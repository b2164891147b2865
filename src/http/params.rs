//! Query parameters. An unknown name is an error, so that a misspelt filter is not ignored.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::problem::Problem;
use crate::core::search_text::SearchText;

/// The most query parameters of a request.
const MAX: usize = 100;

/// The parameters in their order.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Parses `query`; only `known` names are accepted.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .into_owned()
            .take(MAX + 1)
            .collect();
        if pairs.len() > MAX {
            return Err(Problem::bad_request(format!(
                "there are more than {MAX} query parameters"
            )));
        }
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                let name = crate::core::text::one_line(name, 100);
                Err(Problem::bad_request(match known {
                    [] => format!("unknown query parameter `{name}`; this request has no parameters"),
                    _ => format!(
                        "unknown query parameter `{name}`; the known ones are: {}",
                        known.join(", ")
                    ),
                }))
            }
            None => Ok(Self(pairs)),
        }
    }

    /// All values of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(of, _)| of == name)
            .map(|(_, value)| value.as_str())
    }

    /// The last non-empty value of a name.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().rev().filter(|(of, _)| of == name);
        values
            .find(|(_, value)| !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The parsed value of a name, if present; `expected` describes valid values.
    pub(super) fn parsed<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        self.last(name)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| Problem::bad_request(format!("`{name}` must be {expected}")))
            })
            .transpose()
    }

    /// The text that is searched for, if any.
    pub(super) fn search_text(&self) -> Result<Option<SearchText>, Problem> {
        let search = |text| {
            SearchText::new(text).ok_or_else(|| {
                Problem::bad_request(format!(
                    "`q` has more than {} characters; use a shorter text",
                    SearchText::MAX
                ))
            })
        };
        self.last("q").map(search).transpose()
    }

    /// The requested number of entries, at most `most`.
    pub(super) fn limit(&self, most: usize) -> Result<usize, Problem> {
        let expected = "a whole number of at least 1";
        match self.parsed::<u64>("limit", expected)? {
            None => Ok(most),
            Some(0) => Err(Problem::bad_request(format!("`limit` must be {expected}"))),
            Some(limit) => Ok(usize::try_from(limit).unwrap_or(most).min(most)),
        }
    }
}

/// A request of the API without query parameters. Any is refused.
#[derive(Debug)]
pub(super) struct NoParams;

impl<S: Sync> FromRequestParts<S> for NoParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Params::parse(parts.uri.query(), &[]).map(|_| Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_and_limits_are_bounded() {
        let parse = |query: &str| Params::parse(Some(query), &["limit", "label"]);
        assert!(parse("lable=a").is_err());
        assert!(parse(&"label=a&".repeat(101)).is_err());
        assert_eq!(parse("").unwrap().limit(10).unwrap(), 10);
        assert_eq!(parse("limit=").unwrap().limit(10).unwrap(), 10);
        assert_eq!(parse("limit=3").unwrap().limit(10).unwrap(), 3);
        assert_eq!(
            parse("limit=18446744073709551615").unwrap().limit(10).unwrap(),
            10
        );
        for wrong in ["limit=0", "limit=-1", "limit=x", "limit=1e3"] {
            assert!(parse(wrong).unwrap().limit(10).is_err(), "{wrong}");
        }
        let params = parse("label=a%3Db&label=c+d").unwrap();
        assert_eq!(params.all("label").collect::<Vec<_>>(), ["a=b", "c d"]);
    }
}
