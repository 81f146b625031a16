//! Runs worlds by seed: `--seed N` with or without `--trace`, or `--seeds FROM..TO`.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::panic;
use std::process::ExitCode;

use clap::Parser;
use ringway_sim::{Dice, Options, Tally, Trace, run};

/// Simulated clients, backends and faults around real flows.
#[derive(Debug, Parser)]
struct Arguments {
    /// The world to run.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// The worlds to run, as FROM..TO.
    #[arg(long, value_parser = parse_range, default_value = "0..10000")]
    seeds: Range<u64>,
    /// Print every event of the worlds.
    #[arg(long)]
    trace: bool,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").ok_or("expected FROM..TO")?;
    let number = |part: &str| part.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(parts.0)?..number(parts.1)?)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments
        .seed
        .map_or(arguments.seeds, |seed| seed..seed + 1);
    let trace = if arguments.trace {
        Trace::On
    } else {
        Trace::Off
    };
    let options = Options {
        trace,
        ..Options::default()
    };
    let mut tally = Tally::default();
    for seed in seeds {
        match panic::catch_unwind(|| run(Dice::from_seed(seed), &options)) {
            Ok(Ok(counted)) => tally.add(&counted),
            Ok(Err(violation)) => return failed(seed, &violation.to_string()),
            Err(_) => return failed(seed, "it panicked"),
        }
    }
    print!("{tally}");
    ExitCode::SUCCESS
}

fn failed(seed: u64, what: &str) -> ExitCode {
    eprintln!("seed {seed}, {what}");
    eprintln!("reproduce: cargo run -p ringway-sim -- --seed {seed} --trace");
    ExitCode::FAILURE
}
