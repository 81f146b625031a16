//! Ejection by failed connects: a dead backend is left out, tried by one connection now and then, and in use again
//! when that one connects. No client notices while another backend is alive.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::backend::{BlackHole, Server, closed_address};
use crate::instance::Ringway;
use crate::peers::{End, connect, drain, turned_away, until};
use crate::setup::Setup;

/// Asks once and returns the name of the backend that answered.
fn ask(address: SocketAddr) -> u8 {
    let mut client = connect(address);
    client.write_all(b"once").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (answer, end) = drain(&client);
    assert_eq!((&answer[1..], end), (&b"once"[..], End::Fin));
    answer[0]
}

fn ejections(ringway: &Ringway) -> Vec<i64> {
    ringway.metrics().each("backend_ejections_total", &[])
}

/// How many workers hold each backend to be so.
fn in_state(ringway: &Ringway, state: &str) -> Vec<i64> {
    ringway.metrics().each("backend_state", &[("state", state)])
}

fn failures(ringway: &Ringway) -> Vec<i64> {
    ringway
        .metrics()
        .each("backend_connect_failures_total", &[("error", "refused")])
}

fn told(ringway: &Ringway, message: &str) -> Vec<Value> {
    let mut lines = ringway.log_lines();
    lines.retain(|line| line["message"] == message);
    lines
}

#[test]
fn a_dead_backend_is_ejected_after_its_failures_and_not_asked_again() {
    let well = Server::echo(b'w');
    let dead = closed_address();
    let ringway = Setup::to([dead, well.address()])
        .pool("outlier: {consecutive_failures: 3, ejection: 1h, max_ejection: 1h}")
        .start();
    for _ in 0..40 {
        assert_eq!(ask(ringway.address()), b'w');
    }
    assert_eq!(failures(&ringway), [3, 0]);
    assert_eq!(ejections(&ringway), [1, 0]);
    assert_eq!(in_state(&ringway, "ejected"), [1, 0]);
    assert_eq!(in_state(&ringway, "half_open"), [0, 0]);
    let backend = ringway.status()["pools"][0]["backends"][0].clone();
    assert_eq!(
        (&backend["ejected_workers"], &backend["ejections_total"]),
        (&1.into(), &1.into()),
        "{backend}"
    );
    let lines = told(&ringway, "ejected");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (
            &lines[0]["reason"],
            &lines[0]["backend"],
            &lines[0]["level"]
        ),
        (
            &"connect_failures".into(),
            &dead.to_string().into(),
            &"WARN".into()
        )
    );
    assert!(lines[0]["seconds"].as_f64().unwrap() <= 3600.0);
}

#[test]
fn one_connection_tries_a_half_open_backend_and_a_success_returns_it() {
    let mut flaky = Server::echo(b'f');
    let well = Server::echo(b'w');
    flaky.kill();
    let ringway = Setup::to([flaky.address(), well.address()])
        .pool("outlier: {consecutive_failures: 1, ejection: 400ms, max_ejection: 800ms}")
        .start();
    until("it is ejected", || {
        assert_eq!(ask(ringway.address()), b'w');
        ejections(&ringway)[0] >= 1
    });
    // Trials that fail: each is one connect, and one more ejection.
    until("trials have failed", || {
        assert_eq!(ask(ringway.address()), b'w');
        ejections(&ringway)[0] >= 4
    });
    assert_eq!(failures(&ringway)[0], ejections(&ringway)[0]);
    flaky.start();
    until("it is in use again", || ask(ringway.address()) == b'f');
    // Once, unless the machine was too busy to try it in time: then an ejection ended by itself.
    until("its return is told as often as its ejection", || {
        told(&ringway, "no longer ejected").len() == told(&ringway, "ejected").len()
    });
    for state in ["ejected", "half_open"] {
        assert_eq!(in_state(&ringway, state), [0, 0]);
    }
    // In use as before: every other connection.
    let names: Vec<u8> = (0..20).map(|_| ask(ringway.address())).collect();
    assert_eq!(names.iter().filter(|name| **name == b'f').count(), 10);
}

/// What is known of it ends with its use, also for those who tell of it.
#[test]
fn an_ejection_after_a_maintenance_is_told_of_like_the_first() {
    let (well, dead) = (Server::echo(b'w'), closed_address());
    let ringway = Setup::to([dead, well.address()])
        .pool("outlier: {consecutive_failures: 1, ejection: 1h, max_ejection: 1h}")
        .start();
    for round in 1..=3 {
        until("it is ejected", || {
            assert_eq!(ask(ringway.address()), b'w');
            in_state(&ringway, "ejected") == [1, 0]
        });
        until("it is told", || told(&ringway, "ejected").len() == round);
        for state in ["maintenance", "active"] {
            let path = format!("/v1/pools/p/backends/{dead}");
            let body = format!("{{\"state\": \"{state}\"}}");
            assert_eq!(ringway.admin.patch(&path, &body).unwrap().status, 200);
            assert_eq!(in_state(&ringway, "ejected"), [0, 0]);
        }
    }
}

