//! A new process takes the place of the running one, and nobody notices: not those who connect, not
//! those who are connected, not those who look.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::backend::Server;
use crate::eventually::{until, until_file};
use crate::peers::{connect, drain, patient, read_exactly};
use crate::succession::{Door, Load, Start, Succession};
use crate::upgrade_failures::{FAILURES, cause, eleven_seconds};

/// A file with one listener of these addresses.
pub(crate) fn file(server: &Server, workers: u16, binds: &str, more: &str) -> String {
    let address = server.address();
    format!(
        "workers: {workers}\nlisteners: {{l: {{bind: [{binds}], pool: p}}}}\n\
         pools: {{p: {{backends: [{{address: '{address}'}}]}}}}\n\
         admin: {{bind: 'unix:DIR/admin.sock'}}\n{more}\n"
    )
}

const BINDS: &str = "'127.0.0.1:0', 'unix:DIR/front.sock'";

/// What CI has time for: upgrades, how many of them fail, and the connections between two of them.
/// `scripts/soak-upgrade` asks for more.
fn rounds() -> (usize, usize, usize) {
    let number = |name, default| {
        let value = std::env::var(name).ok();
        value.map_or(default, |value| value.parse().unwrap())
    };
    (
        number("RINGWAY_SOAK_UPGRADES", 10),
        number("RINGWAY_SOAK_FAILURES", 5),
        number("RINGWAY_SOAK_CONNECTIONS", 20),
    )
}

#[test]
fn upgrades_under_load_fail_no_connection() {
    let (upgrades, failures, between) = rounds();
    let server = Server::echo(b'a');
    let text = file(&server, 2, BINDS, "");
    let mut succession = Succession::start(&text, &eleven_seconds());
    let (tcp, unix) = (succession.address(0, 0), succession.address(0, 1));
    let (tcp, unix) = (Door::of(&tcp), Door::of(&unix));
    let load = Load::on(&[tcp.clone(), tcp.clone(), tcp, unix]);
    let mut failed = 0;
    for round in 0..upgrades {
        load.until_served(between);
        // Spread evenly over the rounds.
        if (round + 1) * failures / upgrades > failed {
            cause(&succession, FAILURES[failed % FAILURES.len()], &text);
            failed += 1;
        } else {
            let before = succession.serving();
            succession.upgrade();
            assert_eq!(succession.ended(before), Some(0));
        }
    }
    load.until_served(between);
    assert_eq!(failed, failures);
    println!(
        "{upgrades} upgrades, {failed} of them failed, {} connections, 0 failed",
        load.end()
    );
    succession.stop();
}

