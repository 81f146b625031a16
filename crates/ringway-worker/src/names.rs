//! Which route a name and the protocols offered with it lead to.
//!
//! Not how a name is read from a connection. Invariant: of all rules that match in name and protocol,
//! one with the exact name wins, then the one with the longest wildcard; among those of one name, one
//! that asks for a protocol before one that does not, and then the first of the list.

use std::collections::HashMap;

use ringway_wire::{Alpn, HostName};

/// One rule: a name and what must be offered with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// In lower case, without a dot at the end; for a wildcard what follows `*.`.
    pub name: String,
    /// Whether it stands for all names below it, however deep, but not for itself.
    pub is_wildcard: bool,
    /// One of these must be offered; none is no condition.
    pub protocols: Vec<Vec<u8>>,
    /// Where to.
    pub route: u16,
}

/// All rules of a listener.
#[derive(Clone, Debug, Default)]
pub struct NameTable {
    exact: HashMap<Box<str>, Vec<Choice>>,
    below: HashMap<Box<str>, Vec<Choice>>,
}

#[derive(Clone, Debug)]
struct Choice {
    protocols: Vec<Vec<u8>>,
    route: u16,
}

impl NameTable {
    /// From rules in any order.
    pub fn new(rules: impl IntoIterator<Item = NameRule>) -> NameTable {
        let mut table = NameTable::default();
        for rule in rules {
            let names = match rule.is_wildcard {
                true => &mut table.below,
                false => &mut table.exact,
            };
            let choices = names.entry(rule.name.into_boxed_str()).or_default();
            // Behind those that ask as much.
            let asks = !rule.protocols.is_empty();
            let at = choices.partition_point(|choice| !choice.protocols.is_empty() >= asks);
            choices.insert(
                at,
                Choice {
                    protocols: rule.protocols,
                    route: rule.route,
                },
            );
        }
        table
    }

    /// The route of a client that asks for `name` and offers these protocols.
    pub fn route(&self, name: &HostName, offered: Alpn<'_>) -> Option<u16> {
        let name = name.as_str();
        let exact = self.exact.get(name).into_iter();
        let above = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        let below = above.filter_map(|above| self.below.get(above));
        let mut choices = exact.chain(below).flatten();
        let chosen = choices.find(|choice| choice.is_met_by(offered));
        chosen.map(|choice| choice.route)
    }
}

impl Choice {
    fn is_met_by(&self, mut offered: Alpn<'_>) -> bool {
        let is_asked_for = |name: &[u8]| self.protocols.iter().any(|asked| asked == name);
        self.protocols.is_empty() || offered.any(|protocol| is_asked_for(protocol.as_bytes()))
    }
}
