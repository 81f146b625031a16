//! The receive buffers of one ring: one arena, a window of it lent to the kernel, and who owns each
//! buffer.
//!
//! It is not a general pool: all buffers have one size, belong to one ring and one thread. Only a
//! window of buffers is published to the kernel; the rest lies on a stack, the most recently used
//! on top, so that a quiet ring keeps touching the same few pages. The window doubles when the
//! kernel runs dry; it shrinks, and the memory of free buffers is given back, when they were not
//! needed for a while.
//!
//! Invariant: every buffer is in exactly one state, only `Held` memory can be borrowed by the caller
//! for writing, and what is being sent does not change. Breaking the order of use is a bug of this program, never of a peer, and
//! panics.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::arena::Mapping;

/// The most buffers of one ring: the kernel's limit for a buffer ring.
pub(crate) const BUFFERS_MOST: u16 = 1 << 15;

/// Buffers beyond the window whose memory is kept while bytes come: more start without page faults.
const RESIDENT_KEPT_BUSY: u32 = 256;
/// Buffers whose memory is kept when none came lately.
const RESIDENT_KEPT_CALM: u32 = 16;

/// A buffer of the ring it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId(pub(crate) u16);

impl BufferId {
    /// The buffer with this number. Whether the caller may use it is checked where it is used.
    pub const fn from_index(index: u16) -> BufferId {
        BufferId(index)
    }

    /// Dense, from 0, below `buffers_max`.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// On the stack, or withheld.
    Free,
    /// In the kernel's ring: it may write at any moment.
    Kernel,
    /// The caller's, to read, write, send or recycle.
    Held,
    /// A send is in flight: the kernel reads, the caller may read too.
    Sending,
}

/// An entry of the kernel's buffer ring: `struct io_uring_buf`.
#[repr(C)]
struct Entry {
    address: u64,
    len: u32,
    id: u16,
    /// In entry 0 this is the ring's tail.
    reserved: u16,
}

#[derive(Debug)]
pub(crate) struct Buffers {
    arena: Mapping,
    ring: Mapping,
    size: u32,
    /// Number of ring entries less one; entries are a power of two.
    mask: u16,
    states: Box<[State]>,
    /// Where what is being sent of a buffer ends; has no meaning in other states.
    sending_end: Box<[u32]>,
    /// Whether a buffer was written since its memory was given back.
    resident: Box<[bool]>,
    free: Vec<u16>,
    /// Nobody's, because there are to be fewer.
    withheld: Vec<u16>,
    /// How many there are to be without those.
    limit: u16,
    lent_most: u16,
    /// How many are resident of those that nobody holds: on the stack or lent to the kernel.
    resident_unheld: u32,
    /// Whether a buffer was used since the last look at memory.
    was_used: bool,
    /// How many buffers the kernel should have.
    window: u16,
    window_least: u16,
    window_most: u16,
    /// How many it has, those staged but not yet visible included.
    published: u16,
    held: u32,
    /// The most that were held lately; halves with each look.
    held_peak: u32,
    /// Where the search for memory to give back goes on.
    cursor: u16,
    /// Where the next entry goes, ahead of the tail the kernel sees by what is staged.
    tail: u16,
    tail_visible: u16,
    /// Growth is limited to one doubling per submit, or a burst of ENOBUFS would jump to the limit.
    grown: bool,
}

