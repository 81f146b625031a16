//! How a flow ends: by its peers or by Ringway's decision, by FIN or by reset, and joined.
//!
//! Not when: deadlines are next door. Invariant: a peer that is owed bytes never sees a clean FIN.

use super::*;

impl Flow {
    /// Draws the conclusions that concern both directions.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>) {
        let stages = (self.halves.front.stage, self.halves.back.stage);
        if self.phase == Phase::Relaying && stages != (Stage::Flowing, Stage::Flowing) {
            self.settle_ends(turn);
        }
        if let Phase::Closing { how, ended } = self.phase {
            self.finish_when_joined(how, ended, turn);
        }
    }

    pub(super) fn settle_ends(&mut self, turn: &mut Turn<'_>) {
        let mut delivered = None;
        for from in Side::BOTH {
            let half = &mut self.halves[from];
            if let Stage::Draining(end) = half.stage
                && half.is_drained()
                && !half.end_doubted
            {
                half.stage = Stage::Delivered(end);
                half.release_pipe(turn);
                delivered = Some(from);
            }
        }
        use Stage::{Dead, Delivered, Draining, Flowing};
        match (self.halves.front.stage, self.halves.back.stage) {
            (Delivered(End::Fin), Delivered(End::Fin)) => self.close_as_ended(turn),
            (Delivered(End::Reset), _) => self.reset_when_flushed(Side::Back, turn),
            (_, Delivered(End::Reset)) => self.reset_when_flushed(Side::Front, turn),
            (Dead, Delivered(End::Fin)) => self.reset_when_flushed(Side::Front, turn),
            (Delivered(End::Fin), Dead) => self.reset_when_flushed(Side::Back, turn),
            (Dead, Dead) => self.close_as_ended(turn),
            (Flowing | Draining(_) | Delivered(End::Fin) | Dead, Flowing | Draining(_))
            | (Flowing | Draining(_), Delivered(End::Fin) | Dead) => {
                if let Some(from) = delivered {
                    turn.emit(Output::ShutdownWrite { to: from.other() });
                }
            }
        }
    }

    /// A reset discards what the peer has not acknowledged, so it waits until that is nothing.
    /// As long as the peer goes on acknowledging, however slowly, it is waited for.
    pub(super) fn reset_when_flushed(&mut self, side: Side, turn: &mut Turn<'_>) {
        self.phase = Phase::Resetting {
            side,
            rechecks: 0,
            until: flush_deadline(turn),
            unsent_bytes: u32::MAX,
        };
        self.deadline_changed = true;
        turn.emit(Output::CheckUnsent { side });
    }

    pub(super) fn on_unsent(&mut self, side: Side, bytes: u32, turn: &mut Turn<'_>) {
        let Phase::Resetting {
            rechecks,
            until,
            unsent_bytes,
            ..
        } = self.phase
        else {
            return;
        };
        let until = if bytes < unsent_bytes {
            flush_deadline(turn)
        } else {
            until
        };
        if bytes == 0 || turn.now >= until {
            self.close_reset(side, turn);
            return;
        }
        let pause = UNSENT_RECHECK.doubled(rechecks);
        let rechecks = (rechecks + 1).min(UNSENT_RECHECK_DOUBLINGS_MAX);
        self.phase = Phase::Resetting {
            side,
            rechecks,
            until,
            unsent_bytes: bytes,
        };
        self.set_step_at(turn.now.after(pause));
    }

    pub(super) fn close_reset(&mut self, side: Side, turn: &mut Turn<'_>) {
        let (front, back) = match side {
            Side::Front => (CloseHow::Reset, CloseHow::Fin),
            Side::Back => (CloseHow::Fin, CloseHow::Reset),
        };
        let ended = self.first_end.unwrap_or(Ended::by_ringway(Why::Error));
        self.close(front, back, ended, turn);
    }

    /// Closes because the peers ended it.
    pub(super) fn close_as_ended(&mut self, turn: &mut Turn<'_>) {
        let ended = self.first_end.unwrap_or(Ended::by_ringway(Why::Error));
        let how = match ended.why {
            Why::Fin => CloseHow::Fin,
            _ => CloseHow::Reset,
        };
        self.close(how, how, ended, turn);
    }

    /// Closes by Ringway's decision. A peer that would take a FIN for the end of complete data
    /// although something is missing gets a reset instead.
    pub(super) fn close_for(&mut self, why: Why, turn: &mut Turn<'_>) {
        if self.is_closing() {
            return;
        }
        let how = match why {
            Why::Idle | Why::HalfClose | Why::FirstByte if self.is_whole() => CloseHow::Fin,
            Why::Drain if self.is_quiet(turn.now) => CloseHow::Fin,
            Why::Idle | Why::HalfClose | Why::FirstByte | Why::Drain => CloseHow::Reset,
            Why::Fin | Why::Reset | Why::Lifetime | Why::ConnectFailed => CloseHow::Reset,
            Why::Handshake | Why::Refused => CloseHow::Reset,
            Why::NoBackend | Why::Resources | Why::BackendDown => CloseHow::Reset,
            Why::HeldMemory | Why::Error => CloseHow::Reset,
        };
        let by = if why == Why::BackendDown {
            Party::Backend
        } else {
            Party::Ringway
        };
        self.close(how, how, Ended { by, why }, turn);
    }

    /// Whether each peer has, as far as can be known, everything the other one sent, so that a FIN
    /// does not pass for the end of more.
    pub(super) fn is_whole(&self) -> bool {
        let holds_back = |from: &Side| self.halves[*from].holds_back();
        !self.is_reset() && !Side::BOTH.iter().any(holds_back)
    }

    /// Whether one of the peers has reset.
    pub(super) fn is_reset(&self) -> bool {
        self.first_end.is_some_and(|end| end.why == Why::Reset)
    }

    /// What came from `from` while the flow closes is lost, so its destination gets no FIN.
    pub(super) fn lost_at_close(&mut self, from: Side) {
        if let Phase::Closing { how, .. } = &mut self.phase {
            how[from.other()] = CloseHow::Reset;
        }
    }

    pub(super) fn close(
        &mut self,
        front: CloseHow,
        back: CloseHow,
        ended: Ended,
        turn: &mut Turn<'_>,
    ) {
        self.phase = Phase::Closing {
            how: PerSide { front, back },
            ended,
        };
        self.deadline_changed = true;
        for side in Side::BOTH {
            if self.is_busy(side) {
                turn.emit(Output::CancelAll { side });
            }
        }
        self.halves.front.abandon(turn);
        self.halves.back.abandon(turn);
    }

    /// Whether the kernel owes an answer for an operation on this side's socket.
    pub(super) fn is_busy(&self, side: Side) -> bool {
        self.halves[side].is_source_busy()
            || self.halves[side.other()].is_destination_busy()
            || (side == Side::Back && self.connect_in_flight)
    }

    pub(super) fn finish_when_joined(
        &mut self,
        how: PerSide<CloseHow>,
        ended: Ended,
        turn: &mut Turn<'_>,
    ) {
        if self.is_busy(Side::Front) || self.is_busy(Side::Back) {
            return;
        }
        for side in Side::BOTH {
            self.halves[side].release_pipe(turn);
        }
        turn.emit(Output::CloseSocket {
            side: Side::Front,
            how: how.front,
        });
        if self.back_exists {
            turn.emit(Output::CloseSocket {
                side: Side::Back,
                how: how.back,
            });
        }
        self.phase = Phase::Finished;
        turn.emit(Output::Finished(ended));
    }
}

/// When a reset is passed on to a peer that is silent from now on.
fn flush_deadline(turn: &Turn<'_>) -> Moment {
    turn.now.after(flush_patience(turn.params))
}

/// How long a peer may take nothing before it is reset regardless.
pub(super) fn flush_patience(params: &FlowParams) -> Span {
    params.half_close.min(RESET_FLUSH_MAX)
}
