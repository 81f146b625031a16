//! One ring of one thread: enter once per turn, reap results, own the buffers.
//!
//! It is not a scheduler and keeps no table of operations: a completion carries its own token. It
//! decides nothing about connections; what it guarantees is that memory outlives its use by the
//! kernel and that no completion is lost. Its operations are staged in `stage`.
//!
//! Invariants: `in_flight` counts operations whose last completion was not reaped; the buffer
//! memory is unmapped only at 0. Entries are submitted in the order they were staged.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::CancelBuilder;
use io_uring::{IoUring, cqueue};
use socket2::SockAddr;

use crate::buffers::{BufferId, Buffers};
use crate::completion::{Completion, decode};
use crate::errno::Errno;
use crate::flags;
use crate::raw::{self, RingHandle, Waiting};
use crate::selftest;
use crate::setup::{ReceiveStyle, ReceivesBy, RingParams, SetupError, SetupReport};
use crate::token::UserData;

/// The only buffer group of a ring.
pub(crate) const GROUP: u16 = 0;
/// Addresses of connects staged and not yet submitted; one more submits first.
pub(crate) const ADDRESSES: usize = 64;
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
    /// Collect completions for this long (microseconds matter) before returning with fewer than 32;
    /// trades latency for fewer turns. Ignored where the kernel has no such wait:
    /// [`SetupReport::min_wait`].
    pub min_wait: Option<Duration>,
}

/// What can be seen of a ring without a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Completions to reap.
    Completions,
    /// The kernel has work for this thread: an enter, also one that does not wait, runs it.
    Work,
    /// Neither.
    Nothing,
}

/// The kernel refused an enter in a way that repeating does not cure. The ring is of no further
/// use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("io_uring_enter failed with {staged} operations staged: {errno}")]
pub struct EnterError {
    /// EBADR says that completions were lost for want of memory; others are bugs or a ring closed
    /// from outside.
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
    /// Enters made while the kernel kept completions aside because the queue was full. None is lost
    /// by that.
    pub cq_overflows: u64,
    /// Descriptors whose close failed.
    pub close_failures: u64,
    /// Completions no operation of this ring can have caused: always 0.
    pub unknown: u64,
}

/// An io_uring with its buffers. Bound to the thread that made it:
///
/// ```compile_fail
/// fn sent_to_another_thread(ring: ringway_uring::Ring) -> impl Send {
///     ring
/// }
/// ```
pub struct Ring {
    // Dropped in this order: the ring's descriptor is closed before the buffers are unmapped.
    ring: IoUring,
    pub(crate) buffers: Buffers,
    /// Targets of staged connects, read by the kernel at submit.
    pub(crate) addresses: Box<[SockAddr]>,
    pub(crate) addresses_used: usize,
    handle: RingHandle,
    pub(crate) report: SetupReport,
    stats: RingStats,
    pub(crate) in_flight: u32,
    /// Set by a staging that found no room; reported by the next wait.
    pub(crate) broken: Option<EnterError>,
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
        let (ring, flags) = flags::build(params)?;
        let buffers = Buffers::new(
            params.buffer_size,
            params.buffers_initial,
            params.buffers_lent_max,
            params.buffers_max,
        )
        .map_err(|error| SetupError::at("the buffers", &error))?;
        let (address, entries) = buffers.ring();
        // SAFETY: the ring of buffers is page-aligned memory of `entries` entries, owned by
        // `buffers`, which is dropped after `ring` and leaked if operations were still in flight
        // then.
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

    /// Keeps to `most` receive buffers from now on, of those it was made with.
    pub fn limit_buffers(&mut self, most: u16) {
        self.buffers.limit(most);
    }

    /// Operations staged or submitted whose last completion was not reaped (closes and cancels not
    /// counted).
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Submits what is staged and waits, in one system call. Returns when a completion is there,
    /// the time has passed, or a signal arrived: whoever needs a completion reaps and waits again.
    /// Runs the kernel's deferred work also with a timeout of zero.
    ///
    /// # Errors
    /// [`EnterError`] if the ring is of no further use.
    pub fn submit_and_wait(&mut self, wait: Wait) -> Result<(), EnterError> {
        let no_wait = wait.timeout == Some(Duration::ZERO);
        let min_wait = wait.min_wait.filter(|_| self.report.min_wait && !no_wait);
        self.enter_unless_broken(Waiting {
            min_complete: match (no_wait, min_wait) {
                (true, _) => 0,
                (false, None) => 1,
                (false, Some(_)) => BATCH,
            },
            timeout: wait.timeout.filter(|_| !no_wait),
            min_wait_us: min_wait.map_or(0, |wait| wait.as_micros().try_into().unwrap_or(u32::MAX)),
            no_iowait: self.report.no_iowait,
        })
    }

