//! The operations of a ring: from a typed call to an entry in the submission queue.
//!
//! Nothing here enters the kernel unless the queue is full, and nothing allocates. Each call that
//! hands memory to the kernel says why that memory stays valid.
//!
//! A descriptor given to an operation must stay open until the operation was submitted (the next
//! [`Ring::submit_and_wait`]); from then on the kernel holds its own reference. [`Ring::close`] is
//! staged behind them, so closing through the ring is always in order.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, Fd};
use socket2::SockAddr;

use crate::buffers::BufferId;
#[cfg(doc)]
use crate::completion::CompletionKind;
use crate::completion::Interest;
use crate::ring::{ADDRESSES, GROUP, Ring};
use crate::setup::ReceivesBy;
use crate::sqe;
use crate::token::{Kind, Operation, Token, UserData};

impl Ring {
    /// Accepts connections until it fails or is cancelled: [`CompletionKind::Accepted`], many.
    /// Accepted sockets are non-blocking and close-on-exec. Ends on an error such as EMFILE;
    /// staging it again at once then fails at once.
    pub fn accept_multishot(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
            .build();
        // SAFETY: the entry names no memory.
        unsafe { self.stage(entry, UserData::new(Kind::Accept, token)) };
    }

    /// Receives at most `budget` bytes (more than 0) into buffers of the ring:
    /// [`CompletionKind::Received`], one or many.
    ///
    /// It ends (no `more`) once less than one buffer of the budget is left, at the end of the
    /// stream, on an error, or earlier: a one-shot receive ends after each completion, and a
    /// multishot may end when the completion queue is full. To go on, stage another one with what
    /// is left of the budget, or with a new one. Never more than `budget` bytes are taken from the
    /// socket: what the caller does not ask for stays there, and the peer's window closes.
    ///
    /// A budget of several buffers makes one operation serve many arrivals; up to one buffer it
    /// is a one-shot.
    ///
    /// ENOBUFS says that the kernel had no buffer. The window has been enlarged if that was
    /// possible; stage the receive again once [`Ring::buffers_published`] is not 0.
    pub fn receive(&mut self, fd: BorrowedFd<'_>, token: Token, budget: u32) {
        assert!(budget > 0, "a receive of 0 bytes would be unlimited");
        let (fd, size) = (Fd(fd.as_raw_fd()), self.buffers.size());
        let multishot = match self.report.receives_by {
            ReceivesBy::Budget => multishot_limit(budget, size),
            ReceivesBy::OneShot => None,
        };
        let entry = match multishot {
            Some(limit) => sqe::receive_until(fd, GROUP, limit),
            None => {
                let len = budget.min(size);
                let recv = opcode::Recv::new(fd, std::ptr::null_mut(), len).buf_group(GROUP);
                recv.build().flags(Flags::BUFFER_SELECT)
            }
        };
        // SAFETY: the kernel writes into buffers of the registered group only, which are state
        // Kernel until a completion hands them over, and mapped until the last one was reaped.
        unsafe { self.stage(entry, UserData::new(Kind::Receive, token)) };
    }

