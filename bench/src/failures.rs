//! What went wrong in a run, counted by kind. Not an error type: a run with failures still has a
//! result, and says so. Invariant: each failed operation is counted once, under one kind.

use rustix::io::Errno;

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection could not be opened.
    Connect,
    /// The peer reset the connection.
    Reset,
    /// The peer ended the connection before everything had come.
    ClosedEarly,
    /// Bytes came that were not the ones expected.
    Mismatch,
    /// Nothing more happened before the run's time limit.
    Stuck,
    /// Any other error of a socket.
    Other,
}

impl Failure {
    pub(crate) const ALL: [Failure; 6] = [
        Failure::Connect,
        Failure::Reset,
        Failure::ClosedEarly,
        Failure::Mismatch,
        Failure::Stuck,
        Failure::Other,
    ];

    /// The name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Reset => "reset",
            Failure::ClosedEarly => "closed_early",
            Failure::Mismatch => "mismatch",
            Failure::Stuck => "stuck",
            Failure::Other => "other",
        }
    }

    /// The kind of a failed send or receive.
    pub(crate) fn of(errno: Errno) -> Failure {
        match errno {
            Errno::CONNRESET | Errno::PIPE => Failure::Reset,
            _ => Failure::Other,
        }
    }
}

/// How often each kind happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    counts: [u64; Failure::ALL.len()],
}

impl Failures {
    pub(crate) fn add(&mut self, failure: Failure) {
        self.counts[failure as usize] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Failures) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Each kind with its count.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Failure, u64)> + '_ {
        Failure::ALL.into_iter().map(|failure| (failure, self.counts[failure as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_kind_and_merges() {
        let mut failures = Failures::default();
        assert!(failures.is_empty());
        failures.add(Failure::Reset);
        failures.add(Failure::Reset);
        let mut other = Failures::default();
        other.add(Failure::Stuck);
        other.merge(&failures);
        assert_eq!(other.total(), 3);
        let shown: Vec<_> = other.each().filter(|(_, count)| *count > 0).collect();
        assert_eq!(shown, [(Failure::Reset, 2), (Failure::Stuck, 1)]);
    }
}
