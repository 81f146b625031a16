//! What explain tells is what connections get, and asking leaves no trace.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::backend::{Server, closed_address};
use crate::eventually::until;
use crate::header;
use crate::instance::Ringway;
use crate::peers::{End, connect, connect_from, read_exactly, turned_away_with};
use crate::setup::Setup;

const HERE: &str = "127.0.0.0/8";

/// What every worker says: on a busy machine one may be too late for an answer.
fn told(ringway: &Ringway, query: &str) -> Value {
    let mut told = Value::Null;
    until("every worker has answered", || {
        let answer = ringway
            .admin
            .get(&format!("/v1/explain?listener=l&{query}"));
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        told = serde_json::from_str(&answer.body).unwrap();
        told["silent_workers"] == Value::Array(Vec::new())
    });
    told
}

/// The backend that all workers agree on.
fn backend(answer: &Value) -> &str {
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 1, "{answer}");
    choices[0]["backend"].as_str().unwrap()
}

fn verdicts(answer: &Value, choice: usize) -> Vec<&str> {
    let backends = answer["choices"][choice]["backends"].as_array().unwrap();
    backends
        .iter()
        .map(|backend| backend["verdict"].as_str().unwrap())
        .collect()
}

/// Everything that counts connections, tokens or picks.
fn counted(ringway: &Ringway) -> Vec<i64> {
    let metrics = ringway.metrics();
    let families = [
        "listener_connections_total",
        "listener_refused_total",
        "backend_connections_total",
        "backend_retries_total",
        "pool_fail_open_total",
    ];
    let sums = families.map(|family| metrics.sum(family, &[]));
    sums.into()
}

fn from(ringway: &Ringway, source: SocketAddr) -> TcpStream {
    let mut client = connect(ringway.address());
    let to = match source.is_ipv4() {
        true => "198.51.100.1:443",
        false => "[2001:db8::ffff]:443",
    };
    let to: SocketAddr = to.parse().unwrap();
    client.write_all(&header::v1(source, to)).unwrap();
    client
}

#[test]
fn a_hash_leads_every_source_where_it_is_told() {
    for balance in ["source_hash", "maglev"] {
        let servers = [b'a', b'b', b'c', b'd', b'e'].map(Server::echo);
        let name = |address: &str| {
            let at = servers
                .iter()
                .position(|s| s.address().to_string() == address);
            b'a' + u8::try_from(at.unwrap()).unwrap()
        };
        let [first, others @ ..] = &servers;
        let mut setup = Setup::to(others.each_ref().map(Server::address)).trusting(HERE);
        setup = setup.backend(first.address(), "weight: 3").workers(2);
        let ringway = setup.balance(balance).start();
        let mut seen = [0; 5];
        for number in 0..300u32 {
            let source = match number % 3 {
                0 => format!("[2001:db8::{number:x}]:{}", 1000 + number),
                _ => format!("192.0.{}.{}:{}", number / 200, number % 200, 1000 + number),
            };
            let answer = told(&ringway, &format!("source={source}"));
            let expected = name(backend(&answer));
            assert_eq!(answer["pool"]["stable"], true);
            let client = from(&ringway, source.parse().unwrap());
            let [got] = read_exactly::<1>(&client);
            assert_eq!(
                got as char, expected as char,
                "{balance}, {source}: {answer}"
            );
            seen[usize::from(got - b'a')] += 1;
        }
        assert!(seen.iter().all(|count| *count > 10), "{balance}: {seen:?}");
    }
}

#[test]
fn asking_moves_no_counter_and_no_turn() {
    let servers = [Server::echo(b'a'), Server::echo(b'b'), Server::echo(b'c')];
    let setup = Setup::to(servers.each_ref().map(Server::address)).listener(
        "limits: {connections: 9, rate_per_source: 8/s, rate: 8/s, connections_per_source: 9}",
    );
    let ringway = setup.start();
    let before = counted(&ringway);
    let first = told(&ringway, "source=127.0.0.1:1");
    for _ in 0..40 {
        assert_eq!(told(&ringway, "source=127.0.0.1:1"), first);
    }
    assert_eq!(counted(&ringway), before);
    // Each answer is of the next connection, and the tokens are all there.
    for _ in 0..7 {
        let answer = told(&ringway, "source=127.0.0.1:1");
        let server = servers
            .iter()
            .position(|s| s.address().to_string() == backend(&answer));
        let client = connect(ringway.address());
        assert_eq!(read_exactly::<1>(&client), [b'a' + server.unwrap() as u8]);
    }
}

#[test]
fn each_reason_against_a_backend_is_told() {
    let (alive, full, spare) = (Server::echo(b'a'), Server::echo(b'b'), Server::echo(b'z'));
    let setup = Setup::to([alive.address()])
        .backend(closed_address(), "weight: 1")
        .backend(full.address(), "max_connections: 1")
        .backend(spare.address(), "backup: true")
        .health_checks();
    let ringway = setup.start();
    until("one is down", || ringway.backend_state(1) == "down");
    // Two connections are one for each that is left.
    let held = [connect(ringway.address()), connect(ringway.address())];
    for client in &held {
        assert!(b"ab".contains(&read_exactly::<1>(client)[0]));
    }
    let answer = told(&ringway, "source=127.0.0.1:1");
    assert_eq!(verdicts(&answer, 0), ["chosen", "down", "full", "backup"]);
    let why = |at: usize| answer["choices"][0]["backends"][at]["why"].to_string();
    assert!(why(1).contains("refused"), "{answer}");
    assert!(why(2).contains("1 of its 1"), "{answer}");
    assert_eq!(answer["worker"]["index"], 0);
}

