//! Running out of descriptors: before the start, by the arithmetic, and although the arithmetic was
//! right because somebody lowered the limit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::backend::Server;
use crate::instance::Ringway;
use crate::peers::{connect, patient, read_exactly};
use crate::process::Launch;
use crate::setup::{Relay, Setup};

#[test]
fn too_few_to_begin_with_are_refused() {
    let server = Server::echo(b'a');
    let mut process = Setup::to([server.address()])
        .launch_as(Launch::Descriptors(64))
        .launch();
    let ended = process.end();
    assert_eq!(ended.code, Some(69), "{}", ended.log);
    assert!(ended.log.contains("64 descriptors"), "{}", ended.log);
    assert!(ended.log.contains("LimitNOFILE"), "{}", ended.log);
}

#[test]
fn limits_that_the_descriptors_do_not_carry_are_refused() {
    let server = Server::echo(b'a');
    let none: [SocketAddr; 0] = [];
    let of_listener = Setup::to([server.address()]).listener("limits: {connections: 5000}");
    let of_backend = Setup::to(none).backend(server.address(), "max_connections: 5000");
    for (setup, key) in [
        (of_listener, "limits.connections"),
        (of_backend, "max_connections"),
    ] {
        let ended = setup.launch_as(Launch::Descriptors(1024)).launch().end();
        assert_eq!(ended.code, Some(69), "{}", ended.log);
        for word in [key, "5000", "1024", "LimitNOFILE"] {
            assert!(ended.log.contains(word), "{word}: {}", ended.log);
        }
    }
}

#[test]
fn what_the_descriptors_carry_is_told_at_start() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()])
        .launch_as(Launch::Descriptors(1024))
        .start();
    let lines = ringway.log_lines();
    let limits = lines
        .iter()
        .find(|line| line["message"] == "limits")
        .unwrap();
    assert_eq!(limits["nofile"], 1024);
    assert_eq!(
        limits["connections_max"],
        ringway.status()["connections_max"]
    );
}

/// Connections until one more is not served: those that are.
fn fill(ringway: &Ringway) -> Vec<TcpStream> {
    let mut inside = Vec::new();
    loop {
        // One that is reset may be so before the kernel has told of it.
        let Ok(client) = TcpStream::connect(ringway.address()) else {
            return inside;
        };
        client
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        match (&client).read(&mut [0; 1]) {
            Ok(1) => inside.push(client),
            _ => return inside,
        }
        assert!(inside.len() < 200, "there is no end of descriptors");
    }
}

/// Files that somebody left open are not part of the arithmetic. The last connection takes one
/// descriptor or two, so it is accepted and has no socket to a backend, or is not accepted.
#[test]
fn without_descriptors_it_waits_and_goes_on_when_there_are_some() {
    for (relay, left_open) in [
        (Relay::Auto, 200),
        (Relay::Copy, 201),
        (Relay::Splice, 200),
        (Relay::UringSplice, 201),
    ] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).relay(relay);
        let ringway = setup.launch_as(Launch::Crowded(400, left_open)).start();
        let mut inside = fill(&ringway);
        let waiting: Vec<TcpStream> = (0..20)
            .filter_map(|_| TcpStream::connect(ringway.address()).ok())
            .collect();
        for client in &mut inside {
            client.write_all(b"x").unwrap();
            assert_eq!(read_exactly::<1>(&*client), [b'x'], "{relay:?}");
        }
        let load = ringway.process.load_over(Duration::from_secs(1));
        assert!(
            load < 0.5,
            "{relay:?}: waiting for descriptors takes {load} of a CPU"
        );
        drop(inside);
        drop(waiting);
        ringway.until_connections(0);
        let client = connect(ringway.address());
        assert_eq!(read_exactly::<1>(&client), [b'a'], "{relay:?}");
        let errors = ringway.metrics().sum("listener_accept_errors_total", &[]);
        // One per pause, not thousands.
        assert!(errors < 100, "{errors}");
        for family in ["backend_connect_failures_total", "backend_retries_total"] {
            assert_eq!(ringway.metrics().sum(family, &[]), 0, "{relay:?}: {family}");
        }
    }
}

/// Clients that all come at once: those that are greeted, and how many are turned away.
fn rush(address: SocketAddr, lanes: usize, per_lane: usize) -> (Vec<TcpStream>, usize) {
    let lane = || {
        let clients: Vec<_> = (0..per_lane).map(|_| TcpStream::connect(address)).collect();
        let greeted = |client: std::io::Result<TcpStream>| {
            let client = patient(client.inspect_err(is_reset).ok()?);
            match (&client).read(&mut [0; 1]) {
                Ok(1) => Some(client),
                Ok(_) => panic!("turned away by FIN"),
                Err(error) => {
                    is_reset(&error);
                    None
                }
            }
        };
        clients.into_iter().filter_map(greeted).collect::<Vec<_>>()
    };
    let inside: Vec<TcpStream> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes
            .into_iter()
            .flat_map(|lane| lane.join().unwrap())
            .collect()
    });
    let outside = lanes * per_lane - inside.len();
    (inside, outside)
}

fn is_reset(error: &std::io::Error) {
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

/// The kernel accepts ahead of admission, as many as there are descriptors: who is admitted must get
/// one for the backend all the same, and the backend is not to blame for anything.
#[test]
fn a_rush_of_four_times_what_the_descriptors_carry_fills_them_exactly() {
    const LANES: usize = 8;
    for workers in [1, 2, 4] {
        let servers = [Server::echo(b'a'), Server::echo(b'b')];
        let setup = Setup::to(servers.each_ref().map(Server::address)).workers(workers);
        let ringway = setup.launch_as(Launch::Descriptors(600)).start();
        let most = ringway.status()["connections_max"].as_u64().unwrap() as usize;
        for _ in 0..3 {
            let per_lane = (4 * most).div_ceil(LANES);
            let refused_before = ringway.refused("resources");
            let (inside, outside) = rush(ringway.address(), LANES, per_lane);
            assert_eq!(inside.len(), most, "workers {workers}");
            let refused = ringway.refused("resources") - refused_before;
            assert_eq!(refused, outside as i64, "workers {workers}");
            for family in ["backend_connect_failures_total", "backend_retries_total"] {
                assert_eq!(ringway.metrics().sum(family, &[]), 0, "{family}");
            }
            drop(inside);
            ringway.until_connections(0);
        }
    }
}
