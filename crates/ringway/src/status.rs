//! `ringway status`: a running instance as tables for people, or as the JSON it sends. Invariant:
//! nothing the instance sends can steer the terminal.

use crate::cli::StatusArgs;
use crate::client::{Endpoint, Method};
use crate::failure::Failure;
use crate::output::say;
use crate::snapshot::{Backend, Snapshot};
use crate::table::{Align, Table};

/// Asks the instance and prints its answer.
pub(crate) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let endpoint = Endpoint::of(&args.instance)?;
    if args.json {
        let response = endpoint.request(Method::Get, "/v1/status")?;
        return say(String::from_utf8_lossy(&response.body).trim_end());
    }
    say(&tables(&Snapshot::fetch(&endpoint)?, args.all))
}

/// More than these are listed only where they are in trouble.
const BACKENDS_LISTED: usize = 50;

fn tables(snapshot: &Snapshot, lists_all: bool) -> String {
    let mut lines = vec![headline(snapshot), String::new()];
    lines.extend(listeners(snapshot).lines());
    lines.push(String::new());
    lines.extend(pools(snapshot).lines());
    lines.push(String::new());
    let (table, left_out) = backends(snapshot, lists_all);
    lines.extend(table.lines());
    if left_out > 0 {
        lines.push(format!("and {left_out} that are up (--all lists them)"));
    }
    lines.push(String::new());
    lines.extend(workers(snapshot).lines());
    lines.join("\n")
}

/// That it drains, and how long it may.
pub(crate) fn draining(snapshot: &Snapshot) -> String {
    match &snapshot.drain {
        Some(drain) => format!("draining, {} left", coarse(drain.remaining_seconds)),
        None => "draining".to_owned(),
    }
}

fn headline(snapshot: &Snapshot) -> String {
    let Snapshot {
        version,
        commit,
        pid,
        connections,
        connections_max,
        ..
    } = snapshot;
    let state = match (&snapshot.unready, snapshot.draining) {
        (_, true) => format!(", {}", draining(snapshot)),
        (Some(reason), false) => format!(", not ready: {reason}"),
        (None, false) => ", ready".to_owned(),
    };
    let up = coarse(snapshot.uptime_seconds);
    let line = format!(
        "ringway {version} ({commit}), pid {pid}, up {up}{state}, \
         {connections} of at most {connections_max} connections"
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
        ("refused", Align::Right),
    ]);
    for listener in &snapshot.listeners {
        table.row([
            listener.name.clone(),
            listener.addresses.join(", "),
            listener.pools.join(", "),
            listener.connections.to_string(),
            listener.connections_total.to_string(),
            listener.refused_total.to_string(),
        ]);
    }
    table
}

fn pools(snapshot: &Snapshot) -> Table {
    let mut table = Table::new(&[
        ("pool", Align::Left),
        ("usable", Align::Left),
        ("active", Align::Right),
        ("total", Align::Right),
        ("failed", Align::Right),
    ]);
    for pool in &snapshot.pools {
        let sum = |of: fn(&Backend) -> u64| pool.backends.iter().map(of).sum::<u64>().to_string();
        table.row([
            pool.name.clone(),
            format!("{} of {}", pool.up, pool.backends.len()),
            sum(|backend| u64::try_from(backend.connections).unwrap_or(0)),
            sum(|backend| backend.connections_total),
            sum(|backend| backend.connect_failures_total),
        ]);
    }
    table
}

/// And how many are left out.
fn backends(snapshot: &Snapshot, lists_all: bool) -> (Table, usize) {
    let mut table = Table::new(&[
        ("pool", Align::Left),
        ("backend", Align::Left),
        ("state", Align::Left),
        ("active", Align::Right),
        ("total", Align::Right),
        ("failed", Align::Right),
        ("last check", Align::Left),
    ]);
    let count: usize = snapshot.pools.iter().map(|pool| pool.backends.len()).sum();
    let lists_all = lists_all || count <= BACKENDS_LISTED;
    let mut left_out = 0;
    for pool in &snapshot.pools {
        for backend in &pool.backends {
            if !lists_all && is_fine(backend) {
                left_out += 1;
                continue;
            }
            table.row([
                pool.name.clone(),
                backend.address.clone(),
                state_of(backend),
                backend.connections.to_string(),
                backend.connections_total.to_string(),
                backend.connect_failures_total.to_string(),
                last_check(backend),
            ]);
        }
    }
    (table, left_out)
}

fn is_fine(backend: &Backend) -> bool {
    let is_active = matches!(backend.admin_state.as_str(), "" | "active");
    backend.state != "down" && backend.ejected_workers == 0 && is_active
}

/// What it is taken for, and how many workers have reason to disagree.
fn state_of(backend: &Backend) -> String {
    let mut parts = vec![backend.state.clone()];
    if backend.state == "down" {
        parts = vec![format!("down for {}", coarse(backend.since_seconds))];
    }
    if !matches!(backend.admin_state.as_str(), "" | "active") {
        parts.push(backend.admin_state.clone());
    }
    if backend.ejected_workers > 0 {
        parts.push(format!("ejected by {}", backend.ejected_workers));
    }
    if backend.backup {
        parts.push("backup".to_owned());
    }
    parts.join(", ")
}

