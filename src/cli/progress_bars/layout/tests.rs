use std::time::Duration;

use super::*;

const PLAIN: TerminalStyle = TerminalStyle {
    colour: false,
    unicode: true,
};

fn bar(title: &str, phase: Phase, percent: Option<f64>) -> ProgressBar {
    ProgressBar {
        phase,
        processed: Some(2_115),
        total: percent.map(|_| 5_000),
        percent,
        per_second: Some(41.7),
        left: percent.map(|_| Duration::from_secs(69)),
        ..ProgressBar::pending(title.to_owned(), String::new())
    }
}

fn with_id(title: &str, id: &str) -> ProgressBar {
    ProgressBar {
        id: id.to_owned(),
        ..running(title)
    }
}

fn running(name: &str) -> ProgressBar {
    bar(name, Phase::Running, Some(42.3))
}

fn drawn(view: &ProgressView, width: usize, height: usize) -> Vec<String> {
    lines(view, width, height, PLAIN, 1)
}

fn of(bars: Vec<ProgressBar>) -> ProgressView {
    ProgressView {
        bars,
        ..ProgressView::default()
    }
}

#[test]
fn a_bar_shows_what_fits() {
    let view = of(vec![
        with_id("contact", "3efc0f0f"),
        with_id("contact", "98ca4b5c"),
    ]);
    let line = |width| drawn(&view, width, 24).remove(0);
    assert_eq!(
        line(100),
        "⠙ contact 3efc0f0f ━━━━━━━━━━━━╸───────────────── 42.3% 2,115/5,000 41.7/s 1m 09s left"
    );
    assert_eq!(
        line(80),
        "⠙ contact 3efc0f0f ━━━━━━━━━╸───────────── 42.3% 2,115/5,000 41.7/s 1m 09s left"
    );
    assert_eq!(
        line(60),
        "⠙ contact 3efc0f0f ━━━━────── 42.3% 2,115/5,000 1m 09s left"
    );
    assert_eq!(line(55), "⠙ contact 3efc0f0f ━━━━━─────── 42.3% 2.1k/5.0k 1m 09s");
    assert_eq!(line(40), "⠙ con… 3efc0f0f ━━━━────── 42.3% 1m 09s");
    assert_eq!(line(20), "⠙ 3efc0f0f 42.3%");
}

#[test]
fn distinct_titles_need_no_ids_on_a_narrow_terminal() {
    let view = of(vec![
        with_id("Gale Ltd contact", "3efc0f0f"),
        with_id("acme lead", "98ca4b5c"),
    ]);
    assert_eq!(
        drawn(&view, 100, 24)[1],
        "⠙ acme lead 98ca4b5c        ━━━━━━━━━━━━╸───────────────── 42.3% 2,115/5,000 41.7/s 1m 09s left"
    );
    assert_eq!(
        drawn(&view, 60, 24)[..2],
        [
            "⠙ Gale Ltd contact ━━━━────── 42.3% 2,115/5,000 1m 09s left",
            "⠙ acme lead        ━━━━────── 42.3% 2,115/5,000 1m 09s left",
        ]
    );
}

#[test]
fn more_records_than_estimated_are_shown_without_the_estimate() {
    let mut over = bar("gale task", Phase::Running, Some(99.9));
    (over.processed, over.left) = (Some(11_020), None);
    let mut done = bar("acme deal", Phase::Succeeded, Some(100.0));
    done.processed = Some(12_000);
    assert_eq!(
        drawn(&of(vec![over, done]), 80, 24)[..2],
        [
            "⠙ gale task ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸  99.9% 11,020 41.7/s over estimate",
            "✓ acme deal ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 100.0% 12,000        succeeded",
        ]
    );
}

#[test]
fn old_figures_are_marked_and_do_not_move() {
    let mut stale = bar("contact", Phase::Running, None);
    stale.is_stale = true;
    let at = |frame| lines(&of(vec![stale.clone()]), 60, 24, PLAIN, frame).remove(0);
    assert_eq!(at(0), "! contact ━━━━━━━─────────────────────── 2,115 41.7/s");
    assert_eq!(at(9), at(0));
}

#[test]
fn a_notice_is_wrapped_and_bounded() {
    let view = ProgressView {
        notices: vec!["no answer for 12s, retrying: connection refused; check host and port".to_owned()],
        bars: vec![running("contact")],
        without_bar: BTreeMap::new(),
    };
    assert_eq!(
        drawn(&view, 50, 24)[..2],
        [
            "! no answer for 12s, retrying: connection",
            "  refused; check host and port",
        ]
    );
    let long = ProgressView {
        notices: vec!["words of a long notice ".repeat(20)],
        ..view
    };
    let lines = drawn(&long, 50, 24);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[3].ends_with('…'), "{lines:?}");
}

