//! Kinds of addresses, on both sides.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::backend::{Backend, Server};
use crate::instance::Ringway;
use crate::keyed;
use crate::peers::{End, connect, drain, fin_unix, read_exactly, reset, until};
use crate::places::port_of_all;
use crate::setup::{MODES, SHAPES, Setup};

const BYTES: u64 = 3_000_000;

/// A client and a backend on Unix sockets, in every mode.
#[test]
fn unix_sockets_relay_like_tcp() {
    for shape in SHAPES {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("backend.sock");
        let backend = UnixListener::bind(&path).unwrap();
        let setup = Setup::to([format!("unix:{}", path.display())]).shape(shape);
        let ringway = setup.binds(&["unix:DIR/front.sock"]).start();
        let front = ringway.dir().join("front.sock");
        assert_eq!(ringway.addresses(), [format!("unix:{}", front.display())]);
        let client = UnixStream::connect(&front).unwrap();
        let (accepted, _) = backend.accept().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                keyed::send(&client, 1, BYTES);
                fin_unix(&client);
            });
            scope.spawn(|| {
                keyed::send(&accepted, 2, BYTES);
                fin_unix(&accepted);
            });
            scope
                .spawn(|| assert_eq!(keyed::receive(&accepted, 1), (BYTES, End::Fin), "{shape:?}"));
            assert_eq!(keyed::receive(&client, 2), (BYTES, End::Fin), "{shape:?}");
        });
        ringway.until_bytes(BYTES, BYTES);
    }
}

#[test]
fn tcp_and_unix_sockets_mix() {
    for mode in MODES {
        let backend = Backend::new();
        let setup = Setup::to([backend.address()]).relay(mode).workers(2);
        let ringway = setup.binds(&["unix:DIR/front.sock", "127.0.0.1:0"]).start();
        let mut client = UnixStream::connect(ringway.dir().join("front.sock")).unwrap();
        let mut accepted = backend.accept();
        client.write_all(b"over unix").unwrap();
        assert_eq!(&read_exactly::<9>(&accepted), b"over unix", "{mode:?}");
        accepted.write_all(b"over tcp").unwrap();
        drop(accepted);
        assert_eq!(drain(&client), (b"over tcp".to_vec(), End::Fin), "{mode:?}");
    }
}

#[test]
fn the_sockets_it_makes_are_removed_and_the_admin_one_is_its_owners_alone() {
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]).binds(&["unix:DIR/front.sock"]);
    let mut ringway = setup.start();
    let (front, admin) = (
        ringway.dir().join("front.sock"),
        ringway.dir().join("admin.sock"),
    );
    let mode = std::fs::metadata(&admin).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(front.exists());
    ringway.stop(crate::peers::PATIENCE);
    assert!(!front.exists() && !admin.exists());
}

/// One that crashed leaves its socket file behind.
#[test]
fn a_socket_file_of_a_dead_process_is_replaced_and_that_of_a_live_one_is_not() {
    let server = Server::echo(b'a');
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("front.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the standard library leaves it");
    let bind = format!("unix:{}", path.display());
    let ringway = Setup::to([server.address()]).binds(&[&bind]).start();
    let greeting = || read_exactly::<1>(UnixStream::connect(&path).unwrap());
    assert_eq!(greeting(), [b'a']);
    let ended = Setup::to([server.address()]).binds(&[&bind]).launch().end();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("front.sock") && ended.log.contains("in use"),
        "{}",
        ended.log
    );
    assert_eq!(greeting(), [b'a']);
    drop(ringway);
}

fn answers(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok_and(|client| read_exactly::<1>(client) == [b'a'])
}

#[test]
fn several_addresses_are_served_at_once() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(4);
    let ringway = setup
        .binds(&["127.0.0.1:0", "127.0.0.2:0", "[::1]:0", "127.0.0.1:0"])
        .start();
    let addresses = ringway.addresses().to_vec();
    assert_eq!(addresses.len(), 4);
    for address in &addresses {
        let address: SocketAddr = address.parse().unwrap();
        assert_ne!(address.port(), 0);
        (0..20).for_each(|_| assert!(answers(address), "{address}"));
    }
}

