//! Upgrades that fail, at every stage: the running process serves as before, says why, and leaves no
//! process behind.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::backend::Server;
use crate::eventually::{until, until_file};
use crate::succession::{Door, Load, Start, Succession};
use crate::upgrade::file;

/// How an upgrade fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The new configuration is wrong.
    Config,
    /// There is no binary any more.
    NoBinary,
    /// The new process ends at once.
    Exits,
    /// It never says anything.
    Hangs,
    /// It speaks another protocol.
    Version,
    /// It says what nobody understands.
    Babbles,
    /// It is killed when it has the sockets.
    KilledWithSockets,
    /// It is killed when it was told to accept.
    KilledAtGo,
}

pub(crate) const FAILURES: [Failure; 8] = [
    Failure::Config,
    Failure::Exits,
    Failure::Hangs,
    Failure::Version,
    Failure::KilledWithSockets,
    Failure::KilledAtGo,
    Failure::NoBinary,
    Failure::Babbles,
];

/// What they have in common that speak the protocol: taking what is sent.
const TAKE: &str = r#"#!/usr/bin/env python3
import json, os, socket
s = socket.socket(fileno=int(os.environ["RINGWAY_UPGRADE_FD"]))
def say(**what):
    s.send(json.dumps(what).encode())
def hear():
    data, fds, _, _ = socket.recv_fds(s, 1 << 20, 253)
    return json.loads(data), fds
manifest, _ = hear()
assert manifest["protocol"] == 1, manifest
taken = 0
def take_all():
    global taken
    while taken < manifest["sockets"]:
        message, fds = hear()
        assert len(message["entries"]) == len(fds) > 0
        taken += len(fds)
"#;

/// Makes an upgrade fail in this way, and puts everything back.
pub(crate) fn cause(succession: &Succession, failure: Failure, text: &str) {
    let script = |end: &str| succession.replace_binary(&format!("{TAKE}{end}"));
    let killed = "os.kill(os.getpid(), 9)\n";
    let (status, words) = match failure {
        Failure::Config => {
            succession.write(&format!("{text}\nlisteners_: {{}}\n"));
            (422, "ringway.yaml:")
        }
        Failure::NoBinary => {
            fs::remove_file(succession.place.path().join("ringway")).unwrap();
            (502, "cannot be started")
        }
        Failure::Exits => {
            succession.replace_binary("#!/bin/sh\nexit 3\n");
            (502, "exit status: 3")
        }
        Failure::Hangs => {
            succession.replace_binary("#!/bin/sh\nexec sleep 600\n");
            (502, "not prepared within 11 s")
        }
        Failure::Version => {
            script("say(say='refused', protocol=2, reasons=['protocol 1 is too old'])\n");
            (422, "protocol 1 is too old")
        }
        Failure::Babbles => {
            script("take_all()\nsay(hello='world')\n");
            (502, "something else")
        }
        Failure::KilledWithSockets => {
            script(&format!("take_all()\n{killed}"));
            (502, "signal: 9")
        }
        Failure::KilledAtGo => {
            let end = "take_all()\nsay(say='prepared', protocol=1, version='9')\nassert hear()[0] == {'say': 'go'}\n";
            script(&format!("{end}{killed}"));
            (502, "signal: 9")
        }
    };
    let said = succession.fail(status);
    assert!(said.contains(words), "{failure:?}: {said}");
    succession.restore_binary();
    succession.write(text);
}

/// With a deadline that a slow machine does not meet by itself, and one that is later than that of any
/// other request: an answer that takes long comes all the same.
pub(crate) fn eleven_seconds() -> Start<'static> {
    Start {
        args: &["--upgrade-timeout", "11s"],
        ..Start::default()
    }
}

const ANY: &str = "'127.0.0.1:0'";

#[test]
fn every_failure_is_told_and_changes_nothing() {
    let server = Server::echo(b'a');
    let text = file(&server, 2, ANY, "");
    let mut succession = Succession::start(&text, &eleven_seconds());
    let first = succession.serving();
    let door = Door::of(&succession.address(0, 0));
    for failure in FAILURES {
        cause(&succession, failure, &text);
        door.visit().unwrap();
    }
    assert_eq!(succession.serving(), first);
    assert_eq!(
        succession.log().matches("upgrade failed").count(),
        FAILURES.len()
    );
    // And the next one works.
    succession.upgrade();
    door.visit().unwrap();
    succession.stop();
}

#[test]
fn an_address_that_is_taken_fails_it() {
    let server = Server::echo(b'a');
    let text = file(&server, 1, ANY, "");
    let mut succession = Succession::start(&text, &eleven_seconds());
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    succession.write(&file(&server, 1, &format!("{ANY}, '{address}'"), ""));
    let said = succession.fail(422);
    assert!(
        said.contains(&address.to_string()) && said.contains("in use"),
        "{said}"
    );
    Door::of(&succession.address(0, 0)).visit().unwrap();
    succession.stop();
}

