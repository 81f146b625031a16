//! How connections end: FIN as FIN in either order, a reset as a reset, and neither before the bytes
//! that came before it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Barrier;
use std::thread;

use crate::backend::Backend;
use crate::keyed::{self, Keyed};
use crate::peers::{End, connect, connect_narrow, drain, fin, read_exactly, reset, until};
use crate::setup::{MODES, Relay, SHAPES, Setup};

/// Who does something first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Client,
    Backend,
}

const EITHER: [First; 2] = [First::Client, First::Backend];

impl First {
    fn side(self) -> &'static str {
        match self {
            First::Client => "client",
            First::Backend => "backend",
        }
    }

    /// Its stream, then the other's.
    fn order(self, (client, backend): (TcpStream, TcpStream)) -> (TcpStream, TcpStream) {
        match self {
            First::Client => (client, backend),
            First::Backend => (backend, client),
        }
    }

    /// Bytes of client and backend, given those of the first and of the other.
    fn bytes(self, first: u64, other: u64) -> (u64, u64) {
        match self {
            First::Client => (first, other),
            First::Backend => (other, first),
        }
    }
}

fn half_close(shape: (Relay, u16), first: First, before: u64, after: u64) {
    let backend = Backend::new();
    let ringway = Setup::to([backend.address()]).shape(shape).start();
    let (closing, open) = first.order(backend.pair(&ringway));
    thread::scope(|scope| {
        scope.spawn(|| {
            keyed::send(&closing, 1, before);
            fin(&closing);
        });
        assert_eq!(
            keyed::receive(&open, 1),
            (before, End::Fin),
            "{shape:?} {first:?}"
        );
        // The other direction goes on for as long as its sender likes.
        scope.spawn(|| {
            keyed::send(&open, 2, after);
            fin(&open);
        });
        assert_eq!(
            keyed::receive(&closing, 2),
            (after, End::Fin),
            "{shape:?} {first:?}"
        );
    });
    let (up, down) = first.bytes(before, after);
    ringway.until_bytes(up, down);
    ringway.until_closed(first.side(), "fin", 1);
}

#[test]
fn either_side_half_closes_and_the_other_goes_on() {
    for shape in SHAPES {
        for first in EITHER {
            for (before, after) in [(0, 0), (8, 11), (0, 700_000), (700_000, 1)] {
                half_close(shape, first, before, after);
            }
        }
    }
}

#[test]
fn bytes_and_fin_sent_before_the_backend_accepts_arrive() {
    for mode in MODES {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()]).relay(mode).start();
        let mut client = connect(ringway.address());
        client.write_all(b"impatient").unwrap();
        fin(&client);
        let accepted = backend.accept();
        assert_eq!(
            drain(&accepted),
            (b"impatient".to_vec(), End::Fin),
            "{mode:?}"
        );
        drop(accepted);
        assert_eq!(drain(&client), (Vec::new(), End::Fin), "{mode:?}");
    }
}

#[test]
fn a_reset_comes_after_the_bytes_before_it() {
    for shape in SHAPES {
        for first in EITHER {
            for len in [0, 16, 150_000] {
                let backend = Backend::new();
                let ringway = Setup::to([backend.address()]).shape(shape).start();
                let (mut resetting, other) = first.order(backend.pair(&ringway));
                resetting.write_all(Keyed::new(3).next(len)).unwrap();
                // A reset discards what the kernel has not handed over yet; that is the sender's doing.
                until("received", || ringway.received(first.side()) == len as i64);
                reset(resetting);
                let expected = (len as u64, End::Reset);
                assert_eq!(keyed::receive(&other, 3), expected, "{shape:?} {first:?}");
                ringway.until_closed(first.side(), "reset", 1);
            }
        }
    }
}

#[test]
fn a_reset_in_the_middle_of_a_stream_ends_a_prefix_of_it() {
    for shape in SHAPES {
        for first in EITHER {
            let backend = Backend::new();
            let ringway = Setup::to([backend.address()]).shape(shape).start();
            let (mut resetting, other) = first.order(backend.pair(&ringway));
            let received = thread::scope(|scope| {
                let received = scope.spawn(|| keyed::receive(&other, 4));
                let mut stream = Keyed::new(4);
                for _ in 0..40 {
                    resetting.write_all(stream.chunk(200_000)).unwrap();
                }
                reset(resetting);
                received.join().unwrap()
            });
            assert_eq!(received.1, End::Reset, "{shape:?} {first:?}");
            ringway.until_closed(first.side(), "reset", 1);
            // Everything that was sent on arrived: a reset never discards it.
            let sent = ringway.received(first.side()) as u64;
            assert_eq!(received.0, sent, "{shape:?} {first:?}");
        }
    }
}

