//! Many bytes: nothing lost, doubled or reordered, in both directions at once and with slow readers.

use std::hash::Hasher;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use ringway_flow::RelayMode;
use ringway_metrics::Engine;

use crate::world::{MODES, Setting, World, fin, until};

const BULK_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes that differ at every position, from a seed.
struct Stream(u64);

impl Stream {
    fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_mut(8) {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bytes = (self.0 ^ (self.0 >> 29)).to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
    }
}

fn send_all(mut to: &TcpStream, seed: u64, total: u64) -> u64 {
    let (mut stream, mut hash, mut left) = (Stream(seed), std::hash::DefaultHasher::new(), total);
    let mut buffer = vec![0; 200_000];
    let mut round = seed;
    while left > 0 {
        round = round.wrapping_mul(31).wrapping_add(7);
        let len = (1 + round % 200_000).min(left) as usize;
        stream.fill(&mut buffer[..len]);
        hash.write(&buffer[..len]);
        to.write_all(&buffer[..len]).unwrap();
        left -= len as u64;
    }
    fin(to);
    hash.finish()
}

fn receive_all(mut from: &TcpStream, pace: usize) -> (u64, u64) {
    let mut hash = std::hash::DefaultHasher::new();
    let mut buffer = vec![0; pace];
    let mut total = 0;
    loop {
        let len = from.read(&mut buffer).unwrap();
        if len == 0 {
            return (hash.finish(), total);
        }
        hash.write(&buffer[..len]);
        total += len as u64;
    }
}

fn both_ways(world: &World, bytes: u64, pace: usize) {
    let (client, backend) = world.pair();
    thread::scope(|scope| {
        let up = scope.spawn(|| send_all(&client, 3, bytes));
        let down = scope.spawn(|| send_all(&backend, 5, bytes));
        let got_up = scope.spawn(|| receive_all(&backend, pace));
        let got_down = receive_all(&client, pace);
        assert_eq!(got_down, (down.join().unwrap(), bytes));
        assert_eq!(got_up.join().unwrap(), (up.join().unwrap(), bytes));
    });
}

#[test]
fn every_byte_arrives_in_every_mode() {
    for mode in MODES {
        let world = World::new(Setting::of(mode));
        both_ways(&world, BULK_BYTES, 100_000);
        let relayed = &world.blocks.worker.relayed_bytes;
        let total: u64 = relayed.cells().iter().map(|cell| cell.value()).sum();
        assert_eq!(total, 2 * BULK_BYTES, "{mode:?}");
        match mode {
            RelayMode::Copy => assert_eq!(relayed[Engine::Copy].value(), 2 * BULK_BYTES),
            RelayMode::Auto | RelayMode::Splice => {
                assert!(relayed[Engine::Splice].value() > BULK_BYTES / 2, "{mode:?}");
            }
            RelayMode::UringSplice => {
                assert!(
                    relayed[Engine::UringSplice].value() > BULK_BYTES,
                    "{mode:?}"
                );
            }
        }
    }
}

#[test]
fn without_pipes_splicing_falls_back_to_copy() {
    for mode in [RelayMode::Auto, RelayMode::Splice, RelayMode::UringSplice] {
        let world = World::new(Setting {
            pipes_max: 0,
            ..Setting::of(mode)
        });
        both_ways(&world, BULK_BYTES / 4, 100_000);
        until("counted", || {
            world.blocks.worker.relayed_bytes[Engine::Copy].value() == BULK_BYTES / 2
        });
    }
}

#[test]
fn a_reader_that_stops_is_waited_for_and_loses_nothing() {
    for mode in MODES {
        let world = World::new(Setting::of(mode));
        let (client, backend) = world.pair();
        thread::scope(|scope| {
            let sent = scope.spawn(|| send_all(&client, 9, BULK_BYTES));
            // The sender has closed long before the reader begins: what is held up is delivered.
            let held = world.blocks.routes[0].received_bytes[ringway_metrics::Peer::Client].value();
            until("back-pressure", || {
                let received =
                    &world.blocks.routes[0].received_bytes[ringway_metrics::Peer::Client];
                received.value() > held.max(100_000)
            });
            assert_eq!(receive_all(&backend, 1_000_000).1, BULK_BYTES, "{mode:?}");
            sent.join().unwrap();
        });
    }
}

/// The kernel calls it the end of the stream when a splice meets an urgent byte after the FIN came.
#[test]
fn an_urgent_byte_does_not_end_a_stream() {
    const PART: usize = 150_000;
    for mode in MODES {
        let world = World::new(Setting::of(mode));
        socket2::SockRef::from(&world.backend)
            .set_recv_buffer_size(4096)
            .unwrap();
        let (mut client, mut backend) = world.pair();
        let (mut stream, mut all) = (Stream(11), vec![0; 4 * PART]);
        stream.fill(&mut all);
        thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&all[..3 * PART]).unwrap();
                socket2::SockRef::from(&client)
                    .send_out_of_band(b"!")
                    .unwrap();
                client.write_all(&all[3 * PART..]).unwrap();
                fin(&client);
            });
            let received = &world.blocks.routes[0].received_bytes[ringway_metrics::Peer::Client];
            until("it streams", || received.value() > 100_000);
            let mut got = Vec::new();
            backend.read_to_end(&mut got).unwrap();
            assert!(got == all, "{mode:?}: {} bytes of {}", got.len(), all.len());
        });
    }
}

#[test]
fn many_connections_at_once_never_mix() {
    for mode in MODES {
        let world = World::new(Setting::of(mode));
        thread::scope(|scope| {
            for seed in 0..24 {
                let (client, backend) = world.pair();
                scope.spawn(move || send_all(&client, seed, 1_000_000));
                scope.spawn(move || {
                    let mut got = Vec::new();
                    let mut from = &backend;
                    from.read_to_end(&mut got).unwrap();
                    assert_eq!(replayed(seed), got, "{mode:?}");
                });
            }
        });
    }
}

fn replayed(seed: u64) -> Vec<u8> {
    let (mut stream, mut all, mut round) = (Stream(seed), Vec::new(), seed);
    while all.len() < 1_000_000 {
        round = round.wrapping_mul(31).wrapping_add(7);
        let len = (1 + round % 200_000).min(1_000_000 - all.len() as u64) as usize;
        let start = all.len();
        all.resize(start + len, 0);
        stream.fill(&mut all[start..]);
    }
    all
}
