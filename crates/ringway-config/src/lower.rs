//! From what was written to the model: the rules between keys. Not the rules of one key; those are
//! in its kind. Invariant: a rule runs whenever the values it compares are right, whatever else is
//! wrong, so that one run shows every error; a model comes out only when there is none.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use ipnet::IpNet;
use ringway_balance::AdminState;
use ringway_health::{OutlierParams, StatusRange};
use ringway_wire::ProxyVersion;

use crate::address::{AdminBind, BackendAddress, BindAddress};
use crate::amounts::{Int, Micros, Rate, Seconds, Size, Time};
use crate::compound::{Entry, List, OneOrMany, OrNull};
use crate::keys;
use crate::listener_rules;
use crate::model::{
    Access, AccessLog, Backend, CheckKind, Config, ConnectSource, HealthCheck, Keepalive, Listener,
    ListenerLimits, ListenerTimeouts, Log, Pool, ProxyProtocol, Route, Shutdown, TcpOptions,
};
use crate::pool_rules;
use crate::problem::{Collector, quoted};
use crate::routes::{self, Protocol};
use crate::suggest::nearest;
use crate::values::{FilePath, PoolName, Statuses};
use crate::walk::Field;

/// The model of `document`; `None` after noting why not.
pub(crate) fn config(document: &keys::Document, found: &mut Collector<'_>) -> Option<Config> {
    let pools = PoolNames::new(document);
    let mut bound = Bound::default();
    // First, so that a listener on the endpoint's default address is told where it stands.
    let endpoint = admin(document.admin.get(), &mut bound, found);
    let listeners: Option<Vec<Listener>> = document
        .listeners
        .get()
        .map(|named| named.0.as_slice())
        .unwrap_or_default()
        .iter()
        .map(|entry| listener(entry, &pools, &mut bound, found))
        .collect::<Vec<_>>()
        .into_iter()
        .collect();
    let lowered: Option<Vec<Pool>> = pools
        .entries
        .iter()
        .map(|entry| pool(entry, found))
        .collect::<Vec<_>>()
        .into_iter()
        .collect();
    document.listeners.get()?;
    document.pools.get()?;
    let busy_poll = document.busy_poll.get()?.value();
    Some(Config {
        workers: document.workers.get()?.0.clone(),
        busy_poll: busy_poll.map(|Micros(duration)| *duration),
        listeners: listeners?,
        pools: lowered?,
        admin: endpoint?,
        admin_token_file: token_file(document.admin.get()?)?,
        log: log(document.log.get()?)?,
        shutdown: shutdown(document.shutdown.get()?)?,
    })
}

fn reject<T>(found: &mut Collector<'_>, field: &Field<T>, message: impl Into<String>) {
    found.push(field.span, &field.path, message);
}

/// The pools by name, in the order of the file.
struct PoolNames<'d> {
    entries: &'d [Entry<keys::Pool>],
    indices: BTreeMap<&'d str, usize>,
    /// Whether `pools` could be read, so that a missing name is missing.
    known: bool,
}

impl<'d> PoolNames<'d> {
    fn new(document: &'d keys::Document) -> Self {
        let entries = match document.pools.get() {
            Some(Some(named)) => named.0.as_slice(),
            Some(None) | None => &[],
        };
        let indices = entries
            .iter()
            .enumerate()
            .map(|(i, entry)| (&*entry.name, i))
            .collect();
        PoolNames {
            entries,
            indices,
            known: document.pools.get().is_some(),
        }
    }

    fn resolve(
        &self,
        name: &str,
        field: &Field<impl Sized>,
        found: &mut Collector<'_>,
    ) -> Option<usize> {
        let index = self.indices.get(name).copied();
        if index.is_none() && self.known {
            let names = self.indices.keys().copied();
            let near = if found.wants_suggestions() {
                nearest(name, names)
            } else {
                None
            };
            let hint = match near {
                _ if self.entries.is_empty() => "; `pools` is missing".to_owned(),
                Some(near) => format!("; did you mean `{}`?", quoted(near)),
                None => String::new(),
            };
            reject(
                found,
                field,
                format!("no pool is named `{}`{hint}", quoted(name)),
            );
        }
        index
    }

    /// The addresses of a pool that could be read.
    fn addresses(&self, index: usize) -> impl Iterator<Item = &'d Field<BackendAddress>> {
        let pool = self.entries.get(index).and_then(|entry| entry.value.get());
        pool_rules::backends(pool)
            .iter()
            .filter_map(|item| item.get())
            .map(|backend| &backend.address)
    }
}

