//! The keeper's loop: one task, one timer, and the probes it polls itself.
//!
//! A turn goes: what is the time, is there post, which probes have answered, which moments have come, when is
//! the next one. Answers come before deadlines, so that a probe answered while the thread was held up
//! counts as answered.
//!
//! No task is spawned: dropping a probe here is all it takes to give it up. Invariant: everything that holds
//! an operation of the ring lives in [`Keeper`] and is dropped with it, inside the runtime.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use monoio::time::{Sleep, sleep};
use ringway_health::{Pace, ProbeFailure, ProbeResult};

use crate::mailbox::{Inbox, Stop};
use crate::probe::probe;
use crate::ready::Ready;
use crate::roster::{Phase, Roster, Running};
use crate::target::{BackendKey, VerdictSink};
use crate::thread::AbortOnPanic;

/// A turn starts at most this many probes; the rest follows one tick later, so that the worker on the same
/// CPU is never kept from it for long (a connect on loopback takes some 30 us).
const STARTS_PER_TURN_MAX: usize = 64;

/// The resolution of the runtime's timers.
const TICK: Duration = Duration::from_millis(1);

/// The longest sleep: far below what the runtime's timer wheel can hold (about two years).
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Probes what the inbox assigns until the inbox says stop.
pub(crate) async fn run(inbox: Inbox, sink: Arc<dyn VerdictSink>, seed: u64, start: Instant) {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let mut keeper = Keeper {
        start,
        inbox,
        roster: Roster::new(seed),
        pace: Pace::new(),
        ready: Ready::new(waker),
        timer: Box::pin(sleep(Duration::ZERO)),
        sink,
    };
    poll_fn(|cx| {
        // Ends the process before unwinding drops operations one by one.
        let _guard = AbortOnPanic;
        keeper.poll_turns(cx)
    })
    .await;
}

struct Keeper {
    start: Instant,
    inbox: Inbox,
    roster: Roster,
    pace: Pace,
    ready: Arc<Ready>,
    timer: Pin<Box<Sleep>>,
    sink: Arc<dyn VerdictSink>,
}

impl Keeper {
    /// Takes turns until there is nothing to do but wait; ready when it shall stop.
    fn poll_turns(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let time = self.pace.on_wake(self.start.elapsed());
            if let Poll::Ready(post) = self.inbox.poll_post(cx) {
                if post.stop == Stop::Requested {
                    return Poll::Ready(());
                }
                if let Some(assignment) = post.assignment {
                    let lost = self.start.elapsed().saturating_sub(time);
                    self.roster.assign(time, lost, assignment);
                }
            }
            for key in self.ready.take() {
                self.poll_probe(key, time);
            }
            self.serve_moments(time);
            if self.poll_timer(time, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Ends the probes whose deadline has come and starts those that are due.
    fn serve_moments(&mut self, time: Duration) {
        let mut starts = 0;
        while let Some(key) = self.roster.due(time) {
            let Some(slot) = self.roster.slot(key) else {
                return;
            };
            match slot.phase {
                Phase::Probing(_) => {
                    self.finish(key, time, ProbeResult::Failed(ProbeFailure::Timeout));
                }
                Phase::Waiting if starts < STARTS_PER_TURN_MAX => {
                    starts += 1;
                    self.start_probe(key, time);
                }
                Phase::Waiting => return,
            }
        }
    }

    fn start_probe(&mut self, key: BackendKey, time: Duration) {
        let Some(slot) = self.roster.slot(key) else {
            return;
        };
        let running = Running {
            started: self.start.elapsed(),
            waker: self.ready.waker(key),
            probe: Box::pin(probe(
                slot.target.address.clone(),
                Arc::clone(&slot.target.sources),
                Arc::clone(&slot.target.preface),
                Arc::clone(&slot.target.check),
            )),
        };
        self.roster.start(key, time, running);
        self.poll_probe(key, time);
    }

    fn poll_probe(&mut self, key: BackendKey, time: Duration) {
        let Some(slot) = self.roster.slot(key) else {
            return;
        };
        let Phase::Probing(running) = &mut slot.phase else {
            return;
        };
        let mut cx = Context::from_waker(&running.waker);
        if let Poll::Ready(result) = running.probe.as_mut().poll(&mut cx) {
            self.finish(key, time, result);
        }
    }

    fn finish(&mut self, key: BackendKey, time: Duration, result: ProbeResult) {
        let now = self.start.elapsed();
        let Some(started) = self.roster.finish(key, time) else {
            return;
        };
        let Some(slot) = self.roster.slot(key) else {
            return;
        };
        let transition = slot.judge.on_result(now, &result);
        self.sink
            .on_probe(key, now, now.saturating_sub(started), &result);
        if let Some(transition) = transition {
            self.sink.on_transition(key, transition);
        }
    }

    /// Sets the one timer to the next moment, if that changed.
    fn poll_timer(&mut self, time: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let wake = self.roster.next_moment();
        let wake = wake.map(|moment| moment.clamp(time + TICK, time + SLEEP_MAX));
        let Some(wake) = self.pace.plan(wake) else {
            return Poll::Pending;
        };
        let deadline = (self.start + wake).into();
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }
}
