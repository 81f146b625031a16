//! Pools whose backends get a PROXY header.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use crate::backend::{Backend, Server, closed_address};
use crate::header::{
    self, ALPN, AUTHORITY, LOCAL, PROXY, Received, TCP4, TCP6, UNIQUE_ID, UNIX, UNSPEC, tlv, v2_raw,
};
use crate::hello;
use crate::peers::{End, connect, drain, fin, read_exactly, until};
use crate::setup::Setup;

const V1: &str = "send_proxy_protocol: v1";
const V2: &str = "send_proxy_protocol: v2";

/// Source and destination.
type Ends = (SocketAddr, SocketAddr);

/// The line at the start of a stream, and nothing behind it.
fn line(mut stream: impl Read) -> Vec<u8> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    line
}

#[test]
fn the_header_comes_at_once_and_says_who_is_connected_to_what() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let backend = Backend::new();
        let setup = |key| Setup::to([backend.address()]).binds(&[bind]).pool(key);
        let ringway = setup(V1).start();
        let (client, accepted) = backend.pair(&ringway);
        let ends = (client.local_addr().unwrap(), ringway.address());
        // The client is silent.
        assert_eq!(line(&accepted), header::v1(ends.0, ends.1));
        fin(&client);
        assert_eq!(drain(accepted), (Vec::new(), End::Fin));
        drop((client, ringway));

        let ringway = setup(V2).start();
        let (client, accepted) = backend.pair(&ringway);
        let ends = (client.local_addr().unwrap(), ringway.address());
        let received = Received::read(&accepted);
        assert_eq!(received.command, PROXY);
        assert_eq!(received.family, if ends.0.is_ipv4() { TCP4 } else { TCP6 });
        assert_eq!(received.addresses, header::addresses(ends.0, ends.1));
        assert_eq!(received.value(AUTHORITY), None);
        assert_eq!(received.value(ALPN), None);
        fin(&client);
        assert_eq!(drain(accepted), (Vec::new(), End::Fin));
        drop(client);
        // It is none of the client's bytes.
        ringway.until_bytes(0, 0);
    }
}

/// The first segment is the header and no more, before payload that was there first.
#[test]
fn payload_that_waits_comes_behind_the_header() {
    let backend = Backend::new();
    for key in [V1, V2] {
        let setup = Setup::to([backend.address()]).pool(key).workers(2);
        let ringway = setup.start();
        for _ in 0..50 {
            let mut client = connect(ringway.address());
            client.write_all(b"payload").unwrap();
            let mut accepted = backend.accept();
            let mut first = [0; 4096];
            let len = accepted.read(&mut first).unwrap();
            let ends = match key {
                V1 => header::v1(client.local_addr().unwrap(), ringway.address()).len(),
                _ => 16 + usize::from(u16::from_be_bytes([first[14], first[15]])),
            };
            let mut rest = first[ends.min(len)..len].to_vec();
            assert!(len >= ends, "the header is in {len} of {ends} bytes");
            while rest.len() < 7 {
                rest.extend(read_exactly::<1>(&accepted));
            }
            assert_eq!(rest, b"payload");
        }
    }
}

#[test]
fn every_connection_has_an_identity_of_its_own_which_its_retries_share() {
    let backend = Backend::new();
    let setup = Setup::to([closed_address(), backend.address(), closed_address()]);
    let ringway = setup.pool(V2).workers(4).start();
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        let (_client, accepted) = backend.pair(&ringway);
        let identity = Received::read(&accepted).value(UNIQUE_ID).unwrap().to_vec();
        assert!(identity.len() >= 16 && identity.is_ascii());
        assert!(seen.insert(identity));
    }
}

#[test]
fn after_retries_there_is_one_header_and_every_byte() {
    let server = Backend::new();
    for key in [V1, V2] {
        let setup = Setup::to([closed_address(), closed_address(), server.address()]);
        let ringway = setup.pool(key).start();
        for _ in 0..10 {
            let mut client = connect(ringway.address());
            client.write_all(b"once").unwrap();
            fin(&client);
            let accepted = server.accept();
            match key {
                V1 => drop(line(&accepted)),
                _ => drop(Received::read(&accepted)),
            }
            assert_eq!(drain(accepted), (b"once".to_vec(), End::Fin));
        }
        assert!(ringway.metrics().sum("backend_retries_total", &[]) > 0);
        ringway.until_bytes(40, 0);
    }
}

#[test]
fn where_there_is_no_address_the_header_says_so() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("backend.sock");
    let backend = UnixListener::bind(&path).unwrap();
    for key in [V1, V2] {
        let setup = Setup::to([format!("unix:{}", path.display())]).pool(key);
        let ringway = setup.binds(&["unix:DIR/front.sock"]).start();
        let mut client = UnixStream::connect(ringway.dir().join("front.sock")).unwrap();
        client.write_all(b"payload").unwrap();
        let (accepted, _) = backend.accept().unwrap();
        match key {
            V1 => assert_eq!(line(&accepted), b"PROXY UNKNOWN\r\n"),
            _ => {
                let received = Received::read(&accepted);
                assert_eq!((received.command, received.family), (PROXY, UNSPEC));
            }
        }
        assert_eq!(&read_exactly::<7>(&accepted), b"payload");
    }
}

