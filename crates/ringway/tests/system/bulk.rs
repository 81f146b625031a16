//! Many bytes in both directions at once, in random pieces: each arrives once, in its place.

use std::thread;

use crate::backend::Backend;
use crate::keyed;
use crate::peers::{End, fin};
use crate::setup::{Relay, Setup};

/// Per direction. A gigabyte takes seconds in each mode where nothing else runs and minutes where
/// much does, so that is for `RINGWAY_TEST_FULL=1`.
fn bulk_bytes() -> u64 {
    let is_full = std::env::var_os("RINGWAY_TEST_FULL").is_some_and(|value| value == "1");
    if is_full { 1 << 30 } else { 256 << 20 }
}

/// As many connections as `keys`, all at once, with `bytes` in each direction of each.
fn both_ways(relay: Relay, workers: u16, keys: u64, bytes: u64) {
    let backend = Backend::new();
    let ringway = Setup::to([backend.address()])
        .relay(relay)
        .workers(workers)
        .start();
    let pairs: Vec<_> = (0..keys).map(|_| backend.pair(&ringway)).collect();
    thread::scope(|scope| {
        for (key, (client, accepted)) in (0..).zip(&pairs) {
            let (up, down) = (2 * key, 2 * key + 1);
            let send = move |stream, key| {
                keyed::send(stream, key, bytes);
                fin(stream);
            };
            scope.spawn(move || send(client, up));
            scope.spawn(move || send(accepted, down));
            scope.spawn(move || assert_eq!(keyed::receive(accepted, up), (bytes, End::Fin)));
            scope.spawn(move || assert_eq!(keyed::receive(client, down), (bytes, End::Fin)));
        }
    });
    ringway.until_bytes(keys * bytes, keys * bytes);
    let by = |engine| {
        ringway
            .metrics()
            .sum("relayed_bytes_total", &[("engine", engine)]) as u64
    };
    let total = 2 * keys * bytes;
    match relay {
        Relay::Copy => assert_eq!(by("copy"), total),
        Relay::Auto | Relay::Splice => assert!(by("splice") > total / 2, "{relay:?}"),
        Relay::UringSplice => assert!(by("uring_splice") > total / 2),
    }
}

#[test]
fn every_byte_arrives_by_auto() {
    both_ways(Relay::Auto, 1, 1, bulk_bytes());
}

#[test]
fn every_byte_arrives_by_copy() {
    both_ways(Relay::Copy, 1, 1, bulk_bytes());
}

#[test]
fn every_byte_arrives_by_splice() {
    both_ways(Relay::Splice, 1, 1, bulk_bytes());
}

#[test]
fn every_byte_arrives_by_uring_splice() {
    both_ways(Relay::UringSplice, 1, 1, bulk_bytes());
}

#[test]
fn connections_on_many_workers_never_mix() {
    for (relay, workers) in [(Relay::Auto, 4), (Relay::Splice, 2), (Relay::Copy, 4)] {
        both_ways(relay, workers, 16, 4 << 20);
    }
    both_ways(Relay::UringSplice, 2, 16, 4 << 20);
}
