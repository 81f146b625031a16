//! Pipes for splice(2), and the two splices through them.
//!
//! Pipes are scarce (`fs.pipe-user-pages-soft`: beyond 16384 pages per user the kernel shrinks or
//! refuses new ones) and cost two system calls, so a worker keeps a bounded pool. Invariant: a
//! pooled pipe is empty; one with bytes of some connection in it is destroyed, never given to
//! another.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::errno::Errno;

/// A non-blocking, close-on-exec pipe.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

impl Pipe {
    /// A pipe of `size` bytes if the limits allow that, else of what they allow: see
    /// [`Pipe::capacity`].
    ///
    /// # Errors
    /// As pipe2(2): EMFILE, ENFILE.
    pub fn new(size: usize) -> Result<Pipe, Errno> {
        let mut ends: [RawFd; 2] = [-1; 2];
        // SAFETY: the array has room for the two descriptors pipe2 writes.
        let result = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if result < 0 {
            return Err(Errno::last());
        }
        // SAFETY: pipe2 has just made this descriptor for us.
        let read = unsafe { OwnedFd::from_raw_fd(ends[0]) };
        // SAFETY: as above.
        let write = unsafe { OwnedFd::from_raw_fd(ends[1]) };
        let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
        // SAFETY: F_SETPIPE_SZ takes an integer.
        let set = unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, size) };
        let capacity = if set >= 0 {
            set
        } else {
            // EPERM or EBUSY: the user's pages are used up. The pipe stays as it is.
            // SAFETY: F_GETPIPE_SZ takes nothing.
            unsafe { libc::fcntl(write.as_raw_fd(), libc::F_GETPIPE_SZ) }
        };
        Ok(Pipe {
            read,
            write,
            capacity: usize::try_from(capacity).unwrap_or(0),
        })
    }

    /// Bytes it holds at most, if they come in full pages.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The end bytes come out of.
    pub fn read_end(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// The end bytes go into.
    pub fn write_end(&self) -> BorrowedFd<'_> {
        self.write.as_fd()
    }
}

/// What a pipe that is given back holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residue {
    /// Everything that went in came out.
    Empty,
    /// Some bytes are left.
    Bytes,
}

/// The pipes of one worker. Every pipe taken must be given back, or it counts as alive for ever.
#[derive(Debug)]
pub struct PipePool {
    most: usize,
    size: usize,
    idle: Vec<Pipe>,
    alive: usize,
    shrunk: usize,
    failures: u64,
    last_failure: Option<Errno>,
}

impl PipePool {
    /// At most `most` pipes alive at a time, of `size` bytes where allowed. None is made yet.
    pub fn new(most: usize, size: usize) -> PipePool {
        PipePool {
            most,
            size,
            idle: Vec::with_capacity(most),
            alive: 0,
            shrunk: 0,
            failures: 0,
            last_failure: None,
        }
    }

    /// An empty pipe, the most recently used one first. `None` at the limit, or if the kernel
    /// refused one: [`PipePool::failures`].
    pub fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.alive >= self.most {
            return None;
        }
        match Pipe::new(self.size) {
            Ok(pipe) => {
                self.alive += 1;
                self.shrunk += usize::from(pipe.capacity < self.size);
                Some(pipe)
            }
            Err(errno) => {
                self.failures += 1;
                self.last_failure = Some(errno);
                None
            }
        }
    }

    /// Takes a pipe back: pooled if empty, destroyed otherwise.
    pub fn give_back(&mut self, pipe: Pipe, residue: Residue) {
        match residue {
            Residue::Empty if self.alive <= self.most => self.idle.push(pipe),
            Residue::Empty | Residue::Bytes => self.forget(&pipe),
        }
    }

    /// What is about to be closed is not alive any more.
    fn forget(&mut self, pipe: &Pipe) {
        self.alive -= 1;
        self.shrunk -= usize::from(pipe.capacity < self.size);
    }

    /// Keeps to `most` pipes from now on, and to the bytes that so many of `size` hold: its own stay of the
    /// size they were made with. Those beyond it are closed when they are given back.
    pub fn limit(&mut self, most: usize, size: usize) {
        let by_bytes = most.saturating_mul(size) / self.size.max(1);
        self.most = most.min(by_bytes);
        while self.alive > self.most
            && let Some(pipe) = self.idle.pop()
        {
            self.forget(&pipe);
        }
    }

    /// Pipes that exist, taken or idle.
    pub fn alive(&self) -> usize {
        self.alive
    }

    /// Pipes ready to be taken.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Pipes alive that the kernel made smaller than asked: `fs.pipe-user-pages-soft` or
    /// `fs.pipe-max-size` is reached.
    pub fn shrunk(&self) -> usize {
        self.shrunk
    }

    /// Pipes the kernel refused to make.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Why it refused the last one.
    pub fn last_failure(&self) -> Option<Errno> {
        self.last_failure
    }
}

/// Moves up to `len` bytes from a non-blocking socket into a pipe; 0 is end of file.
///
/// # Errors
/// EAGAIN: the socket is empty, or the pipe is full. Others as splice(2).
pub fn splice_in(socket: BorrowedFd<'_>, pipe: &Pipe, len: usize) -> Result<usize, Errno> {
    splice(socket, pipe.write_end(), len)
}

/// Moves up to `len` bytes from a pipe into a non-blocking socket. SPLICE_F_MORE is never set: it
/// would hold back the last partial segment for 200 ms.
///
/// # Errors
/// EAGAIN: the socket is full, or the pipe is empty. EPIPE: the peer is gone (SIGPIPE is raised
/// too, unless ignored, as the Rust runtime does). Others as splice(2).
pub fn splice_out(pipe: &Pipe, socket: BorrowedFd<'_>, len: usize) -> Result<usize, Errno> {
    splice(pipe.read_end(), socket, len)
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: usize) -> Result<usize, Errno> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let none = std::ptr::null_mut();
    loop {
        // SAFETY: both offsets are null, so no memory is named.
        let moved =
            unsafe { libc::splice(from.as_raw_fd(), none, to.as_raw_fd(), none, len, flags) };
        if moved >= 0 {
            return Ok(moved as usize);
        }
        match Errno::last() {
            Errno(libc::EINTR) => {}
            errno => return Err(errno),
        }
    }
}
