//! Listening sockets: multishot accepts, armed again after every way they can end, and admission.
//!
//! Invariant: an accept that failed for want of something is armed again only after a pause, so that
//! running out of descriptors costs a few wake-ups per second and never a spin.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use ringway_flow::{CloseHow, Flow, Input, Moment, PerSide, Span};
use ringway_metrics::{AcceptError, RefusedReason, WorkerBlocks};
use ringway_uring::{
    Errno, Operation, arm_reset, confine, local_address, peer_address, refuse_arrivals,
};

use crate::access::{AccessRecord, Conclusion};
use crate::admission::{Gate, Permit};
use crate::inspect::{Inspect, Inspection};
use crate::listening::Leaver;
use crate::slots::{SLOTS_MAX, Slot};
use crate::spec::{ListenerSpec, Opening, SocketSpec};
use crate::tag::Tag;
use crate::worker::Worker;

/// Pause before an accept is tried again after the kernel had no descriptor or memory for it.
const RESUME_AFTER: Span = Span::from_micros(50_000);

/// How long a listener still accepts after it let nobody new in: handshakes that have begun end in
/// it, but for those of clients that are very far away.
pub(crate) const LAST_CALL: Span = Span::from_micros(50_000);

/// Connections taken from the queue of a listener that closes at most: a full backlog of a host
/// with default limits. A storm must not keep a drain from ending.
const LAST_ACCEPTS_MAX: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Armed,
    /// The accept has ended and waits for its time.
    Paused(Moment),
    /// Cancelled; its last completion has not come yet.
    Stopping,
    Closed,
}

#[derive(Debug)]
pub(crate) struct Socket {
    /// Whose it is of those that control knows: more than one may have the same.
    pub(crate) number: u32,
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) listener: u16,
    pub(crate) state: State,
    /// Whether somebody else accepts on it when this worker does not.
    pub(crate) is_shared: bool,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) route: u16,
    pub(crate) gate: Gate,
    pub(crate) inspect: Option<Arc<Inspect>>,
    over: CloseHow,
}

/// All listening sockets of a worker.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listeners: Vec<Listener>,
    pub(crate) sockets: Vec<Socket>,
    /// Whether it accepts at all.
    pub(crate) opening: Opening,
    /// How many sockets are paused, so that a turn need not look at each.
    paused: usize,
    /// When the listeners close.
    closes_at: Option<Moment>,
    /// Sockets that are taken away while others stay.
    pub(crate) leavers: Vec<Leaver>,
}

impl Acceptor {
    pub(crate) fn new(
        listeners: Vec<ListenerSpec>,
        sockets: Vec<SocketSpec>,
        opening: Opening,
    ) -> Acceptor {
        let mut acceptor = Acceptor {
            listeners: listeners.into_iter().map(Listener::new).collect(),
            sockets: Vec::new(),
            opening,
            paused: 0,
            closes_at: None,
            leavers: Vec::new(),
        };
        acceptor.take_in(sockets, Moment::default());
        acceptor
    }

    /// Takes over the listeners as they are from now on.
    pub(crate) fn apply_listeners(&mut self, specs: Vec<ListenerSpec>, blocks: &WorkerBlocks) {
        self.listeners.truncate(specs.len());
        for (at, spec) in specs.into_iter().enumerate() {
            let Some(listener) = self.listeners.get_mut(at) else {
                self.listeners.push(Listener::new(spec));
                continue;
            };
            let open = blocks.listeners[at].connections.value();
            (listener.route, listener.over) = (spec.route, spec.over);
            listener.inspect = spec.inspect;
            listener
                .gate
                .change(spec.admission, u64::try_from(open).unwrap_or(0));
        }
    }

    /// When the listeners close, after a last call.
    pub(crate) fn closes_at(&self) -> Option<Moment> {
        self.closes_at
    }

    /// Whether nothing can arrive any more.
    pub(crate) fn is_closed(&self) -> bool {
        let mut sockets = self.sockets.iter();
        sockets.all(|socket| socket.state == State::Closed)
    }

