//! Thousands of connections that want the same thing at once, beside a few that want something else:
//! nobody waits for the crowd, and every one of it is accounted for.
//!
//! As many as descriptors allow: a peer of each takes one here, and the instance takes two.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::backend::{Backend, Hoard, Server};
use crate::instance::Ringway;
use crate::peers::{End, PATIENCE, connect, connect_narrow, drain, fin, read_exactly, until};
use crate::scale::fitting;
use crate::setup::{MODES, Setup};

/// What an exchange of a few bytes may take beside a crowd. Not a measure of speed: what is stalled by
/// others waits for a deadline that is longer than this.
const NOT_STALLED: Duration = Duration::from_secs(10);

/// Sends until nothing more fits, at most so many bytes; how many it were.
pub(crate) fn stuff(mut stream: &TcpStream, most: usize) -> usize {
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent < most {
        match stream.write(&[7; 50_000]) {
            Ok(len) => sent += len,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                break;
            }
        }
    }
    stream.set_nonblocking(false).unwrap();
    sent
}

/// Sends what nobody reads until all buffers on the way are full.
fn clog(ringway: &Ringway, clients: &[TcpStream]) {
    let send = || -> usize { clients.iter().map(|client| stuff(client, usize::MAX)).sum() };
    while send() > 0 {
        ringway.until_blocked("client");
    }
}

pub(crate) fn exchange(mut one: &TcpStream, mut other: &TcpStream) {
    for stream in [one, other] {
        stream.set_read_timeout(Some(NOT_STALLED)).unwrap();
    }
    let question = [b'?'; 9000];
    one.write_all(&question).unwrap();
    assert_eq!(read_exactly::<9000>(other), question);
    other.write_all(b"!").unwrap();
    assert_eq!(read_exactly::<1>(one), *b"!");
}

/// Each of them blocks a direction, which holds buffers or a pipe for as long as nobody reads.
#[test]
fn thousands_who_do_not_read_do_not_stall_the_others_of_their_worker() {
    for mode in MODES {
        let backend = Backend::new();
        // Otherwise the kernel takes megabytes for each of them, and nothing is blocked.
        let setup = Setup::to([backend.address()]).relay(mode);
        let ringway = setup.listener("tcp: {send_buffer: 16KiB}").start();
        let before: Vec<_> = (0..5).map(|_| backend.pair(&ringway)).collect();
        let block = |_| {
            let client = connect_narrow(ringway.address());
            let accepted = backend.accept();
            SockRef::from(&accepted)
                .set_send_buffer_size(32 * 1024)
                .unwrap();
            (client, accepted)
        };
        let mut blocked: Vec<_> = (0..fitting(2600, 2600)).map(block).collect();
        // A pause in which all went on makes room for more.
        let stuff_all = || -> usize {
            let each = blocked
                .iter()
                .map(|(_, accepted)| stuff(accepted, 1_000_000));
            each.sum()
        };
        while stuff_all() > 0 {
            ringway.until_blocked("backend");
        }
        let after: Vec<_> = (0..5).map(|_| backend.pair(&ringway)).collect();
        for _ in 0..3 {
            for (client, accepted) in before.iter().chain(&after) {
                exchange(client, accepted);
                exchange(accepted, client);
            }
        }
        // Nor are those lost who read at last.
        let (client, accepted) = blocked.pop().unwrap();
        fin(&accepted);
        let (bytes, end) = drain(&client);
        assert!(bytes.iter().all(|byte| *byte == 7), "{mode:?}");
        assert_eq!(end, End::Fin, "{mode:?}");
        drop((client, accepted, blocked, before, after));
        ringway.until_connections(0);
    }
}

fn greeted(address: SocketAddr) -> (TcpStream, u8) {
    let client = connect(address);
    client.set_read_timeout(Some(NOT_STALLED)).unwrap();
    let [name] = read_exactly::<1>(&client);
    (client, name)
}

#[test]
fn thousands_are_drained_by_the_deadline() {
    let backend = Hoard::new(b'a');
    let setup = Setup::to([backend.address()]).workers(2);
    let setup = setup.access_log("DIR/access.log");
    let mut ringway = setup.shutdown("{delay: 0s, drain: 2s}").start();
    let count = fitting(2600, 2600);
    let clients: Vec<TcpStream> = (0..count).map(|_| greeted(ringway.address()).0).collect();
    let (busy, quiet) = clients.split_at(10);
    clog(&ringway, busy);
    ringway.until_balanced(count as i64);
    // Its end may take longer than the window by the host's slowness, not by the number of connections.
    ringway.stop(Duration::from_secs(2) + NOT_STALLED);
    for client in quiet {
        assert_eq!(drain(client), (Vec::new(), End::Fin));
    }
    for client in busy {
        assert_eq!(drain(client), (Vec::new(), End::Reset));
    }
    let lines = ringway.json_lines("access.log", count);
    let of_reason = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    assert_eq!(of_reason("drain"), count);
    let sum = |key: &str, side: &str| -> u64 {
        lines
            .iter()
            .map(|line| line[key][side].as_u64().unwrap())
            .sum()
    };
    assert_eq!(
        (
            sum("received_bytes", "backend"),
            sum("sent_bytes", "client")
        ),
        (count as u64, count as u64)
    );
    assert!(sum("sent_bytes", "backend") <= sum("received_bytes", "client"));
    drop(backend.close());
}

/// Goes on with old and new connections until it is told to stop: how many exchanges that were.
fn go_on(address: SocketAddr, others: &[TcpStream], is_over: &AtomicBool) -> usize {
    let begun = Instant::now();
    let mut exchanges = 0;
    while !is_over.load(Ordering::Relaxed) && begun.elapsed() < 2 * PATIENCE {
        for mut client in others {
            client.write_all(b"?").unwrap();
            assert_eq!(read_exactly::<1>(client), *b"?");
        }
        assert_eq!(greeted(address).1, b'w', "a new one went to a dead backend");
        exchanges += 1 + others.len();
    }
    exchanges
}

#[test]
fn thousands_lose_their_backend_and_the_others_go_on_meanwhile() {
    let (sick, well) = (Hoard::new(b's'), Server::echo(b'w'));
    let none: [SocketAddr; 0] = [];
    let setup = Setup::to(none)
        .backend(sick.address(), "weight: 99")
        .backend(well.address(), "weight: 1");
    let setup = setup.pool("when_backend_down: close").health_checks();
    let ringway = setup.workers(2).start();
    until("both are up", || {
        [0, 1].iter().all(|at| ringway.backend_state(*at) == "up")
    });
    let clients = (0..fitting(2600, 2600)).map(|_| greeted(ringway.address()));
    let (theirs, others): (Vec<_>, Vec<_>) = clients.partition(|(_, name)| *name == b's');
    let others: Vec<TcpStream> = others.into_iter().map(|(client, _)| client).collect();
    assert!(theirs.len() > 50 * others.len() && others.len() > 2);
    let is_over = AtomicBool::new(false);
    let kept = sick.close();
    thread::scope(|scope| {
        let going_on = scope.spawn(|| go_on(ringway.address(), &others, &is_over));
        let ends = theirs.iter().map(|(client, _)| drain(client));
        let cut = ends.filter(|end| *end == (Vec::new(), End::Reset)).count();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(cut, theirs.len());
        assert!(going_on.join().unwrap() > others.len());
    });
    ringway.until_closed("backend", "drain", theirs.len() as i64);
    for stream in &kept {
        assert_eq!(drain(stream), (Vec::new(), End::Reset));
    }
}
