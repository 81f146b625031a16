//! Streams of which every byte tells whose it is and where it belongs: a byte that is lost, doubled,
//! moved or another connection's is noticed where it happens.

use std::io::{Read, Write};
use std::sync::LazyLock;

use crate::peers::{End, end_by};

/// A prime, so that no power of two of lost bytes goes unnoticed.
const PERIOD: usize = 1_048_573;
const CHUNK_MAX: usize = 200_000;

/// Random bytes, with the beginning repeated at the end so that every chunk is in one piece.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dice = Dice(1);
    let mut table: Vec<u8> = (0..PERIOD).map(|_| dice.roll(256) as u8).collect();
    table.extend_from_within(..CHUNK_MAX);
    table
});

/// Numbers that look random and are the same in every run.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `bound`.
    pub(crate) fn roll(&mut self, bound: u64) -> u64 {
        // splitmix64, https://prng.di.unimi.it/splitmix64.c
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The stream of one direction of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    key: u64,
    at: usize,
    sizes: Dice,
}

impl Keyed {
    pub(crate) fn new(key: u64) -> Keyed {
        let mut sizes = Dice(key);
        let at = sizes.roll(PERIOD as u64) as usize;
        Keyed { key, at, sizes }
    }

    /// The next bytes.
    pub(crate) fn next(&mut self, len: usize) -> &'static [u8] {
        let bytes = &TABLE[self.at..self.at + len];
        self.at = (self.at + len) % PERIOD;
        bytes
    }

    /// The next bytes, a random number of them.
    pub(crate) fn chunk(&mut self, most: u64) -> &'static [u8] {
        let len = 1 + self.sizes.roll(most.min(CHUNK_MAX as u64));
        self.next(len as usize)
    }

    /// Compares what was received with what comes next.
    pub(crate) fn expect(&mut self, received: &[u8]) {
        for part in received.chunks(CHUNK_MAX) {
            let at = self.at;
            let expected = self.next(part.len());
            if part != expected {
                let wrong = part.iter().zip(expected).position(|(a, b)| a != b).unwrap();
                let tail = &part[wrong..part.len().min(wrong + 64)];
                panic!("key {}: wrong from {} + {wrong}: {tail:?}", self.key, at);
            }
        }
    }
}

/// Sends `total` bytes in random chunks.
pub(crate) fn send(mut to: impl Write, key: u64, total: u64) {
    let (mut stream, mut left) = (Keyed::new(key), total);
    while left > 0 {
        let chunk = stream.chunk(left);
        to.write_all(chunk).unwrap();
        left -= chunk.len() as u64;
    }
}

/// Sends random chunks until it is `enough`: how many bytes that were.
pub(crate) fn send_until(mut to: impl Write, key: u64, enough: impl Fn() -> bool) -> u64 {
    let (mut stream, mut total) = (Keyed::new(key), 0);
    while !enough() {
        let chunk = stream.chunk(u64::MAX);
        to.write_all(chunk).unwrap();
        total += chunk.len() as u64;
    }
    total
}

/// Receives in random chunks until the end: how many bytes came, all of them right.
pub(crate) fn receive(mut from: impl Read, key: u64) -> (u64, End) {
    let (mut stream, mut sizes, mut total) = (Keyed::new(key), Dice(!key), 0);
    let mut buffer = vec![0; CHUNK_MAX];
    loop {
        let room = 1 + sizes.roll(CHUNK_MAX as u64) as usize;
        let len = match from.read(&mut buffer[..room]) {
            Ok(0) => return (total, End::Fin),
            Ok(len) => len,
            Err(error) => return (total, end_by(error)),
        };
        stream.expect(&buffer[..len]);
        total += len as u64;
    }
}
