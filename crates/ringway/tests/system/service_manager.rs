//! What a service manager sees of an instance, and what it gives to it. Played by the test: a socket
//! that is told things, and sockets that are there before the instance.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::backend::Server;
use crate::broken::Interference;
use crate::eventually::{PATIENCE, until, until_ended};
use crate::succession::{Door, Load, Start, Succession};
use crate::upgrade::file;

const ANY: &str = "'127.0.0.1:0'";

/// The manager's ear.
struct Manager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Manager {
        let dir = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, dir }
    }

    fn start(&self, more: &[(&'static str, String)]) -> Start<'static> {
        let path = self.dir.path().join("notify");
        let path = path.to_str().unwrap().to_owned();
        Start {
            env: [&[("NOTIFY_SOCKET", path)], more].concat(),
            ..Start::default()
        }
    }

    /// The next message that has this in it; others, such as accounts of a drain, are passed over.
    fn hears(&self, words: &str) -> String {
        let mut bytes = [0; 1024];
        loop {
            let len = self
                .socket
                .recv(&mut bytes)
                .unwrap_or_else(|e| panic!("{words}: {e}"));
            let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
            if text.lines().any(|line| line.starts_with(words)) {
                return text;
            }
        }
    }

    /// Passes over what was said until now.
    fn forgets(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 1024]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }

    /// Waits as one does that then restarts the service: until nothing has come for so long.
    fn waits_in_vain(&self, patience: Duration) {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.socket.recv(&mut [0; 1024]).is_ok() {
            assert!(Instant::now() < deadline, "the watchdog is still fed");
        }
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

#[test]
fn it_is_told_of_readiness_reloads_upgrades_and_the_end() {
    let server = Server::echo(b'a');
    let manager = Manager::new();
    let text = file(&server, 2, ANY, "");
    let mut succession = Succession::start(&text, &manager.start(&[]));
    let told = manager.hears("READY=1");
    assert!(
        told.contains("STATUS=serving: 1 listeners, 2 workers"),
        "{told}"
    );
    kill_process(succession.serving(), Signal::HUP).unwrap();
    let told = manager.hears("RELOADING=1");
    assert!(told.contains("MONOTONIC_USEC="), "{told}");
    manager.hears("READY=1");
    // One that is refused is over, too, and not the end of the service.
    succession.write("nonsense: 1\n");
    kill_process(succession.serving(), Signal::HUP).unwrap();
    manager.hears("RELOADING=1");
    let told = manager.hears("READY=1");
    assert!(
        told.contains("workers; the last reload was refused"),
        "{told}"
    );
    succession.write(&text);
    let new = succession.upgrade();
    let told = manager.hears("MAINPID=");
    assert!(
        told.contains(&format!("MAINPID={}\n", new.as_raw_nonzero())),
        "{told}"
    );
    // From the new one, which the manager listens to from now on.
    manager.hears("READY=1");
    kill_process(new, Signal::TERM).unwrap();
    let told = manager.hears("STOPPING=1");
    assert!(told.contains("draining"), "{told}");
    for pid in succession.pids.clone() {
        assert_eq!(succession.ended(pid), Some(0));
    }
}

/// An instance without a file, ended when it is dropped.
struct Fileless(Child);

impl Drop for Fileless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The manager waits for the end of each reload that it asks for, also of one that cannot be.
#[test]
fn a_reload_without_a_file_is_told_of_too() {
    let server = Server::echo(b'a');
    let manager = Manager::new();
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_ringway"));
    let to = server.address().to_string();
    proxy.args(["proxy", "--listen", "127.0.0.1:0", "--to", &to]);
    proxy.args(["--admin", "off", "--workers", "1"]);
    proxy.env("NOTIFY_SOCKET", manager.dir.path().join("notify"));
    proxy.stdout(Stdio::null()).stderr(Stdio::null());
    let mut proxy = Fileless(proxy.spawn().unwrap());
    let pid = Pid::from_child(&proxy.0);
    manager.hears("READY=1");
    for _ in 0..2 {
        kill_process(pid, Signal::HUP).unwrap();
        manager.hears("RELOADING=1");
        let told = manager.hears("READY=1");
        assert!(told.contains("the last reload was refused"), "{told}");
    }
    kill_process(pid, Signal::TERM).unwrap();
    until_ended(PATIENCE, pid);
    assert!(proxy.0.wait().unwrap().success());
}

#[test]
fn the_old_process_of_an_upgrade_is_not_the_end_of_the_service() {
    let server = Server::echo(b'a');
    let manager = Manager::new();
    let mut succession = Succession::start(&file(&server, 1, ANY, ""), &manager.start(&[]));
    let old = succession.serving();
    succession.upgrade();
    assert_eq!(succession.ended(old), Some(0));
    succession.stop();
    let all = std::iter::from_fn(|| {
        manager.socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 1024];
        let len = manager.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
    });
    let stops = all.filter(|text| text.contains("STOPPING=1")).count();
    assert_eq!(stops, 1, "each process said that the service stops");
}

/// While the workers turn, the watchdog is fed, also by the process that comes after an upgrade.
#[test]
fn the_watchdog_is_fed_by_workers_that_turn() {
    let server = Server::echo(b'a');
    let manager = Manager::new();
    let every = [("WATCHDOG_USEC", "300000".to_owned())];
    let mut succession = Succession::start(&file(&server, 2, ANY, ""), &manager.start(&every));
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    let old = succession.serving();
    succession.upgrade();
    assert_eq!(succession.ended(old), Some(0));
    // What the old one had said is no proof.
    manager.forgets();
    manager.hears("WATCHDOG=1");
    succession.stop();
}

/// One worker that stands still while all else goes on, and the manager hears nothing for as long as it
/// waits; fed again when the worker goes on.
#[test]
fn the_watchdog_is_not_fed_while_a_worker_stands_still() {
    let server = Server::echo(b'a');
    let manager = Manager::new();
    let watchdog = Duration::from_secs(4);
    let every = [("WATCHDOG_USEC", watchdog.as_micros().to_string())];
    let mut succession = Succession::start(&file(&server, 2, ANY, ""), &manager.start(&every));
    manager.hears("WATCHDOG=1");
    let pid = succession.serving();
    let Some(interference) = Interference::with_worker(pid, 1, "delay_enter=600s") else {
        return;
    };
    until("it is found out", || {
        succession.log().contains("workers do not answer")
    });
    manager.waits_in_vain(watchdog);
    drop(interference);
    manager.hears("WATCHDOG=1");
    succession.stop();
}

/// A reload that a worker holds up is over when it has happened, and not before. What is asked for meanwhile
/// is refused, where somebody waits for an answer, or comes after it.
#[test]
fn a_reload_that_a_worker_holds_up_is_told_of_when_it_is_over() {
    let server = Server::echo(b'a');
    let manager = Manager::new();
    let text = file(&server, 2, ANY, "");
    let mut succession = Succession::start(&text, &manager.start(&[]));
    manager.hears("READY=1");
    let pid = succession.serving();
    let Some(interference) = Interference::with_worker(pid, 1, "delay_enter=600s") else {
        return;
    };
    succession.write(&file(&server, 2, ANY, "shutdown: {drain: 31s}"));
    kill_process(pid, Signal::HUP).unwrap();
    manager.hears("RELOADING=1");
    until("it is too slow", || {
        succession.log().contains("a worker does not answer")
    });
    let path = format!("/v1/pools/p/backends/{}", server.address());
    let answer = succession.admin.patch(&path, r#"{"state": "drain"}"#);
    let answer = answer.unwrap();
    assert_eq!(answer.status, 504, "{}", answer.body);
    assert!(
        answer.body.contains("nothing more is changed"),
        "{}",
        answer.body
    );
    kill_process(pid, Signal::HUP).unwrap();
    drop(interference);
    manager.hears("READY=1");
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    let told = succession.admin.status()["pools"][0]["backends"][0]["admin_state"].clone();
    assert_eq!(told, "active");
    let reloads = succession.admin.metrics();
    let reloads = reloads.sum("config_reloads_total", &[("result", "success")]);
    assert_eq!(reloads, 2);
    succession.stop();
}

/// A watchdog for somebody else is none of ours.
#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let server = Server::echo(b'a');
    let manager = Manager::new();
    let others = [
        ("WATCHDOG_USEC", "50000".to_owned()),
        ("WATCHDOG_PID", "1".to_owned()),
    ];
    let mut succession = Succession::start(&file(&server, 1, ANY, ""), &manager.start(&others));
    manager.hears("READY=1");
    succession.stop();
    manager.socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 1024];
    while let Ok(len) = manager.socket.recv(&mut bytes) {
        assert!(!bytes[..len].starts_with(b"WATCHDOG"));
    }
}

/// Binds as systemd does, and becomes the rest of the command line with the sockets from 3 on; the
/// sockets stay with the process that is left, for the next start.
const ACTIVATE: &str = r#"
import os, socket, sys, time
how, addresses, line = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
sockets = []
for address in addresses:
    if address.startswith("unix:"):
        s = socket.socket(socket.AF_UNIX)
        s.bind(address[5:])
    else:
        host, port = address.rsplit(":", 1)
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if how == "reuse":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind((host, int(port)))
    s.listen(128)
    sockets.append(os.dup2(s.fileno(), 100 + len(sockets)))
def start():
    for at, s in enumerate(sockets):
        os.dup2(s, 3 + at, inheritable=True)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(sockets))
    for s in sockets:
        os.close(s)
    os.execv(line[0], line)
