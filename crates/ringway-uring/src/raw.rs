//! The two io_uring system calls that the `io-uring` crate ties to a borrowed `Submitter`.
//!
//! The crate keeps the index of a registered ring descriptor inside a `Submitter` that borrows the
//! ring, and makes a new one, without it, on each call; a ring that stages and enters in turns
//! cannot keep that borrow. So the enter is done here, with the index or descriptor as an argument.
//! Not here: memory. What entries point at is promised where they are staged.

use std::os::fd::RawFd;
use std::time::Duration;

use crate::errno::Errno;

const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// How the kernel finds the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingHandle {
    Descriptor(RawFd),
    /// Index in this thread's table: saves the look-up of the descriptor in each enter.
    Registered(u32),
}

/// What to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) min_complete: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) min_wait_us: u32,
    /// Idle waits are not accounted as waiting for a disk (Linux 6.15).
    pub(crate) no_iowait: bool,
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct GetEvents {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_us: u32,
    timeout: u64,
}

/// `struct __kernel_timespec`: 64 bits each on every architecture.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// Submits `to_submit` entries; with `waiting`, also runs deferred work and waits. Returns how many
/// were submitted.
pub(crate) fn enter(
    ring: RingHandle,
    to_submit: u32,
    waiting: Option<Waiting>,
) -> Result<u32, Errno> {
    let (fd, mut flags) = match ring {
        RingHandle::Descriptor(fd) => (fd, 0),
        RingHandle::Registered(index) => (index as RawFd, ENTER_REGISTERED_RING),
    };
    let Some(waiting) = waiting else {
        return call_enter(fd, to_submit, 0, flags, None);
    };
    flags |= ENTER_GETEVENTS | ENTER_EXT_ARG;
    if waiting.no_iowait {
        flags |= ENTER_NO_IOWAIT;
    }
    let timeout = waiting.timeout.map(|timeout| KernelTimespec {
        seconds: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        nanoseconds: timeout.subsec_nanos().into(),
    });
    let argument = GetEvents {
        sigmask: 0,
        sigmask_size: 0,
        min_wait_us: waiting.min_wait_us,
        timeout: timeout
            .as_ref()
            .map_or(0, |timeout| std::ptr::from_ref(timeout) as u64),
    };
    call_enter(fd, to_submit, waiting.min_complete, flags, Some(&argument))
}

fn call_enter(
    fd: RawFd,
    to_submit: u32,
    min_complete: u32,
    flags: u32,
    argument: Option<&GetEvents>,
) -> Result<u32, Errno> {
    let pointer = argument.map_or(std::ptr::null(), std::ptr::from_ref);
    let size = if argument.is_some() {
        size_of::<GetEvents>()
    } else {
        0
    };
    // SAFETY: the argument and the timespec it names live on the caller's stack until the call
    // returns, and the kernel keeps no pointer to them. Entries that get submitted were checked
    // when they were staged.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            fd,
            to_submit,
            min_complete,
            flags,
            pointer,
            size,
        )
    };
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(result as u32)
    }
}

/// Puts the ring into this thread's table of rings; the index.
pub(crate) fn register_ring_fd(fd: RawFd) -> Result<u32, Errno> {
    let mut update = Update {
        offset: u32::MAX,
        reserved: 0,
        data: fd as u64,
    };
    call_register(fd, REGISTER_RING_FDS, &mut update)?;
    Ok(update.offset)
}

/// Takes it out again; as long as it is in, closing the descriptor does not end the ring.
pub(crate) fn unregister_ring_fd(fd: RawFd, index: u32) -> Result<(), Errno> {
    let mut update = Update {
        offset: index,
        reserved: 0,
        data: 0,
    };
    call_register(fd, UNREGISTER_RING_FDS, &mut update)
}

fn call_register(fd: RawFd, operation: u32, update: &mut Update) -> Result<(), Errno> {
    let argument: *mut Update = update;
    // SAFETY: the two operations used read and write one `io_uring_rsrc_update` during the call
    // only.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, operation, argument, 1) };
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}
