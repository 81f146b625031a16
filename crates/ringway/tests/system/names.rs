//! Listeners that route by the names of a TLS ClientHello.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::backend::{Backend, Server};
use crate::header;
use crate::hello::{alpn, extension, hello, message, naming, padding, records, server_name};
use crate::instance::Ringway;
use crate::peers::{End, connect, drain, fin, read_exactly, turned_away, turned_away_with};
use crate::scale::fitting;
use crate::setup::{SHAPES, Setup};

/// Backends that greet with the name of their pool: `p` without a name, then `a`, `b`, and so on.
struct Pools {
    servers: Vec<Server>,
    setup: Setup,
}

impl Pools {
    fn of(routes: &[&str]) -> Pools {
        let mut servers = vec![Server::echo(b'p')];
        let mut setup = Setup::to([servers[0].address()]).listener("routes:");
        for (name, names) in (b'a'..).zip(routes) {
            let server = Server::echo(name);
            let pool = char::from(name).to_string();
            setup = setup.route(&pool, server.address(), names);
            servers.push(server);
        }
        Pools { servers, setup }
    }

    fn served(&self) -> usize {
        self.servers.iter().map(Server::served).sum()
    }
}

fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut client = connect(address);
    // Who is refused early need not have taken it all.
    let _ = client.write_all(bytes);
    client
}

/// Which pool it is led to; the client goes on listening.
fn pool_of(ringway: &Ringway, bytes: &[u8]) -> char {
    let client = send(ringway.address(), bytes);
    char::from(read_exactly::<1>(client)[0])
}

/// How it is refused.
fn refused(ringway: &Ringway, bytes: &[u8]) {
    let (answer, end) = turned_away_with(connect(ringway.address()), bytes);
    assert_eq!((answer, end), (Vec::new(), End::Reset));
}

fn asking(name: &[u8], protocols: &[&str]) -> Vec<u8> {
    let mut extensions = vec![extension(0x0a0a, &[0]), server_name(name)];
    if !protocols.is_empty() {
        extensions.push(alpn(protocols));
    }
    hello(&extensions)
}

#[test]
fn the_exact_name_wins_and_then_the_longest_wildcard() {
    let pools = Pools::of(&[
        "sni: [a.example, '*.wild.example']",
        "sni: ['*.b.wild.example', x.wild.example]",
        "sni: [P.Example.], alpn: [h2, http/1.1]",
        "sni: [p.example], alpn: [imap]",
        "sni: ['*.example'], alpn: [h2]",
    ]);
    let ringway = pools.setup.clone().workers(2).start();
    let two = ["h2", "http/1.1"];
    for (name, protocols, expected) in [
        ("a.example", &[][..], 'a'),
        ("A.eXample", &[], 'a'),
        ("a.example.", &[], 'a'),
        ("1.wild.example", &[], 'a'),
        ("1.2.wild.example", &[], 'a'),
        ("x.wild.example", &[], 'b'),
        ("1.b.wild.example", &[], 'b'),
        ("1.2.3.B.wild.example.", &[], 'b'),
        // What stands for what is below is not below itself.
        ("b.wild.example", &[], 'a'),
        ("wild.example", &[], 'p'),
        ("p.example", &["h2"], 'c'),
        ("p.example", &["spdy", "http/1.1"], 'c'),
        ("p.example", &["imap"], 'd'),
        ("p.example", &["imap", "h2"], 'c'),
        ("p.example", &["pop3"], 'p'),
        ("p.example", &[], 'p'),
        ("wild.example", &two, 'e'),
        ("1.wild.example", &two, 'a'),
        ("example", &two, 'p'),
        ("unknown", &[], 'p'),
    ] {
        let hello = asking(name.as_bytes(), protocols);
        assert_eq!(pool_of(&ringway, &hello), expected, "{name} {protocols:?}");
    }
}

#[test]
fn without_a_default_what_matches_nothing_is_refused() {
    let pools = Pools::of(&["sni: [a.example]"]);
    let ringway = pools.setup.clone().without_default().start();
    assert_eq!(pool_of(&ringway, &naming("a.example")), 'a');
    let others = [
        naming("b.example"),
        hello(&[]),
        b"GET / HTTP/1.1\r\n".to_vec(),
    ];
    for other in &others {
        refused(&ringway, other);
    }
    assert_eq!(ringway.refused("no_route"), 3);
    assert_eq!(pools.served(), 1);
}

