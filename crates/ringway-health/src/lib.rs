//! What "healthy" means: which answer to a probe is the right one, how probe results become a verdict, when a
//! backend is probed next, which keeper probes it, and when failed connects eject a backend.
//!
//! Pure: no clock, socket, thread or random source. Moments are [`Duration`](std::time::Duration)s since
//! an epoch of the caller's choice, randomness is a `u64` argument, so every state and every schedule can
//! be tested without a kernel.
//!
//! Reading order: [`Check`] and [`Answer`] (what is asked), [`ProbeParams`], [`Judge`] (rise and fall), [`Cadence`]
//! and [`Pace`] (when), [`owner`] (who), [`Outliers`] (ejection).
#![forbid(unsafe_code)]

mod assign;
mod check;
mod failure;
mod http;
mod outlier;
mod params;
mod schedule;
mod state;

pub use assign::{key_of, owner};
pub use check::{Answer, Check, Judgement, StatusRange};
pub use failure::{Excerpt, ProbeFailure, ProbeResult};
pub use http::{StatusLine, StatusStep, http_request};
pub use outlier::{BreakerState, Change, EjectCause, OutlierParams, Outliers, ReturnCause};
pub use params::ProbeParams;
pub use schedule::{Cadence, FIRST_SPACING, PAUSE_MIN, Pace, Position, first_window};
pub use state::{Health, Judge, Transition};
