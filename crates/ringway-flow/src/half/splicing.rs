//! A half that moves its bytes through a pipe: promotion, the pipe's turns, demotion.
//!
//! Not a mover of bytes: it asks for splices and hears what they moved. Invariant: a pipe is given up
//! only when no operation uses it, and says whether bytes are left in it.

use super::*;

/// After a splice that moved less than this, the socket is most likely drained: the poll that comes
/// next costs less than another look that finds nothing.
const LOOK_AGAIN_BYTES: u32 = 48 * 1024;

impl Half {
    /// Changes to splice once nothing is in flight or queued; until then nothing new is received.
    pub(super) fn promote(&mut self, turn: &mut Turn<'_>) {
        if self.in_flight.has(InFlight::RECEIVE) {
            self.cancel_receive(turn);
        } else if self.is_drained() {
            self.engine = Engine::Splice;
            self.lean_rounds = 0;
            self.pump_splice(turn);
        }
    }

    pub(super) fn demote(&mut self, promote_at: u32, turn: &mut Turn<'_>) {
        self.release_pipe(turn);
        self.engine = Engine::Copy;
        (self.burst, self.streak) = (0, 0);
        self.promote_at = promote_at;
        self.pump_copy(Destination::Open, turn);
    }

    pub(super) fn pump_splice(&mut self, turn: &mut Turn<'_>) {
        if self.pipe_bytes > 0 {
            if !self
                .in_flight
                .has(InFlight::SPLICE_OUT | InFlight::POLL_OUT)
            {
                self.splice_out(turn);
            }
        } else if self.stage != Stage::Flowing {
            self.release_pipe(turn);
        } else if !self
            .in_flight
            .has(InFlight::SPLICE_IN | InFlight::POLL_IN | InFlight::PIPE)
        {
            self.await_bytes(turn);
        }
        self.watch_if_held_up(turn);
    }

    /// The pipe is empty. Without a ring splice waiting on it, a quiet direction holds none.
    pub(super) fn await_bytes(&mut self, turn: &mut Turn<'_>) {
        self.rounds = 0;
        match turn.params.relay {
            RelayMode::UringSplice => self.splice_in(turn),
            RelayMode::Auto | RelayMode::Copy | RelayMode::Splice => {
                self.release_pipe(turn);
                self.in_flight.start(InFlight::POLL_IN);
                turn.emit(Output::PollReadable { from: self.from });
            }
        }
    }

    pub(super) fn splice_in(&mut self, turn: &mut Turn<'_>) {
        let (from, len) = (self.from, self.pipe_capacity);
        if !self.has_pipe {
            self.in_flight.start(InFlight::PIPE);
            turn.emit(Output::TakePipe { from });
            return;
        }
        self.in_flight.start(InFlight::SPLICE_IN);
        turn.emit(match turn.params.relay {
            RelayMode::UringSplice => Output::RingSpliceIn { from, len },
            RelayMode::Auto | RelayMode::Copy | RelayMode::Splice => Output::SpliceIn { from, len },
        });
    }

    pub(super) fn splice_out(&mut self, turn: &mut Turn<'_>) {
        self.in_flight.start(InFlight::SPLICE_OUT);
        let (from, len) = (self.from, self.pipe_bytes);
        turn.emit(match turn.params.relay {
            RelayMode::UringSplice => Output::RingSpliceOut { from, len },
            RelayMode::Auto | RelayMode::Copy | RelayMode::Splice => {
                Output::SpliceOut { from, len }
            }
        });
    }

    /// The source is readable, ended or failed.
    pub(crate) fn on_readable(&mut self, turn: &mut Turn<'_>) {
        self.in_flight.end(InFlight::POLL_IN);
        if self.stage == Stage::Flowing {
            self.splice_in(turn);
        }
    }

    /// The destination has room or failed.
    pub(crate) fn on_writable(&mut self) {
        self.in_flight.end(InFlight::POLL_OUT);
    }

    /// A pipe, or none is free: then the direction goes on as copy.
    pub(crate) fn on_pipe(&mut self, grant: Option<u32>, turn: &mut Turn<'_>) {
        self.in_flight.end(InFlight::PIPE);
        match grant {
            Some(capacity) => {
                self.has_pipe = true;
                self.pipe_capacity = capacity;
                if self.stage == Stage::Flowing {
                    self.splice_in(turn);
                } else {
                    self.release_pipe(turn);
                }
            }
            None if self.stage == Stage::Flowing => self.demote(PROMOTE_AGAIN_AFTER_BYTES, turn),
            None => {}
        }
    }

