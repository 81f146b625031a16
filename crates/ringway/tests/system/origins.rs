//! Where connections to backends come from: `connect.source`, addresses of the host or the client's own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;

use crate::backend::Backend;
use crate::header;
use crate::instance::Ringway;
use crate::peers::{PATIENCE, connect};
use crate::process::{Launch, beside};
use crate::setup::Setup;

const THREE: &str = "connect: {source: [127.0.0.11, 127.0.0.12, 127.0.0.13]}";

/// How many of so many connections came from each address.
fn shares(ringway: &Ringway, backend: &Backend, count: usize) -> BTreeMap<IpAddr, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let client = connect(ringway.address());
        let from = backend.accept().peer_addr().unwrap();
        *shares.entry(from.ip()).or_default() += 1;
        drop(client);
    }
    shares
}

fn last(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, number).into()
}

#[test]
fn source_addresses_take_turns_and_follow_a_reload() {
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]);
    let ringway = setup.clone().pool(THREE).start();
    let even = [11, 12, 13].map(|number| (last(number), 10));
    assert_eq!(shares(&ringway, &backend, 30), even.into());
    let one = setup.clone().pool("connect: {source: [127.0.0.14]}");
    let changes = ringway.reload_as(&one);
    let told = "connect.source: [127.0.0.11, 127.0.0.12, 127.0.0.13] -> [127.0.0.14]";
    assert!(
        changes.iter().any(|change| change.contains(told)),
        "{changes:?}"
    );
    assert_eq!(shares(&ringway, &backend, 5), [(last(14), 5)].into());
    // An address of somebody else changes nothing.
    ringway.rewrite(&setup.pool("connect: {source: [127.0.0.14, 192.0.2.77]}"));
    let refused = ringway.reload_refused().to_string();
    assert!(
        refused.contains("192.0.2.77 is not an address of this host"),
        "{refused}"
    );
    assert_eq!(shares(&ringway, &backend, 5), [(last(14), 5)].into());
}

#[test]
fn health_checks_come_from_there_too() {
    // A check ends by a reset, perhaps before it is accepted: what accept says of it is known all the same.
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let setup = Setup::to([backend.local_addr().unwrap()]).pool(THREE);
    let _ringway = setup.health_checks().start();
    for _ in 0..3 {
        assert_eq!(backend.accept().unwrap().1.ip(), last(11));
    }
}

/// An address of its own that comes and goes, or nothing where that cannot be.
fn comes_and_goes(ringway: &Ringway, action: &str) {
    let ip = ["address", action, "10.9.9.9/32", "dev", "lo"];
    let done = beside(&ringway.process, "ip").args(ip).status();
    assert!(done.unwrap().success());
}