/// When it was checked last; and why it is down, if it is.
fn last_check(backend: &Backend) -> String {
    let ago = backend
        .last_check_seconds
        .map(|seconds| format!("{} ago", coarse(seconds)));
    let failure = backend
        .last_failure
        .clone()
        .filter(|_| backend.state == "down");
    ago.into_iter()
        .chain(failure)
        .collect::<Vec<_>>()
        .join(", ")
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
            worker.name(),
            worker.cpu.to_string(),
            worker.connections.to_string(),
            worker.connections_total.to_string(),
        ]);
    }
    table
}

/// A duration in its two largest units.
pub(crate) fn coarse(seconds: f64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_shown_in_tables() {
        let snapshot = Snapshot::read(
            br#"{
                "version": "1.2.3", "commit": "abc", "pid": 7, "uptime_seconds": 61.5,
                "draining": false, "unready": null, "connections": 3, "connections_max": 900,
                "workers": [{"index": 0, "cpu": 4, "connections": 3, "connections_total": 12},
                    {"index": 1, "cpu": 5, "connections": 1, "connections_total": 2, "state": "leaving"}],
                "listeners": [{"name": "web", "addresses": ["127.0.0.1:80", "[::1]:80"],
                    "pool": "p", "pools": ["p"], "connections": 3, "connections_total": 12, "refused_total": 1}],
                "pools": [{"name": "p", "up": 1, "backends": [
                    {"address": "127.0.0.1:1", "state": "up", "connections": 3,
                     "connections_total": 12, "connect_failures_total": 0,
                     "last_check_seconds": 1.2, "last_failure": "timeout"},
                    {"address": "127.0.0.1:2\u001b[2J", "state": "down", "since_seconds": 75.2, "connections": 0,
                     "connections_total": 0, "connect_failures_total": 2,
                     "last_check_seconds": 0.2, "last_failure": "refused"}]}],
                "something": "of a later version"
            }"#,
        );
        let shown = tables(&snapshot.expect("a status"), false);
        let wanted = "\
ringway 1.2.3 (abc), pid 7, up 1m 1s, ready, 3 of at most 900 connections

listener  address                 pool  active  total  refused
web       127.0.0.1:80, [::1]:80  p          3     12        1

pool  usable  active  total  failed
p     1 of 2       3     12       2

pool  backend          state            active  total  failed  last check
p     127.0.0.1:1      up                    3     12       0  1s ago
p     127.0.0.1:2?[2J  down for 1m 15s       0      0       2  0s ago, refused

worker       CPU  active  total
0            4         3     12
1 (leaving)  5         1      2";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn a_drain_is_shown_with_what_is_left_of_it() {
        let text = br#"{"draining": true, "unready": "draining",
            "drain": {"connections": 2, "remaining_seconds": 61.5}}"#;
        let shown = tables(&Snapshot::read(text).expect("a status"), false);
        assert!(shown.contains(", draining, 1m 1s left, 0 of"), "{shown}");
        let old = Snapshot::read(br#"{"draining": true}"#).expect("a status");
        assert_eq!(draining(&old), "draining");
    }

    #[test]
    fn of_many_backends_those_in_trouble_are_listed() {
        let one = |at: usize| {
            let state = if at % 100 == 7 { "down" } else { "up" };
            format!(r#"{{"address": "10.0.0.{at}:1", "state": "{state}"}}"#)
        };
        let backends: Vec<String> = (0..1000).map(one).collect();
        let text = format!(
            r#"{{"pools": [{{"name": "p", "up": 990, "backends": [{}]}}]}}"#,
            backends.join(",")
        );
        let snapshot = Snapshot::read(text.as_bytes()).expect("a status");
        let shown = tables(&snapshot, false);
        assert_eq!(shown.matches("down for").count(), 10);
        assert!(
            shown.contains("and 990 that are up (--all lists them)"),
            "{shown}"
        );
        assert!(shown.contains("990 of 1000"), "{shown}");
        let all = tables(&snapshot, true);
        assert!(all.contains("10.0.0.999:1") && !all.contains("--all"));
    }

    #[test]
    fn what_is_missing_is_empty_and_what_is_wrong_is_an_error() {
        let empty = Snapshot::read(b"{}").expect("nothing is required");
        assert!(tables(&empty, false).starts_with("ringway  (), pid 0, up 0s, ready"));
        assert!(Snapshot::read(br#"{"workers": 2}"#).is_err());
        assert!(Snapshot::read(b"<html>").is_err());
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, wanted) in [
            (0.9, "0s"),
            (61.0, "1m 1s"),
            (7_322.0, "2h 2m"),
            (90_000.0, "1d 1h"),
            (-1.0, "0s"),
            (f64::NAN, "0s"),
        ] {
            assert_eq!(coarse(seconds), wanted);
        }
    }
}
