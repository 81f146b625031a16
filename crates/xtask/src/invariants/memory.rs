//! What connections that do nothing, and connections that cannot go on, cost in memory and CPU.
//! Invariant: an idle connection is measured as a slope between two numbers of them, so that what the
//! process has anyway is not counted; a blocked direction is measured with everything that was not
//! there before, so that nothing it causes is left out.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::instance::{Config, Instance, UNCHECKED};
use super::load::{Held, Servers, begin, load, run};
use super::procfs::{cpu_ns, private_dirty};
use super::rig::Rig;
use super::row::Row;

/// Connections that warm everything up before the slope begins.
const WARM: u64 = 1000;
/// Idle connections in all, where descriptors allow it.
const IDLE_MAX: u64 = 9000;
/// Directions that are blocked.
const BLOCKED: u64 = 200;
/// What a blocked direction may hold in user memory, in bytes.
const DIRECTION_CAP: f64 = 64.0 * 1024.0;
/// What a pipe may hold in the kernel beside it, in bytes.
const PIPE_CAP: f64 = 256.0 * 1024.0;

/// User memory per idle connection, and the CPU time of holding them.
pub(super) fn idle_connections(rig: &Rig) -> io::Result<Vec<Row>> {
    let servers = Servers::start(rig, &["echo"], &[])?;
    let config = Config::pinned(rig).listener("echo", "auto", &servers.of("echo"), UNCHECKED);
    let instance = Instance::start(rig, &config)?;
    let to = instance.address("echo")?;
    // Two descriptors per connection, and some for everything else.
    let fitting = rig.descriptors_max.saturating_sub(1000) / 2;
    let total = IDLE_MAX.min(fitting);
    let memory = "user memory per idle connection, bytes";
    if total < 2 * WARM {
        let reason = format!("{} descriptors are too few", rig.descriptors_max);
        return Ok(vec![Row::skipped(memory, &reason)]);
    }
    // Buffers that all connections share are touched here, each of them.
    for size in ["16KiB", "64"] {
        let arguments = [
            "rr",
            "--to",
            &to,
            "--connections",
            "500",
            "--count",
            "20000",
        ];
        run(load(rig, &arguments).args(["--size", size]))?;
    }
    let _warm = Held::open(rig, &to, WARM)?;
    let before = settled_memory(instance.pid())?;
    let _held = Held::open(rig, &to, total - WARM)?;
    let after = settled_memory(instance.pid())?;
    let each = after.saturating_sub(before) as f64 / (total - WARM) as f64;
    let shown = format!(
        "{each:.0} ({WARM} to {total}: {} KiB)",
        (after - before) / 1024
    );
    let watch = Duration::from_secs(5);
    let (begin, cpu_before) = (Instant::now(), cpu_ns(instance.pid())?);
    thread::sleep(watch);
    let used = (cpu_ns(instance.pid())? - cpu_before) as f64 / begin.elapsed().as_nanos() as f64;
    Ok(vec![
        Row::at_most(memory, each, 512.0, &shown),
        Row::at_most(
            "CPU of holding idle connections, % of a core",
            used * 100.0,
            1.0,
            &format!("{:.3} ({total} connections)", used * 100.0),
        ),
    ])
}

/// Memory of a direction whose receiver takes nothing.
pub(super) fn blocked_directions(rig: &Rig) -> io::Result<Vec<Row>> {
    let servers = Servers::start(rig, &["stall"], &[])?;
    let config = Config::pinned(rig).listener("stall", "auto", &servers.of("stall"), UNCHECKED);
    let instance = Instance::start(rig, &config)?;
    let (to, streams) = (instance.address("stall")?, BLOCKED.to_string());
    let mut up = load(rig, &["bulk", "--to", &to, "--direction", "up"]);
    up.args(["--duration", "60s", "--streams", &streams]);
    let before = settled_memory(instance.pid())?;
    // Ended below: it would wait for bytes that nobody takes.
    let mut child = begin(&mut up)?;
    let blocked = instance.settles(Duration::from_secs(10), |metrics| {
        Ok(metrics.sum("ringway_listener_connections", &[("listener", "stall")])? == BLOCKED)
    });
    let after = blocked.and_then(|all| match all {
        true => settled_memory(instance.pid()),
        false => Err(io::Error::other("the streams did not all connect")),
    });
    let pipes = instance
        .metrics()
        .and_then(|metrics| metrics.sum("ringway_worker_pipes", &[("state", "in_use")]));
    // It may have ended by itself, and then there is nothing to end.
    let _ = child.kill();
    child.wait()?;
    let (after, pipes) = (after?, pipes?);
    let each = after.saturating_sub(before) as f64 / BLOCKED as f64;
    let shown = format!("{each:.0} ({BLOCKED} directions)");
    let piped = pipes as f64 * PIPE_CAP / BLOCKED as f64;
    Ok(vec![
        Row::at_most(
            "user memory per blocked direction, bytes",
            each,
            DIRECTION_CAP,
            &shown,
        ),
        Row::at_most(
            "pipe memory per blocked direction, bytes at most",
            piped,
            PIPE_CAP,
            &format!("{piped:.0} ({pipes} pipes in use)"),
        ),
    ])
}

/// Private memory once it stopped changing; after 5 s as it is then.
fn settled_memory(pid: u32) -> io::Result<u64> {
    let begin = Instant::now();
    let mut last = private_dirty(pid)?;
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = private_dirty(pid)?;
        if now == last || begin.elapsed() > Duration::from_secs(5) {
            return Ok(now);
        }
        last = now;
    }
}