/// The new process knows what operators have asked for, and reads the rest from the file.
#[test]
fn what_was_asked_of_backends_outlives_an_upgrade() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let file = |weight: u32| {
        let (a, b) = (a.address(), b.address());
        format!(
            "workers: 1\nlisteners: {{l: {{bind: '127.0.0.1:0', pool: p}}}}\n\
             pools: {{p: {{balance: round_robin, health_check: off, backends: [{{address: '{a}'}}, \
             {{address: '{b}', weight: {weight}}}]}}}}\n\
             admin: {{bind: 'unix:DIR/admin.sock'}}\n"
        )
    };
    let mut succession = Succession::start(&file(2), &Start::default());
    let ask = |succession: &Succession, server: &Server, body: &str| {
        let path = format!("/v1/pools/p/backends/{}", server.address());
        assert_eq!(succession.admin.patch(&path, body).unwrap().status, 200);
    };
    ask(&succession, &a, r#"{"state": "drain", "weight": 5}"#);
    ask(&succession, &b, r#"{"weight": 9}"#);
    succession.write(&file(3));
    succession.upgrade();
    let status = succession.admin.status();
    let told = |at: usize, key: &str| status["pools"][0]["backends"][at][key].clone();
    assert_eq!(
        (told(0, "admin_state"), told(0, "weight")),
        ("drain".into(), 5.into())
    );
    assert_eq!(
        (told(1, "admin_state"), told(1, "weight")),
        ("active".into(), 3.into())
    );
    let address = succession.address(0, 0).parse().unwrap();
    for _ in 0..6 {
        assert_eq!(read_exactly::<1>(connect(address)), [b'b']);
    }
    succession.stop();
}

/// An instance that has a client, which it may drain for so long; its process, and the client.
fn with_a_client(server: &Server, workers: u16, drain: &str) -> (Succession, Pid, TcpStream) {
    let text = file(
        server,
        workers,
        BINDS,
        &format!("shutdown: {{drain: {drain}}}"),
    );
    let succession = Succession::start(&text, &Start::default());
    let client = connect(succession.address(0, 0).parse().unwrap());
    assert_eq!(read_exactly::<1>(&client), [b'a']);
    let old = succession.serving();
    (succession, old, client)
}

/// A connection stays with the process that accepted it, for as long as the drain lets it.
#[test]
fn connections_live_on_in_the_process_that_has_them() {
    let server = Server::echo(b'a');
    let (mut succession, old, mut client) = with_a_client(&server, 2, "10m");
    let new = succession.upgrade();
    for _ in 0..20 {
        client.write_all(b"ping").unwrap();
        assert_eq!(&read_exactly::<4>(&client), b"ping");
    }
    let status = succession.admin.status();
    assert_eq!(status["connections"], 0, "a connection has moved");
    let mut another = connect(succession.address(0, 0).parse().unwrap());
    assert_eq!(read_exactly::<1>(&another), [b'a']);
    until("the new process has it", || {
        succession.admin.status()["connections"] == 1
    });
    // Its end is that of its last connection.
    drop(client);
    assert_eq!(succession.ended(old), Some(0));
    another.write_all(b"ping").unwrap();
    assert_eq!(&read_exactly::<4>(&another), b"ping");
    assert_eq!(succession.serving(), new);
    drop(another);
    let socket = succession.place.path().join("front.sock");
    assert!(
        socket.exists(),
        "the old process took the socket's file with it"
    );
    succession.stop();
    assert!(
        !socket.exists(),
        "the new process left the socket's file behind"
    );
}

#[test]
fn connections_that_do_not_end_are_ended_by_the_drain() {
    let server = Server::echo(b'a');
    let (mut succession, old, client) = with_a_client(&server, 1, "1s");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Busy, so that only the deadline ends it.
            let (mut client, mut answer) = (&client, [0; 4]);
            while client.write_all(b"ping").is_ok() && client.read_exact(&mut answer).is_ok() {}
            is_over.store(true, Ordering::Relaxed);
        });
        succession.upgrade();
        assert!(!is_over.load(Ordering::Relaxed));
        assert_eq!(succession.ended(old), Some(0));
    });
    succession.stop();
}

/// A service manager that stops the service signals every process of it. To the old one, which drains
/// already, the first signal says nothing new; the second one ends it at once, as always.
#[test]
fn the_old_process_counts_signals_as_any_other() {
    let server = Server::echo(b'a');
    let (mut succession, old, mut client) = with_a_client(&server, 2, "10m");
    succession.upgrade();
    kill_process(old, Signal::TERM).unwrap();
    until("it has taken notice", || {
        succession.log().contains("the drain goes on")
    });
    client.write_all(b"ping").unwrap();
    assert_eq!(&read_exactly::<4>(&client), b"ping");
    kill_process(old, Signal::TERM).unwrap();
    assert_eq!(succession.ended(old), Some(1));
    drain(&client);
    assert_eq!(succession.log().matches("a second signal").count(), 1);
    succession.stop();
}

