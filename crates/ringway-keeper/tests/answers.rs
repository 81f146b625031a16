//! Keepers that look at answers, against real servers: each way in which one can answer or fail to, and the
//! reason that is told for it.
#![allow(
    clippy::unwrap_used,
    reason = "the lint's exception for tests leaves out their helpers"
)]

#[expect(dead_code, reason = "what only the other tests use")]
mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{Recorder, keeper, key, params, results, target};
use ringway_health::{
    Check, Excerpt, Health, ProbeFailure, ProbeResult, StatusRange, http_request,
};
use ringway_keeper::{ProbeAddress, Target, spawn};
use socket2::SockRef;

const SUCCESS: StatusRange = StatusRange { from: 200, to: 399 };

fn http() -> Check {
    Check::Http {
        request: http_request("/healthz", "app.example"),
        statuses: vec![SUCCESS],
    }
}

fn exchange(send: &[u8], expect: &[u8]) -> Check {
    Check::Exchange {
        send: send.to_vec(),
        expect: expect.to_vec(),
    }
}

const fn failed(failure: ProbeFailure) -> ProbeResult {
    ProbeResult::Failed(failure)
}

fn wrong(answer: &[u8]) -> ProbeResult {
    failed(ProbeFailure::WrongAnswer(Excerpt::of(answer)))
}

/// What the third check finds: three are made, and all must find the same.
fn third_result(address: ProbeAddress, check: Check, timeout_ms: u64) -> ProbeResult {
    let target = Target {
        key: key(1),
        address,
        sources: Arc::default(),
        preface: Arc::default(),
        check: Arc::new(check),
        params: params(timeout_ms, timeout_ms),
        known: Health::Unknown,
        last_probe: None,
    };
    let recorder = Recorder::new();
    let handle = spawn(keeper(vec![target]), recorder.clone()).unwrap();
    let seen = results(
        key(1),
        &recorder.wait(|events| results(key(1), events).len() >= 3),
    );
    handle.stop();
    assert_eq!(seen[..3], [seen[0]; 3]);
    seen[0]
}

/// What checks find of a server whose every connection `serve` handles. A busy machine does not get to the
/// timeout.
fn found(check: Check, serve: fn(TcpStream)) -> ProbeResult {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the test's process: nobody connects any more.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            serve(stream);
        }
    });
    let target = Target {
        sources: Arc::default(),
        preface: Arc::default(),
        check: Arc::new(check),
        ..target(1, address, params(20_000, 20_000))
    };
    let recorder = Recorder::new();
    let handle = spawn(keeper(vec![target]), recorder.clone()).unwrap();
    let seen = results(
        key(1),
        &recorder.wait(|events| !results(key(1), events).is_empty()),
    );
    handle.stop();
    seen[0]
}

/// Everything up to the end of an HTTP request.
fn read_request(mut stream: &TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        request.push(byte[0]);
    }
    String::from_utf8(request).unwrap()
}

fn write(mut stream: &TcpStream, bytes: &[u8]) {
    // A probe that knows enough is gone.
    let _ = stream.write_all(bytes);
}

