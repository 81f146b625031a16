//! What a new configuration changes, key by key. Pure: two checked models in, lines out.
//!
//! Listeners and pools are the same where their names are, backends of a pool where their addresses
//! are; the order in the file means nothing. Invariant: two models without a difference are the same
//! to every reader but for that order, because every field of every struct is taken apart here.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use crate::limits::QUOTE_CHARS_MAX;
use crate::model::{
    Access, AccessLog, Backend, CheckKind, Config, ConnectSource, HealthCheck, Listener,
    ListenerLimits, ListenerTimeouts, Log, Pool, ProxyProtocol, Route, Shutdown, TcpOptions,
    Workers,
};
use crate::routes::NamePattern;

/// One key that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The full key, such as `pools.web.backends.127.0.0.1:9001.weight`.
    pub key: String,
    /// What happens to it.
    pub what: What,
}

/// What happens to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It has another value.
    Changed {
        /// The value it had, as a text.
        from: String,
        /// The value it has.
        to: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let is_short = |text: &str| text.chars().count() <= QUOTE_CHARS_MAX;
        match &self.what {
            What::Added => write!(f, "{key}: added"),
            What::Removed => write!(f, "{key}: removed"),
            What::Changed { from, to } if is_short(from) && is_short(to) => {
                write!(f, "{key}: {from} -> {to}")
            }
            What::Changed { .. } => write!(f, "{key}: changed"),
        }
    }
}

/// Everything that is different, in the order of the contract.
pub fn difference(old: &Config, new: &Config) -> Vec<Change> {
    let mut found = Vec::new();
    compare(&mut found, "", &root(old), &root(new));
    let listener = |config: &Config, listener: &Listener| listener_facts(listener, config);
    compare_lists(
        &mut found,
        "listeners.",
        &named(&old.listeners, |l| l.name.clone()),
        &named(&new.listeners, |l| l.name.clone()),
        |found, key, (before, after)| {
            compare(found, key, &listener(old, before), &listener(new, after));
        },
    );
    compare_lists(
        &mut found,
        "pools.",
        &named(&old.pools, |p| p.name.clone()),
        &named(&new.pools, |p| p.name.clone()),
        compare_pools,
    );
    found
}

fn compare_pools(found: &mut Vec<Change>, key: &str, (before, after): (&Pool, &Pool)) {
    compare(found, key, &pool_facts(before), &pool_facts(after));
    compare_lists(
        found,
        &format!("{key}.backends."),
        &named(&before.backends, |b| b.address.to_string()),
        &named(&after.backends, |b| b.address.to_string()),
        |found, key, (before, after)| {
            compare(found, key, &backend_facts(before), &backend_facts(after));
        },
    );
}

fn named<T>(list: &[T], name: impl Fn(&T) -> String) -> Vec<(String, &T)> {
    list.iter().map(|entry| (name(entry), entry)).collect()
}

fn compare_lists<T>(
    found: &mut Vec<Change>,
    prefix: &str,
    old: &[(String, &T)],
    new: &[(String, &T)],
    each: impl Fn(&mut Vec<Change>, &str, (&T, &T)),
) {
    let before: HashMap<&str, &T> = old.iter().map(|(name, t)| (name.as_str(), *t)).collect();
    let after: HashSet<&str> = new.iter().map(|(name, _)| name.as_str()).collect();
    for (name, _) in old
        .iter()
        .filter(|(name, _)| !after.contains(name.as_str()))
    {
        let key = format!("{prefix}{name}");
        found.push(Change {
            key,
            what: What::Removed,
        });
    }
    for (name, now) in new {
        let key = format!("{prefix}{name}");
        match before.get(name.as_str()) {
            Some(was) => each(found, &key, (was, now)),
            None => found.push(Change {
                key,
                what: What::Added,
            }),
        }
    }
}

