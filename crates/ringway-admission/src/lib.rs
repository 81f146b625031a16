//! Who may connect, and how often: access lists, rates and what counts as one source.
//!
//! Pure: no clock, socket, thread, lock or random source. Time and hashes are arguments, and what several
//! workers share is a number or a table that they keep where all can reach it.
//!
//! Reading order: [`SourceKey`] (what is counted), [`AccessList`] (who), [`Rate`] (how often), [`SourceBuckets`]
//! (how often each).
#![forbid(unsafe_code)]

mod access;
mod buckets;
mod flips;
mod rate;
mod source;

pub use access::{AccessList, Verdict, deciding};
pub use buckets::SourceBuckets;
pub use rate::{Rate, Tick};
pub use source::SourceKey;

#[cfg(test)]
mod tests;
