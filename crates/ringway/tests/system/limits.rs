//! Maxima that all workers together never exceed, whatever the race.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use crate::backend::{Backend, Server};
use crate::peers::{End, PATIENCE, drain, end_by, read_exactly, turned_away, until};
use crate::setup::Setup;

/// What became of a client that waits for a greeting.
enum Outcome {
    In(TcpStream),
    Out(End),
}

fn try_in(address: SocketAddr) -> Outcome {
    // A reset may come before the kernel has told of the connection.
    let mut client = match TcpStream::connect(address) {
        Ok(client) => client,
        Err(error) => return Outcome::Out(end_by(error)),
    };
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    match client.read(&mut [0; 1]) {
        Ok(1) => Outcome::In(client),
        Ok(_) => Outcome::Out(End::Fin),
        Err(error) => Outcome::Out(end_by(error)),
    }
}

/// Many clients at once: those that got in, and how the others were turned away.
fn race(address: SocketAddr, lanes: usize, per_lane: usize) -> (Vec<TcpStream>, Vec<End>) {
    let lane = || {
        (0..per_lane)
            .map(|_| try_in(address))
            .collect::<Vec<Outcome>>()
    };
    let outcomes = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes
            .into_iter()
            .flat_map(|lane| lane.join().unwrap())
            .collect::<Vec<_>>()
    });
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Outcome::In(client) => inside.push(client),
            Outcome::Out(end) => outside.push(end),
        }
    }
    (inside, outside)
}

/// One in, one out: places are reused at once, and there are never more than that.
fn churn(address: SocketAddr, lanes: usize, per_lane: usize) {
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(move || (0..per_lane).for_each(|_| drop(try_in(address))));
        }
    });
}

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
