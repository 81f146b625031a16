//! How short memory is, from what is charged and what there is; how soon to look again; when to say so. Pure: no
//! file, no clock.
//!
//! ```text
//!  Ease ──3/4 of the kernel's part, or 7/8 of the bound──► Short ──all of the part, or 15/16──► Over
//!    ▲                                                    │  ▲                                  │
//!    └──────────────── below 5/8, and 13/16 ──────────────┘  └──────── below 7/8, and 7/8 ──────┘
//! ```
//!
//! Invariant: between two levels there is a sixteenth of the bound or an eighth of the part at least, so that what
//! trickles does not make them change at every look.

use std::time::{Duration, Instant};

use ringway_worker::Strain;

/// From one look to the next while those who are there could not use it up meanwhile.
const CALM: Duration = Duration::from_millis(100);
/// The same while they could, if all of them began at once.
const WATCHFUL: Duration = Duration::from_millis(20);
/// The same while memory is short.
const STRAINED: Duration = Duration::from_millis(10);
/// What a connection may come to hold in the kernel between two looks.
const LEAP_BYTES: u64 = 1 << 20;
/// From telling some to go until what they give back is seen.
const RELIEF: Duration = Duration::from_millis(40);
/// Ease that lasts less than this is part of the same shortage: it is said once.
const OVER_AFTER: Duration = Duration::from_secs(5);

/// What is charged to a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Without what can be given up at once.
    pub(crate) all: u64,
    /// What of it the kernel holds: sockets, pipes and whatever belongs to connections.
    pub(crate) kernel: u64,
    /// What of that is not another group's, where several have the bound together.
    pub(crate) own_kernel: u64,
}

/// What a group may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// What it is bounded to.
    pub(crate) bound: u64,
    /// What of it is for the kernel.
    pub(crate) kernel: u64,
}

/// How short it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Ease,
    Short,
    Over,
}

impl Budget {
    /// Usage below this is none to think about, whatever it is made of.
    pub(crate) fn enough(self) -> u64 {
        self.little().min(self.bound / 2)
    }

    /// Who holds less than this in the kernel is not what memory is short of: to refuse or to reset would free nothing.
    fn little(self) -> u64 {
        self.kernel / 4
    }

    /// The level after this one.
    pub(crate) fn level(self, before: Level, usage: Usage) -> Level {
        if usage.own_kernel < self.little() {
            return Level::Ease;
        }
        let (kernel, bound) = (self.kernel / 8, self.bound / 16);
        let reached = |kernel_parts: u64, bound_parts: u64| {
            usage.kernel >= kernel * kernel_parts || usage.all >= bound * bound_parts
        };
        match before {
            _ if reached(8, 15) => Level::Over,
            Level::Over if reached(7, 14) => Level::Over,
            Level::Ease if reached(6, 14) => Level::Short,
            Level::Short | Level::Over if reached(5, 13) => Level::Short,
            Level::Ease | Level::Short | Level::Over => Level::Ease,
        }
    }

    /// What has to be given back, more than until the level falls: while it is given back, more is taken. Not what others
    /// have taken.
    pub(crate) fn excess(self, usage: Usage) -> u64 {
        let kernel = usage.kernel.saturating_sub(self.kernel / 8 * 6);
        let wanted = kernel.max(usage.all.saturating_sub(self.bound / 16 * 13));
        wanted.min(usage.own_kernel.saturating_sub(self.little()))
    }

    /// Until the next look, with so many connections there.
    pub(crate) fn pause(self, level: Level, usage: Usage, connections: u64) -> Duration {
        let free = (self.kernel / 8 * 6).saturating_sub(usage.kernel);
        match level {
            Level::Ease if connections.saturating_mul(LEAP_BYTES) <= free / 2 => CALM,
            Level::Ease => WATCHFUL,
            Level::Short | Level::Over => STRAINED,
        }
    }
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// From now on who comes is refused.
    Refusing,
    /// From now on who holds much is reset.
    Resetting,
    /// It is over, and had begun so long ago.
    Eased { after: Duration },
}

/// A shortage, which may come and go a few times before it is over.
#[derive(Clone, Copy, Debug)]
struct Episode {
    since: Instant,
    strained: Instant,
    has_reset: bool,
}

/// What was found so far.
#[derive(Debug)]
pub(crate) struct Course {
    level: Level,
    episode: Option<Episode>,
    /// When some were told to go: what they give back is not seen at once.
    relieved: Option<Instant>,
}

impl Default for Course {
    fn default() -> Course {
        Course {
            level: Level::Ease,
            episode: None,
            relieved: None,
        }
    }
}

impl Course {
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Takes in what was found: what workers are to be told, if anything, and the operator. `excess` is what is to be
    /// given back, over all workers.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        level: Level,
        excess: u64,
    ) -> (Option<Strain>, Option<News>) {
        let before = std::mem::replace(&mut self.level, level);
        let waits = |relieved: Instant| now.duration_since(relieved) < RELIEF;
        let waits = self.relieved.is_some_and(waits);
        let strain = match level {
            Level::Ease if before == Level::Ease => None,
            Level::Ease => Some(Strain::Ease),
            // Who is to go has to be seen twice.
            Level::Over if before == Level::Ease || waits => Some(Strain::Short),
            Level::Short => Some(Strain::Short),
            Level::Over => {
                self.relieved = Some(now);
                Some(Strain::Over { bytes: excess })
            }
        };
        (strain, self.news(now, level))
    }

    fn news(&mut self, now: Instant, level: Level) -> Option<News> {
        let Some(episode) = &mut self.episode else {
            self.episode = (level > Level::Ease).then_some(Episode {
                since: now,
                strained: now,
                has_reset: false,
            });
            return self.episode.map(|_| News::Refusing);
        };
        if level > Level::Ease {
            episode.strained = now;
            let is_first = level == Level::Over && !std::mem::replace(&mut episode.has_reset, true);
            return is_first.then_some(News::Resetting);
        }
        if now.duration_since(episode.strained) < OVER_AFTER {
            return None;
        }
        let after = episode.strained.duration_since(episode.since);
        self.episode = None;
        Some(News::Eased { after })
    }
}

#[cfg(test)]
mod tests;
