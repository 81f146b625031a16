//! What a host runs out of by being used: pipes of an ordinary user, local ports. Work goes on with what
//! is left, what cannot be done is refused by its name, no backend is blamed, and it is over at once when
//! there is some again. Descriptors have tests of their own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;
use socket2::SockRef;

use crate::backend::Backend;
use crate::crowds::stuff;
use crate::instance::Ringway;
use crate::keyed;
use crate::peers::{End, PATIENCE, connect_narrow, drain, fin, until};
use crate::process::{Launch, beside};
use crate::scale::fitting;
use crate::setup::{Relay, Setup};
use crate::vanished::can_be_tested;

/// A user has pipes for 256 streams on one worker (fs.pipe-user-pages-soft): these are more, and each of
/// them holds its pipe for as long as its client does not read.
#[test]
fn streams_without_a_pipe_go_on_as_copies_and_get_one_when_some_are_free() {
    if !geteuid().is_root() {
        eprintln!("not tested: needs root, to run it as somebody else");
        return;
    }
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]).relay(Relay::Splice);
    let setup = setup.listener("tcp: {send_buffer: 16KiB}");
    let ringway = setup.launch_as(Launch::AsNobody).start();
    let pair = |_| {
        let client = connect_narrow(ringway.address());
        let accepted = backend.accept();
        SockRef::from(&accepted)
            .set_send_buffer_size(32 * 1024)
            .unwrap();
        (client, accepted, 0)
    };
    let mut streams: Vec<(TcpStream, TcpStream, usize)> =
        (0..fitting(400, 2000)).map(pair).collect();
    for _ in 0..3 {
        for (_, accepted, sent) in &mut streams {
            *sent += stuff(accepted, 1_000_000);
        }
        ringway.until_blocked("backend");
    }
    let metrics = ringway.metrics();
    let exhausted = metrics.sum("worker_pipes_exhausted_total", &[]);
    let in_use = metrics.sum("worker_pipes", &[("state", "in_use")]);
    eprintln!("{} streams, {in_use} pipes in use", streams.len());
    assert!(exhausted > 0 && in_use > 0, "{exhausted}, {in_use}");
    for (client, accepted, sent) in streams {
        fin(&accepted);
        let (bytes, end) = drain(&client);
        assert!(bytes.iter().all(|byte| *byte == 7));
        assert_eq!((bytes.len(), end), (sent, End::Fin));
    }
    ringway.until_connections(0);
    let spliced = || {
        let metrics = ringway.metrics();
        metrics.sum("relayed_bytes_total", &[("engine", "splice")])
    };
    let before = spliced();
    let (client, accepted) = backend.pair(&ringway);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            keyed::send(&accepted, 1, 5_000_000);
            fin(&accepted);
        });
        assert_eq!(keyed::receive(&client, 1), (5_000_000, End::Fin));
    });
    until("it is spliced again", || spliced() > before);
}

/// Greets with the name of the backend, and goes when its peer does.
const BACKENDS: &str = r"
import asyncio
async def listen(port, name):
    async def serve(reader, writer):
        try:
            writer.write(name)
            await reader.read()
        except ConnectionError:
            pass
        writer.close()
    return await asyncio.start_server(serve, '127.0.0.1', port, backlog=1000)
async def run():
    servers = [await listen(9000, b'a'), await listen(9001, b'b')]
    print('listening', flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))
asyncio.run(run())
";

/// Two backends in the network of an instance.
struct Backends(Child);

