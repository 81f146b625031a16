//! What "healthy" means: how probe results become a verdict, when a backend is probed next, and which
//! keeper probes it.
//!
//! Pure: no clock, socket, thread or random source. Moments are [`Duration`](std::time::Duration)s since
//! an epoch of the caller's choice, randomness is a `u64` argument, so every state and every schedule can
//! be tested without a kernel.
//!
//! Reading order: [`ProbeParams`], [`Judge`] (rise and fall), [`Cadence`] and [`Pace`] (when), [`owner`] (who).
#![forbid(unsafe_code)]

mod assign;
mod params;
mod schedule;
mod state;

pub use assign::{key_of, owner};
pub use params::ProbeParams;
pub use schedule::{Cadence, FIRST_SPACING, PAUSE_MIN, Pace, Position, first_window};
pub use state::{Health, Judge, ProbeFailure, ProbeResult, Transition};
