//! What a client's first bytes say before it is given to a backend: the PROXY header of who sent
//! it, then the names of a TLS ClientHello, each where its listener asks for it.
//!
//! The bytes are the flow's; here they are read, and what they say decides admission and route.
//! Invariant: no address of a header counts unless its sender is trusted, and the bytes of the
//! header, no more and no fewer, are skipped.

use std::net::SocketAddr;
use std::rc::Rc;

use ringway_admission::{AccessList, Verdict};
use ringway_flow::{Chunk, Finding, Input, Side};
use ringway_metrics::RefusedReason;
use ringway_uring::{BufferId, peer_address};
use ringway_wire::{AlpnProtocol, HelloProgress, HostName, Parse, Reason, ServerName, parse_proxy};

use crate::announce::Said;
use crate::effects::source_key;
use crate::names::{Found, NameTable};
use crate::worker::Worker;

/// What a listener reads of a connection before it routes it.
#[derive(Clone, Debug, Default)]
pub struct Inspect {
    /// A PROXY header is required, and these are the networks that may send one.
    pub trusted: Option<AccessList>,
    /// Routes by server name and protocol.
    pub names: Option<NameTable>,
    /// The route of what no name leads anywhere; `None` refuses it.
    pub default: Option<u16>,
}

impl Inspect {
    /// Whether a sender's header is believed. One without an address came by a Unix socket:
    /// permissions of files say who may connect there.
    pub(crate) fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        let Some((trusted, peer)) = self.trusted.as_ref().zip(peer) else {
            return true;
        };
        trusted.verdict(peer.ip()) == Verdict::Allow
    }

    /// The rule that a name meets, if there is one.
    pub(crate) fn find(
        &self,
        name: &HostName,
        offered: impl Iterator<Item = AlpnProtocol> + Clone,
    ) -> Option<Found<'_>> {
        self.names.as_ref()?.find(name, offered)
    }

    /// Where what no rule leads anywhere goes.
    pub(crate) fn to_default(&self) -> Result<u16, RefusedReason> {
        self.default.ok_or(RefusedReason::NoRoute)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    Hello,
}

/// How far the reading of one connection has come.
#[derive(Debug)]
pub(crate) struct Inspection {
    stage: Stage,
    header_len: u32,
    hello: HelloProgress,
    /// Who is really at the other end, where that was asked.
    peer: Option<SocketAddr>,
    said: Said,
    /// Why it is refused, once it is.
    pub(crate) refused: Option<RefusedReason>,
}

/// Where to, or why not.
type Decision = Result<Option<u16>, RefusedReason>;

impl Inspection {
    pub(crate) fn new(inspect: &Inspect, peer: Option<SocketAddr>) -> Inspection {
        Inspection {
            stage: match inspect.trusted {
                Some(_) => Stage::Header,
                None => Stage::Hello,
            },
            header_len: 0,
            hello: HelloProgress::default(),
            peer,
            said: Said::default(),
            refused: None,
        }
    }

    /// Reads the header; whether there is nothing more to wait for.
    fn read_header(&mut self, bytes: &[u8]) -> Result<bool, RefusedReason> {
        match parse_proxy(bytes) {
            Parse::NeedMore { .. } => Ok(false),
            Parse::Reject(_) => Err(RefusedReason::ProxyProtocol),
            Parse::Done { value, used } => {
                self.said = Said::from_header(&value);
                self.header_len = used as u32;
                self.stage = Stage::Hello;
                Ok(true)
            }
        }
    }

    fn read_hello(&mut self, inspect: &Inspect, bytes: &[u8]) -> Decision {
        let to_default = || inspect.to_default().map(Some);
        match self.hello.parse(bytes) {
            Parse::NeedMore { .. } => Ok(None),
            // Something else is spoken here.
            Parse::Reject(Reason::NotTls | Reason::NotClientHello) => to_default(),
            // A server may read it otherwise: it must not get where its name does not lead.
            Parse::Reject(_) => Err(RefusedReason::Handshake),
            Parse::Done { value: hello, .. } => match hello.server_name {
                ServerName::Absent | ServerName::Invalid(_) => to_default(),
                ServerName::Host(name) => {
                    self.said.hear(&name, hello.alpn);
                    let found = inspect.find(&name, hello.alpn);
                    found.map_or_else(to_default, |found| Ok(Some(found.route)))
                }
            },
        }
    }
}

