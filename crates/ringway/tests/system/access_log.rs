//! One JSON line per connection, refused and reset ones included, from a log that nobody waits for.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::backend::{Backend, Server, closed_address};
use crate::instance::Ringway;
use crate::peers::{End, connect, drain, fin, read_exactly, reset, turned_away, until};
use crate::setup::Setup;

const FILE: &str = "DIR/access.log";

fn one_line(ringway: &Ringway) -> Value {
    ringway.json_lines("access.log", 1).remove(0)
}

fn local(stream: &TcpStream) -> Value {
    stream.local_addr().unwrap().to_string().into()
}

#[test]
fn a_connection_is_told_with_addresses_bytes_and_reason() {
    let backend = Backend::new();
    let address = backend.address().to_string();
    let ringway = Setup::to([&address]).access_log(FILE).start();
    let (mut client, mut accepted) = backend.pair(&ringway);
    client.write_all(b"question").unwrap();
    fin(&client);
    assert_eq!(drain(&accepted), (b"question".to_vec(), End::Fin));
    accepted.write_all(b"the answer").unwrap();
    drop(accepted);
    assert_eq!(drain(&client), (b"the answer".to_vec(), End::Fin));
    let line = one_line(&ringway);
    for (key, value) in [
        ("listener", json!("l")),
        ("pool", json!("p")),
        ("client", local(&client)),
        ("backend", json!(address)),
        (
            "attempts",
            json!([{"backend": address, "outcome": "connected"}]),
        ),
        ("received_bytes", json!({"client": 8, "backend": 10})),
        ("sent_bytes", json!({"client": 10, "backend": 8})),
        ("side", json!("client")),
        ("reason", json!("fin")),
        ("refused", json!(null)),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert!(line["duration_seconds"].as_f64().unwrap() < 60.0, "{line}");
}

#[test]
fn a_reset_connection_says_who_did_it() {
    for (side, expected) in [(0, "client"), (1, "backend")] {
        let backend = Backend::new();
        let ringway = Setup::to([backend.address()]).access_log(FILE).start();
        let (client, accepted) = backend.pair(&ringway);
        let (resetting, other) = if side == 0 {
            (client, accepted)
        } else {
            (accepted, client)
        };
        reset(resetting);
        assert_eq!(drain(other), (Vec::new(), End::Reset));
        let line = one_line(&ringway);
        assert_eq!(
            (&line["side"], &line["reason"]),
            (&json!(expected), &json!("reset"))
        );
    }
}

#[test]
fn every_backend_that_was_tried_is_named_with_its_failure() {
    let (first, second) = (closed_address().to_string(), closed_address().to_string());
    let setup = Setup::to([&first, &second]).listener("limits: {over: close}");
    let ringway = setup.access_log(FILE).start();
    let client = connect(ringway.address());
    assert_eq!(drain(&client), (Vec::new(), End::Fin));
    let line = one_line(&ringway);
    let mut tried: Vec<Value> = line["attempts"].as_array().unwrap().clone();
    tried.sort_by_key(Value::to_string);
    let mut expected = vec![
        json!({"backend": first, "outcome": "refused"}),
        json!({"backend": second, "outcome": "refused"}),
    ];
    expected.sort_by_key(Value::to_string);
    assert_eq!(tried, expected);
    assert_eq!(
        (&line["backend"], &line["reason"]),
        (&json!(null), &json!("connect_failed"))
    );
    assert_eq!(line["client"], local(&client));
}

/// The connection outlives a backend that it tried in vain, and the reload that gives its place away.
#[test]
fn a_backend_that_was_tried_may_have_left_when_the_line_is_written() {
    let (server, dead) = (Server::echo(b'a'), closed_address());
    let setup = |backends: &[SocketAddr]| Setup::to(backends).access_log(FILE);
    let ringway = setup(&[server.address(), dead]).start();
    let clients: Vec<TcpStream> = (0..4).map(|_| connect(ringway.address())).collect();
    for client in &clients {
        assert_eq!(read_exactly::<1>(client), [b'a']);
    }
    ringway.reload_as(&setup(&[server.address()]));
    ringway.reload();
    drop(clients);
    let lines = ringway.json_lines("access.log", 4);
    let well = server.address().to_string();
    assert!(lines.iter().all(|line| line["backend"] == *well));
    let attempts = |line: &Value| line["attempts"].as_array().unwrap().len();
    assert!(lines.iter().any(|line| attempts(line) == 2), "{lines:?}");
}

/// Its place has another backend by then.
#[test]
fn a_backend_that_was_tried_keeps_its_name_when_another_has_its_place() {
    let (server, dead) = (Server::echo(b'a'), closed_address());
    let next = Server::echo(b'a');
    let setup = |backends: &[SocketAddr]| Setup::to(backends).access_log(FILE);
    let ringway = setup(&[server.address(), dead]).start();
    let clients: Vec<TcpStream> = (0..4).map(|_| connect(ringway.address())).collect();
    for client in &clients {
        assert_eq!(read_exactly::<1>(client), [b'a']);
    }
    // Out of use, found out of use, and given away.
    for backends in [
        &[server.address()][..],
        &[server.address()],
        &[server.address(), next.address()],
    ] {
        ringway.rewrite(&setup(backends));
        ringway.reload();
    }
    drop(clients);
    let mut tried = Vec::new();
    for line in ringway.json_lines("access.log", 4) {
        assert_eq!(line["backend"], server.address().to_string());
        let attempts = line["attempts"].as_array().unwrap();
        let failed = attempts.iter().filter(|at| at["outcome"] == "refused");
        tried.extend(failed.map(|at| at["backend"].clone()));
    }
    tried.dedup();
    assert_eq!(tried, [json!(dead.to_string())]);
}

#[test]
fn a_refused_connection_has_a_line_too() {
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]).listener("limits: {connections: 1, over: close}");
    let ringway = setup.access_log(FILE).start();
    let _first = backend.pair(&ringway);
    let refused = connect(ringway.address());
    let address = local(&refused);
    assert_eq!(drain(refused), (Vec::new(), End::Fin));
    let line = one_line(&ringway);
    assert_eq!(
        (&line["refused"], &line["client"]),
        (&json!("connections"), &address)
    );
    assert_eq!(
        (&line["reason"], &line["backend"]),
        (&json!(null), &json!(null))
    );
}

