//! Sockets as Ringway makes them, and the direct calls on them that a ring has no good form of.
//!
//! Options are set on the listener before listen(2): accepted sockets inherit them, so a connection
//! costs no setsockopt. `shutdown(2)` is called directly because the ring's form always runs on a
//! kernel thread. Every socket made here is non-blocking and close-on-exec.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, TcpKeepalive, Type};

use crate::errno::Errno;

/// TCP keep-alive of accepted connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds.
    pub idle: Duration,
    /// Between probes; whole seconds.
    pub interval: Duration,
    /// Unanswered probes until the connection is reset.
    pub count: u32,
}

/// Options of a TCP listener and of the connections it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// SO_KEEPALIVE and its times.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT: sent bytes may stay unacknowledged for so long; whole milliseconds.
    pub user_timeout: Option<Duration>,
    /// Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// TCP_DEFER_ACCEPT: accept when the first bytes are there, or after about so long; whole
    /// seconds.
    pub defer_accept: Option<Duration>,
    /// TCP_FASTOPEN: length of the queue of connections that bring bytes in their SYN.
    pub fast_open: Option<u32>,
    /// SO_RCVBUF, which turns autotuning off; the kernel doubles it.
    pub receive_buffer: Option<usize>,
    /// SO_SNDBUF, likewise.
    pub send_buffer: Option<usize>,
    /// IPV6_V6ONLY; of no effect on IPv4 addresses.
    pub only_v6: bool,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            backlog: 4096,
            defer_accept: None,
            fast_open: None,
            receive_buffer: None,
            send_buffer: None,
            only_v6: true,
        }
    }
}

/// A listening TCP socket with SO_REUSEADDR and SO_REUSEPORT, so that each worker has its own.
///
/// # Errors
/// As socket(2), setsockopt(2), bind(2), listen(2).
pub fn listen_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = bind_tcp(address, options)?;
    listen(socket.as_fd(), options.backlog)?;
    Ok(socket)
}

/// The same before listen(2): it holds the address and no connection reaches it yet.
///
/// # Errors
/// As socket(2), setsockopt(2), bind(2).
pub fn bind_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), stream(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(options.only_v6)?;
    }
    set_inherited(&socket, options)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// listen(2). On a socket that listens already it changes the length of the queue.
///
/// # Errors
/// As listen(2): EADDRINUSE where another socket has come to listen on the address alone.
pub fn listen(socket: BorrowedFd<'_>, backlog_len: u32) -> io::Result<()> {
    SockRef::from(&socket).listen(backlog(backlog_len))
}

/// Gives a listening socket other options; connections it accepts from now on inherit them. A buffer
/// that was given a size keeps it where the options leave it to the kernel.
///
/// # Errors
/// As setsockopt(2), listen(2); the options before the one that failed are set then.
pub fn set_listen_options(fd: BorrowedFd<'_>, options: &ListenOptions) -> io::Result<()> {
    let socket = SockRef::from(&fd);
    let is_tcp = socket.local_addr()?.as_socket().is_some();
    if is_tcp {
        set_inherited(&socket, options)?;
    }
    socket.listen(backlog(options.backlog))
}

/// Whether the kernel takes these options, tried on a socket that is not used for anything.
///
/// # Errors
/// As socket(2), setsockopt(2).
pub fn try_listen_options(options: &ListenOptions) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, stream(), Some(Protocol::TCP))?;
    set_inherited(&socket, options)
}

fn set_inherited(socket: &Socket, options: &ListenOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    match options.keepalive {
        Some(keepalive) => {
            let times = TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.count);
            socket.set_tcp_keepalive(&times)?;
        }
        None => socket.set_keepalive(false)?,
    }
    socket.set_tcp_user_timeout(options.user_timeout)?;
    if let Some(size) = options.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    let wait = options.defer_accept.map_or(0, |wait| wait.as_secs().max(1));
    let seconds = wait.try_into().unwrap_or(libc::c_int::MAX);
    set_tcp_option(socket, libc::TCP_DEFER_ACCEPT, seconds)?;
    let queue = options.fast_open.unwrap_or(0);
    let queue = queue.try_into().unwrap_or(libc::c_int::MAX);
    // A kernel without it has nothing to switch off.
    match set_tcp_option(socket, libc::TCP_FASTOPEN, queue) {
        Err(_) if queue == 0 => Ok(()),
        outcome => outcome,
    }
}

