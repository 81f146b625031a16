//! Reloads before, during and after upgrades: what one hands on is what the other has made.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Signal, kill_process};

use crate::backend::{Server, closed_address};
use crate::eventually::{until, until_file, until_is};
use crate::peers::{connect, read_exactly};
use crate::succession::{Door, Load, Start, Succession};

/// One file: `l` at its place for ever, and another listener that comes and goes.
struct File<'a> {
    server: &'a Server,
    workers: u16,
    stays: SocketAddr,
    comes: Option<SocketAddr>,
    /// Keys of the options of all sockets.
    tcp: &'static str,
}

impl<'a> File<'a> {
    /// One listener and one worker.
    fn alone(server: &'a Server) -> File<'a> {
        File {
            server,
            workers: 1,
            stays: closed_address(),
            comes: None,
            tcp: "",
        }
    }

    fn text(&self) -> String {
        let File {
            workers,
            stays,
            tcp,
            ..
        } = self;
        let listener =
            |name, binds| format!("{name}: {{bind: [{binds}], pool: p, tcp: {{{tcp}}}}}");
        let mut listeners = vec![listener("l", format!("'{stays}', 'unix:DIR/l.sock'"))];
        let comes = self.comes.iter();
        // First, so that what has a place has it in another order than the file.
        comes.for_each(|at| {
            listeners.insert(0, listener("m", format!("'{at}', 'unix:DIR/m.sock'")))
        });
        let (listeners, backend) = (listeners.join(", "), self.server.address());
        format!(
            "workers: {workers}\nlisteners: {{{listeners}}}\n\
             pools: {{p: {{backends: [{{address: '{backend}'}}], health_check: off}}}}\n\
             admin: {{bind: 'unix:DIR/admin.sock'}}\nlog: {{format: json}}\n"
        )
    }
}

fn reload(succession: &Succession, file: &File<'_>) {
    succession.write(&file.text());
    let answer = succession.admin.post("/v1/reload").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn upgrade(succession: &mut Succession, file: &File<'_>) {
    succession.write(&file.text());
    let before = succession.serving();
    succession.upgrade();
    assert_eq!(succession.ended(before), Some(0));
}

fn greeting(address: SocketAddr) -> u8 {
    read_exactly::<1>(connect(address))[0]
}

/// More often than there are sockets at an address: one of them that is forgotten shows.
const VISITS: usize = 20;

/// Three workers become one, which has the sockets of all; reloads change and close them.
#[test]
fn reloads_before_and_after_upgrades_under_load_fail_no_connection() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let (stays, comes) = (closed_address(), closed_address());
    let file = |server, workers, is_there: bool, tcp| File {
        server,
        workers,
        stays,
        comes: is_there.then_some(comes),
        tcp,
    };
    let mut succession = Succession::start(&file(&a, 3, false, "").text(), &Start::default());
    let dir = succession.place.path().to_owned();
    let unix = |name: &str| Door::Unix(dir.join(name));
    let load = Load::on(&[Door::Tcp(stays), Door::Tcp(stays), unix("l.sock")]);
    for round in 0..3 {
        // A listener comes, and an upgrade hands it on.
        reload(&succession, &file(&a, 3, true, ""));
        unix("m.sock").visit().unwrap();
        let more = Load::on(&[Door::Tcp(comes), unix("m.sock")]);
        more.until_served(VISITS);
        upgrade(&mut succession, &file(&a, 1, true, "backlog: 2000"));
        more.until_served(VISITS);
        load.until_served(VISITS);
        // All of its sockets are the listener's: each has what changes.
        let server = if round % 2 == 0 { &b } else { &a };
        reload(
            &succession,
            &file(server, 1, true, "backlog: 3000, keepalive: off"),
        );
        for _ in 0..VISITS {
            for address in [stays, comes] {
                assert_eq!(greeting(address), [b'b', b'a'][round % 2]);
            }
        }
        more.end();
        // And each closes, with the file of the Unix socket.
        reload(
            &succession,
            &file(&a, 1, false, "backlog: 3000, keepalive: off"),
        );
        for _ in 0..VISITS {
            TcpStream::connect(comes).expect_err("a removed listener accepts");
        }
        assert!(!dir.join("m.sock").exists());
        // It comes again, where the process binds for itself, and goes with an upgrade.
        reload(&succession, &file(&a, 1, true, ""));
        Door::Tcp(comes).visit().unwrap();
        upgrade(&mut succession, &file(&a, 3, false, ""));
        TcpStream::connect(comes).expect_err("a listener that the new file has not");
        load.until_served(VISITS);
        let places = succession.admin.status()["listeners"].clone();
        assert_eq!(places.as_array().unwrap().len(), 1, "{places}");
    }
    load.end();
    succession.stop();
}

/// A program that waits for a file before it goes on as it is told.
fn hesitant(succession: &Succession, then: &str) {
    let dir = succession.place.path().display().to_string();
    let script = "#!/bin/sh\necho here > DIR/here\nwhile ! [ -e DIR/on ]; do sleep 0.02; done\n";
    succession.replace_binary(&format!("{}{then}\n", script.replace("DIR", &dir)));
}

fn succeeded(succession: &Succession) -> i64 {
    let metrics = succession.admin.metrics();
    metrics.sum("config_reloads_total", &[("result", "success")])
}

/// Who waits for an answer is told at once; what a signal asks for comes after one that fails.
#[test]
fn a_reload_during_an_upgrade_that_fails_is_refused_or_comes_after_it() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let stays = closed_address();
    let file = |server| File {
        stays,
        ..File::alone(server)
    };
    let mut succession = Succession::start(&file(&a).text(), &Start::default());
    hesitant(&succession, "exit 3");
    let dir = succession.place.path().to_owned();
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| succession.ask());
        until_file(&dir.join("here"), "it has begun", |text| !text.is_empty());
        succession.write(&file(&b).text());
        let refused = succession.admin.post("/v1/reload").unwrap();
        assert_eq!(refused.status, 409, "{}", refused.body);
        assert!(
            refused.body.contains("an upgrade is under way"),
            "{}",
            refused.body
        );
        kill_process(succession.pids[0], Signal::HUP).unwrap();
        assert_eq!(greeting(stays), b'a');
        fs::write(dir.join("on"), "").unwrap();
        assert_eq!(upgrade.join().unwrap().status, 502);
    });
    until_is("the file runs", b'b', || greeting(stays));
    assert_eq!(succeeded(&succession), 1);
    succession.restore_binary();
    succession.upgrade();
    assert_eq!(greeting(stays), b'b');
    succession.stop();
}

