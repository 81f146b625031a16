//! What a run has done so far, for whoever watches it. Not the result. Invariant: each thread of a
//! load writes its own counters only, and never waits for the one that shows them.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// What one thread has done so far; on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Live {
    operations: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
}

impl Live {
    pub(crate) fn set(&self, operations: u64, bytes: u64, failures: u64) {
        self.operations.store(operations, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.failures.store(failures, Ordering::Relaxed);
    }
}

/// The sums over all threads at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    operations: u64,
    bytes: u64,
    failures: u64,
}

impl Sums {
    fn of(lives: &[Arc<Live>]) -> Sums {
        let sum = |field: fn(&Live) -> &AtomicU64| {
            lives
                .iter()
                .map(|live| field(live).load(Ordering::Relaxed))
                .sum()
        };
        Sums {
            operations: sum(|live| &live.operations),
            bytes: sum(|live| &live.bytes),
            failures: sum(|live| &live.failures),
        }
    }

    /// One line about what came since `before`, `elapsed` ago.
    fn line(&self, before: &Sums, elapsed: Duration, since_start: Duration) -> String {
        let seconds = elapsed.as_secs_f64();
        let rate = (self.operations - before.operations) as f64 / seconds;
        let gbit = (self.bytes - before.bytes) as f64 * 8.0 / 1e9 / seconds;
        format!(
            "{:>4} s {rate:>10.0} operations/s {gbit:>8.2} Gbit/s {:>8} failed",
            since_start.as_secs(),
            self.failures
        )
    }
}

/// Whether a run is to be watched: asked for, or a terminal is there to show it.
pub(crate) fn is_wanted(asked: bool) -> bool {
    asked || io::stderr().is_terminal()
}

/// Shows `lives` on standard error once per second until `ended` is closed.
pub(crate) fn show(lives: &[Arc<Live>], ended: &Receiver<()>) {
    let start = Instant::now();
    let mut last = (start, Sums::default());
    let is_terminal = io::stderr().is_terminal();
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(INTERVAL) {
        let (now, sums) = (Instant::now(), Sums::of(lives));
        let line = sums.line(&last.1, now - last.0, now - start);
        // Nobody is there to be told that it cannot be shown.
        let _ = match is_terminal {
            true => write!(io::stderr(), "\r{line}"),
            false => writeln!(io::stderr(), "{line}"),
        };
        last = (now, sums);
    }
    if is_terminal && last.0 > start {
        let _ = writeln!(io::stderr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rates_of_the_last_interval() {
        let lives = [Arc::<Live>::default(), Arc::<Live>::default()];
        lives[0].set(300, 500_000_000, 1);
        lives[1].set(100, 0, 1);
        let before = Sums {
            operations: 200,
            ..Sums::default()
        };
        let line = Sums::of(&lives).line(&before, Duration::from_secs(2), Duration::from_secs(7));
        assert_eq!(
            line,
            "   7 s        100 operations/s     2.00 Gbit/s        2 failed"
        );
    }
}
