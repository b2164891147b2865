//! Limits the size of an event's body.

use super::super::operation_log::OperationLogLine;
use super::super::text;
use super::super::watch_list::Labels;
use super::{MAX_BODY, MAX_LABELS, MAX_LOG_LINE, MAX_LOGS, OperationData};

/// Maximum objects in a body that is too large.
const MAX_OBJECTS: usize = 100;
/// Lengths in bytes to which other texts are cut last.
pub(super) const LENGTHS: [usize; 3] = [256, 64, 16];

/// The newest lines that fit into [`MAX_LOGS`].
pub(super) fn newest_lines(lines: Vec<OperationLogLine>) -> Vec<OperationLogLine> {
    let mut left = MAX_LOGS;
    let mut kept: Vec<OperationLogLine> = lines
        .into_iter()
        .rev()
        .map(|line| line.bounded(MAX_LOG_LINE))
        .map_while(|line| {
            left = left.checked_sub(serde_json::to_string(&line).map_or(usize::MAX, |json| json.len()))?;
            Some(line)
        })
        .collect();
    kept.reverse();
    kept
}

/// The first labels that fit into [`MAX_LABELS`].
pub(super) fn first_labels(labels: &Labels) -> Labels {
    let mut left = MAX_LABELS;
    labels
        .iter()
        .map_while(|(name, value)| {
            left = left.checked_sub(name.len() + value.len())?;
            Some((name.clone(), value.clone()))
        })
        .collect()
}

/// Renders `data` in at most [`MAX_BODY`] bytes: logs, result and objects are cut in this order, as far as needed.
pub(super) fn cut(data: &OperationData, body: String, render: impl Fn(&OperationData) -> String) -> String {
    let mut cutting = Cutting {
        data: data.clone(),
        body,
        render,
    };
    while cutting.is_too_large() && !cutting.data.logs.is_empty() {
        cutting.change(|data| {
            data.logs.remove(0);
        });
    }
    // Escaping can make a text six times as long; each round halves it.
    while cutting.is_too_large()
        && let Some(length) = cutting.data.result.as_ref().map(String::len)
    {
        cutting.change(|data| {
            data.result = data
                .result
                .as_deref()
                .filter(|_| length > 2 * text::CUT_MARK.len())
                .map(|result| text::cut(result, length / 2));
        });
    }
    while cutting.is_too_large() && !cutting.data.objects.is_empty() {
        cutting.change(|data| {
            let objects = data.objects.len();
            let most = if objects > MAX_OBJECTS {
                MAX_OBJECTS
            } else {
                objects / 2
            };
            data.objects.truncate(most);
        });
    }
    for length in LENGTHS {
        if cutting.is_too_large() {
            cutting.change(|data| cut_texts(data, length));
        }
    }
    cutting.body
}

struct Cutting<R> {
    data: OperationData,
    body: String,
    render: R,
}

impl<R: Fn(&OperationData) -> String> Cutting<R> {
    fn is_too_large(&self) -> bool {
        self.body.len() > MAX_BODY
    }

    fn change(&mut self, change: impl FnOnce(&mut OperationData)) {
        change(&mut self.data);
        self.body = (self.render)(&self.data);
    }
}

/// Cuts every text from the API or the watch list, except the names of project and operation.
fn cut_texts(data: &mut OperationData, length: usize) {
    for text in [
        &mut data.reason,
        &mut data.status,
        &mut data.previous_status,
        &mut data.installation_id,
        &mut data.integration_id,
        &mut data.project_id,
    ] {
        *text = text.as_deref().map(|text| text::cut(text, length));
    }
    cut_labels(&mut data.labels, length);
}

