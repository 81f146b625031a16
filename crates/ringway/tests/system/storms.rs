//! Thousands of connections that are reset at every phase of their life, beside connections that are
//! not: nothing of one may show up in another, and nothing is left.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::backend::{BlackHole, Hoard, Server};
use crate::keyed::{self, Dice, Keyed};
use crate::peers::{End, connect, drain, fin, read_exactly, reset, reset_at_close, until};
use crate::scale;
use crate::setup::{MODES, Setup};

/// What a connection does before it is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing: the backend may not even be connected.
    Connecting,
    /// It has sent, and heard nothing yet.
    BeforeFirstByte,
    /// Both directions are full of bytes.
    MidTransfer,
    /// The client has sent its FIN.
    HalfClosed,
    /// As in the middle, and the backend resets.
    ByBackend,
}

const PHASES: [Phase; 5] = [
    Phase::Connecting,
    Phase::BeforeFirstByte,
    Phase::MidTransfer,
    Phase::HalfClosed,
    Phase::ByBackend,
];

/// What the client tells the backend first: the key of both streams, how many bytes to send, whether to
/// reset after that, and how many bytes of its own come before its FIN.
pub(crate) const HEAD_BYTES: usize = 25;
/// For a client that sends no FIN.
pub(crate) const NEVER: u64 = u64::MAX;

pub(crate) fn head(key: u64, bytes: u64, resets: bool, fin_after: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&key.to_le_bytes());
    head[8..16].copy_from_slice(&bytes.to_le_bytes());
    head[16] = u8::from(resets);
    head[17..].copy_from_slice(&fin_after.to_le_bytes());
    head
}

/// Checks the client's stream while it sends its own. Returns how many bytes came before a FIN and how
/// many should have; none where the end is not known to be the client's.
fn serve(mut stream: TcpStream) -> Option<(u64, u64)> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).ok()?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
    let (key, mut left) = (number(0), number(8));
    let reader = stream.try_clone().unwrap();
    let checked = thread::spawn(move || keyed::receive(&reader, key));
    let mut own = Keyed::new(!key);
    while left > 0 {
        let chunk = own.chunk(left.min(30_000));
        if stream.write_all(chunk).is_err() {
            break;
        }
        left -= chunk.len() as u64;
    }
    if head[16] == 1 {
        reset_at_close(&stream);
        let _ = stream.shutdown(std::net::Shutdown::Read);
    } else {
        // The client may be gone.
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let (received, end) = checked
        .join()
        .expect("the backend got bytes that are not this client's");
    // A failed send has taken the error that would have told of a reset; a backend that resets, or is
    // killed, hears the end of everything.
    let is_told = socket2::SockRef::from(&stream).linger().unwrap().is_none();
    let is_known = end == End::Fin && is_told && left == 0;
    is_known.then_some((received, number(17)))
}

pub(crate) fn backend(stream: TcpStream) {
    if let Some((received, meant)) = serve(stream) {
        assert_eq!(received, meant, "a stream that was cut ends by a FIN");
    }
}

fn reset_at(phase: Phase, address: SocketAddr, key: u64) {
    let mut client = connect(address);
    let (mut own, mut other) = (Keyed::new(key), Keyed::new(!key));
    let mut dice = Dice(key);
    let bytes = 1 + dice.roll(300_000);
    let mut read_some = |client: &mut TcpStream, most: u64| {
        let mut buffer = vec![0; most as usize];
        let len = client.read(&mut buffer).unwrap_or(0);
        other.expect(&buffer[..len]);
    };
    match phase {
        Phase::Connecting => {}
        Phase::BeforeFirstByte => client.write_all(&head(key, bytes, false, NEVER)).unwrap(),
        Phase::MidTransfer => {
            client.write_all(&head(key, bytes, false, NEVER)).unwrap();
            client.write_all(own.chunk(50_000)).unwrap();
            read_some(&mut client, bytes);
        }
        Phase::HalfClosed => {
            let chunk = own.chunk(50_000);
            let head = head(key, bytes, false, chunk.len() as u64);
            client.write_all(&head).unwrap();
            client.write_all(chunk).unwrap();
            fin(&client);
            read_some(&mut client, bytes);
        }
        Phase::ByBackend => {
            client.write_all(&head(key, bytes, true, NEVER)).unwrap();
            // It may be reset while it sends.
            let sent = client.write_all(own.chunk(50_000));
            let (received, end) = keyed::receive(&client, !key);
            assert!(received <= bytes);
            // A failed send has taken the error that told of the reset.
            assert!(sent.is_err() || end == End::Reset, "key {key}");
        }
    }
    reset(client);
}

/// A connection that lives as long as the storm, and is whole at its end.
fn steady(address: SocketAddr, key: u64) {
    const BYTES: u64 = 3_000_000;
    let mut client = connect(address);
    client.write_all(&head(key, BYTES, false, BYTES)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            keyed::send(&client, key, BYTES);
            fin(&client);
        });
        assert_eq!(keyed::receive(&client, !key), (BYTES, End::Fin));
    });
}

