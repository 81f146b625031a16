//! The backends of one keeper: their health, their schedule, and the next moment each needs attention.
//!
//! It probes nothing and reads no clock; all moments are in the time of [`Pace`](ringway_health::Pace).
//! Invariant: each backend has exactly one moment, the start of its next probe or the deadline of the one
//! under way, so one timer serves them all.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::task::Waker;
use std::time::Duration;

use ringway_health::{Cadence, Judge, Position, ProbeResult, first_window};

use crate::mailbox::Assignment;
use crate::target::{BackendKey, Target};

/// A shorter deadline would have passed before the ring was asked.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// All backends of a keeper.
pub(crate) struct Roster {
    slots: HashMap<BackendKey, Slot>,
    moments: BTreeSet<(Duration, BackendKey)>,
    random: Random,
}

/// One backend.
pub(crate) struct Slot {
    pub(crate) target: Target,
    pub(crate) judge: Judge,
    pub(crate) phase: Phase,
    cadence: Cadence,
    /// Its entry in `moments`.
    moment: Duration,
}

/// What a backend is waiting for.
pub(crate) enum Phase {
    /// For its next probe to fall due.
    Waiting,
    /// For the end of this one.
    Probing(Running),
}

/// A probe under way.
pub(crate) struct Running {
    /// By the clock of the caller, for the report.
    pub(crate) started: Duration,
    pub(crate) waker: Waker,
    pub(crate) probe: Pin<Box<dyn Future<Output = ProbeResult>>>,
}

impl Roster {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            slots: HashMap::new(),
            moments: BTreeSet::new(),
            random: Random(seed),
        }
    }

    pub(crate) fn slot(&mut self, key: BackendKey) -> Option<&mut Slot> {
        self.slots.get_mut(&key)
    }

    /// The earliest moment of all.
    pub(crate) fn next_moment(&self) -> Option<Duration> {
        self.moments.first().map(|(moment, _)| *moment)
    }

    /// A backend whose moment has come, the most overdue first.
    pub(crate) fn due(&self, time: Duration) -> Option<BackendKey> {
        self.moments
            .first()
            .filter(|(moment, _)| *moment <= time)
            .map(|(_, key)| *key)
    }

    /// The probe of `key` starts now; its moment becomes the deadline.
    pub(crate) fn start(&mut self, key: BackendKey, time: Duration, running: Running) {
        let random = self.random.next();
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.phase = Phase::Probing(running);
            slot.cadence.on_start(time, random);
            let deadline = time + slot.target.params.timeout.max(TIMEOUT_MIN);
            slot.move_to(&mut self.moments, deadline);
        }
    }

    /// The probe of `key` is over and dropped; its moment becomes the next start. Answers when it started.
    pub(crate) fn finish(&mut self, key: BackendKey, time: Duration) -> Option<Duration> {
        let random = self.random.next();
        let slot = self.slots.get_mut(&key)?;
        let Phase::Probing(running) = std::mem::replace(&mut slot.phase, Phase::Waiting) else {
            return None;
        };
        slot.cadence.on_finish(time, random);
        slot.move_to(&mut self.moments, slot.cadence.due());
        Some(running.started)
    }

    /// Takes over a new list. A backend with the same key and address keeps its health, its place in the
    /// schedule and the probe under way, whatever its parameters; all others join as what is known of
    /// them, where another keeper had them in its schedule or spread like those of a start. `lost` is what the
    /// caller's clock is ahead of this time.
    pub(crate) fn assign(&mut self, time: Duration, lost: Duration, assignment: Assignment) {
        let Assignment {
            targets,
            fleet_count,
        } = assignment;
        let count = targets.len();
        self.remove_all_but(&targets);
        let mut added = Vec::new();
        let mut seen = HashSet::new();
        for target in targets {
            if !seen.insert(target.key) {
                continue; // Listed twice: the first one counts.
            }
            if self.slots.contains_key(&target.key) {
                self.retune(time, target);
                continue;
            }
            let last = target.last_probe.map(|last| last.saturating_sub(lost));
            match last.and_then(|last| Cadence::going_on(last, time, &target.params)) {
                Some(cadence) => self.join(target, cadence),
                None => added.push(target),
            }
        }
        // The other keepers add backends at the same time, in proportion.
        let fleet_added = (added.len() * fleet_count.max(count)).div_ceil(count.max(1));
        let count = added.len();
        for (index, target) in added.into_iter().enumerate() {
            let window = first_window(target.params.interval, fleet_added);
            let (position, random) = (Position { index, count }, self.random.next());
            let cadence = Cadence::new(time, &target.params, window, position, random);
            self.join(target, cadence);
        }
    }

    fn remove_all_but(&mut self, targets: &[Target]) {
        let wanted: HashMap<_, _> = targets.iter().rev().map(|t| (t.key, &t.address)).collect();
        let moments = &mut self.moments;
        self.slots.retain(|key, slot| {
            let keep = wanted.get(key) == Some(&&slot.target.address);
            if !keep {
                moments.remove(&(slot.moment, *key));
            }
            keep
        });
    }

    fn retune(&mut self, time: Duration, target: Target) {
        let random = self.random.next();
        let Some(slot) = self.slots.get_mut(&target.key) else {
            return;
        };
        slot.judge.retune(&target.params);
        slot.cadence.retune(time, &target.params, random);
        slot.target = target;
        if matches!(slot.phase, Phase::Waiting) {
            slot.move_to(&mut self.moments, slot.cadence.due());
        }
    }

    fn join(&mut self, target: Target, cadence: Cadence) {
        let (key, moment) = (target.key, cadence.due());
        let judge = Judge::taking_over(&target.params, target.known);
        self.moments.insert((moment, key));
        self.slots.insert(
            key,
            Slot {
                target,
                judge,
                phase: Phase::Waiting,
                cadence,
                moment,
            },
        );
    }
}

