//! One sample: a balancer freshly started, one load through it, and what both it and the machine
//! spent. Invariant: CPU time and operations are counted over the same span, warm-up included.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::Duration;

use serde_json::Value as Json;

use super::contender::Contender;
use super::discipline::{Discipline, Extent, Load};
use super::rig::{Rig, Servers};
use crate::procfs::{Machine, Memory, Usage};
use crate::stats::Better;

/// The time balancers get to come to rest once connections are held.
const SETTLE: Duration = Duration::from_secs(3);

/// What a paced load does per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) round_trips: u32,
    /// Of the streams beside them, if there are any.
    pub(crate) bulk_bytes: Option<u64>,
}

/// The figures of a sample, by [`Metric::key`] and a few more names.
pub(crate) type Sample = BTreeMap<String, f64>;

/// A figure that can decide a discipline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    CpuUsPerOperation,
    CpuMsPerGb,
    P50Us,
    P99Us,
    BytesPerConnection,
    OperationsPerSecond,
}

impl Metric {
    pub(crate) fn key(self) -> &'static str {
        match self {
            Metric::CpuUsPerOperation => "cpu_us_per_operation",
            Metric::CpuMsPerGb => "cpu_ms_per_gb",
            Metric::P50Us => "p50_us",
            Metric::P99Us => "p99_us",
            Metric::BytesPerConnection => "bytes_per_connection",
            Metric::OperationsPerSecond => "operations_per_second",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Metric::CpuUsPerOperation => "CPU us",
            Metric::CpuMsPerGb => "CPU ms/GB",
            Metric::P50Us => "p50 us",
            Metric::P99Us => "p99 us",
            Metric::BytesPerConnection => "bytes",
            Metric::OperationsPerSecond => "/s",
        }
    }

    pub(crate) fn better(self) -> Better {
        match self {
            Metric::CpuUsPerOperation
            | Metric::CpuMsPerGb
            | Metric::P50Us
            | Metric::P99Us
            | Metric::BytesPerConnection => Better::Lower,
            Metric::OperationsPerSecond => Better::Higher,
        }
    }
}

/// The whole machine's CPU time per operation, or per GB: what a balancer leaves to its neighbours
/// is seen here.
pub(crate) const MACHINE_KEY: &str = "machine_us_per_operation";
/// What the host took away, in percent of all CPUs.
pub(crate) const STEAL_KEY: &str = "steal_percent";
pub(crate) const FAILED_KEY: &str = "failed";
/// What the streams beside round trips carried.
pub(super) const BULK_KEY: &str = "bulk_gigabit_per_second";

/// Takes a sample of `contender`.
pub(super) fn take(
    rig: &Rig,
    contender: &Contender,
    discipline: &Discipline,
    servers: &Servers,
    extent: &Extent,
    rate: Option<Rate>,
) -> io::Result<Sample> {
    let balancer = rig.start(contender, servers, discipline.workers)?;
    let mut line = discipline.command(extent, rate);
    line.extend(balancer.targets());
    if discipline.load == Load::Idle {
        let sample = hold(rig, &line, balancer.pid());
        balancer.end()?;
        return sample;
    }
    let before = (Usage::of_tree(balancer.pid())?, Machine::now()?);
    let load = rig.load(&line, discipline.workers)?;
    let after = (Usage::of_tree(balancer.pid())?, Machine::now()?);
    balancer.end()?;
    let spent = Spent {
        cpu_ns: after.0.cpu_ns_since(&before.0),
        machine: after.1.since(&before.1),
        switches: after.0.switches_since(&before.0),
        io_workers: after.0.io_workers(),
    };
    Ok(figures(discipline.load, &load, &spent))
}

/// What a balancer and the machine spent on a load.
#[derive(Debug, Clone, Copy)]
struct Spent {
    cpu_ns: u64,
    machine: Machine,
    switches: u64,
    io_workers: u64,
}

