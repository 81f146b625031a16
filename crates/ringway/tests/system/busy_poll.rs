//! A worker that looks for work before it sleeps: it serves, sleeps and ends as any other, a reload turns it on and
//! off, and what it spends looking is told apart from what it spends working. Not how fast it is.

use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::backend::Server;
use crate::eventually::{PATIENCE, until};
use crate::instance::Ringway;
use crate::peers::{End, connect, drain, echoes, read_exactly};
use crate::process::thread_of;
use crate::setup::Setup;

/// CPU time that the kernel may tell of later than the worker: a tick or two of each thread.
const SLACK: f64 = 0.05;

/// Seconds that its workers have spent looking.
fn looked(ringway: &Ringway) -> f64 {
    ringway.metrics().seconds("worker_busy_poll_seconds_total")
}

fn held(ringway: &Ringway) -> TcpStream {
    let client = connect(ringway.address());
    assert_eq!(read_exactly::<1>(&client), [b'a']);
    client
}

/// Messages until it has looked for so long.
fn until_looked(ringway: &Ringway, client: &TcpStream, least: f64) {
    until("it has looked", || {
        (0..200).for_each(|_| echoes(client));
        looked(ringway) > least
    });
}

#[test]
fn what_is_spent_looking_is_no_work_and_an_idle_worker_sleeps() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(2);
    let ringway = setup.top("busy_poll: 200us").start();
    let client = held(&ringway);
    until_looked(&ringway, &client, 0.2);
    let metrics = ringway.metrics();
    let told = [
        "worker_busy_seconds_total",
        "worker_busy_poll_seconds_total",
    ]
    .map(|family| metrics.seconds(family));
    let used = ringway.process.cpu_time().as_secs_f64();
    assert!(told[0] > 0.0, "it has worked, too");
    assert!(
        told[0] + told[1] < used + SLACK,
        "{told:?} seconds, of {used} of CPU time"
    );
    let load = ringway.process.load_over(Duration::from_secs(1));
    assert!(load < 0.1, "idle, it takes {load} of a CPU");
    echoes(&client);
}

#[test]
fn a_reload_turns_it_on_and_off_in_workers_that_go_on() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(2);
    let ringway = setup.clone().start();
    let threads =
        || ["ringway-wrk-0", "ringway-wrk-1"].map(|name| thread_of(ringway.process.pid(), name));
    let before = threads();
    let client = held(&ringway);
    (0..200).for_each(|_| echoes(&client));
    assert_eq!(looked(&ringway), 0.0);
    let changes = ringway.reload_as(&setup.clone().top("busy_poll: 200us"));
    assert_eq!(changes, ["busy_poll: off -> 200us"]);
    until_looked(&ringway, &client, 0.0);
    assert_eq!(
        ringway.reload_as(&setup.clone().top("busy_poll: 1ms")),
        ["busy_poll: 200us -> 1ms"]
    );
    let so_far = looked(&ringway);
    until_looked(&ringway, &client, so_far);
    assert_eq!(ringway.reload_as(&setup), ["busy_poll: 1ms -> off"]);
    let so_far = looked(&ringway);
    (0..200).for_each(|_| echoes(&client));
    assert_eq!(looked(&ringway), so_far);
    assert_eq!(threads(), before);
}

#[test]
fn deadlines_and_a_drain_come_to_those_who_look() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()])
        .top("busy_poll: 1ms")
        .listener("timeouts: {idle: 500ms}")
        .shutdown("{delay: 0s, drain: 1s}");
    let mut ringway = setup.start();
    let (silent, busy) = (held(&ringway), held(&ringway));
    until("the silent one is ended", || {
        echoes(&busy);
        ringway.closed("ringway", "idle") == 1
    });
    assert_eq!(drain(&silent), (Vec::new(), End::Fin));
    echoes(&busy);
    ringway.signal(Signal::TERM);
    assert_eq!(drain(&busy), (Vec::new(), End::Fin));
    let ended = ringway.process.end_within(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}