    /// Bytes went into the pipe. Returns how the source ended, if it did.
    pub(crate) fn on_spliced_in(
        &mut self,
        result: Result<u32, Fault>,
        turn: &mut Turn<'_>,
    ) -> Option<End> {
        self.in_flight.end(InFlight::SPLICE_IN);
        match result {
            Ok(bytes) if bytes > 0 => {
                self.pipe_bytes += bytes;
                if self.stage != Stage::Flowing {
                    return None;
                }
                self.received_bytes += u64::from(bytes);
                self.spliced_bytes += u64::from(bytes);
                self.burst = bytes;
                let is_lean = bytes < LEAN_BYTES;
                self.lean_rounds = if is_lean {
                    self.lean_rounds.saturating_add(1)
                } else {
                    0
                };
                None
            }
            Ok(_) => Some(End::Fin),
            Err(Fault::Reset | Fault::NoPorts | Fault::Shortage | Fault::Other) => Some(End::Reset),
            Err(Fault::Cancelled) => None,
            Err(Fault::WouldBlock) if self.stage != Stage::Flowing => None,
            // Another look in the same readiness, and the socket is drained: it is polled again.
            Err(Fault::WouldBlock)
                if self.rounds > 0 && turn.params.relay != RelayMode::UringSplice =>
            {
                self.await_bytes(turn);
                None
            }
            // Readable, and yet nothing to splice: urgent data, which splice(2) does not pass.
            Err(Fault::WouldBlock) => {
                self.demote(PROMOTE_AGAIN_AFTER_BYTES, turn);
                None
            }
        }
    }

    /// Bytes left the pipe. Returns the fault of the destination, if there was one.
    pub(crate) fn on_spliced_out(
        &mut self,
        result: Result<u32, Fault>,
        turn: &mut Turn<'_>,
    ) -> Option<Fault> {
        self.in_flight.end(InFlight::SPLICE_OUT);
        let moved = result.unwrap_or(0);
        self.sent_bytes += u64::from(moved);
        self.pipe_bytes = self.pipe_bytes.saturating_sub(moved);
        if self.stage == Stage::Dead {
            return None;
        }
        match result {
            Ok(_) => {}
            Err(Fault::WouldBlock) => {
                self.poll_writable(turn);
                return None;
            }
            Err(fault) => return Some(fault),
        }
        if self.pipe_bytes > 0 {
            self.await_room(turn);
        } else if self.stage == Stage::Flowing {
            self.next_round(turn);
        }
        None
    }

    pub(super) fn await_room(&mut self, turn: &mut Turn<'_>) {
        match turn.params.relay {
            RelayMode::UringSplice => self.splice_out(turn),
            RelayMode::Auto | RelayMode::Copy | RelayMode::Splice => self.poll_writable(turn),
        }
    }

    pub(super) fn poll_writable(&mut self, turn: &mut Turn<'_>) {
        self.in_flight.start(InFlight::POLL_OUT);
        turn.emit(Output::PollWritable { from: self.from });
    }

    pub(super) fn next_round(&mut self, turn: &mut Turn<'_>) {
        self.rounds += 1;
        let is_auto = turn.params.relay == RelayMode::Auto;
        if is_auto && self.lean_rounds >= LEAN_ROUNDS_MAX {
            self.demote(PROMOTE_AFTER_BYTES, turn);
        } else if self.rounds < SPLICE_ROUNDS_MAX && self.burst >= LOOK_AGAIN_BYTES {
            self.splice_in(turn);
        } else {
            self.await_bytes(turn);
        }
    }

    /// Gives the pipe up, unless an operation is still using it.
    pub(crate) fn release_pipe(&mut self, turn: &mut Turn<'_>) {
        if self.has_pipe
            && !self
                .in_flight
                .has(InFlight::SPLICE_IN | InFlight::SPLICE_OUT)
        {
            let residue = if self.pipe_bytes == 0 {
                Residue::Empty
            } else {
                Residue::Bytes
            };
            turn.emit(Output::GivePipe {
                from: self.from,
                residue,
            });
            self.has_pipe = false;
            self.pipe_bytes = 0;
        }
    }
}
