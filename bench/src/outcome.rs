//! The result of a run, as a table for people and as JSON for programs. Not a judgement. Invariant:
//! both show the same figures; a latency is shown only where one was measured.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Map, Value as Json, json};

use crate::clock::nanoseconds;
use crate::crew;
use crate::failures::Failures;

/// The percentiles shown, with their names.
const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
];

/// A figure with its name and unit.
#[derive(Debug, Clone)]
struct Figure {
    name: &'static str,
    value: Json,
    unit: &'static str,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    command: &'static str,
    figures: Vec<Figure>,
    latency_ns: Option<Histogram<u64>>,
    pub(crate) failures: Failures,
}

impl Outcome {
    pub(crate) fn new(command: &'static str, failures: Failures) -> Outcome {
        Outcome {
            command,
            figures: Vec::new(),
            latency_ns: None,
            failures,
        }
    }

    /// What every load has: counts, bytes, and rates over `from_ns` to the last event.
    pub(crate) fn of(command: &'static str, result: &crew::Result, from_ns: u64) -> Outcome {
        let tally = &result.tally;
        let elapsed_s = seconds(tally.last_ns.saturating_sub(from_ns));
        let mut outcome = Outcome::new(command, tally.failures.clone())
            .with("seconds", rounded(elapsed_s), "s")
            .with("connections", tally.connections, "")
            .with("operations", tally.operations, "")
            .with("operations_all", tally.operations_all, "")
            .with("bytes_sent", tally.bytes_sent, "B")
            .with("bytes_received", tally.bytes_received, "B");
        if !tally.latency_ns.is_empty() && elapsed_s > 0.0 {
            let rate = tally.operations as f64 / elapsed_s;
            outcome = outcome.with("operations_per_second", rounded(rate), "/s");
        }
        if !tally.latency_ns.is_empty() {
            outcome.latency_ns = Some(tally.latency_ns.clone());
        }
        outcome
    }

    /// Adds a figure; they are shown in the order they were added.
    pub(crate) fn with(
        mut self,
        name: &'static str,
        value: impl Into<Json>,
        unit: &'static str,
    ) -> Outcome {
        self.figures.push(Figure {
            name,
            value: value.into(),
            unit,
        });
        self
    }

    /// The figure `name`, if there is one.
    pub(crate) fn figure(&self, name: &str) -> Option<&Json> {
        let found = self.figures.iter().find(|figure| figure.name == name)?;
        Some(&found.value)
    }

    /// One line.
    pub(crate) fn json(&self) -> Json {
        let mut all = Map::new();
        all.insert("command".to_owned(), json!(self.command));
        for figure in &self.figures {
            all.insert(figure.name.to_owned(), figure.value.clone());
        }
        if let Some(latency_ns) = &self.latency_ns {
            let latency: Map<String, Json> = latencies_us(latency_ns)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), json!(value)))
                .collect();
            all.insert("latency_us".to_owned(), Json::Object(latency));
        }
        let failures: Map<String, Json> = self
            .failures
            .each()
            .map(|(failure, count)| (failure.name().to_owned(), json!(count)))
            .collect();
        all.insert("failures".to_owned(), Json::Object(failures));
        all.insert("failed".to_owned(), json!(self.failures.total()));
        if let Some(errno) = self.failures.first_errno() {
            all.insert("first_error".to_owned(), json!(errno.to_string()));
        }
        Json::Object(all)
    }

    /// One line per figure.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n", self.command);
        for Figure { name, value, unit } in &self.figures {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let _ = writeln!(text, "  {name:<24}{value:>16} {unit}");
        }
        if let Some(latency_ns) = &self.latency_ns {
            for (name, value) in latencies_us(latency_ns) {
                let _ = writeln!(text, "  {:<24}{value:>16.1} us", format!("latency {name}"));
            }
        }
        let _ = writeln!(text, "  {:<24}{:>16}", "failed", self.failures.total());
        for (failure, count) in self.failures.each().filter(|(_, count)| *count > 0) {
            let _ = writeln!(
                text,
                "  {:<24}{count:>16}",
                format!("failed: {}", failure.name())
            );
        }
        if let Some(errno) = self.failures.first_errno() {
            let _ = writeln!(text, "  the first error of a socket was: {errno}");
        }
        text
    }
}

/// The figures of a histogram in microseconds.
fn latencies_us(latency_ns: &Histogram<u64>) -> Vec<(&'static str, f64)> {
    let us = |ns: u64| rounded(ns as f64 / 1000.0);
    let mut figures = vec![
        ("min", us(latency_ns.min())),
        ("mean", rounded(latency_ns.mean() / 1000.0)),
    ];
    for (name, percentile) in PERCENTILES {
        figures.push((name, us(latency_ns.value_at_percentile(percentile))));
    }
    figures.push(("max", us(latency_ns.max())));
    figures
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / nanoseconds(std::time::Duration::from_secs(1)) as f64
}

/// Rates and times to a thousandth: what is below is noise.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::Failure;
    use crate::tally::Tally;

    fn outcome() -> Outcome {
        let mut tally = Tally::new();
        for us in 1..=100 {
            tally.record(0, us * 1000, 0);
        }
        tally.last_ns = 2_000_000_000;
        tally.fail(Failure::Reset);
        Outcome::of("rr", &crew::Result { tally, start_ns: 0 }, 0)
    }

    #[test]
    fn json_has_rates_latencies_and_failures() {
        let json = outcome().json();
        assert_eq!(json["operations"], 100);
        assert_eq!(json["operations_per_second"], 50.0);
        let p50 = json["latency_us"]["p50"].as_f64().unwrap();
        assert!((50.0..50.1).contains(&p50), "{p50}");
        assert_eq!(json["failures"]["reset"], 1);
        assert_eq!(json["failed"], 1);
    }

    #[test]
    fn the_table_names_the_kinds_that_happened() {
        let table = outcome().table();
        assert!(table.contains("failed: reset"), "{table}");
        assert!(!table.contains("failed: stuck"), "{table}");
        assert!(table.contains("latency p99.9"), "{table}");
    }

    #[test]
    fn nothing_measured_shows_no_latency() {
        let result = crew::Result {
            tally: Tally::new(),
            start_ns: 0,
        };
        let json = Outcome::of("rr", &result, 0).json();
        assert_eq!(json.get("latency_us"), None);
        assert_eq!(json.get("operations_per_second"), None);
    }
}