/// What a signal asks for in an upgrade that succeeds is asked of the new process, which may have read
/// the file before it changed.
#[test]
fn a_signal_for_a_reload_goes_on_to_the_new_process() {
    let server = Server::echo(b'a');
    let file = File::alone(&server);
    let mut succession = Succession::start(&file.text(), &Start::default());
    let binary = env!("CARGO_BIN_EXE_ringway");
    hesitant(&succession, &format!("exec {binary} \"$@\""));
    let dir = succession.place.path().to_owned();
    let (old, answer) = thread::scope(|scope| {
        let upgrade = scope.spawn(|| succession.ask());
        until_file(&dir.join("here"), "it has begun", |text| !text.is_empty());
        kill_process(succession.pids[0], Signal::HUP).unwrap();
        // The signal came before this, whose answer is there.
        let refused = succession.admin.post("/v1/reload").unwrap();
        assert_eq!(refused.status, 409, "{}", refused.body);
        assert_eq!(succeeded(&succession), 0);
        fs::write(dir.join("on"), "").unwrap();
        (succession.pids[0], upgrade.join().unwrap())
    });
    assert_eq!(answer.status, 200, "{}", answer.body);
    let new = succession.serving();
    assert_ne!(new, old);
    succession.pids.push(new);
    until("the new process has reloaded", || {
        succeeded(&succession) == 1
    });
    assert_eq!(succession.ended(old), Some(0));
    succession.stop();
}

/// A file that does not come to rest keeps a reload going for a second.
#[test]
fn an_upgrade_during_a_reload_is_refused() {
    let server = Server::echo(b'a');
    let file = File::alone(&server);
    let mut succession = Succession::start(&file.text(), &Start::default());
    // None that begins between two reloads succeeds.
    succession.replace_binary("#!/bin/sh\nexit 3\n");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut length = 0;
            while !is_over.load(Ordering::Acquire) {
                length = (length + 1) % 4000;
                succession.write(&format!("{}# {}\n", file.text(), "-".repeat(length)));
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                succession.admin.post("/v1/reload").unwrap();
            }
        });
        let _over = Over(&is_over);
        until("an upgrade is refused for a reload", || {
            let answer = succession.ask();
            answer.status == 409 && answer.body.contains("a reload is under way")
        });
    });
    succession.restore_binary();
    succession.write(&file.text());
    succession.upgrade();
    Door::Tcp(file.stays).visit().unwrap();
    succession.stop();
}

/// Ends those who wait for it, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
