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
    /// The connection ended by FIN where a reset was due, or the reverse.
    WrongEnding,
    /// Nothing more happened before patience ended.
    Stuck,
    /// Any other error of a socket.
    Other,
}

impl Failure {
    pub(crate) const ALL: [Failure; 7] = [
        Failure::Connect,
        Failure::Reset,
        Failure::ClosedEarly,
        Failure::Mismatch,
        Failure::WrongEnding,
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
            Failure::WrongEnding => "wrong_ending",
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
    /// The first error of a socket, as an example.
    first_errno: Option<Errno>,
}

impl Failures {
    pub(crate) fn add(&mut self, failure: Failure) {
        self.counts[failure as usize] += 1;
    }

    /// Counts a failure that came with an error of a socket.
    pub(crate) fn add_errno(&mut self, failure: Failure, errno: Errno) {
        self.add(failure);
        self.first_errno.get_or_insert(errno);
    }

    pub(crate) fn merge(&mut self, other: &Failures) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.first_errno = self.first_errno.or(other.first_errno);
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.total() == 0
    }

    pub(crate) fn first_errno(&self) -> Option<Errno> {
        self.first_errno
    }

    /// Each kind with its count.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Failure, u64)> + '_ {
        Failure::ALL
            .into_iter()
            .map(|failure| (failure, self.counts[failure as usize]))
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
