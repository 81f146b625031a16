//! The disciplines: what load each is, which figure decides it, and what the goal against each peer
//! is. Not how it is run. Invariant: names are unique and no name begins with another one.

use std::time::Duration;

use super::sample::{Metric, Rate};
use crate::cli::PeerName;

/// One discipline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Discipline {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) load: Load,
    /// The figure that decides it.
    pub(crate) metric: Metric,
    /// The ratio to stay under against haproxy, nginx and haproxy with forced splicing.
    goals: Option<[f64; 3]>,
    /// Workers of each balancer.
    pub(crate) workers: usize,
}

/// The load of a discipline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Round trips of messages of `bytes` on `connections`, closed loop.
    RoundTrips { bytes: u64, connections: u32 },
    /// Short connections that `side` ends.
    Short {
        side: &'static str,
        how: &'static str,
    },
    Streams {
        direction: &'static str,
        streams: u32,
    },
    /// Held connections.
    Idle,
    /// 64 B round trips at 70 % of the peer's peak, beside this many streams at 70 % of theirs: an unpaced one takes
    /// whatever the load's CPU has left, and round trips would wait for that and not for the balancer.
    Tail { streams: u32 },
}

/// Connections of the round trips whose number is not what a discipline is about.
const CONNECTIONS: u32 = 64;

const fn round_trips(
    name: &'static str,
    title: &'static str,
    bytes: u64,
    connections: u32,
    metric: Metric,
    goals: Option<[f64; 3]>,
) -> Discipline {
    Discipline {
        name,
        title,
        load: Load::RoundTrips { bytes, connections },
        metric,
        goals,
        workers: 1,
    }
}

const fn short(
    name: &'static str,
    title: &'static str,
    side: &'static str,
    how: &'static str,
    goals: [f64; 3],
) -> Discipline {
    Discipline {
        name,
        title,
        load: Load::Short { side, how },
        metric: Metric::CpuUsPerOperation,
        goals: Some(goals),
        workers: 1,
    }
}

const fn streams(
    name: &'static str,
    title: &'static str,
    direction: &'static str,
    streams: u32,
) -> Discipline {
    Discipline {
        name,
        title,
        load: Load::Streams { direction, streams },
        metric: Metric::CpuMsPerGb,
        goals: Some([0.25, 0.22, 0.95]),
        workers: 1,
    }
}

/// The same by two workers, with no goal.
const fn by_two(name: &'static str, title: &'static str, discipline: Discipline) -> Discipline {
    Discipline {
        name,
        title,
        goals: None,
        workers: 2,
        ..discipline
    }
}

const SMALL: Discipline = round_trips(
    "rr-64b",
    "64 B round trips, 64 connections",
    64,
    CONNECTIONS,
    Metric::CpuUsPerOperation,
    Some([0.85, 0.90, 0.70]),
);

const ENDED_BY_CLIENT: Discipline = short(
    "crr-fin-client",
    "short connections, the client ends them by FIN",
    "client",
    "fin",
    [0.85, 0.88, 0.83],
);

