//! One probe: a connection is made and dropped. The deadline is the keeper's, which drops the future.
//!
//! Sockets are non-blocking and connect by a plain system call; the ring only waits for the outcome, so that
//! nothing can block and a probe can be given up at any moment. Invariant: whatever the outcome, the probe
//! leaves no socket behind, not even one in TIME_WAIT.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use monoio::net::TcpStream;
use ringway_health::{ProbeFailure, ProbeResult};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::target::ProbeAddress;

/// How long to wait for room in the queue of a unix listener, for which the kernel offers no readiness.
const UNIX_RETRY: Duration = Duration::from_millis(20);

/// Connects once and says how that went.
pub(crate) async fn probe(address: ProbeAddress) -> ProbeResult {
    let outcome = match address {
        ProbeAddress::Tcp(address) => probe_tcp(address).await,
        ProbeAddress::Unix(path) => probe_unix(&path).await,
    };
    match outcome {
        Ok(()) => ProbeResult::Ok,
        Err(error) => ProbeResult::Failed(failure_of(&error)),
    }
}

async fn probe_tcp(address: SocketAddr) -> io::Result<()> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // Closing resets the connection. A FIN would leave a socket in TIME_WAIT on this side for a minute after
    // each probe, and with enough backends no port for the traffic. The price: the server may find a reset
    // on the connection it accepts, as with other balancers that do the same.
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {
            // The runtime wants to own what it waits for, and gives no access to SO_ERROR: it gets a second
            // descriptor of the same socket.
            let waiting = TcpStream::from_std(socket.try_clone()?.into())?;
            waiting.writable(false).await?;
        }
        outcome => outcome?,
    }
    connected_to(&socket, address)
}

/// Whether a socket whose connect has ended is connected, to the address meant.
fn connected_to(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    // Nobody listens on a port of this host from the range for outgoing connections: then the kernel may pick
    // that very port as the source, and TCP's simultaneous open connects the socket to itself.
    let own = socket.local_addr()?.as_socket();
    if own.is_some_and(|own| (own.ip(), own.port()) == (address.ip(), address.port())) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

async fn probe_unix(path: &Path) -> io::Result<()> {
    let address = SockAddr::unix(path)?;
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        match socket.connect(&address) {
            // The queue of the listener is full: unix(7) has no connect in progress, only another try.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                monoio::time::sleep(UNIX_RETRY).await;
            }
            outcome => return outcome,
        }
    }
}

fn failure_of(error: &io::Error) -> ProbeFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ProbeFailure::Refused,
        io::ErrorKind::TimedOut => ProbeFailure::Timeout,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ProbeFailure::Reset,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => ProbeFailure::Unreachable,
        io::ErrorKind::AddrNotAvailable => ProbeFailure::NoPorts,
        _ => ProbeFailure::Other(error.raw_os_error().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream as StdStream};
    use std::time::Instant;

    fn run(address: ProbeAddress) -> ProbeResult {
        crate::thread::build_runtime()
            .unwrap()
            .block_on(probe(address))
    }

    #[test]
    fn a_listener_is_ok_over_either_family() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let listener = match TcpListener::bind(bind) {
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    println!("{bind}: not on this host");
                    continue;
                }
                outcome => outcome.unwrap(),
            };
            let address = listener.local_addr().unwrap();
            assert_eq!(run(ProbeAddress::Tcp(address)), ProbeResult::Ok, "{bind}");
        }
    }

    #[test]
    fn probes_leave_nothing_in_time_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..20 {
            assert_eq!(run(ProbeAddress::Tcp(address)), ProbeResult::Ok);
            // The server's end of each is closed, too: only now could the connection be over.
            drop(listener.accept().unwrap());
        }
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let port = format!(":{:04X} ", address.port());
        let left = table
            .lines()
            .filter(|line| line.contains(&port) && !line.contains(" 0A "));
        assert_eq!(
            left.collect::<Vec<_>>(),
            [""; 0],
            "but for the listener (0A)"
        );
    }

    #[test]
    fn a_closed_port_is_refused() {
        // Bound but not listening: nobody else can take the port meanwhile.
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound
            .bind(&SocketAddr::from(([127, 77, 0, 1], 0)).into())
            .unwrap();
        let address = bound.local_addr().unwrap().as_socket().unwrap();
        let refused = ProbeResult::Failed(ProbeFailure::Refused);
        assert_eq!(run(ProbeAddress::Tcp(address)), refused);
    }

    #[test]
    fn a_broadcast_address_is_no_way_to_anywhere() {
        let address = ProbeAddress::Tcp(SocketAddr::from(([255, 255, 255, 255], 9)));
        assert_eq!(run(address), ProbeResult::Failed(ProbeFailure::Unreachable));
    }

    #[test]
    fn unix_sockets_answer_refuse_or_are_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backend.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(run(ProbeAddress::Unix(path.clone())), ProbeResult::Ok);
        drop(listener);
        let refused = ProbeResult::Failed(ProbeFailure::Refused);
        assert_eq!(
            run(ProbeAddress::Unix(path)),
            refused,
            "the file without its listener"
        );
        let missing = ProbeResult::Failed(ProbeFailure::Other(Errno::NOENT.raw_os_error()));
        assert_eq!(
            run(ProbeAddress::Unix(folder.path().join("none.sock"))),
            missing
        );
        let long = folder.path().join("x".repeat(200));
        let invalid = ProbeResult::Failed(ProbeFailure::Other(0));
        assert_eq!(
            run(ProbeAddress::Unix(long)),
            invalid,
            "longer than sun_path"
        );
    }

    #[test]
    fn a_connection_torn_down_at_once_is_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = Socket::from(StdStream::connect(address).unwrap());
        connected_to(&client, address).unwrap();

        let server = Socket::from(listener.accept().unwrap().0);
        server.set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        // The reset is on its way through the loopback device.
        let deadline = Instant::now() + Duration::from_secs(30);
        let error = loop {
            match connected_to(&client, address) {
                Ok(()) if Instant::now() < deadline => std::thread::yield_now(),
                outcome => break outcome.unwrap_err(),
            }
        };
        assert_eq!(failure_of(&error), ProbeFailure::Reset);
    }

    #[test]
    fn a_socket_connected_to_itself_is_refused() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap();
        let error = connected_to(&socket, own.as_socket().unwrap()).unwrap_err();
        assert_eq!(failure_of(&error), ProbeFailure::Refused);
    }

    #[test]
    fn errors_of_the_system_have_their_names() {
        let cases = [
            (Errno::CONNREFUSED, ProbeFailure::Refused),
            (Errno::TIMEDOUT, ProbeFailure::Timeout),
            (Errno::CONNRESET, ProbeFailure::Reset),
            (Errno::PIPE, ProbeFailure::Reset),
            (Errno::HOSTUNREACH, ProbeFailure::Unreachable),
            (Errno::NETUNREACH, ProbeFailure::Unreachable),
            (Errno::NETDOWN, ProbeFailure::Unreachable),
            (Errno::ADDRNOTAVAIL, ProbeFailure::NoPorts),
            (
                Errno::MFILE,
                ProbeFailure::Other(Errno::MFILE.raw_os_error()),
            ),
        ];
        for (errno, expected) in cases {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(failure_of(&error), expected, "{errno:?}");
        }
    }
}