/// Without traffic nobody tries it: it is half-open for a while, and at the end in use again.
#[test]
fn an_ejection_ends_by_itself() {
    let well = Server::echo(b'w');
    let ringway = Setup::to([closed_address(), well.address()])
        .pool("outlier: {consecutive_failures: 1, ejection: 400ms}")
        .start();
    until("it is ejected", || {
        ask(ringway.address());
        ejections(&ringway) == [1, 0]
    });
    until("it is over", || {
        told(&ringway, "no longer ejected").len() == 1
    });
    assert_eq!(told(&ringway, "no longer ejected")[0]["reason"], "ended");
    assert_eq!(in_state(&ringway, "ejected"), [0, 0]);
}

#[test]
fn no_more_than_the_share_is_ejected() {
    let dead: [SocketAddr; 4] = std::array::from_fn(|_| closed_address());
    let ringway = Setup::to(dead)
        .pool("outlier: {consecutive_failures: 1, ejection: 1h, max_ejection: 1h}")
        .pool("connect: {attempts: 4}")
        .start();
    for _ in 0..20 {
        assert_eq!(turned_away(ringway.address()), End::Reset);
    }
    until("half of them are out", || {
        in_state(&ringway, "ejected").iter().sum::<i64>() == 2
    });
    assert_eq!(ejections(&ringway).iter().sum::<i64>(), 2);
}

/// All are out, and the pool refuses then: nobody waits for a connect that will fail.
#[test]
fn while_all_are_ejected_a_refusing_pool_fails_fast() {
    let hole = BlackHole::new();
    let ringway = Setup::to([hole.address()])
        .pool("outlier: {consecutive_failures: 1, ejection: 1h, max_ejection: 1h, max_ejected_percent: 100}")
        .pool("connect: {timeout: 3s, attempts: 1}")
        .pool("when_all_down: refuse")
        .start();
    assert_eq!(turned_away(ringway.address()), End::Reset);
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(turned_away(ringway.address()), End::Reset);
    }
    // One connect alone would have taken three seconds.
    assert!(begun.elapsed() < Duration::from_secs(30));
    until("counted", || ringway.refused("no_backend") == 20);
    let attempts = ringway.metrics().sum("backend_connect_failures_total", &[]);
    assert_eq!(attempts, 1);
}

/// What is known of an ejected backend is older than what was just seen of the other.
#[test]
fn an_ejected_backend_is_the_last_resort() {
    let mut first = Server::echo(b'f');
    let mut second = Server::echo(b's');
    let ringway = Setup::to([first.address(), second.address()])
        .pool("outlier: {consecutive_failures: 1, ejection: 1h, max_ejection: 1h}")
        .start();
    first.kill();
    until("it is ejected", || {
        assert_eq!(ask(ringway.address()), b's');
        ejections(&ringway) == [1, 0]
    });
    first.start();
    second.kill();
    assert_eq!(ask(ringway.address()), b'f');
    // It has shown that it is alive.
    assert_eq!(in_state(&ringway, "ejected")[0], 0);
}

#[test]
fn a_health_check_that_recovers_ends_an_ejection() {
    let mut flaky = Server::echo(b'f');
    let well = Server::echo(b'w');
    let ringway = Setup::to([flaky.address(), well.address()])
        .health_checks()
        .pool("outlier: {consecutive_failures: 1, ejection: 1h, max_ejection: 1h}")
        .start();
    until("it is up", || ringway.backend_state(0) == "up");
    flaky.kill();
    until("it is ejected", || {
        assert_eq!(ask(ringway.address()), b'w');
        // Its checks may have been faster: then it is not asked any more.
        ejections(&ringway)[0] == 1 || ringway.backend_state(0) == "down"
    });
    until("it is down", || ringway.backend_state(0) == "down");
    flaky.start();
    until("it is in use again", || ask(ringway.address()) == b'f');
    assert_eq!(in_state(&ringway, "ejected"), [0, 0]);
}

/// Nothing has looked at the first since it has returned, and nobody ejects the other.
#[test]
fn a_backend_that_is_down_is_the_last_resort() {
    let mut returned = Server::echo(b'r');
    let mut last = Server::echo(b'l');
    returned.kill();
    let ringway = Setup::to([returned.address(), last.address()])
        .health("{interval: 1h, fall: 1}")
        .pool("outlier: off")
        .start();
    until("one is up", || {
        (0..2).map(|n| ringway.backend_state(n)).eq(["down", "up"])
    });
    returned.start();
    assert_eq!(ask(ringway.address()), b'l');
    last.kill();
    for _ in 0..10 {
        assert_eq!(ask(ringway.address()), b'r');
    }
    assert_eq!(failures(&ringway), [0, 10]);
}