impl Buffers {
    /// `lent_most` entries of the kernel's ring are pinned memory; the buffers themselves are not.
    pub(crate) fn new(size: u32, initial: u16, lent_most: u16, most: u16) -> io::Result<Buffers> {
        assert!(
            size > 0 && lent_most > 0 && (1..=BUFFERS_MOST).contains(&most),
            "checked by RingParams"
        );
        let entries = lent_most.min(most).next_power_of_two();
        let window_most = window_of(lent_most, most);
        let window = initial.clamp(1, window_most);
        let mut buffers = Buffers {
            arena: Mapping::new(usize::from(most) * size as usize)?,
            ring: Mapping::new(usize::from(entries) * size_of::<Entry>())?,
            size,
            mask: entries - 1,
            states: vec![State::Free; usize::from(most)].into_boxed_slice(),
            sending_end: vec![0; usize::from(most)].into_boxed_slice(),
            resident: vec![false; usize::from(most)].into_boxed_slice(),
            free: (0..most).rev().collect(),
            withheld: Vec::new(),
            limit: most,
            lent_most,
            resident_unheld: 0,
            was_used: false,
            window,
            window_least: window,
            window_most,
            published: 0,
            held: 0,
            held_peak: 0,
            cursor: 0,
            tail: 0,
            tail_visible: 0,
            grown: false,
        };
        buffers.fill();
        Ok(buffers)
    }

    /// Keeps to `most` buffers from now on. Those beyond it that somebody has are withheld when they
    /// come back.
    pub(crate) fn limit(&mut self, most: u16) {
        self.limit = most.clamp(1, self.states.len() as u16);
        self.window_most = window_of(self.lent_most, self.limit);
        self.window_least = self.window_least.min(self.window_most);
        self.window = self.window.min(self.window_most);
        let wanted = self.withheld_wanted();
        if let Some(surplus) = self.withheld.len().checked_sub(wanted) {
            // Below those that were used lately, as at the beginning.
            self.free.splice(0..0, self.withheld.drain(..surplus));
        } else {
            let missing = (wanted - self.withheld.len()).min(self.free.len());
            self.withheld.extend(self.free.drain(..missing));
        }
    }

    fn withheld_wanted(&self) -> usize {
        self.states.len() - usize::from(self.limit)
    }

    /// Address and number of entries of the kernel's ring, to be registered.
    pub(crate) fn ring(&self) -> (u64, u16) {
        (self.ring.base().as_ptr() as u64, self.mask + 1)
    }

    /// Gives the kernel free buffers up to the window.
    fn fill(&mut self) {
        while self.published < self.window {
            let Some(id) = self.free.pop() else { return };
            self.push(id);
        }
    }

    /// Stages `id` for the kernel. It sees it after [`Buffers::publish`].
    fn push(&mut self, id: u16) {
        let address = self.arena.at(self.offset(id), self.size as usize) as u64;
        let index = usize::from(self.tail & self.mask);
        let entry: *mut Entry = self
            .ring
            .at(index * size_of::<Entry>(), size_of::<Entry>())
            .cast();
        let fields = (address, self.size, id);
        // The `reserved` field is left alone: in entry 0 it is the tail. SAFETY: `at` checked the
        // range, the mapping is page-aligned, and the kernel does not read entries at or behind the
        // tail, which at most `mask + 1` buffers can never lap.
        unsafe { (*entry).address = fields.0 };
        // SAFETY: as above.
        unsafe { (*entry).len = fields.1 };
        // SAFETY: as above.
        unsafe { (*entry).id = fields.2 };
        self.states[usize::from(id)] = State::Kernel;
        self.tail = self.tail.wrapping_add(1);
        self.published += 1;
    }

    /// Makes every staged buffer visible to the kernel, after the window was filled up if half of
    /// it was used: once per submit.
    pub(crate) fn publish(&mut self) {
        self.grown = false;
        if self.published < self.window / 2 {
            self.fill();
        }
        if self.tail == self.tail_visible {
            return;
        }
        let tail: *mut u16 = self
            .ring
            .at(std::mem::offset_of!(Entry, reserved), size_of::<u16>())
            .cast();
        // SAFETY: the tail is the aligned u16 at a fixed offset of the mapping; it is only ever
        // accessed atomically, here and by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        tail.store(self.tail, Ordering::Release);
        self.tail_visible = self.tail;
    }

    /// The kernel ran dry: double the window, at most once per submit.
    pub(crate) fn grow(&mut self) {
        if self.grown {
            return;
        }
        self.grown = true;
        self.window = self.window.saturating_mul(2).min(self.window_most);
        self.fill();
    }

