//! What the ring reports, in the caller's terms.
//!
//! Not a queue: completions are copied out of the kernel's ring by
//! [`Ring::reap`](crate::Ring::reap) and own what they carry. Dropping a completion with an
//! accepted descriptor closes it; a buffer in a completion must be recycled.

use std::fmt;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::cqueue;

use crate::buffers::{BufferId, Buffers};
use crate::errno::Errno;
use crate::ring::RingStats;
use crate::token::{Kind, Token, UserData};

/// One result of one operation.
#[derive(Debug)]
pub struct Completion {
    /// As given when the operation was staged.
    pub token: Token,
    /// The result.
    pub kind: CompletionKind,
    /// Whether the operation goes on and will complete again. `false` is its last completion.
    pub more: bool,
}

/// The result of an operation, by operation.
#[derive(Debug)]
pub enum CompletionKind {
    /// A connection, non-blocking and close-on-exec; or why the accept ended.
    Accepted(Result<OwnedFd, Errno>),
    /// Bytes, the end, or an error of the peer's half.
    Received {
        /// Number of bytes at the start of `buffer`; 0 is end of file.
        result: Result<u32, Errno>,
        /// Present exactly if at least one byte was received; the caller now holds it.
        buffer: Option<BufferId>,
        /// The kernel saw more bytes waiting in the socket. `false` also means "not known".
        nonempty: bool,
    },
    /// A send is over, in part or whole. The caller holds the buffer again, also after an error.
    Sent {
        /// Number of bytes the socket took, possibly fewer than given.
        result: Result<u32, Errno>,
        /// The buffer given to the send.
        buffer: BufferId,
    },
    /// A connection attempt is over. EINPROGRESS says that it goes nowhere, for a reason which
    /// [`pending_error`](crate::pending_error) tells.
    Connected(Result<(), Errno>),
    /// The descriptor is ready, or the poll failed.
    Polled(Result<Readiness, Errno>),
    /// Bytes moved by a polled splice; 0 is end of file. EAGAIN also if a signal kept the kernel's
    /// thread from moving any.
    Spliced(Result<u32, Errno>),
}

/// What a poll waits for. Errors and a full hang-up always wake it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes or the peer's end of stream: POLLIN | POLLRDHUP.
    Readable,
    /// Room to send: POLLOUT.
    Writable,
    /// The peer's end of stream only, bytes do not wake it: POLLRDHUP.
    Hangup,
}

impl Interest {
    pub(crate) fn mask(self) -> u32 {
        match self {
            Interest::Readable => (libc::POLLIN | libc::POLLRDHUP) as u32,
            Interest::Writable => libc::POLLOUT as u32,
            Interest::Hangup => libc::POLLRDHUP as u32,
        }
    }
}

/// The answer of a poll: poll(2) bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Readiness(pub(crate) u32);

impl Readiness {
    /// Bytes, or the end of the stream, can be read at once.
    pub const fn is_readable(self) -> bool {
        self.0 & libc::POLLIN as u32 != 0
    }

    /// A send would take at least one byte.
    pub const fn is_writable(self) -> bool {
        self.0 & libc::POLLOUT as u32 != 0
    }

    /// The peer has shut down its sending half.
    pub const fn is_read_closed(self) -> bool {
        self.0 & libc::POLLRDHUP as u32 != 0
    }

    /// Both halves are over.
    pub const fn is_hung_up(self) -> bool {
        self.0 & libc::POLLHUP as u32 != 0
    }

    /// The socket has a pending error: [`pending_error`](crate::pending_error) tells which.
    pub const fn is_error(self) -> bool {
        self.0 & libc::POLLERR as u32 != 0
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("readable", &self.is_readable())
            .field("writable", &self.is_writable())
            .field("read_closed", &self.is_read_closed())
            .field("hung_up", &self.is_hung_up())
            .field("error", &self.is_error())
            .finish()
    }
}

