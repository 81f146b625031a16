//! Each load against each server it is for, as processes, client straight to server. Not a
//! measurement. Invariant: what a load says it sent and received is what the server says it received
//! and sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

const BENCH: &str = env!("CARGO_BIN_EXE_ringway-bench");

/// The program with the words of `line`.
fn bench(line: &str) -> Command {
    let mut command = Command::new(BENCH);
    command.arg("--json").args(line.split_whitespace());
    command
}

/// A process that ends when its standard input does, at the latest when dropped.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(line: &str) -> Running {
        let mut child = bench(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        Running {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("stdout is piped")),
            child,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it says something");
        line
    }

    /// Ends it, and returns whether it succeeded and the result it prints.
    fn finish(mut self) -> (bool, Json) {
        self.stdin = None;
        let mut rest = String::new();
        self.stdout
            .read_to_string(&mut rest)
            .expect("it prints its result");
        let status = self.child.wait().expect("it ends");
        let result = serde_json::from_str(&rest).expect("the result is JSON");
        (status.success(), result)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone after `finish`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `serve` process.
struct Server {
    running: Running,
    address: String,
}

impl Server {
    /// One that serves `kind` on a free port.
    fn start(kind: &str, options: &str) -> Server {
        let line = format!("serve --until-stdin-ends --{kind} 127.0.0.1:0 {options}");
        let mut running = Running::start(&line);
        let line = running.line();
        let address = line.strip_prefix(&format!("listening {kind} "));
        let address = address.expect("it says where it listens").trim().to_owned();
        Server { running, address }
    }

    /// Ends it and returns what it counted.
    fn finish(self) -> Json {
        let (succeeded, counts) = self.running.finish();
        assert!(succeeded);
        counts
    }

    /// Runs `load` against it, ends it, and checks that the counts of both ends agree.
    fn serve(self, load: &str) -> Json {
        let result = succeed(&format!("{load} --to {}", self.address));
        let counts = self.finish();
        for (load, server) in [
            ("bytes_sent", "bytes_received"),
            ("bytes_received", "bytes_sent"),
            ("connections", "connections"),
        ] {
            assert_eq!(result[load], counts[server], "{result} {counts}");
        }
        result
    }
}

fn result_of(output: &Output) -> Json {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).expect("the result is JSON")
}

/// Runs a load that has to succeed.
fn succeed(line: &str) -> Json {
    let output = bench(line).output().expect("it runs");
    assert!(output.status.success(), "{line}: {output:?}");
    let result = result_of(&output);
    assert_eq!(result["failed"], 0, "{line}: {result}");
    result
}

#[test]
fn round_trips_by_count() {
    let server = Server::start("echo", "--threads 2");
    let result = server.serve("rr --connections 9 --size 1000 --count 5000 --threads 2");
    assert_eq!(result["operations"], 5000);
    assert_eq!(result["bytes_sent"], 5_000_000);
    assert!(result["latency_us"]["p50"].as_f64().unwrap() > 0.0);
}

#[test]
fn round_trips_larger_than_any_buffer() {
    let server = Server::start("echo", "");
    let result = server.serve("rr --connections 3 --size 9MiB --count 9");
    assert_eq!(result["bytes_received"], 81 << 20);
}

#[test]
fn round_trips_for_a_time_with_warm_up() {
    let server = Server::start("echo", "");
    let result = server.serve("rr --connections 4 --duration 200ms --warmup 200ms");
    let (measured, all) = (
        result["operations"].as_u64(),
        result["operations_all"].as_u64(),
    );
    assert!(measured.unwrap() > 0 && all > measured, "{result}");
}

#[test]
fn round_trips_at_a_fixed_rate() {
    let server = Server::start("echo", "");
    let result = server.serve("rr --connections 7 --duration 500ms --rate 2000");
    // However slow the machine is: as many as were due.
    assert_eq!(result["operations"], 1000, "{result}");
}

