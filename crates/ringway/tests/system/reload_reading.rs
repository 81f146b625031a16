//! Reloads of what a listener reads before it routes: names, PROXY headers, and clients in the middle
//! of them.

use std::io::Write;
use std::net::TcpStream;

use crate::backend::Server;
use crate::header;
use crate::hello::naming;
use crate::instance::Ringway;
use crate::peers::{End, connect, read_exactly, turned_away_with};
use crate::setup::Setup;

const HERE: &str = "127.0.0.0/8";

fn routed(default: &Server, to: &Server, name: &str) -> Setup {
    let routes = Setup::to([default.address()])
        .workers(2)
        .listener("routes:");
    routes.route("other", to.address(), &format!("sni: [{name}]"))
}

fn pool_of(ringway: &Ringway, bytes: &[u8]) -> u8 {
    let mut client = connect(ringway.address());
    client.write_all(bytes).unwrap();
    read_exactly::<1>(client)[0]
}

/// A client that was accepted and has said a part of what is read.
fn beginning(ringway: &Ringway, bytes: &[u8]) -> TcpStream {
    let mut client = connect(ringway.address());
    client.write_all(bytes).unwrap();
    ringway.until_connections(1);
    client
}

#[test]
fn names_lead_where_the_new_file_says() {
    let [a, b, c] = [b'a', b'b', b'c'].map(Server::echo);
    let ringway = routed(&a, &b, "one.example").start();
    let [one, two] = ["one.example", "two.example"].map(naming);
    assert_eq!(
        (pool_of(&ringway, &one), pool_of(&ringway, &two)),
        (b'b', b'a')
    );
    let mut held = connect(ringway.address());
    held.write_all(&one).unwrap();
    assert_eq!(read_exactly::<1>(&held)[0], b'b');
    ringway.reload_as(&routed(&a, &c, "two.example"));
    assert_eq!(
        (pool_of(&ringway, &one), pool_of(&ringway, &two)),
        (b'a', b'c')
    );
    // Whoever was led goes on where it is.
    let echoed = vec![0; one.len()];
    assert_eq!(read_exactly_into(&held, echoed), one);
    ringway.reload_as(&Setup::to([a.address()]).workers(2));
    assert_eq!(
        (pool_of(&ringway, &one), pool_of(&ringway, &two)),
        (b'a', b'a')
    );
    ringway.reload_as(&routed(&a, &b, "two.example"));
    assert_eq!(
        (pool_of(&ringway, &one), pool_of(&ringway, &two)),
        (b'a', b'b')
    );
}

fn read_exactly_into(mut stream: &TcpStream, mut bytes: Vec<u8>) -> Vec<u8> {
    std::io::Read::read_exact(&mut stream, &mut bytes).unwrap();
    bytes
}

#[test]
fn who_is_being_read_is_led_by_the_names_that_hold_then() {
    let [a, b, c] = [b'a', b'b', b'c'].map(Server::echo);
    let ringway = routed(&a, &b, "one.example").start();
    let hello = naming("one.example");
    let mut client = beginning(&ringway, &hello[..20]);
    // Twice, so that the place of the first route could have gone to somebody else.
    ringway.reload_as(&routed(&a, &c, "two.example"));
    ringway.reload_as(&routed(&a, &c, "one.example"));
    client.write_all(&hello[20..]).unwrap();
    assert_eq!(read_exactly::<1>(client)[0], b'c');
}

#[test]
fn who_is_being_read_when_nothing_is_read_any_more_is_refused() {
    let server = Server::echo(b'a');
    let setup = || Setup::to([server.address()]).workers(2);
    let header = header::v1(
        "192.0.2.1:9".parse().unwrap(),
        "192.0.2.2:9".parse().unwrap(),
    );
    let ringway = setup().trusting(HERE).start();
    let client = beginning(&ringway, &header[..10]);
    ringway.reload_as(&setup());
    let (bytes, end) = turned_away_with(client, &header[10..]);
    assert_eq!((bytes, end), (vec![], End::Reset));
    assert_eq!(ringway.refused("handshake"), 1);
    assert_eq!(pool_of(&ringway, b""), b'a');
    // The other way round: who came when nothing was read is a connection like any other.
    ringway.until_connections(0);
    let client = connect(ringway.address());
    assert_eq!(read_exactly::<1>(&client)[0], b'a');
    ringway.reload_as(&setup().trusting(HERE));
    assert_eq!(pool_of(&ringway, &header), b'a');
    (&client).write_all(b"x").unwrap();
    assert_eq!(read_exactly::<1>(&client), [b'x']);
}

/// A listener that leaves is read to the end, and nothing that it may lead to is given away before.
#[test]
fn who_is_being_read_by_a_listener_that_leaves_is_led_where_it_says() {
    let [a, b] = [b'a', b'b'].map(Server::echo);
    let ringway = routed(&a, &b, "one.example").start();
    let hello = naming("one.example");
    let mut client = beginning(&ringway, &hello[..20]);
    let other = Setup::to([a.address()]).workers(2);
    let text = ringway.file(&other).replace("\n  l:", "\n  m:");
    ringway.rewrite_as(&text);
    for _ in 0..3 {
        ringway.reload();
    }
    client.write_all(&hello[20..]).unwrap();
    assert_eq!(read_exactly::<1>(client)[0], b'b');
    ringway.until_connections(0);
    ringway.stop_early();
}
