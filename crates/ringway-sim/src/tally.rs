//! What happened in worlds, counted: the proof that they reach what they are meant to test.

use std::collections::BTreeMap;
use std::fmt;

use ringway_flow::{Ended, Flow, Party, Side, Why};

/// Counts by name, and a digest of everything counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    pub(crate) fn count_ended(&mut self, ended: Ended) {
        self.count(match ended.why {
            Why::Fin if ended.by == Party::Client => "ended: fin by client",
            Why::Fin => "ended: fin by backend",
            Why::Reset if ended.by == Party::Client => "ended: reset by client",
            Why::Reset => "ended: reset by backend",
            Why::Idle => "ended: idle",
            Why::FirstByte => "ended: first byte",
            Why::HalfClose => "ended: half close",
            Why::Lifetime => "ended: lifetime",
            Why::ConnectFailed => "ended: connect failed",
            Why::NoBackend => "ended: no backend",
            Why::Drain => "ended: drain",
            Why::BackendDown => "ended: backend down",
            Why::Error => "ended: error",
        });
    }

    pub(crate) fn add_relayed(&mut self, flow: &Flow) {
        for from in Side::BOTH {
            *self.counts.entry("bytes received").or_default() += flow.received_bytes(from);
            *self.counts.entry("bytes spliced").or_default() += flow.spliced_bytes(from);
        }
    }

    /// Adds what another world counted.
    pub fn add(&mut self, other: &Tally) {
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// How often something happened.
    pub fn of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.counts {
            writeln!(f, "{count:>12} {name}")?;
        }
        Ok(())
    }
}
