//! Test only: a seeded world of clients, backends and faults that drives real flows.
//!
//! No sockets, no clock, no threads: a model of the kernel executes what the flows ask for, in any
//! order the dice choose, and the checks in `check.rs` and `progress.rs` say what must hold
//! whatever happens. The same seed gives the same world on every machine, so a failure is
//! reproduced by `cargo run -p ringway-sim -- --seed N --trace`.
//!
//! Reading order: `world.rs` (what happens), `executor.rs` (what flows ask for), `kernel.rs` and
//! `link.rs` (what executes it), `check.rs` and `progress.rs` (what must hold).
#![forbid(unsafe_code)]

mod arrivals;
mod buffers;
mod bytes;
mod check;
mod dice;
mod executor;
mod kernel;
mod link;
mod looks;
mod options;
mod peer;
mod progress;
mod session;
mod splices;
mod tally;
mod world;

use std::fmt;

pub use dice::Dice;
pub use options::{Canary, Faults, Options, Trace};
pub use tally::Tally;

use world::World;

/// What did not hold in a world, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Events before it.
    pub step: u64,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.what)
    }
}

impl std::error::Error for Violation {}

/// Runs the world that `dice` describe to its end.
///
/// # Errors
/// The first thing that did not hold.
pub fn run(dice: Dice, options: &Options) -> Result<Tally, Violation> {
    let mut world = World::new(dice, options);
    match world.run() {
        Ok(()) => Ok(world.tally),
        Err(what) => Err(Violation {
            step: world.steps,
            what,
        }),
    }
}

#[cfg(test)]
mod tests;