fn write_bytewise(stream: &TcpStream, bytes: &[u8]) {
    for byte in bytes {
        write(stream, &[*byte]);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Until the probe is gone.
fn hold(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn a_status_that_is_asked_for_is_a_success() {
    let result = found(http(), |stream| {
        let request = read_request(&stream);
        let is_whole = request.starts_with("GET /healthz HTTP/1.1\r\nHost: app.example\r\n")
            && request.contains("\r\nConnection: close\r\n");
        let status = if is_whole { "204 No Content" } else { "400 No" };
        write(&stream, format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
    });
    assert_eq!(result, ProbeResult::Ok);
}

#[test]
fn an_answer_that_comes_a_byte_at_a_time_is_the_same() {
    let right = found(http(), |stream| {
        read_request(&stream);
        write_bytewise(&stream, b"HTTP/1.0 301 Moved\r\nLocation: /\r\n\r\n");
    });
    assert_eq!(right, ProbeResult::Ok);
    let result = found(http(), |stream| {
        read_request(&stream);
        write_bytewise(&stream, b"HTTP/1.1 503 Down\r\n\r\n");
    });
    assert_eq!(result, wrong(b"HTTP/1.1 503 "));
}

#[test]
fn another_status_is_a_wrong_answer_and_is_shown() {
    let result = found(http(), |stream| {
        read_request(&stream);
        write(&stream, b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
    });
    let ProbeResult::Failed(ProbeFailure::WrongAnswer(got)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(got.to_string(), r"HTTP/1.1 503 Service Unavailable\r\n\r\n");
}

#[test]
fn what_is_not_http_is_a_wrong_answer() {
    let result = found(http(), |stream| {
        write(&stream, b"SSH-2.0-OpenSSH_9.9\r\n");
        hold(stream);
    });
    assert_eq!(result, wrong(b"SSH-2.0-OpenSSH_9.9\r\n"));
}

#[test]
fn an_end_before_the_status_is_an_early_close() {
    for serve in [
        |stream: TcpStream| drop(read_request(&stream)),
        |stream: TcpStream| {
            read_request(&stream);
            write(&stream, b"HTTP/1.1 200");
        },
    ] {
        assert_eq!(found(http(), serve), failed(ProbeFailure::EarlyClose));
    }
    let result = found(exchange(b"", b"220 "), |stream| write(&stream, b"22"));
    assert_eq!(result, failed(ProbeFailure::EarlyClose));
}

#[test]
fn a_reset_before_the_status_is_a_reset() {
    let result = found(http(), |stream| {
        read_request(&stream);
        write(&stream, b"HTTP/1.1 ");
        reset(stream);
    });
    assert_eq!(result, failed(ProbeFailure::Reset));
}

/// The kernel takes connections for a backend that is stopped. Only a check that wants an answer sees it.
#[test]
fn a_backend_that_accepts_and_is_silent_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = || ProbeAddress::Tcp(silent.local_addr().unwrap());
    let timeout = failed(ProbeFailure::Timeout);
    assert_eq!(third_result(address(), http(), 60), timeout);
    assert_eq!(third_result(address(), exchange(b"PING", b""), 60), timeout);
    assert_eq!(
        third_result(address(), Check::Connect, 500),
        ProbeResult::Ok
    );
}

#[test]
fn a_backend_that_drips_for_ever_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            std::thread::spawn(move || {
                let drips = b"HTTP/1.1 2".iter().chain(std::iter::repeat(&b'0'));
                for (at, byte) in drips.enumerate() {
                    // The tenth byte is the last that fits; from there on silence.
                    if at >= 10 || stream.write_all(&[*byte]).is_err() {
                        return hold(stream);
                    }
                    std::thread::sleep(Duration::from_millis(30));
                }
            });
        }
    });
    let result = third_result(ProbeAddress::Tcp(address), http(), 150);
    assert_eq!(result, failed(ProbeFailure::Timeout));
}

#[test]
fn nobody_there_is_refused_whatever_is_asked() {
    // Bound but not listening: nobody else can take the port meanwhile.
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    bound
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = bound.local_addr().unwrap().as_socket().unwrap();
    let refused = failed(ProbeFailure::Refused);
    for check in [http(), exchange(b"a", b"b"), Check::Connect] {
        assert_eq!(
            third_result(ProbeAddress::Tcp(address), check, 200),
            refused
        );
    }
}

/// What was written before the connection was cut is read, although the request could not be delivered.
#[test]
fn an_answer_without_a_look_at_the_request_counts() {
    let result = found(http(), |stream| {
        write(&stream, b"HTTP/1.1 200 OK\r\n\r\n");
    });
    assert_eq!(result, ProbeResult::Ok);
}

#[test]
fn bytes_are_exchanged() {
    let pong = |stream: TcpStream| {
        let mut command = [0; 6];
        (&stream).read_exact(&mut command).unwrap();
        let answer: &[u8] = match &command {
            b"PING\r\n" => b"+PONG\r\n",
            _ => b"-ERR unknown\r\n",
        };
        write_bytewise(&stream, answer);
    };
    assert_eq!(
        found(exchange(b"PING\r\n", b"+PONG"), pong),
        ProbeResult::Ok
    );
    assert_eq!(found(exchange(b"PONG\r\n", b"+PONG"), pong), wrong(b"-"));
    assert_eq!(found(exchange(b"PING\r\n", b""), pong), ProbeResult::Ok);
    let greeting = |stream: TcpStream| {
        write(&stream, b"\x00\xff220 ready\r\n");
        hold(stream);
    };
    assert_eq!(
        found(exchange(b"", b"\x00\xff220"), greeting),
        ProbeResult::Ok
    );
    assert_eq!(found(exchange(b"", b""), greeting), ProbeResult::Ok);
}

#[test]
fn a_unix_backend_is_asked_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backend.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut start = [0; 4];
            stream.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"GET ");
            let _ = stream.write_all(b"HTTP/1.1 500 No\r\n\r\n");
        }
    });
    let result = third_result(ProbeAddress::Unix(path), http(), 500);
    assert_eq!(result, wrong(b"HTTP/1.1 500 No\r\n\r\n"));
}

