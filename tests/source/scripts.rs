//! Rules of the shell scripts.

use std::collections::BTreeMap;

use crate::product::root;
use crate::vocabulary::documents;

/// The pipes of a script into a command that can end before it has read all of its input. With `pipefail` they fail
/// or succeed depending on the size of that input.
fn pipes_into_early_ends(script: &str) -> Vec<String> {
    script
        .lines()
        .filter(|line| {
            let pipeline = line.replace("||", ";");
            let mut commands = pipeline.split('|').skip(1).map(str::split_whitespace);
            commands.any(|mut words| match words.next() {
                Some("head") => true,
                Some("grep") => words.take_while(|word| word.starts_with('-')).any(|option| {
                    option == "--quiet" || !option.starts_with("--") && option.contains(['q', 'm'])
                }),
                _ => false,
            })
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let mut scripts = BTreeMap::new();
    for path in [".ci", "deploy", "fuzz/run", "tests"] {
        documents(&root().join(path), &mut scripts);
    }
    scripts.retain(|_, text| {
        let first = text.lines().next().unwrap_or_default();
        first.starts_with("#!") && first.ends_with("sh")
    });
    assert!(scripts.len() > 3, "{:?}", scripts.keys());
    for (file, script) in scripts {
        let found = pipes_into_early_ends(&script);
        assert!(
            found.is_empty(),
            "{file}: store the output, then search it:\n{}",
            found.join("\n")
        );
    }
}

#[test]
fn pipes_into_early_ends_are_found() {
    for line in [
        "a | grep -q b",
        "a | grep -iqE b",
        "a b |grep -m 1 c",
        "a | grep --quiet b",
        "a | sort | head -n 1",
        "| grep -q",
    ] {
        assert_eq!(pipes_into_early_ends(line), [line], "{line}");
    }
    for line in [
        "grep -q a b || c",
        "a | grep -v q",
        "a | grep q",
        "a && grep -q b <<< c",
        "a | wc -l",
    ] {
        assert!(pipes_into_early_ends(line).is_empty(), "{line}");
    }
}