impl Backends {
    fn start(ringway: &Ringway) -> Backends {
        let mut command = beside(&ringway.process, "python3");
        let command = command.args(["-c", BACKENDS]).stdout(Stdio::piped());
        let mut backends = Backends(command.spawn().unwrap());
        let mut line = String::new();
        let output = backends.0.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n");
        backends
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the network of the instance, which has nothing to do with that of the host.
fn within(ringway: &Ringway, program: &str, arguments: &[&str], input: &str) {
    let mut command: Command = beside(&ringway.process, program);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

fn apart(outlier: &str, source: &str) -> Ringway {
    let connect = format!("connect: {{timeout: 10m, attempts: 2, source: [{source}]}}");
    Setup::to(["127.0.0.1:9000", "127.0.0.1:9001"])
        .binds(&["unix:DIR/front.sock"])
        .pool(&connect)
        .pool(&format!("outlier: {outlier}"))
        .launch_as(Launch::Apart)
        .start()
}

/// The name of the backend that greets, or none for a client that is turned away.
fn ask(ringway: &Ringway) -> Option<(UnixStream, u8)> {
    say(ringway, b"")
}

/// The same for a client that speaks first.
fn say(ringway: &Ringway, first: &[u8]) -> Option<(UnixStream, u8)> {
    let client = UnixStream::connect(ringway.dir().join("front.sock")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // Whoever is turned away may be so before it speaks.
    (&client).write_all(first).ok()?;
    let mut name = [0];
    match (&client).read(&mut name) {
        Ok(1) => Some((client, name[0])),
        Ok(_) | Err(_) => None,
    }
}

fn failures(ringway: &Ringway, error: &str) -> i64 {
    let metrics = ringway.metrics();
    metrics.sum("backend_connect_failures_total", &[("error", error)])
}

/// From 40000 on, the kernel gives no port after this one to a connection of the instance.
fn bound_ports(ringway: &Ringway, last: u16) {
    let range = format!("echo 40000 {last} > /proc/sys/net/ipv4/ip_local_port_range");
    within(ringway, "sh", &["-c", &range], "");
}

/// Clients until one is turned away: as many as there are ports, half of them at each backend.
fn fill(ringway: &Ringway, ports: usize) -> Vec<(UnixStream, u8)> {
    let mut inside = Vec::new();
    while let Some(client) = ask(ringway) {
        inside.push(client);
        assert!(inside.len() <= ports, "more connections than ports");
    }
    let of_first = inside.iter().filter(|(_, name)| *name == b'a').count();
    assert_eq!((inside.len(), of_first), (ports, ports / 2));
    inside
}

/// A hundred ports carry a hundred connections to each backend.
#[test]
fn without_a_local_port_another_backend_is_tried_and_none_is_blamed() {
    if !can_be_tested() {
        return;
    }
    let ringway = apart(
        "{consecutive_failures: 1, ejection: 1h, max_ejection: 1h}",
        "",
    );
    let _backends = Backends::start(&ringway);
    bound_ports(&ringway, 40099);
    let inside = fill(&ringway, 200);
    let before = failures(&ringway, "no_ports");
    for _ in 0..10 {
        assert!(ask(&ringway).is_none());
    }
    assert_eq!(failures(&ringway, "no_ports") - before, 20);
    until("counted", || ringway.refused("resources") == 11);
    assert_eq!(
        ringway.metrics().each("backend_ejections_total", &[]),
        [0, 0]
    );
    drop(inside);
    // Not at once: a port rests for a second after a connection that this side ended first.
    until("there are ports again", || ask(&ringway).is_some());
}

/// The same ports once more for each address: towards each backend the kernel gives out every one.
#[test]
fn several_source_addresses_extend_the_ports() {
    if !can_be_tested() {
        return;
    }
    let ringway = apart("off", "127.0.0.2, 127.0.0.3, 127.0.0.4");
    let _backends = Backends::start(&ringway);
    bound_ports(&ringway, 40049);
    let inside = fill(&ringway, 300);
    assert!(failures(&ringway, "no_ports") > 0);
    assert_eq!(
        ringway.metrics().each("backend_ejections_total", &[]),
        [0, 0]
    );
    drop(inside);
    until("there are ports again", || ask(&ringway).is_some());
}

/// The port of a backend that is not there is one that the kernel gives to connections, here the only one: the
/// connection would come to its own beginning.
#[test]
fn a_connection_that_would_meet_itself_is_refused() {
    if !can_be_tested() {
        return;
    }
    let setup = Setup::to(["127.0.0.1:40000"]).binds(&["unix:DIR/front.sock"]);
    let ringway = setup.launch_as(Launch::Apart).start();
    bound_ports(&ringway, 40000);
    for first in [&b""[..], b"hello"] {
        assert!(say(&ringway, first).is_none());
    }
    assert!(failures(&ringway, "refused") >= 2);
}

/// The way to a backend is closed by this host's own firewall, which says so while the SYN is being sent.
/// The kernel notes that on a socket that goes on connecting, and its ring tells of a connection.
#[test]
fn what_the_firewall_rejects_is_no_connection_and_another_backend_is_tried() {
    if !can_be_tested() {
        return;
    }
    let ringway = apart("off", "");
    let _backends = Backends::start(&ringway);
    let ways = [
        ("icmp type host-unreachable", "unreachable"),
        ("tcp reset", "refused"),
    ];
    for (hook, (with, error)) in ["input", "output"]
        .into_iter()
        .flat_map(|hook| ways.map(|way| (hook, way)))
    {
        let rules = format!(
            "flush ruleset\ntable inet way {{\nchain closed {{\ntype filter hook {hook} priority 0\n\
             tcp dport 9000 reject with {with}\n}}\n}}\n"
        );
        within(&ringway, "nft", &["-f", "-"], &rules);
        let before = failures(&ringway, error);
        // Every other one is led to the closed one first.
        let first: [&[u8]; 4] = [b"", b"", b"hello", b"hello"];
        let names = first.map(|first| say(&ringway, first).map(|(_, name)| name));
        assert_eq!(names, [Some(b'b'); 4], "{hook}, {with}");
        assert_eq!(failures(&ringway, error) - before, 2, "{hook}, {with}");
    }
}