    /// The kernel filled `id`: it is the caller's.
    pub(crate) fn filled(&mut self, id: u16) -> BufferId {
        self.expect(id, State::Kernel, "reported by the kernel");
        self.published -= 1;
        self.hold(id)
    }

    pub(crate) fn take(&mut self) -> Option<BufferId> {
        let id = self.free.pop()?;
        Some(self.hold(id))
    }

    fn hold(&mut self, id: u16) -> BufferId {
        let place = usize::from(id);
        self.states[place] = State::Held;
        self.resident_unheld -= u32::from(self.resident[place]);
        self.resident[place] = true;
        self.was_used = true;
        self.held += 1;
        self.held_peak = self.held_peak.max(self.held);
        BufferId(id)
    }

    pub(crate) fn recycle(&mut self, buffer: BufferId) {
        self.expect(buffer.0, State::Held, "recycled");
        self.held -= 1;
        self.resident_unheld += 1;
        self.was_used = true;
        if self.published < self.window {
            self.push(buffer.0);
        } else {
            self.states[buffer.index()] = State::Free;
            let is_surplus = self.withheld.len() < self.withheld_wanted();
            let place = if is_surplus {
                &mut self.withheld
            } else {
                &mut self.free
            };
            place.push(buffer.0);
        }
    }

    /// Whether there is more than a calm ring needs: a look later may find it is not needed.
    pub(crate) fn is_swollen(&self) -> bool {
        let needed = u32::from(self.window_least).max(self.held.saturating_mul(2));
        u32::from(self.window) > needed || self.resident_unheld > RESIDENT_KEPT_CALM
    }

    /// Shrinks the window towards twice what was held at most lately, and gives back the memory of
    /// `most` buffers at most that are beyond it. Returns how many that were.
    ///
    /// `all_reaped`: no completion that was not reaped speaks of a buffer. Only then is it known that
    /// those lent to the kernel hold nothing, which writes to them in system calls of this thread and
    /// at no other time (`IORING_SETUP_DEFER_TASKRUN`).
    pub(crate) fn relax(&mut self, most: u32, all_reaped: bool) -> u32 {
        let needed = self.held_peak.saturating_mul(2);
        self.held_peak = self.held.max(self.held_peak / 2);
        let needed_window = u16::try_from(needed).unwrap_or(u16::MAX);
        let smaller = self.window / 2;
        self.window = smaller
            .max(needed_window)
            .max(self.window_least)
            .min(self.window);
        let is_calm = !self.was_used;
        let kept = if is_calm {
            RESIDENT_KEPT_CALM
        } else {
            needed.max(RESIDENT_KEPT_BUSY) + u32::from(self.published)
        };
        let wanted = self.resident_unheld.saturating_sub(kept).min(most);
        let released = self.release_memory(wanted, is_calm && all_reaped);
        // The next look comes sooner where there is more to do: too soon to call it calm.
        self.was_used &= released == most;
        released
    }

    fn release_memory(&mut self, wanted: u32, lent_too: bool) -> u32 {
        let mut released = 0;
        for _ in 0..self.states.len() {
            if released == wanted {
                break;
            }
            self.cursor = (self.cursor + 1) % self.states.len() as u16;
            let id = usize::from(self.cursor);
            let is_empty = match self.states[id] {
                State::Free => true,
                State::Kernel => lent_too,
                State::Held | State::Sending => false,
            };
            if is_empty && self.resident[id] {
                self.arena
                    .release(self.offset(self.cursor), self.size as usize);
                self.resident[id] = false;
                released += 1;
            }
        }
        self.resident_unheld -= released;
        released
    }

    /// Lends `start..start + len` of a held buffer to a send.
    pub(crate) fn begin_send(&mut self, buffer: BufferId, start: u32, len: u32) -> *const u8 {
        self.expect(buffer.0, State::Held, "sent");
        self.check_range(start, len);
        self.states[buffer.index()] = State::Sending;
        self.sending_end[buffer.index()] = start + len;
        self.arena
            .at(self.offset(buffer.0) + start as usize, len as usize)
    }

