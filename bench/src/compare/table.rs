//! The rows of a run as text: for a terminal, and in Markdown for the README. Invariant: a ratio is
//! never shown without its interval or a word that there is none.

use std::fmt::Write as _;

use super::record::Run;
use super::summary::{Goal, Row, Standing};
use crate::stats::{Ratio, Verdict};

const HEADINGS: [&str; 9] = [
    "discipline",
    "peer",
    "ringway",
    "peer's",
    "ratio [95 %]",
    "A/A",
    "machine",
    "goal",
    "verdict",
];

/// For a terminal.
pub(crate) fn text(rows: &[Row]) -> String {
    let cells: Vec<[String; 9]> = rows.iter().map(cells).collect();
    let mut widths = HEADINGS.map(|heading| heading.chars().count());
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&HEADINGS.map(str::to_owned)).chain(&cells) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// For the README: one line per discipline and peer.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = "| discipline | peer | Ringway | peer's | ratio (95 % interval) | verdict |\n\
                    | --- | --- | ---: | ---: | --- | --- |\n"
        .to_owned();
    for row in rows {
        let unit = row.discipline.metric.title();
        let _ = writeln!(
            text,
            "| {} ({unit}) | {} | {} | {} | {} | {} |",
            row.discipline.title,
            row.peer,
            figure(row.ours),
            figure(row.theirs),
            with_interval(&row.ratio),
            row.verdict.text(),
        );
    }
    text
}

fn cells(row: &Row) -> [String; 9] {
    let unit = row.discipline.metric.title();
    [
        format!("{} ({unit})", row.discipline.name),
        row.peer.clone(),
        figure(row.ours),
        figure(row.theirs),
        with_interval(&row.ratio),
        floor(row),
        machine(row),
        row.goal.map_or_else(|| "-".to_owned(), goal),
        remarks(row),
    ]
}

pub(crate) fn goal(goal: Goal) -> String {
    format!("{:.2} {}", goal.ratio, goal.standing.text())
}

/// The noise floor, in percent.
pub(crate) fn floor(row: &Row) -> String {
    row.floor.map_or_else(
        || "-".to_owned(),
        |floor| format!("±{:.1} %", (floor - 1.0) * 100.0),
    )
}

pub(crate) fn machine(row: &Row) -> String {
    row.machine.map_or_else(
        || "-".to_owned(),
        |machine| format!("{:.2}", machine.middle),
    )
}

/// The verdict, and what a reader has to know about it.
pub(crate) fn remarks(row: &Row) -> String {
    let mut text = row.verdict.text().to_owned();
    if row.machine_disagrees() {
        text.push_str("; the whole machine's time says otherwise");
    }
    if row.dropped > 0 {
        let _ = write!(text, "; {} pairs left out", row.dropped);
    }
    text
}

pub(crate) fn with_interval(ratio: &Ratio) -> String {
    match ratio.interval {
        Some((low, high)) => format!("{:.2} [{low:.2}, {high:.2}]", ratio.middle),
        None => format!("{:.2} [no interval]", ratio.middle),
    }
}

/// Three digits that matter.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// How many rows have which verdict, in one line.
pub(crate) fn totals(rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let goals: Vec<Goal> = rows.iter().filter_map(|row| row.goal).collect();
    let stand = |standing| {
        let those = goals.iter().filter(|goal| goal.standing == standing);
        those.count()
    };
    format!(
        "ahead {}, behind {}, no difference shown {}, too few pairs {}; \
         goals met {}, open {}, missed {}",
        count(Verdict::Ahead),
        count(Verdict::Behind),
        count(Verdict::NoDifference),
        count(Verdict::TooFewPairs),
        stand(Standing::Met),
        stand(Standing::Open),
        stand(Standing::Missed)
    )
}

/// What stands above and below the table.
pub(crate) fn about(run: &Run) -> String {
    let environment = &run.environment;
    let place = match environment.namespace {
        true => "in a network namespace of its own",
        false => "on the host's loopback",
    };
    format!(
        "{}, {}, {} CPUs; balancer on CPU {}, load on CPU {}, {place}; {} pairs of {} ms; load \
         average {:.2} before and {:.2} after",
        environment.kernel,
        environment.cpu,
        environment.cpus,
        environment.balancer_cpu,
        environment.load_cpu,
        environment.pairs,
        environment.sample_ms,
        environment.load_before,
        environment.load_after
    )
}

#[cfg(test)]
mod tests {
    use super::super::summary::{rows, tests::run};
    use super::*;

    #[test]
    fn the_table() {
        let expected = "\
discipline            peer     ringway  peer's  ratio [95 %]       A/A     machine  goal         verdict
rr-64b (CPU us)       haproxy  8.08     9.90    0.82 [0.80, 0.82]  ±3.0 %  0.82     0.85 met     ahead
rr-64b (CPU us)       nginx    8.08     7.96    1.02 [1.00, 1.04]  ±3.0 %  1.02     0.90 missed  no difference shown; 1 pairs left out
scale-00010 (CPU us)  nginx    8.00     9.00    0.89 [0.89, 0.89]  -       0.89     -            too few pairs
scale-01000 (CPU us)  nginx    8.00     9.00    0.89 [0.89, 0.89]  -       0.89     -            too few pairs
";
        assert_eq!(text(&rows(&run())), expected);
    }

    #[test]
    fn the_markdown() {
        let text = markdown(&rows(&run()));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(
            lines[2],
            "| 64 B round trips, 64 connections (CPU us) | haproxy | 8.08 | 9.90 | \
             0.82 [0.80, 0.82] | ahead |"
        );
    }

    #[test]
    fn the_totals() {
        assert_eq!(
            totals(&rows(&run())),
            "ahead 1, behind 0, no difference shown 1, too few pairs 2; goals met 1, open 0, missed 1"
        );
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.123, 8.456, 12.34, 999.9, 12345.6].map(figure);
        assert_eq!(shown, ["0.12", "8.46", "12.3", "1000", "12346"]);
    }
}
