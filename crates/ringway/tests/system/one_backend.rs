//! What an operator asks for of one backend while the instance runs: `PATCH` on it, and `ringway backend`.
//! Changes of the file are in `reload.rs`. Invariant of each test: what was not asked for is as before.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::arrivals::{Outcome, try_in};
use crate::backend::{Server, closed_address};
use crate::eventually::{until, until_is};
use crate::instance::Ringway;
use crate::peers::{connect, echoes, read_exactly};
use crate::setup::{ALGORITHMS, Setup};

const RINGWAY: &str = env!("CARGO_BIN_EXE_ringway");

fn greeting(address: SocketAddr) -> u8 {
    read_exactly::<1>(connect(address))[0]
}

/// How often each was reached by that many connections.
fn reached(ringway: &Ringway, connections: usize) -> [usize; 2] {
    let mut counts = [0; 2];
    for _ in 0..connections {
        counts[usize::from(greeting(ringway.address()) - b'a')] += 1;
    }
    counts
}

impl Ringway {
    /// A change that must happen: its lines, without what all begin with.
    fn change(&self, backend: SocketAddr, body: &str) -> Vec<String> {
        let answer = self.admin.patch(&path(backend), body).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["backend"]["address"], backend.to_string());
        let begin = format!("pools.p.backends.{backend}.");
        let changes = answer["changes"].as_array().unwrap().iter();
        let changes = changes.map(|line| line.as_str().unwrap().strip_prefix(&begin).unwrap());
        changes.map(str::to_owned).collect()
    }

    fn told(&self, at: usize) -> Value {
        self.status()["pools"][0]["backends"][at].clone()
    }
}

fn path(backend: SocketAddr) -> String {
    format!("/v1/pools/p/backends/{backend}")
}

fn pair() -> [Server; 2] {
    [b'a', b'b'].map(Server::echo)
}