/// What is bound already, and by which key.
#[derive(Default)]
struct Bound(BTreeMap<BindAddress, String>);

impl Bound {
    fn claim(
        &mut self,
        address: &BindAddress,
        field: &Field<impl Sized>,
        found: &mut Collector<'_>,
    ) {
        if address.is_any_port() {
            return;
        }
        if let Some(first) = self.0.get(address) {
            let message = format!(
                "{} is bound already by {first}",
                quoted(&address.to_string())
            );
            reject(found, field, message);
        } else {
            let by_default = if field.written { "" } else { ", by default" };
            self.0
                .insert(address.clone(), format!("{}{by_default}", field.path));
        }
    }
}

fn listener(
    entry: &Entry<keys::Listener>,
    pools: &PoolNames<'_>,
    bound: &mut Bound,
    found: &mut Collector<'_>,
) -> Option<Listener> {
    let raw = entry.value.get()?;
    let pool = listener_pool(entry, raw, pools, found);
    let routes = routes(raw, pools, found);
    let binds = binds(&raw.bind, bound, found);
    let routed = routes.iter().flatten().map(|route| route.pool);
    let mut leads_to: Vec<usize> = routed.chain(pool.flatten()).collect();
    leads_to.sort_unstable();
    leads_to.dedup();
    for index in leads_to {
        check_loop(&raw.bind, pools.addresses(index), found);
    }
    listener_rules::check(raw, found);
    Some(Listener {
        name: entry.name.clone(),
        binds: binds?,
        pool: pool?,
        routes: routes?,
        proxy_protocol: proxy_protocol(raw.proxy_protocol.get()?)?,
        access: access(raw.access.get()?)?,
        limits: limits(raw.limits.get()?)?,
        timeouts: timeouts(raw.timeouts.get()?)?,
        relay: *raw.relay.get()?,
        tcp: tcp(raw.tcp.get()?)?,
    })
}

/// `Some(None)` is none, `None` is wrong.
fn listener_pool(
    entry: &Entry<keys::Listener>,
    raw: &keys::Listener,
    pools: &PoolNames<'_>,
    found: &mut Collector<'_>,
) -> Option<Option<usize>> {
    if let Some(PoolName(name)) = raw.pool.get()? {
        return pools.resolve(name, &raw.pool, found).map(Some);
    }
    if raw.routes.get().is_some_and(|list| list.0.is_empty()) {
        let message = format!(
            "`pool` is missing: without it and without routes every connection to `{}` \
             would be refused",
            quoted(&entry.name)
        );
        reject(found, &raw.pool, message);
        return None;
    }
    Some(None)
}

fn routes(
    raw: &keys::Listener,
    pools: &PoolNames<'_>,
    found: &mut Collector<'_>,
) -> Option<Vec<Route>> {
    let List(routes) = raw.routes.get()?;
    routes::check(routes, found);
    let lowered: Vec<Option<Route>> = routes
        .iter()
        .map(|field| {
            let route = field.get()?;
            let PoolName(name) = route.pool.get()?;
            let pool = pools.resolve(name, &route.pool, found);
            Some(Route {
                names: items(route.sni.get()?)?.cloned().collect(),
                protocols: items(route.alpn.get()?)?
                    .map(|Protocol(name)| name.clone())
                    .collect(),
                pool: pool?,
            })
        })
        .collect();
    lowered.into_iter().collect()
}

/// The items of a list that are all right.
fn items<T, const MIN: usize, const MAX: usize>(
    List(fields): &List<T, MIN, MAX>,
) -> Option<impl Iterator<Item = &T>> {
    let items: Option<Vec<&T>> = fields.iter().map(Field::get).collect();
    items.map(Vec::into_iter)
}

fn proxy_protocol(raw: &keys::ProxyProtocol) -> Option<ProxyProtocol> {
    Some(ProxyProtocol {
        mode: *raw.mode.get()?,
        trusted: items(raw.trusted.get()?)?.copied().collect(),
    })
}

fn binds(
    field: &Field<OneOrMany<BindAddress>>,
    bound: &mut Bound,
    found: &mut Collector<'_>,
) -> Option<Vec<BindAddress>> {
    let OneOrMany(items) = field.get()?;
    for item in items {
        if let Some(address) = item.get() {
            bound.claim(address, item, found);
        }
    }
    items.iter().map(|item| item.get().cloned()).collect()
}

