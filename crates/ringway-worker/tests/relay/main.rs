//! One worker with real sockets: what a client and a backend see through it, in every relay mode.
//! No configuration, no process: those are tested with the binary.

#![allow(clippy::unwrap_used)]

mod bulk;
mod ends;
mod world;
