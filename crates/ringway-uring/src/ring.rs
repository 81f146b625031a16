//! One ring of one thread: stage operations, enter once, reap results.
//!
//! It is not a scheduler and keeps no table of operations: a completion carries its own token. It decides nothing about
//! connections; what it guarantees is that memory outlives its use by the kernel and that no completion is lost.
//!
//! Invariants: `in_flight` counts operations whose last completion was not reaped; the buffer memory is unmapped only
//! at 0. Entries are submitted in the order they were staged.
//!
//! A descriptor given to an operation must stay open until the operation was submitted (the next
//! [`Ring::submit_and_wait`]); from then on the kernel holds its own reference. [`Ring::close`] is staged behind them,
//! so closing through the ring is always in order.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{IoUring, cqueue, opcode};
use socket2::SockAddr;

use crate::buffers::{BufferId, Buffers};
use crate::completion::{Completion, CompletionKind, Interest, Readiness};
use crate::errno::Errno;
use crate::raw::{self, RingHandle, Waiting};
use crate::selftest;
use crate::setup::{self, ReceiveStyle, ReceivesBy, RingParams, SetupError, SetupReport};
use crate::sqe;
use crate::token::{Kind, Operation, Token, UserData};

/// The only buffer group of a ring.
const GROUP: u16 = 0;
/// Addresses of connects staged and not yet submitted; one more submits first.
const ADDRESSES: usize = 64;
/// With `min_wait`, so many completions end the wait early.
const BATCH: u32 = 32;
/// Attempts to make room in a full submission queue before the ring counts as broken.
const ROOM_ATTEMPTS: u32 = 64;
/// Turns, of [`DRAIN_WAIT`] each, that dropping a ring waits for its operations to end.
const DRAIN_TURNS: u32 = 100;
const DRAIN_WAIT: Duration = Duration::from_millis(10);

/// How long [`Ring::submit_and_wait`] waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// The longest to wait for a first completion; `None` is for ever, zero is not at all.
    pub timeout: Option<Duration>,
    /// Collect completions for this long (microseconds matter) before returning with fewer than 32; trades latency for
    /// fewer turns. Ignored where the kernel has no such wait: [`SetupReport::min_wait`].
    pub min_wait: Option<Duration>,
}

/// The kernel refused an enter in a way that repeating does not cure. The ring is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("io_uring_enter failed with {staged} operations staged: {errno}")]
pub struct EnterError {
    /// EBADR says that completions were lost for want of memory; others are bugs or a ring closed from outside.
    pub errno: Errno,
    /// Operations that were not submitted.
    pub staged: u32,
}

/// Counters since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// io_uring_enter(2) calls.
    pub enters: u64,
    /// Operations the kernel took.
    pub submissions: u64,
    /// Completions reaped, internal ones included.
    pub completions: u64,
    /// Enters made while the kernel kept completions aside because the queue was full. None is lost by that.
    pub cq_overflows: u64,
    /// Descriptors whose close failed.
    pub close_failures: u64,
    /// Completions no operation of this ring can have caused: always 0.
    pub unknown: u64,
}

/// An io_uring with its buffers. Bound to the thread that made it.
pub struct Ring {
    // Dropped in this order: the ring's descriptor is closed before the buffers are unmapped.
    ring: IoUring,
    buffers: Buffers,
    /// Targets of staged connects, read by the kernel at submit.
    addresses: Box<[SockAddr]>,
    addresses_used: usize,
    handle: RingHandle,
    report: SetupReport,
    stats: RingStats,
    in_flight: u32,
    /// Set by a staging that found no room; reported by the next wait.
    broken: Option<EnterError>,
    /// SINGLE_ISSUER: only the thread that made the ring may enter it.
    not_send: PhantomData<*const ()>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("report", &self.report)
            .field("stats", &self.stats)
            .field("in_flight", &self.in_flight)
            .field("buffers_held", &self.buffers.held())
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// [`SetupError`] names the cause and the remedy.
    pub fn new(params: &RingParams) -> Result<Ring, SetupError> {
        let receives_by = match params.receive_style {
            ReceiveStyle::OneShot => ReceivesBy::OneShot,
            ReceiveStyle::Auto => selftest::receives_by()?,
        };
        Ring::with_receive(params, receives_by)
    }

