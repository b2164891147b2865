use std::time::Duration;

use console::measure_text_width;

use super::*;

const PLAIN: TerminalStyle = TerminalStyle {
    colour: false,
    unicode: true,
};

fn bar(name: &str, phase: Phase, percent: Option<f64>) -> ProgressBar {
    ProgressBar {
        name: name.to_owned(),
        phase,
        processed: Some(2_115),
        total: percent.map(|_| 5_000),
        percent,
        per_second: Some(41.7),
        left: percent.map(|_| Duration::from_secs(69)),
        problem: None,
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
    let view = of(vec![running("contact 3efc0f0f")]);
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
fn no_line_is_as_wide_as_the_terminal_however_narrow() {
    let mut odd = running("連絡先 3efc0f0f\x1b[31m\n");
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
            "! contact ━━━━━━━━━━━━╸───────────────── 42.3% no connection to api.example.co…",
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
    assert_eq!(
        lines[6],
        "65 operations (6 shown): 1 waiting, 58 running, 1 stalled, 4 succeeded, 1 fail…"
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
