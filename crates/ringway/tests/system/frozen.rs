//! An instance that stands still for longer than its timeouts, as under a freezer, a debugger or a
//! hypervisor that has no time for it: what its peers did meanwhile counts when it goes on.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, WaitOptions, waitpid};

use crate::backend::{Backend, Server};
use crate::instance::Ringway;
use crate::peers::{End, connect, drain, fin, read_exactly, until};
use crate::setup::{MODES, Relay, Setup};

/// Timeouts of these tests, and a pause that all of them are over in.
const IDLE: &str = "timeouts: {idle: 3s}";
const PAUSE: Duration = Duration::from_millis(4500);

impl Ringway {
    /// Returns when none of its threads runs any more.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let pid = self.process.pid();
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
    }
}

type Pair = (TcpStream, TcpStream);

/// What is open when the pause begins.
struct Relays {
    ringway: Ringway,
    _backend: Backend,
    /// They say something during the pause.
    talking: Vec<Pair>,
    /// They say something and that it was the last.
    ending: Vec<Pair>,
    /// Nothing moves.
    silent: Vec<Pair>,
}

/// Opens them and stands still.
fn open(mode: Relay) -> Relays {
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]).relay(mode).workers(2);
    let ringway = setup.listener(IDLE).start();
    let pairs =
        |count: usize| -> Vec<Pair> { (0..count).map(|_| backend.pair(&ringway)).collect() };
    let (talking, ending, silent) = (pairs(120), pairs(120), pairs(5));
    // At once: while others are made its own time would pass.
    ringway.freeze();
    Relays {
        ringway,
        _backend: backend,
        talking,
        ending,
        silent,
    }
}

impl Relays {
    /// Both ends of each send into the buffers of the kernel.
    fn send(&mut self) {
        for (client, accepted) in self.talking.iter_mut().chain(&mut self.ending) {
            client.write_all(b"up").unwrap();
            accepted.write_all(b"down").unwrap();
        }
        for (client, accepted) in &self.ending {
            fin(client);
            fin(accepted);
        }
    }

    fn check(self, mode: Relay) {
        for (client, accepted) in &self.talking {
            assert_eq!(read_exactly::<2>(accepted), *b"up", "{mode:?}");
            assert_eq!(read_exactly::<4>(client), *b"down", "{mode:?}");
        }
        for (client, accepted) in &self.ending {
            assert_eq!(drain(accepted), (b"up".to_vec(), End::Fin), "{mode:?}");
            assert_eq!(drain(client), (b"down".to_vec(), End::Fin), "{mode:?}");
        }
        // The pause is no excuse for those who had nothing to say.
        for (client, accepted) in &self.silent {
            assert_eq!(drain(client), (Vec::new(), End::Fin), "{mode:?}");
            assert_eq!(drain(accepted), (Vec::new(), End::Fin), "{mode:?}");
        }
        let ended = self.ending.len() as i64;
        let by_fin = ["client", "backend"].map(|side| self.ringway.closed(side, "fin"));
        assert_eq!(by_fin.iter().sum::<i64>(), ended, "{mode:?}: {by_fin:?}");
    }
}

#[test]
fn a_pause_longer_than_the_idle_timeout_ends_only_what_was_silent() {
    let mut all = MODES.map(open);
    all.iter_mut().for_each(Relays::send);
    // The time that has to pass, not the time that something takes.
    thread::sleep(PAUSE);
    all.iter()
        .for_each(|relays| relays.ringway.signal(Signal::CONT));
    for (relays, mode) in all.into_iter().zip(MODES) {
        relays.check(mode);
    }
}

/// A check that was under way is late by the pause, and that is nobody's fault.
#[test]
fn a_pause_longer_than_the_checks_marks_no_backend_down() {
    let servers = [Server::echo(b'a'), Server::echo(b'b')];
    let setup = Setup::to(servers.each_ref().map(Server::address)).workers(2);
    let ringway = setup.health_checks().start();
    let checks = || {
        ringway
            .metrics()
            .sum("health_checks_total", &[("result", "pass")])
    };
    until("both are up", || {
        [0, 1].iter().all(|at| ringway.backend_state(*at) == "up")
    });
    for _ in 0..4 {
        ringway.freeze();
        thread::sleep(Duration::from_millis(1100));
        ringway.signal(Signal::CONT);
        let before = checks();
        until("checks go on", || checks() >= before + 4);
    }
    let went_down = |line: &serde_json::Value| line["message"] == "health" && line["to"] == "down";
    assert!(!ringway.log_lines().iter().any(went_down));
    assert_eq!(ringway.metrics().each("backend_up", &[]), [1, 1]);
    let client = connect(ringway.address());
    assert!(b"ab".contains(&read_exactly::<1>(&client)[0]));
}
