//! How the demo shows a snapshot: a table that refreshes in place on a terminal, a line per change
//! elsewhere. Not where the numbers come from. Invariant: what it writes to something that is not a
//! terminal has no escape sequences.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::output::say;
use crate::snapshot::{Backend, Snapshot};
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
            false => Style::Append { last: String::new() },
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
    let total: u64 = last.workers.iter().map(|worker| worker.connections_total).sum();
    let backends: Vec<String> = backends(last)
        .map(|backend| format!("{} {}", name(names, backend), backend.connections_total))
        .collect();
    let workers: Vec<String> = last
        .workers
        .iter()
        .map(|worker| format!("{} {}", worker.worker, worker.connections_total))
        .collect();
    format!(
        "\nConnections: {total}\n  by backend: {}\n  by worker:  {}",
        backends.join(", "),
        workers.join(", ")
    )
}

fn backends(snapshot: &Snapshot) -> impl Iterator<Item = &Backend> {
    snapshot.pools.iter().flat_map(|pool| &pool.backends)
}

fn name(names: &Names, backend: &Backend) -> String {
    names.get(&backend.address).map_or_else(|| backend.address.clone(), char::to_string)
}

fn table(names: &Names, now: &Snapshot) -> Vec<String> {
    let columns = |first| {
        [(first, Align::Left), ("state", Align::Left), ("active", Align::Right), ("total", Align::Right)]
    };
    let mut upper = Table::new(&columns("backend"));
    for backend in backends(now) {
        upper.row([
            format!("{} {}", name(names, backend), backend.address),
            backend.state.clone(),
            backend.connections.to_string(),
            backend.connections_total.to_string(),
        ]);
    }
    let mut lower = Table::new(&columns("worker"));
    for worker in &now.workers {
        lower.row([
            worker.worker.to_string(),
            worker.cpu.map(|cpu| format!("CPU {cpu}")).unwrap_or_default(),
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
            format!("{name} {} {total} ({} active)", backend.state, backend.connections)
        })
        .collect();
    let workers: Vec<String> = now
        .workers
        .iter()
        .map(|worker| format!("{} {}", worker.worker, worker.connections_total))
        .collect();
    format!("backends: {} | workers: {}", backends.join(", "), workers.join(", "))
}