    /// When the first paused accept is due.
    pub(crate) fn resume_at(&self) -> Option<Moment> {
        if self.paused == 0 || self.opening == Opening::WhenTold {
            return None;
        }
        let due = |socket: &Socket| match socket.state {
            State::Paused(until) => Some(until),
            State::Armed | State::Stopping | State::Closed => None,
        };
        self.sockets.iter().filter_map(due).min()
    }

    pub(crate) fn set_state(&mut self, number: u32, state: State) {
        let is_paused = |state| matches!(state, State::Paused(_));
        let socket = &mut self.sockets[number as usize];
        self.paused -= usize::from(is_paused(socket.state));
        self.paused += usize::from(is_paused(state));
        socket.state = state;
    }

    /// Gives back what a connection of this listener took at admission.
    pub(crate) fn release(&self, listener: u16, permit: Permit) {
        self.listeners[usize::from(listener)].gate.release(permit);
    }

    /// What is read of this listener's connections, and who is let in then. None where a changed
    /// configuration has it read nothing any more.
    pub(crate) fn rules(&self, listener: usize) -> Option<(&Inspect, &Gate)> {
        let Listener { inspect, gate, .. } = &self.listeners[listener];
        inspect.as_deref().map(|inspect| (inspect, gate))
    }

    pub(crate) fn over(&self, listener: u16) -> CloseHow {
        self.listeners[usize::from(listener)].over
    }
}

impl Listener {
    pub(crate) fn new(spec: ListenerSpec) -> Listener {
        Listener {
            route: spec.route,
            gate: Gate::new(spec.admission),
            inspect: spec.inspect,
            over: spec.over,
        }
    }

    /// Whether the real client's address decides anything before its bytes do.
    fn asks_who(&self) -> bool {
        match &self.inspect {
            Some(inspect) if inspect.trusted.is_some() => true,
            Some(_) | None => self.gate.asks_who(),
        }
    }

    pub(crate) fn admit(
        &self,
        client: Option<SocketAddr>,
        now: Moment,
    ) -> Result<Permit, RefusedReason> {
        match &self.inspect {
            Some(inspect) if inspect.trusted.is_some() => match inspect.trusts(client) {
                true => self.gate.reserve(),
                false => Err(RefusedReason::ProxyProtocol),
            },
            Some(_) | None => self.gate.admit(client.map(|at| at.ip()), now),
        }
    }
}

impl Worker {
    /// Arms the accepts whose pause is over.
    pub(crate) fn resume_accepts(&mut self) {
        if self.acceptor.paused == 0 || self.acceptor.opening == Opening::WhenTold {
            return;
        }
        for number in 0..self.acceptor.sockets.len() as u32 {
            let socket = &self.acceptor.sockets[number as usize];
            if let (State::Paused(until), Some(fd)) = (socket.state, &socket.fd)
                && until <= self.now
            {
                let token = Tag::Accept.of(number, 0);
                self.ring.accept_multishot(fd.as_fd(), token);
                self.acceptor.set_state(number, State::Armed);
            }
        }
    }

    /// A connection came, or an accept ended.
    pub(crate) fn on_accepted(&mut self, number: u32, result: Result<OwnedFd, Errno>, more: bool) {
        let socket = &self.acceptor.sockets[number as usize];
        let listener = socket.listener;
        if !more {
            let pause = matches!(result, Err(errno) if is_shortage(errno));
            let until = if pause {
                self.now.after(RESUME_AFTER)
            } else {
                self.now
            };
            match socket.state {
                State::Armed | State::Paused(_) => {
                    self.acceptor.set_state(number, State::Paused(until));
                }
                State::Stopping => self.close_listener(number),
                State::Closed => {}
            }
        }
        match result {
            Ok(fd) => self.admit(listener, fd),
            Err(errno) if errno.is_cancelled() => {}
            Err(errno) => {
                let block = &self.blocks.listeners[usize::from(listener)];
                block.accept_errors[AcceptError::from_errno(errno.0)].increment();
            }
        }
    }