/// All of them, in the order in which they are run and shown.
pub(crate) const ALL: [Discipline; 21] = [
    SMALL,
    round_trips(
        "rr-1k",
        "1 KiB round trips, 64 connections",
        1 << 10,
        CONNECTIONS,
        Metric::CpuUsPerOperation,
        Some([0.85, 0.92, 0.85]),
    ),
    round_trips(
        "rr-16k",
        "16 KiB round trips, 64 connections",
        16 << 10,
        CONNECTIONS,
        Metric::CpuUsPerOperation,
        Some([0.85, 0.92, 0.85]),
    ),
    round_trips(
        "rr-one",
        "64 B round trips, 1 connection",
        64,
        1,
        Metric::P50Us,
        Some([1.0, 1.0, 1.0]),
    ),
    ENDED_BY_CLIENT,
    short(
        "crr-fin-server",
        "short connections, the server ends them by FIN",
        "server",
        "fin",
        [0.85, 0.88, 0.83],
    ),
    short(
        "crr-reset",
        "short connections, the client ends them by reset",
        "client",
        "reset",
        [0.85, 0.70, 0.85],
    ),
    streams("bulk-down-1", "1 stream down", "down", 1),
    streams("bulk-down-4", "4 streams down", "down", 4),
    streams("bulk-up-1", "1 stream up", "up", 1),
    streams("bulk-up-4", "4 streams up", "up", 4),
    Discipline {
        name: "idle",
        title: "held connections, user memory",
        load: Load::Idle,
        metric: Metric::BytesPerConnection,
        goals: Some([0.15, 0.05, 0.15]),
        workers: 1,
    },
    Discipline {
        name: "tail-alone",
        title: "64 B round trips at 70 % of the peer's peak",
        load: Load::Tail { streams: 0 },
        metric: Metric::P99Us,
        goals: Some([1.0, 1.0, 1.0]),
        workers: 1,
    },
    Discipline {
        name: "tail-paced-4",
        title: "the same beside 4 streams at 70 % of theirs",
        load: Load::Tail { streams: 4 },
        metric: Metric::P99Us,
        goals: Some([1.0, 1.0, 1.0]),
        workers: 1,
    },
    round_trips(
        "scale-00010",
        "64 B round trips, 10 connections",
        64,
        10,
        Metric::CpuUsPerOperation,
        None,
    ),
    round_trips(
        "scale-00100",
        "64 B round trips, 100 connections",
        64,
        100,
        Metric::CpuUsPerOperation,
        None,
    ),
    round_trips(
        "scale-01000",
        "64 B round trips, 1,000 connections",
        64,
        1_000,
        Metric::CpuUsPerOperation,
        None,
    ),
    round_trips(
        "scale-07500",
        "64 B round trips, 7,500 connections",
        64,
        7_500,
        Metric::CpuUsPerOperation,
        None,
    ),
    round_trips(
        "scale-10000",
        "64 B round trips, 10,000 connections",
        64,
        10_000,
        Metric::CpuUsPerOperation,
        None,
    ),
    by_two("two-rr", "64 B round trips, two workers", SMALL),
    by_two(
        "two-crr",
        "short connections by FIN, two workers",
        ENDED_BY_CLIENT,
    ),
];

/// Those of a quick run.
const QUICK: [&str; 7] = [
    "rr-64b",
    "rr-16k",
    "rr-one",
    "crr-fin-client",
    "crr-reset",
    "bulk-down-4",
    "idle",
];

/// A server that a load needs, and how many of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backends {
    pub(super) kind: &'static str,
    pub(super) count: usize,
}

/// Reply servers: to one alone, the ports in TIME_WAIT would soon be most there are, and finding a
/// free one most of a connection's cost.
const REPLY_SERVERS: usize = 4;

