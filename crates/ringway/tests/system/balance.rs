//! Which backend a connection gets, and which worker.

use std::net::{SocketAddr, TcpStream};

use crate::backend::{Server, closed_address};
use crate::peers::{End, connect, drain, fin, read_exactly, until};
use crate::setup::Setup;

/// A connection and the name of the backend that greeted it.
fn greeted(address: SocketAddr) -> (TcpStream, u8) {
    let client = connect(address);
    let [name] = read_exactly::<1>(&client);
    (client, name)
}

/// The backends of that many connections, one after the other.
fn sequence(address: SocketAddr, count: usize) -> String {
    let one = |_| {
        let (client, name) = greeted(address);
        fin(&client);
        assert_eq!(drain(&client), (Vec::new(), End::Fin));
        char::from(name)
    };
    (0..count).map(one).collect()
}

fn count(sequence: &str, name: char) -> usize {
    sequence.chars().filter(|c| *c == name).count()
}

#[test]
fn round_robin_rotates() {
    let servers = [Server::echo(b'a'), Server::echo(b'b'), Server::echo(b'c')];
    let ringway = Setup::to(servers.each_ref().map(Server::address)).start();
    let seen = sequence(ringway.address(), 30);
    let cycle: String = seen[..3].to_owned();
    assert_eq!(seen, cycle.repeat(10));
    assert!("abc".chars().all(|name| cycle.contains(name)), "{cycle}");
    let totals = ringway.metrics().each("backend_connections_total", &[]);
    assert_eq!(totals, [10, 10, 10]);
}

#[test]
fn weights_are_exact_over_a_cycle() {
    let servers = [Server::echo(b'a'), Server::echo(b'b'), Server::echo(b'c')];
    let ringway = Setup::to([servers[0].address()])
        .backend(servers[1].address(), "weight: 2")
        .backend(servers[2].address(), "weight: 3")
        .start();
    for _ in 0..5 {
        let cycle = sequence(ringway.address(), 6);
        let counts = ['a', 'b', 'c'].map(|name| count(&cycle, name));
        assert_eq!(counts, [1, 2, 3], "{cycle}");
        assert!(
            !cycle.contains("ccc"),
            "{cycle}: the heavy one comes in a row"
        );
    }
}

#[test]
fn a_backend_without_weight_gets_nothing_new() {
    for balance in ["round_robin", "least_connections", "random", "maglev"] {
        let servers = [Server::echo(b'a'), Server::echo(b'b')];
        let setup = Setup::to([servers[0].address()]).balance(balance);
        let ringway = setup.backend(servers[1].address(), "weight: 0").start();
        assert_eq!(sequence(ringway.address(), 20), "a".repeat(20), "{balance}");
        assert_eq!(servers[1].served(), 0);
    }
}

#[test]
fn round_robin_of_many_workers_is_even() {
    let servers = [Server::echo(b'a'), Server::echo(b'b')];
    let ringway = Setup::to(servers.each_ref().map(Server::address))
        .workers(4)
        .start();
    let seen = sequence(ringway.address(), 200);
    // Each worker is off by half a cycle at most.
    assert!(count(&seen, 'a').abs_diff(100) <= 2, "{seen}");
}

#[test]
fn least_connections_avoids_the_busy_one() {
    let servers = [Server::echo(b'a'), Server::echo(b'b')];
    let setup = Setup::to(servers.each_ref().map(Server::address));
    let ringway = setup.balance("least_connections").start();
    let clients: Vec<(TcpStream, u8)> = (0..20).map(|_| greeted(ringway.address())).collect();
    let (busy, over): (Vec<_>, Vec<_>) = clients.into_iter().partition(|(_, name)| *name == b'a');
    assert_eq!((busy.len(), over.len()), (10, 10));
    drop(over);
    ringway.until_connections(10);
    assert_eq!(sequence(ringway.address(), 20), "b".repeat(20));
}

#[test]
fn random_gives_everyone_a_share() {
    let servers = [Server::echo(b'a'), Server::echo(b'b')];
    let setup = Setup::to(servers.each_ref().map(Server::address));
    let ringway = setup.balance("random").start();
    let seen = sequence(ringway.address(), 200);
    // A fair coin stays within these bounds but for one time in 10^12.
    assert!((50..=150).contains(&count(&seen, 'a')), "{seen}");
}

#[test]
fn a_client_stays_with_its_backend_when_addresses_are_hashed() {
    for balance in ["source_hash", "maglev"] {
        let servers = [Server::echo(b'a'), Server::echo(b'b'), Server::echo(b'c')];
        let setup = Setup::to(servers.each_ref().map(Server::address)).workers(4);
        let ringway = setup.balance(balance).start();
        let seen = sequence(ringway.address(), 40);
        assert_eq!(seen, seen[..1].repeat(40), "{balance}");
    }
}

#[test]
fn a_backup_serves_only_while_the_others_are_down() {
    let (mut main, backup) = (Server::echo(b'a'), Server::echo(b'z'));
    let setup = Setup::to([main.address()]).backend(backup.address(), "backup: true");
    let ringway = setup.health_checks().start();
    until("it is up", || ringway.backend_state(0) == "up");
    assert_eq!(sequence(ringway.address(), 10), "a".repeat(10));
    main.kill();
    until("it is down", || ringway.backend_state(0) == "down");
    assert_eq!(sequence(ringway.address(), 10), "z".repeat(10));
    main.start();
    until("it is up again", || ringway.backend_state(0) == "up");
    assert_eq!(sequence(ringway.address(), 10), "a".repeat(10));
}

#[test]
fn a_backup_is_not_tried_for_one_failed_connection() {
    let backup = Server::echo(b'z');
    let setup = Setup::to([closed_address()]).backend(backup.address(), "backup: true");
    let ringway = setup.start();
    // Nobody has found the other one down, but each attempt is on another backend.
    let (_, name) = greeted(ringway.address());
    assert_eq!(name, b'z');
}

#[test]
fn connections_spread_over_the_workers() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()]).workers(4).start();
    let clients: Vec<TcpStream> = (0..200).map(|_| greeted(ringway.address()).0).collect();
    ringway.until_connections(200);
    let shares = ringway.metrics().each("worker_connections", &[]);
    assert_eq!((shares.len(), shares.iter().sum()), (4, 200));
    // That one of four fair sockets gets under ten of two hundred happens once in 10^12.
    assert!(shares.iter().all(|share| *share >= 10), "{shares:?}");
    drop(clients);
}
