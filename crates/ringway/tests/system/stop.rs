//! The end of an instance: readiness first, then the listeners, then quiet connections gently, and
//! what is still busy at the deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::backend::{Backend, Server};
use crate::instance::Ringway;
use crate::peers::{End, connect, drain, end_by, fin, patient, read_exactly, until};
use crate::setup::{SHAPES, Setup};

/// What exit is allowed to take longer than `shutdown` says, and the host to be slow.
const SLACK: Duration = Duration::from_secs(5);

fn is_ready(ringway: &Ringway) -> bool {
    ringway
        .admin
        .get("/readyz")
        .is_ok_and(|answer| answer.status == 200)
}

#[test]
fn it_is_not_ready_at_once_but_accepts_until_the_delay_is_over() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(2);
    let mut ringway = setup.shutdown("{delay: 2s, drain: 5s}").start();
    let begun = Instant::now();
    ringway.signal(Signal::TERM);
    until("it says it is not ready", || !is_ready(&ringway));
    let answer = ringway.admin.get("/readyz").unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("draining"), "{}", answer.body);
    assert_eq!(ringway.admin.get("/livez").unwrap().status, 200);
    let mut served = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        let client = connect(ringway.address());
        assert_eq!(
            read_exactly::<1>(&client),
            [b'a'],
            "it does not accept any more"
        );
        served += 1;
    }
    assert!(served > 0, "the delay was over before the first look");
    until("it refuses", || {
        TcpStream::connect(ringway.address()).is_err()
    });
    let ended = ringway.process.end_within(SLACK + Duration::from_secs(5));
    assert_eq!(ended.code, Some(0));
}

#[test]
fn quiet_connections_get_a_fin_and_busy_ones_end_at_the_deadline() {
    for shape in SHAPES {
        let backend = Backend::new();
        let setup = Setup::to([backend.address()]).shape(shape);
        let mut ringway = setup.shutdown("{delay: 0s, drain: 2500ms}").start();
        let (quiet, quiet_accepted) = backend.pair(&ringway);
        let (busy, busy_accepted) = backend.pair(&ringway);
        thread::scope(|scope| {
            let sender = scope.spawn(|| while (&busy_accepted).write_all(&[1; 10_000]).is_ok() {});
            scope.spawn(|| while (&busy).read(&mut [0; 10_000]).is_ok_and(|len| len > 0) {});
            let ended = ringway.stop(Duration::from_millis(3500) + SLACK);
            assert!(ended.log.contains("draining"), "{}", ended.log);
            sender.join().unwrap();
        });
        assert_eq!(drain(&quiet), (Vec::new(), End::Fin), "{shape:?}");
        assert_eq!(drain(&quiet_accepted), (Vec::new(), End::Fin), "{shape:?}");
        assert!(TcpStream::connect(ringway.address()).is_err());
    }
}

/// So that their clients do not all return at once, and those come first who miss it least.
#[test]
fn the_longest_quiet_are_closed_first_and_not_all_at_once() {
    const CLIENTS: usize = 8;
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]);
    let mut ringway = setup.shutdown("{delay: 0s, drain: 8s}").start();
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(ringway.address())).collect();
    // In another order than they came.
    for at in (0..CLIENTS).rev() {
        let mut client = &clients[at];
        client.write_all(b"last").unwrap();
        assert_eq!(&read_exactly::<5>(client), b"alast");
    }
    ringway.signal(Signal::TERM);
    let closed = |client: &TcpStream| {
        let mut bytes = [0; 1];
        client.set_nonblocking(true).unwrap();
        let peeked = client.peek(&mut bytes);
        client.set_nonblocking(false).unwrap();
        matches!(peeked, Ok(0))
    };
    let mut seen = Vec::new();
    let (mut together, mut told) = (0, false);
    until("all are closed", || {
        let new = (0..CLIENTS).filter(|at| !seen.contains(at) && closed(&clients[*at]));
        let mut new: Vec<usize> = new.collect();
        together = together.max(new.len());
        // Several at one look came in an order that is not known.
        new.sort_by(|a, b| b.cmp(a));
        seen.extend(new);
        if let Ok(status) = ringway.admin.get("/v1/status") {
            let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
            let left = status["drain"]["remaining_seconds"].as_f64();
            told |= left.is_some_and(|left| left > 0.0 && left <= 8.0);
        }
        seen.len() == CLIENTS
    });
    assert_eq!(seen, (0..CLIENTS).rev().collect::<Vec<_>>());
    assert!(together < CLIENTS, "all of them were closed at once");
    assert!(told, "the status did not say how long it lasts");
    // The last one goes with the last step: whether the process is in time then is judged elsewhere.
    drop(clients);
    ringway.process.end();
}

