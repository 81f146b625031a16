//! Listeners that require a PROXY header: whose address counts then, and who is refused.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;

use crate::backend::{Backend, Server};
use crate::header::{self, LOCAL, PROXY, TCP4, TCP6, UNIX, UNSPEC, tlv, v2_raw, with_checksum};
use crate::instance::Ringway;
use crate::keyed;
use crate::peers::{
    End, PATIENCE, connect, connect_from, drain, fin, patient, read_exactly, reset, turned_away,
    turned_away_with,
};
use crate::setup::{SHAPES, Setup};

const HERE: &str = "127.0.0.0/8, '::1/128'";
const FILE: &str = "DIR/access.log";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn destination() -> SocketAddr {
    at("198.51.100.1:443")
}

fn announcing(source: &str) -> Vec<u8> {
    header::v1(at(source), destination())
}

/// Connects and sends.
fn client(ringway: &Ringway, bytes: &[u8]) -> TcpStream {
    let mut client = connect(ringway.address());
    client.write_all(bytes).unwrap();
    client
}

fn end_of(address: SocketAddr, bytes: &[u8]) -> (Vec<u8>, End) {
    turned_away_with(connect(address), bytes)
}

/// What an echoing backend named `a` makes of them.
fn echoed(ringway: &Ringway, bytes: &[u8]) -> Vec<u8> {
    let client = client(ringway, bytes);
    fin(&client);
    let (answer, end) = drain(client);
    assert_eq!((answer.first(), end), (Some(&b'a'), End::Fin));
    answer[1..].to_vec()
}

#[test]
fn the_announced_source_is_logged_and_only_payload_is_counted() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).trusting(HERE);
    let ringway = setup.access_log(FILE).start();
    let six = (at("[2001:db8::7]:9"), at("[2001:db8::1]:443"));
    for header in [
        announcing("192.0.2.7:5000"),
        header::v2(at("192.0.2.8:5001"), destination(), &[]),
        header::v1(six.0, six.1),
        header::v2(six.0, six.1, &tlv(0xee, b"experimental")),
    ] {
        let bytes = [header.as_slice(), b"payload"].concat();
        assert_eq!(echoed(&ringway, &bytes), b"payload");
    }
    let lines = ringway.json_lines("access.log", 4);
    let clients: Vec<_> = lines.iter().map(|line| line["client"].clone()).collect();
    let expected = ["192.0.2.7:5000", "192.0.2.8:5001", "[2001:db8::7]:9"];
    assert_eq!(clients[..3], expected);
    assert_eq!(clients[3], expected[2]);
    assert_eq!(
        lines[0]["received_bytes"],
        json!({"client": 7, "backend": 8})
    );
    ringway.until_bytes(28, 32);
}

#[test]
fn access_lists_and_limits_see_the_announced_source() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()])
        .trusting(HERE)
        .listener("access: {deny: [203.0.113.0/24]}")
        .listener("limits: {connections_per_source: 1, rate_per_source: 3/s}");
    let ringway = setup.workers(2).start();
    let admitted = |source: &str| {
        let client = client(&ringway, &announcing(source));
        assert_eq!(read_exactly::<1>(&client), [b'a']);
        client
    };
    let refused = |source: &str| {
        let (bytes, end) = end_of(ringway.address(), &announcing(source));
        assert_eq!((bytes, end), (Vec::new(), End::Reset), "{source}");
    };
    let first = admitted("192.0.2.1:1000");
    refused("192.0.2.1:1001");
    let second = admitted("192.0.2.2:1000");
    refused("203.0.113.9:1000");
    drop((first, second));
    ringway.until_connections(0);
    assert_eq!(ringway.refused("per_source"), 1);
    assert_eq!(ringway.refused("access"), 1);
    // What was taken is given back, and the rate is that of each source.
    for _ in 0..2 {
        drop(admitted("192.0.2.3:1"));
        ringway.until_connections(0);
    }
    drop(admitted("192.0.2.3:1"));
    ringway.until_connections(0);
    for _ in 0..20 {
        let client = client(&ringway, &announcing("192.0.2.3:1"));
        drain_some(client);
        ringway.until_connections(0);
    }
    assert!(ringway.refused("rate_per_source") >= 10);
    assert_eq!(
        server.served() as i64,
        ringway.closed("client", "fin") + ringway.closed("client", "reset")
    );
}

