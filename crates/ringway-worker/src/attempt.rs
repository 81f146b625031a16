//! One attempt to connect to a backend that was chosen: its socket, its failure, and waiting where
//! time helps.
//!
//! The kernel accepts ahead of admission, and those it accepted too many hold descriptors until
//! they are refused: who was admitted waits that long for a descriptor of its own. A Unix socket
//! whose queue is full says so at once: when every other backend was tried, it is asked again until
//! the flow's deadline.
//!
//! Invariant: an attempt that waits is in flight for its flow, and answers when it is cancelled.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use ringway_balance::{AdminState, BackendIndex, NoBackend};
use ringway_flow::{Fault, Input, Moment, Side, Span};
use ringway_uring::{Errno, arm_reset, confine, connect_now, connect_socket, pending_error};

use crate::dispatch::fault;
use crate::tag::Tag;
use crate::worker::{Worker, WorkerPool};

/// From one look for a descriptor to the next.
const DESCRIPTOR_PAUSE: Span = Span::from_micros(2_000);
/// A burst is over long before this has passed; who still lacks a descriptor then goes without.
const DESCRIPTOR_PATIENCE: Span = Span::from_micros(100_000);
/// From one knock at a full queue to the next.
const PLACE_PAUSE: Span = Span::from_micros(10_000);
/// Attempts made again in one turn at most.
const AGAIN_PER_TURN: usize = 256;

/// What an attempt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// A descriptor of this process.
    Descriptor,
    /// A place in the queue of a Unix socket.
    Place,
}

/// A connect that did not fail.
#[derive(Clone, Copy, Debug)]
enum Begun {
    /// Its completion tells.
    InRing,
    Connected,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    slot: u32,
    generation: u16,
    again_at: Moment,
    until: Moment,
}

/// The attempts that wait, each queue in the order in which they are made again.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    for_descriptor: VecDeque<Entry>,
    for_place: VecDeque<Entry>,
}

impl Waiting {
    /// When the first one is made again.
    pub(crate) fn next(&self) -> Option<Moment> {
        let fronts = [self.for_descriptor.front(), self.for_place.front()];
        fronts
            .into_iter()
            .flatten()
            .map(|entry| entry.again_at)
            .min()
    }

    fn due(&mut self, lack: Lack, now: Moment) -> Option<Entry> {
        let queue = self.queue(lack);
        let is_due = queue.front().is_some_and(|entry| entry.again_at <= now);
        if is_due { queue.pop_front() } else { None }
    }

    fn queue(&mut self, lack: Lack) -> &mut VecDeque<Entry> {
        match lack {
            Lack::Descriptor => &mut self.for_descriptor,
            Lack::Place => &mut self.for_place,
        }
    }
}

impl Worker {
    /// Connects to the backend that was chosen.
    pub(crate) fn attempt(&mut self, slot: u32) -> Option<Input> {
        let begun = self.begin_connect(slot);
        self.on_begun(slot, begun)
    }

    /// The ring could not connect. From another local address it may.
    fn not_connected(&mut self, slot: u32, errno: Errno) -> Option<Input> {
        if !self.has_another_origin(slot, errno) {
            return Some(self.attempt_failed(slot, errno));
        }
        if let Some(socket) = self.slots.get_mut(slot).sockets.back.take() {
            self.ring.close(socket);
        }
        let begun = self.connect_from_next(slot);
        self.on_begun(slot, begun)
    }

    /// A Unix socket's connect never waits, so it is called directly: in the ring, one that finds no
    /// place would start a kernel thread to find it again.
    fn begin_connect(&mut self, slot: u32) -> Result<Begun, Errno> {
        let (pool, backend) = self.goal(slot);
        let pool = &self.pools[pool];
        let origins = pool.origin.count(&pool.backends[backend].address);
        self.slots.get_mut(slot).origins_left = origins;
        self.connect_from_next(slot)
    }

    /// The pool and the backend of the attempt in flight.
    fn goal(&self, slot: u32) -> (usize, usize) {
        let held = self.slots.get(slot);
        let backend = held
            .backend
            .expect("invariant: an attempt in flight has a backend");
        let pool = self.routes[usize::from(held.route)].pool;
        (usize::from(pool), backend.as_usize())
    }

