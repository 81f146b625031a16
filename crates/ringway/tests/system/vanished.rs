//! A peer that is gone without a word, as one whose cable was cut: nothing that is sent to it is
//! answered, and nothing is heard of it. In a network of its own, whose packets nft drops.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::instance::Ringway;
use crate::process::{Launch, beside};
use crate::setup::{MODES, Setup};

/// A network that is new has every port free.
const BACKEND_PORT: u16 = 9000;

/// `client PORT` or `backend PORT`: tells its port when it is connected and has said and heard a byte,
/// and when asked, how the connection ends.
const PEER: &str = r"
import socket, sys
which, port = sys.argv[1], int(sys.argv[2])
if which == 'client':
    peer = socket.create_connection(('127.0.0.1', port))
else:
    listener = socket.create_server(('127.0.0.1', port))
    print('listening', flush=True)
    peer, _ = listener.accept()
peer.sendall(b'!')
assert peer.recv(1) == b'!'
print(peer.getsockname()[1], flush=True)
try:
    print('fin' if peer.recv(1) == b'' else 'more', flush=True)
except ConnectionResetError:
    print('reset', flush=True)
";

/// A peer in the network of the instance.
struct Peer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Peer {
    fn new(ringway: &Ringway, which: &str, port: u16) -> Peer {
        let mut command = beside(&ringway.process, "python3");
        command.args(["-c", PEER, which, &port.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Peer { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From now on what this port sends, and what is sent to it, is lost.
fn cut(ringway: &Ringway, port: u16) {
    let rules = format!(
        "table inet cable {{\nchain cut {{\ntype filter hook input priority 0\n\
         tcp sport {port} drop\ntcp dport {port} drop\n}}\n}}\n"
    );
    let mut nft = beside(&ringway.process, "nft");
    let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin
        .take()
        .unwrap()
        .write_all(rules.as_bytes())
        .unwrap();
    assert!(nft.wait().unwrap().success());
}

pub(crate) fn can_be_tested() -> bool {
    let works = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let script = "ip link set lo up && nft list ruleset && nsenter --version && python3 -V";
    let can = works("unshare", &["--net", "sh", "-c", script]);
    if !can {
        eprintln!("not tested: needs root, unshare, nsenter, ip, nft and python3");
    }
    can
}

/// Opens a connection, cuts off one of its peers and returns how the other one heard of that.
fn cut_off(ringway: &Ringway, who: &str) -> String {
    let mut backend = Peer::new(ringway, "backend", BACKEND_PORT);
    assert_eq!(backend.line(), "listening");
    let mut client = Peer::new(ringway, "client", ringway.address().port());
    let ports = [client.line(), backend.line()];
    let (port, other) = match who {
        "client" => (ports[0].parse().unwrap(), &mut backend),
        _ => (BACKEND_PORT, &mut client),
    };
    cut(ringway, port);
    let end = other.line();
    ringway.until_connections(0);
    let mut rest = String::new();
    other.lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    end
}

fn start(tcp: &str, timeouts: &str, mode: crate::setup::Relay) -> Ringway {
    let setup = Setup::to([format!("127.0.0.1:{BACKEND_PORT}")]).relay(mode);
    setup
        .binds(&["127.0.0.1:0"])
        // It would decide instead of the number of probes, see tcp(7).
        .listener(&format!("tcp: {{user_timeout: off, keepalive: {tcp}}}"))
        .listener(&format!("timeouts: {{{timeouts}}}"))
        .launch_as(Launch::Apart)
        .start()
}

/// Backends get no keepalive: what is said to one that is gone, and the idle timeout, find it.
#[test]
fn keepalive_finds_clients_that_are_gone() {
    if !can_be_tested() {
        return;
    }
    std::thread::scope(|scope| {
        for mode in MODES {
            scope.spawn(move || {
                let tcp = "{idle: 1s, interval: 1s, count: 2}";
                let ringway = start(tcp, "idle: 10m", mode);
                // What it had still to say will never be known.
                assert_eq!(cut_off(&ringway, "client"), "reset", "{mode:?}");
                ringway.until_closed("client", "reset", 1);
            });
        }
    });
}

#[test]
fn the_idle_timeout_frees_what_keepalive_has_not_found_yet() {
    if !can_be_tested() {
        return;
    }
    std::thread::scope(|scope| {
        for who in ["client", "backend"] {
            scope.spawn(move || {
                let tcp = "{idle: 1h, interval: 1h, count: 2}";
                let ringway = start(tcp, "idle: 1s", crate::setup::Relay::Auto);
                assert_eq!(cut_off(&ringway, who), "fin", "{who}");
                ringway.until_closed("ringway", "idle", 1);
            });
        }
    });
}
