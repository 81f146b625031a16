//! Backends that fail to take a connection, each in its way, and what the client notices of it.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::backend::{Backend, BlackHole, Server, closed_address};
use crate::peers::{End, connect, drain, reset, turned_away, until};
use crate::setup::Setup;

fn ask(address: SocketAddr) -> (TcpStream, Vec<u8>, End) {
    let mut client = connect(address);
    // Where every attempt fails, the client may be reset before it has asked.
    if client.write_all(b"once").is_err() || client.shutdown(Shutdown::Write).is_err() {
        return (client, Vec::new(), End::Reset);
    }
    let (answer, end) = drain(&client);
    (client, answer, end)
}

#[test]
fn a_refusing_backend_costs_an_attempt_and_no_byte() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([closed_address(), server.address()]).start();
    for _ in 0..10 {
        let (_, answer, end) = ask(ringway.address());
        assert_eq!((answer, end), (b"aonce".to_vec(), End::Fin));
    }
    assert_eq!(server.served(), 10);
    let failures = ringway
        .metrics()
        .sum("backend_connect_failures_total", &[("error", "refused")]);
    assert_eq!(
        failures,
        ringway.metrics().sum("backend_retries_total", &[])
    );
    assert!(failures >= 5, "{failures}");
    ringway.until_bytes(40, 50);
}

#[test]
fn a_black_hole_costs_its_timeout_and_then_another_is_tried() {
    let (hole, server) = (BlackHole::new(), Server::echo(b'a'));
    let ringway = Setup::to([hole.address(), server.address()])
        .pool("connect: {timeout: 100ms, attempts: 2}")
        .start();
    for _ in 0..6 {
        let (_, answer, end) = ask(ringway.address());
        assert_eq!((answer, end), (b"aonce".to_vec(), End::Fin));
    }
    let failures = ringway
        .metrics()
        .sum("backend_connect_failures_total", &[("error", "timeout")]);
    assert!(failures >= 3, "{failures}");
    assert_eq!(
        ringway.metrics().sum("backend_connect_failures_total", &[]),
        failures
    );
}

#[test]
fn attempts_never_exceed_their_number_and_each_is_on_another_backend() {
    let addresses = [
        closed_address(),
        closed_address(),
        closed_address(),
        closed_address(),
    ];
    for (attempts, tried) in [(1, 1), (2, 2), (4, 4), (9, 4)] {
        let setup = Setup::to(addresses).pool(&format!("connect: {{attempts: {attempts}}}"));
        let ringway = setup.start();
        let (_, answer, end) = ask(ringway.address());
        assert_eq!(
            (answer, end),
            (Vec::new(), End::Reset),
            "{attempts} attempts"
        );
        ringway.until_closed("backend", "connect_failed", 1);
        let failures = ringway
            .metrics()
            .each("backend_connect_failures_total", &[("error", "refused")]);
        assert_eq!(failures.iter().sum::<i64>(), tried, "{attempts} attempts");
        assert!(failures.iter().all(|of_one| *of_one <= 1), "{failures:?}");
    }
}

#[test]
fn a_backend_that_resets_has_its_reset_passed_on_and_is_not_tried_again() {
    let server = Server::new(reset);
    let ringway = Setup::to([server.address()]).start();
    for _ in 0..20 {
        assert_eq!(turned_away(ringway.address()), End::Reset);
    }
    ringway.until_closed("backend", "reset", 20);
    assert_eq!(
        (
            server.served(),
            ringway.metrics().sum("backend_retries_total", &[])
        ),
        (20, 0)
    );
}

#[test]
fn a_backend_that_says_nothing_keeps_its_client_until_the_idle_timeout() {
    let backend = Backend::new();
    let ringway = Setup::to([backend.address()])
        .listener("timeouts: {idle: 300ms}")
        .start();
    let (mut client, accepted) = backend.pair(&ringway);
    client.write_all(b"anybody there?").unwrap();
    assert_eq!(drain(&client), (Vec::new(), End::Fin));
    assert_eq!(drain(&accepted), (b"anybody there?".to_vec(), End::Fin));
    ringway.until_closed("ringway", "idle", 1);
}

/// Two backends take turns at dying under load. A connection to one that dies is lost with it; none
/// is lost for want of a second attempt.
#[test]
fn a_killed_backend_costs_no_new_connection_while_another_lives() {
    let mut servers = [Server::echo(b'a'), Server::echo(b'b')];
    let setup = Setup::to(servers.each_ref().map(Server::address)).workers(2);
    let ringway = setup.pool("connect: {timeout: 3s, attempts: 2}").start();
    let address = ringway.address();
    let (is_over, asked, cut) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let (_, answer, end) = ask(address);
                    match end {
                        End::Fin => assert!(answer.ends_with(b"once"), "{answer:?}"),
                        End::Reset => drop(cut.fetch_add(1, Ordering::Relaxed)),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..10 {
            let load_goes_on = || {
                let before = asked.load(Ordering::Relaxed);
                until("load goes on", || {
                    asked.load(Ordering::Relaxed) > before + 100
                });
            };
            servers[round % 2].kill();
            load_goes_on();
            servers[round % 2].start();
            load_goes_on();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    ringway.until_connections(0);
    let (cut, lost) = (cut.into_inner() as i64, ringway.closed("backend", "reset"));
    assert!(
        cut <= lost,
        "{cut} clients were cut, {lost} by a backend that died"
    );
    assert_eq!(
        (
            ringway.closed("backend", "connect_failed"),
            ringway.refused("no_backend")
        ),
        (0, 0)
    );
    assert!(ringway.metrics().sum("backend_retries_total", &[]) > 0);
}
