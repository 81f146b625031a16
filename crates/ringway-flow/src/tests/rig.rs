//! A flow with everything it needs, and short names for what goes in and comes out.

use std::time::Duration;

use crate::{
    Backlog, Chunk, Chunks, CloseHow, Ended, Fault, Flow, FlowParams, Input, Moment, Output, Party,
    Rearm, RelayMode, Residue, Room, Side, Span, Timeouts, Turn, Why,
};

pub(super) use crate::Side::{Back, Front};

/// Bytes of a receive buffer in these tests.
pub(super) const CHUNK: u32 = 16 * 1024;
/// The budget of a receive of a half that holds nothing.
pub(super) const BUDGET: u32 = 64 * 1024;

pub(super) const MS: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;

/// No deadline at all.
pub(super) const OFF: Timeouts = Timeouts {
    connect: None,
    first_byte: None,
    idle: None,
    half_close: None,
    lifetime: None,
};

pub(super) const fn millis(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

pub(super) struct Rig {
    pub(super) flow: Flow,
    pub(super) now: Moment,
    pub(super) due: Moment,
    /// What the next inputs find of receive buffers.
    pub(super) room: Room,
    params: FlowParams,
    chunks: Chunks,
}

impl Rig {
    pub(super) fn new(relay: RelayMode, timeouts: Timeouts) -> Rig {
        Rig::with(FlowParams::new(&timeouts, relay, 3, CHUNK, CloseHow::Reset))
    }

    pub(super) fn with(params: FlowParams) -> Rig {
        let now = Moment::from_micros(5 * SECOND);
        Rig {
            flow: Flow::new(now, &params),
            now,
            due: Moment::NEVER,
            room: Room::Plenty,
            params,
            chunks: Chunks::new(64),
        }
    }

    /// Both sides connected, a copying receive in flight on each.
    pub(super) fn relaying(timeouts: Timeouts) -> Rig {
        let mut rig = Rig::new(RelayMode::Copy, timeouts);
        rig.on(Input::Accepted);
        rig.on(Input::Connected(Ok(())));
        rig
    }

    /// What waits of the client's bytes, as buffers with their lengths.
    pub(super) fn waiting(&self) -> Vec<(u16, u32)> {
        let waiting = self.flow.waiting(Front, &self.chunks);
        waiting.map(|chunk| (chunk.buffer, chunk.len)).collect()
    }

    /// Gives one input and returns what the flow asks for.
    pub(super) fn on(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.flow.handle(
            input,
            &mut Turn {
                now: self.now,
                params: &self.params,
                room: self.room,
                chunks: &mut self.chunks,
                outputs: &mut outputs,
            },
        );
        if let Some(due) = self.flow.take_deadline_change(&self.params) {
            self.due = due;
        }
        outputs
    }

    /// Each step: an input and everything it must lead to.
    #[track_caller]
    pub(super) fn plays(&mut self, steps: &[(Input, &[Output])]) {
        for (number, (input, expected)) in steps.iter().enumerate() {
            let outputs = self.on(*input);
            assert_eq!(outputs, *expected, "step {number}, {input:?}");
        }
    }

    pub(super) fn wait(&mut self, micros: u64) {
        self.now = self.now.after(Span::from_micros(micros));
    }

    /// How long until the deadline, if there is one.
    pub(super) fn due_in(&self) -> Option<u64> {
        (self.due < Moment::NEVER).then(|| self.due.since(self.now).as_micros() as u64)
    }

    /// Lets the deadline come.
    #[track_caller]
    pub(super) fn expire(&mut self) -> Vec<Output> {
        assert_ne!(self.due, Moment::NEVER, "nothing is due");
        self.now = self.due;
        self.on(Input::Deadline)
    }

    /// Lets both receives answer that they were cancelled; the last one finishes the flow.
    pub(super) fn join_receives(&mut self) -> Vec<Output> {
        let mut outputs = self.on(cancelled(Front));
        outputs.extend(self.on(cancelled(Back)));
        outputs
    }
}

// ── inputs ──────────────────────────────────────────────────────────────────────────────────────

pub(super) const CONNECTED: Input = Input::Connected(Ok(()));
pub(super) const REFUSED: Input = Input::Connected(Err(Fault::Other));

pub(super) fn received(from: Side, buffer: u16, len: u32, rearm: Rearm) -> Input {
    Input::Received {
        from,
        chunk: Chunk { buffer, len },
        backlog: Backlog::Empty,
        rearm,
    }
}

/// Some bytes; the receive goes on.
pub(super) fn got(from: Side, buffer: u16, len: u32) -> Input {
    received(from, buffer, len, Rearm::Armed)
}

/// Some bytes, and the receive is over.
pub(super) fn got_last(from: Side, buffer: u16, len: u32) -> Input {
    received(from, buffer, len, Rearm::Needed)
}

/// A full buffer with more behind it.
pub(super) fn streamed(from: Side, buffer: u16, rearm: Rearm) -> Input {
    Input::Received {
        from,
        chunk: Chunk { buffer, len: CHUNK },
        backlog: Backlog::Waiting,
        rearm,
    }
}

pub(super) fn fin(from: Side) -> Input {
    Input::EndOfStream { from }
}

pub(super) fn failed(from: Side, fault: Fault) -> Input {
    Input::ReceiveFailed { from, fault }
}

pub(super) fn reset(from: Side) -> Input {
    failed(from, Fault::Reset)
}

pub(super) fn cancelled(from: Side) -> Input {
    failed(from, Fault::Cancelled)
}

pub(super) fn sent(from: Side, bytes: u32) -> Input {
    Input::Sent {
        from,
        result: Ok(bytes),
    }
}

pub(super) fn send_failed(from: Side, fault: Fault) -> Input {
    Input::Sent {
        from,
        result: Err(fault),
    }
}

/// The watch says that the side is broken.
pub(super) fn broken(from: Side) -> Input {
    Input::Watched {
        from,
        fault: Fault::Reset,
    }
}

/// The watch was cancelled.
pub(super) fn unwatched(from: Side) -> Input {
    Input::Watched {
        from,
        fault: Fault::Cancelled,
    }
}

pub(super) fn unsent(side: Side, bytes: u32) -> Input {
    Input::Unsent { side, bytes }
}

pub(super) fn spliced_in(from: Side, bytes: u32) -> Input {
    Input::SplicedIn {
        from,
        result: Ok(bytes),
    }
}

pub(super) fn spliced_out(from: Side, bytes: u32) -> Input {
    Input::SplicedOut {
        from,
        result: Ok(bytes),
    }
}

pub(super) fn pipe(from: Side) -> Input {
    Input::Pipe {
        from,
        grant: Some(65536),
    }
}

// ── outputs ─────────────────────────────────────────────────────────────────────────────────────

pub(super) fn receive(from: Side, budget: u32) -> Output {
    Output::Receive { from, budget }
}

pub(super) fn cancel_receive(from: Side) -> Output {
    Output::CancelReceive { from }
}

pub(super) fn send(from: Side, buffer: u16, start: u32, len: u32) -> Output {
    Output::Send {
        from,
        buffer,
        start,
        len,
    }
}

pub(super) fn recycle(buffer: u16) -> Output {
    Output::Recycle { buffer }
}

pub(super) fn shut(to: Side) -> Output {
    Output::ShutdownWrite { to }
}

pub(super) fn check_unsent(side: Side) -> Output {
    Output::CheckUnsent { side }
}

pub(super) fn cancel_all(side: Side) -> Output {
    Output::CancelAll { side }
}

pub(super) fn close(side: Side, how: CloseHow) -> Output {
    Output::CloseSocket { side, how }
}

pub(super) fn finished(by: Party, why: Why) -> Output {
    Output::Finished(Ended { by, why })
}

/// The three outputs with which every flow ends that has two sockets.
pub(super) fn over(front: CloseHow, back: CloseHow, by: Party, why: Why) -> [Output; 3] {
    [close(Front, front), close(Back, back), finished(by, why)]
}

pub(super) fn poll_in(from: Side) -> Output {
    Output::PollReadable { from }
}

pub(super) fn poll_out(from: Side) -> Output {
    Output::PollWritable { from }
}

pub(super) fn watch(from: Side) -> Output {
    Output::Watch { from }
}

pub(super) fn take_pipe(from: Side) -> Output {
    Output::TakePipe { from }
}

pub(super) fn give_pipe(from: Side, residue: Residue) -> Output {
    Output::GivePipe { from, residue }
}

pub(super) fn splice_in(from: Side) -> Output {
    Output::SpliceIn { from, len: 65536 }
}

pub(super) fn splice_out(from: Side, len: u32) -> Output {
    Output::SpliceOut { from, len }
}
