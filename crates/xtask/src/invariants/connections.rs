//! What a short connection costs, and that nothing is left of it. Invariant: every connection and
//! every byte of the loads is accounted for on the metrics page.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::count::{Counted, Counter, Scope, perf, strace, strace_works};
use super::exposition::Exposition;
use super::instance::{Config, Instance, UNCHECKED};
use super::load::{Servers, figure, load, run};
use super::procfs::{descriptors, thread_names};
use super::rig::Rig;
use super::row::Row;

/// The four ways in which a short connection ends, with the options that both ends need.
const ENDINGS: [(&str, [&str; 4]); 4] = [
    ("client-fin", ["--close", "client", "--how", "fin"]),
    ("client-reset", ["--close", "client", "--how", "reset"]),
    ("server-fin", ["--close", "server", "--how", "fin"]),
    ("server-reset", ["--close", "server", "--how", "reset"]),
];

/// An instance with one listener before a reply server.
fn short(rig: &Rig) -> io::Result<(Servers, Instance, String)> {
    let servers = Servers::start(rig, &["reply", "reply"], &[])?;
    let config = Config::pinned(rig).listener("short", "auto", &servers.of("reply"), UNCHECKED);
    let instance = Instance::start(rig, &config)?;
    let to = instance.address("short")?;
    Ok((servers, instance, to))
}

/// System calls per short connection, 32 at a time, ended by the client's FIN.
pub(super) fn system_calls(rig: &Rig) -> io::Result<Vec<Row>> {
    let (_servers, instance, to) = short(rig)?;
    let mut command = load(
        rig,
        &["crr", "--to", &to, "--parallel", "32", "--count", "20000"],
    );
    let name = "system calls per short connection, 32 at a time";
    let Some(Counted { count, result }) =
        rig.counter
            .system_calls(rig, instance.pid(), &mut command)?
    else {
        run(&mut command)?;
        let enters = instance.metrics()?.sum("ringway_uring_enters_total", &[])?;
        let reason = format!("not countable; {enters} ring enters for 20000");
        return Ok(vec![Row::skipped(name, &reason)]);
    };
    let connections = figure(&result, "connections")?;
    let each = count as f64 / connections as f64;
    let shown = format!("{each:.2} ({count} for {connections})");
    Ok(vec![Row::at_most(name, each, 8.0, &shown)])
}

/// Options set on accepted sockets, by system call or through the ring.
pub(super) fn socket_options(rig: &Rig) -> io::Result<Vec<Row>> {
    let (_servers, instance, to) = short(rig)?;
    let name = "setsockopt per accepted connection";
    let count = 500;
    let arguments = ["crr", "--to", &to, "--parallel", "8", "--count", "500"];
    let mut rows = Vec::new();
    if strace_works() {
        let options = ["-y", "-e", "trace=socket,setsockopt"];
        let (calls, _) = strace(rig, instance.pid(), &options, &mut load(rig, &arguments))?;
        let OptionCalls { made, accepted } = option_calls(&calls);
        rows.push(Row::exactly(name, accepted, 0));
        let backend = made as f64 / f64::from(count);
        let shown = format!("{backend:.2} (TCP_NODELAY on the new socket)");
        rows.push(Row::at_most(
            "setsockopt per connection to a backend",
            backend,
            1.0,
            &shown,
        ));
    } else {
        rows.push(Row::skipped(name, "strace is missing or not allowed"));
    }
    if rig.counter == Counter::Perf {
        // A socket option set through the ring is no system call: IORING_OP_URING_CMD, 46.
        let events = ["io_uring:io_uring_submit_req if opcode == 46"];
        let scope = Scope::Process(instance.pid());
        let (counts, _) = perf(rig, scope, &events, &mut load(rig, &arguments))?;
        rows.push(Row::exactly(
            "socket commands through the ring",
            counts.iter().sum(),
            0,
        ));
    }
    Ok(rows)
}

/// Calls of setsockopt, by where their socket came from.
#[derive(Debug, PartialEq, Eq)]
struct OptionCalls {
    /// From socket(2): a connection to a backend.
    made: u64,
    /// From anywhere else: accepted.
    accepted: u64,
}

/// Tells the calls apart by the identity of their socket, which `strace -y` writes: descriptors are
/// used again, sockets are not.
fn option_calls(calls: &str) -> OptionCalls {
    let mut found = OptionCalls {
        made: 0,
        accepted: 0,
    };
    let mut made = HashSet::new();
    for line in calls.lines() {
        if line.contains("socket(") {
            made.extend(
                line.split_once(") = ")
                    .and_then(|(_, result)| identity(result)),
            );
        } else if let Some((_, arguments)) = line.split_once("setsockopt(") {
            match identity(arguments).is_some_and(|socket| made.contains(socket)) {
                true => found.made += 1,
                false => found.accepted += 1,
            }
        }
    }
    found
}

/// The socket in `25<TCP:[4312523]>`, which strace may write in several ways.
fn identity(descriptor: &str) -> Option<&str> {
    let (_, rest) = descriptor.split_once('[')?;
    rest.split_once(']').map(|(inode, _)| inode)
}