/// Reads one entry of the completion queue; `None` if it is none of the caller's business.
pub(crate) fn decode(
    data: UserData,
    entry: &cqueue::Entry,
    buffers: &mut Buffers,
    stats: &mut RingStats,
) -> Option<CompletionKind> {
    let result = match entry.result() {
        error @ ..0 => Err(Errno(-error)),
        count => Ok(count as u32),
    };
    Some(match data.kind {
        Kind::Accept => CompletionKind::Accepted(result.map(|fd| {
            // SAFETY: a successful accept made this descriptor for us, and this completion is read
            // once.
            unsafe { OwnedFd::from_raw_fd(fd as i32) }
        })),
        Kind::Receive => received(result, entry.flags(), buffers),
        Kind::Send => CompletionKind::Sent {
            result,
            buffer: buffers.end_send(data.buffer),
        },
        // Success is skipped, so this is the failure that stands for the poll.
        Kind::Connect => CompletionKind::Connected(result.map(drop)),
        Kind::ConnectPoll => CompletionKind::Connected(result.and_then(established)),
        Kind::Poll => CompletionKind::Polled(result.map(Readiness)),
        Kind::Splice => CompletionKind::Spliced(result.map_err(uninterrupted)),
        // Success is skipped, so this is the failure that stands for the splice.
        Kind::SplicePoll => CompletionKind::Spliced(result),
        Kind::Close => {
            stats.close_failures += 1;
            return None;
        }
        Kind::Cancel => return None,
    })
}

/// Whether there is a connection, or was one: what has broken since is for those who use it to find.
fn established(mask: u32) -> Result<(), Errno> {
    if Readiness(mask).is_writable() {
        Ok(())
    } else {
        Err(Errno(libc::EINPROGRESS))
    }
}

/// A splice runs on a thread that the signals of the process reach: one that stops it, or a
/// debugger's, is no failure of the connection.
fn uninterrupted(errno: Errno) -> Errno {
    if errno.is_interrupted() {
        Errno(libc::EAGAIN)
    } else {
        errno
    }
}

fn received(result: Result<u32, Errno>, flags: u32, buffers: &mut Buffers) -> CompletionKind {
    let buffer = cqueue::buffer_select(flags).map(|id| buffers.filled(id));
    let empty = !matches!(result, Ok(1..));
    if result == Err(Errno(libc::ENOBUFS)) {
        buffers.grow();
    }
    let buffer = match buffer {
        // Some kernels consume a buffer for an end of stream.
        Some(buffer) if empty => {
            buffers.recycle(buffer);
            None
        }
        other => other,
    };
    CompletionKind::Received {
        result,
        buffer,
        nonempty: cqueue::sock_nonempty(flags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `IORING_CQE_F_BUFFER`, and the buffer's number above bit 16.
    fn with_buffer(id: u32) -> u32 {
        1 | id << 16
    }

    #[test]
    fn an_interrupted_splice_is_to_be_tried_again() {
        for (given, told) in [
            (512, libc::EAGAIN),
            (libc::EINTR, libc::EAGAIN),
            (libc::EAGAIN, libc::EAGAIN),
            (libc::EPIPE, libc::EPIPE),
        ] {
            assert_eq!(uninterrupted(Errno(given)), Errno(told));
        }
    }

    #[test]
    fn a_buffer_comes_with_bytes_only() {
        let cases = [
            (Ok(5), with_buffer(0), true),
            (Ok(0), 0, false),
            // Some kernels consume a buffer for an end of stream or an error.
            (Ok(0), with_buffer(0), false),
            (Err(Errno(libc::ECONNRESET)), with_buffer(0), false),
            (Err(Errno(libc::ECANCELED)), 0, false),
        ];
        for (given, flags, held) in cases {
            let mut buffers = Buffers::new(64, 1, 4, 4).unwrap();
            let kind = received(given, flags, &mut buffers);
            let CompletionKind::Received { result, buffer, .. } = kind else {
                unreachable!()
            };
            assert_eq!((result, buffer.is_some()), (given, held), "{flags}");
            assert_eq!(buffers.held(), u32::from(held));
            assert_eq!(buffers.published() + buffers.free() + buffers.held(), 4);
        }
    }
}
