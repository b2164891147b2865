//! Series of each operation, with `metrics.per_operation` only. They are written line by line, since there may be
//! millions.

use super::PREFIX;
use crate::core::event::ProgressData;
use crate::core::watch_list::WatchKey;

/// A series that each operation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationSeries {
    /// Processed records.
    RecordsProcessed,
    /// Processed records divided by the estimate.
    ProgressRatio,
}

impl OperationSeries {
    /// All series, in output order.
    pub const ALL: [Self; 2] = [Self::RecordsProcessed, Self::ProgressRatio];

    fn name(self) -> &'static str {
        match self {
            Self::RecordsProcessed => "operation_records_processed",
            Self::ProgressRatio => "operation_progress_ratio",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::RecordsProcessed => "Records that the operation has processed.",
            Self::ProgressRatio => "Processed records divided by the estimated total, from 0 to 1.",
        }
    }

    /// The `HELP` and `TYPE` lines.
    #[must_use]
    pub fn head(self) -> String {
        let (name, help) = (self.name(), self.help());
        format!("# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} gauge\n")
    }

    /// The sample of one operation; `None` if the value is unknown.
    #[must_use]
    pub fn sample(self, key: &WatchKey, progress: &ProgressData) -> Option<String> {
        let value = match self {
            Self::RecordsProcessed => progress.records_processed.to_string(),
            Self::ProgressRatio => (progress.percent? / 100.0).to_string(),
        };
        let name = self.name();
        let (operation, project) = (escaped(&key.operation), escaped(&key.project));
        Some(format!(
            "{PREFIX}_{name}{{operation_id=\"{operation}\",project=\"{project}\"}} {value}\n"
        ))
    }
}

/// Escapes a label value for the text format.
fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', r#"\""#)
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_in_the_text_format() {
        let key = WatchKey {
            project: "a\\b\"c\nd".into(),
            operation: "op-1".into(),
        };
        let mut progress = ProgressData {
            records_processed: 1250,
            records_estimated_total: Some(5000),
            percent: Some(25.0),
            records_per_second: None,
            estimated_end_time: None,
            estimate_exceeded: false,
        };
        let labels = r#"{operation_id="op-1",project="a\\b\"c\nd"}"#;
        assert_eq!(
            OperationSeries::RecordsProcessed.sample(&key, &progress),
            Some(format!(
                "backfill_watch_operation_records_processed{labels} 1250\n"
            ))
        );
        assert_eq!(
            OperationSeries::ProgressRatio.sample(&key, &progress),
            Some(format!("backfill_watch_operation_progress_ratio{labels} 0.25\n"))
        );
        progress.percent = None;
        assert_eq!(OperationSeries::ProgressRatio.sample(&key, &progress), None);
        assert_eq!(
            OperationSeries::ProgressRatio.head(),
            "# HELP backfill_watch_operation_progress_ratio Processed records divided by the estimated total, from 0 to 1.\n\
             # TYPE backfill_watch_operation_progress_ratio gauge\n"
        );
    }
}