/// Whatever it hears.
fn drain_some(client: TcpStream) {
    fin_if_open(&client);
    let _ = drain(client);
}

fn fin_if_open(client: &TcpStream) {
    let _ = client.shutdown(std::net::Shutdown::Write);
}

#[test]
fn places_of_the_listener_are_taken_from_accept_on() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()])
        .trusting(HERE)
        .listener("limits: {connections: 2, over: close}")
        .listener("timeouts: {handshake: off}");
    let ringway = setup.start();
    let silent = client(&ringway, b"PROXY ");
    let open = client(&ringway, &announcing("192.0.2.1:1"));
    assert_eq!(read_exactly::<1>(&open), [b'a']);
    ringway.until_connections(2);
    assert_eq!(turned_away(ringway.address()), End::Fin);
    assert_eq!(ringway.refused("connections"), 1);
    drop(silent);
    ringway.until_connections(1);
    let third = client(&ringway, &announcing("192.0.2.1:2"));
    assert_eq!(read_exactly::<1>(&third), [b'a']);
    assert_eq!(ringway.refused("handshake"), 1);
}

#[test]
fn hashing_uses_the_announced_source() {
    let servers: Vec<Server> = (0..8).map(|name| Server::echo(b'0' + name)).collect();
    let setup = Setup::to(servers.iter().map(Server::address)).balance("source_hash");
    let ringway = setup.trusting(HERE).start();
    let answer = |source: &str| read_exactly::<1>(client(&ringway, &announcing(source)));
    let mut names = std::collections::BTreeSet::new();
    for host in 1..=40 {
        let first = answer(&format!("192.0.2.{host}:1000"));
        assert_eq!(answer(&format!("192.0.2.{host}:2000")), first);
        names.insert(first);
    }
    assert!(names.len() >= 4, "{names:?}");
}

#[test]
fn a_header_may_be_cut_anywhere() {
    let backend = Backend::new();
    let ringway = Setup::to([backend.address()]).trusting(HERE).start();
    let value = tlv(0xe0, &[b'x'; 40]);
    for header in [
        announcing("192.0.2.7:5000"),
        b"PROXY UNKNOWN\r\n".to_vec(),
        header::v2(at("192.0.2.8:5001"), destination(), &value),
        with_checksum(
            header::v2(at("[2001:db8::7]:9"), at("[::1]:1"), &value),
            true,
        ),
    ] {
        let bytes = [header.as_slice(), b"payload"].concat();
        for cut in 1..bytes.len() {
            let mut client = client(&ringway, &bytes[..cut]);
            client.write_all(&bytes[cut..]).unwrap();
            assert_eq!(&read_exactly::<7>(backend.accept()), b"payload", "{cut}");
        }
        let mut client = connect(ringway.address());
        for byte in &bytes {
            client.write_all(&[*byte]).unwrap();
        }
        assert_eq!(&read_exactly::<7>(backend.accept()), b"payload");
    }
}

#[test]
fn payload_behind_the_header_arrives_once_and_in_order() {
    for shape in SHAPES {
        let backend = Backend::new();
        let setup = Setup::to([backend.address()]).trusting(HERE).shape(shape);
        let ringway = setup.start();
        let header = header::v2(at("192.0.2.8:5001"), destination(), &tlv(0xe0, &[1; 3000]));
        let mut total = 0;
        for size in [1, 100, 13_000, 16_384, 50_000, 65_536, 3_000_000] {
            let mut client = connect(ringway.address());
            let mut stream = keyed::Keyed::new(7);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // In one piece with the first bytes behind it.
                    let mut left = size;
                    let first = stream.next(left.min(60_000));
                    left -= first.len();
                    client
                        .write_all(&[header.as_slice(), first].concat())
                        .unwrap();
                    while left > 0 {
                        let chunk = stream.chunk(left as u64);
                        client.write_all(chunk).unwrap();
                        left -= chunk.len();
                    }
                    fin(&client);
                });
                let accepted = backend.accept();
                assert_eq!(
                    keyed::receive(&accepted, 7),
                    (size as u64, End::Fin),
                    "{shape:?}"
                );
            });
            total += size as u64;
        }
        ringway.until_bytes(total, 0);
    }
}