impl Worker {
    /// Reads what the client has sent so far.
    pub(crate) fn inspect(&mut self, slot: u32) -> Input {
        let finding = match self.read_on(slot) {
            Ok(None) => Finding::More,
            Ok(Some(route)) => self.decide(slot, route),
            Err(reason) => {
                let inspection = &mut self.slots.get_mut(slot).inspection;
                inspection.as_mut().expect(LOOKS).refused = Some(reason);
                Finding::Refuse
            }
        };
        Input::Looked(finding)
    }

    fn read_on(&mut self, slot: u32) -> Decision {
        let held = self.slots.get_mut(slot);
        let listener = usize::from(self.routes[usize::from(held.route)].listener);
        // Its listener has changed since it came: what it said cannot be judged any more.
        let changed = RefusedReason::Handshake;
        let (inspect, gate) = self.acceptor.rules(listener).ok_or(changed)?;
        let inspection = held.inspection.as_mut().expect(LOOKS);
        let mut waiting = held.flow.waiting(Side::Front, &self.chunks);
        let first = waiting
            .next()
            .expect("invariant: a look has something to see");
        let first_bytes = bytes_of(&self.ring, first);
        if inspection.stage == Stage::Header {
            if inspect.trusted.is_none() {
                return Err(changed);
            }
            // It fits the first buffer, which is full before there is a second one.
            if !inspection.read_header(first_bytes)? {
                return Ok(None);
            }
            let source = inspection.said.source().or(inspection.peer);
            if let (Some(record), Some(source)) = (&mut held.record, source) {
                record.client = Some(source);
            }
            gate.admit_source(&mut held.permit, source.map(|at| at.ip()), self.now)?;
        }
        if inspect.names.is_none() {
            return inspect.to_default().map(Some);
        }
        let begin = inspection.header_len as usize;
        let Some(second) = waiting.next() else {
            return inspection.read_hello(inspect, &first_bytes[begin..]);
        };
        let rest = std::iter::once(second).chain(waiting);
        let len: u32 = rest.clone().map(|chunk| chunk.len).sum();
        if inspection
            .hello
            .waits_for_more(first_bytes.len() - begin + len as usize)
        {
            return Ok(None);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&first_bytes[begin..]);
        rest.for_each(|chunk| self.scratch.extend_from_slice(bytes_of(&self.ring, chunk)));
        inspection.read_hello(inspect, &self.scratch)
    }

    /// From here on it is a connection like any other, on its route.
    fn decide(&mut self, slot: u32, route: u16) -> Finding {
        let held = self.slots.get_mut(slot);
        let inspection = held.inspection.take().expect(LOOKS);
        let skip = inspection.header_len;
        let spec = &self.routes[usize::from(route)];
        self.blocks.routes[usize::from(held.route)]
            .flows
            .decrement();
        self.blocks.routes[usize::from(route)].flows.increment();
        held.route = route;
        held.params = Rc::clone(&spec.flow);
        let pool = &self.pools[usize::from(spec.pool)];
        if pool.needs_key() {
            let real = || peer_address(held.socket(Side::Front)).ok().flatten();
            let source = inspection.said.source().or(inspection.peer).or_else(real);
            held.key = source.map_or(0, source_key);
        }
        if let Some(record) = &mut held.record {
            record.pool = Some(spec.pool);
        }
        if pool.send_proxy.is_some() || pool.origin.asks_who() {
            held.said = Some(Box::new(inspection.said));
        }
        let payload = held.flow.received_bytes(Side::Front) - u64::from(skip);
        let block = &self.blocks.routes[usize::from(route)];
        block.received_bytes[ringway_metrics::Peer::Client].add(payload);
        Finding::Route { skip }
    }
}

const LOOKS: &str = "invariant: only a flow that is inspected looks";

fn bytes_of(ring: &ringway_uring::Ring, chunk: Chunk) -> &[u8] {
    ring.bytes(BufferId::from_index(chunk.buffer), 0, chunk.len)
}
