//! What the tests share: a sink that remembers and can be waited for, and short ways to write targets.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ringway_health::{Check, Health, ProbeParams, ProbeResult, Transition};
use ringway_keeper::{BackendKey, KeeperParams, ProbeAddress, Target, VerdictSink};

/// A test that waits longer has failed; a busy machine does not get there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One thing the keeper told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Probe {
        key: BackendKey,
        started: Duration,
        result: ProbeResult,
    },
    Change {
        key: BackendKey,
        change: Transition,
    },
}

/// Everything the keeper told so far, in order.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    told: Condvar,
}

impl VerdictSink for Recorder {
    fn on_probe(&self, key: BackendKey, at: Duration, took: Duration, result: &ProbeResult) {
        self.push(Event::Probe {
            key,
            started: at - took,
            result: *result,
        });
    }

    fn on_transition(&self, key: BackendKey, change: Transition) {
        self.push(Event::Change { key, change });
    }
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn push(&self, event: Event) {
        self.events.lock().unwrap().push(event);
        self.told.notify_all();
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Waits until `done` of all events so far; answers them.
    pub(crate) fn wait_within(
        &self,
        within: Duration,
        done: impl Fn(&[Event]) -> bool,
    ) -> Vec<Event> {
        let deadline = Instant::now() + within;
        let mut events = self.events.lock().unwrap();
        while !done(&events) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "not within {within:?}: {:#?}",
                tail(&events)
            );
            events = self.told.wait_timeout(events, left).unwrap().0;
        }
        events.clone()
    }

    pub(crate) fn wait(&self, done: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        self.wait_within(PATIENCE, done)
    }
}

fn tail(events: &[Event]) -> &[Event] {
    &events[events.len().saturating_sub(12)..]
}

/// The results of the probes of `key`.
pub(crate) fn results(key: BackendKey, events: &[Event]) -> Vec<ProbeResult> {
    let result = |event: &Event| match event {
        Event::Probe { key: k, result, .. } if *k == key => Some(*result),
        Event::Probe { .. } | Event::Change { .. } => None,
    };
    events.iter().filter_map(result).collect()
}

/// The most probes that started within any 100 ms.
pub(crate) fn peak(events: &[Event]) -> usize {
    let start = |event: &Event| match event {
        Event::Probe { started, .. } => Some(*started),
        Event::Change { .. } => None,
    };
    let mut starts: Vec<_> = events.iter().filter_map(start).collect();
    starts.sort();
    let window = Duration::from_millis(100);
    let end_of = |begin: Duration| starts.partition_point(|start| *start < begin + window);
    starts
        .iter()
        .enumerate()
        .map(|(index, start)| end_of(*start) - index)
        .max()
        .unwrap_or(0)
}

pub(crate) fn key(backend: u16) -> BackendKey {
    BackendKey {
        pool: 0,
        backend,
        serial: 0,
    }
}

pub(crate) fn params(interval_ms: u64, timeout_ms: u64) -> ProbeParams {
    ProbeParams {
        interval: Duration::from_millis(interval_ms),
        timeout: Duration::from_millis(timeout_ms),
        rise: 2,
        fall: 3,
    }
}

pub(crate) fn target(backend: u16, address: SocketAddr, params: ProbeParams) -> Target {
    Target {
        known: Health::Unknown,
        last_probe: None,
        key: key(backend),
        address: ProbeAddress::Tcp(address),
        sources: Arc::default(),
        preface: Arc::default(),
        check: Arc::new(Check::Connect),
        params,
    }
}

pub(crate) fn keeper(targets: Vec<Target>) -> KeeperParams {
    KeeperParams {
        index: 0,
        cpu: None,
        fleet_count: targets.len(),
        targets,
        seed: 42,
        start: Instant::now(),
    }
}