#[test]
fn what_is_no_header_is_closed_at_its_first_impossible_byte() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).trusting(HERE);
    let ringway = setup.listener("timeouts: {handshake: off}").start();
    let source = "192.0.2.7:5000";
    let v2 = || header::v2(at(source), destination(), &[]);
    let ends = |content: &[u8]| v2_raw(PROXY, TCP4, content);
    let with = |tlvs: &[u8]| header::v2(at(source), destination(), tlvs);
    let changed = |place: usize, byte: u8| {
        let mut header = v2();
        header[place] = byte;
        header
    };
    let impossible: Vec<Vec<u8>> = vec![
        b"G".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        crate::hello::naming("a.example"),
        b"PROXY TCP5".to_vec(),
        b"PROXY UDP4".to_vec(),
        b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rx".to_vec(),
        b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(),
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n".to_vec(),
        [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat(),
        changed(12, 0x11),
        changed(12, 0x22),
        changed(13, 0x41),
        changed(13, 0x13),
        ends(&[0; 11]),
        v2_raw(PROXY, TCP6, &[0; 35]),
        v2_raw(PROXY, UNIX, &[0; 215]),
        with(&[1]),
        with(&[1, 0]),
        with(&[1, 0, 9, b'x']),
        with(&[1, 0xff, 0xff]),
        with_checksum(v2(), false),
        with(&tlv(header::CRC32C, &[1, 2, 3])),
        v2_raw(PROXY, TCP4, &[0; 60_000]),
    ];
    let count = impossible.len();
    for bytes in impossible {
        let (answer, end) = end_of(ringway.address(), &bytes);
        let shown = bytes[..bytes.len().min(60)].escape_ascii();
        assert_eq!((answer, end), (Vec::new(), End::Reset), "{shown}");
    }
    assert_eq!(ringway.refused("proxy_protocol") as usize, count);
    assert_eq!(server.served(), 0);
}

#[test]
fn who_announces_nobody_keeps_the_real_address() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).trusting(HERE);
    let ringway = setup.access_log(FILE).start();
    let headers: Vec<Vec<u8>> = vec![
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
        v2_raw(LOCAL, UNSPEC, &[]),
        v2_raw(LOCAL, UNSPEC, &tlv(header::UNIQUE_ID, b"a\0b")),
        v2_raw(LOCAL, TCP4, &[0xff; 300]),
        v2_raw(LOCAL, UNSPEC, &[0xff; 4000]),
        v2_raw(PROXY, UNSPEC, &[]),
        v2_raw(PROXY, UNIX, &[b'/'; 216]),
    ];
    let count = headers.len();
    let mut real = Vec::new();
    for header in headers {
        let mut client = client(&ringway, &header);
        client.write_all(b"x").unwrap();
        fin(&client);
        real.push(json!(client.local_addr().unwrap().to_string()));
        assert_eq!(drain(client), (b"ax".to_vec(), End::Fin), "{header:?}");
    }
    let lines = ringway.json_lines("access.log", count);
    let logged: Vec<_> = lines.iter().map(|line| line["client"].clone()).collect();
    assert_eq!(logged, real);
}

#[test]
fn who_is_not_trusted_is_refused_whatever_it_announces() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()])
        .trusting("127.0.0.1/32")
        .listener("access: {deny: [127.0.0.2/32]}");
    let ringway = setup.access_log(FILE).start();
    let other: IpAddr = "127.0.0.2".parse().unwrap();
    for _ in 0..10 {
        let client = patient(connect_from(other, ringway.address()).unwrap());
        let end = turned_away_with(client, &announcing("192.0.2.1:1"));
        assert_eq!(end, (Vec::new(), End::Reset));
    }
    assert_eq!(ringway.refused("proxy_protocol"), 10);
    assert_eq!(server.served(), 0);
    let line = &ringway.json_lines("access.log", 10)[0];
    assert_eq!(line["refused"], "proxy_protocol");
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.2:"));
    assert_eq!(
        echoed(
            &ringway,
            &[announcing("192.0.2.1:1").as_slice(), b"x"].concat()
        ),
        b"x"
    );
}

