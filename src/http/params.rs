//! The query of a request, taken apart; what is not known is an error, so that a misspelt filter does not pass for none.

use std::str::FromStr;

use super::problem::Problem;

/// The most query parameters that make sense.
const MAX: usize = 100;

/// The parameters of a query, in their order.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Takes `query` apart; only `known` names may occur.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .into_owned()
            .take(MAX + 1)
            .collect();
        if pairs.len() > MAX {
            return Err(Problem::bad_request("there are too many query parameters"));
        }
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(Problem::bad_request(format!(
                "there is no query parameter `{}`; those there are: {}",
                crate::core::text::one_line(name, 100),
                known.join(", ")
            ))),
            None => Ok(Self(pairs)),
        }
    }

    /// Every value of that name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(of, _)| of == name)
            .map(|(_, value)| value.as_str())
    }

    /// The last value of that name that is not empty.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().rev().filter(|(of, _)| of == name);
        values
            .find(|(_, value)| !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The value of that name, if there is one.
    pub(super) fn parsed<T: FromStr>(&self, name: &str, wanted: &str) -> Result<Option<T>, Problem> {
        self.last(name)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| Problem::bad_request(format!("`{name}` must be {wanted}")))
            })
            .transpose()
    }

    /// How many entries are wanted: `most` unless fewer are.
    pub(super) fn limit(&self, most: usize) -> Result<usize, Problem> {
        let wanted = "a whole number from 1 on";
        match self.parsed::<u64>("limit", wanted)? {
            None => Ok(most),
            Some(0) => Err(Problem::bad_request(format!("`limit` must be {wanted}"))),
            Some(limit) => Ok(usize::try_from(limit).unwrap_or(most).min(most)),
        }
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