fn check_loop<'d>(
    field: &Field<OneOrMany<BindAddress>>,
    addresses: impl Iterator<Item = &'d Field<BackendAddress>>,
    found: &mut Collector<'_>,
) {
    let Some(OneOrMany(binds)) = field.get() else {
        return;
    };
    for address in addresses {
        let Some(backend) = address.get() else {
            continue;
        };
        let reached = binds
            .iter()
            .find(|bind| bind.get().is_some_and(|bind| bind.is_reached_by(backend)));
        if let Some(bind) = reached {
            let shown = quoted(&backend.to_string());
            reject(
                found,
                address,
                format!("{shown} is {}: it would connect to itself", bind.path),
            );
        }
    }
}

fn access(raw: &keys::Access) -> Option<Access> {
    let networks = |fields: &[Field<IpNet>]| -> Option<Vec<IpNet>> {
        fields.iter().map(|field| field.get().copied()).collect()
    };
    Some(Access {
        allow: networks(&raw.allow.get()?.0)?,
        deny: networks(&raw.deny.get()?.0)?,
    })
}

fn limits(raw: &keys::Limits) -> Option<ListenerLimits> {
    let count = |Int(count): &Int<1, { u32::MAX }>| NonZeroU32::new(*count);
    let rate = |Rate(rate): &Rate| NonZeroU32::new(*rate);
    Some(ListenerLimits {
        connections: raw.connections.get()?.value().and_then(count),
        connections_per_source: raw.connections_per_source.get()?.value().and_then(count),
        rate: raw.rate.get()?.value().and_then(rate),
        rate_per_source: raw.rate_per_source.get()?.value().and_then(rate),
        over: *raw.over.get()?,
    })
}

fn timeouts(raw: &keys::Timeouts) -> Option<ListenerTimeouts> {
    Some(ListenerTimeouts {
        handshake: raw.handshake.get()?.value().map(|Time(duration)| *duration),
        first_byte: raw
            .first_byte
            .get()?
            .value()
            .map(|Time(duration)| *duration),
        idle: raw.idle.get()?.value().map(|Time(duration)| *duration),
        half_close: raw
            .half_close
            .get()?
            .value()
            .map(|Time(duration)| *duration),
        lifetime: raw.lifetime.get()?.value().map(|Time(duration)| *duration),
    })
}

fn tcp(raw: &keys::Tcp) -> Option<TcpOptions> {
    let keepalive = match raw.keepalive.get()?.value() {
        Some(keepalive) => Some(Keepalive {
            idle: keepalive.idle.get()?.0,
            interval: keepalive.interval.get()?.0,
            count: keepalive.count.get()?.0,
        }),
        None => None,
    };
    Some(TcpOptions {
        nodelay: *raw.nodelay.get()?,
        keepalive,
        user_timeout: raw
            .user_timeout
            .get()?
            .value()
            .map(|Time(duration)| *duration),
        backlog: raw.backlog.get()?.0,
        defer_accept: raw
            .defer_accept
            .get()?
            .value()
            .map(|Seconds(duration)| *duration),
        fast_open: raw.fast_open.get()?.value().map(|Int(length)| *length),
        receive_buffer: raw.receive_buffer.get()?.value().map(|Size(bytes)| *bytes),
        send_buffer: raw.send_buffer.get()?.value().map(|Size(bytes)| *bytes),
    })
}

fn pool(entry: &Entry<keys::Pool>, found: &mut Collector<'_>) -> Option<Pool> {
    let raw = entry.value.get()?;
    pool_rules::check(raw, found);
    let List(items) = raw.backends.get()?.as_ref()?;
    let backends = items
        .iter()
        .map(|item| backend(item.get()?))
        .collect::<Option<Vec<_>>>()?;
    let health = match raw.health_check.get()?.value() {
        Some(check) => Some(health_check(check)?),
        None => None,
    };
    let outlier = match raw.outlier.get()?.value() {
        Some(outlier) => Some(outlier_params(outlier)?),
        None => None,
    };
    let connect = raw.connect.get()?;
    Some(Pool {
        name: entry.name.clone(),
        algorithm: *raw.balance.get()?,
        backends,
        health,
        outlier,
        send_proxy: match raw.send_proxy_protocol.get()? {
            keys::ProxyProtocolVersion::Off => None,
            keys::ProxyProtocolVersion::V1 => Some(ProxyVersion::V1),
            keys::ProxyProtocolVersion::V2 => Some(ProxyVersion::V2),
        },
        slow_start: raw.slow_start.get()?.value().map(|Time(over)| *over),
        connect_timeout: connect.timeout.get()?.0,
        connect_attempts: connect.attempts.get()?.0,
        connect_source: connect_source(connect)?,
        when_backend_down: *raw.when_backend_down.get()?,
        when_all_down: *raw.when_all_down.get()?,
    })
}

