//! When a flow must be looked at although nothing happened, and what that means then.
//!
//! Deadlines are computed from what the flow knows whenever they are asked for, so that moving bytes
//! costs no timer: a timer that comes too early finds nothing due and is armed again.

use super::ending::flush_patience;
use super::*;

impl Flow {
    pub(super) fn set_step_at(&mut self, at: Moment) {
        self.step_at = at;
        self.deadline_changed = true;
    }

    pub(super) fn on_deadline(&mut self, turn: &mut Turn<'_>) {
        self.deadline_changed = true;
        if turn.now >= self.step_at {
            self.step_at = Moment::NEVER;
            self.on_step(turn);
        }
        if turn.now >= self.reset_at(turn.params) {
            self.close_as_ended(turn);
        } else if let Some(why) = self.expired(turn.now, turn.params) {
            self.close_for(why, turn);
        }
    }

    pub(super) fn on_step(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Looking => self.refuse(Why::Handshake, turn),
            Phase::Connecting if self.connect_in_flight => turn.emit(Output::CancelConnect),
            Phase::Resetting { side, .. } => turn.emit(Output::CheckUnsent { side }),
            Phase::Relaying => {
                self.halves.front.end_doubted = false;
                self.halves.back.end_doubted = false;
            }
            Phase::Connecting | Phase::Closing { .. } | Phase::Finished => {}
        }
    }

    pub(super) fn expired(&self, now: Moment, params: &FlowParams) -> Option<Why> {
        [
            (self.born.after(params.lifetime), Why::Lifetime),
            (self.first_byte_at(params), Why::FirstByte),
            (self.half_close_at(params), Why::HalfClose),
            (self.idle_at(params), Why::Idle),
        ]
        .into_iter()
        .find_map(|(at, why)| (now >= at).then_some(why))
    }

    pub(super) fn deadline(&self, params: &FlowParams) -> Moment {
        if self.is_closing() {
            return Moment::NEVER;
        }
        self.step_at
            .min(self.born.after(params.lifetime))
            .min(self.first_byte_at(params))
            .min(self.reset_at(params))
            .min(self.half_close_at(params))
            .min(self.idle_at(params))
    }

    pub(super) fn first_byte_at(&self, params: &FlowParams) -> Moment {
        let front = &self.halves.front;
        // What it sends while it is looked at may be none of its payload.
        let counts = front.stage == Stage::Flowing && self.phase != Phase::Looking;
        if front.received_bytes == 0 && counts {
            self.born.after(params.first_byte)
        } else {
            Moment::NEVER
        }
    }

    pub(super) fn idle_at(&self, params: &FlowParams) -> Moment {
        match self.phase {
            Phase::Relaying => self.last_moved.after(params.idle),
            Phase::Looking
            | Phase::Connecting
            | Phase::Resetting { .. }
            | Phase::Closing { .. }
            | Phase::Finished => Moment::NEVER,
        }
    }

    /// When a reset is passed on although bytes from before it are still here, because nobody takes
    /// them.
    pub(super) fn reset_at(&self, params: &FlowParams) -> Moment {
        match self.phase {
            Phase::Relaying if self.is_reset() => self.last_moved.after(flush_patience(params)),
            Phase::Relaying
            | Phase::Looking
            | Phase::Connecting
            | Phase::Resetting { .. }
            | Phase::Closing { .. }
            | Phase::Finished => Moment::NEVER,
        }
    }

    pub(super) fn half_close_at(&self, params: &FlowParams) -> Moment {
        let is_half_closed = Side::BOTH
            .iter()
            .any(|&s| self.halves[s].stage != Stage::Flowing);
        if self.phase == Phase::Relaying && is_half_closed {
            self.last_moved.after(params.half_close)
        } else {
            Moment::NEVER
        }
    }
}