#[test]
fn without_the_key_a_header_is_payload() {
    let backend = Backend::new();
    let ringway = Setup::to([backend.address()]).start();
    for header in [
        announcing("192.0.2.7:5000"),
        header::v2(at("192.0.2.8:5001"), destination(), &[]),
    ] {
        let client = client(&ringway, &header);
        let accepted = backend.accept();
        fin(&client);
        assert_eq!(drain(accepted), (header, End::Fin));
    }
}

#[test]
fn silence_and_dribbling_end_at_the_deadline() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).trusting(HERE);
    let ringway = setup.listener("timeouts: {handshake: 700ms}").start();
    let silent = connect(ringway.address());
    let header = announcing("192.0.2.7:5000");
    let mut dribbling = connect(ringway.address());
    dribbling
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut byte = header.iter();
    let end = loop {
        // Each byte in time for a deadline that counts from the last one.
        if let Some(byte) = byte.next() {
            let _ = dribbling.write_all(&[*byte]);
        }
        let mut answer = [0; 1];
        match std::io::Read::read(&mut dribbling, &mut answer) {
            Ok(bytes) => break bytes,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break 0,
        }
    };
    assert_eq!(end, 0);
    assert!(byte.next().is_some(), "the header was not even complete");
    assert_eq!(drain(silent), (Vec::new(), End::Reset));
    assert_eq!(ringway.refused("handshake"), 2);
    assert_eq!(server.served(), 0);
    // Who is through is not touched by it.
    let open = client(&ringway, &header);
    assert_eq!(read_exactly::<1>(&open), [b'a']);
    assert_eq!(drain(connect(ringway.address())), (Vec::new(), End::Reset));
    drop(open);
    ringway.until_closed("client", "fin", 1);
}

#[test]
fn who_leaves_before_the_header_is_complete_is_refused() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()]).trusting(HERE).start();
    let header = announcing("192.0.2.7:5000");
    for cut in [0, 1, 10, header.len() - 1] {
        let client = client(&ringway, &header[..cut]);
        fin(&client);
        assert_eq!(drain(client), (Vec::new(), End::Reset));
        // One that has gone before it is accepted is none.
        let client = self::client(&ringway, &header[..cut]);
        ringway.until_connections(1);
        reset(client);
        ringway.until_connections(0);
    }
    assert_eq!(ringway.refused("handshake"), 8);
    assert_eq!(server.served(), 0);
}

/// One that is silent is closed gently, like every quiet connection.
#[test]
fn a_drain_refuses_those_that_are_still_read() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).trusting(HERE);
    let setup = setup.listener("timeouts: {handshake: off}");
    let mut ringway = setup.shutdown("{drain: 4s}").access_log(FILE).start();
    let client = connect(ringway.address());
    ringway.until_connections(1);
    ringway.stop(PATIENCE);
    assert_eq!(drain(client), (Vec::new(), End::Fin));
    let line = ringway.json_lines("access.log", 1).remove(0);
    assert_eq!(line["refused"], "draining");
}

/// Permissions of files say who may connect there.
#[test]
fn a_unix_socket_is_trusted_and_has_the_address_that_is_announced() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()])
        .trusting("192.0.2.0/24")
        .listener("access: {deny: [203.0.113.0/24]}");
    let setup = setup.binds(&["unix:DIR/front.sock"]).access_log(FILE);
    let ringway = setup.start();
    let front = ringway.dir().join("front.sock");
    let answer = |source: &str| {
        let mut client = UnixStream::connect(&front).unwrap();
        let _ = client.write_all(&announcing(source));
        let _ = client.shutdown(std::net::Shutdown::Write);
        drain(client).0
    };
    assert_eq!(answer("192.0.2.9:1"), b"a");
    assert_eq!(answer("203.0.113.9:1"), b"");
    let lines = ringway.json_lines("access.log", 2);
    assert_eq!(lines[0]["client"], "192.0.2.9:1");
    assert_eq!(
        (&lines[1]["client"], &lines[1]["refused"]),
        (&json!("203.0.113.9:1"), &json!("access"))
    );
}
