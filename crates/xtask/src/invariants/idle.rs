//! How often a balancer wakes up when nobody connects. Invariant: health checks are on, because a
//! balancer that checks nothing proves nothing.

use std::io;
use std::thread;
use std::time::Duration;

use super::instance::{Config, Instance};
use super::load::Servers;
use super::procfs::wake_ups as read;
use super::rig::Rig;
use super::row::Row;

/// Time after the start until everything that happens once has happened.
const SETTLE: Duration = Duration::from_secs(5);
/// Time over which wake-ups are counted: five rounds of health checks.
const WATCH: Duration = Duration::from_secs(10);

/// Wake-ups of all threads, with two workers and three backends checked every two seconds.
pub(super) fn wake_ups(rig: &Rig) -> io::Result<Vec<Row>> {
    let servers = Servers::start(rig, &["echo"; 3], &[])?;
    let check = "{type: tcp, interval: 2s}";
    let config = Config::new("2").listener("echo", "auto", &servers.of("echo"), check);
    let instance = Instance::start(rig, &config)?;
    thread::sleep(SETTLE);
    let before = read(instance.pid())?;
    thread::sleep(WATCH);
    let count = read(instance.pid())? - before;
    let each = count as f64 / WATCH.as_secs_f64();
    let name = "wake-ups of an idle balancer per second";
    let shown = format!("{each:.1} (2 workers, 3 backends checked every 2 s)");
    Ok(vec![Row::at_most(name, each, 20.0, &shown)])
}