/// A listening Unix stream socket. The path must not exist.
///
/// # Errors
/// As socket(2), bind(2), listen(2).
pub fn listen_unix(path: &Path, backlog_len: u32) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, stream(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(backlog(backlog_len))?;
    Ok(socket.into())
}

/// Where to connect to, in the form [`Ring::connect`](crate::Ring::connect) takes.
#[derive(Clone, Debug)]
pub struct ConnectAddress {
    address: SockAddr,
    may_meet_itself: bool,
}

impl ConnectAddress {
    /// One of TCP; `outgoing` is [`outgoing_ports`](crate::outgoing_ports).
    pub fn tcp(address: SocketAddr, outgoing: &RangeInclusive<u16>) -> ConnectAddress {
        ConnectAddress {
            address: address.into(),
            may_meet_itself: outgoing.contains(&address.port()),
        }
    }

    /// # Errors
    /// A path that is too long for a Unix socket.
    pub fn unix(path: &Path) -> io::Result<ConnectAddress> {
        Ok(ConnectAddress {
            address: SockAddr::unix(path)?,
            may_meet_itself: false,
        })
    }

    /// Whether it is a Unix socket's.
    pub fn is_unix(&self) -> bool {
        self.address.domain() == Domain::UNIX
    }

    /// The address, where it is one of IP.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.as_socket().map(|address| address.ip())
    }

    /// As the system calls take it.
    pub fn as_sock_addr(&self) -> &SockAddr {
        &self.address
    }

    /// Whether this socket, connected there, is connected to itself. Nobody listens on a port of this host from the
    /// range for outgoing connections: then the kernel may give that very port to the one that comes, and TCP's
    /// simultaneous open (RFC 9293, 3.5) takes it for its own peer.
    pub fn is_own_end(&self, connected: BorrowedFd<'_>) -> bool {
        let end = |address: SocketAddr| (address.ip(), address.port());
        self.may_meet_itself
            && local_address(connected)
                .is_ok_and(|own| own.map(end) == self.address.as_socket().map(end))
    }
}

/// On any port one may meet oneself.
impl From<SocketAddr> for ConnectAddress {
    fn from(address: SocketAddr) -> ConnectAddress {
        ConnectAddress::tcp(address, &(0..=u16::MAX))
    }
}

/// A socket to connect to that address with; TCP_NODELAY for TCP.
///
/// # Errors
/// As socket(2), setsockopt(2): EMFILE and ENFILE are the ones to expect.
pub fn connect_socket(address: &ConnectAddress) -> Result<OwnedFd, Errno> {
    let domain = address.address.domain();
    let socket = Socket::new(domain, stream(), None).map_err(|error| Errno::from_io(&error))?;
    if domain != Domain::UNIX {
        socket
            .set_tcp_nodelay(true)
            .map_err(|error| Errno::from_io(&error))?;
    }
    Ok(socket.into())
}

/// connect(2) by a non-blocking socket, for addresses where the answer is known at once: Unix
/// sockets.
///
/// # Errors
/// EAGAIN if the queue of the other side is full. Others as connect(2).
pub fn connect_now(fd: BorrowedFd<'_>, address: &ConnectAddress) -> Result<(), Errno> {
    SockRef::from(&fd)
        .connect(&address.address)
        .map_err(|error| Errno::from_io(&error))
}

/// Lets nobody new reach a listener, and those who have reached it be accepted: its queue would be
/// reset by closing it. A TCP handshake that has begun is completed; a new one is left unanswered,
/// so that the client asks again when the listener is gone, or elsewhere.
///
/// # Errors
/// As setsockopt(2), shutdown(2); the listener is as it was then.
pub fn refuse_arrivals(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    let socket = SockRef::from(&listener);
    let refused = match local_address(listener)? {
        None => socket.shutdown(std::net::Shutdown::Read),
        Some(_) => socket.attach_filter(&without_syn()),
    };
    refused.map_err(|error| Errno::from_io(&error))
}

