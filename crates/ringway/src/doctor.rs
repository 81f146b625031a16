//! `ringway doctor`: what this kernel and these limits allow, one line each. The io_uring part is
//! tried in `ringway-uring`; the rest is read in `system`. Invariant: it changes nothing but its own
//! process, and every line that is not `ok` says what to do.

mod system;

use serde_json::json;

use crate::cli::DoctorArgs;
use crate::failure::Failure;
use crate::output::{pretty, say};
use crate::table::{Align, Table};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: &'static str,
    /// How it is.
    pub(crate) outcome: Outcome,
    /// What was found; may be empty when all is well.
    pub(crate) detail: String,
}

/// How a thing is, and what to do if it is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As wanted.
    Ok,
    /// Ringway runs, at a price.
    Degraded {
        /// What to do about it.
        remedy: String,
    },
    /// Ringway cannot run.
    Missing {
        /// What to do about it.
        remedy: String,
    },
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Degraded { .. } => "degraded",
            Outcome::Missing { .. } => "missing",
        }
    }

    fn remedy(&self) -> Option<&str> {
        match self {
            Outcome::Ok => None,
            Outcome::Degraded { remedy } | Outcome::Missing { remedy } => Some(remedy),
        }
    }
}

impl From<ringway_uring::Finding> for Check {
    fn from(finding: ringway_uring::Finding) -> Check {
        let (outcome, detail) = match finding.outcome {
            ringway_uring::Outcome::Works => (Outcome::Ok, String::new()),
            ringway_uring::Outcome::Degraded { why, remedy } => (Outcome::Degraded { remedy }, why),
            ringway_uring::Outcome::Missing { why, remedy } => (Outcome::Missing { remedy }, why),
        };
        Check {
            name: finding.name,
            outcome,
            detail,
        }
    }
}

/// Prints every check; fails with the first one without which nothing runs.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    let mut checks = system::checks();
    checks.extend(ringway_uring::probe().into_iter().map(Check::from));
    say(&if args.json {
        as_json(&checks)
    } else {
        as_lines(&checks)
    })?;
    match first_missing(&checks) {
        None => Ok(()),
        Some(check) => Err(Failure::Kernel(format!(
            "`ringway run` cannot work here: {}: {}; {}",
            check.name,
            check.detail,
            check.outcome.remedy().unwrap_or_default()
        ))),
    }
}

fn first_missing(checks: &[Check]) -> Option<&Check> {
    checks
        .iter()
        .find(|check| matches!(check.outcome, Outcome::Missing { .. }))
}

fn as_lines(checks: &[Check]) -> String {
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left), ("", Align::Left)]);
    for check in checks {
        let detail = match check.outcome.remedy() {
            None => check.detail.clone(),
            Some(remedy) => format!("{}; {remedy}", check.detail),
        };
        table.row([
            check.outcome.word().to_owned(),
            check.name.to_owned(),
            detail,
        ]);
    }
    // The columns need no head.
    let mut lines = table.lines().split_off(1);
    let degraded = checks
        .iter()
        .filter(|check| matches!(check.outcome, Outcome::Degraded { .. }));
    lines.push(match (first_missing(checks), degraded.count()) {
        (Some(_), _) => "`ringway run` cannot work here.".to_owned(),
        (None, 0) => "`ringway run` works here.".to_owned(),
        (None, count) => format!("`ringway run` works here; {count} of these could be better."),
    });
    lines.join("\n")
}

fn as_json(checks: &[Check]) -> String {
    let findings: Vec<_> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "outcome": check.outcome.word(),
                "detail": check.detail,
                "remedy": check.outcome.remedy(),
            })
        })
        .collect();
    pretty(&json!({"usable": first_missing(checks).is_none(), "findings": findings}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, outcome: Outcome) -> Check {
        Check {
            name,
            outcome,
            detail: "why".to_owned(),
        }
    }

    #[test]
    fn one_line_each_and_a_verdict() {
        let degraded = Outcome::Degraded {
            remedy: "raise it".to_owned(),
        };
        let missing = Outcome::Missing {
            remedy: "allow it".to_owned(),
        };
        let mut checks = vec![check("a", Outcome::Ok)];
        assert_eq!(as_lines(&checks), "ok  a  why\n`ringway run` works here.");
        checks.push(check("b", degraded));
        assert_eq!(
            as_lines(&checks),
            "ok        a  why\ndegraded  b  why; raise it\n\
             `ringway run` works here; 1 of these could be better."
        );
        checks.push(check("c", missing));
        assert!(as_lines(&checks).ends_with("cannot work here."));
        assert_eq!(first_missing(&checks).map(|check| check.name), Some("c"));
        let json: serde_json::Value = serde_json::from_str(&as_json(&checks)).expect("JSON");
        assert_eq!(json["usable"], false);
        assert_eq!(json["findings"][2]["remedy"], "allow it");
    }
}
