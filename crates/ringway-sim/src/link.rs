//! A TCP connection as Linux shows it to its two ends. No segments, no loss: what matters is what
//! each end may see and in which order, and what a reset destroys.
//!
//! Invariants: a byte in the receiver's queue is acknowledged; a FIN comes after every byte; a
//! reset destroys what its receiver had not got acknowledged and leaves what the receiver has not
//! read yet readable (tcp(7), `tcp_reset`).

use ringway_flow::{CloseHow, Fault};

use crate::bytes::{Bytes, Run};

/// The two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Ringway's socket.
    Proxy,
    /// The client's or the backend's socket.
    Peer,
}

impl End {
    pub(crate) const BOTH: [End; 2] = [End::Proxy, End::Peer];

    pub(crate) fn other(self) -> End {
        match self {
            End::Proxy => End::Peer,
            End::Peer => End::Proxy,
        }
    }
}

/// What a read would meet now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Nothing,
    Bytes(u32),
    EndOfStream,
    Failed(Fault),
}

#[derive(Debug, Default)]
struct Socket {
    inbox: Bytes,
    inbox_max: u32,
    outbox: Bytes,
    outbox_max: u32,
    /// FIN is to follow the last byte of the outbox.
    shut: bool,
    fin_sent: bool,
    fin_arrived: bool,
    /// Neither sends nor receives any more: reset by either end, or broken.
    dead: bool,
    error: Option<Fault>,
    closed: bool,
    /// A reset is on its way to this socket.
    reset_coming: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    proxy: Socket,
    peer: Socket,
}

impl Link {
    /// `window`: bytes each end buffers in each direction.
    pub(crate) fn new(window: u32) -> Link {
        let socket = || Socket {
            inbox_max: window,
            outbox_max: window,
            ..Socket::default()
        };
        Link {
            proxy: socket(),
            peer: socket(),
        }
    }

    fn at(&self, end: End) -> &Socket {
        match end {
            End::Proxy => &self.proxy,
            End::Peer => &self.peer,
        }
    }

    fn at_mut(&mut self, end: End) -> &mut Socket {
        match end {
            End::Proxy => &mut self.proxy,
            End::Peer => &mut self.peer,
        }
    }

    fn pair(&mut self, from: End) -> (&mut Socket, &mut Socket) {
        match from {
            End::Proxy => (&mut self.proxy, &mut self.peer),
            End::Peer => (&mut self.peer, &mut self.proxy),
        }
    }

    // ── what an application sees ────────────────────────────────────────────────────────────────

    pub(crate) fn readiness(&self, end: End) -> Readiness {
        let socket = self.at(end);
        // The order of `tcp_recvmsg`: bytes, a FIN that came, an error, and then the end of a dead
        // socket.
        match socket.error {
            _ if !socket.inbox.is_empty() => Readiness::Bytes(socket.inbox.len()),
            _ if socket.fin_arrived => Readiness::EndOfStream,
            Some(fault) => Readiness::Failed(fault),
            None if socket.dead => Readiness::EndOfStream,
            None => Readiness::Nothing,
        }
    }

    /// Reads up to `len` bytes.
    pub(crate) fn read(&mut self, end: End, len: u32) -> Bytes {
        let mut bytes = Bytes::default();
        self.at_mut(end).inbox.move_to(&mut bytes, len);
        bytes
    }

    /// Takes the pending error, as the call that reports it does.
    pub(crate) fn take_error(&mut self, end: End) -> Option<Fault> {
        self.at_mut(end).error.take()
    }

    /// Whether there is a pending error, which poll(2) reports and nobody has taken yet.
    pub(crate) fn has_error(&self, end: End) -> bool {
        self.at(end).error.is_some()
    }

    /// Whether a write would not block: there is room, or it fails.
    pub(crate) fn is_writable(&self, end: End) -> bool {
        self.cannot_write(end) || self.room(end) > 0
    }

    pub(crate) fn room(&self, end: End) -> u32 {
        let socket = self.at(end);
        socket.outbox_max.saturating_sub(socket.outbox.len())
    }

    fn cannot_write(&self, end: End) -> bool {
        let socket = self.at(end);
        socket.dead || socket.shut || socket.error.is_some()
    }

    /// The fault a write meets: the pending error once, then a broken pipe.
    pub(crate) fn write_fault(&mut self, end: End) -> Option<Fault> {
        self.cannot_write(end)
            .then(|| self.take_error(end).unwrap_or(Fault::Reset))
    }

    /// Appends bytes for which there is room.
    pub(crate) fn write(&mut self, end: End, mut bytes: Bytes) {
        let len = bytes.len();
        bytes.move_to(&mut self.at_mut(end).outbox, len);
    }

    /// The same for a single run.
    pub(crate) fn write_run(&mut self, end: End, run: Run) {
        self.at_mut(end).outbox.push(run);
    }

    pub(crate) fn shut(&mut self, end: End) {
        self.at_mut(end).shut = true;
    }

