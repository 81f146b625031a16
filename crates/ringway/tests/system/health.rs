//! Active checks: the verdict reaches every worker, is told once, and does with connections what the
//! pool says.

use std::io::Write;
use std::net::TcpStream;

use crate::backend::{Backend, BlackHole, Server, closed_address};
use crate::instance::Ringway;
use crate::peers::{End, connect, drain, fin, read_exactly, turned_away, until};
use crate::setup::Setup;

fn greeting(ringway: &Ringway) -> (TcpStream, u8) {
    let client = connect(ringway.address());
    let [name] = read_exactly::<1>(&client);
    (client, name)
}

/// How often a change of this backend to this state was logged.
fn told(ringway: &Ringway, backend: &str, to: &str) -> usize {
    let is_it = |line: &&serde_json::Value| {
        line["message"] == "health" && line["backend"] == backend && line["to"] == to
    };
    ringway.log_lines().iter().filter(is_it).count()
}

#[test]
fn a_verdict_reaches_every_worker_and_is_told_once() {
    let (mut sick, well) = (Server::echo(b's'), Server::echo(b'w'));
    let setup = Setup::to([sick.address(), well.address()])
        .workers(4)
        .health_checks();
    let ringway = setup.start();
    until("both are up", || {
        [0, 1].iter().all(|at| ringway.backend_state(*at) == "up")
    });
    sick.kill();
    until("it is down", || ringway.backend_state(0) == "down");
    let retries = |ringway: &Ringway| ringway.metrics().sum("backend_retries_total", &[]);
    let before = retries(&ringway);
    // Enough for each of four workers to have chosen several times.
    for _ in 0..80 {
        assert_eq!(greeting(&ringway).1, b'w');
    }
    assert_eq!(retries(&ringway), before, "a worker had not heard of it");
    let address = sick.address().to_string();
    assert_eq!(told(&ringway, &address, "down"), 1);
    let up = |at| ringway.metrics().each("backend_up", &[])[at];
    assert_eq!((up(0), up(1)), (0, 1));
    sick.start();
    until("it is up again", || ringway.backend_state(0) == "up");
    until("it is told", || told(&ringway, &address, "up") == 2);
    until("it is chosen again", || greeting(&ringway).1 == b's');
}

/// Which backends there are is not known before each was looked at once.
#[test]
fn it_is_ready_after_the_first_round_of_checks() {
    let hole = BlackHole::new();
    let process = Setup::to([hole.address()]).health_checks().launch();
    let admin = process.admin();
    let mut seen = Vec::new();
    until("it is ready", || {
        let Ok(answer) = admin.get("/readyz") else {
            return false;
        };
        seen.push((answer.status, answer.body));
        seen.last().unwrap().0 == 200
    });
    assert_eq!(seen[0].0, 503, "{seen:?}");
    assert!(seen[0].1.contains("health"), "{seen:?}");
    let backend = &admin.status()["pools"][0]["backends"][0];
    assert_eq!(
        (&backend["state"], &backend["last_failure"]),
        (&"down".into(), &"timeout".into())
    );
}

#[test]
fn the_status_says_what_is_known_of_a_backend() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address(), closed_address()])
        .health_checks()
        .start();
    until("both are judged", || {
        (ringway.backend_state(0), ringway.backend_state(1)) == ("up".into(), "down".into())
    });
    let status = ringway.status();
    let [up, down] = [0, 1].map(|at| status["pools"][0]["backends"][at].clone());
    assert_eq!(
        (&up["last_failure"], &down["last_failure"]),
        (&serde_json::Value::Null, &"refused".into())
    );
    for backend in [&up, &down] {
        assert!(
            backend["last_check_seconds"].as_f64().unwrap() < 60.0,
            "{backend}"
        );
        assert!(
            backend["since_seconds"].as_f64().unwrap() < 60.0,
            "{backend}"
        );
    }
    let checks = |result| {
        ringway
            .metrics()
            .each("health_checks_total", &[("result", result)])
    };
    until("checks go on", || {
        checks("pass")[0] > 10 && checks("refused")[1] > 10
    });
    assert_eq!((checks("refused")[0], checks("pass")[1]), (0, 0));
    assert_eq!(told(&ringway, &server.address().to_string(), "up"), 1);
}

