//! The threads of a run: all prepare, all start together, all are added up. Not what they do.
//! Invariant: a thread whose preparation failed does not leave the others waiting.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use crate::cli::Target;
use crate::clock::Clock;
use crate::progress::{self, Live};
use crate::tally::Tally;

/// What a crew did, and when it began to.
#[derive(Debug)]
pub(crate) struct Result {
    pub(crate) tally: Tally,
    /// When the first thread was past its preparation, on the run's clock.
    pub(crate) start_ns: u64,
}

/// Runs `prepare` and then `work` on each thread that `target` asks for; `prepare` is given the
/// thread's number, and `work` the time at which it starts and where to say how far it is.
pub(crate) fn run<P>(
    target: &Target,
    clock: Clock,
    prepare: impl Fn(usize) -> io::Result<P> + Sync,
    work: impl Fn(P, u64, Arc<Live>) -> io::Result<Tally> + Sync,
) -> io::Result<Result> {
    let threads = target.threads.get();
    let line = Barrier::new(threads);
    let lives: Vec<Arc<Live>> = (0..threads).map(|_| Arc::default()).collect();
    let body = |index: usize| {
        let prepared = prepare(index);
        line.wait();
        let start_ns = clock.now_ns();
        let live = Arc::clone(&lives[index]);
        work(prepared?, start_ns, live).map(|tally| Result { tally, start_ns })
    };
    let body = &body;
    let results: Vec<io::Result<Result>> = thread::scope(|scope| {
        // Dropped when the scope's closure returns, which ends the watching.
        let (_running, ended) = mpsc::channel();
        if progress::is_wanted(target.progress) {
            scope.spawn(|| progress::show(&lives, &{ ended }));
        }
        let handles: Vec<_> = (0..threads)
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

/// The numbers of what thread `index` of `threads` has, of `total` in all.
pub(crate) fn part(total: usize, threads: NonZeroUsize, index: usize) -> std::ops::Range<usize> {
    let (each, more) = (total / threads, total % threads);
    let first = index * each + index.min(more);
    first..first + each + usize::from(index < more)
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
    fn parts_follow_each_other() {
        for (total, threads) in [(10, 3), (2, 4), (0, 2), (64, 1)] {
            let threads = NonZeroUsize::new(threads).unwrap();
            let all: Vec<usize> = (0..threads.get())
                .flat_map(|index| part(total, threads, index))
                .collect();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
            let share = share(total as u64, threads, 0);
            assert_eq!(part(total, threads, 0).len() as u64, share);
        }
    }

    #[test]
    fn a_failed_preparation_is_an_error_and_not_a_hang() {
        let target = Target::to(Vec::new(), NonZeroUsize::new(3).unwrap());
        let prepare = |index| match index {
            1 => Err(io::Error::other("no")),
            _ => Ok(()),
        };
        let result = run(
            &target,
            Clock::start(),
            prepare,
            |(), _, _| Ok(Tally::new()),
        );
        assert_eq!(result.unwrap_err().to_string(), "no");
    }
}
