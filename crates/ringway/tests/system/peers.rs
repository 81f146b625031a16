//! What clients and backends do with a stream.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

pub(crate) use crate::eventually::{PATIENCE, until};

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

/// Connects from an address of this host.
pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&address.into())?;
    Ok(socket.into())
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

/// Sends, and hears how it ends. The other side may end it before everything is sent; then the
/// send has taken the news of it.
pub(crate) fn turned_away_with(mut client: TcpStream, bytes: &[u8]) -> (Vec<u8>, End) {
    match io::Write::write_all(&mut client, bytes) {
        Ok(()) => drain(client),
        Err(_) => (Vec::new(), End::Reset),
    }
}

/// A client that takes a few kilobytes at a time: it must say so before it connects.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    try_narrow(address).unwrap()
}

/// The same where it may be refused.
pub(crate) fn try_narrow(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&address.into())?;
    Ok(patient(socket.into()))
}

pub(crate) fn fin(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

pub(crate) fn fin_unix(stream: &UnixStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Closes by a reset.
pub(crate) fn reset(stream: TcpStream) {
    reset_at_close(&stream);
}

/// Whoever closes it does so by a reset.
pub(crate) fn reset_at_close(stream: &TcpStream) {
    SockRef::from(stream)
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

/// A connection to a backend that echoes goes on.
pub(crate) fn echoes(mut client: &TcpStream) {
    client.write_all(b"still there").unwrap();
    assert_eq!(&read_exactly::<11>(client), b"still there");
}

pub(crate) fn read_exactly<const N: usize>(mut stream: impl Read) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}
