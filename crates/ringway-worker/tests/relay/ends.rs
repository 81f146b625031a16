//! How connections end: FIN as FIN, reset as reset, never before the bytes that came before it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use ringway_flow::RelayMode;
use ringway_metrics::{CloseReason, Peer, Side};

use crate::world::{MODES, Setting, World, close_by_reset, fin, patient, until};

fn closed(world: &World, side: Side, reason: CloseReason) -> u64 {
    world.blocks.routes[0].closed[side][reason].value()
}

fn read_to_end(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_client_half_closes_first() {
    for mode in MODES {
        let world = World::new(Setting::of(mode));
        let (mut client, mut backend) = world.pair();
        client.write_all(b"question").unwrap();
        fin(&client);
        assert_eq!(read_to_end(&mut backend), b"question", "{mode:?}");
        backend.write_all(b"late answer").unwrap();
        drop(backend);
        assert_eq!(read_to_end(&mut client), b"late answer", "{mode:?}");
        world.until_idle();
        assert_eq!(
            closed(&world, Side::Client, CloseReason::Fin),
            1,
            "{mode:?}"
        );
        let route = &world.blocks.routes[0];
        assert_eq!(route.received_bytes[Peer::Client].value(), 8);
        assert_eq!(route.sent_bytes[Peer::Client].value(), 11);
    }
}

#[test]
fn the_backend_half_closes_first() {
    for mode in MODES {
        let world = World::new(Setting::of(mode));
        let (mut client, mut backend) = world.pair();
        backend.write_all(b"greeting").unwrap();
        fin(&backend);
        assert_eq!(read_to_end(&mut client), b"greeting", "{mode:?}");
        client.write_all(b"still talking").unwrap();
        drop(client);
        assert_eq!(read_to_end(&mut backend), b"still talking", "{mode:?}");
        world.until_idle();
        assert_eq!(
            closed(&world, Side::Backend, CloseReason::Fin),
            1,
            "{mode:?}"
        );
    }
}

#[test]
fn a_reset_of_the_client_reaches_the_backend_after_its_bytes() {
    for mode in MODES {
        let world = World::new(Setting::of(mode));
        let (mut client, mut backend) = world.pair();
        client.write_all(&[7; 100_000]).unwrap();
        let mut first = [0; 50_000];
        backend.read_exact(&mut first).unwrap();
        until("relayed", || {
            world.blocks.routes[0].received_bytes[Peer::Client].value() == 100_000
        });
        close_by_reset(client);
        let mut rest = Vec::new();
        let end = backend.read_to_end(&mut rest).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{mode:?}");
        assert_eq!(rest.len(), 50_000, "{mode:?}");
        world.until_idle();
        assert_eq!(
            closed(&world, Side::Client, CloseReason::Reset),
            1,
            "{mode:?}"
        );
    }
}

#[test]
fn a_reset_of_the_backend_reaches_the_client_after_its_bytes() {
    for mode in MODES {
        let world = World::new(Setting::of(mode));
        let (mut client, mut backend) = world.pair();
        backend.write_all(b"the whole answer").unwrap();
        until("relayed", || {
            world.blocks.routes[0].received_bytes[Peer::Backend].value() == 16
        });
        close_by_reset(backend);
        let mut answer = Vec::new();
        let end = client.read_to_end(&mut answer).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{mode:?}");
        assert_eq!(answer, b"the whole answer", "{mode:?}");
        world.until_idle();
        assert_eq!(
            closed(&world, Side::Backend, CloseReason::Reset),
            1,
            "{mode:?}"
        );
    }
}

/// The first reset waits for the other side to acknowledge bytes, and that side is gone.
#[test]
fn both_sides_reset_with_bytes_unacknowledged() {
    for mode in MODES {
        let world = World::new(Setting::of(mode));
        socket2::SockRef::from(&world.backend)
            .set_recv_buffer_size(4096)
            .unwrap();
        let (mut client, backend) = world.pair();
        // More than the backend's kernel takes unread, less than the worker's kernel holds for it.
        client.write_all(&[7; 100_000]).unwrap();
        until("sent", || {
            world.blocks.routes[0].sent_bytes[Peer::Backend].value() == 100_000
        });
        let completions = &world.blocks.worker.ring.completions;
        let before = completions.value();
        close_by_reset(client);
        until("the worker knows", || completions.value() > before);
        close_by_reset(backend);
        world.until_idle();
        assert_eq!(
            closed(&world, Side::Client, CloseReason::Reset),
            1,
            "{mode:?}"
        );
    }
}

#[test]
fn bytes_and_fin_sent_before_the_backend_accepts_arrive() {
    let world = World::new(Setting::default());
    let mut client = world.client();
    client.write_all(b"impatient").unwrap();
    fin(&client);
    let mut backend = world.accept();
    assert_eq!(read_to_end(&mut backend), b"impatient");
    drop(backend);
    assert_eq!(read_to_end(&mut client), b"");
}

#[test]
fn a_refusing_backend_costs_a_retry_and_no_byte() {
    let closed_port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let world = World::new(Setting {
        backends: vec![closed_port],
        ..Setting::default()
    });
    for _ in 0..4 {
        let mut client = world.client();
        client.write_all(b"once").unwrap();
        fin(&client);
        let mut backend = world.accept();
        assert_eq!(read_to_end(&mut backend), b"once");
    }
    world.until_idle();
    assert!(world.blocks.pools[0].retries.value() >= 2);
}

#[test]
fn without_a_backend_the_client_is_reset() {
    let closed_port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let world = World::new(Setting {
        backends: vec![closed_port],
        attempts: 1,
        ..Setting::default()
    });
    let mut client = world.client();
    let end = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    world.until_idle();
    assert_eq!(closed(&world, Side::Backend, CloseReason::ConnectFailed), 1);
}

#[test]
fn deadlines_close_with_their_reason() {
    let quick = Some(Duration::from_millis(50));
    let mut setting = Setting::default();
    setting.timeouts.idle = quick;
    let world = World::new(setting);
    let (mut client, mut backend) = world.pair();
    assert_eq!(read_to_end(&mut client), b"");
    assert_eq!(read_to_end(&mut backend), b"");
    world.until_idle();
    assert_eq!(closed(&world, Side::Ringway, CloseReason::Idle), 1);

    let mut setting = Setting::default();
    setting.timeouts.half_close = quick;
    let world = World::new(setting);
    let (client, mut backend) = world.pair();
    fin(&client);
    assert_eq!(read_to_end(&mut backend), b"");
    world.until_idle();
    assert_eq!(closed(&world, Side::Ringway, CloseReason::HalfClose), 1);

    let mut setting = Setting::default();
    setting.timeouts.lifetime = quick;
    let world = World::new(setting);
    let (mut client, _backend) = world.pair();
    assert_eq!(
        client.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    world.until_idle();
    assert_eq!(closed(&world, Side::Ringway, CloseReason::Lifetime), 1);
}

#[test]
fn a_connection_that_is_gone_is_among_the_closed_ones() {
    let world = World::new(Setting::default());
    for count in 1..=500 {
        drop(world.pair());
        while world.blocks.worker.connections.value() != 0 {
            std::hint::spin_loop();
        }
        let closes: u64 = [Side::Client, Side::Backend]
            .map(|side| closed(&world, side, CloseReason::Fin))
            .iter()
            .sum();
        assert_eq!(closes, count);
    }
}

#[test]
fn a_drain_ends_quiet_connections_and_then_the_worker() {
    for mode in [RelayMode::Auto, RelayMode::UringSplice] {
        let mut world = World::new(Setting::of(mode));
        let (mut client, mut backend) = world.pair();
        client.write_all(b"x").unwrap();
        backend.read_exact(&mut [0; 1]).unwrap();
        let begun = Instant::now();
        world.drain(Duration::from_millis(300));
        assert!(begun.elapsed() < Duration::from_secs(10), "{mode:?}");
        assert!(!matches!(client.read(&mut [0; 1]), Ok(1)), "{mode:?}");
        assert!(
            std::net::TcpStream::connect(world.address).is_err(),
            "{mode:?}"
        );
        assert_eq!(
            closed(&world, Side::Ringway, CloseReason::Drain),
            1,
            "{mode:?}"
        );
    }
}

#[test]
fn over_the_limit_is_reset_and_the_slot_is_reused() {
    let world = World::new(Setting {
        connections: 2,
        ..Setting::default()
    });
    let first = world.pair();
    let _second = world.pair();
    let mut third = world.client();
    assert_eq!(
        third.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    drop(first);
    until("one is free", || {
        world.blocks.worker.connections.value() == 1
    });
    let (mut client, mut backend) = world.pair();
    client.write_all(b"in").unwrap();
    let mut two = [0; 2];
    backend.read_exact(&mut two).unwrap();
    drop(patient(client));
}