#[test]
fn without_unicode_everything_is_ascii() {
    let mut odd = with_id("Zoë 連絡先", "a-long-p…all-0001");
    odd.problem = Some("« no answer »".to_owned());
    let view = ProgressView {
        notices: vec!["Zoë: no answer".to_owned()],
        bars: vec![odd, bar("lead", Phase::Running, None), running("deal")],
        without_bar: Phase::ALL.into_iter().map(|phase| (phase, 3)).collect(),
    };
    let ascii = TerminalStyle {
        colour: false,
        unicode: false,
    };
    for width in [40, 60, 80, 200] {
        for line in lines(&view, width, 24, ascii, width) {
            assert!(line.is_ascii(), "{line:?}");
        }
    }
}

#[test]
fn no_line_is_as_wide_as_the_terminal_however_narrow() {
    let mut odd = with_id("連絡先 ", "3efc0f0f\x1b[31m\n");
    odd.problem = Some("no answer from 連絡先 ".repeat(20));
    let view = ProgressView {
        notices: vec!["連絡先".repeat(60)],
        bars: vec![odd, running("a"), bar("b", Phase::Pending, None)],
        without_bar: BTreeMap::from([(Phase::Failed, 7)]),
    };
    for style in [true, false].map(|colour| TerminalStyle {
        colour,
        unicode: colour,
    }) {
        for width in 1..120 {
            for line in lines(&view, width, 24, style, width) {
                assert!(measure_text_width(&line) < width, "{width}: {line:?}");
                assert!(!line.contains(['\n', '\r']), "{line:?}");
            }
        }
    }
}

#[test]
fn without_an_estimate_a_piece_moves() {
    let view = of(vec![bar("contact", Phase::Running, None)]);
    let at = |frame| lines(&view, 60, 24, PLAIN, frame).remove(0);
    assert_eq!(at(0), "⠋ contact ━━━━━━━─────────────────────── 2,115 41.7/s");
    assert_eq!(at(23), "⠸ contact ───────────────────────━━━━━━━ 2,115 41.7/s");
    assert_eq!(at(45), "⠴ contact ─━━━━━━━────────────────────── 2,115 41.7/s");
}

#[test]
fn a_problem_replaces_count_and_rate() {
    let mut problematic = running("contact");
    problematic.problem = Some("no connection to api.example.com: connection refused".to_owned());
    assert_eq!(
        drawn(&of(vec![problematic, running("lead")]), 80, 24),
        [
            "! contact 42.3% no connection to api.example.com: connection refused",
            "⠙ lead    ━━━━━━━━━━━━╸───────────────── 42.3% 2,115/5,000 41.7/s 1m 09s left",
            "2 operations: 2 running",
        ]
    );
}

#[test]
fn bars_with_problems_are_shown_first() {
    let mut bars: Vec<ProgressBar> = (0..60)
        .map(|n| bar(&format!("op-{n:02}"), Phase::Running, Some(f64::from(n))))
        .collect();
    bars[3].phase = Phase::Stalled;
    bars[5].problem = Some("reset".to_owned());
    bars[59].phase = Phase::Pending;
    let view = ProgressView {
        notices: Vec::new(),
        bars,
        without_bar: BTreeMap::from([(Phase::Succeeded, 4), (Phase::Failed, 1)]),
    };
    let lines = drawn(&view, 80, 8);
    assert_eq!(lines.len(), 7, "one row is the cursor's");
    let shown: Vec<String> = lines[..6]
        .iter()
        .map(|line| line.split_whitespace().nth(1).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(shown, ["op-03", "op-05", "op-55", "op-56", "op-57", "op-58"]);
    assert_eq!(lines[6], "65 operations (6 shown): · 1  ▸ 58  ! 1  ✓ 4  ✗ 1");
    assert_eq!(
        drawn(&view, 100, 8)[6],
        "65 operations (6 shown): 1 pending, 58 running, 1 stalled, 4 succeeded, 1 failed"
    );
}

#[test]
fn tiny_terminals_do_not_fail() {
    let view = ProgressView {
        notices: vec!["n".to_owned()],
        bars: (0..9).map(|n| running(&n.to_string())).collect(),
        without_bar: BTreeMap::new(),
    };
    for height in 0..6 {
        assert!(drawn(&view, 80, height).len() <= height.saturating_sub(1));
    }
    assert_eq!(drawn(&ProgressView::default(), 80, 24), Vec::<String>::new());
}
