//! A line of the table: what was measured and whether it is within its limit. Invariant: a row's
//! verdict is decided where the figure is compared, never when it is printed.

use std::fmt;

/// Whether an invariant holds here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Holds,
    Violated,
    /// Not measurable on this machine.
    Skipped,
}

impl Verdict {
    fn of(holds: bool) -> Verdict {
        if holds {
            Verdict::Holds
        } else {
            Verdict::Violated
        }
    }

    fn name(self) -> &'static str {
        match self {
            Verdict::Holds => "yes",
            Verdict::Violated => "NO",
            Verdict::Skipped => "skipped",
        }
    }
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) invariant: String,
    /// What was measured as a number, if it was.
    pub(super) value: Option<f64>,
    pub(super) measured: String,
    pub(super) limit: String,
    pub(super) verdict: Verdict,
}

impl Row {
    /// `value` must be at most `limit`; `shown` is how the value is printed.
    pub(super) fn at_most(invariant: &str, value: f64, limit: f64, shown: &str) -> Row {
        let verdict = Verdict::of(value <= limit);
        Row {
            value: Some(value),
            ..Row::new(invariant, shown, &format!("<= {limit}"), verdict)
        }
    }

    /// `value` must be at least `limit`.
    pub(super) fn at_least(invariant: &str, value: f64, limit: f64, shown: &str) -> Row {
        let verdict = Verdict::of(value >= limit);
        Row {
            value: Some(value),
            ..Row::new(invariant, shown, &format!(">= {limit}"), verdict)
        }
    }

    /// `value` must be `due`.
    pub(super) fn exactly(invariant: &str, value: u64, due: u64) -> Row {
        let verdict = Verdict::of(value == due);
        Row {
            value: Some(value as f64),
            ..Row::new(invariant, &value.to_string(), &due.to_string(), verdict)
        }
    }

    pub(super) fn violated(invariant: &str, measured: &str, limit: &str) -> Row {
        Row::new(invariant, measured, limit, Verdict::Violated)
    }

    pub(super) fn skipped(invariant: &str, reason: &str) -> Row {
        Row::new(invariant, reason, "", Verdict::Skipped)
    }

    fn new(invariant: &str, measured: &str, limit: &str, verdict: Verdict) -> Row {
        Row {
            invariant: invariant.to_owned(),
            value: None,
            measured: measured.to_owned(),
            limit: limit.to_owned(),
            verdict,
        }
    }

    /// The first line of the table.
    pub(super) fn header() -> String {
        format!("{:<58} {:<52} {:>9}  ok", "invariant", "measured", "limit")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row {
            invariant,
            measured,
            limit,
            verdict,
            value: _,
        } = self;
        write!(
            f,
            "{invariant:<58} {measured:<52} {limit:>9}  {}",
            verdict.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_its_limit_holds() {
        assert_eq!(Row::at_most("x", 0.5, 0.5, "0.5").verdict, Verdict::Holds);
        assert_eq!(
            Row::at_most("x", 0.51, 0.5, "0.51").verdict,
            Verdict::Violated
        );
        assert_eq!(
            Row::at_most("x", f64::NAN, 0.5, "?").verdict,
            Verdict::Violated
        );
        assert_eq!(Row::exactly("x", 1, 0).verdict, Verdict::Violated);
        assert_eq!(Row::exactly("x", 0, 0).verdict, Verdict::Holds);
    }
}
