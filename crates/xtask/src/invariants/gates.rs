//! The rows that hold a change back: those of the reviewed file, each with the most it may be. Not
//! the promises, whose limits stand where they are measured: a gate may be closer than its promise
//! where nothing moves the figure, and wider where a busy machine does. Invariant: a gate is passed
//! only by a row that was measured, or skipped by name.

use std::io;

use super::row::{Row, Verdict};
use crate::counts::{Change, Compared, Counts, Figures, Section};

/// The section of the reviewed figures.
const SECTION: &str = "invariants";

/// The gates of the reviewed file.
pub(super) struct Gates {
    section: Section,
}

impl Gates {
    pub(super) fn read() -> io::Result<Gates> {
        let section = Counts::read()?.section(SECTION)?;
        Ok(Gates { section })
    }

    /// Whether a gate among `rows` does not hold.
    pub(super) fn is_one_broken(&self, rows: &[Row]) -> bool {
        let mut compared = self.compare(rows).into_iter();
        compared.any(|compared| compared.change == Change::Worse)
    }

    /// Says which gates do not hold, and whether all do.
    pub(super) fn hold(&self, rows: &[Row]) -> bool {
        let complaints = self.complaints(rows);
        println!(
            "\n{} gates, {} do not hold; what is not a gate is for information",
            self.section.figures.len(),
            complaints.len()
        );
        for complaint in &complaints {
            println!("{complaint}");
        }
        if !complaints.is_empty() {
            println!(
                "If a change is worth it, review the figure in crates/xtask/counts.json with it."
            );
        }
        complaints.is_empty()
    }

    /// What does not hold, one text per gate.
    fn complaints(&self, rows: &[Row]) -> Vec<String> {
        self.compare(rows).iter().filter_map(complaint).collect()
    }

    /// Each gate that was not skipped beside what was measured, and what is no gate.
    fn compare(&self, rows: &[Row]) -> Vec<Compared> {
        let mut section = self.section.clone();
        let is_skipped = |name: &str| {
            rows.iter()
                .any(|row| row.invariant.trim() == name && row.verdict == Verdict::Skipped)
        };
        section.figures.retain(|name, _| !is_skipped(name));
        let measured: Figures = rows
            .iter()
            .filter_map(|row| Some((row.invariant.trim().to_owned(), row.value?)))
            .collect();
        section.compare(&measured)
    }
}

fn complaint(gate: &Compared) -> Option<String> {
    let most = gate.reviewed?;
    let name = &gate.name;
    match (gate.change, gate.counted) {
        (Change::Within | Change::Better, _) => None,
        (Change::Worse, Some(counted)) => Some(format!(
            "`{name}` is {counted:.3}; the gate is at most {most}"
        )),
        (Change::Worse | Change::New | Change::Gone, _) => {
            Some(format!("`{name}` is a gate and was not measured"))
        }
    }
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
        let gates = Gates { section };
        let rows = [
            Row::at_most("a", 2.0, 2.0, ""),
            Row::at_most("  b", 2.01, 8.0, ""),
            Row::skipped("c", "not here"),
            Row::at_most("e", 1.0, 0.5, "wider than its promise"),
            Row::violated("f", "could not be measured", ""),
            Row::at_most("g, not a gate", 9.0, 2.0, ""),
        ];
        assert_eq!(
            gates.complaints(&rows),
            [
                "`b` is 2.010; the gate is at most 2",
                "`d` is a gate and was not measured",
                "`f` is a gate and was not measured",
            ]
        );
        let broken: Vec<bool> = rows
            .iter()
            .map(|row| gates.is_one_broken(std::slice::from_ref(row)))
            .collect();
        assert_eq!(broken, [false, true, false, false, false, false]);
    }
}