/// More of them than one message carries, of every kind, and nothing else is handed over.
#[test]
fn hundreds_of_listeners_are_handed_over_and_nothing_else() {
    let server = Server::echo(b'a');
    let tcp: Vec<&str> = vec!["'127.0.0.1:0'"; 200];
    let mut mixed: Vec<String> = (0..40).map(|at| format!("'unix:DIR/{at}.sock'")).collect();
    mixed.extend(vec!["'[::1]:0'".to_owned(); 80]);
    let text = file(&server, 2, &tcp.join(", "), "").replace(
        "listeners: {",
        &format!(
            "listeners: {{mixed: {{bind: [{}], pool: p}}, ",
            mixed.join(", ")
        ),
    );
    let mut succession = Succession::start(&text, &Start::default());
    let addresses = |succession: &Succession| {
        let status = succession.admin.status();
        let all = [0, 1].map(|at| status["listeners"][at]["addresses"].clone());
        let all = all.iter().flat_map(|list| list.as_array().unwrap().clone());
        all.map(|one| one.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = addresses(&succession);
    assert_eq!(before.len(), 320);
    let old = succession.serving();
    let sockets = sockets_of(old);
    let new = succession.upgrade();
    assert_eq!(addresses(&succession), before);
    for address in &before {
        Door::of(address).visit().unwrap();
    }
    assert_eq!(succession.ended(old), Some(0));
    until("it holds what the old one held", || {
        sockets_of(new) == sockets
    });
    succession.stop();
}

/// The numbers of its sockets that others could have given to it: listening ones.
fn sockets_of(pid: Pid) -> Vec<String> {
    let dir = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let links = fs::read_dir(dir).unwrap().filter_map(|entry| {
        let link = fs::read_link(entry.ok()?.path()).ok()?;
        Some(link.to_string_lossy().into_owned())
    });
    let known = |link: &String| link.starts_with("socket:");
    let mut all: Vec<String> = links.filter(known).collect();
    all.sort();
    all.dedup();
    // The pair by which the control thread hears of signals belongs to each process.
    let table = ["tcp", "tcp6", "unix"].map(|kind| {
        fs::read_to_string(format!("/proc/{}/net/{kind}", pid.as_raw_nonzero())).unwrap()
    });
    let listening = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // proc_net(5): state 0A of TCP is the 4th word, the inode the 10th; __SO_ACCEPTCON of Unix
        // sockets is in the 4th, the inode in the 7th.
        match words.as_slice() {
            [_, _, _, "0A", _, _, _, _, _, inode, ..] => Some((*inode).to_owned()),
            [_, _, _, "00010000", _, _, inode, ..] => Some((*inode).to_owned()),
            _ => None,
        }
    };
    let listening: Vec<String> = table
        .iter()
        .flat_map(|t| t.lines())
        .filter_map(listening)
        .collect();
    let is_listening = |link: &String| {
        listening
            .iter()
            .any(|inode| *link == format!("socket:[{inode}]"))
    };
    let (ours, others): (Vec<String>, Vec<String>) = all.into_iter().partition(is_listening);
    assert!(others.len() <= 8, "sockets of something else: {others:?}");
    ours
}

/// Fewer workers serve the sockets of more, more get sockets of their own.
#[test]
fn the_number_of_workers_may_change() {
    let server = Server::echo(b'a');
    let text = |workers| file(&server, workers, BINDS, "");
    let mut succession = Succession::start(&text(4), &Start::default());
    let door = Door::of(&succession.address(0, 0));
    let load = Load::on(&[door.clone(), door.clone(), door]);
    for workers in [1, 3, 2, 4, 1] {
        load.until_served(50);
        succession.write(&text(workers));
        let old = succession.serving();
        succession.upgrade();
        let status = succession.admin.status();
        assert_eq!(
            status["workers"].as_array().unwrap().len(),
            usize::from(workers)
        );
        assert_eq!(succession.ended(old), Some(0));
    }
    load.until_served(50);
    load.end();
    succession.stop();
}

#[test]
fn listeners_come_and_go_with_the_file() {
    let server = Server::echo(b'a');
    let two = "'127.0.0.1:0', 'unix:DIR/one.sock', 'unix:DIR/two.sock'";
    let mut succession = Succession::start(&file(&server, 2, two, ""), &Start::default());
    let tcp: std::net::SocketAddr = succession.address(0, 0).parse().unwrap();
    let path = |name| succession.place.path().join(name);
    let (one, three) = (path("one.sock"), path("three.sock"));
    let held = connect(tcp);
    assert_eq!(read_exactly::<1>(&held), [b'a']);
    succession.write(&file(
        &server,
        2,
        "'unix:DIR/one.sock', 'unix:DIR/three.sock'",
        "",
    ));
    let old = succession.serving();
    succession.upgrade();
    for path in [one, three] {
        Door::Unix(path).visit().unwrap();
    }
    // Who was connected still is.
    (&held).write_all(b"ping").unwrap();
    assert_eq!(&read_exactly::<4>(&held), b"ping");
    until("nobody listens any more", || {
        TcpStream::connect(tcp).is_err()
    });
    drop(held);
    assert_eq!(succession.ended(old), Some(0));
    assert!(!succession.place.path().join("two.sock").exists());
    succession.stop();
}

#[test]
fn what_is_at_the_path_now_is_what_runs() {
    let server = Server::echo(b'a');
    let mut succession = Succession::start(&file(&server, 1, BINDS, ""), &Start::default());
    let binary = succession.place.path().join("ringway");
    succession.restore_binary();
    let old = succession.serving();
    let exe = |pid: Pid| fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).unwrap();
    assert!(exe(old).to_string_lossy().ends_with("(deleted)"));
    let new = succession.upgrade();
    assert_eq!(exe(new), binary.canonicalize().unwrap());
    succession.stop();
}

