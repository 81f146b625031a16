//! From two answers to rows with rates. Nothing here draws. Invariant: a rate is known only between two
//! answers of the same process, by its own clock, and is never negative.

use std::collections::HashMap;

use crate::snapshot::{Backend, Snapshot};

use super::Answer;

/// What is known of the instance.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) last: Option<Snapshot>,
    before: Option<Snapshot>,
    /// Why the newest question had no answer; what is shown is older then.
    pub(super) trouble: Option<String>,
}

/// A cell: its text, and what it is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) order: Order,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    Text(String),
    Number(f64),
}

/// How much somebody should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Fine,
    Odd,
    Bad,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
    pub(super) mood: Mood,
}

/// The sums of the first line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) accepted: Option<f64>,
    pub(super) refused: Option<f64>,
    pub(super) received_bytes: Option<f64>,
}

impl Board {
    pub(super) fn take(&mut self, answer: Answer) {
        match answer {
            Ok(snapshot) => {
                self.trouble = None;
                let earlier = self.last.replace(snapshot);
                let is_same = |earlier: &Snapshot| {
                    let last = self.last.as_ref();
                    last.is_some_and(|last| {
                        earlier.pid == last.pid && earlier.uptime_seconds < last.uptime_seconds
                    })
                };
                self.before = earlier.filter(is_same);
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    /// What happened per second to a count that both answers have.
    fn rate(&self, now: f64, then: Option<f64>) -> Option<f64> {
        let (last, before) = (self.last.as_ref()?, self.before.as_ref()?);
        let grown = now - then?;
        (grown >= 0.0).then(|| grown / (last.uptime_seconds - before.uptime_seconds))
    }

    /// The same of a counter.
    fn count_rate(&self, now: u64, then: Option<u64>) -> Option<f64> {
        self.rate(now as f64, then.map(|then| then as f64))
    }

    pub(super) fn totals(&self) -> Totals {
        let Some(last) = &self.last else {
            return Totals::default();
        };
        let sum = |of: fn(&Snapshot) -> u64| {
            let then = self.before.as_ref().map(of);
            self.count_rate(of(last), then)
        };
        Totals {
            accepted: sum(|all| all.listeners.iter().map(|one| one.connections_total).sum()),
            refused: sum(|all| all.listeners.iter().map(|one| one.refused_total).sum()),
            // Not those of the workers: one that leaves takes its own along.
            received_bytes: sum(|all| {
                let routes = all.routes.iter().map(|route| &route.received_bytes);
                routes.map(|bytes| bytes.client + bytes.backend).sum()
            }),
        }
    }

    pub(super) fn workers(&self) -> Vec<Row> {
        let then = |index| {
            let before = self.before.as_ref()?;
            before.workers.iter().find(|worker| worker.index == index)
        };
        let row = |worker: &crate::snapshot::Worker| {
            let then = then(worker.index);
            let busy_then = then.and_then(|then| then.busy_seconds_total);
            let busy = worker
                .busy_seconds_total
                .and_then(|now| self.rate(now, busy_then));
            Row {
                cells: vec![
                    number(f64::from(worker.index), worker.name()),
                    number(f64::from(worker.cpu), worker.cpu.to_string()),
                    count(worker.connections as f64),
                    per_second(self.count_rate(
                        worker.connections_total,
                        then.map(|then| then.connections_total),
                    )),
                    bytes_per_second(self.count_rate(
                        worker.received_bytes_total,
                        then.map(|then| then.received_bytes_total),
                    )),
                    percent(busy),
                ],
                mood: Mood::Fine,
            }
        };
        self.last
            .iter()
            .flat_map(|last| last.workers.iter().map(row))
            .collect()
    }

    pub(super) fn listeners(&self) -> Vec<Row> {
        let then = |name: &str| {
            let before = self.before.as_ref()?;
            before
                .listeners
                .iter()
                .find(|listener| listener.name == name)
        };
        let row = |listener: &crate::snapshot::Listener| {
            let then = then(&listener.name);
            let refused =
                self.count_rate(listener.refused_total, then.map(|then| then.refused_total));
            Row {
                cells: vec![
                    text(&listener.name),
                    text(&listener.addresses.join(" ")),
                    text(&listener.pools.join(", ")),
                    count(listener.connections as f64),
                    per_second(self.count_rate(
                        listener.connections_total,
                        then.map(|then| then.connections_total),
                    )),
                    per_second(refused),
                    count(listener.connections_total as f64),
                ],
                mood: if refused > Some(0.0) {
                    Mood::Odd
                } else {
                    Mood::Fine
                },
            }
        };
        self.last
            .iter()
            .flat_map(|last| last.listeners.iter().map(row))
            .collect()
    }

    pub(super) fn backends(&self) -> Vec<Row> {
        // There may be thousands: found by name once, not one by one.
        let then: HashMap<(&str, &str), &Backend> = each(self.before.as_ref()).collect();
        let row = |(key, backend): ((&str, &str), &Backend)| {
            let then = then.get(&key);
            let failures = self.count_rate(
                backend.connect_failures_total,
                then.map(|then| then.connect_failures_total),
            );
            let (state, mood) = standing(backend);
            Row {
                cells: vec![
                    text(key.0),
                    text(&backend.address),
                    text(&state),
                    count(backend.connections as f64),
                    per_second(self.count_rate(
                        backend.connections_total,
                        then.map(|then| then.connections_total),
                    )),
                    per_second(failures),
                    count(backend.connections_total as f64),
                    text(why(backend)),
                ],
                mood: if mood == Mood::Fine && failures > Some(0.0) {
                    Mood::Odd
                } else {
                    mood
                },
            }
        };
        each(self.last.as_ref()).map(row).collect()
    }
}

fn each(snapshot: Option<&Snapshot>) -> impl Iterator<Item = ((&str, &str), &Backend)> {
    let pools = snapshot.into_iter().flat_map(|snapshot| &snapshot.pools);
    pools.flat_map(|pool| {
        let named = pool.backends.iter();
        named.map(|backend| ((pool.name.as_str(), backend.address.as_str()), backend))
    })
}

fn standing(backend: &Backend) -> (String, Mood) {
    if backend.state == "down" {
        ("down".to_owned(), Mood::Bad)
    } else if backend.ejected_workers > 0 {
        (format!("ejected by {}", backend.ejected_workers), Mood::Odd)
    } else if !matches!(backend.admin_state.as_str(), "" | "active") {
        (backend.admin_state.clone(), Mood::Odd)
    } else {
        (backend.state.clone(), Mood::Fine)
    }
}

fn why(backend: &Backend) -> &str {
    let failure = backend
        .last_failure
        .as_deref()
        .filter(|_| backend.state == "down");
    failure.unwrap_or_default()
}

/// What others named must not steer the terminal.
fn text(shown: &str) -> Cell {
    let text = shown.replace(char::is_control, "?");
    Cell {
        order: Order::Text(text.clone()),
        text,
    }
}

fn number(value: f64, text: String) -> Cell {
    Cell {
        text,
        order: Order::Number(value),
    }
}

fn count(value: f64) -> Cell {
    number(value, scaled(value))
}

fn per_second(value: Option<f64>) -> Cell {
    known(value, |value| format!("{}/s", scaled(value)))
}

fn bytes_per_second(value: Option<f64>) -> Cell {
    known(value, |value| format!("{}B/s", scaled(value)))
}

fn percent(value: Option<f64>) -> Cell {
    known(value, |value| format!("{:.0}%", 100.0 * value))
}

fn known(value: Option<f64>, show: impl Fn(f64) -> String) -> Cell {
    number(value.unwrap_or(-1.0), value.map_or("-".to_owned(), show))
}

/// Three digits and a unit.
pub(super) fn scaled(value: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (by, unit) = units
        .into_iter()
        .find(|(by, _)| value.abs() >= by * 0.9995)
        .unwrap_or((1.0, ""));
    let scaled = value / by;
    let digits = match scaled.abs() {
        _ if unit.is_empty() && scaled.fract() == 0.0 => 0,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