/// Four workers, one prober: a pass is a connection of its own.
#[test]
fn many_workers_do_not_multiply_the_checks() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()])
        .workers(4)
        .health_checks()
        .start();
    until("checks go on", || {
        ringway.metrics().sum("health_checks_total", &[]) >= 10
    });
    let counted = ringway.metrics().sum("health_checks_total", &[]);
    // What was accepted and not yet counted is one check at most, were there one prober.
    let accepted = server.served() as i64;
    let counted_after = ringway.metrics().sum("health_checks_total", &[]) + 1;
    assert!(
        (counted..=counted_after).contains(&accepted),
        "{accepted} checks, {counted} counted"
    );
}

/// The backend keeps its connections but does not listen any more.
fn backend_that_goes_down(when: &str) -> (Ringway, TcpStream, TcpStream) {
    let backend = Backend::new();
    // Only the pool's connection is accepted; the checks' are connected and gone.
    let setup = Setup::to([backend.address()]).workers(2).health_checks();
    let ringway = setup.pool(&format!("when_backend_down: {when}")).start();
    until("it is up", || ringway.backend_state(0) == "up");
    let mut client = connect(ringway.address());
    client.write_all(b"mine").unwrap();
    let accepted = loop {
        let accepted = backend.accept();
        let mut four = [0; 4];
        if std::io::Read::read_exact(&mut &accepted, &mut four).is_ok() {
            break accepted;
        }
    };
    drop(backend);
    until("it is down", || ringway.backend_state(0) == "down");
    (ringway, client, accepted)
}

#[test]
fn connections_of_a_backend_that_is_down_are_kept() {
    let (ringway, mut client, mut accepted) = backend_that_goes_down("keep");
    client.write_all(b"still there?").unwrap();
    assert_eq!(&read_exactly::<12>(&accepted), b"still there?");
    accepted.write_all(b"yes").unwrap();
    drop(accepted);
    fin(&client);
    assert_eq!(drain(&client), (b"yes".to_vec(), End::Fin));
    ringway.until_closed("backend", "fin", 1);
}

#[test]
fn connections_of_a_backend_that_is_down_are_closed_where_the_pool_says_so() {
    let (ringway, client, accepted) = backend_that_goes_down("close");
    assert_eq!(drain(&client), (Vec::new(), End::Reset));
    assert_eq!(drain(&accepted), (Vec::new(), End::Reset));
    ringway.until_closed("backend", "drain", 1);
}

#[test]
fn when_all_are_down_one_is_tried_all_the_same() {
    let mut server = Server::echo(b'a');
    let address = server.address();
    server.kill();
    let ringway = Setup::to([address]).workers(2).health_checks().start();
    until("it is down", || ringway.backend_state(0) == "down");
    assert_eq!(turned_away(ringway.address()), End::Reset);
    ringway.until_closed("backend", "connect_failed", 1);
    assert_eq!(ringway.metrics().sum("pool_fail_open_total", &[]), 1);
}

#[test]
fn when_all_are_down_connections_are_refused_where_the_pool_says_so() {
    for (over, end) in [("reset", End::Reset), ("close", End::Fin)] {
        let setup = Setup::to([closed_address()]).workers(2).health_checks();
        let setup = setup.pool("when_all_down: refuse");
        let ringway = setup.listener(&format!("limits: {{over: {over}}}")).start();
        until("it is down", || ringway.backend_state(0) == "down");
        assert_eq!(turned_away(ringway.address()), end);
        until("counted", || ringway.refused("no_backend") == 1);
        let metrics = ringway.metrics();
        assert_eq!(metrics.sum("pool_fail_open_total", &[]), 0);
        assert_eq!(metrics.sum("backend_connect_failures_total", &[]), 0);
    }
}
