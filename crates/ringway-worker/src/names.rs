//! Which route a name and the protocols offered with it lead to.
//!
//! Not how a name is read from a connection. Invariant: of all rules that match in name and protocol,
//! one with the exact name wins, then the one with the longest wildcard; among those of one name, one
//! that asks for a protocol before one that does not, and then the first of the list.

use std::collections::HashMap;

use ringway_wire::{AlpnProtocol, HostName};

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

/// The rule that a name met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Where to.
    pub route: u16,
    /// Its name; for a wildcard what follows `*.`.
    pub name: &'a str,
    /// Whether it is a wildcard.
    pub is_wildcard: bool,
    /// The protocols it asks for, if any.
    pub protocols: &'a [Vec<u8>],
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

    /// The rule for a client that asks for `name` and offers these protocols.
    pub fn find(
        &self,
        name: &HostName,
        offered: impl Iterator<Item = AlpnProtocol> + Clone,
    ) -> Option<Found<'_>> {
        let name = name.as_str();
        let exact = self.exact.get_key_value(name).map(|entry| (entry, false));
        let above = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        let below = above.filter_map(|above| self.below.get_key_value(above));
        let mut names = exact.into_iter().chain(below.map(|entry| (entry, true)));
        names.find_map(|((name, choices), is_wildcard)| {
            let mut choices = choices.iter();
            let chosen = choices.find(|choice| choice.is_met_by(offered.clone()))?;
            Some(Found {
                route: chosen.route,
                name,
                is_wildcard,
                protocols: &chosen.protocols,
            })
        })
    }
}

impl Choice {
    fn is_met_by(&self, mut offered: impl Iterator<Item = AlpnProtocol>) -> bool {
        let is_asked_for = |name: &[u8]| self.protocols.iter().any(|asked| asked == name);
        self.protocols.is_empty() || offered.any(|protocol| is_asked_for(protocol.as_bytes()))
    }
}
