//! The demo's own visitors: a gentle trickle of connections that each stay a moment, ask once and
//! leave. Not a load generator. Invariant: never more than [`IN_FLIGHT_MAX`] at once, and each ends
//! within [`PATIENCE`] of its start.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// From one visitor to the next: 20 per second.
const BETWEEN: Duration = Duration::from_millis(50);
/// Longest visit: its stay, and then some for a balancer that does not answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest stay before the question, in milliseconds, so that open connections can be seen.
const STAY_MS_MAX: u64 = 900;
/// More than this many visitors wait for answers that do not come.
const IN_FLIGHT_MAX: usize = 100;

/// How the visits went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Visits {
    /// Got an answer.
    pub(super) answered: u64,
    /// Got none.
    pub(super) failed: u64,
}

impl Visits {
    fn note(&mut self, outcome: Result<(), VisitError>) {
        match outcome {
            Ok(()) => self.answered += 1,
            Err(VisitError) => self.failed += 1,
        }
    }
}

/// A visit without an answer.
#[derive(Debug)]
struct VisitError;

impl From<io::Error> for VisitError {
    fn from(_: io::Error) -> VisitError {
        VisitError
    }
}

/// Sends visitors to `target` until `stop`, then waits for the last one to leave.
pub(super) async fn visit(target: SocketAddr, mut stop: oneshot::Receiver<()>) -> Visits {
    let mut visits = Visits::default();
    let mut visitors = JoinSet::new();
    let mut next = interval(BETWEEN);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        tokio::select! {
            _ = &mut stop => break,
            _ = next.tick() => {}
        }
        while let Some(outcome) = visitors.try_join_next() {
            visits.note(outcome.unwrap_or(Err(VisitError)));
        }
        if visitors.len() < IN_FLIGHT_MAX {
            visitors.spawn(async move {
                let visit = timeout(PATIENCE, ask(target, stay(number)));
                visit.await.unwrap_or(Err(VisitError))
            });
        }
    }
    while let Some(outcome) = visitors.join_next().await {
        visits.note(outcome.unwrap_or(Err(VisitError)));
    }
    visits
}

/// How long the visitor with this number stays: spread evenly, without randomness.
fn stay(number: u64) -> Duration {
    // Steps by a number without a common divisor reach every value once per cycle.
    const STEP: u64 = 389;
    Duration::from_millis(number.wrapping_mul(STEP) % STAY_MS_MAX)
}

async fn ask(target: SocketAddr, stay: Duration) -> Result<(), VisitError> {
    let mut stream = TcpStream::connect(target).await?;
    sleep(stay).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(VisitError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::backends::DemoBackends;

    #[test]
    fn visitors_come_ask_and_leave() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let visits = runtime.expect("a runtime").block_on(async {
            let (backends, addresses) = DemoBackends::bind().expect("three free ports");
            backends.serve();
            let (stop, stopped) = oneshot::channel();
            let visits = tokio::spawn(visit(addresses[0], stopped));
            sleep(BETWEEN * 4).await;
            drop(stop);
            visits.await.expect("they end")
        });
        assert!(visits.answered >= 1 && visits.failed == 0, "{visits:?}");
    }

    #[test]
    fn stays_are_spread() {
        let stays: std::collections::BTreeSet<_> = (0..STAY_MS_MAX).map(stay).collect();
        assert_eq!(stays.len() as u64, STAY_MS_MAX);
    }
}
