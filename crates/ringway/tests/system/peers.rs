//! What clients and backends do with a stream, and how to wait for something without guessing how
//! long it takes.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// How long anything that must happen may take on a loaded machine. Shorter than the deadlines that
/// would end what hangs, such as `timeouts.half_close` and `shutdown.drain`.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// Polls for what must become true soon.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(PATIENCE, what, is_so);
}

pub(crate) fn until_within(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        // Leaves the CPU to those that are waited for.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The same for a value, which is told if it never comes.
pub(crate) fn until_is<T: PartialEq + Debug>(what: &str, expected: T, mut read: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = read();
        if last == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: {last:?}, not {expected:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How a peer's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).unwrap())
}

/// A client that is refused, or reset before it hears anything: how.
pub(crate) fn turned_away(address: SocketAddr) -> End {
    // A reset may come before the kernel has told of the connection.
    match TcpStream::connect(address) {
        Ok(client) => {
            let (bytes, end) = drain(patient(client));
            assert_eq!(bytes, b"");
            end
        }
        Err(error) => end_by(error),
    }
}

/// A client that takes a few kilobytes at a time: it must say so before it connects.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    patient(socket.into())
}

pub(crate) fn fin(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

pub(crate) fn fin_unix(stream: &UnixStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Closes by a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Everything until the end, and which end.
pub(crate) fn drain(stream: impl Read) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let end = drain_into(stream, &mut bytes);
    (bytes, end)
}

fn drain_into(mut stream: impl Read, bytes: &mut Vec<u8>) -> End {
    match stream.read_to_end(bytes) {
        Ok(_) => End::Fin,
        Err(error) => end_by(error),
    }
}

/// The end that a failed read means; a timeout is none.
pub(crate) fn end_by(error: io::Error) -> End {
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    End::Reset
}

pub(crate) fn read_exactly<const N: usize>(mut stream: impl Read) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}
