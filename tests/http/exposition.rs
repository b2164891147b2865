//! A strict reader of Prometheus' text format 0.0.4.

use std::collections::BTreeMap;

/// What kind of metric a family is, and its samples by name and labels.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub samples: BTreeMap<(String, String), f64>,
}

/// The families of a text by name.
pub fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut helped = Vec::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(words.len() > 5 && !helped.contains(&name), "{line}");
            helped.push(name);
        } else if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            assert_eq!(helped.last(), Some(&name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let family = Family {
                kind: kind.to_owned(),
                ..Family::default()
            };
            assert!(families.insert(name.to_owned(), family).is_none(), "{line}");
            name.clone_into(&mut current);
        } else {
            let (name, labels, value) = sample(line);
            let family = families.get_mut(&current).expect("a sample follows its family");
            let suffix = name.strip_prefix(current.as_str()).unwrap();
            let allowed: &[&str] = if family.kind == "histogram" {
                &["_bucket", "_sum", "_count"]
            } else {
                &[""]
            };
            assert!(allowed.contains(&suffix), "{line}");
            let is_new = family.samples.insert((name.to_owned(), labels), value);
            assert!(is_new.is_none(), "twice: {line}");
        }
    }
    families
        .values()
        .filter(|family| family.kind == "histogram")
        .for_each(check_histogram);
    families
}

fn sample(line: &str) -> (&str, String, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
        None => (series, ""),
    };
    let is_name = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    assert!(is_name(name), "{line}");
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(label), "{line}");
        let end = end_of_value(after);
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    (name, labels.to_owned(), value.parse().unwrap())
}

fn end_of_value(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' => escaped = !escaped,
            b'"' if !escaped => return index,
            _ => escaped = false,
        }
    }
    panic!("a value without an end: {text}");
}

fn check_histogram(family: &Family) {
    let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for ((name, labels), value) in &family.samples {
        if name.ends_with("_bucket") {
            let (others, bound) = labels.rsplit_once("le=\"").unwrap();
            let bound = match bound.trim_end_matches('"') {
                "+Inf" => f64::INFINITY,
                number => number.parse().unwrap(),
            };
            let others = others.trim_end_matches(',').to_owned();
            series.entry(others).or_default().push((bound, *value));
        }
    }
    assert!(!series.is_empty());
    for (labels, mut buckets) in series {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(
            buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
            "{buckets:?}"
        );
        let (bound, all) = *buckets.last().unwrap();
        assert!(bound.is_infinite());
        let count = family
            .samples
            .iter()
            .find(|((name, of), _)| name.ends_with("_count") && *of == labels);
        assert_eq!(count.unwrap().1, &all);
    }
}
