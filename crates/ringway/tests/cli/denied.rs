//! A kernel that refuses io_uring: the binary under a real seccomp filter. The filter is installed
//! by a few lines of Python, because prctl(2) cannot be called from safe Rust; without Python the
//! tests say so and check nothing.

use std::process::Command;

use crate::process::{ConfigFolder, Ended, RINGWAY, to_end};

/// Answers EPERM to io_uring_setup, as the default profiles of container engines do, then becomes
/// the command. Classic BPF: load the system call's number, compare it with 425 (the same on every
/// architecture), return errno or allow; see seccomp(2).
const FILTER: &str = r#"
import ctypes, os, struct, sys
EPERM, IO_URING_SETUP = 1, 425
ALLOW, ERRNO = 0x7fff0000, 0x00050000
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in [
    (0x20, 0, 0, 0), (0x15, 0, 1, IO_URING_SETUP), (0x06, 0, 0, ERRNO | EPERM), (0x06, 0, 0, ALLOW),
]))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVS, SET_SECCOMP, MODE_FILTER = 38, 22, 2
if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, MODE_FILTER, program, 0, 0):
    sys.exit("no filter: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Runs the binary under the filter; nothing if this machine has no way to.
fn denied(arguments: &[&str]) -> Option<Ended> {
    let python = Command::new("python3")
        .args(["-c", "import ctypes"])
        .output();
    if !python.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3 is needed to install a seccomp filter");
        return None;
    }
    let mut command = Command::new("python3");
    command.args(["-c", FILTER, RINGWAY]).args(arguments);
    let ended = to_end(command);
    assert!(!ended.err.starts_with("no filter"), "{}", ended.err);
    Some(ended)
}

fn assert_says_cause_and_remedy(ended: &Ended) {
    assert_eq!(ended.code, Some(69), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    for words in [
        "ringway: ",
        "io_uring_setup was denied (EPERM",
        "allow io_uring_setup",
    ] {
        assert!(ended.err.contains(words), "{words}: {}", ended.err);
    }
}

#[test]
fn run_and_proxy_and_demo_say_cause_and_remedy() {
    let folder = ConfigFolder::new(
        "listeners: {a: {bind: '127.0.0.1:0', pool: p}}\nadmin: {bind: off}\n\
         pools: {p: {backends: [{address: '127.0.0.1:9'}]}}\n",
    );
    let anywhere = ["--listen", "127.0.0.1:0"];
    for arguments in [
        vec!["run", "-c", folder.file()],
        [
            &["proxy", "--to", "127.0.0.1:9", "--admin", "off"][..],
            &anywhere,
        ]
        .concat(),
        [&["demo", "--admin", "127.0.0.1:0"][..], &anywhere].concat(),
    ] {
        let Some(ended) = denied(&arguments) else {
            return;
        };
        assert_says_cause_and_remedy(&ended);
        assert!(ended.out.is_empty(), "{}", ended.out);
    }
}

#[test]
fn the_doctor_says_the_same_and_goes_on() {
    let Some(ended) = denied(&["doctor"]) else {
        return;
    };
    assert_says_cause_and_remedy(&ended);
    let line = |name: &str| {
        let words = |line: &&str| line.split_whitespace().nth(1) == Some(name);
        ended.out.lines().find(words).unwrap_or_default()
    };
    assert!(line("io_uring").starts_with("missing "), "{}", ended.out);
    assert!(line("seccomp").contains("a filter"), "{}", ended.out);
    assert!(!line("net.core.somaxconn").is_empty(), "{}", ended.out);
    assert!(
        ended.out.ends_with("`ringway run` cannot work here.\n"),
        "{}",
        ended.out
    );
}