    fn connect_from_next(&mut self, slot: u32) -> Result<Begun, Errno> {
        loop {
            let begun = self.connect_once(slot);
            match begun {
                Err(errno) if self.has_another_origin(slot, errno) => {}
                Ok(_) | Err(_) => return begun,
            }
        }
    }

    fn connect_once(&mut self, slot: u32) -> Result<Begun, Errno> {
        let (pool, backend) = self.goal(slot);
        let held = self.slots.get_mut(slot);
        held.origins_left = held.origins_left.saturating_sub(1);
        let held = self.slots.get(slot);
        // It is among those that are there.
        let confinement = self.supply.confinement(self.slots.len() - 1);
        let WorkerPool {
            origin, backends, ..
        } = &mut self.pools[pool];
        let address = &backends[backend].address;
        let socket = connect_socket(address)?;
        if let Some(confinement) = confinement {
            // Where it fails the kernel does as it does elsewhere.
            let _ = confine(socket.as_fd(), confinement);
        }
        origin.bind(socket.as_fd(), address, held)?;
        let begun = if address.is_unix() {
            connect_now(socket.as_fd(), address)?;
            Begun::Connected
        } else {
            let token = Tag::Connect.of(slot, self.slots.generation(slot));
            self.ring
                .connect(socket.as_fd(), token, address.as_sock_addr());
            Begun::InRing
        };
        self.slots.get_mut(slot).sockets.back = Some(socket);
        Ok(begun)
    }

    fn on_begun(&mut self, slot: u32, begun: Result<Begun, Errno>) -> Option<Input> {
        let errno = match begun {
            Ok(Begun::InRing) => return None,
            Ok(Begun::Connected) => return Some(self.attempt_made(slot)),
            Err(errno) => errno,
        };
        if errno.is_descriptor_limit() {
            self.wait_for(slot, Lack::Descriptor);
            return None;
        }
        if errno.is_would_block() {
            let held = self.slots.get_mut(slot);
            if held.queue_full == held.backend {
                self.wait_for(slot, Lack::Place);
                return None;
            }
            held.queue_full = held.backend;
        }
        Some(self.attempt_failed(slot, errno))
    }

    /// No backend is left to try. One that had no place for a moment ago is tried to the end.
    pub(crate) fn last_resort(&mut self, slot: u32, why: NoBackend) -> Option<BackendIndex> {
        match why {
            NoBackend::AllTried | NoBackend::AllFull => {}
            NoBackend::Empty
            | NoBackend::AllWeightless
            | NoBackend::AllWithdrawn
            | NoBackend::AllDown => return None,
        }
        let held = self.slots.get(slot);
        let backend = held.queue_full?;
        let pool = usize::from(self.routes[usize::from(held.route)].pool);
        // It may have left since, and its place with it.
        let place = self.pools[pool].backends.get(backend.as_usize())?;
        let is_free = || place.limit.as_ref().is_none_or(|limit| limit.try_acquire());
        let is_active = place.is_offered && place.state == AdminState::Active;
        (is_active && is_free()).then_some(backend)
    }

    pub(crate) fn on_connected(&mut self, slot: u32, result: Result<(), Errno>) -> Option<Input> {
        match result {
            Ok(()) if self.has_met_itself(slot) => {
                // Closed by a FIN it would keep its port for a minute, and the backend could not come back to it.
                let _ = arm_reset(self.slots.get(slot).socket(Side::Back));
                Some(self.attempt_failed(slot, Errno::CONNREFUSED))
            }
            Ok(()) => Some(self.attempt_made(slot)),
            Err(errno) if errno.is_in_progress() => {
                let told = pending_error(self.slots.get(slot).socket(Side::Back));
                self.not_connected(slot, told.ok().flatten().unwrap_or(errno))
            }
            Err(errno) => self.not_connected(slot, errno),
        }
    }

    /// Whether it is the client's own bytes that would come back to it.
    fn has_met_itself(&self, slot: u32) -> bool {
        let (pool, backend) = self.goal(slot);
        let address = &self.pools[pool].backends[backend].address;
        address.is_own_end(self.slots.get(slot).socket(Side::Back))
    }

