//! How the demo shows a snapshot: a table that refreshes in place on a terminal, a line per change
//! elsewhere. Not where the numbers come from. Invariant: what it writes to something that is not a
//! terminal has no escape sequences.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::output::say;
use crate::snapshot::{Backend, Snapshot, Worker};
use crate::table::{Align, Table};

/// The name of each backend, by its address as the status shows it.
pub(super) type Names = BTreeMap<String, char>;

/// What has been shown so far.
#[derive(Debug)]
pub(super) struct Display {
    names: Names,
    style: Style,
}

#[derive(Debug)]
enum Style {
    /// Drawn over its own last lines, of which there were so many.
    Redraw { lines: usize },
    /// A line when it differs from the last one.
    Append { last: String },
}

impl Display {
    /// `terminal`: whether the output is one that can move its cursor.
    pub(super) fn new(names: Names, terminal: bool) -> Display {
        let style = match terminal {
            true => Style::Redraw { lines: 0 },
            false => Style::Append {
                last: String::new(),
            },
        };
        Display { names, style }
    }

    /// Shows `now`.
    pub(super) fn show(&mut self, now: &Snapshot) -> Result<(), Failure> {
        match self.next(now) {
            Some(text) => say(&text),
            None => Ok(()),
        }
    }

    /// What is to be written for `now`, if anything.
    fn next(&mut self, now: &Snapshot) -> Option<String> {
        match &mut self.style {
            Style::Redraw { lines } => {
                let table = table(&self.names, now);
                // CSI A: up to where the last table began. CSI K: clears the rest of each line.
                let up = match *lines {
                    0 => String::new(),
                    lines => format!("\x1b[{lines}A"),
                };
                *lines = table.len();
                let drawn: Vec<String> = table.iter().map(|line| format!("{line}\x1b[K")).collect();
                Some(format!("{up}{}", drawn.join("\n")))
            }
            Style::Append { last } => {
                let line = line(&self.names, now);
                (line != *last).then(|| {
                    last.clone_from(&line);
                    line
                })
            }
        }
    }
}

/// How many connections each backend and each worker got.
pub(super) fn closing(names: &Names, last: &Snapshot) -> String {
    let total: u64 = last
        .listeners
        .iter()
        .map(|listener| listener.connections_total)
        .sum();
    let backends: Vec<String> = backends(last)
        .map(|backend| format!("{} {}", name(names, backend), backend.connections_total))
        .collect();
    format!(
        "\nConnections: {total}\n  by backend: {}\n  by worker:  {}",
        backends.join(", "),
        workers(last)
    )
}

fn workers(snapshot: &Snapshot) -> String {
    let got = |worker: &Worker| format!("{}: {}", worker.index, worker.connections_total);
    snapshot
        .workers
        .iter()
        .map(got)
        .collect::<Vec<_>>()
        .join(", ")
}

fn backends(snapshot: &Snapshot) -> impl Iterator<Item = &Backend> {
    snapshot.pools.iter().flat_map(|pool| &pool.backends)
}

fn name(names: &Names, backend: &Backend) -> String {
    names
        .get(&backend.address)
        .map_or_else(|| backend.address.clone(), char::to_string)
}

fn table(names: &Names, now: &Snapshot) -> Vec<String> {
    let columns = |first, second| {
        let (left, right) = (Align::Left, Align::Right);
        [
            (first, left),
            (second, left),
            ("active", right),
            ("total", right),
        ]
    };
    let mut upper = Table::new(&columns("backend", "state"));
    for backend in backends(now) {
        upper.row([
            format!("{} {}", name(names, backend), backend.address),
            backend.state.clone(),
            backend.connections.to_string(),
            backend.connections_total.to_string(),
        ]);
    }
    let mut lower = Table::new(&columns("worker", "CPU"));
    for worker in &now.workers {
        lower.row([
            worker.name(),
            worker.cpu.to_string(),
            worker.connections.to_string(),
            worker.connections_total.to_string(),
        ]);
    }
    let mut lines = upper.lines();
    lines.push(String::new());
    lines.extend(lower.lines());
    lines
}

fn line(names: &Names, now: &Snapshot) -> String {
    let backends: Vec<String> = backends(now)
        .map(|backend| {
            let (name, total) = (name(names, backend), backend.connections_total);
            format!(
                "{name} {} {total} ({} active)",
                backend.state, backend.connections
            )
        })
        .collect();
    format!(
        "backends: {} | workers: {}",
        backends.join(", "),
        workers(now)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        [
            ("127.0.0.1:1".to_owned(), 'A'),
            ("127.0.0.1:2".to_owned(), 'B'),
        ]
        .into()
    }

    fn snapshot(total: u64) -> Snapshot {
        let text = format!(
            r#"{{"connections": 1,
                "workers": [{{"index": 0, "cpu": 2, "connections": 1, "connections_total": {total}}}],
                "listeners": [{{"name": "demo", "connections_total": {total}}}],
                "pools": [{{"name": "demo", "backends": [
                    {{"address": "127.0.0.1:1", "state": "up", "connections_total": {total}}},
                    {{"address": "127.0.0.1:2", "state": "down", "connections_total": 0}}]}}]}}"#
        );
        Snapshot::read(text.as_bytes()).expect("a status")
    }

    #[test]
    fn elsewhere_than_on_a_terminal_a_line_per_change() {
        let mut display = Display::new(names(), false);
        let first = display.next(&snapshot(5)).expect("something new");
        assert_eq!(
            first,
            "backends: A up 5 (0 active), B down 0 (0 active) | workers: 0: 5"
        );
        assert_eq!(display.next(&snapshot(5)), None);
        assert!(display.next(&snapshot(6)).is_some());
        assert!(!first.contains('\x1b'));
    }

    #[test]
    fn a_terminal_is_drawn_over() {
        let mut display = Display::new(names(), true);
        let first = display.next(&snapshot(5)).expect("a table");
        assert!(!first.contains("\x1b[6A"), "{first:?}");
        assert_eq!(first.lines().count(), 6);
        let second = display.next(&snapshot(5)).expect("a table");
        assert!(second.starts_with("\x1b[6Abackend"), "{second:?}");
    }

    #[test]
    fn the_summary_counts_by_backend_and_worker() {
        let wanted = "\nConnections: 7\n  by backend: A 7, B 0\n  by worker:  0: 7";
        assert_eq!(closing(&names(), &snapshot(7)), wanted);
    }
}
