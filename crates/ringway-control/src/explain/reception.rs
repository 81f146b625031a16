//! Admission and route in words: which rule says what. The verdict is the workers' own; what stands here is read
//! from the same lists and counts.

use std::net::IpAddr;

use ringway_admission::{SourceKey, deciding};
use ringway_config::{Access, Listener, ProxyProtocolMode};
use ringway_metrics::RefusedReason;
use ringway_wire::AlpnProtocol;
use ringway_worker::{ListenerSpec, Reception, Visitor};

use super::answer::{Admission, Route, Rule};
use crate::instance::{Instance, View};
use crate::routing::looks_first;

impl Instance {
    /// What a listener asks of the visitor, and what it says in the end.
    pub(super) fn admission(
        &self,
        listener: &Listener,
        spec: &ListenerSpec,
        visitor: &Visitor,
        admitted: Result<(), RefusedReason>,
    ) -> Admission {
        let total = match self.connections.is_reached() {
            true => Err(RefusedReason::Resources),
            false => Ok(()),
        };
        let open = match self.is_draining() {
            true => Err(RefusedReason::Draining),
            false => Ok(()),
        };
        let verdict = open.and(admitted).and(total);
        let source = visitor.source.map(|at| at.ip());
        let mut rules: Vec<Rule> = trusted(listener, visitor).into_iter().collect();
        rules.push(access(&listener.access, source));
        rules.extend(limits(listener, spec, source));
        rules.push(Rule {
            rule: "descriptors",
            matched: None,
            says: format!(
                "{} of {} connections of the process are open",
                self.connections.open(),
                self.connections.most()
            ),
        });
        Admission {
            admitted: verdict.is_ok(),
            reason: verdict.err().map(RefusedReason::as_label),
            rules,
        }
    }
}

fn trusted(listener: &Listener, visitor: &Visitor) -> Option<Rule> {
    if listener.proxy_protocol.mode == ProxyProtocolMode::Off {
        return None;
    }
    let networks = &listener.proxy_protocol.trusted;
    let matched = visitor
        .sender
        .and_then(|sender| deciding(networks, &[], sender.ip()));
    Some(Rule {
        rule: "proxy_protocol.trusted",
        matched: matched.map(ToString::to_string),
        says: match (visitor.sender, matched) {
            (None, _) => "a sender that is trusted is assumed; `sender` would say which".to_owned(),
            (Some(_), Some(_)) => "the sender is trusted".to_owned(),
            (Some(_), None) => "the sender is in no trusted network".to_owned(),
        },
    })
}

fn access(access: &Access, source: Option<IpAddr>) -> Rule {
    let matched = source.and_then(|source| deciding(&access.allow, &access.deny, source));
    Rule {
        rule: "access",
        matched: matched.map(ToString::to_string),
        says: match (source, matched) {
            (None, _) => "a client of a Unix socket is not asked".to_owned(),
            (Some(_), Some(network)) if access.deny.contains(network) => {
                "denied by the longest network that holds it".to_owned()
            }
            (Some(_), Some(_)) => "allowed by the longest network that holds it".to_owned(),
            (Some(_), None) => "no network holds it, so it is denied".to_owned(),
        },
    }
}

fn limits(listener: &Listener, spec: &ListenerSpec, source: Option<IpAddr>) -> Vec<Rule> {
    let admission = &spec.admission;
    let rule = |rule, says| Rule {
        rule,
        matched: None,
        says,
    };
    let mut rules = Vec::new();
    if let (Some(limit), Some(source)) = (&admission.connections_per_source, source) {
        let (open, most) = (limit.open(SourceKey::of(source)), limit.most());
        let says = format!("{open} of {most} connections of this source are open");
        rules.push(rule("limits.connections_per_source", says));
    }
    if let Some(limit) = &admission.connections {
        let (open, most) = (limit.open(), limit.most());
        let says = format!("{open} of {most} connections are open");
        rules.push(rule("limits.connections", says));
    }
    let rates = [
        ("limits.rate_per_source", listener.limits.rate_per_source),
        ("limits.rate", listener.limits.rate),
    ];
    for (name, rate) in rates {
        if let Some(rate) = rate {
            rules.push(rule(name, format!("{rate} connections per second")));
        }
    }
    rules
}

/// Where the visitor is led, and by what.
pub(super) fn route(
    view: &View,
    listener: &Listener,
    visitor: &Visitor,
    reception: &Reception<'_>,
) -> Route {
    let pool = reception.route.ok().and_then(|route| view.pool_at(route));
    let rule = reception.rule.map(|found| {
        let star = if found.is_wildcard { "*." } else { "" };
        format!("{star}{}", found.name)
    });
    let asks = reception.rule.map(|found| {
        let names = found
            .protocols
            .iter()
            .map(|name| name.escape_ascii().to_string());
        names.collect::<Vec<_>>().join(", ")
    });
    let why = match (&rule, asks) {
        (Some(_), Some(asks)) if !asks.is_empty() => {
            format!("the best rule for this name, and one of its protocols is offered ({asks})")
        }
        (Some(_), _) => "the best rule for this name".to_owned(),
        (None, _) if listener.routes.is_empty() && !looks_first(listener) => {
            "the listener has one pool".to_owned()
        }
        (None, _) if listener.routes.is_empty() => {
            "the listener has one pool, and reads no name".to_owned()
        }
        (None, _) if pool.is_none() => {
            "no rule matches, and the listener has no `pool`: refused as no_route".to_owned()
        }
        (None, _) if visitor.name.is_none() => {
            "no server name: the `pool` of the listener".to_owned()
        }
        (None, _) => "no rule matches: the `pool` of the listener".to_owned(),
    };
    Route {
        pool: pool.map(|pool| view.config.pools[pool].name.clone()),
        rule,
        why,
    }
}

/// The name of a protocol as text.
pub(super) fn protocol(protocol: &AlpnProtocol) -> String {
    protocol.as_bytes().escape_ascii().to_string()
}
