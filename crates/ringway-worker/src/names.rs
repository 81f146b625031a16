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

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, protocols: &[&str], route: u16) -> NameRule {
        let below = name.strip_prefix("*.");
        NameRule {
            name: below.unwrap_or(name).to_owned(),
            is_wildcard: below.is_some(),
            protocols: protocols.iter().map(|p| p.as_bytes().to_vec()).collect(),
            route,
        }
    }

    fn protocols(offered: &[&str]) -> Vec<AlpnProtocol> {
        let offered = offered
            .iter()
            .map(|name| AlpnProtocol::new(name.as_bytes()));
        offered.collect::<Option<_>>().unwrap()
    }

    fn route(table: &NameTable, name: &str, offered: &[&str]) -> Option<u16> {
        let name = HostName::new(name.as_bytes()).unwrap();
        let offered = protocols(offered);
        let found = table.find(&name, offered.iter().copied());
        found.map(|found| found.route)
    }

    #[test]
    fn the_exact_name_wins_and_then_the_longest_wildcard() {
        let table = NameTable::new([
            rule("*.example", &[], 1),
            rule("*.b.example", &[], 2),
            rule("a.b.example", &[], 3),
            rule("b.example", &[], 4),
        ]);
        for (name, expected) in [
            ("a.b.example", Some(3)),
            ("A.B.Example.", Some(3)),
            ("x.b.example", Some(2)),
            ("y.x.b.example", Some(2)),
            ("x.a.b.example", Some(2)),
            ("b.example", Some(4)),
            ("c.example", Some(1)),
            ("d.c.example", Some(1)),
            ("example", None),
            ("bexample", None),
            ("xb.example", Some(1)),
            ("example.org", None),
        ] {
            assert_eq!(route(&table, name, &[]), expected, "{name}");
        }
    }

    #[test]
    fn a_protocol_is_asked_before_none_and_a_longer_name_before_both() {
        let table = NameTable::new([
            rule("*.example", &["h2"], 1),
            rule("a.example", &[], 2),
            rule("a.example", &["h2", "h3"], 3),
            rule("a.example", &["h2"], 4),
            rule("b.example", &["acme-tls/1"], 5),
        ]);
        for (name, offered, expected) in [
            ("a.example", &[][..], Some(2)),
            ("a.example", &["h2"], Some(3)),
            ("a.example", &["http/1.1", "h3"], Some(3)),
            ("a.example", &["http/1.1"], Some(2)),
            // What its own rule does not take, a wildcard may.
            ("b.example", &["h2"], Some(1)),
            ("b.example", &["acme-tls/1", "h2"], Some(5)),
            ("b.example", &["http/1.1"], None),
            ("c.example", &[], None),
        ] {
            assert_eq!(route(&table, name, offered), expected, "{name} {offered:?}");
        }
    }

    #[test]
    fn the_rule_that_was_met_is_told() {
        let table = NameTable::new([rule("*.example", &["h2"], 7)]);
        let name = HostName::new(b"x.y.example").unwrap();
        let found = table.find(&name, protocols(&["h2"]).into_iter()).unwrap();
        assert_eq!(
            (found.route, found.name, found.is_wildcard),
            (7, "example", true)
        );
        assert_eq!(found.protocols, [b"h2".to_vec()]);
    }

    /// Every rule against every name, by the words of the invariant.
    #[test]
    fn the_table_finds_what_a_look_at_every_rule_finds() {
        let names = ["*.a", "a", "*.b.a", "b.a", "*.c.b.a", "c.b.a"];
        let rules: Vec<NameRule> = (0..)
            .zip(
                names
                    .iter()
                    .flat_map(|name| [(name, &["h2"][..]), (name, &[])]),
            )
            .map(|(route, (name, protocols))| rule(name, protocols, route))
            .collect();
        // Every subset of the rules.
        for subset in 0..1u32 << rules.len() {
            let chosen = || {
                (0..)
                    .zip(&rules)
                    .filter(move |(at, _)| subset >> at & 1 == 1)
            };
            let table = NameTable::new(chosen().map(|(_, rule)| rule.clone()));
            for name in ["a", "b.a", "c.b.a", "d.c.b.a", "x.a", "z"] {
                for offered in [&[][..], &["h2"]] {
                    let meets = |rule: &NameRule| {
                        let holds = match rule.is_wildcard {
                            true => name.ends_with(&format!(".{}", rule.name)),
                            false => name == rule.name,
                        };
                        holds && (rule.protocols.is_empty() || !offered.is_empty())
                    };
                    let best = chosen().map(|(_, rule)| rule).filter(|rule| meets(rule));
                    let best = best.max_by_key(|rule| {
                        (
                            !rule.is_wildcard,
                            rule.name.len(),
                            !rule.protocols.is_empty(),
                        )
                    });
                    let expected = best.map(|rule| rule.route);
                    assert_eq!(route(&table, name, offered), expected, "{subset:b} {name}");
                }
            }
        }
    }
}
