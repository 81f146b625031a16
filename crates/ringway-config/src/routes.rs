//! Routes by the names of a TLS ClientHello: their kinds of values, and the rules between them.
//! Invariant: no two routes of a listener say the same of one name with one protocol.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ringway_wire::{HostName, NameFault};
use serde_json::{Value as Json, json};

use crate::compound::List;
use crate::grammar::Grammar;
use crate::keys;
use crate::problem::{Collector, quoted};
use crate::tree::Node;
use crate::values::text;
use crate::walk::{Field, Lowering};

/// The longest protocol of RFC 7301 section 3.1: `opaque ProtocolName<1..2^8-1>`.
const PROTOCOL_BYTES_MAX: usize = 255;

/// The names that a route is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern {
    /// In lower case and without a dot at the end; of a wildcard what follows `*.`.
    pub name: String,
    /// Whether it stands for all names below it, however deep, but not for itself.
    pub is_wildcard: bool,
}

impl FromStr for NamePattern {
    type Err = NameFault;

    fn from_str(text: &str) -> Result<Self, NameFault> {
        let below = text.strip_prefix("*.");
        let name = HostName::new(below.unwrap_or(text).as_bytes())?;
        Ok(NamePattern {
            name: name.as_str().to_owned(),
            is_wildcard: below.is_some(),
        })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.is_wildcard { "*." } else { "" };
        write!(f, "{star}{}", self.name)
    }
}

impl Grammar for NamePattern {
    fn expected() -> String {
        "a server name such as `a.example` or \"*.a.example\"".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let written = text(node, &Self::expected(), cx)?;
        match written.parse() {
            Ok(pattern) => Some(pattern),
            Err(fault) => {
                let shown = quoted(written);
                cx.reject(
                    node,
                    format!("`{shown}` is not {}: {fault}", Self::expected()),
                );
                None
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": r"^(\*\.)?[0-9A-Za-z_.-]+$"})
    }
}

/// An application protocol.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Protocol(pub(crate) String);

impl Grammar for Protocol {
    fn expected() -> String {
        "an application protocol such as `h2`, of 1 to 255 bytes".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let written = text(node, &Self::expected(), cx)?;
        if (1..=PROTOCOL_BYTES_MAX).contains(&written.len()) {
            Some(Protocol(written.to_owned()))
        } else {
            cx.mismatch(node, &Self::expected());
            None
        }
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^.+$"})
    }
}

/// Checks that each name leads to one pool.
pub(crate) fn check(routes: &[Field<keys::Route>], found: &mut Collector<'_>) {
    let mut seen: BTreeMap<(&NamePattern, Option<&str>), &str> = BTreeMap::new();
    for route in routes.iter().filter_map(Field::get) {
        let (Some(List(names)), Some(List(protocols))) = (route.sni.get(), route.alpn.get()) else {
            continue;
        };
        let protocols: Vec<Option<&str>> = match protocols.is_empty() {
            true => vec![None],
            false => protocols
                .iter()
                .filter_map(|field| field.get().map(|Protocol(name)| Some(name.as_str())))
                .collect(),
        };
        for field in names {
            let Some(name) = field.get() else { continue };
            let taken = protocols.iter().find_map(|protocol| {
                let first = seen.insert((name, *protocol), &field.path)?;
                Some((protocol, first))
            });
            if let Some((protocol, first)) = taken {
                let with = protocol.map_or(String::new(), |protocol| {
                    format!(" with `{}`", quoted(protocol))
                });
                let message = format!("`{name}`{with} is routed already by {first}");
                found.push(field.span, &field.path, message);
            }
        }
    }
}
