//! What a reload changes and what it leaves alone: connections, health, counts, limits, listeners.
//! Files that are refused are in `reload_files.rs`, reloads under load in `reload_load.rs`.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use crate::arrivals::{Outcome, try_in};
use crate::backend::{Backend, Server, closed_address};
use crate::eventually::{until, until_file, until_is};
use crate::instance::Ringway;
use crate::peers::{connect, echoes, patient, read_exactly};
use crate::setup::Setup;

/// Whom a new connection reaches.
fn greeting(address: SocketAddr) -> u8 {
    read_exactly::<1>(connect(address))[0]
}

fn open(address: SocketAddr) -> TcpStream {
    let client = connect(address);
    read_exactly::<1>(&client);
    client
}

/// A whole file whose admin endpoint and log are those of a [`Setup`] with two workers.
fn file(ringway: &Ringway, body: &str) -> String {
    let dir = ringway.dir().display();
    format!(
        "workers: 2\nadmin: {{bind: \"unix:{dir}/admin.sock\"}}\nlog: {{format: json}}\n{}",
        body.replace("DIR", &dir.to_string())
    )
}

#[test]
fn new_connections_follow_the_new_file_and_old_ones_stay() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let setup = Setup::to([a.address()]).workers(2);
    let ringway = setup.start();
    let old = open(ringway.address());
    let changes = ringway.reload_as(&Setup::to([b.address()]).workers(2));
    let expected = [
        format!("pools.p.backends.{}: removed", a.address()),
        format!("pools.p.backends.{}: added", b.address()),
    ];
    assert_eq!(changes, expected);
    for _ in 0..50 {
        assert_eq!(greeting(ringway.address()), b'b');
    }
    echoes(&old);
    assert_eq!(a.served(), 1);
    // What is gone is told of for as long as it has a connection, and until the next reload after it.
    let address = a.address().to_string();
    let left = || {
        let metrics = ringway.metrics();
        metrics.each("backend_connections", &[("backend", address.as_str())])
    };
    assert_eq!(left(), [1]);
    drop(old);
    until_is("connections to the backend that is gone", vec![0], left);
    assert_eq!(ringway.reload(), [""; 0]);
    assert_eq!(left(), [0; 0]);
    let metrics = ringway.metrics();
    let reloads = |result| metrics.sum("config_reloads_total", &[("result", result)]);
    assert_eq!((reloads("success"), reloads("failure")), (2, 0));
    assert!(metrics.sum("config_last_reload_success_timestamp_seconds", &[]) > 0);
}

#[test]
fn what_stays_keeps_its_health_and_its_counts_wherever_it_is_in_the_file() {
    let [a, b, c] = [b'a', b'b', b'c'].map(Server::echo);
    let dead = closed_address();
    let setup = |backends: &[SocketAddr]| Setup::to(backends).workers(2).health_checks();
    let mut ringway = setup(&[a.address(), dead, b.address()]).start();
    until_is("the dead one", "down".to_owned(), || {
        ringway.backend_state(1)
    });
    let held = [open(ringway.address()), open(ringway.address())];
    let of = |address: SocketAddr, key: &str| {
        let status = ringway.status();
        let backends = status["pools"][0]["backends"].as_array().unwrap().clone();
        let own = backends
            .iter()
            .find(|backend| backend["address"] == address.to_string());
        own.unwrap()[key].clone()
    };
    let counts = |key| [a.address(), b.address()].map(|address| of(address, key).as_u64());
    let before = [counts("connections"), counts("connections_total")];
    let down_for = of(dead, "since_seconds").as_f64();
    let pool = [c.address(), b.address(), dead, a.address()];
    assert_eq!(
        ringway.reload_as(&setup(&pool)),
        [format!("pools.p.backends.{}: added", c.address())]
    );
    assert_eq!(ringway.admin.get("/readyz").unwrap().status, 200);
    assert_eq!(of(dead, "state"), "down");
    assert!(of(dead, "since_seconds").as_f64() >= down_for);
    assert_eq!([counts("connections"), counts("connections_total")], before);
    until("the new one is checked", || {
        of(c.address(), "state") == "up"
    });
    assert_eq!(of(dead, "connections_total"), 0);
    held.iter().for_each(echoes);
    let transitions = |ringway: &Ringway, address: SocketAddr| {
        let lines = ringway.log_lines();
        let told = lines
            .iter()
            .filter(|line| line["message"] == "health" && line["backend"] == address.to_string());
        told.count()
    };
    for address in [a.address(), b.address(), c.address(), dead] {
        assert_eq!(transitions(&ringway, address), 1, "{address}");
    }
    drop(held);
    // Checks that end: everybody counts as up, and the threads that made them are gone.
    ringway.reload_as(&Setup::to(pool).workers(2));
    assert_eq!(ringway.backend_state(2), "unknown");
    until("the threads that checked are gone", || {
        let threads = ringway.process.threads();
        !threads.iter().any(|name| name.starts_with("ringway-keep"))
    });
    ringway.hold_this();
}

