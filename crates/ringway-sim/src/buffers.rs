//! The receive buffers and the pipes of a world's only worker, and who holds each of them.
//!
//! Invariant: what is free is held by nobody. Contents stay in a free buffer until the next receive
//! overwrites them, as in the kernel, so that a buffer given back too early shows foreign bytes.

use ringway_flow::{BufferNumber, Room, Side};

use crate::bytes::Bytes;
use crate::dice::Dice;
use crate::kernel::Token;

/// A half of a session: who may hold a buffer or a pipe.
pub(crate) type Holder = (Token, Side);

/// All receive buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    contents: Vec<Bytes>,
    holders: Vec<Option<Holder>>,
    free: Vec<BufferNumber>,
}

impl Buffers {
    pub(crate) fn new(count: u16) -> Buffers {
        Buffers {
            contents: vec![Bytes::default(); usize::from(count)],
            holders: vec![None; usize::from(count)],
            free: (0..count).collect(),
        }
    }

    /// Any free buffer.
    pub(crate) fn take(&mut self, holder: Holder, dice: &mut Dice) -> Option<BufferNumber> {
        if self.free.is_empty() {
            return None;
        }
        let buffer = self.free.swap_remove(dice.index(self.free.len()));
        self.holders[usize::from(buffer)] = Some(holder);
        Some(buffer)
    }

    pub(crate) fn fill(&mut self, buffer: BufferNumber, bytes: Bytes) {
        self.contents[usize::from(buffer)] = bytes;
    }

    /// Moves the first `len` bytes of one buffer behind those of another.
    pub(crate) fn gather(&mut self, to: BufferNumber, from: BufferNumber, len: u32) {
        let mut moved = Bytes::default();
        self.contents[usize::from(from)].move_to(&mut moved, len);
        moved.move_to(&mut self.contents[usize::from(to)], len);
    }

    pub(crate) fn content(&self, buffer: BufferNumber) -> &Bytes {
        &self.contents[usize::from(buffer)]
    }

    pub(crate) fn holder(&self, buffer: BufferNumber) -> Option<Holder> {
        self.holders[usize::from(buffer)]
    }

    pub(crate) fn give_back(&mut self, buffer: BufferNumber) {
        self.holders[usize::from(buffer)] = None;
        self.free.push(buffer);
    }

    /// What a worker would say of them.
    pub(crate) fn room(&self) -> Room {
        if self.free.len() * 2 < self.contents.len() {
            Room::Scarce
        } else {
            Room::Plenty
        }
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn held_by(&self, token: Token) -> usize {
        let holders = self.holders.iter().flatten();
        holders.filter(|(holder, _)| *holder == token).count()
    }
}

/// All pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    contents: Vec<Bytes>,
    holders: Vec<Option<Holder>>,
    capacity: u32,
}

impl Pipes {
    pub(crate) fn new(count: usize, capacity: u32) -> Pipes {
        Pipes {
            contents: vec![Bytes::default(); count],
            holders: vec![None; count],
            capacity,
        }
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn take(&mut self, holder: Holder) -> Option<u32> {
        let pipe = self.holders.iter().position(Option::is_none)?;
        self.holders[pipe] = Some(holder);
        Some(self.capacity)
    }

    fn number(&self, holder: Holder) -> Option<usize> {
        self.holders.iter().position(|&held| held == Some(holder))
    }

    pub(crate) fn content(&self, holder: Holder) -> Option<&Bytes> {
        self.number(holder).map(|pipe| &self.contents[pipe])
    }

    pub(crate) fn content_mut(&mut self, holder: Holder) -> Option<&mut Bytes> {
        self.number(holder).map(|pipe| &mut self.contents[pipe])
    }

    /// The pipe is free for another holder, with whatever is in it.
    pub(crate) fn give_back(&mut self, holder: Holder) {
        if let Some(pipe) = self.number(holder) {
            self.holders[pipe] = None;
        }
    }

    pub(crate) fn held_by(&self, token: Token) -> usize {
        let holders = self.holders.iter().flatten();
        holders.filter(|(holder, _)| *holder == token).count()
    }

    pub(crate) fn held(&self) -> usize {
        self.holders.iter().flatten().count()
    }
}
