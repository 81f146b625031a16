//! Pure: pools, weights and the choice of a backend.
#![forbid(unsafe_code)]

mod params;
pub use params::{Algorithm, WhenAllDown};
