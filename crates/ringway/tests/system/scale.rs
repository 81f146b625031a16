//! How much a test does: little, so that all of them together fit the time of a CI run, or as much as
//! `scripts/soak` asks for in its environment, one test at a time.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn asked_for(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("scripts/soak gives numbers"))
}

/// So many connections, or as many as `scripts/soak` asks for.
pub(crate) fn connections(usual: u64) -> u64 {
    asked_for("RINGWAY_SOAK_CONNECTIONS").unwrap_or(usual)
}

/// How long what goes on and on does so.
pub(crate) fn span(usual: Duration) -> Duration {
    asked_for("RINGWAY_SOAK_SECONDS").map_or(usual, Duration::from_secs)
}

/// How long each client waits between two visits, so that hours of it leave the machine to others.
pub(crate) fn pause() -> Duration {
    Duration::from_millis(asked_for("RINGWAY_SOAK_PAUSE").unwrap_or(0))
}

/// So many connections at the same time, or as many as leave room for the tests that run beside this
/// one; `alone` of them where none do. A connection takes two descriptors here and two of the instance.
pub(crate) fn fitting(wanted: usize, alone: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.or(limit.current).unwrap_or(1 << 20);
    let raised = Rlimit {
        current: Some(most),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let is_alone = asked_for("RINGWAY_SOAK_ALONE").is_some();
    let (wanted, room) = match is_alone {
        true => (alone, most as usize * 9 / 20),
        false => (wanted, most as usize / 6),
    };
    let count = wanted.min(room);
    if count < wanted {
        eprintln!("{count} connections instead of {wanted}: {most} descriptors");
    }
    count
}
