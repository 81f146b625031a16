//! The rules between the keys of one pool. Invariant: they only note problems; the model is built
//! by `lower.rs` from the same values.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ringway_balance::Algorithm;

use crate::address::BackendAddress;
use crate::compound::List;
use crate::keys::{self, CheckType};
use crate::problem::{Collector, quoted};
use crate::values::{LocalIp, Statuses};
use crate::walk::Field;

/// The backends of a pool, as far as they could be read.
pub(crate) fn backends(pool: Option<&keys::Pool>) -> &[Field<keys::Backend>] {
    match pool.and_then(|pool| pool.backends.get()) {
        Some(Some(List(items))) => items,
        Some(None) | None => &[],
    }
}

/// Checks one pool.
pub(crate) fn check(raw: &keys::Pool, found: &mut Collector<'_>) {
    let is_missing = matches!(raw.backends.get(), Some(None));
    if is_missing && !raw.discover.written {
        reject(
            found,
            &raw.backends,
            "`backends` is missing: a list, each item with an `address`",
        );
    }
    check_addresses(raw, found);
    if let Some(check) = raw.health_check.get().and_then(|check| check.value()) {
        check_times(check, found);
        check_type(check, found);
        check_port(check, raw, found);
    }
    if let Some(outlier) = raw.outlier.get().and_then(|outlier| outlier.value()) {
        check_ejections(outlier, found);
    }
    check_slow_start(raw, found);
    if let Some(connect) = raw.connect.get() {
        check_sources(connect, raw, found);
    }
}

fn reject<T>(found: &mut Collector<'_>, field: &Field<T>, message: impl Into<String>) {
    found.push(field.span, &field.path, message);
}

fn check_addresses(raw: &keys::Pool, found: &mut Collector<'_>) {
    let mut seen: BTreeMap<&BackendAddress, u32> = BTreeMap::new();
    for backend in backends(Some(raw)).iter().filter_map(Field::get) {
        let Some(address) = backend.address.get() else {
            continue;
        };
        if let Some(line) = seen.get(address) {
            let shown = quoted(&address.to_string());
            let message = format!("{shown} is in this pool already, on line {line}");
            reject(found, &backend.address, message);
        } else {
            seen.insert(address, backend.address.span.line);
        }
    }
}

/// A check that outlives its interval would overlap with the next one.
fn check_times(check: &keys::HealthCheck, found: &mut Collector<'_>) {
    let (Some(interval), Some(timeout)) = (check.interval.get(), check.timeout.get()) else {
        return;
    };
    if timeout.0 <= interval.0 {
        return;
    }
    let (timeout, interval) = (timeout.0, interval.0);
    if check.timeout.written {
        let message =
            format!("a timeout of {timeout:?} is longer than the interval of {interval:?}");
        reject(found, &check.timeout, message);
    } else {
        let message = format!("the default timeout of {timeout:?} is longer: write `timeout` too");
        reject(found, &check.interval, message);
    }
}

fn check_ejections(outlier: &keys::Outlier, found: &mut Collector<'_>) {
    let (Some(first), Some(longest)) = (outlier.ejection.get(), outlier.max_ejection.get()) else {
        return;
    };
    let (first, longest) = (first.0, longest.0);
    if first <= longest {
        return;
    }
    if outlier.max_ejection.written {
        let message = format!("{longest:?} is shorter than the first ejection of {first:?}");
        reject(found, &outlier.max_ejection, message);
    } else {
        let message = format!("{first:?} is longer than {longest:?}: write `max_ejection` too");
        reject(found, &outlier.ejection, message);
    }
}

/// Each is an address, and each backend has one of its own family.
fn check_sources(connect: &keys::Connect, raw: &keys::Pool, found: &mut Collector<'_>) {
    let Some(List(items)) = connect.source.get().and_then(|source| source.value()) else {
        return;
    };
    let mut seen: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for item in items {
        let Some(LocalIp(address)) = item.get() else {
            return;
        };
        let shown = quoted(&address.to_string());
        if address.is_unspecified() || address.is_multicast() {
            reject(found, item, format!("{shown} is no address of a host"));
        } else if let Some(line) = seen.insert(*address, item.span.line) {
            let message = format!("{shown} is in this list already, on line {line}");
            reject(found, item, message);
        }
    }
    if seen.is_empty() {
        return;
    }
    let addresses = backends(Some(raw)).iter().filter_map(Field::get);
    for address in addresses.filter_map(|backend| backend.address.get()) {
        let BackendAddress::Tcp(backend) = address else {
            continue;
        };
        if !seen.keys().any(|own| own.is_ipv4() == backend.is_ipv4()) {
            let family = if backend.is_ipv4() { "IPv4" } else { "IPv6" };
            let shown = quoted(&backend.to_string());
            let message =
                format!("no {family} address is among them, and backend {shown} needs one");
            reject(found, &connect.source, message);
        }
    }
}

/// A hash whose weights change would move clients to and fro.
fn check_slow_start(raw: &keys::Pool, found: &mut Collector<'_>) {
    let is_on = raw
        .slow_start
        .get()
        .is_some_and(|over| over.value().is_some());
    let hashing = match raw.balance.get() {
        Some(Algorithm::SourceHash) => "source_hash",
        Some(Algorithm::Maglev) => "maglev",
        Some(Algorithm::RoundRobin | Algorithm::LeastConnections | Algorithm::Random) | None => {
            return;
        }
    };
    if is_on {
        let message = format!(
            "a pool of `balance: {hashing}` keeps its clients where they are: only `off` fits it"
        );
        reject(found, &raw.slow_start, message);
    }
}

/// A key of another type of check would have no effect.
fn check_type(check: &keys::HealthCheck, found: &mut Collector<'_>) {
    let Some(kind) = check.kind.get() else { return };
    if *kind != CheckType::Http {
        belongs_to("http", &check.path, |path| path.0 == "/", found);
        belongs_to("http", &check.host, Option::is_none, found);
        let all_well = Some(&Statuses(200, 399));
        let is_default = |List(ranges): &List<Statuses, 1, 64>| matches!(ranges.as_slice(), [range] if range.get() == all_well);
        belongs_to("http", &check.status, is_default, found);
    }
    if *kind != CheckType::Exchange {
        belongs_to("exchange", &check.send, |bytes| bytes.0.is_empty(), found);
        belongs_to("exchange", &check.expect, |bytes| bytes.0.is_empty(), found);
    }
}

fn belongs_to<T>(
    kind: &str,
    field: &Field<T>,
    is_default: impl Fn(&T) -> bool,
    found: &mut Collector<'_>,
) {
    if field.get().is_some_and(|value| !is_default(value)) {
        reject(
            found,
            field,
            format!("only a check of `type: {kind}` has this key"),
        );
    }
}

fn check_port(check: &keys::HealthCheck, raw: &keys::Pool, found: &mut Collector<'_>) {
    let is_set = check.port.get().is_some_and(|port| port.value().is_some());
    let unix = backends(Some(raw))
        .iter()
        .filter_map(|item| item.get()?.address.get())
        .find(|address| matches!(address, BackendAddress::Unix(_)));
    if let (true, Some(address)) = (is_set, unix) {
        let shown = quoted(&address.to_string());
        reject(
            found,
            &check.port,
            format!("{shown} of this pool has no port: only `same` fits it"),
        );
    }
}
