//! Each load against each server it is for, as processes, client straight to server. Not a
//! measurement. Invariant: what a load says it sent and received is what the server says it received
//! and sent.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value as Json;

const BENCH: &str = env!("CARGO_BIN_EXE_ringway-bench");

/// A `serve` process, ended when dropped.
struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    /// One that serves `kind` on a free port.
    fn start(kind: &str, options: &[&str]) -> Server {
        let mut child = Command::new(BENCH)
            .args([
                "--json",
                "serve",
                "--until-stdin-ends",
                &format!("--{kind}"),
                "127.0.0.1:0",
            ])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout
            .read_line(&mut line)
            .expect("the server says where it listens");
        let address = line
            .trim()
            .rsplit(' ')
            .next()
            .expect("an address")
            .to_owned();
        assert!(line.starts_with(&format!("listening {kind} ")), "{line}");
        Server {
            stdin: child.stdin.take(),
            child,
            stdout,
            address,
        }
    }

    /// Ends it and returns what it counted.
    fn finish(mut self) -> Json {
        self.stdin = None;
        let mut rest = String::new();
        self.stdout
            .read_to_string(&mut rest)
            .expect("the server prints its counts");
        assert!(self.child.wait().expect("the server ends").success());
        serde_json::from_str(&rest).expect("the counts are JSON")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `finish`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a load that has to succeed.
fn load(arguments: &[&str]) -> Json {
    let output = Command::new(BENCH)
        .arg("--json")
        .args(arguments)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {text}{:?}",
        output.stderr
    );
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("the result is JSON")
}

/// The counts of both ends agree.
fn agree(load: &Json, server: &Json) {
    assert_eq!(
        load["bytes_sent"], server["bytes_received"],
        "{load} {server}"
    );
    assert_eq!(
        load["bytes_received"], server["bytes_sent"],
        "{load} {server}"
    );
    assert_eq!(
        load["connections"], server["connections"],
        "{load} {server}"
    );
    assert_eq!(load["failed"], 0, "{load}");
}

