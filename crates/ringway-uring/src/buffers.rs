//! The receive buffers of one ring: one arena, a window of it lent to the kernel, and who owns each
//! buffer.
//!
//! It is not a general pool: all buffers have one size, belong to one ring and one thread. Only a
//! window of buffers is published to the kernel; the rest lies on a stack, the most recently used
//! on top, so that a quiet ring keeps touching the same few pages. The window doubles when the
//! kernel runs dry and never shrinks.
//!
//! Invariant: every buffer is in exactly one state, only `Held` memory can be borrowed by the caller
//! for writing, and what is being sent does not change. Breaking the order of use is a bug of this program, never of a peer, and
//! panics.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::arena::Mapping;

/// The most buffers of one ring: the kernel's limit for a buffer ring.
pub(crate) const BUFFERS_MOST: u16 = 1 << 15;

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
    /// On the stack.
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
    free: Vec<u16>,
    /// How many buffers the kernel should have.
    window: u16,
    window_most: u16,
    /// How many it has, those staged but not yet visible included.
    published: u16,
    held: u32,
    /// Where the next entry goes, ahead of the tail the kernel sees by what is staged.
    tail: u16,
    tail_visible: u16,
    /// Growth is limited to one doubling per submit, or a burst of ENOBUFS would jump to the limit.
    grown: bool,
}

