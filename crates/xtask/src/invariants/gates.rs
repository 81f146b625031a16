//! The rows that hold a change back: those of the reviewed file, each with the most it may be. Not
//! the promises, whose limits stand where they are measured; a gate may be closer than its promise,
//! never wider. Invariant: a gate is passed only by a row that was measured, or skipped by name.

use std::io;

use super::row::{Row, Verdict};
use crate::counts::{Change, Compared, Counts, Figures, Section};

/// The section of the reviewed figures.
const SECTION: &str = "invariants";

/// Says which gates do not hold, and whether all do.
pub(super) fn hold(rows: &[Row]) -> io::Result<bool> {
    let section = Counts::read()?.section(SECTION)?;
    let complaints = complaints(&section, rows);
    println!(
        "\n{} gates, {} do not hold; what is not a gate is for information",
        section.figures.len(),
        complaints.len()
    );
    for complaint in &complaints {
        println!("{complaint}");
    }
    if !complaints.is_empty() {
        println!("If a change is worth it, review the figure in crates/xtask/counts.json with it.");
    }
    Ok(complaints.is_empty())
}

/// What does not hold, one text per gate.
fn complaints(section: &Section, rows: &[Row]) -> Vec<String> {
    let mut section = section.clone();
    let row_of = |name: &str| rows.iter().find(|row| row.invariant.trim() == name);
    let is_skipped = |name: &str| row_of(name).is_some_and(|row| row.verdict == Verdict::Skipped);
    section.figures.retain(|name, _| !is_skipped(name));
    let measured: Figures = rows
        .iter()
        .filter_map(|row| Some((row.invariant.trim().to_owned(), row.value?)))
        .collect();
    let complaint = |Compared {
                         name,
                         counted,
                         reviewed,
                         change,
                     }: Compared| {
        let reviewed = reviewed?;
        let is_broken = row_of(&name).is_some_and(|row| row.verdict == Verdict::Violated);
        match (change, counted) {
            (Change::Worse, Some(counted)) => Some(format!(
                "`{name}` is {counted:.3}; the gate is at most {reviewed}"
            )),
            (Change::Within | Change::Better, Some(counted)) if is_broken => {
                Some(format!("`{name}` is {counted:.3}; the promise is less"))
            }
            (Change::Within | Change::Better, _) => None,
            (Change::Worse | Change::New | Change::Gone, _) => {
                Some(format!("`{name}` is a gate and was not measured"))
            }
        }
    };
    section
        .compare(&measured)
        .into_iter()
        .filter_map(complaint)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_hold_what_was_measured_and_pass_what_was_skipped_by_name() {
        let section = Section {
            counted_with: String::new(),
            tolerance_percent: 0.0,
            figures: ["a", "b", "c", "d", "e", "f"]
                .map(|name| (name.to_owned(), 2.0))
                .into(),
        };
        let rows = [
            Row::at_most("a", 2.0, 2.0, ""),
            Row::at_most("  b", 2.01, 8.0, ""),
            Row::skipped("c", "not here"),
            Row::exactly("e", 1, 0),
            Row::violated("f", "could not be measured", ""),
            Row::at_most("g, not a gate", 9.0, 2.0, ""),
        ];
        assert_eq!(
            complaints(&section, &rows),
            [
                "`b` is 2.010; the gate is at most 2",
                "`d` is a gate and was not measured",
                "`e` is 1.000; the promise is less",
                "`f` is a gate and was not measured",
            ]
        );
    }
}