#[test]
fn round_trips_by_count() {
    let server = Server::start("echo", &["--threads", "2"]);
    let to = server.address.clone();
    let options = [
        "--connections",
        "9",
        "--size",
        "1000",
        "--count",
        "5000",
        "--threads",
        "2",
    ];
    let result = load(&[&["rr", "--to", &to], &options[..]].concat());
    assert_eq!(result["operations"], 5000);
    assert_eq!(result["bytes_sent"], 5_000_000);
    assert!(result["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    agree(&result, &server.finish());
}

#[test]
fn round_trips_larger_than_any_buffer() {
    let server = Server::start("echo", &[]);
    let to = server.address.clone();
    let options = ["--connections", "3", "--size", "9MiB", "--count", "9"];
    let result = load(&[&["rr", "--to", &to], &options[..]].concat());
    assert_eq!(result["bytes_received"], 81 << 20);
    agree(&result, &server.finish());
}

#[test]
fn round_trips_for_a_time_with_warm_up() {
    let server = Server::start("echo", &[]);
    let to = server.address.clone();
    let options = [
        "--connections",
        "4",
        "--duration",
        "200ms",
        "--warmup",
        "200ms",
    ];
    let result = load(&[&["rr", "--to", &to], &options[..]].concat());
    let (measured, all) = (
        result["operations"].as_u64(),
        result["operations_all"].as_u64(),
    );
    assert!(measured.unwrap() > 0 && all > measured, "{result}");
    agree(&result, &server.finish());
}

#[test]
fn round_trips_at_a_fixed_rate() {
    let server = Server::start("echo", &[]);
    let to = server.address.clone();
    let options = [
        "--connections",
        "7",
        "--duration",
        "500ms",
        "--rate",
        "2000",
    ];
    let result = load(&[&["rr", "--to", &to], &options[..]].concat());
    // However slow the machine is: as many as were due.
    assert_eq!(result["operations"], 1000, "{result}");
    agree(&result, &server.finish());
}

#[test]
fn short_connections_with_every_ending() {
    for close in ["client", "server"] {
        for how in ["fin", "reset"] {
            let exchange = ["--close", close, "--how", how, "--reply-size", "5000"];
            let server = Server::start("reply", &exchange);
            let to = server.address.clone();
            let options = ["--count", "600", "--parallel", "16", "--sources", "3"];
            let result = load(&[&["crr", "--to", &to], &options[..], &exchange[..]].concat());
            assert_eq!(result["operations"], 600, "{close} {how}: {result}");
            agree(&result, &server.finish());
        }
    }
}

#[test]
fn a_server_that_ends_the_wrong_way_is_noticed() {
    let server = Server::start("reply", &["--close", "server", "--how", "fin"]);
    let to = &server.address;
    let output = Command::new(BENCH)
        .args([
            "--json", "crr", "--to", to, "--count", "10", "--close", "server", "--how", "reset",
        ])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let result: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["failures"]["wrong_ending"], 10, "{result}");
}

#[test]
fn streams_in_every_direction() {
    for (direction, kind) in [
        ("up", "sink"),
        ("down", "source"),
        ("both", "source"),
        ("echo", "echo"),
    ] {
        let server = Server::start(kind, &[]);
        let to = server.address.clone();
        let options = [
            "--direction",
            direction,
            "--bytes",
            "20MiB",
            "--streams",
            "3",
            "--verify",
        ];
        let result = load(&[&["bulk", "--to", &to], &options[..]].concat());
        assert_eq!(result["operations"], 3, "{result}");
        let moved =
            result["bytes_sent"].as_u64().unwrap() + result["bytes_received"].as_u64().unwrap();
        assert!(moved >= 60 << 20, "{result}");
        agree(&result, &server.finish());
    }
}

#[test]
fn streams_for_a_time() {
    for (direction, kind) in [
        ("up", "sink"),
        ("down", "source"),
        ("both", "source"),
        ("echo", "echo"),
    ] {
        let server = Server::start(kind, &[]);
        let to = server.address.clone();
        let options = [
            "--direction",
            direction,
            "--duration",
            "200ms",
            "--streams",
            "2",
        ];
        let result = load(&[&["bulk", "--to", &to], &options[..]].concat());
        assert!(
            result["gigabit_per_second"].as_f64().unwrap() > 0.0,
            "{result}"
        );
        agree(&result, &server.finish());
    }
}

#[test]
fn held_connections_end_with_standard_input() {
    let server = Server::start("echo", &[]);
    let mut child = Command::new(BENCH)
        .args([
            "--json",
            "idle",
            "--to",
            &server.address,
            "--connections",
            "300",
        ])
        .arg("--until-stdin-ends")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "holding 300\n");
    drop(child.stdin.take());
    line.clear();
    stdout.read_to_string(&mut line).unwrap();
    assert!(child.wait().unwrap().success());
    agree(&serde_json::from_str(&line).unwrap(), &server.finish());
}

#[test]
fn a_held_connection_that_ends_is_a_failure() {
    let server = Server::start("echo", &[]);
    let mut child = Command::new(BENCH)
        .args([
            "--json",
            "idle",
            "--to",
            &server.address,
            "--connections",
            "20",
        ])
        .arg("--until-stdin-ends")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    // The server's end closes its sockets before `finish` returns.
    server.finish();
    drop(child.stdin.take());
    line.clear();
    stdout.read_to_string(&mut line).unwrap();
    assert!(!child.wait().unwrap().success());
    let result: Json = serde_json::from_str(&line).unwrap();
    assert_eq!(result["failures"]["closed_early"], 20, "{result}");
}

#[test]
fn nobody_there_is_a_failure_and_not_a_hang() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = free.local_addr().unwrap().to_string();
    drop(free);
    for command in ["rr", "crr", "bulk", "idle"] {
        let count: &[&str] = match command {
            "rr" | "crr" => &["--count", "5"],
            _ => &[],
        };
        let output = Command::new(BENCH)
            .args(["--json", command, "--to", &to])
            .args(count)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{command}");
        let text = String::from_utf8(output.stdout).unwrap();
        let result: Json = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(
            result["failures"]["connect"].as_u64().unwrap() > 0,
            "{command}: {result}"
        );
        assert!(
            result["first_error"].as_str().unwrap().contains("refused"),
            "{result}"
        );
    }
}
