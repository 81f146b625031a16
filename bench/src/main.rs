//! `ringway-bench`: a load generator and the servers it talks to, on non-blocking sockets and epoll,
//! and comparisons of balancers made with them, in one binary. Invariant: a load exits with 0 only
//! if every operation succeeded and every byte that came back was the byte that was sent.
#![forbid(unsafe_code)]

mod bulk;
mod churn;
mod cli;
mod clock;
mod compare;
mod crew;
mod crr;
mod failures;
mod idle;
mod leash;
mod mixed;
mod open;
mod outcome;
mod pace;
mod pattern;
mod peer;
mod poller;
mod procfs;
mod progress;
mod report;
mod rr;
mod serve;
mod socket;
mod stats;
mod stdin;
mod tally;
mod values;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use cli::{Cli, Command};
use outcome::Outcome;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringway-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything succeeded.
fn run(cli: &Cli) -> io::Result<bool> {
    raise_descriptor_limit();
    if !cli.cpus.is_empty() {
        pin(&cli.cpus)?;
    }
    let outcome: Outcome = match &cli.command {
        Command::Serve(args) => serve::serve(args)?,
        Command::Rr(args) => rr::run(args)?,
        Command::Crr(args) => crr::run(args)?,
        Command::Bulk(args) => bulk::run(args)?,
        Command::Idle(args) => idle::run(args)?,
        Command::Mixed(args) => mixed::run(args)?,
        Command::Churn(args) => churn::run(args)?,
        Command::Compare(args) => return compare::run(args, cli.json).map(|()| true),
        Command::Report(args) => return report::run(args).map(|()| true),
        Command::Peer(args) => return peer::run(args).map(|()| true),
        Command::Leash(args) => return leash::run(args).map(|()| true),
    };
    if cli.json {
        println!("{}", outcome.json());
    } else {
        print!("{}", outcome.table());
    }
    Ok(outcome.failures.is_empty())
}

/// Descriptors that suffice for every discipline.
const DESCRIPTORS: u64 = 200_000;

/// Takes what the hard limit allows, and more where it may be raised: a generator that runs out of
/// descriptors measures nothing. What it starts inherits the limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.map(|hard| hard.max(DESCRIPTORS));
    for maximum in [hard, limit.maximum] {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        // The hard limit takes a privilege; where neither can be had, opening says so.
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return;
        }
    }
}

/// Keeps the whole process, threads to come included, on `cpus`.
fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        if *cpu >= CpuSet::MAX_CPU {
            return Err(io::Error::other(format!("--cpus: there is no CPU {cpu}")));
        }
        set.set(*cpu);
    }
    sched_setaffinity(None, &set)
        .map_err(|error| io::Error::other(format!("--cpus: {error}: none of them is usable")))
}
