//! What a listener asks of a connection before it lets it in, and what it takes for it.
//!
//! Decisions only: who is refused is told in `accept.rs`. Invariant: a [`Permit`] is what one
//! connection has taken, and is given back once; who is refused has taken nothing but, if a rate
//! refuses, a token of its own source.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ringway_admission::{AccessList, SourceKey, Tick, Verdict};
use ringway_flow::Moment;
use ringway_metrics::RefusedReason;

use crate::limit::Limit;
use crate::rate::SharedRate;
use crate::sources::{SourceLimit, SourceRate};

/// The rules of one listener, shared by all workers. The default lets everyone in.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// `access`; `None` is everyone.
    pub access: Option<Arc<AccessList>>,
    /// `limits.connections_per_source`.
    pub connections_per_source: Option<Arc<SourceLimit>>,
    /// `limits.connections`.
    pub connections: Option<Arc<Limit>>,
    /// `limits.rate_per_source`.
    pub rate_per_source: Option<Arc<SourceRate>>,
    /// `limits.rate`.
    pub rate: Option<Arc<SharedRate>>,
}

impl Admission {
    /// The same rules over copies of what they count, as it stands for this source now: what is taken of
    /// them is taken of nobody.
    pub(crate) fn copied(&self, source: Option<SourceKey>) -> Admission {
        let connections_per_source = self.connections_per_source.as_ref().zip(source);
        let rate_per_source = self.rate_per_source.as_ref().zip(source);
        Admission {
            access: self.access.clone(),
            connections_per_source: connections_per_source
                .map(|(limit, source)| Arc::new(limit.copied(source))),
            connections: self.connections.as_ref().map(|l| Arc::new(l.copied())),
            rate_per_source: rate_per_source.map(|(rate, source)| Arc::new(rate.copied(source))),
            rate: self.rate.as_ref().map(|rate| Arc::new(rate.copied())),
        }
    }
}

/// What a connection has taken of the limits of its listener.
#[derive(Debug)]
#[must_use = "it is given back when the connection is over"]
pub(crate) struct Permit {
    source: Option<SourceKey>,
    /// Of the table it is in: a listener may get another while the connection is open.
    table: u32,
}

/// The rules of one listener as a worker has them.
#[derive(Debug)]
pub(crate) struct Gate {
    rules: Admission,
    /// Counts the tables of sources it has had.
    table: u32,
}

impl Gate {
    pub(crate) fn new(rules: Admission) -> Gate {
        Gate { rules, table: 0 }
    }

    /// Takes over other rules; `open` is how many connections it has let in that are not over.
    pub(crate) fn change(&mut self, rules: Admission, open: u64) {
        let is_other = |before: &Option<Arc<Limit>>, limit: &Arc<Limit>| {
            before
                .as_ref()
                .is_none_or(|before| !Arc::ptr_eq(before, limit))
        };
        if let Some(limit) = &rules.connections
            && is_other(&self.rules.connections, limit)
        {
            limit.adopt(open);
        }
        let tables = [&self.rules, &rules].map(|rules| rules.connections_per_source.as_ref());
        let tables = tables.map(|table| table.map(Arc::as_ptr));
        if tables[0] != tables[1] {
            self.table = self.table.wrapping_add(1);
        }
        self.rules = rules;
    }

    /// Whether the answer depends on who asks.
    pub(crate) fn asks_who(&self) -> bool {
        self.rules.access.is_some()
            || self.rules.connections_per_source.is_some()
            || self.rules.rate_per_source.is_some()
    }

    /// Lets a client in, or says why not. A client without an address is one of a Unix socket:
    /// permissions of files are its access list, and it has no source.
    pub(crate) fn admit(
        &self,
        client: Option<IpAddr>,
        now: Moment,
    ) -> Result<Permit, RefusedReason> {
        self.check_access(client)?;
        let permit = self.take(client.map(SourceKey::of))?;
        // Last, so that who is refused for another reason uses up nothing that is for others.
        match self.check_rates(client.map(SourceKey::of), now) {
            Ok(()) => Ok(permit),
            Err(reason) => {
                self.release(permit);
                Err(reason)
            }
        }
    }

