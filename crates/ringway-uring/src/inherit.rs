//! Descriptors that whoever started this process left open for it, as values that own them.
//!
//! Not here: what they are for, and how their numbers become known (the environment tells). Invariant:
//! a number is taken once, before anything else in the process can own it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::errno::Errno;

/// The highest number that belongs to somebody: those of the standard library, and what was taken.
static TAKEN: AtomicI32 = AtomicI32::new(2);

/// Takes a descriptor that was open when the process began, and closes it on exec from now on. Several
/// are taken in the order of their numbers. To be called before the process opens anything: what it opened itself would be taken from its owner.
///
/// # Errors
/// EBADF if it is not open, EINVAL if it is one of the standard streams or its turn is over.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if TAKEN.fetch_max(number, Ordering::Relaxed) >= number {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: F_SETFD changes a flag of a number; on one that is not open it fails.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(Errno::last().0));
    }
    // SAFETY: it is open (the call above), no stream of the standard library and not taken before
    // (TAKEN), and so this is the only owner: callers come before anything else is opened.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_or_not_to_be_had_is_refused() {
        let code = |number| take_inherited(number).unwrap_err().raw_os_error();
        assert_eq!(code(1), Some(libc::EINVAL));
        assert_eq!(code(-1), Some(libc::EINVAL));
        assert_eq!(code(1_000_000), Some(libc::EBADF));
        // Its turn is over.
        assert_eq!(code(1_000_000), Some(libc::EINVAL));
    }
}