fn connect_source(raw: &keys::Connect) -> Option<ConnectSource> {
    let Some(List(items)) = raw.source.get()?.value() else {
        return Some(ConnectSource::Client);
    };
    let addresses = items.iter().map(|item| Some(item.get()?.0));
    let addresses = addresses.collect::<Option<Vec<_>>>()?;
    Some(match addresses.is_empty() {
        true => ConnectSource::Any,
        false => ConnectSource::Addresses(addresses),
    })
}

fn backend(raw: &keys::Backend) -> Option<Backend> {
    Some(Backend {
        address: raw.address.get()?.clone(),
        weight: raw.weight.get()?.0,
        state: AdminState::Active,
        backup: *raw.backup.get()?,
        max_connections: raw.max_connections.get()?.value().map(|Int(count)| *count),
    })
}

fn health_check(raw: &keys::HealthCheck) -> Option<HealthCheck> {
    let port = raw.port.get()?.value().map(|Int(port)| *port);
    let mut check = HealthCheck::default();
    check.params.interval = raw.interval.get()?.0;
    check.params.timeout = raw.timeout.get()?.0;
    check.params.rise = raw.rise.get()?.0;
    check.params.fall = raw.fall.get()?.0;
    check.port = port.and_then(|port| u16::try_from(port).ok());
    check.kind = check_kind(raw)?;
    Some(check)
}

fn outlier_params(raw: &keys::Outlier) -> Option<OutlierParams> {
    Some(OutlierParams {
        consecutive_failures: raw.consecutive_failures.get()?.0,
        ejection: raw.ejection.get()?.0,
        max_ejection: raw.max_ejection.get()?.0,
        max_ejected_percent: u8::try_from(raw.max_ejected_percent.get()?.0).ok()?,
    })
}

fn check_kind(raw: &keys::HealthCheck) -> Option<CheckKind> {
    Some(match raw.kind.get()? {
        keys::CheckType::Tcp => CheckKind::Tcp,
        keys::CheckType::Http => {
            let List(ranges) = raw.status.get()?;
            let range = |&Statuses(from, to): &Statuses| StatusRange { from, to };
            CheckKind::Http {
                path: raw.path.get()?.0.clone(),
                host: raw.host.get()?.as_ref().map(|host| host.0.clone()),
                statuses: ranges
                    .iter()
                    .map(|item| item.get().map(range))
                    .collect::<Option<_>>()?,
            }
        }
        keys::CheckType::Exchange => CheckKind::Exchange {
            send: raw.send.get()?.0.clone(),
            expect: raw.expect.get()?.0.clone(),
        },
    })
}

/// `Some(None)` is off, `None` is wrong.
fn admin(
    raw: Option<&keys::Admin>,
    bound: &mut Bound,
    found: &mut Collector<'_>,
) -> Option<Option<AdminBind>> {
    let raw = raw?;
    let Some(address) = raw.bind.get()?.value() else {
        return Some(None);
    };
    bound.claim(address, &raw.bind, found);
    match (AdminBind::try_from(address.clone()), raw.token_file.get()?) {
        (Ok(bind), OrNull(_)) => Some(Some(bind)),
        (Err(_), OrNull(Some(_))) => Some(Some(AdminBind::with_token(address.clone()))),
        (Err(error), OrNull(None)) => {
            let message = format!("{error}, or give `token_file`, which changes then need");
            reject(found, &raw.bind, message);
            None
        }
    }
}

fn token_file(raw: &keys::Admin) -> Option<Option<PathBuf>> {
    let OrNull(path) = raw.token_file.get()?;
    Some(path.as_ref().map(|FilePath(path)| path.clone()))
}

fn log(raw: &keys::Log) -> Option<Log> {
    let access = match raw.access.get()?.value().map(|access| access.value()) {
        None => AccessLog::Off,
        Some(None) => AccessLog::Stdout,
        Some(Some(FilePath(path))) => AccessLog::File(path.clone()),
    };
    Some(Log {
        level: *raw.level.get()?,
        format: *raw.format.get()?,
        access,
    })
}

fn shutdown(raw: &keys::Shutdown) -> Option<Shutdown> {
    Some(Shutdown {
        delay: raw.delay.get()?.0,
        drain: raw.drain.get()?.0,
    })
}