while True:
    pid = os.fork()
    if pid == 0:
        start()
    os.waitpid(pid, 0)
    while not os.path.exists("again"):
        time.sleep(0.01)
    os.remove("again")
"#;

/// A port that is free, for somebody who binds it later.
fn free_port() -> u16 {
    crate::backend::closed_address().port()
}

/// A balancer below a manager that has bound these addresses; the directory is to outlive it.
fn activated(how: &str, addresses: &[&str], text: &str) -> (TempDir, Succession) {
    let place = TempDir::new().unwrap();
    let script = place.path().join("activate.py");
    fs::write(&script, ACTIVATE).unwrap();
    let addresses = addresses.join(",");
    let below = ["python3", script.to_str().unwrap(), how, &addresses];
    let start = Start {
        below: &below,
        ..Start::default()
    };
    let mut succession = Succession::launch(text, &start);
    succession.until_ready();
    (place, succession)
}

fn reload(succession: &Succession, text: &str) {
    succession.write(text);
    let answer = succession.admin.post("/v1/reload").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// A reload for each of these numbers of workers, with connections before and after it.
fn reload_under_load(
    succession: &Succession,
    doors: &[Door],
    workers: &[u16],
    text: impl Fn(u16) -> String,
) {
    let load = Load::on(doors);
    for workers in workers {
        load.until_served(100);
        reload(succession, &text(*workers));
    }
    load.until_served(100);
    load.end();
}

fn end_serving(succession: &Succession) {
    let serving = succession.serving();
    kill_process(serving, Signal::TERM).unwrap();
    until("it has ended", || test_kill_process(serving).is_err());
}

/// Nobody accepts now, and nobody is refused: these wait for the next start.
fn visits_wait_for_the_next_start(succession: &mut Succession, doors: &[Door]) {
    let visit = |door: &Door| {
        let door = door.clone();
        thread::spawn(move || door.visit().unwrap())
    };
    let clients: Vec<_> = doors.iter().map(visit).collect();
    begin_again(succession);
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    succession.until_ready();
    succession.pids.push(succession.serving());
}

fn begin_again(succession: &Succession) {
    fs::write(succession.place.path().join("again"), "").unwrap();
}

/// The manager keeps the sockets: whoever connects while nothing runs is served by the next start.
#[test]
fn sockets_of_the_manager_are_used_and_left_to_it() {
    for how in ["reuse", "alone"] {
        let server = Server::echo(b'a');
        let sockets = TempDir::new().unwrap();
        let path = sockets.path().join("front.sock");
        let (port, unix) = (free_port(), format!("unix:{}", path.display()));
        let tcp = format!("127.0.0.1:{port}");
        let text = file(&server, 3, &format!("'{tcp}', '{unix}'"), "");
        let (_place, mut succession) = activated(how, &[&tcp, &unix], &text);
        let doors = [Door::of(&tcp), Door::of(&unix)];
        for _ in 0..20 {
            doors.iter().for_each(|door| door.visit().unwrap());
        }
        assert_eq!(
            succession.log().contains("workers share"),
            how == "alone",
            "{how}"
        );
        let old = succession.serving();
        let new = succession.upgrade();
        until("it has ended", || test_kill_process(old).is_err());
        doors.iter().for_each(|door| door.visit().unwrap());
        kill_process(new, Signal::TERM).unwrap();
        assert_eq!(succession.ended(new), Some(0));
        assert!(path.exists(), "the manager's file was removed");
        visits_wait_for_the_next_start(&mut succession, &doors);
    }
}

/// Where they can have sockets of their own beside the manager's, and where all share those: a worker that
/// leaves turns nobody away from what others accept on.
#[test]
fn workers_come_and_go_on_sockets_of_the_manager() {
    for how in ["reuse", "alone"] {
        let server = Server::echo(b'a');
        let sockets = TempDir::new().unwrap();
        let path = sockets.path().join("front.sock");
        let (tcp, unix) = (
            format!("127.0.0.1:{}", free_port()),
            format!("unix:{}", path.display()),
        );
        let text = |workers| file(&server, workers, &format!("'{tcp}', '{unix}'"), "");
        let (_place, succession) = activated(how, &[&tcp, &unix], &text(2));
        let doors = [Door::of(&tcp), Door::of(&unix)];
        reload_under_load(&succession, &doors, &[1, 3, 1, 2, 1], text);
        end_serving(&succession);
        assert!(path.exists(), "the manager's file was removed");
    }
}

/// The manager keeps its socket open: when the worker that had it leaves, another accepts on it.
#[test]
fn a_socket_of_the_manager_is_taken_over_from_the_worker_that_leaves() {
    let server = Server::echo(b'a');
    let tcp = format!("127.0.0.1:{}", free_port());
    let text = |workers| file(&server, workers, &format!("'{tcp}'"), "");
    // One for each worker: with fewer workers, some would have none of it.
    let (_place, mut succession) = activated("reuse", &[tcp.as_str(); 3], &text(3));
    let door = Door::of(&tcp);
    let doors = std::slice::from_ref(&door);
    reload_under_load(&succession, doors, &[2, 1, 3, 1], text);
    end_serving(&succession);
    // It was left to the manager as it was.
    visits_wait_for_the_next_start(&mut succession, &vec![door; 20]);
}

/// A reload that takes a listener away stops accepting on the manager's socket and nothing else: whoever
/// connects waits for the next start.
#[test]
fn a_reload_leaves_the_socket_of_a_removed_listener_to_the_manager() {
    let server = Server::echo(b'a');
    // Addresses of their own, since a port may be free twice.
    let [stays, goes] = [1, 2].map(|host| format!("127.0.0.{host}:{}", free_port()));
    let both = file(&server, 1, &format!("'{stays}', '{goes}'"), "");
    let (_place, mut succession) = activated("reuse", &[&stays, &goes], &both);
    let one = file(&server, 1, &format!("'{stays}'"), "");
    let [stays, goes] = [stays, goes].map(|at| Door::of(&at));
    goes.visit().unwrap();
    reload(&succession, &one);
    let waiting = goes.clone();
    let waiting = thread::spawn(move || waiting.visit().unwrap());
    stays.visit().unwrap();
    // An upgrade does not know of it any more, and nobody is turned away by that either.
    let old = succession.serving();
    let new = succession.upgrade();
    until("it has ended", || test_kill_process(old).is_err());
    stays.visit().unwrap();
    assert!(!waiting.is_finished(), "somebody accepts who should not");
    succession.write(&both);
    kill_process(new, Signal::TERM).unwrap();
    assert_eq!(succession.ended(new), Some(0));
    begin_again(&succession);
    waiting.join().unwrap();
    succession.until_ready();
    succession.pids.push(succession.serving());
}

/// What is given and is no listening socket is refused in words; what no listener asks for is told.
#[test]
fn sockets_that_are_none_are_refused_and_those_of_nobody_told() {
    let server = Server::echo(b'a');
    let launch = |redirect: &str| {
        let script = format!("export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" {redirect}");
        let start = Start {
            below: &["sh", "-c", &script],
            ..Start::default()
        };
        Succession::launch(&file(&server, 1, ANY, ""), &start)
    };
    for redirect in ["3</dev/null", "3<&-"] {
        let mut succession = launch(redirect);
        let pid = succession.pids[0];
        assert_eq!(succession.ended(pid), Some(1));
        assert!(
            succession.log().contains("LISTEN_FDS, 3"),
            "{}",
            succession.log()
        );
    }
    // Open, and of another address than the file's.
    let other = format!("127.0.0.1:{}", free_port());
    let (_place, mut succession) = activated("alone", &[&other], &file(&server, 1, ANY, ""));
    succession.pids.push(succession.serving());
    let log = succession.log();
    assert!(log.contains("is not used") && log.contains(&other), "{log}");
}