    /// Takes a place of the listener for a connection whose client will be known later.
    pub(crate) fn reserve(&self) -> Result<Permit, RefusedReason> {
        self.take(None)
    }

    /// Lets a client in who has a place already, or says why not. What it takes is in its permit
    /// either way.
    pub(crate) fn admit_source(
        &self,
        permit: &mut Permit,
        client: Option<IpAddr>,
        now: Moment,
    ) -> Result<(), RefusedReason> {
        self.check_access(client)?;
        let source = client.map(SourceKey::of);
        if let (Some(limit), Some(source)) = (&self.rules.connections_per_source, source) {
            if !limit.try_acquire(source) {
                return Err(RefusedReason::PerSource);
            }
            (permit.source, permit.table) = (Some(source), self.table);
        }
        self.check_rates(source, now)
    }

    fn check_access(&self, client: Option<IpAddr>) -> Result<(), RefusedReason> {
        match (&self.rules.access, client) {
            (Some(list), Some(client)) if list.verdict(client) == Verdict::Deny => {
                Err(RefusedReason::Access)
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn take(&self, source: Option<SourceKey>) -> Result<Permit, RefusedReason> {
        let counted = self.rules.connections_per_source.as_ref().zip(source);
        if let Some((limit, source)) = counted
            && !limit.try_acquire(source)
        {
            return Err(RefusedReason::PerSource);
        }
        if let Some(limit) = &self.rules.connections
            && !limit.try_acquire()
        {
            if let Some((limit, source)) = counted {
                limit.release(source);
            }
            return Err(RefusedReason::Connections);
        }
        Ok(Permit {
            source: counted.map(|(_, source)| source),
            table: self.table,
        })
    }

    fn check_rates(&self, source: Option<SourceKey>, now: Moment) -> Result<(), RefusedReason> {
        let tick = || Tick::at(Duration::from_micros(now.as_micros()));
        if let (Some(rate), Some(source)) = (&self.rules.rate_per_source, source)
            && !rate.try_take(source, tick())
        {
            return Err(RefusedReason::RatePerSource);
        }
        if let Some(rate) = &self.rules.rate
            && !rate.try_take(tick())
        {
            return Err(RefusedReason::Rate);
        }
        Ok(())
    }

    /// Gives back what a connection has taken.
    pub(crate) fn release(&self, permit: Permit) {
        let is_there = permit.table == self.table;
        let source = permit.source.filter(|_| is_there);
        if let (Some(limit), Some(source)) = (&self.rules.connections_per_source, source) {
            limit.release(source);
        }
        if let Some(limit) = &self.rules.connections {
            limit.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use ringway_admission::Rate;

    use super::*;

    const NOW: Moment = Moment::from_micros(1_000_000);

    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    fn reason(admission: &Gate, number: u8) -> RefusedReason {
        admission.admit(client(number), NOW).unwrap_err()
    }

    fn rate_of(per_second: u32) -> Rate {
        Rate::new(NonZeroU32::new(per_second).unwrap())
    }

    fn gate(connections: u64, per_source: u32) -> Gate {
        Gate::new(limits(connections, per_source))
    }

    fn limits(connections: u64, per_source: u32) -> Admission {
        let per_source = NonZeroU32::new(per_source).unwrap();
        Admission {
            connections: Some(Arc::new(Limit::new(connections))),
            connections_per_source: Some(Arc::new(SourceLimit::new(per_source))),
            ..Admission::default()
        }
    }

    #[test]
    fn the_default_lets_everyone_in_and_asks_nobody() {
        let admission = Gate::new(Admission::default());
        assert!(!admission.asks_who());
        for client in [client(1), None] {
            let permit = admission.admit(client, NOW).unwrap();
            admission.release(permit);
        }
    }

    #[test]
    fn who_is_refused_has_taken_nothing() {
        let admission = gate(2, 1);
        let first = admission.admit(client(1), NOW).unwrap();
        assert_eq!(reason(&admission, 1), RefusedReason::PerSource);
        let second = admission.admit(client(2), NOW).unwrap();
        assert_eq!(reason(&admission, 3), RefusedReason::Connections);
        admission.release(first);
        // Both are free again: the place of source 1, and the one source 3 was refused.
        let third = admission.admit(client(3), NOW).unwrap();
        admission.release(second);
        let first = admission.admit(client(1), NOW).unwrap();
        admission.release(first);
        admission.release(third);
        assert_eq!(admission.rules.connections.as_ref().unwrap().open(), 0);
    }

    #[test]
    fn a_rate_that_refuses_gives_the_places_back() {
        let admission = Gate::new(Admission {
            rate: Some(Arc::new(SharedRate::new(rate_of(1)))),
            ..limits(5, 5)
        });
        let permit = admission.admit(client(1), NOW).unwrap();
        assert_eq!(reason(&admission, 2), RefusedReason::Rate);
        assert_eq!(admission.rules.connections.as_ref().unwrap().open(), 1);
        admission.release(permit);
        assert_eq!(admission.rules.connections.as_ref().unwrap().open(), 0);
    }

    #[test]
    fn a_full_listener_uses_up_no_tokens() {
        let admission = Gate::new(Admission {
            rate: Some(Arc::new(SharedRate::new(rate_of(2)))),
            rate_per_source: Some(Arc::new(SourceRate::new(rate_of(1)))),
            ..limits(1, 1)
        });
        let permit = admission.admit(client(1), NOW).unwrap();
        (0..100).for_each(|_| assert_eq!(reason(&admission, 2), RefusedReason::Connections));
        admission.release(permit);
        assert_eq!(reason(&admission, 1), RefusedReason::RatePerSource);
        let permit = admission.admit(client(2), NOW).unwrap();
        admission.release(permit);
        assert_eq!(reason(&admission, 3), RefusedReason::Rate);
    }

    /// Clients of Unix sockets.
    #[test]
    fn who_has_no_address_has_no_source() {
        let admission = Gate::new(Admission {
            access: Some(Arc::new(AccessList::new(&[], &[]))),
            ..limits(3, 1)
        });
        assert_eq!(reason(&admission, 1), RefusedReason::Access);
        let permits = [0; 3].map(|_| admission.admit(None, NOW).unwrap());
        let full = admission.admit(None, NOW).unwrap_err();
        assert_eq!(full, RefusedReason::Connections);
        permits
            .into_iter()
            .for_each(|permit| admission.release(permit));
        assert_eq!(admission.rules.connections.as_ref().unwrap().open(), 0);
    }

    #[test]
    fn a_limit_that_comes_late_counts_who_is_in() {
        let mut gate = Gate::new(Admission::default());
        let before = [0; 3].map(|_| gate.admit(client(1), NOW).unwrap());
        gate.change(limits(4, 1), 3);
        let fourth = gate.admit(client(1), NOW).unwrap();
        assert_eq!(reason(&gate, 2), RefusedReason::Connections);
        before.into_iter().for_each(|permit| gate.release(permit));
        gate.release(fourth);
        assert_eq!(gate.rules.connections.as_ref().unwrap().open(), 0);
    }

    #[test]
    fn a_permit_of_a_table_that_is_gone_is_no_permit_of_the_next() {
        let mut gate = gate(9, 1);
        let first = gate.admit(client(1), NOW).unwrap();
        gate.change(Admission::default(), 1);
        gate.change(limits(9, 1), 1);
        let second = gate.admit(client(1), NOW).unwrap();
        gate.release(first);
        assert_eq!(reason(&gate, 1), RefusedReason::PerSource);
        gate.release(second);
    }
}