#[test]
fn a_drained_backend_gets_nothing_new_keeps_what_it_has_and_comes_back() {
    for balance in ALGORITHMS {
        let [a, b] = pair();
        let setup = Setup::to([a.address(), b.address()]).balance(balance);
        let ringway = setup.workers(2).health_checks().start();
        until_is("checked", "up".to_owned(), || ringway.backend_state(0));
        let mut held = Vec::new();
        while a.served() == 0 || held.is_empty() {
            let client = connect(ringway.address());
            if read_exactly::<1>(&client) == *b"a" {
                held.push(client);
            }
            // A hash sends all of one host to one of both.
            if balance.ends_with("hash") || balance == "maglev" {
                break;
            }
        }
        let changes = ringway.change(a.address(), r#"{"state": "drain"}"#);
        assert_eq!(changes, ["state: active -> drain"]);
        assert_eq!(reached(&ringway, 40), [0, 40], "{balance}");
        held.iter().for_each(echoes);
        let told = ringway.told(0);
        assert_eq!(told["admin_state"], "drain");
        assert_eq!(told["connections"].as_u64(), Some(held.len() as u64));
        assert_eq!(told["state"], "up");
        assert_eq!(ringway.status()["pools"][0]["up"], 1);
        let of = |state| {
            let (address, metrics) = (a.address().to_string(), ringway.metrics());
            metrics.sum("backend_state", &[("backend", &address), ("state", state)])
        };
        assert_eq!([of("active"), of("drain"), of("maintenance")], [0, 1, 0]);
        let changes = ringway.change(a.address(), r#"{"state": "active"}"#);
        assert_eq!(changes, ["state: drain -> active"]);
        let changes = ringway.change(b.address(), r#"{"state": "drain"}"#);
        assert_eq!(changes, ["state: active -> drain"]);
        assert_eq!(reached(&ringway, 40), [40, 0], "{balance}");
        held.iter().for_each(echoes);
    }
}

#[test]
fn nobody_asks_after_the_health_of_a_backend_in_maintenance() {
    let [a, _b] = pair();
    let dead = closed_address();
    let setup = Setup::to([a.address(), dead]).workers(2).health_checks();
    let mut ringway = setup.start();
    until_is("the dead one", "down".to_owned(), || {
        ringway.backend_state(1)
    });
    ringway.change(dead, r#"{"state": "maintenance"}"#);
    let checks = || {
        let (address, metrics) = (dead.to_string(), ringway.metrics());
        metrics.sum("health_checks_total", &[("backend", &address)])
    };
    let (before, others) = (checks(), || {
        let (address, metrics) = (a.address().to_string(), ringway.metrics());
        metrics.sum("health_checks_total", &[("backend", &address)])
    });
    let many = others() + 4;
    until("others are checked", || others() >= many);
    // One may have been under way.
    assert!(checks() <= before + 1, "{} after {before}", checks());
    let told = ringway.told(1);
    assert_eq!(
        (&told["state"], &told["admin_state"]),
        (&"unknown".into(), &"maintenance".into())
    );
    assert_eq!(told["last_check_seconds"], Value::Null);
    // Back in use it is checked again, and what is known of others is older than that.
    let since = ringway.told(0)["since_seconds"].as_f64().unwrap();
    ringway.change(dead, r#"{"state": "active"}"#);
    until_is("the dead one again", "down".to_owned(), || {
        ringway.backend_state(1)
    });
    assert!(ringway.told(0)["since_seconds"].as_f64().unwrap() > since);
    assert!(checks() > before);
    ringway.hold_this();
}

#[test]
fn where_everything_is_drained_connections_are_refused() {
    let [a, b] = pair();
    // Fail open is about health, not about what an operator wants.
    let setup = Setup::to([a.address(), b.address()]).pool("when_all_down: try");
    let ringway = setup.start();
    ringway.change(a.address(), r#"{"state": "drain"}"#);
    ringway.change(b.address(), r#"{"state": "maintenance"}"#);
    assert!(matches!(try_in(ringway.address()), Outcome::Out(_)));
    assert_eq!(ringway.refused("no_backend"), 1);
    ringway.change(b.address(), r#"{"state": "active"}"#);
    assert_eq!(reached(&ringway, 10), [0, 10]);
}

#[test]
fn a_weight_counts_from_the_answer_on_until_the_file_gives_another() {
    let [a, b] = pair();
    let setup = |weight: u32| {
        let keys = format!("weight: {weight}");
        Setup::to([a.address()]).backend(b.address(), &keys)
    };
    let ringway = setup(1).start();
    assert_eq!(reached(&ringway, 20), [10, 10]);
    assert_eq!(
        ringway.change(b.address(), r#"{"weight": 3}"#),
        ["weight: 1 -> 3"]
    );
    assert_eq!(reached(&ringway, 40), [10, 30]);
    assert_eq!(ringway.told(1)["weight"], 3);
    // A reload in which the file says what it said.
    assert_eq!(ringway.reload(), [""; 0]);
    assert_eq!(reached(&ringway, 40), [10, 30]);
    assert_eq!(
        ringway.change(b.address(), r#"{"weight": 0}"#),
        ["weight: 3 -> 0"]
    );
    assert_eq!(reached(&ringway, 20), [20, 0]);
    assert_eq!(
        ringway.change(b.address(), r#"{"weight": null}"#),
        ["weight: 0 -> 1"]
    );
    assert_eq!(ringway.change(b.address(), r#"{"weight": 1}"#), [""; 0]);
    ringway.change(b.address(), r#"{"weight": 9, "state": "drain"}"#);
    // The file's is the newer word on the weight. It has none on the state.
    let told = [format!("pools.p.backends.{}.weight: 9 -> 4", b.address())];
    assert_eq!(ringway.reload_as(&setup(4)), told);
    assert_eq!(reached(&ringway, 20), [20, 0]);
    ringway.change(b.address(), r#"{"state": "active"}"#);
    assert_eq!(reached(&ringway, 50), [10, 40]);
}

#[test]
fn a_backend_that_left_the_file_and_returns_is_in_use() {
    let [a, b] = pair();
    let ringway = Setup::to([a.address(), b.address()]).start();
    ringway.change(b.address(), r#"{"state": "maintenance"}"#);
    ringway.reload_as(&Setup::to([a.address()]));
    ringway.reload_as(&Setup::to([a.address(), b.address()]));
    assert_eq!(reached(&ringway, 20), [10, 10]);
}

#[test]
fn what_cannot_be_changed_is_told_and_changes_nothing() {
    let [a, b] = pair();
    let ringway = Setup::to([a.address(), b.address()]).start();
    let nobody = closed_address();
    for (path, body, status, words) in [
        (path(nobody), r#"{"state": "drain"}"#, 404, "there is a"),
        (
            "/v1/pools/q/backends/1.2.3.4:5".to_owned(),
            r#"{"weight": 1}"#,
            404,
            "no pool `q`",
        ),
        (
            "/v1/pools/p/backends/%ff".to_owned(),
            r#"{"weight": 1}"#,
            400,
            "UTF-8",
        ),
        (path(a.address()), "{", 400, "EOF"),
        (path(a.address()), "{}", 400, "nothing to change"),
        (
            path(a.address()),
            r#"{"state": "gone"}"#,
            400,
            "unknown variant",
        ),
        (path(a.address()), r#"{"weight": 70000}"#, 400, "too large"),
        (path(a.address()), r#"{"colour": 1}"#, 400, "unknown field"),
    ] {
        let answer = ringway.admin.patch(&path, body).unwrap();
        let words = words.replace("there is a", &a.address().to_string());
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert!(
            answer.body.contains(&words),
            "{path} {body}: {}",
            answer.body
        );
    }
    assert_eq!(ringway.admin.post(&path(a.address())).unwrap().status, 405);
    assert_eq!(ringway.admin.get(&path(a.address())).unwrap().status, 405);
    assert_eq!(reached(&ringway, 20), [10, 10]);
    assert_eq!(ringway.metrics().sum("config_reloads_total", &[]), 0);
}

/// Everybody who asks is answered, in whatever order; no connection fails meanwhile.
#[test]
fn changes_and_reloads_at_once_are_all_answered_and_lose_no_connection() {
    let [a, b] = pair();
    let ringway = Setup::to([a.address(), b.address()]).workers(2).start();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            let mut made = 0;
            while !is_over.load(Ordering::Acquire) {
                assert!(matches!(greeting(ringway.address()), b'a' | b'b'));
                made += 1;
            }
            made
        });
        let rounds = 20;
        let changers: Vec<_> = (0..3)
            .map(|lane| {
                let ringway = &ringway;
                let backend = a.address();
                scope.spawn(move || {
                    for round in 0..rounds {
                        let state = ["drain", "active", "maintenance"][(lane + round) % 3];
                        let body = format!("{{\"state\": \"{state}\", \"weight\": {}}}", 1 + round);
                        ringway.change(backend, &body);
                    }
                })
            })
            .collect();
        for _ in 0..rounds {
            ringway.reload();
        }
        changers
            .into_iter()
            .for_each(|changer| changer.join().unwrap());
        is_over.store(true, Ordering::Release);
        assert!(visitor.join().unwrap() > 0);
    });
    ringway.change(a.address(), r#"{"state": "active", "weight": null}"#);
    let connects = ringway.metrics().sum("backend_connect_failures_total", &[]);
    assert_eq!((connects, ringway.refused("no_backend")), (0, 0));
    let reloads = ringway.metrics().sum("config_reloads_total", &[]);
    assert!((1..=20).contains(&reloads), "{reloads} reloads");
}

#[test]
fn a_body_of_unknown_length_is_not_longer_than_others() {
    let [a, b] = pair();
    let ringway = Setup::to([a.address(), b.address()]).start();
    let body = format!("{}{{\"weight\": 7}}", " ".repeat(100_000));
    let mut stream = UnixStream::connect(&ringway.admin.path).unwrap();
    let (path, length) = (path(a.address()), body.len());
    let head = format!("PATCH {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let request =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
    // It may answer before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(ringway.told(0)["weight"], 1);
}

fn command(ringway: &Ringway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let admin = format!("unix:{}", ringway.dir().join("admin.sock").display());
    let output = Command::new(RINGWAY)
        .args(["backend", "p"])
        .args(arguments)
        .args(["--admin", &admin])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn the_command_changes_waits_and_tells() {
    let [a, b] = pair();
    let ringway = Setup::to([a.address(), b.address()]).start();
    let address = a.address().to_string();
    let client: TcpStream = connect(ringway.address());
    assert_eq!(read_exactly::<1>(&client), *b"a");
    let (code, out, err) = command(&ringway, &[&address]);
    let line = format!("{address}: active, weight 1, unknown, 1 connection\n");
    assert_eq!((code, out, err), (Some(0), line, String::new()));
    let arguments = [
        &address, "--state", "drain", "--weight", "2", "--wait", "1ms",
    ];
    let (code, out, err) = command(&ringway, &arguments);
    let begin = format!("pools.p.backends.{address}");
    assert_eq!(
        out,
        format!("{begin}.state: active -> drain\n{begin}.weight: 1 -> 2\n")
    );
    let left = format!("ringway: time is up: {address}: drain, weight 2, unknown, 1 connection\n");
    assert_eq!((code, err), (Some(1), left));
    drop(client);
    let (code, out, err) = command(&ringway, &[&address, "--weight", "file", "--wait", "1m"]);
    let lines =
        format!("{begin}.weight: 2 -> 1\n{address}: drain, weight 1, unknown, 0 connections\n");
    assert_eq!((code, out, err), (Some(0), lines, String::new()));
    let (code, _, err) = command(&ringway, &["1.2.3.4:5", "--state", "active"]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&address), "{err}");
    for wrong in [
        vec!["1.2.3.4"],
        vec![&address, "--state", "off"],
        vec![&address, "--weight", "70000"],
        vec![&address, "--weight", "-1"],
        vec![&address, "--wait", "5"],
    ] {
        assert_eq!(command(&ringway, &wrong).0, Some(2), "{wrong:?}");
    }
}
