//! What people call an operation: whose it is, and what it reads.

use super::discovery::{GROUP_LABEL, OWN_LABELS};
use super::labels::Labels;
use super::text::one_line;

/// The label that names the customer where no group does.
const CUSTOMER_LABEL: &str = "customer";
/// Maximum bytes of one part.
const MAX_PART: usize = 60;
/// Maximum bytes of labels in a phrase.
const MAX_OWNER: usize = 80;

/// The name of an operation, in parts. The status page has the same rules.
#[derive(Debug, PartialEq, Eq)]
pub struct OperationName<'a> {
    customer: Option<&'a str>,
    /// Other labels, without those that discovery adds: they identify, but they name nothing.
    others: Vec<(&'a str, &'a str)>,
    objects: String,
}

impl<'a> OperationName<'a> {
    /// The name of an operation that reads `objects`. `group_label` is the label that groups are formed by.
    #[must_use]
    pub fn new(labels: &'a Labels, objects: &[String], group_label: &str) -> Self {
        let value_of = |key: &str| {
            let label = labels
                .iter()
                .find(|(name, value)| name == key && !value.is_empty());
            label.map(|(name, value)| (&**name, &**value))
        };
        let customer = [group_label, GROUP_LABEL, CUSTOMER_LABEL]
            .into_iter()
            .find_map(value_of);
        let others = labels.iter().map(|(key, value)| (&**key, &**value));
        let others = others.filter(|other| !OWN_LABELS.contains(&other.0) && Some(*other) != customer);
        let objects = match objects {
            // Not answered yet.
            [] => value_of("object").map_or_else(String::new, |(_, value)| value.to_owned()),
            objects => objects.join(", "),
        };
        Self {
            customer: customer.map(|(_, value)| value),
            others: others.collect(),
            objects,
        }
    }

    /// `Gale Ltd crm contact`: the customer first, then other labels, then the objects. No part occurs twice.
    #[must_use]
    pub fn title(&self) -> String {
        let others = self.others.iter().map(|(_, value)| *value);
        let mut parts: Vec<String> = Vec::new();
        for text in self.customer.into_iter().chain(others).chain([&*self.objects]) {
            let part = one_line(text, MAX_PART);
            if !part.is_empty() && !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts.join(" ")
    }

    /// `contact of Gale Ltd`, as far as that is known.
    #[must_use]
    pub fn phrase(&self) -> Option<String> {
        let owner = match (self.customer, &*self.others) {
            (Some(customer), _) => customer.to_owned(),
            (None, [(_, value)]) => (*value).to_owned(),
            (None, others) => {
                let others: Vec<_> = others
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                others.join(", ")
            }
        };
        let owner = one_line(&owner, MAX_OWNER);
        let objects = one_line(&self.objects, MAX_PART);
        match (objects.is_empty(), owner.is_empty()) {
            (true, true) => None,
            (true, false) => Some(owner),
            (false, true) => Some(objects),
            (false, false) => Some(format!("{objects} of {owner}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[(&str, &str)]) -> Labels {
        let labels = labels.iter();
        labels
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// The title and the phrase.
    fn name(of: &[(&str, &str)], objects: &[&str], group_label: &str) -> (String, String) {
        let labels = labels(of);
        let objects: Vec<String> = objects.iter().map(|object| (*object).to_owned()).collect();
        let name = OperationName::new(&labels, &objects, group_label);
        (name.title(), name.phrase().unwrap_or_default())
    }

    fn texts(title: &str, phrase: &str) -> (String, String) {
        (title.to_owned(), phrase.to_owned())
    }

    #[test]
    fn a_name_is_the_customer_and_the_object() {
        assert_eq!(name(&[], &[], "group"), texts("", ""));
        assert_eq!(
            name(&[], &["contact", "lead"], "group"),
            texts("contact, lead", "contact, lead")
        );
        assert_eq!(
            name(
                &[("team", "crm"), ("customer", "Gale Ltd"), ("group", "Gale Ltd")],
                &["contact"],
                "group"
            ),
            texts("Gale Ltd crm contact", "contact of Gale Ltd")
        );
        assert_eq!(
            name(&[("tenant", "t-1"), ("customer", "acme")], &["deal"], "tenant"),
            texts("t-1 acme deal", "deal of t-1")
        );
        assert_eq!(
            name(&[("team", "crm"), ("tier", "gold")], &["deal"], "group"),
            texts("crm gold deal", "deal of team=crm, tier=gold")
        );
        let discovered = [
            ("group", "acme"),
            ("object", "deal"),
            ("installation", "7c0e"),
            ("integration", "4b1d"),
        ];
        for objects in [&[][..], &["deal"]] {
            assert_eq!(
                name(&discovered, objects, "group"),
                texts("acme deal", "deal of acme")
            );
        }
    }

    #[test]
    fn a_name_is_one_line_of_limited_length() {
        let long = "x".repeat(500);
        let (title, phrase) = name(
            &[("customer", "a\u{1b}[2J\nb"), ("note", &long)],
            &["c", &long],
            "group",
        );
        assert!(title.starts_with("a\\u{1b}[2J\\nb xxx"), "{title}");
        assert!(title.len() < 200, "{title}");
        assert!(phrase.ends_with(" of a\\u{1b}[2J\\nb"), "{phrase}");
        assert!(phrase.len() < 160, "{phrase}");
    }
}