#[test]
fn six_is_six_only() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()])
        .workers(2)
        .binds(&["[::]:0"])
        .start();
    let port = ringway.address().port();
    assert!(answers(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))));
    assert!(
        !answers(SocketAddr::from(([127, 0, 0, 1], port))),
        "v4 on a v6 address"
    );
}

#[test]
fn both_wildcards_share_a_port() {
    let server = Server::echo(b'a');
    let free = port_of_all();
    let (four, six) = (format!("0.0.0.0:{free}"), format!("[::]:{free}"));
    let ringway = Setup::to([server.address()])
        .workers(2)
        .binds(&[&four, &six])
        .start();
    assert!(answers(SocketAddr::from(([127, 0, 0, 1], free))));
    assert!(answers(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], free))));
    drop(ringway);
}

#[test]
fn a_backend_may_be_on_the_other_family() {
    let backend = Backend::at("[::1]:0".parse().unwrap());
    let ringway = Setup::to([backend.address()]).start();
    let mut client = connect(ringway.address());
    client.write_all(b"six").unwrap();
    assert_eq!(&read_exactly::<3>(backend.accept()), b"six");
}

/// A Unix socket that listens and whose queue is full.
struct Full {
    listener: Socket,
    queued: Vec<UnixStream>,
}

impl Full {
    fn bind(path: &Path) -> Full {
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let mut queued = Vec::new();
        loop {
            let filler = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            match filler.connect(&SockAddr::unix(path).unwrap()) {
                Ok(()) => queued.push(filler.into()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return Full { listener, queued };
                }
            }
        }
    }

    /// Takes what was there first, then the next one.
    fn accept_next(&self) -> UnixStream {
        for _ in &self.queued {
            self.listener.accept().unwrap();
        }
        self.listener.accept().unwrap().0.into()
    }
}

fn connect_failures(ringway: &Ringway, error: &str) -> i64 {
    let metrics = ringway.metrics();
    metrics.sum("backend_connect_failures_total", &[("error", error)])
}

#[test]
fn a_unix_backend_without_place_is_asked_again_until_there_is_some() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("backend.sock");
    for pool in [
        "connect: {timeout: 20s}",
        "connect: {timeout: 20s, attempts: 2}",
    ] {
        let _ = std::fs::remove_file(&path);
        let full = Full::bind(&path);
        let setup = Setup::to([format!("unix:{}", path.display())]).pool(pool);
        let ringway = setup.start();
        let mut client = connect(ringway.address());
        client.write_all(b"hello").unwrap();
        until("it was turned away once", || {
            connect_failures(&ringway, "queue_full") == 1
        });
        let mut accepted = full.accept_next();
        assert_eq!(&read_exactly::<5>(&accepted), b"hello");
        accepted.write_all(b"welcome").unwrap();
        drop(accepted);
        assert_eq!(drain(&client), (b"welcome".to_vec(), End::Fin));
    }
}

#[test]
fn another_backend_is_tried_before_one_without_place() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("backend.sock");
    let full = Full::bind(&path);
    let other = Server::echo(b'b');
    let places = [
        format!("unix:{}", path.display()),
        other.address().to_string(),
    ];
    let ringway = Setup::to(places).start();
    for _ in 0..4 {
        let client = connect(ringway.address());
        assert_eq!(read_exactly::<1>(&client), [b'b']);
    }
    assert_eq!(connect_failures(&ringway, "queue_full"), 2);
    drop(full);
}

#[test]
fn a_unix_backend_that_never_has_place_times_out() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("backend.sock");
    let full = Full::bind(&path);
    let setup = Setup::to([format!("unix:{}", path.display())]);
    let ringway = setup.pool("connect: {timeout: 300ms}").start();
    assert_eq!(drain(connect(ringway.address())), (Vec::new(), End::Reset));
    assert_eq!(connect_failures(&ringway, "timeout"), 1);
    // A client that leaves takes its attempt with it.
    reset(connect(ringway.address()));
    ringway.until_connections(0);
    // And so does the end.
    let waiting = connect(ringway.address());
    ringway.until_connections(1);
    drop(waiting);
    ringway.until_connections(0);
    drop(full);
}
