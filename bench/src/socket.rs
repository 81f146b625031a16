//! Non-blocking TCP sockets as generator and servers use them: what a call can lead to, as an enum.
//! Invariant: no call here blocks.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, bind, connect,
    getsockname, ipproto, listen, recv, send, socket_with, sockopt,
};

/// What a receive led to.
#[derive(Debug)]
pub(crate) enum Received {
    Bytes(usize),
    /// The peer has finished sending.
    End,
    /// Nothing there now.
    Blocked,
    Failed(Errno),
}

/// What a send led to.
#[derive(Debug)]
pub(crate) enum Sent {
    Bytes(usize),
    /// No room now.
    Blocked,
    Failed(Errno),
}

/// Takes what is there, up to the length of `buffer`.
pub(crate) fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> Received {
    loop {
        return match recv(fd, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => Received::End,
            Ok((count, _)) => Received::Bytes(count),
            Err(Errno::AGAIN) => Received::Blocked,
            Err(Errno::INTR) => continue,
            Err(errno) => Received::Failed(errno),
        };
    }
}

/// Sends what fits of `bytes`.
pub(crate) fn transmit(fd: &OwnedFd, bytes: &[u8]) -> Sent {
    loop {
        return match send(fd, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => Sent::Bytes(count),
            Err(Errno::AGAIN) => Sent::Blocked,
            Err(Errno::INTR) => continue,
            Err(errno) => Sent::Failed(errno),
        };
    }
}

/// Makes closing `fd` a reset.
pub(crate) fn reset_on_close(fd: &OwnedFd) {
    // Fails only on what is no socket; and then closing is all that is wanted.
    let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
}

/// Begins a connection; whether it is there is known when the socket can be written to.
pub(crate) fn begin_connect(to: SocketAddr, from: Option<SocketAddrV4>) -> Result<OwnedFd, Errno> {
    let fd = stream_socket(to)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    if let Some(from) = from {
        // Without it, a port in TIME_WAIT could not be taken again for another connection.
        sockopt::set_socket_reuseaddr(&fd, true)?;
        bind(&fd, &from)?;
    }
    match connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

/// Why the connection could not be opened, once it can be written to.
pub(crate) fn connect_error(fd: &OwnedFd) -> Option<Errno> {
    match sockopt::socket_error(fd) {
        Ok(Ok(())) => None,
        Ok(Err(errno)) | Err(errno) => Some(errno),
    }
}

/// A listener; several may share an address (`SO_REUSEPORT`). What it accepts has `TCP_NODELAY`.
pub(crate) fn listener(at: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let named = |errno: Errno| io::Error::other(format!("{at}: {errno}"));
    let fd = stream_socket(at).map_err(named)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    bind(&fd, &at).map_err(named)?;
    listen(&fd, 4096).map_err(named)?;
    let bound: SocketAddrAny = getsockname(&fd)?;
    let bound = SocketAddr::try_from(bound).map_err(named)?;
    Ok((fd, bound))
}

fn stream_socket(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match to.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
}
