//! Bytes decide everything that happens to a few flows: what peers send, in which order operations
//! complete, what fails. Everything decided is legal, so nothing may go wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_sim::{Dice, Options, run};

fuzz_target!(|bytes: &[u8]| {
    // Streams long enough to be promoted, short enough for many runs a second.
    let options = Options {
        stream_bytes_max: 100_000,
        ..Options::default()
    };
    if let Err(violation) = run(Dice::from_bytes(bytes), &options) {
        panic!("{violation}");
    }
});
