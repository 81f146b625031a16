//! Deadlines, each with its reason and with the end that tells the peers what it means.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::backend::{Backend, BlackHole};
use crate::instance::Ringway;
use crate::peers::{End, connect_narrow, drain, fin, read_exactly, turned_away};
use crate::setup::{MODES, Relay, Setup};

fn with(relay: Relay, timeouts: &str) -> (Ringway, Backend) {
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]).relay(relay).workers(2);
    (
        setup.listener(&format!("timeouts: {{{timeouts}}}")).start(),
        backend,
    )
}

#[test]
fn connect_gives_up() {
    let hole = BlackHole::new();
    let setup = Setup::to([hole.address()]).pool("connect: {timeout: 100ms, attempts: 3}");
    let ringway = setup.start();
    assert_eq!(turned_away(ringway.address()), End::Reset);
    ringway.until_closed("backend", "connect_failed", 1);
}

#[test]
fn idle_ends_quiet_connections_with_a_fin() {
    for mode in MODES {
        let (ringway, backend) = with(mode, "idle: 200ms");
        let (client, accepted) = backend.pair(&ringway);
        assert_eq!(drain(&client), (Vec::new(), End::Fin), "{mode:?}");
        assert_eq!(drain(&accepted), (Vec::new(), End::Fin), "{mode:?}");
        ringway.until_closed("ringway", "idle", 1);
    }
}

#[test]
fn idle_spares_those_that_talk() {
    for mode in MODES {
        let (ringway, backend) = with(mode, "idle: 1s");
        let (client, mut accepted) = backend.pair(&ringway);
        let begun = Instant::now();
        // One direction is enough.
        while begun.elapsed() < Duration::from_millis(2500) {
            accepted.write_all(b".").unwrap();
            assert_eq!(&read_exactly::<1>(&client), b".", "{mode:?}");
            // The pace of the talk; it is over when its time is, however long each round took.
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(accepted);
        assert_eq!(drain(&client).1, End::Fin, "{mode:?}");
        drop(client);
        ringway.until_connections(0);
        assert_eq!(ringway.closed("ringway", "idle"), 0, "{mode:?}");
    }
}

/// Blocked is not active, and a FIN would pass for the end of all of it.
#[test]
fn idle_resets_those_whose_peer_does_not_read() {
    for mode in MODES {
        let (ringway, backend) = with(mode, "idle: 300ms");
        let client = connect_narrow(ringway.address());
        let accepted = backend.accept();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut stream = &accepted;
                while stream.write_all(&[1; 100_000]).is_ok() {}
            });
            sender.join().unwrap();
        });
        ringway.until_closed("ringway", "idle", 1);
        assert_eq!(drain(&client).1, End::Reset, "{mode:?}");
    }
}

#[test]
fn half_close_ends_those_whose_other_side_is_silent() {
    for mode in MODES {
        let (ringway, backend) = with(mode, "half_close: 200ms");
        let (client, accepted) = backend.pair(&ringway);
        fin(&client);
        assert_eq!(drain(&accepted), (Vec::new(), End::Fin), "{mode:?}");
        assert_eq!(drain(&client), (Vec::new(), End::Fin), "{mode:?}");
        ringway.until_closed("ringway", "half_close", 1);
    }
}

#[test]
fn half_close_begins_anew_with_each_byte() {
    for mode in [Relay::Auto, Relay::Splice] {
        let (ringway, backend) = with(mode, "half_close: 1s");
        let (client, mut accepted) = backend.pair(&ringway);
        fin(&client);
        assert_eq!(drain(&accepted), (Vec::new(), End::Fin));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2500) {
            accepted.write_all(b".").unwrap();
            assert_eq!(&read_exactly::<1>(&client), b".", "{mode:?}");
            // The pace of the talk; it is over when its time is, however long each round took.
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(accepted);
        assert_eq!(drain(&client).1, End::Fin, "{mode:?}");
        ringway.until_closed("client", "fin", 1);
    }
}

#[test]
fn first_byte_ends_clients_that_say_nothing() {
    for mode in MODES {
        let (ringway, backend) = with(mode, "first_byte: 400ms");
        let (mut talking, talked_to) = backend.pair(&ringway);
        talking.write_all(b"x").unwrap();
        let (silent, mut accepted) = backend.pair(&ringway);
        // What the backend says is not the client's first byte.
        accepted.write_all(b"hello").unwrap();
        assert_eq!(drain(&silent), (b"hello".to_vec(), End::Fin), "{mode:?}");
        ringway.until_closed("ringway", "idle", 1);
        assert_eq!(&read_exactly::<1>(&talked_to), b"x");
        talking.write_all(b"y").unwrap();
        assert_eq!(
            &read_exactly::<1>(&talked_to),
            b"y",
            "{mode:?}: it talked in time"
        );
    }
}

#[test]
fn lifetime_ends_busy_connections() {
    for mode in MODES {
        let (ringway, backend) = with(mode, "lifetime: 400ms");
        let (client, accepted) = backend.pair(&ringway);
        std::thread::scope(|scope| {
            scope.spawn(|| while (&accepted).write_all(&[1; 10_000]).is_ok() {});
            assert_eq!(drain(&client).1, End::Reset, "{mode:?}");
        });
        ringway.until_closed("ringway", "lifetime", 1);
    }
}

/// Each on the one worker there is.
#[test]
fn a_stream_at_full_speed_delays_no_deadline_of_its_neighbours() {
    for mode in MODES {
        let backend = Backend::new();
        let setup = Setup::to([backend.address()]).relay(mode);
        let setup = setup.listener("timeouts: {idle: 400ms}");
        let ringway = setup.access_log("DIR/access.log").start();
        let (fast, fast_accepted) = backend.pair(&ringway);
        std::thread::scope(|scope| {
            scope.spawn(|| while (&fast_accepted).write_all(&[1; 100_000]).is_ok() {});
            let reader = scope.spawn(|| drain_away(&fast));
            let silent: Vec<_> = (0..20).map(|_| backend.pair(&ringway)).collect();
            for (client, accepted) in &silent {
                assert_eq!(drain(client), (Vec::new(), End::Fin), "{mode:?}");
                assert_eq!(drain(accepted), (Vec::new(), End::Fin), "{mode:?}");
            }
            assert!(!reader.is_finished(), "{mode:?}: the stream was idle, too");
            fast.shutdown(Shutdown::Both).unwrap();
        });
        drop((fast, fast_accepted));
        let lines = ringway.json_lines("access.log", 21);
        let late = lines.iter().filter(|line| line["reason"] == "idle");
        let late: Vec<f64> = late
            .map(|line| line["duration_seconds"].as_f64().unwrap() - 0.4)
            .collect();
        assert_eq!(late.len(), 20, "{mode:?}");
        assert!(late.iter().all(|late| *late >= 0.0), "too early: {late:?}");
        // Told, not judged: how late depends on what else this machine does.
        let worst = late.into_iter().fold(0.0, f64::max);
        eprintln!("{mode:?}: {:.1} ms late at most", worst * 1000.0);
    }
}

fn drain_away(mut stream: &TcpStream) {
    let mut buffer = vec![0; 1 << 20];
    while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
}
