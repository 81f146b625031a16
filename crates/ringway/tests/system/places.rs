//! Addresses that are one test's alone. A port that was free a moment ago, or whose listener is gone,
//! may be anybody's by now: whoever connects to it reaches a stranger, and the stranger counts a visitor
//! that it does not expect. All of 127.0.0.0/8 is this host, so that each listener gets an address of
//! its own, which nobody else ever listens on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The lower quarter of 127.0.0.0/8 and the upper half are for tests that choose addresses themselves.
const FIRST: u32 = u32::from_be_bytes([127, 64, 0, 0]);
/// Addresses of one process; processes that run at the same time are told apart by their number.
const PER_PROCESS: u32 = 4096;
const PROCESSES: u32 = (1 << 22) / PER_PROCESS;

/// A free port of an address that was not used before.
pub(crate) fn own_address() -> SocketAddr {
    static USED: AtomicU32 = AtomicU32::new(0);
    let number = USED.fetch_add(1, Ordering::Relaxed) % PER_PROCESS;
    let address = FIRST + std::process::id() % PROCESSES * PER_PROCESS + number;
    SocketAddr::from((Ipv4Addr::from_bits(address), 0))
}

/// A port that is free on every address of both families, from below those that the kernel gives to
/// whoever asks for any.
pub(crate) fn port_of_all() -> u16 {
    let first = 10_000 + (std::process::id() % 9_000) as u16;
    let is_free = |port: &u16| {
        let all = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
        all.iter().all(|address| TcpListener::bind(address).is_ok())
    };
    (first..20_000).find(is_free).expect("no port is free")
}
