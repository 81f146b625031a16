//! Pure: pools, weights and the choice of a backend.
//!
//! A [`Pool`] belongs to one worker. Time and randomness are arguments ([`Pool::advance`], [`Draw`]), and so is the
//! one thing only the whole process knows: whether a backend has reached its limit. What is not here: health
//! checks (their verdict arrives as [`Eligibility`]), sockets, addresses (a backend is an index and an identity).
//!
//! **Invariant:** for the same sequence of calls and the same seeds, every node makes the same choices. The hashing
//! algorithms depend on identities and weights only, not on the order of the list, not on the platform's libm.
//!
//! ```
//! use ringway_balance::{Algorithm, BackendParams, Draw, Pick, Pool, Tried, WhenAllDown, stable_hash};
//!
//! let backends: Vec<_> = ["10.0.0.1:80", "10.0.0.2:80"]
//!     .map(|address| BackendParams { weight: 1, backup: false, identity: stable_hash(address.as_bytes()) })
//!     .into();
//! let mut pool = Pool::new(Algorithm::LeastConnections, WhenAllDown::Try, &backends, 0);
//! let mut draw = Draw::new(42);
//! let Pick::Chosen { backend, .. } = pool.pick(0, &mut draw, &Tried::new(), |_| false) else {
//!     panic!("two backends are up");
//! };
//! pool.opened(backend);
//! assert_eq!(pool.load(backend), 1);
//! ```
#![forbid(unsafe_code)]

mod explain;
mod params;
mod pick;
mod pool;
mod ramp;

mod least_connections;
mod maglev;
mod random;
mod round_robin;
mod source_hash;
mod tier;

mod draw;
mod hash;
mod tried;

pub use draw::Draw;
pub use explain::{Explained, Place, Verdict};
pub use hash::{mix64, stable_hash};
pub use maglev::MaglevTable;
pub use params::{Algorithm, WhenAllDown};
pub use pick::{NoBackend, Pick, PickMode};
pub use pool::{
    AdminState, BACKENDS_MAX, BackendIndex, BackendParams, Ejection, Eligibility, Pool,
};
pub use tried::Tried;

#[cfg(test)]
mod tests;
