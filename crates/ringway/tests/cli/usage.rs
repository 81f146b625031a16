//! Help, version and wrong usage.

use crate::process::{RINGWAY, ringway, to_end};
use std::process::{Command, Stdio};

const COMMANDS: [&str; 11] = [
    "run",
    "check",
    "schema",
    "proxy",
    "demo",
    "doctor",
    "status",
    "drain",
    "explain",
    "completions",
    "man",
];

#[test]
fn every_command_explains_itself_with_an_example() {
    let all = ringway(&["--help"]);
    assert_eq!(all.code, Some(0));
    assert!(all.out.contains("Exit codes: 0"), "{}", all.out);
    for command in COMMANDS {
        assert!(
            all.out.contains(&format!("\n  {command} ")),
            "{command}: {}",
            all.out
        );
        let help = ringway(&[command, "--help"]);
        assert_eq!(help.code, Some(0), "{command}: {}", help.err);
        assert!(
            help.out.contains(&format!("\nExample: ringway {command}")),
            "{}",
            help.out
        );
        assert!(help.err.is_empty(), "{command}: {}", help.err);
    }
}

#[test]
fn the_version_names_the_commit() {
    let version = ringway(&["--version"]);
    assert_eq!(version.code, Some(0));
    let commit = version
        .out
        .trim_end()
        .strip_prefix(concat!("ringway ", env!("CARGO_PKG_VERSION"), " ("))
        .and_then(|rest| rest.strip_suffix(')'));
    assert!(
        commit.is_some_and(|commit| !commit.is_empty()),
        "{}",
        version.out
    );
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let to = ["--to", "127.0.0.1:9"];
    let proxy = |arguments: &[&'static str]| [&["proxy"], arguments, &to].concat();
    for (arguments, words) in [
        (vec![], "Usage: ringway"),
        (vec!["--unknown"], "--unknown"),
        (vec!["walk"], "walk"),
        (vec!["run"], "--config"),
        (vec!["check", "-c"], "--config"),
        (vec!["doctor", "-x"], "-x"),
        (vec!["status", "--admin", "nowhere"], "is a name"),
        (
            vec!["status", "--admin", "127.0.0.1:9", "-c", "x"],
            "cannot be used with",
        ),
        (vec!["demo", "--duration", "soon"], "`soon` is no time"),
        (
            vec!["demo", "--listen", "unix:/x"],
            "an IP address and a port",
        ),
        (
            vec!["demo", "--admin", "0.0.0.0:1"],
            "reachable from other machines",
        ),
        (proxy(&[]), "--listen"),
        (
            proxy(&["--listen", ":8080"]),
            "write `0.0.0.0:8080` or `127.0.0.1:8080`",
        ),
        (proxy(&["--listen", "127.0.0.1"]), "has no port"),
        (proxy(&["--listen", "127.0.0.1:http"]), "is no port"),
        (proxy(&["--listen", "127.0.0.1:9"]), "connect to itself"),
        (
            proxy(&["--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"]),
            "given twice",
        ),
        (
            proxy(&["--listen", "127.0.0.1:0", "--to", "[::1]:0"]),
            "port 0 cannot be",
        ),
        (
            proxy(&["--listen", "127.0.0.1:0", "--workers", "0"]),
            "`auto` or a number",
        ),
        (
            proxy(&["--listen", "127.0.0.1:0", "--balance", "best"]),
            "least_connections",
        ),
        (
            proxy(&["--listen", "127.0.0.1:0", "--health", "http"]),
            "possible values: tcp, off",
        ),
        (
            proxy(&["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:1"]),
            "other machines",
        ),
    ] {
        let ended = ringway(&arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{arguments:?}: {}", ended.err);
        assert!(ended.out.is_empty(), "{arguments:?}: {}", ended.out);
    }
}

#[test]
fn top_needs_a_terminal() {
    let ended = ringway(&["top", "--admin", "127.0.0.1:9"]);
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("needs a terminal"), "{}", ended.err);
    assert!(ended.out.is_empty(), "{}", ended.out);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(RINGWAY)
        .arg("schema")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let output = Command::new(RINGWAY).arg("schema").stdout(full).output();
    let output = output.expect("the binary can be started");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output: "));
}

#[test]
fn the_doctor_prints_a_line_each_and_the_same_as_json() {
    let lines = ringway(&["doctor"]);
    let mut command = Command::new(RINGWAY);
    command.args(["doctor", "--json"]);
    let json = to_end(command);
    assert_eq!(lines.code, json.code);
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(json["usable"], lines.code == Some(0));
    let findings = json["findings"].as_array().expect("a list");
    assert_eq!(
        lines.out.lines().count(),
        findings.len() + 1,
        "{}",
        lines.out
    );
    for name in [
        "io_uring",
        "RLIMIT_NOFILE",
        "pipes",
        "net.core.somaxconn",
        "seccomp",
        "CPUs",
    ] {
        assert!(
            findings.iter().any(|finding| finding["name"] == name),
            "{name}"
        );
        assert!(lines.out.contains(name), "{name}: {}", lines.out);
    }
}