#[test]
fn a_hello_may_be_cut_anywhere_and_every_byte_is_delivered() {
    let (backend, other) = (Backend::new(), Server::echo(b'p'));
    let setup = Setup::to([other.address()]).listener("routes:");
    let setup = setup.route("a", backend.address(), "sni: [a.example], alpn: [h2]");
    let ringway = setup.start();
    let extensions = [server_name(b"a.example"), alpn(&["h2"])];
    let whole = [hello(&extensions).as_slice(), b"early data"].concat();
    let len = whole.len();
    for cut in 1..len {
        let mut client = send(ringway.address(), &whole[..cut]);
        client.write_all(&whole[cut..]).unwrap();
        let accepted = backend.accept();
        fin(&client);
        assert_eq!(drain(accepted), (whole.clone(), End::Fin), "{cut}");
    }
    let mut client = connect(ringway.address());
    for byte in &whole {
        client.write_all(&[*byte]).unwrap();
    }
    let accepted = backend.accept();
    fin(&client);
    assert_eq!(drain(accepted), (whole, End::Fin));
    ringway.until_bytes((len * len) as u64, 0);
}

#[test]
fn a_hello_may_come_in_many_records_and_be_large() {
    for shape in SHAPES {
        let (backend, other) = (Backend::new(), Server::echo(b'p'));
        let setup = Setup::to([other.address()]).listener("routes:");
        let setup = setup.route("a", backend.address(), "sni: [a.example]");
        let ringway = setup.shape(shape).start();
        // The name at the end, so that all before it must be there.
        for (size, record) in [
            (0, 1),
            (0, 7),
            (1_700, 16_384),
            (1_700, 100),
            (15_800, 16_384),
            (63_000, 16_000),
        ] {
            let extensions = [padding(size), server_name(b"a.example")];
            let bytes = records(&message(&extensions), record);
            let whole = [bytes.as_slice(), &[0xab; 100_000]].concat();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let client = send(ringway.address(), &whole);
                    fin(&client);
                    drain(client)
                });
                let (received, end) = drain(backend.accept());
                assert!(
                    received == whole && end == End::Fin,
                    "{shape:?} {size} {record}"
                );
            });
        }
        assert_eq!(other.served(), 0);
    }
}

#[test]
fn a_hello_that_is_too_long_is_refused() {
    let pools = Pools::of(&["sni: [a.example]"]);
    let setup = pools.setup.clone().listener("timeouts: {handshake: off}");
    let ringway = setup.start();
    let extensions = [padding(60_000), padding(10_000), server_name(b"a.example")];
    refused(&ringway, &records(&message(&extensions), 16_384));
    // A client that says how long it will be need not be waited for.
    refused(&ringway, &[22, 3, 1, 0x40, 0, 1, 1, 0, 0]);
    assert_eq!(ringway.refused("handshake"), 2);
    assert_eq!(pools.served(), 0);
}

#[test]
fn what_is_not_tls_goes_to_the_default_at_its_first_impossible_byte() {
    let pools = Pools::of(&["sni: [a.example]"]);
    let setup = pools.setup.clone().listener("timeouts: {handshake: off}");
    let ringway = setup.start();
    for first in [
        b"G".to_vec(),
        b"\0".to_vec(),
        vec![22, 2],
        // An alert, and a ServerHello.
        vec![21, 3, 3, 0, 2, 1, 0],
        vec![22, 3, 1, 0, 40, 2],
        // SSLv2.
        vec![0x80, 46, 1, 3, 1],
    ] {
        assert_eq!(pool_of(&ringway, &first), 'p', "{first:?}");
    }
}

