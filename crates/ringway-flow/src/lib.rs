//! Pure: the life of a TCP connection, its timers and why it ended.
#![forbid(unsafe_code)]

mod params;
pub use params::{RelayMode, Timeouts};
