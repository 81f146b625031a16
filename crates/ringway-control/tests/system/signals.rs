//! Signals. They are for the whole process, so this is one test; the balancers of the others ignore
//! them.

use std::fs;

use crate::common::*;
use ringway_control::{RunError, Signals};
use rustix::process::{Signal, getpid, kill_process};

fn raise(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

#[test]
fn each_signal_does_what_the_contract_says() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (
        dir.path().join("access.log"),
        dir.path().join("access.log.1"),
    );
    let more = format!(
        "{ADMIN}log: {{access: '{}'}}\nshutdown: {{drain: 1h}}",
        path.display()
    );
    let text = one_pool(&[echo()], "", &more);

    // SIGUSR1 reopens the log; what is not supported yet does not end the process.
    let balancer = Balancer::start_with(&text, Signals::Handle);
    drop(balancer.connect());
    eventually("a line", || {
        fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == 1)
    });
    fs::rename(&path, &moved).unwrap();
    raise(Signal::HUP);
    raise(Signal::USR2);
    raise(Signal::USR1);
    eventually("reopened", || path.exists());
    drop(balancer.connect());
    eventually("a line", || {
        fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == 1)
    });
    assert_eq!(fs::read_to_string(&moved).unwrap().lines().count(), 1);

    // SIGTERM drains; a second signal ends at once, however long the drain was to take.
    let mut busy = balancer.connect();
    round_trip(&mut busy);
    raise(Signal::TERM);
    eventually("draining", || balancer.get("/readyz").status == 503);
    raise(Signal::INT);
    assert!(matches!(balancer.ended(), Err(RunError::SecondSignal)));

    // SIGINT alone drains too, and with nothing to wait for it is over soon.
    let balancer = Balancer::start_with(&text, Signals::Handle);
    raise(Signal::INT);
    balancer.ended().unwrap();
}