pub(super) fn cut_labels(labels: &mut Labels, length: usize) {
    for (name, value) in labels {
        *name = text::cut(name, 4 * length);
        *value = text::cut(value, length);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use super::super::super::installation::Installation;
    use super::super::super::watch::Watch;
    use super::super::super::watch_list::WatchKey;
    use super::super::{Event, EventType, MAX_RESULT};
    use super::*;

    fn event(fill: impl FnOnce(&mut OperationData)) -> Event {
        let key = WatchKey {
            project: "p".into(),
            operation: "op".into(),
        };
        let mut data = Watch::default().data(&key, &Labels::new(), Timestamp::UNIX_EPOCH);
        fill(&mut data);
        Event::operation(
            &key,
            EventType::Failed,
            "generation 0",
            Timestamp::UNIX_EPOCH,
            data,
        )
    }

    fn lines(count: usize, text: &str) -> Vec<OperationLogLine> {
        let line = |number: usize| serde_json::json!({"message": format!("{number} {text}")});
        let log: Vec<Value> = (0..count).map(line).collect();
        OperationLogLine::parse_all(&Value::from(log).to_string()).unwrap()
    }

    fn body(event: &Event) -> Value {
        let body = event.body();
        assert!(body.len() <= MAX_BODY, "{} bytes", body.len());
        serde_json::from_str::<Value>(&body).unwrap()["data"].take()
    }

    fn texts(value: &Value) -> Vec<&str> {
        let texts = value.as_array().map(Vec::as_slice).unwrap_or_default();
        texts
            .iter()
            .map(|text| text.as_str().or(text["message"]["msg"].as_str()).unwrap())
            .collect()
    }

    #[test]
    fn what_fits_is_not_cut() {
        let mut event = event(|data| {
            data.result = Some("r".repeat(MAX_RESULT));
            data.objects = (0..200).map(|number| format!("object {number}")).collect();
        });
        event.attach_logs(lines(5, "line"));
        let data = body(&event);
        assert_eq!(data["result"].as_str().unwrap().len(), MAX_RESULT);
        assert_eq!(texts(&data["objects"]).len(), 200);
        assert_eq!(
            texts(&data["logs"]),
            ["0 line", "1 line", "2 line", "3 line", "4 line"]
        );
    }

    #[test]
    fn logs_are_cut_first_then_the_result_then_the_objects() {
        // 7 kB of logs, and a result of 8 kB as JSON.
        let with_objects = |objects: usize, length: usize| {
            let mut event = event(|data| {
                data.result = Some("\"".repeat(MAX_RESULT));
                data.objects = vec!["o".repeat(length); objects];
            });
            event.attach_logs(lines(20, &"l".repeat(300)));
            body(&event)
        };
        let few_logs = with_objects(60, 100);
        let kept = texts(&few_logs["logs"]);
        assert!((5..20).contains(&kept.len()), "{}", kept.len());
        assert!(kept.last().unwrap().starts_with("19 "), "the newest lines stay");
        assert_eq!(few_logs["result"].as_str().unwrap().len(), MAX_RESULT);
        assert_eq!(texts(&few_logs["objects"]).len(), 60);

        let short_result = with_objects(150, 100);
        assert_eq!(short_result["logs"], Value::Null);
        let result = short_result["result"].as_str().unwrap();
        assert!(
            (256..MAX_RESULT).contains(&result.len()) && result.ends_with('…'),
            "{result}"
        );
        assert_eq!(texts(&short_result["objects"]).len(), 150);

        let few_objects = with_objects(300, 150);
        assert_eq!(
            (&few_objects["logs"], &few_objects["result"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(texts(&few_objects["objects"]).len(), MAX_OBJECTS);
        assert_eq!(texts(&with_objects(300, 300)["objects"]).len(), MAX_OBJECTS / 2);
    }

    #[test]
    fn hostile_labels_and_names_fit_too() {
        let nasty = "\u{1}".repeat(256);
        let event = event(|data| {
            data.labels = (0..16)
                .map(|number| (format!("label {number}"), nasty.clone()))
                .collect();
            for text in [
                &mut data.project_id,
                &mut data.installation_id,
                &mut data.integration_id,
                &mut data.status,
                &mut data.previous_status,
                &mut data.reason,
            ] {
                *text = Some(nasty.clone());
            }
        });
        let data = body(&event);
        assert_eq!(data["labels"].as_object().unwrap().len(), 16);
    }

    #[test]
    fn labels_have_four_kibibytes_together() {
        let labels: Labels = (0..16)
            .map(|number| (format!("{number:4}"), "v".repeat(300)))
            .collect();
        assert_eq!(Event::labels(&labels), labels[..13]);
        assert_eq!(Event::labels(&labels[..13].to_vec()), labels[..13]);
    }

    #[test]
    fn the_context_of_a_stall_is_bounded() {
        let mut event = event(|_| ());
        event.attach_logs(lines(100, &"l".repeat(2000)));
        event.attach_installation(&Installation {
            health_status: Some("unhealthy".into()),
            connection_status: Some("bad_credentials".repeat(100)),
        });
        let data = body(&event);
        assert_eq!(data["healthStatus"], "unhealthy");
        let connection = data["connectionStatus"].as_str().unwrap();
        assert!(
            connection.len() <= 64 && connection.ends_with('…'),
            "{connection}"
        );
        let kept = texts(&data["logs"]);
        assert!(kept.len() > 5 && kept.last().unwrap().starts_with("99 "));
        event.attach_installation(&Installation::default());
        assert_eq!(body(&event)["healthStatus"], Value::Null);
    }
}