/// What comes in goes out, whatever it is.
#[test]
fn a_chain_passes_on_what_was_announced() {
    let backend = Backend::new();
    for out in [V1, V2] {
        let setup = Setup::to([backend.address()]).pool(out);
        let ringway = setup.trusting("127.0.0.1/32").start();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let four = (at("192.0.2.7:5000"), at("198.51.100.1:443"));
        let six = (at("[2001:db8::7]:9"), at("[2001:db8::1]:443"));
        let tlvs = [tlv(AUTHORITY, b"a.example"), tlv(UNIQUE_ID, b"one\0two")].concat();
        let real = |client: &TcpStream| (client.local_addr().unwrap(), ringway.address());
        let headers: Vec<(Vec<u8>, Option<Ends>)> = vec![
            (header::v1(four.0, four.1), Some(four)),
            (header::v1(six.0, six.1), Some(six)),
            (header::v2(four.0, four.1, &tlvs), Some(four)),
            (header::v2(six.0, six.1, &tlvs), Some(six)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2_raw(LOCAL, UNSPEC, &[]), None),
            (v2_raw(PROXY, UNSPEC, &[]), None),
            (v2_raw(PROXY, UNSPEC, &tlv(0xe0, &[0; 3900])), None),
            (v2_raw(PROXY, UNIX, &[b'/'; 216]), None),
        ];
        for (header, announced) in headers {
            let mut client = connect(ringway.address());
            client.write_all(&header).unwrap();
            let accepted = backend.accept();
            let (from, to) = announced.unwrap_or_else(|| real(&client));
            if out == V1 {
                assert_eq!(line(&accepted), header::v1(from, to));
                continue;
            }
            let received = Received::read(&accepted);
            assert_eq!(received.addresses, header::addresses(from, to));
            let has_tlvs = header.ends_with(&tlvs);
            if has_tlvs {
                assert_eq!(received.value(AUTHORITY), Some(b"a.example".as_slice()));
                assert_eq!(received.value(UNIQUE_ID), Some(b"one\0two".as_slice()));
            } else {
                assert_eq!(received.value(AUTHORITY), None);
            }
        }
    }
}

#[test]
fn the_name_and_the_only_protocol_of_a_hello_are_told() {
    let (backend, other) = (Backend::new(), closed_address());
    let setup = Setup::to([backend.address()]).pool(V2).listener("routes:");
    let ringway = setup.route("q", other, "sni: [q.example]").start();
    for (protocols, told) in [
        (vec!["h2"], Some(b"h2".as_slice())),
        (vec!["h2", "http/1.1"], None),
        (vec![], None),
    ] {
        let mut extensions = vec![hello::server_name(b"A.Example")];
        if !protocols.is_empty() {
            extensions.push(hello::alpn(&protocols));
        }
        let hello = hello::hello(&extensions);
        let mut client = connect(ringway.address());
        client.write_all(&hello).unwrap();
        let accepted = backend.accept();
        let received = Received::read(&accepted);
        assert_eq!(received.value(AUTHORITY), Some(b"a.example".as_slice()));
        assert_eq!(received.value(ALPN), told);
        fin(&client);
        assert_eq!(drain(accepted), (hello, End::Fin));
    }
}

/// What health checks send first.
#[test]
fn health_checks_say_that_they_are_nobodys() {
    for (key, kind, expected) in [
        (V1, "type: tcp", b"PROXY UNKNOWN\r\n".to_vec()),
        (V2, "type: tcp", v2_raw(LOCAL, UNSPEC, &[])),
        (V1, "type: http", b"PROXY UNKNOWN\r\n".to_vec()),
        (V2, "type: http", v2_raw(LOCAL, UNSPEC, &[])),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = {
            let (seen, len) = (Arc::clone(&seen), expected.len());
            Server::new(move |mut stream| {
                let mut first = vec![0; len];
                // A probe that only connects may have gone before it is read.
                if stream.read_exact(&mut first).is_ok() {
                    seen.lock().unwrap().push(first);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                    let _ = stream.read(&mut [0; 4096]);
                }
            })
        };
        let setup = Setup::to([server.address()]).pool(key);
        let ringway = setup.health_checks_of(kind).start();
        until("it is up", || ringway.backend_state(0) == "up");
        until("a check is read", || !seen.lock().unwrap().is_empty());
        assert!(seen.lock().unwrap().iter().all(|first| *first == expected));
        let results = ringway.metrics();
        assert_eq!(results.sum("health_checks_total", &[("result", "fail")]), 0);
    }
}