impl Discipline {
    /// Whether `name` is its name or the beginning of it.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        !name.is_empty() && self.name.starts_with(name)
    }

    pub(super) fn is_quick(&self) -> bool {
        QUICK.contains(&self.name)
    }

    /// The ratio to stay under, if one was set.
    pub(crate) fn goal(&self, peer: PeerName) -> Option<f64> {
        let [haproxy, nginx, splice] = self.goals?;
        match peer {
            PeerName::Haproxy => Some(haproxy),
            PeerName::Nginx => Some(nginx),
            PeerName::HaproxySplice => Some(splice),
            PeerName::Tokio | PeerName::Monoio => None,
        }
    }

    /// The servers behind the balancer, each kind behind a listener of its own.
    pub(super) fn backends(&self) -> Vec<Backends> {
        let of = |kind, count| Backends { kind, count };
        match self.load {
            Load::RoundTrips { .. } | Load::Idle | Load::Tail { streams: 0 } => vec![of("echo", 1)],
            Load::Tail { .. } => vec![of("echo", 1), of("source", 1)],
            Load::Short { .. } => vec![of("reply", REPLY_SERVERS)],
            Load::Streams {
                direction: "up", ..
            } => vec![of("sink", 1)],
            Load::Streams { .. } => vec![of("source", 1)],
        }
    }

    /// What servers and clients have to agree on.
    pub(super) fn exchange(&self) -> Vec<String> {
        match self.load {
            Load::Short { side, how } => words(&format!("--close {side} --how {how}")),
            Load::RoundTrips { .. } | Load::Streams { .. } | Load::Idle | Load::Tail { .. } => {
                Vec::new()
            }
        }
    }

    /// Connections at once.
    pub(super) fn connections(&self, extent: &Extent) -> u64 {
        match self.load {
            Load::RoundTrips { connections, .. } => connections.into(),
            Load::Idle => extent.idle_connections as u64,
            Load::Short { .. } | Load::Streams { .. } | Load::Tail { .. } => CONNECTIONS.into(),
        }
    }

    /// Whether both sides run at a share of the peer's peak.
    pub(super) fn is_paced(&self) -> bool {
        matches!(self.load, Load::Tail { .. })
    }

    /// The load's command line, without where it goes to; `rate` is for those that are paced.
    pub(super) fn command(&self, extent: &Extent, rate: Option<Rate>) -> Vec<String> {
        let times = format!(
            "--duration {}ms --warmup {}ms",
            extent.duration.as_millis(),
            extent.warmup.as_millis()
        );
        let bulk = rate.and_then(|rate| rate.bulk_bytes);
        let bulk = bulk.map_or_else(String::new, |bytes| format!(" --bulk-rate {bytes}"));
        let rate = rate.map_or_else(String::new, |rate| format!(" --rate {}", rate.round_trips));
        match self.load {
            Load::RoundTrips { bytes, connections } => words(&format!(
                "rr --connections {connections} --size {bytes} {times}"
            )),
            Load::Short { side, how } => words(&format!(
                "crr --parallel 32 --sources 4 --close {side} --how {how} {times}"
            )),
            Load::Streams { direction, streams } => words(&format!(
                "bulk --direction {direction} --streams {streams} --duration {}ms",
                (extent.duration + extent.warmup).as_millis()
            )),
            Load::Idle => words(&format!(
                "idle --connections {} --sources 4 --patience 1m --until-stdin-ends",
                extent.idle_connections
            )),
            Load::Tail { streams: 0 } => {
                words(&format!("rr --connections {CONNECTIONS} {times}{rate}"))
            }
            Load::Tail { streams } => words(&format!(
                "mixed --connections {CONNECTIONS} --streams {streams} {times}{rate}{bulk}"
            )),
        }
    }
}

/// How much a sample measures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) duration: Duration,
    pub(super) warmup: Duration,
    pub(super) idle_connections: usize,
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn names_are_told_apart() {
        for one in &ALL {
            for other in ALL.iter().filter(|other| other.name != one.name) {
                assert!(!one.is_named(other.name), "{} {}", one.name, other.name);
            }
        }
        assert_eq!(ALL.iter().filter(|one| one.is_named("crr-")).count(), 3);
        assert!(!ALL[0].is_named(""));
        assert!(
            QUICK
                .iter()
                .all(|name| ALL.iter().any(|one| one.name == *name))
        );
    }

    #[test]
    fn every_command_is_one_that_the_load_generator_takes() {
        let extent = Extent {
            duration: Duration::from_millis(1500),
            warmup: Duration::from_millis(100),
            idle_connections: 7,
        };
        for discipline in &ALL {
            let rate = discipline.is_paced().then_some(Rate {
                round_trips: 1000,
                bulk_bytes: Some(1_000_000),
            });
            let mut line = vec!["ringway-bench".to_owned()];
            line.extend(discipline.command(&extent, rate));
            line.extend(words("--to 127.0.0.1:1"));
            if discipline.backends().len() > 1 {
                line.extend(words("--bulk-to 127.0.0.1:2"));
            }
            Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }
}
