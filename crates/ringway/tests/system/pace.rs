//! Streams at an unusual pace: readers that stop, one byte at a time, nothing at all, urgent data.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::SendFlags;

use crate::backend::Backend;
use crate::instance::Ringway;
use crate::keyed::{self, Keyed};
use crate::peers::{End, connect_narrow, drain, fin, read_exactly, until};
use crate::setup::{MODES, Relay, SHAPES, Setup};

#[test]
fn a_reader_that_stops_and_goes_loses_nothing() {
    const READ: usize = 500_000;
    for shape in SHAPES {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()]).shape(shape).start();
        let mut client = connect_narrow(ringway.address());
        let accepted = backend.accept();
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                // How much the buffers on the way hold is the kernel's to choose: more than that.
                let sent = keyed::send_until(&accepted, 1, || enough.load(Ordering::Relaxed));
                fin(&accepted);
                sent
            });
            let mut stream = Keyed::new(1);
            let mut buffer = vec![0; READ];
            for _ in 0..5 {
                ringway.until_blocked("backend");
                client.read_exact(&mut buffer).unwrap();
                stream.expect(&buffer);
            }
            enough.store(true, Ordering::Relaxed);
            let (rest, end) = drain(&client);
            stream.expect(&rest);
            let received = (5 * READ + rest.len()) as u64;
            let sent = sender.join().unwrap();
            assert_eq!((received, end), (sent, End::Fin), "{shape:?}");
            drop(client);
            ringway.until_bytes(0, sent);
        });
    }
}

/// As much as the sender's kernel takes, until nothing moves any more.
fn fill(ringway: &Ringway, senders: &[TcpStream]) {
    for _ in 0..5 {
        for mut sender in senders {
            sender.set_nonblocking(true).unwrap();
            while sender.write(&[7; 100_000]).is_ok() {}
        }
        ringway.until_blocked("backend");
    }
}

#[test]
fn blocked_connections_hold_bounded_memory() {
    const BLOCKED: u64 = 100;
    for mode in MODES {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()]).relay(mode).start();
        let block = || -> (Vec<TcpStream>, Vec<TcpStream>) {
            let pair = |_| (connect_narrow(ringway.address()), backend.accept());
            let (clients, senders): (_, Vec<_>) = (0..BLOCKED).map(pair).unzip();
            fill(&ringway, &senders);
            (clients, senders)
        };
        // What is touched for the first time is paid for by the first hundred.
        let _first = block();
        let before = ringway.process.resident_bytes();
        let _second = block();
        let grown = ringway.process.resident_bytes().saturating_sub(before);
        // Four buffers of 16 KiB each; and those that the kernel has at hand for whoever comes next,
        // which double when a burst uses them up. What a direction holds is the simulator's to count.
        let allowed = BLOCKED * 256 * 1024 + 1024 * 1024;
        assert!(grown < allowed, "{mode:?}: {grown} bytes, not {allowed}");
        let load = ringway.process.load_over(Duration::from_millis(300));
        assert!(load < 0.5, "{mode:?}: waiting takes {load} of a CPU");
    }
}

/// Whoever asks the kernel whether a socket has room is told at once that its peer has ended, too.
#[test]
fn those_who_half_closed_and_do_not_read_cost_neither_time_nor_threads() {
    for mode in MODES {
        let backend = Backend::new();
        let setup = Setup::to([backend.address()]).relay(mode);
        // On a busy machine all this takes longer than the usual half minute.
        let ringway = setup.listener("timeouts: {half_close: 10m}").start();
        let pair = |_| {
            let client = connect_narrow(ringway.address());
            fin(&client);
            let accepted = backend.accept();
            assert_eq!(drain(&accepted), (Vec::new(), End::Fin));
            (client, accepted)
        };
        let (clients, senders): (Vec<TcpStream>, Vec<TcpStream>) = (0..30).map(pair).unzip();
        fill(&ringway, &senders);
        let load = ringway.process.load_over(Duration::from_millis(500));
        assert!(load < 0.5, "{mode:?}: waiting takes {load} of a CPU");
        let threads = ringway.process.threads();
        let of_the_ring = threads
            .iter()
            .filter(|name| name.starts_with("iou-wrk"))
            .count();
        let allowed = if mode == Relay::UringSplice { 4 } else { 0 };
        assert!(of_the_ring <= allowed, "{mode:?}: {threads:?}");
        drop(senders);
        for client in &clients {
            assert_eq!(drain(client).1, End::Fin, "{mode:?}");
        }
    }
}

