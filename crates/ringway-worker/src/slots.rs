//! The flows of a worker by slot number, each with its sockets and what must be given back at its
//! end. Invariant: a slot is freed once, after its flow finished; its generation then moves on, so
//! that a token of an earlier flow never reaches a later one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use ringway_balance::{BackendIndex, Tried};
use ringway_flow::{Flow, FlowParams, Moment, PerSide, Side};
use ringway_uring::Pipe;
use slab::Slab;

use crate::access::AccessRecord;
use crate::admission::Permit;
use crate::announce::Said;
use crate::attempt::Lack;
use crate::inspect::Inspection;

/// Slots a worker may use: the width of a token's slot.
pub(crate) const SLOTS_MAX: usize = 1 << 24;

/// One flow and what belongs to it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) flow: Flow,
    pub(crate) sockets: PerSide<Option<OwnedFd>>,
    pub(crate) pipes: PerSide<Option<Pipe>>,
    pub(crate) route: u16,
    /// Those of its route when it was born.
    pub(crate) params: Rc<FlowParams>,
    /// The backend being connected or connected to; counted in its pool's load while it is set.
    pub(crate) backend: Option<BackendIndex>,
    pub(crate) tried: Tried,
    /// What the attempt in flight waits for, instead of for the ring.
    pub(crate) waits_for: Option<Lack>,
    /// The last backend that had no place in its queue.
    pub(crate) queue_full: Option<BackendIndex>,
    /// Local addresses that the attempt in flight has not tried.
    pub(crate) origins_left: u16,
    pub(crate) connected: Option<Moment>,
    /// What it took of its listener's limits.
    pub(crate) permit: Permit,
    /// Hash of the client's address, where the pool's algorithm asks for it.
    pub(crate) key: u64,
    /// How far its first bytes are read, while nobody knows where to.
    pub(crate) inspection: Option<Box<Inspection>>,
    /// What its PROXY header says besides addresses of sockets.
    pub(crate) said: Option<Box<Said>>,
    /// What the access log will say, where there is one.
    pub(crate) record: Option<Box<AccessRecord>>,
}

impl Slot {
    pub(crate) fn socket(&self, side: Side) -> BorrowedFd<'_> {
        self.sockets[side]
            .as_ref()
            .expect("invariant: a flow names only sockets it has")
            .as_fd()
    }

    pub(crate) fn pipe(&self, from: Side) -> &Pipe {
        self.pipes[from]
            .as_ref()
            .expect("invariant: a half splices only through its pipe")
    }
}

/// All flows of a worker.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slab: Slab<Slot>,
    generations: Vec<u16>,
}

impl Slots {
    pub(crate) fn insert(&mut self, slot: Slot) -> u32 {
        let index = self.slab.insert(slot);
        if index >= self.generations.len() {
            self.generations.resize(index + 1, 0);
        }
        u32::try_from(index).expect("invariant: slots are limited to SLOTS_MAX")
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Slot {
        let index = slot as usize;
        self.generations[index] = self.generations[index].wrapping_add(1);
        self.slab.remove(index)
    }

    pub(crate) fn generation(&self, slot: u32) -> u16 {
        self.generations[slot as usize]
    }

    /// Whether a token of this generation speaks of the flow that is in the slot now.
    pub(crate) fn is_current(&self, slot: u32, generation: u16) -> bool {
        self.slab.contains(slot as usize) && self.generations[slot as usize] == generation
    }

    pub(crate) fn get(&self, slot: u32) -> &Slot {
        &self.slab[slot as usize]
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slab[slot as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The slots for which `is_wanted` holds.
    pub(crate) fn select(&self, is_wanted: impl Fn(&Slot) -> bool) -> Vec<u32> {
        let wanted = self.slab.iter().filter(|(_, slot)| is_wanted(slot));
        wanted.map(|(index, _)| index as u32).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use ringway_flow::wheel::Wheel;
    use ringway_flow::{CloseHow, RelayMode, Timeouts};
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::admission::{Admission, Gate};

    /// A connection whose client has said something and then reset.
    pub(crate) fn abandoned() -> Slot {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (front, _) = listener.accept().unwrap();
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        let mut fds = [PollFd::new(&front, PollFlags::empty())];
        poll(&mut fds, None).unwrap();
        let timeouts = Timeouts {
            connect: None,
            first_byte: None,
            idle: None,
            half_close: None,
            lifetime: None,
        };
        let params = FlowParams::new(&timeouts, RelayMode::Auto, 1, 16_384, CloseHow::Reset);
        Slot {
            flow: Flow::new(Moment::default(), &params),
            sockets: PerSide {
                front: Some(front.into()),
                back: None,
            },
            pipes: PerSide::default(),
            route: 0,
            params: Rc::new(params),
            backend: None,
            tried: Tried::new(),
            waits_for: None,
            queue_full: None,
            origins_left: 0,
            connected: None,
            permit: Gate::new(Admission::default()).reserve().unwrap(),
            key: 0,
            inspection: None,
            said: None,
            record: None,
        }
    }

    /// What an idle connection holds of user memory: its slot, its generation and its timer.
    #[test]
    fn an_idle_connection_is_small() {
        let bytes = size_of::<Slot>() + size_of::<u16>() + Wheel::SLOT_BYTES;
        assert!(bytes <= 448, "{bytes} bytes per connection");
    }
}
