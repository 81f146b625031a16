//! Running out of descriptors: before the start, by the arithmetic, and although the arithmetic was
//! right because somebody lowered the limit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::backend::Server;
use crate::instance::Ringway;
use crate::peers::{connect, read_exactly};
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
    }
}
