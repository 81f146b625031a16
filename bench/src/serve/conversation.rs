//! What a server says on one connection. Not how it is polled. Invariant: what was received and has
//! to go back is kept until it was sent, and nothing more is received meanwhile.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::net::{Shutdown, shutdown};

use crate::cli::{Ending, Exchange, Side};
use crate::pattern::Pattern;
use crate::socket::{Received, Sent, receive, transmit};

use super::{Kind, Served};

/// Calls per event, so that one fast connection does not keep the others waiting.
const CALLS_MAX: usize = 8;
/// Buffers kept for connections to come.
const SPARE_MAX: usize = 4096;

/// What the connections of a thread share.
pub(super) struct Tools {
    pub(super) pattern: Pattern,
    /// What a receive fills; nothing in it outlives one call.
    pub(super) buffer: Vec<u8>,
    /// Emptied buffers of ended connections: a new connection allocates none.
    pub(super) spare: Vec<Vec<u8>>,
    pub(super) exchange: Exchange,
    pub(super) served: Served,
}

/// What to do with the connection after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    Close,
    Reset,
}

/// The state of one connection, by what the server does.
#[derive(Debug)]
pub(super) enum Conversation {
    /// `kept` from `sent` on has to go back.
    Echo {
        kept: Vec<u8>,
        sent: usize,
        input: Input,
    },
    Source {
        header: [u8; 8],
        header_length: usize,
        sent: u64,
        input: Input,
    },
    Sink,
    /// `request` as far as it has come; then `sent` of the `due` bytes of the reply went back.
    Reply {
        request: Vec<u8>,
        sent: u64,
        due: u64,
    },
    Stall,
}

/// Whether the peer still sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Open,
    Ended,
}

impl Conversation {
    pub(super) fn new(kind: Kind, tools: &mut Tools) -> Conversation {
        match kind {
            Kind::Echo => Conversation::Echo {
                kept: Vec::new(),
                sent: 0,
                input: Input::Open,
            },
            Kind::Source => Conversation::Source {
                header: [0; 8],
                header_length: 0,
                sent: 0,
                input: Input::Open,
            },
            Kind::Sink => Conversation::Sink,
            Kind::Reply => Conversation::Reply {
                request: tools.spare.pop().unwrap_or_default(),
                sent: 0,
                due: tools.exchange.reply_size,
            },
            Kind::Stall => Conversation::Stall,
        }
    }

    /// Gives back what the next connection can use.
    pub(super) fn retire(self, tools: &mut Tools) {
        let (Conversation::Echo {
            kept: mut buffer, ..
        }
        | Conversation::Reply {
            request: mut buffer,
            ..
        }) = self
        else {
            return;
        };
        if buffer.capacity() > 0 && tools.spare.len() < SPARE_MAX {
            buffer.clear();
            tools.spare.push(buffer);
        }
    }

    /// What the connection has to be watched for now.
    pub(super) fn interest(&self) -> EventFlags {
        match self {
            Conversation::Echo { kept, sent, .. } if *sent < kept.len() => EventFlags::OUT,
            Conversation::Echo { .. } | Conversation::Sink => EventFlags::IN,
            Conversation::Source { sent, input, .. } => {
                let mut interest = EventFlags::empty();
                if *input == Input::Open {
                    interest |= EventFlags::IN;
                }
                if *sent < self.source_due() {
                    interest |= EventFlags::OUT;
                }
                interest
            }
            Conversation::Reply { sent: 0, .. } => EventFlags::IN,
            Conversation::Reply { sent, due, .. } if sent < due => EventFlags::OUT,
            Conversation::Reply { .. } => EventFlags::IN,
            // Errors and resets are always reported.
            Conversation::Stall => EventFlags::empty(),
        }
    }

    /// Does what `ready` allows.
    pub(super) fn advance(&mut self, fd: &OwnedFd, ready: EventFlags, tools: &mut Tools) -> Next {
        match self {
            Conversation::Echo { kept, sent, input } => echo(fd, kept, sent, input, tools),
            Conversation::Source { .. } => self.source(fd, ready, tools),
            Conversation::Sink => match discard(fd, tools) {
                Taken::Some => Next::Wait,
                Taken::End | Taken::Failed => Next::Close,
            },
            Conversation::Reply { request, sent, .. } => reply(fd, request, sent, tools),
            // Nothing was watched for, so the connection is broken.
            Conversation::Stall => Next::Close,
        }
    }

    /// How much a source has to send, as far as it knows.
    fn source_due(&self) -> u64 {
        match self {
            Conversation::Source {
                header,
                header_length: 8,
                ..
            } => u64::from_be_bytes(*header),
            Conversation::Source { .. }
            | Conversation::Echo { .. }
            | Conversation::Sink
            | Conversation::Reply { .. }
            | Conversation::Stall => 0,
        }
    }