#[test]
fn an_ejected_backend_is_told_by_the_worker_that_ejected_it() {
    let alive = Server::echo(b'a');
    let setup = Setup::to([closed_address(), alive.address()]);
    let ringway = setup
        .pool("outlier: {consecutive_failures: 1, ejection: 5m, max_ejected_percent: 50}")
        .start();
    let open = told(&ringway, "source=127.0.0.1:1");
    assert_eq!(open["choices"][0]["backends"][0]["circuit"], "closed");
    for _ in 0..2 {
        assert_eq!(read_exactly::<1>(&connect(ringway.address())), [b'a']);
    }
    let answer = told(&ringway, "source=127.0.0.1:1");
    assert_eq!(verdicts(&answer, 0), ["ejected", "chosen"]);
    assert_eq!(answer["choices"][0]["backends"][0]["circuit"], "ejected");
}

#[test]
fn admission_is_told_with_the_rule_that_matches() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()])
        .listener("access: {allow: [0.0.0.0/0], deny: [127.0.0.0/30, 192.0.2.0/24]}")
        .listener("limits: {connections_per_source: 1, rate: 1000/s}");
    let ringway = setup.start();
    let denied = told(&ringway, "source=192.0.2.9:1");
    assert_eq!(denied["admission"]["reason"], "access");
    assert_eq!(denied["admission"]["rules"][0]["matched"], "192.0.2.0/24");
    let nobody = told(&ringway, "source=[2001:db8::1]:1");
    assert_eq!(nobody["admission"]["reason"], "access");
    assert_eq!(nobody["admission"]["rules"][0]["matched"], Value::Null);
    // What is told is what happens.
    let client = connect_from("127.0.0.2".parse().unwrap(), ringway.address()).unwrap();
    let (_, end) = turned_away_with(client, b"");
    assert_eq!(end, End::Reset);
    let client = connect_from("127.0.0.9".parse().unwrap(), ringway.address()).unwrap();
    assert_eq!(read_exactly::<1>(&client), [b'a']);
    let second = told(&ringway, "source=127.0.0.9:77");
    assert_eq!(second["admission"]["reason"], "per_source");
    assert_eq!(
        told(&ringway, "source=127.0.0.10:77")["admission"]["admitted"],
        true
    );
}

#[test]
fn a_sender_that_is_not_trusted_is_told() {
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()]).trusting(HERE).start();
    let answer = told(&ringway, "source=192.0.2.1:1&sender=192.0.2.2:1");
    assert_eq!(answer["admission"]["reason"], "proxy_protocol");
    let answer = told(&ringway, "source=192.0.2.1:1&sender=127.0.0.1:1");
    assert_eq!(answer["admission"]["admitted"], true);
    assert_eq!(answer["admission"]["rules"][0]["matched"], "127.0.0.0/8");
}

#[test]
fn a_name_is_led_as_its_rules_say_and_a_reload_is_followed() {
    let servers = [Server::echo(b'a'), Server::echo(b'b'), Server::echo(b'c')];
    let plain = Setup::to([servers[0].address()]);
    let setup = plain
        .clone()
        .listener("routes:")
        .route("api", servers[1].address(), "sni: [\"*.example.com\"]")
        .route(
            "two",
            servers[2].address(),
            "sni: [www.example.com], alpn: [h2]",
        );
    let ringway = setup.start();
    for (query, pool, rule) in [
        ("", "p", Value::Null),
        ("&sni=example.com", "p", Value::Null),
        ("&sni=A.Example.COM.", "api", "*.example.com".into()),
        ("&sni=www.example.com", "api", "*.example.com".into()),
        (
            "&sni=www.example.com&alpn=h2,http/1.1",
            "two",
            "www.example.com".into(),
        ),
    ] {
        let answer = told(&ringway, &format!("source=127.0.0.1:1{query}"));
        assert_eq!(answer["route"]["pool"], pool, "{query}: {answer}");
        assert_eq!(answer["route"]["rule"], rule, "{query}: {answer}");
    }
    ringway.reload_as(&plain);
    let answer = told(&ringway, "source=127.0.0.1:1&sni=www.example.com");
    assert_eq!(answer["route"]["pool"], "p");
    assert_eq!(backend(&answer), servers[0].address().to_string());
}

#[test]
fn several_workers_answer_each_for_itself() {
    let servers = [Server::echo(b'a'), Server::echo(b'b')];
    let ringway = Setup::to(servers.each_ref().map(Server::address))
        .workers(4)
        .start();
    let answer = told(&ringway, "source=127.0.0.1:1");
    assert_eq!(answer["worker"]["index"], Value::Null);
    let choices = answer["choices"].as_array().unwrap();
    let workers = choices
        .iter()
        .flat_map(|choice| choice["workers"].as_array().unwrap());
    let mut workers: Vec<u64> = workers.map(|worker| worker.as_u64().unwrap()).collect();
    workers.sort_unstable();
    assert_eq!(workers, [0, 1, 2, 3]);
    assert_eq!(answer["pool"]["stable"], false);
}
