//! Listening sockets that this worker has together with somebody else: another process that comes
//! after this one or before it, or the service manager.
//!
//! Not here: how they get from process to process. Invariant: on a socket that others accept on, this
//! worker turns no newcomers away, and leaves no connection whose wake-up it got.

use std::io;

use crate::accept::{Acceptor, Socket};
use crate::mailbox::Lent;
use crate::spec::Opening;
use crate::worker::Worker;

impl Acceptor {
    /// Begins to accept.
    pub(crate) fn open(&mut self) {
        self.opening = Opening::AtOnce;
    }

    /// A copy of each listening socket.
    pub(crate) fn lend(&self) -> io::Result<Vec<Lent>> {
        let sockets = self.sockets.iter();
        let open = sockets.filter_map(|socket| Some((socket.number, socket.fd.as_ref()?)));
        let lent = |(number, fd): (u32, &std::os::fd::OwnedFd)| {
            let fd = fd.try_clone()?;
            Ok(Lent { number, fd })
        };
        open.map(lent).collect()
    }

    /// Notes that the sockets of these cookies are others' too.
    pub(crate) fn share(&mut self, cookies: &[u64]) {
        for socket in &mut self.sockets {
            let cookie = socket.fd.as_ref().map(rustix::net::sockopt::socket_cookie);
            if let Some(Ok(cookie)) = cookie {
                socket.is_shared |= cookies.contains(&cookie);
            }
        }
    }

    /// Whether others accept on it. Before this worker was told to open, all are others'.
    pub(crate) fn is_others(&self, socket: &Socket) -> bool {
        socket.is_shared || self.opening == Opening::WhenTold
    }
}

impl Worker {
    /// Accepts no more where others do.
    pub(crate) fn leave_shared(&mut self) {
        for number in 0..self.acceptor.sockets.len() as u32 {
            let socket = &self.acceptor.sockets[number as usize];
            if self.acceptor.is_others(socket) {
                self.stop_accepting_on(number);
            }
        }
    }
}
