//! The rules between the keys of one listener that concern nothing else. Invariant: they only note
//! problems; the model is built by `lower.rs` from the same values.

use ipnet::IpNet;

use crate::address::BindAddress;
use crate::compound::{List, OneOrMany};
use crate::keys;
use crate::model::{Access, ProxyProtocolMode};
use crate::problem::Collector;
use crate::walk::Field;

/// Checks one listener.
pub(crate) fn check(raw: &keys::Listener, found: &mut Collector<'_>) {
    check_proxy_protocol(raw, found);
    check_sources(raw, found);
}

fn reject<T>(found: &mut Collector<'_>, field: &Field<T>, message: impl Into<String>) {
    found.push(field.span, &field.path, message);
}

fn check_proxy_protocol(raw: &keys::Listener, found: &mut Collector<'_>) {
    let Some(protocol) = raw.proxy_protocol.get() else {
        return;
    };
    let (mode, trusted) = (protocol.mode.get(), protocol.trusted.get());
    if mode == Some(&ProxyProtocolMode::Required)
        && trusted.is_some_and(|List(networks)| networks.is_empty())
    {
        let message = "`mode: required` needs `trusted`, the networks whose header is believed";
        reject(found, &protocol.mode, message);
    }
}

/// Clients of Unix sockets have no address but that of a header: what looks at it would have no effect.
fn check_sources(raw: &keys::Listener, found: &mut Collector<'_>) {
    let protocol = raw.proxy_protocol.get();
    if protocol.and_then(|it| it.mode.get()) == Some(&ProxyProtocolMode::Required) {
        return;
    }
    let Some(OneOrMany(binds)) = raw.bind.get() else {
        return;
    };
    let is_unix = |bind: &Field<BindAddress>| matches!(bind.get(), Some(BindAddress::Unix(_)));
    if !binds.iter().all(is_unix) {
        return;
    }
    if let Some(access) = raw.access.get() {
        let default = Access::default();
        no_source(
            &access.allow,
            |List(nets)| says(nets, &default.allow),
            found,
        );
        no_source(&access.deny, |List(nets)| says(nets, &default.deny), found);
    }
    if let Some(limits) = raw.limits.get() {
        let (count, rate) = (&limits.connections_per_source, &limits.rate_per_source);
        no_source(count, |count| count.value().is_none(), found);
        no_source(rate, |rate| rate.value().is_none(), found);
    }
}

fn no_source<T>(field: &Field<T>, is_default: impl Fn(&T) -> bool, found: &mut Collector<'_>) {
    if field.get().is_some_and(|value| !is_default(value)) {
        let message = "every address of this listener is a Unix socket, whose clients have no \
                       address: the permissions of its directory say who may connect";
        reject(found, field, message);
    }
}

fn says(written: &[Field<IpNet>], networks: &[IpNet]) -> bool {
    written.iter().map(Field::get).eq(networks.iter().map(Some))
}
