//! Access lists: who may connect, who is told no, and that nobody else gets as far as a backend.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::thread;

use serde_json::json;

use crate::arrivals::{Outcome, try_from};
use crate::backend::Server;
use crate::eventually::until_is;
use crate::peers::{End, connect_from, reset};
use crate::setup::Setup;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Whether a client from there gets in; if not, how it is told.
fn refusal(source: &str, address: SocketAddr) -> Option<End> {
    match try_from(ip(source), address) {
        Outcome::In(_) => None,
        Outcome::Out(end) => Some(end),
    }
}

#[test]
fn the_longest_prefix_decides_and_on_a_tie_the_one_that_denies() {
    let access = "access: {allow: [127.0.0.0/8, 127.0.0.0/24, 127.0.0.7/32, 127.1.2.0/24, \"::1/128\"], \
                  deny: [127.0.0.0/24, 127.1.0.0/16, 127.1.2.3/32]}";
    let allowed = ["127.0.1.1", "127.0.0.7", "127.1.2.4", "127.9.9.9"];
    let denied = ["127.0.0.6", "127.0.0.8", "127.1.0.1", "127.1.2.3"];
    for (workers, over, end) in [(2, "reset", End::Reset), (4, "close", End::Fin)] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).workers(workers);
        let setup = setup.binds(&["127.0.0.1:0", "[::1]:0"]).listener(access);
        let ringway = setup.listener(&format!("limits: {{over: {over}}}")).start();
        for source in allowed {
            assert_eq!(refusal(source, ringway.address()), None, "{source}");
        }
        let six = ringway.addresses()[1].parse().unwrap();
        assert_eq!(refusal("::1", six), None);
        for source in denied {
            assert_eq!(refusal(source, ringway.address()), Some(end), "{source}");
        }
        assert_eq!(ringway.refused("access"), denied.len() as i64);
        assert_eq!(server.served(), allowed.len() + 1);
    }
}

#[test]
fn what_is_left_out_is_everyone_and_what_is_written_is_nobody_else() {
    for (access, four, six) in [
        ("{deny: [127.0.0.2/32]}", [true, false], true),
        ("{deny: [\"::1/128\"]}", [true, true], false),
        ("{allow: [127.0.0.2/32]}", [false, true], false),
        ("{allow: [\"::/0\"]}", [false, false], true),
        ("{allow: [0.0.0.0/0]}", [true, true], false),
        ("{}", [true, true], true),
    ] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).binds(&["127.0.0.1:0", "[::1]:0"]);
        let ringway = setup.listener(&format!("access: {access}")).start();
        let sources = ["127.0.0.1", "127.0.0.2"];
        let is_in = |source, address| refusal(source, address).is_none();
        assert_eq!(
            sources.map(|source| is_in(source, ringway.address())),
            four,
            "{access}"
        );
        let address = ringway.addresses()[1].parse().unwrap();
        assert_eq!(is_in("::1", address), six, "{access}");
    }
}

#[test]
fn every_refusal_is_in_the_access_log_with_its_reason_and_the_client() {
    for (key, reason) in [
        ("access: {deny: [127.0.0.2/32]}", "access"),
        ("limits: {connections: 1}", "connections"),
        ("limits: {connections_per_source: 1}", "per_source"),
        ("limits: {rate: 1/s}", "rate"),
        ("limits: {rate_per_source: 1/s}", "rate_per_source"),
    ] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).access_log("DIR/access.log");
        let ringway = setup.listener(key).start();
        let outcomes = [(); 6].map(|()| try_from(ip("127.0.0.2"), ringway.address()));
        let is_out = |outcome: &&Outcome| matches!(outcome, Outcome::Out(_));
        let outside = outcomes.iter().filter(is_out).count();
        // A bucket may have got a token on a slow machine.
        assert!(outside > 0, "{key}");
        assert_eq!(ringway.refused(reason) as usize, outside, "{key}");
        drop(outcomes);
        let lines = ringway.json_lines("access.log", 6);
        let refused = lines.iter().filter(|line| !line["refused"].is_null());
        let mut told = 0;
        for line in refused {
            told += 1;
            let client: SocketAddr = line["client"].as_str().unwrap().parse().unwrap();
            assert_eq!(client.ip(), ip("127.0.0.2"));
            for (key, value) in [
                ("listener", json!("l")),
                ("refused", json!(reason)),
                ("pool", json!(null)),
                ("backend", json!(null)),
                ("attempts", json!([])),
                ("received_bytes", json!({"client": 0, "backend": 0})),
                ("reason", json!(null)),
            ] {
                assert_eq!(line[key], value, "{key}: {line}");
            }
        }
        assert_eq!((told, server.served()), (outside, 6 - outside), "{key}");
    }
}

/// The kernel forgets who a client was that has reset, and still holds what it sent.
#[test]
fn nobody_slips_past_the_list_by_leaving_at_once() {
    const LANES: usize = 4;
    const EACH: usize = 250;
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(2);
    let ringway = setup.listener("access: {allow: [127.0.0.9/32]}").start();
    let address = ringway.address();
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                for _ in 0..EACH {
                    // Refused before it knew, it has left already.
                    if let Ok(mut client) = connect_from(ip("127.0.0.1"), address) {
                        let _ = client.write_all(b"let me in");
                        reset(client);
                    }
                }
            });
        }
    });
    let told = || {
        let metrics = ringway.metrics();
        let gone = [("errno", "ECONNABORTED")];
        let gone = metrics.sum("listener_accept_errors_total", &gone);
        gone + metrics.sum("listener_refused_total", &[("reason", "access")])
    };
    until_is("gone or refused", (LANES * EACH) as i64, told);
    assert_eq!(server.served(), 0);
}

#[test]
fn a_hundred_thousand_networks_are_taken() {
    let network = |number: u32| {
        let [_, a, b, c] = (number * 2).to_be_bytes();
        format!("{}.{b}.{c}.0/24, ", 10 + a)
    };
    let networks: String = (0..100_000).map(network).collect();
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(4);
    let ringway = setup
        .listener(&format!("access: {{deny: [{networks}127.0.0.9/32]}}"))
        .start();
    for _ in 0..20 {
        assert_eq!(refusal("127.0.0.9", ringway.address()), Some(End::Reset));
        assert_eq!(refusal("127.0.0.8", ringway.address()), None);
    }
}
