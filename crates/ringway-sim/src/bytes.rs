//! Bytes that remember where they come from. Not their values: a run names the stream it was
//! written to and its place there, so a byte that is lost, doubled, swapped or another connection's
//! cannot look right.

use std::collections::VecDeque;

/// Which peer wrote a byte: unique per connection and direction.
pub(crate) type Stream = u32;

/// Consecutive bytes of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stream: Stream,
    /// Place of the first byte in its stream.
    pub(crate) at: u64,
    pub(crate) len: u32,
}

impl Run {
    /// The first `len` bytes, and what is left.
    fn split(self, len: u32) -> (Run, Run) {
        let rest = Run {
            at: self.at + u64::from(len),
            len: self.len - len,
            ..self
        };
        (Run { len, ..self }, rest)
    }
}

/// A queue of bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes {
    runs: VecDeque<Run>,
    len: u32,
}

impl Bytes {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }

    pub(crate) fn push(&mut self, run: Run) {
        if run.len == 0 {
            return;
        }
        self.len += run.len;
        match self.runs.back_mut() {
            Some(last) if last.stream == run.stream && last.at + u64::from(last.len) == run.at => {
                last.len += run.len;
            }
            Some(_) | None => self.runs.push_back(run),
        }
    }

    /// Takes up to `len` bytes of one run from the front.
    pub(crate) fn pop_run(&mut self, len: u32) -> Option<Run> {
        let first = self.runs.pop_front()?;
        let (taken, rest) = first.split(len.min(first.len));
        if rest.len > 0 {
            self.runs.push_front(rest);
        }
        self.len -= taken.len;
        Some(taken)
    }

    /// Moves `len` bytes, or all there are, from the front of this queue to the end of `other`.
    pub(crate) fn move_to(&mut self, other: &mut Bytes, len: u32) {
        let mut left = len.min(self.len);
        while let Some(run) = (left > 0).then(|| self.pop_run(left)).flatten() {
            left -= run.len;
            other.push(run);
        }
    }

    /// Copies `len` bytes from place `start` on to the end of `other`.
    pub(crate) fn copy_to(&self, other: &mut Bytes, start: u32, len: u32) {
        let mut rest = self.clone();
        rest.move_to(&mut Bytes::default(), start);
        rest.move_to(other, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_and_copying_keep_the_places() {
        let mut from = Bytes::default();
        from.push(Run {
            stream: 1,
            at: 0,
            len: 4,
        });
        from.push(Run {
            stream: 1,
            at: 4,
            len: 6,
        });
        from.push(Run {
            stream: 2,
            at: 0,
            len: 5,
        });
        let mut to = Bytes::default();
        from.copy_to(&mut to, 8, 4);
        assert_eq!(
            to.pop_run(9),
            Some(Run {
                stream: 1,
                at: 8,
                len: 2
            })
        );
        assert_eq!(
            to.pop_run(9),
            Some(Run {
                stream: 2,
                at: 0,
                len: 2
            })
        );
        from.move_to(&mut to, 3);
        assert_eq!((from.len(), to.len()), (12, 3));
        assert_eq!(
            from.pop_run(99),
            Some(Run {
                stream: 1,
                at: 3,
                len: 7
            })
        );
        assert_eq!(
            to.pop_run(1),
            Some(Run {
                stream: 1,
                at: 0,
                len: 1
            })
        );
    }
}
