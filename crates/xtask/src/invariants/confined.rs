//! An instance in a control group (v2) that has little memory, with more receivers that do not read than that
//! carries: it refuses, the kernel ends nobody, and who comes after them is served. Not how much a connection
//! takes. Invariant: the bound is that of the group or of one above it, once each; swapping is off.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::crowd::{fitting, too_few};
use super::groups::{Bounded, Groups};
use super::instance::{Config, Instance, UNCHECKED};
use super::load::Servers;
use super::rig::Rig;
use super::row::Row;

/// Clients that come, where descriptors allow it: more than it carries.
const CLIENTS_MAX: u64 = 5000;
/// Refusals after which there is nothing more to see.
const REFUSED_ENOUGH: u64 = 200;
/// Asks a source for bytes without end.
const ENDLESS: [u8; 8] = [0xff; 8];
/// What one of them still reads, in the end.
const GOES_ON_BYTES: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// The same with the bound in either place.
pub(super) fn overloaded(rig: &Rig) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for bounded in [Bounded::Own, Bounded::Above] {
        rows.extend(overload(rig, bounded)?);
    }
    Ok(rows)
}

fn overload(rig: &Rig, bounded: Bounded) -> io::Result<Vec<Row>> {
    let name = format!("refused when {}", bounded.describe());
    let Some(groups) = Groups::new(bounded) else {
        return Ok(vec![Row::skipped(
            &name,
            "no group of cgroup v2 with a memory controller can be made here",
        )]);
    };
    let total = CLIENTS_MAX.min(fitting(rig));
    if total < CLIENTS_MAX {
        return Ok(vec![too_few(&name, rig)]);
    }
    let servers = Servers::start(rig, &["source"], &[])?;
    let config = Config::pinned(rig).listener("l", "auto", &servers.of("source"), UNCHECKED);
    let instance = Instance::start_in(rig, &config, &groups.processes())?;
    let to = instance.address("l")?;
    let (mut inside, mut refused) = (Vec::new(), 0);
    let mut charged = String::new();
    for _ in 0..total {
        charged = groups.charged()?;
        match begin(&to) {
            Ok(Some(client)) => inside.push(client),
            Ok(None) => refused += 1,
            Err(error) if groups.events("oom_kill ")? == 0 => return Err(error),
            Err(_) => {}
        }
        if refused == REFUSED_ENOUGH || groups.events("oom_kill ")? > 0 {
            break;
        }
    }
    if groups.events("oom_kill ")? > 0 {
        let shown = format!("ended with {} in; {charged}", inside.len());
        return Ok(vec![Row::violated(&name, &shown, "goes on")]);
    }
    let counted = instance
        .metrics()?
        .sum("ringway_listener_refused_total", &[("reason", "resources")])?;
    let goes_on = goes_on(&mut inside)?;
    let carried = inside.len();
    drop(inside);
    let settled = instance.settles(PATIENCE, |metrics| {
        Ok(metrics.sum("ringway_listener_connections", &[])? == 0)
    })?;
    let begun = Instant::now();
    let served = settled && begin(&to)?.is_some();
    let again = format!("{:.1} ms", begun.elapsed().as_secs_f64() * 1000.0);
    let shown = format!("{refused}, {carried} in; {charged}");
    let killed = groups.events("oom_kill ")?;
    drop(instance);
    Ok(vec![
        match refused == REFUSED_ENOUGH && counted == refused {
            true => Row::at_least(&name, refused as f64, REFUSED_ENOUGH as f64, &shown),
            false => Row::violated(&name, &format!("{counted} counted of {shown}"), "all"),
        },
        Row::exactly("  processes that the kernel ended", killed, 0),
        Row::exactly("  a client of those inside goes on", goes_on.into(), 1),
        match served {
            true => Row::exactly("  afterwards a client is served", 1, 1),
            false => Row::violated("  afterwards a client is served", &again, "1"),
        },
    ])
}

/// A client that has got its first byte and reads no more, or none if it was refused.
fn begin(to: &str) -> io::Result<Option<TcpStream>> {
    let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    let begun = TcpStream::connect(to).and_then(|mut client| {
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(&ENDLESS)?;
        client.read_exact(&mut [0])?;
        Ok(client)
    });
    match begun {
        Ok(client) => Ok(Some(client)),
        Err(error) if is_reset(&error) || error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the first of them gets as much as it now reads.
fn goes_on(inside: &mut [TcpStream]) -> io::Result<bool> {
    let Some(first) = inside.first_mut() else {
        return Ok(false);
    };
    let mut left = GOES_ON_BYTES;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        match first.read(&mut buffer)? {
            0 => return Ok(false),
            bytes => left = left.saturating_sub(bytes),
        }
    }
    Ok(true)
}
