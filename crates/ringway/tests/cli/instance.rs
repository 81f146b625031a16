//! `ringway run` and `ringway proxy` with the commands that talk to them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use rustix::process::Signal;

use crate::process::{Background, ConfigFolder, ringway};

/// A backend that greets every client and closes.
fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A health check has left before the greeting.
            let _ = stream.and_then(|mut stream| stream.write_all(b"hello"));
        }
    });
    address
}

fn config(listen: &str, backend: SocketAddr, admin: &str) -> ConfigFolder {
    ConfigFolder::new(&format!(
        "workers: 1\nlisteners: {{web: {{bind: '{listen}', pool: app}}}}\n\
         pools: {{app: {{backends: [{{address: '{backend}'}}]}}}}\n\
         admin: {{bind: '{admin}'}}\nlog: {{format: json}}\nshutdown: {{drain: 1s}}\n"
    ))
}

/// The address in a JSON log line.
fn address_in(line: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(line).expect("a JSON log line");
    json["address"].as_str().expect("an address").to_owned()
}

fn greeting(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the balancer accepts");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("the greeting and an end");
    text
}

#[test]
fn it_runs_tells_its_status_and_ends_at_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = config("127.0.0.1:0", greeter(), "127.0.0.1:0");
        let mut running = Background::start(&["run", "-c", folder.file()]);
        let listen = address_in(&running.line_with("\"listening\""));
        let admin = address_in(&running.line_with("\"admin endpoint\""));
        assert_eq!(greeting(&listen), "hello");

        let status = ringway(&["status", "--admin", &admin]);
        assert_eq!(status.code, Some(0), "{}", status.err);
        assert!(status.out.contains(&listen), "{}", status.out);
        let json = ringway(&["status", "--admin", &admin, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
        assert_eq!(json["listeners"][0]["addresses"][0], *listen);
        assert_eq!(json["listeners"][0]["connections_total"], 1);

        running.signal(signal);
        let (lines, ended) = running.end();
        assert_eq!(ended.code(), Some(0), "{signal:?}: {lines:#?}");
    }
}

#[test]
fn status_and_drain_find_a_unix_socket_through_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = format!("unix:{}", folder.path().join("admin.sock").display());
    let folder = config("127.0.0.1:0", greeter(), &admin);
    let mut running = Background::start(&["run", "-c", folder.file()]);
    running.line_with("\"admin endpoint\"");

    let status = ringway(&["status", "-c", folder.file()]);
    assert_eq!(status.code, Some(0), "{}", status.err);
    assert!(status.out.starts_with("ringway "), "{}", status.out);
    let drain = ringway(&["drain", "-c", folder.file()]);
    assert_eq!(drain.code, Some(0), "{}", drain.err);
    let (lines, ended) = running.end();
    assert_eq!(ended.code(), Some(0), "{lines:#?}");
}

#[test]
fn a_proxy_needs_no_file() {
    let to = greeter().to_string();
    let arguments = [
        "proxy",
        "--listen",
        "127.0.0.1:0",
        "--to",
        &to,
        "--admin",
        "off",
    ];
    let mut running = Background::start(&[&arguments[..], &["--workers", "1"]].concat());
    let line = running.line_with("listening");
    let (_, address) = line.split_once("address=").expect("an address");
    assert_eq!(greeting(address.trim_matches('"')), "hello");
    running.signal(Signal::TERM);
    let (lines, ended) = running.end();
    assert_eq!(ended.code(), Some(0), "{lines:#?}");
}

#[test]
fn a_port_in_use_is_exit_code_1_and_names_listener_and_address() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = config(&address, greeter(), "127.0.0.1:0");
    let ended = ringway(&["run", "-c", folder.file()]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let start = format!("ringway: listener `web`: {address} is in use");
    assert!(ended.err.starts_with(&start), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);

    let folder = config("127.0.0.1:0", greeter(), &address);
    let ended = ringway(&["run", "-c", folder.file()]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let start = format!("ringway: admin endpoint: {address} is in use");
    assert!(ended.err.starts_with(&start), "{}", ended.err);
}

#[test]
fn nobody_to_talk_to_is_exit_code_1() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = closed.local_addr().expect("bound").to_string();
    drop(closed);
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = format!("unix:{}", folder.path().join("none.sock").display());
    // Accepts, and speaks something else.
    let other = greeter().to_string();
    for command in ["status", "drain"] {
        for (admin, words) in [
            (&address, "no instance answers at"),
            (&nowhere, "no instance answers at"),
            (&other, "is no admin endpoint of Ringway"),
        ] {
            let ended = ringway(&[command, "--admin", admin]);
            assert_eq!(ended.code, Some(1), "{command} {admin}: {}", ended.err);
            assert!(
                ended.err.contains(words) && ended.err.contains(admin),
                "{}",
                ended.err
            );
            assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        }
    }
}

#[test]
fn a_reload_says_what_changed_and_exits_as_its_answer_says() {
    let folder = config("127.0.0.1:0", greeter(), "127.0.0.1:0");
    let mut running = Background::start(&["run", "-c", folder.file()]);
    let admin = address_in(&running.line_with("\"admin endpoint\""));
    let text = std::fs::read_to_string(folder.file()).expect("the file");
    let reload = |text: &str| {
        std::fs::write(folder.file(), text).expect("the file can be written");
        ringway(&["reload", "--admin", &admin])
    };
    let changed = reload(&text.replace("drain: 1s", "drain: 2s"));
    assert_eq!(changed.code, Some(0), "{}", changed.err);
    assert!(
        changed.out.contains("shutdown.drain: 1s -> 2s\n"),
        "{}",
        changed.out
    );
    let invalid = reload(&format!("{text}\nnothing: 1\n"));
    assert_eq!(invalid.code, Some(78), "{}", invalid.err);
    assert!(invalid.err.contains(":8:1: nothing"), "{}", invalid.err);
    let fixed = reload(&text.replace("format: json", "format: text"));
    assert_eq!(fixed.code, Some(1), "{}", fixed.err);
    assert!(
        fixed.err.contains("log.format: json -> text"),
        "{}",
        fixed.err
    );
    let more = reload(&text.replace("workers: 1", "workers: 2"));
    assert_eq!(more.code, Some(0), "{}", more.err);
    assert!(more.out.contains("workers: 1 -> 2\n"), "{}", more.out);
    running.signal(Signal::TERM);
    let (lines, ended) = running.end();
    assert_eq!(ended.code(), Some(0), "{lines:#?}");
    let gone = ringway(&["reload", "--admin", &admin]);
    assert_eq!(gone.code, Some(1), "{}", gone.err);
}
