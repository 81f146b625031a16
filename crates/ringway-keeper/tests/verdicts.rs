//! Keepers against real sockets: what they say of backends that are up, refuse, hang, die and recover.
//!
//! Each test has a loopback address of its own (all of 127.0.0.0/8 is local), so that the port of a listener
//! it closes cannot be taken by another.
#![allow(
    clippy::unwrap_used,
    reason = "the lint's exception for tests leaves out their helpers"
)]

mod common;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use common::{Event, Recorder, keeper, key, params, peak, results, target};
use ringway_health::{Check, Health, ProbeFailure, ProbeResult, Transition};
use ringway_keeper::{BackendKey, ProbeAddress, Target, spawn};
use socket2::{Domain, Socket, Type};

const REFUSED: ProbeResult = ProbeResult::Failed(ProbeFailure::Refused);
const TIMEOUT: ProbeResult = ProbeResult::Failed(ProbeFailure::Timeout);

fn listen(last_octet: u8) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 88, 0, last_octet], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A listener whose queue is full: the kernel drops every further SYN, as a black hole would.
fn black_hole(last_octet: u8) -> (Socket, TcpStream, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 88, 0, last_octet], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // A backlog of 0 holds one connection (listen(2): the limit is exceeded, not reached).
    let filler = TcpStream::connect(address).unwrap();
    (listener, filler, address)
}

