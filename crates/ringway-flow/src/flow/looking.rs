//! Before a backend is chosen: the client's first bytes collect here until its worker, who reads
//! them, says where to. What they mean is none of a flow's business.
//!
//! Invariant: the deadline counts from accept, and nothing moves it before the worker has decided;
//! every byte but those that the worker wants skipped goes to the backend.

use super::*;
use crate::Finding;
use crate::chunks::Chunk;

impl Flow {
    /// The bytes of a side that wait here, in the order they came. While the flow looks for where to,
    /// that is all the client has sent.
    pub fn waiting<'c>(
        &self,
        from: Side,
        chunks: &'c Chunks,
    ) -> impl Iterator<Item = Chunk> + Clone + use<'c> {
        self.halves[from].waiting(chunks)
    }

    pub(super) fn look_first(&mut self, within: Span) {
        self.phase = Phase::Looking;
        self.set_step_at(self.born.after(within));
    }

    /// Has what is new looked at; asks for more only when that was not enough.
    #[cold]
    pub(super) fn pump_looking(&mut self, turn: &mut Turn<'_>) {
        let front = &mut self.halves.front;
        front.gather_few(turn);
        if front.is_drained() {
            front.receive_to_look(turn);
        } else {
            turn.emit(Output::Look);
        }
    }

    pub(super) fn on_looked(&mut self, finding: Finding, turn: &mut Turn<'_>) {
        debug_assert_eq!(self.phase, Phase::Looking);
        let front = &mut self.halves.front;
        match finding {
            Finding::More if front.is_full(turn) => self.refuse(Why::Handshake, turn),
            Finding::More => front.receive_to_look(turn),
            Finding::Route { skip } => {
                front.skip(skip, turn);
                self.phase = Phase::Connecting;
                self.connect(turn);
                self.pump(Side::Front, turn);
            }
            Finding::Refuse => self.refuse(Why::Refused, turn),
        }
    }

    pub(super) fn refuse(&mut self, why: Why, turn: &mut Turn<'_>) {
        let ended = Ended::by_ringway(why);
        self.close(turn.params.refuse, CloseHow::Fin, ended, turn);
    }

    /// The client has ended before it said where to: nobody is bothered with it.
    pub(super) fn left_early(&mut self, turn: &mut Turn<'_>) {
        let ended = self.first_end.unwrap_or(Ended::by_ringway(Why::Error));
        self.close(turn.params.refuse, CloseHow::Fin, ended, turn);
    }
}
