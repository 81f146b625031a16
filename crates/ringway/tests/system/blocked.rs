//! A sender that resets while the other side does not read: nobody receives from it then, and yet it
//! is noticed.

use std::io::Write;
use std::net::TcpStream;

use crate::backend::Backend;
use crate::instance::Ringway;
use crate::keyed::{self, Keyed};
use crate::peers::{End, connect_narrow, drain, fin, patient, reset};
use crate::setup::{MODES, Relay, Setup};

const SIDES: [&str; 2] = ["client", "backend"];

/// The one of `side` first, then the other.
fn pair(backend: &Backend, ringway: &Ringway, side: &str) -> (TcpStream, TcpStream) {
    let client = connect_narrow(ringway.address());
    let accepted = backend.accept();
    match side {
        "client" => (client, accepted),
        _ => (accepted, client),
    }
}

/// Writes as much of stream 1 as there is room for on the whole way, and returns how much Ringway has
/// of it.
fn fill(ringway: &Ringway, side: &str, mut sender: &TcpStream) -> u64 {
    sender.set_nonblocking(true).unwrap();
    let mut stream = Keyed::new(1);
    let mut chunk = stream.next(100_000);
    let mut blocked = 0;
    // What one wait finds blocked may have moved until the next one.
    for _ in 0..3 {
        while let Ok(written) = sender.write(chunk) {
            chunk = &chunk[written..];
            if chunk.is_empty() {
                chunk = stream.next(100_000);
            }
        }
        blocked = ringway.until_blocked(side) as u64;
    }
    sender.set_nonblocking(false).unwrap();
    blocked
}

fn noticed(relay: Relay, side: &str, fin_before: bool) {
    let backend = Backend::new();
    let ringway = Setup::to([backend.address()])
        .relay(relay)
        .listener("timeouts: {half_close: 300ms, idle: 1h}")
        .start();
    let (sender, silent) = pair(&backend, &ringway, side);
    fill(&ringway, side, &sender);
    if fin_before {
        fin(&sender);
    }
    reset(sender);
    // The one who does not read does not keep the connection.
    ringway.until_closed(side, "reset", 1);
    ringway.until_connections(0);
    let (bytes, end) = drain(patient(silent));
    Keyed::new(1).expect(&bytes);
    assert_eq!(end, End::Reset, "{relay:?} {side} {fin_before}");
}

#[test]
fn a_reset_is_noticed_although_the_other_side_does_not_read() {
    for relay in MODES {
        for side in SIDES {
            noticed(relay, side, false);
        }
    }
}

#[test]
fn a_reset_behind_a_fin_is_noticed_although_the_other_side_does_not_read() {
    for relay in MODES {
        for side in SIDES {
            noticed(relay, side, true);
        }
    }
}

#[test]
fn whoever_reads_late_gets_what_came_before_the_reset_also_what_nobody_had_read() {
    for relay in MODES {
        for side in SIDES {
            let backend = Backend::new();
            let ringway = Setup::to([backend.address()]).relay(relay).start();
            let (sender, silent) = pair(&backend, &ringway, side);
            let blocked = fill(&ringway, side, &sender);
            reset(sender);
            let (bytes, end) = keyed::receive(&silent, 1);
            assert_eq!(end, End::Reset, "{relay:?} {side}");
            // The kernel keeps what has arrived in it.
            assert!(bytes > blocked, "{relay:?} {side}: {bytes}, not {blocked}");
            drop(silent);
            ringway.until_closed(side, "reset", 1);
            assert_eq!(ringway.received(side) as u64, bytes, "{relay:?} {side}");
        }
    }
}
