//! `mixed`: round trips beside streams. Invariant: streams flow from before the first measured round
//! trip until after the last.

use std::io;
use std::thread;
use std::time::Duration;

use crate::bulk;
use crate::cli::{Bulk, Direction, Mixed, Target};
use crate::outcome::Outcome;
use crate::rr;

/// How much longer streams flow than round trips are to take.
const MARGIN: Duration = Duration::from_millis(300);

pub(crate) fn run(args: &Mixed) -> io::Result<Outcome> {
    let mice = &args.rr;
    if mice.extent.count.is_some() {
        return Err(io::Error::other(
            "mixed lasts for a --duration, not for a --count",
        ));
    }
    let elephants = Bulk {
        target: Target {
            to: args.bulk_to.clone(),
            progress: false,
            ..mice.target.clone()
        },
        direction: Direction::Down,
        streams: args.streams,
        duration: mice.extent.warmup + mice.extent.duration + MARGIN,
        bytes: None,
        rate: args.bulk_rate,
        verify: false,
    };
    let (mice, elephants) = thread::scope(|scope| {
        let elephants = scope.spawn(|| bulk::run(&elephants));
        let mice = rr::run(mice);
        let failed = |_| Err(io::Error::other("a thread failed"));
        (mice, elephants.join().unwrap_or_else(failed))
    });
    let (mut mice, elephants) = (mice?, elephants?);
    mice.failures.merge(&elephants.failures);
    let figure = |name| elephants.figure(name).cloned().unwrap_or_default();
    Ok(mice
        .with("streams", args.streams.get(), "")
        .with("bulk_bytes_received", figure("bytes_received"), "B")
        .with(
            "bulk_gigabit_per_second",
            figure("gigabit_per_second"),
            "Gbit/s",
        ))
}
