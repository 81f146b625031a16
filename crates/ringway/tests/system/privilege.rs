//! The same as somebody who may nothing.

use std::io::Write;
use std::process::Command;

use crate::backend::{Backend, Server, closed_address};
use crate::keyed;
use crate::peers::{End, connect, drain, fin, read_exactly, until};
use crate::process::Launch;
use crate::setup::{MODES, Setup};

/// How to run as an ordinary user; a test that is none of root's runs as who it is.
fn ordinary() -> Launch {
    if rustix::process::getuid().is_root() {
        Launch::AsNobody
    } else {
        Launch::Plain
    }
}

#[test]
fn an_ordinary_user_runs_it_like_root() {
    for mode in MODES {
        let backend = Backend::new();
        let setup = Setup::to([backend.address()]).relay(mode).workers(2);
        let ringway = setup
            .access_log("DIR/access.log")
            .launch_as(ordinary())
            .start();
        let (mut client, accepted) = backend.pair(&ringway);
        client.write_all(b"hello").unwrap();
        assert_eq!(&read_exactly::<5>(&accepted), b"hello", "{mode:?}");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                keyed::send(&accepted, 1, 20_000_000);
                fin(&accepted);
            });
            assert_eq!(
                keyed::receive(&client, 1),
                (20_000_000, End::Fin),
                "{mode:?}"
            );
        });
        fin(&client);
        assert_eq!(drain(&accepted), (Vec::new(), End::Fin), "{mode:?}");
        ringway.json_lines("access.log", 1);
        ringway.until_bytes(5, 20_000_000);
    }
}

#[test]
fn a_privileged_port_needs_a_privilege() {
    let floor = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if floor.trim().parse::<u16>().unwrap() <= 1 {
        eprintln!("not tested: every port of this host is open to everyone");
        return;
    }
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]).binds(&["127.0.0.1:1"]);
    let ended = setup.launch_as(ordinary()).launch().end();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("127.0.0.1:1") && ended.log.contains("privileged"),
        "{}",
        ended.log
    );
}

/// The limit that users have by default, and as many workers as it is to carry.
#[test]
fn sixty_four_workers_fit_eight_mebibytes_of_locked_memory() {
    if !rustix::process::getuid().is_root() {
        eprintln!("not tested: only root can set the limit of somebody else");
        return;
    }
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(64).health_checks();
    let ringway = setup.launch_as(Launch::Locked(8192)).start();
    for _ in 0..64 {
        assert_eq!(read_exactly::<1>(connect(ringway.address())), [b'a']);
    }
}

/// Whether rings count as locked memory depends on the kernel: it works, or it says what is missing.
#[test]
fn without_locked_memory_it_works_or_says_so() {
    if !rustix::process::getuid().is_root() {
        eprintln!("not tested: only root can lower the limit for somebody else");
        return;
    }
    // Too few for the first worker, for its keeper, and for the fourth of each.
    for kib in [0, 90, 110, 430] {
        let setup = Setup::to([closed_address()]).workers(4).health_checks();
        let mut process = setup.launch_as(Launch::Locked(kib)).launch();
        let admin = process.admin();
        until("it is ready or has ended", || {
            !process.is_running()
                || admin
                    .get("/readyz")
                    .is_ok_and(|answer| answer.status == 200)
        });
        if !process.is_running() {
            let ended = process.end();
            assert_eq!(ended.code, Some(69), "{}", ended.log);
            for words in ["RLIMIT_MEMLOCK", "`workers: N`"] {
                assert!(ended.log.contains(words), "{kib} KiB: {}", ended.log);
            }
        }
    }
}

#[test]
fn where_io_uring_is_forbidden_it_says_so_and_ends() {
    if Command::new("python3").arg("-V").output().is_err() {
        eprintln!("not tested: no python3 to set up the filter");
        return;
    }
    for workers in [1, 4] {
        let setup = Setup::to([closed_address()]).workers(workers);
        let ended = setup.launch_as(Launch::Filtered).launch().end();
        assert_eq!(ended.code, Some(69), "{}", ended.log);
        assert!(
            ended.log.contains("io_uring") && ended.log.contains("seccomp"),
            "{}",
            ended.log
        );
        assert!(!ended.log.contains("accepting"), "{}", ended.log);
    }
}