#[test]
fn the_command_tells_the_reason_with_its_exit_code() {
    let server = Server::echo(b'a');
    let text = file(&server, 1, ANY, "");
    let mut succession = Succession::start(&text, &eleven_seconds());
    let admin = format!("unix:{}", succession.admin.path.display());
    let run = || command(&["--admin", &admin]);
    succession.write("nonsense: 1\n");
    let (code, said) = run();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("ringway.yaml:1:1") && said.contains("nonsense"),
        "{said}"
    );
    succession.write(&text);
    let (code, said) = run();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("upgraded"), "{said}");
    succession.pids.push(succession.serving());
    succession.stop();
}

/// Where changes need a token an upgrade does, too, of every process of the line.
#[test]
fn the_command_brings_the_token() {
    let server = Server::echo(b'a');
    let tokens = TempDir::new().unwrap();
    let token = |name: &str| {
        let path = tokens.path().join(name);
        fs::write(&path, format!("{name}-of-two-tokens\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (token("right"), token("wrong"));
    let with = format!("admin.sock', token_file: '{right}'");
    let text = file(&server, 1, ANY, "").replace("admin.sock'", &with);
    let mut succession = Succession::start(&text, &eleven_seconds());
    let admin = format!("unix:{}", succession.admin.path.display());
    let config = succession.place.config();
    // The token as it is given, or that of the file.
    let given = ["--admin", &admin, "--token-file", &right];
    for way in [&given[..], &["--config", config.to_str().unwrap()]] {
        let before = succession.serving();
        let (code, said) = command(&["--admin", &admin]);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("401") && said.contains("--token-file"),
            "{said}"
        );
        let (code, said) = command(&["--admin", &admin, "--token-file", &wrong]);
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(succession.serving(), before);
        let (code, said) = command(way);
        assert_eq!(code, Some(0), "{said}");
        let pid = succession.serving();
        assert_ne!(pid, before);
        succession.pids.push(pid);
    }
    succession.stop();
}

/// What `ringway upgrade` does with these arguments: its exit code, and all it says.
fn command(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    let output = command.arg("upgrade").args(args).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

#[test]
fn a_second_one_meanwhile_is_refused_and_a_drain_ends_the_first() {
    let server = Server::echo(b'a');
    let mut succession = Succession::start(&file(&server, 1, ANY, ""), &Start::default());
    let sleeper = "#!/bin/sh\necho here > DIR/here\nexec sleep 600\n";
    let dir = succession.place.path().to_owned();
    succession.replace_binary(&sleeper.replace("DIR", dir.to_str().unwrap()));
    thread::scope(|scope| {
        let first = scope.spawn(|| succession.ask());
        until_file(&dir.join("here"), "it has begun", |text| !text.is_empty());
        let second = succession.ask();
        assert_eq!(second.status, 409, "{}", second.body);
        assert!(second.body.contains("under way"), "{}", second.body);
        Door::of(&succession.address(0, 0)).visit().unwrap();
        kill_process(succession.pids[0], Signal::TERM).unwrap();
        let first = first.join().unwrap();
        assert_eq!(first.status, 502, "{}", first.body);
        assert!(first.body.contains("drain"), "{}", first.body);
    });
    let pid = succession.pids[0];
    assert_eq!(succession.ended(pid), Some(0));
}

/// What is queued while nobody accepts yet is what would be lost.
#[test]
fn sockets_that_wait_for_their_turn_swallow_no_connection() {
    let server = Server::echo(b'a');
    let text = file(&server, 1, ANY, "");
    let mut succession = Succession::start(&text, &eleven_seconds());
    let door = Door::of(&succession.address(0, 0));
    // Three more workers bind beside the one there is, and then the process fails for another reason:
    // an admin endpoint that cannot be.
    let wider = file(&server, 4, ANY, "").replace("admin.sock", "no/such/dir/admin.sock");
    let load = Load::on(&[door.clone(), door]);
    for _ in 0..10 {
        load.until_served(20);
        succession.write(&wider);
        let said = succession.fail(422);
        assert!(said.contains("no/such/dir"), "{said}");
    }
    load.end();
    succession.stop();
}

/// The first process of a container would take it along.
#[test]
fn the_first_process_of_a_container_says_why_not() {
    if !rustix::process::getuid().is_root() {
        eprintln!("not tested: only root can make a namespace of processes here");
        return;
    }
    let server = Server::echo(b'a');
    let start = Start {
        below: &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
        ..Start::default()
    };
    let mut succession = Succession::launch(&file(&server, 1, ANY, ""), &start);
    succession.until_ready();
    let answer = succession.ask();
    assert_eq!(answer.status, 501, "{}", answer.body);
    assert!(answer.body.contains("PID 1"), "{}", answer.body);
    Door::of(&succession.address(0, 0)).visit().unwrap();
    let drained = succession.admin.post("/v1/drain").unwrap();
    assert_eq!(drained.status, 202);
    until("it has ended", || succession.admin.get("/livez").is_err());
}
