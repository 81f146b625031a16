//! Memory: what a peak took is given back when it is over, and nobody notices.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use crate::backend::Backend;
use crate::keyed;
use crate::peers::{End, fin, until};
use crate::setup::{Relay, Setup};

/// Connections whose backend does not read.
const BLOCKED: usize = 1500;
/// What a worker keeps: buffers lent to the kernel, which only traffic brings back, and some more.
const KEPT_BYTES: u64 = 24 << 20;

fn fill(client: &mut TcpStream) {
    client.set_nonblocking(true).unwrap();
    while client.write(&[0; 65536]).is_ok() {}
}

#[test]
fn a_peak_of_blocked_connections_leaves_no_memory_behind() {
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]).relay(Relay::Copy);
    let ringway = setup.start();
    // One that goes on all the while, and before which the peak does not count.
    let (client, accepted) = backend.pair(&ringway);
    let calm = ringway.process.resident_bytes();
    let mut blocked: Vec<_> = (0..BLOCKED).map(|_| backend.pair(&ringway)).collect();
    blocked.iter_mut().for_each(|(client, _)| fill(client));
    ringway.until_blocked("client");
    let grown = ringway.process.resident_bytes() - calm;
    assert!(grown > 3 * KEPT_BYTES / 2, "{grown} bytes");
    drop(blocked);
    thread::scope(|scope| {
        scope.spawn(|| {
            keyed::send(&client, 1, 50_000_000);
            fin(&client);
        });
        assert_eq!(keyed::receive(&accepted, 1), (50_000_000, End::Fin));
    });
    until("it is given back", || {
        ringway.process.resident_bytes() < calm + KEPT_BYTES
    });
}
