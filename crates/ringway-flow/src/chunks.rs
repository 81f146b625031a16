//! Received bytes that wait to be sent, as lists of buffer numbers. Not the bytes themselves: those
//! stay where the kernel put them, and the worker knows where that is.
//!
//! Invariant: a buffer number is in at most one queue, so one table of links serves every queue of a
//! worker and queueing never allocates.

/// The number of a receive buffer.
pub type BufferNumber = u16;

const END: BufferNumber = BufferNumber::MAX;

/// One buffer that holds received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which buffer.
    pub buffer: BufferNumber,
    /// How many bytes it holds, from its start; never 0.
    pub len: u32,
}

/// The links of every queue of one worker.
#[derive(Debug)]
pub struct Chunks {
    next: Box<[BufferNumber]>,
    len: Box<[u32]>,
}

impl Chunks {
    /// Links for `buffers` buffers, numbered from 0.
    pub fn new(buffers: u16) -> Chunks {
        Chunks {
            next: vec![END; usize::from(buffers)].into_boxed_slice(),
            len: vec![0; usize::from(buffers)].into_boxed_slice(),
        }
    }
}

/// What [`ChunkQueue::gather`] does, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    /// `len` bytes of `from` go to place `at` of `to`, and `rest` stay.
    Moved {
        to: BufferNumber,
        at: u32,
        from: BufferNumber,
        len: u32,
        rest: u32,
    },
    /// Nothing is left in this one.
    Emptied { buffer: BufferNumber },
}

/// A first-in, first-out queue of chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkQueue {
    head: BufferNumber,
    tail: BufferNumber,
    count: u16,
    bytes: u32,
}

impl Default for ChunkQueue {
    fn default() -> ChunkQueue {
        ChunkQueue {
            head: END,
            tail: END,
            count: 0,
            bytes: 0,
        }
    }
}

impl ChunkQueue {
    /// Appends a chunk.
    pub(crate) fn push(&mut self, chunks: &mut Chunks, chunk: Chunk) {
        let index = usize::from(chunk.buffer);
        chunks.next[index] = END;
        chunks.len[index] = chunk.len;
        if self.tail == END {
            self.head = chunk.buffer;
        } else {
            chunks.next[usize::from(self.tail)] = chunk.buffer;
        }
        self.tail = chunk.buffer;
        self.count += 1;
        self.bytes += chunk.len;
    }

    /// The chunk that came first.
    pub(crate) fn first(&self, chunks: &Chunks) -> Option<Chunk> {
        (self.head != END).then(|| Chunk {
            buffer: self.head,
            len: chunks.len[usize::from(self.head)],
        })
    }

    /// All of them, in the order they came.
    pub(crate) fn iter<'c>(
        &self,
        chunks: &'c Chunks,
    ) -> impl Iterator<Item = Chunk> + Clone + use<'c> {
        let first = self.first(chunks);
        std::iter::successors(first, |chunk| {
            let buffer = chunks.next[usize::from(chunk.buffer)];
            (buffer != END).then(|| Chunk {
                buffer,
                len: chunks.len[usize::from(buffer)],
            })
        })
    }

    /// Takes the chunk that came first.
    pub(crate) fn pop(&mut self, chunks: &Chunks) -> Option<Chunk> {
        let chunk = self.first(chunks)?;
        self.head = chunks.next[usize::from(chunk.buffer)];
        if self.head == END {
            self.tail = END;
        }
        self.count -= 1;
        self.bytes -= chunk.len;
        Some(chunk)
    }

    /// Moves the bytes together, so that every buffer but the last one is full. What is on its way
    /// out stays where it is: a head is only added to. Says each move, and each buffer that it empties.
    pub(crate) fn gather(&mut self, chunks: &mut Chunks, size: u32, mut say: impl FnMut(Gathered)) {
        let mut to = self.head;
        while to != END {
            let (at, from) = (chunks.len[usize::from(to)], chunks.next[usize::from(to)]);
            if from == END {
                return;
            }
            let held = chunks.len[usize::from(from)];
            let len = held.min(size - at);
            let rest = held - len;
            if len > 0 {
                say(Gathered::Moved {
                    to,
                    at,
                    from,
                    len,
                    rest,
                });
                chunks.len[usize::from(to)] += len;
                chunks.len[usize::from(from)] = rest;
            }
            if rest > 0 {
                to = from;
                continue;
            }
            chunks.next[usize::from(to)] = chunks.next[usize::from(from)];
            if self.tail == from {
                self.tail = to;
            }
            self.count -= 1;
            say(Gathered::Emptied { buffer: from });
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many chunks wait.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// How many bytes the waiting chunks were received with.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_queues_share_one_table_and_keep_their_order() {
        let mut chunks = Chunks::new(8);
        let (mut a, mut b) = (ChunkQueue::default(), ChunkQueue::default());
        for buffer in 0..8 {
            let queue = if buffer % 2 == 0 { &mut a } else { &mut b };
            queue.push(
                &mut chunks,
                Chunk {
                    buffer,
                    len: u32::from(buffer) + 1,
                },
            );
        }
        assert_eq!((a.count(), a.bytes()), (4, 1 + 3 + 5 + 7));
        let order: Vec<_> = std::iter::from_fn(|| b.pop(&chunks))
            .map(|c| c.buffer)
            .collect();
        assert_eq!(order, [1, 3, 5, 7]);
        assert!(b.is_empty() && b.first(&chunks).is_none());
        assert_eq!(a.first(&chunks), Some(Chunk { buffer: 0, len: 1 }));
        b.push(&mut chunks, Chunk { buffer: 3, len: 9 });
        assert_eq!((b.count(), b.bytes()), (1, 9));
    }

    proptest! {
        #[test]
        fn gathering_keeps_the_bytes_in_order_in_as_few_buffers_as_hold_them(
            lens in prop::collection::vec(1..=9_u32, 0..12),
        ) {
            let mut chunks = Chunks::new(12);
            let mut queue = ChunkQueue::default();
            let mut contents: Vec<Vec<u32>> = Vec::new();
            let mut bytes = 0..;
            for (buffer, &len) in lens.iter().enumerate() {
                queue.push(&mut chunks, Chunk { buffer: buffer as u16, len });
                contents.push(bytes.by_ref().take(len as usize).collect());
            }
            queue.gather(&mut chunks, 9, |step| match step {
                Gathered::Moved { to, at, from, len, rest } => {
                    assert_eq!(contents[usize::from(to)].len(), at as usize);
                    let moved: Vec<_> = contents[usize::from(from)].drain(..len as usize).collect();
                    contents[usize::from(to)].extend(moved);
                    assert_eq!(contents[usize::from(from)].len(), rest as usize);
                }
                Gathered::Emptied { buffer } => assert!(contents[usize::from(buffer)].is_empty()),
            });
            let total: u32 = lens.iter().sum();
            prop_assert_eq!(u32::from(queue.count()), total.div_ceil(9));
            prop_assert_eq!(queue.bytes(), total);
            let mut seen = Vec::new();
            while let Some(chunk) = queue.pop(&chunks) {
                prop_assert_eq!(contents[usize::from(chunk.buffer)].len(), chunk.len as usize);
                seen.append(&mut contents[usize::from(chunk.buffer)]);
            }
            prop_assert_eq!(seen, (0..total).collect::<Vec<_>>());
            prop_assert_eq!((queue.bytes(), queue.is_empty()), (0, true));
        }
    }
}
