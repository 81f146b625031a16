//! A configuration on a file system that does not answer: whoever asks is told so, what needs no file goes on, and
//! no reload after it is lost.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use crate::backend::Server;
use crate::eventually::{PATIENCE, until};
use crate::instance::Ringway;
use crate::peers::{connect, read_exactly};
use crate::process::Launch;
use crate::setup::Setup;

/// So many threads are left to a file system that does not answer.
const LEFT_MAX: usize = 3;

fn greeting(ringway: &Ringway) -> u8 {
    read_exactly::<1>(connect(ringway.address()))[0]
}

/// A reload that nothing comes of, and what is said of it.
fn reload_unanswered(ringway: &Ringway) -> String {
    let answer = ringway.admin.post("/v1/reload").unwrap();
    assert_eq!(answer.status, 504, "{}", answer.body);
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    answer["error"].as_str().unwrap().to_owned()
}

/// Threads of the balancer that wait inside that file system.
fn waiting(ringway: &Ringway) -> usize {
    let tasks = format!("/proc/{}/task", ringway.process.pid().as_raw_nonzero());
    let tasks = fs::read_dir(tasks).unwrap();
    let waits = |task: &Path| {
        let at = fs::read_to_string(task.join("stack")).unwrap_or_default();
        // One asks, and others wait for what it is told.
        ["fuse", "walk_component"]
            .iter()
            .any(|way| at.contains(way))
    };
    tasks
        .filter(|task| waits(&task.as_ref().unwrap().path()))
        .count()
}

/// A request that is sent, and not answered yet.
fn sent(ringway: &Ringway, method: &str, path: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(&ringway.admin.path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}");
    write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}").unwrap();
    stream
}

/// Mounts what [`Launch::Hanging`] does, and lets it go at once.
const TRIAL: &str = "exec 3<>/dev/fuse && command -v mkfifo timeout >/dev/null &&
mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none .";

fn can_hang() -> bool {
    let somewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    let command = command.args(["--mount", "sh", "-c", TRIAL]);
    let command = command.current_dir(somewhere.path());
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = geteuid().is_root() && status.is_ok_and(|status| status.success());
    if !can {
        eprintln!("not tested: needs root, unshare, mount, and /dev/fuse");
    }
    can
}

/// Makes the configuration another file.
fn lead(dir: &Path, to: &str) {
    symlink(to, dir.join("next")).unwrap();
    fs::rename(dir.join("next"), dir.join("ringway.yaml")).unwrap();
}

/// The file system answers from now on.
fn let_go(dir: &Path) {
    let path = dir.join("let-go");
    drop(fs::OpenOptions::new().write(true).open(path).unwrap());
}

