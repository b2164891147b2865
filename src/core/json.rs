//! Reads JSON member by member, so that one unusable value does not affect the others.
//!
//! A parser that builds values fails as a whole on half of a surrogate pair, a number out of range or deep nesting.
//! Here only the grammar is checked first; each value is read on demand.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::Deserializer as _;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Maximum nesting of a usable member.
pub const MAX_DEPTH: usize = 64;

/// A well-formed JSON value that is read on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// `text` as one value, with or without a byte-order mark.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn parse(text: &'a str) -> serde_json::Result<Self> {
        let value: &RawValue = serde_json::from_str(without_mark(text))?;
        Ok(Self(value.get()))
    }

    /// The text of the value.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.0
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The value as a string; `None` also for half of a surrogate pair.
    #[must_use]
    pub fn string(self) -> Option<String> {
        match unescaped(self.0) {
            Some(text) => Some(text.to_owned()),
            None => self.read(),
        }
    }

    /// The value as a boolean.
    #[must_use]
    pub fn boolean(self) -> Option<bool> {
        self.read()
    }

    /// The value as an RFC 3339 time.
    #[must_use]
    pub fn time(self) -> Option<Timestamp> {
        self.read()
    }

    /// The value as a list of strings.
    #[must_use]
    pub fn strings(self) -> Option<Vec<String>> {
        self.read()
    }

    /// The value as a count: an integer, a number without a fraction, or either as text. Exact up to `u64::MAX`.
    #[must_use]
    pub fn count(self) -> Option<u64> {
        if self.0.starts_with('"') {
            let text = self.string()?;
            let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let begins_and_ends = text.starts_with(|c: char| c.is_ascii_digit())
                && text.ends_with(|c: char| c.is_ascii_digit());
            return integer(&text).filter(|_| is_decimal && begins_and_ends);
        }
        integer(self.0)
    }

    /// Calls `each` with each member in order. Returns false if this is not an object.
    pub fn members(self, each: impl FnMut(&str, Json<'a>)) -> bool {
        members(self.0, each).is_ok()
    }

    /// Whether it is nested deeper than [`MAX_DEPTH`].
    #[must_use]
    pub fn is_too_deep(self) -> bool {
        // Counting brackets is much faster than following them.
        brackets(self.0) > MAX_DEPTH && depth(self.0) > MAX_DEPTH
    }

    fn read<T: DeserializeOwned>(self) -> Option<T> {
        serde_json::from_str(self.0).ok()
    }
}

/// Calls `each` with each member of the object `text` in order. Members whose name is not text are skipped.
///
/// # Errors
/// When the text is not one JSON object. `each` was called for the members before the error.
pub fn members<'a>(text: &'a str, each: impl FnMut(&str, Json<'a>)) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_str(without_mark(text));
    json.deserialize_map(Members(each, PhantomData))?;
    json.end()
}

/// Calls `each` with each element of the array `text` in order.
///
/// # Errors
/// When the text is not one JSON array. `each` was called for the elements before the error.
pub fn elements<'a>(text: &'a str, each: impl FnMut(Json<'a>)) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_str(without_mark(text));
    json.deserialize_seq(Elements(each, PhantomData))?;
    json.end()
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

struct Members<'a, F>(F, PhantomData<&'a str>);

impl<'a, F: FnMut(&str, Json<'a>)> Visitor<'a> for Members<'a, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if let Some(name) = name_of(name.get()) {
                (self.0)(&name, Json(value.get()));
            }
        }
        Ok(())
    }
}

/// Unquotes a member's name.
fn name_of(quoted: &str) -> Option<Cow<'_, str>> {
    match unescaped(quoted) {
        Some(name) => Some(Cow::Borrowed(name)),
        None => serde_json::from_str(quoted).ok().map(Cow::Owned),
    }
}

/// The text of a JSON string without escapes.
fn unescaped(json: &str) -> Option<&str> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

struct Elements<'a, F>(F, PhantomData<&'a str>);

impl<'a, F: FnMut(Json<'a>)> Visitor<'a> for Elements<'a, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(value) = array.next_element::<&RawValue>()? {
            (self.0)(Json(value.get()));
        }
        Ok(())
    }
}

