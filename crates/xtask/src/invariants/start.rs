//! How long a start takes. Invariant: the limit that fails is three times the goal, because a shared
//! machine is sometimes that much slower; the goal is printed beside the figure.

use std::io;
use std::time::Duration;

use super::instance::{Config, Instance, UNCHECKED};
use super::rig::Rig;
use super::row::Row;

/// Listeners of the instance.
const LISTENERS: usize = 100;
/// Starts, of which the median counts.
const STARTS: usize = 5;

/// From the start of the process to its first answer that it is ready.
pub(super) fn to_ready(rig: &Rig) -> io::Result<Vec<Row>> {
    let backend = ["127.0.0.1:9".parse().map_err(io::Error::other)?];
    let config = (0..LISTENERS).fold(Config::new("auto"), |config, index| {
        config.listener(&format!("l{index}"), "auto", &backend, UNCHECKED)
    });
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        times.push(Instance::start(rig, &config)?.ready_after);
    }
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let median = ms(times[STARTS / 2]);
    let shown = format!(
        "{median:.1} (median of {STARTS}, {:.1} to {:.1}; goal 50)",
        ms(times[0]),
        ms(times[STARTS - 1])
    );
    let name = format!("start to ready with {LISTENERS} listeners, ms");
    Ok(vec![Row::at_most(&name, median, 50.0, &shown)])
}