/// How many connections wait in the queue, which becomes empty.
fn drain(listener: &TcpListener) -> usize {
    listener.set_nonblocking(true).unwrap();
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_another_keeper_took_a_backend_for_holds_and_is_not_told_anew() {
    let (listener, address) = listen(77);
    drop(listener);
    let known = |known| Target {
        known,
        ..target(1, address, params(20, 500))
    };
    let recorder = Recorder::new();
    let handle = spawn(keeper(vec![known(Health::Down)]), recorder.clone()).unwrap();
    recorder.wait(|events| results(key(1), events).len() >= 4);
    assert_eq!(recorder.events().iter().filter_map(change).count(), 0);
    // To the keeper that has it, another word of it means nothing.
    handle.update(vec![known(Health::Up)], 1);
    let _listener = TcpListener::bind(address).unwrap();
    let seen = wait_for_turn(&recorder, key(1), Health::Up, 1);
    assert_eq!(seen[seen.len() - 2..], [ProbeResult::Ok; 2], "rise");
    handle.stop();
}

#[test]
fn rise_and_fall_are_exact_and_every_probe_is_one_connection() {
    let (listener, address) = listen(1);
    let recorder = Recorder::new();
    let handle = spawn(
        keeper(vec![target(1, address, params(20, 500))]),
        recorder.clone(),
    )
    .unwrap();

    recorder.wait(|events| results(key(1), events).len() >= 5);
    let accepted_before = drain(&listener);
    drop(listener);
    let seen = wait_for_turn(&recorder, key(1), Health::Down, 1);
    let ok_count = seen
        .iter()
        .filter(|result| **result == ProbeResult::Ok)
        .count();
    // A connection still in the queue when the listener went is an Ok that nobody accepted.
    assert!(
        ok_count >= accepted_before,
        "{ok_count} for {accepted_before}"
    );
    assert_eq!(seen[ok_count..], [REFUSED; 3], "fall");

    let listener = TcpListener::bind(address).unwrap();
    let seen = wait_for_turn(&recorder, key(1), Health::Up, 2);
    assert_eq!(seen[seen.len() - 2..], [ProbeResult::Ok; 2], "rise");
    assert_eq!(seen[seen.len() - 3], REFUSED);
    recorder.wait(|events| results(key(1), events).len() >= seen.len() + 5);
    handle.stop();

    let events = recorder.events();
    let ok = results(key(1), &events)
        .into_iter()
        .filter(|result| *result == ProbeResult::Ok)
        .count();
    assert_eq!(
        drain(&listener),
        ok - ok_count,
        "one connection for each success"
    );
    let changes: Vec<_> = events.iter().filter_map(change).collect();
    let expected = [
        Transition {
            from: Health::Unknown,
            to: Health::Up,
            reason: ProbeResult::Ok,
        },
        Transition {
            from: Health::Up,
            to: Health::Down,
            reason: REFUSED,
        },
        Transition {
            from: Health::Down,
            to: Health::Up,
            reason: ProbeResult::Ok,
        },
    ];
    assert_eq!(changes, expected);
}

/// Waits until `key` turned to `health` for the `nth` time (from 1); answers its results up to there.
fn wait_for_turn(
    recorder: &Recorder,
    key: BackendKey,
    health: Health,
    nth: usize,
) -> Vec<ProbeResult> {
    results(
        key,
        &recorder.wait(|events| turns(key, health, events) >= nth),
    )
}

/// How many times `key` turned to `health`.
fn turns(key: BackendKey, health: Health, events: &[Event]) -> usize {
    let is_turn = |event: &&Event| match event {
        Event::Change { key: of, change } => *of == key && change.to == health,
        Event::Probe { .. } => false,
    };
    events.iter().filter(is_turn).count()
}

fn change(event: &Event) -> Option<Transition> {
    match event {
        Event::Change { change, .. } => Some(*change),
        Event::Probe { .. } => None,
    }
}

#[test]
fn a_killed_listener_is_down_within_its_intervals_and_the_timeout() {
    let (listener, address) = listen(2);
    let parameters = params(200, 400);
    let recorder = Recorder::new();
    let handle = spawn(
        keeper(vec![target(1, address, parameters)]),
        recorder.clone(),
    )
    .unwrap();
    wait_for_turn(&recorder, key(1), Health::Up, 1);
    drop(listener);
    let bound = parameters.interval * parameters.fall + parameters.timeout;
    let busy_machine = Duration::from_secs(2);
    recorder.wait_within(bound + busy_machine, |events| {
        turns(key(1), Health::Down, events) == 1
    });
    handle.stop();
}

#[test]
fn a_black_hole_times_out_and_recovers() {
    let (listener, _filler, address) = black_hole(3);
    let recorder = Recorder::new();
    let handle = spawn(
        keeper(vec![target(1, address, params(50, 50))]),
        recorder.clone(),
    )
    .unwrap();
    assert_eq!(wait_for_turn(&recorder, key(1), Health::Down, 1), [TIMEOUT]);
    recorder.wait(|events| results(key(1), events).len() >= 4);

    let listener = TcpListener::from(listener);
    let _first = listener.accept().unwrap();
    // From here on the queue has room for one at a time: it is emptied as the probes come.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while listener
                .accept()
                .is_ok_and(|(_, peer)| !peer.ip().is_unspecified())
            {
                if turns(key(1), Health::Up, &recorder.events()) > 0 {
                    break;
                }
            }
        });
        let seen = wait_for_turn(&recorder, key(1), Health::Up, 1);
        assert_eq!(seen[seen.len() - 2..], [ProbeResult::Ok; 2]);
        assert!(
            seen[..4].iter().all(|result| *result == TIMEOUT),
            "{seen:?}"
        );
    });
    handle.stop();
}

#[test]
fn a_unix_listener_with_a_full_queue_times_out_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backend.sock");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener
        .bind(&socket2::SockAddr::unix(&path).unwrap())
        .unwrap();
    listener.listen(0).unwrap();
    let _filler = std::os::unix::net::UnixStream::connect(&path).unwrap();

    let target = Target {
        key: key(1),
        address: ProbeAddress::Unix(path),
        sources: Arc::default(),
        preface: Arc::default(),
        check: Arc::new(Check::Connect),
        params: params(50, 50),
        known: Health::Unknown,
        last_probe: None,
    };
    let recorder = Recorder::new();
    let handle = spawn(keeper(vec![target]), recorder.clone()).unwrap();
    assert_eq!(wait_for_turn(&recorder, key(1), Health::Down, 1), [TIMEOUT]);
    listener.listen(4096).unwrap();
    let seen = wait_for_turn(&recorder, key(1), Health::Up, 1);
    assert_eq!(seen[seen.len() - 2..], [ProbeResult::Ok; 2]);
    handle.stop();
}

