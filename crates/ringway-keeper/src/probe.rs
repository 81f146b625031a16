//! One probe: a connection is made, perhaps something is sent and looked at, and it is dropped. The deadline
//! is the keeper's, which drops the future.
//!
//! Sockets are non-blocking and used by plain system calls; the ring only waits until one is ready, so that
//! nothing can block and a probe can be given up at any moment. Invariant: whatever the outcome, the probe
//! leaves no socket behind, not even one in TIME_WAIT.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use monoio::net::UnixStream;
use ringway_health::{Answer, Check, Judgement, ProbeFailure, ProbeResult};
use ringway_uring::bind_local;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::target::ProbeAddress;

/// How long to wait for room in the queue of a unix listener, for which the kernel offers no readiness.
const UNIX_RETRY: Duration = Duration::from_millis(20);

/// Bytes read at once: what decides is shorter, or comes in several pieces.
const READ_BYTES: usize = 256;

/// Descriptors of a probe that waits: its socket, and the same once more for who waits, see `readiness`.
pub const DESCRIPTORS_PER_PROBE: u64 = 2;

/// How a probe missed.
#[derive(Debug)]
enum Miss {
    System(io::Error),
    Answer(ProbeFailure),
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for Miss {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// Connects once, sends the preface, asks what `check` asks and says how that went.
pub(crate) async fn probe(
    address: ProbeAddress,
    sources: Arc<[IpAddr]>,
    preface: Arc<[u8]>,
    check: Arc<Check>,
) -> ProbeResult {
    let outcome = match address {
        ProbeAddress::Tcp(address) => probe_tcp(address, &sources, &preface, &check).await,
        ProbeAddress::Unix(path) => probe_unix(&path, &preface, &check).await,
    };
    match outcome {
        Ok(()) => ProbeResult::Ok,
        Err(Miss::System(error)) => ProbeResult::Failed(failure_of(&error)),
        Err(Miss::Answer(failure)) => ProbeResult::Failed(failure),
    }
}

async fn probe_tcp(
    address: SocketAddr,
    sources: &[IpAddr],
    preface: &[u8],
    check: &Check,
) -> Result<(), Miss> {
    let mut own = sources
        .iter()
        .filter(|source| source.is_ipv4() == address.is_ipv4())
        .peekable();
    let socket = loop {
        let source = own.next().copied();
        match connected(address, source).await {
            Err(error) if is_no_port(&error) && own.peek().is_some() => {}
            outcome => break outcome?,
        }
    };
    introduce(&socket, preface)?;
    ask(&socket, check).await
}

fn is_no_port(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ADDRNOTAVAIL.raw_os_error())
}

/// A connection to there, from an address of this host if one is given.
async fn connected(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // Closing resets the connection. A FIN would leave a socket in TIME_WAIT on this side for a minute after
    // each probe, and with enough backends no port for the traffic. The price: the server may find a reset
    // on the connection it accepts, as with other balancers that do the same.
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(source) = source {
        bind_local(socket.as_fd(), source)?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {
            readiness(&socket)?.writable(false).await?;
        }
        outcome => outcome?,
    }
    connected_to(&socket, address)?;
    Ok(socket)
}

/// The runtime wants to own what it waits for, gives no access to SO_ERROR, and waits for types of its own
/// only: it gets a second descriptor of the same socket, in a type that wraps any.
fn readiness(socket: &Socket) -> io::Result<UnixStream> {
    let second = OwnedFd::from(socket.try_clone()?);
    UnixStream::from_std(second.into())
}

/// A connection that has just been made has room for a header.
fn introduce(socket: &Socket, preface: &[u8]) -> Result<(), Miss> {
    if preface.is_empty() {
        return Ok(());
    }
    match send(socket, preface, SendFlags::NOSIGNAL)? {
        sent if sent == preface.len() => Ok(()),
        _ => Err(Errno::NOBUFS.into()),
    }
}

/// Sends what the check sends and reads until the answer is known.
async fn ask(socket: &Socket, check: &Check) -> Result<(), Miss> {
    let mut answer = Answer::new(check);
    if answer.outset() == Judgement::Right {
        return Ok(());
    }
    let ready = readiness(socket)?;
    let mut unsent = check.request();
    // A backend that answers without reading may have reset the connection by now. What it answered is still
    // there to be read, and says more.
    let mut cut = Miss::Answer(ProbeFailure::EarlyClose);
    while !unsent.is_empty() {
        match send(socket, unsent, SendFlags::NOSIGNAL) {
            Ok(sent) => unsent = &unsent[sent..],
            Err(Errno::WOULDBLOCK) => ready.writable(false).await?,
            Err(errno) => {
                cut = errno.into();
                break;
            }
        }
    }
    loop {
        match read_into(&mut answer, socket) {
            Ok(None) => return Err(cut),
            Ok(Some(Judgement::Right)) => return Ok(()),
            Ok(Some(Judgement::Wrong(got))) => {
                return Err(Miss::Answer(ProbeFailure::WrongAnswer(got)));
            }
            Ok(Some(Judgement::Open)) => {}
            Err(Errno::WOULDBLOCK) => ready.readable(false).await?,
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Takes in what is there; none at the end of the stream.
fn read_into(answer: &mut Answer<'_>, socket: &Socket) -> Result<Option<Judgement>, Errno> {
    let mut buffer = [0; READ_BYTES];
    let (count, _) = recv(socket, &mut buffer, RecvFlags::empty())?;
    Ok((count > 0).then(|| answer.feed(&buffer[..count])))
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

async fn probe_unix(path: &Path, preface: &[u8], check: &Check) -> Result<(), Miss> {
    let address = SockAddr::unix(path)?;
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        match socket.connect(&address) {
            // The queue of the listener is full: unix(7) has no connect in progress, only another try.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                monoio::time::sleep(UNIX_RETRY).await;
            }
            outcome => {
                outcome?;
                introduce(&socket, preface)?;
                return ask(&socket, check).await;
            }
        }
    }
}

fn failure_of(error: &io::Error) -> ProbeFailure {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    if let Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) = errno {
        return ProbeFailure::Resources;
    }
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
        crate::thread::build_runtime().unwrap().block_on(probe(
            address,
            Arc::default(),
            Arc::default(),
            Arc::new(Check::Connect),
        ))
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
            (Errno::MFILE, ProbeFailure::Resources),
            (Errno::NFILE, ProbeFailure::Resources),
            (Errno::NOMEM, ProbeFailure::Resources),
            (Errno::NOBUFS, ProbeFailure::Resources),
            (
                Errno::ACCESS,
                ProbeFailure::Other(Errno::ACCESS.raw_os_error()),
            ),
        ];
        for (errno, expected) in cases {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(failure_of(&error), expected, "{errno:?}");
        }
    }
}
