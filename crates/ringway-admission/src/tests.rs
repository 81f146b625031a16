//! Each table and each bucket against a model that is too slow to be wrong.

mod access;
mod rates;