    /// The backend is connected. It is told who comes before anything else.
    pub(crate) fn attempt_made(&mut self, slot: u32) -> Input {
        match self.announce(slot) {
            Ok(()) => {
                self.note_attempt(slot, Ok(()));
                Input::Connected(Ok(()))
            }
            Err(errno) => self.attempt_failed(slot, errno),
        }
    }

    pub(crate) fn attempt_failed(&mut self, slot: u32, errno: Errno) -> Input {
        self.note_attempt(slot, Err(errno));
        Input::Connected(Err(connect_fault(errno)))
    }

    pub(crate) fn wait_for(&mut self, slot: u32, lack: Lack) {
        let (pause, patience) = match lack {
            Lack::Descriptor => (DESCRIPTOR_PAUSE, DESCRIPTOR_PATIENCE),
            // The flow's own deadline ends it.
            Lack::Place => (PLACE_PAUSE, Span::FOREVER),
        };
        let entry = Entry {
            slot,
            generation: self.slots.generation(slot),
            again_at: self.now.after(pause),
            until: self.now.after(patience),
        };
        self.slots.get_mut(slot).waits_for = Some(lack);
        self.waiting.queue(lack).push_back(entry);
    }

    /// Ends an attempt that waits; `None` if none does, and a connect is the ring's to cancel.
    pub(crate) fn stop_waiting(&mut self, slot: u32) -> Option<Input> {
        let held = self.slots.get_mut(slot);
        let lack = held.waits_for.take()?;
        // It was given its time.
        held.queue_full = None;
        let errno = match lack {
            Lack::Descriptor => Errno::MFILE,
            Lack::Place => Errno::CANCELED,
        };
        Some(self.attempt_failed(slot, errno))
    }

    /// Makes the attempts again whose time has come.
    pub(crate) fn attempt_again(&mut self) {
        for lack in [Lack::Descriptor, Lack::Place] {
            for _ in 0..AGAIN_PER_TURN {
                let Some(entry) = self.waiting.due(lack, self.now) else {
                    break;
                };
                let Entry {
                    slot, generation, ..
                } = entry;
                let is_current = self.slots.is_current(slot, generation);
                if !is_current || self.slots.get(slot).waits_for != Some(lack) {
                    continue;
                }
                self.slots.get_mut(slot).waits_for = None;
                let begun = if self.has_offered_backend(slot) {
                    self.begin_connect(slot)
                } else {
                    Err(Errno::CANCELED)
                };
                let input = match begun {
                    Err(errno) if errno.is_descriptor_limit() && self.now < entry.until => {
                        self.go_on_waiting(entry, lack);
                        // Nobody behind it gets one either.
                        break;
                    }
                    Err(errno) if errno.is_descriptor_limit() => {
                        Some(self.attempt_failed(slot, errno))
                    }
                    Ok(_) | Err(_) => self.on_begun(slot, begun),
                };
                if let Some(input) = input {
                    self.feed(slot, input);
                }
            }
        }
    }

    /// Whether the backend that was chosen is still in the configuration.
    fn has_offered_backend(&self, slot: u32) -> bool {
        let held = self.slots.get(slot);
        let pool = usize::from(self.routes[usize::from(held.route)].pool);
        let place = |backend: BackendIndex| &self.pools[pool].backends[backend.as_usize()];
        held.backend
            .is_some_and(|backend| place(backend).is_offered)
    }

    fn go_on_waiting(&mut self, entry: Entry, lack: Lack) {
        let again_at = self.now.after(DESCRIPTOR_PAUSE);
        self.slots.get_mut(entry.slot).waits_for = Some(lack);
        let entry = Entry { again_at, ..entry };
        self.waiting.queue(lack).push_front(entry);
    }
}

/// What the failure of a connect means to its flow.
fn connect_fault(errno: Errno) -> Fault {
    if errno.is_shortage() {
        Fault::Shortage
    } else if errno.is_no_ports() {
        Fault::NoPorts
    } else {
        fault(errno)
    }
}