#[test]
fn short_connections_with_every_ending() {
    for close in ["client", "server"] {
        for how in ["fin", "reset"] {
            let exchange = format!("--close {close} --how {how} --reply-size 5000");
            let server = Server::start("reply", &exchange);
            let load = format!("crr --count 600 --parallel 16 --sources 3 {exchange}");
            let result = server.serve(&load);
            assert_eq!(result["operations"], 600, "{close} {how}: {result}");
        }
    }
}

/// A server that has read everything before it closes: with something left to read, the kernel would
/// make a reset of the end.
#[test]
fn a_server_that_ends_the_wrong_way_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for _ in 0..10 {
            let (mut peer, _) = listener.accept().unwrap();
            let mut request = [0_u8; 64];
            peer.read_exact(&mut request).unwrap();
            peer.write_all(&request).unwrap();
            peer.read_exact(&mut [0]).unwrap();
        }
    });
    let options = "--count 10 --close server --how reset";
    let output = bench(&format!("crr --to {to} {options}")).output().unwrap();
    server.join().unwrap();
    assert!(!output.status.success());
    let result = result_of(&output);
    assert_eq!(result["failures"]["wrong_ending"], 10, "{result}");
}

/// The letter that proc_pid_stat(5) has for what the process does.
fn doing(process: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let after_name = stat.rsplit_once(") ").expect("a name in brackets").1;
    after_name.chars().next().expect("a state")
}

fn until_doing(process: u32, what: char) {
    while doing(process) != what {
        thread::yield_now();
    }
}

/// A stop ends a wait for events early (signal(7)), and is not the end of anybody's patience.
#[test]
fn a_load_that_is_stopped_while_it_waits_goes_on_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let mut load = bench(&format!("crr --to {to} --count 1 --close server"));
    let load = load.stdout(Stdio::piped()).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = [0_u8; 64];
    stream.read_exact(&mut request).unwrap();
    for _ in 0..5 {
        // It may not have begun to wait yet when it is first seen asleep, but it has after that.
        until_doing(load.id(), 'S');
        for (signal, then) in [(Signal::STOP, 'T'), (Signal::CONT, 'S')] {
            kill_process(Pid::from_child(&load), signal).unwrap();
            until_doing(load.id(), then);
        }
    }
    // It may have given up.
    let _ = stream.write_all(&request);
    drop(stream);
    let output = load.wait_with_output().unwrap();
    let result = result_of(&output);
    assert_eq!(result["operations"], 1, "{result}");
    assert!(output.status.success(), "{result}");
}

/// Each direction with the server that it is for.
const DIRECTIONS: [(&str, &str); 4] = [
    ("up", "sink"),
    ("down", "source"),
    ("both", "source"),
    ("echo", "echo"),
];

#[test]
fn streams_in_every_direction() {
    for (direction, kind) in DIRECTIONS {
        let server = Server::start(kind, "");
        let options = "--bytes 20MiB --streams 3 --verify";
        let result = server.serve(&format!("bulk --direction {direction} {options}"));
        assert_eq!(result["operations"], 3, "{result}");
        let moved =
            result["bytes_sent"].as_u64().unwrap() + result["bytes_received"].as_u64().unwrap();
        assert!(moved >= 60 << 20, "{result}");
    }
}

#[test]
fn streams_for_a_time() {
    for (direction, kind) in DIRECTIONS {
        let server = Server::start(kind, "");
        let options = "--duration 200ms --streams 2";
        let result = server.serve(&format!("bulk --direction {direction} {options}"));
        let gbit = result["gigabit_per_second"].as_f64().unwrap();
        assert!(gbit > 0.0, "{result}");
    }
}

#[test]
fn a_paced_stream_is_never_ahead_of_its_pace() {
    let server = Server::start("source", "");
    let result = server.serve("bulk --direction down --duration 300ms --rate 16MiB");
    let received = result["bytes_received"].as_f64().unwrap();
    let gigabit = result["gigabit_per_second"].as_f64().unwrap();
    // What one round of reading takes, and what was on its way when the time was over.
    let ahead = 32.0 * 1024.0 * 1024.0;
    let seconds = received * 8.0 / 1e9 / gigabit;
    assert!(
        received > 0.0 && received <= seconds * 16.0 * 1024.0 * 1024.0 + ahead,
        "{result}"
    );
}

