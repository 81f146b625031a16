//! To which of the sockets of one address (SO_REUSEPORT) newcomers come, for the moment in which the others are
//! about to close.
//!
//! The kernel counts them from 0 in the order in which they began to listen, and fills the place of one that closes
//! with the last. Which socket has which place is not told, so it is for the caller to know. Invariant: a place that
//! nobody has leaves the choice to the kernel, so a wrong one turns nobody away.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::local::set;

/// Has newcomers come to these places only, each as often, until [`steer_freely`]. Handshakes that have begun are not
/// concerned.
///
/// # Errors
/// As setsockopt(2): EINVAL for more than some two thousand places, ENOPROTOOPT where the kernel has no such choice.
pub fn steer_to(any: BorrowedFd<'_>, places: &[u32]) -> io::Result<()> {
    let code = choose_among(places);
    let program = libc::sock_fprog {
        len: u16::try_from(code.len()).map_err(io::Error::other)?,
        filter: code.as_ptr().cast_mut(),
    };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes of `program` and `len` instructions of `code`, which both live until it
    // returns, and keeps a copy of its own; it writes to neither.
    let result = unsafe {
        libc::setsockopt(
            any.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Leaves the choice to the kernel again.
///
/// # Errors
/// As setsockopt(2): ENOENT where it is the kernel's already.
pub fn steer_freely(any: BorrowedFd<'_>) -> io::Result<()> {
    // The kernel wants a number and does not look at it.
    Ok(set(any, libc::SOL_SOCKET, libc::SO_DETACH_REUSEPORT_BPF)?)
}

/// A random number, and the place that it stands for: not a hash of the packet, which a host may not have.
fn choose_among(places: &[u32]) -> Vec<libc::sock_filter> {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let random = libc::SKF_AD_OFF + libc::SKF_AD_RANDOM;
    let modulo = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
    let if_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let one = |code: u32, unequal: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: unequal,
        k,
    };
    let count = places.len().max(1) as u32;
    let mut code = vec![one(load, 0, random as u32), one(modulo, 0, count)];
    for (number, place) in (0..).zip(places) {
        code.push(one(if_equal, 1, number));
        code.push(one(answer, 0, *place));
    }
    code.push(one(answer, 0, u32::MAX));
    code
}