    pub(crate) fn with_receive(
        params: &RingParams,
        receives_by: ReceivesBy,
    ) -> Result<Ring, SetupError> {
        let (ring, flags) = setup::build(params)?;
        let buffers = Buffers::new(
            params.buffer_size,
            params.buffers_initial,
            params.buffers_max,
        )
        .map_err(|error| SetupError::at("the buffers", &error))?;
        let (address, entries) = buffers.ring();
        // SAFETY: the ring of buffers is page-aligned memory of `entries` entries, owned by `buffers`, which is dropped
        // after `ring` and leaked if operations were still in flight then.
        let registered = unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, entries, GROUP, 0)
        };
        registered.map_err(|error| match Errno::from_io(&error).0 {
            libc::EINVAL => SetupError::TooOld {
                missing: "IORING_REGISTER_PBUF_RING",
                since: "5.19",
            },
            _ => SetupError::at("registering the buffers", &error),
        })?;
        let handle = match raw::register_ring_fd(ring.as_raw_fd()) {
            Ok(index) => RingHandle::Registered(index),
            Err(_) => RingHandle::Descriptor(ring.as_raw_fd()),
        };
        let report = SetupReport {
            sq_entries: ring.params().sq_entries(),
            cq_entries: ring.params().cq_entries(),
            flags,
            registered_ring_fd: matches!(handle, RingHandle::Registered(_)),
            min_wait: ring.params().is_feature_min_timeout(),
            no_iowait: ring.params().is_feature_no_iowait(),
            receives_by,
        };
        let nowhere = SockAddr::from(std::net::SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(Ring {
            ring,
            buffers,
            addresses: vec![nowhere; ADDRESSES].into_boxed_slice(),
            addresses_used: 0,
            handle,
            report,
            stats: RingStats::default(),
            in_flight: 0,
            broken: None,
            not_send: PhantomData,
        })
    }

    /// What this ring uses of what was asked for.
    pub fn report(&self) -> &SetupReport {
        &self.report
    }

    /// Counters since the ring was made.
    pub fn stats(&self) -> RingStats {
        self.stats
    }

    /// Operations staged or submitted whose last completion was not reaped (closes and cancels not counted).
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Accepts connections until it fails or is cancelled: [`CompletionKind::Accepted`], many. Accepted sockets are
    /// non-blocking and close-on-exec. Ends on an error such as EMFILE; staging it again at once then fails at once.
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
        let entry = match self.report.receives_by {
            // The kernel ends the operation with the completion that reaches the limit, which may
            // overshoot by all but one byte of its buffer.
            ReceivesBy::Budget if budget > size => {
                sqe::receive_until(fd, GROUP, budget - (size - 1))
            }
            ReceivesBy::Budget | ReceivesBy::OneShot => {
                let len = budget.min(size);
                let recv = opcode::Recv::new(fd, std::ptr::null_mut(), len).buf_group(GROUP);
                recv.build().flags(Flags::BUFFER_SELECT)
            }
        };
        // SAFETY: the kernel writes into buffers of the registered group only, which are state Kernel until a
        // completion hands them over, and mapped until the last one was reaped.
        unsafe { self.stage(entry, UserData::new(Kind::Receive, token)) };
    }

    /// Sends `start..start + len` of a held buffer: [`CompletionKind::Sent`], possibly with a short count. Until then
    /// the buffer can be read but not written, sent again or recycled.
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
            .flags(libc::MSG_NOSIGNAL)
            .build();
        let data = UserData {
            buffer: buffer.0,
            ..UserData::new(Kind::Send, token)
        };
        // SAFETY: the range lies in a buffer of state Sending, which nobody writes to or gives away until its
        // completion, and which is mapped until the last completion was reaped.
        unsafe { self.stage(entry, data) };
    }

    /// Connects a socket: [`CompletionKind::Connected`]. There is no time limit; cancel it instead.
    pub fn connect(&mut self, fd: BorrowedFd<'_>, token: Token, to: &SockAddr) {
        if self.addresses_used == ADDRESSES {
            self.make_room(self.report.sq_entries);
        }
        if self.broken.is_some() {
            return;
        }
        let slot = &mut self.addresses[self.addresses_used];
        *slot = to.clone();
        let entry =
            opcode::Connect::new(Fd(fd.as_raw_fd()), slot.as_ptr().cast(), slot.len()).build();
        self.addresses_used += 1;
        // SAFETY: the kernel copies the address while it takes the entry (IORING_FEAT_SUBMIT_STABLE, required); the
        // slot is not reused before every staged entry was taken.
        unsafe { self.stage(entry, UserData::new(Kind::Connect, token)) };
    }

    /// Waits once until `fd` is ready, and completes at once if it is: [`CompletionKind::Polled`].
    pub fn poll(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) {
        let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), interest.mask()).build();
        // SAFETY: the entry names no memory.
        unsafe { self.stage(entry, UserData::new(Kind::Poll, token)) };
    }

    /// Reports each time `fd` becomes ready: [`CompletionKind::Polled`], many. It wakes on changes: whoever gets one
    /// must read or write until EAGAIN before the next.
    pub fn poll_multishot(&mut self, fd: BorrowedFd<'_>, token: Token, interest: Interest) {
        let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), interest.mask())
            .multi(true)
            .build();
        // SAFETY: the entry names no memory.
        unsafe { self.stage(entry, UserData::new(Kind::Poll, token)) };
    }

    /// Waits until `poll_on` is ready, then moves up to `len` bytes: one [`CompletionKind::Spliced`] in every case.
    ///
    /// One of `from` and `to` is a pipe; both are non-blocking. The kernel hands each such splice to a thread of its
    /// own (`iou-wrk-*`), in every version; that is why the other relay engines do not use it.
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
        // A failed poll that skips its success also silences the splice it is linked to (io_uring_enter(2)), and its
        // own completion stands for both.
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

    /// Cancels the operation with that token. It then completes with ECANCELED, or with its result if that came first,
    /// in either case without `more`. Sends are cancelled by [`Ring::cancel_all`]. No completion of its own.
    pub fn cancel(&mut self, target: Token, operation: Operation) {
        let kinds: &[Kind] = match operation {
            Operation::Accept => &[Kind::Accept],
            Operation::Receive => &[Kind::Receive],
            Operation::Connect => &[Kind::Connect],
            Operation::Poll => &[Kind::Poll],
            // Whichever of the two is pending; the other one is not found.
            Operation::Splice => &[Kind::SplicePoll, Kind::Splice],
        };
        for kind in kinds {
            self.stage_cancel(CancelBuilder::user_data(
                UserData::new(*kind, target).pack(),
            ));
        }
    }

    /// Cancels everything in flight on a descriptor; each operation completes as in [`Ring::cancel`]. The descriptor of
    /// a [`Ring::poll_then_splice`] is the polled one. No completion of its own.
    pub fn cancel_all(&mut self, fd: BorrowedFd<'_>) {
        self.stage_cancel(CancelBuilder::fd(Fd(fd.as_raw_fd())).all());
    }

    fn stage_cancel(&mut self, target: CancelBuilder) {
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

    /// Submits what is staged and waits, in one system call. Returns when a completion is there, the time has passed,
    /// or a signal arrived: whoever needs a completion reaps and waits again. Runs the kernel's deferred work also with
    /// a timeout of zero.
    ///
    /// # Errors
    /// [`EnterError`] if the ring is of no further use.
    pub fn submit_and_wait(&mut self, wait: Wait) -> Result<(), EnterError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let no_wait = wait.timeout == Some(Duration::ZERO);
        let min_wait = wait.min_wait.filter(|_| self.report.min_wait && !no_wait);
        let waiting = Waiting {
            min_complete: match (no_wait, min_wait) {
                (true, _) => 0,
                (false, None) => 1,
                (false, Some(_)) => BATCH,
            },
            timeout: wait.timeout.filter(|_| !no_wait),
            min_wait_us: min_wait.map_or(0, |wait| wait.as_micros().try_into().unwrap_or(u32::MAX)),
            no_iowait: self.report.no_iowait,
        };
        match self.enter(Some(waiting)) {
            Ok(()) => Ok(()),
            Err(Errno(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(errno) => Err(EnterError {
                errno,
                staged: self.staged(),
            }),
        }
    }

    /// Moves completions to `out` until it holds `most`, without allocating if it has room for so many.
    pub fn reap(&mut self, out: &mut Vec<Completion>, most: usize) {
        let mut queue = self.ring.completion();
        while out.len() < most {
            let Some(entry) = queue.next() else { return };
            self.stats.completions += 1;
            let Some(data) = UserData::unpack(entry.user_data()) else {
                self.stats.unknown += 1;
                continue;
            };
            let more = cqueue::more(entry.flags());
            let Some(kind) = complete(data, &entry, &mut self.buffers, &mut self.stats) else {
                continue;
            };
            if !more {
                self.in_flight -= 1;
            }
            out.push(Completion {
                token: data.token,
                kind,
                more,
            });
        }
    }

    /// `start..start + len` of a buffer that is held or being sent.
    pub fn bytes(&self, buffer: BufferId, start: u32, len: u32) -> &[u8] {
        self.buffers.bytes(buffer, start, len)
    }

    /// A whole held buffer, to write to.
    pub fn bytes_mut(&mut self, buffer: BufferId) -> &mut [u8] {
        self.buffers.bytes_mut(buffer)
    }

    /// A free buffer for bytes of one's own; it is held until recycled. `None` if the kernel and the caller have all.
    pub fn take_buffer(&mut self) -> Option<BufferId> {
        self.buffers.take()
    }

    /// Gives a held buffer back. The kernel sees it at the next submit.
    pub fn recycle(&mut self, buffer: BufferId) {
        self.buffers.recycle(buffer);
    }

    /// Bytes of each buffer.
    pub fn buffer_size(&self) -> u32 {
        self.buffers.size()
    }

    /// Buffers [`Ring::take_buffer`] can give out.
    pub fn buffers_free(&self) -> u32 {
        self.buffers.free()
    }

    /// Buffers the caller holds or is sending.
    pub fn buffers_held(&self) -> u32 {
        self.buffers.held()
    }

    /// Buffers the kernel has to receive into, or will have from the next submit on.
    pub fn buffers_published(&self) -> u32 {
        self.buffers.published()
    }

    /// Limits the kernel threads that serve [`Ring::poll_then_splice`]: those for files and those for sockets and
    /// pipes. 0 leaves a limit as it is.
    ///
    /// # Errors
    /// As io_uring_register(2).
    pub fn set_iowq_max_workers(&self, bounded: u32, unbounded: u32) -> std::io::Result<()> {
        self.ring
            .submitter()
            .register_iowq_max_workers(&mut [bounded, unbounded])
    }

    /// Pins those threads to one CPU.
    ///
    /// # Errors
    /// As io_uring_register(2); InvalidInput for a CPU number beyond 1023.
    pub fn set_iowq_affinity(&self, cpu: usize) -> std::io::Result<()> {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
        }
        // SAFETY: cpu_set_t is an array of integers; all zero is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `cpu` is inside the set (checked above).
        unsafe { libc::CPU_SET(cpu, &mut set) };
        self.ring.submitter().register_iowq_aff(&set)
    }

    /// Stages an operation that completes.
    ///
    /// # Safety
    /// Memory the entry names stays valid, and its owner's rules hold, until the operation's last completion.
    unsafe fn stage(&mut self, entry: Entry, data: UserData) {
        if !self.make_room(1) {
            return;
        }
        let entry = entry.user_data(data.pack());
        // SAFETY: promised by the caller.
        unsafe { self.push(&entry) };
        self.in_flight += 1;
    }

    /// Puts an entry into the submission queue, which has room.
    ///
    /// # Safety
    /// As for [`Ring::stage`].
    unsafe fn push(&mut self, entry: &Entry) {
        let mut queue = self.ring.submission();
        // SAFETY: promised by the caller.
        let pushed = unsafe { queue.push(entry) };
        pushed.expect("invariant: make_room was called");
    }

    /// Submits until `entries` fit; `false` if the ring is broken.
    fn make_room(&mut self, entries: u32) -> bool {
        let capacity = self.report.sq_entries;
        for _ in 0..ROOM_ATTEMPTS {
            if self.broken.is_some() {
                return false;
            }
            if capacity - self.staged() >= entries {
                return true;
            }
            match self.enter(None) {
                Ok(()) | Err(Errno(libc::EINTR)) => {}
                // Out of memory for requests: one that ends makes room.
                Err(Errno(libc::EBUSY | libc::EAGAIN)) => std::thread::yield_now(),
                Err(errno) => {
                    self.broken = Some(EnterError {
                        errno,
                        staged: self.staged(),
                    })
                }
            }
        }
        self.broken = Some(EnterError {
            errno: Errno(libc::EAGAIN),
            staged: self.staged(),
        });
        false
    }

    fn staged(&mut self) -> u32 {
        self.ring.submission().len() as u32
    }

    /// One system call.
    fn enter(&mut self, waiting: Option<Waiting>) -> Result<(), Errno> {
        self.buffers.publish();
        let queue = self.ring.submission();
        let staged = queue.len() as u32;
        self.stats.cq_overflows += u64::from(queue.cq_overflow());
        drop(queue);
        self.stats.enters += 1;
        let submitted = raw::enter(self.handle, staged, waiting)?;
        self.stats.submissions += u64::from(submitted);
        if submitted == staged {
            self.addresses_used = 0;
        }
        Ok(())
    }
}

