//! What connections that cannot go on cost in memory. Invariant: a blocked direction is measured with
//! everything that was not there before, so that nothing it causes is left out.

use std::io;
use std::time::Duration;

use super::instance::{Config, Instance, UNCHECKED};
use super::load::{Servers, begin, load};
use super::procfs::settled_memory;
use super::rig::Rig;
use super::row::Row;

/// Directions that are blocked.
const BLOCKED: u64 = 200;
/// What a blocked direction may hold in user memory, in bytes.
const DIRECTION_CAP: f64 = 64.0 * 1024.0;
/// What a pipe may hold in the kernel beside it, in bytes.
const PIPE_CAP: f64 = 256.0 * 1024.0;

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
