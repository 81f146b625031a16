//! What a new session is like: its timeouts, its relay, its client, and what will become of its
//! connects.
//!
//! Invariant: everything that differs between sessions is chosen here or in a peer's script.

use std::time::Duration;

use ringway_balance::Tried;
use ringway_flow::{CloseHow, Flow, FlowParams, PerSide, RelayMode, Span, Timeouts};

use crate::kernel::{Kind, Token};
use crate::link::Link;
use crate::looks::Looks;
use crate::peer::{Peer, Script};
use crate::session::{Deadlines, Session};
use crate::world::World;

impl World {
    pub(crate) fn new_session(&mut self, token: Token) -> Session {
        let deadlines = self.random_deadlines();
        let span = |micros: Option<u64>| micros.map(Duration::from_micros);
        let timeouts = Timeouts {
            connect: span(deadlines.connect),
            first_byte: span(deadlines.first_byte),
            idle: span(deadlines.idle),
            half_close: span(deadlines.half_close),
            lifetime: span(deadlines.lifetime),
        };
        let relay = self.dice.pick(&[
            RelayMode::Auto,
            RelayMode::Auto,
            RelayMode::Copy,
            RelayMode::Splice,
            RelayMode::UringSplice,
        ]);
        let attempts_max = self.dice.between(1, 3) as u8;
        let refuse = self.dice.pick(&[CloseHow::Fin, CloseHow::Reset]);
        let size = self.kernel.buffer_size;
        let params = FlowParams::new(&timeouts, relay, attempts_max, size, refuse);
        let looks = self.dice.chance(400);
        let looks = looks.then(|| Looks::random(&mut self.dice, &self.options.faults));
        let params = looks.map_or(params, |looks| params.looking_first(span(looks.deadline)));
        self.trace(|| format!("  {token:?} {params:?}"));
        let front = self.kernel.links.len();
        self.kernel.links.push(Link::new(self.window));
        let script = Script::random(&mut self.dice, &self.options);
        let stream = self.streams;
        self.streams += 2;
        let client_peer = self.peers.len();
        self.peers
            .push(Peer::new(script, front, stream, stream + 1));
        Session {
            token,
            flow: Flow::new(self.now, &params),
            params,
            deadlines,
            looks,
            attempts_max,
            tried: Tried::new(),
            backend: None,
            stream,
            client_peer,
            backend_peer: None,
            front,
            back: None,
            halves: PerSide::default(),
            attempts: 0,
            backend_failed: false,
            host_lacked: false,
            connecting_since: None,
            connect_cancelled: false,
            connected: false,
            first_byte_marked: false,
            connected_marked: false,
            born: self.now,
            moved: self.now,
            cancelled: PerSide::default(),
            resetting_since: None,
            resetting_bytes: u32::MAX,
            closing_since: None,
            was_full_of_looks: false,
            closed: PerSide::default(),
            ended: None,
        }
    }

    fn random_deadlines(&mut self) -> Deadlines {
        let faulty = self.options.faults.peer_misbehaves > 0;
        let dice = &mut self.dice;
        let mut deadline = |permille: u32, low: u64, high: u64| {
            (faulty && dice.chance(permille)).then(|| dice.between(low, high))
        };
        Deadlines {
            connect: deadline(900, 5_000, 3_000_000),
            first_byte: deadline(250, 1_000, 2_000_000),
            idle: deadline(700, 10_000, 20_000_000),
            half_close: deadline(800, 1_000, 5_000_000),
            lifetime: deadline(200, 10_000, 30_000_000),
        }
    }

    pub(crate) fn connect_fate(&mut self) -> Kind {
        let faults = &self.options.faults;
        let accepted = !self.dice.chance(faults.refused);
        let delay = match self.dice.chance(faults.unanswered) {
            true => Span::FOREVER,
            false => Span::from_micros(self.dice.below(2_000)),
        };
        Kind::Connect {
            accepted,
            at: self.now.after(delay),
        }
    }
}
