//! The end of standard input as a signal to stop: whoever started the process can end it in order,
//! and cannot leave it behind. Invariant: what is raised stays raised.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use rustix::event::{EventfdFlags, eventfd};

/// A descriptor that becomes readable, for ever, when it is time to stop.
#[derive(Debug, Clone)]
pub(crate) struct StopSignal {
    fd: Arc<OwnedFd>,
}

impl StopSignal {
    /// One that nobody raises.
    pub(crate) fn never() -> io::Result<StopSignal> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(StopSignal { fd: Arc::new(fd) })
    }

    /// One that is raised when standard input ends.
    pub(crate) fn at_end_of_stdin() -> io::Result<StopSignal> {
        let signal = StopSignal::never()?;
        let raised = signal.clone();
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let mut ignored = [0_u8; 64];
                let mut stdin = io::stdin().lock();
                while matches!(stdin.read(&mut ignored), Ok(count) if count > 0) {}
                raised.raise();
            })?;
        Ok(signal)
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    fn raise(&self) {
        // An eventfd takes 8 bytes whenever its counter has room, and nobody else adds to it.
        let _ = rustix::io::write(self.fd(), &1_u64.to_ne_bytes());
    }
}
