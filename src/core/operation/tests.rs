use super::*;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn parse(json: &str) -> Result<Operation, OperationParseError> {
    Operation::parse(json, now())
}

/// An operation that succeeded, with these members, and the names of those that cannot be used.
fn with(members: &str) -> (Operation, Vec<&'static str>) {
    let operation = parse(&format!(r#"{{"id":"op","status":"success",{members}}}"#)).unwrap();
    assert_eq!(operation.status, Status::Success, "{members}");
    let unusable = operation.unusable.members().map(Member::as_str).collect();
    (operation, unusable)
}

const EVERYTHING: &str = r#"{"id":"op","projectId":"p","integrationId":"i","configId":"c","installationId":"n","actionType":"read","status":"in_progress","result":"r","createTime":"2023-07-13T21:34:44.816354Z","metadata":{"objects":["contact"],"retry":{"attempts":2,"lastAttempt":"2023-07-13T21:34:44Z","lastNotified":"2023-07-13T21:34:45Z"},"progress":{"installationId":"n","objectName":"contact","operationId":"op","recordsProcessed":1250,"recordsEstimatedTotal":5000}}}"#;

#[test]
fn every_member_of_the_contract_is_kept() {
    let operation = parse(EVERYTHING).unwrap();
    assert_eq!(serde_json::to_string(&operation).unwrap(), EVERYTHING);
    assert!(operation.unusable.is_empty());
    // A byte-order mark, white space and members that nobody knows change nothing.
    let more = EVERYTHING.replacen('{', "\u{feff} {\"brandNew\":[[[]]],\"\\ud800\":1,", 1);
    let more = more.replace('\u{feff}', "");
    assert_eq!(parse(&format!("\u{feff}{more}\n")).unwrap(), operation);
}

#[test]
fn id_and_status_are_needed_once_each_and_nothing_else_is() {
    let bare = parse(r#"{"status":"success","id":"op"}"#).unwrap();
    assert_eq!(bare, Operation::new("op", Status::Success));
    for (json, problem) in [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        (r#"{"id":"op","status":"success""#, "not a JSON object"),
        (r#"{"id":"op","status":"success"}{}"#, "not a JSON object"),
        (r#"{"status":"success"}"#, "`id` is missing"),
        (r#"{"id":"op"}"#, "`status` is missing"),
        (r#"{"id":7,"status":"success"}"#, "`id` is not a string"),
        (r#"{"id":"op","status":null}"#, "`status` is not a string"),
        (r#"{"id":"op","status":"\ud800"}"#, "`status` is not a string"),
        (r#"{"id":"op","status":"success","id":"op"}"#, "`id` occurs twice"),
        (
            r#"{"id":"op","status":"success","stat\u0075s":"success"}"#,
            "`status` occurs twice",
        ),
        (
            r#"{"id":"op","status":"a","status":"b","status":"c"}"#,
            "`status` occurs twice",
        ),
    ] {
        let error = parse(json).unwrap_err().to_string();
        assert!(error.contains(problem), "{json}: {error}");
    }
}

#[test]
fn an_unusable_member_does_not_affect_the_others() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    for (members, unusable) in [
        (r#""metadata":null,"result":null,"projectId":null"#, vec![]),
        (r#""metadata":7"#, vec!["metadata"]),
        (r#""metadata":[]"#, vec!["metadata"]),
        (r#""result":{"rows":3}"#, vec!["result"]),
        (r#""result":"\ud800 done""#, vec!["result"]),
        (
            r#""integrationId":12,"configId":[]"#,
            vec!["integrationId", "configId"],
        ),
        (r#""createTime":"yesterday""#, vec!["createTime"]),
        (r#""createTime":20261123"#, vec!["createTime"]),
        (r#""actionType":{}"#, vec!["actionType"]),
        (r#""brandNew":1e999,"more":"\udfff""#, vec![]),
        (&format!(r#""brandNew":{deep}"#), vec![]),
        (&format!(r#""result":{deep}"#), vec!["result"]),
        (
            r#""metadata":{"retry":[],"progress":"far"}"#,
            vec!["retry", "progress"],
        ),
        (
            r#""metadata":{"retry":{"attempts":"often","lastAttempt":1,"lastNotified":""}}"#,
            vec!["attempts", "lastAttempt", "lastNotified"],
        ),
    ] {
        assert_eq!(with(members).1, unusable, "{members}");
    }
}

#[test]
fn the_members_beside_an_unusable_one_count() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    let metadata = format!(
        r#""metadata":{{"objects":["con\udfff"],"custom":{deep},"retry":{{"attempts":"2"}},
            "progress":{{"recordsProcessed":-1,"recordsEstimatedTotal":5e3}}}}"#
    );
    let (operation, unusable) = with(&metadata);
    assert_eq!(unusable, ["metadata", "objects", "recordsProcessed"]);
    let metadata = operation.metadata.unwrap();
    assert_eq!(metadata.objects, None);
    assert_eq!(metadata.retry.unwrap().attempts, Some(2));
    let progress = metadata.progress.unwrap();
    assert_eq!(progress.records_processed, None);
    assert_eq!(progress.records_estimated_total, Some(5000));
}

#[test]
fn an_implausible_start_is_replaced_by_the_time_in_the_id() {
    let of_id = "2025-11-24T12:00:00Z".parse().ok();
    let seven = "019ab5bc-2e00-7a2b-8c3d-0123456789ab";
    for (id, time, start, is_unusable) in [
        (seven, "0001-01-01T00:00:00Z", of_id, true),
        (seven, "1970-01-01T00:00:00Z", of_id, true),
        (seven, "2027-11-24T12:00:00Z", of_id, true),
        (
            seven,
            "2026-11-24T11:00:00Z",
            "2026-11-24T11:00:00Z".parse().ok(),
            false,
        ),
        ("op", "0001-01-01T00:00:00Z", None, true),
        (
            "op",
            "2026-11-25T11:00:00+00:00",
            "2026-11-25T11:00:00Z".parse().ok(),
            false,
        ),
    ] {
        let json = format!(r#"{{"id":"{id}","status":"success","createTime":"{time}"}}"#);
        let operation = parse(&json).unwrap();
        assert_eq!(operation.create_time, start, "{json}");
        assert_eq!(!operation.unusable.is_empty(), is_unusable, "{json}");
    }
    let missing = parse(&format!(r#"{{"id":"{seven}","status":"success"}}"#)).unwrap();
    assert_eq!((missing.create_time, missing.unusable.is_empty()), (of_id, true));
}

#[test]
fn every_text_is_given() {
    let json = EVERYTHING
        .replace("\"read\"", "\"purge\"")
        .replace("in_progress", "odd");
    let mut operation = parse(&json).unwrap();
    let mut texts = Vec::new();
    operation.for_each_text(&mut |text| texts.push(std::mem::replace(text, "-".to_owned())));
    texts.sort_unstable();
    let mut expected = [
        "op", "p", "i", "c", "n", "purge", "odd", "r", "contact", "n", "contact", "op",
    ];
    expected.sort_unstable();
    assert_eq!(texts, expected);
    let left = serde_json::to_string(&operation).unwrap();
    assert_eq!(left.matches("\"-\"").count(), expected.len(), "{left}");
}

#[test]
fn each_member_has_a_name_and_a_place_of_its_own() {
    let mut all = UnusableMembers::default();
    for (index, member) in Member::ALL.into_iter().enumerate() {
        assert_eq!(member as usize, index);
        all.insert(member);
    }
    let mut names: Vec<&str> = all.members().map(Member::as_str).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Member::ALL.len());
}

#[test]
fn unknown_values_are_kept_verbatim() {
    let operation = parse(r#"{"id":"op","status":"Cancelled by user"}"#).unwrap();
    assert_eq!(operation.status, Status::Other("Cancelled by user".into()));
    assert_eq!(
        ActionType::from("purge".to_owned()),
        ActionType::Other("purge".into())
    );
}
