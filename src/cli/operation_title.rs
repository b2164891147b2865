//! What people call an operation: the values of its labels, and its objects.

use crate::core::discovery::{GROUP_LABEL, OWN_LABELS};
use crate::core::labels::Labels;
use crate::core::text::one_line;

/// The longest text of one part, in bytes.
const MAX_PART: usize = 60;

/// The customer first, then other labels, then the objects. No part occurs twice.
#[must_use]
pub fn operation_title(labels: &Labels, objects: &[String]) -> String {
    let customer = labels.iter().filter(|(key, _)| key == GROUP_LABEL);
    // The IDs that discovery adds identify, but they name nothing.
    let others = labels.iter().filter(|(key, _)| !OWN_LABELS.contains(&&**key));
    let object = labels
        .iter()
        .filter(|(key, _)| key == "object" && objects.is_empty());
    let values = customer.chain(others).chain(object).map(|(_, value)| value);
    let mut parts: Vec<String> = Vec::new();
    for text in values.cloned().chain([objects.join(",")]) {
        let part = one_line(&text, MAX_PART);
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(labels: &[(&str, &str)], objects: &[&str]) -> String {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let objects: Vec<String> = objects.iter().map(|object| (*object).to_owned()).collect();
        operation_title(&labels, &objects)
    }

    #[test]
    fn a_title_is_the_customer_and_the_object() {
        assert_eq!(title(&[], &["contact", "lead"]), "contact,lead");
        assert_eq!(
            title(
                &[("team", "crm"), ("customer", "Gale Ltd"), ("group", "Gale Ltd")],
                &["contact"]
            ),
            "Gale Ltd crm contact"
        );
        let discovered = [
            ("group", "acme"),
            ("object", "deal"),
            ("installation", "7c0e"),
            ("integration", "4b1d"),
        ];
        assert_eq!(title(&discovered, &[]), "acme deal", "not answered yet");
        assert_eq!(title(&discovered, &["deal"]), "acme deal");
    }

    #[test]
    fn a_title_is_one_line_of_limited_length() {
        let long = "x".repeat(500);
        let title = title(&[("customer", "a\u{1b}[2J\nb"), ("note", &long)], &["c"]);
        assert!(title.starts_with("a\\u{1b}[2J\\nb xxx"), "{title}");
        assert!(title.len() < 100, "{title}");
    }
}
