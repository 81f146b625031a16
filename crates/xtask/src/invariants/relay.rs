//! What the relay costs in system calls and kernel threads, in every mode that promises it.
//! Invariant: the figures are per operation of a load that succeeded.

use std::io;
use std::thread;
use std::time::Duration;

use super::count::Counted;
use super::instance::{Config, Instance, UNCHECKED};
use super::load::{Servers, begin, figure, finish, load, run};
use super::procfs::thread_names;
use super::rig::Rig;
use super::row::Row;

/// The modes that never use kernel workers.
const MODES: [&str; 3] = ["auto", "copy", "splice"];

/// Streams whose median counts, and the size of each in megabytes.
const STREAMS: usize = 5;
const STREAM_MB: f64 = 1_073.741_824;

/// Kernel workers while round trips, streams and short connections run in each mode.
pub(super) fn io_wq(rig: &Rig) -> io::Result<Vec<Row>> {
    let servers = Servers::start(rig, &["echo", "source", "reply"], &[])?;
    let mut config = Config::pinned(rig);
    for mode in MODES {
        for kind in ["echo", "source", "reply"] {
            let name = format!("{kind}-{mode}");
            config = config.listener(&name, mode, &servers.of(kind), UNCHECKED);
        }
    }
    let instance = Instance::start(rig, &config)?;
    let mut rows = Vec::new();
    for mode in MODES {
        let to = |kind: &str| instance.address(&format!("{kind}-{mode}"));
        let (echo, source, reply) = (to("echo")?, to("source")?, to("reply")?);
        let mut most = 0;
        for arguments in [
            &["rr", "--to", &echo, "--duration", "1s"][..],
            &["rr", "--to", &echo, "--duration", "1s", "--size", "16KiB"],
            &[
                "bulk",
                "--to",
                &source,
                "--streams",
                "4",
                "--duration",
                "1s",
            ],
            &[
                "bulk",
                "--to",
                &echo,
                "--streams",
                "4",
                "--duration",
                "1s",
                "--direction",
                "echo",
            ],
            &["crr", "--to", &reply, "--count", "5000"],
        ] {
            most = most.max(kernel_workers(rig, &instance, arguments)?);
        }
        rows.push(Row::exactly(
            &format!("io-wq threads under load, relay {mode}"),
            most,
            0,
        ));
    }
    Ok(rows)
}

/// Most kernel workers that the instance had at a time while a load ran.
fn kernel_workers(rig: &Rig, instance: &Instance, arguments: &[&str]) -> io::Result<u64> {
    let mut child = begin(&mut load(rig, arguments))?;
    let mut most = 0;
    while child.try_wait()?.is_none() {
        let names = thread_names(instance.pid())?;
        most = most.max(
            names
                .iter()
                .filter(|name| name.starts_with("iou-wrk"))
                .count() as u64,
        );
        thread::sleep(Duration::from_millis(20));
    }
    finish(child)?;
    Ok(most)
}

/// System calls per 64 B round trip on 64 connections.
pub(super) fn round_trips(rig: &Rig) -> io::Result<Vec<Row>> {
    let servers = Servers::start(rig, &["echo"], &[])?;
    let config = Config::pinned(rig).listener("echo", "auto", &servers.of("echo"), UNCHECKED);
    let instance = Instance::start(rig, &config)?;
    let to = instance.address("echo")?;
    let mut command = load(
        rig,
        &[
            "rr",
            "--to",
            &to,
            "--connections",
            "64",
            "--size",
            "64",
            "--count",
            "200000",
        ],
    );
    let name = "system calls per 64 B round trip, 64 connections";
    let Some(Counted { count, result }) =
        rig.counter
            .system_calls(rig, instance.pid(), &mut command)?
    else {
        run(&mut command)?;
        let enters = instance.metrics()?.sum("ringway_uring_enters_total", &[])?;
        let reason = format!("not countable; {enters} ring enters for 200000");
        return Ok(vec![Row::skipped(name, &reason)]);
    };
    let trips = figure(&result, "operations_all")?;
    let each = count as f64 / trips as f64;
    Ok(vec![Row::at_most(
        name,
        each,
        0.5,
        &format!("{each:.3} ({count} for {trips})"),
    )])
}

/// System calls per megabyte of one stream, each way, promotion included. How much there is to move
/// at each turn depends on what else the machine does, so the median of several streams counts.
pub(super) fn bulk(rig: &Rig) -> io::Result<Vec<Row>> {
    let servers = Servers::start(rig, &["source", "sink"], &[])?;
    let config = Config::pinned(rig)
        .listener("down", "auto", &servers.of("source"), UNCHECKED)
        .listener("up", "auto", &servers.of("sink"), UNCHECKED);
    let instance = Instance::start(rig, &config)?;
    let mut rows = Vec::new();
    for direction in ["down", "up"] {
        let name = format!("system calls per MB of one bulk stream, {direction}");
        let to = instance.address(direction)?;
        let mut figures = Vec::with_capacity(STREAMS);
        for _ in 0..STREAMS {
            let arguments = [
                "bulk",
                "--to",
                &to,
                "--direction",
                direction,
                "--bytes",
                "1GiB",
            ];
            let mut command = load(rig, &arguments);
            match rig
                .counter
                .system_calls(rig, instance.pid(), &mut command)?
            {
                Some(Counted { count, .. }) => figures.push(count as f64 / STREAM_MB),
                None => drop(run(&mut command)?),
            }
        }
        figures.sort_by(f64::total_cmp);
        rows.push(match figures.as_slice() {
            [] => {
                let enters = instance.metrics()?.sum("ringway_uring_enters_total", &[])?;
                let reason = format!("not countable; {enters} ring enters so far");
                Row::skipped(&name, &reason)
            }
            [least, .., most] => {
                let median = figures[figures.len() / 2];
                let shown = format!("{median:.1} (median of {STREAMS}, {least:.1} to {most:.1})");
                Row::at_most(&name, median, 20.0, &shown)
            }
            [only] => Row::at_most(&name, *only, 20.0, &format!("{only:.1}")),
        });
    }
    Ok(rows)
}
