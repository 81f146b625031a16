//! Waking a worker out of its wait from another thread: an eventfd.
//!
//! It carries no message: what there is to say lies in the mailbox next to it. Any number of wakes
//! before a drain are one wake. The worker polls the descriptor through its ring:
//! [`Ring::poll_multishot`](crate::Ring::poll_multishot).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// Wakes one worker. Clones wake the same one.
#[derive(Clone, Debug)]
pub struct Waker {
    counter: Arc<File>,
}

impl Waker {
    /// # Errors
    /// As eventfd(2).
    pub fn new() -> io::Result<Waker> {
        // SAFETY: eventfd takes no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: eventfd has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Waker {
            counter: Arc::new(File::from(fd)),
        })
    }

    /// Makes the descriptor readable. Never blocks; waking the awake is harmless.
    pub fn wake(&self) {
        // The only failure is EAGAIN at 2^64 - 2 undrained wakes: the descriptor is readable then.
        let _ = (&*self.counter).write(&1u64.to_ne_bytes());
    }

    /// Takes all wakes so far; whether there were any. To be called before looking into the
    /// mailbox: a message that arrives in between is then seen at once, or wakes again.
    pub fn drain(&self) -> bool {
        (&*self.counter).read(&mut [0; 8]).is_ok()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_add_up_to_one() {
        let waker = Waker::new().unwrap();
        assert!(!waker.drain());
        let other = waker.clone();
        std::thread::spawn(move || {
            other.wake();
            other.wake();
        })
        .join()
        .unwrap();
        assert!(waker.drain());
        assert!(!waker.drain());
    }
}