#[test]
fn round_trips_beside_streams() {
    let (mice, elephants) = (Server::start("echo", ""), Server::start("source", ""));
    let options = "--connections 8 --duration 200ms --streams 2";
    let to = format!("--to {} --bulk-to {}", mice.address, elephants.address);
    let result = succeed(&format!("mixed {to} {options}"));
    assert!(result["operations"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(result["bytes_sent"], mice.finish()["bytes_received"]);
    let served = elephants.finish();
    assert_eq!(result["bulk_bytes_received"], served["bytes_sent"]);
    assert_eq!(served["connections"], 2);
}

#[test]
fn connections_that_come_and_go() {
    for resets in [0, 100, 30] {
        let server = Server::start("echo", "");
        let options = "--connections 9 --trips 3 --threads 2 --count 400";
        let result = server.serve(&format!("churn --resets {resets} {options}"));
        assert_eq!(result["connections"], 400, "{result}");
        let trips = result["operations"].as_u64().unwrap();
        assert!((400..=2000).contains(&trips), "{result}");
    }
}

#[test]
fn a_run_that_is_watched_says_how_it_goes() {
    let server = Server::start("echo", "");
    let options = "--progress --duration 1500ms --connections 2";
    let output = bench(&format!("rr --to {} {options}", server.address))
        .output()
        .unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(" operations/s "), "{said}");
}

/// An `idle` process that holds `count` connections to `server`.
fn hold(server: &Server, count: u32) -> Running {
    let options = format!("--connections {count} --until-stdin-ends");
    let mut held = Running::start(&format!("idle --to {} {options}", server.address));
    assert_eq!(held.line(), format!("holding {count}\n"));
    held
}

#[test]
fn held_connections_end_with_standard_input() {
    let server = Server::start("echo", "");
    let (succeeded, result) = hold(&server, 300).finish();
    assert!(succeeded, "{result}");
    let counts = server.finish();
    assert_eq!(result["bytes_sent"], counts["bytes_received"]);
    assert_eq!(counts["connections"], 300);
}

#[test]
fn a_held_connection_that_ends_is_a_failure() {
    let server = Server::start("echo", "");
    let held = hold(&server, 20);
    // The server's end closes its sockets before `finish` returns.
    server.finish();
    let (succeeded, result) = held.finish();
    assert!(!succeeded);
    assert_eq!(result["failures"]["closed_early"], 20, "{result}");
}

#[test]
fn a_program_on_a_leash_ends_with_whoever_holds_it() {
    let mut leash = Running::start("leash -- sleep 1000");
    let line = leash.line();
    let pid = line.trim().strip_prefix("running ").unwrap().to_owned();
    let process = format!("/proc/{pid}");
    assert!(std::path::Path::new(&process).exists());
    leash.stdin = None;
    assert!(leash.child.wait().unwrap().success());
    assert!(!std::path::Path::new(&process).exists());
}

#[test]
fn nobody_there_is_a_failure_and_not_a_hang() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = free.local_addr().unwrap().to_string();
    drop(free);
    for (load, count) in [
        ("rr", "--count 5"),
        ("crr", "--count 5"),
        ("churn", "--count 5"),
        ("bulk", ""),
        ("idle", ""),
    ] {
        let output = bench(&format!("{load} --to {to} {count}"))
            .output()
            .unwrap();
        assert!(!output.status.success(), "{load}");
        let result = result_of(&output);
        let refused = result["failures"]["connect"].as_u64().unwrap();
        assert!(refused > 0, "{load}: {result}");
        let first = result["first_error"].as_str().unwrap();
        assert!(first.contains("refused"), "{result}");
    }
}