    /// Closes a socket. Unread bytes turn a FIN into a reset.
    pub(crate) fn close(&mut self, end: End, how: CloseHow) {
        let (socket, other) = self.pair(end);
        socket.closed = true;
        let resets = how == CloseHow::Reset || !socket.inbox.is_empty();
        socket.inbox.clear();
        socket.shut = true;
        if resets && !socket.dead {
            socket.dead = true;
            socket.outbox.clear();
            other.reset_coming = true;
        }
    }

    pub(crate) fn is_closed(&self, end: End) -> bool {
        self.at(end).closed
    }

    /// Whether the connection is broken as this end's kernel sees it, reported or not.
    pub(crate) fn is_dead(&self, end: End) -> bool {
        self.at(end).dead
    }

    /// Bytes written and not acknowledged; 0 for a connection that is gone.
    pub(crate) fn unacknowledged(&self, end: End) -> u32 {
        self.at(end).outbox.len()
    }

    /// Bytes that arrived and were not read.
    pub(crate) fn unread(&self, end: End) -> u32 {
        self.at(end).inbox.len()
    }

    // ── the network ─────────────────────────────────────────────────────────────────────────────

    /// Whether something can go from `from` to the other end now.
    pub(crate) fn can_transfer(&self, from: End) -> bool {
        let (socket, other) = (self.at(from), self.at(from.other()));
        if socket.dead || other.dead {
            return false;
        }
        let has_room = other.closed || other.inbox.len() < other.inbox_max;
        if socket.outbox.is_empty() {
            socket.shut && !socket.fin_sent
        } else {
            has_room
        }
    }

    /// Delivers up to `len` bytes, or the FIN behind the last one.
    pub(crate) fn transfer(&mut self, from: End, len: u32) {
        let (socket, other) = self.pair(from);
        if socket.outbox.is_empty() {
            socket.fin_sent = true;
            other.fin_arrived = true;
        } else if other.closed {
            // Nobody will ever read this: the receiver's kernel answers with a reset and forgets.
            other.dead = true;
            other.outbox.clear();
            socket.reset_coming = true;
        } else {
            let room = other.inbox_max - other.inbox.len();
            socket.outbox.move_to(&mut other.inbox, len.min(room));
        }
    }

    pub(crate) fn is_reset_coming(&self, to: End) -> bool {
        self.at(to).reset_coming
    }

    /// The reset arrives.
    pub(crate) fn reset_arrives(&mut self, to: End) {
        let socket = self.at_mut(to);
        socket.reset_coming = false;
        socket.fail(Fault::Reset);
    }

    /// Ringway's end gives up (no acknowledgement for too long, say); the peer learns it by a reset
    /// later.
    pub(crate) fn give_up(&mut self) {
        self.proxy.fail(Fault::Other);
        self.peer.reset_coming = true;
    }
}

impl Socket {
    fn fail(&mut self, fault: Fault) {
        if !self.dead {
            self.dead = true;
            self.outbox.clear();
            self.error = (!self.closed).then_some(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(len: u32) -> Run {
        Run {
            stream: 0,
            at: 0,
            len,
        }
    }

    #[test]
    fn a_fin_comes_after_the_bytes() {
        let mut link = Link::new(10);
        link.write_run(End::Peer, run(7));
        link.shut(End::Peer);
        link.transfer(End::Peer, 4);
        assert_eq!(link.readiness(End::Proxy), Readiness::Bytes(4));
        link.transfer(End::Peer, 4);
        link.transfer(End::Peer, 4);
        assert_eq!(link.read(End::Proxy, 99).len(), 7);
        assert_eq!(link.readiness(End::Proxy), Readiness::EndOfStream);
        assert!(!link.can_transfer(End::Peer));
    }

    #[test]
    fn a_reset_destroys_what_is_not_acknowledged_and_spares_what_is() {
        let mut link = Link::new(10);
        link.write_run(End::Peer, run(9));
        link.transfer(End::Peer, 5);
        link.write_run(End::Proxy, run(3));
        link.close(End::Peer, CloseHow::Reset);
        link.reset_arrives(End::Proxy);
        assert_eq!(
            (link.unacknowledged(End::Proxy), link.unread(End::Proxy)),
            (0, 5)
        );
        assert_eq!(link.write_fault(End::Proxy), Some(Fault::Reset));
        link.read(End::Proxy, 5);
        // The failed write has consumed the error.
        assert_eq!(link.readiness(End::Proxy), Readiness::EndOfStream);
        assert_eq!(link.write_fault(End::Proxy), Some(Fault::Reset));
    }

    #[test]
    fn closing_over_unread_bytes_and_writing_to_a_closed_socket_reset() {
        let mut link = Link::new(10);
        link.write_run(End::Peer, run(1));
        link.transfer(End::Peer, 1);
        link.close(End::Proxy, CloseHow::Fin);
        assert!(link.is_reset_coming(End::Peer));

        let mut link = Link::new(10);
        link.close(End::Proxy, CloseHow::Fin);
        link.transfer(End::Proxy, 0);
        link.write_run(End::Peer, run(1));
        link.transfer(End::Peer, 1);
        assert!(link.is_reset_coming(End::Peer));
    }
}