/// 50,000 short connections, ended in every way: nothing is left and every byte is counted.
pub(super) fn conservation(rig: &Rig) -> io::Result<Vec<Row>> {
    let mut config = Config::new("auto");
    let mut servers = Vec::new();
    for (name, options) in ENDINGS {
        let started = Servers::start(rig, &["reply", "reply"], &options)?;
        let backends: Vec<SocketAddr> = started.of("reply");
        config = config.listener(name, "auto", &backends, UNCHECKED);
        servers.push(started);
    }
    let instance = Instance::start(rig, &config)?;
    // Whatever is made once and kept, a pipe or a thread, is made by the first connections.
    for (name, options) in ENDINGS {
        let to = instance.address(name)?;
        run(load(rig, &["crr", "--to", &to, "--count", "200"]).args(options))?;
    }
    is_quiet(&instance)?;
    let before = State::of(&instance)?;
    let (mut sent, mut received) = (0, 0);
    for (name, options) in ENDINGS {
        let to = instance.address(name)?;
        let arguments = [
            "crr",
            "--to",
            &to,
            "--count",
            "12500",
            "--sources",
            "4",
            "--reply-size",
            "64",
        ];
        let result = run(load(rig, &arguments).args(options))?;
        sent += figure(&result, "bytes_sent")?;
        received += figure(&result, "bytes_received")?;
    }
    let quiet = is_quiet(&instance)?;
    let after = State::of(&instance)?;
    let metrics = instance.metrics()?;
    let accepted = metrics.sum("ringway_listener_connections_total", &[])?;
    let active = metrics.sum("ringway_listener_connections", &[])?;
    let closed = metrics.sum("ringway_connections_closed_total", &[])?;
    let refused = metrics.sum("ringway_listener_refused_total", &[])?;
    let client = [("side", "client")];
    let bytes_in = metrics.sum("ringway_received_bytes_total", &client)? - before.bytes_in;
    let bytes_out = metrics.sum("ringway_sent_bytes_total", &client)? - before.bytes_out;
    let mut rows = vec![
        Row::exactly(
            "50,000 connections: accepted",
            accepted - before.accepted,
            50_000,
        ),
        Row::exactly(
            "  accepted = closed + active + refused",
            closed + active + refused,
            accepted,
        ),
        Row::exactly("  active connections after", active, before.active),
        Row::exactly("  descriptors after", after.descriptors, before.descriptors),
        Row::exactly("  threads after", after.threads, before.threads),
        Row::exactly("  bytes received from clients", bytes_in, sent),
        Row::exactly("  bytes sent to clients", bytes_out, received),
    ];
    if !quiet {
        rows.push(Row::violated(
            "  quiet within 5 s after the last",
            "no",
            "yes",
        ));
    }
    Ok(rows)
}

/// Waits for the last connections to be closed and counted; whether they were.
fn is_quiet(instance: &Instance) -> io::Result<bool> {
    let none = |metrics: &Exposition| Ok(metrics.sum("ringway_listener_connections", &[])? == 0);
    instance.settles(Duration::from_secs(5), none)
}

/// What has to be again as it was.
#[derive(Debug)]
struct State {
    descriptors: u64,
    threads: u64,
    accepted: u64,
    active: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl State {
    fn of(instance: &Instance) -> io::Result<State> {
        let metrics = instance.metrics()?;
        let client = [("side", "client")];
        // Kernel workers have an invariant of their own.
        let names = thread_names(instance.pid())?;
        let threads = names
            .iter()
            .filter(|name| !name.starts_with("iou-"))
            .count() as u64;
        Ok(State {
            descriptors: settled_descriptors(instance.pid())?,
            threads,
            accepted: metrics.sum("ringway_listener_connections_total", &[])?,
            active: metrics.sum("ringway_listener_connections", &[])?,
            bytes_in: metrics.sum("ringway_received_bytes_total", &client)?,
            bytes_out: metrics.sum("ringway_sent_bytes_total", &client)?,
        })
    }
}

/// The fewest descriptors of several looks: the connections that ask the admin endpoint are closed a
/// moment after they were answered.
fn settled_descriptors(pid: u32) -> io::Result<u64> {
    let mut fewest = descriptors(pid)?;
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(50));
        fewest = fewest.min(descriptors(pid)?);
    }
    Ok(fewest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_are_told_from_those_to_backends() {
        let calls = "\
            7 socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 12<TCP:[500]>\n\
            7 setsockopt(12<TCP:[500]>, SOL_TCP, TCP_NODELAY, [1], 4) = 0\n\
            7 setsockopt(12<TCP:[501]>, SOL_TCP, TCP_NODELAY, [1], 4) = 0\n\
            7 --- SIGCHLD ---\n";
        assert_eq!(
            option_calls(calls),
            OptionCalls {
                made: 1,
                accepted: 1
            }
        );
        assert_eq!(identity("12<socket:[77]>, SOL_TCP"), Some("77"));
        assert_eq!(identity("-1 EMFILE"), None);
    }
}