    /// Sends `start..start + len` of a held buffer: [`CompletionKind::Sent`], possibly with a short
    /// count. Until then the buffer can be read and [gathered into](Ring::gather), but not written,
    /// sent again or recycled.
    ///
    /// It does not wait for room: EAGAIN says that there is none. The kernel would wait by polling
    /// the socket, which is ready for ever once its peer has shut down; then it would try over and
    /// over, and leave the send to a thread (`iou-wrk-*`) that it blocks.
    pub fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        buffer: BufferId,
        start: u32,
        len: u32,
    ) {
        let bytes = self.buffers.begin_send(buffer, start, len);
        let entry = opcode::Send::new(Fd(fd.as_raw_fd()), bytes, len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
            .build();
        let data = UserData {
            buffer: buffer.0,
            ..UserData::new(Kind::Send, token)
        };
        // SAFETY: the range lies in a buffer of state Sending, which nobody writes to or gives away
        // until its completion, and which is mapped until the last completion was reaped.
        unsafe { self.stage(entry, data) };
    }

    /// Connects a socket of TCP: one [`CompletionKind::Connected`] in every case. There is no time
    /// limit; cancel it instead.
    ///
    /// The kernel takes any error noted on the socket for the end of the connect, and where it is
    /// none that ends one (a SYN that this host's own firewall rejects, Linux 6.18) for success. So
    /// what it tells of a success counts only if the socket has room to send, which one that is
    /// still connecting has not.
    pub fn connect(&mut self, fd: BorrowedFd<'_>, token: Token, to: &SockAddr) {
        if self.addresses_used == ADDRESSES {
            self.make_room(self.report.sq_entries);
        }
        // A link does not reach over a submit: both or none.
        if !self.make_room(2) {
            return;
        }
        let slot = &mut self.addresses[self.addresses_used];
        *slot = to.clone();
        let fd = Fd(fd.as_raw_fd());
        let connect = opcode::Connect::new(fd, slot.as_ptr().cast(), slot.len())
            .build()
            .flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
        let poll = opcode::PollAdd::new(fd, Interest::Writable.mask()).build();
        self.addresses_used += 1;
        // A failed connect silences the poll, as in `poll_then_splice`.
        let connect = connect.user_data(UserData::new(Kind::Connect, token).pack());
        // SAFETY: the kernel copies the address while it takes the entry
        // (IORING_FEAT_SUBMIT_STABLE, required); the slot is not reused before every staged entry
        // was taken.
        unsafe { self.push(&connect) };
        // SAFETY: the entry names no memory.
        unsafe { self.stage(poll, UserData::new(Kind::ConnectPoll, token)) };
    }

    /// Waits once until `fd` is ready, and completes at once if it is: [`CompletionKind::Polled`].
    pub fn poll(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) {
        let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), interest.mask()).build();
        // SAFETY: the entry names no memory.
        unsafe { self.stage(entry, UserData::new(Kind::Poll, token)) };
    }

    /// Reports each time `fd` becomes ready: [`CompletionKind::Polled`], many. It wakes on changes:
    /// whoever gets one must read or write until EAGAIN before the next.
    pub fn poll_multishot(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) {
        let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), interest.mask())
            .multi(true)
            .build();
        // SAFETY: the entry names no memory.
        unsafe { self.stage(entry, UserData::new(Kind::Poll, token)) };
    }

    /// Waits until `poll_on` is ready, then moves up to `len` bytes: one
    /// [`CompletionKind::Spliced`] in every case.
    ///
    /// One of `from` and `to` is a pipe; both are non-blocking. The kernel hands each such splice
    /// to a thread of its own (`iou-wrk-*`), in every version; that is why the other relay engines
    /// do not use it.
    pub fn poll_then_splice(
        &mut self,
        poll_on: BorrowedFd<'_>,
        interest: Interest,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        len: u32,
        token: Token,
    ) {
        // A link does not reach over a submit: both or none.
        if !self.make_room(2) {
            return;
        }
        let poll = opcode::PollAdd::new(Fd(poll_on.as_raw_fd()), interest.mask())
            .build()
            .flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
        let splice = opcode::Splice::new(Fd(from.as_raw_fd()), -1, Fd(to.as_raw_fd()), -1, len)
            .flags(libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK)
            .build();
        // A failed poll that skips its success also silences the splice it is linked to
        // (io_uring_enter(2)), and its own completion stands for both.
        let poll = poll.user_data(UserData::new(Kind::SplicePoll, token).pack());
        // SAFETY: the entry names no memory.
        unsafe { self.push(&poll) };
        // SAFETY: the entry names no memory: both offsets are -1.
        unsafe { self.stage(splice, UserData::new(Kind::Splice, token)) };
    }

    /// Closes a descriptor, behind everything staged so far. No completion.
    pub fn close(&mut self, fd: OwnedFd) {
        if !self.make_room(1) {
            // The ring is broken and `fd` is closed by its drop.
            return;
        }
        let entry = opcode::Close::new(Fd(fd.into_raw_fd()))
            .build()
            .flags(Flags::SKIP_SUCCESS);
        let entry = entry.user_data(UserData::internal(Kind::Close).pack());
        // SAFETY: the entry names no memory; the descriptor was owned and is given up here.
        unsafe { self.push(&entry) };
    }

    /// Cancels the operation with that token. It then completes with ECANCELED, or with its result
    /// if that came first, in either case without `more`. No completion of its own. The kernel finds
    /// it by its token: the cost does not grow with the number of operations in flight.
    pub fn cancel(&mut self, target: Token, operation: Operation) {
        let kinds: &[Kind] = match operation {
            Operation::Accept => &[Kind::Accept],
            Operation::Receive => &[Kind::Receive],
            Operation::Poll => &[Kind::Poll],
            // Whichever of the two is pending; the other one is not found.
            Operation::Connect => &[Kind::Connect, Kind::ConnectPoll],
            Operation::Splice => &[Kind::SplicePoll, Kind::Splice],
        };
        for kind in kinds {
            let data = UserData::new(*kind, target);
            self.stage_cancel(CancelBuilder::user_data(data.pack()));
        }
    }

    pub(crate) fn stage_cancel(&mut self, target: CancelBuilder) {
        if !self.make_room(1) {
            return;
        }
        let entry = opcode::AsyncCancel2::new(target)
            .build()
            .flags(Flags::SKIP_SUCCESS);
        let entry = entry.user_data(UserData::internal(Kind::Cancel).pack());
        // SAFETY: the entry names no memory.
        unsafe { self.push(&entry) };
    }
}

/// After how many bytes a multishot receive must end so that it cannot exceed `budget`: the kernel
/// ends it with the completion that reaches the limit, which may overshoot by all but one byte of
/// its buffer. `None` if a single buffer may hold it all.
fn multishot_limit(budget: u32, buffer_size: u32) -> Option<u32> {
    (budget > buffer_size).then(|| budget - (buffer_size - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_limit_never_exceeds_its_budget_and_leaves_less_than_a_buffer(
            budget in 1..=u32::MAX,
            size in 1..=u32::MAX,
        ) {
            let Some(limit) = multishot_limit(budget, size) else {
                prop_assert!(budget <= size);
                return Ok(());
            };
            prop_assert!(limit > 0, "0 would be unlimited");
            let most = u64::from(limit) + u64::from(size) - 1;
            prop_assert_eq!(most, u64::from(budget));
        }
    }
}