/// The defaults, two workers, clients all the time. A backend is stopped so that its port refuses, which cuts what
/// it has; clients that had not reached it must not notice.
#[test]
fn a_killed_backend_costs_no_client_a_connection() {
    let mut servers = [Server::echo(b'a'), Server::echo(b'b'), Server::echo(b'c')];
    let ringway = Setup::to(servers.each_ref().map(Server::address))
        .workers(2)
        .balance("least_connections")
        .health_checks()
        .pool("outlier: {ejection: 200ms}")
        .start();
    let address = ringway.address();
    let (is_over, asked, cut) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut client = connect(address);
                    let sent = client.write_all(b"once");
                    let sent = sent.and_then(|()| client.shutdown(Shutdown::Write));
                    match sent.map(|()| drain(&client)) {
                        Ok((answer, End::Fin)) => assert_eq!(&answer[1..], b"once"),
                        Ok((_, End::Reset)) | Err(_) => drop(cut.fetch_add(1, Ordering::Relaxed)),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..6 {
            let load_goes_on = || {
                let before = asked.load(Ordering::Relaxed);
                until("load goes on", || {
                    asked.load(Ordering::Relaxed) > before + 200
                });
            };
            servers[round % 3].kill();
            load_goes_on();
            servers[round % 3].start();
            load_goes_on();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    ringway.until_connections(0);
    let (cut, lost) = (cut.into_inner() as i64, ringway.closed("backend", "reset"));
    assert!(cut <= lost, "{cut} were cut, {lost} by a backend that died");
    let unserved = (
        ringway.closed("backend", "connect_failed"),
        ringway.refused("no_backend"),
    );
    assert_eq!(unserved, (0, 0));
}

/// A descriptor is left for the client and none for the backend: that is not the backend's fault.
#[test]
fn a_shortage_of_the_balancer_ejects_nobody() {
    let servers = [Server::echo(b'a'), Server::echo(b'b')];
    let ringway = Setup::to(servers.each_ref().map(Server::address))
        .pool("outlier: {consecutive_failures: 1, ejection: 1h, max_ejection: 1h}")
        .start();
    let held = ringway.process.descriptors_kept();
    ask(ringway.address());
    until("it has closed what it had", || {
        ringway.process.descriptors_kept() == held
    });
    let before = ringway.process.limit_descriptors(1);
    for _ in 0..3 {
        assert_eq!(turned_away(ringway.address()), End::Reset);
    }
    ringway.process.set_descriptor_limit(before);
    until("counted", || ringway.refused("resources") == 3);
    assert_eq!(ejections(&ringway), [0, 0]);
    ask(ringway.address());
}

/// Connects that were under way while the process was stopped are not taken for failed.
#[test]
fn a_pause_of_the_balancer_ejects_nobody() {
    let servers = [Server::echo(b'a'), Server::echo(b'b')];
    let ringway = Setup::to(servers.each_ref().map(Server::address))
        .pool("outlier: {consecutive_failures: 1, ejection: 1h, max_ejection: 1h}")
        .pool("connect: {timeout: 100ms}")
        .start();
    ask(ringway.address());
    let (is_over, address) = (AtomicBool::new(false), ringway.address());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                ask(address);
            }
        });
        for _ in 0..3 {
            ringway.signal(Signal::STOP);
            // The length of the pause, not a wait for something: ten times the deadline of a connect.
            thread::sleep(Duration::from_secs(1));
            ringway.signal(Signal::CONT);
            ask(address);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(ejections(&ringway), [0, 0]);
}

#[test]
fn a_backend_that_is_back_gets_its_share_little_by_little() {
    let mut flaky = Server::echo(b'f');
    let well = Server::echo(b'w');
    let ringway = Setup::to([flaky.address(), well.address()])
        .health_checks()
        .pool("slow_start: 1h")
        .start();
    let share = || {
        let names = (0..128).map(|_| ask(ringway.address()));
        names.filter(|name| *name == b'f').count()
    };
    until("both are up", || {
        [0, 1].iter().all(|at| ringway.backend_state(*at) == "up")
    });
    assert_eq!(share(), 64, "at the start there is nothing to grow from");
    flaky.kill();
    until("it is down", || ringway.backend_state(0) == "down");
    flaky.start();
    until("it is up", || ringway.backend_state(0) == "up");
    let grown = share();
    // One part of 65 in the first minute of the hour.
    assert!((1..=4).contains(&grown), "{grown} of 128");
}