    /// Lets nobody new in. Those on their way are accepted until the listeners close. What others
    /// accept on is left to them at once.
    pub(crate) fn call_last(&mut self, until: Moment) {
        self.leave_shared();
        for socket in &self.acceptor.sockets {
            if !self.acceptor.is_others(socket)
                && let Some(fd) = &socket.fd
            {
                call_last(fd.as_fd());
            }
        }
        self.acceptor.closes_at = Some(self.now.after(LAST_CALL).min(until));
    }

    /// Closes the listeners when the last call is over.
    pub(crate) fn end_last_call(&mut self) {
        if self.acceptor.closes_at.is_some_and(|at| at <= self.now) {
            self.acceptor.closes_at = None;
            self.stop_accepting();
        }
    }

    /// Stops accepting: cancels first, because a pending accept keeps taking connections even from
    /// a listener that was closed.
    fn stop_accepting(&mut self) {
        for number in 0..self.acceptor.sockets.len() as u32 {
            self.stop_accepting_on(number);
        }
    }

    pub(crate) fn stop_accepting_on(&mut self, number: u32) {
        match self.acceptor.sockets[number as usize].state {
            State::Armed => {
                self.ring
                    .cancel(Tag::Accept.of(number, 0), Operation::Accept);
                self.acceptor.set_state(number, State::Stopping);
            }
            State::Paused(_) => self.close_listener(number),
            State::Stopping | State::Closed => {}
        }
    }

    /// Takes what is queued on the socket, then closes it: closing would reset what is queued. Where
    /// others accept, too, the queue is emptied all the same: the kernel wakes one of those who wait,
    /// and the connection whose wake-up went to the accept that was just cancelled would lie there
    /// until the next one comes.
    fn close_listener(&mut self, number: u32) {
        self.acceptor.set_state(number, State::Closed);
        let is_others = self
            .acceptor
            .is_others(&self.acceptor.sockets[number as usize]);
        let socket = &mut self.acceptor.sockets[number as usize];
        let listener = socket.listener;
        let Some(fd) = socket.fd.take() else { return };
        if self.acceptor.opening == Opening::WhenTold {
            // It never accepted, so nobody's wake-up went to it.
            return self.ring.close(fd);
        }
        if !is_others {
            // Who came before the last look would be reset otherwise.
            let _ = refuse_arrivals(fd.as_fd());
        }
        for _ in 0..LAST_ACCEPTS_MAX {
            let Some(accepted) = accept_queued(fd.as_fd()) else {
                break;
            };
            self.admit(listener, accepted);
        }
        // At once, for the end of it is told: newcomers are led past it until then.
        drop(fd);
    }

    fn admit(&mut self, listener: u16, fd: OwnedFd) {
        let place = &self.acceptor.listeners[usize::from(listener)];
        let block = &self.blocks.listeners[usize::from(listener)];
        let client = match self.client(place, fd.as_fd()) {
            Ok(client) => client,
            Err(_) => {
                // It has reset since it was queued. What it sent is still there, and nobody knows
                // from whom.
                block.accept_errors[AcceptError::Econnaborted].increment();
                return;
            }
        };
        block.connections_total.increment();
        let permit = match place.admit(client, self.now) {
            Ok(permit) => permit,
            Err(reason) => return self.refuse(listener, fd, client, reason),
        };
        let is_short = self.supply.is_short(self.ring.buffers_held());
        let is_full = self.slots.len() >= SLOTS_MAX || is_short || self.relief.is_needed();
        if is_full || !self.connections.try_acquire() {
            place.gate.release(permit);
            return self.refuse(listener, fd, client, RefusedReason::Resources);
        }
        let route = place.route;
        let inspect = place.inspect.as_deref();
        let inspection = inspect.map(|inspect| Box::new(Inspection::new(inspect, client)));
        self.open(route, fd, client, permit, inspection);
    }