#[test]
fn an_ejection_is_not_forgotten() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let dead = closed_address();
    let outlier = "outlier: {consecutive_failures: 1, ejection: 60s}";
    let setup = Setup::to([a.address(), dead]).pool(outlier);
    let ringway = setup.start();
    until("the dead one is ejected", || {
        greeting(ringway.address());
        ringway.metrics().sum("backend_ejections_total", &[]) == 1
    });
    ringway.reload_as(&Setup::to([b.address(), a.address(), dead]).pool(outlier));
    let failures = || ringway.metrics().sum("backend_connect_failures_total", &[]);
    let before = failures();
    (0..20).for_each(|_| assert_ne!(greeting(ringway.address()), 0));
    assert_eq!(failures(), before);
    let ejected = [("state", "ejected")];
    assert_eq!(ringway.metrics().sum("backend_state", &ejected), 1);
    // Without ejection nobody is ejected.
    ringway.reload_as(&Setup::to([b.address(), a.address(), dead]));
    assert_eq!(ringway.metrics().sum("backend_state", &ejected), 0);
}

#[test]
fn limits_count_what_was_open_before_them() {
    let server = Server::echo(b'a');
    let setup = |limits: &str| Setup::to([server.address()]).workers(2).listener(limits);
    let ringway = setup("limits: {connections: off}").start();
    let is_in = || matches!(try_in(ringway.address()), Outcome::In(_));
    let mut held: Vec<TcpStream> = (0..3).map(|_| open(ringway.address())).collect();
    ringway.reload_as(&setup("limits: {connections: 4}"));
    held.push(open(ringway.address()));
    assert!(!is_in(), "the fifth of four");
    ringway.reload_as(&setup("limits: {connections: 5}"));
    held.push(open(ringway.address()));
    assert!(!is_in(), "the sixth of five");
    ringway.reload_as(&setup("limits: {connections: 2}"));
    held.truncate(2);
    ringway.until_connections(2);
    assert!(!is_in(), "the third of two");
    ringway.reload_as(&setup("limits: {connections_per_source: 2}"));
    held.extend((0..2).map(|_| open(ringway.address())));
    assert!(!is_in(), "the third since there is a limit per source");
    ringway.reload_as(&setup("limits: {connections_per_source: 3}"));
    held.push(open(ringway.address()));
    assert!(!is_in(), "the fourth of three");
    ringway.reload_as(&setup("limits: {rate: off}"));
    assert!(is_in());
    held.iter().for_each(echoes);
}

#[test]
fn the_limit_of_a_backend_counts_what_it_had() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let setup = |keys: &str| {
        let backup = format!("backup: true{keys}");
        Setup::to([a.address()])
            .workers(2)
            .backend(b.address(), &backup)
    };
    let limited = |most: u32| {
        Setup::to::<SocketAddr>([])
            .workers(2)
            .backend(a.address(), &format!("max_connections: {most}"))
            .backend(b.address(), "backup: true")
    };
    let ringway = setup("").start();
    let mut held: Vec<TcpStream> = (0..2).map(|_| open(ringway.address())).collect();
    ringway.reload_as(&limited(3));
    held.push(open(ringway.address()));
    assert_eq!(greeting(ringway.address()), b'b');
    ringway.reload_as(&limited(4));
    held.push(open(ringway.address()));
    assert_eq!(greeting(ringway.address()), b'b');
    held.clear();
    ringway.until_connections(0);
    assert_eq!(greeting(ringway.address()), b'a');
    ringway.reload_as(&setup(""));
}

#[test]
fn established_connections_keep_the_timeouts_they_began_with() {
    let server = Server::echo(b'a');
    let setup = |timeouts: &str| Setup::to([server.address()]).listener(timeouts);
    let ringway = setup("timeouts: {idle: 10m}").start();
    let old = open(ringway.address());
    ringway.reload_as(&setup("timeouts: {idle: 200ms}"));
    let mut new = open(ringway.address());
    assert_eq!(new.read(&mut [0; 1]).unwrap(), 0);
    echoes(&old);
    ringway.until_closed("ringway", "idle", 1);
}

#[test]
fn listeners_come_and_go_and_come_back() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()]).workers(2).start();
    let pools = format!(
        "pools: {{p: {{backends: [{{address: \"{}\"}}], health_check: off}}}}\n",
        server.address()
    );
    let v4 = closed_address();
    let port = v4.port();
    let with = |listeners: &str| file(&ringway, &format!("listeners: {{{listeners}}}\n{pools}"));
    let first = format!("l: {{bind: \"{}\", pool: p}}", ringway.bind());
    let second = format!("m: {{bind: [\"{v4}\", \"[::1]:{port}\", \"unix:DIR/m.sock\"], pool: p}}");
    let [one, both] = [with(&first), with(&format!("{first}, {second}"))];
    let v6: SocketAddr = format!("[::1]:{port}").parse().unwrap();
    let path = ringway.dir().join("m.sock");
    ringway.rewrite_as(&one);
    ringway.reload();
    for round in 0..3 {
        ringway.rewrite_as(&both);
        assert_eq!(ringway.reload(), ["listeners.m: added"], "{round}");
        let held = [open(v4), open(v6)];
        let unix = UnixStream::connect(&path).unwrap();
        assert_eq!(read_exactly::<1>(&unix), [b'a']);
        (0..20).for_each(|_| assert_eq!(greeting(v4), b'a'));
        ringway.rewrite_as(&one);
        assert_eq!(ringway.reload(), ["listeners.m: removed"], "{round}");
        // Acknowledged: nobody accepts there any more, and whoever was accepted goes on.
        assert!(TcpStream::connect(v4).is_err() && TcpStream::connect(v6).is_err());
        assert!(!path.exists());
        held.iter().for_each(echoes);
        assert_eq!(greeting(ringway.address()), b'a');
    }
    ringway.stop_early();
}