#[test]
fn it_ends_as_soon_as_the_last_connection_does() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(2);
    let mut ringway = setup.shutdown("{delay: 0s, drain: 10m}").start();
    let mut client = connect(ringway.address());
    assert_eq!(read_exactly::<1>(&client), [b'a']);
    ringway.signal(Signal::TERM);
    until("it refuses", || {
        TcpStream::connect(ringway.address()).is_err()
    });
    client.write_all(b"in the middle of something").unwrap();
    fin(&client);
    assert_eq!(
        drain(&client),
        (b"in the middle of something".to_vec(), End::Fin)
    );
    assert_eq!(ringway.process.end().code, Some(0));
}

/// A connection that was made is served; after the last one the next is refused.
#[test]
fn no_connection_is_cut_when_the_listeners_close() {
    for workers in [1, 2, 4] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).workers(workers);
        let mut ringway = setup.shutdown("{delay: 0s, drain: 30s}").start();
        let address = ringway.address();
        let visit = || Ok(patient(TcpStream::connect(address)?));
        assert_eq!(cut_while_it_stops(&server, &mut ringway, visit), 0);
    }
}

#[test]
fn no_connection_is_cut_when_a_unix_socket_closes() {
    for workers in [1, 2] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).workers(workers);
        let setup = setup.binds(&["unix:DIR/front.sock"]);
        let mut ringway = setup.shutdown("{delay: 0s, drain: 30s}").start();
        let path = ringway.dir().join("front.sock");
        assert_eq!(
            cut_while_it_stops(&server, &mut ringway, || UnixStream::connect(&path)),
            0
        );
    }
}

/// How many connections end without a greeting while clients come one after the other and it stops.
fn cut_while_it_stops<S: Read>(
    server: &Server,
    ringway: &mut Ringway,
    visit: impl Fn() -> io::Result<S> + Sync,
) -> usize {
    const CLIENTS: usize = 4;
    let cut = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    match visit() {
                        Ok(mut client) => match client.read(&mut [0; 1]) {
                            Ok(len) => assert_eq!(len, 1, "taken and not served"),
                            Err(error) => {
                                end_by(error);
                                cut.fetch_add(1, Ordering::Relaxed);
                            }
                        },
                        Err(error) => {
                            let kind = error.kind();
                            let is_closed = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];
                            assert!(is_closed.contains(&kind), "{error}");
                            return;
                        }
                    }
                }
            });
        }
        until("there is load", || server.served() > 200);
        ringway.stop(Duration::from_secs(31) + SLACK);
    });
    cut.into_inner()
}

#[test]
fn every_way_to_ask_for_the_end_works() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::echo(b'a');
        let mut ringway = Setup::to([server.address()]).workers(2).start();
        ringway.signal(signal);
        assert_eq!(ringway.process.end().code, Some(0), "{signal:?}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
        let backend = Backend::new();
        let setup = Setup::to([backend.address()]).workers(2);
        let mut ringway = setup.shutdown("{delay: 10m, drain: 10m}").start();
        let (client, accepted) = backend.pair(&ringway);
        ringway.signal(first);
        until("it drains", || !is_ready(&ringway));
        ringway.signal(second);
        let ended = ringway.process.end();
        assert_eq!(ended.code, Some(1), "{}", ended.log);
        // Whatever they had to say to each other, they are told.
        drain(&client);
        drain(&accepted);
    }
}