    pub(crate) fn end_send(&mut self, id: u16) -> BufferId {
        self.expect(id, State::Sending, "reported as sent");
        self.states[usize::from(id)] = State::Held;
        BufferId(id)
    }

    pub(crate) fn bytes(&self, buffer: BufferId, start: u32, len: u32) -> &[u8] {
        self.check_range(start, len);
        match self.states[buffer.index()] {
            State::Held | State::Sending => {}
            State::Free | State::Kernel => panic!("buffer {} was read while not held", buffer.0),
        }
        let offset = self.offset(buffer.0) + start as usize;
        // SAFETY: the kernel writes only to buffers in state Kernel, and a `&mut` slice needs `&mut
        // self`.
        unsafe { self.arena.bytes(offset, len as usize) }
    }

    pub(crate) fn bytes_mut(&mut self, buffer: BufferId) -> &mut [u8] {
        self.expect(buffer.0, State::Held, "written");
        let (offset, len) = (self.offset(buffer.0), self.size as usize);
        // SAFETY: state Held: the kernel neither fills nor sends this buffer.
        unsafe { self.arena.bytes_mut(offset, len) }
    }

    /// Copies the first `len` bytes of `from` to place `at` of `to`, and the `rest` behind them to the
    /// start of `from`.
    pub(crate) fn gather(&mut self, to: BufferId, at: u32, from: BufferId, len: u32, rest: u32) {
        self.expect(from.0, State::Held, "gathered from");
        match self.states[to.index()] {
            State::Held => {}
            State::Sending => assert!(
                at >= self.sending_end[to.index()],
                "buffer {} was gathered into what is being sent",
                to.0
            ),
            State::Free | State::Kernel => panic!("buffer {} was written while not held", to.0),
        }
        self.check_range(at, len);
        assert!(len.checked_add(rest).is_some_and(|all| all <= self.size));
        let (len, rest) = (len as usize, rest as usize);
        let start = self.offset(from.0);
        let source = self.arena.at(start, len);
        let behind = self.arena.at(start + len, rest);
        let target = self.arena.at(self.offset(to.0) + at as usize, len);
        // SAFETY: both ranges lie in the mapping (`at` checked) and in buffers that the kernel does
        // not write to (checked above); it may read the target's buffer, but only before `at`. No
        // slice of the mapping lives while `self` is borrowed mutably. `copy` allows overlap.
        unsafe { std::ptr::copy(source, target, len) };
        // SAFETY: as above; both ranges lie in `from`.
        unsafe { std::ptr::copy(behind, source, rest) };
    }

    /// Buffers [`Buffers::take`] can hand out.
    pub(crate) fn free(&self) -> u32 {
        self.free.len() as u32
    }

    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    pub(crate) fn published(&self) -> u32 {
        u32::from(self.published)
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Keeps the memory mapped for ever.
    pub(crate) fn leak(&mut self) {
        self.arena.leak();
        self.ring.leak();
    }

    fn offset(&self, id: u16) -> usize {
        usize::from(id) * self.size as usize
    }

    fn check_range(&self, start: u32, len: u32) {
        assert!(
            start <= self.size && len <= self.size - start,
            "range {start}+{len} outside the buffer"
        );
    }

    fn expect(&self, id: u16, state: State, what: &str) {
        let actual = self.states[usize::from(id)];
        assert!(
            actual == state,
            "buffer {id} was {what} while {actual:?}, not {state:?}"
        );
    }
}

/// The most that are lent of `most`. An eighth stays for the caller's own bytes, or a grown window would
/// leave nothing to write headers into.
fn window_of(lent_most: u16, most: u16) -> u16 {
    lent_most.min(most - most / 8)
}

#[cfg(test)]
mod tests;
