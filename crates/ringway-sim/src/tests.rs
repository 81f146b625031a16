//! Many worlds: what holds in each, what all of them together must reach, and canaries.

use std::panic;

use crate::{Canary, Dice, Faults, Options, Tally, run};

const WORLDS: u64 = 10_000;

/// Runs one world; a panic of a flow is a finding like any other.
fn outcome(seed: u64, options: &Options) -> Result<Tally, String> {
    match panic::catch_unwind(|| run(Dice::from_seed(seed), options)) {
        Ok(result) => result.map_err(|violation| violation.to_string()),
        Err(_) => Err("it panicked".into()),
    }
}

fn run_all(seeds: std::ops::Range<u64>, options: &Options) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        match outcome(seed, options) {
            Ok(counted) => tally.add(&counted),
            Err(what) => panic!(
                "seed {seed}, {what}\n\
                 reproduce: cargo run -p ringway-sim -- --seed {seed} --trace"
            ),
        }
    }
    tally
}

#[test]
fn many_worlds_hold_and_reach_everything() {
    let tally = run_all(0..WORLDS, &Options::default());
    let requests = [
        "Look",
        "Connect",
        "CancelConnect",
        "DiscardBack",
        "MarkConnected",
        "MarkFirstByte",
        "Receive",
        "CancelReceive",
        "Send",
        "Gather",
        "Recycle",
        "PollReadable",
        "PollWritable",
        "Watch",
        "TakePipe",
        "GivePipe",
        "SpliceIn",
        "SpliceOut",
        "RingSpliceIn",
        "RingSpliceOut",
        "ShutdownWrite",
        "CheckUnsent",
        "CancelAll",
        "CloseSocket",
        "Finished",
    ];
    let answers = [
        "connected",
        "connect failed",
        "no backend",
        "received",
        "end of stream",
        "receive failed",
        "starved",
        "sent",
        "send failed",
        "readable",
        "writable",
        "watch broken",
        "watch cancelled",
        "spliced in",
        "spliced out",
    ];
    let ends = [
        "ended: fin by client",
        "ended: fin by backend",
        "ended: reset by client",
        "ended: reset by backend",
        "ended: idle",
        "ended: first byte",
        "ended: half close",
        "ended: lifetime",
        "ended: handshake",
        "ended: refused",
        "ended: connect failed",
        "ended: no backend",
        "ended: resources",
        "ended: drain",
        "ended: backend down",
    ];
    for name in requests.iter().chain(&answers).chain(&ends) {
        assert!(tally.of(name) >= 100, "{name} was seldom seen:\n{tally}");
    }
    assert!(
        tally.of("bytes spliced") > tally.of("bytes received") / 20,
        "{tally}"
    );
}

#[test]
fn where_nothing_goes_wrong_every_flow_ends_by_fin() {
    let options = Options {
        faults: Faults::NONE,
        ..Options::default()
    };
    let tally = run_all(0..500, &options);
    let fins = tally.of("ended: fin by client") + tally.of("ended: fin by backend");
    let both_wait = tally.of("ended: drain");
    assert_eq!(fins + both_wait, tally.of("Finished"), "{tally}");
    assert!(fins > 800, "{tally}");
}

#[test]
fn a_world_follows_from_its_seed() {
    for seed in 0..50 {
        let options = Options::default();
        assert_eq!(outcome(seed, &options), outcome(seed, &options));
    }
}

#[test]
fn each_broken_executor_is_noticed() {
    for canary in Canary::ALL {
        let options = Options {
            canary: Some(canary),
            ..Options::default()
        };
        let found = (0..300).find_map(|seed| outcome(seed, &options).err());
        assert!(found.is_some(), "{canary:?} was not noticed");
    }
}
