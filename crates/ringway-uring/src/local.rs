//! The local end of a connection that is about to be made: an address of this host, or, transparently, any.
//!
//! The kernel chooses the port when it connects (IP_BIND_ADDRESS_NO_PORT): it then needs one that is free towards
//! this destination, and not one that is free altogether. Invariant: a socket that is bound here holds no port.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::errno::Errno;

/// Binds a socket to a local address, without a port.
///
/// # Errors
/// EADDRNOTAVAIL where this host does not have the address. Others as setsockopt(2), bind(2).
pub fn bind_local(fd: BorrowedFd<'_>, address: IpAddr) -> Result<(), Errno> {
    set(fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
    SockRef::from(&fd)
        .bind(&SocketAddr::new(address, 0).into())
        .map_err(|error| Errno::from_io(&error))
}

/// The same with an address that need not be one of this host: what is sent bears it, and what comes back has to be
/// routed here.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN or CAP_NET_RAW in the user namespace of this network. Others as setsockopt(2), bind(2).
pub fn bind_foreign(fd: BorrowedFd<'_>, address: IpAddr) -> Result<(), Errno> {
    let (level, option) = match address {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TRANSPARENT),
        IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
    };
    set(fd, level, option)?;
    bind_local(fd, address)
}

/// Whether connections can be made from this address of this host, tried on a socket that is not used for anything.
///
/// # Errors
/// As [`bind_local`], and socket(2).
pub fn try_local(address: IpAddr) -> io::Result<()> {
    let socket = unused(Domain::for_address(SocketAddr::new(address, 0)))?;
    Ok(bind_local(socket.as_fd(), address)?)
}

/// Whether connections can be made from addresses of others.
///
/// # Errors
/// As [`bind_foreign`], and socket(2).
pub fn try_foreign() -> io::Result<()> {
    let socket = unused(Domain::IPV4)?;
    Ok(set(socket.as_fd(), libc::SOL_IP, libc::IP_TRANSPARENT)?)
}

/// The ports that the kernel gives to connections made from this network: ip(7), ip_local_port_range. All, where it does
/// not tell.
pub fn outgoing_ports() -> RangeInclusive<u16> {
    let told = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = told.ok().and_then(|text| {
        let mut ends = text.split_ascii_whitespace().map(str::parse);
        Some(ends.next()?.ok()?..=ends.next()?.ok()?)
    });
    range.unwrap_or(0..=u16::MAX)
}

fn unused(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
}

/// Switches an option on.
pub(crate) fn set(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let pointer: *const libc::c_int = &on;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes, one int, during the call.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, pointer.cast(), len) };
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}