impl Slot {
    fn move_to(&mut self, moments: &mut BTreeSet<(Duration, BackendKey)>, moment: Duration) {
        moments.remove(&(self.moment, self.target.key));
        moments.insert((moment, self.target.key));
        self.moment = moment;
    }
}

/// SplitMix64: enough for spreading probes, and the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ringway_health::{Check, Health, ProbeParams};

    use super::*;
    use crate::target::ProbeAddress;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn target(backend: u16, last_probe: Option<Duration>) -> Target {
        let key = BackendKey {
            pool: 0,
            backend,
            serial: 1,
        };
        Target {
            key,
            address: ProbeAddress::Unix("/x".into()),
            sources: Arc::default(),
            preface: Arc::default(),
            check: Arc::new(Check::Connect),
            params: ProbeParams {
                interval: INTERVAL,
                timeout: INTERVAL / 2,
                rise: 1,
                fall: 1,
            },
            known: Health::Up,
            last_probe,
        }
    }

    fn moments(roster: &Roster) -> Vec<(u16, Duration)> {
        let moments = roster.moments.iter();
        moments.map(|(at, key)| (key.backend, *at)).collect()
    }

    #[test]
    fn who_comes_from_another_keeper_is_probed_when_that_one_would_have() {
        let ms = Duration::from_millis;
        let mut roster = Roster::new(1);
        let targets = vec![
            target(0, Some(ms(9_300))),
            target(1, Some(ms(8_700))),
            target(2, None),
            // Left alone for longer than an interval: by a keeper that was stopped.
            target(3, Some(ms(1_000))),
        ];
        let assignment = |targets: &[Target]| Assignment {
            targets: targets.to_vec(),
            fleet_count: 4,
        };
        // A second of the caller's clock did not count here.
        roster.assign(ms(9_000), ms(1_000), assignment(&targets));
        let now = moments(&roster);
        assert_eq!(now[2..], [(1, ms(9_700)), (0, ms(10_300))]);
        let spread = ms(9_000)..ms(9_100);
        assert!(
            now[..2].iter().all(|(_, at)| spread.contains(at)),
            "{now:?}"
        );
        // To one that it has, another word of it means nothing.
        let again: Vec<Target> = (0..4).map(|at| target(at, Some(ms(9_999)))).collect();
        roster.assign(ms(9_000), ms(1_000), assignment(&again));
        assert_eq!(moments(&roster), now);
    }
}
