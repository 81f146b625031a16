//! The course of the demo once everything is started: introduction, live display, summary. Not the
//! parts themselves. Invariant: the summary is taken after the demo's own visitors have left.

use std::future::Future;
use std::io::{IsTerminal, stdout};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::client::Endpoint;
use crate::demo::backends::NAMES;
use crate::demo::traffic::{Visits, visit};
use crate::demo::view::{self, Display};
use crate::failure::Failure;
use crate::output::say;
use crate::snapshot::Snapshot;

/// From one look at the status to the next.
const LOOK: Duration = Duration::from_secs(1);
/// How often, and how far apart, the closing summary waits for connections to be counted as ended.
const LAST_LOOKS: u32 = 10;
const LAST_LOOK: Duration = Duration::from_millis(50);

/// What was started.
#[derive(Debug)]
pub(super) struct Scene {
    /// Where the balancer is reached.
    pub(super) target: SocketAddr,
    /// Where its admin endpoint is.
    pub(super) admin: SocketAddr,
    /// The same, to ask it.
    pub(super) endpoint: Endpoint,
    /// In the order of [`NAMES`].
    pub(super) backends: Vec<SocketAddr>,
    /// How many.
    pub(super) workers: usize,
}

impl Scene {
    /// What was started, and what to try.
    pub(super) fn introduction(&self) -> String {
        let Scene {
            target,
            admin,
            workers,
            ..
        } = self;
        let backends: Vec<String> = NAMES
            .iter()
            .zip(&self.backends)
            .map(|(name, address)| format!("{name} {address}"))
            .collect();
        let backends = backends.join("   ");
        let plural = if *workers == 1 { "" } else { "s" };
        format!(
            "Ringway demo: three backends, the balancer in front of them and a little traffic,\n\
             all in this process and on loopback.\n\
             \n\
             \x20 balancer   http://{target}/   ({workers} worker{plural})\n\
             \x20 backends   {backends}\n\
             \x20 dashboard  http://{admin}/\n\
             \x20 metrics    http://{admin}/metrics\n\
             \x20 status     http://{admin}/v1/status\n\
             \n\
             Try in another terminal:\n\
             \x20 curl http://{target}/\n\
             \x20 for i in 1 2 3 4 5 6; do curl -s http://{target}/; done\n\
             \x20 ringway status --admin {admin}\n\
             \x20 curl -s http://{admin}/metrics | grep ringway_backend\n\
             \n\
             Ctrl-C ends it.\n"
        )
    }

    /// Plays until `end`, or until somebody drains the balancer over its admin endpoint.
    pub(super) async fn play(
        self,
        traffic: bool,
        end: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let (stop, stopped) = oneshot::channel();
        let visits = traffic.then(|| tokio::spawn(visit(self.target, stopped)));
        let mut display = Display::new(self.names(), stdout().is_terminal());
        let last = self.watch(&mut display, end).await?;
        drop(stop);
        let visits = match visits {
            Some(visits) => visits.await.ok(),
            None => None,
        };
        let last = self.settled(last).await;
        say(&summary(&view::closing(&self.names(), &last), visits))
    }

    /// Shows every look; the last one when `end` comes.
    async fn watch(
        &self,
        display: &mut Display,
        end: impl Future<Output = ()>,
    ) -> Result<Snapshot, Failure> {
        let mut end = pin!(end);
        let mut next = interval(LOOK);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Snapshot::default();
        loop {
            tokio::select! {
                () = &mut end => return Ok(last),
                _ = next.tick() => {}
            }
            match self.look().await {
                Some(snapshot) => last = snapshot,
                None => return Ok(last),
            }
            display.show(&last)?;
            if last.draining {
                return Ok(last);
            }
        }
    }

    /// The status when no connection is open any more, or what there is after a moment's wait.
    async fn settled(&self, mut last: Snapshot) -> Snapshot {
        for _ in 0..LAST_LOOKS {
            match self.look().await {
                Some(snapshot) => last = snapshot,
                None => break,
            }
            if last.connections == 0 {
                break;
            }
            sleep(LAST_LOOK).await;
        }
        last
    }

    /// Asks the admin endpoint, without holding up the backends and visitors of this thread.
    async fn look(&self) -> Option<Snapshot> {
        let endpoint = self.endpoint.clone();
        let fetched = spawn_blocking(move || Snapshot::fetch(&endpoint));
        fetched.await.ok()?.ok()
    }

    fn names(&self) -> view::Names {
        let named = NAMES.iter().zip(&self.backends);
        named
            .map(|(name, address)| (address.to_string(), *name))
            .collect()
    }
}

fn summary(closing: &str, visits: Option<Visits>) -> String {
    match visits {
        Some(Visits {
            answered,
            failed: 0,
        }) => {
            format!("{closing}\nAll {answered} visitors of the demo got an answer.")
        }
        Some(Visits { answered, failed }) => {
            format!("{closing}\n{answered} visitors of the demo got an answer, {failed} got none.")
        }
        None => closing.to_owned(),
    }
}
