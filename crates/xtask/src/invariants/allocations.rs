//! Allocations per message, counted at the allocator itself: the kernel's user probes on the C
//! library's functions, which Rust's default allocator calls. Nothing is built differently and no
//! code of the process is changed on disk. Invariant: only the threads that relay are counted, and
//! only while messages are relayed.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::count::{Counter, Scope, counts_of, perf};
use super::instance::{Config, Instance, UNCHECKED};
use super::load::{Servers, figure, load, run};
use super::procfs::{mapped_file, threads_named};
use super::rig::Rig;
use super::row::Row;

const NAME: &str = "allocations per message on the data path";
/// Every way in which memory is asked for.
const FUNCTIONS: [&str; 5] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];
/// Fewer than one in this many messages come from connections that are opened, not from messages.
const PER_MESSAGE_MAX: f64 = 0.001;

/// Allocations of the workers while 64 connections exchange messages.
pub(super) fn per_message(rig: &Rig) -> io::Result<Vec<Row>> {
    if rig.counter != Counter::Perf {
        return Ok(vec![Row::skipped(
            NAME,
            "needs perf with user probes (root)",
        )]);
    }
    let servers = Servers::start(rig, &["echo"], &[])?;
    let config = Config::pinned(rig).listener("echo", "auto", &servers.of("echo"), UNCHECKED);
    let instance = Instance::start(rig, &config)?;
    let to = instance.address("echo")?;
    let Some(library) = mapped_file(instance.pid(), "libc.so.6")? else {
        return Ok(vec![Row::skipped(
            NAME,
            "the allocator is not in a library of its own",
        )]);
    };
    let probes = match Probes::set(&library) {
        Ok(probes) => probes,
        Err(error) => return Ok(vec![Row::skipped(NAME, &error.to_string())]),
    };
    if !probes.fire(rig)? {
        return Ok(vec![Row::skipped(
            NAME,
            "user probes see nothing on this machine",
        )]);
    }
    let workers = threads_named(instance.pid(), "ringway-wrk")?;
    if workers.is_empty() {
        return Err(io::Error::other("no thread is called ringway-wrk"));
    }
    // Whatever is made once is made here.
    let options = ["--connections", "64", "--count"];
    run(load(rig, &["rr", "--to", &to]).args(options).arg("20000"))?;
    let mut command = load(rig, &["rr", "--to", &to]);
    command.args(options).arg("200000");
    let events = probes.events();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (counts, result) = perf(rig, Scope::Threads(workers), &events, &mut command)?;
    let (count, messages) = (
        counts.iter().sum::<u64>(),
        figure(&result, "operations_all")? * 2,
    );
    let each = count as f64 / messages as f64;
    let mut row = Row::at_most(NAME, each, PER_MESSAGE_MAX, "");
    row.limit = "0".to_owned();
    row.measured = format!("{each:.4} ({count} for {messages} messages)");
    Ok(vec![row])
}

/// Probes on the allocator, removed when dropped.
#[derive(Debug)]
struct Probes {
    group: String,
}

impl Probes {
    fn set(library: &Path) -> io::Result<Probes> {
        let group = format!("ringway_{}", std::process::id());
        let probes = Probes { group };
        for function in FUNCTIONS {
            let definition = format!("{}:{function}={function}", probes.group);
            let output = command(&["probe", "-q", "-x"])
                .arg(library)
                .arg(&definition)
                .output()?;
            if !output.status.success() {
                return Err(io::Error::other(format!(
                    "perf probe: {}",
                    first_line(&output)
                )));
            }
        }
        Ok(probes)
    }

    fn events(&self) -> Vec<String> {
        FUNCTIONS
            .iter()
            .map(|function| format!("{}:{function}", self.group))
            .collect()
    }

    /// Whether the probes see anything: a process that starts allocates for certain.
    fn fire(&self, rig: &Rig) -> io::Result<bool> {
        let report = rig.path("control.csv");
        let mut perf = command(&["stat", "-x", ",", "-o"]);
        perf.arg(&report);
        for event in self.events() {
            perf.args(["-e", &event]);
        }
        perf.arg("--")
            .arg(&rig.ringway)
            .arg("--version")
            .stdout(Stdio::null())
            .status()?;
        let counts = counts_of(&fs::read_to_string(&report)?);
        Ok(counts.iter().sum::<u64>() > 0)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        // A probe that cannot be removed costs nothing until the next start of the machine.
        let _ = command(&["probe", "-q", "-d"])
            .arg(format!("{}:*", self.group))
            .output();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("perf");
    command.args(arguments).stdin(Stdio::null());
    command
}

fn first_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .next()
        .unwrap_or("failed")
        .to_owned()
}
