//! The ring on real sockets of the loopback interface. One binary; what needs a process of its own
//! starts one.

#![expect(
    clippy::unwrap_used,
    reason = "in a test's helper, too, a failure is a failed test"
)]

mod accept;
mod cancel;
mod common;
mod connect;
mod group;
mod lifetime;
mod overflow;
mod pipes;
mod poll;
mod receive;
mod send;
mod setup;
mod sockets;
