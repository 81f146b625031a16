//! What cannot work is refused at start: with the exit code of its kind, in words that say what,
//! where and what to do.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use crate::backend::closed_address;
use crate::process::{Ended, Launch, Process, Workplace};
use crate::setup::Setup;

fn refused(setup: &Setup) -> Ended {
    let ended = setup.launch().end();
    // What ended by itself never said that it accepts connections.
    assert!(!ended.log.contains("accepting"), "{}", ended.log);
    ended
}

fn refused_file(make: impl FnOnce(&Path)) -> Ended {
    let place = Workplace::new();
    make(&place.config());
    Process::launch(place, Launch::Plain).end()
}

fn assert_says(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.log);
    for word in words {
        assert!(ended.log.contains(word), "no {word} in: {}", ended.log);
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for workers in [1, 4] {
        let setup = Setup::to([closed_address()])
            .workers(workers)
            .binds(&[&address]);
        assert_says(&refused(&setup), 1, &["listener `l`", &address, "in use"]);
    }
}

/// Sockets that share a port among workers must not share it among processes.
#[test]
fn the_port_of_another_instance_is_in_use() {
    let first = Setup::to([closed_address()]).workers(2).start();
    let address = first.address().to_string();
    let setup = Setup::to([closed_address()]).workers(2).binds(&[&address]);
    assert_says(&refused(&setup), 1, &["listener `l`", &address, "in use"]);
}

#[test]
fn an_address_of_another_host_is_named() {
    // TEST-NET-1 of RFC 5737.
    let setup = Setup::to([closed_address()]).binds(&["127.0.0.1:0", "192.0.2.1:8080"]);
    assert_says(
        &refused(&setup),
        1,
        &[
            "listener `l`",
            "192.0.2.1:8080",
            "not an address of this host",
        ],
    );
}

#[test]
fn a_socket_in_no_directory_is_named() {
    let setup = Setup::to([closed_address()]).binds(&["unix:DIR/no/such/front.sock"]);
    assert_says(&refused(&setup), 1, &["no/such/front.sock", "directory"]);
}

#[test]
fn an_access_log_that_cannot_be_opened_is_named() {
    let setup = Setup::to([closed_address()]).access_log("DIR/no/such/access.log");
    assert_says(&refused(&setup), 1, &["no/such/access.log", "log.access"]);
}

#[test]
fn a_backend_must_be_an_address() {
    let setup = Setup::to(["backend.example.com:80"]);
    assert_says(
        &refused(&setup),
        78,
        &["ringway.yaml:", "address", "backend.example.com"],
    );
}

#[test]
fn a_cpu_that_is_not_there_is_named() {
    let place = Workplace::new();
    let none: [SocketAddr; 0] = [];
    let text = Setup::to(none)
        .backend("127.0.0.1:9", "weight: 1")
        .file(place.path());
    place.write_config(&text.replace("workers: 1", "workers: [0, 1000]"));
    assert_says(
        &Process::launch(place, Launch::Plain).end(),
        1,
        &["CPU 1000", "workers"],
    );
}

#[test]
fn a_file_that_is_none_is_named() {
    assert_says(&refused_file(|_| {}), 78, &["ringway.yaml", "No such file"]);
    let directory = |path: &Path| fs::create_dir(path).unwrap();
    assert_says(&refused_file(directory), 78, &["ringway.yaml", "directory"]);
    let binary = |path: &Path| fs::write(path, b"workers: \xff\xfe").unwrap();
    assert_says(&refused_file(binary), 78, &["ringway.yaml:1:10", "UTF-8"]);
    let empty = |path: &Path| fs::write(path, "").unwrap();
    assert_says(&refused_file(empty), 78, &["ringway.yaml", "listeners"]);
}

#[test]
fn a_hundred_megabytes_are_not_read() {
    let sparse = |path: &Path| File::create(path).unwrap().set_len(100 << 20).unwrap();
    assert_says(&refused_file(sparse), 78, &["ringway.yaml", "bytes"]);
    let full = |path: &Path| fs::write(path, "# a comment\n".repeat(100 << 20 >> 3)).unwrap();
    assert_says(&refused_file(full), 78, &["ringway.yaml", "bytes"]);
}

#[test]
fn every_mistake_is_named_at_once() {
    let setup = Setup::to([closed_address()])
        .listener("relai: auto")
        .pool("balanze: random");
    let ended = refused(&setup);
    assert_says(&ended, 78, &["relai", "`relay`", "balanze", "`balance`"]);
}

/// Nothing is accepted and ignored.
#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    let setup = Setup::to([closed_address()])
        .listener("protocol: udp")
        .pool("discover: {dns: a.example}");
    assert_says(
        &refused(&setup),
        78,
        &["protocol", "discover", "not supported by this version"],
    );
}