impl Drop for Ring {
    /// Ends every operation, closes descriptors that were accepted and never reaped, and only then lets the memory go.
    fn drop(&mut self) {
        self.stage_cancel(CancelBuilder::any());
        let mut out = Vec::with_capacity(64);
        for _ in 0..DRAIN_TURNS {
            self.reap(&mut out, 64);
            if !out.is_empty() {
                out.clear();
                continue;
            }
            let drained = self.in_flight == 0 && self.staged() == 0;
            let wait = Wait {
                timeout: Some(DRAIN_WAIT),
                min_wait: None,
            };
            if drained || self.submit_and_wait(wait).is_err() {
                break;
            }
        }
        if let RingHandle::Registered(index) = self.handle {
            // A failure leaves the ring alive until the thread ends, which the leak below makes harmless.
            if raw::unregister_ring_fd(self.ring.as_raw_fd(), index).is_err() {
                self.buffers.leak();
            }
        }
        if self.in_flight > 0 {
            self.buffers.leak();
        }
    }
}

/// Reads one entry of the completion queue; `None` if it is none of the caller's business.
fn complete(
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
            // SAFETY: a successful accept made this descriptor for us, and this completion is read once.
            unsafe { OwnedFd::from_raw_fd(fd as i32) }
        })),
        Kind::Receive => received(result, entry.flags(), buffers),
        Kind::Send => CompletionKind::Sent {
            result,
            buffer: buffers.end_send(data.buffer),
        },
        Kind::Connect => CompletionKind::Connected(result.map(drop)),
        Kind::Poll => CompletionKind::Polled(result.map(Readiness)),
        Kind::Splice => CompletionKind::Spliced(result),
        // Success is skipped, so this is the failure that stands for the splice.
        Kind::SplicePoll => CompletionKind::Spliced(result),
        Kind::Close => {
            stats.close_failures += 1;
            return None;
        }
        Kind::Cancel => return None,
    })
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