/// What the result of a load and what was spent on it amount to.
fn figures(kind: Load, load: &Json, spent: &Spent) -> Sample {
    let number = |name: &str| load[name].as_f64().unwrap_or_default();
    let bytes = number("bytes_sent") + number("bytes_received");
    let mut sample = Sample::new();
    let mut add = |name: &str, value: f64| {
        if value.is_finite() {
            sample.insert(name.to_owned(), value);
        }
    };
    let machine_ns = spent.machine.busy_ns as f64;
    let operations = match kind {
        // A stream is no unit; a gigabyte is.
        Load::Streams { .. } => {
            let gigabytes = bytes / 1e9;
            add(
                Metric::CpuMsPerGb.key(),
                spent.cpu_ns as f64 / 1e6 / gigabytes,
            );
            gigabytes
        }
        Load::RoundTrips { .. } | Load::Short { .. } | Load::Tail { .. } | Load::Idle => {
            let operations = number("operations_all");
            let key = Metric::CpuUsPerOperation.key();
            add(key, spent.cpu_ns as f64 / 1e3 / operations);
            operations
        }
    };
    add(MACHINE_KEY, machine_ns / 1e3 / operations);
    add("switches_per_operation", spent.switches as f64 / operations);
    add("io_workers", spent.io_workers as f64);
    let stolen = spent.machine.steal_ns as f64;
    add(STEAL_KEY, 100.0 * stolen / (machine_ns + stolen));
    add(FAILED_KEY, number("failed"));
    for name in ["operations_per_second", "gigabit_per_second", BULK_KEY] {
        if let Some(value) = load[name].as_f64() {
            add(name, value);
        }
    }
    for (name, key) in LATENCIES {
        if let Some(value) = load["latency_us"][name].as_f64() {
            add(key, value);
        }
    }
    sample
}

/// Percentiles: what the load calls them, and what a sample does.
pub(crate) const LATENCIES: [(&str, &str); 5] = [
    ("p50", "p50_us"),
    ("p90", "p90_us"),
    ("p99", "p99_us"),
    ("p99.9", "p99.9_us"),
    ("p99.99", "p99.99_us"),
];

/// Memory per connection while connections are held.
fn hold(rig: &Rig, line: &[String], pid: u32) -> io::Result<Sample> {
    let before = Memory::of_tree(pid)?;
    let held = rig.hold(line)?;
    thread::sleep(SETTLE);
    let after = Memory::of_tree(pid)?;
    let io_workers = Usage::of_tree(pid)?.io_workers();
    let connections = held.connections as f64;
    let failed = held.end()?;
    let grown = |before: u64, after: u64| after.saturating_sub(before) as f64 / connections;
    Ok(Sample::from([
        (
            Metric::BytesPerConnection.key().to_owned(),
            grown(before.proportional, after.proportional),
        ),
        (
            "private_bytes_per_connection".to_owned(),
            grown(before.private, after.private),
        ),
        ("bytes_before".to_owned(), before.proportional as f64),
        ("connections".to_owned(), connections),
        ("io_workers".to_owned(), io_workers as f64),
        (FAILED_KEY.to_owned(), failed as f64),
    ]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SPENT: Spent = Spent {
        cpu_ns: 2_000_000_000,
        machine: Machine {
            busy_ns: 9_000_000_000,
            steal_ns: 1_000_000_000,
        },
        switches: 500,
        io_workers: 3,
    };

    #[test]
    fn round_trips_are_counted_with_their_warm_up() {
        let load = json!({"operations": 5, "operations_all": 1000, "operations_per_second": 9.5,
            "failed": 0, "latency_us": {"p50": 20.0, "p99": 40.5}});
        let kind = Load::Tail { streams: 0 };
        let sample = figures(kind, &load, &SPENT);
        assert_eq!(sample["cpu_us_per_operation"], 2000.0);
        assert_eq!(sample["machine_us_per_operation"], 9000.0);
        assert_eq!(sample["switches_per_operation"], 0.5);
        assert_eq!(sample["steal_percent"], 10.0);
        assert_eq!((sample["p50_us"], sample["p99_us"]), (20.0, 40.5));
        assert_eq!(sample["io_workers"], 3.0);
        assert!(!sample.contains_key("p99.9_us"));
    }

    #[test]
    fn streams_are_counted_by_the_gigabyte() {
        let load = json!({"operations_all": 4, "bytes_sent": 32, "bytes_received": 3_999_999_968_u64,
            "gigabit_per_second": 11.5, "failed": 0});
        let kind = Load::Streams {
            direction: "down",
            streams: 4,
        };
        let sample = figures(kind, &load, &SPENT);
        assert_eq!(sample["cpu_ms_per_gb"], 500.0);
        assert_eq!(sample["gigabit_per_second"], 11.5);
        assert!(!sample.contains_key("cpu_us_per_operation"));
    }

    #[test]
    fn nothing_done_has_no_figure_per_operation() {
        let sample = figures(Load::Tail { streams: 0 }, &json!({"failed": 7}), &SPENT);
        assert!(!sample.contains_key("cpu_us_per_operation"));
        assert_eq!(sample["failed"], 7.0);
    }
}