/// The number of opening brackets, including those in strings.
fn brackets(text: &str) -> usize {
    // Sums of bytes, so that the compiler counts many bytes at once.
    let in_part = |part: &[u8]| {
        let brackets = part.iter().map(|byte| u8::from(matches!(byte, b'[' | b'{')));
        usize::from(brackets.sum::<u8>())
    };
    text.as_bytes().chunks(usize::from(u8::MAX)).map(in_part).sum()
}

/// The nesting of well-formed JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The integer value of a decimal number, from 0 to `u64::MAX`.
fn integer(number: &str) -> Option<u64> {
    if let Ok(plain) = number.parse() {
        return Some(plain).filter(|_| !number.starts_with('+'));
    }
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        // With an exponent out of range only zero is an integer.
        Some((mantissa, exponent)) => (
            mantissa,
            exponent.parse::<i32>().unwrap_or(if exponent.starts_with('-') {
                i32::MIN
            } else {
                i32::MAX
            }),
        ),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (is_negative, whole) = match whole.strip_prefix('-') {
        Some(whole) => (true, whole),
        None => (false, whole),
    };
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    // Digits times a power of ten, without leading and trailing zeros.
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    if is_negative {
        return None;
    }
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let power = i64::from(exponent) + zeros as i64 - fraction.len() as i64;
    let power = u32::try_from(power).ok()?;
    let significant: u64 = significant.parse().ok()?;
    significant.checked_mul(10_u64.checked_pow(power)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_as_they_are_whatever_their_values() {
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        let text = format!(
            "\u{feff}{{\"a\":\"\\ud800\", \"\\u0062\" : 1e999,\"\\udfff\":0,\"c\":{deep},\"a\":null}} "
        );
        let mut found = Vec::new();
        members(&text, |name, value| found.push((name.to_owned(), value))).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "a"]);
        assert_eq!(found[0].1.string(), None);
        assert_eq!(found[1].1.count(), None);
        assert!(found[2].1.is_too_deep() && found[3].1.is_null());
        for bad in [
            "",
            "[]",
            "{",
            "{}{}",
            "{\"a\":}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\n\"}",
        ] {
            assert!(members(bad, |_, _| {}).is_err(), "{bad}");
        }
    }

    #[test]
    fn elements_come_one_by_one() {
        let mut found = Vec::new();
        elements("[1, {\"a\":[]},\"x\"]", |value| found.push(value.text())).unwrap();
        assert_eq!(found, ["1", "{\"a\":[]}", "\"x\""]);
        assert!(elements("{}", |_| {}).is_err());
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        let nested = |levels: usize| "[".repeat(levels) + "\"[[[\\\"[[\"" + &"]".repeat(levels);
        assert!(!Json(&nested(MAX_DEPTH)).is_too_deep());
        assert!(Json(&nested(MAX_DEPTH + 1)).is_too_deep());
        assert!(!Json(&format!("\"{}\"", "[".repeat(1_000))).is_too_deep());
    }

    #[test]
    fn counts_are_exact_in_every_spelling() {
        for (text, count) in [
            ("0", Some(0)),
            ("1250", Some(1250)),
            ("1250.0", Some(1250)),
            ("1.25e3", Some(1250)),
            ("1e3", Some(1000)),
            ("125000E-2", Some(1250)),
            ("0e999999999999", Some(0)),
            ("-0.0", Some(0)),
            ("-0", Some(0)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551615.000", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("1e19", Some(10_000_000_000_000_000_000)),
            ("1e20", None),
            ("1e999", None),
            ("1e-999999999999", None),
            ("-1", None),
            ("-1e3", None),
            ("1250.5", None),
            ("1e-1", None),
            ("\"1250\"", Some(1250)),
            ("\"1250.0\"", Some(1250)),
            ("\"\\u0031\"", Some(1)),
            ("\"1e3\"", None),
            ("\"\"", None),
            ("\".\"", None),
            ("\"1.\"", None),
            ("\".5\"", None),
            ("\" 12 \"", None),
            ("\"1,250\"", None),
            ("\"+1\"", None),
            ("\"-1\"", None),
            ("\"1.0.0\"", None),
            ("\"many\"", None),
            ("true", None),
            ("null", None),
            ("[1]", None),
        ] {
            assert_eq!(Json(text).count(), count, "{text}");
        }
    }
}