#[test]
fn one_byte_at_a_time_arrives_both_ways() {
    const BYTES: u64 = 20_000;
    for shape in SHAPES {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()]).shape(shape).start();
        let (client, accepted) = backend.pair(&ringway);
        let drip = |mut stream: &TcpStream, key| {
            let mut bytes = Keyed::new(key);
            (0..BYTES).for_each(|_| stream.write_all(bytes.next(1)).unwrap());
            fin(stream);
        };
        thread::scope(|scope| {
            scope.spawn(|| drip(&client, 1));
            scope.spawn(|| drip(&accepted, 2));
            scope.spawn(|| assert_eq!(keyed::receive(&accepted, 1), (BYTES, End::Fin)));
            assert_eq!(keyed::receive(&client, 2), (BYTES, End::Fin), "{shape:?}");
        });
        ringway.until_bytes(BYTES, BYTES);
    }
}

/// With a wait for an acknowledgement in each round this would take minutes.
#[test]
fn a_conversation_of_single_bytes_does_not_stall() {
    for shape in SHAPES {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()]).shape(shape).start();
        let (mut client, mut accepted) = backend.pair(&ringway);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3000 {
                    let byte = read_exactly::<1>(&accepted);
                    accepted.write_all(&byte).unwrap();
                }
            });
            for round in 0..3000_u32 {
                client.write_all(&[round as u8]).unwrap();
                assert_eq!(read_exactly::<1>(&client), [round as u8], "{shape:?}");
            }
        });
    }
}

#[test]
fn a_server_that_speaks_first_is_heard_by_a_silent_client() {
    for shape in SHAPES {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()]).shape(shape).start();
        let (client, mut accepted) = backend.pair(&ringway);
        accepted.write_all(b"220 welcome").unwrap();
        assert_eq!(&read_exactly::<11>(&client), b"220 welcome", "{shape:?}");
    }
}

#[test]
fn silent_clients_cost_nothing_and_stay() {
    for mode in [Relay::Auto, Relay::Splice] {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()])
            .relay(mode)
            .workers(2)
            .start();
        let mut pairs: Vec<_> = (0..400).map(|_| backend.pair(&ringway)).collect();
        until("all are there", || ringway.connections() == 400);
        let load = ringway.process.load_over(Duration::from_millis(500));
        assert!(
            load < 0.3,
            "{mode:?}: 400 silent connections take {load} of a CPU"
        );
        for (client, accepted) in &mut pairs {
            client.write_all(b"?").unwrap();
            assert_eq!(&read_exactly::<1>(&*accepted), b"?");
        }
    }
}

/// An urgent byte is not part of the stream (tcp(7)), so it may be lost; nothing else may, and
/// nothing may wait for it.
#[test]
fn an_urgent_byte_neither_stalls_nor_spoils_the_stream() {
    const PART: usize = 190_000;
    for mode in MODES {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()]).relay(mode).start();
        let (mut client, accepted) = backend.pair(&ringway);
        let mut stream = Keyed::new(1);
        thread::scope(|scope| {
            let received = scope.spawn(|| keyed::receive(&accepted, 1));
            (0..8).for_each(|_| client.write_all(stream.next(PART)).unwrap());
            assert_eq!(rustix::net::send(&client, b"!", SendFlags::OOB), Ok(1));
            (0..8).for_each(|_| client.write_all(stream.next(PART)).unwrap());
            fin(&client);
            assert_eq!(
                received.join().unwrap(),
                (16 * PART as u64, End::Fin),
                "{mode:?}"
            );
        });
        drop(accepted);
        drain(&client);
    }
}

#[test]
fn an_urgent_byte_that_nothing_follows_does_not_spin() {
    for mode in MODES {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()]).relay(mode).start();
        let (mut client, accepted) = backend.pair(&ringway);
        client.write_all(b"stream").unwrap();
        assert_eq!(&read_exactly::<6>(&accepted), b"stream");
        assert_eq!(rustix::net::send(&client, b"!", SendFlags::OOB), Ok(1));
        let load = ringway.process.load_over(Duration::from_millis(500));
        assert!(load < 0.5, "{mode:?}: waiting takes {load} of a CPU");
        fin(&client);
        assert_eq!(drain(&accepted), (Vec::new(), End::Fin), "{mode:?}");
    }
}