#[test]
fn the_one_who_half_closed_is_told_of_a_reset() {
    for mode in MODES {
        for first in EITHER {
            let backend = Backend::new();
            let ringway = Setup::to([backend.address()]).relay(mode).start();
            let (closed, mut other) = first.order(backend.pair(&ringway));
            fin(&closed);
            assert_eq!(drain(&other), (Vec::new(), End::Fin));
            other.write_all(b"partial").unwrap();
            assert_eq!(&read_exactly::<7>(&closed), b"partial");
            reset(other);
            assert_eq!(
                drain(&closed),
                (Vec::new(), End::Reset),
                "{mode:?} {first:?}"
            );
        }
    }
}

/// More than all buffers on the way hold, and as much as fits the sender's own.
const PENDING: [u64; 2] = [50 * 1024 * 1024, 200_000];

#[test]
fn a_fin_waits_behind_bytes_that_nobody_reads_yet() {
    for shape in SHAPES {
        for pending in PENDING {
            let backend = Backend::new();
            let ringway = Setup::to([backend.address()]).shape(shape).start();
            let client = connect_narrow(ringway.address());
            let accepted = backend.accept();
            thread::scope(|scope| {
                let sender = scope.spawn(move || {
                    keyed::send(&accepted, 5, pending);
                    drop(accepted);
                });
                if pending == PENDING[1] {
                    // All of it is under way and the sender is gone before the first byte is read.
                    sender.join().unwrap();
                }
                let received = ringway.until_blocked("backend") as u64;
                assert!(received <= pending);
                assert_eq!(keyed::receive(&client, 5), (pending, End::Fin), "{shape:?}");
            });
            drop(client);
            ringway.until_bytes(0, pending);
            ringway.until_closed("backend", "fin", 1);
        }
    }
}

#[test]
fn a_fin_waits_behind_bytes_for_a_late_backend() {
    for mode in MODES {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()])
            .relay(mode)
            .workers(2)
            .start();
        let (client, accepted) = backend.pair(&ringway);
        thread::scope(|scope| {
            scope.spawn(move || {
                keyed::send(&client, 6, PENDING[0]);
                drop(client);
            });
            ringway.until_blocked("client");
            assert_eq!(
                keyed::receive(&accepted, 6),
                (PENDING[0], End::Fin),
                "{mode:?}"
            );
        });
        drop(accepted);
        ringway.until_bytes(PENDING[0], 0);
    }
}

/// One thousand pairs whose two ends close at the same instant, each pair in its own way.
#[test]
fn both_sides_close_at_once() {
    const ROUNDS: usize = 1000;
    for (relay, workers) in [
        (Relay::Auto, 2),
        (Relay::Splice, 1),
        (Relay::UringSplice, 1),
    ] {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()])
            .relay(relay)
            .workers(workers)
            .start();
        let together = Barrier::new(2);
        let end = |round: usize, mut stream: TcpStream| {
            if round.is_multiple_of(5) {
                // What the other side has sent may be lost then; that is what closing so means.
                let _ = stream.write_all(&[0; 2000]);
            }
            together.wait();
            match round % 3 {
                0 => drop(stream),
                1 => reset(stream),
                _ => {
                    // The other side may have reset already.
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = stream.read(&mut [0; 4000]);
                }
            }
        };
        thread::scope(|scope| {
            let (hand, handed) = std::sync::mpsc::channel();
            scope.spawn(move || {
                for (round, stream) in handed {
                    end(round, stream);
                }
            });
            for round in 0..ROUNDS {
                let (client, accepted) = backend.pair(&ringway);
                hand.send((round / 3, accepted)).unwrap();
                end(round, client);
            }
            drop(hand);
        });
        ringway.until_balanced(0);
        assert_eq!(
            ringway.metrics().sum("listener_connections_total", &[]),
            ROUNDS as i64
        );
    }
}

/// A client that was told the end of its answer, and resets instead of ending, too: a FIN behind what it
/// sent would make a whole stream of a part.
#[test]
fn a_reset_after_the_end_of_the_answer_is_no_fin() {
    const ROUNDS: u64 = 400;
    for (relay, workers) in SHAPES {
        let backend = Backend::new();
        let setup = Setup::to([backend.address()]).shape((relay, workers));
        let ringway = setup.start();
        for round in 0..ROUNDS {
            let (mut client, mut accepted) = backend.pair(&ringway);
            let chunk = Keyed::new(round).chunk(50_000);
            thread::scope(|scope| {
                scope.spawn(|| {
                    client.write_all(chunk).unwrap();
                    client.read_exact(&mut [0; 1]).unwrap();
                    reset(client);
                });
                accepted.write_all(&[7; 2800]).unwrap();
                // It may have been reset by now.
                let _ = accepted.shutdown(Shutdown::Write);
                let (received, end) = drain(&accepted);
                assert_eq!(end, End::Reset, "{relay:?} {round}: {}", received.len());
            });
        }
    }
}
