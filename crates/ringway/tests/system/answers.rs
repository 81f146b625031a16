//! Checks that look at answers: a backend that takes connections and does not do its work is down, and the
//! status, the metrics and the log say why.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::backend::{Backend, Server};
use crate::eventually::until_is;
use crate::instance::Ringway;
use crate::peers::{connect, drain, fin, reset, until};
use crate::setup::Setup;

/// A backend that answers `answer` to whatever is asked, or nothing where that is none.
fn answering(answer: fn(&mut TcpStream)) -> Server {
    Server::new(move |mut stream| {
        let mut request = [0; 1024];
        if stream.read(&mut request).is_ok_and(|len| len > 0) {
            answer(&mut stream);
        }
    })
}

fn say(stream: &mut TcpStream, text: &str) {
    // A check that knows enough is gone.
    let _ = stream.write_all(text.as_bytes());
}

fn backend(ringway: &Ringway, at: usize) -> Value {
    ringway.status()["pools"][0]["backends"][at].clone()
}

fn until_state(ringway: &Ringway, at: usize, state: &str) {
    until(state, || ringway.backend_state(at) == state);
}

#[test]
fn each_way_to_answer_badly_has_its_reason_everywhere() {
    let unavailable =
        answering(|stream| say(stream, "HTTP/1.1 503 Service Unavailable\r\n\r\n\"rest\""));
    let early = answering(|stream| say(stream, "HTTP/1.1 2"));
    let resetting = Server::new(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        reset(stream);
    });
    let well = answering(|stream| say(stream, "HTTP/1.1 200 OK\r\n\r\n"));
    let silent = Backend::new();
    let addresses = [
        well.address(),
        unavailable.address(),
        early.address(),
        resetting.address(),
        silent.address(),
    ];
    let ringway = Setup::to(addresses)
        .health_checks_of("type: http, path: /healthz, status: [200]")
        .start();
    until_state(&ringway, 0, "up");
    let reasons = ["wrong_answer", "early_close", "reset", "timeout"];
    for (at, reason) in (1..).zip(reasons) {
        until_state(&ringway, at, "down");
        let backend = backend(&ringway, at);
        assert_eq!(backend["last_failure"], reason, "{backend}");
        let counted = |result| {
            ringway
                .metrics()
                .each("health_checks_total", &[("result", result)])
        };
        assert!(counted(reason)[at] > 0);
        assert_eq!(counted("pass")[at], 0);
        let address = addresses[at].to_string();
        let told = |line: &&Value| line["message"] == "health" && line["backend"] == *address;
        until("it is told", || {
            ringway.log_lines().iter().filter(told).count() == 1
        });
        let lines = ringway.log_lines();
        let line = lines.iter().find(told).unwrap();
        assert_eq!(line["reason"], reason, "{line}");
    }
    let got = r#"HTTP/1.1 503 Service Unavailable\r\n\r\n\"rest\""#;
    assert_eq!(backend(&ringway, 1)["last_failure_got"], got);
    assert_eq!(backend(&ringway, 2)["last_failure_got"], Value::Null);
    let lines = ringway.log_lines();
    let line = lines.iter().find(|line| line["reason"] == "wrong_answer");
    assert_eq!(line.unwrap()["got"], got);
}

#[test]
fn bytes_are_exchanged_on_another_port() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let checked = Server::new(move |mut stream| {
        let mut command = [0; 8];
        if stream.read_exact(&mut command).is_ok() && &command == b"\x00PI\xffG\\\r\n" {
            count.fetch_add(1, Ordering::Relaxed);
            say(&mut stream, "+PONG\r\n");
        }
    });
    // Nothing listens where the traffic would go: only the other port is looked at.
    let port = checked.address().port();
    let elsewhere = SocketAddr::new(checked.address().ip(), 1);
    let ringway = Setup::to([elsewhere])
        .health_checks_of(&format!(
            r"type: exchange, send: '\x00PI\xFFG\\\r\n', expect: '+PONG\r\n', port: {port}"
        ))
        .start();
    until_state(&ringway, 0, "up");
    until("it is asked again", || asked.load(Ordering::Relaxed) >= 3);
    assert_eq!(ringway.backend_state(0), "up");
}

/// As a process that is stopped does: the kernel takes connections for it.
#[test]
fn a_backend_that_hangs_is_down_for_who_asks_and_up_for_who_does_not() {
    let hangs = Backend::new();
    let asking = Setup::to([hangs.address()])
        .health_checks_of("type: exchange")
        .start();
    let connecting = Setup::to([hangs.address()]).health_checks().start();
    until_state(&asking, 0, "down");
    until_state(&connecting, 0, "up");
}

/// What the arithmetic of descriptors sets aside for a check is what it takes while it waits.
#[test]
fn a_check_that_waits_takes_two_descriptors() {
    const CHECKS: usize = 40;
    let silent: Vec<Backend> = (0..=CHECKS).map(|_| Backend::new()).collect();
    let ask = |backends: &[Backend]| {
        let ringway = Setup::to(backends.iter().map(Backend::address))
            .health("{type: exchange, interval: 20s, timeout: 19s}")
            .launch();
        let asked: Vec<TcpStream> = backends.iter().map(Backend::accept).collect();
        until("it runs", || ringway.admin().get("/livez").is_ok());
        (ringway, asked)
    };
    let (few, many) = (ask(&silent[..1]), ask(&silent[1..]));
    until_is("descriptors", 2 * (CHECKS - 1), || {
        many.0.descriptors_kept() - few.0.descriptors_kept()
    });
}

/// Stopped for longer than `fall` checks would take, and let go on.
#[test]
fn a_pause_of_the_balancer_turns_no_backend_down_and_cuts_no_relay() {
    let http = || answering(|stream| say(stream, "HTTP/1.1 200 OK\r\n\r\n"));
    let servers: Vec<Server> = (0..8).map(|_| http()).collect();
    let ringway = Setup::to(servers.iter().map(Server::address))
        .workers(2)
        .pool("outlier: {consecutive_failures: 1, ejection: 1m}")
        .health_checks_of("type: http")
        .start();
    until("all are up", || {
        (0..servers.len()).all(|at| ringway.backend_state(at) == "up")
    });
    let mut held = connect(ringway.address());
    ringway.signal(Signal::STOP);
    // The length of the pause, not a wait for something: twelve intervals.
    std::thread::sleep(Duration::from_secs(3));
    ringway.signal(Signal::CONT);
    let checks = || ringway.metrics().sum("health_checks_total", &[]);
    let before = checks();
    until("checks go on", || checks() > before + 80);
    let passed = ringway
        .metrics()
        .sum("health_checks_total", &[("result", "pass")]);
    assert!(passed >= checks() - 4, "{passed} of {}", checks());
    let is_down = |line: &Value| line["message"] == "health" && line["to"] == "down";
    assert!(!ringway.log_lines().iter().any(is_down));
    held.write_all(b"still there?").unwrap();
    fin(&held);
    assert_eq!(drain(&held).0, b"HTTP/1.1 200 OK\r\n\r\n");
}
