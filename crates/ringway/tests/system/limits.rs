//! Maxima that all workers together never exceed, whatever the race.

use std::net::SocketAddr;

use crate::arrivals::{Outcome, churn, race, try_in};
use crate::backend::{Backend, BlackHole, Server};
use crate::eventually::until_is;
use crate::peers::{End, connect, drain, read_exactly, reset, turned_away, until};
use crate::setup::{ALGORITHMS, Setup};

#[test]
fn connections_of_a_listener_are_limited_exactly() {
    for (over, end) in [("reset", End::Reset), ("close", End::Fin)] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).workers(4);
        let setup = setup.listener(&format!("limits: {{connections: 50, over: {over}}}"));
        let ringway = setup.start();
        let (inside, outside) = race(ringway.address(), 8, 200);
        assert_eq!((inside.len(), outside.len()), (50, 1550));
        assert!(outside.iter().all(|out| *out == end));
        assert_eq!(ringway.refused("connections"), 1550);
        drop(inside);
        ringway.until_connections(0);
        churn(ringway.address(), 8, 100);
        // A backend may see the end of one connection after the begin of the next.
        ringway.until_connections(0);
        let (inside, _) = race(ringway.address(), 8, 20);
        assert_eq!(inside.len(), 50, "places are lost");
        ringway.until_balanced(50);
        drop(inside);
    }
}

#[test]
fn connections_to_a_backend_are_limited_exactly() {
    for (over, end) in [("reset", End::Reset), ("close", End::Fin)] {
        let server = Server::echo(b'a');
        let none: [SocketAddr; 0] = [];
        let setup = Setup::to(none)
            .backend(server.address(), "max_connections: 40")
            .workers(4);
        let ringway = setup.listener(&format!("limits: {{over: {over}}}")).start();
        let (inside, outside) = race(ringway.address(), 8, 200);
        assert_eq!((inside.len(), outside.len()), (40, 1560));
        assert!(outside.iter().all(|out| *out == end));
        assert_eq!((server.peak(), server.served()), (40, 40));
        assert_eq!(ringway.refused("no_backend"), 1560);
        drop(inside);
        ringway.until_connections(0);
        churn(ringway.address(), 8, 100);
        ringway.until_connections(0);
        assert_eq!(
            race(ringway.address(), 8, 20).0.len(),
            40,
            "places are lost"
        );
    }
}

#[test]
fn a_full_backend_leaves_the_rest_to_the_others() {
    let (small, large) = (Server::echo(b's'), Server::echo(b'l'));
    let setup = Setup::to([large.address()]).backend(small.address(), "max_connections: 3");
    let ringway = setup.workers(4).start();
    let (inside, outside) = race(ringway.address(), 4, 50);
    assert_eq!((inside.len(), outside.len()), (200, 0));
    assert_eq!((small.served(), large.served()), (3, 197));
    assert_eq!(ringway.metrics().sum("backend_retries_total", &[]), 0);
}

/// Whatever chooses, it looks on while there is a place: a client is refused when all are taken.
#[test]
fn every_algorithm_finds_the_last_place() {
    for balance in ALGORITHMS {
        let servers = [b'a', b'b', b'c', b'd'].map(Server::echo);
        let mut setup = Setup::to([] as [SocketAddr; 0]).workers(4);
        for (server, keys) in servers.iter().zip([
            "max_connections: 4",
            "max_connections: 4, weight: 3",
            "max_connections: 2",
            "max_connections: 2, backup: true",
        ]) {
            setup = setup.backend(server.address(), keys);
        }
        let ringway = setup.balance(balance).start();
        let (inside, outside) = race(ringway.address(), 8, 10);
        assert_eq!((inside.len(), outside.len()), (12, 68), "{balance}");
        let peaks = servers.each_ref().map(Server::peak);
        assert_eq!(peaks, [4, 4, 2, 2], "{balance}");
        assert_eq!(ringway.refused("no_backend"), 68, "{balance}");
    }
}

#[test]
fn a_place_is_free_as_soon_as_its_connection_is_over() {
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]).listener("limits: {connections: 1}");
    let ringway = setup.start();
    let first = backend.pair(&ringway);
    assert_eq!(turned_away(ringway.address()), End::Reset);
    drop(first);
    ringway.until_connections(0);
    let (client, accepted) = backend.pair(&ringway);
    drop(client);
    assert_eq!(drain(accepted), (Vec::new(), End::Fin));
    until("counted", || ringway.refused("connections") == 1);
}

/// An attempt is a connection that the backend may have already: it counts from its begin, whatever
/// becomes of it.
#[test]
fn attempts_count_and_are_given_back_however_they_end() {
    let (hole, none) = (BlackHole::new(), [] as [SocketAddr; 0]);
    let setup = Setup::to(none).backend(hole.address(), "max_connections: 5");
    let setup = setup.workers(4).pool("connect: {timeout: 20s}");
    let ringway = setup.start();
    let open = || ringway.metrics().sum("backend_connections", &[]);
    for round in 1..=3 {
        let waiting: Vec<_> = (0..5).map(|_| connect(ringway.address())).collect();
        until_is("attempts", 5, open);
        for _ in 0..20 {
            assert_eq!(turned_away(ringway.address()), End::Reset);
        }
        assert_eq!(ringway.refused("no_backend"), 20 * round);
        waiting.into_iter().for_each(reset);
        until_is("attempts", 0, open);
    }
}

#[test]
fn failed_attempts_give_their_places_back() {
    let mut dead = Server::echo(b'd');
    let server = Server::echo(b'a');
    dead.kill();
    let setup = Setup::to([] as [SocketAddr; 0])
        .backend(dead.address(), "max_connections: 1")
        .backend(server.address(), "max_connections: 100");
    let ringway = setup.workers(4).start();
    churn(ringway.address(), 8, 50);
    ringway.until_connections(0);
    let failures = ringway
        .metrics()
        .sum("backend_connect_failures_total", &[("error", "refused")]);
    assert!(failures > 50, "{failures}");
    dead.start();
    let (inside, outside) = race(ringway.address(), 8, 20);
    assert_eq!((inside.len(), outside.len()), (101, 59), "places are lost");
    assert_eq!((dead.peak(), dead.served()), (1, 1));
}

/// What the descriptors of the process carry is a limit, too.
#[test]
fn the_process_is_limited_by_its_descriptors() {
    use crate::process::Launch;
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()])
        .launch_as(Launch::Descriptors(400))
        .start();
    let most = ringway.status()["connections_max"].as_u64().unwrap() as usize;
    assert!((20..180).contains(&most), "{most}");
    let (mut inside, outside) = race(ringway.address(), 4, most / 2);
    assert_eq!((inside.len(), outside.len()), (most, 4 * (most / 2) - most));
    assert_eq!(ringway.refused("resources") as usize, outside.len());
    // Those inside go on, and a place that becomes free is used.
    for client in &mut inside {
        std::io::Write::write_all(client, b"x").unwrap();
        assert_eq!(read_exactly::<1>(&*client), [b'x']);
    }
    inside.truncate(most - 1);
    ringway.until_connections(most as u64 - 1);
    assert!(matches!(try_in(ringway.address()), Outcome::In(_)));
    let accept_errors = ringway.metrics().sum("listener_accept_errors_total", &[]);
    assert_eq!(
        accept_errors, 0,
        "the arithmetic leaves room for every descriptor"
    );
}
