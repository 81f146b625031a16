//! What the kernel holds for a socket: how much it is, and keeping it small.
//!
//! Not the decision how small: whoever knows how much memory there is makes that. Invariant: a size that somebody
//! has chosen for a buffer stays.

use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockRef;

use crate::errno::Errno;
use crate::socket::{local_address, set_tcp_option};

/// `SOCK_SNDBUF_LOCK` and `SOCK_RCVBUF_LOCK` of the kernel: this size was chosen, do not tune it.
const SEND_IS_CHOSEN: u32 = 1;
const RECEIVE_IS_CHOSEN: u32 = 2;

/// How many numbers `SO_MEMINFO` has, and where those are that count.
const NUMBERS: usize = 9;
const RECEIVED: usize = 0;
const IN_FLIGHT: usize = 2;
const SPARE: usize = 4;
const QUEUED: usize = 5;

/// How much of a stream the kernel may hold in one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Bytes received and not fetched; the kernel doubles it for what comes with them, keeps to
    /// `net.core.rmem_max`, and tunes it no more.
    pub receive_bytes: u32,
    /// Bytes that were not sent yet. What is on its way is not counted, and as much as the peer has room for.
    pub unsent_bytes: u32,
}

/// Keeps a new socket to that.
///
/// # Errors
/// As getsockopt(2), setsockopt(2). Then it holds what the kernel lets any socket hold.
pub fn confine(fd: BorrowedFd<'_>, to: Confinement) -> Result<(), Errno> {
    let socket = SockRef::from(&fd);
    let [chosen] = option(fd, libc::SO_BUF_LOCK)?;
    if chosen & RECEIVE_IS_CHOSEN == 0 {
        let receive = socket.set_recv_buffer_size(to.receive_bytes as usize);
        receive.map_err(|error| Errno::from_io(&error))?;
    }
    let unsent = to.unsent_bytes.try_into().unwrap_or(libc::c_int::MAX);
    let is_unix = matches!(local_address(fd), Ok(None));
    let limited = match is_unix {
        false => set_tcp_option(&fd, libc::TCP_NOTSENT_LOWAT, unsent),
        // There is no way to go: what was sent is unsent until it is read, nothing else gives it back, and the kernel
        // doubles the size.
        true if chosen & SEND_IS_CHOSEN == 0 => {
            socket.set_send_buffer_size(to.unsent_bytes as usize / 2)
        }
        true => Ok(()),
    };
    limited.map_err(|error| Errno::from_io(&error))
}

/// The memory that the kernel holds for what waits in a socket, and what is at hand for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// For what has come and was not fetched.
    pub received_bytes: u64,
    /// For what is to go out, and what the peer has not acknowledged (of a Unix socket: not read).
    pub sent_bytes: u64,
    /// What a close gives back. Not what a Unix socket has sent: it lies with the peer until that reads or closes.
    pub returnable_bytes: u64,
}

/// What the kernel holds for a socket: `SO_MEMINFO`.
///
/// # Errors
/// As getsockopt(2).
pub fn held(fd: BorrowedFd<'_>) -> Result<Held, Errno> {
    let numbers = option::<NUMBERS>(fd, libc::SO_MEMINFO)?;
    let number = |at: usize| u64::from(numbers[at]);
    Ok(Held {
        received_bytes: number(RECEIVED),
        // TCP counts what it queues, Unix sockets only what is in flight; of TCP that is a part of it.
        sent_bytes: number(QUEUED).max(number(IN_FLIGHT)),
        returnable_bytes: number(RECEIVED) + number(QUEUED) + number(SPARE),
    })
}

/// An option of the socket that is made of so many numbers.
fn option<const COUNT: usize>(
    fd: BorrowedFd<'_>,
    name: libc::c_int,
) -> Result<[u32; COUNT], Errno> {
    let mut numbers = [0u32; COUNT];
    let mut len = size_of_val(&numbers) as libc::socklen_t;
    let value = numbers.as_mut_ptr();
    // SAFETY: the kernel writes at most `len` bytes to `value`, which is that large, and any bytes are integers.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            value.cast(),
            &mut len,
        )
    };
    if result < 0 {
        return Err(Errno::last());
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    const KIB: u64 = 1024;
    const NARROW: Confinement = Confinement {
        receive_bytes: 64 * 1024,
        unsent_bytes: 32 * 1024,
    };

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// Writes until there is no room; what the kernel holds then.
    fn stuff(mut sender: impl Write + AsFd) -> Held {
        let error = loop {
            if let Err(error) = sender.write_all(&[7; 16 * 1024]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        held(sender.as_fd()).unwrap()
    }

    #[test]
    fn a_confined_connection_holds_little_on_either_side() {
        let (sender, receiver) = pair();
        sender.set_nonblocking(true).unwrap();
        confine(sender.as_fd(), NARROW).unwrap();
        confine(receiver.as_fd(), NARROW).unwrap();
        let sent = stuff(&sender);
        let received = held(receiver.as_fd()).unwrap();
        assert!(received.received_bytes > 0, "{received:?}");
        // Doubled, and a segment of loopback beyond either bound.
        assert!(sent.sent_bytes <= 2 * (32 + 64) * KIB, "{sent:?}");
        assert!(
            received.received_bytes <= 2 * (64 + 64) * KIB,
            "{received:?}"
        );
    }

    #[test]
    fn a_confined_unix_socket_holds_what_is_not_read() {
        let (sender, _receiver) = UnixStream::pair().unwrap();
        sender.set_nonblocking(true).unwrap();
        confine(sender.as_fd(), NARROW).unwrap();
        let sent = stuff(&sender);
        assert!((1..=2 * 32 * KIB).contains(&sent.sent_bytes), "{sent:?}");
        assert!(sent.returnable_bytes < sent.sent_bytes, "{sent:?}");
    }

    #[test]
    fn a_size_that_was_chosen_stays() {
        let (socket, _peer) = pair();
        let sized = SockRef::from(&socket);
        sized.set_recv_buffer_size(20 * 1024).unwrap();
        let before = sized.recv_buffer_size().unwrap();
        confine(socket.as_fd(), NARROW).unwrap();
        assert_eq!(sized.recv_buffer_size().unwrap(), before);
    }
}
