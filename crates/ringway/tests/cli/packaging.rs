//! `ringway completions` and `ringway man`, judged by the programs that read them. A program that is
//! missing is named, and what it would have judged is not.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{Ended, ringway, to_end};

/// Whether `program` can be started here.
fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let is_there = command.status().is_ok();
    if !is_there {
        eprintln!("skipped: {program} is not installed");
    }
    is_there
}

/// Runs `program` to its end.
fn judged(program: &str, options: &[&str], words: &[&str]) -> Ended {
    let mut command = Command::new(program);
    command.args(options).args(words);
    to_end(command)
}

fn saved(folder: &Path, arguments: &[&str]) -> String {
    let ended = ringway(arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.err);
    assert!(ended.err.is_empty(), "{arguments:?}: {}", ended.err);
    let path = folder.join("saved");
    std::fs::write(&path, &ended.out).expect("written");
    path.display().to_string()
}

#[test]
fn each_shell_reads_its_script() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish"] {
        let script = saved(folder.path(), &["completions", shell]);
        if is_there(shell) {
            let ended = judged(shell, &["-n"], &[&script]);
            assert_eq!(ended.code, Some(0), "{shell}: {}", ended.err);
            assert!(ended.err.is_empty(), "{shell}: {}", ended.err);
        }
    }
}

/// As readline asks: the words so far, and which of them is being typed.
const COMPLETE: &str = r#"
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
_ringway ringway "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_commands_flags_and_values() {
    if !is_there("bash") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = saved(folder.path(), &["completions", "bash"]);
    for (words, due) in [
        (&["ringway", "st"][..], &["status"][..]),
        (&["ringway", "d"], &["demo", "doctor", "drain"]),
        (&["ringway", "up"], &["upgrade"]),
        (&["ringway", "ba"], &["backend"]),
        (&["ringway", "proxy", "--li"], &["--listen"]),
        (&["ringway", "proxy", "--health", ""], &["tcp", "off"]),
        (&["ringway", "proxy", "--balance", "ma"], &["maglev"]),
    ] {
        let options = ["--norc", "-c", COMPLETE, "bash", &script];
        let ended = judged("bash", &options, words);
        let offered: Vec<&str> = ended.out.split_whitespace().collect();
        assert_eq!(offered, due, "{words:?}: {}", ended.err);
    }
}

#[test]
fn every_command_has_a_page_that_formats_without_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = ringway(&["man", &folder.path().display().to_string()]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let mut pages: Vec<String> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    pages.sort();
    let due = [
        "ringway-backend.1",
        "ringway-check.1",
        "ringway-completions.1",
        "ringway-demo.1",
        "ringway-doctor.1",
        "ringway-drain.1",
        "ringway-explain.1",
        "ringway-man.1",
        "ringway-proxy.1",
        "ringway-reload.1",
        "ringway-run.1",
        "ringway-schema.1",
        "ringway-status.1",
        "ringway-top.1",
        "ringway-upgrade.1",
        "ringway.1",
    ];
    assert_eq!(pages, due);
    for (program, options) in [
        ("groff", &["-man", "-ww", "-Tascii"][..]),
        ("mandoc", &["-Tlint", "-Werror"]),
    ] {
        if !is_there(program) {
            continue;
        }
        for page in due {
            let path = folder.path().join(page).display().to_string();
            let ended = judged(program, options, &[&path]);
            assert_eq!(ended.code, Some(0), "{program} {page}: {}", ended.err);
            assert!(ended.err.is_empty(), "{program} {page}: {}", ended.err);
            if program == "groff" {
                assert!(ended.out.contains("Example: "), "{page}: {}", ended.out);
            }
        }
    }
}

#[test]
fn one_page_goes_to_standard_output_and_a_folder_has_to_exist() {
    let ended = ringway(&["man"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains(".TH ringway 1"), "{}", ended.out);
    let ended = ringway(&["man", "/nowhere/at/all"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("`/nowhere/at/all`"), "{}", ended.err);
    assert!(ended.out.is_empty(), "{}", ended.out);
}

#[test]
fn a_shell_that_is_none_is_wrong_usage() {
    let ended = ringway(&["completions", "cobol"]);
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("bash"), "{}", ended.err);
}
