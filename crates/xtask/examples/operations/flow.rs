//! The life of a connection and its deadlines. The world around a flow answers at once: what is
//! counted is the flow's own work.

use std::hint::black_box;
use std::time::Duration;

use ringway_flow::wheel::Wheel;
use ringway_flow::{
    Backlog, Chunk, Chunks, CloseHow, Flow, FlowParams, Input, Moment, Output, Rearm, RelayMode,
    Room, Side, Span, Timeouts, Turn,
};

use crate::Operation;

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "flow: a message copied",
        repetitions: 20_000,
        run: message_copied,
    },
    Operation {
        name: "flow: a splice of two rounds",
        repetitions: 20_000,
        run: splice,
    },
    Operation {
        name: "flow: a connection, accept to close",
        repetitions: 10_000,
        run: connection,
    },
    Operation {
        name: "wheel: armed and expired",
        repetitions: 20_000,
        run: wheel_expires,
    },
    Operation {
        name: "wheel: moved",
        repetitions: 20_000,
        run: wheel_moves,
    },
];

const CHUNK: u32 = 16 * 1024;
const PIPE: u32 = 64 * 1024;

/// A flow and what its worker would give it.
struct Rig {
    flow: Flow,
    now: Moment,
    params: FlowParams,
    chunks: Chunks,
    outputs: Vec<Output>,
}

impl Rig {
    fn new(relay: RelayMode) -> Rig {
        let params = params(relay);
        let now = Moment::from_micros(5_000_000);
        Rig {
            flow: Flow::new(now, &params),
            now,
            params,
            chunks: Chunks::new(64),
            outputs: Vec::with_capacity(16),
        }
    }

    fn connected(relay: RelayMode) -> Rig {
        let mut rig = Rig::new(relay);
        rig.on(Input::Accepted);
        rig.on(Input::Connected(Ok(())));
        rig
    }

    /// Gives one input; the outputs are those of this one.
    fn on(&mut self, input: Input) {
        self.outputs.clear();
        self.flow.handle(
            black_box(input),
            &mut Turn {
                now: self.now,
                params: &self.params,
                room: Room::Plenty,
                chunks: &mut self.chunks,
                outputs: &mut self.outputs,
            },
        );
        black_box(self.flow.take_deadline_change(&self.params));
    }

    #[track_caller]
    fn ends_with(&self, due: Output) {
        assert_eq!(self.outputs.last(), Some(&due), "another operation");
    }

    fn message(&mut self, from: Side) {
        self.on(Input::Received {
            from,
            chunk: Chunk { buffer: 7, len: 64 },
            backlog: Backlog::Empty,
            rearm: Rearm::Armed,
        });
        self.ends_with(Output::Send {
            from,
            buffer: 7,
            start: 0,
            len: 64,
        });
        self.on(Input::Sent {
            from,
            result: Ok(64),
        });
        self.ends_with(Output::Recycle { buffer: 7 });
    }
}

/// The defaults of a configuration.
fn params(relay: RelayMode) -> FlowParams {
    let timeouts = Timeouts {
        connect: Some(Duration::from_secs(3)),
        first_byte: None,
        idle: Some(Duration::from_secs(600)),
        half_close: Some(Duration::from_secs(30)),
        lifetime: None,
    };
    FlowParams::new(&timeouts, relay, 3, CHUNK, CloseHow::Reset)
}

fn message_copied(repetitions: u64) {
    let mut rig = Rig::connected(RelayMode::Auto);
    for _ in 0..repetitions {
        rig.message(Side::Front);
    }
    assert_eq!(rig.flow.sent_bytes(Side::Back), 64 * repetitions);
}

fn splice(repetitions: u64) {
    let from = Side::Back;
    let mut rig = Rig::connected(RelayMode::Splice);
    for _ in 0..repetitions {
        rig.on(Input::Readable { from });
        rig.ends_with(Output::TakePipe { from });
        rig.on(Input::Pipe {
            from,
            grant: Some(PIPE),
        });
        for _ in 0..2 {
            rig.ends_with(Output::SpliceIn { from, len: PIPE });
            rig.on(Input::SplicedIn {
                from,
                result: Ok(PIPE),
            });
            rig.ends_with(Output::SpliceOut { from, len: PIPE });
            rig.on(Input::SplicedOut {
                from,
                result: Ok(PIPE),
            });
        }
        rig.ends_with(Output::PollReadable { from });
    }
}

/// One message each way, then the client's FIN, then the backend's.
fn connection(repetitions: u64) {
    let mut rig = Rig::new(RelayMode::Auto);
    for _ in 0..repetitions {
        rig.flow = Flow::new(rig.now, &rig.params);
        rig.on(Input::Accepted);
        rig.on(Input::Connected(Ok(())));
        rig.message(Side::Front);
        rig.message(Side::Back);
        rig.on(Input::EndOfStream { from: Side::Front });
        rig.ends_with(Output::ShutdownWrite { to: Side::Back });
        rig.on(Input::EndOfStream { from: Side::Back });
        let last = rig.outputs.last();
        assert!(matches!(last, Some(Output::Finished(_))), "{last:?}");
    }
}

/// 3,000 connects in flight, one begun and one given up each millisecond.
fn wheel_expires(repetitions: u64) {
    const SLOTS: u64 = 4_096;
    let mut now = Moment::from_micros(5_000_000);
    let mut wheel = Wheel::new(now, SLOTS as usize);
    for turn in 0..repetitions {
        now = now.after(Span::from_micros(1_024));
        let slot = (turn % SLOTS) as u32;
        wheel.set(black_box(slot), now.after(Span::from_micros(3_000_000)));
        while let Some(slot) = wheel.pop(now) {
            black_box(slot);
        }
    }
    assert!(wheel.armed() < 3_000, "nothing expired");
}

/// 1,024 deadlines of ten minutes, moved one after the other.
fn wheel_moves(repetitions: u64) {
    const SLOTS: u64 = 1_024;
    let mut now = Moment::from_micros(5_000_000);
    let mut wheel = Wheel::new(now, SLOTS as usize);
    for turn in 0..repetitions {
        now = now.after(Span::from_micros(100));
        let slot = (turn % SLOTS) as u32;
        wheel.set(black_box(slot), now.after(Span::from_micros(600_000_000)));
    }
    assert_eq!(wheel.armed() as u64, SLOTS.min(repetitions));
}