#[test]
fn thousands_of_connections_have_as_many_lines() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()])
        .workers(4)
        .access_log(FILE)
        .start();
    for _ in 0..1500 {
        let client = connect(ringway.address());
        assert_eq!(read_exactly::<1>(&client), [b'a']);
    }
    let lines = ringway.json_lines("access.log", 1500);
    assert!(
        lines
            .iter()
            .all(|line| line["received_bytes"] == json!({"client": 0, "backend": 1}))
    );
    assert_eq!(ringway.status()["access_log"]["lines_total"], 1500);
}

#[test]
fn the_file_is_opened_anew_after_it_was_moved_away() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()]).access_log(FILE).start();
    let ask = || assert_eq!(read_exactly::<1>(&connect(ringway.address())), [b'a']);
    ask();
    assert_eq!(ringway.json_lines("access.log", 1).len(), 1);
    std::fs::rename(
        ringway.dir().join("access.log"),
        ringway.dir().join("old.log"),
    )
    .unwrap();
    ask();
    ringway.json_lines("old.log", 2);
    ringway.signal(Signal::USR1);
    until("there is a new file", || {
        ringway.dir().join("access.log").exists()
    });
    ask();
    ringway.json_lines("access.log", 1);
    ringway.json_lines("old.log", 2);
}

#[test]
fn it_may_go_to_standard_output() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()]).access_log("stdout").start();
    assert_eq!(read_exactly::<1>(&connect(ringway.address())), [b'a']);
    let line = ringway.json_lines("stdout", 1).remove(0);
    assert_eq!(line["side"], "client");
    assert_eq!(
        ringway.process.stdout().lines().count(),
        1,
        "nothing else is written there"
    );
}

#[test]
fn a_log_that_fails_loses_its_lines_and_nothing_else() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()])
        .access_log("/dev/full")
        .start();
    let lost = || {
        ringway.status()["access_log"]["lost_total"]
            .as_u64()
            .unwrap()
    };
    for served in 1..=20 {
        assert_eq!(read_exactly::<1>(&connect(ringway.address())), [b'a']);
        until("the line is lost", || lost() == served);
    }
    // Told when it begins, not each time.
    assert_eq!(
        ringway.process.log().matches("cannot be written").count(),
        1
    );
}

/// A pipe that is full for ever: connections go on, lines are dropped and counted, and the end comes.
#[test]
fn a_log_that_takes_nothing_holds_nobody_up() {
    let backend = Backend::new();
    let dir = tempfile::TempDir::new().unwrap();
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    // Open for both, so that neither end waits for the other.
    let end = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let path = format!("{}", pipe.display()).leak();
    let setup = Setup::to([backend.address()]).listener("limits: {connections: 1}");
    let mut ringway = setup.access_log(path).start();
    let (mut client, accepted) = backend.pair(&ringway);
    // Refused connections are the fastest way to many lines.
    let dropped = || ringway.metrics().sum("access_log_dropped_total", &[]);
    let mut refused = 0;
    while refused % 500 != 0 || refused == 0 || dropped() == 0 {
        turned_away(ringway.address());
        refused += 1;
        assert!(refused < 50_000, "nothing is dropped although nobody reads");
    }
    client.write_all(b"still relayed").unwrap();
    assert_eq!(&read_exactly::<13>(&accepted), b"still relayed");
    drop((client, accepted));
    ringway.until_connections(0);
    check_some_lines(end);
    ringway.stop(Duration::from_secs(20));
}

/// What did get through is whole.
fn check_some_lines(pipe: File) {
    let lines = BufReader::new(pipe).lines().take(100);
    lines.for_each(|line| drop(serde_json::from_str::<Value>(&line.unwrap()).unwrap()));
}
