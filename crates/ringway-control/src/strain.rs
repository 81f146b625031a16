//! The control thread's look at the memory of its control groups: what it finds goes to the workers and into the log.
//!
//! Judgement is in `pressure.rs`. Invariant: where no group bounds memory there is no look at all.

use std::time::Instant;

use ringway_worker::{Message, Strain};
use tracing::{info, warn};

use crate::charges::Charges;
use crate::memory;
use crate::pressure::{Budget, Course, Level, News, Usage};
use crate::supervise::Supervisor;

/// A group that bounds this process.
#[derive(Debug)]
struct Watched {
    budget: Budget,
    charges: Charges,
    /// Whether it is the group of this process, and not one above it.
    is_own: bool,
    level: Level,
    usage: Usage,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct MemoryWatch {
    groups: Vec<Watched>,
    /// What is charged to its own group, where one above it may be bounded.
    own: Option<Charges>,
    course: Course,
    look_at: Option<Instant>,
}

impl MemoryWatch {
    /// What bounds this process now, of so many workers. What was found so far goes on.
    pub(crate) fn follow(&mut self, workers: u64) {
        let own = memory::innermost(|group| Some((group.clone(), Charges::open(group)?)));
        let watched = |(group, bound)| {
            let shares = memory::divide(Some(bound), workers);
            let kernel = shares.kernel_bytes?;
            Some(Watched {
                budget: Budget { bound, kernel },
                charges: Charges::open(&group)?,
                is_own: own.as_ref().is_some_and(|(own, _)| *own == group),
                level: self.course.level(),
                usage: Usage::default(),
            })
        };
        self.groups = memory::bounded().into_iter().filter_map(watched).collect();
        self.own = own.map(|(_, charges)| charges);
        // Where nothing bounds it any more, one more look tells so.
        let is_of_interest = !self.groups.is_empty() || self.course.level() > Level::Ease;
        self.look_at = is_of_interest.then(Instant::now);
    }

    /// When to look next.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    fn look(&mut self, now: Instant, connections: u64) -> (Option<Strain>, Option<News>) {
        for group in &mut self.groups {
            let enough = group.budget.enough();
            group.usage = group.charges.usage(enough);
            if let Some(own) = self.own.as_ref().filter(|_| !group.is_own) {
                group.usage.own_kernel = own.usage(enough).kernel;
            }
            group.level = group.budget.level(group.level, group.usage);
        }
        let groups = self.groups.iter();
        let level = groups.clone().map(|group| group.level).max();
        let is_over = |group: &&Watched| group.level == Level::Over;
        let over = groups.clone().filter(is_over);
        let excess = over.map(|group| group.budget.excess(group.usage)).max();
        let pauses = groups.map(|group| group.budget.pause(group.level, group.usage, connections));
        self.look_at = pauses.min().map(|pause| now + pause);
        let level = level.unwrap_or(Level::Ease);
        self.course.take(now, level, excess.unwrap_or(0))
    }

    /// The group in which it is shortest.
    fn shortest(&self) -> Option<&Watched> {
        self.groups.iter().max_by_key(|group| group.level)
    }

    fn tell(&self, news: News) {
        let Some(Watched { budget, usage, .. }) = self.shortest() else {
            return;
        };
        let Budget { bound, kernel } = budget;
        let is_short = |what| {
            warn!(
                bound_bytes = bound,
                used_bytes = usage.all,
                kernel_bytes = usage.kernel,
                kernel_bytes_max = kernel,
                "{what}"
            );
        };
        match news {
            News::Refusing => is_short("memory is short: new connections are refused"),
            News::Resetting => is_short(
                "memory is used up: connections whose peers do not read are reset, the longest waiting first",
            ),
            News::Eased { after } => info!(
                seconds = after.as_secs_f64(),
                used_bytes = usage.all,
                "memory is not short any more"
            ),
        }
    }
}

impl Supervisor {
    /// Looks whether memory is short, and has workers act on it.
    pub(crate) fn look_at_memory(&mut self) {
        let connections = self.instance.connections.open();
        let (strain, news) = self.memory.look(Instant::now(), connections);
        if let Some(strain) = strain {
            let workers = self.crew.len().max(1) as u64;
            let strain = match strain {
                Strain::Over { bytes } => Strain::Over {
                    bytes: bytes.div_ceil(workers),
                },
                Strain::Ease | Strain::Short => strain,
            };
            for handle in self.crew.handles() {
                handle.send(Message::Strain(strain));
            }
        }
        if let Some(news) = news {
            self.memory.tell(news);
        }
    }
}
