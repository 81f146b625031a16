//! `invariants`: what must always hold, measured against the release binary as a user runs it.
//! Not a benchmark: it counts and compares with limits that do not depend on the machine's speed.
//! Invariant: each line is measured, or skipped by name with the reason; an error while measuring is
//! a violation.

mod allocations;
mod blockers;
mod confined;
mod connections;
mod count;
mod crowd;
mod exposition;
mod gates;
mod groups;
mod hellos;
mod idle;
mod instance;
mod load;
mod memory;
mod procfs;
mod relay;
mod rig;
mod row;
mod start;

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use gates::Gates;
use rig::Rig;
use row::{Row, Verdict};

/// A check: its name for `--only`, and what it measures.
type Check = (&'static str, fn(&Rig) -> io::Result<Vec<Row>>);

const CHECKS: [Check; 15] = [
    ("io-wq threads", relay::io_wq),
    ("round trip", relay::round_trips),
    ("bulk stream", relay::bulk),
    ("short connection", connections::system_calls),
    ("setsockopt", connections::socket_options),
    ("allocations", allocations::per_message),
    ("idle connections", crowd::idle_connections),
    ("stalled hellos", hellos::stalled),
    ("reset connection", crowd::resets),
    ("blocked directions", memory::blocked_directions),
    ("control group", confined::overloaded),
    ("strained group", blockers::strained),
    ("wake-ups", idle::wake_ups),
    ("conservation", connections::conservation),
    ("start", start::to_ready),
];

/// How often a check whose gate does not hold is measured in all: what else runs on the machine adds
/// to a count, a change of the code adds to all of them.
const ATTEMPTS: usize = 3;

/// What was asked for on the command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    only: Option<String>,
    binaries: Option<PathBuf>,
    gates: bool,
    idle_connections: Option<u64>,
}

/// Idle connections in all, where descriptors allow it and nothing else is asked for.
const IDLE_CONNECTIONS: u64 = 20_000;

impl Options {
    /// `None` if it is no valid command line.
    pub(crate) fn parse(words: &[&str]) -> Option<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--only" => options.only = Some((*words.next()?).to_owned()),
                "--gates" => options.gates = true,
                "--binaries" => options.binaries = Some(PathBuf::from(*words.next()?)),
                "--idle-connections" => {
                    options.idle_connections = Some(words.next()?.parse().ok()?)
                }
                _ => return None,
            }
        }
        // A gate that was not looked at holds nothing back.
        (!(options.gates && options.only.is_some())).then_some(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    }
}

/// Measures, prints the table, and says whether everything holds.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    let rig = Rig::new(
        options.binaries.as_deref(),
        options.idle_connections.unwrap_or(IDLE_CONNECTIONS),
    )?;
    println!("{}\n{}", rig.describe(), Row::header());
    let gates = options.gates.then(Gates::read).transpose()?;
    let mut rows = Vec::new();
    for check in CHECKS.iter().filter(|(name, _)| options.wants(name)) {
        let mut measured = measure(check, &rig);
        for _ in 1..ATTEMPTS {
            if !gates
                .as_ref()
                .is_some_and(|gates| gates.is_one_broken(&measured))
            {
                break;
            }
            println!("  (a gate does not hold: {} once more)", check.0);
            measured = measure(check, &rig);
        }
        rows.extend(measured);
    }
    let count = |verdict: Verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let (held, violated, skipped) = (
        count(Verdict::Holds),
        count(Verdict::Violated),
        count(Verdict::Skipped),
    );
    println!("\n{held} hold, {violated} violated, {skipped} skipped");
    for row in rows.iter().filter(|row| row.verdict == Verdict::Violated) {
        println!(
            "violated: {}: {} (limit {})",
            row.invariant, row.measured, row.limit
        );
    }
    Ok(match gates {
        Some(gates) => gates.hold(&rows),
        None => violated == 0 && held > 0,
    })
}

/// The rows of one check, printed; an error is one of them.
fn measure(&(name, check): &Check, rig: &Rig) -> Vec<Row> {
    let start = Instant::now();
    let rows = check(rig).unwrap_or_else(|error| {
        let error = format!("could not be measured: {error}");
        vec![Row::violated(name, &error, "")]
    });
    for row in &rows {
        println!("{row}");
    }
    eprintln!("  ({name}: {:.1} s)", start.elapsed().as_secs_f64());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_nothing_else_is() {
        let options = Options::parse(&["--only", "idle", "--binaries", "/x"]).unwrap();
        assert!(options.wants("idle connections") && !options.wants("start"));
        assert_eq!(options.binaries, Some(PathBuf::from("/x")));
        assert!(Options::parse(&[]).unwrap().wants("start"));
        assert!(Options::parse(&["--gates"]).unwrap().gates);
        let gates_of_some = ["--gates", "--only", "idle"];
        for wrong in [&["--only"][..], &["--binaries"], &["more"], &gates_of_some] {
            assert!(Options::parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