#[test]
fn update_keeps_what_stays_and_moves_what_changes() {
    let (stays, stays_at) = listen(4);
    let (_leaves, leaves_at) = listen(5);
    let (_joins, joins_at) = listen(6);
    let slow = params(60_000, 1_000);
    let recorder = Recorder::new();
    let first = vec![
        target(1, stays_at, slow),
        target(2, leaves_at, params(20, 500)),
    ];
    let handle = spawn(keeper(first), recorder.clone()).unwrap();
    wait_for_turn(&recorder, key(1), Health::Up, 1);
    wait_for_turn(&recorder, key(2), Health::Up, 1);

    handle.update(
        vec![
            target(1, stays_at, slow),
            target(3, joins_at, params(20, 500)),
        ],
        2,
    );
    wait_for_turn(&recorder, key(3), Health::Up, 1);
    let probes_of_the_removed = results(key(2), &recorder.events()).len();
    let events = recorder.wait(|events| results(key(3), events).len() >= 10);
    assert_eq!(results(key(2), &events).len(), probes_of_the_removed);
    assert_eq!(turns(key(1), Health::Up, &events), 1, "its health was kept");
    assert!(
        results(key(1), &events).len() <= 2,
        "probed anew: {events:?}"
    );

    // New parameters: the health stays, and the cadence is the new one.
    handle.update(vec![target(1, stays_at, params(20, 500))], 1);
    let events = recorder.wait(|events| results(key(1), events).len() >= 10);
    assert_eq!(turns(key(1), Health::Up, &events), 1);
    drop(stays);
    wait_for_turn(&recorder, key(1), Health::Down, 1);

    // Another address under the same key is another backend.
    handle.update(vec![target(1, joins_at, params(20, 500))], 1);
    let events = recorder.wait(|events| turns(key(1), Health::Up, events) == 2);
    let Some(Event::Change { change, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(change.from, Health::Unknown);

    handle.update(Vec::new(), 0);
    handle.update(
        vec![target(4, joins_at, slow), target(4, leaves_at, slow)],
        1,
    );
    wait_for_turn(&recorder, key(4), Health::Up, 1);
    handle.stop();
}

#[test]
fn a_thousand_targets_are_probed_without_a_storm() {
    let (listener, address) = listen(7);
    let interval = params(1_000, 900);
    let targets: Vec<_> = (0..1_000)
        .map(|backend| target(backend, address, interval))
        .collect();
    let recorder = Recorder::new();
    let last = SocketAddr::from(([127, 88, 0, 8], 0));
    let acceptor = std::thread::spawn(move || {
        while listener
            .accept()
            .is_ok_and(|(_, peer)| peer.ip() != last.ip())
        {}
    });
    let handle = spawn(keeper(targets), recorder.clone()).unwrap();
    let rounds = 3_000;
    let is_probe = |event: &&Event| matches!(event, Event::Probe { .. });
    let events = recorder.wait(|events| events.iter().filter(is_probe).count() >= rounds);
    handle.stop();
    let up = events
        .iter()
        .filter_map(change)
        .filter(|change| change.to == Health::Up)
        .count();
    assert_eq!(up, 1_000);
    // 100 on average. The exact bound is the schedule's to prove; here a stalled machine must not fail it,
    // but a storm of all targets at once must.
    assert!(
        peak(&events) < 500,
        "{} probes within 100 ms",
        peak(&events)
    );

    let farewell = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    farewell.bind(&last.into()).unwrap();
    farewell.connect(&address.into()).unwrap();
    acceptor.join().unwrap();
}