/// Drops segments whose flags are SYN without ACK. On a TCP socket a filter sees the TCP header
/// first.
fn without_syn() -> [SockFilter; 5] {
    const FLAGS_BYTE: u32 = 13;
    const SYN: u32 = 0x02;
    const SYN_ACK: u32 = 0x12;
    let load = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    let and = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    let if_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let pass_so_many = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        SockFilter::new(load, 0, 0, FLAGS_BYTE),
        SockFilter::new(and, 0, 0, SYN_ACK),
        SockFilter::new(if_equal, 0, 1, SYN),
        SockFilter::new(pass_so_many, 0, 0, 0),
        SockFilter::new(pass_so_many, 0, 0, u32::MAX),
    ]
}

/// Sends FIN behind what was sent: the peer sees the end of the stream, our reading half stays
/// open.
///
/// # Errors
/// ENOTCONN if the connection is gone already. Others as shutdown(2).
pub fn shutdown_write(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    SockRef::from(&fd)
        .shutdown(std::net::Shutdown::Write)
        .map_err(|error| Errno::from_io(&error))
}

/// Makes the coming close send RST and drop what is unsent: SO_LINGER of zero seconds.
///
/// # Errors
/// As setsockopt(2).
pub fn arm_reset(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    SockRef::from(&fd)
        .set_linger(Some(Duration::ZERO))
        .map_err(|error| Errno::from_io(&error))
}

/// Bytes in the send queue that the peer has not acknowledged (for a Unix socket: not read):
/// SIOCOUTQ.
///
/// # Errors
/// As ioctl(2).
pub fn unsent_bytes(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, the same number as SIOCOUTQ, writes one int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(bytes.try_into().unwrap_or(0))
    }
}

/// What the kernel knows of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Segments sent again, over the connection's life.
    pub retransmitted_segments: u32,
}

/// TCP_INFO of a TCP socket.
///
/// # Errors
/// EOPNOTSUPP if it is none. Others as getsockopt(2).
pub fn tcp_info(fd: BorrowedFd<'_>) -> Result<TcpInfo, Errno> {
    // SAFETY: tcp_info is made of integers; all zero is a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    let value: *mut libc::tcp_info = &mut info;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which is that large.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            value.cast(),
            &mut len,
        )
    };
    if result < 0 {
        return Err(Errno::last());
    }
    Ok(TcpInfo {
        rtt: Duration::from_micros(info.tcpi_rtt.into()),
        retransmitted_segments: info.tcpi_total_retrans,
    })
}

/// The other end's address; `None` for a Unix socket.
///
/// # Errors
/// ENOTCONN if the connection is gone.
pub fn peer_address(fd: BorrowedFd<'_>) -> Result<Option<SocketAddr>, Errno> {
    let address = SockRef::from(&fd)
        .peer_addr()
        .map_err(|error| Errno::from_io(&error))?;
    Ok(address.as_socket())
}

/// This end's address; `None` for a Unix socket.
///
/// # Errors
/// As getsockname(2).
pub fn local_address(fd: BorrowedFd<'_>) -> Result<Option<SocketAddr>, Errno> {
    let address = SockRef::from(&fd)
        .local_addr()
        .map_err(|error| Errno::from_io(&error))?;
    Ok(address.as_socket())
}

/// Takes the socket's pending error, SO_ERROR.
///
/// # Errors
/// As getsockopt(2).
pub fn pending_error(fd: BorrowedFd<'_>) -> Result<Option<Errno>, Errno> {
    match SockRef::from(&fd).take_error() {
        Ok(error) => Ok(error.map(|error| Errno::from_io(&error))),
        Err(error) => Err(Errno::from_io(&error)),
    }
}

/// A stream socket, non-blocking and (the default of `Socket::new`) close-on-exec.
fn stream() -> Type {
    Type::STREAM.nonblocking()
}

fn backlog(len: u32) -> libc::c_int {
    len.try_into().unwrap_or(libc::c_int::MAX)
}

pub(crate) fn set_tcp_option(
    socket: &impl AsFd,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let pointer: *const libc::c_int = &value;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `len` bytes, one int, during the call.
    let result = unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, option, pointer.cast(), len) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
