//! One operation of a pure crate, repeated: what `xtask instructions` counts under callgrind. Not a
//! benchmark and not a test: it reads no clock and prints no figure. Invariant: an operation costs
//! the same each time once it is under way, and it fails if it did not do what its name says.
//!
//! Without arguments it lists the operations: name, tab, repetitions that make a figure steady.
#![forbid(unsafe_code)]

mod balance;
mod flow;
mod metrics;
mod wire;

use std::process::ExitCode;

/// What is counted.
#[derive(Debug, Clone, Copy)]
struct Operation {
    name: &'static str,
    /// So many that what only happens at first is lost among them, and so few that it takes a second.
    repetitions: u64,
    run: fn(u64),
}

fn operations() -> impl Iterator<Item = Operation> {
    [
        flow::OPERATIONS,
        balance::OPERATIONS,
        wire::OPERATIONS,
        metrics::OPERATIONS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            for Operation {
                name, repetitions, ..
            } in operations()
            {
                println!("{name}\t{repetitions}");
            }
            ExitCode::SUCCESS
        }
        [name, repetitions] => {
            let found = operations().find(|operation| operation.name == name.as_str());
            match (found, repetitions.parse()) {
                (Some(operation), Ok(repetitions)) => {
                    (operation.run)(repetitions);
                    ExitCode::SUCCESS
                }
                (None, _) | (_, Err(_)) => usage(),
            }
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: operations [NAME REPETITIONS]");
    ExitCode::from(2)
}
