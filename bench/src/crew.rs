//! The threads of a run: all prepare, all start together, all are added up. Not what they do.
//! Invariant: a thread whose preparation failed does not leave the others waiting.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread;

use crate::clock::Clock;
use crate::tally::Tally;

/// What a crew did, and when it began to.
#[derive(Debug)]
pub(crate) struct Result {
    pub(crate) tally: Tally,
    /// When the first thread was past its preparation, on the run's clock.
    pub(crate) start_ns: u64,
}

/// Runs `prepare` and then `work` on each of `threads` threads; `prepare` is given the thread's
/// number and `work` the time at which it starts.
pub(crate) fn run<P>(
    threads: NonZeroUsize,
    clock: Clock,
    prepare: impl Fn(usize) -> io::Result<P> + Sync,
    work: impl Fn(P, u64) -> io::Result<Tally> + Sync,
) -> io::Result<Result> {
    let line = Barrier::new(threads.get());
    let body = |index: usize| {
        let prepared = prepare(index);
        line.wait();
        let start_ns = clock.now_ns();
        work(prepared?, start_ns).map(|tally| Result { tally, start_ns })
    };
    let body = &body;
    let results: Vec<io::Result<Result>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.get())
            .map(|index| scope.spawn(move || body(index)))
            .collect();
        handles
            .into_iter()
            .map(|handle| {
                handle
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread failed")))
            })
            .collect()
    });
    let mut sum = Result {
        tally: Tally::new(),
        start_ns: u64::MAX,
    };
    for result in results {
        let result = result?;
        sum.tally.merge(&result.tally);
        sum.start_ns = sum.start_ns.min(result.start_ns);
    }
    Ok(sum)
}

/// The share of `total` that thread `index` of `threads` has; the shares add up to `total`.
pub(crate) fn share(total: u64, threads: NonZeroUsize, index: usize) -> u64 {
    let threads = threads.get() as u64;
    total / threads + u64::from((index as u64) < total % threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (total, threads) in [(10, 3), (2, 4), (0, 2), (64, 1)] {
            let threads = NonZeroUsize::new(threads).unwrap();
            let sum: u64 = (0..threads.get())
                .map(|index| share(total, threads, index))
                .sum();
            assert_eq!(sum, total);
        }
    }

    #[test]
    fn a_failed_preparation_is_an_error_and_not_a_hang() {
        let threads = NonZeroUsize::new(3).unwrap();
        let prepare = |index| match index {
            1 => Err(io::Error::other("no")),
            _ => Ok(()),
        };
        let result = run(threads, Clock::start(), prepare, |(), _| Ok(Tally::new()));
        assert_eq!(result.unwrap_err().to_string(), "no");
    }
}