fn addresses_can_be_had() -> bool {
    let script = "ip address add 10.9.9.9/32 dev lo && nsenter --version";
    let mut command = Command::new("unshare");
    let command = command.args(["--net", "sh", "-c", script]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = status.is_ok_and(|status| status.success());
    if !can {
        eprintln!("not tested: needs root, unshare, nsenter and ip");
    }
    can
}

/// What is not changed was there when it was; that it is away just now is no reason to refuse anything else.
#[test]
fn a_source_address_that_is_away_holds_up_no_change_of_anything_else() {
    if !addresses_can_be_had() {
        return;
    }
    let setup = |source: &str| {
        let source = format!("connect: {{source: [{source}]}}");
        Setup::to(["127.0.0.1:9"]).pool(&source)
    };
    let plain = Setup::to(["127.0.0.1:9"]);
    let ringway = plain.launch_as(Launch::Apart).start();
    comes_and_goes(&ringway, "add");
    ringway.reload_as(&setup("10.9.9.9"));
    comes_and_goes(&ringway, "del");
    let backend = "/v1/pools/p/backends/127.0.0.1:9";
    for change in [r#"{"weight": 5}"#, r#"{"state": "drain"}"#] {
        let answer = ringway.admin.patch(backend, change).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    ringway.reload_as(&setup("10.9.9.9").balance("maglev"));
    // What is new is tried.
    ringway.reload_as(&setup("10.9.9.9, 127.0.0.2"));
    ringway.rewrite(&setup("10.9.9.9, 127.0.0.2, 10.9.9.8"));
    let refused = ringway.reload_refused().to_string();
    assert!(refused.contains("10.9.9.8 is not an address"), "{refused}");
    ringway.reload_as(&setup("127.0.0.2"));
    ringway.rewrite(&setup("127.0.0.2, 10.9.9.9"));
    let refused = ringway.reload_refused().to_string();
    assert!(refused.contains("10.9.9.9 is not an address"), "{refused}");
}

#[test]
fn an_address_of_another_host_is_refused_at_start() {
    let setup = Setup::to(["127.0.0.1:9"]).pool("connect: {source: [192.0.2.77]}");
    let ended = setup.launch().end();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    let told = "pool `p`: connect.source: 192.0.2.77 is not an address of this host";
    assert!(ended.log.contains(told), "{}", ended.log);
}

#[test]
fn without_the_capability_the_clients_address_is_refused_at_start() {
    if !geteuid().is_root() {
        eprintln!("not tested: needs root, to run it as somebody else");
        return;
    }
    let setup = Setup::to(["127.0.0.1:9"]).pool("connect: {source: client}");
    let ended = setup.launch_as(Launch::AsNobody).launch().end();
    assert_eq!(ended.code, Some(69), "{}", ended.log);
    for words in [
        "pool `p`: connect.source: client",
        "IP_TRANSPARENT",
        "CAP_NET_ADMIN",
    ] {
        assert!(ended.log.contains(words), "{}", ended.log);
    }
}

/// Tells each who connects its address.
const BACKEND: &str = r"
import socket
listener = socket.create_server(('ANY', 9000), family=socket.FAMILY)
print('listening', flush=True)
while True:
    peer, address = listener.accept()
    peer.sendall((address[0] + '\n').encode())
    peer.close()
";

/// The host of the backend is `PID`; what it sends to clients goes through the balancer's, which takes it for its own.
const WAYS: &str = "set -e
ip link add near type veth peer name far netns PID
ip address add NEAR dev near nodad
ip link set near up
nsenter --target=PID --net sh -ec '
ip link set lo up
ip address add FAR dev far nodad
ip link set far up
ip route add CLIENTS via VIA'
ip -VERSION rule add iif near lookup 100
ip -VERSION route add local DEFAULT dev lo table 100
";

struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What differs between the two versions of IP.
struct Network {
    /// What the words in capitals of the scripts stand for.
    words: [(&'static str, &'static str); 8],
    backend: &'static str,
    /// The address of the balancer towards the backend.
    near: &'static str,
    clients: [&'static str; 2],
    /// Where they say they connected to.
    front: &'static str,
    /// A client of the other version.
    foreign: (&'static str, &'static str),
}

const IPV4: Network = Network {
    words: [
        ("ANY", "0.0.0.0"),
        ("FAMILY", "AF_INET"),
        ("NEAR", "10.9.0.1/24"),
        ("FAR", "10.9.0.2/24"),
        ("CLIENTS", "192.0.2.0/24"),
        ("VIA", "10.9.0.1"),
        ("VERSION", "4"),
        ("DEFAULT", "0.0.0.0/0"),
    ],
    backend: "10.9.0.2:9000",
    near: "10.9.0.1",
    clients: ["192.0.2.7", "192.0.2.8"],
    front: "198.51.100.1:443",
    foreign: ("[2001:db8::7]:1", "[2001:db8::1]:2"),
};

const IPV6: Network = Network {
    words: [
        ("ANY", "::"),
        ("FAMILY", "AF_INET6"),
        ("NEAR", "fd09::1/64"),
        ("FAR", "fd09::2/64"),
        ("CLIENTS", "2001:db8:7::/48"),
        ("VIA", "fd09::1"),
        ("VERSION", "6"),
        ("DEFAULT", "::/0"),
    ],
    backend: "[fd09::2]:9000",
    near: "fd09::1",
    clients: ["2001:db8:7::7", "2001:db8:7::8"],
    front: "[2001:db8::1]:443",
    foreign: ("192.0.2.7:1", "198.51.100.1:2"),
};

impl Network {
    fn script(&self, script: &str) -> String {
        let words = self.words.iter();
        words.fold(script.to_owned(), |script, (word, by)| {
            script.replace(word, by)
        })
    }

    /// A backend in a network of its own, beside that of the instance.
    fn far_backend(&self, ringway: &Ringway) -> Host {
        let mut command = beside(&ringway.process, "unshare");
        let command = command.args(["--net", "python3", "-c", &self.script(BACKEND)]);
        let mut host = Host(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        let output = host.0.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n");
        let ways = self.script(WAYS).replace("PID", &host.0.id().to_string());
        let done = beside(&ringway.process, "sh").args(["-c", &ways]).status();
        assert!(done.unwrap().success());
        host
    }

    fn can_be_had(&self) -> bool {
        let script = "ip link add a type veth peer name b && ip -VERSION rule add iif a lookup 100 && \
                      ip link set lo up && ip -VERSION route add local DEFAULT dev lo table 100 && \
                      nsenter --version && python3 -V";
        let mut command = Command::new("unshare");
        let command = command.args(["--net", "sh", "-c", &self.script(script)]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let can = status.is_ok_and(|status| status.success());
        if !can {
            eprintln!(
                "not tested: needs root, unshare, nsenter, ip with veth and rules, and python3"
            );
        }
        can
    }

    fn the_clients_address_reaches_the_backend(&self) {
        if !self.can_be_had() {
            return;
        }
        let setup = Setup::to([self.backend])
            .binds(&["unix:DIR/front.sock"])
            .trusting("127.0.0.0/8")
            .pool("connect: {source: client}")
            .launch_as(Launch::Apart);
        let ringway = setup.start();
        let _host = self.far_backend(&ringway);
        let heard = |announced: &[u8]| {
            let mut client = UnixStream::connect(ringway.dir().join("front.sock")).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(announced).unwrap();
            let mut line = String::new();
            client.read_to_string(&mut line).unwrap();
            line
        };
        let to = self.front.parse().unwrap();
        for source in self.clients {
            let source = SocketAddr::new(source.parse().unwrap(), 5000);
            let announced = header::v1(source, to);
            assert_eq!(heard(&announced), format!("{}\n", source.ip()));
        }
        // Who has no address comes from the balancer's.
        assert_eq!(heard(b"PROXY UNKNOWN\r\n"), format!("{}\n", self.near));
        // One of another family could only come as somebody else.
        let (from, to) = self.foreign;
        let foreign = header::v1(from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(heard(&foreign), "");
    }
}

#[test]
fn the_clients_address_reaches_a_backend_that_routes_back() {
    IPV4.the_clients_address_reaches_the_backend();
}

#[test]
fn the_clients_address_reaches_a_backend_over_ipv6() {
    IPV6.the_clients_address_reaches_the_backend();
}
