//! What thousands of connections that do nothing cost: in memory, in CPU, in wake-ups, and to those
//! beside them that do something. Invariant: an idle connection is measured as a slope between two
//! numbers of them, so that what the process has anyway is not counted; a connection in a crowd is
//! compared with the same connection alone, of the same instance.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::instance::{Config, Instance, UNCHECKED};
use super::load::{Held, Servers, figure, load, run};
use super::procfs::{calm_memory, cpu_ns, wake_ups};
use super::rig::Rig;
use super::row::Row;

/// Connections that warm everything up before the slope begins.
const WARM: u64 = 1000;
/// Descriptors that an instance needs for everything but connections, pipes included.
const OWN_DESCRIPTORS: u64 = 1000;
/// Over how long idle connections are watched: several rounds of health checks.
const WATCH: Duration = Duration::from_secs(10);
/// Idle connections beside those that are reset, where descriptors allow it.
const CROWD_MAX: u64 = 8000;
/// Connections that are reset in each round, and the rounds of which the cheapest counts: what else
/// the machine does only ever adds.
const RESETS: &str = "1500";
const ROUNDS: usize = 3;
/// Who resets, with the options that both ends need.
const RESETTING: [(&str, [&str; 4]); 2] = [
    ("client", ["--close", "client", "--how", "reset"]),
    ("server", ["--close", "server", "--how", "reset"]),
];

/// User memory per idle connection, and the CPU time and wake-ups of holding them in one worker.
pub(super) fn idle_connections(rig: &Rig) -> io::Result<Vec<Row>> {
    let memory = "user memory per idle connection, bytes";
    let total = rig.idle_connections.min(fitting(rig));
    if total < 2 * WARM {
        return Ok(vec![too_few(memory, rig)]);
    }
    let servers = Servers::start(rig, &["echo"; 2], &[])?;
    // Two listeners, because the ports of one address do not number much more than half of them.
    let (check, echo) = ("{type: tcp, interval: 2s}", servers.of("echo"));
    let config = Config::pinned(rig)
        .listener("one", "auto", &echo, check)
        .listener("two", "auto", &echo, check);
    let instance = Instance::start(rig, &config)?;
    let (one, two) = (instance.address("one")?, instance.address("two")?);
    touch_shared_buffers(rig, &one)?;
    let _warm = Held::open(rig, &one, WARM)?;
    let before = calm_memory(instance.pid())?;
    let more = total / 2 - WARM;
    let _held = [
        Held::open(rig, &one, more)?,
        Held::open(rig, &two, total - WARM - more)?,
    ];
    let after = calm_memory(instance.pid())?;
    let grown = after.checked_sub(before).filter(|grown| *grown > 0);
    let grown = grown.ok_or_else(|| {
        io::Error::other(format!(
            "{before} bytes fell to {after}: it had not settled"
        ))
    })?;
    let each = grown as f64 / (total - WARM) as f64;
    let grown = grown / 1024;
    let mut rows = vec![Row::at_most(
        memory,
        each,
        512.0,
        &format!("{each:.0} ({WARM} to {total}: {grown} KiB)"),
    )];
    rows.extend(quiet(&instance, total)?);
    let wanted = rig.idle_connections;
    if total < wanted {
        let reason = format!("{total} used: {} descriptors", rig.descriptors_max);
        let name = format!("  the same with {wanted} of them");
        rows.push(Row::skipped(&name, &reason));
    }
    Ok(rows)
}

