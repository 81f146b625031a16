//! A half whose destination is not known: what comes is kept together, for it will be read as one,
//! and may fill all that a half may hold.
//!
//! Invariant: as everywhere, no more than [`QUEUED_BYTES_MAX`], skipped bytes of a buffer included.

use super::*;
use crate::Chunks;

impl Half {
    /// What waits to be sent, in order.
    pub(crate) fn waiting<'c>(
        &self,
        chunks: &'c Chunks,
    ) -> impl Iterator<Item = Chunk> + Clone + use<'c> {
        self.queue.iter(chunks)
    }

    /// Moves what came in pieces together, so that there are no more buffers than needed.
    pub(crate) fn gather_few(&mut self, turn: &mut Turn<'_>) {
        if self.queue.count() > 1 {
            self.gather(turn);
        }
    }

    /// Receives whatever may still be held. Unlike for a stream, the last part of a buffer counts.
    pub(crate) fn receive_to_look(&mut self, turn: &mut Turn<'_>) {
        if self.stage != Stage::Flowing {
            return;
        }
        let most = match turn.room {
            Room::Plenty => held_max(turn),
            Room::Scarce => turn.params.chunk_size,
        };
        let budget = most.saturating_sub(self.queue.bytes());
        if !self.in_flight.has(InFlight::RECEIVE) && !self.starved && budget > 0 {
            self.in_flight.start(InFlight::RECEIVE);
            turn.emit(Output::Receive {
                from: self.from,
                budget,
            });
        }
        self.watch_if_held_up(turn);
    }

    /// Whether no byte more may be held.
    pub(crate) fn is_full(&self, turn: &Turn<'_>) -> bool {
        self.queue.bytes() >= held_max(turn)
    }

    /// Drops the first bytes: they were not for the destination.
    pub(crate) fn skip(&mut self, bytes: u32, turn: &mut Turn<'_>) {
        debug_assert!(bytes <= self.queue.bytes() && self.head_sent == 0);
        self.received_bytes -= u64::from(bytes);
        let mut left = bytes;
        while left > 0
            && let Some(head) = self.queue.first(turn.chunks)
        {
            if left < head.len {
                self.head_sent = left;
                return;
            }
            left -= head.len;
            self.pop_first(turn);
        }
    }
}

fn held_max(turn: &Turn<'_>) -> u32 {
    buffers_max(turn.params.chunk_size) * turn.params.chunk_size
}