    /// Submits, and has the kernel tell what it knows by now, up to `most` completions, without
    /// waiting for more. A wait of zero is less than that: it finishes twenty operations at most
    /// (IO_LOCAL_TW_DEFAULT_MAX, since Linux 6.13) however many are ready.
    ///
    /// # Errors
    /// [`EnterError`] if the ring is of no further use.
    pub fn submit_and_look(&mut self, most: u32) -> Result<(), EnterError> {
        self.enter_unless_broken(Waiting {
            min_complete: most,
            timeout: Some(Duration::ZERO),
            min_wait_us: 0,
            no_iowait: self.report.no_iowait,
        })
    }

    /// Looks `looks` times, one at least, whether there is something to reap or to enter for, and makes no system call.
    /// Buffers given back are there for the kernel from now on. What is staged stays staged. An enter finishes a
    /// bounded number of operations: of those that it left, nothing is seen until the next one.
    pub fn watch(&mut self, looks: u32) -> Sight {
        self.buffers.publish();
        if !self.ring.completion().is_empty() {
            return Sight::Completions;
        }
        let queue = self.ring.submission();
        let mut looked = 0;
        // With DEFER_TASKRUN only an enter of this thread posts completions, so the flags tell all there is.
        while !(queue.taskrun() || queue.cq_overflow()) {
            looked += 1;
            if looked >= looks {
                return Sight::Nothing;
            }
            std::hint::spin_loop();
        }
        Sight::Work
    }

    fn enter_unless_broken(&mut self, waiting: Waiting) -> Result<(), EnterError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        match self.enter(Some(waiting)) {
            Ok(()) => Ok(()),
            Err(Errno(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(errno) => Err(EnterError {
                errno,
                staged: self.staged(),
            }),
        }
    }

    /// Moves completions to `out` until it holds `most`, without allocating if it has room for so
    /// many.
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
            let Some(kind) = decode(data, &entry, &mut self.buffers, &mut self.stats) else {
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

    /// Moves the bytes of two buffers together: copies the first `len` of `from`, which is held, to
    /// place `at` of `to`, and the `rest` behind them to its start. `to` is held, or what is being
    /// sent of it ends before `at`.
    pub fn gather(&mut self, to: BufferId, at: u32, from: BufferId, len: u32, rest: u32) {
        self.buffers.gather(to, at, from, len, rest);
    }

    /// A free buffer for bytes of one's own; it is held until recycled. `None` if the kernel and
    /// the caller have all.
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

    /// Whether the buffers take more memory than a calm ring needs: [`Ring::relax_buffers`] may help.
    pub fn has_swollen_buffers(&self) -> bool {
        self.buffers.is_swollen()
    }

    /// Gives back memory that was not needed lately, of `most` buffers at most, and
    /// returns of how many.
    pub fn relax_buffers(&mut self, most: u32) -> u32 {
        let overflowed = self.ring.submission().cq_overflow();
        let all_reaped = !overflowed && self.ring.completion().is_empty();
        self.buffers.relax(most, all_reaped)
    }

    /// Limits the kernel threads that serve [`Ring::poll_then_splice`]: those for files and those
    /// for sockets and pipes. 0 leaves a limit as it is.
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
    /// Memory the entry names stays valid, and its owner's rules hold, until the operation's last
    /// completion.
    pub(crate) unsafe fn stage(&mut self, entry: Entry, data: UserData) {
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
    pub(crate) unsafe fn push(&mut self, entry: &Entry) {
        let mut queue = self.ring.submission();
        // SAFETY: promised by the caller.
        let pushed = unsafe { queue.push(entry) };
        pushed.expect("invariant: make_room was called");
    }

    /// Submits until `entries` fit; `false` if the ring is broken.
    pub(crate) fn make_room(&mut self, entries: u32) -> bool {
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

    /// Operations that wait to be submitted.
    pub fn staged(&mut self) -> u32 {
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
    /// Ends every operation, closes descriptors that were accepted and never reaped, and only then
    /// lets the memory go.
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
            // A failure leaves the ring alive until the thread ends, which the leak below makes
            // harmless.
            if raw::unregister_ring_fd(self.ring.as_raw_fd(), index).is_err() {
                self.buffers.leak();
            }
        }
        if self.in_flight > 0 {
            self.buffers.leak();
        }
    }
}
