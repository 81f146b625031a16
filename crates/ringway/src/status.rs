//! `ringway status`: a running instance as tables for people, or as the JSON it sends. Invariant:
//! nothing the instance sends can steer the terminal.

use crate::cli::StatusArgs;
use crate::client::{Endpoint, Method};
use crate::failure::Failure;
use crate::output::say;
use crate::snapshot::Snapshot;
use crate::table::{Align, Table};

/// Asks the instance and prints its answer.
pub(crate) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let endpoint = Endpoint::of(&args.instance)?;
    if args.json {
        let response = endpoint.request(Method::Get, "/v1/status")?;
        return say(String::from_utf8_lossy(&response.body).trim_end());
    }
    say(&tables(&Snapshot::fetch(&endpoint)?))
}

fn tables(snapshot: &Snapshot) -> String {
    let mut lines = vec![headline(snapshot), String::new()];
    lines.extend(listeners(snapshot).lines());
    lines.push(String::new());
    lines.extend(backends(snapshot).lines());
    lines.push(String::new());
    lines.extend(workers(snapshot).lines());
    lines.join("\n")
}

fn headline(snapshot: &Snapshot) -> String {
    let Snapshot { version, commit, pid, uptime_seconds, .. } = snapshot;
    let line = format!(
        "ringway {version} ({commit}), pid {pid}, up {}, {} connections",
        coarse(*uptime_seconds),
        snapshot.connections()
    );
    line.replace(char::is_control, "?")
}

fn listeners(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&[
        ("listener", Align::Left),
        ("address", Align::Left),
        ("pool", Align::Left),
        ("active", Align::Right),
        ("total", Align::Right),
    ]);
    for listener in &snapshot.listeners {
        table.row([
            listener.name.clone(),
            listener.addresses.join(", "),
            listener.pool.clone(),
            listener.connections.to_string(),
            listener.connections_total.to_string(),
        ]);
    }
    table
}

fn backends(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&[
        ("pool", Align::Left),
        ("backend", Align::Left),
        ("state", Align::Left),
        ("active", Align::Right),
        ("total", Align::Right),
        ("last check", Align::Left),
    ]);
    for pool in &snapshot.pools {
        for backend in &pool.backends {
            let ago = backend.checked_seconds_ago.map(|s| format!("{} ago", coarse(s)));
            let check = [ago, backend.reason.clone()].into_iter().flatten().collect::<Vec<_>>();
            table.row([
                pool.name.clone(),
                backend.address.clone(),
                backend.state.clone(),
                backend.connections.to_string(),
                backend.connections_total.to_string(),
                check.join(", "),
            ]);
        }
    }
    table
}

fn workers(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&[
        ("worker", Align::Left),
        ("CPU", Align::Left),
        ("active", Align::Right),
        ("total", Align::Right),
    ]);
    for worker in &snapshot.workers {
        table.row([
            worker.worker.to_string(),
            worker.cpu.map(|cpu| cpu.to_string()).unwrap_or_default(),
            worker.connections.to_string(),
            worker.connections_total.to_string(),
        ]);
    }
    table
}

/// A duration in its two largest units.
fn coarse(seconds: f64) -> String {
    // A float becomes an integer by saturating, so that nonsense from outside stays harmless.
    let seconds = seconds as u64;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}
