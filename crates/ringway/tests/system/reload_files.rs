//! Files that cannot be run, that are being written, or that change by a link: what is refused changes
//! nothing, and what is half there is never applied.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::backend::{Backend, Server};
use crate::eventually::{until, until_file, until_is};
use crate::instance::Ringway;
use crate::peers::{connect, read_exactly};
use crate::process::Launch;
use crate::setup::Setup;

fn greeting(ringway: &Ringway) -> u8 {
    read_exactly::<1>(connect(ringway.address()))[0]
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_changes_nothing() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let taken = Backend::new();
    let setup = Setup::to([a.address()]).workers(2);
    let ringway = setup.clone().start();
    let (good, path) = (ringway.file(&setup), ringway.dir().join("ringway.yaml"));
    let two = |at: usize, text: &str| {
        let mut lines: Vec<&str> = good.lines().collect();
        lines.insert(at, text);
        lines.join("\n")
    };
    let huge = format!("{good}# {}", "x".repeat(9 * 1024 * 1024));
    let port = format!("      - \"{}\"", taken.address());
    let cases = [
        ("listeners: [".to_owned(), "ringway.yaml:1:"),
        (two(1, "listner: {}"), "did you mean"),
        (good.replace("pool: p\n", "pool: q\n"), "ringway.yaml:6:"),
        (huge, "bytes"),
        (two(4, &port), "in use"),
        (good.replace("admin.sock", "other.sock"), "admin.bind"),
        (
            good.replace("admin: {", "admin: {token_file: /run/token, "),
            "admin.token_file",
        ),
        (good.replace("format: json", "format: text"), "log.format"),
        (
            good.replace("access: \"off\"", "access: \"/nowhere/at/all\""),
            "access log /nowhere",
        ),
    ];
    let descriptors = ringway.process.descriptors_kept();
    for (text, words) in &cases {
        ringway.rewrite_as(&text.replace(&a.address().to_string(), &b.address().to_string()));
        let refused = ringway.reload_refused();
        assert!(refused["error"].is_string(), "{refused}");
        assert!(
            refused["detail"].to_string().contains(words),
            "{words}: {refused}"
        );
        assert_eq!(greeting(&ringway), b'a', "{words}");
    }
    fs::remove_file(&path).unwrap();
    let refused = |words: &str| {
        let refused = ringway.reload_refused();
        assert!(refused["detail"].to_string().contains(words), "{refused}");
    };
    refused("cannot be read");
    Command::new("mkfifo").arg(&path).status().unwrap();
    refused("is a pipe");
    let reloads = ringway
        .metrics()
        .sum("config_reloads_total", &[("result", "failure")]);
    assert_eq!(reloads, cases.len() as i64 + 2);
    until_is("descriptors", descriptors, || {
        ringway.process.descriptors_kept()
    });
    // The next file that is right is run.
    ringway.reload_as(&Setup::to([b.address()]).workers(2));
    assert_eq!(greeting(&ringway), b'b');
}

#[test]
fn every_error_of_a_file_is_told() {
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]);
    let ringway = setup.clone().start();
    let wrong = ringway
        .file(&setup)
        .replace("relay: auto", "relay: fast\n    nothing: 1");
    ringway.rewrite_as(&wrong.replace("workers: 1", "workers: many"));
    let detail = ringway.reload_refused()["detail"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(detail.len(), 3, "{detail:?}");
    for line in detail {
        assert!(line.as_str().unwrap().contains("ringway.yaml:"), "{line}");
    }
}

#[test]
fn many_at_once_are_all_answered_and_the_last_file_runs() {
    let servers = [b'a', b'b'].map(Server::echo);
    let setup = |at: usize| Setup::to([servers[at].address()]).workers(2);
    let ringway = setup(0).start();
    for round in 1..4 {
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| ringway.reload());
            }
            ringway.rewrite(&setup(round % 2));
            for _ in 0..10 {
                scope.spawn(|| ringway.reload());
            }
        });
        assert_eq!(ringway.reload(), [""; 0]);
        assert_eq!(greeting(&ringway), [b'a', b'b'][round % 2]);
    }
}

#[test]
fn without_a_right_file_a_signal_does_no_harm() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()]).start();
    ringway.rewrite_as("listeners: [");
    ringway.signal(rustix::process::Signal::HUP);
    let is_told = |log: &str| log.contains("refused: nothing is changed");
    until_file(&ringway.dir().join("log"), "the refusal", is_told);
    assert_eq!(greeting(&ringway), b'a');
}

/// As the kubelet changes a ConfigMap: a link to a directory is renamed.
#[test]
fn a_watched_file_may_change_by_a_link() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let setup = Setup::to([a.address()]).launch_as(Launch::Watching);
    let ringway = setup.clone().start();
    let dir = ringway.dir().to_owned();
    let write = |name: &str, server: &Server| {
        fs::create_dir(dir.join(name)).unwrap();
        let text = ringway.file(&Setup::to([server.address()]));
        fs::write(dir.join(name).join("ringway.yaml"), text).unwrap();
        symlink(name, dir.join("next")).unwrap();
        fs::rename(dir.join("next"), dir.join("data")).unwrap();
    };
    write("1", &a);
    symlink("data/ringway.yaml", dir.join("link")).unwrap();
    fs::rename(dir.join("link"), dir.join("ringway.yaml")).unwrap();
    write("2", &b);
    until("the second one runs", || greeting(&ringway) == b'b');
    write("3", &a);
    until("the third one runs", || greeting(&ringway) == b'a');
}

#[test]
fn a_watched_file_that_is_half_written_changes_nothing_and_is_tried_again_when_it_is_whole() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let ringway = Setup::to([a.address()]).launch_as(Launch::Watching).start();
    let (path, log) = (
        ringway.dir().join("ringway.yaml"),
        ringway.dir().join("log"),
    );
    let whole = ringway.file(&Setup::to([b.address()]));
    let half = whole.split_at(whole.find("address").unwrap()).0;
    // The first look at the file as it was at start.
    until_file(&log, "the first look", |log| log.contains("--watch"));
    fs::write(&path, half).unwrap();
    until_file(&log, "the refusal", |log| {
        log.contains("refused: nothing is changed")
    });
    assert_eq!(greeting(&ringway), b'a');
    fs::write(&path, &whole).unwrap();
    until("the whole one runs", || greeting(&ringway) == b'b');
    let failures = ringway
        .metrics()
        .sum("config_reloads_total", &[("result", "failure")]);
    assert_eq!(failures, 1);
}
