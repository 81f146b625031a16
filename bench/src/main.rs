//! `ringway-bench`: a load generator and the servers it talks to, in one binary, on non-blocking
//! sockets and epoll. Not a judge: it measures what it was told to measure and compares nothing.
//! Invariant: it exits with 0 only if every operation succeeded and every byte that came back was
//! the byte that was sent.
#![forbid(unsafe_code)]

mod bulk;
mod cli;
mod clock;
mod crew;
mod crr;
mod failures;
mod idle;
mod open;
mod outcome;
mod pace;
mod pattern;
mod poller;
mod rr;
mod serve;
mod socket;
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
    };
    if cli.json {
        println!("{}", outcome.json());
    } else {
        print!("{}", outcome.table());
    }
    Ok(outcome.failures.is_empty())
}

/// Takes what the hard limit allows: a generator that runs out of descriptors measures nothing.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Raising up to the hard limit needs no privilege; where it fails, opening says so.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
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