#[test]
fn a_signal_upgrades_too_and_the_log_tells() {
    let server = Server::echo(b'a');
    let text = file(
        &server,
        2,
        BINDS,
        "log: {access: DIR/access.log, format: json}",
    );
    let mut succession = Succession::start(&text, &Start::default());
    let door = Door::of(&succession.address(0, 0));
    door.visit().unwrap();
    let old = succession.serving();
    kill_process(old, Signal::USR2).unwrap();
    until("another process serves", || succession.serving() != old);
    succession.pids.push(succession.serving());
    assert_eq!(succession.ended(old), Some(0));
    door.visit().unwrap();
    let log = succession.place.path().join("access.log");
    until_file(&log, "a line of each process", |text| {
        text.matches('\n').count() == 2
    });
    assert!(
        succession.log().contains("upgraded"),
        "{}",
        succession.log()
    );
    succession.stop();
}

#[test]
fn the_new_process_serves_on_when_the_old_one_is_killed() {
    let server = Server::echo(b'a');
    let text = file(&server, 2, BINDS, "shutdown: {drain: 10m}");
    let mut succession = Succession::start(&text, &Start::default());
    let door = Door::of(&succession.address(0, 0));
    let old = succession.serving();
    let mut held = patient(TcpStream::connect(succession.address(0, 0)).unwrap());
    assert_eq!(read_exactly::<1>(&held), [b'a']);
    let load = Load::on(&[door.clone(), door]);
    load.until_served(50);
    succession.upgrade();
    // After a moment, so that it has none of the clients any more but the one that stays.
    load.until_served(50);
    kill_process(old, Signal::KILL).unwrap();
    assert_eq!(succession.ended(old), None);
    load.until_served(50);
    load.end();
    held.read_to_end(&mut Vec::new()).unwrap_or_default();
    succession.stop();
}

/// Neither the socket's file nor connections that have just ended are in the way.
#[test]
fn after_a_crash_it_starts_on_the_same_addresses() {
    let server = Server::echo(b'a');
    let place = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}/front.sock", place.path().display());
    // Not one that the kernel may give to a client of another test in between.
    let first = 20_000 + (std::process::id() % 8000) as u16;
    let port = (first..32_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let tcp = format!("127.0.0.1:{}", port.unwrap());
    let text = file(&server, 2, &format!("'{tcp}', '{unix}'"), "");
    let doors = [Door::of(&tcp), Door::of(&unix)];
    for _ in 0..3 {
        let mut succession = Succession::start(&text, &Start::default());
        // Some are in the middle of something, some have ended at the server's side first.
        let _held = connect(tcp.parse().unwrap());
        for _ in 0..10 {
            doors.iter().for_each(|door| door.visit().unwrap());
        }
        let pid = succession.serving();
        kill_process(pid, Signal::KILL).unwrap();
        assert_eq!(succession.ended(pid), None);
    }
}
