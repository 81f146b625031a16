//! Pure: rise and fall, and when to probe next.
#![forbid(unsafe_code)]

mod params;
pub use params::ProbeParams;
