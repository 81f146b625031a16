//! Who an instance runs as: from root to somebody who may nothing but bind low ports, and the same
//! after an upgrade.

use std::fs;

use rustix::process::{Pid, getuid};

use crate::backend::Server;
use crate::succession::{Door, Start, Succession};
use crate::upgrade::file;

const NOBODY: &str = "65534";
/// CAP_NET_BIND_SERVICE and nothing else, as in proc_pid_status(5).
const BIND_ONLY: &str = "0000000000000400";

/// One line of /proc/PID/status, of every thread.
fn of_every_thread(pid: Pid, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    let line = |task: fs::DirEntry| {
        // A thread may end between the listing and the look.
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        Some(
            line.unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
        )
    };
    let mut lines: Vec<String> = tasks.filter_map(|task| line(task.ok()?)).collect();
    lines.sort();
    lines.dedup();
    lines
}

fn assert_is_nobody(pid: Pid) {
    let all = [NOBODY; 4].join(" ");
    for (field, expected) in [
        ("Uid:", all.as_str()),
        ("Gid:", &all),
        ("CapEff:", BIND_ONLY),
        ("CapPrm:", BIND_ONLY),
        ("CapInh:", BIND_ONLY),
        ("CapAmb:", BIND_ONLY),
    ] {
        assert_eq!(of_every_thread(pid, field), [expected], "{field}");
    }
}

/// An upgrade on a low port, and to another one.
fn upgrades_on_low_ports(start: &Start<'_>) {
    let floor = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if !getuid().is_root() || floor.trim().parse::<u16>().unwrap() < 1000 {
        eprintln!(
            "not tested: only root can become somebody else, and low ports must be privileged"
        );
        return;
    }
    let server = Server::echo(b'a');
    let low = |binds: &str| file(&server, 2, binds, "");
    let (first, second) = (free_low_port(), free_low_port());
    let (one, two) = (format!("127.0.0.1:{first}"), format!("127.0.0.1:{second}"));
    let mut succession = Succession::start(&low(&format!("'{one}'")), start);
    assert_is_nobody(succession.serving());
    Door::of(&one).visit().unwrap();
    succession.write(&low(&format!("'{one}', '{two}'")).replace("workers: 2", "workers: 3"));
    let new = succession.upgrade();
    assert_is_nobody(new);
    for address in [one, two] {
        for _ in 0..10 {
            Door::of(&address).visit().unwrap();
        }
    }
    succession.stop();
}

/// A port below 1024 that nobody has now.
fn free_low_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(600);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 1024, "no low port is free");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[test]
fn root_becomes_the_user_it_is_told_to_and_stays_it_through_upgrades() {
    upgrades_on_low_ports(&Start {
        args: &["--user", "nobody"],
        ..Start::default()
    });
}

#[test]
fn an_ordinary_user_with_one_capability_upgrades_on_low_ports() {
    upgrades_on_low_ports(&Start {
        below: &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all,+net_bind_service",
            "--ambient-caps=+net_bind_service",
            "--bounding-set=-all,+net_bind_service",
        ],
        ..Start::default()
    });
}

#[test]
fn who_cannot_become_somebody_else_does_not_run() {
    let server = Server::echo(b'a');
    let launch = |start: &Start<'_>| {
        let mut succession = Succession::launch(&file(&server, 1, "'127.0.0.1:0'", ""), start);
        let pid = succession.pids[0];
        (succession.ended(pid), succession.log())
    };
    let (code, log) = launch(&Start {
        args: &["--user", "no-such-user-here"],
        ..Start::default()
    });
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("no such user"), "{log}");
    if !getuid().is_root() {
        eprintln!("not tested: the rest needs root");
        return;
    }
    let (code, log) = launch(&Start {
        below: &["setpriv", "--reuid=1", "--regid=1", "--clear-groups"],
        args: &["--user", "nobody"],
        ..Start::default()
    });
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("only root"), "{log}");
    // Where it is that user already but may more than it should, it says what.
    let (code, log) = launch(&Start {
        below: &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=+net_admin",
            "--ambient-caps=+net_admin",
        ],
        args: &["--user", "nobody"],
        ..Start::default()
    });
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("Cap") && log.contains("refusing to run"),
        "{log}"
    );
}

/// Somebody who has less than it would be given is no reason to refuse.
#[test]
fn who_is_that_user_already_and_may_nothing_runs() {
    if !getuid().is_root() {
        eprintln!("not tested: only root can become somebody else");
        return;
    }
    let server = Server::echo(b'a');
    let start = Start {
        below: &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ],
        args: &["--user", "nobody"],
        ..Start::default()
    };
    let mut succession = Succession::start(&file(&server, 1, "'127.0.0.1:0'", ""), &start);
    Door::of(&succession.address(0, 0)).visit().unwrap();
    succession.upgrade();
    succession.stop();
}