/// A key below the one that is compared, and its value as a text.
type Fact = (&'static str, String);

fn compare(found: &mut Vec<Change>, prefix: &str, old: &[Fact], new: &[Fact]) {
    let pairs = old.iter().zip(new).filter(|(old, new)| old != new);
    found.extend(pairs.map(|((key, from), (_, to))| Change {
        key: if prefix.is_empty() {
            (*key).to_owned()
        } else {
            format!("{prefix}.{key}")
        },
        what: What::Changed {
            from: from.clone(),
            to: to.clone(),
        },
    }));
}

fn root(config: &Config) -> Vec<Fact> {
    let Config {
        workers,
        busy_poll,
        listeners: _,
        pools: _,
        admin,
        admin_token_file,
        log: Log {
            level,
            format,
            access,
        },
        shutdown: Shutdown { delay, drain },
    } = config;
    let workers = match workers {
        Workers::Auto => "auto".to_owned(),
        Workers::Count(count) => count.to_string(),
        Workers::Cpus(cpus) => format!("{cpus:?}"),
    };
    let access = match access {
        AccessLog::Off => "off".to_owned(),
        AccessLog::Stdout => "stdout".to_owned(),
        AccessLog::File(path) => path.display().to_string(),
    };
    let token_file = admin_token_file.as_ref();
    let token_file = token_file.map_or("null".to_owned(), |path| path.display().to_string());
    vec![
        ("workers", workers),
        ("busy_poll", optional_time(*busy_poll)),
        ("admin.bind", optional(admin.as_ref())),
        ("admin.token_file", token_file),
        ("log.level", lower(level)),
        ("log.format", lower(format)),
        ("log.access", access),
        ("shutdown.delay", time(*delay)),
        ("shutdown.drain", time(*drain)),
    ]
}

fn listener_facts(listener: &Listener, config: &Config) -> Vec<Fact> {
    let Listener {
        name: _,
        binds,
        pool,
        routes,
        proxy_protocol: ProxyProtocol { mode, trusted },
        access: Access { allow, deny },
        limits,
        timeouts,
        relay,
        tcp,
    } = listener;
    let mut facts = vec![
        ("bind", list(binds)),
        (
            "pool",
            pool.map_or_else(|| "none".to_owned(), |at| config.pools[at].name.clone()),
        ),
        ("routes", route_list(routes, config)),
        ("proxy_protocol.mode", lower(mode)),
        ("proxy_protocol.trusted", list(trusted)),
        ("access.allow", list(allow)),
        ("access.deny", list(deny)),
        ("relay", lower(relay)),
    ];
    facts.extend(limit_facts(limits));
    facts.extend(timeout_facts(timeouts));
    facts.extend(tcp_facts(tcp));
    facts
}

fn route_list(routes: &[Route], config: &Config) -> String {
    let route = |route: &Route| {
        let Route {
            names,
            protocols,
            pool,
        } = route;
        let dotted = |name: &NamePattern| match name.is_wildcard {
            true => format!("*.{}", name.name),
            false => name.name.clone(),
        };
        let names: Vec<String> = names.iter().map(dotted).collect();
        let alpn = match protocols.is_empty() {
            true => String::new(),
            false => format!(" {}", list(protocols)),
        };
        format!(
            "[{}]{alpn} to {}",
            names.join(", "),
            config.pools[*pool].name
        )
    };
    let routes: Vec<String> = routes.iter().map(route).collect();
    format!("[{}]", routes.join(", "))
}

fn limit_facts(limits: &ListenerLimits) -> [Fact; 5] {
    let ListenerLimits {
        connections,
        connections_per_source,
        rate,
        rate_per_source,
        over,
    } = limits;
    [
        ("limits.connections", optional(connections.as_ref())),
        (
            "limits.connections_per_source",
            optional(connections_per_source.as_ref()),
        ),
        ("limits.rate", optional(rate.as_ref())),
        ("limits.rate_per_source", optional(rate_per_source.as_ref())),
        ("limits.over", lower(over)),
    ]
}

fn timeout_facts(timeouts: &ListenerTimeouts) -> [Fact; 5] {
    let ListenerTimeouts {
        handshake,
        first_byte,
        idle,
        half_close,
        lifetime,
    } = timeouts;
    [
        ("timeouts.handshake", optional_time(*handshake)),
        ("timeouts.first_byte", optional_time(*first_byte)),
        ("timeouts.idle", optional_time(*idle)),
        ("timeouts.half_close", optional_time(*half_close)),
        ("timeouts.lifetime", optional_time(*lifetime)),
    ]
}

fn tcp_facts(tcp: &TcpOptions) -> [Fact; 8] {
    let TcpOptions {
        nodelay,
        keepalive,
        user_timeout,
        backlog,
        defer_accept,
        fast_open,
        receive_buffer,
        send_buffer,
    } = tcp;
    let keepalive = keepalive.map_or_else(off, |keepalive| {
        let (idle, interval) = (time(keepalive.idle), time(keepalive.interval));
        format!(
            "idle {idle}, interval {interval}, count {}",
            keepalive.count
        )
    });
    let buffer = |size: Option<u32>| size.map_or_else(|| "auto".to_owned(), |n| n.to_string());
    [
        ("tcp.nodelay", nodelay.to_string()),
        ("tcp.keepalive", keepalive),
        ("tcp.user_timeout", optional_time(*user_timeout)),
        ("tcp.backlog", backlog.to_string()),
        ("tcp.defer_accept", optional_time(*defer_accept)),
        ("tcp.fast_open", optional(fast_open.as_ref())),
        ("tcp.receive_buffer", buffer(*receive_buffer)),
        ("tcp.send_buffer", buffer(*send_buffer)),
    ]
}

fn source(source: &ConnectSource) -> String {
    match source {
        ConnectSource::Any => "[]".to_owned(),
        ConnectSource::Addresses(addresses) => {
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("[{}]", texts.join(", "))
        }
        ConnectSource::Client => "client".to_owned(),
    }
}

fn pool_facts(pool: &Pool) -> Vec<Fact> {
    let Pool {
        name: _,
        algorithm,
        backends: _,
        health,
        outlier,
        slow_start,
        connect_timeout,
        connect_attempts,
        connect_source,
        send_proxy,
        when_backend_down,
        when_all_down,
    } = pool;
    let outlier = outlier.map_or_else(off, |outlier| {
        format!(
            "{} failures, {} to {}, {} %",
            outlier.consecutive_failures,
            time(outlier.ejection),
            time(outlier.max_ejection),
            outlier.max_ejected_percent
        )
    });
    vec![
        ("balance", lower(algorithm)),
        ("health_check", health.as_ref().map_or_else(off, check)),
        ("outlier", outlier),
        ("slow_start", optional_time(*slow_start)),
        ("connect.timeout", time(*connect_timeout)),
        ("connect.attempts", connect_attempts.to_string()),
        ("connect.source", source(connect_source)),
        (
            "send_proxy_protocol",
            send_proxy.as_ref().map_or_else(off, lower),
        ),
        ("when_backend_down", lower(when_backend_down)),
        ("when_all_down", lower(when_all_down)),
    ]
}

fn check(check: &HealthCheck) -> String {
    let HealthCheck { kind, params, port } = check;
    let kind = match kind {
        CheckKind::Tcp => "tcp".to_owned(),
        CheckKind::Http {
            path,
            host,
            statuses,
        } => format!("http {path} {host:?} {statuses:?}"),
        CheckKind::Exchange { send, expect } => format!("exchange {send:?} {expect:?}"),
    };
    let port = port.map_or_else(String::new, |port| format!(", port {port}"));
    let (interval, timeout) = (time(params.interval), time(params.timeout));
    let (rise, fall) = (params.rise, params.fall);
    format!("{kind}, every {interval} for {timeout}, {rise} up, {fall} down{port}")
}

fn backend_facts(backend: &Backend) -> Vec<Fact> {
    let Backend {
        address: _,
        weight,
        state,
        backup,
        max_connections,
    } = backend;
    vec![
        ("state", state.as_label().to_owned()),
        ("weight", weight.to_string()),
        ("backup", backup.to_string()),
        ("max_connections", optional(max_connections.as_ref())),
    ]
}

fn off() -> String {
    "off".to_owned()
}

fn optional(value: Option<&impl fmt::Display>) -> String {
    value.map_or_else(off, ToString::to_string)
}

fn optional_time(value: Option<Duration>) -> String {
    value.map_or_else(off, time)
}

/// As the file says it: `90s`, `250ms`, `20us`.
fn time(value: Duration) -> String {
    format!("{value:?}").replace('µ', "u")
}

/// The name of a variant as the file spells it.
fn lower(value: &impl fmt::Debug) -> String {
    let mut out = String::new();
    for (at, letter) in format!("{value:?}").chars().enumerate() {
        if letter.is_uppercase() && at > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn list(values: &[impl fmt::Display]) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::parse;

    use super::*;

    const BASE: &str = "listeners:
  web: {bind: 127.0.0.1:80, pool: a}
  old: {bind: 127.0.0.1:81, pool: a}
pools:
  a: {backends: [{address: \"10.0.0.1:1\"}, {address: \"10.0.0.2:1\", weight: 2}]}
";

    fn lines(old: &str, new: &str) -> Vec<String> {
        let [old, new] =
            [old, new].map(|text| parse("t.yaml", text).unwrap_or_else(|e| panic!("{e}")));
        let changes = difference(&old, &new);
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_same_is_no_difference_in_whatever_order() {
        let turned = "pools:
  a: {backends: [{address: \"10.0.0.2:1\", weight: 2}, {address: \"10.0.0.1:1\"}]}
listeners:
  old: {bind: 127.0.0.1:81, pool: a}
  web: {bind: 127.0.0.1:80, pool: a}
";
        assert_eq!(lines(BASE, BASE), [""; 0]);
        assert_eq!(lines(BASE, turned), [""; 0]);
    }

    #[test]
    fn what_comes_what_goes_and_what_changes_is_named() {
        let new = "log: {level: debug}
busy_poll: 20us
listeners:
  web: {bind: 127.0.0.1:80, pool: b, limits: {connections: 5}, timeouts: {idle: off}}
  new: {bind: 127.0.0.1:82, pool: a}
pools:
  b: {backends: [{address: \"10.0.0.9:1\"}]}
  a:
    backends: [{address: \"10.0.0.2:1\", backup: true}, {address: \"10.0.0.3:1\"}]
    balance: round_robin
    health_check: off
";
        let expected = [
            "busy_poll: off -> 20us",
            "log.level: info -> debug",
            "listeners.old: removed",
            "listeners.web.pool: a -> b",
            "listeners.web.limits.connections: off -> 5",
            "listeners.web.timeouts.idle: 600s -> off",
            "listeners.new: added",
            "pools.b: added",
            "pools.a.balance: least_connections -> round_robin",
            "pools.a.health_check: tcp, every 2s for 1s, 2 up, 3 down -> off",
            "pools.a.backends.10.0.0.1:1: removed",
            "pools.a.backends.10.0.0.2:1.weight: 2 -> 1",
            "pools.a.backends.10.0.0.2:1.backup: false -> true",
            "pools.a.backends.10.0.0.3:1: added",
        ];
        assert_eq!(lines(BASE, new), expected);
    }

    #[test]
    fn a_long_value_is_not_spelt_out() {
        let networks: Vec<String> = (0..50).map(|n| format!("10.{n}.0.0/16")).collect();
        let access = format!("pool: a, access: {{allow: [{}]}}}}", networks.join(", "));
        let new = BASE.replacen("pool: a}", &access, 1);
        assert_eq!(lines(BASE, &new), ["listeners.web.access.allow: changed"]);
    }
}
