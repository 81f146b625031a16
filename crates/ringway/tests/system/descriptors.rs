//! Running out of descriptors: before the start, by the arithmetic, and although the arithmetic was
//! right because somebody lowered the limit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::backend::Server;
use crate::instance::Ringway;
use crate::peers::{connect, read_exactly, until};
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

fn set_limit(ringway: &Ringway, soft: u64) {
    let limit = Rlimit {
        current: Some(soft),
        maximum: Some(20_000),
    };
    prlimit(Some(ringway.process.pid()), Resource::Nofile, limit).unwrap();
}

/// Both are refused entry into the kernel's table of descriptors: what is accepted, and what connects
/// to a backend.
#[test]
fn without_descriptors_it_waits_and_goes_on_when_there_are_some() {
    for relay in [Relay::Auto, Relay::Splice] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).relay(relay).workers(2);
        let mut ringway = setup.start();
        let mut inside: Vec<TcpStream> = (0..10).map(|_| connect(ringway.address())).collect();
        inside
            .iter()
            .for_each(|client| assert_eq!(read_exactly::<1>(client), [b'a']));
        // Below what is open already: nothing new may be opened.
        set_limit(&ringway, 8);
        let waiting: Vec<TcpStream> = (0..20).map(|_| connect(ringway.address())).collect();
        for client in &mut inside {
            client.write_all(b"x").unwrap();
            assert_eq!(
                read_exactly::<1>(&*client),
                [b'x'],
                "{relay:?}: one inside is not served"
            );
        }
        let load = ringway.process.load_over(Duration::from_secs(1));
        assert!(
            load < 0.5,
            "{relay:?}: waiting for descriptors takes {load} of a CPU"
        );
        assert!(ringway.process.is_running());
        set_limit(&ringway, 1000);
        for mut client in waiting {
            // Accepted just before it ran out, it may have been refused for want of a socket.
            let served = client.read(&mut [0; 1]).is_ok_and(|len| len == 1);
            assert!(served || ringway.closed("backend", "connect_failed") > 0);
        }
        let client = connect(ringway.address());
        assert_eq!(read_exactly::<1>(&client), [b'a']);
        let errors = || {
            ringway
                .metrics()
                .sum("listener_accept_errors_total", &[("errno", "EMFILE")])
        };
        until("they are counted", || errors() > 0);
        // One per worker and pause, not thousands.
        assert!(errors() < 1000, "{}", errors());
    }
}