impl Buffers {
    pub(crate) fn new(size: u32, initial: u16, most: u16) -> io::Result<Buffers> {
        assert!(
            size > 0 && (1..=BUFFERS_MOST).contains(&most),
            "checked by RingParams"
        );
        let entries = most.next_power_of_two();
        // An eighth stays for the caller's own bytes, or a grown window would leave nothing to
        // write headers into.
        let window_most = most - most / 8;
        let mut buffers = Buffers {
            arena: Mapping::new(usize::from(most) * size as usize)?,
            ring: Mapping::new(usize::from(entries) * size_of::<Entry>())?,
            size,
            mask: entries - 1,
            states: vec![State::Free; usize::from(most)].into_boxed_slice(),
            sending_end: vec![0; usize::from(most)].into_boxed_slice(),
            free: (0..most).rev().collect(),
            window: initial.clamp(1, window_most),
            window_most,
            published: 0,
            held: 0,
            tail: 0,
            tail_visible: 0,
            grown: false,
        };
        buffers.fill();
        Ok(buffers)
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

    /// Makes every staged buffer visible to the kernel: once per submit.
    pub(crate) fn publish(&mut self) {
        self.grown = false;
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
        self.states[usize::from(id)] = State::Held;
        self.published -= 1;
        self.held += 1;
        BufferId(id)
    }

    pub(crate) fn take(&mut self) -> Option<BufferId> {
        let id = self.free.pop()?;
        self.states[usize::from(id)] = State::Held;
        self.held += 1;
        Some(BufferId(id))
    }

    pub(crate) fn recycle(&mut self, buffer: BufferId) {
        self.expect(buffer.0, State::Held, "recycled");
        self.held -= 1;
        if self.published < self.window {
            self.push(buffer.0);
        } else {
            self.states[buffer.index()] = State::Free;
            self.free.push(buffer.0);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the kernel: takes the oldest visible entry.
    fn consume(buffers: &mut Buffers, head: &mut u16) -> Option<BufferId> {
        if *head == buffers.tail_visible {
            return None;
        }
        let index = usize::from(*head & buffers.mask);
        let entry: *const Entry = buffers
            .ring
            .at(index * size_of::<Entry>(), size_of::<Entry>())
            .cast();
        *head = head.wrapping_add(1);
        // SAFETY: an entry before the visible tail is initialised.
        let id = unsafe { (*entry).id };
        Some(buffers.filled(id))
    }

    #[test]
    fn a_window_is_published_and_the_rest_is_free() {
        let mut buffers = Buffers::new(64, 4, 16).unwrap();
        assert_eq!(
            (buffers.published(), buffers.free(), buffers.held()),
            (4, 12, 0)
        );
        let own = buffers.take().unwrap();
        buffers.bytes_mut(own)[..2].copy_from_slice(b"hi");
        assert_eq!(buffers.bytes(own, 0, 2), b"hi");
        assert_eq!((buffers.free(), buffers.held()), (11, 1));
        buffers.recycle(own);
        // The kernel has its window already: the buffer goes back on the stack, to be used next.
        assert_eq!(
            (buffers.published(), buffers.free(), buffers.held()),
            (4, 12, 0)
        );
        assert_eq!(buffers.take(), Some(own));
    }

    #[test]
    fn staged_buffers_are_invisible_until_published() {
        let mut buffers = Buffers::new(64, 2, 4).unwrap();
        let mut head = 0;
        assert_eq!(consume(&mut buffers, &mut head), None);
        buffers.publish();
        let first = consume(&mut buffers, &mut head).unwrap();
        assert!(consume(&mut buffers, &mut head).is_some());
        buffers.recycle(first);
        assert_eq!(consume(&mut buffers, &mut head), None);
        buffers.publish();
        assert_eq!(consume(&mut buffers, &mut head), Some(first));
    }

    #[test]
    fn the_window_doubles_once_per_submit_and_leaves_a_reserve() {
        let mut buffers = Buffers::new(64, 2, 16).unwrap();
        buffers.publish();
        let windows = [4, 8, 14, 14];
        for window in windows {
            buffers.grow();
            buffers.grow();
            assert_eq!(buffers.published(), window);
            buffers.publish();
        }
        assert_eq!(buffers.free(), 2);
    }

    #[test]
    fn the_ring_wraps_for_ever_without_losing_a_buffer() {
        let mut buffers = Buffers::new(16, 3, 5).unwrap();
        let mut head = 0;
        for _ in 0..200_000 {
            buffers.publish();
            let buffer = consume(&mut buffers, &mut head).unwrap();
            buffers.recycle(buffer);
        }
        assert_eq!(
            (buffers.published(), buffers.free(), buffers.held()),
            (3, 2, 0)
        );
    }

    #[test]
    fn bytes_are_gathered_behind_what_is_being_sent() {
        let mut buffers = Buffers::new(8, 1, 4).unwrap();
        let (first, second) = (buffers.take().unwrap(), buffers.take().unwrap());
        buffers.bytes_mut(first).copy_from_slice(b"abc.....");
        buffers.bytes_mut(second).copy_from_slice(b"defghijk");
        buffers.begin_send(first, 1, 2);
        buffers.gather(first, 3, second, 5, 3);
        assert_eq!(buffers.bytes(first, 0, 8), b"abcdefgh");
        assert_eq!(buffers.bytes(second, 0, 3), b"ijk");
        buffers.end_send(first.0);
        buffers.gather(first, 0, second, 3, 0);
        assert_eq!(buffers.bytes(first, 0, 8), b"ijkdefgh");
    }

    #[test]
    fn misuse_panics_with_the_reason() {
        let misuse = |f: fn(&mut Buffers, BufferId)| {
            let result = std::panic::catch_unwind(|| {
                let mut buffers = Buffers::new(64, 1, 4).unwrap();
                let held = buffers.take().unwrap();
                f(&mut buffers, held);
            });
            *result.unwrap_err().downcast::<String>().unwrap()
        };
        let twice = misuse(|buffers, held| {
            buffers.recycle(held);
            buffers.recycle(held);
        });
        assert!(twice.contains("recycled while Free"), "{twice}");
        let sending = misuse(|buffers, held| {
            buffers.begin_send(held, 0, 1);
            buffers.bytes_mut(held);
        });
        assert!(sending.contains("written while Sending"), "{sending}");
        let kernel = misuse(|buffers, _| {
            buffers.bytes(BufferId(0), 0, 1);
        });
        assert!(kernel.contains("read while not held"), "{kernel}");
        let sent = misuse(|buffers, held| {
            let other = buffers.take().unwrap();
            buffers.begin_send(held, 2, 3);
            buffers.gather(held, 4, other, 1, 0);
        });
        assert!(sent.contains("into what is being sent"), "{sent}");
        let range = misuse(|buffers, held| {
            buffers.bytes(held, 60, 5);
        });
        assert!(range.contains("outside the buffer"), "{range}");
    }
}
