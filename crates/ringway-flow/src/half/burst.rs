//! How much a source sends at a time: what tells a direction that is cheaper to splice from one that is
//! cheaper to copy. It only counts; promotion and demotion are [`super::splicing`]'s.
//!
//! Invariant: a streak is of bursts that were at least a full buffer each.

use super::*;

impl Half {
    /// Looks at how much comes at a time: what a splice would move at once.
    pub(super) fn note_burst(&mut self, len: u32, backlog: Backlog, chunk_size: u32) {
        self.burst = self.burst.saturating_add(len);
        let is_large = self.burst >= chunk_size;
        if is_large {
            self.streak = self.streak.saturating_add(len);
        }
        match backlog {
            Backlog::Waiting => {}
            Backlog::Empty => {
                self.burst = 0;
                if !is_large {
                    self.streak = 0;
                }
            }
        }
    }
}