#[test]
fn lying_lengths_are_refused_and_strange_names_are_none() {
    let pools = Pools::of(&["sni: [a.example, '*.a.example']"]);
    let setup = pools.setup.clone().listener("timeouts: {handshake: off}");
    let ringway = setup.access_log("DIR/access.log").start();
    let lying: Vec<Vec<u8>> = vec![
        // The record, the list of extensions, the list of names, the name.
        vec![22, 3, 1, 0, 0],
        vec![22, 3, 1, 0xff, 0xff, 1],
        hello(&[vec![0, 0, 0xff, 0xff, 1]]),
        hello(&[extension(0, &[0xff, 0xff, 0, 0, 1, b'a'])]),
        hello(&[extension(0, &[0, 4, 0, 0xff, 0xff, b'a'])]),
        hello(&[extension(0, &[])]),
        hello(&[extension(16, &[0, 3, 9, b'h', b'2'])]),
        hello(&[extension(16, &[0, 1, 0])]),
        hello(&[server_name(b"a.example"), server_name(b"a.example")]),
        // Another record amid the hello.
        [
            records(&message(&[server_name(b"a.example")]), 50)[..55].to_vec(),
            vec![23, 3, 3, 0, 1, 0],
        ]
        .concat(),
    ];
    let count = lying.len();
    for hello in lying {
        refused(&ringway, &hello);
    }
    assert_eq!(ringway.refused("handshake") as usize, count);
    assert_eq!(pools.served(), 0);
    let long = [b'x'; 254];
    let names: [&[u8]; 9] = [
        b"",
        b"a.example\0",
        b"\0a.example",
        b"a example",
        b"\xe4.a.example",
        b"192.0.2.1",
        b"..a.example",
        b"*.a.example",
        &long,
    ];
    for name in names {
        assert_eq!(pool_of(&ringway, &asking(name, &[])), 'p', "{name:?}");
    }
    // None, and one of which the first counts.
    assert_eq!(pool_of(&ringway, &hello(&[])), 'p');
    let entries = [b"\0\0\x09a.example".as_slice(), b"\0\0\x01b"].concat();
    let list = [[0, entries.len() as u8].as_slice(), &entries].concat();
    assert_eq!(pool_of(&ringway, &hello(&[extension(0, &list)])), 'a');
}

#[test]
fn the_deadline_covers_header_and_hello() {
    let pools = Pools::of(&["sni: [a.example]"]);
    let setup = pools.setup.clone().trusting("127.0.0.0/8");
    let ringway = setup.listener("timeouts: {handshake: 700ms}").start();
    let source = "192.0.2.7:5000".parse().unwrap();
    let head = header::v2(source, ringway.address(), &[]);
    let bytes = [head.as_slice(), &naming("a.example")].concat();
    assert_eq!(pool_of(&ringway, &bytes), 'a');
    for cut in [head.len() - 1, head.len(), head.len() + 1, bytes.len() - 1] {
        refused(&ringway, &bytes[..cut]);
    }
    assert_eq!(ringway.refused("handshake"), 4);
    assert_eq!(pools.served(), 1);
    let mut client = connect(ringway.address());
    client
        .set_read_timeout(Some(Duration::from_millis(30)))
        .unwrap();
    let mut sent = 0;
    for byte in &bytes {
        if client.write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        match std::io::Read::read(&mut client, &mut [0; 1]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => break,
        }
    }
    assert!(sent < bytes.len(), "nobody ended it");
    assert_eq!(ringway.refused("handshake"), 5);
}

/// Of hellos that stop in the middle of their name.
#[test]
fn a_crowd_that_stalls_holds_up_nobody_and_little_memory() {
    let crowd_size = fitting(2_000, 9_000);
    let pools = Pools::of(&["sni: [a.example]"]);
    // They are all there before the first is too late, whatever else runs here.
    let handshake = format!("timeouts: {{handshake: {}s}}", 8 + crowd_size / 500);
    let setup = pools.setup.clone().listener(&handshake);
    let ringway = setup.workers(2).start();
    let hello = naming("a.example");
    let before = ringway.process.resident_bytes();
    let crowd: Vec<TcpStream> = (0..crowd_size)
        .map(|_| send(ringway.address(), &hello[..hello.len() - 3]))
        .collect();
    ringway.until_connections(crowd_size as u64);
    for _ in 0..100 {
        assert_eq!(pool_of(&ringway, &hello), 'a');
    }
    let held = ringway.process.resident_bytes().saturating_sub(before);
    eprintln!(
        "{} bytes for each of {crowd_size}",
        held / crowd_size as u64
    );
    assert!(held < crowd_size as u64 * 16_384, "{held} bytes");
    for client in crowd {
        assert_eq!(drain(client), (Vec::new(), End::Reset));
    }
    ringway.until_connections(0);
    assert_eq!(ringway.refused("handshake") as usize, crowd_size);
}

#[test]
fn limits_and_access_lists_hold_before_anything_is_read() {
    let pools = Pools::of(&["sni: [a.example]"]);
    let setup = pools
        .setup
        .clone()
        .listener("limits: {connections_per_source: 1}");
    let ringway = setup.start();
    let first = send(ringway.address(), &[22]);
    ringway.until_connections(1);
    assert_eq!(turned_away(ringway.address()), End::Reset);
    assert_eq!(ringway.refused("per_source"), 1);
    drop(first);
    ringway.until_connections(0);
    assert_eq!(pool_of(&ringway, &naming("a.example")), 'a');
}
