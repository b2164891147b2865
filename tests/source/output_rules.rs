//! Rules of what the program prints and logs, checked on the source.

use crate::product::{Module, product};

/// What errors are called in this source.
const ERROR_NAMES: [&str; 6] = ["error", "err", "e", "source", "failure", "cause"];

/// Whether an argument of a log macro shows an error without its causes.
fn hides_causes(argument: &str) -> bool {
    let (name, value) = argument.split_once('=').unwrap_or(("", argument));
    let shown = value.trim_start_matches(['%', '?', '&', '*']);
    let is_shown_by_itself = value.starts_with(['%', '?']) && ERROR_NAMES.contains(&shown);
    let is_shorthand = name.is_empty() && shown == "error";
    let is_dyn = value.contains("dyn ") && value.contains("Error");
    // In the text of a message, or by a conversion of its own.
    let is_captured = ERROR_NAMES
        .iter()
        .any(|name| argument.contains(&format!("{{{name}}}")) || argument.contains(&format!("{{{name}:")));
    let is_converted = ERROR_NAMES
        .iter()
        .any(|name| value == format!("{name}.to_string()"));
    // A variable of another name has a text already.
    let is_text = value.ends_with(".as_str()")
        || !ERROR_NAMES.contains(&value) && value.chars().all(|c| c.is_alphanumeric() || c == '_');
    let is_other = name == "error" && !is_text && !value.starts_with("chain(");
    is_shown_by_itself || is_shorthand || is_dyn || is_captured || is_converted || is_other
}

#[test]
fn an_error_is_logged_with_all_its_causes() {
    let calls = || {
        product()
            .iter()
            .flat_map(|module| module.log_calls.iter().map(move |call| (module, call)))
    };
    assert!(calls().count() > 50, "the log calls were not found");
    let mut found = Vec::new();
    for (module, call) in calls() {
        let wrong = call.arguments.iter().filter(|argument| hides_causes(argument));
        found.extend(wrong.map(|argument| format!("{}: {argument}", module.file)));
    }
    assert!(
        found.is_empty(),
        "log an error as `error = chain(&error)`, which prints its causes in every format (text as \
         `error = text.as_str()`):\n{}",
        found.join("\n")
    );
}

#[test]
fn one_file_writes_to_the_standard_streams() {
    const MACROS: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];
    let mut found = Vec::new();
    for module in product().iter().filter(|module| module.name != "stdio") {
        let macros = module
            .macros
            .iter()
            .filter(|call| MACROS.contains(&call.text.as_str()));
        let streams = module.chains.iter().filter(|chain| {
            let stream = ["io::stdout", "io::stderr"]
                .iter()
                .find_map(|stream| chain.text.split_once(stream));
            // Whether it is a terminal, and which file it is, may be asked anywhere.
            stream
                .is_some_and(|(_, rest)| !rest.starts_with("().is_terminal") && !rest.starts_with("().as_fd"))
        });
        let places = macros.chain(streams);
        found.extend(places.map(|place| format!("{}:{}: {}", module.file, place.line, place.text)));
    }
    assert!(
        found.is_empty(),
        "the streams of the standard library block, and lose what a nonblocking descriptor refuses; print through \
         `cli::output`, and log through `tracing`:\n{}",
        found.join("\n")
    );
}

#[test]
fn errors_without_their_causes_are_found() {
    let wrong = |statement: &str| {
        let module = Module::parse(&format!("fn f() {{ {statement} }}"));
        assert_eq!(module.log_calls.len(), 1, "{statement}");
        let arguments = module.log_calls[0].arguments.iter();
        arguments.filter(|argument| hides_causes(argument)).count()
    };
    for statement in [
        r#"select! { _ = x => { tracing::warn!(%error, "m") } }"#,
        r#"tracing::warn!(error = &error as &dyn std::error::Error, "m")"#,
        r#"warn!(reason = %e, "m")"#,
        r#"warn!(reason = ?source, "m")"#,
        r#"warn!(error, "m")"#,
        r#"warn!("m: {error}")"#,
        r#"warn!(reason = format!("{error:#}"), "m")"#,
        r#"warn!(reason = error.to_string(), "m")"#,
        r#"warn!(error = error.to_string(), "m")"#,
    ] {
        assert_eq!(wrong(statement), 1, "{statement}");
    }
    for statement in [
        r#"warn!(%file, error = chain(&error), reason = %problem, "m {name}")"#,
        r#"warn!(error = reason, endpoint, "m")"#,
        r#"warn!(error = error.as_str(), count, "m: error")"#,
    ] {
        assert_eq!(wrong(statement), 0, "{statement}");
    }
}