    fn source(&mut self, fd: &OwnedFd, ready: EventFlags, tools: &mut Tools) -> Next {
        if ready.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            match self.source_input(fd, tools) {
                Taken::Some => {}
                Taken::Failed => return Next::Close,
                Taken::End => {
                    let due = self.source_due();
                    let Conversation::Source { sent, input, .. } = self else {
                        return Next::Close;
                    };
                    *input = Input::Ended;
                    // An endless source ends with its peer; another one sends what is left.
                    if due == super::ENDLESS || *sent == due {
                        return Next::Close;
                    }
                }
            }
        }
        let due = self.source_due();
        let Conversation::Source { sent, input, .. } = self else {
            return Next::Close;
        };
        for _ in 0..CALLS_MAX {
            if *sent >= due {
                return Next::Wait;
            }
            let bytes = tools.pattern.at(0, *sent, due - *sent);
            match transmit(fd, bytes) {
                Sent::Bytes(count) => {
                    *sent += count as u64;
                    tools.served.bytes_sent += count as u64;
                }
                Sent::Blocked => return Next::Wait,
                Sent::Failed(_) => return Next::Close,
            }
            if *sent == due {
                if *input == Input::Ended {
                    return Next::Close;
                }
                // Fails only if the connection is gone, which the next receive says.
                let _ = shutdown(fd, Shutdown::Write);
            }
        }
        Next::Wait
    }

    fn source_input(&mut self, fd: &OwnedFd, tools: &mut Tools) -> Taken {
        let Conversation::Source {
            header,
            header_length,
            ..
        } = self
        else {
            return Taken::Failed;
        };
        while *header_length < header.len() {
            match receive(fd, &mut header[*header_length..]) {
                Received::Bytes(count) => {
                    *header_length += count;
                    tools.served.bytes_received += count as u64;
                }
                Received::Blocked => return Taken::Some,
                Received::End => return Taken::End,
                Received::Failed(_) => return Taken::Failed,
            }
        }
        discard(fd, tools)
    }
}

/// What taking input led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Something or nothing; there may be more later.
    Some,
    End,
    Failed,
}

fn discard(fd: &OwnedFd, tools: &mut Tools) -> Taken {
    for _ in 0..CALLS_MAX {
        match receive(fd, &mut tools.buffer) {
            Received::Bytes(count) => {
                tools.served.bytes_received += count as u64;
                if count < tools.buffer.len() {
                    return Taken::Some;
                }
            }
            Received::Blocked => return Taken::Some,
            Received::End => return Taken::End,
            Received::Failed(_) => return Taken::Failed,
        }
    }
    Taken::Some
}

fn echo(
    fd: &OwnedFd,
    kept: &mut Vec<u8>,
    sent: &mut usize,
    input: &mut Input,
    tools: &mut Tools,
) -> Next {
    for _ in 0..CALLS_MAX {
        while *sent < kept.len() {
            match transmit(fd, &kept[*sent..]) {
                Sent::Bytes(count) => {
                    *sent += count;
                    tools.served.bytes_sent += count as u64;
                }
                Sent::Blocked => return Next::Wait,
                Sent::Failed(_) => return Next::Close,
            }
        }
        kept.clear();
        *sent = 0;
        if *input == Input::Ended {
            return Next::Close;
        }
        let count = match receive(fd, &mut tools.buffer) {
            Received::Bytes(count) => count,
            Received::Blocked => return Next::Wait,
            Received::End => {
                *input = Input::Ended;
                continue;
            }
            Received::Failed(_) => return Next::Close,
        };
        tools.served.bytes_received += count as u64;
        let drained = count < tools.buffer.len();
        let gone = match transmit(fd, &tools.buffer[..count]) {
            Sent::Bytes(gone) => gone,
            Sent::Blocked => 0,
            Sent::Failed(_) => return Next::Close,
        };
        tools.served.bytes_sent += gone as u64;
        if gone < count {
            if kept.capacity() == 0 {
                *kept = tools.spare.pop().unwrap_or_default();
            }
            kept.extend_from_slice(&tools.buffer[gone..count]);
            return Next::Wait;
        }
        if drained {
            return Next::Wait;
        }
    }
    Next::Wait
}

fn reply(fd: &OwnedFd, request: &mut Vec<u8>, sent: &mut u64, tools: &mut Tools) -> Next {
    let Exchange {
        request_size,
        reply_size,
        close,
        how,
    } = tools.exchange;
    if *sent == reply_size {
        // The client ends it, or says that the reply is there.
        return match (discard(fd, tools), close) {
            (Taken::Some, Side::Client) => Next::Wait,
            (Taken::Some, Side::Server) => Next::Reset,
            (Taken::End | Taken::Failed, _) => Next::Close,
        };
    }
    let size = usize::try_from(request_size).expect("invariant: limited by the command line");
    while request.len() < size {
        let room = size - request.len();
        match receive(fd, &mut tools.buffer[..room]) {
            Received::Bytes(count) => {
                tools.served.bytes_received += count as u64;
                request.extend_from_slice(&tools.buffer[..count]);
            }
            Received::Blocked => return Next::Wait,
            Received::End | Received::Failed(_) => return Next::Close,
        }
    }
    while *sent < reply_size {
        let offset = usize::try_from(*sent % request_size).expect("invariant: below the size");
        let left = usize::try_from(reply_size - *sent).unwrap_or(usize::MAX);
        let end = size.min(offset.saturating_add(left));
        match transmit(fd, &request[offset..end]) {
            Sent::Bytes(count) => {
                *sent += count as u64;
                tools.served.bytes_sent += count as u64;
            }
            Sent::Blocked => return Next::Wait,
            Sent::Failed(_) => return Next::Close,
        }
    }
    match (close, how) {
        (Side::Server, Ending::Fin) => Next::Close,
        // A reset discards what is still queued: the client has to have it first.
        (Side::Server, Ending::Reset) | (Side::Client, _) => Next::Wait,
    }
}