#[test]
fn an_address_moves_to_another_listener_with_its_socket() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let ringway = Setup::to([a.address()]).workers(2).start();
    let address = closed_address();
    let with = |name: &str, pool: &str, tcp: &str| {
        let pool_of = |name: &str, server: &Server| {
            let address = server.address();
            format!("{name}: {{backends: [{{address: \"{address}\"}}], health_check: off}}")
        };
        let (pa, pb) = (pool_of("pa", &a), pool_of("pb", &b));
        let listener = format!("{name}: {{bind: \"{address}\", pool: {pool}{tcp}}}");
        file(
            &ringway,
            &format!("listeners: {{{listener}}}\npools: {{{pa}, {pb}}}\n"),
        )
    };
    ringway.rewrite_as(&with("x", "pa", ""));
    ringway.reload();
    let descriptors = ringway.process.descriptors_kept();
    let held = open(address);
    let files = [
        (with("y", "pb", ""), b'b'),
        (
            with("y", "pa", ", tcp: {nodelay: false, backlog: 100}"),
            b'a',
        ),
        (with("x", "pb", ""), b'b'),
        (with("z", "pa", ", limits: {connections: 100}"), b'a'),
    ];
    for (text, expected) in files {
        ringway.rewrite_as(&text);
        ringway.reload();
        (0..20).for_each(|_| assert_eq!(greeting(address), expected));
    }
    echoes(&held);
    drop(held);
    ringway.until_connections(0);
    until_is("descriptors", descriptors, || {
        ringway.process.descriptors_kept()
    });
    ringway.stop_early();
}

#[test]
fn every_algorithm_takes_over_from_every_other() {
    let servers = [b'a', b'b', b'c'].map(Server::echo);
    let setup = |from: usize, balance| {
        let backends = servers[from..].iter().map(Server::address);
        Setup::to(backends).workers(2).balance(balance)
    };
    let algorithms = [
        "round_robin",
        "maglev",
        "least_connections",
        "source_hash",
        "random",
    ];
    let ringway = setup(0, "maglev").start();
    let held = open(ringway.address());
    for at in 0..10 {
        ringway.reload_as(&setup(at % 2, algorithms[at % 5]));
        (0..10).for_each(|_| assert!(greeting(ringway.address()) >= b'a' + (at % 2) as u8));
    }
    echoes(&held);
}

#[test]
fn a_signal_reloads_too_and_what_is_logged_changes_in_place() {
    let server = Server::echo(b'a');
    let setup = |access| Setup::to([server.address()]).workers(2).access_log(access);
    let mut ringway = setup("off").start();
    greeting(ringway.address());
    ringway.until_connections(0);
    ringway.reload_as(&setup("DIR/one.log"));
    greeting(ringway.address());
    ringway.json_lines("one.log", 1);
    ringway.rewrite(&setup("DIR/two.log"));
    ringway.signal(Signal::HUP);
    until_file(&ringway.dir().join("log"), "it is told", |log| {
        log.matches("configuration reloaded").count() == 2 && log.contains("SIGHUP")
    });
    greeting(ringway.address());
    ringway.json_lines("two.log", 1);
    // Lines are named by the file that was in force, whatever has the number now.
    let other = Server::echo(b'b');
    let moved = Setup::to([other.address()])
        .workers(2)
        .access_log("DIR/two.log");
    ringway.reload_as(&moved);
    greeting(ringway.address());
    let lines = ringway.json_lines("two.log", 2);
    assert_eq!(lines[0]["backend"], server.address().to_string());
    assert_eq!(lines[1]["backend"], other.address().to_string());
    ringway.reload_as(&setup("off"));
    greeting(ringway.address());
    ringway.until_connections(0);
    ringway.json_lines("one.log", 1);
    ringway.hold_this();
}

#[test]
fn the_time_to_drain_is_that_of_the_last_file() {
    let backend = Backend::new();
    let setup = |shutdown| Setup::to([backend.address()]).shutdown(shutdown);
    let mut ringway = setup("{delay: 1h, drain: 1h}").start();
    ringway.reload_as(&setup("{delay: 0s, drain: 100ms}"));
    let (client, _accepted) = backend.pair(&ringway);
    ringway.stop(crate::eventually::PATIENCE);
    drop(patient(client));
}
