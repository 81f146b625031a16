//! A whole balancer in this process: real sockets, real HTTP, real signals.
#![allow(
    clippy::unwrap_used,
    reason = "the lint's exception for tests leaves out their helpers"
)]

mod access_log;
mod admin;
mod common;
mod life;
mod newcomers;
mod signals;
