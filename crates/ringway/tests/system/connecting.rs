//! What a client does while its backend's connection is still being made. The queue of the backend is
//! full, so the first SYN is lost and the kernel asks again a second later.

use std::io::Write;
use std::thread;

use crate::backend::BlackHole;
use crate::keyed;
use crate::peers::{End, connect, drain, fin, until};
use crate::setup::{MODES, Relay, Setup};

/// Bytes and a FIN from a client whose backend answers when they have long been there.
fn early_end(mode: Relay, bytes: u64) {
    let hole = BlackHole::new();
    let setup = Setup::to([hole.address()]).relay(mode);
    let ringway = setup.pool("connect: {timeout: 1m, attempts: 1}").start();
    let client = connect(ringway.address());
    let accepted = thread::scope(|scope| {
        // What does not fit the buffers on the way is sent when the backend is there.
        scope.spawn(|| {
            keyed::send(&client, 7, bytes);
            fin(&client);
        });
        until("it connects", || ringway.connections() == 1);
        let metrics = ringway.metrics();
        assert_eq!(metrics.sum("backend_connections_total", &[]), 0, "{mode:?}");
        let mut accepted = hole.open();
        assert_eq!(
            keyed::receive(&accepted, 7),
            (bytes, End::Fin),
            "{mode:?}, {bytes} bytes"
        );
        accepted.write_all(b"heard").unwrap();
        accepted
    });
    drop(accepted);
    assert_eq!(drain(&client), (b"heard".to_vec(), End::Fin), "{mode:?}");
    ringway.until_bytes(bytes, 5);
    ringway.until_closed("client", "fin", 1);
}

#[test]
fn an_end_before_the_backend_is_connected_arrives_behind_its_bytes() {
    thread::scope(|scope| {
        for mode in MODES {
            for bytes in [0, 9, 3_000_000] {
                scope.spawn(move || early_end(mode, bytes));
            }
        }
    });
}
