//! The client against servers of a few lines: real sockets, one request each.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// Reads a request up to its empty line, answers, and returns the request line.
fn serve(mut stream: impl Read + Write, answer: &str) -> String {
    let mut lines = Vec::new();
    let mut reader = BufReader::new(&mut stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a request line");
        if line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    stream
        .write_all(answer.as_bytes())
        .expect("the client reads");
    lines.remove(0).trim().to_owned()
}

fn tcp(answer: &'static str, method: Method) -> (Result<Response, ClientError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = thread::spawn(move || serve(listener.accept().expect("a client").0, answer));
    let result = Endpoint::new(BackendAddress::Tcp(address)).request(method, "/v1/status");
    (result, server.join().expect("served"))
}

#[test]
fn it_talks_over_tcp() {
    let (response, request) = tcp(ANSWER, Method::Get);
    assert_eq!(request, "GET /v1/status HTTP/1.1");
    assert_eq!(response.expect("200").body, b"{}");
}

#[test]
fn it_talks_over_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = thread::spawn(move || serve(listener.accept().expect("a client").0, ANSWER));
    let response = Endpoint::new(BackendAddress::Unix(path)).request(Method::Post, "/v1/drain");
    assert_eq!(server.join().expect("served"), "POST /v1/drain HTTP/1.1");
    assert_eq!(response.expect("200").status, 200);
}

#[test]
fn a_refusal_carries_its_reason() {
    let refusal =
        "HTTP/1.1 409 Conflict\r\nContent-Length: 32\r\n\r\n{\"error\":\"draining\",\"detail\":[]}";
    let (response, _) = tcp(refusal, Method::Post);
    let error = response.expect_err("409").to_string();
    assert!(error.ends_with("answered 409: draining"), "{error}");
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let result = Endpoint::new(BackendAddress::Tcp(address)).request(Method::Get, "/");
    let error = result.expect_err("nobody").to_string();
    assert!(
        error.starts_with(&format!("no instance answers at {address}: ")),
        "{error}"
    );
}

#[test]
fn the_endpoint_comes_from_the_flag_the_file_or_the_default() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |admin: &str| {
        let path = folder.path().join("ringway.yaml");
        let text = format!(
            "listeners: {{a: {{bind: '127.0.0.1:0', pool: p}}}}\n\
             pools: {{p: {{backends: [{{address: '127.0.0.1:1'}}]}}}}\nadmin: {{bind: {admin}}}\n"
        );
        std::fs::write(&path, text).expect("written");
        Endpoint::of(&Instance {
            admin: None,
            config: Some(path),
            token_file: None,
        })
        .map(|endpoint| endpoint.to_string())
        .map_err(|failure| failure.to_string())
    };
    assert_eq!(file("'127.0.0.1:7'"), Ok("127.0.0.1:7".to_owned()));
    assert_eq!(
        file("'unix:/run/x.sock'"),
        Ok("unix:/run/x.sock".to_owned())
    );
    assert!(file("off").is_err_and(|error| error.contains("is off")));
    assert!(file("'127.0.0.1:0'").is_err_and(|error| error.contains("--admin")));
    let none = Instance {
        admin: None,
        config: None,
        token_file: None,
    };
    assert!(Endpoint::of(&none).is_ok_and(|endpoint| endpoint.to_string() == "127.0.0.1:9901"));
}

#[test]
fn changes_bring_the_token_and_questions_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let endpoint = Endpoint {
        address: BackendAddress::Unix("/nowhere".into()),
        token_file: Some(path.clone()),
    };
    let unusable = |method| {
        matches!(
            endpoint.authorization(method),
            Err(ClientError::Token { .. })
        )
    };
    assert!(unusable(Method::Post) && !unusable(Method::Get));
    for wrong in ["", "two words", "line\r\nbreak: x"] {
        std::fs::write(&path, wrong).expect("written");
        assert!(unusable(Method::Post), "{wrong:?}");
    }
    std::fs::write(&path, "secret\n").expect("written");
    let line = endpoint.authorization(Method::Post).expect("a token");
    assert_eq!(line, "Authorization: Bearer secret\r\n");
    assert_eq!(
        endpoint.authorization(Method::Get).expect("none needed"),
        ""
    );
}