/// What an instance does that has nothing to do but hold `total` connections.
fn quiet(instance: &Instance, total: u64) -> io::Result<[Row; 2]> {
    let (begin, cpu_before) = (Instant::now(), cpu_ns(instance.pid())?);
    let woken_before = wake_ups(instance.pid())?;
    thread::sleep(WATCH);
    let woken = wake_ups(instance.pid())? - woken_before;
    let used = cpu_ns(instance.pid())? - cpu_before;
    let took = begin.elapsed();
    let percent = used as f64 * 100.0 / took.as_nanos() as f64;
    let each_second = woken as f64 / took.as_secs_f64();
    Ok([
        Row::at_most(
            "  CPU of holding them, % of a core",
            percent,
            1.0,
            &format!("{percent:.3} ({total} in one worker)"),
        ),
        Row::at_most(
            "  wake-ups while holding them, per second",
            each_second,
            20.0,
            &format!("{each_second:.1} ({total}; 4 checks every 2 s)"),
        ),
    ])
}

/// CPU per connection that is reset, with thousands of idle ones in the same worker and with none.
/// Whatever walks over all connections or all operations of the ring shows here.
pub(super) fn resets(rig: &Rig) -> io::Result<Vec<Row>> {
    let crowd = CROWD_MAX.min(fitting(rig));
    let name = |by: &str| format!("CPU of a reset by the {by} beside {crowd} idle ones, ratio");
    if crowd < WARM {
        return Ok(vec![too_few(&name("client"), rig)]);
    }
    let idle = Servers::start(rig, &["echo"], &[])?;
    let mut config = Config::pinned(rig).listener("crowd", "auto", &idle.of("echo"), UNCHECKED);
    let mut servers = Vec::new();
    for (by, options) in RESETTING {
        let started = Servers::start(rig, &["reply"], &options)?;
        config = config.listener(by, "auto", &started.of("reply"), UNCHECKED);
        servers.push(started);
    }
    let instance = Instance::start(rig, &config)?;
    let costs = || -> io::Result<Vec<f64>> {
        let cost = |(by, options): &(&str, [&str; 4])| reset_ns(rig, &instance, by, options);
        RESETTING.iter().map(cost).collect()
    };
    // What is made once is made here.
    costs()?;
    let alone = costs()?;
    let held = Held::open(rig, &instance.address("crowd")?, crowd)?;
    let beside = costs()?;
    drop(held);
    let row = |((by, _), (alone, beside)): (&(&str, [&str; 4]), (&f64, &f64))| {
        let ratio = beside / alone;
        let shown = format!(
            "{ratio:.2} ({:.1} us, {:.1} us alone)",
            beside / 1000.0,
            alone / 1000.0
        );
        Row::at_most(&name(by), ratio, 1.5, &shown)
    };
    let compared = RESETTING.iter().zip(alone.iter().zip(&beside));
    Ok(compared.map(row).collect())
}

/// CPU time of the instance per connection through listener `by`, one after the other.
fn reset_ns(rig: &Rig, instance: &Instance, by: &str, options: &[&str]) -> io::Result<f64> {
    let to = instance.address(by)?;
    let mut cheapest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let arguments = ["crr", "--to", &to, "--parallel", "1", "--count", RESETS];
        let before = cpu_ns(instance.pid())?;
        let result = run(load(rig, &arguments).args(options))?;
        let used = cpu_ns(instance.pid())? - before;
        cheapest = cheapest.min(used as f64 / figure(&result, "connections")? as f64);
    }
    Ok(cheapest)
}

/// Touches each of the buffers that all connections share.
fn touch_shared_buffers(rig: &Rig, to: &str) -> io::Result<()> {
    for size in ["16KiB", "64"] {
        let arguments = ["rr", "--to", to, "--connections", "500", "--count", "20000"];
        run(load(rig, &arguments).args(["--size", size]))?;
    }
    Ok(())
}

/// Connections that the descriptors of one process carry: two for each.
pub(super) fn fitting(rig: &Rig) -> u64 {
    rig.descriptors_max.saturating_sub(OWN_DESCRIPTORS) / 2
}

pub(super) fn too_few(name: &str, rig: &Rig) -> Row {
    let reason = format!("{} descriptors are too few", rig.descriptors_max);
    Row::skipped(name, &reason)
}