    /// The client's address, where anything depends on it: it costs a system call. An error where
    /// admission does, and there is none any more.
    fn client(&self, place: &Listener, fd: BorrowedFd<'_>) -> Result<Option<SocketAddr>, Errno> {
        let pool = self.routes[usize::from(place.route)].pool;
        if place.asks_who() {
            peer_address(fd)
        } else if self.access.is_some() || self.pools[usize::from(pool)].needs_key() {
            Ok(peer_address(fd).ok().flatten())
        } else {
            Ok(None)
        }
    }

    fn refuse(
        &mut self,
        listener: u16,
        fd: OwnedFd,
        client: Option<SocketAddr>,
        reason: RefusedReason,
    ) {
        self.blocks.listeners[usize::from(listener)].refused[reason].increment();
        if self.access.is_some() {
            let mut record = AccessRecord::opened(self.index, listener, client, self.now);
            record.conclusion = Conclusion::Refused(reason);
            self.log_access(record);
        }
        if self.acceptor.over(listener) == CloseHow::Reset {
            let _ = arm_reset(fd.as_fd());
        }
        // Closed here and now: in a burst over the limit its descriptor is needed by those admitted.
        drop(fd);
    }

    pub(crate) fn close_socket(&mut self, fd: OwnedFd, how: CloseHow) {
        if how == CloseHow::Reset {
            // It fails only on a socket whose connection is gone already: then there is nobody to tell.
            let _ = arm_reset(fd.as_fd());
        }
        self.ring.close(fd);
    }

    fn open(
        &mut self,
        route: u16,
        fd: OwnedFd,
        client: Option<SocketAddr>,
        permit: Permit,
        inspection: Option<Box<Inspection>>,
    ) {
        if let Some(confinement) = self.supply.confinement(self.slots.len()) {
            // Where it fails the kernel does as it does elsewhere.
            let _ = confine(fd.as_fd(), confinement);
        }
        let spec = &self.routes[usize::from(route)];
        self.blocks.listeners[usize::from(spec.listener)]
            .connections
            .increment();
        self.blocks.routes[usize::from(route)].flows.increment();
        self.blocks.worker.connections.increment();
        let record = self.access.is_some().then(|| {
            let mut record = AccessRecord::opened(self.index, spec.listener, client, self.now);
            record.pool = inspection.is_none().then_some(spec.pool);
            Box::new(record)
        });
        let slot = self.slots.insert(Slot {
            flow: Flow::new(self.now, &spec.flow),
            sockets: PerSide {
                front: Some(fd),
                back: None,
            },
            pipes: PerSide::default(),
            route,
            params: Rc::clone(&spec.flow),
            backend: None,
            tried: ringway_balance::Tried::new(),
            waits_for: None,
            queue_full: None,
            origins_left: 0,
            connected: None,
            permit,
            key: client.map_or(0, crate::effects::source_key),
            inspection,
            said: None,
            record,
        });
        self.feed(slot, Input::Accepted);
    }
}

/// Whether the kernel lacked something that time may bring back.
fn is_shortage(errno: Errno) -> bool {
    // Any error but a client that left before it was accepted: an unknown one must not spin either.
    !matches!(
        errno.name(),
        "ECONNABORTED" | "ECANCELED" | "EINTR" | "EAGAIN"
    )
}

/// Lets nobody new in. Where it fails, or for Unix sockets, which know no handshake, closing does
/// what it can.
pub(crate) fn call_last(listener: BorrowedFd<'_>) {
    if matches!(local_address(listener), Ok(Some(_))) {
        let _ = refuse_arrivals(listener);
    }
}

/// One connection from the queue of a non-blocking listener.
fn accept_queued(listener: BorrowedFd<'_>) -> Option<OwnedFd> {
    let flags = rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC;
    rustix::net::accept_with(listener, flags).ok()
}