#[test]
fn resets_at_every_phase_leave_nothing_behind() {
    let per_phase = scale::connections(3000) / (MODES.len() * PHASES.len()) as u64;
    for (mode, workers) in MODES.into_iter().zip([2, 1, 4, 1]) {
        let server = Server::new(backend);
        let ringway = Setup::to([server.address()])
            .relay(mode)
            .workers(workers)
            .start();
        let address = ringway.address();
        thread::scope(|scope| {
            for (lane, phase) in (1..).zip(PHASES) {
                scope.spawn(move || {
                    (0..per_phase).for_each(|n| reset_at(phase, address, lane << 32 | n));
                });
                scope.spawn(move || (0..5).for_each(|n| steady(address, lane << 48 | n)));
            }
        });
        let accepted = || ringway.metrics().sum("listener_connections_total", &[]);
        // The kernel forgets who resets while the listener is locked for somebody else's accept (it counts
        // EmbryonicRsts): one of many thousands that reset at once was never there to be accepted.
        let (all, forgotten) = (5 * (per_phase + 5), 1 + per_phase / 1000);
        until("all were accepted", || {
            (all - forgotten..=all).contains(&(accepted() as u64))
        });
        ringway.until_connections(0);
        server.until_sound();
    }
}

#[test]
fn clients_that_leave_while_the_backend_is_connected_are_forgotten() {
    for mode in MODES {
        let hole = BlackHole::new();
        let setup = Setup::to([hole.address()]).relay(mode).workers(2);
        let ringway = setup.pool("connect: {timeout: 1m, attempts: 1}").start();
        for round in 0..300 {
            let mut client = connect(ringway.address());
            if round % 2 == 0 {
                client.write_all(b"never delivered").unwrap();
            }
            reset(client);
        }
        // Long before the attempts would time out.
        ringway.until_closed("client", "reset", 300);
    }
}

/// Relays whose backend dies at the same instant: the instance stands still until all of it has happened.
#[test]
fn many_connections_end_in_one_turn() {
    let open = scale::fitting(1000, 10_000);
    let backend = Hoard::new(b'a');
    let ringway = Setup::to([backend.address()]).workers(2).start();
    let greeted = |_| {
        let client = connect(ringway.address());
        assert_eq!(read_exactly::<1>(&client), [b'a']);
        client
    };
    let clients: Vec<TcpStream> = (0..open).map(greeted).collect();
    ringway.until_connections(open as u64);
    ringway.freeze();
    backend.close().into_iter().for_each(reset);
    ringway.signal(Signal::CONT);
    let begun = Instant::now();
    for client in &clients {
        assert_eq!(drain(client), (Vec::new(), End::Reset));
    }
    let took = begun.elapsed();
    ringway.until_closed("backend", "reset", open as i64);
    eprintln!("{open} relays told of the end of their backend within {took:?}");
    // None was lost, and if some had not fitted the ring, this would tell.
    let overflows = ringway.metrics().each("uring_cq_overflow_total", &[]);
    assert_eq!(overflows.len(), 2);
}

/// A signal that finds a thread of the kernel in the middle of a relay is not the end of anything.
#[test]
fn a_process_that_is_stopped_again_and_again_loses_nothing() {
    const CLIENTS: u64 = 48;
    const EXCHANGES: u64 = 200;
    const STOP_EVERY: u64 = 16;
    for mode in MODES {
        let server = Server::echo(b'a');
        let ringway = Setup::to([server.address()]).relay(mode).start();
        let address = ringway.address();
        let exchanged = AtomicU64::new(0);
        thread::scope(|scope| {
            let exchanged = &exchanged;
            let talking: Vec<_> = (0..CLIENTS)
                .map(|key| {
                    scope.spawn(move || {
                        let mut client = connect(address);
                        assert_eq!(read_exactly::<1>(&client), [b'a']);
                        let mut own = Keyed::new(key);
                        for _ in 0..EXCHANGES {
                            let message = own.next(5000);
                            client.write_all(message).unwrap();
                            assert_eq!(&read_exactly::<5000>(&client)[..], message, "{mode:?}");
                            exchanged.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            // One stop per few exchanges: signals alone would keep it from making any.
            let mut stopped_at = 0;
            while !talking.iter().all(|client| client.is_finished()) {
                let exchanged = exchanged.load(Ordering::Relaxed);
                if exchanged >= stopped_at + STOP_EVERY {
                    ringway.signal(Signal::STOP);
                    ringway.signal(Signal::CONT);
                    stopped_at = exchanged;
                }
                thread::yield_now();
            }
            let results: Vec<_> = talking.into_iter().map(|client| client.join()).collect();
            assert!(results.iter().all(Result::is_ok), "{mode:?}");
        });
    }
}