/// What waits behind a reload when a drain begins is refused when that one ends, here by a file that is none.
#[test]
fn all_that_waits_for_its_turn_when_a_drain_begins_is_refused() {
    if !can_hang() {
        return;
    }
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let setup = Setup::to([a.address(), b.address()]).shutdown("{delay: 30s, drain: 30s}");
    let mut ringway = setup.launch_as(Launch::Hanging).start();
    let dir = ringway.dir().to_owned();
    lead(&dir, "dead/ringway.yaml");
    let reload = sent(&ringway, "POST", "/v1/reload", "");
    until("it waits for the file", || waiting(&ringway) == 1);
    let waiting = [a.address(), b.address()].map(|backend| {
        let path = format!("/v1/pools/p/backends/{backend}");
        sent(&ringway, "PATCH", &path, r#"{"weight": 2}"#)
    });
    // Whoever came before this has been heard.
    assert_eq!(ringway.admin.get("/readyz").unwrap().status, 200);
    ringway.signal(Signal::TERM);
    until("it drains", || {
        ringway.admin.get("/readyz").unwrap().status == 503
    });
    let_go(&dir);
    assert_eq!(read_exactly::<12>(reload), *b"HTTP/1.1 422");
    for answer in waiting {
        assert_eq!(read_exactly::<12>(answer), *b"HTTP/1.1 409");
    }
    ringway.signal(Signal::TERM);
    assert_eq!(ringway.process.end().code, Some(1));
}

#[test]
fn a_file_that_does_not_answer_changes_nothing_and_holds_up_nothing_else() {
    if !can_hang() {
        return;
    }
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let ringway = Setup::to([a.address()]).launch_as(Launch::Hanging).start();
    let dir = ringway.dir().to_owned();
    lead(&dir, "dead/ringway.yaml");
    for _ in 0..LEFT_MAX {
        let said = reload_unanswered(&ringway);
        assert!(said.contains("has not answered for"), "{said}");
    }
    // Neither those who ask again and again nor those who ask for something else wait for it.
    for _ in 0..3 {
        let said = reload_unanswered(&ringway);
        assert!(said.contains("still does not answer"), "{said}");
    }
    assert_eq!(waiting(&ringway), LEFT_MAX);
    let path = format!("/v1/pools/p/backends/{}", a.address());
    for weight in [7, 1] {
        let answer = ringway
            .admin
            .patch(&path, &json!({"weight": weight}).to_string());
        assert_eq!(answer.unwrap().status, 200);
    }
    assert_eq!(greeting(&ringway), b'a');
    let failures = ringway
        .metrics()
        .sum("config_reloads_total", &[("result", "failure")]);
    assert_eq!(failures, LEFT_MAX as i64);
    // What a signal asks for comes when it can.
    ringway.rewrite(&Setup::to([b.address()]));
    ringway.signal(Signal::HUP);
    ringway.signal(Signal::HUP);
    let said = reload_unanswered(&ringway);
    assert!(said.contains("still does not answer"), "{said}");
    let_go(&dir);
    until("what the signal asked for runs", || {
        greeting(&ringway) == b'b'
    });
    assert_eq!(ringway.reload(), [""; 0]);
    assert_eq!(waiting(&ringway), 0);
}

/// The way to the file leads elsewhere while what was asked before is still there.
#[test]
fn a_file_that_answers_is_applied_beside_one_that_does_not() {
    if !can_hang() {
        return;
    }
    let [a, b, c] = [b'a', b'b', b'c'].map(Server::echo);
    let ringway = Setup::to([a.address()]).launch_as(Launch::Hanging).start();
    let dir = ringway.dir().to_owned();
    lead(&dir, "dead/ringway.yaml");
    for hung in 1..LEFT_MAX {
        let said = reload_unanswered(&ringway);
        assert!(said.contains("has not answered for"), "{said}");
        assert_eq!(waiting(&ringway), hung);
    }
    fs::write(
        dir.join("good.yaml"),
        ringway.file(&Setup::to([b.address()])),
    )
    .unwrap();
    lead(&dir, "good.yaml");
    assert_ne!(ringway.reload(), [""; 0]);
    assert_eq!(
        (greeting(&ringway), waiting(&ringway)),
        (b'b', LEFT_MAX - 1)
    );
    // A bounded number is left there.
    lead(&dir, "dead/ringway.yaml");
    assert!(reload_unanswered(&ringway).contains("has not answered for"));
    for _ in 0..3 {
        let said = reload_unanswered(&ringway);
        assert!(said.contains("still does not answer"), "{said}");
    }
    assert_eq!(waiting(&ringway), LEFT_MAX);
    fs::write(
        dir.join("good.yaml"),
        ringway.file(&Setup::to([c.address()])),
    )
    .unwrap();
    lead(&dir, "good.yaml");
    ringway.signal(Signal::HUP);
    let_go(&dir);
    until("what the signal asked for runs", || {
        greeting(&ringway) == b'c'
    });
    until("nobody is there any more", || waiting(&ringway) == 0);
    assert_eq!(ringway.reload(), [""; 0]);
}
