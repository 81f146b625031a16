//! What thousands of clients cost that stop inside a TLS ClientHello, and when they end. Not what a hello
//! costs that is whole. Invariant: all of them are open together when their memory is looked at.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::crowd::{fitting, too_few};
use super::instance::{Config, Instance, UNCHECKED};
use super::load::{Servers, load, run};
use super::procfs::settled_memory;
use super::rig::Rig;
use super::row::Row;

/// Clients that stop, where descriptors allow it.
const STALLED_MAX: u64 = 20_000;
/// Connections by which the pace of this machine is found out, and with which everything is warm.
const WARM: u64 = 500;
/// What one may hold, in bytes: the buffer of what it said, all of it where pages are huge, and its slot.
const CLIENT_CAP: f64 = 17.0 * 1024.0;
/// Clients that come without waiting for those before.
const BATCH: u64 = 500;
/// The least time that a client has.
const HANDSHAKE_LEAST: Duration = Duration::from_secs(10);
/// How long after its deadline a client is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// A record that says it has 512 bytes, with a hello of 508 that says nothing: the rest never comes.
const BEGINNING: &[u8] = &[
    0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// A client and when it began.
type Stalled = (TcpStream, Instant);

/// Memory of a client that stalls inside a hello; that each ends at its deadline; that others are served.
pub(super) fn stalled(rig: &Rig) -> io::Result<Vec<Row>> {
    let memory = "user memory per client stalled in a hello, bytes";
    let total = STALLED_MAX.min(fitting(rig));
    if total < 2 * WARM {
        return Ok(vec![too_few(memory, rig)]);
    }
    let servers = Servers::start(rig, &["echo"], &[])?;
    let handshake = pace(rig, &servers, total)?;
    let config = config(rig, &servers, handshake);
    let instance = Instance::start(rig, &config)?;
    let mut clients = open(&instance, "one", 0, WARM)?;
    let before = settled_memory(instance.pid())?;
    clients.extend(open(&instance, "one", WARM, total / 2 - WARM)?);
    clients.extend(open(&instance, "two", 0, total - total / 2)?);
    let after = settled_memory(instance.pid())?;
    if clients[0].1.elapsed() >= handshake {
        return Err(io::Error::other(
            "the first have ended before the last came",
        ));
    }
    let echo = instance.address("echo")?;
    run(load(rig, &["rr", "--to", &echo, "--connections", "8"]).args(["--count", "2000"]))?;
    let each = after.saturating_sub(before) as f64 / (total - WARM) as f64;
    let shown = format!("{each:.0} ({total} in one worker)");
    let mut rows = vec![Row::at_most(memory, each, CLIENT_CAP, &shown)];
    rows.extend(ends(clients, handshake)?);
    if total < STALLED_MAX {
        let reason = format!("{total} used: {} descriptors", rig.descriptors_max);
        rows.push(Row::skipped("  the same with 20000 of them", &reason));
    }
    Ok(rows)
}

fn config(rig: &Rig, servers: &Servers, handshake: Duration) -> Config {
    let echo = servers.of("echo");
    let seconds = handshake.as_secs();
    let more = |name: &str| {
        format!(
            ", routes: [{{sni: [a.example], pool: {name}}}], timeouts: {{handshake: {seconds}s}}"
        )
    };
    // Two listeners, because the ports of one address do not number much more than half of them.
    Config::pinned(rig)
        .listener_with("one", "auto", &echo, UNCHECKED, &more("one"))
        .listener_with("two", "auto", &echo, UNCHECKED, &more("two"))
        .listener("echo", "auto", &echo, UNCHECKED)
}

/// The time to give each, so that all are open together even on a slow machine.
fn pace(rig: &Rig, servers: &Servers, total: u64) -> io::Result<Duration> {
    let instance = Instance::start(rig, &config(rig, servers, PATIENCE))?;
    let begin = Instant::now();
    drop(open(&instance, "one", 0, WARM)?);
    let all = begin.elapsed().mul_f64(total as f64 / WARM as f64);
    // The file has whole seconds.
    Ok(Duration::from_secs(3 * all.as_secs() + 3).max(HANDSHAKE_LEAST))
}

/// Some more beside those that are `there`, no faster than they are accepted: their time runs from then on.
fn open(instance: &Instance, listener: &str, there: u64, count: u64) -> io::Result<Vec<Stalled>> {
    let to = instance.address(listener)?;
    let mut clients = Vec::new();
    while (clients.len() as u64) < count {
        for _ in 0..BATCH.min(count - clients.len() as u64) {
            let begin = Instant::now();
            let mut client = TcpStream::connect(&to)?;
            client.write_all(BEGINNING)?;
            client.set_read_timeout(Some(PATIENCE))?;
            clients.push((client, begin));
        }
        let due = there + clients.len() as u64;
        let accepted = instance.settles(PATIENCE, |metrics| {
            let labels = [("listener", listener)];
            Ok(metrics.sum("ringway_listener_connections", &labels)? >= due)
        })?;
        if !accepted {
            return Err(io::Error::other(
                "clients that are connected are not accepted",
            ));
        }
    }
    Ok(clients)
}

/// Waits for the end of each, in the order in which they came.
fn ends(clients: Vec<Stalled>, handshake: Duration) -> io::Result<[Row; 2]> {
    let (mut early, mut latest) = (0, Duration::ZERO);
    for (mut client, begin) in clients {
        let deadline = begin + handshake;
        if Instant::now() < deadline {
            early += u64::from(has_ended(&client)?);
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        }
        // An end or a reset, as the listener says; never a byte.
        match client.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Ok(_) => return Err(io::Error::other("a byte for a client that is not routed")),
            Err(error) => return Err(error),
        }
        latest = latest.max(deadline.elapsed());
    }
    let shown = format!("{:.0}", latest.as_secs_f64() * 1000.0);
    Ok([
        Row::exactly("  closed before their deadline", early, 0),
        Row::at_most(
            "  the latest close after its deadline, ms",
            latest.as_secs_f64() * 1000.0,
            250.0,
            &shown,
        ),
    ])
}

fn has_ended(client: &TcpStream) -> io::Result<bool> {
    client.set_nonblocking(true)?;
    let looked = client.peek(&mut [0; 1]);
    client.set_nonblocking(false)?;
    Ok(!looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
}