/// Ended with the test.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Both fail only on a process that has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With one path that is well, one that is not, and one that does not exist.
fn nginx(folder: &std::path::Path, address: SocketAddr) -> Option<Nginx> {
    let prefix = folder.to_str().unwrap();
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off; master_process off; pid {prefix}/pid; error_log stderr;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {prefix}/b; proxy_temp_path {prefix}/p;\n\
         fastcgi_temp_path {prefix}/f; uwsgi_temp_path {prefix}/u; scgi_temp_path {prefix}/s;\n\
         server {{ listen {address};\n\
         location = /well {{ if ($host != app.example) {{ return 421; }} return 204; }}\n\
         location = /sick {{ return 503; }} }} }}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("nginx");
    command.args(["-p", prefix, "-c", config.to_str().unwrap()]);
    let child = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    Some(Nginx(child))
}

#[test]
fn nginx_answers_what_it_was_told_to() {
    let folder = tempfile::tempdir().unwrap();
    // No other test has this address, so that nobody takes the port before nginx does.
    let free = TcpListener::bind("127.88.1.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let Some(_running) = nginx(folder.path(), address) else {
        println!("nginx is not installed: skipped");
        return;
    };
    let result = |path: &str| {
        let check = Check::Http {
            request: http_request(path, "app.example"),
            statuses: vec![SUCCESS],
        };
        let target = Target {
            sources: Arc::default(),
            preface: Arc::default(),
            check: Arc::new(check),
            ..target(1, address, params(100, 100))
        };
        let recorder = Recorder::new();
        let handle = spawn(keeper(vec![target]), recorder.clone()).unwrap();
        // Until it listens, it refuses.
        let is_answer = |result: &ProbeResult| *result != failed(ProbeFailure::Refused);
        let events = recorder.wait(|events| results(key(1), events).iter().any(is_answer));
        handle.stop();
        results(key(1), &events)
            .into_iter()
            .find(is_answer)
            .unwrap()
    };
    assert_eq!(result("/well"), ProbeResult::Ok);
    for (path, beginning) in [
        ("/sick", "HTTP/1.1 503 Service"),
        ("/none", "HTTP/1.1 404 Not"),
    ] {
        let ProbeResult::Failed(ProbeFailure::WrongAnswer(got)) = result(path) else {
            panic!("{path}")
        };
        assert!(got.to_string().starts_with(beginning), "{got}");
    }
}
